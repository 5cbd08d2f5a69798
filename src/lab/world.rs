//! A lab as a whole: making it, looking at it, breaking it, ending it.

use std::collections::BTreeMap;
use std::io::{BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::client::{self, Target};
use super::layout::{self, Options, Ports, User};
use super::load::Report;
use super::measure::Event;
use super::{floor, net, process};
use crate::agent::{guard, host};

/// What went wrong with a lab, in words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct LabError(pub String);

fn other(what: impl std::fmt::Display) -> impl FnOnce(Box<dyn std::error::Error>) -> LabError {
    move |e| LabError(format!("{what}: {e}"))
}
fn io(what: impl std::fmt::Display) -> impl FnOnce(std::io::Error) -> LabError {
    move |e| LabError(format!("{what}: {e}"))
}

/// What of a node to break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum What {
    /// Its database.
    Postgres,
    /// Its agent; the guard and the database go on.
    Agent,
    /// Agent, guard and database at once.
    Host,
}

/// What a lab remembers between commands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    /// How it was made.
    pub options: Options,
    user: Option<User>,
    ports: Ports,
    program: PathBuf,
    net: Option<u32>,
    plane: Option<u32>,
    agents: BTreeMap<String, u32>,
    #[serde(default)]
    cut: Vec<String>,
}

/// One node, for people and independent tools.
#[derive(Clone, Debug, Serialize)]
pub struct NodeState {
    /// Its name.
    pub node_id: String,
    /// What its database is now: primary, standby, stopped.
    pub role: String,
    /// Where its database listens.
    pub host: String,
    /// The TCP port.
    pub postgres_port: u16,
    /// A superuser; no password is asked for on loopback.
    pub user: String,
    /// Its agent.
    pub agent_address: String,
    /// Where routers ask it what it is; empty: nowhere.
    pub http_address: String,
    /// Processes.
    pub pids: crate::model::observation::Pids,
    /// Whether its network is cut.
    pub cut: bool,
}

/// A lab in its folder.
#[derive(Debug)]
pub struct Lab {
    dir: PathBuf,
    /// What it remembers.
    pub state: State,
}

