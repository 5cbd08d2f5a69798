//! A voter's own store: no room, and a disk that fails. What cannot be saved is not said.

use std::path::{Path, PathBuf};
use std::process::Command;

use quorate::lab::What;
use quorate::model::Span;
use quorate::model::observation::NodeReport;
use quorate::model::view::{ClusterState, ClusterView, Verdict};

use crate::fencing::comes_true;
use crate::{Cluster, nothing_lost, quick};

fn report<'a>(view: &'a ClusterView, node: &str) -> Option<&'a NodeReport> {
    view.nodes.iter().find(|n| n.node.as_str() == node).and_then(|n| n.report.as_ref())
}

fn run(program: &str, arguments: &[&str]) {
    let done = Command::new(program).args(arguments).output().unwrap();
    assert!(done.status.success(), "{program} {arguments:?}: {done:?}");
}

/// A small disk under a folder, until the test ends.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// With what the folder held.
    fn under(folder: &Path) -> Self {
        let kept = folder.with_extension("kept");
        std::fs::rename(folder, &kept).unwrap();
        std::fs::create_dir(folder).unwrap();
        let text = folder.to_str().unwrap();
        run("mount", &["-t", "tmpfs", "-o", "size=2m", "tmpfs", text]);
        let disk = Self(folder.to_owned());
        run("cp", &["-a", &format!("{}/.", kept.display()), text]);
        disk
    }
    fn fill(&self) {
        use std::io::Write as _;
        let mut file = std::fs::File::create(self.0.join("ballast")).unwrap();
        while file.write_all(&[7; 4096]).is_ok() {}
    }
    fn make_room(&self) {
        std::fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        run("umount", &["-l", self.0.to_str().unwrap()]);
    }
}

fn with_small_disk(node: &str) -> (Cluster, SmallDisk) {
    let mut cluster = Cluster::start(quick());
    cluster.calm();
    cluster.lab().kill(node, What::Host).unwrap();
    // Else the picture of before would be taken for that of after.
    cluster.until("its end is seen", 30, |v| {
        v.nodes.iter().any(|n| n.node.as_str() == node && n.verdict >= Verdict::Suspect)
    });
    let disk = SmallDisk::under(&cluster.node(node).join("state"));
    cluster.lab().heal(node).unwrap();
    cluster.until("it follows and votes again, or leads", 60, |v| {
        report(v, node).is_some_and(|r| r.vote.votes) && quorate::lab::measure::is_calm(v)
    });
    (cluster, disk)
}

/// Everything was green, and when the primary's host died nobody could be elected: ten epochs in
/// half a minute, and the reason in one agent's log only.
#[test]
fn a_voter_without_room_is_out_of_reach_and_says_so_before_it_is_needed() {
    let (mut cluster, disk) = with_small_disk("node-3");
    let before = cluster.calm();
    disk.fill();
    let shown = cluster.until("the reason on the screen", 20, |v| {
        let room = |r: &NodeReport| r.rooms.iter().any(|r| r.what == "state" && r.free < 128 << 10);
        v.state == ClusterState::Degraded
            && v.why.contains("node-3 has no vote")
            && report(v, "node-3").is_some_and(room)
    });
    let three = report(&shown, "node-3").unwrap();
    assert!(!three.vote.votes && three.complaint.contains("Make room there"), "{three:?}");
    // Now it is needed: nobody is elected, and no epoch is used up in trying.
    let load = cluster.load();
    let primary = before.primary.clone().unwrap();
    cluster.lab().kill(primary.as_str(), What::Host).unwrap();
    let free = |v: &ClusterView| {
        v.state == ClusterState::Critical
            && report(v, "node-2").is_some_and(|r| r.vote.lease_left == Span::ZERO)
    };
    let waiting = cluster.until("the primary to be gone, and nothing promised to it", 30, free);
    assert_eq!(waiting.epoch, before.epoch, "nobody can be elected");
    disk.make_room();
    let after = cluster.until("a new primary without help", 60, |v| {
        v.primary.as_ref().is_some_and(|p| *p != primary)
            && v.run.as_ref().is_some_and(|r| r.outcome.is_some())
    });
    assert!(after.epoch.0 <= before.epoch.0 + 2, "{} after {}", after.epoch, before.epoch);
    load.reach(200);
    nothing_lost(&load.end(&cluster));
    cluster.lab().heal(primary.as_str()).unwrap();
    cluster.calm();
}

