//! Ways out: what a person can do about a state that is not healthy. An order among them is one
//! that would be taken now; where there is none, the physical act is named, and why.

use super::constraints::CRASH_LOOP;
use super::plans::{Wish, summary};
use super::{Engine, detector};
use crate::model::command::{HistoryOrder, OverrideOrder, VoterOrder};
use crate::model::loss::LossAccount;
use crate::model::observation::{NodeReport, ResourceState};
use crate::model::plan::{Plan, PlanKind, Proposal};
use crate::model::topology::{Role, Strategy};
use crate::model::view::{Act, ClusterState, Phase, Verdict, WayOut};
use crate::model::{Member, NodeId, VoterSet};

/// Whoever looks; what they may is checked when they ask.
const SOMEBODY: &str = "a person";

pub(super) fn way(act: Act, text: impl Into<String>) -> WayOut {
    WayOut { act, text: text.into(), loss: None, needs: String::new() }
}

pub(super) fn mend(node: Option<&NodeId>, text: impl Into<String>) -> WayOut {
    way(Act::Mend { node: node.cloned() }, text)
}

pub(super) fn list(nodes: &[NodeId]) -> String {
    nodes.iter().map(NodeId::as_str).collect::<Vec<_>>().join(", ")
}

impl Engine {
    /// Ways out of the present state, the best first; none while all is well.
    pub(super) fn ways_out(&self) -> Vec<WayOut> {
        if let Some(run) = &self.durable.run {
            let text = match run.plan.kind {
                PlanKind::Switchover | PlanKind::Failback => {
                    "the run goes on by itself; if nobody wins, the old primary takes the role back"
                }
                PlanKind::Failover => {
                    "the run goes on by itself; if the candidate gives up, the next best is tried"
                }
                PlanKind::Resume => {
                    "the run goes on by itself; if it gives up, a person is asked again"
                }
            };
            return vec![way(Act::Wait, text)];
        }
        let mut ways = self.ways_of_the_plan();
        let calm = matches!(
            self.durable.phase,
            Phase::Steady | Phase::Stabilising | Phase::Aborted | Phase::RolledBack
        );
        if self.state == ClusterState::Healthy && calm {
            self.ways_to_full_strength(&mut ways);
            return ways;
        }
        if self.nodes.values().all(|m| m.report.is_none()) {
            let nodes: Vec<NodeId> = self.nodes.keys().cloned().collect();
            let text = format!(
                "start the agents of {}, or mend the network between them and this plane: none of \
                    them was ever heard here",
                list(&nodes)
            );
            ways.push(way(Act::Start { nodes }, text));
        } else if self.shares_traffic() {
            ways.extend(self.proposed(Proposal::default()));
            self.ways_to_health(&mut ways);
        } else if self.said().all(|r| r.holding.is_none()) {
            self.ways_to_a_holder(&mut ways);
        } else {
            self.ways_to_health(&mut ways);
        }
        // Whatever may still lose nothing comes before what is known to risk it.
        ways.sort_by_key(|w| matches!(&w.act, Act::Propose(what) if what.accept_unknown_loss));
        if ways.is_empty() {
            let text = match self.durable.phase {
                Phase::NeedsPerson => {
                    "say that the outcome of the last run is known; it passes by itself once the \
                        role is held"
                }
                _ => "it passes by itself",
            };
            let act =
                if self.durable.phase == Phase::NeedsPerson { Act::Acknowledge } else { Act::Wait };
            ways.push(way(act, text));
        }
        ways
    }

    fn ways_of_the_plan(&self) -> Vec<WayOut> {
        let Some(pending) = &self.durable.pending else { return vec![] };
        let (plan, digest) = (&pending.plan, pending.digest.clone());
        let mut ways = vec![];
        if let Some(demoted) = plan.demoted()
            && self.would_execute(&digest, demoted.as_str()).is_ok()
        {
            let act = Act::Execute { plan: digest.clone(), demoted: demoted.clone() };
            let text = format!("confirm plan {}: {}", digest.short(), summary(plan));
            ways.push(WayOut { loss: Some(plan.loss.clone()), ..way(act, text) });
        }
        let text = format!("drop plan {}", digest.short());
        ways.push(way(Act::Dismiss { plan: digest }, text));
        ways
    }

