//! Pictures: every screen of the night at every size and in every look, and what must be in them.

use unicode_width::UnicodeWidthStr as _;

use super::super::model::{Model, Overlay, Screen};
use super::super::theme::{Depth, Role, Theme};
use super::super::view::Glyphs;
use super::*;
use crate::model::Span;
use crate::model::view::{ClusterState, Verdict};

const SIZES: [(u16, u16); 5] = [(80, 24), (100, 30), (120, 40), (160, 48), (200, 60)];

/// A scene: its name, and how the console comes to it.
type Scene = (&'static str, fn((u16, u16)) -> Model);

fn at(size: (u16, u16), views: &[ClusterView], screen: Screen) -> Model {
    let mut m = model(size, views);
    m.screen = screen;
    m
}

fn all() -> Vec<ClusterView> {
    vec![night::failing_over(), night::orders_eu(), night::ledger_us()]
}

const SCENES: [Scene; 20] = [
    ("fleet", |s| at(s, &all(), Screen::Fleet)),
    ("cluster_healthy", |s| at(s, &[night::pay_ledger()], Screen::Cluster)),
    ("cluster_failing_over", |s| at(s, &[night::failing_over()], Screen::Cluster)),
    ("cluster_needs_a_person", |s| at(s, &[night::orders_eu()], Screen::Cluster)),
    ("cluster_plan_waits", |s| at(s, &[night::ledger_us()], Screen::Cluster)),
    ("node", |s| {
        let mut m = at(s, &[night::pay_ledger()], Screen::Node);
        m.node = Some("pg-fra-1".into());
        m
    }),
    ("why", |s| at(s, &[night::orders_eu()], Screen::Why)),
    ("plan", |s| at(s, &[night::ledger_us()], Screen::Plan)),
    ("no_plan", |s| at(s, &[night::pay_ledger()], Screen::Plan)),
    ("gate", |s| {
        let mut m = at(s, &[night::ledger_us()], Screen::Plan);
        open_gate(&mut m, 0);
        write(&mut m, 400, "pg-iad");
        m
    }),
    ("gate_closed", |s| {
        let mut m = at(s, &[night::ledger_us()], Screen::Plan);
        open_gate(&mut m, 0);
        let mut view = night::ledger_us();
        view.plan.as_mut().unwrap().to = crate::model::Member::new("pg-pdx-1", "9c41");
        feed(&mut m, 400, Event::View(Box::new(view)));
        m
    }),
    ("run", |s| at(s, &[night::failing_over()], Screen::Run)),
    ("run_verified", |s| at(s, &[night::verified()], Screen::Run)),
    ("audit", |s| at(s, &[night::orders_eu()], Screen::Audit)),
    ("help", |s| {
        let mut m = at(s, &[night::failing_over()], Screen::Cluster);
        press(&mut m, 0, KeyCode::Char('?'));
        m
    }),
    ("palette", |s| {
        let mut m = at(s, &[night::pay_ledger()], Screen::Cluster);
        write(&mut m, 0, ":sw");
        m
    }),
    ("disconnected", |s| {
        let mut m = at(s, &[night::failing_over()], Screen::Cluster);
        let lost = Link::Lost {
            why: "plane at plane-1:7443: did not answer within 2 s".into(),
            attempt: 4,
            retry_at: moment(45_100).now,
            since: moment(40_000).now,
        };
        feed(&mut m, 42_000, Event::Link(lost));
        m
    }),
    ("sure", |s| {
        let mut m = at(s, &[night::pay_ledger()], Screen::Cluster);
        command(&mut m, 0, "remove pg-dub-2");
        write(&mut m, 500, "pg-dub");
        m
    }),
    ("settings", |s| at(s, &[night::pay_ledger()], Screen::Settings)),
    ("refused", |s| {
        let mut m = at(s, &[night::ledger_us()], Screen::Plan);
        m.overlay = Some(Overlay::Refused {
            check: "requester is not approver".into(),
            why: "you asked for plan 90f3ac12 yourself; another person approves it".into(),
        });
        m
    }),
];

fn snapshot(name: String, text: String) {
    insta::with_settings!({ prepend_module_to_snapshot => false, snapshot_path => "snapshots", omit_expression => true }, {
        insta::assert_snapshot!(name, text);
    });
}

#[test]
fn every_scene_at_every_size() {
    for (name, make) in SCENES {
        let mut all = String::new();
        for size in SIZES {
            let m = make(size);
            all.push_str(&format!("{}×{}\n{}\n", size.0, size.1, text(&m)));
        }
        snapshot(name.to_owned(), all);
    }
}

/// Looks are kept as runs of role-like codes: what a letter looks like is part of the picture.
#[test]
fn every_scene_in_every_look() {
    let looks: [(&str, &str, Depth, Glyphs); 4] = [
        ("dark", "dark", Depth::True, Glyphs::Full),
        ("light", "light", Depth::True, Glyphs::Full),
        ("mono", "mono", Depth::None, Glyphs::Full),
        ("ascii", "term16", Depth::Sixteen, Glyphs::Ascii),
    ];
    for (look, theme, depth, glyphs) in looks {
        let mut all = String::new();
        for (name, make) in SCENES {
            let mut m = make((80, 24));
            m.theme = Theme::built_in(theme, depth).unwrap().into();
            m.glyphs = glyphs;
            let buffer = draw(&m);
            if glyphs == Glyphs::Ascii {
                let plain = export::text(&buffer);
                assert!(plain.is_ascii(), "{name}: {plain}");
            }
            all.push_str(&format!("{name}\n{}\n", codes(&m, &buffer)));
        }
        snapshot(format!("look_{look}"), all);
    }
}

/// Each run of equal looks with the shortest name of a role that has it.
fn codes(m: &Model, buffer: &ratatui::buffer::Buffer) -> String {
    let name = |x: u16, y: u16| {
        let cell = &buffer[(x, y)];
        let role = Role::ALL.iter().find(|r| {
            let style = m.theme.style(**r);
            let surface = m.theme.style(Role::Surface).bg;
            style.fg.unwrap_or_default() == cell.fg
                && (style.bg == Some(cell.bg)
                    || style.bg.is_none()
                        && (cell.bg == Default::default() || surface == Some(cell.bg)))
                && style.add_modifier == cell.modifier
        });
        role.map_or("?", |r| r.name())
    };
    let mut out = String::new();
    for y in 0..buffer.area.height {
        let mut last = "";
        let mut line = String::new();
        for x in 0..buffer.area.width {
            if buffer[(x, y)].symbol() == " " {
                line.push(' ');
                continue;
            }
            let now = name(x, y);
            if now != last {
                line.push_str(&format!("{{{now}}}"));
                last = now;
            }
            line.push_str(buffer[(x, y)].symbol());
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// What an on-call engineer has to read from the first screen, at 80×24, without a key.
#[test]
fn the_first_screen_answers_the_five_questions() {
    let shown = |view: ClusterView| text(&at((80, 24), &[view], Screen::Cluster));
    let holds = |text: &str, words: &[&str]| {
        let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for word in words {
            assert!(flat.contains(word), "{word:?} is not in\n{text}");
        }
    };
    // What is wrong, what happens next and when, what would be lost, what may I do, who did what.
    holds(
        &shown(night::failing_over()),
        &[
            "✗ CRITICAL",
            "pg-dub-1 failed",
            "pg-dub-2 claims epoch 42",
            "11.2 s",
            "loss none (proved)",
            "302",
            "is ordered to claim",
        ],
    );
    holds(
        &shown(night::orders_eu()),
        &[
            "► YOURS",
            "the loss would be unknown",
            "was stopped when last heard",
            "WHAT YOU MAY DO",
            "start the host of ord-fra-1",
            "312",
        ],
    );
    holds(
        &shown(night::ledger_us()),
        &["► YOURS", "waits for a person", "2:41", "loss none (proved)", ":execute", ":dismiss"],
    );
    holds(
        &shown(night::pay_ledger()),
        &[
            "● HEALTHY",
            "takes writes",
            "nothing moves by itself",
            "pg-dub-2 promotes",
            "RTO ≈ 9.9 s of 30 s",
        ],
    );
}

/// Red is rationed: nothing of a healthy screen is red or amber, and CRITICAL is never green.
#[test]
fn red_is_rationed() {
    let inks = |m: &Model, roles: &[Role]| {
        let buffer = draw(m);
        let wanted: Vec<_> = roles.iter().map(|r| m.theme.style(*r)).collect();
        buffer
            .content
            .iter()
            .filter(|c| c.symbol() != " ")
            .filter(|c| wanted.iter().any(|s| s.fg == Some(c.fg) && s.bg.is_none_or(|b| b == c.bg)))
            .count()
    };
    for screen in [Screen::Fleet, Screen::Cluster, Screen::Why, Screen::Run, Screen::Audit] {
        let m = at((80, 24), &[night::pay_ledger()], screen);
        let alarms = [Role::Warn, Role::Bad, Role::WarnBadge, Role::BadBadge];
        assert_eq!(inks(&m, &alarms), 0, "{screen:?}\n{}", text(&m));
    }
    let m = at((80, 24), &[night::failing_over()], Screen::Cluster);
    let buffer = draw(&m);
    let lines = export::text(&buffer);
    let (y, line) = lines.lines().enumerate().find(|(_, l)| l.contains("✗ CRITICAL")).unwrap();
    let x = line.chars().position(|c| c == '✗').unwrap();
    let cell = &buffer[(u16::try_from(x).unwrap(), u16::try_from(y).unwrap())];
    let badge = m.theme.style(Role::BadBadge);
    assert_eq!((Some(cell.fg), Some(cell.bg)), (badge.fg, badge.bg));
}

/// The four zones never move, whatever is on top.
#[test]
fn no_dialog_covers_bar_or_band() {
    for size in SIZES {
        let plain = text(&at(size, &[night::ledger_us()], Screen::Plan));
        let zone: Vec<&str> = plain.lines().take(4).collect();
        let mut m = at(size, &[night::ledger_us()], Screen::Plan);
        open_gate(&mut m, 0);
        m.moment = moment(0);
        m.told = None;
        let with = text(&m);
        assert_eq!(zone, with.lines().take(4).collect::<Vec<_>>());
        for code in ['?', ':', ' '] {
            let mut m = at(size, &[night::ledger_us()], Screen::Plan);
            press(&mut m, 0, KeyCode::Char(code));
            let with = text(&m);
            assert_eq!(zone, with.lines().take(4).collect::<Vec<_>>(), "{code:?}");
        }
    }
}

/// What is left of a screen without its frame and its spaces.
fn letters(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric() || *c == '-').collect()
}

/// Decisive words are whole at 80 columns whatever the names are; nothing is wider than the screen.
#[test]
fn decisive_words_are_whole_with_names_of_any_length_and_script() {
    for name in [
        "pg-1",
        "database-node-0123",
        "a-very-long-name-of-a-node-that-has-sixty-cells-0123456789-x",
        "база-данных-основная-1",
        "東京データベース主系一号機",
    ] {
        let text_of = |view: &ClusterView| {
            serde_json::to_string(view)
                .unwrap()
                .replace("ord-fra-1", name)
                .replace("pg-iad-1", name)
        };
        for (view, screen) in [
            (night::orders_eu(), Screen::Cluster),
            (night::orders_eu(), Screen::Why),
            (night::ledger_us(), Screen::Cluster),
            (night::ledger_us(), Screen::Plan),
        ] {
            let view: ClusterView = serde_json::from_str(&text_of(&view)).unwrap();
            let m = at((80, 24), std::slice::from_ref(&view), screen);
            let shown = text(&m);
            for line in shown.lines() {
                assert!(line.width() <= 80, "{line:?}");
            }
            let squeezed: String =
                shown.chars().filter(|c| !c.is_whitespace() && *c != '│').collect();
            assert!(squeezed.contains(name), "{name} on {screen:?}\n{shown}");
            assert!(!shown.lines().nth(1).unwrap().contains('…'), "{shown}");
        }
        // At the gate the name to type is whole.
        let view: ClusterView = serde_json::from_str(&text_of(&night::ledger_us())).unwrap();
        let mut m = at((80, 24), &[view], Screen::Plan);
        open_gate(&mut m, 0);
        let wanted = letters(&format!("{name} loses the write role"));
        assert!(letters(&text(&m)).contains(&wanted), "{}", text(&m));
    }
}

/// Nine nodes, none, five hundred clusters, ages of days.
#[test]
fn many_and_none_are_drawn() {
    let mut view = night::pay_ledger();
    view.nodes = (0..9)
        .map(|i| night::node(&format!("pg-{i}"), crate::model::topology::Role::Secondary, "eu/a"))
        .collect();
    let shown = text(&at((80, 24), &[view.clone()], Screen::Cluster));
    assert!((0..9).all(|i| shown.contains(&format!("pg-{i}"))), "{shown}");
    view.nodes.clear();
    for screen in Screen::ALL {
        let _ = text(&at((80, 24), &[view.clone()], screen));
    }
    let mut fleet: Vec<ClusterView> = (0..500)
        .map(|i| {
            let mut view = night::pay_ledger();
            view.cluster = crate::model::ClusterId::new(format!("c-{i:03}"));
            view.name = format!("c-{i:03}");
            view
        })
        .collect();
    fleet[377] = night::orders_eu();
    let mut m = at((80, 24), &fleet, Screen::Fleet);
    let shown = text(&m);
    assert!(shown.contains("500 CLUSTERS"), "{shown}");
    let first = shown.lines().find(|l| l.contains('▌')).unwrap();
    assert!(first.contains("► orders-eu"), "who needs somebody comes first:\n{shown}");
    press(&mut m, 10, KeyCode::Char('G'));
    assert!(text(&m).contains("c-499"));
    write(&mut m, 100, "/state:critical");
    press(&mut m, 500, KeyCode::Enter);
    let shown = text(&m);
    assert!(shown.contains("1 OF 500 CLUSTERS") && shown.contains("orders-eu"), "{shown}");
    press(&mut m, 600, KeyCode::Esc);
    assert!(text(&m).contains("500 CLUSTERS"));
}

#[test]
fn every_screen_draws_at_every_size_without_a_panic() {
    for screen in Screen::ALL {
        for width in [1, 5, 20, 71, 72, 80, 119, 120, 160, 200, 400] {
            for height in [1, 2, 5, 20, 21, 24, 60, 120] {
                let mut m = at((width, height), &[night::ledger_us()], screen);
                m.node = Some("pg-pdx-1".into());
                let _ = draw(&m);
                for code in ['?', ':', '/', ' ', 'g'] {
                    let mut m = m.clone();
                    press(&mut m, 0, KeyCode::Char(code));
                    m.moment = moment(1_000);
                    let _ = draw(&m);
                }
                open_gate(&mut m, 0);
                let _ = draw(&m);
            }
        }
    }
}

#[test]
fn a_tiny_terminal_gets_a_card() {
    let m = at((20, 5), &[night::failing_over()], Screen::Cluster);
    let shown = text(&m);
    assert!(
        shown.contains("CRITICAL") && shown.contains("too small") && shown.contains("q leaves"),
        "{shown}"
    );
}

/// An old picture is no state: its word is UNKNOWN, its frame is dashed, its ages go on.
#[test]
fn an_old_picture_is_unmistakable() {
    let mut m = at((80, 24), &[night::pay_ledger()], Screen::Cluster);
    feed(&mut m, 42_000, Event::Tick);
    let shown = text(&m);
    assert!(shown.contains("? UNKNOWN") && shown.contains("STALE 42 s"), "{shown}");
    assert!(shown.contains("it was HEALTHY") && shown.contains('┄'), "{shown}");
    assert!(!shown.contains("● HEALTHY"), "{shown}");
    assert!(shown.contains("42 s!"), "a node is heard as long ago as the picture is old\n{shown}");
}

/// A simulated cluster cannot be taken for a real one, by frame and word, without colour too.
#[test]
fn what_is_simulated_says_so_twice() {
    let mut view = night::pay_ledger();
    view.simulated = true;
    view.environment = "LAB".into();
    let shown = text(&at((80, 24), &[view], Screen::Cluster));
    assert!(shown.contains("SIMULATED") && shown.contains('╔'), "{shown}");
}

/// Widths hold while values change: two moments of a countdown differ in digits only.
#[test]
fn nothing_jumps_while_a_countdown_passes() {
    let mut m = at((80, 24), &[night::failing_over()], Screen::Cluster);
    let before = text(&m);
    m.moment = moment(1_900);
    let after = text(&m);
    for (a, b) in before.lines().zip(after.lines()) {
        assert_eq!(a.width(), b.width(), "{a:?}\n{b:?}");
    }
    assert!(after.contains(" 9.3 s"), "{after}");
}

/// The picture that is saved has a place for each letter: no browser stretches it.
#[test]
fn a_saved_picture_has_a_place_for_each_letter() {
    let m = at((80, 24), &[night::failing_over()], Screen::Cluster);
    let svg = export::svg(&draw(&m), &m.theme);
    assert!(!svg.contains("textLength"), "lengths stretch letters");
    for line in svg.lines().filter(|l| l.starts_with("<text")) {
        let places = line.split('"').nth(1).unwrap().split(' ').count();
        let word = line.split('>').nth(1).unwrap().split('<').next().unwrap();
        let letters = word.replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">");
        assert_eq!(places, letters.chars().count(), "{line}");
        assert!(!letters.contains(' '), "a space collapses: {line}");
    }
    if let Some(folder) = std::env::var_os("KEEP_PICTURES") {
        let folder = std::path::PathBuf::from(folder);
        for (name, make) in SCENES {
            for (theme, size) in [("dark", (80, 24)), ("light", (80, 24)), ("dark", (160, 48))] {
                let mut m = make(size);
                m.theme = Theme::built_in(theme, Depth::True).unwrap().into();
                let file = folder.join(format!("{name}-{theme}-{}.svg", size.0));
                std::fs::write(file, export::svg(&draw(&m), &m.theme)).unwrap();
            }
        }
    }
}

#[test]
fn every_verdict_and_state_has_its_glyph_and_word() {
    for glyphs in Glyphs::ALL {
        for verdict in [
            Verdict::Unknown,
            Verdict::Healthy,
            Verdict::Degraded,
            Verdict::Suspect,
            Verdict::Failed,
        ] {
            let mut view = night::pay_ledger();
            view.nodes[2].verdict = verdict;
            let mut m = at((80, 24), &[view], Screen::Cluster);
            m.glyphs = glyphs;
            assert!(text(&m).contains(verdict.word()));
        }
        for state in [
            ClusterState::Unknown,
            ClusterState::Healthy,
            ClusterState::Degraded,
            ClusterState::Critical,
        ] {
            let mut view = night::pay_ledger();
            view.state = state;
            let mut m = at((80, 24), &[view], Screen::Cluster);
            m.glyphs = glyphs;
            assert!(text(&m).contains(state.word()));
        }
    }
    let _ = Span::ZERO;
}
