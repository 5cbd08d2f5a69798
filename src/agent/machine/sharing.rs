//! Clusters in which several nodes accept writes: no lease, no vote; each node keeps the newest
//! shares it was given, durable first, and its resource serves its part of them.

use super::{Effect, Goal, Machine, Turn};
use crate::model::plan::Plan;
use crate::model::share::Shares;
use crate::model::{Epoch, NodeId};

impl Machine {
    /// The shares in force here: what it was given last, or what the cluster file declares.
    pub fn shares(&self) -> Option<&Shares> {
        self.setup
            .declared_shares
            .as_ref()
            .map(|declared| self.record().shares.as_ref().unwrap_or(declared))
    }

    /// What the resource shall be under the shares in force.
    pub(super) fn sharing_goal(&self) -> Option<Goal> {
        let shares = self.shares().filter(|_| !self.is_witness())?;
        Some(Goal::Sharing {
            epoch: shares.epoch,
            units: shares.of.get(&self.setup.me.node).copied().unwrap_or(0),
        })
    }

    /// Takes the shares that a plan sets; older ones, and others of the same epoch, are refused.
    pub(super) fn take_shares(&mut self, plan: &Plan, turn: &mut Turn) -> Result<(), String> {
        let Some(have) = self.shares() else {
            return Err("this cluster has one writer: there are no shares".into());
        };
        if plan.cluster != self.setup.cluster {
            return Err(format!("the plan is for cluster {}", plan.cluster));
        }
        let news = plan.sets();
        if *have == news {
            return Ok(());
        }
        if have.epoch >= news.epoch {
            return Err(format!(
                "the world moved: the plan sets the shares of epoch {}, here those of epoch {} \
                    hold",
                news.epoch, have.epoch
            ));
        }
        let words: Vec<String> =
            news.of.iter().map(|(node, units)| format!("{node} {units}")).collect();
        turn.effects.push(Effect::Note(format!(
            "shares of epoch {}: {}",
            news.epoch,
            words.join(", ")
        )));
        self.adopt_shares(news, turn);
        Ok(())
    }

    /// A peer says which shares it keeps. Newer ones, or others of the same number, that a majority
    /// of nodes keeps are in force: whoever was away takes them from there. Each of that majority
    /// has checked the plan's authority.
    pub(super) fn hear_shares(&mut self, peer: &NodeId, shares: Shares, turn: &mut Turn) {
        // Of two with one number, from two planes that could not see each other, the one that a
        // majority keeps is in force.
        if self.shares().is_none_or(|have| have.epoch > shares.epoch || *have == shares) {
            self.kept_elsewhere.remove(peer);
            return;
        }
        let majority = self.setup.nodes.len() / 2 + 1;
        self.kept_elsewhere.insert(peer.clone(), shares.clone());
        if self.kept_elsewhere.values().filter(|s| **s == shares).count() < majority {
            return;
        }
        self.kept_elsewhere.clear();
        turn.effects.push(Effect::Note(format!(
            "takes the shares of epoch {} that a majority keeps",
            shares.epoch
        )));
        self.adopt_shares(shares, turn);
    }

    fn adopt_shares(&mut self, shares: Shares, turn: &mut Turn) {
        let record = self.voter.keep_shares(shares);
        Self::persist(turn, Some(record));
        if let Some(goal) = self.sharing_goal() {
            self.set_goal(goal, turn);
        }
        turn.effects.push(Effect::Report);
    }

    /// In which epoch a real write can be committed and read back here.
    pub(super) fn serves(&self) -> Option<Epoch> {
        match self.goal {
            Goal::Sharing { epoch, units } if units > 0 && self.resource.writable => Some(epoch),
            _ => None,
        }
    }
}
