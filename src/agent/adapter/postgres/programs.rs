//! Where PostgreSQL's programs are, and running them.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::Signal;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::sync::watch;

use crate::agent::host;

/// In the environment of every program that is run: for which agent.
const MARK: &str = "QUORATE_AGENT_STATE";

/// A program says its version within this, or is not there.
const ASKED_MAX: std::time::Duration = std::time::Duration::from_secs(10);
/// The major versions that are driven.
const SUPPORTED: std::ops::RangeInclusive<u32> = 13..=18;

/// PostgreSQL's programs, all of one installation.
#[derive(Clone, Debug)]
pub struct Programs {
    folder: PathBuf,
    mark: Option<PathBuf>,
    /// Major version.
    pub major: u32,
    /// As it says itself.
    pub version: String,
}

/// PostgreSQL could not be found or used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProgramError {
    /// Nowhere.
    #[error(
        "PostgreSQL was not found{0}. Install it: Debian and Ubuntu: apt-get install postgresql; Fedora and RHEL: dnf install postgresql-server"
    )]
    Missing(String),
    /// Found, but not one that is supported.
    #[error("{found} in {folder} is not supported: expected PostgreSQL 13 to 18")]
    Unsupported {
        /// What it said.
        found: String,
        /// Where.
        folder: String,
    },
    /// The server is there, programs that the agent needs are not.
    #[error(
        "{folder} has no {missing}: install PostgreSQL's server and client packages of the same \
         version (psql: postgresql-client)"
    )]
    Incomplete {
        /// Where the server is.
        folder: String,
        /// What is not there.
        missing: String,
    },
    /// A program failed.
    #[error("{program} failed: {why}")]
    Failed {
        /// Which.
        program: String,
        /// The end of what it said.
        why: String,
    },
}

/// "postgres (PostgreSQL) 15.14 (Debian …)": the number in it.
fn version_in(said: &str) -> Option<&str> {
    said.split_whitespace().nth(2)
}

impl Programs {
    /// Looks in `folder` if given; else on PATH, then where Debian and RPM put it, newest first.
    ///
    /// # Errors
    /// [`ProgramError::Missing`] or [`ProgramError::Unsupported`].
    pub fn find(folder: Option<&Path>) -> Result<Self, ProgramError> {
        if let Some(folder) = folder {
            return Self::at(folder).unwrap_or_else(|| {
                Err(ProgramError::Missing(format!(" in {}", folder.display())))
            });
        }
        let mut unsupported = None;
        for folder in places() {
            match Self::at(&folder) {
                Some(Ok(found)) => {
                    if let Some(passed) = unsupported {
                        tracing::warn!(
                            "{passed}; using {} in {}",
                            found.version,
                            found.folder.display()
                        );
                    }
                    return Ok(found);
                }
                Some(Err(e)) => unsupported = Some(e),
                None => {}
            }
        }
        Err(unsupported.unwrap_or_else(|| ProgramError::Missing(String::new())))
    }

    /// `None` when there is no complete installation in `folder`.
    fn at(folder: &Path) -> Option<Result<Self, ProgramError>> {
        // A link on PATH leads to the folder where the other programs are.
        let postgres = folder.join("postgres").canonicalize().ok()?;
        let folder = postgres.parent()?.to_owned();
        let missing: Vec<&str> =
            ["initdb", "pg_controldata", "pg_rewind", "pg_basebackup", "psql", "pg_isready"]
                .into_iter()
                .filter(|p| !folder.join(p).exists())
                .collect();
        if !missing.is_empty() {
            return Some(Err(ProgramError::Incomplete {
                folder: folder.display().to_string(),
                missing: missing.join(", "),
            }));
        }
        let output = std::process::Command::new(&postgres).arg("--version").output().ok()?;
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let version = version_in(&said)?.to_owned();
        let major = version.split('.').next()?.parse().ok()?;
        Some(if SUPPORTED.contains(&major) {
            Ok(Self { folder, mark: None, major, version })
        } else {
            Err(ProgramError::Unsupported { found: said, folder: folder.display().to_string() })
        })
    }

    /// The version that is there now; `None` while it cannot be asked, as in the middle of an
    /// upgrade.
    pub async fn installed(&self) -> Option<String> {
        let asked = self.command("postgres").arg("--version").output();
        let output = tokio::time::timeout(ASKED_MAX, asked).await.ok()?.ok()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        version_in(&said).filter(|_| output.status.success()).map(str::to_owned)
    }

    /// The path of one program.
    pub fn path(&self, program: &str) -> PathBuf {
        self.folder.join(program)
    }

    /// The same, for the agent that keeps its state there: what it starts is known by that, and
    /// found after it was killed.
    pub fn of_agent(mut self, state_dir: &Path) -> Self {
        self.mark = Some(state_dir.to_owned());
        self
    }

