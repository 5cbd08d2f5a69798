//! Fencing when the world is odd: the data directory of a live primary is renamed or removed, its
//! volume is moved, the guard cannot be started, an orphan keeps the port. With no synchronous
//! standby only the fence keeps two nodes from acknowledging at once.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use quorate::agent::host::{self, FolderId, Process};
use quorate::engine::PersonOrder;
use quorate::lab::{Options, What};
use quorate::model::plan::Proposal;
use quorate::model::{NodeId, WallTime};
use quorate::wire::message::{CallReply, CallRequest};
use rustix::process::Signal;

use crate::plane::Load;
use crate::{Cluster, free_port, quick};

/// Commits wait for nobody.
fn asynchronous() -> Options {
    Options { synchronous_standbys: 0, ..quick() }
}

/// Waits for a condition of this host.
pub(crate) fn comes_true(what: &str, seconds: u64, holds: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(seconds);
    while !holds() {
        assert!(Instant::now() < end, "waited {seconds} s for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Cluster {
    pub(crate) fn node(&self, node: &str) -> PathBuf {
        self.folder.path().join("lab").join(node)
    }
    pub(crate) fn server(&self, node: &str) -> Process {
        let state = self.node(node).join("state");
        quorate::agent::ours::recorded(&state).unwrap().expect("the server is recorded").process
    }
    /// A person moves the role away from `from`, whatever it costs: nobody can say what the lost
    /// primary acknowledged alone.
    pub(crate) fn move_away(&self, from: &str) {
        let key = self.identity.approval_key.as_ref().unwrap();
        let key = std::fs::read_to_string(key).unwrap();
        let key = quorate::access::ApprovalKey::from_hex(&key).unwrap();
        let order = |order| self.runtime.block_on(self.client.call(&CallRequest::Order(order)));
        let end = Instant::now() + Duration::from_secs(60);
        let mut last = String::new();
        loop {
            assert!(Instant::now() < end, "the role stays on {from}: {last}");
            std::thread::sleep(Duration::from_millis(50));
            let view = self.until("the picture", 10, |_| true);
            if view.primary.as_ref().is_some_and(|p| p.as_str() != from) {
                return;
            }
            let propose = PersonOrder::Propose(Proposal {
                reason: "its server is lost".into(),
                accept_unknown_loss: true,
                ..Proposal::default()
            });
            let (digest, plan) = match order(propose) {
                Ok(CallReply::Plan { digest, plan }) => (digest, plan),
                other => {
                    last = format!("{other:?}");
                    continue;
                }
            };
            let expires = WallTime(host::wall().0 + 60_000);
            let approval =
                key.approve(digest.clone(), &self.identity.name, "lost", expires).unwrap();
            let demoted = plan.demoted().map_or(String::new(), |n| n.as_str().into());
            last = format!("{:?}", order(PersonOrder::Execute { plan: digest, demoted, approval }));
        }
    }
}

fn ends(cluster: &Cluster, load: Load) -> quorate::lab::load::Report {
    load.reach(200);
    let report = load.end(cluster);
    println!("{report:?}");
    report
}

fn edit(path: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{from:?} is not in {}", path.display());
    std::fs::write(path, text.replacen(from, to, 1)).unwrap();
}

/// 74 writes were acknowledged after the new epoch's first: nothing was found by the name.
fn a_data_directory_vanishes(vanish: impl FnOnce(&mut Cluster, &Path)) {
    let mut cluster = Cluster::start(asynchronous());
    cluster.calm_at("node-1");
    let data = cluster.node("node-1").join("data");
    let (folder, server) = (FolderId::of(&data).unwrap(), cluster.server("node-1"));
    let load = cluster.load();
    vanish(&mut cluster, &data);
    comes_true("the server to be ended", 30, || !server.still_runs());
    cluster.move_away("node-1");
    let report = ends(&cluster, load);
    assert_eq!(report.overlaps, 0, "two nodes acknowledged at once: {report:?}");
    let remain = host::processes_in(&[folder].into());
    assert!(remain.is_empty(), "{remain:?} still work in the vanished folder");
}

#[test]
fn the_data_directory_of_a_live_primary_is_renamed() {
    a_data_directory_vanishes(|_, data| {
        std::fs::rename(data, data.with_file_name("elsewhere")).unwrap();
    });
}

#[test]
fn the_data_directory_of_a_live_primary_is_removed_and_its_agent_starts_again() {
    a_data_directory_vanishes(|cluster, data| {
        cluster.lab().kill("node-1", What::Agent).unwrap();
        // The server goes on making files meanwhile.
        while data.exists() {
            let _ = std::fs::remove_dir_all(data);
        }
        cluster.lab().start_agent("node-1").unwrap();
    });
}

/// The volume was moved and the file edited while the server ran: the adopted guard guarded a path
/// that led nowhere, and with the agent frozen two nodes acknowledged at once.
#[test]
fn a_guard_follows_a_volume_that_was_moved() {
    let mut cluster = Cluster::start(Options { lease_ms: 10_000, ..asynchronous() });
    cluster.calm_at("node-1");
    let (node, server) = (cluster.node("node-1"), cluster.server("node-1"));
    let load = cluster.load();
    cluster.lab().kill("node-1", What::Agent).unwrap();
    std::fs::rename(node.join("data"), node.join("volume")).unwrap();
    edit(&node.join("agent.yaml"), "data_dir: data\n", "data_dir: volume\n");
    cluster.lab().start_agent("node-1").unwrap();
    let agent = cluster.lab().status()[0].pids.agent;
    let armed_anew = |v: &quorate::model::view::ClusterView| {
        let one = v.nodes.iter().find(|n| n.node.as_str() == "node-1");
        one.and_then(|n| n.report.as_ref()).is_some_and(|r| {
            r.pids.agent == agent && r.holding.is_some() && r.pids.postmaster == Some(server.pid)
        })
    };
    cluster.until("the restarted agent holds the role with its server", 30, armed_anew);
    cluster.lab().freeze("node-1", What::Agent, true).unwrap();
    cluster.move_away("node-1");
    let report = ends(&cluster, load);
    assert_eq!(report.overlaps, 0, "two nodes acknowledged at once: {report:?}");
    assert!(!server.still_runs(), "the guard did not end it");
    cluster.lab().heal("node-1").unwrap();
}

/// The file names another directory than the one the server runs in: that server is ended first.
#[test]
fn a_server_in_another_directory_than_the_configured_one_is_ended() {
    let mut cluster = Cluster::start(asynchronous());
    cluster.calm_at("node-1");
    let (node, server) = (cluster.node("node-1"), cluster.server("node-1"));
    let load = cluster.load();
    cluster.lab().kill("node-1", What::Agent).unwrap();
    edit(&node.join("agent.yaml"), "data_dir: data\n", "data_dir: other\n");
    cluster.lab().start_agent("node-1").unwrap();
    comes_true("the old server to be ended", 30, || !server.still_runs());
    cluster.move_away("node-1");
    let report = ends(&cluster, load);
    assert_eq!(report.overlaps, 0, "two nodes acknowledged at once: {report:?}");
    // And it follows, in the new place.
    cluster.calm();
    assert!(node.join("other/PG_VERSION").exists());
}

/// A person starts a node's own directory on another port, writable, while no agent is there: nobody
/// who looks at the node's port sees it.
#[test]
fn our_directory_started_by_hand_on_another_port_is_ended() {
    let mut cluster = Cluster::start(quick());
    cluster.calm_at("node-1");
    cluster.ok("node-1", "create table elsewhere(i int)");
    cluster.client_sees("the table", 20, || cluster.ask("node-3", "table elsewhere").is_ok());
    cluster.lab().kill("node-3", What::Host).unwrap();
    let data = cluster.node("node-3").join("data");
    for name in ["postmaster.pid", "standby.signal"] {
        let _ = std::fs::remove_file(data.join(name));
    }
    let port = free_port();
    let folder = data.display().to_string();
    let log = format!("{folder}/by-hand.log");
    let line = format!("-p {port} -c unix_socket_directories={folder}");
    cluster.postgres("pg_ctl", &["-D", &folder, "-l", &log, "-o", &line, "-w", "start"]);
    let insert = format!(
        "host=127.0.0.1 port={port} user=postgres dbname=postgres options='-c \
         synchronous_commit=local'"
    );
    let write =
        || cluster.postgres_tries("psql", &[&insert, "-c", "insert into elsewhere values (1)"]);
    let (done, said) = write();
    assert!(done, "{said}");
    cluster.lab.as_mut().unwrap().start_agent("node-3").unwrap();
    comes_true("nobody to answer there", 30, || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_err()
    });
    cluster.lab().heal("node-3").unwrap();
    cluster.calm();
    assert_eq!(cluster.count("node-3", "elsewhere"), 0, "what it took alone is a fork");
    let forks = std::fs::read_dir(cluster.node("node-3").join("state/forks"));
    assert!(forks.is_ok_and(|mut f| f.next().is_some()), "and is kept");
}

/// While a guard could not be started the agent waited for it, in its only loop, for longer than
/// the lease.
#[test]
fn without_a_guard_a_primary_that_is_cut_off_still_ends_in_time() {
    let mut cluster = Cluster::start(asynchronous());
    cluster.calm_at("node-1");
    let (state, server) = (cluster.node("node-1").join("state"), cluster.server("node-1"));
    let load = cluster.load();
    let guard = cluster.lab().status()[0].pids.guard.unwrap();
    // Nothing can be bound there.
    let socket = state.join("guard.sock");
    std::fs::remove_file(&socket).unwrap();
    std::fs::create_dir_all(socket.join("x")).unwrap();
    host::signal(guard, Signal::KILL);
    cluster.lab().cut("node-1").unwrap();
    cluster.move_away("node-1");
    let report = ends(&cluster, load);
    assert_eq!(report.overlaps, 0, "two nodes acknowledged at once: {report:?}");
    assert!(!server.still_runs());
    std::fs::remove_dir_all(&socket).unwrap();
    cluster.lab().heal("node-1").unwrap();
    cluster.calm();
}

/// At most one lease is held unguarded; the reason is on every screen.
#[test]
fn a_primary_without_a_guard_lets_its_lease_run_out() {
    let mut cluster = Cluster::start(quick());
    cluster.calm_at("node-1");
    let socket = cluster.node("node-1").join("state/guard.sock");
    let load = cluster.load();
    let guard = cluster.lab().status()[0].pids.guard.unwrap();
    std::fs::remove_file(&socket).unwrap();
    std::fs::create_dir_all(socket.join("x")).unwrap();
    host::signal(guard, Signal::KILL);
    let one = |v: &quorate::model::view::ClusterView,
               of: fn(&quorate::model::observation::NodeReport) -> bool| {
        let node = v.nodes.iter().find(|n| n.node.as_str() == "node-1");
        node.and_then(|n| n.report.as_ref()).is_some_and(of)
    };
    cluster.until("the reason to be shown", 20, |v| one(v, |r| r.complaint.contains("no guard: ")));
    cluster.until("another node takes the role", 60, |v| {
        v.primary.as_ref().is_some_and(|p| *p != NodeId::new("node-1"))
            && v.run.as_ref().is_some_and(|r| r.outcome.is_some())
    });
    crate::nothing_lost(&ends(&cluster, load));
    std::fs::remove_dir_all(&socket).unwrap();
    cluster.calm();
}

/// A process of a standby's server that outlived it and kept its port: every start failed until it
/// ended by itself, 50 s later.
#[test]
fn an_orphan_that_keeps_the_port_is_ended_before_a_start() {
    let mut cluster = Cluster::start(quick());
    cluster.calm();
    let server = cluster.server("node-3");
    let port = cluster.lab().postgres_ports()["node-3"];
    // A child of the server's group, in another folder, that holds the port: as one that was forked
    // at the moment of the kill does.
    cluster.lab().kill("node-3", What::Agent).unwrap();
    let orphan = orphan_of(&cluster, server, port);
    cluster.lab().start_agent("node-3").unwrap();
    comes_true("the orphan to be ended", 30, || !orphan.still_runs());
    let follows = |v: &quorate::model::view::ClusterView| {
        let three = v.nodes.iter().find(|n| n.node.as_str() == "node-3");
        three.and_then(|n| n.report.as_ref()).is_some_and(|r| {
            r.pids.postmaster.is_some_and(|pid| pid != server.pid)
                && r.resource.receiving_from.is_some()
        })
    };
    cluster.until("the standby to follow again", 30, follows);
}

/// Kills the server and starts a process in its group that listens on its port.
fn orphan_of(cluster: &Cluster, server: Process, port: u16) -> Process {
    let script = format!(
        "import os,signal,socket,time\n\
         os.setpgid(0, {group})\n\
         os.kill({group}, signal.SIGKILL)\n\
         s = socket.socket()\n\
         s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n\
         while True:\n\
         \x20   try:\n\
         \x20       s.bind(('127.0.0.1', {port})); break\n\
         \x20   except OSError: time.sleep(0.001)\n\
         s.listen()\n\
         open('/proc/self/comm', 'w').write('listens')\n\
         time.sleep(600)\n",
        group = server.pid
    );
    let mut command = std::process::Command::new("python3");
    command.arg("-c").arg(script).current_dir("/");
    if let Some(user) = quorate::lab::User::unprivileged() {
        std::os::unix::process::CommandExt::uid(&mut command, user.uid);
        std::os::unix::process::CommandExt::gid(&mut command, user.gid);
    }
    let mut child = command.spawn().unwrap();
    let pid = child.id();
    std::thread::spawn(move || child.wait());
    let comm = format!("/proc/{pid}/comm");
    comes_true("the orphan listens", 20, || {
        std::fs::read_to_string(&comm).is_ok_and(|name| name.trim() == "listens")
    });
    assert!(cluster.folder.path().exists());
    Process::of(pid).unwrap()
}
