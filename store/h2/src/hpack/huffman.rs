//! The code that header strings may be written in (RFC 7541, Appendix B).

use std::sync::LazyLock;

use super::Malformed;

/// Bits of the code of each byte. The code is canonical: codes of one length
/// follow each other in the order of the bytes, so the lengths say all. The
/// end of the string, 30 ones, comes after them.
#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,];

#[derive(Clone, Copy)]
enum Node {
    /// Where a zero and a one lead.
    Fork(u16, u16),
    Byte(u8),
    /// No string goes on here: only the end of a string does.
    Nothing,
}

static TREE: LazyLock<Vec<Node>> = LazyLock::new(tree);

fn tree() -> Vec<Node> {
    let mut bytes: Vec<u8> = (0..=u8::MAX).collect();
    bytes.sort_by_key(|byte| (LENGTHS[usize::from(*byte)], *byte));
    let mut nodes = vec![Node::Nothing];
    let (mut code, mut before) = (0_u32, 0);
    for (place, byte) in bytes.into_iter().enumerate() {
        let length = LENGTHS[usize::from(byte)];
        code = (code + u32::from(place > 0)) << (length - before);
        before = length;
        let mut at = 0;
        for bit in (0..length).rev() {
            let (zero, one) = fork(&mut nodes, at);
            at = usize::from(if code >> bit & 1 == 0 { zero } else { one });
        }
        nodes[at] = Node::Byte(byte);
    }
    nodes
}

/// The branches of a node, which it gets if it has none.
fn fork(nodes: &mut Vec<Node>, at: usize) -> (u16, u16) {
    if let Node::Fork(zero, one) = nodes[at] {
        return (zero, one);
    }
    // Fewer than 600 nodes are ever made.
    let next = nodes.len() as u16;
    nodes[at] = Node::Fork(next, next + 1);
    nodes.extend([Node::Nothing; 2]);
    (next, next + 1)
}

/// Appends what `coded` stands for.
pub fn decode(coded: &[u8], into: &mut Vec<u8>) -> Result<(), Malformed> {
    let tree = &*TREE;
    let mut at = 0;
    // Bits since the last whole byte, and whether all were ones.
    let (mut begun, mut ones) = (0, true);
    for octet in coded {
        for bit in (0..8).rev() {
            let one = octet >> bit & 1 == 1;
            let Node::Fork(if_zero, if_one) = tree[at] else {
                return Err(Malformed);
            };
            at = usize::from(if one { if_one } else { if_zero });
            (begun, ones) = (begun + 1, ones && one);
            match tree[at] {
                Node::Fork(..) => {}
                Node::Byte(byte) => {
                    into.push(byte);
                    (at, begun, ones) = (0, 0, true);
                }
                Node::Nothing => return Err(Malformed),
            }
        }
    }
    // The rest of the last octet is the beginning of the end of a string.
    match begun < 8 && ones {
        true => Ok(()),
        false => Err(Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(coded: &[u8]) -> Result<Vec<u8>, Malformed> {
        let mut into = Vec::new();
        decode(coded, &mut into).map(|()| into)
    }

    /// RFC 7541, C.4 and C.6.
    #[test]
    fn examples_of_the_standard() {
        let examples: [(&[u8], &str); 4] = [
            (
                b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff",
                "www.example.com",
            ),
            (b"\xa8\xeb\x10\x64\x9c\xbf", "no-cache"),
            (b"\x64\x02", "302"),
            (
                b"\xd0\x7a\xbe\x94\x10\x54\xd4\x44\xa8\x20\x05\x95\x04\x0b\x81\x66\
                  \xe0\x82\xa6\x2d\x1b\xff",
                "Mon, 21 Oct 2013 20:13:21 GMT",
            ),
        ];
        for (coded, text) in examples {
            assert_eq!(decoded(coded), Ok(text.as_bytes().to_vec()));
        }
    }

    #[test]
    fn padding_is_short_and_of_ones() {
        assert_eq!(decoded(b""), Ok(Vec::new()));
        assert_eq!(decoded(b"\x1f"), Ok(b"a".to_vec()));
        assert_eq!(decoded(b"\x1e"), Err(Malformed), "a zero among the ones");
        assert_eq!(decoded(b"\x1f\xff"), Err(Malformed), "a whole octet more");
        assert_eq!(
            decoded(b"\xff\xff\xff\xff"),
            Err(Malformed),
            "the end itself"
        );
    }
}
