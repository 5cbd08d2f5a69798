//! `restore_command` is the agent's, wrapping the user's. It is set only while a standby catches up
//! from the archive because its upstream no longer has the log it needs; it gives nothing while the
//! node is cut off, and only log of the lines that the node accepts; what it has started ends at
//! the cut. So an archive that is slow, out of reach, or holds the log of a hand-promoted server
//! neither delays nor decides anything.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::agent::host;
use crate::model::{Lsn, TimelineHistory};

const FILE: &str = "restore.json";
/// The subcommand that the server calls.
const SUBCOMMAND: &str = "wal-fetch";
/// The user's command may take so long for one file; then streaming is tried.
pub const FETCH_MAX: Duration = Duration::from_secs(60);
/// Locked while a command of the user's runs; in it the name of the last segment that came.
const FETCHING: &str = "restore.fetching";
/// How often a running command looks whether the node was cut off.
const GLANCE: Duration = Duration::from_millis(10);

/// What the agent keeps of the archive, for itself and for the command that the server calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archive {
    /// The user's command by ALTER SYSTEM; the agent's own line took its place.
    #[serde(default)]
    pub system: Option<String>,
    /// The user's command by any file.
    #[serde(default)]
    pub file: String,
    /// Log of these lines may be fetched; `None`: cut off, nothing may.
    #[serde(default)]
    pub accepts: Option<TimelineHistory>,
    /// Size of a log segment.
    #[serde(default)]
    pub segment_bytes: u64,
}

impl Archive {
    /// As kept; nothing where there is nothing.
    pub fn load(state_dir: &Path) -> Self {
        std::fs::read_to_string(state_dir.join(FILE))
            .ok()
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default()
    }

    /// Keeps it, durably.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn save(&self, state_dir: &Path) -> std::io::Result<()> {
        if Self::load(state_dir) == *self && (state_dir.join(FILE).exists() || !self.exists()) {
            return Ok(());
        }
        // Strings and numbers serialise without failing.
        let text = serde_json::to_string(self).unwrap_or_default();
        host::write_durably(&state_dir.join(FILE), &text)
    }

    /// The user's command; empty: there is no archive.
    pub fn command(&self) -> &str {
        self.system.as_deref().unwrap_or(&self.file)
    }

    /// Whether there is an archive.
    pub fn exists(&self) -> bool {
        !self.command().trim().is_empty()
    }
}

/// What the command that the server calls is at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetching {
    /// A command of the user's runs now.
    pub running: bool,
    /// The last segment that came from the archive.
    pub last: String,
}

impl Fetching {
    /// As it is now.
    pub fn look(state_dir: &Path) -> Self {
        let path = state_dir.join(FETCHING);
        let Ok(file) = std::fs::File::open(&path) else { return Self::default() };
        let running = matches!(file.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock));
        Self { running, last: std::fs::read_to_string(path).unwrap_or_default() }
    }

    /// It begins; over when the file is closed, however the process ends.
    fn begin(state_dir: &Path) -> std::io::Result<std::fs::File> {
        let path = state_dir.join(FETCHING);
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
        file.lock()?;
        Ok(file)
    }

    fn came(file: &mut std::fs::File, name: &str) -> std::io::Result<()> {
        use std::io::Write as _;
        file.set_len(0)?;
        file.write_all(name.as_bytes())
    }
}

/// What the server is told to call.
pub fn wrapper(state_dir: &Path) -> String {
    let quoted = |path: &Path| {
        let text = path.display().to_string().replace('\'', "'\\''").replace('%', "%%");
        format!("'{text}'")
    };
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("quorate"));
    // After an upgrade under a running agent the kernel says so behind the name (proc(5), `exe`).
    let text = program.display().to_string();
    let program = PathBuf::from(text.strip_suffix(" (deleted)").unwrap_or(&text));
    format!("{} {SUBCOMMAND} --state-dir {} %f %p %r", quoted(&program), quoted(state_dir))
}

