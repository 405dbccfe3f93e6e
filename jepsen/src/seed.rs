//! One seed for a run; independent streams of choices derived from it.

use rand::SeedableRng;
use rand::rngs::StdRng;

/// The stream of choices with this name and number. The same three arguments
/// give the same choices in every run of one build.
pub fn stream(seed: u64, name: &str, number: u64) -> StdRng {
    // FNV-1a over name and number; the generator itself mixes further.
    let bytes = name.bytes().chain(number.to_le_bytes());
    let salt = bytes.fold(0xcbf2_9ce4_8422_2325u64, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
    });
    StdRng::seed_from_u64(seed ^ salt)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    #[test]
    fn streams_repeat_and_differ() {
        let draw = |seed, name, n| stream(seed, name, n).random::<u64>();
        assert_eq!(draw(1, "client", 2), draw(1, "client", 2));
        assert_ne!(draw(1, "client", 2), draw(1, "client", 3));
        assert_ne!(draw(1, "client", 2), draw(1, "fault", 2));
        assert_ne!(draw(1, "client", 2), draw(2, "client", 2));
    }
}
