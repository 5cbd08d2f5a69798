//! Getting around: Enter goes deeper, Esc comes back, selections are names, lists filter, words
//! that are no commands are errors; themes and keymaps load, and bad ones say why.

use super::super::command::Action;
use super::super::contrast;
use super::super::model::{Access, Model, Screen};
use super::super::theme::{BUILT_IN as THEMES, Role};
use super::super::update::suggestions;
use super::*;

#[test]
fn enter_goes_deeper_and_esc_comes_back() {
    let mut m = model((80, 24), &[night::pay_ledger(), night::orders_eu()]);
    m.screen = Screen::Fleet;
    press(&mut m, 0, KeyCode::Enter);
    assert_eq!((m.screen, m.view().unwrap().name.as_str()), (Screen::Cluster, "orders-eu"));
    write(&mut m, 20, "1");
    press(&mut m, 40, KeyCode::Down);
    press(&mut m, 60, KeyCode::Enter);
    assert_eq!(m.view().unwrap().name, "pay-ledger");
    press(&mut m, 80, KeyCode::Down);
    press(&mut m, 100, KeyCode::Enter);
    assert_eq!((m.screen, m.node.as_ref().unwrap().as_str()), (Screen::Node, "pg-dub-2"));
    assert!(text(&m).contains("could take the role"), "{}", text(&m));
    press(&mut m, 120, KeyCode::Esc);
    assert_eq!(m.screen, Screen::Cluster);
    // A fact opens the audit at its record.
    press(&mut m, 140, KeyCode::Tab);
    press(&mut m, 160, KeyCode::Tab);
    press(&mut m, 180, KeyCode::Down);
    press(&mut m, 200, KeyCode::Enter);
    assert_eq!(m.screen, Screen::Audit);
    assert!(text(&m).contains("RECORD 1,204,770"), "{}", text(&m));
}

/// A row that goes is not followed by its neighbour.
#[test]
fn a_selection_is_a_name() {
    let mut m = model((80, 24), &[night::pay_ledger()]);
    press(&mut m, 0, KeyCode::Down);
    let mut view = night::pay_ledger();
    view.nodes.remove(1);
    feed(&mut m, 20, Event::View(Box::new(view)));
    assert!(!text(&m).contains('▌'), "{}", text(&m));
    // It comes back with its row.
    feed(&mut m, 40, Event::View(Box::new(night::pay_ledger())));
    assert!(text(&m).lines().any(|l| l.contains("▌◇ pg-dub-2")), "{}", text(&m));
}

#[test]
fn pages_scroll_to_their_end() {
    let mut m = model((80, 24), &[night::orders_eu()]);
    m.screen = Screen::Why;
    press(&mut m, 0, KeyCode::Tab);
    let shown = |m: &Model| text(m).contains("limit 2 s");
    for i in 0..5 {
        press(&mut m, 20 + i * 20, KeyCode::Down);
    }
    assert!(shown(&m), "{}", text(&m));
    // Help: everything in it can be reached.
    press(&mut m, 200, KeyCode::Char('?'));
    press(&mut m, 220, KeyCode::End);
    assert!(text(&m).contains("this version does not have it"), "{}", text(&m));
    press(&mut m, 240, KeyCode::Esc);
    // Read all holds what the band had no room for.
    press(&mut m, 260, KeyCode::Char(' '));
    assert!(text(&m).contains("ALL OF IT"), "{}", text(&m));
}

/// It is done as soon as it is said: command and node are named in full.
#[test]
fn a_node_is_changed_by_its_whole_name() {
    use crate::wire::changing::{Changed, NodeChange};
    let mut m = model((80, 24), &[night::orders_eu()]);
    let node = m.view().unwrap().nodes[1].node.clone();
    let asked = command(&mut m, 0, &format!("drain {node} new disks"));
    let wanted =
        [Command::Change(Change::Node(NodeChange::Drain, node.clone(), "new disks".into()))];
    assert_eq!(asked, wanted);
    feed(&mut m, 20, Event::Changed(Changed::Unknown("it does not follow yet".into())));
    assert!(text(&m).contains("UNKNOWN: it does not follow yet"), "{}", text(&m));
    let filled = format!(":remove {node}");
    for (line, said) in [
        (format!("remov {node}"), filled.as_str()),
        ("remove nobody".into(), "there is no node nobody"),
        ("restart".into(), "which node?"),
    ] {
        assert_eq!(command(&mut m, 40, &line), []);
        assert!(text(&m).contains(said), "{said}: {}", text(&m));
        press(&mut m, 900, KeyCode::Esc);
    }
    m.access = Access::ReadOnly;
    assert_eq!(command(&mut m, 60, &format!("remove {node}")), []);
}

