//! Processes of this host, told apart by what cannot be renamed: a process by its id and the moment
//! it started, a data directory by its device and inode. `/proc/PID/cwd` leads to the inode itself,
//! also after the directory was renamed, replaced or removed.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

use crate::model::Timestamp;

/// A folder by what it is and not by its name. The moment of its making keeps apart two folders
/// that were given the same inode, one after the other (0 where the file system does not say).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct FolderId {
    /// Device.
    pub dev: u64,
    /// Inode.
    pub ino: u64,
    /// When it was made, in nanoseconds of the wall clock.
    pub born: u64,
}

/// Folders, by what they are.
pub type Folders = BTreeSet<FolderId>;

impl FolderId {
    /// Of what `path` leads to now.
    ///
    /// # Errors
    /// When it leads nowhere, or the disk does not say.
    pub fn of(path: &Path) -> std::io::Result<Self> {
        let found = std::fs::metadata(path)?;
        let born = found.created().ok();
        let born = born.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        let born = born.and_then(|since| u64::try_from(since.as_nanos()).ok()).unwrap_or(0);
        Ok(Self { dev: found.dev(), ino: found.ino(), born })
    }
}

impl std::fmt::Display for FolderId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.dev, self.ino, self.born)
    }
}

impl std::str::FromStr for FolderId {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not DEVICE:INODE:BORN");
        let mut parts = text.split(':').map(|part| part.parse::<u64>().map_err(|_| wrong()));
        let mut next = || parts.next().unwrap_or_else(|| Err(wrong()));
        let id = Self { dev: next()?, ino: next()?, born: next()? };
        if parts.next().is_some() { Err(wrong()) } else { Ok(id) }
    }
}

/// What `/proc/PID/stat` says of a process.
pub(super) struct Stat {
    state: char,
    parent: u32,
    group: u32,
    started: u64,
}

impl Stat {
    pub(super) fn waits_for_disk(&self) -> bool {
        self.state == 'D'
    }
}

pub(super) fn stat(raw: u32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{raw}/stat")).ok()?;
    // The name in parentheses may hold anything.
    let (_, rest) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
    })
}

/// What a process does, as the kernel's letter; `None`: it is gone.
pub fn state_of(raw: u32) -> Option<char> {
    stat(raw).map(|stat| stat.state)
}

/// A process by its id and the moment it started (in ticks since the host started): ids are used
/// again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// When it started.
    pub started: u64,
}

impl Process {
    /// The one that has this id now.
    pub fn of(raw: u32) -> Option<Self> {
        stat(raw).map(|s| Self { pid: raw, started: s.started })
    }
    /// Whether it still runs: this one, and not a later one with its id.
    pub fn still_runs(&self) -> bool {
        runs(self.pid) && Self::of(self.pid) == Some(*self)
    }
}

/// Names this start of the host: process ids and start times mean nothing after the next.
pub fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// A process id as the kernel's type.
pub fn pid(raw: u32) -> Option<Pid> {
    i32::try_from(raw).ok().and_then(Pid::from_raw)
}

/// Whether a process still runs: any thread of it. Its first thread is shown as a zombie as soon as
/// that one has ended, while the others still hold the process's files and sockets (proc(5),
/// `task`); only when it is alone is the process gone.
pub fn runs(raw: u32) -> bool {
    let ended = stat(raw).is_none_or(|s| s.state == 'Z' || s.state == 'X');
    let threads = || std::fs::read_dir(format!("/proc/{raw}/task")).map_or(0, Iterator::count);
    !ended || threads() > 1
}

/// Sends a signal; a process that is gone is no error.
pub fn signal(raw: u32, signal: Signal) {
    if let Some(pid) = pid(raw) {
        // The only possible failure that matters, EPERM, shows as the process still running.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// Its name and arguments, for people.
pub fn command_of(raw: u32) -> String {
    let bytes = std::fs::read(format!("/proc/{raw}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).replace('\0', " ");
    match text.trim() {
        "" => std::fs::read_to_string(format!("/proc/{raw}/comm"))
            .map_or_else(|_| "gone".into(), |name| name.trim().to_owned()),
        command => command.chars().take(80).collect(),
    }
}

/// What a server is called in the process table.
pub(crate) const POSTGRES: &[&str] = &["postgres", "postmaster"];

/// By its command: rather one too many.
pub fn is_postgres(raw: u32) -> bool {
    let command = command_of(raw);
    POSTGRES.iter().any(|name| command.contains(name))
}

pub(crate) fn all() -> impl Iterator<Item = u32> {
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
}

/// Every process that works in one of these folders: all of a database's, its orphans included,
/// and none else.
pub fn processes_in(folders: &Folders) -> Vec<u32> {
    if folders.is_empty() {
        return vec![];
    }
    all().filter(|pid| works_in(*pid, folders) && runs(*pid)).collect()
}

/// Whether it works in one of these folders.
pub fn works_in(raw: u32, folders: &Folders) -> bool {
    let folder = FolderId::of(Path::new(&format!("/proc/{raw}/cwd")));
    folder.is_ok_and(|id| folders.contains(&id))
}

/// Who started it, or who took it over since.
pub fn parent(raw: u32) -> Option<u32> {
    stat(raw).map(|s| s.parent)
}

/// Every process of this program whose working directory's name is at or below `folder`, though it
/// may be removed.
pub fn working_below(folder: &Path, program: &str) -> Vec<u32> {
    let below = |pid: &u32| {
        std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(folder))
    };
    let named = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/comm"))
            .is_ok_and(|name| name.trim() == program)
    };
    all().filter(|pid| below(pid) && named(pid) && runs(*pid)).collect()
}

/// Every process with this `NAME=value` in the environment it was started with, but this one.
pub fn with_environment(entry: &str) -> Vec<u32> {
    let has = |pid: &u32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|b| *b == 0).any(|e| e == entry.as_bytes())
    };
    all().filter(|pid| *pid != std::process::id() && has(pid) && runs(*pid)).collect()
}

