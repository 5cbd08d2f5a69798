//! Refused connections in the log: the first of a reason, and then one in ten minutes, for whoever
//! is refused tries again several times a second.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The same is said again after this time.
const AGAIN: Duration = Duration::from_secs(600);
/// Whose reasons are remembered.
const REMEMBERED_MAX: usize = 256;

/// What was said, of whom, and when.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<BTreeMap<(String, String), Instant>>);

impl Refusals {
    fn is_news(&self, whom: &str, why: &str, now: Instant) -> bool {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Ages in a reason would make each one news.
        let steady = why.chars().filter(|c| !c.is_ascii_digit()).collect();
        let key = (whom.to_owned(), steady);
        if said.get(&key).is_some_and(|at| now.duration_since(*at) < AGAIN) {
            return false;
        }
        if said.len() >= REMEMBERED_MAX {
            said.clear();
        }
        said.insert(key, now);
        true
    }

    /// Says why `whom` was not let in, or did not let in, if it is news.
    pub fn say(&self, whom: &str, why: &str) {
        if self.is_news(whom, why, Instant::now()) {
            tracing::warn!("{why}");
        }
    }

    /// It went well: the next refusal is news.
    pub fn over(&self, whom: &str) {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = said.len();
        said.retain(|(other, _), _| other != whom);
        if said.len() < before {
            tracing::info!("{whom}: connected again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_said_once_until_it_changes_or_is_old() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        assert!(refusals.is_news("n1", "expired", now));
        assert!(!refusals.is_news("n1", "expired", now + Duration::from_secs(599)));
        assert!(refusals.is_news("n2", "expired", now));
        assert!(refusals.is_news("n1", "unknown issuer", now));
        assert!(refusals.is_news("n1", "unknown issuer", now + AGAIN));
        refusals.over("n1");
        assert!(refusals.is_news("n1", "unknown issuer", now + AGAIN));
    }
}