/// Whether a value is this agent's, or another's of its kind (a clone brings its source's).
pub fn is_wrapper(value: &str) -> bool {
    value.contains(&format!("' {SUBCOMMAND} --state-dir '"))
}

/// Whether log of that name is on the lines of `history`: the line itself, or an ancestor up to
/// where it was left. History files are fetched too; what is in them is compared afterwards.
fn is_accepted(history: &TimelineHistory, segment_bytes: u64, name: &str) -> bool {
    let number = |range: std::ops::Range<usize>| {
        name.get(range).and_then(|t| u64::from_str_radix(t, 16).ok())
    };
    let Some(timeline) = number(0..8).and_then(|t| u32::try_from(t).ok()) else { return false };
    let left = history.left_at(timeline);
    if timeline != history.timeline && left.is_none() {
        return false;
    }
    if name.len() > 8 && name.get(8..) == Some(".history") {
        return true;
    }
    let (24, Some(high), Some(low)) = (name.len(), number(8..16), number(16..24)) else {
        return false;
    };
    let start = Lsn((high << 32) + low * segment_bytes);
    left.is_none_or(|left| start < left)
}

/// Whether a fetched history file says what the accepted one says.
fn is_same_history(accepted: &TimelineHistory, timeline: u32, text: &str) -> bool {
    let known: Vec<(u32, Lsn)> =
        accepted.left.iter().take_while(|(t, _)| *t != timeline).copied().collect();
    TimelineHistory::parse(timeline, text).left == known
}

/// The server asks for `name` to be put at `path`. True: it is there.
pub fn fetch(state_dir: &Path, name: &str, path: &str, restart: &str) -> bool {
    let archive = Archive::load(state_dir);
    let Some(history) = archive.accepts.clone().filter(|_| archive.exists()) else { return false };
    if !is_accepted(&history, archive.segment_bytes, name) {
        return false;
    }
    // Without it the agent waits less long; no reason to give nothing.
    let mut fetching = Fetching::begin(state_dir).ok();
    let ended = run(state_dir, &archive, &filled(archive.command(), name, path, restart));
    let good = ended
        && name.strip_suffix(".history").is_none_or(|timeline| {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            u32::from_str_radix(timeline, 16).is_ok_and(|t| is_same_history(&history, t, &text))
        });
    if !good {
        // Half a file, or a foreign one: the server does not look at it, and the next try makes it
        // anew.
        let _ = std::fs::remove_file(path);
    } else if let Some(file) = fetching.as_mut().filter(|_| !name.ends_with(".history")) {
        let _ = Fetching::came(file, name);
    }
    good
}

fn run(state_dir: &Path, archive: &Archive, command: &str) -> bool {
    let mut child = Command::new("sh");
    child.arg("-c").arg(command).stdin(Stdio::null());
    // A group of its own: whatever it starts ends with it.
    std::os::unix::process::CommandExt::process_group(&mut child, 0);
    let Ok(mut child) = child.spawn() else { return false };
    let began = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.success() && is_open(state_dir, archive),
            Ok(None) if began.elapsed() < FETCH_MAX && is_open(state_dir, archive) => {
                std::thread::sleep(GLANCE);
            }
            Ok(None) | Err(_) => {
                if let Some(group) = host::pid(child.id()) {
                    // One that is gone meanwhile needs no signal.
                    let _ =
                        rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
                }
                let _ = child.wait();
                return false;
            }
        }
    }
}

/// Not cut off, and still on the same lines.
fn is_open(state_dir: &Path, archive: &Archive) -> bool {
    Archive::load(state_dir).accepts == archive.accepts
}

