//! Compactions and the borders they leave: the floor itself can be read, what
//! lies below cannot, the floor cannot be compacted again, and the future
//! cannot be compacted at all. The checker knows what each answer must be.
//!
//! Only revisions whose changes are already on record are compacted, so that
//! the history stays complete.

use super::{Actor, read_write};
use crate::evidence::Collected;
use crate::history::op::{DeleteReq, Load, PutReq, RangeReq, Request, prefix_end};
use rand::Rng;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Revisions kept below the newest collected one, so that reads of the past
/// find something.
const KEPT: i64 = 200;
const TICK: Duration = Duration::from_millis(100);
const TICKS: u32 = 15;
/// Of the key that is deleted at some floors.
const KEY: &str = "deleted";

pub async fn run(mut a: Actor, collected: Arc<Collected>, stop: Arc<AtomicBool>) {
    let mut floor = 0;
    let mut deleted = 0;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..TICKS {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            tokio::time::sleep(TICK).await;
        }
        let newest = collected.through() - KEPT;
        // A watch from a floor is told of a deletion there.
        let target = match (floor + 1..=newest).contains(&deleted) {
            true => deleted,
            false => newest - a.rng.random_range(0..50),
        };
        if target > floor {
            floor = target;
            borders(&mut a, floor).await;
        }
        if deleted <= floor {
            deleted = delete(&mut a).await.unwrap_or(deleted);
        }
    }
}

/// Deletes a key; the revision of that.
async fn delete(a: &mut Actor) -> Option<i64> {
    let value = a.unique();
    let put = PutReq {
        key: KEY.into(),
        value,
        ..PutReq::default()
    };
    a.call(Load::Compaction, Request::Put(put)).await?;
    let delete = DeleteReq {
        key: KEY.into(),
        ..DeleteReq::default()
    };
    let (rev, _) = a.call_at(Load::Compaction, Request::Delete(delete)).await?;
    Some(rev)
}

async fn borders(a: &mut Actor, floor: i64) {
    a.call(Load::Compaction, Request::Compact { rev: floor })
        .await;
    a.shared.floor.fetch_max(floor, Ordering::Relaxed);
    for rev in [floor - 1, floor, floor + 1] {
        let serializable = a.rng.random_ratio(1, 4);
        let range = RangeReq {
            key: read_write::PREFIX.into(),
            end: prefix_end(read_write::PREFIX),
            rev,
            serializable,
            ..RangeReq::default()
        };
        a.call(Load::Compaction, Request::Range(range)).await;
    }
    let far = floor + 1_000_000_000;
    let again = if a.rng.random() { floor } else { far };
    a.call(Load::Compaction, Request::Compact { rev: again })
        .await;
    a.call(
        Load::Compaction,
        Request::Range(RangeReq {
            key: read_write::PREFIX.into(),
            rev: far,
            ..RangeReq::default()
        }),
    )
    .await;
}
