//! The numbered rules: which transition happened, and the sentence for it. The number is in every
//! record. Sections: 1xx evidence, 2xx suspicion, 3xx deciding, 4xx a run, 5xx afterwards, 9xx the
//! plane itself.

use super::RuleId;

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        $($(#[$doc])* #[doc = $text] pub const $name: RuleId = $number;)*
        /// All rules in order.
        pub const RULES: &[(RuleId, &str)] = &[$(($number, $text)),*];
    };
}

rules! {
    VERDICT = 102, "A node's verdict changed: by its own word, by silence, or by the votes of its \
        observers.";
    CLUSTER_STATE = 103, "The cluster's state changed.";
    FOUND = 105, "On a node something was found that nobody ordered: what it was, and what was \
        done about it.";
    ROLE_TAKEN = 106, "A node holds a newer epoch that no run of this plane was to win: it took its \
        role back by itself, or another plane moved it.";
    SUSPECTING = 201, "The primary is silent or contradicted, and a quorum has not concluded that \
        it failed.";
    HEARD_AGAIN = 202, "The primary holds the role again before anything was begun: nothing moves.";
    GAVE_BACK = 301, "The holder gave the role back with its database stopped: no waiting, a \
        target is sought at once.";
    FAILED = 302, "A quorum of observers concluded that the primary failed: a target is sought.";
    PLAN_RUNS = 310, "A plan was made and the policy allows it: it runs.";
    PLAN_WAITS = 311, "A plan was made and the policy wants a person: it waits.";
    NO_CANDIDATE = 312, "No plan can be made; each candidate's failing check is recorded.";
    HELD_BACK = 314, "A constraint of the policy holds the plane back: which, what was measured, \
        and what would change it.";
    GRACEFUL = 303, "The primary's health score was below the graceful class for long enough: its \
        role is handed over while it works.";
    NO_GOOD_TARGET = 315, "The primary is unwell and no target is well enough: a person decides.";
    FAILS_BACK = 316, "The policy fails back by itself and the preferred node has been well for \
        long enough.";
    SHARES_APART = 317, "Agents keep different shares of the traffic and no majority ends it: \
        they are set anew.";
    LOAD_REFUSED = 318, "Load is refused that somebody could carry: shares are set anew.";
    FLEET_PAUSED = 104, "Too many suspicions at once incriminate the observer: automatic action \
        pauses, or goes on.";
    WORLD_MOVED = 313, "The epoch a plan was made in is over: the plan is void.";
    PROPOSED = 320, "A person asked for a plan; it waits for their confirmation.";
    EXECUTED = 401, "A person confirmed a plan: it runs.";
    COMMANDED = 402, "An order was sent to an agent, or sent again.";
    VERIFY_ASKED = 404, "A person wants the present state verified by a real write.";
    VOTERS_CHANGE = 420, "A person changes who votes and confirms commits; the holder carries it \
        out.";
    OVERRIDDEN = 421, "Two persons attest that voters are powered off and remove them without a \
        holder.";
    HISTORY = 422, "Two persons sign that what a node has is the cluster's history; accounts are \
        unknown until a later epoch is written in.";
    REQUEST_REFUSED = 423, "A request was refused: who asked for what, and why; those of strangers \
        together.";
    STEP_DONE = 403, "A step was verified: the next begins.";
    STEP_LATE = 411, "A step did not reach its verification, or not within its budget: the plan \
        stops for a person.";
    ABANDONED = 410, "The candidate gave its claim up; nothing was promoted.";
    ROLLED_BACK = 412, "The former holder took the role back: the plan is undone.";
    OVERTAKEN = 413, "Another node holds a newer epoch than the plan's: the plan is over.";
    DISARMED = 415, "A candidate still waited with a plan that does not run: it is told to forget \
        it.";
    REFUSED = 414, "An agent refused an order.";
    VERIFIED = 408, "Every part of the verification held, a real write read back among them: the \
        run is done.";
    UNPROVED = 409, "The role moved, but a part of the verification is missing.";
    STABLE = 501, "The stabilising time passed: checks are normal again.";
    APPROVAL_TIMEOUT = 502, "Nobody approved a plan in time: it is dropped.";
    DISMISSED = 503, "A person dropped a plan.";
    ACKNOWLEDGED = 504, "A person acknowledged what happened: cooldown, rate and crash loops \
        count anew.";
    DRAINED = 505, "A person drained a node: it is no target while its host may be stopped.";
    UNDRAINED = 506, "A drained node is one like the others again.";
    RESTARTED = 507, "A person has the server of a standby restarted.";
    RESTORED = 901, "The plane started again from its records.";
}

/// The sentence of a rule.
pub fn sentence(rule: RuleId) -> Option<&'static str> {
    RULES.iter().find(|(number, _)| *number == rule).map(|(_, text)| *text)
}
