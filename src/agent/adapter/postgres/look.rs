//! Looking at the running server: what it is, what it says, whether it still writes.

use std::path::PathBuf;

use super::Driver;
use super::records;
use super::session::Session;
use super::sql::{self, Look, LookError, PrimaryLook, StandbyLook};
use crate::agent::host;
use crate::model::observation::{CheckTimes, ResourceState};
use crate::model::{Lsn, Position, Span};

/// SQLSTATE of a server that starts, recovers or shuts down.
const CANNOT_CONNECT_NOW: &str = "57P03";
/// A sign of life is so old at most: a calm server's doors are asked less often than others'.
const PULSE_MAX: Span = Span::secs(6);

impl Driver {
    pub(super) fn note_standby(&mut self, look: &StandbyLook) -> Position {
        let lsn = look.received.unwrap_or_default().max(look.replayed);
        self.find_data();
        let timeline = self.resource.data.line.as_ref().map_or(0, |l| l.timeline);
        let position = Position { timeline, lsn };
        // What is replayed was flushed before, and ends with a whole record.
        if look.replayed > Lsn(0) {
            let replayed = Position { timeline, lsn: look.replayed };
            let seen = self.prints.ends.filter(|e| e.timeline == timeline && *e > replayed);
            let from = seen.unwrap_or(replayed);
            let flushed = look.received.filter(|_| look.syncs).unwrap_or_default();
            let ends = records::last_end(&self.setup.config.data_dir, from, flushed);
            self.prints.ends = Some(ends);
            self.resource.data.flushed = Some(ends);
            self.compare_log(replayed);
            self.take_print();
        }
        self.facts.position = position;
        self.facts.flushed = lsn;
        self.facts.replayed = look.replayed;
        self.facts.upstream_age = look.upstream_age;
        self.facts.sessions = look.sessions;
        let streams = self.thirst.sees(look.receiver.filter(|_| look.streaming), host::now());
        self.facts.receiving_from =
            self.following.as_ref().filter(|_| streams).map(|u| u.node.clone());
        self.facts.standbys.clear();
        self.state(ResourceState::Standby);
        position
    }

    pub(super) fn note_primary(&mut self, look: &PrimaryLook) {
        let position = Position { timeline: look.timeline, lsn: look.written };
        self.find_data();
        self.note_flushed(look.timeline, look.inserted, look.flushed);
        self.facts.position = position;
        (self.facts.flushed, self.facts.replayed) = (look.flushed, look.written);
        self.facts.sync_setting.clone_from(&look.moving.sync);
        self.facts.sessions = look.sessions;
        self.facts.standbys.clone_from(&look.standbys);
        self.facts.receiving_from = None;
        self.facts.upstream_age = None;
        self.resource.writable = true;
        self.resource.position = Some(position);
        self.state(ResourceState::Primary);
    }

    /// How long the last write took; one that does not come back takes as long as it is overdue.
    fn write_latency(&self) -> Option<Span> {
        let took = self.pulse.signs().write_took?;
        let overdue = host::now().since(self.pulse.write_ok()?);
        Some(took.max(Span(overdue.0.saturating_sub(self.setup.write_check.0))))
    }

    /// A session that was opened before goes on while nobody else gets in.
    fn heed_pulse(&mut self) {
        let signs = self.pulse.signs();
        self.facts.refuses = signs.refuses;
        if signs.silent_since.is_some() {
            self.facts.check = CheckTimes::default();
            self.note(format!("nobody gets in: {}", self.facts.refuses));
        }
    }

    pub(super) async fn look(&mut self) {
        if self.exit.is_none() {
            return;
        }
        let started = host::now();
        let look = self.look_now().await;
        let took = host::now().since(started);
        self.facts.check =
            CheckTimes { live: look.is_ok().then_some(took), ..CheckTimes::default() };
        // One that starts has not written its own state yet.
        let admits = matches!(
            &look,
            Err(LookError::Answered { code, .. }) if code != CANNOT_CONNECT_NOW
        );
        let failed = look.is_err();
        match look {
            Ok(Look::Standby(look)) => {
                let position = self.note_standby(&look);
                // Whether it receives is the lag's matter; a cut standby that knows where its log
                // ends is ready to be promoted.
                self.facts.check.ready =
                    (look.streaming || look.received.is_some() || look.exhausted).then_some(took);
                self.resource.writable = false;
                self.recovering = self.exit.as_ref().map(|(pid, _)| *pid);
                if look.exhausted || (look.received.is_some() && !self.archive_may_run()) {
                    // Without fsync its word counts for nothing.
                    self.resource.position = look.syncs.then_some(position);
                }
                self.mind_standby(&look).await;
            }
            Ok(Look::Primary(look)) => {
                self.note_primary(&look);
                self.facts.check.ready = Some(took);
                self.facts.check.deep = self.write_latency();
                self.mind_primary(&look).await;
            }
            // It answers, so it does not hang; what was seen before stands until it lets in again.
            Err(error @ LookError::Answered { .. }) => {
                self.client = None;
                self.facts.check.live = Some(took);
                if let LookError::Answered { code, .. } = &error
                    && let Some(state) = on_an_answer(&self.facts.state, &self.seen, code)
                {
                    self.state(state);
                }
                self.note(error.to_string());
            }
            Err(error) => {
                self.note(error.to_string());
                self.client = None;
                // Its socket may be gone while its port answers.
                let port_answers = matches!(error, LookError::Said(_))
                    && self.pulse.signs().ok.is_some_and(|ok| started.since(ok) < PULSE_MAX);
                if !port_answers {
                    self.state(ResourceState::Hung);
                }
            }
        }
        if failed {
            self.judge_unseen(admits);
            self.mind_unseen();
        }
        self.heed_pulse();
    }

    async fn look_now(&mut self) -> Result<Look, LookError> {
        let client = match self.client.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => Session::connect(&self.setup.config).await?,
        };
        sql::look(self.client.insert(client)).await
    }

    /// Where the configuration says, else beside the data directory; where that is nobody's place to
    /// write, in the state folder.
    pub(super) fn log_path(&self) -> PathBuf {
        if let Some(configured) = &self.setup.config.log_file {
            return configured.clone();
        }
        let beside = self.setup.config.data_dir.with_extension("log");
        let parent = beside.parent().filter(|p| !p.as_os_str().is_empty());
        let may = rustix::fs::Access::WRITE_OK;
        if beside.exists() || parent.is_none_or(|p| rustix::fs::access(p, may).is_ok()) {
            return beside;
        }
        self.setup.state_dir.join("postgres.log")
    }
}

/// What a server is that answers with an error; `None`: as it was shown. It does not hang, also where
/// it was silent before.
fn on_an_answer(shown: &ResourceState, seen: &ResourceState, code: &str) -> Option<ResourceState> {
    match (shown, seen) {
        _ if code == CANNOT_CONNECT_NOW => Some(ResourceState::Starting),
        (ResourceState::Hung, ResourceState::Unknown) => Some(ResourceState::Starting),
        (ResourceState::Hung, seen) => Some(seen.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_answers_with_an_error_does_not_hang() {
        use ResourceState::{Hung, Primary, Standby, Starting, Unknown};
        for (shown, seen, code, now) in [
            (Primary, Primary, "53300", None),
            (Hung, Primary, "53300", Some(Primary)),
            (Hung, Standby, "28000", Some(Standby)),
            (Hung, Unknown, "53300", Some(Starting)),
            (Hung, Primary, CANNOT_CONNECT_NOW, Some(Starting)),
        ] {
            assert_eq!(on_an_answer(&shown, &seen, code), now, "{shown:?} {code}");
        }
    }
}
