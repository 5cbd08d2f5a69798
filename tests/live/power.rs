//! Every host loses its power at once, and the plane's too, while clients write: nothing that was
//! acknowledged is lost, and writes come back, by themselves or by the way out that is shown.

use quorate::lab::{Options, What, measure};
use quorate::model::topology::Strategy;
use quorate::model::view::{Act, ClusterView, WayOut};

use crate::plane::Load;
use crate::{Cluster, NODES, quick};

impl Cluster {
    /// A person moves the role as the screen says, typed as it is shown; what a proposal leads to is
    /// confirmed by the next way that is shown.
    pub(crate) fn take_the_way_shown(&self) {
        let moves = |way: &&WayOut| matches!(way.act, Act::Propose(_) | Act::Execute { .. });
        let first = |view: &ClusterView| view.phase.ways_out.iter().find(moves).cloned();
        for _ in 0..2 {
            let seen = self.until("a way out", 60, |v| first(v).is_some());
            let way = first(&seen).unwrap();
            println!("{way}");
            let command = way.act.command().unwrap();
            let words: Vec<&str> = command.split_whitespace().skip(1).collect();
            self.runs(&words);
            if matches!(way.act, Act::Execute { .. }) {
                break;
            }
        }
    }
}

/// Up to the moment at which every host is on again.
fn power_lost(strategy: Strategy) -> (Cluster, Load, ClusterView) {
    let mut cluster = Cluster::start(Options { strategy, ..quick() });
    let before = cluster.calm();
    let load = cluster.load();
    cluster.lab().kill_plane().unwrap();
    for node in NODES {
        cluster.lab().kill(node, What::Host).unwrap();
    }
    for node in NODES {
        cluster.lab().heal(node).unwrap();
    }
    cluster.lab().start_plane().unwrap();
    (cluster, load, before)
}

fn writes_again(cluster: &Cluster, load: Load, before: &ClusterView) {
    cluster.until("a healthy cluster in a newer epoch", 90, |v| {
        measure::is_calm(v) && v.epoch > before.epoch
    });
    load.reach(200);
    let report = load.end(cluster);
    println!("{report:?}");
    assert_eq!(report.unverified, "", "{report:?}");
    assert_eq!((report.lost, report.overlaps), (0, 0), "{report:?}");
}

#[test]
fn the_whole_cluster_loses_its_power_under_an_automatic_policy() {
    let (cluster, load, before) = power_lost(Strategy::Automatic);
    writes_again(&cluster, load, &before);
}

#[test]
fn the_whole_cluster_loses_its_power_under_a_manual_policy() {
    let (cluster, load, before) = power_lost(Strategy::Manual);
    cluster.take_the_way_shown();
    writes_again(&cluster, load, &before);
}
