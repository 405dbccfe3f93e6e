//! Damaged files.

use super::script::Script;
use super::{accepted, rejected};
use crate::check::damage::check;
use crate::history::record::Damage;

fn damage(refused: Option<&str>) -> Damage {
    Damage {
        member: 1,
        at: 0,
        file: "000012.sst".into(),
        refused: refused.map(str::to_string),
        served: refused.is_none(),
    }
}

#[test]
fn who_refuses_names_the_file() {
    let mut s = Script::default();
    s.history.damages = vec![
        damage(None),
        damage(Some("block checksum mismatch in /data/000012.sst")),
    ];
    accepted(&check(&s.history));
    s.history
        .damages
        .push(damage(Some("Corruption: bad block")));
    rejected(
        &check(&s.history),
        "its 000012.sst was damaged and did not name it",
    );
}
