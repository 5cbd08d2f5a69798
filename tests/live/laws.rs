//! What a plane says beside what the host shows, in every live test: *stopped*, *fenced* and
//! *healthy* (the cluster and each node) are compared with processes and control files, without a
//! connection to any database; *none (proved)* with what an independent client wrote (`ledger`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use quorate::config::Identity;
use quorate::lab::measure;
use quorate::model::loss::FenceRung;
use quorate::model::observation::{NodeReport, ResourceState};
use quorate::model::topology::Role;
use quorate::model::view::{ClusterState, ClusterView, NodeView, Verdict};
use quorate::model::{Digest, NodeId};
use quorate::wire::Client;
use quorate::wire::message::{CallReply, CallRequest};

use crate::ledger::Ledger;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(250);
/// A word is taken up, and a report is on its way, for so long at most on a busy machine.
const SLACK: Duration = Duration::from_secs(1);
/// The kernel tells a process's start in hundredths of a second (`proc(5)`) since a boot that it
/// tells in whole seconds.
const USER_HZ: u64 = 100;
const CLOCKS: Duration = Duration::from_secs(2);
/// "Healthy" without a primary, or without its own server, for so long is not so, by whatever clock.
const HEALTHY_MAX: Duration = Duration::from_secs(5);

/// Looks until it is ended.
pub struct Laws {
    end: Arc<AtomicBool>,
    quiet: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Vec<String>>,
}

impl Laws {
    /// Begins to look at the lab in that folder.
    pub fn watch(identity: &Identity, lab: PathBuf, ports: BTreeMap<String, u16>) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let quiet = Arc::new(AtomicBool::new(false));
        let (ended, no_client, identity) = (end.clone(), quiet.clone(), identity.clone());
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let client = Client::new(&identity.plane, "plane", &identity.tls).unwrap();
                let (mut eyes, mut ledger) = (Eyes::default(), Ledger::new(ports));
                while !ended.load(Ordering::Relaxed) {
                    let asked = measure::picture(&client);
                    if let Ok(Ok(view)) = tokio::time::timeout(SLACK, asked).await {
                        eyes.compare(&lab, &view);
                        if !no_client.load(Ordering::Relaxed) {
                            ledger.look(&view);
                        }
                    }
                    tokio::time::sleep(LOOK).await;
                }
                // Whoever is down at the end of a test is not asked.
                let audit = CallRequest::Audit { first: 1, limit: 10_000 };
                if let Ok(Ok(CallReply::Audit { records, .. })) =
                    tokio::time::timeout(SLACK, client.call(&audit)).await
                {
                    ledger.read(&records);
                }
                eyes.broken.extend(ledger.broken().await);
                eyes.broken
            })
        });
        Self { end, quiet, thread }
    }

    /// For a test that rests on a log in which nobody writes.
    pub fn without_client(&self) {
        self.quiet.store(true, Ordering::Relaxed);
    }

    /// What was said and was not so.
    pub fn broken(self) -> Vec<String> {
        self.end.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|_| vec!["the laws were not looked at".into()])
    }
}

#[derive(Default)]
struct Eyes {
    /// Since when the cluster is called healthy and no database is open for writing.
    writerless: Option<Instant>,
    /// Since when a node is called healthy and has no server.
    serverless: BTreeMap<NodeId, Instant>,
    /// The server that was open for writing last, of each node.
    writers: BTreeMap<NodeId, (u32, SystemTime)>,
    /// Moves whose fence was looked at, and the server that each says is stopped.
    fenced: BTreeMap<Digest, Option<(NodeId, u32)>>,
    broken: Vec<String>,
}

impl Eyes {
    fn compare(&mut self, lab: &Path, view: &ClusterView) {
        self.note_fence(view);
        let (mut open, mut serverless) = (false, BTreeMap::new());
        for node in &view.nodes {
            let data = data_dir(&lab.join(node.node.as_str()));
            let runs = postmaster(&data);
            if let Some(server) = runs
                && in_production(&data)
            {
                open = true;
                // A server that starts has not replaced yet what the one before it left there.
                let it_says = |r: &NodeReport| {
                    r.pids.postmaster == Some(server.0)
                        && r.resource.state == ResourceState::Primary
                };
                if node.report.as_ref().is_some_and(it_says) {
                    self.writers.insert(node.node.clone(), server);
                }
            }
            if runs.is_none() && node.verdict == Verdict::Healthy && node.declared != Role::Witness
            {
                let since = self.serverless.get(&node.node).copied();
                serverless.insert(node.node.clone(), since.unwrap_or_else(Instant::now));
            }
            self.compare_stopped(node, runs);
        }
        self.serverless = serverless;
        for (node, since) in self.serverless.clone() {
            if since.elapsed() > HEALTHY_MAX {
                self.note(format!("{node} is called healthy, and has no server"));
            }
        }
        if open || view.state != ClusterState::Healthy {
            self.writerless = None;
        } else if self.writerless.get_or_insert_with(Instant::now).elapsed() > HEALTHY_MAX {
            self.note("the cluster is called healthy, and no database is open for writing".into());
        }
    }

