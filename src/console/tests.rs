//! `update` as tables, views at three sizes, the gate, themes and keymaps.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::command::Action;
use super::event::{Command, Event, Link, Moment};
use super::keymap::{BUILT_IN as KEYMAPS, Keymap};
use super::model::{Access, Model, Overlay, Screen};
use super::theme::{BUILT_IN as THEMES, Depth, Role, Theme};
use super::update::{suggestions, update};
use super::{export, view};
use crate::model::loss::{FenceRung, LossAccount};
use crate::model::plan::{Candidate, Check, Plan, PlanKind};
use crate::model::topology::{Role as NodeRole, Strategy};
use crate::model::view::{
    Act, ClusterState, ClusterView, NodeView, Outlook, Phase, PhaseView, Verdict, WayOut,
};
use crate::model::{Epoch, Member, Span, Timestamp, WallTime};

fn node(name: &str, role: NodeRole, verdict: Verdict) -> NodeView {
    NodeView {
        node: name.into(),
        declared: role,
        role,
        place: "local/site-a".into(),
        verdict,
        why: if verdict == Verdict::Failed {
            "silent for 2.0 s; 2 of 3 observers do not see it".into()
        } else {
            String::new()
        },
        phi_milli: 1_234,
        heartbeat_age: Some(Span::millis(80)),
        votes: vec![("plane".into(), true)],
        report: None,
        lag_bytes: Some(128),
        lag: None,
        lag_history: vec![Some(0), None, Some(4_096), Some(1 << 30)],
        interval: None,
        health: None,
        share: None,
        capacity: None,
    }
}

fn plan() -> Plan {
    let check = |passed| Check {
        name: "lag".into(),
        passed,
        value: "40 B".into(),
        limit: "16 B".into(),
        source: "report".into(),
        age: None,
        would_change: "it catches up".into(),
    };
    Plan {
        number: 1,
        cluster: "lab".into(),
        kind: PlanKind::Failover,
        epoch: Epoch(2),
        from: Some(Member::new("node-1", "a")),
        to: Member::new("node-2", "a"),
        made: WallTime(0),
        requested_by: "policy p".into(),
        reason: "it failed".into(),
        least_fence: FenceRung::SyncFenced,
        loss: LossAccount::None {
            proof: "node-2 and node-3 granted".into(),
            by: vec![],
            excluded: vec!["local commits".into()],
        },
        max_loss_bytes: 0,
        accept_unknown_loss: false,
        budget: Span::secs(60),
        steps: vec![],
        candidates: vec![
            Candidate { node: "node-2".into(), eligible: true, rank: 1, checks: vec![check(true)] },
            Candidate {
                node: "node-3".into(),
                eligible: false,
                rank: 0,
                checks: vec![check(false)],
            },
        ],
        constraints: vec![],
        blast_radius: vec![],
        way_back: String::new(),
        transfers: vec![],
        shares: vec![],
        shed: 0,
        conflicts: None,
    }
}

fn picture() -> ClusterView {
    ClusterView {
        cluster: "lab".into(),
        name: "Lab".into(),
        environment: "LAB".into(),
        simulated: false,
        source: "plane".into(),
        made: WallTime(0),
        state: ClusterState::Critical,
        why: "node-1 does not hold a confirmed lease: no writes".into(),
        phase: PhaseView {
            phase: Phase::AwaitingApproval,
            owner: "a person".into(),
            age: Span::secs(12),
            deadline: Some(Span::secs(288)),
            at_deadline: "the plan is dropped".into(),
            ways_out: vec![WayOut {
                act: Act::Execute { plan: plan().digest(), demoted: "node-1".into() },
                text: "execute the plan".into(),
                loss: None,
                needs: String::new(),
            }],
        },
        epoch: Epoch(2),
        primary: None,
        votes: 0,
        voters: 3,
        quorum: 2,
        strategy: Some(Strategy::Manual),
        rpo_bytes: 16 << 20,
        rto: Span::secs(60),
        nodes: vec![
            node("node-1", NodeRole::Secondary, Verdict::Failed),
            node("node-2", NodeRole::Secondary, Verdict::Healthy),
            node("node-3", NodeRole::Secondary, Verdict::Degraded),
        ],
        plan: Some(plan()),
        run: None,
        outlook: Outlook {
            next: "nothing, until a person executes the plan".into(),
            if_primary_died: "if node-1 died now → node-2".into(),
            ..Outlook::default()
        },
        records: vec![],
        record_count: 0,
        chain: "verified to record 0".into(),
    }
}

fn moment(ms: u64) -> Moment {
    Moment { now: Timestamp(1_000_000_000 + ms * 1_000_000), wall: WallTime(1_800_000_000_000) }
}

fn model(size: (u16, u16)) -> Model {
    let theme = Theme::built_in("dark", Depth::True).unwrap();
    let keymap = Keymap::parse(KEYMAPS[0].1).unwrap();
    let mut model = Model::new("operator".into(), Access::Approver, theme, keymap, size);
    feed(&mut model, 0, Event::Link(Link::Live { target: "plane".into(), plane: true }));
    feed(&mut model, 0, Event::View(Box::new(picture())));
    model
}

