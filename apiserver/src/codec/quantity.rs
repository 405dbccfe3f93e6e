//! Resource quantities in their canonical text: no fraction, the largest
//! suffix that leaves an integer, the family of suffixes as it was given. A text
//! that is nearly so stays as it is, by upstream's rule in
//! `apimachinery/pkg/api/resource`.

const NANO: i128 = 1_000_000_000;
const DECIMAL: [(&str, u32); 11] = [
    ("n", 0),
    ("u", 3),
    ("m", 6),
    ("", 9),
    ("k", 12),
    ("M", 15),
    ("G", 18),
    ("T", 21),
    ("P", 24),
    ("E", 27),
    ("", 9),
];
const BINARY: [(&str, u32); 6] = [
    ("Ki", 1),
    ("Mi", 2),
    ("Gi", 3),
    ("Ti", 4),
    ("Pi", 5),
    ("Ei", 6),
];
/// Longer numbers are refused: nothing that is counted needs them.
const TEXT_MAX: usize = 64;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Family {
    Decimal,
    Binary,
    Exponent,
}

/// The canonical form of `text`, or `None` when it is no quantity.
pub fn canonical(text: &str) -> Option<String> {
    let (nanos, family) = parse(text)?;
    Some(match kept(text) {
        Some(_) => text.to_owned(),
        None => written(nanos, family),
    })
}

/// The same of an amount in a list of resources, where nothing is less than a
/// thousandth.
pub fn canonical_amount(text: &str) -> Option<String> {
    let (nanos, family) = parse(text)?;
    if kept(text).is_some_and(|power| power >= -3) {
        return Some(text.to_owned());
    }
    const MILLI: i128 = NANO / 1_000;
    let rest = nanos % MILLI;
    let up = if rest == 0 {
        0
    } else {
        nanos.signum() * MILLI - rest
    };
    Some(written(nanos + up, family))
}

fn written(nanos: i128, family: Family) -> String {
    match family {
        Family::Binary if nanos.abs() >= 1_024 * NANO && nanos % NANO == 0 => binary(nanos),
        Family::Exponent => exponent(nanos),
        Family::Binary | Family::Decimal => decimal(nanos),
    }
}

/// The power of ten of the last digit of a text that stays as it is.
fn kept(text: &str) -> Option<i32> {
    let rest = text.trim_start_matches(['+', '-']).trim_start_matches('0');
    let end = rest
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(rest.len());
    let (number, suffix) = rest.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole = if whole.is_empty() { "0" } else { whole };
    let (power, family) = scale(suffix)?;
    if family == Family::Binary {
        let digits = whole.len() + usize::try_from(power).ok()? * 3 + 1;
        let odd = whole.parse::<i64>().ok()? & 7 != 0;
        return (fraction.is_empty() && digits <= 15 && odd).then_some(0);
    }
    // Of the unit, not of a billionth.
    let power = power - 9 - i32::try_from(fraction.len()).ok()?;
    let digits = format!("{whole}{fraction}");
    let stays = digits.len() <= 18
        && power >= -9
        && power % 3 == 0
        && !digits.ends_with("000")
        && !digits.starts_with('0');
    stays.then_some(power)
}

/// How two quantities compare, or `None` when one is none.
pub fn compare(left: &str, right: &str) -> Option<std::cmp::Ordering> {
    Some(parse(left)?.0.cmp(&parse(right)?.0))
}

/// A quantity to reckon with.
#[derive(Clone, Copy, Debug)]
pub struct Amount {
    nanos: i128,
    family: Family,
}

impl Amount {
    pub const ZERO: Self = Self {
        nanos: 0,
        family: Family::Decimal,
    };

    /// So many whole units.
    pub fn count(units: i64) -> Self {
        Self {
            nanos: i128::from(units) * NANO,
            family: Family::Decimal,
        }
    }

    pub fn read(text: &str) -> Option<Self> {
        let (nanos, family) = parse(text)?;
        Some(Self { nanos, family })
    }