    /// The way that this proposal is, if a plan would be made of it now: as it stands, or where its
    /// loss is accepted.
    fn proposed(&self, what: Proposal) -> Option<WayOut> {
        let ask = |what: Proposal| self.draft(&Wish::of(SOMEBODY, what));
        let (plan, what) = match ask(what.clone()) {
            Ok(plan) => (plan, what),
            Err(refused) => {
                if !refused.for_its_loss {
                    return None;
                }
                let what = Proposal { accept_unknown_loss: true, ..what };
                (ask(what.clone()).ok()?, what)
            }
        };
        let pending = self.durable.pending.as_ref();
        if pending.is_some_and(|p| p.plan.kind == plan.kind && p.plan.to == plan.to) {
            return None;
        }
        let text = match plan.kind {
            PlanKind::Resume if self.policy.strategy != Strategy::Manual => format!(
                "{} takes the role back; its agent tries so by itself every {}",
                plan.to.node, self.policy.reclaim_after
            ),
            PlanKind::Resume => format!("{} takes the role back", plan.to.node),
            _ if !plan.shares.is_empty() => summary(&plan),
            kind => format!("{} to {}", kind.word(), plan.to.node),
        };
        let needs = self.needs(&plan);
        Some(WayOut { act: Act::Propose(what), text, loss: Some(plan.loss), needs })
    }

    fn needs(&self, plan: &Plan) -> String {
        if !plan.shares.is_empty() {
            return String::new();
        }
        let quorum = format!("{} voters ({} in reach)", self.quorum(), self.reachable_voters());
        if plan.kind == PlanKind::Failover && !self.is_released() && !self.lease_is_over() {
            let promise = crate::lease::Terms::for_duration(self.cluster.lease).promise();
            let from = plan.demoted().map_or("nobody", NodeId::as_str);
            return format!("{quorum}, and the lease of {from} to have run out: at most {promise}");
        }
        quorum
    }

    /// Nobody who is heard holds the role.
    fn ways_to_a_holder(&self, ways: &mut Vec<WayOut>) {
        let Some(holder) = self.durable.holder.clone() else {
            self.ways_to_a_first_holder(ways);
            return;
        };
        if !self.nodes.contains_key(&holder.node) {
            let text = format!(
                "put {} back into cluster.yaml: it held the role last, and only with its name can \
                    the role move on",
                holder.node
            );
            ways.push(mend(None, text));
            return;
        }
        if let Some((node, what)) = self.comes_back() {
            ways.push(way(Act::Wait, format!("{node} comes back by itself: {what}")));
        }
        let moves =
            [Proposal::default(), Proposal { resume: true, ..Proposal::default() }].into_iter();
        let mut moves: Vec<WayOut> = moves.filter_map(|what| self.proposed(what)).collect();
        moves.sort_by_key(|w| match w.loss {
            Some(LossAccount::None { .. }) => 0,
            Some(LossAccount::AtMost { .. }) => 1,
            _ => 2,
        });
        ways.extend(moves);
        let table = self.resume_table(&holder);
        let only_crashes = |c: &&crate::model::plan::Candidate| {
            let mut failing = c.checks.iter().filter(|k| !k.passed).peekable();
            failing.peek().is_some() && failing.all(|k| k.name == CRASH_LOOP)
        };
        if let Some(candidate) = table.iter().find(only_crashes) {
            let text = format!(
                "say that the failures of {} are known: it could take the role then",
                candidate.node
            );
            ways.push(way(Act::Acknowledge, text));
        }
        self.way_by_starting(&holder, ways);
        self.way_by_history(ways);
        self.way_by_override(ways);
        let mut empty = vec![];
        for candidate in table.iter().filter(|c| !c.eligible && self.is_heard(&c.node)) {
            if self.cluster.node(&candidate.node).is_some_and(|n| n.role == Role::Witness) {
                continue;
            }
            let failing = || candidate.checks.iter().filter(|k| !k.passed);
            // Nobody has to do anything for one that is empty.
            let report = self.nodes.get(&candidate.node).and_then(|m| m.report.as_ref());
            if report.is_some_and(|r| super::candidates::is_empty(&r.resource.state)) {
                empty.push(candidate.node.clone());
                continue;
            }
            // It is looked at, or comes back by itself.
            let comes = |r: &NodeReport| match r.resource.state {
                ResourceState::Unknown => true,
                ResourceState::Starting => r.resource.setback.is_none(),
                _ => false,
            };
            if report.is_some_and(comes) && !ways.is_empty() {
                continue;
            }
            // What else is not to be had of a database that does not run is no task of its own.
            let runs = failing().all(|k| k.name != super::candidates::RUNS);
            let of_one_that_runs = ["lag", "health", super::serves::FOLLOWED];
            let words: Vec<String> = failing()
                .filter(|k| runs || !of_one_that_runs.contains(&&*k.name))
                .map(|k| {
                    format!("{} is {} (limit {}): {}", k.name, k.value, k.limit, k.would_change)
                })
                .collect();
            let text = format!("mend {}: {}", candidate.node, words.join("; "));
            ways.push(mend(Some(&candidate.node), text));
        }
        if !empty.is_empty() && !ways.is_empty() {
            let text = format!(
                "nothing is to be done for {}: what has no data is copied by itself from a \
                 primary, once there is one",
                list(&empty)
            );
            ways.push(way(Act::Wait, text));
        }
        self.ways_to_a_vote(ways);
    }