/// A majority without itself carries it; it says that it has to be moved, and can be.
#[test]
fn a_holder_without_room_keeps_the_role_and_asks_to_be_moved() {
    let (mut cluster, disk) = with_small_disk("node-1");
    let view = cluster.calm_at("node-1");
    let load = cluster.load();
    disk.fill();
    let asks = |v: &ClusterView| {
        v.state == ClusterState::Degraded
            && v.why.contains("node-1 has no vote")
            && v.why.contains("asks to be moved")
    };
    cluster.until("it asks to be moved", 20, asks);
    let carried = |v: &ClusterView| {
        let held = report(v, "node-1").and_then(|r| r.holding.as_ref());
        held.is_some_and(|h| h.promised_by.len() == 2)
    };
    cluster.until("the others carry it", 20, carried);
    load.reach(400);
    assert_eq!(cluster.until("the picture", 10, |_| true).epoch, view.epoch, "it kept the role");
    cluster.runs(&["switchover", "--confirm", "node-1"]);
    cluster.until("another node leads", 60, |v| {
        v.primary.as_ref().is_some_and(|p| p.as_str() != "node-1")
            && v.run.as_ref().is_some_and(|r| r.outcome.is_some())
    });
    load.reach(200);
    nothing_lost(&load.end(&cluster));
    disk.make_room();
    cluster.calm();
}

