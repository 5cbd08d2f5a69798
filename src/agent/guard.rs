//! The guard: a tiny process that kills the resource unless told in time that the lease was
//! extended. It outlives a crashed or frozen agent; a restarted agent adopts it.
//!
//! It listens on a Unix socket for lines: `until NANOSECONDS FOLDER[,FOLDER…]` (of the
//! suspend-aware clock; a folder is DEVICE:INODE:BORN), `stand-down` and `status`; each is answered with `ok
//! NANOSECONDS FOLDERS`, which is what is armed then. It holds nothing else, decides nothing else,
//! needs no other process and no path: what it guards is told by what it is, not by its name.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use super::deadline::Deadline;
use super::host::{self, Folders, processes};
use crate::model::{Span, Timestamp};

/// One answer of a guard may take so long.
const ANSWERS_WITHIN: std::time::Duration = std::time::Duration::from_millis(200);
/// A guard that was started answers within this.
const STARTS_WITHIN: Span = Span::secs(5);

/// What a guard has armed: when it kills, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Armed {
    /// When.
    pub until: Timestamp,
    /// The folders whose processes it kills.
    pub folders: Folders,
}

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
pub fn run(state_dir: &Path) -> std::io::Result<()> {
    // It was started as /proc/self/exe: `exe` would tell nobody what it is.
    let _ = rustix::thread::set_name(c"quorate-guard");
    let path = socket(state_dir);
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path)?;
    // For people and tools; the agent asks the socket who answers.
    let _ = std::fs::write(state_dir.join("guard.pid"), std::process::id().to_string());
    let deadline = Arc::new(Deadline::<Folders>::default());
    {
        let (deadline, state_dir) = (Arc::clone(&deadline), state_dir.to_owned());
        std::thread::spawn(move || watch(&deadline, &state_dir));
    }
    for stream in listener.incoming().flatten() {
        let deadline = Arc::clone(&deadline);
        std::thread::spawn(move || serve(stream, &deadline));
    }
    Ok(())
}

fn serve(mut stream: UnixStream, deadline: &Deadline<Folders>) {
    let Ok(read) = stream.try_clone() else { return };
    for line in BufReader::new(read).lines().map_while(Result::ok) {
        match line.trim() {
            "stand-down" => deadline.set(None),
            "status" => {}
            other => match other.strip_prefix("until ").and_then(parse) {
                Some(armed) => deadline.set(Some((armed.until, armed.folders))),
                // A word that it does not know is not answered: whoever said it looks elsewhere.
                None => return,
            },
        }
        let armed = deadline.armed().map(|(until, folders)| Armed { until, folders });
        if writeln!(stream, "ok {}", words(armed.as_ref())).is_err() {
            return;
        }
    }
}

fn words(armed: Option<&Armed>) -> String {
    let Some(armed) = armed else { return "0 -".into() };
    let folders: Vec<String> = armed.folders.iter().map(ToString::to_string).collect();
    let folders = if folders.is_empty() { "-".to_owned() } else { folders.join(",") };
    format!("{} {folders}", armed.until.0)
}

fn parse(text: &str) -> Option<Armed> {
    let (until, folders) = text.split_once(' ')?;
    let folders = if folders == "-" { "" } else { folders };
    let folders: Result<Folders, String> =
        folders.split(',').filter(|f| !f.is_empty()).map(str::parse).collect();
    Some(Armed { until: Timestamp(until.parse().ok()?), folders: folders.ok()? })
}

