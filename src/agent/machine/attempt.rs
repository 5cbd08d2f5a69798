//! One attempt to win an epoch: as the armed candidate of a plan, as a former holder that takes its
//! role back, as the founder, or as a holder that climbs above a stranded voter.

use std::collections::{BTreeMap, BTreeSet};

use super::{Effect, Goal, Machine, Tenure, Turn, Upstream};
use crate::lease::claim::Win;
use crate::lease::{
    Answer, Claim, ClaimRequest, Grant, Holder, Refusal, Standing, Voter, VoterRecord,
};
use crate::model::loss::Doubt;
use crate::model::observation::{ArmedFacts, ArmedStage};
use crate::model::plan::{Approval, Plan, PlanKind};
use crate::model::planted::{Bug, planted};
use crate::model::{
    Digest, Epoch, Member, NodeId, Position, Span, SyncSet, SyncStage, Timestamp, VoterSet,
};
use crate::wire::message::PeerMessage;

/// Why an epoch is claimed.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// A plan of the plane.
    Armed {
        /// The plan.
        plan: Box<Plan>,
        /// Its digest.
        digest: Digest,
        /// Signatures over it.
        approvals: Vec<Approval>,
    },
    /// It held the role last, and nobody took it.
    Reclaim,
    /// The cluster never had a holder.
    Found,
    /// It holds the role, and a voter knows a higher epoch.
    Climb,
}

/// How far it is.
#[derive(Clone, Debug, PartialEq)]
pub enum Stage {
    /// Asks until the answers would win.
    Asking {
        /// Next round.
        next: Timestamp,
        /// Answers of this round.
        answers: BTreeMap<Member, Answer>,
    },
    /// Claimed.
    Claiming {
        /// Counts grants.
        claim: Box<Claim>,
        /// Send again then.
        resend: Timestamp,
        /// Give up then.
        until: Timestamp,
    },
    /// Won; fetches what a granter has and it lacks.
    Fetching {
        /// What was won.
        claim: Box<Claim>,
        /// On what grounds.
        win: Box<Win>,
        /// Up to where.
        target: Position,
        /// From whom.
        from: NodeId,
        /// Keeps the lease that was won, however long it takes.
        holder: Box<Holder>,
        /// Next round of renewals.
        renew_at: Timestamp,
        /// How far it was at the last look.
        reached: Option<Position>,
        /// Give up then, unless more has come.
        until: Timestamp,
    },
}

/// An attempt.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub(super) reason: Reason,
    stage: Stage,
    /// The highest epoch any voter spoke of.
    highest: Epoch,
    until: Timestamp,
    why: String,
    /// Armed for a failover, and its former holder renews since then.
    contradicted: Option<Timestamp>,
}

/// A round of asking is repeated after this while the answers would not win.
const ASK_INTERVAL: Span = Span::millis(25);
/// A claim is repeated to voters that are cutting off their upstream: soon at first, then after an
/// eighth of the time it has taken, so that slow voters are not kept from answering.
const CLAIM_RESEND: Span = Span::millis(5);
/// A claim that is not won by then is abandoned: long enough for every cut, short against a lease.
/// Doubled for each one before it that too few voters answered: disks and links may be slower.
const CLAIM_MAX: Span = Span::millis(1_500);
/// So often at most.
const CLAIM_DOUBLED_MAX: u32 = 3;
/// A majority whose loss account is not "none" waits so long for the others' grants.
const CLAIM_SETTLE: Span = Span::millis(400);
/// A fetch of missing log that has brought nothing more for so long is given up.
const FETCH_MAX: Span = Span::secs(10);

impl Attempt {
    pub(super) fn new(now: Timestamp, reason: Reason, highest: Epoch) -> Self {
        let budget = match &reason {
            Reason::Armed { plan, .. } => plan.budget,
            Reason::Reclaim | Reason::Found | Reason::Climb => Span::secs(60),
        };
        let stage = Stage::Asking { next: now, answers: BTreeMap::new() };
        Self { reason, stage, highest, until: now + budget, why: String::new(), contradicted: None }
    }

