//! Bytes as header blocks: what comes out is compared with what another
//! implementation makes of them.

use anyhow::{Result, ensure};
use loona_hpack::decoder::DecoderError;
use mizzen_h2::fuzzing::Headers;

use crate::Outcome;

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// Bytes of a field of those that are made of the input.
const FIELD: usize = 40;

/// The input as blocks of one connection, each after a byte of its length; and
/// as fields, which the other implementation encodes.
///
/// # Errors
/// The two do not agree.
pub fn headers(input: &[u8]) -> Result<Outcome> {
    let decoded = blocks(input)?;
    round_trip(input)?;
    Ok(decoded)
}

fn blocks(mut input: &[u8]) -> Result<Outcome> {
    let mut ours = Headers::default();
    let mut theirs = loona_hpack::Decoder::new();
    let mut seen = String::new();
    while let Some((length, rest)) = input.split_first() {
        // The last block is as long as what is left.
        let (block, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        let Some(fields) = ours.decode(block) else {
            // It is the stricter one; see `round_trip` for what it must take.
            seen.push('!');
            break;
        };
        let expected = theirs.decode(block);
        if fields.is_empty() && expected == Err(DecoderError::SizeUpdateAtEnd) {
            // A block that only changes the table's size: RFC 7541 does not say
            // that a field has to follow.
            seen.push('=');
            break;
        }
        ensure!(
            expected.as_ref().is_ok_and(|expected| *expected == fields),
            "{block:02x?} is {fields:02x?} and {expected:02x?}"
        );
        seen.push_str(&format!("{} ", fields.len().min(20)));
        input = rest;
    }
    Ok(Outcome(seen))
}

/// What the other one encodes must be understood.
fn round_trip(input: &[u8]) -> Result<()> {
    let mut encoder = loona_hpack::Encoder::new();
    let mut ours = Headers::default();
    for turn in input.chunks(8 * FIELD) {
        let fields: Fields = turn
            .chunks(FIELD)
            .map(|field| {
                let (name, value) = field.split_at(field.len() / 3);
                (name.to_vec(), value.to_vec())
            })
            .collect();
        let borrowed = fields.iter().map(|(name, value)| (&name[..], &value[..]));
        let block = encoder.encode(borrowed);
        let decoded = ours.decode(&block);
        ensure!(
            decoded.as_ref() == Some(&fields),
            "{fields:02x?} encoded as {block:02x?} is {decoded:02x?}"
        );
    }
    Ok(())
}
