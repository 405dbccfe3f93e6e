//! How a member shares its file descriptors out: enough for its own files and its
//! peers first, the rest for clients.
//!
//! Knows how many files the parts of a member open at most. Must not know what
//! they are for.
use mizzen_wal as wal;

use crate::limits;

/// Descriptors that are not in another part: standard streams, listeners, what the
/// runtimes poll, directories and files that are open for a moment.
const OWN: u64 = 64;

/// Segments of the log: what is held for a follower at most, one that is being
/// made, spares, and one that is being removed.
const LOG: u64 = limits::LOG_HOLD_BYTES.div_ceil(wal::limits::SEGMENT_BYTES as u64) + 4;

/// Connections from other members, so that clients cannot shut them out: four for
/// each, and some that are broken and not given up yet.
const FROM_PEERS: u64 = 128;
/// Connections to other members.
const TO_PEERS: u64 = 64;

/// Connections of probes, and of who collects metrics, on listeners of their own.
const FOR_METRICS: u64 = 32;

/// Files of the rows with which a member works, if slowly.
const ROWS_MIN: u64 = 32;

/// Connections of clients without which it is of no use.
const CLIENTS_MIN: u64 = 32;

/// Descriptors of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors {
    /// All that the process may have.
    pub limit: u64,
    /// Of the rows. Twice as many are set apart: while the rows of another member
    /// replace them both are open.
    pub rows: u16,
    pub peers: usize,
    /// On listeners for metrics alone.
    pub metrics: usize,
    pub clients: usize,
}

impl Descriptors {
    /// Shares out `limit`. More than `rows` are of no use to the rows.
    ///
    /// # Errors
    /// It is too small, said with the numbers.
    pub fn share(limit: u64, rows: u16) -> Result<Self, String> {
        let fixed = OWN + LOG + FROM_PEERS + TO_PEERS + FOR_METRICS;
        let least = fixed + 2 * ROWS_MIN + CLIENTS_MIN;
        if limit < least {
            return Err(format!(
                "the limit of open files is {limit}, and a member needs {least} at least: {LOG} for the raft log, {} for rows, {} for other members, {CLIENTS_MIN} for clients, {} for the rest; raise the hard limit (ulimit -Hn, LimitNOFILE)",
                2 * ROWS_MIN,
                FROM_PEERS + TO_PEERS,
                OWN + FOR_METRICS,
            ));
        }
        let left = limit - fixed;
        // At most half of the rest for both.
        let rows = (left / 4).clamp(ROWS_MIN, u64::from(rows).max(ROWS_MIN));
        let clients = (left - 2 * rows).min(limits::CONNECTIONS as u64);
        Ok(Self {
            limit,
            rows: u16::try_from(rows).unwrap_or(u16::MAX),
            peers: FROM_PEERS as usize,
            metrics: FOR_METRICS as usize,
            clients: usize::try_from(clients).unwrap_or(limits::CONNECTIONS),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: u16 = 512;

    #[test]
    fn what_is_shared_out_is_there() {
        for limit in (0..5_000).chain([1 << 16, 1 << 20, u64::MAX]) {
            let Ok(shared) = Descriptors::share(limit, ROWS) else {
                assert!(limit < 1_024, "{limit} is refused");
                continue;
            };
            let files = 2 * u64::from(shared.rows) + shared.clients as u64;
            assert!(
                files + OWN + LOG + FROM_PEERS + TO_PEERS + FOR_METRICS <= limit,
                "{shared:?}"
            );
            assert!(u64::from(shared.rows) >= ROWS_MIN);
            assert!(shared.clients as u64 >= CLIENTS_MIN);
        }
    }

    #[test]
    fn a_usual_limit_is_no_limit() {
        let usual = Descriptors::share(1 << 20, ROWS).expect("enough");
        assert_eq!(usual.clients, limits::CONNECTIONS);
        assert_eq!(usual.rows, ROWS);
    }

    #[test]
    fn what_is_too_little_is_refused_with_the_numbers() {
        let refused = Descriptors::share(64, ROWS).expect_err("too little");
        assert!(
            refused.contains("the limit of open files is 64"),
            "{refused}"
        );
    }
}
