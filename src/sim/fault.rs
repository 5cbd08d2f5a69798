//! What a script does to the world, and whom it means.

use super::hands::{Replacement, Setting};
use super::laws::Said;
use super::world::{Event, PLANES, World};
use crate::engine::{Input, PersonOrder, RefusedRequest};
use crate::lease::VoterRecord;
use crate::model::plan::Proposal;
use crate::model::topology::Role;
use crate::model::{Incarnation, Member, NodeId, Span};

/// Whom a line of a script means; resolved when it happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    /// The node that holds the write role.
    Primary,
    /// The node that held it when the script began.
    FormerPrimary,
    /// The first other node with data, or that number of them.
    Secondary(usize),
    /// Every other node with data.
    Secondaries,
    /// As many standbys as confirm a commit, one where none has to.
    Confirming,
    /// Every node with data that the policy lets hold it.
    Permitted,
    /// The witnesses.
    Witnesses,
    /// Every node but the primary.
    Others,
    /// The last of the others, so many that no majority of the voters is left.
    MostOthers,
    /// Every host without power.
    Powerless,
    /// Every node.
    All,
    /// Every node of a region.
    Region(String),
    /// Every node of the primary's region.
    PrimaryRegion,
    /// A node by its name.
    Node(NodeId),
    /// A plane, from 1.
    Plane(usize),
    /// The clients.
    Clients,
}

impl Whom {
    /// Reads one word of a script. The words are `primary`, `former primary`, `secondary`,
    /// `secondary 2`, `secondaries`, `confirming`, `permitted`, `witnesses`, `others`, `most
    /// others`, `powerless`, `all`, `region NAME`, `region of primary`, `plane`, `plane 2`,
    /// `clients` and the names of nodes.
    ///
    /// # Errors
    /// The words there are.
    pub fn parse(text: &str, nodes: &[NodeId], regions: &[String]) -> Result<Self, String> {
        let number = |word: &str| word.parse::<usize>().ok().filter(|n| *n > 0);
        let known = match text.split_once(' ') {
            Some(("secondary", n)) => number(n).map(Whom::Secondary),
            Some(("plane", n)) => number(n).filter(|n| *n <= PLANES).map(|n| Whom::Plane(n - 1)),
            Some(("region", "of primary")) => Some(Whom::PrimaryRegion),
            Some(("region", name)) => {
                regions.iter().any(|r| r == name).then(|| Whom::Region(name.to_owned()))
            }
            _ => match text {
                "primary" => Some(Whom::Primary),
                "former primary" => Some(Whom::FormerPrimary),
                "secondary" => Some(Whom::Secondary(1)),
                "secondaries" => Some(Whom::Secondaries),
                "confirming" => Some(Whom::Confirming),
                "permitted" => Some(Whom::Permitted),
                "witnesses" => Some(Whom::Witnesses),
                "others" => Some(Whom::Others),
                "most others" => Some(Whom::MostOthers),
                "powerless" => Some(Whom::Powerless),
                "all" => Some(Whom::All),
                "plane" => Some(Whom::Plane(0)),
                "clients" => Some(Whom::Clients),
                name => nodes.iter().find(|n| n.as_str() == name).cloned().map(Whom::Node),
            },
        };
        known.ok_or_else(|| {
            let names: Vec<&str> = nodes.iter().map(NodeId::as_str).collect();
            format!(
                "expected primary, former primary, secondary, secondary 2, secondaries, \
                 confirming, permitted, witnesses, others, most others, powerless, all, region of \
                 primary, region NAME ({}), plane, plane 2, clients or a node ({})",
                regions.join(", "),
                names.join(", ")
            )
        })
    }
}

