//! `quorate why`, `verify` and `acknowledge`: why it is as it is, whether it holds together, and "I
//! have seen it".

use clap::Args;
use color_eyre::Result;
use color_eyre::eyre::eyre;

use super::Outcome;
use super::files::Files;
use super::output::{self, Format, say};
use super::person::Person;
use crate::engine::PersonOrder;
use crate::model::Span;
use crate::model::plan::{Candidate, Check};
use crate::model::view::{Explanation, PhaseView, band};
use crate::wire::message::{CallReply, CallRequest};

#[derive(Debug, Args)]
pub(super) struct WhyArguments {
    /// The cluster; default: the one the plane watches.
    name: Option<String>,
    #[command(flatten)]
    person: Person,
    #[command(flatten)]
    files: Files,
    /// How far to look back.
    #[arg(long, default_value = "15m")]
    within: humantime::Duration,
    /// `table` or `json`; a table on a terminal.
    #[arg(long, value_enum)]
    output: Option<Format>,
}

#[derive(Debug, Args)]
pub(super) struct VerifyArguments {
    #[command(flatten)]
    person: Person,
    #[command(flatten)]
    files: Files,
    /// Why, for the audit.
    #[arg(long, default_value = "asked for on the command line")]
    reason: String,
    /// `table` or `json`; a table on a terminal.
    #[arg(long, value_enum)]
    output: Option<Format>,
}

#[derive(Debug, Args)]
pub(super) struct AcknowledgeArguments {
    #[command(flatten)]
    person: Person,
    /// What was found, for the audit.
    #[arg(long)]
    reason: String,
}

pub(super) fn why(arguments: &WhyArguments) -> Result<Outcome> {
    let explanation = match arguments.files.stand()? {
        Some(stand) => stand.explain(),
        None => {
            let identity = arguments.person.identity()?;
            let within = Span(u64::try_from(arguments.within.as_nanos()).unwrap_or(u64::MAX));
            let reply = super::runtime()?.block_on(async {
                Person::call(&Person::client(&identity)?, CallRequest::Why { within }).await
            })?;
            match reply {
                CallReply::Why(explanation) => *explanation,
                other => return Err(eyre!("unexpected answer: {other:?}")),
            }
        }
    };
    if let Some(name) = arguments.name.as_ref().filter(|n| **n != *explanation.cluster.as_str()) {
        return Err(eyre!("this plane watches cluster {}, not {name}", explanation.cluster));
    }
    match Format::or_default(arguments.output) {
        Format::Json => output::json(&explanation),
        Format::Table => table(&explanation, &arguments.within.to_string()),
    }
    Ok(Outcome::Done)
}

fn mark(held: bool) -> &'static str {
    if held { "✓" } else { "✗" }
}

fn line(check: &Check) -> String {
    let age = check.age.map_or(String::new(), |a| format!(", {a} old"));
    let until =
        if check.passed { String::new() } else { format!("; until {}", check.would_change) };
    format!(
        "{} {:<22} {} (limit {}; {}{age}){until}",
        mark(check.passed),
        check.name,
        check.value,
        check.limit,
        check.source
    )
}

