//! What would happen next, and what if: its values as clauses.

use super::number;
use super::said::{Ink, Said};
use super::ways;
use crate::model::outlook::{Answer, Count, Death, ForecastView, IfDied, Next, Outlook, Then};
use crate::model::share::Pattern;
use crate::model::{Span, WallTime};

/// What happens next by itself, where no clock of the phase says it.
pub fn next(next: &Next, answer: &Answer) -> Said {
    Said::text(match next {
        Next::FirstPrimary => "waits for a first primary".into(),
        Next::Nothing => "nothing moves by itself while this holds".into(),
        Next::Judged { by_itself: false } => "what can be done is judged now".into(),
        Next::Judged { by_itself: true } => "it is judged now whether a failover begins".into(),
        Next::Stuck { primary, count } => {
            return Said::text("nothing by itself").then(1, ": ").say(
                Ink::Text,
                format!("{}, to conclude that {primary} failed", in_reach(*count)),
            );
        }
        Next::Suspected { by_itself } => {
            let what = if *by_itself { "a failover begins" } else { "a plan for a person is made" };
            format!("{what} when a quorum of observers concludes that it failed")
        }
        Next::Decided => "a plan is made from the best candidate".into(),
        Next::Waits { left: None, .. } => "nothing by itself".into(),
        Next::Waits { by_itself, left: Some(left) } => {
            let said = Said::text("nothing, until a person executes or dismisses the plan");
            let said = if *by_itself {
                said.then(1, " ").say(Ink::Text, "(if the primary fails, a failover begins)")
            } else {
                said
            };
            return said.then(1, "; ").say(Ink::Text, format!("it expires in {left}"));
        }
        Next::Pending { left } => {
            return Said::text("nothing by itself while a plan waits for a person")
                .then(1, "; ")
                .say(Ink::Text, format!("it expires in {left}"));
        }
        Next::Person { retry: None } => return Said::text("nothing; a person decides"),
        Next::Person { retry: Some(left) } => {
            return Said::text("a person decides")
                .then(1, "; ")
                .say(Ink::Text, format!("by itself a new plan is made in {left}"));
        }
        Next::Sought { every, why } => {
            let said = Said::text(format!("a move is looked for every {every}"));
            // Why none is made stands in the answer.
            return match answer {
                Answer::Refused { why: told, .. } | Answer::Passes { why: told, .. }
                    if told == why =>
                {
                    said
                }
                _ => said.then(1, " while: ").and(1, "", Said::from_words(why, Ink::Text)),
            };
        }
        Next::Stabilises => "back to steady".into(),
        Next::Afresh => "a new plan, if the primary is still failed".into(),
        Next::Runs => "the run goes on by itself, also without this plane".into(),
        Next::NoPlane { held: true } => {
            return Said::text("the primary keeps its role while a majority of voters promises")
                .then(1, "; ")
                .say(Ink::Text, "a failover takes a plane: start one");
        }
        Next::NoPlane { held: false } => "nobody fails over without a plane: start one".into(),
        Next::Words(words) => return Said::from_words(words, Ink::Text),
    })
}

/// What happens, or why nothing does.
pub fn answer(answer: &Answer) -> Said {
    Said::text(match answer {
        Answer::NotSaid => return Said::new(),
        Answer::NeverHeld => "no node ever held the write role here".into(),
        Answer::Runs { plan, step: None } => format!("plan {} runs: verified", plan.short()),
        Answer::Runs { plan, step: Some((kind, node, found)) } => {
            format!("plan {} runs: {} on {node}: {found}", plan.short(), kind.word())
        }
        Answer::Waits { plan, what } => {
            format!("plan {} waits for a person: {what}", plan.short())
        }
        Answer::NobodyMay { last, count } => {
            return Said::text(format!("nobody may hold the role: {}", in_reach(*count)))
                .then(1, "; ")
                .say(Ink::Text, format!("{last} held it last"));
        }
        Answer::Refused { primary, why } => {
            let said = Said::text(format!("{primary} failed, and nothing is done: "));
            return said.and(0, "", Said::from_words(why, Ink::Text));
        }
        Answer::Failed { primary, why } => format!("{primary} failed ({why}): a target is sought"),
        Answer::Suspect { primary, why } => {
            format!("{primary} is suspect, nobody concluded that it failed: {why}")
        }
        Answer::NotHeard { primary } => {
            format!("{primary} was not heard yet: unknown is not failed")
        }
        Answer::Shared { pattern, why } => {
            return Said::text(format!("nothing moves: {}", pattern_words(*pattern)))
                .then(1, "; ")
                .and(1, "", Said::from_words(why, Ink::Text));
        }
        Answer::NotWell { primary, why, ready } => {
            return Said::text("nothing moves, and all is not well: ")
                .and(0, "", Said::from_words(why, Ink::Text))
                .then(2, "; ")
                .say(
                    Ink::Text,
                    format!("{primary} holds the role, and {} take it", could(*ready)),
                );
        }
        Answer::Well { primary, verdict, ready } => {
            let word = verdict.word();
            return Said::text(format!(
                "nothing moves because {primary} holds the role and is {word}"
            ))
            .then(1, "; ")
            .say(Ink::Text, format!("{} take it", could(*ready)));
        }
        Answer::Passes { phase, why } if why.is_empty() => {
            format!("{}: it passes by itself", phase.word())
        }
        Answer::Passes { phase, why } => {
            let said = Said::text(format!("{}: ", phase.word()));
            return said.and(0, "", Said::from_words(why, Ink::Text));
        }
        Answer::Words(words) => return Said::from_words(words, Ink::Text),
    })
}

