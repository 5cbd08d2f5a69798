//! Random days: any faults at any time, then the faults end on a core, what is outside of it stays
//! broken for good, and recovery is demanded (TigerBeetle's two modes: uniform faults always heal,
//! and so hide livelocks).

use std::fmt::Write as _;
use std::path::Path;

use super::fault::{Fault, Membership, Whom};
use super::hands::{Replacement, Setting};
use super::oracle::Violation;
use super::random::Random;
use super::world::{Conditions, Fact, World};
use crate::config;
use crate::model::topology::{Cluster, Policy};
use crate::model::{NodeId, Span, Timestamp};

/// Faults happen for so long.
pub(super) const STORM: Span = Span::secs(20);
/// Afterwards the core is writable within this.
pub(super) const RECOVERY_MAX: Span = Span::secs(90);

/// One random day.
#[derive(Clone, Debug)]
pub struct Day {
    /// Its seed.
    pub seed: u64,
    /// The cluster's shape, in words.
    pub shape: String,
    /// Laws that were broken.
    pub violations: Vec<Violation>,
    /// Writes that clients were told are safe.
    pub acknowledged: usize,
    /// Epochs that were won.
    pub epochs: u64,
    /// Events that were simulated.
    pub events: u64,
    /// From the last fault to the first acknowledged write.
    pub recovery: Span,
    /// States and ways out of them that were tried.
    pub walked: super::Walked,
    /// The course of events, where it was kept.
    pub facts: Vec<Fact>,
}

/// What a cluster looks like: nodes with data, witnesses, standbys that confirm a commit.
const SHAPES: &[(usize, usize, usize)] =
    &[(3, 0, 1), (3, 0, 2), (2, 1, 1), (3, 2, 1), (4, 1, 1), (5, 0, 2), (5, 0, 1), (3, 0, 0)];

pub(super) fn shape(random: &mut Random) -> (Cluster, Policy, Conditions, String) {
    let (data, witnesses, k) = random.pick(SHAPES).copied().unwrap_or(SHAPES[0]);
    let lease = 1_000 * (1 + random.below(4));
    let mut text = format!(
        "cluster_id: day\nname: Day\nregions: [r1, r2]\nsynchronous_standbys: {k}\nlease_ms: \
            {lease}\nnodes:\n"
    );
    for i in 1..=data + witnesses {
        let role = match i {
            1 => "primary",
            i if i <= data => "secondary",
            _ => "witness",
        };
        let region = if random.chance(300) { "r2" } else { "r1" };
        // Writing to a string does not fail.
        let _ =
            writeln!(text, "  - {{node_id: n{i}, hostname: h, role: {role}, region: {region}}}");
    }
    let cluster = config::cluster::parse(Path::new("day"), &text)
        .unwrap_or_else(|e| unreachable!("a generated cluster is valid: {e}"));
    let strategy = if random.chance(800) { "automatic" } else { "quorum_based" };
    let policy = format!(
        "policy_id: day\nname: Day\nstrategy: {strategy}\nreclaim_after_s: {}\n",
        5 + random.below(10)
    );
    let policy = config::policy::parse(Path::new("day"), &policy, &cluster)
        .unwrap_or_else(|e| unreachable!("a generated policy is valid: {e}"));
    let conditions = Conditions {
        heartbeat: Span::millis(100 + random.below(3) * 100),
        write_interval: Span::millis(10 + random.below(60)),
        delay_far: Span::millis(1 + random.below(20)),
        ..Conditions::default()
    };
    (
        cluster,
        policy,
        conditions,
        format!("{data} data, {witnesses} witness, k={k}, lease {lease} ms, {strategy}"),
    )
}