    pub(super) fn plan(&self) -> Option<(&Plan, &Digest)> {
        match &self.reason {
            Reason::Armed { plan, digest, .. } => Some((plan, digest)),
            Reason::Reclaim | Reason::Found | Reason::Climb => None,
        }
    }

    /// A plan by which this node takes its own role back.
    fn resumes(&self) -> bool {
        self.plan().is_some_and(|(plan, _)| plan.kind == PlanKind::Resume)
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.stage, Stage::Asking { .. })
    }

    pub(super) fn words(&self) -> String {
        let why =
            |default: &str| if self.why.is_empty() { default.to_owned() } else { self.why.clone() };
        match &self.stage {
            Stage::Asking { .. } => format!("waits to claim: {}", why("asks the voters")),
            Stage::Claiming { claim, .. } => {
                format!("claims epoch {}: {}", claim.request().epoch, why("counts grants"))
            }
            Stage::Fetching { from, target, .. } => {
                format!("fetches log from {from} up to {target}")
            }
        }
    }

    pub(super) fn facts(&self, voter: &Voter, now: Timestamp) -> Option<ArmedFacts> {
        let (_, digest) = self.plan()?;
        let (stage, epoch, win) = match &self.stage {
            Stage::Asking { .. } => (ArmedStage::Waiting, None, None),
            Stage::Claiming { claim, .. } => {
                (ArmedStage::Claiming, Some(claim.request().epoch), None)
            }
            Stage::Fetching { claim, win, .. } => {
                (ArmedStage::Fetching, Some(claim.request().epoch), Some(win))
            }
        };
        let left = voter.lease_left(now);
        let why = if stage == ArmedStage::Waiting && left > Span::ZERO {
            format!("the lease it promised runs for another {left}")
        } else {
            self.words()
        };
        Some(ArmedFacts {
            plan: digest.clone(),
            stage,
            epoch,
            fence: win.map(|w| w.fence),
            loss: win.map(|w| w.loss.clone()),
            granted: vec![],
            why,
        })
    }

    pub(super) fn next_wakeup(&self, voter: &Voter) -> Option<Timestamp> {
        let next = match &self.stage {
            // While its own promise to the old holder runs there is nothing to ask for.
            Stage::Asking { next, .. }
                if self.reason == Reason::Climb || voter.record().is_released() =>
            {
                *next
            }
            Stage::Asking { next, .. } => (*next).max(voter.lease_until()),
            Stage::Claiming { resend, until, .. } => (*resend).min(*until),
            Stage::Fetching { until, renew_at, holder, .. } => {
                let end = holder.held_until().unwrap_or(*until);
                (*until).min(*renew_at).min(end)
            }
        };
        Some(next.min(self.until))
    }
}

impl Machine {
    pub(super) fn mind_attempt(&mut self, now: Timestamp, turn: &mut Turn) {
        let Some(attempt) = &self.attempt else { return };
        if let Some(why) = self.attempt_void(attempt) {
            self.abandon(&why, turn);
            return;
        }
        if now >= attempt.until {
            let why = format!("not done in its budget; last: {}", attempt.words());
            self.abandon(&why, turn);
            return;
        }
        match &attempt.stage {
            // Its own grant could not be kept: it waits, without using epochs up.
            Stage::Asking { .. } if !self.saves => self.ask_later(now),
            Stage::Asking { .. } => self.mind_asking(now, turn),
            Stage::Claiming { .. } => self.mind_claiming(now, turn),
            Stage::Fetching { .. } => self.mind_fetching(now, turn),
        }
    }