/// The folder of the control group that its service has, until its manager has ended all of it;
/// `None`: it runs in none, or in this process's own.
pub fn service_of(raw: u32) -> Option<PathBuf> {
    let groups = |of: &str| std::fs::read_to_string(format!("/proc/{of}/cgroup"));
    let (its, own) = (groups(&raw.to_string()).ok()?, groups("self").unwrap_or_default());
    if its == own {
        return None;
    }
    service_folders(&its).into_iter().find(|folder| folder.exists())
}

/// Where a service's folder may be (cgroups(7)), by `/proc/PID/cgroup`.
fn service_folders(groups: &str) -> Vec<PathBuf> {
    let mut folders = vec![];
    for line in groups.lines() {
        let roots: &[&str] = match line.split(':').nth(1) {
            Some("") => &["", "/unified"],
            Some("name=systemd") => &["/systemd"],
            _ => continue,
        };
        let path = line.splitn(3, ':').nth(2).unwrap_or_default();
        if path.ends_with(".service") {
            folders.extend(roots.iter().map(|root| format!("/sys/fs/cgroup{root}{path}").into()));
        }
    }
    folders
}

/// Its children.
pub fn children(raw: u32) -> Vec<u32> {
    all().filter(|pid| stat(*pid).is_some_and(|s| s.parent == raw)).collect()
}

/// Whether the process descends from `server`, or is an orphan of it that has not left its group.
pub fn descends(raw: u32, server: Process) -> bool {
    let Some(own) = stat(raw) else { return false };
    if own.group == server.pid && own.started >= server.started {
        return true;
    }
    let (mut parent, mut steps) = (own.parent, 0);
    while parent > 1 && steps < 64 {
        if parent == server.pid {
            return Process::of(parent) == Some(server);
        }
        (parent, steps) = (stat(parent).map_or(0, |s| s.parent), steps + 1);
    }
    false
}

