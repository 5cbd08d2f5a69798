//! Looking at the running server: what it is, what it says, whether it still writes.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio_postgres::Client;

use super::Driver;
use super::sql::{self, Look, StandbyLook};
use crate::agent::host;
use crate::model::observation::{CheckTimes, ResourceState, Unproved, WriteProof};
use crate::model::{Epoch, Lsn, Position, Span, Timestamp};

impl Driver {
    pub(super) fn note_standby(&mut self, look: &StandbyLook) -> Position {
        let lsn = look.received.unwrap_or_default().max(look.replayed);
        self.find_data();
        let timeline = self.resource.data.line.as_ref().map_or(0, |l| l.timeline);
        let position = Position { timeline, lsn };
        // What is replayed was flushed before, and ends with a whole record.
        if look.replayed > Lsn(0) {
            self.resource.data.flushed = Some(Position { timeline, lsn: look.replayed });
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

    pub(super) fn start_writer(&mut self) {
        if self.writer.as_ref().is_some_and(|w| !w.is_finished()) {
            return;
        }
        let (config, ok, pause) =
            (self.setup.config.clone(), Arc::clone(&self.write_ok), self.setup.write_check.std());
        let write_took = Arc::clone(&self.write_took);
        ok.store(host::now().0, Ordering::Relaxed);
        self.writer = Some(tokio::spawn(async move {
            let mut client: Option<Client> = None;
            loop {
                if client.as_ref().is_none_or(Client::is_closed) {
                    client = sql::connect(&config).await.ok();
                }
                if let Some(c) = &client {
                    let began = host::now();
                    match sql::write_path(c).await {
                        Ok(()) => {
                            write_took.store(host::now().since(began).0, Ordering::Relaxed);
                            ok.store(host::now().0, Ordering::Relaxed);
                        }
                        Err(error) => {
                            tracing::warn!("write-path check: {error}");
                            client = None;
                        }
                    }
                }
                tokio::time::sleep(pause).await;
            }
        }));
    }

    /// How long the last write took; one that does not come back takes as long as it is overdue.
    pub(super) fn write_latency(&self) -> Option<Span> {
        let (ok, took) =
            (self.write_ok.load(Ordering::Relaxed), self.write_took.load(Ordering::Relaxed));
        let overdue = host::now().since(Timestamp(ok)).0.saturating_sub(self.setup.write_check.0);
        (ok > 0 && took > 0).then(|| Span(took.max(overdue)))
    }

    /// Only what was asked for counts: an older proof is put away first.
    pub(super) async fn prove(&mut self, epoch: Epoch, asked: String) {
        (self.facts.proof, self.facts.unproved) = (None, None);
        let at = host::wall();
        match sql::prove(&self.setup.config, epoch.0).await {
            Ok(took) => self.facts.proof = Some(WriteProof { epoch, took, at, asked }),
            Err(error) => {
                let why = error.to_string();
                self.facts.trouble = format!("the proving write failed: {why}");
                self.facts.unproved = Some(Unproved { asked, why, at });
            }
        }
    }

    pub(super) async fn look(&mut self) {
        if self.exit.is_none() {
            return;
        }
        let started = host::now();
        let look = match self.client().await {
            Ok(client) => sql::look(client).await,
            Err(failure) => Err(sql::LookError::Said(failure.0)),
        };
        let took = host::now().since(started);
        self.facts.check =
            CheckTimes { live: look.is_ok().then_some(took), ..CheckTimes::default() };
        match look {
            Ok(Look::Standby(look)) => {
                let position = self.note_standby(&look);
                // Whether it receives is the lag's matter; a cut standby that knows where its log
                // ends is ready to be promoted.
                self.facts.check.ready =
                    (look.streaming || look.received.is_some() || look.exhausted).then_some(took);
                self.resource.writable = false;
                if look.exhausted || (look.received.is_some() && !self.archive_may_run()) {
                    // Without fsync its word counts for nothing.
                    self.resource.position = look.syncs.then_some(position);
                }
                self.mind_standby(&look).await;
            }
            Ok(Look::Primary(look)) => {
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
                self.facts.check.ready = Some(took);
                self.facts.check.deep = self.write_latency();
                self.resource.writable = true;
                self.resource.position = Some(position);
                self.state(ResourceState::Primary);
                self.mind_primary(&look).await;
            }
            Err(error) => {
                self.facts.trouble = error.to_string();
                self.client = None;
                self.state(ResourceState::Hung);
            }
        }
    }

    pub(super) fn log_path(&self) -> PathBuf {
        self.setup.config.data_dir.with_extension("log")
    }
}
