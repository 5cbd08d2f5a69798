//! `quorate fork`: log that was given up, and is kept: what is in it, and when it goes.
//!
//! A rewind or a clone copies the log that it would erase into a folder first. What clients wrote
//! there and the cluster lost can be looked up in it, transaction by transaction.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use color_eyre::Result;
use color_eyre::eyre::eyre;
use serde::Serialize;

use super::Outcome;
use super::output::{self, Format, say};
use crate::agent::adapter::postgres::{Programs, begins, begins_fork};
use crate::config::AgentConfig;
use crate::model::{Lsn, WallTime};
use crate::picture::number;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The forks that are kept on this host.
    List(Where),
    /// What a fork holds: its transactions, and the tables that they touched.
    Show {
        /// Its name, as `list` shows it.
        fork: String,
        #[command(flatten)]
        place: Where,
    },
    /// Removes forks that nobody needs any more.
    Prune {
        /// These.
        #[arg(required_unless_present = "older_than_days")]
        forks: Vec<String>,
        /// Every one that was kept more than so many days ago.
        #[arg(long, conflicts_with = "forks")]
        older_than_days: Option<u64>,
        #[command(flatten)]
        place: Where,
    },
}

#[derive(Debug, Args)]
struct Where {
    /// The node's agent.yaml.
    #[arg(long)]
    config: PathBuf,
    /// `table` or `json`; a table on a terminal.
    #[arg(long, value_enum)]
    output: Option<Format>,
}

/// One fork.
#[derive(Debug, Serialize)]
struct Fork {
    name: String,
    folder: PathBuf,
    timeline: u32,
    from: Lsn,
    segments: usize,
    bytes: u64,
    /// When its last segment was kept.
    kept: WallTime,
}

pub(super) fn run(arguments: &Arguments) -> Result<Outcome> {
    match &arguments.what {
        What::List(place) => {
            let forks = place.forks()?;
            match Format::or_default(place.output) {
                Format::Json => output::json(&forks),
                Format::Table => table(&forks),
            }
            Ok(Outcome::Done)
        }
        What::Show { fork, place } => show(&place.fork(fork)?, place),
        What::Prune { forks, older_than_days, place } => {
            let gone = match older_than_days {
                None => forks.iter().map(|name| place.fork(name)).collect::<Result<Vec<_>>>()?,
                Some(days) => {
                    let age = Duration::from_secs(days.saturating_mul(86_400));
                    let until = SystemTime::now().checked_sub(age);
                    let until = wall(until.unwrap_or(SystemTime::UNIX_EPOCH));
                    place.forks()?.into_iter().filter(|fork| fork.kept < until).collect()
                }
            };
            for fork in &gone {
                std::fs::remove_dir_all(&fork.folder)
                    .map_err(|e| eyre!("{}: {e}", fork.folder.display()))?;
                say!("removed {} ({})", fork.folder.display(), number::bytes(fork.bytes));
            }
            if gone.is_empty() {
                say!("nothing to remove");
            }
            Ok(Outcome::Done)
        }
    }
}

impl Where {
    fn config(&self) -> Result<AgentConfig> {
        Ok(AgentConfig::read(&self.config)?)
    }

    fn forks(&self) -> Result<Vec<Fork>> {
        let config = self.config()?;
        let beside = config.postgres.as_ref().map(|p| p.data_dir.with_extension("forks"));
        let mut forks = vec![];
        for place in std::iter::once(config.state_dir.join("forks")).chain(beside) {
            let entries = match std::fs::read_dir(&place) {
                Ok(entries) => entries,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                Err(e) => return Err(eyre!("{}: {e}", place.display())),
            };
            forks.extend(entries.flatten().filter_map(|entry| look(&entry.path())));
        }
        forks.sort_by_key(|fork| fork.kept);
        Ok(forks)
    }

    fn fork(&self, name: &str) -> Result<Fork> {
        let found = self.forks()?.into_iter().find(|fork| fork.name == name);
        found.ok_or_else(|| eyre!("no fork {name:?} is kept here; quorate fork list shows them"))
    }
}

fn wall(time: SystemTime) -> WallTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    WallTime(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

fn look(folder: &Path) -> Option<Fork> {
    let name = folder.file_name()?.to_str()?;
    let (timeline, from) = begins_fork(name)?;
    let files = std::fs::read_dir(folder).ok()?.flatten().filter_map(|e| e.metadata().ok());
    let (mut segments, mut bytes, mut kept) = (0, 0, SystemTime::UNIX_EPOCH);
    for file in files {
        segments += 1;
        bytes += file.len();
        kept = kept.max(file.modified().unwrap_or(kept));
    }
    if segments == 0 {
        kept = folder.metadata().and_then(|m| m.modified()).unwrap_or(kept);
    }
    let (name, folder, kept) = (name.to_owned(), folder.to_owned(), wall(kept));
    Some(Fork { name, folder, timeline, from, segments, bytes, kept })
}

fn table(forks: &[Fork]) {
    if forks.is_empty() {
        say!("no log was given up here");
        return;
    }
    say!("{:<44} {:>8} {:>10}  KEPT", "FORK", "SEGMENTS", "SIZE");
    for fork in forks {
        say!(
            "{:<44} {:>8} {:>10}  {}",
            fork.name,
            fork.segments,
            number::bytes(fork.bytes),
            fork.kept.rfc3339()
        );
    }
}

/// What a fork holds.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Held {
    /// Records that were read.
    records: usize,
    /// Transactions that committed, and when.
    commits: Vec<Commit>,
    /// Records for each relation (tablespace/database/file).
    relations: BTreeMap<String, u64>,
    /// Where reading ended, and why: the end of a log is no error.
    end: String,
}