/// Something that goes wrong, or is mended, or that a person does.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// kill -9 of the database.
    KillDatabase(Vec<Whom>),
    /// The database exists and answers nothing.
    HangDatabase(Vec<Whom>),
    /// It answers again.
    ResumeDatabase(Vec<Whom>),
    /// kill -9 of the agent; its supervisor starts it again after two seconds.
    KillAgent(Vec<Whom>),
    /// The agent's process is stopped (SIGSTOP).
    FreezeAgent(Vec<Whom>),
    /// It goes on.
    ThawAgent(Vec<Whom>),
    /// The whole host stands still.
    PauseHost(Vec<Whom>),
    /// The same, and its clock stands still with it: a suspended virtual machine.
    SuspendHost(Vec<Whom>),
    /// It goes on, with all that arrived meanwhile.
    ResumeHost(Vec<Whom>),
    /// The host loses its power.
    PowerOff(Vec<Whom>),
    /// And has it again.
    PowerOn(Vec<Whom>),
    /// The host comes back with nothing on its disks.
    Reinstall(Vec<Whom>),
    /// Nothing passes from these to those.
    Cut(Vec<Whom>, Vec<Whom>, bool),
    /// Every link works again.
    Heal,
    /// Links from these to those are slow and lossy: delay, lost and doubled in a thousand.
    Degrade(Vec<Whom>, Vec<Whom>, Option<Span>, u64, u64),
    /// A flush takes so long.
    SlowDisk(Vec<Whom>, Span),
    /// No space is left.
    FillDisk(Vec<Whom>),
    /// The disk says "flushed" and keeps it in memory.
    LyingDisk(Vec<Whom>),
    /// What is read is not what was written.
    CorruptDisk(Vec<Whom>),
    /// Writing and flushing fail.
    BreakDisk(Vec<Whom>),
    /// Fast, empty, honest.
    MendDisk(Vec<Whom>),
    /// kill -9 of the guard.
    KillGuard(Vec<Whom>),
    /// The same, and none can be started.
    NoGuard(Vec<Whom>),
    /// One can be started again.
    MendGuard(Vec<Whom>),
    /// The agent is replaced at once, under a running database.
    RestartAgent(Vec<Whom>),
    /// A person promotes a standby.
    PromoteByHand(Vec<Whom>),
    /// A person, or a unit of the system, starts a database that is stopped.
    StartByHand(Vec<Whom>),
    /// Other data is found in place of its own.
    ReplaceData(Vec<Whom>, Replacement),
    /// The data directory is renamed under the running server.
    MoveData(Vec<Whom>),
    /// The data is on another volume from now on.
    MoveVolume(Vec<Whom>),
    /// A person changes a setting under the agent, or corrects it.
    Setting(Vec<Whom>, Setting, bool),
    /// kill -9 of a plane.
    KillPlane(usize),
    /// A plane starts.
    StartPlane(usize),
    /// A plane stands still.
    PausePlane(usize),
    /// It goes on.
    ResumePlane(usize),
    /// Time between two writes; zero: none.
    Load(Span),
    /// Sessions commit without waiting for a standby.
    AsyncSessions(bool),
    /// Waits for standbys are cancelled once: the commits are confirmed all the same.
    CancelWaits,
    /// A person asks for a move, and confirms it.
    Switchover(Option<Vec<Whom>>, bool),
    /// A person wants to be without these nodes, where several accept writes, and confirms it.
    Drain(Vec<Whom>),
    /// A person wants to stop these hosts; `false`: they are back.
    Rest(Vec<Whom>, bool),
    /// A person has these standbys' servers restarted.
    RestartServer(Vec<Whom>),
    /// A person asks for a failback, and confirms it.
    Failback,
    /// A person wants the former holder to take the role back.
    Resume,
    /// A person takes the first way out that the screen names.
    WayOut,
    /// A person adds, removes or readmits a node.
    Node(Membership, Vec<Whom>),
    /// A person drops the plan that waits.
    Dismiss,
    /// A person says that what happened is known.
    Acknowledge,
    /// A person wants the present state verified.
    Verify,
    /// Two persons remove these as powered off.
    Override(Vec<Whom>),
    /// Two persons sign that what this one has is the history.
    History(Vec<Whom>),
    /// The fleet's guard suspects the observer; empty: not any more.
    FleetSuspects(String),
    /// Somebody asks a plane for what they may not; the last says that nobody knows them.
    RefusedRequest(String, bool),
    /// From now on a person confirms plans after that time; `None`: nobody is there.
    Person(Option<Span>),
}

