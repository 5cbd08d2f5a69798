//! Starting the server: always as a standby, with the fixed settings on its command line.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use super::archive::Fetching;
use super::files::{self, Control};
use super::session::Session;
use super::{Done, Driver, Failed, LOOK_INTERVAL, archive, failed, settings, unfinished};
use crate::agent::host;
use crate::agent::host::stillness::Stillness;
use crate::agent::machine::Upstream;
use crate::model::observation::ResourceState;
use crate::model::{Lsn, Span};

/// A start that replays nothing for so long does not get on by itself.
const STILL_MAX: Span = Span::secs(30);
/// What a startup process that waits for log reads meanwhile, in bytes, is less: one page each time
/// that it looks again, every 5 s (`wal_retrieve_retry_interval`).
const REPLAYS: u64 = 256 * 1024;

/// Whether a server that starts gets on.
#[derive(Debug, Default)]
pub(super) struct Starting {
    still: Stillness,
    /// Of its log; 0: not known.
    segment_bytes: u64,
    /// Where the words of this start begin in the server's log, in bytes.
    log_from: u64,
}

impl Starting {
    /// It let somebody in.
    pub(super) fn got_on(&mut self) {
        self.still = Stillness::default();
    }
}

impl Driver {
    /// Starts the server as a standby, whatever it was, and waits until it answers. One that was
    /// rewound needs its upstream's log before it does.
    pub(super) async fn start(&mut self, upstream: Option<&Upstream>) -> Done {
        let config = self.setup.config.clone();
        let data_dir = &config.data_dir;
        if unfinished::is_here(&self.setup) {
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
        self.setup.programs.end_leftovers().await.map_err(Failed)?;
        files::remove_loose_placeholders(data_dir)?;
        files::signal_standby(data_dir)?;
        let arguments = self.arguments(upstream).await?;
        std::fs::create_dir_all(&config.socket_dir)?;
        self.state(ResourceState::Starting);
        self.resource.stopped = None;
        let log = self.log_path();
        // Statements stand in it, and what they hold.
        let file = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(&log);
        let log = file.map_err(|e| Failed(format!("the server's log {}: {e}", log.display())))?;
        // What stands there of earlier starts says nothing about this one.
        self.starting.log_from = log.metadata()?.len();
        let mut command = std::process::Command::new(self.setup.programs.path("postgres"));
        command
            .arg("-D")
            .arg(data_dir)
            .args(arguments)
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
        self.starting.got_on();
        let mut looked = tokio::time::interval(LOOK_INTERVAL);
        loop {
            tokio::select! {
                _ = looked.tick() => self.stands_still(upstream).await?,
                () = self.exited() => {
                    self.exit = None;
                    let last = last_line(&self.log_path(), self.starting.log_from);
                    return failed(format!("the server did not start: {last}"));
                }
                () = tokio::time::sleep(Duration::from_millis(10)) => {
                    if let Ok(client) = Session::connect(&self.setup.config).await {
                        self.client = Some(client);
                        self.starting.got_on();
                        return Ok(());
                    }
                }
            }
        }
    }

    /// A server that is not consistent and replays nothing waits for log that nobody gives it: it
    /// needs a new copy, or its former upstream.
    pub(super) async fn stands_still(&mut self, upstream: Option<&Upstream>) -> Done {
        let Some((server, _)) = &self.exit else { return Ok(()) };
        let children = host::processes::children(*server);
        let titles: Vec<(u32, String)> =
            children.into_iter().map(|pid| (pid, host::processes::command_of(pid))).collect();
        let mut startup: Vec<u32> = vec![];
        startup.extend(titles.iter().filter(|(_, t)| t.contains("startup")).map(|(pid, _)| pid));
        if Fetching::look(&self.setup.state_dir).running {
            startup.clear();
        }
        let now = host::now();
        let all = has_replayed_all(&titles, self.starting.segment_bytes);
        let still = if all {
            self.starting.still.goes_on(now)
        } else {
            self.starting.still.look(&startup, REPLAYS, now)
        };
        if still <= STILL_MAX {
            return Ok(());
        }
        self.starting.got_on();
        let last = last_line(&self.log_path(), self.starting.log_from);
        let Some(upstream) = upstream.filter(|u| u.history.is_some()) else {
            return failed(format!(
                "it lets nobody in and has got nowhere for {still}: if it waits for log, there is \
                 nobody to receive it from; its last words: {last}"
            ));
        };
        // What keeps people out may be another thing: a copy is given up only for what its own
        // control file says that it lacks, and its upstream says that it has not.
        let control = Control::read(&self.setup.programs, &self.setup.config.data_dir).await?;
        let answer = self.ask(upstream, control.checkpoint, control.segment_bytes).await?;
        let never_ends = control.awaits_backup_end && all;
        if !never_ends && control.consistent.lsn <= answer.end {
            return failed(format!(
                "it lets nobody in and has got nowhere for {still}; its last words: {last}"
            ));
        }
        self.thirst.clone_needed = true;
        failed(format!(
            "it is not consistent, and never will be with {}'s log (it needs {}, which ends at {}): \
             cloning; its last words: {last}",
            upstream.node,
            if never_ends {
                "the end of its backup".into()
            } else {
                control.consistent.lsn.to_string()
            },
            answer.end
        ))
    }

    /// The command line of a start, and everything written before it: the user's own values count
    /// where they are safe, and they are what the files say without this agent's lines.
    async fn arguments(&mut self, upstream: Option<&Upstream>) -> Result<Vec<String>, Failed> {
        let config = self.setup.config.clone();
        let main = config.config_file.clone();
        let main = main.unwrap_or_else(|| config.data_dir.join("postgresql.conf"));
        if !main.exists() {
            return failed(format!(
                "there is no {}: where the configuration lies elsewhere (Debian: \
                 /etc/postgresql/…/postgresql.conf) set postgres.config_file in agent.yaml",
                main.display()
            ));
        }
        let by_system = files::auto_value(&config.data_dir, "restore_command")
            .filter(|value| !value.is_empty() && !archive::is_wrapper(value));
        // Kept before the line is taken out: a crash in between must not lose it.
        if by_system.is_some() {
            self.archive.system.clone_from(&by_system);
            self.archive.save(&self.setup.state_dir)?;
        }
        files::uncover_user_values(&config.data_dir)?;
        let names: Vec<&str> = settings::known(self.setup.programs.major)
            .filter(|s| s.asks_user())
            .map(|s| s.name)
            .chain(["restore_command"])
            .collect();
        let mut values = Vec::new();
        for name in &names {
            values.push(self.users_value(name).await?);
        }
        let control = Control::read(&self.setup.programs, &config.data_dir).await?;
        self.starting.segment_bytes = control.segment_bytes;
        let of = |name: &str| {
            let own = names.iter().position(|n| *n == name).map_or("", |at| &values[at]);
            at_least(own, control.demands(name))
        };
        self.found_archive(by_system, of("restore_command"), control.segment_bytes)?;
        let moving = self.settings(upstream);
        files::write_moving(&config.data_dir, &moving)?;
        self.watch.ordered(moving);
        Ok(self.fixed_arguments(|name| Some(of(name))))
    }

    /// What the user's files say of a setting.
    async fn users_value(&self, name: &str) -> Result<String, Failed> {
        let config = &self.setup.config;
        let said = self
            .setup
            .programs
            .run("postgres", |c| {
                c.arg("-D").arg(&config.data_dir);
                c.args(self.fixed_arguments(|_| None)).args(["-C", name]);
            })
            .await?;
        Ok(said.trim_end_matches('\n').to_owned())
    }

    fn config_argument(&self) -> Vec<String> {
        self.setup
            .config
            .config_file
            .as_ref()
            .map_or(vec![], |file| vec!["-c".to_owned(), format!("config_file={}", file.display())])
    }

    pub(super) fn fixed_arguments(&self, user: impl Fn(&str) -> Option<String>) -> Vec<String> {
        let mut arguments = self.config_argument();
        arguments.extend(settings::arguments(self.setup.programs.major, &self.setup.config, user));
        arguments
    }
}

/// The user's own value, or what the log demands if that is more.
pub(super) fn at_least(own: &str, demanded: Option<u64>) -> String {
    match (own.parse::<u64>(), demanded) {
        (Ok(own), Some(demanded)) => own.max(demanded).to_string(),
        (Err(_), Some(demanded)) => demanded.to_string(),
        (_, None) => own.to_owned(),
    }
}

/// Whether the server replays in the segment that it receives: all that its upstream has. By the
/// titles of its processes (`recovering FILE`, `streaming LSN`), which only the server writes; nobody
/// else is let in meanwhile.
fn has_replayed_all(titles: &[(u32, String)], segment_bytes: u64) -> bool {
    let after = |word: &str| {
        titles.iter().find_map(|(_, title)| {
            let rest = title.split_once(word)?.1.trim_start();
            Some(rest.split_whitespace().next().unwrap_or_default().to_owned())
        })
    };
    let file = after("startup recovering ").or_else(|| after("startup waiting for "));
    let begins = file.and_then(|file| files::begins(&file, segment_bytes));
    let received = after("walreceiver streaming ").and_then(|lsn| lsn.parse::<Lsn>().ok());
    let segment = |at: u64| at / segment_bytes.max(1);
    begins.zip(received).is_some_and(|(begins, Lsn(at))| segment(begins) == segment(at))
}

/// Why a server did not start, by its log from that byte on: for people only, nothing rests on it.
fn last_line(path: &Path, from: u64) -> String {
    let log = std::fs::read(path).unwrap_or_default();
    let new = log.get(usize::try_from(from).unwrap_or(usize::MAX)..).unwrap_or_default();
    reason(&String::from_utf8_lossy(new)).to_owned()
}

/// What the process said that the server names as the one that ended, else the last that is no
/// answer to a client who came too early.
fn reason(log: &str) -> &str {
    let grave = |line: &&str| line.contains("FATAL") || line.contains("PANIC");
    let pid = |line: &str| Some(line.split_once("(PID ")?.1.split_once(')')?.0.to_owned());
    let its = log.lines().rev().find_map(pid).map(|pid| format!("[{pid}]"));
    let of_it = |line: &&str| its.as_ref().is_some_and(|its| line.contains(its));
    let to_clients = |line: &&str| line.contains("the database system is ");
    let said = || log.lines().rev().filter(grave);
    said()
        .find(of_it)
        .or_else(|| said().find(|line| !to_clients(line)))
        .or_else(|| log.lines().last())
        .unwrap_or("it said nothing")
}

#[cfg(test)]
mod tests {
    use super::{has_replayed_all, last_line, reason};

