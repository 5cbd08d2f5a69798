//! `quorate evacuate`: many clusters leave a region in waves, each by a plan of its own.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use color_eyre::Result;
use color_eyre::eyre::{WrapErr as _, eyre};

use super::output::{self, Format, say};
use super::person::{Person, approval_key};
use super::{Outcome, simulate};
use crate::access::ApprovalKey;
use crate::agent::host;
use crate::config::{self, Identity};
use crate::engine::PersonOrder;
use crate::engine::evacuation::{self, FleetKind, FleetPlan, FleetRun, Move, Standing, Terms};
use crate::model::view::ClusterView;
use crate::model::{ClusterId, Digest, Span, WallTime};
use crate::sim::{Conditions, Stand, fleet};
use crate::wire::Client;
use crate::wire::message::{CallReply, CallRequest};

/// A move of which no end is seen by then is looked after by a person.
const PATIENCE: Duration = Duration::from_secs(180);

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The region that everything is to leave.
    #[arg(long)]
    leave: String,
    /// The region to go to; default: wherever each cluster's policy puts first.
    #[arg(long)]
    to: Option<String>,
    /// One cluster after the other, in the order given, stopping at the first that does not get
    /// there.
    #[arg(long)]
    warm_standby: bool,
    /// So many clusters move at a time.
    #[arg(long, default_value_t = 2, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1000))]
    concurrency: usize,
    /// So many moves that did not end verified stop the rest.
    #[arg(long, default_value_t = 1, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1000))]
    stop_after: usize,
    /// A move verified with less confidence than this counts as one of them.
    #[arg(long, default_value_t = 80, value_parser = clap::value_parser!(u64).range(0..=100))]
    least_confidence: u64,
    /// Folder with identity.yaml, certificate and approval key; see `quorate status --help`.
    #[arg(long, env = "QUORATE_IDENTITY")]
    identity: Option<PathBuf>,
    /// `host:port` of each cluster's plane; default: the identity's.
    #[arg(long = "plane")]
    planes: Vec<String>,
    /// Plans from these cluster.yaml alone, on simulated clusters; no plane is asked.
    #[arg(long = "cluster", conflicts_with = "planes")]
    clusters: Vec<PathBuf>,
    /// Their policy.yaml: one for all, or one for each in the same order.
    #[arg(long = "policy", requires = "clusters")]
    policies: Vec<PathBuf>,
    /// Carries the plan out on the simulated clusters.
    #[arg(long, requires = "clusters")]
    rehearse: bool,
    /// Carries the plan out: the region's name once more. Asked for on a terminal.
    #[arg(long, conflicts_with = "clusters")]
    confirm: Option<String>,
    /// Only shows the plan.
    #[arg(long, conflicts_with_all = ["confirm", "rehearse"])]
    dry_run: bool,
    /// Why, for the audit.
    #[arg(long, default_value = "region evacuation")]
    reason: String,
    /// `table` or `json`; a table on a terminal.
    #[arg(long, value_enum)]
    output: Option<Format>,
}

/// One cluster's plane, and how to ask it.
struct Door {
    client: Client,
    view: ClusterView,
}

pub(super) fn run(arguments: &Arguments) -> Result<Outcome> {
    if arguments.to.as_ref() == Some(&arguments.leave) {
        return Err(eyre!("--to and --leave name the same region"));
    }
    let terms = Terms {
        kind: if arguments.warm_standby {
            FleetKind::WarmStandby
        } else {
            FleetKind::RegionEvacuation
        },
        leave: arguments.leave.clone(),
        to: arguments.to.clone(),
        concurrency: arguments.concurrency,
        failures_max: arguments.stop_after,
        least_confidence: arguments.least_confidence,
    };
    if arguments.clusters.is_empty() {
        on_planes(arguments, &terms)
    } else {
        from_files(arguments, &terms)
    }
}

fn from_files(arguments: &Arguments, terms: &Terms) -> Result<Outcome> {
    let mut stands = vec![];
    if arguments.policies.len() > 1 && arguments.policies.len() != arguments.clusters.len() {
        return Err(eyre!(
            "{} policies for {} clusters: name one for all, or one for each",
            arguments.policies.len(),
            arguments.clusters.len()
        ));
    }
    let mut known: Vec<ClusterId> = vec![];
    for (i, path) in arguments.clusters.iter().enumerate() {
        let cluster = config::cluster::read(path)?;
        if known.contains(&cluster.cluster_id) {
            return Err(eyre!(
                "{}: cluster_id {} was named before",
                path.display(),
                cluster.cluster_id
            ));
        }
        known.push(cluster.cluster_id.clone());
        let policy = match arguments.policies.get(i).or(arguments.policies.first()) {
            Some(policy) => config::policy::read(policy, &cluster)?,
            None => simulate::plain_policy(&cluster)?,
        };
        stands.push(Stand::new(&cluster, &policy, &Conditions::default(), 1, arguments.rehearse));
    }
    let views: Vec<ClusterView> = stands.iter().map(Stand::view).collect();
    known_regions(&views, terms)?;
    let plan = fleet::plan(&stands, terms, "rehearsal", &arguments.reason);
    if !arguments.rehearse {
        show(&plan, arguments.output);
        return Ok(if plan.cannot.is_empty() { Outcome::Done } else { Outcome::Refused });
    }
    let outcome = fleet::rehearse(&stands, plan);
    match Format::or_default(arguments.output) {
        Format::Json => output::json(&outcome),
        Format::Table => {
            show(&outcome.run.plan, arguments.output);
            say!("");
            tell_end(&outcome.run);
            say!("simulated: {} in all, at most {} at a time", outcome.took, outcome.most_at_once);
            for (cluster, violation) in &outcome.violations {
                say!("BROKEN LAW in {cluster}: {}: {}", violation.law, violation.seen);
            }
        }
    }
    let nothing_begun = outcome.run.plan.waves.is_empty() && !outcome.run.plan.cannot.is_empty();
    Ok(match outcome.violations.is_empty() {
        true if nothing_begun => Outcome::Refused,
        true => ended(&outcome.run),
        false => Outcome::NotDone,
    })
}

