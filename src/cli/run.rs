//! `quorate plan`, `execute` and `switchover`.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use color_eyre::Result;
use color_eyre::eyre::eyre;

use super::files::Files;
use super::output::{self, Format, Output, say};
use super::person::{Person, approval_key};
use super::{Outcome, simulate};
use crate::agent::host;
use crate::config::Identity;
use crate::engine::PersonOrder;
use crate::model::plan::{Plan, Proposal};
use crate::model::view::{self, RunView};
use crate::model::{Digest, NodeId, WallTime};
use crate::wire::Client;
use crate::wire::message::{CallReply, CallRequest};

#[derive(Debug, Args)]
pub(super) struct PlanArguments {
    #[command(flatten)]
    person: Person,
    #[command(flatten)]
    wanted: Wanted,
    #[command(flatten)]
    files: Files,
    /// `table`, `json`, or a file that the plan is written to; a table on a terminal.
    #[arg(long)]
    output: Option<Output>,
}

/// What a plan is wished for, as it is typed.
#[derive(Debug, Args)]
struct Wanted {
    /// The node that is to hold the role; default: the best candidate.
    #[arg(long)]
    to: Option<String>,
    /// The node to be without: the role is not to stay there, or, where several accept writes, its
    /// share goes to the others.
    #[arg(long, conflicts_with = "to")]
    away: Vec<String>,
    /// Why, for the audit.
    #[arg(long, default_value = "asked for on the command line")]
    reason: String,
    /// Accept that nobody can say what is lost.
    #[arg(long)]
    accept_unknown_loss: bool,
    /// Back to the node where the policy's priorities put the role.
    #[arg(long)]
    failback: bool,
    /// Nobody holds the role: who held it last takes it back.
    #[arg(long, conflicts_with_all = ["to", "away", "failback"])]
    resume: bool,
}

impl Wanted {
    fn proposal(&self) -> Proposal {
        Proposal {
            to: self.to.as_deref().map(NodeId::new),
            away: self.away.iter().map(NodeId::new).collect(),
            reason: self.reason.clone(),
            accept_unknown_loss: self.accept_unknown_loss,
            failback: self.failback,
            resume: self.resume,
        }
    }
}

#[derive(Clone, Debug, Args)]
pub(super) struct ExecuteArguments {
    #[command(flatten)]
    person: Person,
    /// The digest of the plan (its first 8 characters are enough); not needed with --cluster.
    #[arg(required_unless_present_any = ["cluster", "file"], default_value = "")]
    plan: String,
    /// A file that `quorate plan --output FILE` wrote: its plan, if it still waits.
    #[arg(id = "file", long = "plan", value_name = "FILE", conflicts_with_all = ["plan", "cluster"])]
    file: Option<PathBuf>,
    /// Nothing is done: says whether it would be executed now, or what moved since it was made.
    /// With --cluster and --policy the plan is played on a simulated cluster.
    #[arg(long)]
    dry_run: bool,
    /// With --cluster: the node that is to hold the role; default: the best candidate.
    #[arg(long, requires = "cluster")]
    to: Option<String>,
    /// With --cluster: the node to be without, where several accept writes.
    #[arg(long, requires = "cluster", conflicts_with = "to")]
    away: Vec<String>,
    /// With --cluster: accept that nobody can say what is lost.
    #[arg(long, requires = "cluster")]
    accept_unknown_loss: bool,
    #[command(flatten)]
    files: Files,
    /// The name of the node that the plan demotes; asked for on a terminal.
    #[arg(long)]
    confirm: Option<String>,
    /// Why, for the audit.
    #[arg(long, default_value = "confirmed on the command line")]
    reason: String,
    /// `table` or `json`; a table on a terminal.
    #[arg(long, value_enum)]
    output: Option<Format>,
}

#[derive(Debug, Args)]
pub(super) struct SwitchoverArguments {
    #[command(flatten)]
    person: Person,
    /// The node that is to hold the role; default: the best candidate.
    #[arg(long)]
    to: Option<String>,
    /// The name of the node that is demoted; asked for on a terminal.
    #[arg(long)]
    confirm: Option<String>,
    /// Why, for the audit.
    #[arg(long, default_value = "asked for on the command line")]
    reason: String,
    /// `table` or `json`; a table on a terminal.
    #[arg(long, value_enum)]
    output: Option<Format>,
}