    /// Of a value of an object: a text, or a number.
    pub fn of(value: &serde_json::Value) -> Option<Self> {
        match value {
            serde_json::Value::String(text) => Self::read(text),
            serde_json::Value::Number(number) => Self::read(&number.to_string()),
            _ => None,
        }
    }

    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// A sum is written as its first part, unless that is nothing.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let family = if self.is_zero() {
            other.family
        } else {
            self.family
        };
        Self {
            nanos: self.nanos.saturating_add(other.nanos),
            family,
        }
    }

    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        self.plus(Self {
            nanos: -other.nanos,
            ..other
        })
    }

    /// In thousandths, rounded away from zero.
    pub fn milli(self) -> i128 {
        rounded(self.nanos, NANO / 1_000)
    }

    /// In whole units, rounded away from zero.
    pub fn whole(self) -> i128 {
        rounded(self.nanos, NANO)
    }
}

fn rounded(nanos: i128, unit: i128) -> i128 {
    let rest = nanos % unit;
    nanos / unit + if rest == 0 { 0 } else { nanos.signum() }
}

impl PartialEq for Amount {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Amount {}

impl PartialOrd for Amount {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Amount {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl std::fmt::Display for Amount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&written(self.nanos, self.family))
    }
}

/// Whether two lists of resources have the same amounts.
pub fn same_amounts(one: &serde_json::Value, other: &serde_json::Value) -> bool {
    let (Some(one), Some(other)) = (one.as_object(), other.as_object()) else {
        return one == other;
    };
    let same = |(name, value): (&String, &serde_json::Value)| {
        other.get(name).is_some_and(|theirs| {
            value == theirs || Amount::of(value).is_some_and(|own| Some(own) == Amount::of(theirs))
        })
    };
    one.len() == other.len() && one.iter().all(same)
}

/// The value in billionths, rounded away from zero and cut at what an `int64`
/// of whole units holds.
fn parse(text: &str) -> Option<(i128, Family)> {
    if text.len() > TEXT_MAX {
        return None;
    }
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let end = rest
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(rest.len());
    let (number, suffix) = rest.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let (power, family) = scale(suffix)?;
    let max = match family {
        Family::Binary => i128::from(i64::MAX) * NANO,
        _ => i128::MAX / 2,
    };
    // digits * unit / 10^decimals, all in billionths.
    let mut digits = 0_i128;
    let mut decimals = 0_u32;
    let mut lost = false;
    for (index, byte) in whole.bytes().chain(fraction.bytes()).enumerate() {
        if digits > 10_i128.pow(28) {
            // Beyond any value that counts: keep the magnitude only.
            if index < whole.len() {
                digits = digits.checked_mul(10)?;
            } else {
                lost |= byte != b'0';
            }
            continue;
        }
        digits = digits * 10 + i128::from(byte - b'0');
        decimals += u32::from(index >= whole.len());
    }
    let (unit, divisor) = match (family, power) {
        (Family::Binary, power) => (1_024_i128.pow(power.unsigned_abs()) * NANO, 1_i128),
        (_, power) if power >= 0 => (
            10_i128
                .checked_pow(power.unsigned_abs())
                .unwrap_or(i128::MAX),
            1,
        ),
        (_, power) => (
            1,
            10_i128
                .checked_pow(power.unsigned_abs())
                .unwrap_or(i128::MAX),
        ),
    };
    let divisor = divisor.saturating_mul(10_i128.checked_pow(decimals)?);
    let product = digits.saturating_mul(unit);
    let mut nanos = product / divisor;
    if product % divisor != 0 || (lost && digits != 0) {
        nanos += 1;
    }
    let nanos = nanos.min(max);
    Some((if negative { -nanos } else { nanos }, family))
}

