//! A moment at which something is done unless told otherwise in time. Who sets it never waits; who
//! waits for it holds no lock while it acts.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::host;
use crate::model::Timestamp;

/// The runtime's timers stand still while the machine sleeps: a short leash bounds how late that is
/// noticed.
const LEASH: Duration = Duration::from_millis(500);

/// A deadline and what goes with it.
#[derive(Debug)]
pub struct Deadline<T> {
    armed: Mutex<Option<(Timestamp, T)>>,
    changed: Condvar,
}

impl<T: Clone> Default for Deadline<T> {
    fn default() -> Self {
        Self { armed: Mutex::new(None), changed: Condvar::new() }
    }
}

impl<T: Clone> Deadline<T> {
    /// Sets it, or takes it away.
    pub fn set(&self, armed: Option<(Timestamp, T)>) {
        *self.armed.lock().unwrap_or_else(PoisonError::into_inner) = armed;
        self.changed.notify_all();
    }

    /// What is armed now.
    pub fn armed(&self) -> Option<(Timestamp, T)> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until one has passed, and takes that one. `idle` is called about twice a second while
    /// nothing is armed.
    pub fn passed(&self, idle: impl Fn()) -> (Timestamp, T) {
        loop {
            if self.armed().is_none() {
                idle();
            }
            let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
            let now = host::now();
            let wait = match armed.take_if(|(at, _)| now >= *at) {
                Some(passed) => return passed,
                None => armed.as_ref().map_or(LEASH, |(at, _)| now.until(*at).std().min(LEASH)),
            };
            // Told or timed out: looked at anew in any case.
            drop(self.changed.wait_timeout(armed, wait));
        }
    }
}
