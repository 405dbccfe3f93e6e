//! Header blocks as they come.

use bytes::Bytes;

use super::{
    huffman,
    table::{Field, Table},
};

/// The block makes no sense: nor does anything that comes after it on the same
/// connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

pub struct Decoder {
    table: Table,
}

impl Decoder {
    pub fn new() -> Self {
        Self {
            table: Table::new(),
        }
    }

    /// Two equal blocks mean the same as long as this stays the same.
    pub fn changes(&self) -> u64 {
        self.table.changes()
    }

    /// Tells `each` of the fields of a whole block, in their order.
    pub fn decode(&mut self, block: &[u8], mut each: impl FnMut(Field)) -> Result<(), Malformed> {
        let mut input = Input { rest: block };
        let mut begun = false;
        let mut resized = 0;
        while let Some(first) = input.rest.first().copied() {
            match first {
                0x80.. => each(self.indexed(input.integer(7)?)?),
                0x40.. => {
                    let field = self.literal(&mut input, 6)?;
                    self.table.insert(field.clone());
                    each(field);
                }
                // Only before the first field, and two say all there is to say:
                // the smallest size and the last one (RFC 7541, 4.2).
                0x20.. => {
                    resized += 1;
                    if begun || resized > 2 || !self.table.resize(input.integer(5)?) {
                        return Err(Malformed);
                    }
                    continue;
                }
                _ => each(self.literal(&mut input, 4)?),
            }
            begun = true;
        }
        Ok(())
    }

    fn indexed(&self, index: usize) -> Result<Field, Malformed> {
        self.table.get(index).ok_or(Malformed)
    }

    fn literal(&self, input: &mut Input<'_>, prefix: u32) -> Result<Field, Malformed> {
        let name = match input.integer(prefix)? {
            0 => input.string()?,
            index => self.indexed(index)?.name,
        };
        let value = input.string()?;
        Ok(Field { name, value })
    }
}

struct Input<'a> {
    rest: &'a [u8],
}

impl Input<'_> {
    fn byte(&mut self) -> Result<u8, Malformed> {
        let (first, rest) = self.rest.split_first().ok_or(Malformed)?;
        self.rest = rest;
        Ok(*first)
    }

    /// RFC 7541, 5.1. Nothing here is as large as 2^28.
    fn integer(&mut self, prefix: u32) -> Result<usize, Malformed> {
        let mask = (1 << prefix) - 1;
        let mut value = usize::from(self.byte()?) & mask;
        if value < mask {
            return Ok(value);
        }
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    /// RFC 7541, 5.2.
    fn string(&mut self) -> Result<Bytes, Malformed> {
        let coded = self.rest.first().ok_or(Malformed)? & 0x80 != 0;
        let length = self.integer(7)?;
        let (text, rest) = self.rest.split_at_checked(length).ok_or(Malformed)?;
        self.rest = rest;
        if !coded {
            return Ok(Bytes::copy_from_slice(text));
        }
        let mut decoded = Vec::with_capacity(2 * length);
        huffman::decode(text, &mut decoded)?;
        Ok(decoded.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<String>, Malformed> {
        let mut seen = Vec::new();
        decoder.decode(block, |field| {
            seen.push(format!(
                "{}: {}",
                String::from_utf8_lossy(&field.name),
                String::from_utf8_lossy(&field.value)
            ));
        })?;
        Ok(seen)
    }

    /// RFC 7541, C.4: three requests on one connection, strings in Huffman's
    /// code.
    #[test]
    fn examples_of_the_standard() {
        let mut decoder = Decoder::new();
        let first = b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
        let common = [":method: GET", ":scheme: http", ":path: /"];
        assert_eq!(
            fields(&mut decoder, first).unwrap(),
            [&common[..], &[":authority: www.example.com"]].concat()
        );
        let second = b"\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf";
        assert_eq!(
            fields(&mut decoder, second).unwrap(),
            [
                &common[..],
                &[":authority: www.example.com", "cache-control: no-cache"]
            ]
            .concat()
        );
        let third = b"\x82\x87\x85\xbf\x40\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\
                      \xe9\x5b\xb8\xe8\xb4\xbf";
        assert_eq!(
            fields(&mut decoder, third).unwrap(),
            [
                ":method: GET",
                ":scheme: https",
                ":path: /index.html",
                ":authority: www.example.com",
                "custom-key: custom-value"
            ]
        );
    }

    #[test]
    fn a_table_made_smaller_forgets() {
        let mut decoder = Decoder::new();
        assert_eq!(
            fields(&mut decoder, b"\x41\x01a").unwrap(),
            [":authority: a"]
        );
        let before = decoder.changes();
        assert_eq!(fields(&mut decoder, b"\xbe").unwrap(), [":authority: a"]);
        assert_eq!(decoder.changes(), before);
        assert_eq!(fields(&mut decoder, b"\x20\xbe"), Err(Malformed));
        assert!(decoder.changes() > before);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let malformed: [&[u8]; 8] = [
            b"\x80",
            b"\xbe",
            b"\xff\xff\xff\xff\xff\xff\x01",
            b"\x00\x05abc",
            b"\x41",
            b"\x3f\xe2\x1f",
            b"\x82\x20",
            b"\x20\x21\x20\x82",
        ];
        for block in malformed {
            assert_eq!(
                fields(&mut Decoder::new(), block),
                Err(Malformed),
                "{block:x?}"
            );
        }
    }
}
