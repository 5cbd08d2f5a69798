//! Judging: who holds the role, how each node is, and in which state the cluster is.

use super::decision::Making;
use super::mind::NodeMind;
use super::{Engine, health, quorum, rooms, rules};
use crate::model::loss::Doubt;
use crate::model::observation::{Blocked, Found, NodeReport, ResourceState};
use crate::model::topology::Strategy;
use crate::model::view::{ClusterState, Verdict};
use crate::model::{Epoch, Member, NodeId, Span};

/// A plane that starts waits so long for the first word of everybody before it says what state the
/// cluster is in.
const FIRST_WORD: Span = Span::secs(2);

/// What is said of a holder that was promoted in its epoch, and whose server answers that it starts
/// or shuts down.
pub(super) fn lets_nobody_in(report: &NodeReport) -> Option<String> {
    let epoch = report.holding.as_ref()?.epoch;
    let promoted = report.vote.history.iter().any(|h| h.epoch == epoch && h.promoted);
    let closed = promoted && report.resource.state == ResourceState::Starting;
    let said = &report.resource.trouble;
    closed.then(|| format!("holds the role, and its server lets nobody in: {said}"))
}

impl Engine {
    /// Verdicts, cluster state, then at most one step of the failover machine.
    pub(super) fn judge(&mut self, making: &mut Making) {
        if self.shares_traffic() {
            self.judge_shares();
        } else {
            let before = (self.durable.epoch, self.durable.holder.clone());
            self.judge_holder();
            self.record_role(making, before);
        }
        self.record_found(making);
        self.record_strangers(making);
        self.judge_nodes(making);
        self.judge_cluster(making);
        if self.durable.run.is_some() {
            self.advance(making);
        } else {
            self.consider(making);
        }
        self.disarm(making);
    }

    /// What was found on a node and not ordered, once each.
    fn record_found(&mut self, making: &mut Making) {
        let news: Vec<(NodeId, Found)> = self
            .nodes
            .iter()
            .filter_map(|(node, mind)| Some((node, mind.report.as_ref()?)))
            .flat_map(|(node, report)| report.resource.found.iter().map(move |f| (node, f)))
            .filter(|(node, f)| self.durable.found.get(*node).is_none_or(|seen| *seen < f.at))
            .map(|(node, f)| (node.clone(), f.clone()))
            .collect();
        for (node, found) in news {
            let text = format!("{node}: {}: {}", found.what, found.done);
            let data = serde_json::json!({ "found": found });
            self.note(making, rules::FOUND, "plane", "found", text, data);
            self.durable.found.insert(node, found.at);
        }
    }

    /// An epoch that no run here was to win: who has the role now, and from whom.
    fn record_role(&self, making: &mut Making, before: (Epoch, Option<Member>)) {
        let (Some(former), Some(holder)) = (before.1, &self.durable.holder) else { return };
        if self.durable.epoch == before.0 || self.durable.run.is_some() {
            return;
        }
        let (node, epoch) = (&holder.node, self.durable.epoch);
        let text = if former.node == *node {
            format!("{node} took the role back by itself: epoch {epoch}")
        } else {
            format!("{node} won epoch {epoch} after {}, by no plan of this plane", former.node)
        };
        self.note(making, rules::ROLE_TAKEN, node.as_str(), "role", text, serde_json::Value::Null);
    }

