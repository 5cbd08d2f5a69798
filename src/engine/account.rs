//! What a move would lose, as far as is known before it: the account that the candidate computes
//! again from the grants, of what those voters report who could grant now.

use super::detector::Silence;
use super::mind::NodeMind;
use super::{Engine, candidates};
use crate::lease::account::{UNLOGGED, UNSYNCHRONISED};
use crate::lease::{Account, EpochSync, Testimony};
use crate::model::loss::LossAccount;
use crate::model::observation::{NodeReport, ResourceState};
use crate::model::plan::{Candidate, PlanKind};
use crate::model::{Member, SyncStage, VoterSet};

impl Engine {
    /// What is known before the move. The candidate computes it again from the grants and refuses
    /// beyond the limit.
    pub(super) fn expected_loss(&self, from: &Member, to: &Member, kind: PlanKind) -> LossAccount {
        if kind.is_planned() {
            return LossAccount::None {
                proof: format!(
                    "{} is stopped cleanly first, and its last byte must be on the candidate",
                    from.node
                ),
                by: vec![from.node.clone()],
                excluded: vec![UNLOGGED.into()],
            };
        }
        let mut account = match self.account_of(to) {
            Some(account) => account.loss(),
            None => LossAccount::Unknown { why: "no voter is heard".into() },
        };
        if let LossAccount::None { excluded, .. } = &mut account {
            // Where somebody counted them, the number is said.
            let source = self.nodes.get(&from.node).and_then(|m| m.report.as_ref());
            let counted = source.and_then(|r| r.resource.unsynchronised_sessions);
            for words in excluded.iter_mut().filter(|w| *w == UNSYNCHRONISED) {
                *words = unsynchronised(counted);
            }
        }
        account
    }

    /// What the holder's failure would lose now, if the best of these took over.
    pub(super) fn loss_of_failure(&self, from: &Member, table: &[Candidate]) -> LossAccount {
        let heard = |c: &Candidate| Some(&self.nodes.get(&c.node)?.report.as_ref()?.member);
        let best = table.iter().find(|c| c.rank == 1);
        match best.and_then(heard).or_else(|| table.iter().find_map(heard)) {
            Some(to) => self.expected_loss(from, to, PlanKind::Failover),
            None => LossAccount::Unknown { why: "no other node with data was heard".into() },
        }
    }

    fn account_of(&self, candidate: &Member) -> Option<Account> {
        let (version, _) = self.voter_set();
        let reports = || self.nodes.values().filter_map(|m| m.report.as_ref());
        let set = reports().map(|r| &r.vote).find(|v| v.voters_version == version)?;
        let voters = VoterSet { version, members: set.members.iter().cloned().collect() };
        let has_data = reports()
            .find(|r| r.member == *candidate)
            .is_some_and(|r| r.data.system.is_some() && r.data_fault.is_none());
        // What somebody said once of epochs stays true, also of those who are silent now.
        let known = reports().flat_map(|r| r.vote.history.clone()).chain(self.last_known());
        let mut account = Account::forecast(voters, candidate.clone(), has_data, known.collect());
        for report in self.nodes.values().filter(|m| self.could_grant(m, version)) {
            let Some(report) = report.report.as_ref() else { continue };
            if report.member != *candidate && self.withholds(&report.member.node) {
                continue;
            }
            account.hear(report.member.clone(), testimony(report));
        }
        Some(account)
    }

    /// The last holder, as this plane knows it.
    fn last_known(&self) -> Option<EpochSync> {
        Some(EpochSync {
            epoch: self.durable.epoch,
            holder: self.durable.holder.clone()?,
            sync: self.last_sync.clone().map(SyncStage::from).unwrap_or_default(),
            won: true,
            promoted: false,
            doubt: self.last_doubt.clone(),
        })
    }

    /// It votes with that set and is heard. The holder's agent may outlive its database: a vote, and
    /// no end of its log.
    fn could_grant(&self, mind: &NodeMind, version: u64) -> bool {
        let heard = mind.age(self.now).is_some_and(|age| age <= candidates::FRESH)
            && mind.detector.silence(self.now) <= Silence::None;
        let votes = |r: &NodeReport| r.vote.votes && r.vote.voters_version == version;
        heard && mind.report.as_ref().is_some_and(votes)
    }
}

/// What it would say with its grant.
fn testimony(report: &NodeReport) -> Testimony {
    let state = &report.resource.state;
    let certain = *state == ResourceState::Standby && report.data_fault.is_none();
    Testimony {
        position: certain.then_some(report.resource.position).filter(|p| p.timeline > 0),
        history: report.vote.history.clone(),
        released: report.vote.releases.clone(),
        unproved_line: report.vote.unproved_line,
        history_signed: report.vote.history_signed,
        not_writable: matches!(
            state,
            ResourceState::Standby | ResourceState::Stopped(_) | ResourceState::None
        ),
    }
}

fn unsynchronised(counted: Option<u32>) -> String {
    match counted {
        Some(0) => {
            "commits whose wait was cancelled (none seen), local and asynchronous commits".into()
        }
        Some(n) => format!(
            "{n} commits whose wait for a standby was cancelled (warning 01000); local and \
                asynchronous commits"
        ),
        None => "commits whose wait was cancelled (how many is unknown), local and asynchronous \
            commits"
            .into(),
    }
}