fn feed(model: &mut Model, ms: u64, event: Event) -> Vec<Command> {
    update(model, moment(ms), event)
}
fn press(model: &mut Model, ms: u64, code: KeyCode) -> Vec<Command> {
    feed(model, ms, Event::Key(KeyEvent::new(code, KeyModifiers::NONE)))
}
fn write(model: &mut Model, ms: u64, text: &str) {
    for (i, c) in text.chars().enumerate() {
        press(model, ms + 20 * i as u64, KeyCode::Char(c));
    }
}
fn open_gate(model: &mut Model) {
    write(model, 0, ":execute");
    press(model, 200, KeyCode::Enter);
    assert!(matches!(model.overlay, Some(Overlay::Confirm(_))), "{:?}", model.told);
}

fn draw(model: &Model) -> ratatui::buffer::Buffer {
    let mut terminal = Terminal::new(TestBackend::new(model.size.0, model.size.1)).unwrap();
    terminal.draw(|frame| view::view(model, frame)).unwrap();
    terminal.backend().buffer().clone()
}

#[test]
fn the_typed_name_and_nothing_else_executes() {
    let mut m = model((80, 24));
    open_gate(&mut m);
    assert_eq!(press(&mut m, 300, KeyCode::Enter), [], "Enter alone cancels");
    assert!(m.overlay.is_none());
    open_gate(&mut m);
    write(&mut m, 300, "node-2");
    assert_eq!(press(&mut m, 500, KeyCode::Enter), [], "another name");
    write(&mut m, 600, "node-1");
    let commands = press(&mut m, 800, KeyCode::Enter);
    let [Command::Execute(proof)] = commands.as_slice() else { panic!("{commands:?}") };
    assert_eq!((proof.demoted().as_str(), proof.plan()), ("node-1", &plan().digest()));
}

#[test]
fn a_paste_is_refused_at_the_gate() {
    let mut m = model((80, 24));
    open_gate(&mut m);
    feed(&mut m, 300, Event::Paste("node-1".into()));
    assert_eq!(press(&mut m, 310, KeyCode::Enter), [], "nothing was typed");
}

#[test]
fn the_gate_closes_when_its_world_changes_or_grows_stale() {
    let changed = |change: fn(&mut ClusterView)| {
        let mut m = model((80, 24));
        open_gate(&mut m);
        let mut v = picture();
        change(&mut v);
        feed(&mut m, 300, Event::View(Box::new(v)));
        assert!(m.overlay.is_none(), "still open");
        m.told.unwrap().text
    };
    assert!(changed(|v| v.epoch = Epoch(3)).contains("the epoch is 3 now"));
    assert!(changed(|v| v.plan = None).contains("the plan is gone"));
    assert!(changed(|v| v.plan.as_mut().unwrap().number = 2).contains("another plan"));
    let mut m = model((80, 24));
    open_gate(&mut m);
    feed(&mut m, 4_000, Event::Tick);
    assert!(m.overlay.is_none() && m.told.unwrap().text.contains("old"));
}

#[test]
fn stale_read_only_and_planeless_sessions_cannot_ask_for_a_change() {
    let told = |prepare: fn(&mut Model)| {
        let mut m = model((80, 24));
        prepare(&mut m);
        write(&mut m, 5_000, ":switchover");
        let commands = press(&mut m, 5_300, KeyCode::Enter);
        assert_eq!(commands, []);
        m.told.unwrap().text
    };
    assert!(told(|_| {}).contains("old"));
    assert!(told(|m| m.access = Access::ReadOnly).contains("read-only"));
    assert!(
        told(|m| m.link = Link::Live { target: "agent node-2".into(), plane: false })
            .contains("no plane")
    );
}

/// Every sequence of up to three keys from every screen: none executes, none leaves but quit.
#[test]
fn no_short_walk_of_keys_changes_production() {
    let alphabet: Vec<KeyCode> = "123456789jkgGfyStq?:hlnode-1x "
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
        .collect();
    for screen in
        [Screen::Fleet, Screen::Cluster, Screen::Plan, Screen::Run, Screen::Audit, Screen::Why]
    {
        let mut start = model((80, 24));
        start.screen = screen;
        let mut layer = vec![start];
        for depth in 0..3_u64 {
            let mut next = vec![];
            for model in &layer {
                for code in &alphabet {
                    let mut m = model.clone();
                    for command in press(&mut m, 20 * (depth + 1), *code) {
                        let harmless = !matches!(
                            command,
                            Command::Execute(_) | Command::Propose { .. } | Command::Dismiss(_)
                        );
                        assert!(harmless, "{screen:?}: {command:?}");
                    }
                    if depth < 2 {
                        next.push(m);
                    }
                }
            }
            layer = next;
        }
    }
}