pub(super) fn storm(random: &mut Random, cluster: &Cluster) -> Vec<(Span, Fault)> {
    let nodes: Vec<NodeId> = cluster.nodes.iter().map(|n| n.node_id.clone()).collect();
    let count = 1 + random.below(8);
    let mut events = vec![];
    for _ in 0..count {
        let at = random.span(Span::ZERO, STORM);
        let lasts = random.span(Span::millis(50), Span::secs(8));
        let one = |random: &mut Random| match random.below(3) {
            0 => vec![Whom::Primary],
            _ => random.pick(&nodes).cloned().map(Whom::Node).into_iter().collect::<Vec<_>>(),
        };
        let who = one(random);
        // What ends later means the node it meant at first.
        let named = |random: &mut Random| {
            random.pick(&nodes).cloned().map(Whom::Node).into_iter().collect::<Vec<_>>()
        };
        let mut both = |fault: Fault, end: Option<Fault>| {
            events.push((at, fault));
            if let Some(end) = end {
                events.push((at + lasts, end));
            }
        };
        match random.below(22) {
            0 | 1 => both(Fault::KillDatabase(who), None),
            2 => both(Fault::KillAgent(who), None),
            3 => both(Fault::FreezeAgent(who), Some(Fault::ThawAgent(vec![Whom::All]))),
            4 => both(Fault::PauseHost(who), Some(Fault::ResumeHost(vec![Whom::All]))),
            5 => both(Fault::PowerOff(who), Some(Fault::PowerOn(vec![Whom::All]))),
            6 => both(Fault::HangDatabase(who), Some(Fault::ResumeDatabase(vec![Whom::All]))),
            7 | 8 => {
                let to = if random.chance(500) {
                    vec![Whom::All, Whom::Plane(0), Whom::Clients]
                } else {
                    named(random)
                };
                both(Fault::Cut(who, to, random.chance(500)), Some(Fault::Heal));
            }
            9 => {
                let to = vec![Whom::All, Whom::Plane(0)];
                both(Fault::Cut(to, who, false), Some(Fault::Heal));
            }
            10 => {
                let split = random.below(nodes.len() as u64);
                let side = |left: bool| {
                    let on = |i: usize| (i as u64 <= split) == left;
                    nodes
                        .iter()
                        .enumerate()
                        .filter(|(i, _)| on(*i))
                        .map(|(_, n)| Whom::Node(n.clone()))
                        .collect::<Vec<_>>()
                };
                let mut right = side(false);
                if random.chance(500) {
                    right.push(Whom::Plane(0));
                }
                both(Fault::Cut(side(true), right, true), Some(Fault::Heal));
            }
            11 => {
                let (lost, twice) = (random.below(300), random.below(100));
                let delay = Some(random.span(Span::millis(1), Span::millis(120)));
                both(
                    Fault::Degrade(
                        vec![Whom::All],
                        vec![Whom::All, Whom::Plane(0)],
                        delay,
                        lost,
                        twice,
                    ),
                    Some(Fault::Heal),
                );
            }
            12 => {
                let flush = random.span(Span::millis(5), Span::millis(900));
                both(Fault::SlowDisk(who, flush), Some(Fault::MendDisk(vec![Whom::All])));
            }
            13 => both(Fault::FillDisk(who), Some(Fault::MendDisk(vec![Whom::All]))),
            14 => both(Fault::KillPlane(0), Some(Fault::StartPlane(0))),
            15 => both(Fault::PausePlane(0), Some(Fault::ResumePlane(0))),
            16 => both(Fault::StartPlane(1), Some(Fault::KillPlane(1))),
            // What was reinstalled or removed is readmitted when the storm is over.
            17 => both(Fault::Reinstall(named(random)), None),
            18 => both(Fault::Node(Membership::Remove, named(random)), None),
            19 => both(Fault::Node(Membership::Readmit, named(random)), None),
            20 => both(Fault::Switchover(Some(who), false), None),
            _ => both(Fault::CancelWaits, None),
        }
    }
    events.sort_by_key(|(at, _)| *at);
    events
}

