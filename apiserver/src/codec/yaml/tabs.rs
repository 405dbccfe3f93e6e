//! Tabs that indent. Upstream's library takes none for that, in blocks; the parser
//! used here takes some.

use saphyr_parser::{Event, Parser};

/// The first line, from 1, on which a tab stands where a token of a block begins.
pub fn indenting(text: &str) -> Option<usize> {
    let suspects: Vec<usize> = text
        .lines()
        .enumerate()
        .filter(|(_, line)| is_indented(line))
        .map(|(index, _)| index + 1)
        .collect();
    let last = *suspects.last()?;
    let inner = inner(text, last);
    let within = |line: usize| inner.iter().any(|(from, to)| (from..=to).contains(&&line));
    suspects.into_iter().find(|line| !within(*line))
}

/// Whether a tab stands before the first letter of a line, or after the mark of an
/// item or of a key.
fn is_indented(line: &str) -> bool {
    let mut rest = line;
    loop {
        let content = rest.trim_start_matches([' ', '\t']);
        if rest[..rest.len() - content.len()].contains('\t') {
            return true;
        }
        let mark = content.strip_prefix(['-', '?']);
        match mark.filter(|rest| rest.starts_with([' ', '\t'])) {
            Some(inner) => rest = inner,
            None => return false,
        }
    }
}

/// Lines on which something goes on that began on one before: there tabs are
/// content, or nothing.
fn inner(text: &str, last: usize) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    let mut flows = Vec::new();
    for event in Parser::new_from_str(text) {
        // What stands behind an error is not looked at.
        let Ok((event, span)) = event else { break };
        let (from, mut to) = (span.start.line(), span.end.line());
        match event {
            Event::Scalar(..) => {
                if span.end.col() == 0 {
                    to = to.saturating_sub(1);
                }
                found.push((from + 1, to));
            }
            Event::MappingStart(..) | Event::SequenceStart(..) => {
                let line = lines.get(from.saturating_sub(1)).copied().unwrap_or("");
                let first = line.chars().nth(span.start.col());
                flows.push(matches!(first, Some('{' | '[')).then_some(from));
            }
            Event::MappingEnd | Event::SequenceEnd => {
                if let Some(Some(from)) = flows.pop() {
                    found.push((from + 1, to));
                }
            }
            Event::DocumentEnd => {
                // Nothing of the next one is read.
                found.push((from + 1, usize::MAX));
                break;
            }
            _ => {}
        }
        if from > last {
            break;
        }
    }
    // What is still open goes on.
    let open = flows.into_iter().flatten();
    found.extend(open.map(|from| (from + 1, usize::MAX)));
    found
}

#[cfg(test)]
mod tests {
    use super::indenting;

    #[test]
    fn tabs_indent_no_blocks() {
        for (text, line) in [
            ("a:\n\tb: c\n", Some(2)),
            ("a:\n  \tb: c\n", Some(2)),
            ("a:\n-\tb\n", Some(2)),
            ("\ta: b\n", Some(1)),
            ("a: b\n\t\nc: d\n", Some(2)),
            ("a:\tb\nc: d\t# e\n", None),
            ("a: {\n\tb: c\n}\n", None),
            ("a: |\n  b\n  \tc\nd: e\n", None),
            ("a: |\n  b\n\tc: d\n", Some(3)),
        ] {
            assert_eq!(indenting(text), line, "{text:?}");
        }
    }
}