/// What becomes of a node's vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// It votes from now on.
    Add,
    /// It does not any more.
    Remove,
    /// It takes the place of its former self.
    Readmit,
}

/// A time in which a supervisor starts a killed agent again.
pub(super) const SUPERVISOR: Span = Span::secs(2);

impl Fault {
    /// The hosts that it happens to, where it can happen to nothing else.
    fn hosts(&self) -> Option<&[Whom]> {
        match self {
            Fault::KillDatabase(w)
            | Fault::HangDatabase(w)
            | Fault::KillAgent(w)
            | Fault::FreezeAgent(w)
            | Fault::PauseHost(w)
            | Fault::SuspendHost(w)
            | Fault::BreakDisk(w)
            | Fault::KillGuard(w)
            | Fault::NoGuard(w)
            | Fault::RestartAgent(w)
            | Fault::PromoteByHand(w)
            | Fault::StartByHand(w)
            | Fault::ReplaceData(w, _)
            | Fault::MoveData(w)
            | Fault::MoveVolume(w)
            | Fault::Setting(w, _, _)
            | Fault::PowerOff(w)
            | Fault::Reinstall(w)
            | Fault::SlowDisk(w, _)
            | Fault::FillDisk(w)
            | Fault::LyingDisk(w)
            | Fault::CorruptDisk(w)
            | Fault::Drain(w)
            | Fault::Rest(w, _)
            | Fault::RestartServer(w)
            | Fault::Node(_, w)
            | Fault::Override(w)
            | Fault::History(w)
            | Fault::Switchover(Some(w), _) => Some(w),
            _ => None,
        }
    }
}

impl World {
    /// The places a list of words means now.
    pub(super) fn places(&self, whom: &[Whom]) -> Vec<usize> {
        let mut places: Vec<usize> = whom.iter().flat_map(|w| self.places_of(w)).collect();
        places.sort_unstable();
        places.dedup();
        places
    }

    fn places_of(&self, whom: &Whom) -> Vec<usize> {
        let primary = self.primary();
        let data = |i: &usize| self.hosts[*i].node.role != Role::Witness;
        let all = 0..self.hosts.len();
        let secondaries = || all.clone().filter(|i| Some(*i) != primary).filter(data);
        match whom {
            Whom::Primary => primary.into_iter().collect(),
            Whom::FormerPrimary => self.first.into_iter().collect(),
            Whom::Confirming => {
                secondaries().take(self.cluster.synchronous_standbys.max(1)).collect()
            }
            Whom::Permitted => all.filter(data).filter(|i| self.may_hold(*i)).collect(),
            Whom::MostOthers => {
                let others: Vec<usize> = all.clone().filter(|i| Some(*i) != primary).collect();
                let spared = (self.hosts.len() / 2).saturating_sub(1).min(others.len());
                others[spared..].to_vec()
            }
            Whom::Powerless => all.filter(|i| !self.hosts[*i].up).collect(),
            Whom::PrimaryRegion => {
                let region = primary.map(|p| &self.hosts[p].node.region);
                all.filter(|i| Some(&self.hosts[*i].node.region) == region).collect()
            }
            Whom::Secondary(n) => secondaries().nth(n - 1).into_iter().collect(),
            Whom::Secondaries => secondaries().collect(),
            Whom::Witnesses => all.filter(|i| !data(i)).collect(),
            Whom::Others => all.filter(|i| Some(*i) != primary).collect(),
            Whom::All => all.collect(),
            Whom::Region(name) => all.filter(|i| self.hosts[*i].node.region == *name).collect(),
            Whom::Node(node) => self.index(node).into_iter().collect(),
            Whom::Plane(n) => vec![self.plane_place(*n)],
            Whom::Clients => vec![self.client_place()],
        }
    }