/// A vote is not given back by the next key.
#[test]
fn a_vote_is_taken_away_by_the_nodes_name_typed_again() {
    let mut m = model((80, 24), &[night::orders_eu()]);
    let node = m.view().unwrap().nodes[1].node.clone();
    let ask = |m: &mut Model, ms| assert_eq!(command(m, ms, &format!("remove {node} sold")), []);
    ask(&mut m, 0);
    assert!(text(&m).contains("may fail"), "{}", text(&m));
    assert_eq!(press(&mut m, 900, KeyCode::Enter), [], "Enter alone cancels");
    assert!(m.overlay.is_none());
    ask(&mut m, 1_000);
    write(&mut m, 2_000, "another");
    assert_eq!(press(&mut m, 2_300, KeyCode::Enter), []);
    assert!(text(&m).contains("is not"), "{}", text(&m));
    feed(&mut m, 2_400, Event::Paste(node.as_str().into()));
    assert_eq!(press(&mut m, 2_500, KeyCode::Enter), [], "a paste is nobody's word");
    feed(&mut m, 2_600, Event::View(Box::new(night::orders_eu())));
    ask(&mut m, 2_600);
    write(&mut m, 2_800, node.as_str());
    let asked = press(&mut m, 4_800, KeyCode::Enter);
    let change = crate::wire::changing::NodeChange::Remove;
    assert_eq!(asked, [Command::Change(Change::Node(change, node, "sold".into()))], "{}", text(&m));
}

/// A terminal without bracketed paste sends a clipboard as keys, within a moment.
#[test]
fn an_enter_that_comes_with_the_text_changes_nothing() {
    let mut m = model((80, 24), &[night::pay_ledger()]);
    for c in ":drain pg-dub-2".chars() {
        press(&mut m, 100, KeyCode::Char(c));
    }
    assert_eq!(press(&mut m, 100, KeyCode::Enter), []);
    assert!(text(&m).contains("press it by itself"), "{}", text(&m));
    assert!(matches!(
        press(&mut m, 900, KeyCode::Enter).as_slice(),
        [Command::Change(Change::Node(..))]
    ));
}

#[test]
fn only_names_are_commands() {
    assert_eq!(suggestions("exe").first(), Some(&Action::Execute));
    assert_eq!(suggestions("switch").first(), Some(&Action::Switchover));
    assert_eq!(suggestions("").len(), Action::ALL.len());
    // A word that only stands in a description leads nowhere.
    assert_eq!(suggestions("production"), []);
    let mut m = model((80, 24), &[night::pay_ledger()]);
    assert_eq!(command(&mut m, 0, "start"), []);
    assert_eq!(m.screen, Screen::Cluster);
    assert!(text(&m).contains("there is no command"), "{}", text(&m));
    press(&mut m, 400, KeyCode::Esc);
    // The first Enter runs a whole name, and what only begins one where nothing is changed by it.
    command(&mut m, 500, "audit");
    assert_eq!(m.screen, Screen::Audit);
    command(&mut m, 1_000, "why");
    assert_eq!(m.screen, Screen::Why);
    command(&mut m, 1_500, "clu");
    assert_eq!(m.screen, Screen::Cluster);
    assert_eq!(command(&mut m, 2_000, "switch"), [], "what leads to a change wants its whole name");
    assert!(text(&m).contains(":switchover"), "{}", text(&m));
    let commands = press(&mut m, 2_400, KeyCode::Enter);
    assert!(
        matches!(commands.as_slice(), [Command::Change(Change::Propose(what))] if what.to.is_none()),
        "{commands:?}"
    );
}