    /// The world the attempt was made for is gone.
    fn attempt_void(&self, attempt: &Attempt) -> Option<String> {
        let record = self.voter.record();
        let claimed = matches!(attempt.stage, Stage::Claiming { .. } | Stage::Fetching { .. });
        match &attempt.reason {
            Reason::Armed { plan, .. }
                if !claimed && record.is_won() && record.epoch > plan.epoch =>
            {
                Some(format!("the world moved: epoch {} was won by another", record.epoch))
            }
            Reason::Climb if self.tenure.held(self.now).is_none() => {
                Some("the role was lost before the climb was won".into())
            }
            Reason::Reclaim | Reason::Found
                if !claimed
                    && record.is_won()
                    && record.holder.as_ref() != Some(&self.setup.me) =>
            {
                Some("another node holds the role".into())
            }
            Reason::Armed { .. } | Reason::Reclaim | Reason::Found | Reason::Climb => None,
        }
    }

    /// A holder that renews for as long as a lease was not gone: the failover that this node waits
    /// with has lost its reason, and the plane that made it may not live any more to say so.
    pub(super) fn hear_holder(
        &mut self,
        now: Timestamp,
        renew: &crate::lease::Renew,
        turn: &mut Turn,
    ) {
        let Some(attempt) = self.attempt.as_mut().filter(|a| a.is_waiting()) else { return };
        let void = attempt.plan().is_some_and(|(plan, _)| {
            plan.kind == PlanKind::Failover
                && plan.from.as_ref() == Some(&renew.holder)
                && renew.epoch == plan.epoch
        });
        if !void {
            return;
        }
        let since = *attempt.contradicted.get_or_insert(now);
        if now.since(since) >= self.setup.terms.duration {
            self.abandon("the former holder renews its lease: there is nothing to take over", turn);
        }
    }

    fn ask_later(&mut self, now: Timestamp) {
        if let Some(Attempt { stage: Stage::Asking { next, .. }, .. }) = &mut self.attempt {
            *next = now + ASK_INTERVAL;
        }
    }

    fn mind_asking(&mut self, now: Timestamp, turn: &mut Turn) {
        let Some(voters) = self.voter.record().voters.clone() else { return };
        let local = self.local();
        let incumbent = self.is_incumbent();
        let Some(attempt) = &mut self.attempt else { return };
        // Its own grant names the end of its own log: a server that has yet to start would only use
        // epochs up.
        if attempt.resumes() && !matches!(local.cut, crate::lease::Cut::At(_)) {
            attempt.why = "its database is started, cut off, to say where its log ends".into();
            self.ask_later(now);
            return;
        }
        let climbs = attempt.reason == Reason::Climb;
        let released = self.voter.record().is_released();
        let free = climbs || incumbent || released || now >= self.voter.lease_until();
        let Stage::Asking { next, answers } = &mut attempt.stage else { return };
        if !free {
            return;
        }
        // A release is final: whoever has seen it may pass it on, so nothing has to be asked.
        if released && matches!(attempt.reason, Reason::Armed { .. }) {
            self.claim(now, turn);
            return;
        }
        let due = now >= *next;
        if answers_win(answers, &voters) {
            let answers = answers.clone();
            let Some(why) = self.refused_often(&answers).filter(|_| self.decides_alone()) else {
                self.claim(now, turn);
                return;
            };
            if let Some(attempt) = &mut self.attempt {
                attempt.why = why;
            }
        }
        let Some(Attempt { stage: Stage::Asking { next, answers }, .. }) = &mut self.attempt else {
            return;
        };
        if !due {
            return;
        }
        *next = now + ASK_INTERVAL;
        answers.clear();
        let request = self.request(&voters, self.attempt.as_ref().map_or(Epoch(0), |a| a.highest));
        let own = self.voter.ask(now, &request, local);
        self.answered(own);
        self.broadcast(&PeerMessage::Ask(request), turn);
    }

