//! Headings and tables as HTML that a text browser shows as well. Must not know
//! what they tell.

use std::fmt::Write as _;

/// Colours are the browser's own, light or dark as its user has it.
const STYLE: &str = ":root{color-scheme:light dark}\
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem}\
table{border-collapse:collapse;margin:.3rem 0 1.2rem}\
th,td{text-align:left;padding:.2rem .9rem .2rem 0;border-bottom:1px solid color-mix(in srgb,CanvasText 20%,transparent)}\
th{font-weight:600}td.n{text-align:right;font-variant-numeric:tabular-nums}\
h1{font-size:1.4rem}h2{font-size:1.05rem;margin:1.4rem 0 0}\
.bad{color:light-dark(#b00020,#ff7b83);font-weight:600}.good{color:light-dark(#13692e,#6fd58b)}";

/// What stands in a cell of a table.
pub enum Cell {
    Text(String),
    /// To the right, so that digits stand below each other.
    Number(String),
    Good(String),
    Bad(String),
}

impl Cell {
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub fn number(number: impl ToString) -> Self {
        Self::Number(number.to_string())
    }

    fn write(&self, into: &mut String) {
        let (class, text) = match self {
            Self::Text(text) => ("", text),
            Self::Number(text) => (" class=n", text),
            Self::Good(text) => (" class=good", text),
            Self::Bad(text) => (" class=bad", text),
        };
        // Writing to a string does not fail.
        let _ = write!(into, "<td{class}>{}</td>", escaped(text));
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            _ => out.push(c),
        }
    }
    out
}

/// A page that is looked at again by itself every so many seconds.
pub struct Html(String);

impl Html {
    pub fn new(title: &str, seconds: u64) -> Self {
        let title = escaped(title);
        Self(format!(
            "<!doctype html>\n<html lang=en><head><meta charset=utf-8>\
            <meta name=viewport content=\"width=device-width\">\
            <meta http-equiv=refresh content={seconds}><title>{title}</title>\
            <style>{STYLE}</style></head>\n<body><h1>{title}</h1>\n"
        ))
    }

    pub fn heading(&mut self, text: &str) {
        let _ = writeln!(self.0, "<h2>{}</h2>", escaped(text));
    }

    pub fn paragraph(&mut self, text: &str) {
        let _ = writeln!(self.0, "<p>{}</p>", escaped(text));
    }

    pub fn table(&mut self, columns: &[&str], rows: &[Vec<Cell>]) {
        self.0.push_str("<table><tr>");
        for column in columns {
            let _ = write!(self.0, "<th>{}</th>", escaped(column));
        }
        self.0.push_str("</tr>\n");
        for row in rows {
            self.0.push_str("<tr>");
            row.iter().for_each(|cell| cell.write(&mut self.0));
            self.0.push_str("</tr>\n");
        }
        self.0.push_str("</table>\n");
    }

    pub fn finish(mut self) -> String {
        self.0.push_str("</body></html>\n");
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_say_is_no_markup() {
        let mut page = Html::new("a<b>", 5);
        page.table(&["\"x\""], &[vec![Cell::Bad("<script>&".to_owned())]]);
        let text = page.finish();
        assert!(text.contains("<title>a&lt;b&gt;</title>"), "{text}");
        assert!(text.contains("<th>&quot;x&quot;</th>"), "{text}");
        assert!(
            text.contains("<td class=bad>&lt;script&gt;&amp;</td>"),
            "{text}"
        );
    }
}
