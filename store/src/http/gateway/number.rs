//! Numbers of JSON that are to be whole, by protobuf's rule: `1e3` and `2.0` are,
//! `1.5` is not.
//! Source: protobuf-go, `internal/encoding/json`.

/// No number of 64 bits has more digits.
const DIGITS: usize = 20;

/// The number at the beginning of `text`, which ends where a number may end.
pub fn leading(text: &[u8]) -> Option<&[u8]> {
    let digits = |at: usize| {
        let rest = text.get(at..).unwrap_or_default();
        rest.iter().take_while(|byte| byte.is_ascii_digit()).count()
    };
    let mut at = usize::from(text.first() == Some(&b'-'));
    at += match text.get(at)? {
        b'0' => 1,
        b'1'..=b'9' => digits(at),
        _ => return None,
    };
    if text.get(at) == Some(&b'.') && digits(at + 1) > 0 {
        at += 1 + digits(at + 1);
    }
    if matches!(text.get(at), Some(b'e' | b'E')) && text.len() > at + 1 {
        at += 1;
        if matches!(text.get(at), Some(b'+' | b'-')) {
            at += 1;
            text.get(at)?;
        }
        at += digits(at);
    }
    let ends = |byte: &u8| !(byte.is_ascii_alphanumeric() || b"-+._".contains(byte));
    text.get(at).is_none_or(ends).then(|| &text[..at])
}

/// Its digits, with a sign, if it is whole.
pub fn whole(number: &[u8]) -> Option<String> {
    let number = std::str::from_utf8(number).ok()?;
    let (negative, rest) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number),
    };
    let (mantissa, exponent) = rest.split_once(['e', 'E']).unwrap_or((rest, ""));
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let before = if before == "0" { "" } else { before };
    let after = after.trim_end_matches('0');
    if before.is_empty() && after.is_empty() {
        return Some("0".to_owned());
    }
    let exponent: i32 = match exponent {
        "" => 0,
        digits => digits.parse().ok()?,
    };
    let digits = if exponent >= 0 {
        let exponent = usize::try_from(exponent).ok()?;
        let zeros = exponent.checked_sub(after.len())?;
        if before.len() + exponent > DIGITS {
            return None;
        }
        format!("{before}{after}{}", "0".repeat(zeros))
    } else {
        let gone = usize::try_from(exponent.unsigned_abs()).ok()?;
        let kept = before.len().checked_sub(gone)?;
        let (kept, gone) = before.split_at(kept);
        if !after.is_empty() || gone.contains(|digit| digit != '0') {
            return None;
        }
        kept.to_owned()
    };
    Some(match negative {
        true => format!("-{digits}"),
        false => digits,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_end_where_they_may() {
        for (text, expected) in [
            ("12,3", Some("12")),
            ("-0", Some("-0")),
            ("1.5e+3}", Some("1.5e+3")),
            ("01", None),
            ("1.", None),
            ("1e+", None),
            ("12a", None),
            ("-", None),
            ("", None),
        ] {
            assert_eq!(
                leading(text.as_bytes()),
                expected.map(str::as_bytes),
                "{text}"
            );
        }
    }

    #[test]
    fn whole_numbers_may_be_written_as_fractions() {
        for (text, expected) in [
            ("7", Some("7")),
            ("-7.0", Some("-7")),
            ("1e3", Some("1000")),
            ("1.5e1", Some("15")),
            ("0.5e1", Some("5")),
            ("700e-2", Some("7")),
            ("-0", Some("0")),
            ("0e-5", Some("0")),
            ("1.5", None),
            ("7e-1", None),
            ("1e30", None),
            ("1e99999999999", None),
        ] {
            assert_eq!(whole(text.as_bytes()).as_deref(), expected, "{text}");
        }
    }
}