    fn request(&self, voters: &VoterSet, highest: Epoch) -> ClaimRequest {
        let record = self.voter.record();
        let timeline = self.resource.position.map_or(0, |p| u64::from(p.timeline));
        let floor = voters.override_floor().unwrap_or_default();
        let used = record.epoch.max(highest).max(floor).max(record.given_back());
        let epoch = Epoch(used.0.max(timeline) + 1);
        let (plan, approvals) = match self.attempt.as_ref().map(|a| &a.reason) {
            Some(Reason::Armed { digest, approvals, .. }) => {
                (Some(digest.clone()), approvals.clone())
            }
            Some(Reason::Reclaim | Reason::Found | Reason::Climb) | None => (None, vec![]),
        };
        let released = record.released.clone();
        ClaimRequest {
            voters: voters.clone(),
            epoch,
            candidate: self.setup.me.clone(),
            duration: self.setup.terms.duration,
            sync: self.claimed_sync(),
            plan,
            approvals,
            released,
            process: self.setup.first_round,
        }
    }

    /// The synchronous sets of the epoch it wants. A holder that climbs keeps its stage. Where
    /// another number of standbys confirmed before, both numbers bind: the old acknowledgements are
    /// only where the old number put them.
    fn claimed_sync(&self) -> SyncStage {
        if let (Tenure::Holding { holder, .. }, Some(Reason::Climb)) =
            (&self.tenure, self.attempt.as_ref().map(|a| &a.reason))
        {
            return holder.sync().clone();
        }
        let set = self.sync_set();
        let before = self.voter.record().last_won().and_then(|w| w.sync.sets.last()).map(|s| s.k);
        match before.filter(|k| *k != set.k && *k > 0) {
            Some(k) => SyncStage {
                number: 0,
                sets: vec![SyncSet { k: k.min(set.members.len()), ..set.clone() }, set],
            },
            None => set.into(),
        }
    }

    fn claim(&mut self, now: Timestamp, turn: &mut Turn) {
        let Some(voters) = self.voter.record().voters.clone() else { return };
        let Some(attempt) = &self.attempt else { return };
        let climbs = attempt.reason == Reason::Climb;
        let highest = attempt.highest.max(self.voter.record().claimed.unwrap_or_default());
        let request = self.request(&voters, highest);
        if !climbs {
            // Whatever becomes of this process, what it claimed is given back.
            let record = self.voter.begin_claim(request.epoch);
            Self::persist(turn, Some(record));
        }
        turn.effects.push(Effect::Note(format!("claims epoch {}", request.epoch)));
        let has_data = self.resource.has_data && self.data_fault().is_none();
        let claim = Box::new(Claim::new(request, voters, now, has_data));
        if let Some(attempt) = &mut self.attempt {
            let patience = Span(CLAIM_MAX.0 << self.unanswered.min(CLAIM_DOUBLED_MAX));
            attempt.stage = Stage::Claiming { claim, resend: now, until: now + patience };
        }
        if !climbs {
            self.cut(turn);
        }
        turn.effects.push(Effect::Report);
        self.mind_claiming(now, turn);
    }

