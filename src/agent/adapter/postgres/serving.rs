//! Whether this standby could serve: what holds its replay up, and whether it could replicate from
//! each peer's database. Both are seen before anything dies. What holds replay up is a user's wish
//! until this node is promoted, or cannot follow its upstream: then it is ended, and recorded.

use std::process::Stdio;
use std::time::Duration;

use tokio::sync::watch;

use super::files::{Control, DEMANDED};
use super::programs::Programs;
use super::sql::{self, StandbyLook};
use super::{Done, Driver, rebuild, standby};
use crate::agent::host;
use crate::agent::machine::Goal;
use crate::model::serving::{ArchiveFails, Held, Reach, Serving};
use crate::model::{NodeId, Span, Timestamp};

/// Sessions that hold replay up for less are a standby's everyday.
const CONFLICT_MIN: Span = Span::secs(2);
/// How often it is asked who holds it up.
const ASK_INTERVAL: Span = Span::secs(1);
/// A server whose settings fall short is restarted at most so often.
const RESTART_MIN: Span = Span::secs(60);
/// Replication connections are tried so often; one that was refused is tried again sooner.
const TRY_INTERVAL: Duration = Duration::from_secs(60);
const RETRY_INTERVAL: Duration = Duration::from_secs(2);
/// How often the slots are looked at.
const SLOTS_INTERVAL: Span = Span::secs(10);
/// A try may take so long.
const TRY_MAX: Duration = Duration::from_secs(4);

/// What holds replay up, and since when.
#[derive(Debug, Default)]
pub(super) struct Holding {
    since: Option<Timestamp>,
    asked: Option<Timestamp>,
    by: String,
    mend: String,
    fatal: bool,
    paused: bool,
    restarted: Option<Timestamp>,
}

impl Holding {
    /// Something does.
    pub(super) fn is_any(&self) -> bool {
        self.since.is_some()
    }
}

/// Replication connections as they were tried last: to whom, when, and why not.
#[derive(Debug, Default)]
pub(super) struct Reaches(Option<watch::Receiver<Vec<(NodeId, Timestamp, String)>>>);

/// Looks at which version a start would run, in a task of its own: in the middle of an upgrade the
/// disk may let it wait.
pub(super) fn watch_installed(programs: &Programs) -> watch::Receiver<String> {
    let programs = programs.clone();
    let (out, installed) = watch::channel(String::new());
    tokio::spawn(async move {
        while !out.is_closed() {
            out.send_replace(programs.installed().await.unwrap_or_default());
            tokio::time::sleep(TRY_INTERVAL).await;
        }
    });
    installed
}

impl Driver {
    /// Tries, in a task of its own, whether a standby here could receive from each peer.
    pub(super) fn start_reaching(&self) -> Reaches {
        let setup = self.setup.clone();
        let (out, tried) = watch::channel(Vec::<(NodeId, Timestamp, String)>::new());
        let ways: Vec<(NodeId, String)> = setup
            .default_sync
            .iter()
            .filter_map(|n| {
                Some((
                    n.clone(),
                    standby::conninfo(&setup.config, &setup.routes, n, rebuild::TOOL)?,
                ))
            })
            .collect();
        tokio::spawn(async move {
            let mut due = vec![tokio::time::Instant::now(); ways.len()];
            while !out.is_closed() {
                for ((node, way), due) in ways.iter().zip(&mut due) {
                    if *due > tokio::time::Instant::now() {
                        continue;
                    }
                    let refused = knock(&setup.programs, way).await.err().unwrap_or_default();
                    let pause = if refused.is_empty() { TRY_INTERVAL } else { RETRY_INTERVAL };
                    // A server that starts or stops says nothing of replication.
                    let mute = !refused.is_empty() && turns_all_away(&setup.programs, way).await;
                    *due = tokio::time::Instant::now() + pause;
                    out.send_modify(|tried| {
                        tried.retain(|(n, ..)| n != node);
                        if !mute {
                            tried.push((node.clone(), host::now(), refused));
                        }
                    });
                }
                tokio::time::sleep(RETRY_INTERVAL / 4).await;
            }
        });
        Reaches(Some(tried))
    }