    /// Who holds the role: the newest epoch that a holder itself reports as held.
    pub(super) fn judge_holder(&mut self) {
        let mut best: Option<(Epoch, Member)> = None;
        for mind in self.nodes.values() {
            let Some(report) = &mind.report else { continue };
            if let Some(holding) = &report.holding
                && best.as_ref().is_none_or(|(epoch, _)| holding.epoch > *epoch)
            {
                best = Some((holding.epoch, report.member.clone()));
            }
            // A winner that nobody hears is known through its voters.
            if report.vote.won
                && let Some(holder) = &report.vote.holder
                && best.as_ref().is_none_or(|(epoch, _)| report.vote.epoch > *epoch)
            {
                best = Some((report.vote.epoch, holder.clone()));
            }
        }
        if let Some((epoch, holder)) = best
            && epoch > self.durable.epoch
            && self.nodes.contains_key(&holder.node)
        {
            self.epoch_since = self.now;
            self.withheld.clear();
            self.low_since = None;
            self.refusal.clear();
            self.given_up.clear();
            self.last_doubt = Doubt::default();
            self.durable.epoch = epoch;
            self.durable.holder = Some(holder);
        }
        if let Some(primary) = self.primary() {
            let mind = &self.nodes[&primary];
            if let Some(holding) = mind.report.as_ref().and_then(|r| r.holding.as_ref()) {
                self.last_sync = Some(holding.sync.clone());
                self.last_doubt = holding.doubt.clone();
            }
            self.started_calm |= mind.report.as_ref().is_some_and(|r| r.holding.is_some())
                && mind.verdict == Verdict::Healthy;
            if let Some(heard) =
                mind.heard.filter(|_| mind.report.as_ref().is_some_and(|r| r.holding.is_some()))
            {
                self.last_writable = heard;
            }
        }
    }

    /// The node that holds the role, by the newest epoch known; it may be dead.
    pub(crate) fn primary(&self) -> Option<NodeId> {
        // One that was taken out of the cluster file is nobody's primary here.
        self.durable.holder.as_ref().map(|h| h.node.clone()).filter(|n| self.nodes.contains_key(n))
    }

    /// The holder said itself that it stopped, or any voter has its release.
    pub(super) fn is_released(&self) -> bool {
        self.durable.holder.as_ref().is_some_and(|holder| self.released(self.durable.epoch, holder))
    }

    /// Under `quorum_based` even a clean "it stopped" counts only when a quorum of voters has that
    /// word.
    fn release_has_quorum(&self) -> bool {
        let Some(holder) = &self.durable.holder else { return false };
        let has = |m: &&NodeMind| {
            m.report.as_ref().is_some_and(|r| {
                r.vote.releases.iter().any(|r| r.epoch == self.durable.epoch && r.holder == *holder)
            })
        };
        self.nodes.values().filter(has).count() >= self.quorum()
    }

    /// A quorum of voters speaks, and none of them promises a lease to anybody.
    pub(super) fn lease_is_over(&self) -> bool {
        let voters = || self.said().filter(|r| r.vote.votes);
        voters().count() >= self.quorum() && voters().all(|r| r.vote.lease_left == Span::ZERO)
    }

    /// What is known of the lease of a holder that nobody here hears.
    fn lease_left(&self) -> String {
        if self.lease_is_over() {
            return "no voter that is heard promises it its lease any more".into();
        }
        let heard: Vec<_> = self.said().filter(|r| r.vote.votes).collect();
        let (all, silent) = (self.voters(), self.voters().saturating_sub(heard.len()));
        let promised = heard.iter().any(|r| r.vote.lease_left > Span::ZERO);
        if promised && silent < self.quorum() {
            return "it takes writes no longer than its lease lasts".into();
        }
        format!(
            "whether it takes writes is not known: {silent} of {all} voters are not heard, and may \
             promise it its lease"
        )
    }

    /// Some voter has the release of that epoch.
    pub(super) fn released(&self, epoch: Epoch, holder: &Member) -> bool {
        let reports = self.nodes.values().filter_map(|m| m.report.as_ref());
        reports.flat_map(|r| &r.vote.releases).any(|r| r.epoch == epoch && r.holder == *holder)
    }