#[test]
fn a_plan_is_asked_for_by_a_node_that_exists() {
    let mut m = model((80, 24), &[night::pay_ledger()]);
    assert_eq!(command(&mut m, 0, "switchover pg-dub-9"), []);
    assert!(text(&m).contains("there is no node pg-dub-9"), "{}", text(&m));
    let commands = command(&mut m, 1_000, "accept-loss pg-dub-2 both hosts burnt");
    let [Command::Change(Change::Propose(what))] = commands.as_slice() else {
        panic!("{commands:?}")
    };
    assert!(what.accept_unknown_loss && what.to == Some("pg-dub-2".into()), "{what:?}");
    assert_eq!(what.reason, "both hosts burnt");
    let commands = command(&mut m, 2_200, "resume");
    assert!(
        matches!(commands.as_slice(), [Command::Change(Change::Propose(what))] if what.resume),
        "{commands:?}"
    );
}

#[test]
fn keys_after_a_prefix_are_shown_and_lead_there() {
    let mut m = model((80, 24), &[night::pay_ledger()]);
    press(&mut m, 0, KeyCode::Char('g'));
    assert!(!text(&m).contains("GO TO"), "not at once");
    m.moment = moment(200);
    assert!(text(&m).contains("GO TO"), "{}", text(&m));
    press(&mut m, 220, KeyCode::Char('l'));
    assert_eq!(m.screen, Screen::Audit);
    // A screen that does not exist yet says so in one sentence.
    press(&mut m, 240, KeyCode::Char('8'));
    assert_eq!(m.screen, Screen::Audit);
    assert!(text(&m).contains("this version does not have it"), "{}", text(&m));
}

#[test]
fn the_audit_filters_and_proves() {
    let mut m = model((80, 24), &[night::orders_eu()]);
    m.screen = Screen::Audit;
    assert!(text(&m).contains("✓ INTACT"), "{}", text(&m));
    write(&mut m, 0, "/rule:302");
    press(&mut m, 400, KeyCode::Enter);
    assert!(text(&m).contains("1 of 4 shown"), "{}", text(&m));
    // As people type it: the number of a rule or of a record, and the time of day.
    let records = night::orders_eu().records;
    let passes =
        |word: &str| records.iter().filter(|r| super::super::view::record_passes(r, word)).count();
    assert_eq!((passes("302"), passes("312"), passes("38"), passes("03:06:3")), (1, 3, 1, 1));
    assert_eq!(passes("nobody:knows"), 0);
    let mut forged = night::orders_eu();
    forged.records[1].record.text = "nothing happened".into();
    feed(&mut m, 500, Event::View(Box::new(forged)));
    assert!(text(&m).contains("BROKEN") && text(&m).contains("record 38"), "{}", text(&m));
}

/// The same refusal is one line with a count.
#[test]
fn repeats_are_folded() {
    let m = model((80, 24), &[night::orders_eu()]);
    let shown = text(&m);
    assert!(shown.matches("312  nothing is done").count() <= 1, "{shown}");
    let shown = text(&model((120, 40), &[night::orders_eu()]));
    assert_eq!(shown.matches("312  nothing is done").count(), 1, "{shown}");
    assert!(shown.contains("3 times"), "{shown}");
}

#[test]
fn outcomes_are_done_refused_or_unknown() {
    use crate::wire::message::CallReply;
    let mut m = model((80, 24), &[night::ledger_us()]);
    let refused = CallReply::Refused { check: "rate".into(), why: "6 moves this hour".into() };
    feed(&mut m, 0, Event::Reply(Ok(refused)));
    let shown = text(&m);
    assert!(shown.contains("REFUSED: rate") && shown.contains("Nothing was changed"), "{shown}");
    press(&mut m, 20, KeyCode::Enter);
    assert!(m.overlay.is_none());
    let failed = super::super::event::CallFailed { why: "no answer".into(), outcome_unknown: true };
    feed(&mut m, 40, Event::Reply(Err(failed)));
    feed(&mut m, 20_000, Event::Tick);
    assert!(text(&m).contains("UNKNOWN: no answer"), "it stays until a key\n{}", text(&m));
}

#[test]
fn the_bell_rings_once_when_something_becomes_yours() {
    let mut m = model((80, 24), &[night::pay_ledger()]);
    let mut yours = night::pay_ledger();
    yours.phase.phase = crate::model::view::Phase::NeedsPerson;
    assert_eq!(feed(&mut m, 0, Event::View(Box::new(yours.clone()))), [Command::Bell]);
    assert_eq!(feed(&mut m, 10, Event::View(Box::new(yours))), []);
}