    /// For the report.
    pub(super) fn serving(&self) -> Serving {
        let now = host::now();
        let least = if self.holding.fatal { Span::ZERO } else { CONFLICT_MIN };
        let held =
            self.holding.since.filter(|since| now.since(*since) >= least).map(|since| Held {
                by: self.holding.by.clone(),
                lasts: now.since(since),
                mend: self.holding.mend.clone(),
                fatal: self.holding.fatal,
            });
        let tried = self.reaches.0.as_ref().map(|t| t.borrow().clone()).unwrap_or_default();
        let reach = |(node, at, refused)| Reach { node, age: now.since(at), refused };
        Serving {
            held: held.filter(|h| !h.by.is_empty()),
            reaches: tried.into_iter().map(reach).collect(),
            slots: self.slots.1.clone(),
            unreadable: self.unreadable.clone(),
            installed: self.installed.borrow().clone(),
            archive: self.archive_fails.clone().map(|(at, fails)| ArchiveFails {
                age: fails.age + host::now().since(at),
                ..fails
            }),
        }
    }

    /// The slots in this database, now and then.
    pub(super) async fn look_at_slots(&mut self) {
        let now = host::now();
        if self.slots.0.is_some_and(|at| now.since(at) < SLOTS_INTERVAL) {
            return;
        }
        let major = self.setup.programs.major;
        let Ok(client) = self.client().await else { return };
        if let Ok(slots) = sql::slots(client, major).await {
            self.slots = (Some(now), slots);
        }
        if let Ok(client) = self.client().await
            && let Ok(version) = sql::server_version(client).await
        {
            self.facts.version = version;
        }
        if let Ok(client) = self.client().await
            && let Ok(unreadable) = sql::unreadable(client).await
        {
            self.unreadable = unreadable.unwrap_or_default();
        }
        if let Ok(client) = self.client().await
            && let Ok(databases) = sql::read_only_databases(client).await
        {
            self.watch.read_only = databases;
        }
        if let Ok(client) = self.client().await
            && let Ok(fails) = sql::archive_fails(client).await
        {
            self.archive_fails = fails.map(|fails| (now, fails));
        }
    }

    /// A look at a standby, as far as its replay goes.
    pub(super) async fn mind_replay(&mut self, look: &StandbyLook) {
        if !look.paused && !look.conflicts && look.delay.is_empty() {
            self.holding = Holding { restarted: self.holding.restarted, ..Holding::default() };
            return;
        }
        let now = host::now();
        self.holding.since.get_or_insert(now);
        self.holding.paused = look.paused;
        if self.holding.asked.is_some_and(|at| now.since(at) < ASK_INTERVAL) {
            return;
        }
        self.holding.asked = Some(now);
        let found = self.who_holds(look).await.unwrap_or_else(|failure| {
            (format!("something that could not be asked for: {}", failure.0), String::new(), false)
        });
        (self.holding.by, self.holding.mend, self.holding.fatal) = found;
    }

    /// By what replay is held up, what mends it, and whether a promotion would end the server.
    async fn who_holds(
        &mut self,
        look: &StandbyLook,
    ) -> Result<(String, String, bool), super::Failed> {
        let me = self.setup.me.clone();
        if look.paused {
            let control = Control::read(&self.setup.programs, &self.setup.config.data_dir).await?;
            let here = sql::numbers(self.client().await?, &DEMANDED).await?;
            let short: Vec<String> = DEMANDED
                .iter()
                .zip(here)
                .zip(control.demands)
                .filter(|((_, here), demanded)| here < demanded)
                .map(|((name, here), demanded)| format!("{name} = {here} (primary: {demanded})"))
                .collect();
            if !short.is_empty() {
                let by = format!("settings lower than the primary's: {}", short.join(", "));
                return Ok((by, format!("a restart of {me}'s database by its agent"), true));
            }
            let mend = format!("SELECT pg_wal_replay_resume() on {me}");
            return Ok(("a pause (pg_wal_replay_pause)".into(), mend, false));
        }
        if look.conflicts {
            let holders = sql::holders(self.client().await?).await?;
            let who: Vec<&str> = holders.iter().take(3).map(|h| h.who.as_str()).collect();
            if who.is_empty() {
                return Ok(("a conflict that is over or not seen".into(), String::new(), false));
            }
            let by = format!("{} sessions ({})", holders.len(), who.join("; "));
            let pids: Vec<String> = holders.iter().map(|h| h.pid.to_string()).collect();
            let mend = format!("SELECT pg_terminate_backend({}) on {me}", pids.join("), ("));
            return Ok((by, mend, false));
        }
        let by = format!("recovery_min_apply_delay = {}", look.delay);
        let mend = format!(
            "ALTER SYSTEM SET recovery_min_apply_delay = 0; SELECT pg_reload_conf() on {me}"
        );
        Ok((by, mend, false))
    }

