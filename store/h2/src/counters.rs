//! How often clients were stopped, and why. Knows reasons; must not know how
//! they are found.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

/// What a client did too much of, or too slowly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    /// Requests taken back, and such as made the server take them back (rapid
    /// reset, MadeYouReset).
    Resets,
    Settings,
    Pings,
    WindowUpdates,
    /// DATA without data.
    EmptyFrames,
    Priorities,
    Continuations,
    /// Frames of kinds that mean nothing here.
    UnknownFrames,
    /// Frames on streams that are over.
    LateFrames,
    /// A header block beyond its bound.
    HeaderBlock,
    /// The preface and the settings did not come.
    SlowHandshake,
    /// A frame, or a header block, did not come to its end.
    SlowFrame,
    /// The body of a request did not come to its end.
    SlowBody,
    /// A response was not read.
    SlowReader,
    /// A ping was not answered.
    Silence,
    /// A request was refused for lack of memory; see [`crate::Budget`].
    Memory,
}

impl Excess {
    pub const ALL: [Self; 16] = [
        Self::Resets,
        Self::Settings,
        Self::Pings,
        Self::WindowUpdates,
        Self::EmptyFrames,
        Self::Priorities,
        Self::Continuations,
        Self::UnknownFrames,
        Self::LateFrames,
        Self::HeaderBlock,
        Self::SlowHandshake,
        Self::SlowFrame,
        Self::SlowBody,
        Self::SlowReader,
        Self::Silence,
        Self::Memory,
    ];

    /// As logs and GOAWAY frames say it.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Resets => "too many requests taken back",
            Self::Settings => "too many SETTINGS frames",
            Self::Pings => "too many PING frames",
            Self::WindowUpdates => "too many WINDOW_UPDATE frames",
            Self::EmptyFrames => "too many empty DATA frames",
            Self::Priorities => "too many PRIORITY frames",
            Self::Continuations => "too many CONTINUATION frames",
            Self::UnknownFrames => "too many frames of unknown kinds",
            Self::LateFrames => "too many frames on streams that are over",
            Self::HeaderBlock => "the header block is too large",
            Self::SlowHandshake => "the settings did not come in time",
            Self::SlowFrame => "a frame or header block did not end in time",
            Self::SlowBody => "the body of a request did not end in time",
            Self::SlowReader => "responses were not read in time",
            Self::Silence => "a ping was not answered in time",
            Self::Memory => "requests hold too much memory",
        }
    }
}

#[derive(Debug)]
struct Counter {
    count: AtomicU64,
    /// Milliseconds after the beginning at which it may be logged again.
    quiet_until: AtomicU64,
}

/// Shared by all connections of a process.
#[derive(Debug)]
pub struct Counters {
    begun: Instant,
    each: [Counter; Excess::ALL.len()],
}

/// A reason is logged this often at most, milliseconds: a flood of connections
/// must not become one of lines.
const QUIET_MS: u64 = 1_000;

impl Default for Counters {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            each: Excess::ALL.map(|_| Counter {
                count: AtomicU64::new(0),
                quiet_until: AtomicU64::new(0),
            }),
        }
    }
}

impl Counters {
    /// How often it happened since the process began.
    pub fn count(&self, excess: Excess) -> u64 {
        self.each[excess as usize].count.load(Ordering::Relaxed)
    }

    /// Counts and logs it.
    pub fn note(&self, excess: Excess, peer: &str) {
        let counter = &self.each[excess as usize];
        let count = counter.count.fetch_add(1, Ordering::Relaxed) + 1;
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let quiet_until = counter.quiet_until.load(Ordering::Relaxed);
        let logs = now >= quiet_until
            && counter
                .quiet_until
                .compare_exchange(
                    quiet_until,
                    now.saturating_add(QUIET_MS),
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                )
                .is_ok();
        if logs {
            tracing::warn!(%peer, count, "a client was stopped: {}", excess.reason());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_count() {
        let counters = Counters::default();
        let peer = "127.0.0.1:1";
        for (at, excess) in Excess::ALL.into_iter().enumerate() {
            assert_eq!(excess as usize, at, "{excess:?}");
            (0..=at).for_each(|_| counters.note(excess, peer));
        }
        for (at, excess) in Excess::ALL.into_iter().enumerate() {
            assert_eq!(counters.count(excess), at as u64 + 1, "{excess:?}");
        }
    }
}