    /// The node that holds the role, or held it last.
    pub(super) fn primary(&self) -> Option<usize> {
        let writable = (0..self.hosts.len())
            .filter(|i| self.hosts[*i].db.primary && !self.hosts[*i].db.by_hand)
            .max_by_key(|i| self.hosts[*i].db.history.timeline);
        writable.or_else(|| {
            let last =
                self.hosts.iter().filter_map(|h| h.record.last_won()).max_by_key(|w| w.epoch)?;
            self.index(&last.holder.node)
        })
    }

    pub(super) fn perform_script(&mut self, line: usize) {
        if let Some(fault) = self.script.get(line).cloned() {
            if fault
                .hosts()
                .is_some_and(|whom| !self.places(whom).into_iter().any(|p| p < self.hosts.len()))
            {
                self.unplayed.push(format!(
                    "event {}: {}: no node of this cluster is meant",
                    line + 1,
                    self.words(&fault)
                ));
            }
            self.inject(&fault);
        }
    }

    /// Makes it happen.
    pub(super) fn inject(&mut self, fault: &Fault) {
        let text = self.words(fault);
        self.fact("script", 0, text);
        let hosts = |world: &World, whom: &[Whom]| -> Vec<usize> {
            world.places(whom).into_iter().filter(|p| *p < world.hosts.len()).collect()
        };
        match fault {
            Fault::KillDatabase(whom) => {
                hosts(self, whom).into_iter().for_each(|h| self.kill_database(h))
            }
            Fault::HangDatabase(whom) => hosts(self, whom)
                .into_iter()
                .for_each(|h| self.hosts[h].db.hung = self.hosts[h].db.running),
            Fault::ResumeDatabase(whom) => {
                for host in hosts(self, whom) {
                    self.hosts[host].db.hung = false;
                    self.flush(host);
                }
            }
            Fault::KillAgent(whom) => {
                for host in hosts(self, whom) {
                    self.hosts[host].agent = None;
                    self.hosts[host].inbox.clear();
                    self.note_loose(host);
                    self.after(SUPERVISOR, Event::AgentStart { host });
                }
            }
            Fault::FreezeAgent(whom) => {
                for host in hosts(self, whom) {
                    self.hosts[host].frozen = true;
                    self.note_loose(host);
                }
            }
            Fault::ThawAgent(whom) => {
                for host in hosts(self, whom) {
                    self.hosts[host].frozen = false;
                    if self.hosts[host].db.by_hand {
                        self.hosts[host].by_hand_at = self.now;
                    }
                    let inbox = std::mem::take(&mut self.hosts[host].inbox);
                    self.wake_up(inbox);
                }
            }
            Fault::PauseHost(whom) => {
                for host in hosts(self, whom) {
                    self.hosts[host].paused = true;
                    self.note_loose(host);
                }
            }
            Fault::SuspendHost(whom) => {
                for host in hosts(self, whom) {
                    let here = &mut self.hosts[host];
                    here.paused = true;
                    here.clock_stopped = here.clock_stopped.or(Some(self.now));
                    self.note_loose(host);
                }
            }
            Fault::ResumeHost(whom) => {
                for host in hosts(self, whom) {
                    self.hosts[host].paused = false;
                    self.hosts[host].catch_up(self.now);
                    if self.hosts[host].db.by_hand {
                        self.hosts[host].by_hand_at = self.now;
                    }
                    let backlog = std::mem::take(&mut self.hosts[host].backlog);
                    self.wake_up(backlog);
                }
            }
            Fault::PowerOff(whom) => hosts(self, whom).into_iter().for_each(|h| self.power_off(h)),
            Fault::PowerOn(whom) => hosts(self, whom).into_iter().for_each(|h| self.power_on(h)),
            Fault::Reinstall(whom) => {
                for host in hosts(self, whom) {
                    self.power_off(host);
                    self.reinstall(host);
                    self.power_on(host);
                }
            }
            Fault::Cut(from, to, both) => {
                let (from, to) = (self.places(from), self.places(to));
                for (a, b) in from
                    .iter()
                    .flat_map(|a| to.iter().map(move |b| (*a, *b)))
                    .filter(|(a, b)| a != b)
                {
                    self.net.link(a, b).cut = true;
                    if *both {
                        self.net.link(b, a).cut = true;
                    }
                }
            }
            Fault::Heal => self
                .net
                .each()
                .for_each(|(_, _, link)| (link.cut, link.loss, link.twice) = (false, 0, 0)),
            Fault::Degrade(from, to, delay, loss, twice) => {
                let (from, to) = (self.places(from), self.places(to));
                for (a, b) in from
                    .iter()
                    .flat_map(|a| to.iter().map(move |b| (*a, *b)))
                    .filter(|(a, b)| a != b)
                {
                    let link = self.net.link(a, b);
                    (link.delay, link.loss, link.twice) =
                        (delay.unwrap_or(link.delay), *loss, *twice);
                }
            }
            Fault::SlowDisk(whom, flush) => {
                hosts(self, whom).into_iter().for_each(|h| self.hosts[h].disk.flush = *flush)
            }
            Fault::FillDisk(whom) => {
                hosts(self, whom).into_iter().for_each(|h| self.hosts[h].disk.full = true)
            }
            Fault::LyingDisk(whom) => {
                // What such a disk confirms proves nothing: from here on no guarantee is checked.
                self.oracle.forgiven = true;
                hosts(self, whom).into_iter().for_each(|h| self.hosts[h].disk.lies = true);
            }
            Fault::CorruptDisk(whom) => {
                hosts(self, whom).into_iter().for_each(|h| self.hosts[h].disk.corrupt = true)
            }
            Fault::MendDisk(whom) => {
                for host in hosts(self, whom) {
                    let disk = &mut self.hosts[host].disk;
                    (disk.full, disk.lies) = (false, false);
                    (disk.corrupt, disk.broken) = (false, false);
                    disk.flush = disk.flush.min(Span::millis(2));
                }
            }
            Fault::BreakDisk(whom) => {
                hosts(self, whom).into_iter().for_each(|h| self.hosts[h].disk.broken = true)
            }
            Fault::KillGuard(whom) => {
                hosts(self, whom).into_iter().for_each(|h| self.guard_dies(h))
            }
            Fault::NoGuard(whom) => {
                for host in hosts(self, whom) {
                    self.hosts[host].can_guard = false;
                    self.guard_dies(host);
                }
            }
            Fault::MendGuard(whom) => {
                hosts(self, whom).into_iter().for_each(|h| self.hosts[h].can_guard = true)
            }
            Fault::RestartAgent(whom) => {
                hosts(self, whom).into_iter().for_each(|h| self.restart_agent(h))
            }
            Fault::PromoteByHand(whom) => {
                hosts(self, whom).into_iter().for_each(|h| self.promote_by_hand(h))
            }
            Fault::StartByHand(whom) => {
                hosts(self, whom).into_iter().for_each(|h| self.start_by_hand(h))
            }
            Fault::ReplaceData(whom, with) => {
                hosts(self, whom).into_iter().for_each(|h| self.replace_data(h, *with))
            }
            Fault::MoveData(whom) => {
                hosts(self, whom).into_iter().for_each(|h| self.move_data_away(h))
            }
            Fault::MoveVolume(whom) => {
                hosts(self, whom).into_iter().for_each(|h| self.move_volume(h))
            }
            Fault::Setting(whom, setting, wrong) => {
                hosts(self, whom).into_iter().for_each(|h| self.set_wrong(h, *setting, *wrong))
            }
            Fault::KillPlane(plane) => self.kill_plane(*plane),
            Fault::StartPlane(plane) => self.start_plane(*plane),
            Fault::PausePlane(plane) => self.pause_plane(*plane, true),
            Fault::ResumePlane(plane) => self.pause_plane(*plane, false),
            Fault::Load(interval) => {
                let stood = self.client.interval == Span::ZERO;
                self.client.interval = *interval;
                if stood && *interval > Span::ZERO {
                    self.after(*interval, Event::Client);
                }
            }
            Fault::AsyncSessions(on) => {
                for host in &mut self.hosts {
                    host.db.asynchronous = *on;
                    host.db.cancelled += u32::from(*on && host.db.primary);
                }
            }
            Fault::CancelWaits => self.cancel_waits(),
            Fault::Switchover(to, accept) => {
                let to = to.as_ref().and_then(|w| self.places(w).first().map(|i| self.name(*i)));
                self.person_proposes(Proposal {
                    to,
                    accept_unknown_loss: *accept,
                    ..Proposal::default()
                });
            }
            Fault::Rest(whom, rests) => {
                for host in hosts(self, whom) {
                    let reason = rests.then(|| "simulated".into());
                    self.person_orders(PersonOrder::Drain { node: self.name(host), reason });
                }
            }
            Fault::RestartServer(whom) => {
                for host in hosts(self, whom) {
                    let (node, reason) = (self.name(host), "simulated".into());
                    self.person_orders(PersonOrder::Restart { node, reason });
                }
            }
            Fault::Drain(whom) => {
                let away = hosts(self, whom).into_iter().map(|h| self.name(h)).collect();
                self.person_proposes(Proposal { away, ..Proposal::default() });
            }
            Fault::Resume => self.person_proposes(Proposal { resume: true, ..Proposal::default() }),
            Fault::WayOut => {
                let _ = self.person_takes_a_way_out(0);
            }
            Fault::Failback => {
                self.person_proposes(Proposal { failback: true, ..Proposal::default() })
            }
            Fault::Node(what, whom) => {
                hosts(self, whom).into_iter().for_each(|h| self.person_changes_voters(*what, h))
            }
            Fault::Dismiss => self.person_dismisses(),
            Fault::Acknowledge => {
                self.person_orders(PersonOrder::Acknowledge { reason: "simulated".into() })
            }
            Fault::Verify => {
                self.verify_asked_at = Some(self.now);
                self.person_orders(PersonOrder::Verify { reason: "simulated".into() });
            }
            Fault::Override(whom) => {
                let gone = hosts(self, whom);
                self.persons_override(&gone);
            }
            Fault::History(whom) => {
                for host in hosts(self, whom) {
                    self.persons_sign_history(host);
                }
            }
            Fault::FleetSuspects(why) => {
                (0..PLANES).for_each(|p| self.plane_input(p, Input::Fleet(why.clone())))
            }
            Fault::RefusedRequest(who, stranger) => {
                let refused = RefusedRequest {
                    who: who.clone(),
                    stranger: *stranger,
                    asked: "a plan".into(),
                    why: "not in the allowlist for this".into(),
                };
                (0..PLANES).for_each(|p| self.plane_input(p, Input::Refused(refused.clone())));
            }
            Fault::Person(after) => self.approve_after = *after,
        }
    }