#[derive(Debug, Args)]
pub(super) struct DismissArguments {
    #[command(flatten)]
    person: Person,
    /// The digest of the plan (its first 8 characters are enough).
    plan: String,
    /// Why, for the audit.
    #[arg(long, default_value = "dropped on the command line")]
    reason: String,
}

pub(super) fn dismiss(arguments: &DismissArguments) -> Result<Outcome> {
    let identity = arguments.person.identity()?;
    super::runtime()?.block_on(async {
        let client = Person::client(&identity)?;
        let CallReply::View(view) = Person::call(&client, CallRequest::View).await? else {
            return Err(eyre!("unexpected answer"));
        };
        let waits = |p: &Plan| p.digest().as_str().starts_with(&arguments.plan);
        let Some(plan) = view.plan.filter(waits) else {
            eprintln!("quorate: refused (plan): no plan {} waits", arguments.plan);
            return Ok(Outcome::Refused);
        };
        let order = PersonOrder::Dismiss { plan: plan.digest(), reason: arguments.reason.clone() };
        match Person::call(&client, CallRequest::Order(order)).await? {
            CallReply::Accepted { .. } => {
                say!("dropped plan {}", plan.digest().short());
                Ok(Outcome::Done)
            }
            CallReply::Refused { check, why } => {
                eprintln!("quorate: refused ({check}): {why}");
                Ok(Outcome::Refused)
            }
            other => Err(eyre!("unexpected answer: {other:?}")),
        }
    })
}

pub(super) fn plan(arguments: &PlanArguments) -> Result<Outcome> {
    if let Some(stand) = arguments.files.stand()? {
        let wanted = arguments.wanted.proposal();
        return Ok(match stand.propose(PersonOrder::Propose(wanted.clone())) {
            Ok(plan) => {
                let drawn = Drawn { files: arguments.files.clone(), wanted };
                let written = Written { digest: plan.digest(), plan, drawn: Some(drawn) };
                present(&written, arguments.output.as_ref())?;
                Outcome::Done
            }
            Err(why) => {
                eprintln!("quorate: refused (plan): {why}");
                Outcome::Refused
            }
        });
    }
    let identity = arguments.person.identity()?;
    let client_identity = identity.clone();
    let reply = super::runtime()?.block_on(async {
        let client = Person::client(&client_identity)?;
        propose(&client, arguments.wanted.proposal()).await
    })?;
    match reply {
        Ok((plan, digest)) => {
            let written = Written { digest, plan, drawn: None };
            if present(&written, arguments.output.as_ref())? == Format::Table {
                let demoted = written.plan.demoted().map_or("", |n| n.as_str());
                say!(
                    "\nto execute it: quorate execute {} --confirm {demoted}",
                    written.digest.short()
                );
            }
            Ok(Outcome::Done)
        }
        Err(refused) => Ok(refused),
    }
}

/// A plan on paper.
#[derive(serde::Serialize, serde::Deserialize)]
struct Written {
    digest: Digest,
    plan: Plan,
    /// It was drawn up on a simulated cluster; no plane knows it.
    #[serde(default, rename = "drawn_from", skip_serializing_if = "Option::is_none")]
    drawn: Option<Drawn>,
}

/// What a plan was drawn up from.
#[derive(serde::Serialize, serde::Deserialize)]
struct Drawn {
    files: Files,
    wanted: Proposal,
}

/// Shows a plan, or writes it to the file; in which form it was shown.
fn present(written: &Written, output: Option<&Output>) -> Result<Format> {
    let format = match output {
        Some(Output::File(path)) => {
            output::write(path, written)?;
            say!("plan {} is written to {}", written.digest.short(), path.display());
            return Ok(Format::Table);
        }
        Some(Output::Shown(format)) => *format,
        None => Format::or_default(None),
    };
    match format {
        Format::Json => output::json(written),
        Format::Table => show(&written.plan, &written.digest),
    }
    Ok(format)
}

/// The plan in a file that `plan --output` wrote; it must still be what it was.
fn read(file: &std::path::Path) -> Result<Written> {
    let text = std::fs::read_to_string(file).map_err(|e| eyre!("{}: {e}", file.display()))?;
    let written: Written =
        serde_json::from_str(&text).map_err(|e| eyre!("{}: {e}", file.display()))?;
    if written.plan.digest() != written.digest {
        return Err(eyre!("{}: the plan was changed since it was written", file.display()));
    }
    Ok(written)
}

