//! The inside, for the fuzzer in `fuzz/` only.

use crate::hpack::Decoder;

/// The decoder of one connection's header blocks.
pub struct Headers {
    decoder: Decoder,
}

impl Default for Headers {
    fn default() -> Self {
        Self {
            decoder: Decoder::new(),
        }
    }
}

impl Headers {
    /// The names and values of a block; `None`: it makes no sense, nor does
    /// anything after it.
    pub fn decode(&mut self, block: &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut fields = Vec::new();
        let decoded = self.decoder.decode(block, |field| {
            fields.push((field.name.to_vec(), field.value.to_vec()));
        });
        decoded.is_ok().then_some(fields)
    }
}
