//! An event and a model → what the world is asked to do. Pure.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::command::Action;
use super::confirm::{Confirm, Entered};
use super::event::{Command, Event, Moment};
use super::keymap::Key;
use super::model::{Model, Overlay, Screen, Seen};
use super::theme;
use crate::model::{NodeId, Span};
use crate::wire::message::CallReply;

/// More keys than this, each within [`BURST_GAP`] of the one before, are a paste without brackets.
const BURST_KEYS: u32 = 20;
const BURST_GAP: Span = Span::millis(3);
/// A line for the person stays so long.
const TOLD_FOR: Span = Span::secs(8);

/// Takes one event.
pub fn update(model: &mut Model, moment: Moment, event: Event) -> Vec<Command> {
    model.moment = moment;
    if model.told.as_ref().is_some_and(|t| moment.now.since(t.at) > TOLD_FOR) {
        model.told = None;
    }
    let commands = match event {
        Event::Key(key) => on_key(model, &key),
        Event::Paste(_) => {
            on_paste(model);
            vec![]
        }
        Event::Resize(width, height) => {
            model.size = (width, height);
            vec![]
        }
        Event::Tick => vec![],
        Event::Link(link) => {
            model.link = link;
            vec![]
        }
        Event::View(view) => {
            on_view(model, Seen { view: *view, at: moment.now });
            vec![]
        }
        Event::Reply(reply) => {
            on_reply(model, reply);
            vec![]
        }
        Event::Progress(step) => {
            model.starting.push(step);
            vec![]
        }
        Event::Failed(why) => {
            model.tell(why, true);
            vec![]
        }
        Event::Told(text) => {
            model.tell(text, false);
            vec![]
        }
    };
    disarm(model);
    commands
}

fn on_view(model: &mut Model, seen: Seen) {
    if model.node.as_ref().is_some_and(|n| !seen.view.nodes.iter().any(|v| v.node == *n)) {
        // The row left: nothing is selected, not its neighbour.
        model.node = None;
    }
    if let Some((_, missed)) = &mut model.frozen {
        *missed += 1;
    }
    model.seen = Some(seen);
    model.starting.clear();
}

/// The gate closes when what it was opened for changes.
fn disarm(model: &mut Model) {
    let Some(Overlay::Confirm(confirm)) = &model.overlay else { return };
    let Some((view, age)) = model.seen.as_ref().map(|s| &s.view).zip(model.age()) else { return };
    if let Some(why) = confirm.broken_by(view, age) {
        model.overlay = None;
        model.tell(format!("disarmed: {why}. Nothing was done."), true);
    }
}

fn on_reply(model: &mut Model, reply: Result<CallReply, super::event::CallFailed>) {
    model.calling = None;
    match reply {
        Ok(CallReply::Plan { digest, .. }) => {
            model.screen = Screen::Plan;
            model.scroll = 0;
            model.tell(
                format!("plan {} waits. Read the loss account, then :execute", digest.short()),
                false,
            );
        }
        Ok(CallReply::Accepted { plan }) => {
            let what = if std::mem::take(&mut model.dismissing) {
                "dropped"
            } else {
                "confirmed: it runs"
            };
            model.tell(format!("done: plan {} is {what}", plan.short()), false);
        }
        Ok(CallReply::Refused { check, why }) => {
            model.tell(format!("refused ({check}): {why}"), true)
        }
        Ok(
            CallReply::View(_)
            | CallReply::Audit { .. }
            | CallReply::Why(_)
            | CallReply::Verified { .. },
        ) => {}
        Err(failed) if failed.outcome_unknown => {
            model.tell(
                format!(
                    "UNKNOWN: {}. It may have been done: look at run and audit before \
                anything else",
                    failed.why
                ),
                true,
            );
        }
        Err(failed) => model.tell(format!("not done: {}", failed.why), true),
    }
}

fn on_paste(model: &mut Model) {
    match &mut model.overlay {
        Some(Overlay::Confirm(confirm)) => {
            confirm.typed.clear();
            "a paste is not taken here: type the name".clone_into(&mut confirm.hint);
        }
        _ => model.tell("a paste is not taken as keys", false),
    }
}