    #[test]
    fn a_client_that_came_too_early_is_not_why_a_server_did_not_start() {
        let early = "t [30] FATAL:  the database system is starting up\n";
        let other = "t [31] FATAL:  role \"nobody\" does not exist\n";
        let own = "t [28] FATAL:  could not locate required checkpoint record\n";
        let end = "t [27] LOG:  startup process (PID 28) exited with exit code 1\n";
        assert_eq!(reason(&[early, own, early, other, end].concat()), own.trim_end());
        assert_eq!(reason(&[own, early].concat()), own.trim_end());
        let port = "t [27] LOG:  could not bind: Address already in use\n";
        assert_eq!(reason(port), port.trim_end());
        assert_eq!(reason(""), "it said nothing");
    }

    #[test]
    fn an_earlier_starts_words_are_not_this_ones() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let old = "t [28] FATAL:  lock file \"postmaster.pid\" already exists\n";
        std::fs::write(log.path(), old).unwrap();
        let before = u64::try_from(old.len()).unwrap();
        assert_eq!(last_line(log.path(), before), "it said nothing");
        let new = "t [30] FATAL:  could not open file \"\u{e9}\"\n";
        std::fs::write(log.path(), [old, new].concat()).unwrap();
        assert_eq!(last_line(log.path(), before), new.trim_end());
    }

    #[test]
    fn what_is_replayed_is_compared_with_what_is_received() {
        let titles = |startup: &str, receiver: &str| {
            [(7, format!("postgres: {startup} ")), (8, format!("postgres: {receiver}"))]
        };
        let all =
            |startup: &str, receiver: &str| has_replayed_all(&titles(startup, receiver), 16 << 20);
        let file = "startup recovering 000000020000000100000004";
        assert!(all(file, "walreceiver streaming 1/4001358"));
        assert!(all(
            "startup waiting for 000000020000000100000004",
            "walreceiver streaming 1/4FFFFFF"
        ));
        assert!(!all(file, "walreceiver streaming 1/5001358"));
        assert!(!all(file, "walreceiver streaming 0/4001358"));
        assert!(!all(file, "checkpointer"));
        assert!(!all("startup", "walreceiver streaming 1/4001358"));
    }
}