    fn mind_claiming(&mut self, now: Timestamp, turn: &mut Turn) {
        let local = self.local();
        let Some(Attempt {
            stage: Stage::Claiming { claim, resend, until },
            reason,
            why,
            highest,
            ..
        }) = &mut self.attempt
        else {
            return;
        };
        if now >= *resend {
            *resend = now + Span(now.since(claim.sent()).0 / 8).max(CLAIM_RESEND);
            let climbs_now = *reason == Reason::Climb;
            let granted: BTreeSet<NodeId> = claim.granted_by().map(|m| m.node.clone()).collect();
            let request = claim.request().clone();
            // Its own grant names the end of its own log: not before that is certain.
            let certain = climbs_now || matches!(local.cut, crate::lease::Cut::At(_));
            if !granted.contains(&self.setup.me.node) && certain {
                let own = self.voter.claim(now, &request, local);
                Self::persist(turn, own.persist);
                match own.reply {
                    Ok(grant) => claim.grant(grant),
                    Err(refusal) => *why = format!("{} itself: {refusal}", self.setup.me.node),
                }
            }
            for peer in self
                .setup
                .nodes
                .iter()
                .filter(|n| **n != self.setup.me.node && !granted.contains(*n))
            {
                turn.effects.push(Effect::Send(peer.clone(), PeerMessage::Claim(request.clone())));
            }
        }
        // The candidate's own grant is the one whose position everything is compared with.
        let own_granted = claim.granted_by().any(|m| *m == self.setup.me);
        let climbs = *reason == Reason::Climb;
        let accept_lease_only = match reason {
            Reason::Armed { plan, .. } => plan.accept_unknown_loss,
            Reason::Reclaim | Reason::Found | Reason::Climb => false,
        };
        match claim.standing(&self.voter.record().attested, accept_lease_only) {
            // More grants can only make the account better; a majority alone is not the end while
            // some may still come.
            Standing::Won(win) if own_granted && (climbs || claim.own_position().is_some()) => {
                let enough = matches!(win.loss, crate::model::loss::LossAccount::None { .. });
                // An account that the plan would refuse is not settled for while grants may still
                // come.
                let tolerated = match reason {
                    Reason::Armed { plan, .. } => {
                        win.loss.within(plan.max_loss_bytes) || plan.accept_unknown_loss
                    }
                    Reason::Reclaim | Reason::Found => {
                        loses_nothing(self.voter.record(), claim, &win)
                    }
                    Reason::Climb => true,
                };
                let patience =
                    if tolerated || planted(Bug::SettlesEarly) { CLAIM_SETTLE } else { CLAIM_MAX };
                if enough
                    || claim.granted_by().count() == claim.voters().members.len()
                    || now.since(claim.sent()) >= patience
                {
                    let claim = claim.clone();
                    self.won(now, claim, win, turn);
                    return;
                }
            }
            Standing::Won(_) => {}
            Standing::Waiting { why: w } | Standing::Unfenced { why: w } => *why = w,
        }
        if now >= *until {
            let few = claim.granted_by().count() < claim.voters().majority();
            self.unanswered = if few { self.unanswered.saturating_add(1) } else { 0 };
            *highest = (*highest).max(claim.request().epoch);
            let text = format!("epoch {} was not won: {why}", claim.request().epoch);
            let account = claim.account().clone();
            if !few && self.decides_alone() {
                self.note_refusal(&account, &text);
            }
            self.abandon(&text, turn);
        }
    }

    /// Granted by a majority, and the former holder is fenced. The win is durable before anything
    /// rests on it.
    pub(super) fn won(&mut self, now: Timestamp, claim: Box<Claim>, win: Win, turn: &mut Turn) {
        self.unanswered = 0;
        let epoch = claim.request().epoch;
        let climb = self.attempt.as_ref().is_some_and(|a| a.reason == Reason::Climb);
        if let Some(Attempt { reason: Reason::Armed { plan, .. }, .. }) = &self.attempt {
            let loss_fine = win.loss.within(plan.max_loss_bytes) || plan.accept_unknown_loss;
            if win.last_fence > plan.least_fence && !plan.accept_unknown_loss {
                let why = format!(
                    "the fence is only \"{}\", the plan wants \"{}\"",
                    win.last_fence.words(),
                    plan.least_fence.words()
                );
                return self.refuse(&why, &claim, win, turn);
            }
            if !loss_fine {
                let why = format!(
                    "the loss would be {}, the plan tolerates {} B",
                    win.loss.short(),
                    plan.max_loss_bytes
                );
                return self.refuse(&why, &claim, win, turn);
            }
        }
        if let Tenure::Holding { holder, .. } = &self.tenure
            && climb
            && let Some(other) = claim.overtakes(holder.epoch())
            && !planted(Bug::HoldsOnOvertaken)
        {
            // A lease that is right rules it out; what was acknowledged there is not here.
            let (held, other) = (holder.epoch(), other.node);
            let why = format!("{other} may have held the role since");
            return self.end(held, &why, turn);
        }
        if self.decides_alone()
            && !loses_nothing(self.voter.record(), &claim, &win)
            && !planted(Bug::ReclaimsAtAnyLoss)
        {
            // Another may have held the role since and acknowledged what is not here: not for a
            // node to decide alone.
            let why = format!(
                "taking the role back would lose {}: {}",
                win.loss.short(),
                win.loss.reason()
            );
            self.note_refusal(claim.account(), &why);
            return self.abandon(&why, turn);
        }
        // Whatever it gave up before, it holds the role now.
        self.complaint.clear();
        turn.effects.push(Effect::Note(format!(
            "won epoch {epoch}; fence: {}; loss: {}",
            win.fence_words(),
            win.loss
        )));
        if let Some((from, target)) = win.fetch.clone().filter(|_| !climb) {
            let system = self.voter.record().data.system;
            let upstream = Upstream { node: from.clone(), epoch, history: None, system };
            self.set_goal(Goal::Standby { upstream: Some(upstream), may_init: false }, turn);
            let holder = self.new_holder(&claim);
            let reached = self.resource.position;
            if let Some(attempt) = &mut self.attempt {
                attempt.stage = Stage::Fetching {
                    claim,
                    win: Box::new(win),
                    target,
                    from,
                    holder: Box::new(holder),
                    renew_at: now,
                    reached,
                    until: now + FETCH_MAX,
                };
            }
            turn.effects.push(Effect::Report);
            self.mind_fetching(now, turn);
            return;
        }
        let holder = self.new_holder(&claim);
        self.take_role(now, &claim, &win, holder, turn);
    }