    /// Processes that go on after a pause run in any order, but each takes its own messages in
    /// theirs.
    fn wake_up(&mut self, events: Vec<Event>) {
        let guard = self.random.span(Span::ZERO, Span::millis(20));
        let rest = self.random.span(Span::ZERO, Span::millis(20));
        for event in events {
            let fences = matches!(event, Event::Guard { .. } | Event::SelfFence { .. });
            let after = if fences { guard } else { rest };
            self.after(after, event);
        }
    }

    fn power_off(&mut self, host: usize) {
        let here = &mut self.hosts[host];
        let durable = here.durable_log;
        here.clock_stopped = None;
        (here.loose, here.bare_since) = (false, None);
        here.db.lose_power(durable);
        here.record = here.durable_record.clone();
        (here.up, here.paused, here.frozen, here.agent, here.guard) =
            (false, false, false, None, None);
        here.backlog.clear();
        here.inbox.clear();
    }

    fn power_on(&mut self, host: usize) {
        if !self.hosts[host].up {
            self.hosts[host].up = true;
            let after = self.random.span(Span::millis(200), Span::secs(2));
            self.after(after, Event::AgentStart { host });
        }
    }

    fn reinstall(&mut self, host: usize) {
        self.forget_votes(host);
        let here = &mut self.hosts[host];
        here.db = super::database::Database::empty();
        here.durable_log = crate::model::Lsn(0);
        here.stray = false;
        // Every disk is gone, one after the other: nobody is left who could know that anything was
        // ever written.
        self.oracle.forgiven |= self.hosts.iter().all(|h| h.record.voters.is_none());
        self.note_all_gone();
    }