    pub(super) fn judge_nodes(&mut self, making: &mut Making) {
        let (now, started) = (self.now, self.started);
        let primary = self.primary();
        let released = self.is_released()
            && (self.policy.strategy != Strategy::QuorumBased || self.release_has_quorum());
        // Without require_quorum a majority of those who have a vote is enough.
        let needed = if self.policy.require_quorum { self.quorum() } else { 1 };
        let mut changes = Vec::new();
        let ids: Vec<NodeId> = self.nodes.keys().cloned().collect();
        for node in ids {
            let is_primary = primary.as_ref() == Some(&node);
            let votes = || quorum::votes(&self.cluster, &self.nodes, &node, now);
            let (mut verdict, mut why) =
                self.nodes[&node].conclude(now, started, is_primary && released, needed, votes);
            // A holder that cannot write loses its lease; one of several loses its share after as
            // long.
            let stuck = self.nodes[&node]
                .stuck_since
                .map(|since| now.since(since))
                .filter(|s| *s >= self.cluster.lease);
            if let Some(stuck) = stuck.filter(|_| verdict != Verdict::Failed) {
                (verdict, why) = (
                    Verdict::Failed,
                    format!("it has not taken writes for {stuck}, by its own agent's word"),
                );
            }
            if let Some((deaf, again)) = self.deaf_for(&node).filter(|_| verdict < Verdict::Suspect)
            {
                let (word, what) = if again {
                    (Verdict::Degraded, "it is tried again")
                } else {
                    (Verdict::Failed, "nothing reaches it")
                };
                let text =
                    format!("it is heard, but has taken no shares for {deaf} of orders: {what}");
                (verdict, why) = (word, text);
            }
            let mind = self
                .nodes
                .get_mut(&node)
                .unwrap_or_else(|| unreachable!("ids are the map's own keys"));
            if verdict < mind.verdict && mind.knows_no_better(now, started) {
                (verdict, why) = (mind.verdict, mind.why.clone());
            }
            if verdict != mind.verdict {
                changes.push((node.clone(), mind.verdict, verdict, why.clone()));
            }
            (mind.verdict, mind.why) = (verdict, why);
            let usual = health::usual_score(mind, &self.policy, now);
            let least = self.policy.constraints.decision.target_at_least;
            mind.fit = health::is_fit(mind.fit, usual, least);
            let least = self.policy.constraints.failback.score_at_least;
            let well = verdict == Verdict::Healthy
                && health::is_fit(mind.well_since.is_some(), usual, least);
            mind.well_since = if well { mind.well_since.or(Some(now)) } else { None };
        }
        for (node, from, to, why) in changes {
            let text = if why.is_empty() {
                format!("{node}: {} → {}", from.word(), to.word())
            } else {
                format!("{node}: {} → {}: {why}", from.word(), to.word())
            };
            let votes: Vec<_> = quorum::votes(&self.cluster, &self.nodes, &node, now);
            let phi = self.nodes[&node].phi_milli(now);
            self.note(
                making,
                rules::VERDICT,
                "plane",
                "verdict",
                text,
                serde_json::json!({"votes": votes, "phi_milli": phi}),
            );
        }
    }

    pub(super) fn judge_cluster(&mut self, making: &mut Making) {
        let (state, why) = self.conclude_cluster();
        if state != self.state {
            let text = format!("cluster: {} → {}: {why}", self.state.word(), state.word());
            self.note(
                making,
                rules::CLUSTER_STATE,
                "plane",
                "state",
                text,
                serde_json::Value::Null,
            );
        }
        (self.state, self.state_why) = (state, why);
    }

    /// A voter that cannot save what it promises, and a folder that will be full soon.
    pub(super) fn short_of_room_or_vote(&self) -> Option<String> {
        let speak = || {
            let speaks = |m: &NodeMind| m.verdict <= Verdict::Degraded;
            let minds = self.nodes.iter().filter(move |(_, m)| speaks(m));
            minds.filter_map(|(node, m)| Some((node, m.report.as_ref()?)))
        };
        let mute = speak().find(|(_, r)| r.cannot_save());
        if let Some((node, report)) = mute {
            return Some(format!("{node} has {}", report.complaint));
        }
        let least = self.policy.constraints.disk_free_min;
        let tight = speak().find(|(_, r)| !r.rooms.is_empty() && !rooms::enough(r, least));
        tight.map(|(node, report)| {
            let (free, wanted) = rooms::tightest(report, least);
            format!("{node} is short of room: {free} (wanted: {wanted})")
        })
    }

