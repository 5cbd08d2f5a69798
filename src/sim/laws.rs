//! What the oracle is told, and what it compares: who acknowledges under which right, and whether
//! what records, reports and screens say is so at that moment.

use super::database::{Database, SYSTEM, Waiting};
use super::oracle::Ack;
use super::world::World;
use crate::model::loss::{FenceRung, LossAccount, Suspicion};
use crate::model::observation::ResourceState;
use crate::model::view::{ClusterState, Verdict};
use crate::model::{Lsn, Span, Timestamp};

/// What stands behind an acknowledgement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said {
    /// Its client was promised that it waited for standbys.
    pub(super) waited: bool,
    /// It is named beside every account.
    pub(super) named: bool,
}

/// The law about words.
const SAID: &str = "what is said is so";
/// Screens are looked at so often.
const SCREENS: Span = Span::millis(500);
/// A database that somebody made writable is found and stopped within this by an agent that acts.
const STRAY_MAX: Span = Span::millis(1_000);
/// A clock's rounding.
pub(super) const ROUNDING: Span = Span::millis(1);
/// A verdict of "healthy" rests on a word that is not older than this.
const FRESH: Span = Span::secs(5);
/// Whoever falls silent is suspected within this.
const SILENCE_MAX: Span = Span::secs(2);

/// What a look makes of the doubt here: it begins with a wrong setting of a primary, and ends when
/// enough of the synchronous set has what was written until it was corrected, or when the log here
/// is another's.
pub(super) fn doubt(
    before: Option<(Suspicion, Option<Lsn>)>,
    db: &Database,
    follows: bool,
) -> Option<(Suspicion, Option<Lsn>)> {
    if !db.running || !db.primary {
        return before.filter(|_| !follows);
    }
    let wrong = [
        (db.wrong.commit, "synchronous_commit = off", true),
        (db.wrong.names, "synchronous_standby_names = ''", false),
        (db.wrong.fsync, "fsync = off", true),
    ];
    let mut now = wrong.into_iter().filter(|(since, ..)| since.is_some()).peekable();
    if let Some((_, why, _)) = now.peek() {
        let why = (*why).to_owned();
        let own_log = now.any(|(.., own)| own) || before.is_some_and(|(b, _)| b.own_log);
        return Some((Suspicion { why, own_log }, None));
    }
    let (what, until) = before?;
    let until = until.unwrap_or(db.end);
    let (members, k) = &db.sync;
    let has = |m: &&usize| db.senders.get(m).is_some_and(|s| s.flushed >= until);
    let over = *k > 0 && members.iter().filter(has).count() > members.len() - k;
    (!over).then_some((what, Some(until)))
}

impl World {
    /// This is the moment that counts.
    pub(super) fn acknowledge(&mut self, host: usize, commit: Waiting, said: Said) {
        let name = self.name(host);
        self.note_loose(host);
        let here = &self.hosts[host];
        let acts = here.agent.is_some() && !here.frozen;
        if here.db.by_hand {
            // What is acknowledged before it is found is kept as a fork, and named.
            let age = self.now.since(here.by_hand_at);
            if acts && age > STRAY_MAX {
                let seen = format!(
                    "{name} acknowledges on timeline {} for {age} and no epoch opened it",
                    here.db.history.timeline
                );
                self.oracle.broken(self.now, "nothing is writable without a lease", seen);
            }
            return;
        }
        let loose = here.loose;
        if !loose && self.now > here.lease_end + ROUNDING {
            let age = self.now.since(here.lease_end);
            let seen = format!("{name} acknowledged write {} {age} after its lease", commit.write);
            self.oracle.broken(self.now, "nothing is writable without a lease", seen);
        }
        let here = &self.hosts[host];
        let lease = self.cluster.lease;
        // By its own clock: where that stood still, nothing of the lease went by.
        let now = here.clock(self.now);
        let bare = here.bare_since.map_or(Span::ZERO, |since| now.since(since));
        if !loose && bare > lease + lease + Span::secs(1) {
            let seen = format!("{name} acknowledged write {}, unguarded for {bare}", commit.write);
            self.oracle.broken(self.now, "at most one lease is held unguarded", seen);
        }
        let timeline = here.db.history.timeline;
        let ack = Ack {
            who: name.as_str(),
            timeline,
            end: commit.end,
            write: commit.write,
            waited: said.waited,
            named: said.named,
            kept: self.is_kept(timeline, commit),
            loose,
        };
        self.oracle.acked(self.now, &ack);
    }

    /// Whether a newer primary, if there is one, has that write.
    fn is_kept(&self, timeline: u32, commit: Waiting) -> bool {
        let newer = self
            .hosts
            .iter()
            .filter(|h| !h.stray && !h.db.by_hand && h.db.system == SYSTEM && h.db.has_data)
            .map(|h| &h.db)
            .filter(|db| db.history.timeline > timeline);
        newer.max_by_key(|db| db.history.timeline).is_none_or(|db| db.has(commit.end, commit.write))
    }