    /// Gives up what it won: what it would lose, and on whose word, is part of the reason.
    fn refuse(&mut self, why: &str, claim: &Claim, win: Win, turn: &mut Turn) {
        let granted = claim.granted_by().map(|m| m.node.clone()).collect();
        self.abandon(&format!("{why}: {}", win.loss.reason()), turn);
        if let Some(armed) = &mut self.last_armed {
            (armed.fence, armed.loss, armed.granted) = (Some(win.fence), Some(win.loss), granted);
        }
    }

    /// The lease that was won counts from when it was claimed.
    fn new_holder(&self, claim: &Claim) -> Holder {
        let request = claim.request();
        let voters = request.voters.clone();
        let round = self.setup.first_round + request.epoch.0 * 1_000_000;
        let (me, sync) = (self.setup.me.clone(), request.sync.clone());
        let mut holder = Holder::new(me, request.epoch, voters, sync, self.setup.terms, round);
        for voter in claim.granted_by() {
            holder.granted(voter, claim.sent());
        }
        holder
    }

    fn mind_fetching(&mut self, now: Timestamp, turn: &mut Turn) {
        let here = self.resource.position;
        let interval = self.renew_interval();
        let Some(Attempt {
            stage: Stage::Fetching { claim, win, target, from, holder, renew_at, reached, until },
            ..
        }) = &mut self.attempt
        else {
            return;
        };
        if here.is_some_and(|p| p.timeline == target.timeline && p.lsn >= target.lsn)
            && !self.resource.writable
        {
            let (claim, win, holder) = (claim.clone(), win.clone(), holder.clone());
            self.take_role(now, &claim, &win, *holder, turn);
            return;
        }
        if here > *reached {
            (*reached, *until) = (here, now + FETCH_MAX);
        }
        if now >= *until {
            let why = format!(
                "could not fetch log up to {target} from {from}: nothing more came for {FETCH_MAX}"
            );
            self.abandon(&why, turn);
        } else if !holder.holds(now) {
            let why = format!("the lease ran out while log up to {target} came from {from}");
            self.abandon(&why, turn);
        } else if now >= *renew_at {
            *renew_at = now + interval;
            let mut holder = holder.clone();
            self.send_renewal(now, &mut holder, None, turn);
            if let Some(Attempt { stage: Stage::Fetching { holder: kept, .. }, .. }) =
                &mut self.attempt
            {
                *kept = holder;
            }
        }
    }

    /// The lease that is won and not yet used, while log is fetched.
    pub(super) fn fetching_holder(attempt: &mut Option<Attempt>) -> Option<&mut Holder> {
        match attempt.as_mut().map(|a| &mut a.stage) {
            Some(Stage::Fetching { holder, .. }) => Some(holder),
            _ => None,
        }
    }

