//! The corpus, and a short run over mutations of it, the same each time.

use mizzen_fuzz::{TARGETS, mutate::mutated};
use rand::{SeedableRng as _, rngs::StdRng};

/// Of each target's corpus, unless `MIZZEN_TEST_MUTATIONS` says another number.
const MUTATIONS: u64 = 20_000;

#[test]
fn nothing_is_wrong_with_the_corpus() {
    for target in TARGETS {
        for (name, input) in target.corpus().expect("there is a corpus") {
            let outcome = (target.run)(&input);
            assert!(outcome.is_ok(), "{}/{name}: {outcome:?}", target.name);
        }
    }
}

#[test]
fn nothing_is_wrong_with_mutations_of_it() {
    let mutations = std::env::var("MIZZEN_TEST_MUTATIONS").map_or(MUTATIONS, |number| {
        number.parse().expect("a number of mutations")
    });
    for target in TARGETS {
        let corpus = target.corpus().expect("there is a corpus");
        let corpus: Vec<_> = corpus.into_iter().map(|(_, input)| input).collect();
        for seed in 0..mutations {
            let input = mutated(&corpus, &mut StdRng::seed_from_u64(seed));
            let outcome = std::panic::catch_unwind(|| (target.run)(&input));
            assert!(
                matches!(outcome, Ok(Ok(_))),
                "{}, seed {seed}: {outcome:?}: {input:02x?}",
                target.name
            );
        }
    }
}
