//! `cargo bench --bench frames`: what a frame of the console costs, and how long a key takes until its
//! frame is drawn. Percentiles of many frames; the terminal's own time is not in them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    reason = "a benchmark stops at what it does not expect"
)]

#[path = "fixture.rs"]
mod fixture;

use std::time::{Duration, Instant};

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use quorate::console::event::{Event, Link, Moment};
use quorate::console::keymap::{BUILT_IN, Keymap};
use quorate::console::model::{Access, Model, Screen};
use quorate::console::theme::{Depth, Theme};
use quorate::console::update::update;
use quorate::console::view;
use quorate::model::view::ClusterView;
use quorate::model::{ClusterId, Timestamp, WallTime};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

const SIZE: (u16, u16) = (200, 50);
const FRAMES: u64 = 1_000;

fn moment(ms: u64) -> Moment {
    Moment { now: Timestamp(1_000_000_000_000 + ms * 1_000_000), wall: WallTime(1_800_000_000_000) }
}

fn picture(nodes: usize) -> ClusterView {
    let (engine, ..) = fixture::steady("bench", nodes);
    engine.view().clone()
}

fn console() -> Model {
    let theme = Theme::built_in("dark", Depth::True).unwrap();
    let keymap = Keymap::parse(BUILT_IN[0].1).unwrap();
    let mut model = Model::new("bench".into(), Access::Approver, theme, keymap, SIZE);
    let live = Event::Link(Link::Live { target: "plane".into(), plane: true });
    let _ = update(&mut model, moment(0), live);
    model
}

fn say(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |of: usize| times[(times.len() * of / 100).min(times.len() - 1)];
    println!(
        "{what:<44} p50 {:>8.3} ms  p99 {:>8.3} ms",
        at(50).as_secs_f64() * 1e3,
        at(99).as_secs_f64() * 1e3
    );
}

/// A list of so many clusters, a key down before each frame.
fn fleet(clusters: usize) {
    let mut model = console();
    let one = picture(3);
    for i in 0..clusters {
        let name = format!("cluster-{i:05}");
        let view = ClusterView { cluster: ClusterId::new(&name), name, ..one.clone() };
        let _ = update(&mut model, moment(0), Event::View(Box::new(view)));
    }
    model.screen = Screen::Fleet;
    let mut terminal = Terminal::new(TestBackend::new(SIZE.0, SIZE.1)).unwrap();
    let times = (0..FRAMES).map(|i| {
        let down = KeyEvent::new(KeyCode::Char('j'), KeyModifiers::NONE);
        let began = Instant::now();
        let _ = update(&mut model, moment(i * 40), Event::Key(down));
        terminal.draw(|frame| view::view(&model, frame)).unwrap();
        began.elapsed()
    });
    say(&format!("key to frame, fleet of {clusters} clusters"), times.collect());
}

/// From a key to its frame, while a picture of so many nodes comes ten times a second.
fn key(nodes: usize) {
    let mut model = console();
    let view = picture(nodes);
    let _ = update(&mut model, moment(0), Event::View(Box::new(view.clone())));
    let mut terminal = Terminal::new(TestBackend::new(SIZE.0, SIZE.1)).unwrap();
    let times = (0..FRAMES).map(|i| {
        let code = KeyCode::Char(if i / 100 % 2 == 0 { 'j' } else { 'k' });
        let next = (i % 3 == 0).then(|| Event::View(Box::new(view.clone())));
        let began = Instant::now();
        // The key waits behind a picture that came just before it.
        if let Some(next) = next {
            let _ = update(&mut model, moment(i * 33), next);
        }
        let key = Event::Key(KeyEvent::new(code, KeyModifiers::NONE));
        let _ = update(&mut model, moment(i * 33 + 1), key);
        terminal.draw(|frame| view::view(&model, frame)).unwrap();
        began.elapsed()
    });
    say(&format!("key to frame, {nodes} nodes, ten pictures a second"), times.collect());
}

fn main() {
    println!("{} x {}, {FRAMES} frames each", SIZE.0, SIZE.1);
    for clusters in [3, 1_000, 10_000] {
        fleet(clusters);
    }
    for nodes in [3, 200] {
        key(nodes);
    }
}