/// On one day in ten a majority loses its power together and two persons override it, before or
/// after others came back. Drawn apart from the storm, so that the days before there were overrides
/// are the same still.
fn calamity(seed: u64, cluster: &Cluster) -> Vec<(Span, Fault)> {
    let mut random = Random::new(seed ^ 0x6f76_6572_7269_6465);
    if !random.chance(100) {
        return vec![];
    }
    let mut left: Vec<NodeId> = cluster.nodes.iter().map(|n| n.node_id.clone()).collect();
    let mut gone = vec![];
    while gone.len() <= cluster.nodes.len() / 2 {
        let at = usize::try_from(random.below(left.len() as u64)).unwrap_or(0);
        gone.push(Whom::Node(left.swap_remove(at)));
    }
    let at = random.span(Span::ZERO, Span::secs(6));
    vec![
        (at, Fault::PowerOff(gone.clone())),
        (at + random.span(Span::secs(11), Span::secs(13)), Fault::Override(gone)),
    ]
}

/// On one day in three somebody meddles: guards die, disks fail, clocks stand still with their host,
/// people promote and start databases, volumes are exchanged. Drawn apart from the storm too.
fn meddling(seed: u64, cluster: &Cluster) -> Vec<(Span, Fault)> {
    let mut random = Random::new(seed ^ 0x6d65_6464_6c69_6e67);
    if !random.chance(334) {
        return vec![];
    }
    let nodes: Vec<NodeId> = cluster.nodes.iter().map(|n| n.node_id.clone()).collect();
    // Apart, so that a day is what it was but for the copy.
    let mut copies = Random::new(seed ^ 0x636f_7069_6573);
    let mut copy = || match copies.chance(500) {
        true => Replacement::RunByHand,
        false => Replacement::OlderBackup,
    };
    let mut events = vec![];
    for _ in 0..1 + random.below(4) {
        let at = random.span(Span::ZERO, STORM);
        let lasts = random.span(Span::millis(50), Span::secs(8));
        let who = match random.below(3) {
            0 => vec![Whom::Primary],
            _ => random.pick(&nodes).cloned().map(Whom::Node).into_iter().collect::<Vec<_>>(),
        };
        let (fault, end) = match random.below(11) {
            0 => (Fault::BreakDisk(who), Some(Fault::MendDisk(vec![Whom::All]))),
            1 => (Fault::KillGuard(who), None),
            2 => (Fault::NoGuard(who), Some(Fault::MendGuard(vec![Whom::All]))),
            3 => (Fault::SuspendHost(who), Some(Fault::ResumeHost(vec![Whom::All]))),
            4 => (Fault::RestartAgent(who), None),
            5 => (Fault::PromoteByHand(who), None),
            6 => (Fault::StartByHand(who), None),
            7 => (Fault::ReplaceData(who, Replacement::OtherCluster), None),
            8 => (Fault::ReplaceData(who, copy()), None),
            9 => (Fault::MoveData(who), None),
            _ => (Fault::MoveVolume(who), None),
        };
        events.push((at, fault));
        events.extend(end.map(|end| (at + lasts, end)));
    }
    events
}

/// On one day in six people set what makes a commit less than the account takes it for, and set it
/// right again. Drawn apart as well.
fn missettings(seed: u64, cluster: &Cluster) -> Vec<(Span, Fault)> {
    let mut random = Random::new(seed ^ 0x7365_7474_696e_6773);
    if cluster.synchronous_standbys == 0 || !random.chance(167) {
        return vec![];
    }
    let nodes: Vec<NodeId> = cluster.data_nodes().map(|n| n.node_id.clone()).collect();
    let mut events = vec![];
    for _ in 0..1 + random.below(3) {
        let at = random.span(Span::ZERO, STORM);
        let lasts = random.span(Span::millis(50), Span::secs(8));
        let setting = match random.below(3) {
            0 => Setting::SynchronousCommit,
            1 => Setting::SynchronousStandbyNames,
            _ => Setting::Fsync,
        };
        let who = match random.below(2) {
            0 => vec![Whom::Primary],
            _ => random.pick(&nodes).cloned().map(Whom::Node).into_iter().collect(),
        };
        events.push((at, Fault::Setting(who, setting, true)));
        events.push((at + lasts, Fault::Setting(vec![Whom::All], setting, false)));
    }
    events
}

