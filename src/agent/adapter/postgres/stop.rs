//! Finding the server, ending it, and the evidence that nothing of it remains.

use std::time::Duration;

use rustix::process::Signal;

use super::session::Session;
use super::{Done, Driver, FAST_STOP_MAX, Failed, IMMEDIATE_STOP_MAX, exited, files};
use crate::agent::host;
use crate::agent::machine::Goal;
use crate::agent::ours::Stopped;
use crate::model::observation::{CheckTimes, ResourceState, StopEvidence};
use crate::model::{Position, Span};

/// What is said of a server that runs under a goal that it be stopped.
pub(super) const STARTED_BY_OTHERS: &str =
    "it was started by somebody else while it had to be stopped";
/// An archiver may finish what it has begun for so long after everything else has ended.
const ARCHIVER_MAX: Span = Span::millis(500);

/// Has a standby's server end, so that its agent starts it again: fast, immediate, kill. A server
/// that hangs takes up no signal but the last.
pub(in crate::agent) async fn end_for_restart(pid: u32) {
    let Some(gone) = host::watch_exit(pid) else { return };
    let exit = Some((pid, gone));
    for (signal, limit) in [
        (Signal::INT, FAST_STOP_MAX),
        (Signal::QUIT, IMMEDIATE_STOP_MAX),
        (Signal::KILL, IMMEDIATE_STOP_MAX),
    ] {
        host::signal(pid, signal);
        if tokio::time::timeout(limit.std(), exited(exit.as_ref())).await.is_ok() {
            return;
        }
    }
    tracing::error!(pid, "the server that has to be restarted does not end");
}

impl Driver {
    /// Finds the running server and watches it. One that somebody else started is not adopted: its
    /// settings are not those that this agent starts it with.
    pub(super) fn adopt(&mut self) -> bool {
        if let Some((pid, _)) = &self.exit
            && host::runs(*pid)
        {
            return true;
        }
        self.exit = None;
        let Some(pid) = host::postmaster(&self.setup.config.data_dir) else { return false };
        self.setup.ours.is_recorded(pid) && self.watch(pid)
    }

    /// Watches a server of this node, and records it: whatever becomes of its folder's name, it is
    /// found.
    pub(super) fn watch(&mut self, pid: u32) -> bool {
        self.exit = host::watch_exit(pid).map(|gone| (pid, gone));
        self.watch_files();
        self.pulse.start(&self.setup.config, self.setup.write_check.std());
        if self.exit.is_some()
            && let Err(error) = self.setup.ours.note(pid)
        {
            tracing::error!("recording the server: {error}; it is not promoted before that works");
        }
        self.exit.is_some()
    }

    /// The record of the running server is on disk; nothing is promoted without.
    pub(super) fn recorded(&self) -> Done {
        self.setup.ours.save().map_err(|error| {
            Failed(format!(
                "which server runs here could not be recorded in the state folder ({error}), so it \
                 is not promoted: make room there, or mend the disk"
            ))
        })
    }

    /// A server whose folder was renamed, replaced or removed under it cannot be led any more: its
    /// settings would be written where it does not read them.
    pub(super) async fn end_if_moved_away(&mut self) -> bool {
        if self.exit.is_none() || !self.setup.ours.moved_away() {
            return false;
        }
        let data_dir = self.setup.config.data_dir.display().to_string();
        tracing::error!("{data_dir} is not the folder its server runs in: ending that server");
        if self.kill("its data directory was moved or removed").await.is_err() {
            self.state(ResourceState::Hung);
        }
        self.facts.trouble = format!(
            "{data_dir} was renamed, replaced or removed while its server ran; the server was ended"
        );
        true
    }

    /// Before a start: whatever of an earlier server remains, or still keeps its port, is ended.
    pub(super) async fn clear_the_way(&mut self) -> Done {
        let ours = self.setup.ours.clone();
        let until = host::now() + Span::secs(5);
        tokio::task::spawn_blocking(move || ours.kill(until)).await?.map(|_| ()).map_err(Failed)
    }

    pub(super) async fn exited(&self) {
        exited(self.exit.as_ref()).await;
    }

    /// The postmaster is gone: make sure that nothing of it remains, and say so with evidence.
    pub(super) async fn note_death(&mut self, goal: &Goal) {
        let how = match goal {
            Goal::Stopped(_) => "stopped",
            Goal::Standby { .. } | Goal::Primary { .. } | Goal::Sharing { .. } => "found dead",
        };
        if self.kill(how).await.is_err() {
            self.state(ResourceState::Hung);
        }
    }

