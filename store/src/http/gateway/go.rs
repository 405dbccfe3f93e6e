//! Texts as Go shows them.

use std::fmt::Write as _;

/// As `%q` shows bytes that may be text.
pub fn quoted(bytes: &[u8]) -> String {
    let mut shown = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            // A String takes whatever is written.
            let _ = match character {
                '"' | '\\' => write!(shown, "\\{character}"),
                '\n' => write!(shown, "\\n"),
                '\r' => write!(shown, "\\r"),
                '\t' => write!(shown, "\\t"),
                '\u{7}' => write!(shown, "\\a"),
                '\u{8}' => write!(shown, "\\b"),
                '\u{b}' => write!(shown, "\\v"),
                '\u{c}' => write!(shown, "\\f"),
                '\0'..' ' | '\u{7f}' => write!(shown, "\\x{:02x}", u32::from(character)),
                '\u{80}'..='\u{a0}' | '\u{ad}' => write!(shown, "\\u{:04x}", u32::from(character)),
                _ => write!(shown, "{character}"),
            };
        }
        for byte in chunk.invalid() {
            let _ = write!(shown, "\\x{byte:02x}");
        }
    }
    shown.push('"');
    shown
}