/// The user's command with its places filled.
fn filled(command: &str, name: &str, path: &str, restart: &str) -> String {
    let mut out = String::new();
    let mut rest = command.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match rest.next() {
            Some('f') => out.push_str(name),
            Some('p') => out.push_str(path),
            Some('r') => out.push_str(restart),
            Some('%') => out.push('%'),
            Some(other) => out.extend(['%', other]),
            None => out.push('%'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history() -> TimelineHistory {
        TimelineHistory::parse(5, "1\t0/3000000\tx\n3\t0/5800000\tx\n")
    }
    fn archive(command: &str) -> (tempfile::TempDir, Archive) {
        let folder = tempfile::tempdir().unwrap();
        let archive = Archive {
            file: command.into(),
            accepts: Some(history()),
            segment_bytes: 16 << 20,
            ..Archive::default()
        };
        archive.save(folder.path()).unwrap();
        (folder, archive)
    }

    #[test]
    fn only_log_of_accepted_lines_is_fetched() {
        let accepted = |name: &str| is_accepted(&history(), 16 << 20, name);
        for yes in [
            "000000050000000000000009",
            "000000030000000000000005",
            "000000010000000000000002",
            "00000005.history",
            "00000003.history",
        ] {
            assert!(accepted(yes), "{yes}");
        }
        for no in [
            "000000030000000000000006",
            "000000010000000000000003",
            "000000040000000000000001",
            "000000060000000000000001",
            "00000006.history",
            "00000004.history",
            "000000050000000000000009.partial",
            "nonsense",
            "",
        ] {
            assert!(!accepted(no), "{no}");
        }
    }

    #[test]
    fn a_foreign_history_file_is_dropped() {
        let text = "1\t0/3000000\tno recovery target specified\n";
        assert!(is_same_history(&history(), 3, text));
        assert!(!is_same_history(&history(), 3, "1\t0/3000500\tpromoted by hand\n"));
        let (folder, _) = archive("echo '1 0/4 by hand' > %p");
        let path = folder.path().join("out").display().to_string();
        assert!(!fetch(folder.path(), "00000005.history", &path, ""));
        assert!(!Path::new(&path).exists());
    }

    #[test]
    fn nothing_is_given_while_cut() {
        let (folder, open) = archive("echo %f of %r, 100%% > %p");
        let path = folder.path().join("out").display().to_string();
        assert!(fetch(folder.path(), "000000050000000000000009", &path, "R"));
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "000000050000000000000009 of R, 100%\n");
        let over = Fetching { running: false, last: "000000050000000000000009".into() };
        assert_eq!(Fetching::look(folder.path()), over);
        Archive { accepts: None, ..open }.save(folder.path()).unwrap();
        assert!(!fetch(folder.path(), "000000050000000000000009", &path, "R"));
    }

    #[test]
    fn what_still_runs_ends_at_the_cut() {
        let (folder, open) = archive("echo $$ > started; sleep 600");
        let state = folder.path().to_owned();
        let started = folder.path().join("started");
        let command = format!("echo $$ > {}; sleep 600", started.display());
        let open = Archive { file: command, ..open };
        open.save(&state).unwrap();
        let fetching = std::thread::spawn({
            let state = state.clone();
            move || fetch(&state, "000000050000000000000009", "/nowhere/x", "")
        });
        let end = Instant::now() + Duration::from_secs(20);
        let pid: u32 = loop {
            let text = std::fs::read_to_string(&started).unwrap_or_default();
            if let Ok(pid) = text.trim().parse() {
                break pid;
            }
            assert!(Instant::now() < end, "the command did not start");
            std::thread::yield_now();
        };
        assert!(Fetching::look(&state).running);
        Archive { accepts: None, ..open }.save(&state).unwrap();
        assert!(!fetching.join().unwrap());
        assert_eq!(Fetching::look(&state), Fetching::default());
        assert!(!host::runs(pid));
    }

    #[test]
    fn the_agents_own_value_is_known_again() {
        let value = wrapper(Path::new("/var/lib/it's 100%/state"));
        assert!(is_wrapper(&value) && value.contains("100%%") && value.ends_with(" %f %p %r"));
        assert!(!is_wrapper("cp /archive/%f %p"));
    }
}
