//! A standby of somebody, or of nobody.

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::process::Signal;

use super::archive;
use super::files;
use super::settings::{self, Moving};
use super::sql::{self, StandbyLook};
use super::{Done, Driver, Failed, failed};
use crate::agent::host;
use crate::agent::machine::Upstream;
use crate::config::agent::{PostgresConfig, Route};
use crate::model::observation::{ResourceState, StopEvidence};
use crate::model::{NodeId, Span, Timestamp};

/// After so long a standby that has not replayed what is here is said to be behind; it is asked
/// again then.
const CERTAIN_MAX: Span = Span::secs(10);

/// Not a failure: what was rebuilt is started by the next try.
pub(super) const REBUILT: &str = "rebuilt; starting again";

impl Driver {
    /// A standby of `upstream`, or of nobody.
    pub(super) async fn stand_by(&mut self, upstream: Option<&Upstream>, may_init: bool) -> Done {
        let data_dir = self.setup.config.data_dir.clone();
        if self.rewinding.is_some() {
            self.resource.deaf = upstream.is_none();
            if let Err(why) = self.end_rewind().await {
                tracing::warn!("pg_rewind could not: {}; a clone has to mend it", why.0);
            }
        }
        let runs = self.adopt();
        if !runs {
            self.carry_on_exchange().await?;
        }
        if files::has_data(&data_dir) {
            self.refuse_foreign(upstream)?;
            let major = self.setup.programs.major;
            // Before anything replays, rewinds or copies into an empty mount point.
            if !runs && let Some(what) = files::missing_tablespace(&data_dir, major) {
                return failed(format!(
                    "{what}: mount it, or bring the node back without its data; nothing is started \
                     without, for it would go on as if nothing had been there"
                ));
            }
        }
        if std::mem::take(&mut self.thirst.clone_needed)
            && let Some(upstream) = upstream.filter(|u| u.history.is_some())
        {
            // The copy that is here goes on running until the new one is whole.
            return self.reclone(upstream).await;
        }
        if !runs {
            // What is started from here on has no upstream in its settings, however long it takes
            // or if it ever starts.
            self.resource.deaf = upstream.is_none();
            self.tell().await;
            if !files::has_data(&data_dir) {
                match upstream {
                    Some(upstream) if upstream.history.is_some() => {
                        self.clone_from(upstream).await?
                    }
                    _ if may_init => self.init().await?,
                    // Nothing to run yet: waits for somebody to clone.
                    _ => {
                        self.resource.stopped = None;
                        self.resource.writable = false;
                        self.state(ResourceState::Stopped(StopEvidence {
                            at: host::wall(),
                            how: StopEvidence::NOTHING.into(),
                            killed: 0,
                            remaining: 0,
                            final_position: None,
                            looked: String::new(),
                        }));
                        return Ok(());
                    }
                }
            }
            if host::postmaster(&data_dir).is_some() {
                self.stop_found("a server that this agent did not start (or not record) runs here")
                    .await;
            }
            if files::has_data(&data_dir) {
                self.mark_if_opened().await?;
                self.note_log();
                self.drop_histories_it_left().await?;
            }
            if let Some(upstream) = upstream
                && let Err(why) = self.make_followable(upstream).await
            {
                return Err(match self.start(None).await {
                    Ok(()) => why,
                    Err(also) => Failed(format!("{}; {}", why.0, also.0)),
                });
            }
            self.start(upstream.filter(|u| u.history.is_some())).await?;
        }
        if let Err(error) = self.client().await {
            // Not consistent yet, perhaps for want of log that only the upstream has.
            if let Some(upstream) = upstream.filter(|u| u.history.is_some()) {
                self.reload(self.settings(Some(upstream)))?;
            }
            self.stands_still(upstream).await?;
            return Err(error);
        }
        self.starting.got_on();
        let client = self.client().await?;
        let recovery: bool = client.query_one("SELECT pg_is_in_recovery()", &[]).await?.get(0);
        if !recovery {
            // It runs as a primary without a lease: an old role is never trusted, and a line that
            // is not this node's own is a stranger's.
            let timeline = sql::timeline(self.client().await?).await?;
            if self.expected.borrow().own == Some(timeline) {
                self.kill("ran as primary without a lease").await?;
            } else {
                self.stop_stray("it ran as primary on a line that is not this node's").await;
            }
            return failed("it ran as primary without a lease; stopped");
        }
        self.resource.stopped = None;
        self.resource.writable = false;
        self.resource.deaf = false;
        self.pulse.expect_writes(false);
        match upstream {
            None => self.cut().await,
            Some(upstream) => self.follow(upstream).await,
        }
    }

    pub(super) fn settings(&self, upstream: Option<&Upstream>) -> Moving {
        let conninfo = upstream.and_then(|u| self.conninfo(&u.node, self.setup.me.as_str()));
        Moving {
            conninfo: conninfo.unwrap_or_default(),
            slot: String::new(),
            sync: settings::sync_setting(&self.sync),
            restore: self.restore_command(),
        }
    }