fn table(e: &Explanation, within: &str) {
    say!("{}", crate::picture::outlook::answer(&e.answer));
    say!("{} {}: {}; phase {}", e.cluster, e.state.word(), e.why, e.phase.phase.word());
    if let Some(loss) = &e.loss {
        say!("an unplanned move now would lose: {loss}");
    }
    ways(&e.phase);
    say!("");
    say!("verdicts");
    for node in &e.nodes {
        let sees = node.votes.iter().filter(|(_, v)| *v).count();
        let score = node.health.as_ref().map_or(String::new(), |h| {
            format!("health {}.{:02}", h.score / 1_000, h.score % 1_000 / 10)
        });
        say!(
            "  {:<12} {:<9} seen by {sees} of {}  {score}  {}",
            node.node,
            node.verdict.word(),
            node.votes.len(),
            node.why
        );
    }
    say!("");
    say!("the policy on a move now");
    for check in &e.constraints {
        say!("  {}", line(check));
    }
    say!("");
    say!("candidates");
    for candidate in &e.candidates {
        let passed = candidate.checks.iter().filter(|c| c.passed).count();
        let rank = if candidate.eligible {
            format!("rank {}", candidate.rank)
        } else {
            "not eligible".into()
        };
        say!("  {:<12} {rank}: {passed} of {} checks hold", candidate.node, candidate.checks.len());
        for check in failing(candidate) {
            say!("      {}", line(check));
        }
    }
    if let Some(nearest) = &e.nearest {
        let failing =
            e.candidates.iter().find(|c| c.node == *nearest).map_or(0, |c| failing(c).count());
        say!("  nearest to eligible: {nearest}, which fails {failing}");
    }
    say!("");
    say!("decided within the last {within}");
    if e.recent.is_empty() {
        say!("  nothing: no verdict changed and no order was given");
    }
    for r in &e.recent {
        say!("  {} rule {:>3}  {}", r.record.wall.clock(), r.record.rule, r.record.text);
    }
}

/// The ways out of a state that is not healthy, each with the command that takes it.
pub(super) fn ways(phase: &PhaseView) {
    if phase.ways_out.is_empty() {
        return;
    }
    say!("");
    say!("ways out");
    for way in &phase.ways_out {
        let loss = way.loss.as_ref().map_or(String::new(), |l| format!("; loss {l}"));
        let needs =
            if way.needs.is_empty() { String::new() } else { format!("; needs {}", way.needs) };
        say!("  - {}{loss}{needs}", way.text);
        if let Some(command) = way.act.command() {
            say!("      {command}");
        }
    }
}

fn failing(candidate: &Candidate) -> impl Iterator<Item = &Check> {
    candidate.checks.iter().filter(|c| !c.passed)
}

pub(super) fn verify(arguments: &VerifyArguments) -> Result<Outcome> {
    if let Some(stand) = arguments.files.stand()? {
        let (parts, confidence) = stand.verify_by_a_write();
        return Ok(verified(&parts, confidence, arguments.output));
    }
    let identity = arguments.person.identity()?;
    let (parts, confidence) = super::runtime()?.block_on(async {
        let client = Person::client(&identity)?;
        match client.prove(&arguments.reason).await? {
            CallReply::Verified { parts, confidence } => Ok((parts, confidence)),
            other => Err(eyre!("unexpected answer: {other:?}")),
        }
    })?;
    Ok(verified(&parts, confidence, arguments.output))
}

fn verified(parts: &[(String, bool, String)], confidence: u64, format: Option<Format>) -> Outcome {
    match Format::or_default(format) {
        Format::Json => output::json(
            &serde_json::json!({"confidence": confidence, "band": band(confidence), "parts": parts}),
        ),
        Format::Table => {
            for (name, held, found) in parts {
                say!("{} {name:<12} {found}", mark(*held));
            }
            say!("confidence {confidence} of 100 ({})", band(confidence));
        }
    }
    if parts.iter().all(|(_, held, _)| *held) { Outcome::Done } else { Outcome::NotDone }
}

pub(super) fn acknowledge(arguments: &AcknowledgeArguments) -> Result<Outcome> {
    let identity = arguments.person.identity()?;
    let order = PersonOrder::Acknowledge { reason: arguments.reason.clone() };
    let reply = super::runtime()?.block_on(async {
        Person::call(&Person::client(&identity)?, CallRequest::Order(order)).await
    })?;
    match reply {
        CallReply::Accepted { .. } => {
            say!("acknowledged: cooldown, rate and crash loops count anew from now");
            Ok(Outcome::Done)
        }
        CallReply::Refused { check, why } => {
            eprintln!("quorate: refused ({check}): {why}");
            Ok(Outcome::Refused)
        }
        other => Err(eyre!("unexpected answer: {other:?}")),
    }
}
