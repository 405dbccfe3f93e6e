//! Inputs made of others.

use rand::{Rng as _, rngs::StdRng, seq::IndexedRandom as _};

/// Bytes of an input at most.
const LARGEST: usize = 64 * 1024;

/// Bytes that mean something: lengths, kinds, flags and header blocks.
const TELLING: [&[u8]; 12] = [
    &[0],
    &[0xff],
    &[0x7f, 0xff, 0xff, 0xff],
    &[0, 0, 0, 0],
    // Settings: a window of nothing, and of all.
    &[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0],
    &[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff],
    // An update of a stream's window, and a stream that is reset.
    &[0, 0, 4, 8, 0, 0, 0, 0, 1, 0, 0, 0, 1],
    &[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 8],
    // HEADERS of a request to /w, on stream 3.
    &[0, 0, 6, 1, 4, 0, 0, 0, 3, 0x83, 0x86, 4, 2, b'/', b'w'],
    // The end of its body.
    &[0, 0, 2, 0, 1, 0, 0, 0, 3, b'h', b'i'],
    // The table of headers: made small, large, and used.
    &[0x20, 0x3f, 0xe1, 0x1f],
    &[0x40, 1, b'a', 1, b'b', 0xbe],
];

/// A mutation of one of `inputs`, which are not empty.
pub fn mutated(inputs: &[Vec<u8>], random: &mut StdRng) -> Vec<u8> {
    let mut input = inputs.choose(random).cloned().unwrap_or_default();
    for _ in 0..random.random_range(1..=6) {
        once(&mut input, inputs, random);
    }
    input.truncate(LARGEST);
    input
}

fn once(input: &mut Vec<u8>, inputs: &[Vec<u8>], random: &mut StdRng) {
    let at = random.random_range(0..=input.len());
    let length = random.random_range(0..=(input.len() - at).min(64));
    match random.random_range(0..8) {
        0 | 1 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << random.random_range(0..8);
            }
        }
        2 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = random.random();
            }
        }
        3 => drop(input.drain(at..at + length)),
        4 => {
            let piece = input[at..at + length].to_vec();
            let times = random.random_range(1..20);
            insert(input, at, &piece.repeat(times));
        }
        5 => {
            let telling = TELLING.choose(random).copied().unwrap_or_default();
            insert(input, at, telling);
        }
        6 => {
            let telling = TELLING.choose(random).copied().unwrap_or_default();
            for (into, byte) in input[at..].iter_mut().zip(telling) {
                *into = *byte;
            }
        }
        _ => {
            if let Some(other) = inputs.choose(random) {
                let from = random.random_range(0..=other.len());
                input.truncate(at);
                input.extend(&other[from..]);
            }
        }
    }
}

fn insert(input: &mut Vec<u8>, at: usize, piece: &[u8]) {
    input.splice(at..at, piece.iter().copied());
}