#[derive(Debug, PartialEq, Serialize)]
struct Commit {
    transaction: String,
    at: Lsn,
    /// By the server's clock, as it wrote it.
    when: String,
}

/// Transactions that are listed; the others are counted.
const SHOWN: usize = 20;

fn show(fork: &Fork, place: &Where) -> Result<Outcome> {
    let config = place.config()?;
    let programs = Programs::find(config.postgres.as_ref().and_then(|p| p.bin_dir.as_deref()))?;
    let mut segments: Vec<String> = std::fs::read_dir(&fork.folder)?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.len() == 24)
        .collect();
    segments.sort_unstable();
    if fork.segments == 0 {
        say!("{} holds nothing: no log was written past {}", fork.name, fork.from);
        return Ok(Outcome::Done);
    }
    // From the first kept segment on; what lies before the fork in it is history, and left out.
    let first = segments.first().ok_or_else(|| eyre!("{} holds no segment", fork.name))?;
    let segment_bytes = std::fs::metadata(fork.folder.join(first))?.len();
    let mut dump = std::process::Command::new(programs.path("pg_waldump"));
    dump.env("LC_ALL", "C").arg("--path").arg(&fork.folder);
    if fork.from > Lsn(0) && begins(first, segment_bytes).is_some_and(|at| at <= fork.from.0) {
        let timeline = fork.timeline.to_string();
        dump.args(["--timeline", &timeline, "--start", &fork.from.to_string()]);
    } else {
        dump.arg(first);
        dump.args(segments.last());
    }
    let said =
        dump.output().map_err(|e| eyre!("{}: {e}", programs.path("pg_waldump").display()))?;
    let held = read(&String::from_utf8_lossy(&said.stdout), &String::from_utf8_lossy(&said.stderr));
    if held.records == 0 {
        eprintln!("quorate: unknown: nothing of {} could be read: {}", fork.name, held.end);
        return Ok(Outcome::Unknown);
    }
    match Format::or_default(place.output) {
        Format::Json => output::json(&held),
        Format::Table => {
            say!("{}  timeline {} from {}", fork.name, fork.timeline, fork.from);
            say!("  {} transactions committed that are not in the history", held.commits.len());
            let skipped = held.commits.len().saturating_sub(SHOWN);
            if skipped > 0 {
                say!("    {skipped} earlier ones are not shown (--output json shows all)");
            }
            for commit in &held.commits[skipped..] {
                say!("    {}  transaction {}  at {}", commit.when, commit.transaction, commit.at);
            }
            for (relation, records) in &held.relations {
                say!("  {records:>8} records of relation {relation}");
            }
            say!("  read up to its end: {}", held.end);
            say!(
                "  a relation is tablespace/database/file: SELECT pg_filenode_relation(…), or oid2name"
            );
            say!("  every record: {dump:?}");
        }
    }
    Ok(Outcome::Done)
}

/// Reads what `pg_waldump` says.
fn read(records: &str, errors: &str) -> Held {
    let mut held = Held::default();
    let after = |line: &str, word: &str| {
        let rest = line.split_once(word)?.1.trim_start();
        Some(rest.split([',', ' ', ';']).next().unwrap_or_default().to_owned())
    };
    for line in records.lines() {
        held.records += usize::from(line.starts_with("rmgr:"));
        let commit = line.split_once("desc: COMMIT ");
        let prepared = line.split_once("desc: COMMIT_PREPARED ");
        let prepared =
            prepared.and_then(|(before, after)| Some((before, after.split_once(": ")?.1)));
        if let Some((_, when)) = commit.or(prepared) {
            let when = when.split(';').next().unwrap_or_default().trim().to_owned();
            let transaction = after(line, "tx:").unwrap_or_default();
            let at = after(line, "lsn:").and_then(|at| at.parse().ok()).unwrap_or(Lsn(0));
            held.commits.push(Commit { transaction, at, when });
        }
        for block in line.split("blkref #").skip(1) {
            if let Some(relation) = after(block, "rel ") {
                *held.relations.entry(relation).or_default() += 1;
            }
        }
    }
    held.end = errors.lines().last().unwrap_or("the last segment's end").trim().to_owned();
    held
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transactions_and_tables_are_read_from_the_log() {
        let records = "\
rmgr: Heap        len (rec/tot):     54/   150, tx:        735, lsn: 0/030000D8, prev 0/030000A0, \
desc: INSERT off 6 flags 0x00, blkref #0: rel 1663/5/16385 blk 0 FPW
rmgr: Transaction len (rec/tot):     34/    34, tx:        735, lsn: 0/03000170, prev 0/030000D8, \
desc: COMMIT 2026-11-28 03:12:45.123456 UTC
";
        let errors = "pg_waldump: error: error in WAL record at 0/3000170: invalid record length\n";
        let held = read(records, errors);
        let when = "2026-11-28 03:12:45.123456 UTC".to_owned();
        let commit = Commit { transaction: "735".into(), at: Lsn(0x300_0170), when };
        assert_eq!(held.commits, [commit]);
        assert_eq!(held.relations, BTreeMap::from([("1663/5/16385".to_owned(), 1)]));
        assert!(held.end.ends_with("invalid record length"));
    }
}
