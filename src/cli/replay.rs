//! `quorate replay` and `quorate backtest`: a recorded incident again, bit for bit, or under
//! another policy.

use std::path::{Path, PathBuf};

use clap::Args;
use color_eyre::Result;
use color_eyre::eyre::eyre;

use super::Outcome;
use super::output::{self, Format, say};
use crate::config;
use crate::engine::Engine;
use crate::engine::journal::{self, Entry};
use crate::model::Span;
use crate::model::loss::LossAccount;
use crate::model::plan::Plan;
use crate::model::record::Record;
use crate::model::topology::{Policy, Strategy};
use crate::sim::forecast::{self, Sample};
use crate::sim::{self, whatif};
use crate::store::{Sqlite, Store as _};

#[derive(Debug, Args)]
pub(super) struct ReplayArguments {
    /// A plane's plane.sqlite, or a journal file (JSON lines).
    journal: PathBuf,
    /// Writes the journal here as JSON lines, to keep or to send.
    #[arg(long)]
    export: Option<PathBuf>,
    /// `table` or `json`; a table on a terminal.
    #[arg(long, value_enum)]
    output: Option<Format>,
}

#[derive(Debug, Args)]
pub(super) struct BacktestArguments {
    /// A plane's plane.sqlite, or a journal file (JSON lines).
    journal: PathBuf,
    /// The policy to try.
    #[arg(long)]
    policy: PathBuf,
    /// `table` or `json`; a table on a terminal.
    #[arg(long, value_enum)]
    output: Option<Format>,
}

/// Simulated runs of each kind under each policy.
const RUNS: u64 = 200;

fn read(path: &Path) -> Result<Vec<Entry>> {
    let bytes = std::fs::read(path).map_err(|e| eyre!("{}: {e}", path.display()))?;
    let text = if bytes.starts_with(b"SQLite format 3") {
        Sqlite::open(path)?.journal()?.join("\n")
    } else {
        String::from_utf8(bytes)
            .map_err(|_| eyre!("{} is neither a plane's database nor a text", path.display()))?
    };
    let entries = journal::parse(path, &text)?;
    if !entries.iter().any(|e| matches!(e, Entry::Checkpoint(_))) {
        return Err(eyre!(
            "{} has no checkpoint to begin from: {} entries",
            path.display(),
            entries.len()
        ));
    }
    Ok(entries)
}

pub(super) fn replay(arguments: &ReplayArguments) -> Result<Outcome> {
    let entries = read(&arguments.journal)?;
    if let Some(path) = &arguments.export {
        let text: String = entries.iter().map(|e| e.line() + "\n").collect();
        std::fs::write(path, text).map_err(|e| eyre!("{}: {e}", path.display()))?;
    }
    let replayed = journal::replay(&entries, None);
    match Format::or_default(arguments.output) {
        Format::Json => output::json(&replayed.records),
        Format::Table => {
            for record in &replayed.records {
                say!(
                    "{}  {:>3}  {:<10} {}",
                    record.wall.rfc3339(),
                    record.rule,
                    record.kind,
                    record.text
                );
            }
            say!("");
        }
    }
    if replayed.skipped > 0 {
        eprintln!(
            "quorate: {} entries before the first checkpoint could not be replayed",
            replayed.skipped
        );
    }
    match replayed.differs {
        None => {
            eprintln!(
                "quorate: {} inputs, {} decisions: identical to the recorded ones",
                replayed.inputs, replayed.compared
            );
            Ok(Outcome::Done)
        }
        Some(at) => {
            eprintln!(
                "quorate: the decision at {at:?} is not the recorded one; was the journal written \
                    by another version?"
            );
            Ok(Outcome::NotDone)
        }
    }
}