/// A region that no cluster has a node in is a slip of the hand.
fn known_regions<'a>(
    views: impl IntoIterator<Item = &'a ClusterView>,
    terms: &Terms,
) -> Result<()> {
    let known = evacuation::regions(views);
    for region in std::iter::once(&terms.leave).chain(&terms.to) {
        if !known.contains(region) {
            let near = config::problem::nearest(region, known.iter().map(String::as_str));
            let hint = near.map_or_else(String::new, |n| format!(" (did you mean {n:?}?)"));
            let names: Vec<&str> = known.iter().map(String::as_str).collect();
            return Err(eyre!(
                "no cluster has a node in region {region:?}: there are {}{hint}",
                names.join(", ")
            ));
        }
    }
    Ok(())
}

fn ended(run: &FleetRun) -> Outcome {
    if run.is_done() { Outcome::Done } else { Outcome::NotDone }
}

fn on_planes(arguments: &Arguments, terms: &Terms) -> Result<Outcome> {
    let identity = Person::of(arguments.identity.clone()).identity()?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let addresses = if arguments.planes.is_empty() {
            vec![identity.plane.clone()]
        } else {
            arguments.planes.clone()
        };
        let mut doors: Vec<Door> = vec![];
        for address in addresses {
            let client = Client::new(&address, "plane", &identity.tls)?;
            let view = match Person::call(&client, CallRequest::View)
                .await
                .wrap_err_with(|| format!("plane {address}"))?
            {
                CallReply::View(view) => *view,
                other => return Err(eyre!("plane {address}: unexpected answer: {other:?}")),
            };
            if doors.iter().any(|d| d.view.cluster == view.cluster) {
                return Err(eyre!(
                    "plane {address}: it watches cluster {}, which was named before",
                    view.cluster
                ));
            }
            doors.push(Door { client, view });
        }
        known_regions(doors.iter().map(|d| &d.view), terms)?;
        let plan = evacuation::plan(
            doors.iter().map(|d| &d.view),
            terms,
            host::wall(),
            &identity.name,
            &arguments.reason,
        );
        let table = Format::or_default(arguments.output) == Format::Table;
        let nobody = arguments.confirm.is_none() && !std::io::stdin().is_terminal();
        let only_shown = arguments.dry_run || plan.waves.is_empty() || nobody;
        if table || only_shown || arguments.confirm.is_none() {
            show(&plan, arguments.output);
        }
        if nobody && !arguments.dry_run && !plan.waves.is_empty() {
            eprintln!(
                "quorate: nothing was done: name the region with --confirm {}, or only look \
                with --dry-run",
                terms.leave
            );
            return Ok(Outcome::Usage);
        }
        if only_shown {
            return Ok(if plan.cannot.is_empty() { Outcome::Done } else { Outcome::Refused });
        }
        let typed = match &arguments.confirm {
            Some(region) => region.clone(),
            None => ask(&terms.leave)?,
        };
        if typed != terms.leave {
            return Err(eyre!("{typed:?} is not the region that is left; nothing was done"));
        }
        let key = approval_key(&identity)?;
        let run = carry_out(&doors, plan, &identity, &key, &arguments.reason).await;
        if table {
            tell_end(&run);
        } else {
            output::json(&run);
        }
        Ok(ended(&run))
    })
}

fn ask(region: &str) -> Result<String> {
    print!("type {region} to begin (Enter alone cancels): ");
    std::io::stdout().flush()?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    if line.trim().is_empty() {
        return Err(eyre!("cancelled; nothing was done"));
    }
    Ok(line.trim().to_owned())
}

