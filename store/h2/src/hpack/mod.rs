//! Header compression: RFC 7541. Knows names and values as bytes; must not
//! know what they mean.

mod block;
mod decoder;
mod huffman;
mod table;

pub use block::Block;
pub use decoder::{Decoder, Malformed};
