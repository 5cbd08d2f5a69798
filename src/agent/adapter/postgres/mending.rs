//! Ordered is compared with found at every look: moving settings are put right at once, guarded
//! ones are named, and the account of a primary is in doubt from the first wrong look on.

use std::collections::BTreeMap;

use super::archive::{self, Archive};
use super::doubt::{Doubt, Scope, Sight, Wrong};
use super::guarded::{confirmed, guarded, nth, own_settings, strange};
use super::receivers::Connection;
use super::settings::{Moving, without_passwords};
use super::sql::{self, PrimaryLook, StandbyLook};
use super::waits::{Confirmed, Sampled, ServerLog};
use super::{Done, Driver};
use crate::agent::host;
use crate::model::observation::{Blocked, StandbyFacts};
use crate::model::{Epoch, Lsn, Span, Timestamp};

const DOUBT: &str = "doubt.json";
/// What sessions of a standby were begun under.
const STANDING: &str = "standing.json";
/// A reload has reached every process by then, or is sent again.
const RELOAD_MAX: Span = Span::millis(300);
/// How often it is asked where the server logs.
const LOGGING_INTERVAL: Span = Span::secs(1);
/// How long a setting that was put right stays on the screen.
const NOTED_MAX: Span = Span::secs(12);

/// A commit that waits for its standbys so long is not on its way.
const WAIT_MAX: Span = Span::secs(2);
/// A server that lives on so long while looks fail is not compared with what was ordered.
const UNSEEN_MAX: Span = Span::secs(1);

/// What of the server is watched against what was ordered.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Databases whose sessions begin read only.
    pub(super) read_only: Vec<String>,
    ordered: Option<Moving>,
    ordered_at: Timestamp,
    /// Since when looks at the primary fail.
    unseen: Option<Timestamp>,
    doubt: Doubt,
    /// What sessions here were begun under while this was a standby: a promotion keeps them.
    standing: Doubt,
    sampled: Sampled,
    /// Sessions that wait for a standby, and since when they were seen to.
    waiting: BTreeMap<i32, Timestamp>,
    pub(super) blocked: Option<Blocked>,
    log: ServerLog,
    logging_at: Timestamp,
    counted: u32,
    /// It was watched since its promotion: what was counted is all there is.
    whole: bool,
    /// Cancelled waits since the promotion; `None`: nobody can say.
    pub(super) cancelled: Option<u32>,
    /// Log that came from the archive may not be replayed yet.
    archive_tail: bool,
    noted: (String, Timestamp),
}

impl Watch {
    /// These moving settings were written.
    pub(super) fn ordered(&mut self, moving: Moving) {
        self.ordered = Some(moving);
        self.ordered_at = host::now();
    }
}

impl Driver {
    /// What an earlier process of this agent knew.
    pub(super) fn recall(&mut self) {
        self.archive = Archive::load(&self.setup.state_dir);
        self.watch.archive_tail = self.archive.exists();
        let kept = |name: &str| -> Doubt {
            let text = std::fs::read_to_string(self.setup.state_dir.join(name)).ok();
            text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
        };
        (self.watch.doubt, self.watch.standing) = (kept(DOUBT), kept(STANDING));
    }

    /// A promotion in `epoch` begins: of that nothing is known yet. What was in doubt of the log
    /// here stays so until its standbys have it.
    pub(super) async fn begin_watch(&mut self, epoch: Epoch) {
        self.watch.unseen = None;
        self.watch.sampled = Sampled::default();
        self.watch.log = ServerLog::default();
        (self.watch.counted, self.watch.whole) = (0, true);
        self.point_at_log().await;
        self.watch.doubt.go_on(epoch);
        self.inherit_sessions(vec![]);
    }

    /// The sessions of a standby outlive its promotion, whoever of its agents sees it through.
    fn inherit_sessions(&mut self, excluded: Vec<String>) {
        let standing = std::mem::take(&mut self.watch.standing);
        self.watch.doubt.inherit(&standing);
        self.say_doubt(excluded);
        // The voters and the other file have it now.
        if standing.why().is_some() {
            self.keep(STANDING, &Doubt::default());
        }
    }

    /// What the sessions of this standby may have of a role's or database's value.
    async fn mind_sessions(&mut self, look: &StandbyLook) {
        let Ok(client) = self.client().await else { return };
        let Ok(own) = sql::own_settings(client).await else { return };
        let (wrong, _) =
            own_settings(&own, self.setup.synchronous_standbys, &self.setup.unsynchronised);
        let wrong = wrong.into_iter().filter(|w| w.scope == Scope::Sessions).collect();
        let (now, oldest_session, newest) = (look.clock, look.oldest, look.newest);
        let sight = Sight { now, wrong, oldest_session, newest, ..Sight::default() };
        if self.watch.standing.see(&sight) {
            self.keep(STANDING, &self.watch.standing.clone());
        }
    }

