//! A plan for other shares: who carries what afterwards, what cannot be carried, and what writes
//! that meet may lose.

use super::super::plans::{NoPlan, Wish};
use super::distribute::{Carrier, Distribution, distribute};
use super::units_of;
use crate::engine::{Engine, Verdict};
use crate::model::loss::{FenceRung, LossAccount};
use crate::model::plan::{Candidate, Plan, PlanKind, Step, StepKind};
use crate::model::share::{Conflicts, ShareChange};
use crate::model::topology::{Node, Role};
use crate::model::{Member, NodeId, Span};

impl Engine {
    /// How the load would be carried without `away`, and without those who failed or were drained.
    pub(super) fn without(&self, away: &[NodeId]) -> Distribution {
        let table = self.candidates(away.first());
        let gone =
            |n: &Node| away.contains(&n.node_id) || self.durable.drained.contains(&n.node_id);
        self.spread(&table, false, gone)
    }

    /// `back`: whoever has no share now gets its declared one; otherwise only what the others
    /// cannot carry.
    fn spread(
        &self,
        table: &[Candidate],
        back: bool,
        gone: impl Fn(&Node) -> bool,
    ) -> Distribution {
        let eligible = |n: &Node| table.iter().any(|c| c.node == n.node_id && c.eligible);
        let carrier = |n: &Node| {
            // Whoever must not take more keeps what it has; whoever failed keeps nothing.
            let most =
                if eligible(n) { units_of(n) } else { self.units(&n.node_id).min(units_of(n)) };
            let capacity = if self.nodes[&n.node_id].verdict == Verdict::Failed { 0 } else { most };
            Carrier { node: n.node_id.clone(), declared: n.share, capacity }
        };
        let there = |n: &&Node| !gone(n);
        let serves = |n: &&Node| n.share > 0 && (back || self.units(&n.node_id) > 0);
        let active: Vec<Carrier> =
            self.cluster.data_nodes().filter(serves).filter(there).map(carrier).collect();
        let in_order = table
            .iter()
            .filter_map(|c| self.cluster.node(&c.node))
            .filter(|n| n.role != Role::Witness);
        let mut waiting: Vec<&Node> = in_order.filter(|n| !serves(n)).filter(there).collect();
        waiting.sort_by_key(|n| n.share == 0);
        let reserve: Vec<Carrier> = waiting.into_iter().map(carrier).collect();
        distribute(self.demand(), &active, &reserve)
    }