pub(super) fn execute(arguments: &ExecuteArguments) -> Result<Outcome> {
    if let Some(file) = &arguments.file {
        let Written { digest, drawn, .. } = read(file)?;
        if let Some(drawn) = drawn {
            return rehearse(arguments, &drawn);
        }
        let plan = digest.as_str().to_owned();
        return execute(&ExecuteArguments { plan, file: None, ..arguments.clone() });
    }
    if arguments.files.is_given() {
        let wanted = Proposal {
            to: arguments.to.as_deref().map(NodeId::new),
            away: arguments.away.iter().map(NodeId::new).collect(),
            reason: arguments.reason.clone(),
            accept_unknown_loss: arguments.accept_unknown_loss,
            ..Proposal::default()
        };
        return rehearse(arguments, &Drawn { files: arguments.files.clone(), wanted });
    }
    if arguments.dry_run {
        return dry_run(arguments);
    }
    let identity = arguments.person.identity()?;
    super::runtime()?.block_on(async {
        let client = Person::client(&identity)?;
        let CallReply::View(view) = Person::call(&client, CallRequest::View).await? else {
            return Err(eyre!("unexpected answer"));
        };
        let Some(plan) = view.plan.filter(|p| p.digest().as_str().starts_with(&arguments.plan))
        else {
            eprintln!(
                "quorate: refused (plan): no plan {} waits; make one with `quorate plan`",
                arguments.plan
            );
            return Ok(Outcome::Refused);
        };
        let digest = plan.digest();
        confirm_and_run(
            &client,
            &identity,
            &plan,
            digest,
            arguments.confirm.clone(),
            &arguments.reason,
            arguments.output,
        )
        .await
    })
}

/// From files alone: makes the plan on a simulated cluster at rest, and carries it out there.
fn rehearse(arguments: &ExecuteArguments, drawn: &Drawn) -> Result<Outcome> {
    if !arguments.dry_run {
        eprintln!(
            "quorate: from files alone there is nothing to execute; --dry-run plays the plan on a simulated cluster"
        );
        return Ok(Outcome::Usage);
    }
    if !arguments.plan.is_empty() {
        eprintln!(
            "quorate: from files alone no plan waits: leave {} out; --to and --away say what is wanted",
            arguments.plan
        );
        return Ok(Outcome::Usage);
    }
    let Some(stand) = drawn.files.stand()? else { return Ok(Outcome::Usage) };
    let (plan, outcome) = match stand.carry_out(PersonOrder::Propose(drawn.wanted.clone())) {
        Ok(done) => done,
        Err(why) => {
            eprintln!("quorate: it would be refused (plan): {why}");
            return Ok(Outcome::Refused);
        }
    };
    let digest = plan.digest();
    match Format::or_default(arguments.output) {
        Format::Json => output::json(
            &serde_json::json!({"simulated": true, "digest": digest, "plan": plan, "outcome": outcome}),
        ),
        Format::Table => {
            show(&plan, &digest);
            say!("\nsimulated, from the moment of its confirmation:");
            simulate::print_course(&outcome);
        }
    }
    let held = outcome.violations.is_empty()
        && outcome.ended == Some(crate::model::view::Outcome::Verified);
    Ok(if held { Outcome::Done } else { Outcome::NotDone })
}

fn dry_run(arguments: &ExecuteArguments) -> Result<Outcome> {
    let identity = arguments.person.identity()?;
    let request = CallRequest::DryRun { plan: arguments.plan.clone() };
    let reply = super::runtime()?
        .block_on(async { Person::call(&Person::client(&identity)?, request).await })?;
    match reply {
        CallReply::Plan { plan, digest } => {
            match Format::or_default(arguments.output) {
                Format::Json => output::json(
                    &serde_json::json!({"would_execute": true, "digest": digest, "plan": plan}),
                ),
                Format::Table => {
                    show(&plan, &digest);
                    say!(
                        "\nit would be executed now: nothing moved since it was made. Nothing was done"
                    );
                }
            }
            Ok(Outcome::Done)
        }
        CallReply::Refused { check, why } => {
            eprintln!("quorate: it would be refused ({check}): {why}. Nothing was done");
            Ok(Outcome::Refused)
        }
        other => Err(eyre!("unexpected answer: {other:?}")),
    }
}