fn could(ready: usize) -> String {
    match ready {
        0 => "no node could".into(),
        1 => "1 node could".into(),
        n => format!("{n} nodes could"),
    }
}

fn in_reach(count: Count) -> String {
    format!("{} of {} voters in reach, {} needed", count.reachable, count.voters, count.needed)
}

/// Who accepts writes.
fn pattern_words(pattern: Pattern) -> &'static str {
    match pattern {
        Pattern::ActivePassive => "one node accepts writes",
        Pattern::ActiveActive => "every node with a share accepts writes",
        Pattern::Hybrid => {
            "the nodes with a share accept writes; the others stand by for what those cannot carry"
        }
    }
}

/// What stands before it: a death, or what it follows.
pub fn label(outlook: &Outlook) -> &'static str {
    match &outlook.if_primary_died {
        IfDied::Judged(death) if death.failed => "now",
        _ => "if it died",
    }
}

/// In one line, behind its label: what follows, what it costs, and what cannot be survived; `limit`
/// is the policy's for the time without writes.
pub fn in_short(outlook: &Outlook, limit: Span) -> Said {
    let death = match &outlook.if_primary_died {
        IfDied::Judged(death) => death,
        IfDied::Words(words) => return Said::from_words(words, Ink::Text),
        IfDied::NotSaid => return Said::new().say(Ink::Unknown, "nobody said yet"),
    };
    let time = match &death.then {
        Then::Promotes { held_up, .. } if !held_up.is_empty() => Said::new(),
        Then::Promotes { asks, measured, bound, .. } => match &outlook.forecast {
            Some(f) if f.read_only == 0 => rto(f, limit),
            f => without_rto(f.as_ref(), *asks, *measured, *bound),
        },
        _ => Said::new(),
    };
    follows(death, time, 1)
}

/// All of it as of then: with how it was found out.
pub fn at_length(outlook: &Outlook, made: WallTime) -> Said {
    let death = match &outlook.if_primary_died {
        IfDied::Judged(death) => death,
        IfDied::Words(words) => return Said::from_words(words, Ink::Text),
        IfDied::NotSaid => return Said::new(),
    };
    let time = match &death.then {
        Then::Promotes { held_up, .. } if !held_up.is_empty() => Said::new(),
        Then::Promotes { asks, measured, bound, .. } => match &outlook.forecast {
            Some(f) if f.read_only == 0 => simulated(f, *measured, made),
            f => without_rto(f.as_ref(), *asks, *measured, *bound),
        },
        _ => Said::new(),
    };
    let node = &death.node;
    let head =
        if death.failed { format!("{node} has failed") } else { format!("if {node} died now") };
    Said::text(head + " → ").and(0, "", follows(death, time, 1))
}