    /// That no candidate could serve, before one is needed. Only what nothing else says: a node that
    /// is down or behind has a verdict of its own.
    pub(super) fn no_failover_now(&self, primary: &NodeId) -> Option<String> {
        let table = self.candidates(Some(primary));
        if table.iter().any(|c| c.eligible) {
            return None;
        }
        let failing: Vec<String> = table
            .iter()
            .filter(|c| c.checks.iter().all(|k| k.passed || super::serves::is_of_serving(k)))
            .filter_map(|c| Some((c, c.checks.iter().find(|k| !k.passed)?)))
            .map(|(c, k)| format!("{}: {}: {} (mend: {})", c.node, k.name, k.value, k.would_change))
            .collect();
        let could = "you could not fail over to a database that serves now";
        (!failing.is_empty()).then(|| format!("{could}: {}", failing.join("; ")))
    }

    fn conclude_cluster(&self) -> (ClusterState, String) {
        if self.nodes.values().all(|m| m.report.is_none()) {
            return (ClusterState::Unknown, "no agent was heard yet".into());
        }
        if self.shares_traffic() {
            return self.conclude_sharing();
        }
        let primary = self.primary();
        let unheard = || self.nodes.values().any(|m| m.report.is_none());
        // A plane that has just started says nothing bad of whom it has not had the time to hear.
        if self.now.since(self.started) < FIRST_WORD
            && primary.as_ref().is_none_or(|p| self.nodes[p].report.is_none())
            && unheard()
        {
            return (ClusterState::Unknown, "not everybody was heard yet".into());
        }
        let unowned = |m: &&NodeMind| m.report.as_ref().is_some_and(|r| r.beside == "primary");
        let beside = self.nodes.iter().find(|(_, m)| unowned(m) && m.verdict <= Verdict::Degraded);
        if let Some((node, _)) = beside.filter(|_| primary.is_none()) {
            let why = format!(
                "{node} is not owned yet: its PostgreSQL takes writes without quorate, and what \
                    they are worth is not known; `quorate adopt` there says what is missing"
            );
            return (ClusterState::Unknown, why);
        }
        let Some(primary) = primary else {
            return (ClusterState::Critical, "no node holds the write role".into());
        };
        let mind = &self.nodes[&primary];
        let sees = |of: &NodeId| {
            quorum::votes(&self.cluster, &self.nodes, of, self.now).iter().any(|(_, sees)| *sees)
        };
        let promise = crate::lease::Terms::for_duration(self.cluster.lease).promise();
        let unseen = mind.age(self.now).filter(|age| *age > promise && !sees(&primary));
        if let Some(age) = unseen.filter(|_| mind.verdict == Verdict::Suspect) {
            let why = format!(
                "{primary} was last heard {age} ago, and nobody who is heard sees it: whether \
                 anybody takes writes is not known"
            );
            return (ClusterState::Unknown, why);
        }
        if mind.verdict == Verdict::Suspect {
            return (
                ClusterState::Degraded,
                // Its agent may well be heard: then it is its database that gives no sign of life.
                match self.speaks(&primary) {
                    true => {
                        format!("{primary}: {}: whether it takes writes is not known", mind.why)
                    }
                    false => format!("{primary} is silent: whether it takes writes is not known"),
                },
            );
        }
        let holding = mind
            .report
            .as_ref()
            .filter(|r| r.holding.is_some() && mind.verdict <= Verdict::Degraded);
        let Some(report) = holding else {
            // What it said of itself before it fell silent is no word about now.
            let speaks = self.speaks(&primary);
            let own_word = speaks
                && mind.report.as_ref().is_some_and(|r| {
                    r.holding.is_none() || matches!(r.resource.state, ResourceState::Stopped(_))
                });
            if mind.verdict == Verdict::Failed && !own_word {
                // Nobody here hears it: others may, and its lease may run.
                return (
                    ClusterState::Critical,
                    format!("{primary} failed: {}", self.lease_left()),
                );
            }
            // Said of what was heard, never of now: a database that was found running may accept
            // writes for as long as an earlier promise lasts, one that was stopped or a standby may
            // have been promoted since, and another node may have won unheard.
            let claims = |r: &NodeReport| {
                let itself = r.vote.holder.as_ref() == Some(&r.member) && !r.vote.released;
                itself && r.vote.epoch > self.durable.epoch
            };
            let another =
                |r: &NodeReport| self.durable.holder.as_ref().is_some_and(|h| *h != r.member);
            let vote_is_of_now =
                |r: &NodeReport| (r.vote.epoch, r.vote.won) >= (self.durable.epoch, true);
            let report = mind.report.as_ref().filter(|_| speaks);
            let until = match report.map(|r| (&r.resource.state, r)) {
                Some((ResourceState::Standby, _)) => "its database was a standby when last heard",
                Some((ResourceState::Starting, _)) => "its database was starting when last heard",
                Some((
                    ResourceState::None | ResourceState::Stopped(_) | ResourceState::Rebuilding,
                    r,
                )) if another(r) || vote_is_of_now(r) && !claims(r) => {
                    "its database was stopped when last heard"
                }
                _ if self.lease_is_over() => "no voter that is heard promises it one any more",
                _ => "it may take writes until the last one has run out",
            };
            return (
                ClusterState::Critical,
                format!("{primary} does not hold a confirmed lease: {until}"),
            );
        };
        if let Some(why) = lets_nobody_in(report) {
            return (ClusterState::Critical, format!("{primary} {why}"));
        }
        if matches!(report.resource.state, ResourceState::Standby | ResourceState::Starting) {
            let why = format!("{primary} has won the role, and its database is not promoted yet");
            return (ClusterState::Critical, why);
        }
        let k = self.cluster.synchronous_standbys;
        let confirming = report
            .resource
            .standbys
            .iter()
            .filter(|s| s.streams() && self.cluster.node(&s.node).is_some())
            .count();
        if confirming < k {
            return (
                ClusterState::Critical,
                format!("{confirming} of {k} synchronous standbys stream: commits wait"),
            );
        }
        if let Some(blocked) = &report.resource.blocked {
            let state = match blocked {
                Blocked::ReadOnly => ClusterState::Critical,
                Blocked::Waiting { .. } | Blocked::Database { .. } | Blocked::Full { .. } => {
                    ClusterState::Degraded
                }
            };
            return (state, format!("{primary} accepts writes, but {blocked}"));
        }
        if let Some(check) =
            self.cluster.node(&primary).and_then(|n| self.residency(n).0).filter(|c| !c.passed)
        {
            let why = format!(
                "{primary} holds the role where its data must not be: {} (allowed: {})",
                check.value, check.limit
            );
            return (ClusterState::Degraded, why);
        }
        if let Some(why) = self.short_of_room_or_vote() {
            return (ClusterState::Degraded, why);
        }
        let doubt = report.holding.as_ref().and_then(|h| h.doubt.why.as_ref());
        if let Some(why) = doubt {
            return (
                ClusterState::Degraded,
                format!("what {primary} acknowledges cannot be accounted for: {why}"),
            );
        }
        let unwell = self
            .nodes
            .iter()
            .filter(|(_, m)| m.verdict != Verdict::Healthy)
            .map(|(n, m)| format!("{n} {}", m.verdict.word()));
        let amiss: Vec<_> = unwell
            .chain(self.certificate_that_ends())
            .chain(self.no_failover_now(&primary))
            .collect();
        if amiss.is_empty() {
            (
                ClusterState::Healthy,
                "every node is healthy and commits are confirmed as configured".into(),
            )
        } else {
            (ClusterState::Degraded, amiss.join(", "))
        }
    }
}