    fn keep(&self, name: &str, doubt: &Doubt) {
        let text = serde_json::to_string(doubt).unwrap_or_default();
        let path = self.setup.state_dir.join(name);
        if let Err(error) = host::write_durably(&path, &text) {
            tracing::error!("{}: {error}", path.display());
        }
    }

    /// It is primary in `epoch` already: what was known against it stays. `found` is the set in
    /// force before anything was written; `known` are those it may have been told.
    pub(super) fn take_watch_up(&mut self, epoch: Epoch, found: &str, known: [&str; 2]) {
        let first = self.watch.ordered.is_none();
        self.watch.doubt.epoch = epoch;
        if first && !known.contains(&found) {
            let what = format!(
                "synchronous_standby_names was {found:?} instead of {:?} when the agent came back",
                known[1]
            );
            let wrong = vec![Wrong { what, scope: Scope::Transactions, own_log: false }];
            self.watch.doubt.see(&Sight { wrong, ..Sight::default() });
        }
        self.inherit_sessions(self.resource.excluded.clone());
    }

    /// Durable before it is said, so that a restarted agent goes on saying it.
    fn say_doubt(&mut self, excluded: Vec<String>) {
        let found = self.watch.doubt.suspicion();
        if found != self.resource.doubt {
            match found.as_ref().map(|f| &f.why) {
                Some(why) => tracing::warn!("the account of writes here is in doubt: {why}"),
                None => tracing::info!("nothing is in doubt of the writes here"),
            }
        }
        // Nothing in doubt is the same in every epoch: a promotion waits for no disk.
        let kept = if found.is_some() { self.watch.doubt.clone() } else { Doubt::default() };
        let text = serde_json::to_string(&kept).unwrap_or_default();
        let path = self.setup.state_dir.join(DOUBT);
        let before = std::fs::read_to_string(&path).unwrap_or_default();
        if before != text
            && (found.is_some() || !before.is_empty())
            && let Err(error) = host::write_durably(&path, &text)
        {
            // The voters keep it as well.
            tracing::error!("{}: {error}", path.display());
        }
        self.resource.doubt = found;
        self.resource.excluded = excluded;
    }

    pub(super) async fn mind_standby(&mut self, look: &StandbyLook) {
        self.put_right(&look.moving).await;
        if look.streaming && self.watch.doubt.why().is_some() {
            // Its log is another's now: what it was once alone to have is there, or is no more.
            self.watch.doubt = Doubt::default();
            self.say_doubt(vec![]);
        }
        self.watch.blocked = look.read_only.then_some(Blocked::ReadOnly);
        self.mind_sessions(look).await;
        self.mind_replay(look).await;
        self.look_at_slots().await;
        if !look.syncs {
            self.note(
                "fsync is off here: what this server says it has flushed counts for nothing; \
                 restart it through the agent"
                    .into(),
            );
        }
        self.forget_note();
    }

    /// A primary that serves others and lets no look in was not compared with what was ordered. One
    /// that shows no sign of life is another matter: it loses its lease.
    pub(super) fn mind_unseen(&mut self) {
        let Some(ok) = self.pulse.write_ok() else { return };
        let since = *self.watch.unseen.get_or_insert_with(host::now);
        if ok.since(since) < UNSEEN_MAX {
            return;
        }
        let what = "no look at this server succeeds while it serves others: what is in force is not \
                    known; mend: let the agent's user in again (pg_hba.conf, connections, its login)";
        // What a session has of its role's value is compared at the next look.
        let wrong = Wrong { what: what.into(), scope: Scope::Transactions, own_log: true };
        if self.watch.doubt.see(&Sight { wrong: vec![wrong], ..Sight::default() }) {
            let excluded = self.resource.excluded.clone();
            self.say_doubt(excluded);
        }
    }

