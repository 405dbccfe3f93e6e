//! Damaged files: a member that ends because of one says which.
//!
//! One that serves all the same is held to by the other checks: whatever it
//! answers must be right.

use super::Finding;
use crate::history::History;

pub fn check(history: &History) -> Finding {
    let mut finding = Finding::new("damage");
    let (mut refused, mut served) = (0, 0);
    for damage in &history.damages {
        served += usize::from(damage.served);
        let Some(said) = &damage.refused else {
            continue;
        };
        refused += 1;
        if !said.contains(&damage.file) {
            finding.violation(
                format!(
                    "m{} ended after its {} was damaged and did not name it: {said:?}",
                    damage.member, damage.file
                ),
                &[],
            );
        }
    }
    let all = history.damages.len();
    finding.summary = format!("damaged={all} refused={refused} served={served}");
    finding
}
