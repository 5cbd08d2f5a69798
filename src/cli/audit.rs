//! `quorate audit`.

use std::io::BufRead as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use color_eyre::Result;
use color_eyre::eyre::eyre;

use super::Outcome;
use super::output::{self, Format, say};
use super::person::Person;
use crate::audit::Verifier;
use crate::model::record::ChainedRecord;
use crate::wire::message::{CallReply, CallRequest};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    person: Person,
    /// From this record on; default: all, or with --limit the newest.
    #[arg(long)]
    first: Option<u64>,
    /// At most so many.
    #[arg(long)]
    limit: Option<usize>,
    /// Only this record: its number, or the first characters of its hash.
    #[arg(long, value_name = "ID", conflicts_with_all = ["first", "limit"])]
    audit_id: Option<String>,
    /// `table` or `json` (one record a line); a table on a terminal.
    #[arg(long, value_enum)]
    output: Option<Format>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check the hash chain: the plane's, or an exported file's without any plane.
    Verify {
        /// A file made with `quorate audit --output json`.
        #[arg(long)]
        file: Option<PathBuf>,
    },
}

pub(super) fn run(arguments: &Arguments) -> Result<Outcome> {
    if let Some(Command::Verify { file: Some(file) }) = &arguments.command {
        return verify(file);
    }
    let identity = arguments.person.identity()?;
    let reply = super::runtime()?.block_on(async {
        let client = Person::client(&identity)?;
        let first = match (arguments.first, arguments.limit) {
            (Some(first), _) => first,
            (None, None) => 1,
            (None, Some(limit)) => match Person::call(&client, CallRequest::View).await? {
                CallReply::View(view) => view.record_count.saturating_sub(limit as u64) + 1,
                _ => 1,
            },
        };
        Person::call(
            &client,
            CallRequest::Audit { first, limit: arguments.limit.unwrap_or(10_000) },
        )
        .await
    })?;
    let CallReply::Audit { records, chain } = reply else {
        return match reply {
            CallReply::Refused { check, why } => {
                eprintln!("quorate: refused ({check}): {why}");
                Ok(Outcome::Refused)
            }
            other => Err(eyre!("unexpected answer: {other:?}")),
        };
    };
    let records: Vec<ChainedRecord> = match &arguments.audit_id {
        None => records,
        Some(id) => {
            let is_it =
                |r: &ChainedRecord| r.number.to_string() == *id || r.hash.starts_with(&**id);
            records.into_iter().filter(is_it).collect()
        }
    };
    if let Some(id) = arguments.audit_id.as_ref().filter(|_| records.is_empty()) {
        return Err(eyre!("no record has the number or the hash {id}"));
    }
    if arguments.command.is_some() {
        say!("{chain}");
        return Ok(if chain.contains("breaks") { Outcome::NotDone } else { Outcome::Done });
    }
    match Format::or_default(arguments.output) {
        Format::Json => {
            records.iter().for_each(|r| output::line(&serde_json::to_string(r).unwrap_or_default()))
        }
        Format::Table => {
            for r in &records {
                say!(
                    "{:>6} {} e{:<4} {:>4} {:<10} {:<10} {}",
                    r.number,
                    r.record.wall.rfc3339(),
                    r.record.epoch,
                    r.record.rule,
                    r.record.actor,
                    r.record.kind,
                    r.record.text
                );
            }
            say!("{chain}");
        }
    }
    Ok(Outcome::Done)
}

fn verify(file: &PathBuf) -> Result<Outcome> {
    let reader = std::io::BufReader::new(
        std::fs::File::open(file).map_err(|e| eyre!("{}: {e}", file.display()))?,
    );
    let mut verifier = Verifier::default();
    for (i, line) in reader.lines().enumerate() {
        let record: ChainedRecord = serde_json::from_str(&line?)
            .map_err(|e| eyre!("{}:{}: not a record: {e}", file.display(), i + 1))?;
        if i == 0 && record.number > 1 {
            verifier = Verifier::behind(record.number, &record.previous);
            say!(
                "this file begins at record {}: what came before it cannot be checked from it",
                record.number
            );
        }
        if let Err(broken) = verifier.check(&record) {
            say!("{broken}");
            return Ok(Outcome::NotDone);
        }
    }
    let (count, hash) = verifier.so_far();
    if count == 0 {
        return Err(eyre!("{} holds no records", file.display()));
    }
    say!("the chain verifies up to record {count}, ending in {hash}");
    Ok(Outcome::Done)
}