#[test]
fn every_screen_draws_at_every_size_without_a_panic() {
    for screen in
        [Screen::Fleet, Screen::Cluster, Screen::Plan, Screen::Run, Screen::Audit, Screen::Why]
    {
        for width in [1, 5, 20, 59, 60, 80, 120, 200] {
            for height in [1, 2, 5, 15, 16, 24, 60] {
                let mut m = model((width, height));
                m.screen = screen;
                let _ = draw(&m);
                open_gate(&mut m);
                let _ = draw(&m);
                press(&mut m, 900, KeyCode::Esc);
                press(&mut m, 920, KeyCode::Char('?'));
                let _ = draw(&m);
            }
        }
    }
}

#[test]
fn a_tiny_terminal_gets_a_card() {
    let mut m = model((20, 5));
    m.moment = moment(0);
    let text = export::text(&draw(&m));
    assert!(
        text.contains("CRITICAL") && text.contains("too small") && text.contains("q quits"),
        "{text}"
    );
}

#[test]
fn the_cluster_screen_at_three_sizes() {
    for (width, height) in [(80, 24), (120, 40), (200, 60)] {
        let m = model((width, height));
        insta::assert_snapshot!(format!("cluster_{width}x{height}"), export::text(&draw(&m)));
    }
}

#[test]
fn the_plan_screen_and_the_gate() {
    let mut m = model((80, 24));
    m.screen = Screen::Plan;
    insta::assert_snapshot!("plan_80x24", export::text(&draw(&m)));
    open_gate(&mut m);
    insta::assert_snapshot!("gate_80x24", export::text(&draw(&m)));
}

/// The word CRITICAL has the look of something bad, and the current phase is seen without colour.
#[test]
fn chosen_cells_have_their_meaning() {
    let m = model((80, 24));
    let buffer = draw(&m);
    let text = export::text(&buffer);
    let (y, line) = text.lines().enumerate().find(|(_, l)| l.contains("✗ CRITICAL")).unwrap();
    let x = line.chars().position(|c| c == '✗').unwrap();
    let cell = &buffer[(u16::try_from(x).unwrap(), u16::try_from(y).unwrap())];
    assert_eq!(Some(cell.fg), m.theme.style(Role::Bad).fg);
    assert!(text.contains("[approve]"), "{text}");
}

#[test]
fn every_theme_loads_at_every_depth_and_mono_has_no_colour() {
    for (name, text) in THEMES {
        for depth in [Depth::None, Depth::Sixteen, Depth::Indexed, Depth::True] {
            let theme = Theme::parse(name, text, depth).unwrap_or_else(|p| panic!("{name}: {p:?}"));
            for role in Role::ALL {
                let style = theme.style(*role);
                if depth == Depth::None || *name == "mono" {
                    assert_eq!((style.fg, style.bg), (None, None), "{name} {}", role.name());
                }
            }
            // The selection is never seen by colour alone.
            assert!(!theme.style(Role::Selected).add_modifier.is_empty(), "{name}");
        }
    }
    let wrong = Theme::parse("x", "[role]\ntetx = { fg = \"red\" }", Depth::True).unwrap_err();
    assert!(wrong.iter().any(|p| p.contains("did you mean \"text\"?")), "{wrong:?}");
}

#[test]
fn every_keymap_loads_and_bad_ones_say_why() {
    for (name, text) in KEYMAPS {
        Keymap::parse(text).unwrap_or_else(|p| panic!("{name}: {p:?}"));
    }
    let problems =
        |extra: &str| Keymap::parse(&format!("{}\n{extra}", KEYMAPS[0].1)).unwrap_err().join("; ");
    assert!(problems("execute = [\"e\"]").contains("has no key"));
    assert!(problems("dismiss = [\"D\"]").contains("leads to a change in production"));
    assert!(problems("fleeet = [\"x\"]").contains("did you mean \"fleet\"?"));
    assert!(
        Keymap::parse("[keys]\nquit = [\"q\"]").unwrap_err().join("; ").contains("help has no key")
    );
    let twice = KEYMAPS[0].1.replace("audit = [\"5\"]", "audit = [\"4\"]");
    assert!(Keymap::parse(&twice).unwrap_err().join("; ").contains("is bound to"));
}

#[test]
fn the_palette_finds_commands_by_name_first() {
    assert_eq!(suggestions("exe").first(), Some(&Action::Execute));
    assert_eq!(suggestions("switch").first(), Some(&Action::Switchover));
    assert_eq!(suggestions("").len(), Action::ALL.len());
}

#[test]
fn a_lost_plane_is_said_and_never_leaves() {
    let mut m = model((80, 24));
    let lost = Link::Lost {
        why: "plane at 127.0.0.1:1: cannot be reached".into(),
        attempt: 3,
        retry_at: moment(2_000).now,
    };
    feed(&mut m, 1_000, Event::Link(lost));
    let text = export::text(&draw(&m));
    assert!(text.contains("STALE 1.0 s, retry in 1.0 s (3)"), "{text}");
    assert!(text.contains("cannot be reached"), "{text}");
    assert_eq!(press(&mut m, 1_100, KeyCode::Char('q')), [Command::Quit]);
}
