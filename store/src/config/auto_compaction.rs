//! `--auto-compaction-mode` and `--auto-compaction-retention`: etcd's rules and
//! texts.

use std::{num::NonZeroU64, time::Duration};

use super::{error::Error, settings::Settings, value::parse_duration};

const HOUR_NANOS: u64 = 3_600_000_000_000;

/// What the store keeps of the past; the rest it compacts by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// The revisions of this time.
    Periodic(Duration),
    /// So many revisions before the newest.
    Revision(NonZeroU64),
}

/// `None`: nothing is compacted unasked.
pub(super) fn read(settings: &Settings) -> Result<Option<AutoCompaction>, Error> {
    let periodic = match settings.text("auto-compaction-mode") {
        "periodic" => true,
        "revision" => false,
        "" => return Err(Error::invalid("undefined auto-compaction-mode".to_owned())),
        mode => {
            let unknown = format!("unknown auto-compaction-mode {mode:?}");
            return Err(Error::invalid(unknown));
        }
    };
    let text = settings.text("auto-compaction-retention");
    let text = if text.is_empty() { "0" } else { text };
    let amount = match text.parse::<u64>() {
        Ok(hours) if periodic => hours.saturating_mul(HOUR_NANOS),
        Ok(revisions) => revisions,
        // etcd takes a duration for revisions as well: nanoseconds.
        Err(_) => duration(text)?,
    };
    Ok(NonZeroU64::new(amount).map(|amount| match periodic {
        true => AutoCompaction::Periodic(Duration::from_nanos(amount.get())),
        false => AutoCompaction::Revision(amount),
    }))
}

/// Nanoseconds, with Go's words for what is none.
fn duration(text: &str) -> Result<u64, Error> {
    let failed = |why: String| Error::invalid(format!("error parsing CompactionRetention: {why}"));
    let Some(nanos) = parse_duration(text) else {
        return Err(failed(
            match text.ends_with(|end: char| end.is_ascii_digit()) {
                true => format!("time: missing unit in duration {text:?}"),
                false => format!("time: invalid duration {text:?}"),
            },
        ));
    };
    u64::try_from(nanos).map_err(|_| failed(format!("{text} is negative")))
}