    /// A new incarnation, with an empty record.
    pub(super) fn forget_votes(&mut self, host: usize) {
        let here = &mut self.hosts[host];
        let count = here
            .record
            .me
            .incarnation
            .as_str()
            .rsplit_once('-')
            .and_then(|(_, n)| n.parse::<u64>().ok())
            .unwrap_or(1)
            + 1;
        let me = Member {
            node: here.node.node_id.clone(),
            incarnation: Incarnation::new(format!("{}-{count}", here.node.node_id)),
        };
        here.record = VoterRecord::new(me);
        here.durable_record = here.record.clone();
    }

    fn cancel_waits(&mut self) {
        for host in 0..self.hosts.len() {
            let here = &mut self.hosts[host];
            // Nobody cancels anything on a host that stands still, or in a server that hangs.
            if here.paused || here.db.hung {
                continue;
            }
            let db = &mut here.db;
            let waiting: Vec<_> =
                db.waiting.iter().copied().filter(|w| w.end <= db.flushed && db.primary).collect();
            db.waiting.retain(|w| w.end > db.flushed);
            db.cancelled += u32::try_from(waiting.len()).unwrap_or(u32::MAX);
            let said = Said { waited: false, named: true };
            for commit in waiting {
                self.acknowledge(host, commit, said);
                self.tell_client(host, commit.write, true);
            }
        }
    }

