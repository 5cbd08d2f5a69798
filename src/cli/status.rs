//! `quorate status`.

use clap::Args;
use color_eyre::Result;
use color_eyre::eyre::eyre;

use super::Outcome;
use super::files::Files;
use super::output::{self, Format, say};
use super::person::Person;
use crate::agent::host;
use crate::engine::certificates;
use crate::model::Span;
use crate::model::view::{ClusterState, ClusterView, NodeView};
use crate::picture::{SIMULATED, band};
use crate::wire::Client;
use crate::wire::message::{CallReply, CallRequest};
use crate::wire::tls::Credentials;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    person: Person,
    #[command(flatten)]
    files: Files,
    /// `table` or `json`; a table on a terminal.
    #[arg(long, value_enum)]
    output: Option<Format>,
    /// One line, and exit with 6 when degraded (or the own certificate runs out soon), 7 when critical or unknown.
    #[arg(long)]
    check: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<Outcome> {
    let stand = arguments.files.stand()?;
    let (view, own) = match &stand {
        Some(stand) => (stand.view(), None),
        None => (ask(&arguments.person)?, own(&arguments.person)?),
    };
    if let Some(ending) = &own {
        eprintln!("quorate: {ending}");
    }
    match arguments.output {
        None if arguments.check => say!("{}", line(&view)),
        asked => match Format::or_default(asked) {
            Format::Json => output::json(&view),
            Format::Table => table(&view, stand.is_none()),
        },
    }
    Ok(match view.state {
        _ if !arguments.check => Outcome::Done,
        ClusterState::Healthy if own.is_none() => Outcome::Done,
        ClusterState::Healthy => Outcome::Degraded,
        ClusterState::Degraded => Outcome::Degraded,
        ClusterState::Critical | ClusterState::Unknown => Outcome::Critical,
    })
}

/// The state in one line, as checks and scripts read it.
fn line(view: &ClusterView) -> String {
    let simulated = if view.simulated { "SIMULATED " } else { "" };
    format!("{simulated}{} {}: {}", view.cluster, view.state.word(), view.why)
}

/// The certificate that ends first, among those of the nodes.
fn first_to_end(view: &ClusterView) -> Option<String> {
    let of = |n: &NodeView| {
        let found = n.report.iter().flat_map(|r| r.certificates.clone()).collect::<Vec<_>>();
        found.into_iter().map(|c| (n.node.clone(), c)).collect::<Vec<_>>()
    };
    let all = view.nodes.iter().flat_map(of);
    let (node, first) = all.min_by_key(|(_, certificate)| certificate.until)?;
    Some(format!("{}, before any other", certificates::in_words(node.as_str(), &first)))
}

/// Whoever asks is blind the day that their own certificate runs out.
fn own(person: &Person) -> Result<Option<String>> {
    let identity = person.identity()?;
    let held = Credentials::read(&identity.tls)?.certificates(host::wall());
    let ending = held.into_iter().filter(certificates::is_ending).min_by_key(|c| c.until);
    Ok(ending.map(|c| certificates::in_words(&identity.name, &c)))
}

fn ask(person: &Person) -> Result<ClusterView> {
    let identity = person.identity()?;
    super::runtime()?.block_on(async {
        let plane = Person::client(&identity)?;
        match Person::call(&plane, CallRequest::View).await {
            Ok(CallReply::View(view)) => Ok(*view),
            Ok(other) => Err(eyre!("unexpected answer: {other:?}")),
            Err(error) => {
                // Without a plane an agent still knows who holds the role.
                for (node, address) in &identity.agents {
                    let agent = Client::new(address, node.as_str(), &identity.tls)?;
                    if let Ok(CallReply::View(view)) = agent.call(&CallRequest::View).await {
                        eprintln!("quorate: {error}; this is the picture of an agent");
                        return Ok(*view);
                    }
                }
                Err(error)
            }
        }
    })
}

fn table(view: &ClusterView, from_plane: bool) {
    let simulated = if view.simulated { "  SIMULATED" } else { "" };
    say!("{}{simulated}  {}  {}: {}", view.environment, view.name, view.state.word(), view.why);
    if view.simulated && from_plane {
        say!("{SIMULATED}");
    }
    let shares: Vec<String> = view
        .nodes
        .iter()
        .filter_map(|n| n.share.map(|units| format!("{} {units}", n.node)))
        .collect();
    let who = if shares.is_empty() {
        let primary = view.primary.as_ref().map_or("nobody", |p| p.as_str());
        format!(
            "primary {primary}  votes {} of {} (needs {})",
            view.votes, view.voters, view.quorum
        )
    } else {
        format!("shares {}", shares.join(", "))
    };
    say!("epoch {}  {who}  phase {}  from {}", view.epoch, view.phase.phase.word(), view.source);
    say!("");
    say!(
        "{:<12} {:<10} {:<10} {:<11} {:>6} {:>10} {:>12} {:>12} {:>18}",
        "node",
        "role",
        "verdict",
        "database",
        "phi",
        "heartbeat",
        "flush lag",
        "replay lag",
        "position"
    );
    for node in &view.nodes {
        // What a silent node said last is no word about now.
        let heard = node.heartbeat_age.is_some_and(|a| a < Span::secs(2));
        let resource = node.report.as_ref().map(|r| &r.resource).filter(|_| heard);
        say!(
            "{:<12} {:<10} {:<10} {:<11} {:>6} {:>10} {:>12} {:>12} {:>18}",
            node.node,
            node.role.word(),
            node.verdict.word(),
            resource.map_or("unknown", |r| r.state.word()),
            format!("{}.{}", node.phi_milli / 1_000, node.phi_milli % 1_000 / 100),
            node.heartbeat_age.map_or("never".into(), |a| a.to_string()),
            node.lag_bytes.map_or("-".into(), |b| format!("{b} B")),
            node.replay_lag_bytes.map_or("-".into(), |b| format!("{b} B")),
            resource.map_or(String::new(), |r| r.position.to_string()),
        );
        if !node.why.is_empty() {
            say!("             {}", node.why);
        }
    }
    super::why::ways(&view.phase);
    if let Some(line) = first_to_end(view) {
        say!("{:<12} {line}", "certificates");
    }
    say!("");
    if !view.outlook.plan_news.is_empty() {
        say!("note  {}", view.outlook.plan_news);
    }
    // In the same words as on the console; the state stands above.
    for line in band::of(view, Span::ZERO) {
        if line.label.word() != view.state.word() {
            say!("{:<12}{}", line.label.word(), line.said);
        }
    }
}
