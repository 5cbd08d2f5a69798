//! `update` as tables, every screen as a picture from one night's data, the gate, walks over keys,
//! themes and keymaps.

mod gate;
mod look;
mod night;
mod places;
mod walk;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::event::{Change, Command, Event, Link, Moment};
use super::keymap::{BUILT_IN as KEYMAPS, Keymap};
use super::model::{Access, Model, Overlay};
use super::theme::{Depth, Theme};
use super::update::update;
use super::{export, view};
use crate::model::view::ClusterView;
use crate::model::{Timestamp, WallTime};

fn moment(ms: u64) -> Moment {
    Moment {
        now: Timestamp(1_000_000_000_000 + ms * 1_000_000),
        wall: WallTime(night::NOW.0 + i64::try_from(ms).unwrap()),
    }
}

/// A console that is connected and has received these pictures; it looks at the first.
fn model(size: (u16, u16), views: &[ClusterView]) -> Model {
    let theme = Theme::built_in("dark", Depth::True).unwrap();
    let keymap = Keymap::parse(KEYMAPS[0].1).unwrap();
    let mut model = Model::new("oncall-ab".into(), Access::Approver, theme, keymap, size);
    feed(&mut model, 0, Event::Link(Link::Live { target: "plane".into(), plane: true }));
    for view in views {
        feed(&mut model, 0, Event::View(Box::new(view.clone())));
    }
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
/// Types a command and Enter.
fn command(model: &mut Model, ms: u64, text: &str) -> Vec<Command> {
    write(model, ms, ":");
    write(model, ms + 20, text);
    press(model, ms + 20 * (text.len() as u64 + 2), KeyCode::Enter)
}
fn open_gate(model: &mut Model, ms: u64) {
    command(model, ms, "execute");
    assert!(matches!(model.overlay, Some(Overlay::Confirm(_))), "{:?}", model.told);
}

fn draw(model: &Model) -> ratatui::buffer::Buffer {
    let mut terminal = Terminal::new(TestBackend::new(model.size.0, model.size.1)).unwrap();
    terminal.draw(|frame| view::view(model, frame)).unwrap();
    terminal.backend().buffer().clone()
}
fn text(model: &Model) -> String {
    export::text(&draw(model))
}
