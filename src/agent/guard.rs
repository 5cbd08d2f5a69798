//! The guard: a tiny process that kills the resource unless told in time that the lease was
//! extended. It outlives a crashed or frozen agent; a restarted agent adopts it.
//!
//! It listens on a Unix socket for lines: `until NANOSECONDS` (of the suspend-aware clock) and
//! `stand-down`; each is answered with `ok UNTIL`. It holds nothing else, decides nothing else and
//! needs no other process.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::host;
use crate::model::{Span, Timestamp};

/// Where a guard listens, below an agent's state folder.
pub fn socket(state_dir: &Path) -> PathBuf {
    state_dir.join("guard.sock")
}

/// Where a guard leaves its evidence.
pub fn evidence(state_dir: &Path) -> PathBuf {
    state_dir.join("guard.evidence")
}

/// The guard's main: serves until its folder goes away. Never returns while a deadline is armed.
///
/// # Errors
/// When the socket cannot be made.
pub fn run(state_dir: &Path, data_dir: &Path) -> std::io::Result<()> {
    let path = socket(state_dir);
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path)?;
    std::fs::write(state_dir.join("guard.pid"), std::process::id().to_string())?;
    // 0 means that nothing is armed.
    let until = Arc::new(AtomicU64::new(0));
    let changed = Arc::new((Mutex::new(()), Condvar::new()));
    {
        let (until, changed, data_dir, state_dir) =
            (Arc::clone(&until), Arc::clone(&changed), data_dir.to_owned(), state_dir.to_owned());
        std::thread::spawn(move || watch(&until, &changed, &data_dir, &state_dir));
    }
    for stream in listener.incoming().flatten() {
        let (until, changed) = (Arc::clone(&until), Arc::clone(&changed));
        std::thread::spawn(move || serve(stream, &until, &changed));
    }
    Ok(())
}

fn serve(mut stream: UnixStream, until: &AtomicU64, changed: &(Mutex<()>, Condvar)) {
    let Ok(read) = stream.try_clone() else { return };
    for line in BufReader::new(read).lines().map_while(Result::ok) {
        match line.split_once(' ') {
            Some(("until", at)) => match at.trim().parse() {
                Ok(at) => until.store(at, Ordering::SeqCst),
                Err(_) => continue,
            },
            _ if line.trim() == "stand-down" => until.store(0, Ordering::SeqCst),
            _ => {}
        }
        changed.1.notify_all();
        if writeln!(stream, "ok {}", until.load(Ordering::SeqCst)).is_err() {
            return;
        }
    }
}

fn watch(until: &AtomicU64, changed: &(Mutex<()>, Condvar), data_dir: &Path, state_dir: &Path) {
    let mut guard = changed.0.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if !state_dir.exists() {
            // The node was removed; nobody will ever talk to this guard again.
            std::process::exit(0);
        }
        let armed = Timestamp(until.load(Ordering::SeqCst));
        let now = host::now();
        if armed.0 > 0 && now >= armed {
            let postmaster = host::postmaster(data_dir);
            let (killed, remaining) = host::kill_all_in(data_dir, postmaster, now + Span::secs(30));
            let text = format!(
                "{{\"at\":\"{}\",\"deadline\":{},\"late_ns\":{},\"killed\":{killed},\"remaining\":{remaining:?}}}\n",
                host::wall().rfc3339(),
                armed.0,
                now.since(armed).0
            );
            let _ = std::fs::write(evidence(state_dir), text);
            // Only this deadline is served; one that was set meanwhile stays armed.
            let _ = until.compare_exchange(armed.0, 0, Ordering::SeqCst, Ordering::SeqCst);
            continue;
        }
        let wait =
            if armed.0 > 0 { now.until(armed).std() } else { std::time::Duration::from_secs(5) };
        let wait = wait.min(std::time::Duration::from_millis(500));
        guard = changed.1.wait_timeout(guard, wait).unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// The agent's end.
#[derive(Debug)]
pub struct Guard {
    stream: UnixStream,
    /// Its process id.
    pub pid: u32,
}

impl Guard {
    /// Adopts a living guard, or starts one.
    ///
    /// # Errors
    /// When none answers and none can be started.
    pub fn adopt_or_start(
        state_dir: &Path,
        data_dir: &Path,
    ) -> std::io::Result<(Self, Option<Timestamp>)> {
        if let Ok(found) = Self::adopt(state_dir) {
            return Ok(found);
        }
        // A guard that does not answer may be frozen: woken later, its old deadline would kill a
        // healthy database.
        if let Some(old) = std::fs::read_to_string(state_dir.join("guard.pid"))
            .ok()
            .and_then(|t| t.trim().parse::<u32>().ok())
        {
            let commandline = std::fs::read(format!("/proc/{old}/cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&commandline).contains(&state_dir.display().to_string()) {
                host::signal(old, rustix::process::Signal::KILL);
            }
        }
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(state_dir.join("guard.log"))?;
        let mut command = std::process::Command::new(std::env::current_exe()?);
        command.arg("guard").arg("--state-dir").arg(state_dir).arg("--data-dir").arg(data_dir);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let _ = std::fs::remove_file(socket(state_dir));
        let mut child = command.spawn()?;
        std::thread::spawn(move || child.wait());
        let until = host::now() + Span::secs(5);
        loop {
            match Self::adopt(state_dir) {
                Err(e) if host::now() > until => return Err(e),
                Err(_) => std::thread::sleep(std::time::Duration::from_millis(5)),
                found => return found,
            }
        }
    }

    /// A living guard and the deadline it has armed.
    ///
    /// # Errors
    /// When none answers.
    pub fn adopt(state_dir: &Path) -> std::io::Result<(Self, Option<Timestamp>)> {
        let stream = UnixStream::connect(socket(state_dir))?;
        stream.set_read_timeout(Some(std::time::Duration::from_millis(200)))?;
        stream.set_write_timeout(Some(std::time::Duration::from_millis(200)))?;
        let pid = std::fs::read_to_string(state_dir.join("guard.pid"))
            .ok()
            .and_then(|t| t.trim().parse().ok())
            .unwrap_or(0);
        let mut guard = Self { stream, pid };
        let armed = guard.say("status")?;
        Ok((guard, (armed.0 > 0).then_some(armed)))
    }

    /// The resource is killed at `until` unless another deadline is said before.
    ///
    /// # Errors
    /// When the guard does not answer: then the resource must not be writable.
    pub fn arm(&mut self, until: Timestamp) -> std::io::Result<()> {
        let armed = self.say(&format!("until {}", until.0))?;
        if armed == until {
            Ok(())
        } else {
            Err(std::io::Error::other(format!("the guard armed {armed:?}, not {until:?}")))
        }
    }

    /// Nothing runs that could write.
    ///
    /// # Errors
    /// When the guard does not answer.
    pub fn stand_down(&mut self) -> std::io::Result<()> {
        self.say("stand-down").map(|_| ())
    }

    fn say(&mut self, line: &str) -> std::io::Result<Timestamp> {
        writeln!(self.stream, "{line}")?;
        let mut answer = String::new();
        BufReader::new(&self.stream).read_line(&mut answer)?;
        let until = answer.trim().strip_prefix("ok ").and_then(|t| t.parse().ok());
        until.map(Timestamp).ok_or_else(|| std::io::Error::other("the guard did not answer"))
    }
}
