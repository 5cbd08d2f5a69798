//! Clauses, numbers, filters.

use super::said::{Ink, Said, line_of, wrap_words};
use super::{number, outlook};
use crate::model::loss::LossAccount;
use crate::model::outlook::{Answer, Count, Death, Gain, IfDied, Next, Outlook, Then};
use crate::model::plan::{Check, StepKind};
use crate::model::share::Pattern;
use crate::model::view::{Phase, Verdict};
use crate::model::{Digest, NodeId, Span, WallTime};

fn lines(said: &Said, width: usize, rows: usize) -> Vec<String> {
    said.fit(width, rows).iter().map(|l| line_of(l)).collect()
}

#[test]
fn whole_clauses_go_and_their_number_is_said() {
    let said = Said::text("node-1 takes writes")
        .then(2, "; ")
        .say(Ink::Text, "every node is well")
        .then(1, "; ")
        .say(Ink::Text, "commits are confirmed");
    assert_eq!(
        lines(&said, 80, 1),
        ["node-1 takes writes; every node is well; commits are confirmed"]
    );
    assert_eq!(lines(&said, 50, 1), ["node-1 takes writes; commits are confirmed +1"]);
    assert_eq!(lines(&said, 30, 1), ["node-1 takes writes +2"]);
    assert_eq!(lines(&said, 12, 1), ["node-1 takes", "writes +2"], "rank 0 always stays");
    assert_eq!(said.least(12), 2);
}

#[test]
fn no_letter_is_lost_whatever_the_width() {
    let text =
        "pg-a-name-of-sixty-cells-0123456789-0123456789-0123456789-01 fällt aus; 読み取り専用";
    for width in 4..90 {
        let squeezed: String =
            wrap_words(text, width).concat().chars().filter(|c| *c != ' ').collect();
        let wanted: String = text.chars().filter(|c| *c != ' ').collect();
        assert_eq!(squeezed, wanted, "at {width}");
        for line in wrap_words(text, width) {
            assert!(unicode_width::UnicodeWidthStr::width(line.as_str()) <= width, "{line:?}");
        }
    }
}

#[test]
fn numbers_read_as_people_read_them() {
    let plain = |text: String| text.replace('\u{a0}', " ");
    assert_eq!(plain(number::span(Span::millis(31))), "31 ms");
    assert_eq!(plain(number::span(Span::millis(746))), "0.7 s");
    assert_eq!(plain(number::span(Span::secs(378))), "6 min 18 s");
    assert_eq!(plain(number::span(Span::secs(11 * 86_400))), "11 d");
    assert_eq!(plain(number::countdown(Span::millis(9_840))), " 9.8 s");
    assert_eq!(plain(number::countdown(Span::secs(161))), "  2:41");
    assert_eq!(number::age(Span::secs(378)), "6:18");
    assert_eq!(plain(number::bytes(0)), "0 B");
    assert_eq!(plain(number::bytes(98_304)), "96 KiB");
    assert_eq!(plain(number::bytes(1_300_000)), "1.2 MiB");
    assert_eq!(plain(number::of_limit(43 << 20, 16 << 20)), "43 of 16 MiB");
    assert_eq!(number::count(1_204_831), "1,204,831");
}

/// Widths of a countdown and of an age in a table hold while they pass.
#[test]
fn a_countdown_keeps_its_width() {
    use unicode_width::UnicodeWidthStr as _;
    for ms in (0..7_200_000).step_by(777) {
        assert_eq!(number::countdown(Span::millis(ms)).width(), 6, "{ms}");
        assert!(number::age(Span::millis(ms)).width() <= 6, "{ms}");
    }
}