/// Lives through the day of that seed.
pub fn day(seed: u64, keep_facts: bool) -> Day {
    let mut random = Random::new(seed);
    let (cluster, policy, conditions, words) = shape(&mut random);
    let from_nothing = random.chance(100);
    let mut world = if from_nothing {
        World::unformed(&cluster, &policy, &conditions, seed)
    } else {
        World::formed(&cluster, &policy, &conditions, seed)
    };
    world.keep_facts = keep_facts;
    world.approve_after = Some(Span::secs(1));
    let warm = Span::secs(if from_nothing { 10 } else { 3 });
    world.run_until(Timestamp(warm.0));
    let begin = world.now;
    let mut events = storm(&mut random, &cluster);
    events.extend(calamity(seed, &cluster));
    let meddling = meddling(seed, &cluster);
    // What was replaced, or written by hand, may be all that is left: then only a person can say
    // what the history is.
    let missettings = missettings(seed, &cluster);
    let doubted = !missettings.is_empty();
    let meddled = doubted
        || meddling.iter().any(|(_, f)| {
            matches!(f, Fault::ReplaceData(..) | Fault::MoveData(_) | Fault::PromoteByHand(_))
        });
    events.extend(meddling);
    events.extend(missettings);
    events.sort_by_key(|(at, _)| *at);
    let mut removed: Vec<Whom> = vec![];
    for (at, fault) in events {
        world.run_watched(begin + at);
        match fault {
            // Who was removed by override is wiped before it is switched on again (docs/safety.md).
            Fault::PowerOn(_) if !removed.is_empty() => {
                world.inject(&Fault::Reinstall(std::mem::take(&mut removed)));
                world.inject(&fault);
            }
            // Two persons look before they attest: only whose host is off.
            Fault::Override(gone) => {
                let off = |w: &Whom| matches!(w, Whom::Node(n) if world.index(n).is_some_and(|h| !world.hosts[h].up));
                let gone: Vec<Whom> = gone.into_iter().filter(off).collect();
                if !gone.is_empty() {
                    removed.extend(gone.iter().cloned());
                    world.inject(&Fault::Override(gone));
                }
            }
            fault => world.inject(&fault),
        }
    }
    world.run_watched(begin + STORM);
    if !removed.is_empty() {
        world.inject(&Fault::Reinstall(removed));
    }
    world.tidy();
    // A core is mended; at most one node outside of it stays broken for good.
    let broken = random
        .chance(500)
        .then(|| random.below(cluster.nodes.len() as u64))
        .and_then(|i| usize::try_from(i).ok());
    world.mend(broken, &mut random);
    world.oracle.watch(world.now);
    let mended = world.now;
    let k = cluster.synchronous_standbys;
    let mut writable = false;
    while world.now < mended + RECOVERY_MAX && !writable {
        world.run_watched(world.now + Span::millis(100));
        world.readmit();
        writable = world.oracle.last_ack() > mended + Span::millis(50);
    }
    let recovery = world.now.since(mended);
    // A node that was reinstalled has lost its vote and its copy: then a person may be owed the
    // decision.
    let half_way = broken.is_some() && world.is_change_half_way();
    let owed = k > 0
        && !meddled
        && !world.may_be_unknown(broken)
        && world.strangers().is_empty()
        && !half_way;
    // Without that node nothing may prove what it acknowledged: then a person decides, and that
    // ends it.
    if !writable && owed && broken.is_some() {
        world.walked.decisions += 1;
        writable = world.person_ends_it(RECOVERY_MAX);
    }
    if !writable && owed {
        let seen = world.state_words();
        world.oracle.stuck(world.now, seen);
    } else if broken.is_none() && writable {
        // With nothing broken everybody comes back.
        world.wait_until_whole(mended + RECOVERY_MAX + RECOVERY_MAX);
        // A role that was lost again in a doubt is a person's to give; so is one that was lost with the
        // only copy of what was acknowledged without waiting for anybody.
        let copy_lost = k == 0 && world.hosts.iter().any(|h| !h.db.has_data);
        if (doubted || copy_lost) && !world.is_whole() {
            world.walked.decisions += 1;
            world.person_ends_it(RECOVERY_MAX);
            world.wait_until_whole(world.now + RECOVERY_MAX);
        }
        // Somebody moved the last copy away.
        let has_data = world.hosts.iter().any(|h| h.db.has_data);
        if !world.is_whole() && world.has_a_majority() && has_data {
            let seen = world.state_words();
            world.oracle.stuck(world.now, format!("not everybody follows and votes: {seen}"));
        }
    }
    if let Some(primary) = world.primary().filter(|_| writable) {
        let (name, db) = (world.name(primary), world.hosts[primary].db.clone());
        world.oracle.settle(world.now, name.as_str(), &db);
    }
    Day::of(world, seed, words, recovery)
}

