//! Finding the server, ending it, and the evidence that nothing of it remains.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::process::Signal;

use super::{Done, Driver, FAST_STOP_MAX, IMMEDIATE_STOP_MAX, exited, failed, files, sql};
use crate::agent::host;
use crate::agent::machine::Goal;
use crate::model::observation::{CheckTimes, ResourceState, StopEvidence};
use crate::model::{Position, Span};

impl Driver {
    /// Finds a running postmaster and watches it.
    pub(super) fn adopt(&mut self) -> bool {
        if let Some((pid, _)) = &self.exit
            && host::runs(*pid)
        {
            return true;
        }
        self.exit = None;
        let Some(pid) = host::postmaster(&self.setup.config.data_dir) else { return false };
        self.watch(pid)
    }

    pub(super) fn watch(&mut self, pid: u32) -> bool {
        self.exit = host::watch_exit(pid).map(|gone| (pid, gone));
        self.exit.is_some()
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
        if let Some(writer) = self.writer.take() {
            writer.abort();
        }
        self.write_ok.store(0, Ordering::Relaxed);
        self.following = None;
        (self.resource.doubt, self.resource.excluded) = (None, vec![]);
        self.facts.standbys.clear();
        self.facts.receiving_from = None;
        self.facts.check = CheckTimes::default();
        self.facts.sessions = 0;
    }

    /// Kills whatever runs in the data directory. Evidence is that nothing remains.
    pub(super) async fn kill(&mut self, how: &str) -> Done {
        let folder = self.setup.config.data_dir.clone();
        if self.resource.stopped.is_some() && host::processes_in(&folder).is_empty() {
            return Ok(());
        }
        let postmaster =
            self.exit.as_ref().map(|(pid, _)| *pid).or_else(|| host::postmaster(&folder));
        let until = host::now() + Span::secs(5);
        let (killed, remaining) =
            tokio::task::spawn_blocking(move || host::kill_all_in(&folder, postmaster, until))
                .await?;
        self.forget_server();
        if !remaining.is_empty() {
            return failed(format!(
                "processes {remaining:?} survive SIGKILL (in uninterruptible sleep?)"
            ));
        }
        self.stopped(how, killed, None);
        Ok(())
    }

    pub(super) fn stopped(&mut self, how: &str, killed: u32, final_position: Option<Position>) {
        let evidence = StopEvidence {
            at: host::wall(),
            how: how.to_owned(),
            killed,
            remaining: 0,
            final_position,
        };
        self.resource.writable = false;
        self.resource.position = final_position;
        self.resource.history = None;
        self.resource.newest_timeline = files::newest_timeline(&self.setup.config.data_dir);
        self.resource.stopped = Some(evidence.clone());
        self.state(ResourceState::Stopped(evidence));
    }

    /// A checkpoint first (the stop is then quick), then fast, immediate, kill. The end of the log
    /// is read when the stop was clean.
    pub(super) async fn stop_gracefully(&mut self) -> Done {
        if !self.adopt() {
            return self.kill("found dead").await;
        }
        if let Ok(client) = sql::connect(&self.setup.config).await {
            // Only a help: the stop itself makes the checkpoint that counts.
            let _ =
                tokio::time::timeout(Duration::from_secs(5), client.batch_execute("CHECKPOINT"))
                    .await;
        }
        self.client = None;
        let Some(pid) = self.exit.as_ref().map(|(pid, _)| *pid) else {
            return self.kill("kill").await;
        };
        let mut how = "fast";
        for (signal, word, limit) in
            [(Signal::INT, "fast", FAST_STOP_MAX), (Signal::QUIT, "immediate", IMMEDIATE_STOP_MAX)]
        {
            how = word;
            host::signal(pid, signal);
            if tokio::time::timeout(limit.std(), self.exited()).await.is_ok() {
                break;
            }
        }
        let folder = self.setup.config.data_dir.clone();
        let remaining = host::processes_in(&folder);
        if !remaining.is_empty() {
            return self.kill(how).await;
        }
        self.forget_server();
        let control = files::Control::read(&self.setup.programs, &folder).await?;
        let end = control.is_clean_primary().then_some(control.checkpoint);
        self.stopped(how, 0, end);
        Ok(())
    }
}
