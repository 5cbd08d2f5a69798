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
use crate::model::record::{ChainVerdict, ChainedRecord};
use crate::wire::message::{CallReply, CallRequest};

/// A plane hands out so many records at once.
const PAGE: usize = 10_000;

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

/// So many characters name a record by its hash.
const HASH_MIN: usize = 8;

pub(super) fn run(arguments: &Arguments) -> Result<Outcome> {
    if let Some(Command::Verify { file: Some(file) }) = &arguments.command {
        return verify(file);
    }
    let identity = arguments.person.identity()?;
    let read = super::runtime()?.block_on(async {
        let client = Person::client(&identity)?;
        let first = match (arguments.first, arguments.limit) {
            (Some(first), _) => first,
            (None, None) => 1,
            (None, Some(limit)) => match Person::call(&client, CallRequest::View).await? {
                CallReply::View(view) => view.record_count.saturating_sub(limit as u64) + 1,
                _ => 1,
            },
        };
        let wanted = |r: &ChainedRecord| {
            // A few digits are a number; a hash is named by more.
            let is_it = |id: &String| match id.parse::<u64>() {
                Ok(number) if id.len() < HASH_MIN => r.number == number,
                number => number == Ok(r.number) || r.hash.starts_with(&**id),
            };
            arguments.audit_id.as_ref().is_none_or(is_it)
        };
        // A chain that is only checked needs no records here.
        let limit = if arguments.command.is_some() { Some(1) } else { arguments.limit };
        let page =
            async |first, limit| Person::call(&client, CallRequest::Audit { first, limit }).await;
        read(first, limit, wanted, page).await
    })?;
    let (records, chain) = match read {
        Ok(read) => read,
        Err((check, why)) => {
            eprintln!("quorate: refused ({check}): {why}");
            return Ok(Outcome::Refused);
        }
    };
    if let Some(id) = arguments.audit_id.as_ref().filter(|_| records.is_empty()) {
        return Err(eyre!("no record has the number or the hash {id}"));
    }
    if arguments.command.is_some() {
        say!("the chain: {chain}");
        return Ok(if chain.holds() { Outcome::Done } else { Outcome::NotDone });
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
            say!("the chain: {chain}");
        }
    }
    Ok(Outcome::Done)
}

/// What was read, with the verdict on the chain; or which check refused it, and why.
type Read = Result<(Vec<ChainedRecord>, ChainVerdict), (String, String)>;

/// Page by page, up to `limit` or the end.
async fn read(
    mut first: u64,
    limit: Option<usize>,
    wanted: impl Fn(&ChainedRecord) -> bool,
    page: impl AsyncFn(u64, usize) -> Result<CallReply>,
) -> Result<Read> {
    let (mut left, mut found) = (limit.unwrap_or(usize::MAX), vec![]);
    loop {
        let asked = left.min(PAGE);
        match page(first, asked).await? {
            CallReply::Audit { records, chain } => {
                left -= records.len().min(left);
                let ended = records.len() < asked || left == 0;
                first = records.last().map_or(first, |r| r.number + 1);
                found.extend(records.into_iter().filter(|r| wanted(r)));
                if ended {
                    return Ok(Ok((found, chain)));
                }
            }
            CallReply::Refused { check, why } => return Ok(Err((check, why))),
            other => return Err(eyre!("unexpected answer: {other:?}")),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::record::Record;
    use crate::model::{ClusterId, Epoch, Timestamp, WallTime};

    fn record(number: u64) -> ChainedRecord {
        let record = Record {
            cluster: ClusterId::new("c"),
            at: Timestamp(number),
            wall: WallTime(0),
            epoch: Epoch(1),
            rule: 102,
            actor: "plane".into(),
            kind: "verdict".into(),
            text: String::new(),
            data: serde_json::Value::Null,
        };
        let hash = format!("{number:064x}");
        ChainedRecord { number, previous: String::new(), hash, record }
    }

    /// It looked at the first 10,000 records only, and said that there is no other.
    #[test]
    fn a_record_is_found_wherever_it_is() {
        const COUNT: u64 = 25_000;
        let page = async |first: u64, limit: usize| {
            let records = (first..=COUNT).take(limit.min(PAGE)).map(record).collect();
            Ok(CallReply::Audit { records, chain: ChainVerdict::Verified { to: COUNT } })
        };
        let runtime = crate::cli::runtime().unwrap();
        let numbers = |first, limit, wanted: fn(&ChainedRecord) -> bool| -> Vec<u64> {
            let (records, _) = runtime.block_on(read(first, limit, wanted, page)).unwrap().unwrap();
            records.iter().map(|r| r.number).collect()
        };
        assert_eq!(numbers(1, None, |r| r.number == 24_321), [24_321]);
        assert_eq!(numbers(1, None, |_| true).len(), 25_000);
        assert_eq!(numbers(20_001, None, |_| true).len(), 5_000);
        assert_eq!(numbers(9_000, Some(12_000), |_| true).last(), Some(&20_999));
    }
}
