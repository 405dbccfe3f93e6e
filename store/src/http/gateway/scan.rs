//! Where a JSON value ends, and what is wrong with it in the words of Go's
//! `encoding/json`, which clients of etcd's gateway get to read.
//!
//! Knows syntax. Must not know what a value means.

/// As many values may be inside of each other (Go's limit).
const DEPTH: usize = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inside {
    /// Of an object, before a colon.
    Name,
    /// Of an object, after a colon.
    Value,
    Array,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Value,
    ValueOrEnd,
    Name,
    NameOrEnd,
    Text,
    Escape,
    /// So many hexadecimal digits are to come.
    Hex(u8),
    Minus,
    Zero,
    Digits,
    Dot,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
    /// So many bytes of the word are there.
    Word(&'static str, usize),
    After,
}

/// How far a value has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It begins and ends at these bytes.
    Value(usize, usize),
    /// There is only white space so far.
    Nothing,
    /// There is its beginning.
    Part,
}

/// Looks for one value in bytes that come one after the other.
#[derive(Debug)]
pub struct Scanner {
    state: State,
    inside: Vec<Inside>,
    begin: Option<usize>,
    at: usize,
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// A byte as Go shows it in an error.
fn quoted(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'"' => r#"'"'"#.to_owned(),
        _ => {
            let text = super::go::quoted(char::from(byte).to_string().as_bytes());
            format!("'{}'", text.trim_matches('"'))
        }
    }
}

fn invalid(byte: u8, context: &str) -> String {
    format!("invalid character {} {context}", quoted(byte))
}

impl Scanner {
    pub fn new() -> Self {
        Self {
            state: State::Value,
            inside: Vec::new(),
            begin: None,
            at: 0,
        }
    }

    /// Goes on in `text`, of which nothing is removed until the value is found.
    pub fn look(&mut self, text: &[u8]) -> Result<Found, String> {
        while let Some(byte) = text.get(self.at).copied() {
            if let Some(begin) = self.begin
                && self.state == State::After
                && self.inside.is_empty()
            {
                return Ok(Found::Value(begin, self.at));
            }
            if self.ends_number(byte) {
                self.state = State::After;
                continue;
            }
            if self.begin.is_none() && !is_space(byte) {
                self.begin = Some(self.at);
            }
            self.step(byte)?;
            self.at += 1;
        }
        Ok(match self.begin {
            Some(begin) if self.state == State::After && self.inside.is_empty() => {
                Found::Value(begin, self.at)
            }
            Some(_) => Found::Part,
            None => Found::Nothing,
        })
    }

    /// There is no more: what is there may still be a number.
    pub fn end(&self) -> Result<Found, String> {
        let number = matches!(
            self.state,
            State::Zero | State::Digits | State::Fraction | State::ExponentDigits
        );
        match self.begin {
            None => Ok(Found::Nothing),
            Some(begin) if self.inside.is_empty() && (number || self.state == State::After) => {
                Ok(Found::Value(begin, self.at))
            }
            Some(_) => Err("unexpected EOF".to_owned()),
        }
    }

    fn ends_number(&self, byte: u8) -> bool {
        let more = match self.state {
            State::Zero => matches!(byte, b'.' | b'e' | b'E'),
            State::Digits => matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E'),
            State::Fraction => matches!(byte, b'0'..=b'9' | b'e' | b'E'),
            State::ExponentDigits => byte.is_ascii_digit(),
            _ => return false,
        };
        !more
    }

    fn step(&mut self, byte: u8) -> Result<(), String> {
        self.state = match self.state {
            State::Text | State::Escape | State::Hex(_) => self.in_text(byte)?,
            State::Value | State::ValueOrEnd | State::Name | State::NameOrEnd | State::After
                if is_space(byte) =>
            {
                self.state
            }
            State::ValueOrEnd if byte == b']' => self.close(),
            State::Value | State::ValueOrEnd => self.begin_value(byte)?,
            State::NameOrEnd if byte == b'}' => self.close(),
            State::Name | State::NameOrEnd => match byte {
                b'"' => State::Text,
                _ => return Err(invalid(byte, "looking for beginning of object key string")),
            },
            State::After => self.after(byte)?,
            State::Word(word, there) => match word.as_bytes().get(there) {
                Some(expected) if *expected == byte => match there + 1 == word.len() {
                    true => State::After,
                    false => State::Word(word, there + 1),
                },
                expected => {
                    let expected = char::from(expected.copied().unwrap_or_default());
                    let context = format!("in literal {word} (expecting '{expected}')");
                    return Err(invalid(byte, &context));
                }
            },
            _ => self.in_number(byte)?,
        };
        Ok(())
    }