fn follows(death: &Death, time: Said, rank: u8) -> Said {
    let said = match &death.then {
        Then::NoPlane { takes_back } => {
            let said = Said::text("no plane: nobody is promoted");
            if *takes_back {
                said.then(1, "; ").say(Ink::Text, "its agent takes the role back when it can")
            } else {
                said
            }
        }
        Then::Shared { gains, shed } => {
            let mut said = Said::new();
            for (i, gain) in gains.iter().enumerate() {
                let promoted = if gain.promoted { " (promoted)" } else { "" };
                let words = format!("{} {} → {}{promoted}", gain.node, gain.before, gain.after);
                said = said.then(u8::from(i > 0), ", ").say(Ink::Text, words);
            }
            if gains.is_empty() {
                said = said.say(Ink::Bad, "nobody can take more");
            }
            if *shed > 0 {
                said = said.then(0, " · ").say(Ink::Bad, format!("{shed} units are refused"));
            }
            said.then(1, " · ").say(Ink::Text, "its newest writes wait on it until it is back")
        }
        Then::NoQuorum { count } => {
            Said::text(format!("nobody could promote: {}", in_reach(*count)))
        }
        Then::NobodyEligible { failing } => {
            let mut said = Said::text("nobody could promote");
            for (i, (node, names)) in failing.iter().enumerate() {
                let join = if i == 0 { ": " } else { "; " };
                let words = format!("{node} ({})", names.join(", "));
                said = said.then(u8::from(i > 0), join).say(Ink::Text, words);
            }
            said
        }
        Then::HeldBack { check } => {
            Said::text(format!("nothing by itself: {}: {}", check.name, check.value))
                .then(1, "; ")
                .say(Ink::Text, format!("what would change it: {}", check.would_change))
        }
        Then::TooMuch { loss, limit } => {
            Said::text("nothing by itself, as things are: the loss would be ")
                .and(0, "", ways::loss(loss))
                .say(Ink::Text, format!(" and the policy tolerates {}", number::bytes(*limit)))
                .then(1, "; ")
                .say(Ink::Text, "a person may accept it")
        }
        Then::Promotes { to, asks, held_up, loss, .. } => {
            let who = if *asks { "after a person's word " } else { "" };
            let mut said = Said::text(format!("{who}{to} promotes"));
            if !held_up.is_empty() {
                said = said.then(0, ", ").say(
                    Ink::Warn,
                    format!("once what holds it up is ended or lifted ({held_up})"),
                );
            }
            said.then(0, " · loss ").and(0, "", ways::loss(loss)).and(rank, " · ", time)
        }
    };
    match death.fatal_host {
        // That the half of what may happen cannot be survived is never left out.
        Some(count) => said.then(0, " · ").say(
            Ink::Warn,
            format!(
                "with its whole host nobody could: {} of {} voters needed would be left",
                count.reachable, count.needed
            ),
        ),
        None => said,
    }
}

/// Of its whole host, where that takes longer than of its database alone: nobody knows beforehand
/// which it will be.
pub(super) fn rto(f: &ForecastView, limit: Span) -> Said {
    let host = Some(f.host_p50).filter(|_| f.host_read_only == 0).unwrap_or_default();
    let about = f.outage_p50.max(host);
    let (ink, over) = if about > limit { (Ink::Bad, "!") } else { (Ink::Text, "") };
    Said::new().say(
        ink,
        format!(
            "RTO\u{a0}≈\u{a0}{}{over}\u{a0}of\u{a0}{}",
            number::span(about),
            number::span(limit)
        ),
    )
}

fn simulated(f: &ForecastView, measured: Option<Span>, now: WallTime) -> Said {
    let age = Span::millis(u64::try_from(now.0 - f.made.0).unwrap_or(0));
    let lost = if f.losing > 0 {
        format!(", {} runs lose up to {} writes", f.losing, f.lost_max)
    } else {
        String::new()
    };
    let host = match f.host_read_only {
        0 => format!("whole host ≈ {}", f.host_p50),
        n => format!("whole host: {n} of {} runs end read-only", f.runs / 2),
    };
    let last = last(measured);
    Said::text(format!(
        "RTO ≈ {} (p95 {}, p99 {}), {host}{lost} ({} runs, simulated {age} ago{last})",
        f.outage_p50, f.outage_p95, f.outage_p99, f.runs
    ))
}

fn without_rto(f: Option<&ForecastView>, asks: bool, measured: Option<Span>, bound: Span) -> Said {
    let last = last(measured);
    match f {
        Some(_) if asks => Said::text(format!("it stays read-only until a person acts{last}")),
        Some(f) => Said::new().say(
            Ink::Bad,
            format!("{} of {} simulated runs end read-only{last}", f.read_only, f.runs / 2),
        ),
        None => Said::text(format!("RTO not simulated yet{last}"))
            .then(1, "; ")
            .say(Ink::Text, format!("up to {bound} more if its whole host is lost")),
    }
}

fn last(measured: Option<Span>) -> String {
    measured.map_or(String::new(), |last| format!("; last measured {last}"))
}