    fn ways_to_a_first_holder(&self, ways: &mut Vec<WayOut>) {
        let missing: Vec<NodeId> =
            self.nodes.keys().filter(|n| !self.is_heard(n)).cloned().collect();
        if !missing.is_empty() {
            let text = format!(
                "start {}: the first primary waits until every node of the cluster file was met",
                list(&missing)
            );
            ways.push(way(Act::Start { nodes: missing }, text));
        }
        for report in self.said().filter(|r| !r.complaint.is_empty()) {
            let node = &report.member.node;
            ways.push(mend(Some(node), format!("mend {node}: {}", report.complaint)));
        }
        if ways.is_empty() {
            ways.push(way(Act::Wait, "the declared primary makes its database and claims"));
        }
    }

    /// It speaks now, and its heartbeats come as usual.
    fn is_heard(&self, node: &NodeId) -> bool {
        self.speaks(node) && self.nodes[node].detector.silence(self.now) <= detector::Silence::None
    }

    /// What a person does for silent nodes. Where a host answers, it is not the host that is down.
    fn to_start(&self, silent: &[NodeId], between: &str) -> String {
        let (closed, dark): (Vec<&NodeId>, Vec<&NodeId>) =
            silent.iter().partition(|n| !self.closed_to(n).is_empty());
        let names =
            |of: &[&NodeId]| of.iter().map(|n| n.as_str()).collect::<Vec<_>>().join(between);
        let mut words = vec![];
        if !closed.is_empty() {
            let text = "its host answers and nothing listens there";
            words.push(format!("start the agent of {} ({text})", names(&closed)));
        }
        if !dark.is_empty() {
            let text = "or mend the network to it";
            words.push(format!("start the host or the agent of {}, {text}", names(&dark)));
        }
        words.join("; or ")
    }

    /// The silent nodes, and what each of them would bring.
    fn way_by_starting(&self, holder: &Member, ways: &mut Vec<WayOut>) {
        let silent: Vec<NodeId> =
            self.nodes.keys().filter(|n| !self.is_heard(n)).cloned().collect();
        if silent.is_empty() {
            return;
        }
        let missing = self.quorum().saturating_sub(self.reachable_voters());
        let mut why = vec![];
        if missing > 0 {
            let mut words = format!(
                "{} of {} voters are in reach and {} are needed",
                self.reachable_voters(),
                self.voters(),
                self.quorum()
            );
            // Its own agent does it, without a plan and without this plane.
            if !silent.contains(&holder.node) && self.policy.strategy != Strategy::Manual {
                words.push_str(&format!(
                    "; {} takes its role back by itself when they are, unless another node has won \
                     it by then",
                    holder.node
                ));
            }
            why.push(words);
        }
        if silent.contains(&holder.node) {
            why.push(format!(
                "{} held the role last, and its log has everything it acknowledged",
                holder.node
            ));
        }
        let data: Vec<NodeId> =
            silent.iter().filter(|n| **n != holder.node && self.is_data(n)).cloned().collect();
        // Of one that held the role last and speaks, nobody lacks anything.
        if !data.is_empty() && silent.contains(&holder.node) {
            why.push(format!("{} may have what the others lack", list(&data)));
        }
        if why.is_empty() {
            why.push("it votes".into());
        }
        let text = format!("{}: {}", self.to_start(&silent, " or "), why.join("; "));
        ways.push(way(Act::Start { nodes: silent }, text));
    }