/// Wave after wave. What was begun goes on by itself when this program ends; nothing new is begun
/// then.
async fn carry_out(
    doors: &[Door],
    plan: FleetPlan,
    identity: &Identity,
    key: &ApprovalKey,
    reason: &str,
) -> FleetRun {
    let mut run = FleetRun::new(plan);
    let mut running: Vec<(ClusterId, Digest, Instant)> = vec![];
    while !run.is_over() {
        for m in run.due() {
            let Some(door) = doors.iter().find(|d| d.view.cluster == m.cluster) else { continue };
            run.began(&m.cluster);
            eprintln!("quorate: {}: {}", m.cluster, m.summary);
            match begin(door, &m, identity, key, reason).await {
                Ok(digest) => running.push((m.cluster.clone(), digest, Instant::now())),
                Err(why) => {
                    eprintln!("quorate: {}: {why}", m.cluster);
                    run.failed(&m.cluster, why);
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        for (cluster, digest, since) in std::mem::take(&mut running) {
            let Some(door) = doors.iter().find(|d| d.view.cluster == cluster) else { continue };
            // Losing a plane for a moment is not the end: its agents go on.
            let seen = match door.client.call(&CallRequest::View).await {
                Ok(CallReply::View(view)) => view.run.filter(|r| r.plan == digest),
                _ => None,
            };
            match seen {
                Some(seen) if seen.outcome.is_some() => run.ran(&cluster, &seen),
                _ if since.elapsed() > PATIENCE => run.failed(
                    &cluster,
                    "unknown: no end was seen; look with `quorate status`".into(),
                ),
                _ => running.push((cluster, digest, since)),
            }
        }
    }
    run
}

/// Asks the cluster's own plane for its plan and confirms it, if it is still the move that was
/// shown.
async fn begin(
    door: &Door,
    m: &Move,
    identity: &Identity,
    key: &ApprovalKey,
    reason: &str,
) -> std::result::Result<Digest, String> {
    let (plan, digest) = match door.client.call(&CallRequest::Order(m.order(reason))).await {
        Ok(CallReply::Plan { plan, digest }) => (plan, digest),
        Ok(CallReply::Refused { check, why }) => return Err(format!("refused ({check}): {why}")),
        Ok(other) => return Err(format!("unexpected answer: {other:?}")),
        Err(e) => return Err(e.to_string()),
    };
    evacuation::still_fits(m, &plan)?;
    let demoted = plan.demoted().cloned().ok_or("the plan demotes nobody")?;
    let expires = WallTime(host::wall().0 + 300_000);
    let approval = key
        .approve(digest.clone(), &identity.name, reason, expires)
        .map_err(|e| format!("signing: {e}"))?;
    let order = PersonOrder::Execute {
        plan: digest.clone(),
        demoted: demoted.as_str().to_owned(),
        approval,
    };
    match door.client.call(&CallRequest::Order(order)).await {
        Ok(CallReply::Accepted { .. }) => Ok(digest),
        Ok(CallReply::Refused { check, why }) => Err(format!("refused ({check}): {why}")),
        Ok(other) => Err(format!("unexpected answer: {other:?}")),
        Err(e) if e.outcome_unknown => Err(format!("unknown: {e}; it may run")),
        Err(e) => Err(e.to_string()),
    }
}

fn show(plan: &FleetPlan, format: Option<Format>) {
    if Format::or_default(format) == Format::Json {
        output::json(&serde_json::json!({"digest": plan.digest(), "plan": plan}));
        return;
    }
    let terms = &plan.terms;
    let whither =
        terms.to.as_ref().map_or("wherever each policy puts first".to_owned(), Clone::clone);
    say!("{} of {} → {whither}   plan {}", terms.kind.words(), terms.leave, plan.digest().short());
    for (i, wave) in plan.waves.iter().enumerate() {
        for (j, m) in wave.iter().enumerate() {
            let label = if j == 0 { format!("wave {}", i + 1) } else { String::new() };
            say!("  {label:<9} {:<20} {}", m.cluster, m.summary);
        }
    }
    for (label, list) in [("stays", &plan.stay), ("CANNOT", &plan.cannot)] {
        for (cluster, why) in list {
            say!("  {label:<9} {cluster:<20} {why}");
        }
    }
    for warning in &plan.warnings {
        say!("  warning   {warning}");
    }
    let limit = if terms.kind == FleetKind::WarmStandby { 1 } else { terms.failures_max.max(1) };
    say!(
        "  stops     after {limit} not verified with confidence {} or more; what runs goes on, \
            nothing more is begun",
        terms.least_confidence
    );
}

fn tell_end(run: &FleetRun) {
    for m in run.plan.moves() {
        let standing = run.standing.get(&m.cluster);
        let found = match standing {
            Some(Standing::Moved { confidence, rto, loss }) => {
                let rto = rto.map_or("unknown".into(), |t: Span| t.to_string());
                format!("RTO {rto}, lost: {loss}, confidence {confidence}")
            }
            Some(Standing::Failed { why }) => why.clone(),
            _ => String::new(),
        };
        say!("  {:<20} {:<10} {found}", m.cluster, standing.map_or("", Standing::word));
    }
    if let Some(why) = &run.stopped {
        say!("stopped: {why}");
    }
}