impl Day {
    /// What became of a world that lived through it.
    pub(super) fn of(world: World, seed: u64, shape: String, recovery: Span) -> Self {
        Self {
            seed,
            shape,
            acknowledged: world.oracle.acknowledged(),
            epochs: world.epoch().0,
            events: world.events,
            walked: world.walked,
            recovery,
            violations: world.oracle.violations,
            facts: world.facts,
        }
    }
}

impl World {
    fn wait_until_whole(&mut self, until: Timestamp) {
        while self.now < until && !self.is_whole() {
            self.run_watched(self.now + Span::millis(100));
            self.readmit();
        }
    }

    /// Everything works again but one host, whose fault lasts.
    pub(super) fn mend(&mut self, broken: Option<usize>, random: &mut Random) {
        self.inject(&Fault::Heal);
        for fault in [
            Fault::MendDisk(vec![Whom::All]),
            Fault::PowerOn(vec![Whom::All]),
            Fault::ResumeHost(vec![Whom::All]),
            Fault::ThawAgent(vec![Whom::All]),
            Fault::ResumeDatabase(vec![Whom::All]),
            Fault::ResumePlane(0),
            Fault::KillPlane(1),
        ] {
            self.inject(&fault);
        }
        if !self.planes[0].is_up() {
            self.inject(&Fault::StartPlane(0));
        }
        let Some(host) = broken else { return };
        let who = vec![Whom::Node(self.name(host))];
        let everybody = vec![Whom::All, Whom::Plane(0), Whom::Plane(1), Whom::Clients];
        let fault = match random.below(6) {
            0 => Fault::PowerOff(who),
            1 => Fault::PauseHost(who),
            2 => Fault::FreezeAgent(who),
            3 => Fault::Cut(who, everybody, true),
            4 => Fault::Cut(who, everybody, false),
            _ => Fault::Cut(everybody, who, false),
        };
        self.inject(&fault);
    }

    /// Whether, without the broken node, an account can honestly be only "unknown": then a person
    /// is owed the decision.
    fn may_be_unknown(&self, broken: Option<usize>) -> bool {
        let Some(broken) = broken else { return false };
        let (data, k) = (self.cluster.data_nodes().count(), self.cluster.synchronous_standbys);
        // Confirming standbys that are needed at all: with the broken one there must still be k of
        // them.
        let without = if self.hosts[broken].node.role == crate::model::topology::Role::Witness {
            data
        } else {
            data - 1
        };
        // The primary and k others, and |S|−k+1 of any holder's standbys, must be outside of the
        // broken node.
        without < k + 1
            || (without < data && data - 1 - k + 1 > without - 1 && self.primary() != Some(broken))
    }