pub(super) fn switchover(arguments: &SwitchoverArguments) -> Result<Outcome> {
    if arguments.confirm.is_none() && !std::io::stdin().is_terminal() {
        // Before a plan is made: it would replace one that somebody has read.
        eprintln!("quorate: name the node that is demoted with --confirm");
        return Ok(Outcome::Usage);
    }
    let identity = arguments.person.identity()?;
    let wanted = Move {
        to: arguments.to.clone(),
        confirm: arguments.confirm.clone(),
        reason: arguments.reason.clone(),
        output: arguments.output,
        planned_only: false,
    };
    super::runtime()?.block_on(async {
        let client = Person::client(&identity)?;
        move_role(&client, &identity, wanted).await
    })
}

/// A planned move of the write role.
#[derive(Debug, Default)]
pub(super) struct Move {
    /// To whom; `None`: the best candidate.
    pub(super) to: Option<String>,
    /// The name of who hands it over; asked for on a terminal.
    pub(super) confirm: Option<String>,
    /// Why, for the audit.
    pub(super) reason: String,
    /// How it is shown.
    pub(super) output: Option<Format>,
    /// Not where the primary has failed meanwhile: that is another decision.
    pub(super) planned_only: bool,
}

/// Makes the plan, shows it, has it confirmed, and follows it to its end.
pub(super) async fn move_role(
    client: &Client,
    identity: &Identity,
    wanted: Move,
) -> Result<Outcome> {
    let Move { to, confirm, reason, output, planned_only } = wanted;
    let proposal =
        Proposal { to: to.map(NodeId::new), reason: reason.clone(), ..Proposal::default() };
    let (plan, digest) = match propose(client, proposal).await? {
        Ok(made) => made,
        Err(refused) => return Ok(refused),
    };
    if planned_only && !plan.kind.is_planned() {
        eprintln!(
            "quorate: refused (plan): it became a {}: plan {} waits for a person's decision",
            plan.kind.word(),
            digest.short()
        );
        return Ok(Outcome::Refused);
    }
    if Format::or_default(output) == Format::Table {
        show(&plan, &digest);
        say!("");
    }
    confirm_and_run(client, identity, &plan, digest, confirm, &reason, output).await
}

async fn propose(
    client: &Client,
    wanted: Proposal,
) -> Result<std::result::Result<(Plan, Digest), Outcome>> {
    let request = CallRequest::Order(PersonOrder::Propose(wanted));
    match Person::call(client, request).await? {
        CallReply::Plan { plan, digest } => Ok(Ok((*plan, digest))),
        CallReply::Refused { check, why } => {
            eprintln!("quorate: refused ({check}): {why}");
            Ok(Err(Outcome::Refused))
        }
        other => Err(eyre!("unexpected answer: {other:?}")),
    }
}

async fn confirm_and_run(
    client: &Client,
    identity: &Identity,
    plan: &Plan,
    digest: Digest,
    confirm: Option<String>,
    reason: &str,
    format: Option<Format>,
) -> Result<Outcome> {
    let key = approval_key(identity)?;
    let demoted = match confirm {
        Some(name) => name,
        None if std::io::stdin().is_terminal() => ask(plan)?,
        None => {
            eprintln!(
                "quorate: nothing was done: name the node that is demoted ({}) with --confirm",
                plan.demoted().map_or("", |n| n.as_str())
            );
            return Ok(Outcome::Usage);
        }
    };
    let expires = WallTime(host::wall().0 + 300_000);
    let approval = key
        .approve(digest.clone(), &identity.name, reason, expires)
        .map_err(|e| eyre!("signing: {e}"))?;
    let request =
        CallRequest::Order(PersonOrder::Execute { plan: digest.clone(), demoted, approval });
    match client.call(&request).await {
        Ok(CallReply::Accepted { .. }) => follow(client, &digest, format).await,
        Ok(CallReply::Refused { check, why }) => {
            eprintln!("quorate: refused ({check}): {why}");
            Ok(Outcome::Refused)
        }
        Ok(other) => Err(eyre!("unexpected answer: {other:?}")),
        Err(refused) if refused.outcome_unknown => {
            eprintln!(
                "quorate: unknown: {refused}; the plan may run. Look with `quorate status` before anything else"
            );
            Ok(Outcome::Unknown)
        }
        Err(refused) => Err(refused.into()),
    }
}

fn ask(plan: &Plan) -> Result<String> {
    let demoted = plan.demoted().map_or("", |n| n.as_str());
    print!("type the name of the node that is demoted to confirm (Enter alone cancels): ");
    std::io::stdout().flush()?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    let typed = line.trim();
    if typed.is_empty() {
        return Err(eyre!("cancelled; nothing was done"));
    }
    if typed != demoted {
        return Err(eyre!("{typed:?} is not the node that is demoted; nothing was done"));
    }
    Ok(typed.to_owned())
}