    pub(super) async fn mind_primary(&mut self, look: &PrimaryLook) {
        self.watch.unseen = None;
        let ordered = self.watch.ordered.as_ref().map(|o| o.sync.clone());
        let (mut wrong, excluded) =
            guarded(look, &self.sync, &self.setup.unsynchronised, &self.agents_own());
        wrong.extend(self.strangers(look).await.iter().map(strange));
        if let Some(ordered) = ordered.filter(|o| *o != look.moving.sync) {
            wrong.push(Wrong {
                what: format!(
                    "synchronous_standby_names was {:?} instead of {ordered:?}: put right at once, \
                     and what was acknowledged meanwhile may be nowhere else",
                    look.moving.sync
                ),
                scope: Scope::Transactions,
                own_log: false,
            });
        }
        self.put_right(&look.moving).await;
        if let Some(first) = wrong.first() {
            self.note(first.what.clone());
        }
        let sight = Sight {
            now: look.clock,
            wrong,
            oldest_session: look.oldest.0,
            oldest_transaction: look.oldest.1,
            newest: look.newest,
            end: look.end,
            confirmed: confirmed(&self.sync, &look.standbys, look.flushed),
        };
        if self.watch.doubt.see(&sight) || excluded != self.resource.excluded {
            self.say_doubt(excluded);
        }
        self.mind_blocked(look);
        self.count_cancelled(look).await;
        self.look_at_slots().await;
        self.forget_note();
    }

    /// Who confirmed commits under a member's name that is not that member.
    async fn strangers(&mut self, look: &PrimaryLook) -> Vec<Connection> {
        let now = host::now();
        let words = self.words.borrow().clone();
        let strange = self.receivers.see(now, &self.sync, &look.guarded.receivers, &words);
        for node in self.receivers.whom_to_ask(now, &self.sync) {
            // The runtime going away ends the whole process.
            let _ = self.out.send(super::Seen::Asks(node)).await;
        }
        strange
    }

    /// Whether the agent's own session may have a role's or database's value.
    fn agents_own(&self) -> (String, String) {
        (self.setup.config.user.clone(), self.setup.config.database.clone())
    }

    /// Moving settings in force that are not as ordered: written and loaded again.
    async fn put_right(&mut self, found: &Moving) {
        let Some(ordered) = self.watch.ordered.clone() else { return };
        let mut found = found.clone();
        if self.setup.programs.major < 14 {
            found.restore.clone_from(&ordered.restore);
        }
        let differs = ordered.differs(&found);
        if differs.is_empty() || host::now().since(self.watch.ordered_at) < RELOAD_MAX {
            return;
        }
        for (name, wanted, has) in &differs {
            if *name == "restore_command" && !archive::is_wrapper(has) {
                self.users_archive(has).await;
                continue;
            }
            let (has, wanted) = (without_passwords(has), without_passwords(wanted));
            let words = format!("{name} was {has:?} instead of {wanted:?}: put right");
            tracing::warn!("{words}");
            self.note(words);
            self.note_found(
                format!("{name} was {has:?} instead of {wanted:?}"),
                "put right".into(),
            );
        }
        let moving = Moving { restore: self.restore_command(), ..ordered };
        if let Err(failure) = self.reload(moving) {
            self.note(format!("settings cannot be put right: {}", failure.0));
        }
    }

    /// The user has given another restore_command: it is wrapped from now on.
    async fn users_archive(&mut self, command: &str) {
        let source = match self.client().await {
            Ok(client) => sql::source_of(client, "restore_command").await.unwrap_or_default(),
            Err(_) => return,
        };
        let by_system = source.ends_with("postgresql.auto.conf");
        self.archive.system = by_system.then(|| command.to_owned());
        if !by_system {
            command.clone_into(&mut self.archive.file);
        }
        tracing::info!("restore_command {command:?} is used through the agent's own");
        if let Err(error) = self.archive.save(&self.setup.state_dir) {
            self.note(format!("restore_command cannot be kept: {error}"));
        }
    }

    /// The user's files may have been changed since the start: the agent's own line hides what they
    /// say now.
    pub(super) async fn look_for_archive(&mut self) {
        let Ok(client) = self.client().await else { return };
        let Ok(file) = sql::restore_command_of_files(client).await else { return };
        if !archive::is_wrapper(&file) && self.archive.file != file {
            self.archive.file = file;
            if let Err(error) = self.archive.save(&self.setup.state_dir) {
                self.note(format!("restore_command cannot be kept: {error}"));
            }
        }
    }

    /// What a start found in the user's files.
    pub(super) fn found_archive(
        &mut self,
        by_system: Option<String>,
        file: String,
        segment_bytes: u64,
    ) -> Done {
        if by_system.is_some() {
            self.archive.system = by_system;
        }
        if !archive::is_wrapper(&file) {
            self.archive.file = file;
        }
        self.archive.segment_bytes = segment_bytes;
        self.archive.save(&self.setup.state_dir)?;
        Ok(())
    }