    fn names(&self, whom: &[Whom]) -> String {
        let name = |place: usize| match place.checked_sub(self.hosts.len()) {
            None => self.name(place).as_str().to_owned(),
            Some(n) if n < PLANES => format!("plane {}", n + 1),
            Some(_) => "clients".into(),
        };
        self.places(whom).into_iter().map(name).collect::<Vec<_>>().join(", ")
    }

    fn words(&self, fault: &Fault) -> String {
        let n = |whom: &[Whom]| self.names(whom);
        match fault {
            Fault::KillDatabase(w) => format!("the database of {} is killed", n(w)),
            Fault::HangDatabase(w) => format!("the database of {} hangs", n(w)),
            Fault::ResumeDatabase(w) => format!("the database of {} answers again", n(w)),
            Fault::KillAgent(w) => format!("the agent of {} is killed", n(w)),
            Fault::FreezeAgent(w) => format!("the agent of {} stands still", n(w)),
            Fault::ThawAgent(w) => format!("the agent of {} goes on", n(w)),
            Fault::PauseHost(w) => format!("the whole host of {} stands still", n(w)),
            Fault::SuspendHost(w) => {
                format!("the whole host of {} stands still, and its clock", n(w))
            }
            Fault::ResumeHost(w) => format!("the host of {} goes on", n(w)),
            Fault::PowerOff(w) => format!("{} loses its power", n(w)),
            Fault::PowerOn(w) => format!("{} has power again", n(w)),
            Fault::Reinstall(w) => format!("{} comes back with empty disks", n(w)),
            Fault::Cut(from, to, both) => format!(
                "nothing passes from {} to {}{}",
                n(from),
                n(to),
                if *both { ", nor back" } else { "" }
            ),
            Fault::Heal => "every link works again".into(),
            Fault::Degrade(from, to, delay, loss, twice) => {
                let delay = delay.map_or(String::new(), |d| format!(", {d} each way"));
                format!("from {} to {}: {loss} ‰ lost, {twice} ‰ doubled{delay}", n(from), n(to))
            }
            Fault::SlowDisk(w, flush) => format!("a flush of {} takes {flush}", n(w)),
            Fault::FillDisk(w) => format!("the disk of {} is full", n(w)),
            Fault::LyingDisk(w) => format!("the disk of {} confirms what it has not written", n(w)),
            Fault::CorruptDisk(w) => {
                format!("the disk of {} gives back what was not written", n(w))
            }
            Fault::BreakDisk(w) => format!("the disk of {} fails to write", n(w)),
            Fault::MendDisk(w) => format!("the disk of {} is mended", n(w)),
            Fault::KillGuard(w) => format!("the guard of {} is killed", n(w)),
            Fault::NoGuard(w) => format!("the guard of {} is killed and none starts", n(w)),
            Fault::MendGuard(w) => format!("a guard of {} can be started again", n(w)),
            Fault::RestartAgent(w) => format!("the agent of {} is restarted", n(w)),
            Fault::PromoteByHand(w) => format!("a person promotes {}", n(w)),
            Fault::StartByHand(w) => format!("a person starts the database of {}", n(w)),
            Fault::ReplaceData(w, Replacement::OtherCluster) => {
                format!("{} finds another cluster's data in place of its own", n(w))
            }
            Fault::ReplaceData(w, Replacement::OlderBackup) => {
                format!("{} finds an older copy in place of its data", n(w))
            }
            Fault::ReplaceData(w, Replacement::RunByHand) => {
                format!("{} finds a copy that was run by hand in place of its data", n(w))
            }
            Fault::MoveData(w) => format!("the data directory of {} is moved away", n(w)),
            Fault::MoveVolume(w) => format!("the data of {} is on another volume now", n(w)),
            Fault::Setting(w, setting, true) => {
                format!("a person sets {} wrong on {}", setting.name(), n(w))
            }
            Fault::Setting(w, setting, false) => {
                format!("a person corrects {} on {}", setting.name(), n(w))
            }
            Fault::KillPlane(p) => format!("plane {} is killed", p + 1),
            Fault::StartPlane(p) => format!("plane {} starts", p + 1),
            Fault::PausePlane(p) => format!("plane {} stands still", p + 1),
            Fault::ResumePlane(p) => format!("plane {} goes on", p + 1),
            Fault::Load(Span::ZERO) => "the clients stop writing".into(),
            Fault::Load(interval) => format!("the clients write every {interval}"),
            Fault::AsyncSessions(on) => format!(
                "sessions commit {} waiting for standbys",
                if *on { "without" } else { "after" }
            ),
            Fault::CancelWaits => "waits for standbys are cancelled".into(),
            Fault::Switchover(to, accept) => {
                let to = to.as_ref().map_or("the best node".to_owned(), |w| n(w));
                format!(
                    "a person asks for a move to {to}{}",
                    if *accept { " and accepts an unknown loss" } else { "" }
                )
            }
            Fault::Node(Membership::Add, w) => format!("a person adds {} to the voters", n(w)),
            Fault::Node(Membership::Remove, w) => {
                format!("a person removes {} from the voters", n(w))
            }
            Fault::Node(Membership::Readmit, w) => format!("a person readmits {}", n(w)),
            Fault::Drain(w) => format!("a person wants to be without {}", n(w)),
            Fault::Rest(w, true) => format!("a person drains {}", n(w)),
            Fault::Rest(w, false) => format!("a person says that {} is back", n(w)),
            Fault::RestartServer(w) => format!("a person has the server of {} restarted", n(w)),
            Fault::Failback => "a person asks for a failback".into(),
            Fault::Resume => "a person wants the former holder to take the role back".into(),
            Fault::WayOut => "a person takes the first way out".into(),
            Fault::Dismiss => "a person drops the plan that waits".into(),
            Fault::Acknowledge => "a person acknowledges what happened".into(),
            Fault::Verify => "a person wants the present state verified".into(),
            Fault::History(w) => format!("two persons sign that what {} has is the history", n(w)),
            Fault::Override(w) => format!("two persons remove {} as powered off", n(w)),
            Fault::FleetSuspects(why) if why.is_empty() => {
                "the fleet's guard trusts the observer again".into()
            }
            Fault::FleetSuspects(why) => format!("the fleet's guard suspects the observer: {why}"),
            Fault::RefusedRequest(who, _) => format!("{who} asks for what they may not"),
            Fault::Person(Some(after)) => format!("a person confirms plans after {after}"),
            Fault::Person(None) => "no person is there".into(),
        }
    }
}