/// Follows a run to its end. Losing the plane is not the end: the agents go on, and so does the
/// waiting.
async fn follow(client: &Client, digest: &Digest, format: Option<Format>) -> Result<Outcome> {
    let until = Instant::now() + Duration::from_secs(120);
    let table = Format::or_default(format) == Format::Table;
    let mut told: Vec<String> = vec![];
    loop {
        if let Ok(CallReply::View(view)) = client.call(&CallRequest::View).await
            && let Some(run) = view.run.filter(|r| r.plan == *digest)
        {
            if table {
                tell(&run, &mut told);
            }
            if let Some(outcome) = run.outcome {
                match Format::or_default(format) {
                    Format::Json => output::json(&run),
                    Format::Table => end(&run),
                }
                return Ok(match outcome {
                    view::Outcome::Verified => Outcome::Done,
                    view::Outcome::Unproved | view::Outcome::Unknown => Outcome::Unknown,
                    view::Outcome::Aborted | view::Outcome::RolledBack => Outcome::NotDone,
                });
            }
        }
        if Instant::now() > until {
            eprintln!(
                "quorate: unknown: no end was seen within 2 minutes. Look with `quorate status`"
            );
            return Ok(Outcome::Unknown);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn tell(run: &RunView, told: &mut Vec<String>) {
    for step in &run.steps {
        let key = format!("{:?}{:?}", step.kind, step.state);
        if !told.contains(&key) && step.state != view::StepState::Waiting {
            told.push(key);
            let took = step.took.map_or(String::new(), |t| t.to_string());
            say!(
                "{:<8} {:<10} {:<8} {took:>9}  {}",
                step.kind.word(),
                step.node,
                step.state.word(),
                step.found
            );
        }
    }
}

fn end(run: &RunView) {
    let outcome = run.outcome.map_or("", view::Outcome::word);
    say!("");
    for (name, held, found) in &run.verification {
        say!("  {} {name:<12} {found}", if *held { "✓" } else { "✗" });
    }
    let rto = run.rto.map_or("unknown".into(), |t| t.to_string());
    let rpo = run.rpo.as_ref().map_or("unknown".into(), ToString::to_string);
    if !run.verification.is_empty() {
        say!("  confidence {} of 100 ({})", run.confidence, view::band(run.confidence));
    }
    let times = run.times.map_or(String::new(), |t| format!(" ({t})"));
    say!("{outcome}: RTO {rto}{times}; lost: {rpo}");
}

/// A plan in full.
fn show(plan: &Plan, digest: &Digest) {
    say!(
        "plan {}  {} {}  epoch {}  asked for by {}",
        digest.short(),
        plan.kind.word(),
        plan.nodes("→"),
        plan.epoch,
        plan.requested_by
    );
    say!("loss     {}", plan.loss);
    for share in &plan.shares {
        say!(
            "share    {:<12} {:>4} → {:>4} of {} units",
            share.node,
            share.before,
            share.after,
            share.capacity
        );
    }
    if plan.shed > 0 {
        say!("REFUSED  {} units of the load fit nowhere", plan.shed);
    }
    if let Some(conflicts) = &plan.conflicts {
        say!("writes that meet: {}. {}", conflicts.policy.word(), conflicts.may_lose);
    }
    say!("least fence  {}   budget {}", plan.least_fence.words(), plan.budget);
    for text in &plan.blast_radius {
        say!("notice   {text}");
    }
    say!("way back {}", plan.way_back);
    for transfer in &plan.transfers {
        say!("transfer {transfer}");
    }
    say!("");
    for (i, step) in plan.steps.iter().enumerate() {
        say!("{}. {:<8} {:<10} {}", i + 1, step.kind.word(), step.node, step.action);
        say!(
            "   verified by {}; undone by {}; within {}",
            step.verification,
            step.compensation,
            step.budget
        );
    }
    say!("");
    for candidate in &plan.candidates {
        let verdict = if candidate.eligible {
            format!("rank {}", candidate.rank)
        } else {
            "not eligible".into()
        };
        let checks: Vec<String> = candidate
            .checks
            .iter()
            .map(|c| {
                if c.passed {
                    format!("{} ✓", c.name)
                } else {
                    format!("{} ✗ {} (limit {}; {})", c.name, c.value, c.limit, c.would_change)
                }
            })
            .collect();
        say!("{:<12} {verdict:<12} {}", candidate.node, checks.join(" · "));
    }
}