    /// From here on nothing comes from the archive. True when log that came from it may still be
    /// replayed.
    pub(super) fn close_archive(&mut self) -> Result<bool, super::Failed> {
        if self.archive.accepts.take().is_some() {
            self.watch.archive_tail = true;
            self.archive.save(&self.setup.state_dir)?;
        }
        Ok(self.watch.archive_tail)
    }

    /// Log may be fetched from the archive, on the lines of `history` only.
    pub(super) fn open_archive(&mut self, history: &crate::model::TimelineHistory) -> Done {
        self.archive.accepts = Some(history.clone());
        self.watch.archive_tail = true;
        self.archive.save(&self.setup.state_dir)?;
        let Some(ordered) = self.watch.ordered.clone() else { return Ok(()) };
        self.reload(Moving { restore: self.restore_command(), ..ordered })
    }

    pub(super) fn archive_may_run(&self) -> bool {
        self.watch.archive_tail
    }

    /// Everything that came from the archive is replayed, and nothing more comes.
    pub(super) fn archive_is_quiet(&mut self) {
        self.watch.archive_tail = self.archive.accepts.is_some();
    }

    async fn point_at_log(&mut self) {
        let Ok(client) = self.client().await else { return };
        let Ok(logging) = sql::logging(client).await else { return };
        self.watch.logging_at = host::now();
        let file = logging.readable(&self.setup.config.data_dir, self.log_path());
        let rest = self.watch.log.point_at(file);
        self.watch.counted += u32::try_from(rest).unwrap_or(u32::MAX);
    }

    /// Whether clients' writes go through.
    fn mind_blocked(&mut self, look: &PrimaryLook) {
        let now = host::now();
        let before = std::mem::take(&mut self.watch.waiting);
        let since = |pid| before.get(pid).copied().unwrap_or(now);
        self.watch.waiting = look.waiters.iter().map(|pid| (*pid, since(pid))).collect();
        let longest = self.watch.waiting.values().map(|since| now.since(*since)).max();
        let sessions = u32::try_from(look.waiters.len()).unwrap_or(u32::MAX);
        self.watch.blocked = match longest.filter(|longest| *longest >= WAIT_MAX) {
            _ if look.guarded.read_only || self.watch.read_only.iter().any(String::is_empty) => {
                Some(Blocked::ReadOnly)
            }
            _ if look.full.is_some() => look.full.map(|limit| Blocked::Full { limit }),
            Some(longest) => {
                // In whole seconds: a report is news when they change.
                let longest = Span::secs(longest.0 / 1_000_000_000);
                Some(Blocked::Waiting { sessions, longest })
            }
            None => {
                let database = self.watch.read_only.first().cloned();
                database.map(|database| Blocked::Database { database })
            }
        };
    }

    /// Nobody waits for a standby, and nothing holds replay up.
    pub(super) fn is_unhindered(&self) -> bool {
        let held_up =
            matches!(self.watch.blocked, Some(Blocked::ReadOnly | Blocked::Waiting { .. }));
        self.watch.waiting.is_empty() && !held_up && !self.holding.is_any()
    }

    async fn count_cancelled(&mut self, look: &PrimaryLook) {
        if host::now().since(self.watch.logging_at) >= LOGGING_INTERVAL {
            self.point_at_log().await;
        }
        let logged = u32::try_from(self.watch.log.count()).unwrap_or(u32::MAX);
        let reached =
            |of: fn(&StandbyFacts) -> Lsn| nth(&self.sync, &look.standbys, self.sync.k, of);
        let confirmed = Confirmed {
            setting: look.moving.sync.clone(),
            reached: (reached(|s| s.flushed), reached(|s| s.replayed)),
        };
        let sampled = self.watch.sampled.see(confirmed, look.waiters.clone());
        // The same wait may be seen both ways, not at the same look.
        self.watch.counted = self.watch.counted.saturating_add(logged.max(sampled));
        let known = self.watch.whole && self.watch.log.is_readable();
        self.watch.cancelled = known.then_some(self.watch.counted);
    }

    pub(super) fn note(&mut self, words: String) {
        if self.facts.trouble.is_empty() || self.facts.trouble == self.watch.noted.0 {
            self.facts.trouble.clone_from(&words);
        }
        self.watch.noted = (words, host::now());
    }

    fn forget_note(&mut self) {
        let (words, at) = &self.watch.noted;
        if !words.is_empty() && host::now().since(*at) >= NOTED_MAX {
            if self.facts.trouble == *words {
                self.facts.trouble.clear();
            }
            self.watch.noted.0.clear();
        }
    }
}