    /// Data that two persons may sign to be the history.
    fn way_by_history(&self, ways: &mut Vec<WayOut>) {
        for report in self.said().filter(|r| r.data_fault.is_some()) {
            let timeline = report.data.line.as_ref().map_or(0, |l| l.timeline);
            let Some(system) = report.data.system else { continue };
            let member = report.member.clone();
            let order = HistoryOrder {
                cluster: self.cluster.cluster_id.clone(),
                member: member.clone(),
                system,
                timeline,
                reason: String::new(),
            };
            if self.would_take_history(&order).is_ok() {
                let text = format!(
                    "two persons sign that what {} has is the history; what was acknowledged and \
                        is not in it is lost",
                    member.node
                );
                let unknown = LossAccount::Unknown {
                    why: "nobody can know what was acknowledged and is not in it".into(),
                };
                let act = Act::History { member, system, timeline };
                ways.push(WayOut { loss: Some(unknown), ..way(act, text) });
            }
        }
    }

    /// Too few voters, and the others stay away.
    fn way_by_override(&self, ways: &mut Vec<WayOut>) {
        if self.reachable_voters() >= self.quorum() {
            return;
        }
        let set = self.said().map(|r| &r.vote).max_by_key(|v| v.voters_version);
        let Some(vote) = set.filter(|v| !v.members.is_empty()) else { return };
        let gone = |m: &&Member| !self.said().any(|r| r.member == **m);
        let remove: Vec<Member> = vote.members.iter().filter(gone).cloned().collect();
        let members = vote.members.iter().filter(|m| !remove.contains(m)).cloned().collect();
        let order = OverrideOrder {
            cluster: self.cluster.cluster_id.clone(),
            left: VoterSet { version: vote.voters_version, members },
            remove: remove.clone(),
            accept_unknown_loss: false,
            reason: String::new(),
        };
        if remove.is_empty() || self.would_override(&order).is_err() {
            return;
        }
        let names: Vec<NodeId> = remove.iter().map(|m| m.node.clone()).collect();
        let text = format!(
            "if {} {} powered off for good, or reinstalled: two persons attest it and remove {}",
            list(&names),
            if names.len() == 1 { "was" } else { "were" },
            if names.len() == 1 { "it" } else { "them" }
        );
        ways.push(way(Act::Override { remove }, text));
    }

    /// Voters that speak and do not count.
    fn ways_to_a_vote(&self, ways: &mut Vec<WayOut>) {
        if self.reachable_voters() >= self.quorum() {
            return;
        }
        for report in self.said().filter(|r| r.cannot_save()) {
            let node = &report.member.node;
            let text = format!("mend {node}: {}; until then it has no vote", report.complaint);
            ways.push(mend(Some(node), text));
        }
        if ways.is_empty() {
            let strangers: Vec<NodeId> =
                self.said().filter(|r| !r.vote.votes).map(|r| r.member.node.clone()).collect();
            let text = format!(
                "put back the state folder of {}: what it keeps there is what makes it a voter",
                list(&strangers)
            );
            ways.push(mend(strangers.first(), text));
        }
    }

    /// Nodes that do not vote, or are no targets: nothing is wrong, and less may fail.
    fn ways_to_full_strength(&self, ways: &mut Vec<WayOut>) {
        for report in self.said() {
            let node = &report.member.node;
            if let Some(order) = self.readmission(report)
                && self.would_change_voters(&order).is_ok()
            {
                let text = if order.remove.is_some() {
                    format!("{node} was reinstalled and does not vote: readmit it")
                } else {
                    format!("{node} does not vote: it was removed; readmit it if it is to count")
                };
                ways.push(way(Act::Readmit { node: node.clone() }, text));
            }
        }
        let primary = self.primary();
        for node in self.durable.draining.keys().filter(|n| self.speaks(n)) {
            let text = if primary.as_ref() == Some(node) {
                format!(
                    "{node} holds the role and is drained: undrain it, or move the role away before \
                     its host is stopped"
                )
            } else {
                format!("{node} is drained: undrain it when its host is back for good")
            };
            ways.push(way(Act::Undrain { node: node.clone() }, text));
        }
    }

