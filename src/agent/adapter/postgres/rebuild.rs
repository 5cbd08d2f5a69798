//! Making, starting, rewinding and cloning an instance. Log that a rebuild would erase is copied
//! away first.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio_postgres::NoTls;

use super::files::{self, Control};
use super::{Done, Driver, Failed, failed, sql};
use crate::agent::host;
use crate::agent::machine::Upstream;
use crate::model::observation::ResourceState;
use crate::model::{Lsn, Position, TimelineHistory};

/// The name under which tools connect: never a node's, or a server would take their word for a
/// standby's.
const TOOL: &str = "quorate-rebuild";

/// Beside the data directory while it is rebuilt: what is in it cannot be used. (Inside, a rewind
/// would remove it.)
fn unfinished(data_dir: &Path) -> std::path::PathBuf {
    data_dir.with_extension("rebuilding")
}

impl Driver {
    /// A new, empty database.
    pub(super) async fn init(&mut self) -> Done {
        self.state(ResourceState::Rebuilding);
        self.facts.trouble.clear();
        self.tell().await;
        let (config, args) = (self.setup.config.clone(), self.setup.initdb_args.clone());
        tracing::info!("making a new database in {}", config.data_dir.display());
        self.setup
            .programs
            .run("initdb", |c| {
                c.arg("-D")
                    .arg(&config.data_dir)
                    .args(["-U", &config.user, "--encoding=UTF8", "--locale=C", "--data-checksums"])
                    .args(args);
            })
            .await?;
        Ok(())
    }