/// The power (of ten over a billionth, or of 1,024) that a suffix stands for.
fn scale(suffix: &str) -> Option<(i32, Family)> {
    if let Some((_, power)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return Some((i32::try_from(*power).ok()?, Family::Decimal));
    }
    if let Some((_, power)) = BINARY.iter().find(|(name, _)| *name == suffix) {
        return Some((i32::try_from(*power).ok()?, Family::Binary));
    }
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    Some((exponent.checked_add(9)?, Family::Exponent))
}

/// Mantissa and power of ten of the unit, a multiple of three.
fn reduced(nanos: i128) -> (i128, u32) {
    let (mut mantissa, mut power) = (nanos, 0);
    while mantissa != 0 && mantissa % 1_000 == 0 && power < 27 {
        mantissa /= 1_000;
        power += 3;
    }
    (mantissa, power)
}

fn decimal(nanos: i128) -> String {
    if nanos == 0 {
        return "0".to_owned();
    }
    let (mantissa, power) = reduced(nanos);
    let suffix = DECIMAL
        .iter()
        .find(|(_, p)| *p == power)
        .map_or("", |(name, _)| name);
    format!("{mantissa}{suffix}")
}

fn exponent(nanos: i128) -> String {
    if nanos == 0 {
        return "0".to_owned();
    }
    let (mantissa, power) = reduced(nanos);
    match i64::from(power) - 9 {
        0 => mantissa.to_string(),
        power => format!("{mantissa}e{power}"),
    }
}

fn binary(nanos: i128) -> String {
    let mut mantissa = nanos / NANO;
    if nanos % NANO != 0 {
        mantissa += nanos.signum();
    }
    let mut suffix = "";
    for (name, _) in BINARY {
        if mantissa % 1_024 != 0 {
            break;
        }
        mantissa /= 1_024;
        suffix = name;
    }
    format!("{mantissa}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::{canonical, canonical_amount, compare};

    #[test]
    fn quantities_compare_by_value() {
        use std::cmp::Ordering::{Equal, Greater, Less};
        assert_eq!(compare("1Gi", "1024Mi"), Some(Equal));
        assert_eq!(compare("900m", "1"), Some(Less));
        assert_eq!(compare("0", "-1"), Some(Greater));
        assert_eq!(compare("x", "1"), None);
    }

    #[test]
    fn canonical_forms() {
        for (given, expected) in [
            ("0", "0"),
            ("1", "1"),
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("0.1", "100m"),
            (".5", "500m"),
            ("1000", "1k"),
            ("1024", "1024"),
            ("100000", "100k"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("0.5Ki", "512"),
            ("1.1Ki", "1126400m"),
            ("1e3", "1e3"),
            ("1E6", "1E6"),
            ("5e0", "5e0"),
            ("+5", "+5"),
            ("1e999", "1e999"),
            ("10e2", "1e3"),
            ("-1500m", "-1500m"),
            ("0.0000000001", "1n"),
            ("9223372036854775807", "9223372036854775807"),
            ("99999999999999999999", "99999999999999999999"),
            ("1Ei", "1Ei"),
            ("100Ei", "9223372036854775807"),
            ("250m", "250m"),
            ("64Mi", "64Mi"),
            ("1.", "1."),
            ("12e-3", "12e-3"),
            ("1000k", "1M"),
        ] {
            assert_eq!(canonical(given).as_deref(), Some(expected), "{given}");
        }
    }

    #[test]
    fn amounts_are_thousandths_at_least() {
        for (given, expected) in [
            ("1n", "1m"),
            ("1m", "1m"),
            ("1500u", "2m"),
            ("-1n", "-1m"),
            ("1024Ki", "1Mi"),
            ("5.", "5."),
        ] {
            assert_eq!(
                canonical_amount(given).as_deref(),
                Some(expected),
                "{given}"
            );
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in [
            "", "-", ".", "1.2.3", "1KiB", "Mi", "1 ", "1e", "1mm", "--1", "1_0",
        ] {
            assert_eq!(canonical(text), None, "{text}");
        }
    }
}