/// Makes every write and flush below a folder fail with EIO while a file exists.
const FAILING_DISK: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>
static int fails(int fd) {
    const char *flag = getenv("FAIL_WHILE"), *below = getenv("FAIL_BELOW");
    char link[64], path[4096];
    if (!flag || !below || access(flag, F_OK)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return strncmp(path, below, strlen(below)) == 0 && strstr(path, ".sqlite");
}
#define WRAP(type, name, arguments, ...) \
    type name arguments { \
        static type (*real) arguments; \
        if (fails(fd)) { errno = EIO; return -1; } \
        if (!real) real = (type (*) arguments) dlsym(RTLD_NEXT, #name); \
        return real(__VA_ARGS__); \
    }
WRAP(int, fsync, (int fd), fd)
WRAP(int, fdatasync, (int fd), fd)
WRAP(ssize_t, write, (int fd, const void *b, size_t n), fd, b, n)
WRAP(ssize_t, pwrite, (int fd, const void *b, size_t n, off_t o), fd, b, n, o)
WRAP(ssize_t, pwrite64, (int fd, const void *b, size_t n, off64_t o), fd, b, n, o)
"#;

/// A voter whose store failed withheld the first answer and gave the second; restarted, it had
/// forgotten its vote.
#[test]
fn a_voter_whose_disk_fails_ends_and_votes_again_only_from_a_new_file() {
    let mut cluster = Cluster::start(quick());
    cluster.calm();
    let node = cluster.node("node-3");
    let (source, library) = (node.join("fails.c"), node.join("fails.so"));
    std::fs::write(&source, FAILING_DISK).unwrap();
    let (from, to) = (source.to_str().unwrap(), library.to_str().unwrap());
    run("cc", &["-shared", "-fPIC", "-w", "-o", to, from, "-ldl"]);
    let (flag, below) = (node.join("disk-fails"), node.join("state"));
    let environment = [
        ("LD_PRELOAD", to),
        ("FAIL_WHILE", flag.to_str().unwrap()),
        ("FAIL_BELOW", below.to_str().unwrap()),
    ];
    cluster.lab().kill("node-3", What::Agent).unwrap();
    cluster.lab().start_agent_in(&environment, "node-3").unwrap();
    let agent = cluster.lab().status()[2].pids.agent;
    cluster.until("the restarted agent to be heard", 30, |v| {
        quorate::lab::measure::is_calm(v)
            && report(v, "node-3").is_some_and(|r| r.pids.agent == agent && r.vote.votes)
    });
    cluster.calm_at("node-1");
    let load = cluster.load();
    std::fs::write(&flag, "").unwrap();
    cluster.runs(&["switchover", "--to", "node-2", "--confirm", "node-1"]);
    comes_true("the agent to end", 30, || !quorate::agent::host::runs(agent));
    let log = std::fs::read_to_string(node.join("agent.log")).unwrap();
    assert!(log.contains("so this process ends"), "{log}");
    cluster
        .until("node-2 leads", 60, |v| v.primary.as_ref().is_some_and(|p| p.as_str() == "node-2"));
    // Started again on the same disk: it serves, without a vote.
    let inode = |name: &str| {
        use std::os::unix::fs::MetadataExt as _;
        std::fs::metadata(below.join(name)).unwrap().ino()
    };
    let before = inode("agent.sqlite");
    cluster.lab().start_agent_in(&environment, "node-3").unwrap();
    cluster.until("it has no vote", 30, |v| v.why.contains("node-3 has no vote"));
    assert_eq!(inode("agent.sqlite"), before);
    std::fs::remove_file(&flag).unwrap();
    cluster.until("it votes again", 30, |v| report(v, "node-3").is_some_and(|r| r.vote.votes));
    assert_ne!(inode("agent.sqlite"), before, "written whole to a new file");
    cluster.calm();
    load.reach(200);
    nothing_lost(&load.end(&cluster));
}

/// The open file took every promise, and no process that starts later would have read one.
#[test]
fn a_store_that_is_deleted_under_its_agent_is_written_anew() {
    deleted_under_its_agent(&["agent.sqlite", "agent.sqlite-wal", "agent.sqlite-shm"]);
}

/// The file alone says what was true at the last checkpoint.
#[test]
fn a_stores_log_that_is_deleted_under_its_agent_is_written_anew() {
    deleted_under_its_agent(&["agent.sqlite-wal"]);
}

fn deleted_under_its_agent(files: &[&str]) {
    let mut cluster = Cluster::start(quick());
    cluster.calm_at("node-1");
    let stores = ["node-1", "node-2", "node-3"].map(|node| cluster.dir(node).join("state"));
    for folder in &stores {
        for name in files {
            let _ = std::fs::remove_file(folder.join(name));
        }
    }
    comes_true("every store is there again", 20, || {
        stores.iter().all(|folder| folder.join(files[0]).exists())
    });
    cluster.calm();
    cluster.ok("node-1", "create table acked as select generate_series(1,55)");
    for node in ["node-1", "node-2", "node-3"] {
        cluster.lab().kill(node, What::Host).unwrap();
    }
    for node in ["node-1", "node-2", "node-3"] {
        cluster.lab().heal(node).unwrap();
    }
    // What its store remembers: the epochs go on.
    let view = cluster.until("another epoch", 90, |v| {
        quorate::lab::measure::is_calm(v) && v.epoch > quorate::model::Epoch(2)
    });
    let primary = view.primary.unwrap().to_string();
    assert_eq!(cluster.count(&primary, "acked"), 55);
}

/// Nobody remembers an epoch, and the data was written in one.
#[test]
fn nothing_is_founded_on_data_of_an_epoch_that_nobody_remembers() {
    let mut cluster = Cluster::start(quick());
    cluster.calm_at("node-1");
    for node in ["node-1", "node-2", "node-3"] {
        cluster.lab().kill(node, What::Host).unwrap();
        let state = cluster.dir(node).join("state");
        for name in ["agent.sqlite", "agent.sqlite-wal", "agent.sqlite-shm"] {
            let _ = std::fs::remove_file(state.join(name));
        }
    }
    for node in ["node-1", "node-2", "node-3"] {
        cluster.lab().heal(node).unwrap();
    }
    let view = cluster.until("the founder says why not", 40, |v| {
        report(v, "node-1").is_some_and(|r| r.complaint.contains("nothing is founded"))
    });
    assert_eq!(view.primary, None, "{}", view.why);
}