impl Lab {
    /// Makes a lab in `dir` and starts its processes. They need a moment until they take writes.
    ///
    /// # Errors
    /// [`LabError`], with nothing left running.
    pub fn create(
        dir: &Path,
        options: Options,
        program: &Path,
        mut said: impl FnMut(&str),
    ) -> Result<Self, LabError> {
        if dir.join("lab.json").exists() {
            return Err(LabError(format!(
                "there is a lab in {} already: end it with `quorate lab down --dir {}`",
                dir.display(),
                dir.display()
            )));
        }
        std::fs::create_dir_all(dir).map_err(io(dir.display()))?;
        let dir = dir.canonicalize().map_err(io(dir.display()))?;
        if dir.as_os_str().len() > 70 {
            return Err(LabError(format!(
                "{} is too long a path: PostgreSQL's socket below it would not fit; use --dir \
                    with a shorter one",
                dir.display()
            )));
        }
        let user = User::unprivileged();
        if let Some(user) = &user {
            use std::os::unix::fs::MetadataExt as _;
            let closed = dir
                .ancestors()
                .skip(1)
                .find(|a| a.metadata().is_ok_and(|m| m.mode() & 0o001 == 0 && m.uid() != user.uid));
            if let Some(closed) = closed {
                let why = format!(
                    "everything runs as {}, who cannot enter {}: chmod o+x it, or choose another --dir",
                    user.name,
                    closed.display()
                );
                return Err(LabError(why));
            }
        }
        let nodes: Vec<String> = (1..=options.nodes).map(|i| format!("node-{i}")).collect();
        let ports = Ports::find(&nodes).map_err(io("no free ports"))?;
        said("writing certificates and configuration");
        layout::write(&dir, &options, &nodes, &ports).map_err(other("writing the lab's files"))?;
        // The unprivileged user may not be able to enter the folder where this program lies.
        let own = dir.join("quorate");
        std::fs::copy(program, &own).map_err(io("copying the program"))?;
        let mut state = State {
            options,
            user,
            ports,
            program: own,
            net: None,
            plane: None,
            agents: BTreeMap::new(),
            cut: vec![],
        };
        if let Some(user) = &state.user {
            process::give(&dir, user).map_err(io("giving the folder to the unprivileged user"))?;
        }
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755))
            .map_err(io(dir.display()))?;
        let links =
            serde_json::to_string(&state.ports.links).map_err(|e| LabError(e.to_string()))?;
        std::fs::write(dir.join("links.json"), links).map_err(io("links.json"))?;
        said("starting the network");
        let dir_text = dir.display().to_string();
        let mut lab = Self { dir, state: state.clone() };
        state.net = Some(lab.spawn(&["lab", "net", "--dir", &dir_text], "net.log")?);
        lab.state = state;
        lab.save()?;
        let started = if lab.state.options.agents { nodes } else { vec![] };
        for node in started {
            said(&format!("starting the agent of {node}"));
            lab.start_agent(&node)?;
        }
        if lab.state.options.plane {
            said("starting the plane");
            lab.start_plane()?;
        }
        Ok(lab)
    }

    /// Opens a lab that runs.
    ///
    /// # Errors
    /// [`LabError`] when there is none in `dir`.
    pub fn open(dir: &Path) -> Result<Self, LabError> {
        let missing = |e| {
            LabError(format!(
                "there is no lab in {} ({e}): make one with `quorate lab up --dir {}`",
                dir.display(),
                dir.display()
            ))
        };
        let text = std::fs::read_to_string(dir.join("lab.json")).map_err(missing)?;
        let state = serde_json::from_str(&text)
            .map_err(|e| LabError(format!("{}/lab.json is unreadable: {e}", dir.display())))?;
        Ok(Self { dir: dir.canonicalize().map_err(io(dir.display()))?, state })
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
    /// Its nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &String> {
        self.state.ports.agent.keys()
    }
    /// `host:port` of the plane.
    pub fn plane_address(&self) -> String {
        format!("127.0.0.1:{}", self.state.ports.plane)
    }
    /// The plane's pid, while it runs.
    pub fn plane_pid(&self) -> Option<u32> {
        self.state.plane.filter(|pid| process::is_ours(*pid, &self.dir))
    }
    /// The folder with an identity for people.
    pub fn identity(&self, person: &str) -> PathBuf {
        self.dir.join(person)
    }
    /// Where its clients write.
    pub fn target(&self) -> Target {
        Target { nodes: self.state.ports.postgres.clone(), simulated: self.state.options.simulated }
    }
    /// TCP ports of the databases.
    pub fn postgres_ports(&self) -> &BTreeMap<String, u16> {
        &self.state.ports.postgres
    }

    /// An event on two servers that nobody manages, with the programs of this lab.
    pub(super) async fn floor(&self, event: Event) -> Result<Report, LabError> {
        let options = &self.state.options;
        floor::once(&self.dir, options.postgres.as_deref(), self.state.user.clone(), event).await
    }

    /// Where routers ask `node` what it is.
    pub fn http_address(&self, node: &str) -> Option<String> {
        self.state.ports.http.get(node).map(|port| format!("127.0.0.1:{port}"))
    }

    fn save(&self) -> Result<(), LabError> {
        let text =
            serde_json::to_string_pretty(&self.state).map_err(|e| LabError(e.to_string()))?;
        host::write_durably(&self.dir.join("lab.json"), &text).map_err(io("lab.json"))
    }

    fn spawn(&self, args: &[&str], log: &str) -> Result<u32, LabError> {
        self.spawn_in(&[], args, log)
    }
    fn spawn_in(
        &self,
        environment: &[(&str, &str)],
        args: &[&str],
        log: &str,
    ) -> Result<u32, LabError> {
        let (program, log) = (&self.state.program, self.dir.join(log));
        process::start(program, args, self.state.user.as_ref(), &log, environment)
            .map_err(io("starting a process"))
    }

    /// Starts the agent of `node`, if it does not run.
    ///
    /// # Errors
    /// [`LabError`].
    pub fn start_agent(&mut self, node: &str) -> Result<(), LabError> {
        self.start_agent_in(&[], node)
    }

    /// The same with these variables in its environment, which what it starts inherits: for a
    /// library that makes a disk fail.
    ///
    /// # Errors
    /// [`LabError`].
    pub fn start_agent_in(
        &mut self,
        environment: &[(&str, &str)],
        node: &str,
    ) -> Result<(), LabError> {
        let node = self.known(node)?;
        if self.state.agents.get(&node).is_some_and(|pid| process::is_ours(*pid, &self.dir)) {
            return Ok(());
        }
        let config = self.dir.join(&node).join("agent.yaml").display().to_string();
        let arguments = ["agent", "--config", &config];
        let pid = self.spawn_in(environment, &arguments, &format!("{node}/agent.log"))?;
        self.state.agents.insert(node, pid);
        self.save()
    }

    /// Starts the plane, if it does not run.
    ///
    /// # Errors
    /// [`LabError`].
    pub fn start_plane(&mut self) -> Result<(), LabError> {
        if self.plane_pid().is_some() {
            return Ok(());
        }
        let config = self.dir.join("plane/plane.yaml").display().to_string();
        self.state.plane = Some(self.spawn(&["plane", "--config", &config], "plane.log")?);
        self.save()
    }

    /// Ends the plane at once (SIGKILL).
    ///
    /// # Errors
    /// [`LabError`].
    pub fn kill_plane(&mut self) -> Result<(), LabError> {
        if let Some(pid) = self.plane_pid() {
            host::signal(pid, Signal::KILL);
            wait_gone(&[pid], KILLED)?;
        }
        Ok(())
    }

    fn known(&self, node: &str) -> Result<String, LabError> {
        if self.state.ports.agent.contains_key(node) {
            return Ok(node.to_owned());
        }
        let near = crate::config::problem::nearest(node, self.nodes().map(String::as_str));
        let hint = near.map_or_else(String::new, |n| format!(" (did you mean {n:?}?)"));
        let known: Vec<_> = self.nodes().map(String::as_str).collect();
        Err(LabError(format!(
            "there is no node {node:?} in this lab: it has {}{hint}",
            known.join(", ")
        )))
    }

    fn data_dir(&self, node: &str) -> PathBuf {
        self.dir.join(node).join("data")
    }
    /// What its server works in, whatever the data directory is called now.
    fn folders(&self, node: &str) -> host::Folders {
        let recorded = crate::agent::ours::recorded(&self.dir.join(node).join("state"));
        let recorded = recorded.ok().flatten().map(|server| server.folder);
        host::FolderId::of(&self.data_dir(node)).into_iter().chain(recorded).collect()
    }
    fn agent_pid(&self, node: &str) -> Option<u32> {
        self.state.agents.get(node).copied().filter(|pid| process::is_ours(*pid, &self.dir))
    }
    fn guard_pid(&self, node: &str) -> Option<u32> {
        let state = self.dir.join(node).join("state");
        let pid = std::fs::read_to_string(state.join("guard.pid")).ok()?.trim().parse().ok()?;
        process::is_ours(pid, &self.dir).then_some(pid)
    }

    fn pids(&self, node: &str, what: What) -> Vec<u32> {
        let postgres = || {
            let data = self.data_dir(node);
            // The postmaster first: nothing new is started then.
            let rest = host::processes_in(&self.folders(node));
            host::postmaster(&data).into_iter().chain(rest).collect::<Vec<_>>()
        };
        match what {
            What::Postgres => postgres(),
            What::Agent => self.agent_pid(node).into_iter().collect(),
            What::Host => self
                .agent_pid(node)
                .into_iter()
                .chain(self.guard_pid(node))
                .chain(postgres())
                .collect(),
        }
    }

    /// Kills (SIGKILL). Of a database only the postmaster is killed, as a crash would; its backends
    /// end by themselves.
    ///
    /// # Errors
    /// [`LabError`].
    pub fn kill(&self, node: &str, what: What) -> Result<Vec<u32>, LabError> {
        let node = self.known(node)?;
        let pids = match what {
            What::Postgres => host::postmaster(&self.data_dir(&node)).into_iter().collect(),
            What::Agent | What::Host => self.pids(&node, what),
        };
        if pids.is_empty() {
            return Err(LabError(format!("nothing of that kind runs on {node}")));
        }
        for pid in &pids {
            host::signal(*pid, Signal::KILL);
        }
        wait_gone(&pids, KILLED)?;
        Ok(pids)
    }

    /// Freezes (SIGSTOP) or wakes (SIGCONT).
    ///
    /// # Errors
    /// [`LabError`].
    pub fn freeze(&self, node: &str, what: What, frozen: bool) -> Result<Vec<u32>, LabError> {
        let node = self.known(node)?;
        let pids = self.pids(&node, what);
        for pid in &pids {
            host::signal(*pid, if frozen { Signal::STOP } else { Signal::CONT });
        }
        Ok(pids)
    }

    /// Cuts a node off from everybody, the plane included; clients still reach its database.
    ///
    /// # Errors
    /// [`LabError`].
    pub fn cut(&mut self, node: &str) -> Result<(), LabError> {
        let node = self.known(node)?;
        self.tell_net(&format!("cut {node}"))?;
        self.state.cut.push(node);
        self.save()
    }

    /// Mends everything about a node: its network, a frozen process, a dead agent.
    ///
    /// # Errors
    /// [`LabError`].
    pub fn heal(&mut self, node: &str) -> Result<(), LabError> {
        let node = self.known(node)?;
        self.tell_net(&format!("heal {node}"))?;
        self.state.cut.retain(|n| *n != node);
        self.freeze(&node, What::Host, false)?;
        self.start_agent(&node)?;
        self.save()
    }

    fn tell_net(&self, line: &str) -> Result<(), LabError> {
        let failed =
            |e: std::io::Error| LabError(format!("the lab's network does not answer: {e}"));
        let mut stream =
            std::os::unix::net::UnixStream::connect(net::socket(&self.dir)).map_err(failed)?;
        writeln!(stream, "{line}").map_err(failed)?;
        let mut answer = String::new();
        std::io::BufReader::new(stream).read_line(&mut answer).map(|_| ()).map_err(failed)
    }

    /// Every node as it is now.
    pub fn status(&self) -> Vec<NodeState> {
        let node = |node: &String| {
            let data = self.data_dir(node);
            let postmaster = host::postmaster(&data);
            let role = match (postmaster, data.join("standby.signal").exists()) {
                (None, _) => "stopped",
                (Some(_), true) => "standby",
                (Some(_), false) => "primary",
            };
            NodeState {
                node_id: node.clone(),
                role: role.to_owned(),
                host: "127.0.0.1".to_owned(),
                postgres_port: self.state.ports.postgres[node],
                user: client::USER.to_owned(),
                agent_address: format!("127.0.0.1:{}", self.state.ports.agent[node]),
                http_address: self.http_address(node).unwrap_or_default(),
                pids: crate::model::observation::Pids {
                    agent: self.agent_pid(node).unwrap_or(0),
                    guard: self.guard_pid(node),
                    postmaster,
                },
                cut: self.state.cut.contains(node),
            }
        };
        self.nodes().map(node).collect()
    }

    /// The end of a process's log, for messages.
    pub fn last_words(&self, log: &str) -> String {
        let text = std::fs::read_to_string(self.dir.join(log)).unwrap_or_default();
        text.lines()
            .rev()
            .take(3)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// PostgreSQL's own immediate shutdown, for those that can: a killed server leaves its shared
    /// memory behind, nobody removes it once its folder is gone, and a host has 4,096 such segments
    /// (SHMMNI) before no database starts on it any more.
    fn end_servers(&self) {
        let mut all = host::processes::working_below(&self.dir, "postgres");
        // Where a volume was detached no path leads to its server, but its pid file does.
        for server in self.nodes().filter_map(|n| host::postmaster(&self.data_dir(n))) {
            all.push(server);
            all.extend(host::processes::children(server));
        }
        let first = |pid: &&u32| host::processes::parent(**pid).is_none_or(|p| !all.contains(&p));
        all.iter().filter(first).for_each(|pid| host::signal(*pid, Signal::QUIT));
        all.iter().for_each(|pid| host::signal(*pid, Signal::CONT));
        // What is left then is killed.
        let _ = wait_gone(&all, IMMEDIATE);
    }

    /// Ends every process of the lab, and removes its folder.
    ///
    /// # Errors
    /// [`LabError`] when something survives.
    pub fn down(self, keep: bool) -> Result<(), LabError> {
        let nodes: Vec<String> = self.nodes().cloned().collect();
        let mut pids: Vec<u32> = nodes.iter().flat_map(|n| self.pids(n, What::Agent)).collect();
        pids.extend(self.plane_pid());
        pids.extend(self.state.net.filter(|pid| process::is_ours(*pid, &self.dir)));
        // A frozen process does not end before it is woken; SIGKILL needs no waking.
        pids.extend(nodes.iter().filter_map(|n| self.guard_pid(n)));
        pids.iter().for_each(|pid| host::signal(*pid, Signal::KILL));
        self.end_servers();
        for node in &nodes {
            let server = host::postmaster(&self.data_dir(node)).and_then(host::Process::of);
            let until = host::now() + crate::model::Span::secs(5);
            let (_, remaining) = host::kill_all_in(&self.folders(node), server, until);
            pids.extend(remaining);
            let _ = std::fs::remove_file(guard::socket(&self.dir.join(node).join("state")));
        }
        // Servers whose folder was renamed or removed under them: all below here are the lab's.
        let strays = host::processes::working_below(&self.dir, "postgres");
        strays.iter().for_each(|pid| host::signal(*pid, Signal::KILL));
        pids.extend(strays);
        wait_gone(&pids, KILLED)?;
        if keep {
            let _ = std::fs::remove_file(self.dir.join("lab.json"));
            return Ok(());
        }
        std::fs::remove_dir_all(&self.dir).map_err(io(format!("removing {}", self.dir.display())))
    }
}

/// The kernel ends what was killed within so long.
const KILLED: Duration = Duration::from_secs(5);
/// PostgreSQL sends its children a kill after 5 s of an immediate shutdown.
const IMMEDIATE: Duration = Duration::from_secs(6);

fn wait_gone(pids: &[u32], limit: Duration) -> Result<(), LabError> {
    let until = Instant::now() + limit;
    while let Some(pid) = pids.iter().find(|pid| host::runs(**pid)) {
        if Instant::now() > until {
            return Err(LabError(format!("process {pid} does not end")));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