    /// A person made commits not wait, and the voters cannot have heard of it yet: the lease under
    /// which it acknowledges may have been renewed before the agent looked.
    pub(super) fn is_doubt_unheard(&self, host: usize) -> bool {
        let lease = self.cluster.lease;
        let patience = lease + Span(lease.0 / 4) + Span::secs(1);
        let since = self.hosts[host].db.wrong.does_not_wait();
        since.is_some_and(|since| self.now.since(since) <= patience)
    }

    /// A promotion rests on "stopped": nobody before may be able to acknowledge. Who won after it
    /// may: this host stood still since its claim, and its clock.
    pub(super) fn check_fenced(&mut self, host: usize, fence: Option<FenceRung>) {
        if !matches!(fence, Some(FenceRung::Stopped | FenceRung::PoweredOff)) {
            return;
        }
        let won = self.hosts[host].db.history.timeline;
        let other = (0..self.hosts.len()).find(|i| {
            let (h, earlier) = (&self.hosts[*i], self.hosts[*i].db.history.timeline <= won);
            *i != host && earlier && h.up && h.db.running && h.db.primary && !h.db.by_hand
        });
        if let Some(other) = other {
            let seen = format!(
                "{} was promoted with the fence \"{}\" while the database of {} accepts writes",
                self.name(host),
                fence.map_or("", FenceRung::words),
                self.name(other)
            );
            self.oracle.broken(self.now, SAID, seen);
        }
    }

    /// An agent says "stopped", in a report or a release.
    pub(super) fn check_stopped(&mut self, host: usize) {
        let here = &self.hosts[host];
        let unseen = here.db.by_hand && self.now.since(here.by_hand_at) <= STRAY_MAX;
        if here.db.running && here.db.primary && !unseen {
            let seen = format!("{} says stopped, and its database runs", self.name(host));
            self.oracle.broken(self.now, SAID, seen);
        }
    }

    /// Runs until then, with a look at the screens every now and then.
    pub(super) fn run_watched(&mut self, until: Timestamp) {
        while self.now < until {
            self.run_until((self.now + SCREENS).min(until));
            self.check_screens();
        }
    }

    /// What every plane's screen says now.
    pub(super) fn check_screens(&mut self) {
        let nobody = !self.hosts.iter().any(super::host::Host::accepts_writes);
        for plane in 0..self.planes.len() {
            let looks = self.planes[plane].is_up() && !self.planes[plane].is_paused();
            let since = self.planes[plane].writerless_since.unwrap_or(self.now);
            let since = since.max(self.writable_at);
            self.planes[plane].writerless_since = (nobody && looks).then_some(since);
            if looks {
                self.check_exits(plane);
                if self.has_several_writers() {
                    continue;
                }
                self.check_screen(plane);
            }
        }
    }

    fn check_screen(&mut self, plane: usize) {
        let Some(engine) = &self.planes[plane].engine else { return };
        let view = engine.view();
        let mut wrong = vec![];
        for node in view.nodes.iter().filter(|n| n.verdict == Verdict::Healthy) {
            let Some(host) = self.index(&node.node) else { continue };
            let heard = self.hosts[host].reported_at;
            if self.now.since(heard) > FRESH {
                let age = self.now.since(heard);
                wrong.push(format!("{} is shown healthy; its last word is {age} old", node.node));
            }
        }
        let writerless =
            self.planes[plane].writerless_since.map_or(Span::ZERO, |since| self.now.since(since));
        if view.state == ClusterState::Healthy && writerless > SILENCE_MAX {
            let text = "the cluster is shown healthy, and no database accepts writes";
            wrong.push(format!("{text} for {writerless}"));
        }
        if let Some(run) = &view.run
            && matches!(run.rpo, Some(LossAccount::None { .. }))
            && run.body.to.node.as_str() == self.oracle.newest().who
            && self.oracle.newest().missing > 0
        {
            let missing = self.oracle.newest().missing;
            wrong.push(format!("a run ended with a loss of none (proved), and lost {missing} B"));
        }
        if let Some(asked) = self.verify_asked_at
            && self.proved_at < asked
            && engine.verify().0.iter().any(|(part, held, _)| part == "write" && *held)
        {
            let (asked, made) = (self.now.since(asked), self.now.since(self.proved_at));
            wrong.push(format!(
                "a write asked for {asked} ago is shown as read back; the last was made {made} ago"
            ));
        }
        for seen in wrong {
            self.oracle.broken(self.now, SAID, seen);
        }
    }

    /// A report leaves: what it says is so.
    pub(super) fn check_report(&mut self, host: usize, state: &ResourceState) {
        self.hosts[host].reported_at = self.now;
        if matches!(state, ResourceState::Stopped(_)) {
            self.check_stopped(host);
        }
    }
}