fn on_key(model: &mut Model, key: &KeyEvent) -> Vec<Command> {
    if key.kind == KeyEventKind::Release {
        return vec![];
    }
    // Leaving works everywhere, in every state of the connection.
    if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
        return vec![Command::Quit];
    }
    let (last, count) = model.burst;
    model.burst =
        (model.moment.now, if model.moment.now.since(last) > BURST_GAP { 1 } else { count + 1 });
    if model.burst.1 > BURST_KEYS {
        on_paste(model);
        return vec![];
    }
    let back = Key::from_event(key).and_then(|k| model.keymap.action(k)) == Some(Action::Back);
    let escape = key.code == KeyCode::Esc || key.modifiers.contains(KeyModifiers::ALT);
    match model.overlay.take() {
        None => {
            let action = Key::from_event(key).and_then(|k| model.keymap.action(k));
            action.map_or_else(Vec::new, |a| act(model, a, ""))
        }
        Some(_) if escape => vec![],
        Some(Overlay::Help { scroll }) => {
            let action = Key::from_event(key).and_then(|k| model.keymap.action(k));
            match action {
                Some(Action::Help) => {}
                Some(Action::Quit) => return vec![Command::Quit],
                Some(Action::Next | Action::PageDown) => {
                    model.overlay = Some(Overlay::Help { scroll: scroll + 1 })
                }
                Some(Action::Previous | Action::PageUp) => {
                    model.overlay = Some(Overlay::Help { scroll: scroll.saturating_sub(1) })
                }
                _ if back => {}
                _ => model.overlay = Some(Overlay::Help { scroll }),
            }
            vec![]
        }
        Some(Overlay::Palette { input, selected }) => on_palette(model, key, input, selected),
        Some(Overlay::Confirm(confirm)) => on_confirm(model, key, confirm),
    }
}

fn on_confirm(model: &mut Model, key: &KeyEvent, mut confirm: Box<Confirm>) -> Vec<Command> {
    confirm.hint.clear();
    match key.code {
        KeyCode::Enter => match confirm.enter() {
            Entered::Cancelled => {
                model.tell("cancelled. Nothing was done.", false);
                vec![]
            }
            Entered::Wrong => {
                confirm.hint =
                    format!("{:?} is not the node that this plan demotes", confirm.typed);
                confirm.typed.clear();
                model.overlay = Some(Overlay::Confirm(confirm));
                vec![]
            }
            Entered::Proof(proof) => {
                model.calling = Some(model.moment.now);
                model.dismissing = false;
                model.screen = Screen::Run;
                vec![Command::Execute(proof)]
            }
        },
        KeyCode::Backspace => {
            confirm.typed.pop();
            model.overlay = Some(Overlay::Confirm(confirm));
            vec![]
        }
        // Key repeat is not typing.
        KeyCode::Char(c)
            if key.kind == KeyEventKind::Press
                && !key.modifiers.contains(KeyModifiers::CONTROL)
                && confirm.typed.len() < 64 =>
        {
            confirm.typed.push(c);
            model.overlay = Some(Overlay::Confirm(confirm));
            vec![]
        }
        _ => {
            model.overlay = Some(Overlay::Confirm(confirm));
            vec![]
        }
    }
}

fn on_palette(
    model: &mut Model,
    key: &KeyEvent,
    mut input: String,
    mut selected: usize,
) -> Vec<Command> {
    match key.code {
        KeyCode::Enter => {
            let whole = Action::by_name(input.split(' ').next().unwrap_or_default()).is_some();
            let chosen = suggestions(&input).get(selected).copied().filter(|_| selected > 0);
            let parsed = match chosen {
                Some(action) if !whole => Ok((action, "")),
                _ => Action::parse(&input),
            };
            return match parsed {
                // What leads to a change is run by its whole name only; a beginning just fills the
                // name in.
                Ok((action, _)) if action.is_mutating() && !whole => {
                    model.overlay =
                        Some(Overlay::Palette { input: action.name().to_owned(), selected: 0 });
                    vec![]
                }
                Ok((action, rest)) => act(model, action, rest),
                Err(why) => {
                    model.tell(why, true);
                    vec![]
                }
            };
        }
        KeyCode::Backspace => {
            if input.pop().is_none() {
                return vec![];
            }
            selected = 0;
        }
        KeyCode::Up => selected = selected.saturating_sub(1),
        KeyCode::Down => selected = (selected + 1).min(suggestions(&input).len().saturating_sub(1)),
        KeyCode::Tab => {
            if let Some(action) = suggestions(&input).get(selected) {
                input = format!("{} ", action.name());
            }
        }
        KeyCode::Char(c) if !key.modifiers.contains(KeyModifiers::CONTROL) && input.len() < 128 => {
            input.push(c);
            selected = 0;
        }
        _ => {}
    }
    model.overlay = Some(Overlay::Palette { input, selected });
    vec![]
}

/// Commands that fit what is typed, best first.
pub fn suggestions(input: &str) -> Vec<Action> {
    use nucleo_matcher::pattern::{CaseMatching, Normalization, Pattern};
    use nucleo_matcher::{Config, Matcher, Utf32Str};
    let word = input.split(' ').next().unwrap_or_default();
    let pattern = Pattern::parse(word, CaseMatching::Ignore, Normalization::Smart);
    let mut matcher = Matcher::new(Config::DEFAULT);
    let mut scored: Vec<(u32, Action)> = Action::ALL
        .into_iter()
        .filter_map(|action| {
            let mut buffer = Vec::new();
            // A hit in the name counts more than one in the sentence.
            let name = pattern
                .score(Utf32Str::new(action.name(), &mut buffer), &mut matcher)
                .map(|s| s + 1_000);
            let doc = pattern.score(Utf32Str::new(action.doc(), &mut buffer), &mut matcher);
            Some((name.or(doc)?, action))
        })
        .collect();
    scored.sort_by(|a, b| {
        b.0.cmp(&a.0).then_with(|| {
            Action::ALL
                .iter()
                .position(|x| *x == a.1)
                .cmp(&Action::ALL.iter().position(|x| *x == b.1))
        })
    });
    scored.into_iter().map(|(_, action)| action).collect()
}

