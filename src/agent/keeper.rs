//! The guard's keeper: a thread of its own that starts the guard, tells it every deadline and
//! replaces it when it dies, disagrees or is of another version. It always works on the newest
//! order, and the agent's loop never waits for it: it learns what was confirmed.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use super::guard::{Armed, Guard};
use super::host;
use super::ours::Ours;
use crate::model::Timestamp;

/// Between two looks whether the guard still lives.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// Between two tries where none can be started.
const RETRY: Duration = Duration::from_millis(200);

/// What the guard shall have armed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Order {
    number: u64,
    until: Option<Timestamp>,
}

/// What the keeper tells the agent's loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The newest order that the guard has confirmed.
    pub confirmed: u64,
    /// The guard's process, while one answers.
    pub pid: Option<u32>,
    /// Why there is none, in words; empty when there is.
    pub trouble: String,
}

/// The loop's end.
#[derive(Debug)]
pub struct Keeper {
    order: Arc<(Mutex<Order>, Condvar)>,
    /// What was confirmed, newest last.
    pub kept: mpsc::UnboundedReceiver<Kept>,
    /// Orders given and not confirmed, with their moments; the first counts.
    pending: std::collections::VecDeque<(u64, Timestamp)>,
    /// A deadline was confirmed since the guard was last stood down.
    guarded: bool,
}

impl Keeper {
    /// Starts the thread, with a guard that was adopted.
    ///
    /// # Errors
    /// When the host starts no more threads.
    pub fn start(
        state_dir: &Path,
        ours: Ours,
        adopted: Option<Guard>,
        armed: Option<Timestamp>,
    ) -> std::io::Result<Self> {
        let (told, kept) = mpsc::unbounded_channel();
        let guarded = armed.is_some();
        let order = Arc::new((Mutex::new(Order { number: 0, until: armed }), Condvar::new()));
        let work = Work {
            state_dir: state_dir.to_owned(),
            ours,
            guard: adopted,
            order: Arc::clone(&order),
            done: guarded.then_some(Order { number: 0, until: armed }),
            told,
        };
        std::thread::Builder::new().name("guard-keeper".into()).spawn(move || work.run())?;
        Ok(Self { order, kept, pending: std::collections::VecDeque::new(), guarded })
    }

    /// The guard shall kill at this moment (`None`: never). Does not wait.
    pub fn order(&mut self, until: Option<Timestamp>) {
        let mut order = self.order.0.lock().unwrap_or_else(PoisonError::into_inner);
        *order = Order { number: order.number + 1, until };
        self.order.1.notify_all();
        if until.is_some() {
            self.pending.push_back((order.number, host::now()));
        } else {
            // A guard that is not told only kills what is stopped already.
            self.pending.clear();
            self.guarded = false;
        }
    }

    /// What the thread told.
    pub fn note(&mut self, kept: &Kept) {
        let before = self.pending.len();
        self.pending.retain(|(number, _)| *number > kept.confirmed);
        self.guarded |= self.pending.len() < before;
    }

    /// Since when the newest deadline is not confirmed; `None`: it is.
    pub fn unconfirmed(&self) -> Option<Timestamp> {
        self.pending.front().map(|(_, at)| *at)
    }

    /// A guard has confirmed a deadline that still stands, and nothing newer waits for it.
    pub fn is_guarded(&self) -> bool {
        self.guarded && self.pending.is_empty()
    }
}

struct Work {
    state_dir: PathBuf,
    ours: Ours,
    guard: Option<Guard>,
    order: Arc<(Mutex<Order>, Condvar)>,
    /// What the present guard has confirmed.
    done: Option<Order>,
    told: mpsc::UnboundedSender<Kept>,
}

impl Work {
    /// Until the agent's loop is gone.
    fn run(mut self) {
        let mut last = None;
        loop {
            let trouble = self.work().map_or_else(|e| e.to_string(), |()| String::new());
            let pid = self.guard.as_ref().map(|g| g.pid);
            let confirmed = self.done.map_or(0, |order| order.number);
            let kept = Kept { confirmed, pid, trouble };
            let pause = if kept.trouble.is_empty() { LOOK_INTERVAL } else { RETRY };
            if last.as_ref() != Some(&kept) {
                if self.told.send(kept.clone()).is_err() {
                    return;
                }
                last = Some(kept);
            }
            let order = self.order.0.lock().unwrap_or_else(PoisonError::into_inner);
            if Some(*order) == self.done || pause == RETRY {
                // Poisoned or timed out: the order is read anew in any case.
                drop(self.order.1.wait_timeout(order, pause));
            }
        }
    }

    /// One step towards the newest order.
    fn work(&mut self) -> std::io::Result<()> {
        if self.guard.as_ref().is_none_or(|guard| !host::runs(guard.pid)) {
            (self.guard, self.done) = (None, None);
            self.guard = Some(Guard::replace(&self.state_dir)?);
        }
        let order = *self.order.0.lock().unwrap_or_else(PoisonError::into_inner);
        if self.done == Some(order) {
            return Ok(());
        }
        let Some(guard) = &mut self.guard else { return Ok(()) };
        let told = match order.until {
            Some(until) => guard.arm(&Armed { until, folders: self.ours.folders() }),
            None => guard.stand_down(),
        };
        match told {
            Ok(()) => self.done = Some(order),
            // It died, froze, guards something else or is of another version: another one is
            // started with the next step.
            Err(error) => {
                host::signal(guard.pid, rustix::process::Signal::KILL);
                (self.guard, self.done) = (None, None);
                return Err(error);
            }
        }
        Ok(())
    }
}
