//! How much happened lately, for who looks at totals now and then.

use std::{collections::VecDeque, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::limits;

struct Sample {
    at: Instant,
    totals: Vec<u64>,
}

/// Totals as they were when somebody looked, within [`limits::RATES_WINDOW`].
#[derive(Default)]
pub struct Rates(Mutex<VecDeque<Sample>>);

impl Rates {
    /// What has been added to each total within the window, as far as somebody
    /// looked, and in which time; `None` for the first who looks.
    pub fn look(&self, at: Instant, totals: Vec<u64>) -> Option<(Duration, Vec<u64>)> {
        let mut samples = self.0.lock();
        let age = |sample: &Sample| at.saturating_duration_since(sample.at);
        // One that is older stays as long as no other is old enough.
        while samples
            .get(1)
            .is_some_and(|next| age(next) >= limits::RATES_WINDOW)
        {
            samples.pop_front();
        }
        let recent = samples
            .front()
            .filter(|oldest| age(oldest) >= limits::RATES_INTERVAL)
            .map(|oldest| {
                let pairs = totals.iter().zip(&oldest.totals);
                let added = pairs.map(|(now, before)| now.saturating_sub(*before));
                (age(oldest), added.collect())
            });
        if samples
            .back()
            .is_none_or(|newest| age(newest) >= limits::RATES_INTERVAL)
        {
            samples.push_back(Sample { at, totals });
        }
        recent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_the_last_minute_and_samples_few() {
        let rates = Rates::default();
        let begin = Instant::now();
        assert_eq!(rates.look(begin, vec![10]), None);
        // Too soon to tell.
        assert_eq!(
            rates.look(begin + limits::RATES_INTERVAL / 2, vec![11]),
            None
        );
        let mut last = None;
        for second in 1..=300 {
            let at = begin + limits::RATES_INTERVAL * second;
            last = rates.look(at, vec![10 + u64::from(second)]);
        }
        let (time, added) = last.expect("looked at before");
        assert_eq!(time, limits::RATES_WINDOW);
        assert_eq!(
            added,
            vec![time.as_secs() / limits::RATES_INTERVAL.as_secs()]
        );
        assert!(rates.0.lock().len() <= 62);
    }
}