    fn compare_stopped(&mut self, node: &NodeView, runs: Option<(u32, SystemTime)>) {
        // One whose folder was renamed or removed is not found by its name any more.
        let writer = self.writers.get(&node.node).copied();
        let writer = writer.filter(|(pid, since)| started(*pid) == Some(*since));
        let (Some(report), Some((pid, since))) = (&node.report, writer.or(runs)) else { return };
        if self.fenced.values().flatten().any(|(n, old)| (n, *old) == (&node.node, pid)) {
            self.note(format!(
                "a move says fenced: {} stopped, and its process {pid} runs",
                node.node
            ));
        }
        let ResourceState::Stopped(evidence) = &report.resource.state else { return };
        let said = UNIX_EPOCH + Duration::from_millis(evidence.at.0.unsigned_abs());
        if evidence.how != "empty" && since + CLOCKS < said {
            self.note(format!(
                "{} says stopped ({}) at {}, and its process {pid} runs since before",
                node.node,
                evidence.how,
                evidence.at.rfc3339()
            ));
        }
    }

    /// Which server a move's fence says is stopped: the one that was seen writing there last.
    fn note_fence(&mut self, view: &ClusterView) {
        let Some(run) = view.run.as_ref().filter(|r| r.fence == Some(FenceRung::Stopped)) else {
            return;
        };
        let Some(from) = run.body.from.as_ref().map(|m| &m.node) else { return };
        let same = *from == run.body.to.node;
        let writer = self.writers.get(from).filter(|_| !same).map(|(pid, _)| (from.clone(), *pid));
        self.fenced.entry(run.plan.clone()).or_insert(writer);
    }

    fn note(&mut self, what: String) {
        if !self.broken.contains(&what) {
            self.broken.push(what);
        }
    }
}

/// Where the node's own file says that its data is.
fn data_dir(node: &Path) -> PathBuf {
    let text = std::fs::read_to_string(node.join("agent.yaml")).unwrap_or_default();
    let named = text.lines().find_map(|line| line.trim().strip_prefix("data_dir: "));
    node.join(named.unwrap_or("data"))
}

/// The server of that folder, and since when it runs.
fn postmaster(data: &Path) -> Option<(u32, SystemTime)> {
    let file = std::fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let pid: u32 = file.lines().next()?.parse().ok()?;
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let folder = data.as_os_str().as_encoded_bytes();
    if !command.split(|b| *b == 0).any(|argument| argument == folder) {
        return None;
    }
    Some((pid, started(pid)?))
}

/// Since when that process runs.
fn started(pid: u32) -> Option<SystemTime> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let after: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = after.get(19)?.parse().ok()?;
    let booted: u64 = std::fs::read_to_string("/proc/stat")
        .ok()?
        .lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()?;
    let since = UNIX_EPOCH + Duration::from_secs(booted + ticks / USER_HZ);
    (*after.first()? != "Z").then_some(since)
}

/// `DBState` of the control file (`pg_control.h`).
fn in_production(data: &Path) -> bool {
    let control = std::fs::read(data.join("global/pg_control")).unwrap_or_default();
    control.get(16..20).is_some_and(|state| state == 6_i32.to_ne_bytes())
}

/// System V shared memory of the servers that run in this lab, as their pid files name it (line 7).
pub fn memory_of_servers(lab: &Path) -> BTreeSet<u64> {
    let of = |node: &str| {
        let data = lab.join(node).join("data");
        postmaster(&data)?;
        let text = std::fs::read_to_string(data.join("postmaster.pid")).ok()?;
        text.lines().nth(6)?.split_whitespace().nth(1)?.parse().ok()
    };
    crate::NODES.iter().filter_map(|node| of(node)).collect()
}

/// All that exist on this host (`proc(5)`).
pub fn memory_segments() -> BTreeSet<u64> {
    let table = std::fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    let id = |line: &str| line.split_whitespace().nth(1)?.parse().ok();
    table.lines().skip(1).filter_map(id).collect()
}