    /// A standby that stopped replaying because its settings are lower than the primary's would end
    /// when it is promoted: started again it has what the log demands. True: the goal has to be
    /// reached anew.
    pub(super) async fn keep_replaying(&mut self, goal: &Goal) -> bool {
        let now = host::now();
        let lately = self.holding.restarted.is_some_and(|at| now.since(at) < RESTART_MIN);
        if !self.holding.fatal || lately || !matches!(goal, Goal::Standby { .. }) {
            return false;
        }
        let by = std::mem::take(&mut self.holding.by);
        tracing::warn!("replay stopped: {by}: restarting the database");
        let stopped = self.stop_gracefully().await;
        self.holding = Holding { restarted: Some(now), ..Holding::default() };
        if let Err(failure) = &stopped {
            self.note(format!("it could not be stopped: {}", failure.0));
        }
        self.note_found(
            format!("replay stopped: {by}"),
            "restarted with what the log demands".into(),
        );
        true
    }

    /// Ends what holds replay up, as far as a look has seen any.
    pub(super) async fn free_replay(&mut self, why: &str) -> Done {
        if self.holding.since.is_none() {
            return Ok(());
        }
        if self.holding.paused && !self.holding.fatal {
            sql::resume_replay(self.client().await?).await?;
            tracing::warn!("replay was paused: it goes on, because {why}");
            self.note_found("replay was paused".into(), format!("it goes on, because {why}"));
        }
        self.free_all_replay(why).await
    }

    /// Ends the sessions that hold replay up; a promotion itself ends a pause and a delay.
    pub(super) async fn free_all_replay(&mut self, why: &str) -> Done {
        let holders = sql::holders(self.client().await?).await?;
        if holders.is_empty() {
            return Ok(());
        }
        let pids: Vec<i32> = holders.iter().map(|h| h.pid).collect();
        sql::end_sessions(self.client().await?, &pids).await?;
        let who: Vec<String> = holders.into_iter().map(|h| h.who).collect();
        let what = format!("{} sessions held replay up: {}", who.len(), who.join("; "));
        tracing::warn!("{what}: ended, because {why}");
        self.note_found(what, format!("ended, because {why}"));
        Ok(())
    }
}

/// As a standby's receiver does; `replication=true` is what `pg_hba.conf` calls replication.
async fn knock(programs: &super::Programs, way: &str) -> Result<(), String> {
    let way = format!("{way} replication=true");
    let asked = programs.run("psql", |c| {
        c.args(["-X", "-A", "-t", "-w", "-c", "IDENTIFY_SYSTEM", "-d"]).arg(way);
    });
    match tokio::time::timeout(TRY_MAX, asked).await {
        Ok(said) => said.map(|_| ()).map_err(|e| e.to_string()),
        Err(_) => Err(format!("no answer within {} s", TRY_MAX.as_secs())),
    }
}

/// Whether it answers and lets nobody in, as a server that starts or stops does.
async fn turns_all_away(programs: &super::Programs, way: &str) -> bool {
    /// `pg_isready`'s exit code for it (its manual page).
    const REJECTS: i32 = 1;
    let mut asked = programs.command("pg_isready");
    asked.args(["-q", "-t", "2", "-d", way]).stdout(Stdio::null()).stderr(Stdio::null());
    asked.status().await.is_ok_and(|status| status.code() == Some(REJECTS))
}