/// Carries a command out.
pub fn act(model: &mut Model, action: Action, argument: &str) -> Vec<Command> {
    if let Some(why) = action.unavailable(model) {
        model.tell(format!("{}: {why}", action.name()), true);
        return vec![];
    }
    let go = |model: &mut Model, screen| {
        model.screen = screen;
        model.scroll = 0;
    };
    match action {
        Action::Fleet => go(model, Screen::Fleet),
        Action::Cluster | Action::Open => go(model, Screen::Cluster),
        Action::Plan => go(model, Screen::Plan),
        Action::Run => go(model, Screen::Run),
        Action::Audit => go(model, Screen::Audit),
        Action::Why => go(model, Screen::Why),
        Action::Next => select(model, 1),
        Action::Previous => select(model, -1),
        Action::First => select(model, isize::MIN),
        Action::Last => select(model, isize::MAX),
        Action::PageDown => page(model, 10),
        Action::PageUp => page(model, -10),
        Action::Back => match model.screen {
            Screen::Fleet => {}
            Screen::Cluster => go(model, Screen::Fleet),
            Screen::Plan | Screen::Run | Screen::Audit | Screen::Why => go(model, Screen::Cluster),
        },
        Action::Help => model.overlay = Some(Overlay::Help { scroll: 0 }),
        Action::Palette => {
            model.overlay = Some(Overlay::Palette { input: String::new(), selected: 0 })
        }
        Action::Freeze => {
            model.frozen = match model.frozen.take() {
                Some(_) => None,
                None => model.seen.clone().map(|seen| (seen, 0)),
            };
        }
        Action::Theme => {
            let at = theme::BUILT_IN
                .iter()
                .position(|(n, _)| *n == model.theme.name)
                .map_or(0, |i| i + 1);
            let (name, _) = theme::BUILT_IN[at % theme::BUILT_IN.len()];
            return vec![Command::Theme(name)];
        }
        Action::Copy => return vec![Command::Copy],
        Action::Save => return vec![Command::Save],
        Action::Suspend => return vec![Command::Suspend],
        Action::Quit => return vec![Command::Quit],
        Action::Switchover => {
            let to = (!argument.is_empty())
                .then(|| NodeId::new(argument.split(' ').next().unwrap_or(argument)));
            let words = argument.split_once(' ').map_or("", |(_, rest)| rest.trim());
            let reason = if words.is_empty() { "asked for in the console" } else { words };
            model.calling = Some(model.moment.now);
            return vec![Command::Propose { to, reason: reason.to_owned() }];
        }
        Action::Execute => {
            go(model, Screen::Plan);
            if let Some(seen) = &model.seen {
                match Confirm::open(&seen.view) {
                    Ok(confirm) => model.overlay = Some(Overlay::Confirm(Box::new(confirm))),
                    Err(why) => model.tell(why, true),
                }
            }
        }
        Action::Dismiss => {
            if let Some(plan) = model.view().and_then(|v| v.plan.as_ref()) {
                let digest = plan.digest();
                model.calling = Some(model.moment.now);
                model.dismissing = true;
                return vec![Command::Dismiss(digest)];
            }
        }
    }
    vec![]
}

fn page(model: &mut Model, by: isize) {
    match model.screen {
        Screen::Plan | Screen::Run | Screen::Why => {
            model.scroll = model.scroll.saturating_add_signed(by)
        }
        Screen::Fleet | Screen::Cluster | Screen::Audit => select(model, by),
    }
}

fn select(model: &mut Model, by: isize) {
    let rows = model.rows();
    if rows == 0 {
        return;
    }
    let step = |at: Option<usize>| match (at, by) {
        (_, isize::MIN) => 0,
        (_, isize::MAX) => rows - 1,
        (None, _) => 0,
        (Some(at), by) => at.saturating_add_signed(by).min(rows - 1),
    };
    match model.screen {
        Screen::Cluster => {
            let Some(view) = model.view() else { return };
            let at = model.node.as_ref().and_then(|n| view.nodes.iter().position(|v| v.node == *n));
            model.node = Some(view.nodes[step(at)].node.clone());
        }
        Screen::Audit => {
            let records = model.records();
            let at = model.record.and_then(|n| records.iter().position(|r| r.number == n));
            model.record = Some(records[step(at)].number);
        }
        Screen::Fleet | Screen::Plan | Screen::Run | Screen::Why => {}
    }
}