    /// Version 13 takes another only at a start; there the wrapper itself gives nothing while cut.
    pub(super) fn restore_command(&self) -> String {
        let always = self.setup.programs.major < 14;
        if self.archive.exists() && (always || self.archive.accepts.is_some()) {
            archive::wrapper(&self.setup.state_dir)
        } else {
            String::new()
        }
    }

    /// A server counts a connection as a synchronous standby by its name: only the standby itself
    /// may use this node's.
    pub(super) fn conninfo(&self, node: &NodeId, name: &str) -> Option<String> {
        conninfo(&self.setup.config, &self.setup.routes, node, name)
    }

    pub(super) fn reload(&mut self, moving: Moving) -> Done {
        files::write_moving(&self.setup.config.data_dir, &moving)?;
        self.watch.ordered(moving);
        if let Some((pid, _)) = &self.exit {
            host::signal(*pid, Signal::HUP);
        }
        Ok(())
    }

    /// Cut off: durably, and then waits until no receiver remains and the end of the log is
    /// certain.
    pub(super) async fn cut(&mut self) -> Done {
        self.following = None;
        self.facts.receiving_from = None;
        let tail = self.close_archive()?;
        self.reload(self.settings(None))?;
        let mut quiet_since: Option<Timestamp> = None;
        let began = host::now();
        let mut written = began;
        loop {
            let client = self.client().await?;
            let look = sql::look_standby(client).await?;
            self.stop_if_promoted(&look).await?;
            // This session has the empty setting, so the postmaster has told every process. A
            // receiver that was being started meanwhile shows within a moment, and ends.
            // What came from the archive before counts as received once it is replayed.
            let cut = look.moving.conninfo.is_empty();
            let quiet = cut
                && look.receiver.is_none()
                && (look.exhausted || (look.received.is_some() && !tail));
            let now = host::now();
            if !cut && now.since(written) >= Span::millis(300) {
                // Somebody's ALTER SYSTEM wrote over it at the same moment.
                written = now;
                self.reload(self.settings(None))?;
            }
            if let Some(receiver) =
                look.receiver.filter(|_| cut && now.since(began) >= Span::millis(10))
            {
                // The startup process may be too busy to end it.
                host::signal(receiver, Signal::TERM);
            }
            if !quiet {
                quiet_since = None;
            } else if now.since(*quiet_since.get_or_insert(now)) >= Span::millis(8) {
                let position = self.note_standby(&look);
                self.resource.position = look.syncs.then_some(position);
                self.archive_is_quiet();
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub(super) async fn follow(&mut self, upstream: &Upstream) -> Done {
        if let Some(history) = &upstream.history {
            if self.close_archive()? {
                self.reload(self.settings(None))?;
            }
            let look = self.certain_look().await?;
            self.archive_is_quiet();
            let position = self.note_standby(&look);
            if !self.fits(history, position) || self.prints.unknown {
                self.rejoin(upstream, position).await?;
                return failed(REBUILT);
            }
        }
        self.reload(self.settings(Some(upstream)))?;
        self.following = Some(upstream.clone());
        Ok(())
    }

    /// Where its log ends, once it has replayed what was here when it started.
    pub(super) async fn certain_look(&mut self) -> Result<StandbyLook, Failed> {
        let began = host::now();
        loop {
            let tail = self.archive_may_run();
            let client = self.client().await?;
            let look = sql::look_standby(client).await?;
            self.stop_if_promoted(&look).await?;
            if look.exhausted || (look.received.is_some() && !tail) {
                return Ok(look);
            }
            if host::now().since(began) > CERTAIN_MAX {
                return failed(format!(
                    "where its log ends is not certain yet: it still replays what is here (at {}; \
                     is replay paused, or held up by a query?)",
                    look.replayed
                ));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// See [`Driver::conninfo`].
pub(super) fn conninfo(
    config: &PostgresConfig,
    routes: &BTreeMap<NodeId, Route>,
    node: &NodeId,
    name: &str,
) -> Option<String> {
    let (host, port) = routes.get(node)?.postgres.rsplit_once(':')?;
    // An IPv6 address stands between brackets where a port follows it, and without in libpq.
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let passfile = config.replication_passfile.as_ref();
    let passfile = passfile.map(|p| format!(" passfile={}", quoted(&p.display().to_string())));
    let options = config.replication_options.as_ref().map(|o| format!(" {o}"));
    Some(format!(
        "host={} port={port} user={} application_name={name}{}{} connect_timeout=2 \
            tcp_user_timeout=4000 keepalives_idle=1 keepalives_interval=1 keepalives_count=3",
        quoted(host),
        quoted(&config.user),
        passfile.unwrap_or_default(),
        options.unwrap_or_default()
    ))
}

/// A value in a connection string: quoted where it has to be.
fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn odd_characters_of_a_path_are_quoted() {
        assert_eq!(quoted("/etc/quorate/pass"), "/etc/quorate/pass");
        assert_eq!(quoted("/a b/it's\\x"), "'/a b/it\\'s\\\\x'");
        assert_eq!(quoted(""), "''");
    }
}