    /// A plan for other shares.
    ///
    /// # Errors
    /// The check that failed, in words with what would change it, and the rule behind it.
    pub(in crate::engine) fn draft_shares(&self, wish: &Wish<'_>) -> Result<Plan, NoPlan> {
        let what = &wish.what;
        if what.resume {
            return Err(NoPlan::new(
                "several nodes accept writes here: there is no single role to take back",
            ));
        }
        if let Some(to) = &what.to {
            return Err(NoPlan::new(format!(
                "several nodes accept writes here: nothing moves to {to}; say which node to be \
                    without (away)"
            )));
        }
        let subject =
            self.most_unwell().ok_or_else(|| NoPlan::new("no node has a share of the traffic"))?;
        if let Some(stranger) = what.away.iter().find(|n| !self.is_data(n)) {
            return Err(NoPlan::new(format!(
                "{stranger} is no node of this cluster that could have a share"
            )));
        }
        // The one with the largest share stands for all of them.
        let away = match what.away.iter().max_by_key(|n| self.units(n)) {
            Some(away) => away.clone(),
            None if what.failback => self
                .gives_most_back()
                .ok_or_else(|| NoPlan::new("the shares are the declared ones already"))?,
            None => subject,
        };
        let mind = &self.nodes[&away];
        let kind = match mind.verdict {
            _ if what.failback => PlanKind::Failback,
            Verdict::Failed => PlanKind::Failover,
            _ => PlanKind::Switchover,
        };
        // One that this plane never heard has an installation that it does not know.
        let from = mind
            .report
            .as_ref()
            .map_or_else(|| Member::new(away.clone(), "unknown"), |r| r.member.clone());
        let constraints = self.permitted(wish, &from, kind)?;
        let table = self.candidates(if what.failback { None } else { Some(&away) });
        let distribution = match &what.away[..] {
            _ if what.failback => self.spread(&table, true, |_| false),
            _ if wish.settle => self.without(&[]),
            [] => self.without(std::slice::from_ref(&away)),
            several => self.without(several),
        };
        let before = self.shares();
        let change = |n: &Node| ShareChange {
            node: n.node_id.clone(),
            before: before.of.get(&n.node_id).copied().unwrap_or(0),
            after: distribution.of.get(&n.node_id).copied().unwrap_or(0),
            capacity: units_of(n),
        };
        let shares: Vec<ShareChange> = self.cluster.data_nodes().map(change).collect();
        if shares.iter().all(|s| s.before == s.after) && !wish.settle {
            return Err(NoPlan::new(format!(
                "the shares would stay as they are: {}",
                words(&shares)
            )));
        }
        if let Some(back) = shares
            .iter()
            .filter(|s| what.failback && s.after > s.before)
            .find_map(|s| self.failback_check(&s.node).err())
        {
            return Err(NoPlan::new(back));
        }
        let most = shares
            .iter()
            .filter(|s| s.after > 0)
            .max_by_key(|s| (s.after.saturating_sub(s.before), s.after));
        let to = most.and_then(|s| self.nodes[&s.node].report.as_ref()).map(|r| r.member.clone());
        let Some(to) = to else {
            let failing = |c: &Candidate| {
                let failed: Vec<&str> =
                    c.checks.iter().filter(|k| !k.passed).map(|k| &*k.name).collect();
                format!("{} ({})", c.node, failed.join(", "))
            };
            let why = table.iter().map(failing).collect::<Vec<_>>().join("; ");
            return Err(NoPlan::new(format!("nobody is left to carry the load: {why}")));
        };
        let loss = self.share_loss(&from, kind, &shares);
        let transfers = shares
            .iter()
            .filter(|s| s.before == 0 && s.after > 0)
            .filter_map(|s| self.cluster.node(&s.node));
        let transfers = transfers.flat_map(|n| self.residency(n).1).collect();
        Ok(Plan {
            number: self.durable.plans + 1,
            cluster: self.cluster.cluster_id.clone(),
            kind,
            epoch: self.durable.epoch,
            steps: self.share_steps(kind, &from.node, &to.node, &shares),
            blast_radius: self.share_blast(&shares, distribution.shed),
            way_back: "a failback to the declared shares, as a plan of its own, once the node is \
                well again"
                .into(),
            conflicts: Some(self.conflicts(kind, &from.node)),
            from: Some(from),
            to,
            made: self.wall,
            requested_by: wish.requested_by.to_owned(),
            reason: what.reason.clone(),
            least_fence: FenceRung::LeaseExpired,
            loss,
            max_loss_bytes: self.policy.max_loss_bytes,
            accept_unknown_loss: what.accept_unknown_loss,
            budget: self.policy.max_failover_time,
            candidates: table,
            constraints,
            transfers,
            shares,
            shed: distribution.shed,
        })
    }

    /// Whoever carries the most beyond its declared share.
    fn gives_most_back(&self) -> Option<NodeId> {
        let beyond = |n: &&Node| self.units(&n.node_id).saturating_sub(n.share);
        self.cluster
            .data_nodes()
            .filter(|n| beyond(n) > 0)
            .max_by_key(beyond)
            .map(|n| n.node_id.clone())
    }

    /// Shifting traffic loses nothing by itself; a node that is out of reach keeps what it had not
    /// copied to the others.
    fn share_loss(&self, from: &Member, kind: PlanKind, shares: &[ShareChange]) -> LossAccount {
        if kind.is_planned() && shares.iter().all(|s| s.before == 0 || s.after > 0) {
            let proof = "every node that accepts writes goes on accepting them".into();
            return LossAccount::None {
                proof,
                by: vec![],
                excluded: vec!["writes that meet, see conflicts".into()],
            };
        }
        if kind.is_planned() {
            return LossAccount::None {
                proof: format!(
                    "{} serves until the others have everything that it accepted; that is looked \
                        at before the plan is done",
                    from.node
                ),
                by: vec![from.node.clone()],
                excluded: vec!["writes that meet, see conflicts".into()],
            };
        }
        let report = self.nodes[&from.node].report.as_ref();
        let behind = report.and_then(|r| r.resource.standbys.iter().map(|s| s.lag_bytes).min());
        let age =
            self.nodes[&from.node].age(self.now).map_or("never".to_owned(), |a| format!("{a} ago"));
        let then =
            behind.map_or(String::new(), |b| format!("; {b} B when it was last heard, {age}"));
        LossAccount::Unknown {
            why: format!(
                "what {} accepted and had not copied to another node waits there until it is \
                    back{then}",
                from.node
            ),
        }
    }