#[test]
fn every_theme_loads_at_every_depth_and_mono_has_no_colour() {
    assert_eq!(THEMES.len(), 9);
    for (name, text) in THEMES {
        for depth in [Depth::None, Depth::Sixteen, Depth::Indexed, Depth::True] {
            let theme = Theme::parse(name, text, depth).unwrap_or_else(|p| panic!("{name}: {p:?}"));
            for role in Role::ALL {
                let style = theme.style(*role);
                if depth == Depth::None || *name == "mono" {
                    assert_eq!((style.fg, style.bg), (None, None), "{name} {}", role.name());
                }
            }
            for badge in [Role::BadBadge, Role::WarnBadge, Role::Production, Role::UnrealBadge] {
                let style = theme.style(badge);
                let stands_out = style.bg.is_some() || !style.add_modifier.is_empty();
                assert!(stands_out, "{name} {}", badge.name());
            }
        }
    }
    let wrong = Theme::parse("x", "[role]\ntetx = { fg = \"red\" }", Depth::True).unwrap_err();
    assert!(wrong.iter().any(|p| p.contains("did you mean \"text\"?")), "{wrong:?}");
}

#[test]
fn every_theme_can_be_read_by_everybody() {
    for (name, text) in THEMES {
        let theme = Theme::parse(name, text, Depth::True).unwrap();
        assert_eq!(contrast::problems(&theme), Vec::<String>::new(), "{name}");
    }
    let grey = THEMES[0].1.replace("#93a0b0", "#555555").replace("#5ad6c0", "#ffcf4d");
    let found = contrast::problems(&Theme::parse("x", &grey, Depth::True).unwrap()).join("\n");
    assert!(found.contains("muted on the ground") && found.contains("good and warn"), "{found}");
}

#[test]
fn every_keymap_loads_and_bad_ones_say_why() {
    assert_eq!(KEYMAPS.len(), 5);
    for (name, text) in KEYMAPS {
        Keymap::parse(text).unwrap_or_else(|p| panic!("{name}: {p:?}"));
    }
    let problems =
        |extra: &str| Keymap::parse(&format!("{}\n{extra}", KEYMAPS[0].1)).unwrap_err().join("; ");
    assert!(problems("execute = [\"e\"]").contains("has no key"));
    assert!(problems("dismiss = [\"D\"]").contains("leads to a change in production"));
    assert!(problems("fleeet = [\"x\"]").contains("did you mean \"fleet\"?"));
    let wrong = KEYMAPS[0].1.replace("read-all = [\"Space\"]", "freeze = [\"Space\"]");
    let wrong = wrong.replace("freeze = [\"f\"]\n", "");
    assert!(Keymap::parse(&wrong).unwrap_err().join("; ").contains("Space means read-all"));
    assert!(
        Keymap::parse("[keys]\nquit = [\"q\"]").unwrap_err().join("; ").contains("help has no key")
    );
    let twice = KEYMAPS[0].1.replace("audit = [\"6\"", "audit = [\"4\"");
    assert!(Keymap::parse(&twice).unwrap_err().join("; ").contains("is bound to"));
}

#[test]
fn a_lost_plane_is_said_and_never_leaves() {
    let mut m = model((80, 24), &[night::pay_ledger()]);
    let lost = Link::Lost {
        why: "plane at 127.0.0.1:1: cannot be reached".into(),
        attempt: 3,
        retry_at: moment(2_000).now,
        since: moment(1_000).now,
    };
    feed(&mut m, 1_000, Event::Link(lost));
    let shown = text(&m);
    assert!(shown.contains("LOST <2 s") && shown.contains("cannot be reached"), "{shown}");
    assert_eq!(press(&mut m, 1_100, KeyCode::Char('r')), [Command::Retry]);
    assert_eq!(press(&mut m, 1_120, KeyCode::Char('q')), [Command::Quit]);
}

#[test]
fn a_terminal_that_says_that_its_ground_is_light_gets_the_light_theme() {
    for (depth, fgbg, name) in [
        (Depth::True, None, "dark"),
        (Depth::True, Some("15;0"), "dark"),
        (Depth::True, Some("0;15"), "light"),
        (Depth::Indexed, Some("0;default;7"), "light"),
        (Depth::Sixteen, Some("0;15"), "term16"),
        (Depth::None, Some("0;15"), "mono"),
    ] {
        assert_eq!(Theme::name_for(depth, fgbg), name, "{depth:?} {fgbg:?}");
    }
}