    /// Starts the server as a standby, whatever it was, and waits until it answers. One that was
    /// rewound needs its upstream's log before it does.
    pub(super) async fn start(&mut self, upstream: Option<&Upstream>) -> Done {
        let config = self.setup.config.clone();
        let data_dir = &config.data_dir;
        if unfinished(data_dir).exists() {
            return failed("a rebuild was interrupted here; waiting for a primary to clone from");
        }
        if let Some(major) = files::data_major(data_dir)
            && major != self.setup.programs.major
        {
            return failed(format!(
                "{} was made by PostgreSQL {major}, the programs are {}: set postgres.bin_dir to PostgreSQL {major}'s bin folder",
                data_dir.display(),
                self.setup.programs.version
            ));
        }
        self.clear_the_way().await?;
        files::remove_loose_placeholders(data_dir)?;
        files::signal_standby(data_dir)?;
        files::write_settings(&config, &self.settings(upstream))?;
        std::fs::create_dir_all(&config.socket_dir)?;
        self.state(ResourceState::Starting);
        self.resource.stopped = None;
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log_path())?;
        self.log_read = log.metadata().map_or(0, |m| m.len());
        let mut command = std::process::Command::new(self.setup.programs.path("postgres"));
        command
            .arg("-D")
            .arg(data_dir)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        // A group of its own: what ends the agent's terminal does not end the database.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn()?;
        let pid = child.id();
        std::thread::spawn(move || child.wait());
        if !self.watch(pid) {
            return failed("the server ended as soon as it was started");
        }
        self.tell().await;
        loop {
            tokio::select! {
                () = self.exited() => {
                    self.exit = None;
                    return failed(format!("the server did not start: {}", last_line(&self.log_path())));
                }
                () = tokio::time::sleep(Duration::from_millis(10)) => {
                    if let Ok(client) = sql::connect(&self.setup.config).await {
                        self.client = Some(client);
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Before a start that will follow `upstream`: a former primary past the switch point is
    /// rewound or cloned.
    pub(super) async fn make_followable(&mut self, upstream: &Upstream) -> Done {
        let data_dir = self.setup.config.data_dir.clone();
        let Some(history) = &upstream.history else { return Ok(()) };
        if unfinished(&data_dir).exists() {
            return self.reclone(upstream).await;
        }
        let control = Control::read(&self.setup.programs, &data_dir).await?;
        if !self.is_apart(history) {
            let clean = control.is_clean_primary() && history.continues(control.checkpoint);
            if clean || control.was_standby() || control.checkpoint.timeline == history.timeline {
                return Ok(());
            }
        }
        // It crashed as a primary: its control file does not say where its log ends.
        self.rewind(upstream, history, &control).await
    }

    /// A running standby is past the switch point: stop it and rewind it.
    pub(super) async fn rejoin(&mut self, upstream: &Upstream, position: Position) -> Done {
        let Some(history) = &upstream.history else { return Ok(()) };
        tracing::warn!(
            "{position} is not on the way of {}'s timeline {}: rewinding",
            upstream.node,
            history.timeline
        );
        // While the source does not answer, a standby of nobody is worth more than a stopped one:
        // it can say where its log ends.
        checkpoint_at(self, upstream).await?;
        self.stop_gracefully().await?;
        let control = Control::read(&self.setup.programs, &self.setup.config.data_dir).await?;
        self.rewind(upstream, history, &control).await
    }

    async fn rewind(
        &mut self,
        upstream: &Upstream,
        history: &TimelineHistory,
        control: &Control,
    ) -> Done {
        checkpoint_at(self, upstream).await?;
        self.state(ResourceState::Rebuilding);
        self.facts.trouble = format!("rewinding to follow {}", upstream.node);
        self.resource.stopped = None;
        self.tell().await;
        let data_dir = self.setup.config.data_dir.clone();
        self.find_data();
        self.keep_fork(history, control)?;
        if self.must_be_cloned(history, control) {
            self.keep_stray(control)?;
            return self.reclone(upstream).await;
        }
        let Some(source) = self.conninfo(&upstream.node, TOOL) else {
            return failed("no way to it is configured");
        };
        let source = format!("{source} dbname={}", self.setup.config.database);
        host::write_durably(&unfinished(&data_dir), "pg_rewind\n")?;
        let result = self
            .setup
            .programs
            .run("pg_rewind", |c| {
                _ = c
                    .arg("-D")
                    .arg(&data_dir)
                    .arg("--source-server")
                    .arg(source)
                    .arg("--no-ensure-shutdown")
            })
            .await;
        let result = match result {
            // A crashed primary needs its own recovery first; then the rewind has a consistent
            // state to start from.
            Err(e) if e.to_string().contains("must be shut down cleanly") => {
                self.recover_and_rewind(upstream).await.map_err(|f| f.0)
            }
            other => other.map(|_| ()).map_err(|e| e.to_string()),
        };
        match result {
            Ok(()) => {
                std::fs::remove_file(unfinished(&data_dir))?;
                tracing::info!("rewound to follow {}", upstream.node);
                self.note_rebuilt()
            }
            Err(why) => {
                tracing::warn!("pg_rewind could not: {why}; cloning instead");
                self.reclone(upstream).await
            }
        }
    }

    async fn recover_and_rewind(&mut self, upstream: &Upstream) -> Done {
        let data_dir = self.setup.config.data_dir.clone();
        let _ = std::fs::remove_file(data_dir.join("standby.signal"));
        self.setup
            .programs
            .run("postgres", |c| {
                c.args(["--single", "-F", "-D"]).arg(&data_dir).args([
                    "-c",
                    "synchronous_standby_names=",
                    "template1",
                ]);
            })
            .await?;
        let Some(source) = self.conninfo(&upstream.node, TOOL) else {
            return failed("no way to it is configured");
        };
        let source = format!("{source} dbname={}", self.setup.config.database);
        self.setup
            .programs
            .run("pg_rewind", |c| _ = c.arg("-D").arg(&data_dir).arg("--source-server").arg(source))
            .await?;
        Ok(())
    }

    /// Every timeline here is kept from where it leaves the history that is followed; a foreign one
    /// whole.
    fn keep_fork(&self, history: &TimelineHistory, control: &Control) -> Done {
        let data_dir = &self.setup.config.data_dir;
        for timeline in files::timelines(data_dir).into_iter().filter(|t| *t != history.timeline) {
            let from = history.left_at(timeline).unwrap_or(Lsn(0));
            let (folder, count) = files::keep_fork(
                data_dir,
                &self.setup.forks,
                timeline,
                from,
                control.segment_bytes,
            )?;
            tracing::warn!(
                "kept {count} log segments of timeline {timeline} from {from} on in {}",
                folder.display()
            );
        }
        Ok(())
    }

    /// What is here cannot be used; it stays until the copy is there.
    pub(super) async fn reclone(&mut self, upstream: &Upstream) -> Done {
        let data_dir = self.setup.config.data_dir.clone();
        host::write_durably(&unfinished(&data_dir), "pg_basebackup\n")?;
        self.clone_from(upstream).await?;
        std::fs::remove_file(unfinished(&data_dir))?;
        Ok(())
    }

    /// A copy of `upstream`. An unfinished copy is thrown away; what was here before goes when the
    /// copy is whole.
    pub(super) async fn clone_from(&mut self, upstream: &Upstream) -> Done {
        self.state(ResourceState::Rebuilding);
        self.facts.trouble = format!("cloning {}", upstream.node);
        self.tell().await;
        let data_dir = self.setup.config.data_dir.clone();
        let (next, old) = (data_dir.with_extension("cloning"), data_dir.with_extension("old"));
        for leftover in [&next, &old] {
            if leftover.exists() {
                std::fs::remove_dir_all(leftover)?;
            }
        }
        let Some(source) = self.conninfo(&upstream.node, TOOL) else {
            return failed("no way to it is configured");
        };
        self.setup
            .programs
            .run("pg_basebackup", |c| {
                c.arg("-D")
                    .arg(&next)
                    .args(["-X", "stream", "-c", "fast", "--no-sync", "-d"])
                    .arg(source);
            })
            .await?;
        rustix::fs::sync();
        if data_dir.exists() {
            std::fs::rename(&data_dir, &old)?;
        }
        std::fs::rename(&next, &data_dir)?;
        if old.exists() {
            std::fs::remove_dir_all(&old)?;
        }
        tracing::info!("cloned {}", upstream.node);
        self.note_rebuilt()
    }
}

/// `pg_rewind` before version 16 reads the source's timeline from its last checkpoint; one that is
/// older than the promotion makes it see nothing to do.
async fn checkpoint_at(driver: &Driver, upstream: &Upstream) -> Result<(), Failed> {
    let Some(route) = driver.setup.routes.get(&upstream.node) else {
        return failed("no way to it is configured");
    };
    let Some((host, port)) = route.postgres.rsplit_once(':') else {
        return failed("its address has no port");
    };
    let config = &driver.setup.config;
    let mut settings = tokio_postgres::Config::new();
    settings
        .host(host)
        .port(port.parse().unwrap_or(5432))
        .user(&config.user)
        .dbname(&config.database)
        .application_name("quorate");
    settings.connect_timeout(Duration::from_secs(3));
    let (client, connection) = sql::bounded(settings.connect(NoTls)).await?;
    tokio::spawn(connection);
    match tokio::time::timeout(Duration::from_secs(60), client.batch_execute("CHECKPOINT")).await {
        Ok(done) => Ok(done?),
        Err(_) => failed(format!("{} did not finish a checkpoint in 60 s", upstream.node)),
    }
}

fn last_line(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text
        .lines()
        .rev()
        .find(|l| l.contains("FATAL") || l.contains("PANIC"))
        .or_else(|| text.lines().last());
    line.unwrap_or("it said nothing").to_owned()
}