/// Kills the server and every process that works in these folders, whatever starts others first,
/// until none remains or `until` is reached. Returns how many were killed, and which remain.
///
/// The server and its children are found in the process table alone: no disk has to answer before
/// they are killed.
pub fn kill_all_in(
    folders: &Folders,
    server: Option<Process>,
    until: Timestamp,
) -> (u32, Vec<u32>) {
    let mut killed: BTreeSet<u32> = BTreeSet::new();
    if let Some(server) = server.filter(Process::still_runs) {
        let children = children(server.pid);
        // The server first: nothing new is started then.
        for pid in std::iter::once(server.pid).chain(children) {
            signal(pid, Signal::KILL);
            killed.insert(pid);
        }
    }
    // A backend may have left the folder; whose child it is tells as long as its parent is there.
    for pid in processes_in(folders).into_iter().filter(|pid| is_postgres(*pid)) {
        let children = children(pid);
        for pid in std::iter::once(pid).chain(children) {
            signal(pid, Signal::KILL);
            killed.insert(pid);
        }
    }
    loop {
        let mut left = processes_in(folders);
        left.extend(server.filter(Process::still_runs).map(|s| s.pid));
        left.sort_unstable();
        left.dedup();
        let child = |pid: &u32| stat(*pid).is_some_and(|s| left.contains(&s.parent));
        let (children, parents): (Vec<u32>, Vec<u32>) = left.iter().partition(|pid| child(pid));
        for pid in parents.into_iter().chain(children) {
            signal(pid, Signal::KILL);
            killed.insert(pid);
        }
        if left.is_empty() || super::now() >= until {
            return (u32::try_from(killed.len()).unwrap_or(u32::MAX), left);
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// Becomes true at the moment the process ends (pidfd). `None` when it does not exist.
pub fn watch_exit(raw: u32) -> Option<tokio::sync::watch::Receiver<bool>> {
    let process =
        rustix::process::pidfd_open(pid(raw)?, rustix::process::PidfdFlags::empty()).ok()?;
    let (sender, receiver) = tokio::sync::watch::channel(false);
    std::thread::spawn(move || {
        let mut waits = [rustix::event::PollFd::new(&process, rustix::event::PollFlags::IN)];
        while rustix::event::poll(&mut waits, None).is_err() {}
        // Nobody listens any more: nothing to tell.
        let _ = sender.send(true);
    });
    Some(receiver)
}

/// The postmaster's pid by its pid file, if that process runs and works in this data directory.
pub fn postmaster(data_dir: &Path) -> Option<u32> {
    let text = std::fs::read_to_string(data_dir.join("postmaster.pid")).ok()?;
    let pid: u32 = text.lines().next()?.trim().parse().ok()?;
    let folder = Folders::from([FolderId::of(data_dir).ok()?]);
    (works_in(pid, &folder) && runs(pid)).then_some(pid)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::process::{Command, Stdio};

    use super::*;

    /// The lab's plane was started again while the killed one still held its port: its first thread
    /// had ended, others not.
    #[test]
    fn a_service_has_its_folder_and_a_session_none() {
        let unit = "/system.slice/system-postgresql.slice/postgresql@15-main.service";
        let at = |root: &str| PathBuf::from(format!("/sys/fs/cgroup{root}{unit}"));
        assert_eq!(service_folders(&format!("0::{unit}\n")), [at(""), at("/unified")]);
        let hybrid = format!("2:cpu:/\n1:name=systemd:{unit}\n0::/\n");
        assert_eq!(service_folders(&hybrid), [at("/systemd")]);
        assert!(service_folders("0::/user.slice/user-0.slice/session-1.scope\n").is_empty());
        assert_eq!(service_of(std::process::id()), None);
    }

    #[test]
    fn a_process_runs_until_its_last_thread_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("lingers.c");
        let program = folder.path().join("lingers");
        let text = "#include <pthread.h>\n#include <unistd.h>\n\
            static void *wait_for_end(void *unused) { char c; while (read(0, &c, 1) > 0); \
            _exit(0); }\n\
            int main(void) { pthread_t t; pthread_create(&t, 0, wait_for_end, 0); write(1, \".\", \
            1); pthread_exit(0); }\n";
        std::fs::write(&source, text).unwrap();
        assert!(
            Command::new("cc")
                .arg("-pthread")
                .arg("-w")
                .arg("-o")
                .args([&program, &source])
                .status()
                .unwrap()
                .success()
        );
        let mut child =
            Command::new(&program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
        let stat = || std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !stat().contains(") Z ") && std::time::Instant::now() < until {
            std::thread::yield_now();
        }
        assert!(stat().contains(") Z "), "{}", stat());
        assert!(runs(child.id()));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(!runs(child.id()));
    }

    fn sleeper(folder: &Path) -> std::process::Child {
        Command::new("sleep").arg("60").current_dir(folder).spawn().unwrap()
    }

    /// A live primary's data directory was renamed or removed: its processes were not found any
    /// more, and went on acknowledging.
    #[test]
    fn a_process_is_found_by_its_folder_whatever_became_of_the_name() {
        let top = tempfile::tempdir().unwrap();
        for how in ["renamed", "removed", "replaced"] {
            let folder = top.path().join("data");
            std::fs::create_dir(&folder).unwrap();
            let id = FolderId::of(&folder).unwrap();
            let mut child = sleeper(&folder);
            match how {
                "removed" => std::fs::remove_dir(&folder).unwrap(),
                _ => std::fs::rename(&folder, top.path().join(how)).unwrap(),
            }
            if how == "replaced" {
                std::fs::create_dir(&folder).unwrap();
                assert_ne!(FolderId::of(&folder).unwrap(), id);
                assert!(processes_in(&[FolderId::of(&folder).unwrap()].into()).is_empty());
            }
            assert_eq!(processes_in(&[id].into()), [child.id()], "{how}");
            let end = crate::agent::host::now() + crate::model::Span::secs(10);
            let reaper = std::thread::spawn(move || child.wait());
            assert_eq!(kill_all_in(&[id].into(), None, end), (1, vec![]), "{how}");
            reaper.join().unwrap().unwrap();
        }
    }

    #[test]
    fn a_process_is_itself_and_not_the_next_with_its_number() {
        let mut child = sleeper(Path::new("/"));
        let process = Process::of(child.id()).unwrap();
        assert!(process.still_runs());
        assert!(descends(child.id(), Process::of(std::process::id()).unwrap()));
        assert!(!Process { started: process.started + 1, ..process }.still_runs());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!process.still_runs());
    }

    #[test]
    fn a_folder_is_written_and_read_as_one_word() {
        let id = FolderId { dev: 254, ino: 3, born: 17 };
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in ["", "254:3", "254:3:17:1", "a:b:c"] {
            assert!(wrong.parse::<FolderId>().is_err(), "{wrong}");
        }
    }
}