pub(super) fn backtest(arguments: &BacktestArguments) -> Result<Outcome> {
    let entries = read(&arguments.journal)?;
    let cluster = entries.iter().find_map(|e| match e {
        Entry::Checkpoint(engine) => Some(engine.cluster().clone()),
        _ => None,
    });
    let cluster = cluster.ok_or_else(|| eyre!("the journal has no checkpoint"))?;
    let policy = config::policy::read(&arguments.policy, &cluster)?;
    let (recorded, other) =
        (journal::replay(&entries, None), journal::replay(&entries, Some(&policy)));
    let differences = journal::compare(&recorded, &other);
    if Format::or_default(arguments.output) == Format::Json {
        output::json(&differences);
        return Ok(Outcome::Done);
    }
    let time = |t: Option<Span>| t.map_or("-".to_owned(), |t| t.to_string());
    say!("{:>12} {:>12} {:>10}  rule  what", "recorded", "other", "");
    for d in &differences {
        let how = match (d.recorded, d.other) {
            (Some(a), Some(b)) if a == b => "same".to_owned(),
            (Some(a), Some(b)) if a > b => format!("-{}", Span(a.0 - b.0)),
            (Some(a), Some(b)) => format!("+{}", Span(b.0 - a.0)),
            (Some(_), None) => "not then".into(),
            (None, _) => "only then".into(),
        };
        say!("{:>12} {:>12} {how:>10}  {:>4}  {}", time(d.recorded), time(d.other), d.rule, d.text);
    }
    say!("");
    say!("recorded policy: {}", plans(&recorded.records));
    say!("other policy:    {}", plans(&other.records));
    let first = differences
        .iter()
        .filter(|d| d.recorded != d.other)
        .filter_map(|d| [d.recorded, d.other].into_iter().flatten().min())
        .min();
    let begin = recorded.records.iter().chain(&other.records).map(|r| r.at).min();
    let calm =
        begin.zip(first).and_then(|(begin, first)| journal::calm_before(&entries, begin + first));
    if let Some(engine) = &calm {
        say!("");
        say!("simulated from the last calm moment before they part, {RUNS} times each:");
        say!("  recorded policy  {}", simulated(engine, engine.policy()));
        say!("  other policy     {}", simulated(engine, &policy));
    }
    let changed = differences.iter().filter(|d| d.recorded != d.other).count();
    if changed > 0 {
        say!(
            "{changed} of {} events differ. From the first different order on, the recorded \
                agents go on answering the orders they were given",
            differences.len()
        );
    } else {
        say!("nothing would have been different");
    }
    Ok(Outcome::Done)
}

/// How it would have gone from there, if the primary's process or its host had died, in time and
/// loss.
fn simulated(engine: &Engine, policy: &Policy) -> String {
    let stand = whatif::stand(engine.cluster(), policy, engine.view());
    let told = |scenario: &sim::Scenario| {
        let samples: Vec<Sample> =
            (0..RUNS).map(|seed| Sample::from(&stand.play(scenario, seed))).collect();
        let f = forecast::sum_up(&scenario.name, &samples);
        let ends = match f.read_only {
            0 => String::new(),
            n if policy.strategy == Strategy::Manual => {
                format!(", {n} of {} wait for a person", f.runs)
            }
            n => format!(", {n} of {} end read-only", f.runs),
        };
        let loses = if f.losing > 0 {
            format!(", {} lose up to {} writes", f.losing, f.lost_max)
        } else {
            ", none loses a write".into()
        };
        format!("without writes p50 {} p95 {}{ends}{loses}", f.outage_p50, f.outage_p95)
    };
    format!(
        "process: {}; whole host: {}",
        told(&whatif::process_dies()),
        told(&whatif::host_dies())
    )
}

/// Plans that ran and what they would lose, in words.
fn plans(records: &[Record]) -> String {
    let plans: Vec<Plan> = records
        .iter()
        .filter(|r| r.kind == "plan")
        .filter_map(|r| Plan::from_evidence(&r.data))
        .collect();
    let loss: Vec<String> = plans.iter().map(|p: &Plan| LossAccount::short(&p.loss)).collect();
    let refused = records.iter().filter(|r| r.kind == "refusal").count();
    format!(
        "{} plans (loss: {}), {refused} refusals",
        plans.len(),
        if loss.is_empty() { "-".into() } else { loss.join(", ") }
    )
}
