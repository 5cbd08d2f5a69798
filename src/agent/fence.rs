//! The self-fence: a thread of its own that kills this node's server when the lease ends. It is
//! told of every new end without waiting, and nothing stands between the deadline and the kill: no
//! store, no socket, no guard, no file. The guard does the same from another process, for the day
//! when this one is frozen or dead.

use std::sync::Arc;

use super::deadline::Deadline;
use super::host;
use super::ours::Ours;
use crate::model::{Span, Timestamp};

/// Kills go on for so long where processes do not end.
const KILL_MAX: Span = Span::secs(30);

/// The agent's end.
#[derive(Clone, Debug, Default)]
pub struct Fence(Arc<Deadline<()>>);

impl Fence {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the host starts no more threads.
    pub fn start(ours: Ours) -> std::io::Result<Self> {
        let fence = Self::default();
        let deadline = Arc::clone(&fence.0);
        std::thread::Builder::new().name("self-fence".into()).spawn(move || {
            loop {
                let (at, ()) = deadline.passed(|| ());
                let server = ours.server().map(|s| s.process);
                let until = host::now() + KILL_MAX;
                let (killed, remaining) = host::kill_all_in(&ours.known_folders(), server, until);
                let late = host::now().since(at);
                tracing::error!(
                    killed,
                    ?remaining,
                    "the lease ended: the database was killed, {late} after its deadline"
                );
            }
        })?;
        Ok(fence)
    }

    /// Kills at this moment unless told otherwise before.
    pub fn arm(&self, until: Timestamp) {
        self.0.set(Some((until, ())));
    }

    /// Nothing runs that could write.
    pub fn stand_down(&self) {
        self.0.set(None);
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Everything else in the agent may hang; its server does not outlive the lease.
    #[test]
    fn the_server_is_killed_at_the_deadline_and_not_while_it_moves() {
        let top = tempfile::tempdir().unwrap();
        let (state, data) = (top.path().join("state"), top.path().join("data"));
        std::fs::create_dir(&state).unwrap();
        std::fs::create_dir(&data).unwrap();
        let mut child = Command::new("sleep").arg("60").current_dir(&data).spawn().unwrap();
        let ours = Ours::open(&state, &data, top.path(), 1).unwrap();
        ours.note(child.id()).unwrap();
        std::fs::remove_dir(&data).unwrap();
        let fence = Fence::start(ours).unwrap();
        let began = host::now();
        fence.arm(began + Span::millis(150));
        fence.arm(began + Span::millis(300));
        assert_eq!(child.wait().unwrap().code(), None, "killed by a signal");
        assert!(host::now() >= began + Span::millis(300), "not before the newest deadline");
    }
}