    fn in_text(&self, byte: u8) -> Result<State, String> {
        Ok(match (self.state, byte) {
            (State::Text, b'"') => State::After,
            (State::Text, b'\\') => State::Escape,
            (State::Text, 0..0x20) => return Err(invalid(byte, "in string literal")),
            (State::Text, _) => State::Text,
            (State::Escape, b'u') => State::Hex(4),
            (State::Escape, b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"') => State::Text,
            (State::Escape, _) => return Err(invalid(byte, "in string escape code")),
            (State::Hex(left), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => match left {
                1 => State::Text,
                _ => State::Hex(left - 1),
            },
            _ => return Err(invalid(byte, r"in \u hexadecimal character escape")),
        })
    }

    fn in_number(&self, byte: u8) -> Result<State, String> {
        let digit = byte.is_ascii_digit();
        Ok(match self.state {
            State::Minus if byte == b'0' => State::Zero,
            State::Minus if digit => State::Digits,
            State::Minus => return Err(invalid(byte, "in numeric literal")),
            State::Zero | State::Digits if byte == b'.' => State::Dot,
            State::Zero | State::Digits | State::Fraction if matches!(byte, b'e' | b'E') => {
                State::Exponent
            }
            State::Dot if digit => State::Fraction,
            State::Dot => return Err(invalid(byte, "after decimal point in numeric literal")),
            State::Exponent if matches!(byte, b'+' | b'-') => State::ExponentSign,
            State::Exponent | State::ExponentSign if digit => State::ExponentDigits,
            State::Exponent | State::ExponentSign => {
                return Err(invalid(byte, "in exponent of numeric literal"));
            }
            same => same,
        })
    }

    fn begin_value(&mut self, byte: u8) -> Result<State, String> {
        Ok(match byte {
            b'{' => {
                self.open(Inside::Name)?;
                State::NameOrEnd
            }
            b'[' => {
                self.open(Inside::Array)?;
                State::ValueOrEnd
            }
            b'"' => State::Text,
            b'-' => State::Minus,
            b'0' => State::Zero,
            b'1'..=b'9' => State::Digits,
            b't' => State::Word("true", 1),
            b'f' => State::Word("false", 1),
            b'n' => State::Word("null", 1),
            _ => return Err(invalid(byte, "looking for beginning of value")),
        })
    }

    fn after(&mut self, byte: u8) -> Result<State, String> {
        let Some(inside) = self.inside.last_mut() else {
            return Ok(State::After);
        };
        Ok(match (*inside, byte) {
            (Inside::Name, b':') => {
                *inside = Inside::Value;
                State::Value
            }
            (Inside::Name, _) => return Err(invalid(byte, "after object key")),
            (Inside::Value, b',') => {
                *inside = Inside::Name;
                State::Name
            }
            (Inside::Value, b'}') | (Inside::Array, b']') => self.close(),
            (Inside::Value, _) => return Err(invalid(byte, "after object key:value pair")),
            (Inside::Array, b',') => State::Value,
            (Inside::Array, _) => return Err(invalid(byte, "after array element")),
        })
    }

    fn open(&mut self, inside: Inside) -> Result<(), String> {
        if self.inside.len() >= DEPTH {
            return Err("exceeded max depth".to_owned());
        }
        self.inside.push(inside);
        Ok(())
    }

    fn close(&mut self) -> State {
        self.inside.pop();
        State::After
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> Result<Found, String> {
        let mut scanner = Scanner::new();
        match scanner.look(text.as_bytes())? {
            Found::Part => scanner.end(),
            found => Ok(found),
        }
    }

    #[test]
    fn a_value_ends_where_the_next_begins() {
        assert_eq!(whole(" {\"a\":[1,{}]} {"), Ok(Found::Value(1, 13)));
        assert_eq!(whole("1.5e-3"), Ok(Found::Value(0, 6)));
        assert_eq!(whole("12 "), Ok(Found::Value(0, 2)));
        assert_eq!(whole("[]]"), Ok(Found::Value(0, 2)));
        assert_eq!(whole("\"a\\u00e9\\\"\"x"), Ok(Found::Value(0, 11)));
        assert_eq!(whole("null"), Ok(Found::Value(0, 4)));
        assert_eq!(whole(" \n\t"), Ok(Found::Nothing));
    }

    #[test]
    fn it_does_not_matter_in_which_pieces_it_comes() {
        let text = br#" {"key":"Zm9v","compare":[{"version":-1.5E+2,"x":null}]}"#;
        let mut scanner = Scanner::new();
        for end in 0..text.len() {
            let found = scanner.look(&text[..end]);
            assert!(!matches!(found, Ok(Found::Value(..)) | Err(_)), "{end}");
        }
        assert_eq!(scanner.look(text), Ok(Found::Value(1, text.len())));
    }

    #[test]
    fn what_is_wrong_is_said_as_go_says_it() {
        for (text, expected) in [
            ("x", "invalid character 'x' looking for beginning of value"),
            (
                "{x",
                "invalid character 'x' looking for beginning of object key string",
            ),
            ("{\"a\" 1", "invalid character '1' after object key"),
            (
                "{\"a\":1]",
                "invalid character ']' after object key:value pair",
            ),
            ("[1 2", "invalid character '2' after array element"),
            ("\"\n", "invalid character '\\n' in string literal"),
            ("\"\\x", "invalid character 'x' in string escape code"),
            (
                "\"\\u00g",
                "invalid character 'g' in \\u hexadecimal character escape",
            ),
            ("-x", "invalid character 'x' in numeric literal"),
            (
                "1.x",
                "invalid character 'x' after decimal point in numeric literal",
            ),
            (
                "1ex",
                "invalid character 'x' in exponent of numeric literal",
            ),
            (
                "nul1",
                "invalid character '1' in literal null (expecting 'l')",
            ),
            (
                "{'",
                "invalid character '\\'' looking for beginning of object key string",
            ),
            ("[1\"", "invalid character '\"' after array element"),
            ("{", "unexpected EOF"),
            ("[1,", "unexpected EOF"),
            ("-", "unexpected EOF"),
        ] {
            assert_eq!(whole(text), Err(expected.to_owned()), "{text}");
        }
        assert_eq!(
            whole(&"[".repeat(DEPTH + 1)),
            Err("exceeded max depth".to_owned())
        );
    }
}