    fn take_role(
        &mut self,
        now: Timestamp,
        claim: &Claim,
        win: &Win,
        mut holder: Holder,
        turn: &mut Turn,
    ) {
        let request = claim.request();
        let climb = self.attempt.as_ref().is_some_and(|a| a.reason == Reason::Climb);
        // Durable before the database may write: from here on the epoch may have been written in.
        let said = self.voter.mark_won(request.epoch, !climb);
        Self::persist(turn, said.persist);
        let sync = request.sync.sets.last().cloned().unwrap_or_default();
        if let Tenure::Holding { holder: before, .. } = &self.tenure
            && climb
        {
            // The same database: what was wrong with its commits still is.
            holder.keep_doubt(before.doubt().clone());
        } else if let Some(doubt) = self.doubt_taken_back() {
            holder.keep_doubt(doubt);
        }
        holder.keep_loose(win.loose.clone());
        let promoted = match &self.tenure {
            Tenure::Holding { promoted, .. } if climb => promoted.clone(),
            Tenure::None
            | Tenure::Resuming { .. }
            | Tenure::Holding { .. }
            | Tenure::Ending { .. } => None,
        };
        if let Some((_, digest)) = self.attempt.as_ref().and_then(Attempt::plan) {
            self.last_armed = Some(ArmedFacts {
                plan: digest.clone(),
                stage: ArmedStage::Promoting,
                epoch: Some(request.epoch),
                fence: Some(win.fence),
                loss: Some(win.loss.clone()),
                granted: vec![],
                why: String::new(),
            });
        }
        self.attempt = None;
        // The guard is told its deadline before the database may write.
        self.begin_holding(now, holder, promoted, turn);
        self.set_goal(Goal::Primary { epoch: request.epoch, sync }, turn);
        self.mind_tenure(now, turn);
    }

    /// Its own log goes on, and with it what was acknowledged in it and may be nowhere else.
    fn doubt_taken_back(&self) -> Option<Doubt> {
        let record = self.voter.record();
        let last = record.history.iter().rev().find(|h| h.promoted)?;
        let mine = last.holder == self.setup.me && last.doubt.why.is_some();
        mine.then(|| last.doubt.clone())
    }

    /// Gives an attempt up. An epoch that was claimed is abandoned durably, then released, so that
    /// nobody waits for it.
    pub(super) fn abandon(&mut self, why: &str, turn: &mut Turn) {
        let Some(attempt) = self.attempt.take() else { return };
        self.complaint = format!("gave up: {why}");
        turn.effects.push(Effect::Note(self.complaint.clone()));
        if let Some((_, digest)) = attempt.plan() {
            let stage = ArmedStage::Abandoned;
            self.last_armed = Some(ArmedFacts {
                plan: digest.clone(),
                stage,
                epoch: None,
                fence: None,
                loss: None,
                granted: vec![],
                why: why.to_owned(),
            });
        }
        let claimed = match &attempt.stage {
            Stage::Claiming { claim, .. } | Stage::Fetching { claim, .. } => {
                Some(claim.request().epoch)
            }
            Stage::Asking { .. } => None,
        };
        if attempt.reason == Reason::Climb {
            // The database runs in the old epoch; if that was lost the fence has begun already.
        } else if let Some(epoch) = claimed {
            // Also one that it has not voted for itself: others may have granted it.
            self.cut(turn);
            self.release(epoch, None, false, turn);
        }
        if matches!(attempt.reason, Reason::Reclaim | Reason::Found) {
            self.found_reclaim = Some(self.now + self.setup.reclaim_after);
        }
        turn.effects.push(Effect::Report);
    }