    fn conflicts(&self, kind: PlanKind, from: &NodeId) -> Conflicts {
        let delays = self
            .nodes
            .values()
            .filter_map(|m| m.report.as_ref())
            .flat_map(|r| r.resource.standbys.iter().filter_map(|s| s.lag));
        let within = delays.max().map_or("the time a copy takes (not measured)".to_owned(), |d| {
            format!("the time a copy takes ({d} now)")
        });
        let back = if kind.is_planned() {
            String::new()
        } else {
            format!(
                " {from} is not fenced: whoever still reaches it can write there, and what it \
                    holds is merged when it is back, where a later \
                 clock overwrites what the others took meanwhile."
            )
        };
        Conflicts {
            policy: self.cluster.conflicts,
            may_lose: format!(
                "Two writes to one key on two nodes within {within}: the one with the later clock \
                    stays, the other is gone without a word, \
                 although both were acknowledged. Clocks that are apart make the wrong one \
                 stay.{back}"
            ),
        }
    }

    fn share_blast(&self, shares: &[ShareChange], shed: u64) -> Vec<String> {
        let mut words = vec![];
        for s in shares.iter().filter(|s| s.after == 0 && s.before > 0) {
            let sessions = self.nodes[&s.node].report.as_ref().map_or(0, |r| r.resource.sessions);
            words.push(format!(
                "{sessions} client sessions on {} end; they connect again where \
                the shares send them",
                s.node
            ));
        }
        for s in shares.iter().filter(|s| s.after > s.before) {
            words.push(format!(
                "{} carries {} of {} units instead of {}",
                s.node, s.after, s.capacity, s.before
            ));
        }
        if shed > 0 {
            words.push(format!(
                "{shed} of {} units of the load cannot be carried within capacity: those clients \
                    are refused",
                self.demand()
            ));
        }
        words
    }

    fn share_steps(
        &self,
        kind: PlanKind,
        from: &NodeId,
        to: &NodeId,
        shares: &[ShareChange],
    ) -> Vec<Step> {
        let step = |kind,
                    node: &NodeId,
                    action: String,
                    precondition: &str,
                    verification: &str,
                    compensation: &str,
                    secs| Step {
            kind,
            node: node.clone(),
            action,
            precondition: precondition.into(),
            verification: verification.into(),
            compensation: compensation.into(),
            budget: Span::secs(secs),
        };
        let back = "a person's failback: the declared shares, as a new epoch";
        let mut steps = vec![step(
            StepKind::Shift,
            to,
            format!("shares of epoch {}: {}", self.durable.epoch.next(), words(shares)),
            "no newer shares are known",
            "a majority of agents keeps them durably, every node that is in reach and changes \
                among them",
            back,
            10,
        )];
        let names = |which: &dyn Fn(&&ShareChange) -> bool| {
            shares
                .iter()
                .filter(which)
                .map(|s| s.node.as_str().to_owned())
                .collect::<Vec<_>>()
                .join(", ")
        };
        let promoted = names(&|s| s.before == 0 && s.after > 0);
        if !promoted.is_empty() {
            let action = format!("{promoted} begins to accept writes");
            steps.push(step(
                StepKind::Promote,
                to,
                action,
                "it has its share",
                "it accepts writes by its own word",
                back,
                30,
            ));
        }
        let drained = names(&|s| s.before > 0 && s.after == 0);
        if kind.is_planned() && !drained.is_empty() {
            let action = format!("{drained} takes nothing new and copies what it has");
            let verification =
                "no session is left, and every node that serves has everything it accepted";
            steps.push(step(
                StepKind::Drain,
                from,
                action,
                "the others have its share",
                verification,
                back,
                60,
            ));
        }
        let keep = "see that everybody who serves stays within its capacity";
        steps.push(step(
            StepKind::Keep,
            to,
            keep.into(),
            "the shares are in force",
            "each is at or below its capacity",
            back,
            15,
        ));
        let verify = "commit a real write on every node that serves and read it back";
        let undo = "none: the shares have changed; a person decides what is missing";
        steps.push(step(
            StepKind::Verify,
            to,
            verify.into(),
            "they accept writes",
            "each was read back",
            undo,
            15,
        ));
        steps
    }
}

/// All shares in one line.
pub(in crate::engine) fn words(shares: &[ShareChange]) -> String {
    let one = |s: &ShareChange| {
        if s.before == s.after {
            format!("{} {}", s.node, s.after)
        } else {
            format!("{} {} → {}", s.node, s.before, s.after)
        }
    };
    shares.iter().map(one).collect::<Vec<_>>().join(", ")
}
