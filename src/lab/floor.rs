//! The floor that a failover system is measured against: two servers without any manager, and a
//! script that knows at once what happened and what to do. Nothing that has to find out, agree or
//! prove can be faster.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio_postgres::{Client, NoTls};

use super::client::USER;
use super::layout::{Ports, User};
use super::load::{self, Report};
use super::measure::{Event, reach};
use super::{LabError, Target, process};
use crate::agent::adapter::postgres::Programs;
use crate::agent::host;

const PRIMARY: &str = "node-1";
const STANDBY: &str = "node-2";
const STARTS_WITHIN: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(1);

/// Two servers, one the synchronous standby of the other, until it is dropped.
struct Pair {
    dir: PathBuf,
    programs: Programs,
    user: Option<User>,
    ports: Ports,
    pids: Vec<u32>,
}

fn words(what: &str) -> impl Fn(&dyn std::fmt::Display) -> LabError + '_ {
    move |e| LabError(format!("{what}: {e}"))
}

/// One event on a pair of its own, in a folder below `dir`, under the same load as a lab's.
///
/// # Errors
/// In words; of another event than a kill or a switchover there is no floor: how soon a lost host
/// may be replaced is a matter of promises, and not of work.
pub async fn once(
    dir: &Path,
    programs: Option<&Path>,
    user: Option<User>,
    event: Event,
) -> Result<Report, LabError> {
    let programs = Programs::find(programs).map_err(|e| words("the floor")(&e))?;
    let pair = Pair::make(&dir.join("floor"), programs, user).await?;
    let target = Target { nodes: pair.ports.postgres.clone(), simulated: false };
    target.prepare(STARTS_WITHIN).await.map_err(LabError)?;
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let running = tokio::spawn({
        let (stop, count) = (Arc::clone(&stop), Arc::clone(&count));
        async move { load::run(&target, stop, count).await }
    });
    reach(&count, 200).await?;
    let (primary, standby) = (pair.connect(PRIMARY).await?, pair.connect(STANDBY).await?);
    let failed = words("the floor");
    match event {
        Event::Kill => host::signal(pair.pids[0], Signal::KILL),
        Event::Switchover => {
            primary.batch_execute("CHECKPOINT").await.map_err(|e| failed(&e))?;
            drop(primary);
            host::signal(pair.pids[0], Signal::INT);
            let end = Instant::now() + STARTS_WITHIN;
            while host::runs(pair.pids[0]) {
                if Instant::now() > end {
                    return Err(LabError("the floor: the primary does not stop".into()));
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        Event::Host | Event::Freeze | Event::Cut => is_for(event)?,
    }
    standby.batch_execute("SELECT pg_promote(false)").await.map_err(|e| failed(&e))?;
    let after = count.load(Ordering::Relaxed);
    reach(&count, after + 200).await?;
    stop.store(true, Ordering::SeqCst);
    let report = running.await.map_err(|e| failed(&e))?;
    pair.end().await;
    let kept = report.lost == 0 && report.overlaps == 0 && report.unverified.is_empty();
    // Faster by losing something is no floor.
    if kept { Ok(report) } else { Err(LabError(format!("the floor did not hold: {report:?}"))) }
}

/// Whether there is a floor for that event.
///
/// # Errors
/// In words.
pub fn is_for(event: Event) -> Result<(), LabError> {
    match event {
        Event::Kill | Event::Switchover => Ok(()),
        other => Err(LabError(format!(
            "there is no floor for {other:?}: how soon it may end is a matter of promises"
        ))),
    }
}

impl Pair {
    async fn make(dir: &Path, programs: Programs, user: Option<User>) -> Result<Self, LabError> {
        let failed = words("the floor");
        if dir.exists() {
            std::fs::remove_dir_all(dir).map_err(|e| failed(&e))?;
        }
        std::fs::create_dir_all(dir).map_err(|e| failed(&e))?;
        if let Some(user) = &user {
            process::give(dir, user).map_err(|e| failed(&e))?;
        }
        let nodes = [PRIMARY.to_owned(), STANDBY.to_owned()];
        let ports = Ports::find(&nodes).map_err(|e| failed(&e))?;
        let mut pair = Self { dir: dir.to_owned(), programs, user, ports, pids: vec![] };
        let data = |node: &str| pair.dir.join(node).display().to_string();
        pair.run("initdb", &["-D", &data(PRIMARY), "-U", USER, "--auth=trust", "--no-sync"])
            .await?;
        let sync = format!("synchronous_standby_names = 'ANY 1 (\"{STANDBY}\")'\n");
        pair.configure(PRIMARY, &sync)?;
        pair.start(PRIMARY)?;
        let primary = pair.connect(PRIMARY).await?;
        let port = pair.port(PRIMARY);
        let source = format!("host=127.0.0.1 port={port} user={USER}");
        let to = pair.dir.join(STANDBY).display().to_string();
        pair.run("pg_basebackup", &["-D", &to, "-d", &source, "-c", "fast", "-X", "stream"])
            .await?;
        let follow = format!(
            "synchronous_standby_names = ''\nprimary_conninfo = '{source} \
             application_name={STANDBY}'\n"
        );
        std::fs::write(pair.dir.join(STANDBY).join("standby.signal"), "")
            .map_err(|e| failed(&e))?;
        pair.configure(STANDBY, &follow)?;
        if let Some(user) = &pair.user {
            process::give(&pair.dir, user).map_err(|e| failed(&e))?;
        }
        pair.start(STANDBY)?;
        let end = Instant::now() + STARTS_WITHIN;
        let streams = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'quorum' AND \
            state = 'streaming'";
        while primary.query_one(streams, &[]).await.map_err(|e| failed(&e))?.get::<_, i64>(0) < 1 {
            if Instant::now() > end {
                return Err(LabError("the floor: the standby does not stream".into()));
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(pair)
    }

    fn port(&self, node: &str) -> u16 {
        self.ports.postgres.get(node).copied().unwrap_or(0)
    }

    fn configure(&self, node: &str, lines: &str) -> Result<(), LabError> {
        use std::io::Write as _;
        let path = self.dir.join(node).join("postgresql.conf");
        let open = std::fs::OpenOptions::new().append(true).open(&path);
        let mut file = open.map_err(|e| words("the floor")(&e))?;
        let own = format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = '{}'\n{lines}",
            self.port(node),
            self.dir.display()
        );
        file.write_all(own.as_bytes()).map_err(|e| words("the floor")(&e))
    }

    async fn run(&self, program: &str, args: &[&str]) -> Result<(), LabError> {
        let mut command = self.programs.command(program);
        command.args(args).current_dir("/");
        if let Some(user) = &self.user {
            command.uid(user.uid).gid(user.gid).env("HOME", "/tmp");
        }
        let output = command.output().await.map_err(|e| words(program)(&e))?;
        if output.status.success() {
            return Ok(());
        }
        Err(words(program)(&String::from_utf8_lossy(&output.stderr)))
    }

    fn start(&mut self, node: &str) -> Result<(), LabError> {
        let data = self.dir.join(node).display().to_string();
        let log = self.dir.join(format!("{node}.log"));
        let program = self.programs.path("postgres");
        let pid = process::start(&program, &["-D", &data], self.user.as_ref(), &log, &[])
            .map_err(|e| words("postgres")(&e))?;
        self.pids.push(pid);
        Ok(())
    }

    async fn connect(&self, node: &str) -> Result<Client, LabError> {
        let end = Instant::now() + STARTS_WITHIN;
        loop {
            let mut config = tokio_postgres::Config::new();
            config.host("127.0.0.1").port(self.port(node)).user(USER).dbname("postgres");
            match config.connect(NoTls).await {
                Ok((client, connection)) => {
                    tokio::spawn(connection);
                    return Ok(client);
                }
                Err(error) if Instant::now() > end => return Err(words(node)(&error)),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Ends both, and removes what they wrote.
    async fn end(mut self) {
        self.stop();
        let end = Instant::now() + STARTS_WITHIN;
        while self.pids.iter().any(|pid| host::runs(*pid)) && Instant::now() < end {
            tokio::time::sleep(PAUSE).await;
        }
        if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            tracing::warn!(%error, "the floor's folder stays");
        }
        self.pids.clear();
    }

    fn stop(&self) {
        for pid in self.pids.iter().filter(|pid| process::is_ours(**pid, &self.dir)) {
            host::signal(*pid, Signal::QUIT);
        }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.stop();
    }
}
