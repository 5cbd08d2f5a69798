//! Walks over keys: no execution without the whole name, Esc always retreats, only quit quits.

use std::collections::BTreeSet;

use super::super::command::Action;
use super::super::model::{Model, Screen};
use super::*;

fn alphabet() -> Vec<KeyCode> {
    "123468gfhlwn[-/?: 1q"
        .chars()
        .map(KeyCode::Char)
        .chain([
            KeyCode::Enter,
            KeyCode::Esc,
            KeyCode::Up,
            KeyCode::Down,
            KeyCode::Tab,
            KeyCode::Backspace,
        ])
        .collect()
}

/// What tells two states of the model apart for keys.
fn shape(m: &Model) -> String {
    format!(
        "{:?}|{:?}|{:?}|{:?}|{:?}|{:?}|{:?}|{:?}|{}",
        m.cluster,
        m.screen,
        m.overlay.as_ref().map(|o| match o {
            Overlay::Confirm(c) => format!("gate {} {:?} {:?}", c.typed, c.field, c.broken),
            Overlay::Sure(s) => format!("sure {}", s.typed),
            Overlay::Palette { input, selected } => format!("palette {} {selected}", input.value()),
            Overlay::Filter(input) => format!("filter {}", input.value()),
            other => format!("{other:?}"),
        }),
        m.selected,
        m.focus,
        m.filters,
        m.frozen.is_some(),
        m.prefix.as_ref().map(|(keys, _)| keys),
        m.theme.name,
    )
}

fn starts() -> Vec<Model> {
    let mut all = vec![];
    for screen in Screen::ALL {
        for view in [night::ledger_us(), night::orders_eu()] {
            let mut m = model((80, 24), &[view]);
            m.screen = screen;
            all.push(m);
        }
    }
    let mut gate = model((80, 24), &[night::ledger_us()]);
    open_gate(&mut gate, 0);
    all.push(gate.clone());
    // All but the last letter.
    write(&mut gate, 300, "pg-iad-");
    all.push(gate);
    let mut sure = model((80, 24), &[night::pay_ledger()]);
    command(&mut sure, 0, "remove pg-dub-2");
    write(&mut sure, 300, "pg-dub-");
    all.push(sure);
    all
}

/// Breadth first over distinct states, four keys deep.
#[test]
fn no_short_walk_of_keys_changes_production() {
    let keys = alphabet();
    let mut seen = BTreeSet::new();
    let mut layer = starts();
    for depth in 0..4_u64 {
        let mut next = vec![];
        for model in &layer {
            for code in &keys {
                let mut m = model.clone();
                let whole_name = matches!(&m.overlay, Some(Overlay::Confirm(c))
                    if c.typed == c.wanted());
                // Two seconds apart would be read; the picture stays fresh by being received.
                for command in press(&mut m, 1_200 + 100 * depth, *code) {
                    match command {
                        Command::Change(Change::Execute(_)) => {
                            assert!(whole_name && *code == KeyCode::Enter, "{}", shape(model));
                        }
                        // A plan, which changes nothing, from a line that says so in full.
                        Command::Change(Change::Propose(_)) => {
                            let whole = matches!(&model.overlay, Some(Overlay::Palette { input, .. })
                                if Action::by_name(input.value().split(' ').next().unwrap()).is_some());
                            assert!(whole && *code == KeyCode::Enter, "{}", shape(model));
                        }
                        Command::Change(Change::Dismiss(_))
                        | Command::Change(Change::Acknowledge(_))
                        | Command::Change(Change::Verify) => {
                            panic!("{command:?} from {}", shape(model))
                        }
                        Command::Change(Change::Node(_, node, _)) => {
                            let typed = matches!(&model.overlay, Some(Overlay::Sure(s))
                                if s.typed == node.as_str());
                            assert!(typed && *code == KeyCode::Enter, "{}", shape(model));
                        }
                        Command::Quit => {
                            let typed = matches!(model.overlay, Some(Overlay::Palette { .. }));
                            assert!(typed || *code == KeyCode::Char('q'), "{}", shape(model));
                        }
                        _ => {}
                    }
                }
                if depth < 3 && seen.insert(shape(&m)) {
                    next.push(m);
                }
            }
        }
        layer = next;
    }
    assert!(seen.len() > 500, "{} distinct states", seen.len());
}

/// From any state a few Esc lead to the fleet, and nothing was asked of the world.
#[test]
fn esc_always_retreats() {
    let mut layer = starts();
    for code in alphabet() {
        let mut more = vec![];
        for model in layer.iter().take(40) {
            let mut m = model.clone();
            press(&mut m, 1_200, code);
            more.push(m);
        }
        for mut m in more {
            for i in 0..6 {
                assert_eq!(press(&mut m, 1_300 + i * 20, KeyCode::Esc), []);
            }
            assert!(m.overlay.is_none() && m.screen == Screen::Fleet, "{}", shape(&m));
        }
    }
    layer.clear();
}

/// `q` leaves from every screen in every state of the connection; inside a text field it is a
/// letter, and C-c leaves from there too.
#[test]
fn leaving_works_everywhere() {
    for screen in Screen::ALL {
        for link in [
            Link::Idle,
            Link::Connecting { target: "plane".into(), attempt: 3 },
            Link::Lost {
                why: "gone".into(),
                attempt: 2,
                retry_at: moment(9).now,
                since: moment(0).now,
            },
        ] {
            let mut m = model((80, 24), &[night::pay_ledger()]);
            m.screen = screen;
            feed(&mut m, 10, Event::Link(link));
            assert_eq!(press(&mut m, 20, KeyCode::Char('q')), [Command::Quit]);
        }
    }
    let mut m = model((80, 24), &[night::ledger_us()]);
    open_gate(&mut m, 0);
    assert_eq!(press(&mut m, 300, KeyCode::Char('q')), []);
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(feed(&mut m, 320, Event::Key(interrupt)), [Command::Quit]);
}