fn watch(deadline: &Deadline<Folders>, state_dir: &Path) {
    loop {
        let (until, folders) = deadline.passed(|| {
            if !state_dir.exists() {
                // The node was removed; nobody will ever talk to this guard again.
                std::process::exit(0);
            }
        });
        let now = host::now();
        let (killed, remaining) = host::kill_all_in(&folders, None, now + Span::secs(30));
        let text = format!(
            "{{\"at\":\"{}\",\"deadline\":{},\"late_ns\":{},\
             \"killed\":{killed},\"remaining\":{remaining:?}}}\n",
            host::wall().rfc3339(),
            until.0,
            now.since(until).0
        );
        let _ = std::fs::write(evidence(state_dir), text);
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
    /// Starts one, in place of whichever guard there was: one that does not answer may be frozen,
    /// and its old deadline would kill a healthy database when it wakes.
    ///
    /// # Errors
    /// When none can be started, or it does not answer.
    pub fn replace(state_dir: &Path) -> std::io::Result<Self> {
        for old in guards_of(state_dir) {
            host::signal(old, rustix::process::Signal::KILL);
        }
        let log = state_dir.join("guard.log");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log);
        // The running program itself, though its file may have been replaced.
        let mut command = std::process::Command::new("/proc/self/exe");
        command.arg("guard").arg("--state-dir").arg(state_dir);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(log.map_or_else(|_| Stdio::null(), Stdio::from));
        std::os::unix::process::CommandExt::arg0(&mut command, "quorate");
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let _ = std::fs::remove_file(socket(state_dir));
        let mut child = command.spawn()?;
        let until = host::now() + STARTS_WITHIN;
        loop {
            match Self::adopt(state_dir) {
                Ok((guard, _)) => {
                    std::thread::spawn(move || child.wait());
                    return Ok(guard);
                }
                Err(e) => {
                    if let Some(status) = child.try_wait()? {
                        return Err(std::io::Error::other(format!(
                            "it ended at once ({status}); its words are in {}",
                            state_dir.join("guard.log").display()
                        )));
                    }
                    if host::now() > until {
                        let _ = child.kill();
                        let _ = child.wait();
                        return Err(e);
                    }
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
            }
        }
    }

    /// A living guard and what it has armed.
    ///
    /// # Errors
    /// When none answers, or one of another version.
    pub fn adopt(state_dir: &Path) -> std::io::Result<(Self, Option<Armed>)> {
        let stream = UnixStream::connect(socket(state_dir))?;
        stream.set_read_timeout(Some(ANSWERS_WITHIN))?;
        stream.set_write_timeout(Some(ANSWERS_WITHIN))?;
        let peer = rustix::net::sockopt::socket_peercred(&stream)?;
        let pid = u32::try_from(peer.pid.as_raw_nonzero().get()).unwrap_or(0);
        let mut guard = Self { stream, pid };
        let armed = guard.say("status")?;
        Ok((guard, armed))
    }

    /// Processes in these folders are killed at `until` unless another deadline is said before.
    ///
    /// # Errors
    /// When the guard does not answer with exactly this: then the resource must not be writable.
    pub fn arm(&mut self, armed: &Armed) -> std::io::Result<()> {
        let found = self.say(&format!("until {}", words(Some(armed))))?;
        // A deadline that has passed by now was served.
        let served = found.is_none() && host::now() >= armed.until;
        if found.as_ref() == Some(armed) || served {
            Ok(())
        } else {
            Err(std::io::Error::other(format!("the guard armed {found:?}, not {armed:?}")))
        }
    }

    /// Nothing runs that could write.
    ///
    /// # Errors
    /// When the guard does not answer.
    pub fn stand_down(&mut self) -> std::io::Result<()> {
        self.say("stand-down").map(|_| ())
    }

    fn say(&mut self, line: &str) -> std::io::Result<Option<Armed>> {
        writeln!(self.stream, "{line}")?;
        let mut answer = String::new();
        BufReader::new(&self.stream).read_line(&mut answer)?;
        match answer.trim().strip_prefix("ok ") {
            Some("0 -") => Ok(None),
            Some(text) => parse(text).map(Some).ok_or_else(|| {
                std::io::Error::other(format!("a guard of another version answered {text:?}"))
            }),
            None => Err(std::io::Error::other("the guard did not answer")),
        }
    }
}

/// Guards of this state folder that run, by their command line, however the folder was spelled.
fn guards_of(state_dir: &Path) -> Vec<u32> {
    let whole = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let state_dir = whole(state_dir);
    let is = |pid: &u32| {
        let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let words: Vec<&str> = text.split('\0').collect();
        words.get(1) == Some(&"guard")
            && words.get(3).is_some_and(|word| whole(Path::new(word)) == state_dir)
    };
    processes::all().filter(is).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::host::FolderId;

    #[test]
    fn a_guard_says_when_it_kills_and_what() {
        let folders: Folders =
            [FolderId { dev: 1, ino: 2, born: 3 }, FolderId { dev: 4, ino: 5, born: 0 }].into();
        let armed = Armed { until: Timestamp(17), folders };
        assert_eq!(words(Some(&armed)), "17 1:2:3,4:5:0");
        assert_eq!(parse("17 1:2:3,4:5:0"), Some(armed));
        assert_eq!(words(None), "0 -");
        let nothing = Armed { until: Timestamp(17), folders: Folders::new() };
        assert_eq!(parse(&words(Some(&nothing))), Some(nothing));
        for wrong in ["17", "x 1:2:3", "17 1:2", "17 1:2:3;"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    /// One that was armed for another folder, or of a version that answers with the deadline alone,
    /// does not pass for one that guards this.
    #[test]
    fn what_is_not_armed_exactly_is_not_armed() {
        for answer in ["ok 0 -", "ok 17 1:2:4", "ok 18 1:2:3", "ok 17", ""] {
            let (here, there) = UnixStream::pair().unwrap();
            let serve = std::thread::spawn(move || {
                let mut line = String::new();
                BufReader::new(&there).read_line(&mut line).unwrap();
                let _ = writeln!(&there, "{answer}");
                line
            });
            let until = Timestamp(u64::MAX / 2);
            let answers = answer.replace("17", &until.0.to_string());
            let armed = Armed { until, folders: [FolderId { dev: 1, ino: 2, born: 3 }].into() };
            let mut guard = Guard { stream: here, pid: 0 };
            assert!(guard.arm(&armed).is_err(), "{answers}");
            assert_eq!(serve.join().unwrap(), format!("until {} 1:2:3\n", until.0));
        }
    }
}
