//! This host: its suspend-aware clock, its processes, its disk.

use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal};

use crate::model::{Timestamp, WallTime};

/// The suspend-aware clock: time goes on while the machine sleeps, so a lease cannot be slept
/// through.
pub fn now() -> Timestamp {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let (secs, nanos) =
        (u64::try_from(t.tv_sec).unwrap_or(0), u64::try_from(t.tv_nsec).unwrap_or(0));
    Timestamp(secs * 1_000_000_000 + nanos)
}

/// The wall clock, for people.
pub fn wall() -> WallTime {
    WallTime(chrono::Utc::now().timestamp_millis())
}

/// Waits until the suspend-aware clock shows `until`.
pub async fn sleep_until(until: Timestamp) {
    loop {
        let left = now().until(until);
        if left.0 == 0 {
            return;
        }
        // The runtime's timers stand still while the machine sleeps; a short leash bounds how late
        // that is noticed.
        tokio::time::sleep(left.std().min(std::time::Duration::from_millis(500))).await;
    }
}

/// A process id as the kernel's type.
pub fn pid(raw: u32) -> Option<Pid> {
    i32::try_from(raw).ok().and_then(Pid::from_raw)
}

/// Whether a process still runs: any thread of it. Its first thread is shown as a zombie as soon as
/// that one has ended, while the others still hold the process's files and sockets (proc(5),
/// `task`); only when it is alone is the process gone.
pub fn runs(raw: u32) -> bool {
    let ended = std::fs::read_to_string(format!("/proc/{raw}/stat")).map_or(true, |stat| {
        stat.rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('Z') || rest.starts_with('X'))
    });
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

/// Every process whose working directory is `folder`: all of a database's, its orphans included,
/// and none else.
pub fn processes_in(folder: &Path) -> Vec<u32> {
    let folder: PathBuf = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let Ok(entries) = std::fs::read_dir("/proc") else { return vec![] };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| {
            std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == folder)
                && runs(*pid)
        })
        .collect()
}

/// Kills every process of the database in `folder`, the postmaster first so that nothing new is
/// started, until none remains or `until` is reached. Returns how many were killed, and which
/// remain.
pub fn kill_all_in(folder: &Path, postmaster: Option<u32>, until: Timestamp) -> (u32, Vec<u32>) {
    if let Some(postmaster) = postmaster {
        signal(postmaster, Signal::KILL);
    }
    let mut killed: Vec<u32> = Vec::new();
    loop {
        let left = processes_in(folder);
        for pid in &left {
            signal(*pid, Signal::KILL);
            if !killed.contains(pid) {
                killed.push(*pid);
            }
        }
        if left.is_empty() || now() >= until {
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

/// Free and total bytes where `path` is.
pub fn disk(path: &Path) -> (u64, u64) {
    rustix::fs::statvfs(path).map_or((0, 0), |s| (s.f_bavail * s.f_frsize, s.f_blocks * s.f_frsize))
}

/// The postmaster's pid by its pid file, if that process runs and works in this data directory.
pub fn postmaster(data_dir: &Path) -> Option<u32> {
    let text = std::fs::read_to_string(data_dir.join("postmaster.pid")).ok()?;
    let pid: u32 = text.lines().next()?.trim().parse().ok()?;
    let ours = std::fs::read_link(format!("/proc/{pid}/cwd"))
        .is_ok_and(|cwd| data_dir.canonicalize().is_ok_and(|d| d == cwd));
    (ours && runs(pid)).then_some(pid)
}

/// Writes a file so that after a crash either the old or the new contents are there, whole.
///
/// # Errors
/// When the disk says no.
pub fn write_durably(path: &Path, contents: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    let next = path.with_extension("next");
    let mut file = std::fs::File::create(&next)?;
    file.write_all(contents.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&next, path)?;
    let folder = path.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(folder)?.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::process::{Command, Stdio};

    /// The lab's plane was started again while the killed one still held its port: its first thread
    /// had ended, others not.
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
        assert!(super::runs(child.id()));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(!super::runs(child.id()));
    }
}
