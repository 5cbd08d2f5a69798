//! The gate: the typed name and nothing else executes.

use crossterm::event::{KeyEventKind, KeyEventState};

use super::super::model::{Model, Screen};

use super::*;
use crate::model::loss::LossAccount;

fn at_plan() -> Model {
    let mut m = model((80, 24), &[night::ledger_us()]);
    m.screen = Screen::Plan;
    m
}

#[test]
fn the_typed_name_and_nothing_else_executes() {
    let mut m = at_plan();
    open_gate(&mut m, 0);
    assert_eq!(press(&mut m, 300, KeyCode::Enter), [], "Enter alone cancels");
    assert!(m.overlay.is_none());
    open_gate(&mut m, 300);
    write(&mut m, 1_000, "pg-iad-2");
    assert_eq!(press(&mut m, 2_000, KeyCode::Enter), [], "another name");
    assert!(text(&m).contains("is the one that gets the role"), "{}", text(&m));
    write(&mut m, 2_100, "pg-iad-1");
    assert!(text(&m).contains("Enter executes it"), "{}", text(&m));
    let commands = press(&mut m, 2_500, KeyCode::Enter);
    let [Command::Change(Change::Execute(proof))] = commands.as_slice() else {
        panic!("{commands:?}")
    };
    let plan = night::ledger_us().plan.unwrap();
    assert_eq!((proof.demoted().as_str(), proof.plan()), ("pg-iad-1", &plan.digest()));
}

#[test]
fn nobody_reads_a_gate_in_less_than_a_second() {
    let mut m = at_plan();
    open_gate(&mut m, 0);
    write(&mut m, 210, "pg-iad-1");
    assert_eq!(press(&mut m, 400, KeyCode::Enter), []);
    assert!(text(&m).contains("read it first"), "{}", text(&m));
    assert!(matches!(
        press(&mut m, 1_300, KeyCode::Enter).as_slice(),
        [Command::Change(Change::Execute(_))]
    ));
}

#[test]
fn pastes_and_held_keys_are_refused() {
    let mut m = at_plan();
    open_gate(&mut m, 0);
    feed(&mut m, 300, Event::Paste("pg-iad-1".into()));
    assert!(text(&m).contains("a paste is not taken"));
    assert_eq!(press(&mut m, 1_310, KeyCode::Enter), [], "nothing was typed");
    open_gate(&mut m, 1_400);
    let held = KeyEvent {
        code: KeyCode::Char('p'),
        modifiers: KeyModifiers::NONE,
        kind: KeyEventKind::Repeat,
        state: KeyEventState::NONE,
    };
    feed(&mut m, 1_700, Event::Key(held));
    assert!(text(&m).contains("a held key is not typing"));
}

/// What changed is named inside the gate, its field is closed for good, and a key that was meant
/// for it never reaches the page behind.
#[test]
fn a_change_closes_the_field_and_is_named_inside() {
    let closed = |change: fn(&mut ClusterView)| {
        let mut m = at_plan();
        open_gate(&mut m, 0);
        write(&mut m, 400, "pg-iad-");
        let mut v = night::ledger_us();
        change(&mut v);
        feed(&mut m, 1_300, Event::View(Box::new(v)));
        write(&mut m, 1_400, "1q2");
        let shown = text(&m);
        assert!(shown.contains("Nothing was done"), "{shown}");
        assert!(!shown.contains('┏'), "a closed gate has no thick frame\n{shown}");
        assert_eq!(press(&mut m, 1_900, KeyCode::Enter), [], "{shown}");
        assert!(m.overlay.is_none() && m.screen == Screen::Plan);
        shown
    };
    assert!(closed(|v| v.epoch = crate::model::Epoch(42)).contains("epoch 41 → 42"));
    assert!(closed(|v| v.plan = None).contains("is gone"));
    assert!(closed(|v| v.plan.as_mut().unwrap().number = 8).contains("the plan changed"));
    let other = closed(|v| {
        v.plan.as_mut().unwrap().to = crate::model::Member::new("pg-pdx-1", "9c41");
    });
    assert!(other.contains("pg-iad-2 → pg-pdx-1"), "{other}");
    let mut m = at_plan();
    open_gate(&mut m, 0);
    feed(&mut m, 4_000, Event::Tick);
    assert!(text(&m).contains("picture is 4 s old"), "{}", text(&m));
}

#[test]
fn an_unknown_loss_is_accepted_by_its_word_before_the_name() {
    let mut view = night::ledger_us();
    let plan = view.plan.as_mut().unwrap();
    plan.loss = LossAccount::Unknown { why: "pg-iad-1 cannot be asked".into() };
    plan.accept_unknown_loss = true;
    let mut m = model((80, 24), &[view]);
    m.screen = Screen::Plan;
    open_gate(&mut m, 0);
    write(&mut m, 300, "pg-iad-1");
    assert_eq!(press(&mut m, 1_500, KeyCode::Enter), [], "the name alone does not do it");
    write(&mut m, 1_600, "unknown");
    assert_eq!(press(&mut m, 2_000, KeyCode::Enter), []);
    write(&mut m, 2_100, "pg-iad-1");
    assert!(matches!(
        press(&mut m, 2_500, KeyCode::Enter).as_slice(),
        [Command::Change(Change::Execute(_))]
    ));
}

#[test]
fn stale_read_only_frozen_and_planeless_sessions_cannot_ask_for_a_change() {
    let told = |prepare: fn(&mut Model), ms| {
        let mut m = model((80, 24), &[night::pay_ledger()]);
        prepare(&mut m);
        assert_eq!(command(&mut m, ms, "switchover pg-dub-2"), []);
        m.told.unwrap().text
    };
    assert!(told(|_| {}, 5_000).contains("old"));
    assert!(told(|m| m.access = Access::ReadOnly, 0).contains("read-only"));
    assert!(told(|m| m.frozen = m.seen().cloned().map(|s| (s, 0)), 0).contains("frozen"));
    assert!(
        told(|m| m.link = Link::Live { target: "agent node-2".into(), plane: false }, 0)
            .contains("no plane")
    );
}