    pub(super) fn answered(&mut self, answer: Answer) {
        let Some(attempt) = &mut self.attempt else { return };
        attempt.highest = attempt.highest.max(answer.epoch);
        if let Some(refusal) = answer.refusal.as_ref().filter(|r| !fine(r)) {
            attempt.why = format!("{}: {refusal}", answer.voter.node);
        }
        if let Stage::Asking { answers, .. } = &mut attempt.stage {
            answers.insert(answer.voter.clone(), answer);
        }
    }

    pub(super) fn granted(&mut self, grant: Grant, turn: &mut Turn) {
        let asked = match self.attempt.as_ref().map(|a| &a.stage) {
            Some(Stage::Claiming { claim, .. }) => Some(claim.sent()),
            _ => None,
        };
        if self.is_restored(&grant.voter, grant.writes, asked) {
            return;
        }
        // Who held the role since this node did.
        let said = self.voter.learn(&grant.said.history);
        Self::persist(turn, said.persist);
        if let Some(Attempt { stage: Stage::Claiming { claim, .. }, .. }) = &mut self.attempt {
            claim.grant(grant);
        }
    }

    pub(super) fn claim_refused(&mut self, by: &NodeId, refusal: &Refusal) {
        if let Some(attempt) = &mut self.attempt {
            if let Refusal::NewerEpoch { epoch, .. } = refusal {
                attempt.highest = attempt.highest.max(*epoch);
            }
            attempt.why = format!("{by}: {refusal}");
        }
    }

    /// No plan and no person stands behind the attempt.
    fn decides_alone(&self) -> bool {
        let reason = self.attempt.as_ref().map(|a| &a.reason);
        matches!(reason, Some(Reason::Reclaim | Reason::Found))
    }

    /// It held the role in the newest epoch that is known to be won, and still has that database.
    pub(super) fn is_incumbent(&self) -> bool {
        self.resource.has_data
            && self.data_fault().is_none()
            && self.voter.record().last_won().is_some_and(|won| won.holder == self.setup.me)
    }

    /// A former holder takes the role back when nobody else did.
    pub(super) fn mind_reclaim(&mut self, now: Timestamp, turn: &mut Turn) {
        if self.idle_at.is_some_and(|at| now >= at) && !planted(Bug::StaysStopped) {
            self.idle_at = None;
            let idle = matches!(self.goal, Goal::Stopped(_))
                && self.attempt.is_none()
                && self.resource.stopped.is_some();
            if idle && self.resource.has_data && self.is_settled() {
                // Nobody can be followed: cut off but running, it can at least say where its log
                // ends.
                self.cut(turn);
            }
        }
        let Some(at) = self.found_reclaim else { return };
        let record = self.voter.record();
        if record.is_won() && record.holder.as_ref() != Some(&self.setup.me) {
            self.found_reclaim = None;
            return;
        }
        if now >= at && self.attempt.is_none() && matches!(self.tenure, Tenure::None) {
            let never_held = self.setup.founder && self.is_unborn();
            if self.is_incumbent() || never_held {
                self.found_reclaim = None;
                turn.effects.push(Effect::Note("nobody took the role: taking it back".into()));
                self.cut(turn);
                let reason = if never_held { Reason::Found } else { Reason::Reclaim };
                self.attempt = Some(Attempt::new(now, reason, Epoch(0)));
            } else {
                // Not yet, or not any more: looked at again later.
                self.found_reclaim = Some(now + self.setup.reclaim_after);
            }
        }
    }
}

/// A node may decide alone that it takes the role: nothing is lost, but for what two persons
/// accepted with an override.
fn loses_nothing(record: &VoterRecord, claim: &Claim, win: &Win) -> bool {
    win.loss.within(0) || (record.unknown_accepted && claim.account().known_loss().within(0))
}

/// An ask that only waits for a cut would be granted.
pub(super) fn fine(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::Cutting)
}

fn answers_win(answers: &BTreeMap<Member, Answer>, voters: &VoterSet) -> bool {
    let yes = answers
        .values()
        .filter(|a| voters.contains(&a.voter) && a.refusal.as_ref().is_none_or(fine))
        .count();
    yes >= voters.majority()
}