/// Every value of what happens next, with that name; a new one does not compile here until it is
/// listed.
fn nexts(name: &str) -> Vec<Next> {
    let count = Count { reachable: 12, voters: 25, needed: 13 };
    let why = format!("{name} is not heard, and nobody else may take the role");
    let left = Span::secs(599);
    let all = vec![
        Next::FirstPrimary,
        Next::Nothing,
        Next::Judged { by_itself: false },
        Next::Judged { by_itself: true },
        Next::Stuck { primary: name.into(), count },
        Next::Suspected { by_itself: true },
        Next::Decided,
        Next::Waits { by_itself: true, left: Some(left) },
        Next::Waits { by_itself: false, left: None },
        Next::Pending { left },
        Next::Person { retry: Some(left) },
        Next::Person { retry: None },
        Next::Sought { every: Span::secs(10), why },
        Next::Stabilises,
        Next::Afresh,
        Next::Runs,
        Next::NoPlane { held: true },
        Next::NoPlane { held: false },
        Next::Words("nothing moves by itself while this holds".into()),
    ];
    for next in &all {
        match next {
            Next::FirstPrimary
            | Next::Nothing
            | Next::Judged { .. }
            | Next::Stuck { .. }
            | Next::Suspected { .. }
            | Next::Decided
            | Next::Waits { .. }
            | Next::Pending { .. }
            | Next::Person { .. }
            | Next::Sought { .. }
            | Next::Stabilises
            | Next::Afresh
            | Next::Runs
            | Next::NoPlane { .. }
            | Next::Words(_) => {}
        }
    }
    all
}

fn answers(name: &str) -> Vec<Answer> {
    let primary = NodeId::from(name);
    let count = Count { reachable: 12, voters: 25, needed: 13 };
    let why = format!("{name} was not heard for 9.8 s");
    let plan = Digest::new("sha256:0011223344556677");
    let all = vec![
        Answer::NotSaid,
        Answer::NeverHeld,
        Answer::Runs { plan: plan.clone(), step: None },
        Answer::Runs {
            plan: plan.clone(),
            step: Some((StepKind::Promote, primary.clone(), "it starts".into())),
        },
        Answer::Waits { plan, what: format!("failover {name} → {name}") },
        Answer::NobodyMay { last: primary.clone(), count },
        Answer::Refused { primary: primary.clone(), why: why.clone() },
        Answer::Failed { primary: primary.clone(), why: why.clone() },
        Answer::Suspect { primary: primary.clone(), why: why.clone() },
        Answer::NotHeard { primary: primary.clone() },
        Answer::Shared { pattern: Pattern::Hybrid, why: why.clone() },
        Answer::NotWell { primary: primary.clone(), why: why.clone(), ready: 1 },
        Answer::Well { primary, verdict: Verdict::Healthy, ready: 0 },
        Answer::Passes { phase: Phase::Deciding, why },
        Answer::Words("nothing moves".into()),
    ];
    for answer in &all {
        match answer {
            Answer::NotSaid
            | Answer::NeverHeld
            | Answer::Runs { .. }
            | Answer::Waits { .. }
            | Answer::NobodyMay { .. }
            | Answer::Refused { .. }
            | Answer::Failed { .. }
            | Answer::Suspect { .. }
            | Answer::NotHeard { .. }
            | Answer::Shared { .. }
            | Answer::NotWell { .. }
            | Answer::Well { .. }
            | Answer::Passes { .. }
            | Answer::Words(_) => {}
        }
    }
    all
}