    /// A command that dies with its future, in the C locale.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.path(program));
        command
            .kill_on_drop(true)
            .env("LC_ALL", "C")
            .env("PGCONNECT_TIMEOUT", "5")
            .stdin(Stdio::null());
        // A client of the server writes into no folder.
        if let Some(mark) =
            self.mark.as_ref().filter(|_| !["psql", "pg_isready"].contains(&program))
        {
            command.env(MARK, mark);
        }
        command
    }

    /// Runs a program to its end.
    ///
    /// # Errors
    /// [`ProgramError::Failed`] with the end of what it said.
    pub async fn run(
        &self,
        program: &str,
        configure: impl FnOnce(&mut Command),
    ) -> Result<String, ProgramError> {
        self.run_telling(program, configure, None).await
    }

    /// The same, telling each line of its progress.
    ///
    /// # Errors
    /// [`ProgramError::Failed`] with the end of what it said.
    pub async fn run_telling(
        &self,
        program: &str,
        configure: impl FnOnce(&mut Command),
        progress: Option<watch::Sender<String>>,
    ) -> Result<String, ProgramError> {
        let mut command = self.command(program);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        configure(&mut command);
        let failed = |why: String| ProgramError::Failed { program: program.to_owned(), why };
        let io = |e: std::io::Error| failed(e.to_string());
        let mut child = command.spawn().map_err(io)?;
        let (mut out, err) = (child.stdout.take(), child.stderr.take());
        let mut stdout = Vec::new();
        let read_out = async {
            match &mut out {
                Some(out) => out.read_to_end(&mut stdout).await.map(|_| ()),
                None => Ok(()),
            }
        };
        let read_err = async {
            let mut said = Vec::new();
            let Some(mut err) = err else { return Ok(said) };
            let mut piece = [0; 4096];
            loop {
                let read = err.read(&mut piece).await?;
                if read == 0 {
                    return Ok::<_, std::io::Error>(said);
                }
                said.extend_from_slice(&piece[..read]);
                if let (Some(progress), Some(line)) = (&progress, last_line(&said)) {
                    progress.send_replace(line);
                }
            }
        };
        let (read, said) = tokio::join!(read_out, read_err);
        let status = child.wait().await.map_err(io)?;
        read.map_err(io)?;
        if status.success() {
            return Ok(String::from_utf8_lossy(&stdout).into_owned());
        }
        let said = said.map_err(io)?;
        let said = String::from_utf8_lossy(&said);
        let tail: Vec<&str> =
            said.split(['\n', '\r']).filter(|l| !l.trim().is_empty() && !is_progress(l)).collect();
        let tail = tail[tail.len().saturating_sub(4)..].join("; ");
        Err(failed(if tail.is_empty() { status.to_string() } else { tail }))
    }

    /// What was started here and runs: a rebuild's programs.
    pub fn running(&self) -> Vec<u32> {
        self.mark.as_ref().map_or(vec![], |mark| {
            host::processes::with_environment(&format!("{MARK}={}", mark.display()))
        })
    }

    /// Ends what an agent with this state folder started and left behind when it was killed, or did
    /// not wait for: it would go on writing into a folder that is rebuilt.
    ///
    /// # Errors
    /// In words, when one survives.
    pub async fn end_leftovers(&self) -> Result<(), String> {
        let until = host::now() + crate::model::Span::secs(5);
        loop {
            let left = self.running();
            for pid in &left {
                tracing::warn!("ending {} ({pid}), left behind", host::processes::command_of(*pid));
                host::signal(*pid, Signal::KILL);
            }
            if left.is_empty() {
                return Ok(());
            }
            if host::now() >= until {
                return Err(format!(
                    "processes {left:?} of an earlier rebuild survive SIGKILL (in uninterruptible \
                     sleep?): nothing is rebuilt or started beside them"
                ));
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}

/// The last whole line; progress is overwritten in place on a terminal.
fn last_line(said: &[u8]) -> Option<String> {
    let end = said.iter().rposition(|b| matches!(b, b'\n' | b'\r'))?;
    let begin = said[..end].iter().rposition(|b| matches!(b, b'\n' | b'\r')).map_or(0, |at| at + 1);
    Some(String::from_utf8_lossy(&said[begin..end]).trim().to_owned()).filter(|l| !l.is_empty())
}

/// How far it is, and no reason: `1234/5678 kB (21%), 0/1 tablespace`.
fn is_progress(line: &str) -> bool {
    line.contains(" kB (") && line.contains("%)")
}

fn places() -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> =
        std::env::var_os("PATH").map(|p| std::env::split_paths(&p).collect()).unwrap_or_default();
    for major in SUPPORTED.rev() {
        places.push(format!("/usr/lib/postgresql/{major}/bin").into());
        places.push(format!("/usr/pgsql-{major}/bin").into());
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(state: &str) -> Programs {
        let programs =
            Programs { folder: "/bin".into(), mark: None, major: 15, version: String::new() };
        programs.of_agent(Path::new(state))
    }

    /// An agent was killed, and its `pg_rewind` wrote on into the folder that the next one rebuilt.
    #[tokio::test]
    async fn what_a_killed_agent_left_is_ended_and_nothing_else() {
        let here = tempfile::tempdir().unwrap();
        let (mine, others) = (here.path().join("a"), here.path().join("b"));
        let start = |state: &Path| {
            let mut command = of(state.to_str().unwrap()).command("sleep");
            command.arg("600").spawn().unwrap()
        };
        let (mut left, mut other) = (start(&mine), start(&others));
        let next = of(mine.to_str().unwrap());
        let (ended, reaped) = tokio::join!(next.end_leftovers(), left.wait());
        ended.unwrap();
        assert!(!reaped.unwrap().success());
        assert!(other.try_wait().unwrap().is_none(), "another agent's");
        other.kill().await.unwrap();
    }

    #[tokio::test]
    async fn a_failure_has_the_programs_last_words_and_not_its_progress() {
        let script =
            "printf '1/9 kB (11%%), 0/1 tablespace\\r' >&2; echo 'could not: x' >&2; exit 1";
        let (told, mut lines) = watch::channel(String::new());
        let sh = of("/nowhere");
        let failed = sh.run_telling("sh", |c| _ = c.args(["-c", script]), Some(told)).await;
        let words = failed.unwrap_err().to_string();
        assert_eq!(words, "sh failed: could not: x");
        assert!(!lines.borrow_and_update().is_empty());
        assert_eq!(last_line(b"a\rb\rhalf"), Some("b".into()));
        assert_eq!(last_line(b"half"), None);
    }
}
