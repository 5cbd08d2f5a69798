//! What a scenario needs of a cluster to be itself there: without it, it would be another incident.

use super::fault::Whom;
use super::world::World;
use crate::model::NodeId;
use crate::model::constraints::Resides;
use crate::model::topology::{Cluster, Policy, Role};

/// One thing that a scenario needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// There are such nodes, of each word.
    There(Vec<Whom>),
    /// The voters that are left without these are a majority.
    Majority(Vec<Whom>),
    /// Without these a node with data is left.
    Data(Vec<Whom>),
    /// Without these enough standbys are left to confirm a commit.
    Confirmed(Vec<Whom>),
    /// What it expects rests on commits that wait for a standby. Where none does it is played all
    /// the same, and nothing but the laws is expected ([`super::Scenario::waived`]).
    Synchronous,
    /// The data may be where one standby is, and not where another is.
    Residency,
}

impl Need {
    /// `primary, secondary 2`, `majority without WHOM`, `data without WHOM`, `confirmed without WHOM`
    /// `synchronous` or `residency`.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(text: &str, nodes: &[NodeId], regions: &[String]) -> Result<Self, String> {
        let whom = |text: &str| -> Result<Vec<Whom>, String> {
            text.split(',').map(|word| Whom::parse(word.trim(), nodes, regions)).collect()
        };
        Ok(match text.split_once(" without ") {
            Some(("majority", rest)) => Need::Majority(whom(rest)?),
            Some(("data", rest)) => Need::Data(whom(rest)?),
            Some(("confirmed", rest)) => Need::Confirmed(whom(rest)?),
            None if text == "synchronous" => Need::Synchronous,
            None if text == "residency" => Need::Residency,
            _ => Need::There(whom(text).map_err(|e| {
                format!(
                    "{text:?}: expected synchronous, residency, or majority, data or confirmed without WHOM, \
                     or WHOM: {e}"
                )
            })?),
        })
    }
}

/// What of its needs a cluster does not have, each in words; empty: the scenario can be played.
pub fn lacks(cluster: &Cluster, policy: &Policy, needs: &[(String, Need)]) -> Vec<String> {
    let world = World::formed(cluster, policy, &super::Conditions::default(), 1);
    needs.iter().filter_map(|(text, need)| world.lack(text, need)).collect()
}

impl World {
    fn left(&self, without: &[Whom], counts: impl Fn(usize) -> bool) -> usize {
        let gone = self.places(without);
        (0..self.hosts.len()).filter(|i| !gone.contains(i) && counts(*i)).count()
    }

    fn lack(&self, text: &str, need: &Need) -> Option<String> {
        let holds_data = |i: usize| self.hosts[i].node.role != Role::Witness;
        let names = |whom: &[Whom]| {
            let places = self.places(whom);
            let names: Vec<&str> =
                places.iter().map(|p| self.hosts[*p].node.node_id.as_str()).collect();
            names.join(", ")
        };
        match need {
            Need::There(whom) => {
                let missing = |w: &&Whom| {
                    self.has_several_writers() && **w == Whom::Primary
                        || self.places(std::slice::from_ref(w)).is_empty()
                };
                whom.iter().find(missing).map(|_| match text {
                    "primary" => "one node that accepts writes alone; here several do".to_owned(),
                    _ => format!("{text}; there is no such node"),
                })
            }
            Need::Majority(whom) => {
                let (left, needed) = (self.left(whom, |_| true), self.cluster.nodes.len() / 2 + 1);
                (left < needed).then(|| {
                    format!(
                        "a majority of the voters without {text}: without {} are {left} of {}, and \
                         {needed} are needed",
                        names(whom),
                        self.cluster.nodes.len(),
                        text = text.trim_start_matches("majority without ")
                    )
                })
            }
            Need::Data(whom) => (self.left(whom, holds_data) == 0).then(|| {
                let text = text.trim_start_matches("data without ");
                format!("a node with data besides {text} ({})", names(whom))
            }),
            Need::Confirmed(whom) => {
                let primary = self.primary();
                let standby = |i: usize| holds_data(i) && Some(i) != primary;
                let (left, k) = (self.left(whom, standby), self.cluster.synchronous_standbys);
                (left < k).then(|| {
                    format!(
                        "standbys that confirm commits without {text} ({}): {left} are left, and \
                         synchronous_standbys is {k}",
                        names(whom),
                        text = text.trim_start_matches("confirmed without ")
                    )
                })
            }
            Need::Synchronous => None,
            Need::Residency => {
                let primary = self.primary();
                let standbys =
                    (0..self.hosts.len()).filter(|i| holds_data(*i) && Some(*i) != primary);
                let (may, may_not): (Vec<usize>, Vec<usize>) =
                    standbys.partition(|i| self.may_hold(*i));
                (may.is_empty() || may_not.is_empty()).then(|| {
                    "data_classes, and a policy whose residency forbids the region of one standby \
                     and allows that of another"
                        .to_owned()
                })
            }
        }
    }

    /// Whether the policy lets the cluster's data be on that host.
    pub(super) fn may_hold(&self, host: usize) -> bool {
        let region = &self.hosts[host].node.region;
        let at = self.wall();
        self.cluster.data_classes.iter().all(|class| {
            let resides = self.policy.constraints.residency.of(class, region, at);
            !matches!(resides, Resides::Refused(_))
        })
    }
}