fn deaths(name: &str) -> Vec<Death> {
    let count = Count { reachable: 12, voters: 25, needed: 13 };
    let loss = LossAccount::Unknown { why: format!("{name} is not heard") };
    let check = Check {
        name: "maintenance".into(),
        value: format!("{name} is being worked on").into(),
        limit: "nobody".into(),
        would_change: "the end of the window, or a person's word".into(),
        passed: false,
        source: "policy".into(),
        age: None,
    };
    let promotes = |held_up: &str, asks| Then::Promotes {
        to: name.into(),
        asks,
        held_up: held_up.into(),
        loss: loss.clone(),
        measured: Some(Span::millis(146)),
        bound: Span::secs(6),
    };
    let thens = vec![
        Then::NoPlane { takes_back: true },
        Then::Shared {
            gains: vec![
                Gain { node: name.into(), before: 0, after: 400, promoted: true },
                Gain { node: name.into(), before: 300, after: 400, promoted: false },
            ],
            shed: 200,
        },
        Then::NoQuorum { count },
        Then::NobodyEligible { failing: vec![(name.into(), vec!["heard".into()])] },
        Then::HeldBack { check: Box::new(check) },
        Then::TooMuch { loss: loss.clone(), limit: 0 },
        promotes("", true),
        promotes("replay is paused", false),
    ];
    for then in &thens {
        match then {
            Then::NoPlane { .. }
            | Then::Shared { .. }
            | Then::NoQuorum { .. }
            | Then::NobodyEligible { .. }
            | Then::HeldBack { .. }
            | Then::TooMuch { .. }
            | Then::Promotes { .. } => {}
        }
    }
    let death = |then| {
        let fatal = matches!(then, Then::TooMuch { .. } | Then::Promotes { .. });
        Death { node: name.into(), failed: false, then, fatal_host: fatal.then_some(count) }
    };
    thens.into_iter().map(death).collect()
}

/// What decides is whole at 80 columns, with names of 20 and of 60 cells, in few lines; nothing of
/// the rest is cut, it wraps.
#[test]
fn every_value_is_said_within_its_lines_whatever_the_name() {
    for (cells, rows) in [(20, 3), (60, 5)] {
        let name: String = "pg-東京-0123456789-abcdefghijklmnopqrstuvwxyz-0123456789-ab"
            .chars()
            .take(cells - 2)
            .collect();
        let mut all: Vec<Said> = answers(&name).iter().map(outlook::answer).collect();
        let mut long: Vec<Said> = vec![];
        all.extend(nexts(&name).iter().map(|n| outlook::next(n, &Answer::NotSaid)));
        for death in deaths(&name) {
            let outlook =
                Outlook { if_primary_died: IfDied::Judged(Box::new(death)), ..Outlook::default() };
            all.push(outlook::in_short(&outlook, Span::secs(30)));
            long.push(outlook::at_length(&outlook, WallTime(0)));
        }
        for said in &all {
            // Twelve cells are the label's.
            let lines: Vec<String> = said.fit(67, rows).iter().map(|l| line_of(l)).collect();
            assert!(lines.len() <= rows, "{cells} cells: {lines:#?}");
        }
        for said in all.iter().chain(&long) {
            let whole: String = said.whole(67).iter().map(|l| line_of(l)).collect();
            let letters = |t: &str| t.replace([' ', '\u{a0}'], "");
            assert_eq!(letters(&whole), letters(&said.to_string()));
        }
    }
}

/// A console may be newer than its plane, or open its last picture of before.
#[test]
fn words_of_an_older_plane_are_read() {
    let old = r#"{"next":"nothing moves by itself","if_primary_died":"if n1 died now → n2",
        "answer":"nothing moves","candidates":[]}"#;
    let outlook: Outlook = serde_json::from_str(old).unwrap();
    assert_eq!(outlook.next, Next::Words("nothing moves by itself".into()));
    assert_eq!(outlook.if_primary_died, IfDied::Words("if n1 died now → n2".into()));
    for next in nexts("n1") {
        let text = serde_json::to_string(&next).unwrap();
        assert_eq!(serde_json::from_str::<Next>(&text).unwrap(), next, "{text}");
    }
    for answer in answers("n1") {
        let text = serde_json::to_string(&answer).unwrap();
        assert_eq!(serde_json::from_str::<Answer>(&text).unwrap(), answer, "{text}");
    }
    for death in deaths("n1") {
        let if_died = IfDied::Judged(Box::new(death));
        let text = serde_json::to_string(&if_died).unwrap();
        assert_eq!(serde_json::from_str::<IfDied>(&text).unwrap(), if_died, "{text}");
    }
}