    /// A majority of the newest voter set lives as it was: where too many were reinstalled at once
    /// only an override helps.
    pub(super) fn has_a_majority(&self) -> bool {
        let newest =
            self.hosts.iter().filter_map(|h| h.record.voters.as_ref()).max_by_key(|v| v.version);
        newest.is_some_and(|set| {
            self.hosts
                .iter()
                .filter(|h| h.record.voters.is_some() && set.contains(&h.record.me))
                .count()
                >= set.majority()
        })
    }

    /// Hosts whose present incarnation does not vote, as far as the newest voter set tells.
    fn strangers(&self) -> Vec<usize> {
        let newest =
            self.hosts.iter().filter_map(|h| h.record.voters.as_ref()).max_by_key(|v| v.version);
        let votes = |h: &super::host::Host| newest.is_some_and(|v| v.contains(&h.record.me));
        self.hosts.iter().enumerate().filter(|(_, h)| !votes(h)).map(|(i, _)| i).collect()
    }

    /// Voters keep different sets: a change that the broken node made, or should have heard, waits
    /// for it. With one voter less than there were, two of two may be needed, and then only an
    /// override helps.
    fn is_change_half_way(&self) -> bool {
        let mut versions =
            self.hosts.iter().filter_map(|h| h.record.voters.as_ref()).map(|v| v.version);
        let first = versions.next();
        versions.any(|v| Some(v) != first)
    }

    /// Everybody follows the primary and votes, by the same voter set.
    pub(super) fn is_whole(&self) -> bool {
        let all_have_one = self.hosts.iter().all(|h| h.record.voters.is_some());
        self.everybody_follows()
            && self.strangers().is_empty()
            && all_have_one
            && !self.is_change_half_way()
    }

    /// A person readmits who does not vote, one after the other; where that does not work, another
    /// first.
    fn readmit(&mut self) {
        let strangers = self.strangers();
        let turn =
            usize::try_from(self.now.0 / 5_000_000_000).unwrap_or(0) % strangers.len().max(1);
        if let Some(host) =
            strangers.get(turn).copied().filter(|_| self.now.0 % 1_000_000_000 < 100_000_000)
        {
            self.inject(&Fault::Node(Membership::Readmit, vec![Whom::Node(self.name(host))]));
        }
    }

    fn everybody_follows(&self) -> bool {
        let Some(primary) = self.primary() else { return false };
        let timeline = self.hosts[primary].db.history.timeline;
        self.hosts.iter().enumerate().all(|(i, h)| {
            i == primary
                || h.node.role == crate::model::topology::Role::Witness
                || (h.db.running
                    && h.db.history.timeline == timeline
                    && h.db.receiver.is_some_and(|r| r.streaming && r.from == primary))
        })
    }

    /// Where everybody stands, for whoever reads a violation.
    pub(super) fn state_words(&self) -> String {
        let mut text = String::new();
        for host in &self.hosts {
            let agent = host.agent.as_ref();
            let tenure = agent.map_or("no agent".to_owned(), |a| {
                let words = format!("{:?}", a.machine.tenure());
                words.split([' ', '{']).next().unwrap_or_default().to_owned()
            });
            let db = &host.db;
            let _ = write!(
                text,
                "{}: voted {} for {}, {tenure}, {}{}{}{} db {} {}; ",
                host.node.node_id,
                host.record.epoch,
                host.record.holder.as_ref().map_or("-", |h| h.node.as_str()),
                if host.up { "" } else { "off " },
                if host.paused { "paused " } else { "" },
                if host.frozen { "frozen " } else { "" },
                agent.map_or(String::new(), |a| a.machine.complaint().to_owned()),
                if db.primary {
                    "primary"
                } else if db.running {
                    "standby"
                } else {
                    "stopped"
                },
                db.position(),
            );
        }
        if let Some(engine) = &self.planes[0].engine {
            let _ = write!(text, "plane: {} {}", engine.snapshot().phase.word(), engine.refusal());
        }
        text
    }
}