    /// The role is held, or several share it: what else is wrong.
    fn ways_to_health(&self, ways: &mut Vec<WayOut>) {
        let primary = self.primary().filter(|_| !self.shares_traffic());
        let holds = primary.as_ref().and_then(|p| self.said().find(|r| r.member.node == *p));
        let unwell = |n: &NodeId| self.nodes[n].verdict != Verdict::Healthy;
        let misplaced = primary
            .as_ref()
            .and_then(|p| self.cluster.node(p))
            .and_then(|n| self.residency(n).0)
            .is_some_and(|c| !c.passed);
        if primary.as_ref().is_some_and(unwell) || misplaced {
            ways.extend(self.proposed(Proposal::default()));
        }
        let silent: Vec<NodeId> =
            self.nodes.keys().filter(|n| !self.is_heard(n) && unwell(n)).cloned().collect();
        if !silent.is_empty() {
            let text = self.to_start(&silent, ", ");
            ways.push(way(Act::Start { nodes: silent }, text));
        }
        self.ways_to_full_strength(ways);
        for report in self.said() {
            let node = &report.member.node;
            if self.is_heard(node) && unwell(node) {
                let why = &self.nodes[node].why;
                let closed = super::judge::lets_nobody_in(report);
                ways.push(match report.resource.state {
                    _ if closed.is_some() => mend(
                        Some(node),
                        format!(
                            "mend {node}: it {}; if it is shutting down, end what it waits for \
                             (archive_command, a session), or move the role",
                            closed.unwrap_or_default()
                        ),
                    ),
                    ResourceState::Starting | ResourceState::Rebuilding
                        if report.resource.setback.is_none() =>
                    {
                        way(Act::Wait, format!("{node} comes back by itself: {why}"))
                    }
                    _ => mend(Some(node), format!("mend {node}: {why}")),
                });
            }
        }
        if let Some(why) = self.short_of_room_or_vote() {
            ways.push(mend(None, format!("mend it: {why}")));
        }
        if let Some(why) = self.certificate_that_ends() {
            ways.push(mend(None, why));
        }
        let doubt = holds.and_then(|r| r.holding.as_ref()).and_then(|h| h.doubt.why.as_ref());
        if let Some((why, primary)) = doubt.zip(primary.as_ref()) {
            ways.push(mend(Some(primary), format!("{primary}: {why}")));
        }
        if self.state != ClusterState::Healthy && ways.is_empty() {
            ways.push(mend(primary.as_ref(), format!("mend it: {}", self.state_why)));
        }
    }

    /// The order that takes a reinstalled node in again.
    fn readmission(&self, report: &NodeReport) -> Option<VoterOrder> {
        let holder = self.said().find(|r| r.holding.is_some())?;
        let now = &report.member;
        if report.vote.votes || holder.vote.members.contains(now) {
            return None;
        }
        let former = holder.vote.members.iter().find(|m| m.node == now.node).cloned();
        Some(VoterOrder {
            cluster: self.cluster.cluster_id.clone(),
            from_version: holder.vote.voters_version,
            remove: former,
            add: Some(now.clone()),
            reason: String::new(),
        })
    }

    /// Whether a way out would be taken, by the same tests as a person's order.
    ///
    /// # Errors
    /// Why it would be refused.
    pub fn would_take(&self, way: &WayOut) -> Result<(), String> {
        let said =
            |r: Result<(), (String, String)>| r.map_err(|(check, why)| format!("{check}: {why}"));
        match &way.act {
            Act::Propose(what) => {
                if self.durable.run.is_some() {
                    return Err("a plan runs".into());
                }
                let plan =
                    self.draft(&Wish::of(SOMEBODY, what.clone())).map_err(|refused| refused.why)?;
                let moved = self.moved(&plan);
                if moved.is_empty() { Ok(()) } else { Err(moved.join("; ")) }
            }
            Act::Execute { plan, demoted } => said(self.would_execute(plan, demoted.as_str())),
            Act::Dismiss { plan } => self
                .durable
                .pending
                .as_ref()
                .filter(|p| p.digest == *plan)
                .map(|_| ())
                .ok_or_else(|| "no such plan waits".into()),
            Act::Readmit { node } => {
                let report = self.said().find(|r| r.member.node == *node);
                let order = report.and_then(|r| self.readmission(r)).ok_or("nothing to readmit")?;
                said(self.would_change_voters(&order))
            }
            Act::Undrain { node } => said(self.would_drain(node, false)),
            Act::Override { .. } | Act::History { .. } => {
                let mut now = vec![];
                self.way_by_override(&mut now);
                self.way_by_history(&mut now);
                let stands = now.iter().any(|w| w.act == way.act);
                if stands { Ok(()) } else { Err("it would be refused now".into()) }
            }
            Act::Start { nodes } => {
                let well = |n: &&NodeId| self.is_heard(n);
                nodes.iter().find(well).map_or(Ok(()), |n| Err(format!("{n} is heard")))
            }
            Act::Acknowledge | Act::Mend { .. } | Act::Wait => Ok(()),
        }
    }
}