    pub(super) fn forget_server(&mut self) {
        self.client = None;
        self.exit = None;
        self.recovering = None;
        self.pulse.stop();
        self.facts.refuses.clear();
        self.following = None;
        (self.resource.doubt, self.resource.excluded) = (None, vec![]);
        self.facts.standbys.clear();
        self.facts.receiving_from = None;
        self.facts.check = CheckTimes::default();
        self.facts.sessions = 0;
        self.holding = super::serving::Holding::default();
        self.slots = (None, vec![]);
        self.unreadable.clear();
        self.receivers = super::receivers::Receivers::default();
    }

    /// Kills whatever is this node's server. Evidence is that nothing remains, and that nobody
    /// answers in its place.
    pub(super) async fn kill(&mut self, how: &str) -> Done {
        if self.resource.stopped.is_some() && self.setup.ours.is_gone().is_some() {
            return Ok(());
        }
        let was_stopped = self.resource.stopped.is_some();
        let ours = self.setup.ours.clone();
        let until = host::now() + Span::secs(5);
        let ended = tokio::task::spawn_blocking(move || ours.kill(until)).await?;
        self.forget_server();
        let ended = ended.map_err(Failed)?;
        if was_stopped && ended.killed > 0 {
            self.note_found(STARTED_BY_OTHERS.into(), "stopped at once".into());
        }
        self.stopped(how, ended, None);
        Ok(())
    }

    pub(super) fn stopped(&mut self, how: &str, found: Stopped, final_position: Option<Position>) {
        let evidence = StopEvidence {
            at: host::wall(),
            how: how.to_owned(),
            killed: found.killed,
            remaining: 0,
            final_position,
            looked: found.looked,
        };
        self.resource.writable = false;
        self.resource.position = final_position;
        self.resource.history = None;
        self.inserted = None;
        self.find_data();
        self.resource.newest_timeline = self.resource.data.line.as_ref().map(|l| l.timeline);
        self.resource.stopped = Some(evidence.clone());
        self.state(ResourceState::Stopped(evidence));
    }

    /// Comes back when the server has shut down but for its archiver, which has had its time.
    async fn waits_for_its_archiver(&self, pid: u32) {
        let (mut since, mut before) = (None, vec![]);
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let archives = |title: &str| title.contains("archiver") || title.contains("logger");
            let left = host::processes::children(pid);
            let (its, others): (Vec<u32>, Vec<u32>) =
                left.into_iter().partition(|c| archives(&host::processes::command_of(*c)));
            // Whoever connects now is told no by a process of a moment.
            let works = others.iter().any(|c| before.contains(c));
            before = others;
            if its.is_empty() || works {
                since = None;
                continue;
            }
            if host::now().since(*since.get_or_insert_with(host::now)) < ARCHIVER_MAX {
                continue;
            }
            let folder = &self.setup.config.data_dir;
            let control = files::Control::read(&self.setup.programs, folder).await;
            if control.is_ok_and(|c| c.is_clean()) {
                return;
            }
        }
    }

    /// A checkpoint first (the stop is then quick), then fast, immediate, kill. The end of the log
    /// is read when the stop was clean.
    pub(super) async fn stop_gracefully(&mut self) -> Done {
        if !self.adopt() {
            return self.kill("found dead").await;
        }
        if let Ok(client) = Session::connect(&self.setup.config).await {
            // Only a help: the stop itself makes the checkpoint that counts.
            let _ = tokio::time::timeout(
                Duration::from_secs(5),
                client.execute_unbounded("CHECKPOINT"),
            )
            .await;
        }
        self.client = None;
        let Some(pid) = self.exit.as_ref().map(|(pid, _)| *pid) else {
            return self.kill("kill").await;
        };
        let (mut how, mut cut_short) = ("fast", false);
        for (signal, word, limit) in
            [(Signal::INT, "fast", FAST_STOP_MAX), (Signal::QUIT, "immediate", IMMEDIATE_STOP_MAX)]
        {
            how = word;
            host::signal(pid, signal);
            let ended = tokio::time::timeout(limit.std(), self.exited());
            if word != "fast" {
                if ended.await.is_ok() {
                    break;
                }
                continue;
            }
            tokio::select! {
                ended = ended => if ended.is_ok() { break },
                // All that it wrote is on disk and with its standbys.
                () = self.waits_for_its_archiver(pid) => cut_short = true,
            }
        }
        let Some(found) = self.setup.ours.is_gone() else { return self.kill(how).await };
        self.forget_server();
        let folder = self.setup.config.data_dir.clone();
        let control = files::Control::read(&self.setup.programs, &folder).await?;
        let end = control.is_clean_primary().then_some(control.checkpoint);
        if cut_short {
            how = "fast; its archiver was not waited for";
            let ready = files::unarchived(&folder);
            self.note_found(
                format!("archive_command hung at the stop: {} files not archived", ready.len()),
                format!(
                    "not waited for; the files stay in pg_wal, from {} on, until this node archives \
                     again or they are copied by hand",
                    ready.first().map_or("?", String::as_str)
                ),
            );
        }
        self.stopped(how, found, end);
        Ok(())
    }
}
