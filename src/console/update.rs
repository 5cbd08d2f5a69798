//! An event and a model → what the world is asked to do. Pure.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tui_input::Input;
use tui_input::backend::crossterm::EventHandler as _;

use super::command::Action;
use super::confirm::{Confirm, Entered};
use super::event::{CallFailed, Change, Command, Event, Link, Moment};
use super::go;
use super::history::Lag;
use super::keymap::{Found, Key};
use super::model::{Model, Overlay, Screen, Seen};
use super::settings::Bell;
use super::sure::Sure;
use super::view;
use crate::model::plan::Proposal;
use crate::model::view::ClusterView;
use crate::model::{NodeId, Span};
use crate::picture::summary::{Attention, attention};
use crate::wire::changing::{Changed, NodeChange};
use crate::wire::message::CallReply;

/// More keys than this, each within [`BURST_GAP`] of the one before, are a paste without brackets.
const BURST_KEYS: u32 = 20;
const BURST_GAP: Span = Span::millis(3);
/// A line about what was done stays so long; one about what was not, until a key.
const TOLD_FOR: Span = Span::secs(4);
/// Tries of the connection that are kept.
const TRIES_MAX: usize = 20;

/// Takes one event.
pub fn update(model: &mut Model, moment: Moment, event: Event) -> Vec<Command> {
    model.moment = moment;
    if model.told.as_ref().is_some_and(|t| !t.bad && moment.now.since(t.at) > TOLD_FOR) {
        model.told = None;
    }
    let commands = match event {
        Event::Key(key) => on_key(model, &key),
        Event::Paste(text) => {
            on_paste(model, &text);
            vec![]
        }
        Event::Wheel(down) if model.overlay.is_none() => {
            go::moved(model, if down { Action::Next } else { Action::Previous });
            vec![]
        }
        Event::Wheel(_) | Event::Tick => vec![],
        Event::Resize(width, height) => {
            model.size = (width, height);
            let small = width < view::SIZE_MIN.0 || height < view::SIZE_MIN.1;
            let asks = matches!(model.overlay, Some(Overlay::Confirm(_) | Overlay::Sure(_)));
            if small && asks {
                // What cannot be read is not confirmed.
                model.overlay = None;
                model.tell("the terminal became too small: nothing was done", true);
            }
            vec![]
        }
        Event::Link(link) => {
            on_link(model, link);
            vec![]
        }
        Event::View(view) => {
            on_view(model, Seen { view: view.into(), at: moment.now, older: Span::ZERO })
        }
        Event::Reply(reply) => {
            on_reply(model, reply);
            vec![]
        }
        Event::Changed(ended) => {
            on_changed(model, ended);
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

fn on_link(model: &mut Model, link: Link) {
    let words = match &link {
        Link::Lost { why, attempt, .. } => Some(format!("{why}; try {attempt} comes next")),
        Link::Live { target, .. } => Some(format!("connected to {target}")),
        Link::Idle | Link::Connecting { .. } => None,
    };
    if let Some(words) = words.filter(|w| model.tries.back().is_none_or(|(_, last)| last != w)) {
        model.tries.push_back((model.moment.wall, words));
        if model.tries.len() > TRIES_MAX {
            model.tries.pop_front();
        }
    }
    model.link = link;
}

fn on_view(model: &mut Model, seen: Seen) -> Vec<Command> {
    let yours = |view: &_| attention(view) == Attention::Yours;
    let before = model.clusters.get(&seen.view.cluster).is_some_and(|s| yours(&s.view));
    let rings = yours(&seen.view) && !before && model.settings.bell == Bell::NeedsMe;
    if let Some((_, missed)) = &mut model.frozen {
        *missed += 1;
    }
    // One that was only kept is no reason to look past those that are there.
    let kept = |s: &Seen| s.older > Span::ZERO;
    if model.cluster.is_none() || model.seen().is_some_and(kept) {
        model.cluster = Some(seen.view.cluster.clone());
    }
    if let Some(wanted) = model.wanted.take() {
        if seen.view.cluster.as_str() == wanted || seen.view.name == wanted {
            model.cluster = Some(seen.view.cluster.clone());
        } else {
            if !model.clusters.values().any(|s| !kept(s)) {
                model.tell(format!("cluster {wanted} was not seen here yet"), true);
            }
            model.wanted = Some(wanted);
        }
    }
    note_lags(model, &seen);
    model.clusters.insert(seen.view.cluster.clone(), seen);
    model.starting.clear();
    if rings { vec![Command::Bell] } else { vec![] }
}

fn note_lags(model: &mut Model, seen: &Seen) {
    let cluster = &seen.view.cluster;
    let known = |node: &NodeId| seen.view.nodes.iter().any(|n| n.node == *node);
    model.lags.retain(|(of, node), _| of != cluster || known(node));
    for node in &seen.view.nodes {
        let begin = || Lag::begin(&node.lag_history, seen.at);
        let lag = model.lags.entry((cluster.clone(), node.node.clone())).or_insert_with(begin);
        lag.note(seen.at, node.lag_bytes);
    }
}

/// The gate's field closes when what it was opened for changes; what changed is named inside it.
fn disarm(model: &mut Model) {
    let Some(Overlay::Confirm(confirm)) = &model.overlay else { return };
    let Some((view, age)) = model.seen().map(|s| &s.view).zip(model.age()) else { return };
    let broken = confirm.broken_by(view, age);
    if let Some(Overlay::Confirm(confirm)) = &mut model.overlay
        && confirm.broken.is_none()
        && let Some(broken) = broken
    {
        confirm.typed.clear();
        confirm.broken = Some(broken);
    }
}

fn on_reply(model: &mut Model, reply: Result<CallReply, CallFailed>) {
    model.calling = None;
    match reply {
        Ok(CallReply::Plan { digest, .. }) => {
            go::to(model, Screen::Plan);
            model.tell(
                format!(
                    "plan {} waits; nothing has begun: read its loss, then :execute",
                    digest.short()
                ),
                false,
            );
        }
        Ok(CallReply::Accepted { plan }) => {
            let dropped = std::mem::take(&mut model.dismissing);
            model.tell(
                match plan.short() {
                    "" => "done: the plane took it".to_owned(),
                    plan if dropped => format!("plan {plan} is dropped; nothing was changed"),
                    plan => format!("plan {plan} runs; it goes on without this console"),
                },
                false,
            );
        }
        Ok(CallReply::Refused { check, why }) => refused(model, check, why),
        Ok(CallReply::Verified { parts, confidence }) => {
            let at = model.clock(model.moment.wall);
            // The write first: it is what was asked for.
            let mut failed: Vec<_> = parts.iter().filter(|(_, held, _)| !held).collect();
            failed.sort_by_key(|(name, ..)| name != "write");
            let text = match failed.as_slice() {
                [] => {
                    format!("verified at {at}: a write came back, confidence {confidence} of 100")
                }
                [(name, _, found), rest @ ..] => {
                    let rest: String = rest.iter().map(|(name, ..)| format!("; {name}")).collect();
                    format!("not verified at {at}: {name}: {found}{rest}")
                }
            };
            model.tell(text, !failed.is_empty());
        }
        Ok(CallReply::View(_) | CallReply::Audit { .. } | CallReply::Why(_)) => {}
        Err(failed) if failed.outcome_unknown => model.tell(
            format!(
                "UNKNOWN: {}; it may have been done: look at run and audit before anything else",
                failed.why
            ),
            true,
        ),
        Err(failed) => model.tell(format!("not done: {}; nothing was changed", failed.why), true),
    }
}

fn refused(model: &mut Model, check: String, why: String) {
    model.tell(format!("refused by {check}: {why}"), true);
    if model.overlay.is_none() {
        model.overlay = Some(Overlay::Refused { check, why });
    }
}

fn on_changed(model: &mut Model, ended: Changed) {
    model.calling = None;
    match ended {
        Changed::Done(words) => model.tell(words, false),
        Changed::Refused { check, why } => refused(model, check, why),
        Changed::NotAsked(why) => model.tell(format!("not asked for: {why}"), true),
        Changed::Unknown(what) => {
            model
                .tell(format!("UNKNOWN: {what}; look at why and audit before anything else"), true);
        }
    }
}

fn on_paste(model: &mut Model, text: &str) {
    match &mut model.overlay {
        Some(Overlay::Confirm(confirm)) => {
            confirm.typed.clear();
            "a paste is not taken here: type the name".clone_into(&mut confirm.hint);
        }
        Some(Overlay::Sure(sure)) => {
            sure.typed.clear();
            "a paste is not taken here: type the name".clone_into(&mut sure.hint);
        }
        // A filter and a command are only text: control characters are left out.
        Some(Overlay::Palette { input, .. } | Overlay::Filter(input)) => {
            for c in text.chars().filter(|c| !c.is_control()).take(128) {
                input.handle(tui_input::InputRequest::InsertChar(c));
            }
            let text = input.value().to_owned();
            if matches!(model.overlay, Some(Overlay::Filter(_))) {
                let place = model.place();
                model.filters.insert(place, text);
            }
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
    // In a line of text it is text, and runs nothing.
    let line = matches!(model.overlay, Some(Overlay::Palette { .. } | Overlay::Filter(_)));
    if model.burst.1 > BURST_KEYS && !(line && matches!(key.code, KeyCode::Char(_))) {
        on_paste(model, "");
        return vec![];
    }
    // What was refused has been seen.
    if model.told.as_ref().is_some_and(|t| t.bad) && model.overlay.is_none() {
        model.told = None;
    }
    let escape = key.code == KeyCode::Esc || key.modifiers.contains(KeyModifiers::ALT);
    match model.overlay.take() {
        None => on_page(model, key),
        Some(Overlay::Filter(_)) if escape => {
            model.filters.remove(&model.place());
            vec![]
        }
        Some(_) if escape => vec![],
        Some(Overlay::Help { scroll, filter }) => on_help(model, key, scroll, filter),
        Some(Overlay::ReadAll { scroll }) => on_read_all(model, key, scroll),
        Some(Overlay::Refused { check, why }) => on_refused(model, key, check, why),
        Some(Overlay::Filter(input)) => on_filter(model, key, input),
        Some(Overlay::Palette { input, selected }) => on_palette(model, key, input, selected),
        Some(Overlay::Confirm(confirm)) => on_confirm(model, key, confirm),
        Some(Overlay::Sure(sure)) => on_sure(model, key, sure),
    }
}

fn on_page(model: &mut Model, key: &KeyEvent) -> Vec<Command> {
    let Some(key) = Key::from_event(key) else { return vec![] };
    let (mut keys, since) = model.prefix.take().unwrap_or((vec![], model.moment.now));
    let begun = !keys.is_empty();
    keys.push(key);
    match model.keymap.find(&keys) {
        Found::Action(action) => act(model, action, ""),
        Found::Prefix => {
            model.prefix = Some((keys, since));
            vec![]
        }
        // Esc, and what leads nowhere, closes a sequence and nothing else.
        Found::Nothing if begun => vec![],
        Found::Nothing => vec![],
    }
}

/// The command of a key inside a dialog that only scrolls.
fn bound(model: &Model, key: &KeyEvent) -> Option<Action> {
    Key::from_event(key).and_then(|k| model.keymap.action(k))
}

fn scroll_by(model: &Model, key: &KeyEvent, scroll: usize) -> Option<usize> {
    let by = match key.code {
        KeyCode::Down => 1,
        KeyCode::Up => -1,
        KeyCode::PageDown => 10,
        KeyCode::PageUp => -10,
        KeyCode::Home => isize::MIN,
        KeyCode::End => isize::MAX,
        _ => return None,
    };
    Some(match by {
        isize::MIN => 0,
        isize::MAX => view::scroll_max(model),
        by => scroll.saturating_add_signed(by).min(view::scroll_max(model)),
    })
}

fn on_help(model: &mut Model, key: &KeyEvent, scroll: usize, mut filter: String) -> Vec<Command> {
    model.overlay = Some(Overlay::Help { scroll, filter: filter.clone() });
    if let Some(scroll) = scroll_by(model, key, scroll) {
        model.overlay = Some(Overlay::Help { scroll, filter });
        return vec![];
    }
    match key.code {
        KeyCode::Char('?') | KeyCode::Enter => model.overlay = None,
        KeyCode::Backspace => {
            filter.pop();
            model.overlay = Some(Overlay::Help { scroll: 0, filter });
        }
        KeyCode::Char(c) if !key.modifiers.contains(KeyModifiers::CONTROL) && filter.len() < 40 => {
            filter.push(c);
            model.overlay = Some(Overlay::Help { scroll: 0, filter });
        }
        _ => {}
    }
    vec![]
}

fn on_read_all(model: &mut Model, key: &KeyEvent, scroll: usize) -> Vec<Command> {
    model.overlay = Some(Overlay::ReadAll { scroll });
    if let Some(scroll) = scroll_by(model, key, scroll) {
        model.overlay = Some(Overlay::ReadAll { scroll });
        return vec![];
    }
    match bound(model, key) {
        Some(Action::Next) => {
            let scroll = (scroll + 1).min(view::scroll_max(model));
            model.overlay = Some(Overlay::ReadAll { scroll });
        }
        Some(Action::Previous) => {
            model.overlay = Some(Overlay::ReadAll { scroll: scroll.saturating_sub(1) });
        }
        Some(Action::Copy) => return vec![Command::Copy(view::all_text(model))],
        Some(Action::Quit) => return vec![Command::Quit],
        Some(Action::ReadAll | Action::Open | Action::Back) => model.overlay = None,
        _ => {}
    }
    vec![]
}

fn on_refused(model: &mut Model, key: &KeyEvent, check: String, why: String) -> Vec<Command> {
    match bound(model, key) {
        Some(Action::Open | Action::Back | Action::ReadAll) => vec![],
        Some(Action::Why) => {
            go::to(model, Screen::Why);
            vec![]
        }
        Some(Action::Quit) => vec![Command::Quit],
        Some(Action::Copy) => {
            let text = format!("refused by {check}: {why}");
            model.overlay = Some(Overlay::Refused { check, why });
            vec![Command::Copy(text)]
        }
        _ => {
            model.overlay = Some(Overlay::Refused { check, why });
            vec![]
        }
    }
}

fn on_filter(model: &mut Model, key: &KeyEvent, mut input: Input) -> Vec<Command> {
    let place = model.place();
    if key.code == KeyCode::Enter {
        return vec![];
    }
    if input.value().len() < 128 || key.code == KeyCode::Backspace {
        input.handle_event(&crossterm::event::Event::Key(*key));
    }
    model.filters.insert(place, input.value().to_owned());
    model.overlay = Some(Overlay::Filter(input));
    vec![]
}

fn on_confirm(model: &mut Model, key: &KeyEvent, mut confirm: Box<Confirm>) -> Vec<Command> {
    confirm.hint.clear();
    let missing = view::gate_missing(model, &confirm);
    match key.code {
        KeyCode::Enter if missing > 0 && !confirm.typed.is_empty() => {
            // Somebody with no larger terminal has the command line.
            confirm.hint = format!(
                "enlarge the terminal, {missing} lines are missing; or: quorate execute {}",
                confirm.digest().short()
            );
        }
        KeyCode::Enter => match confirm.enter(model.moment.now) {
            Entered::Cancelled => {
                model.tell("cancelled; nothing was done", false);
                return vec![];
            }
            Entered::Wrong(why) => {
                if confirm.typed != confirm.wanted() {
                    confirm.typed.clear();
                }
                confirm.hint = why;
            }
            Entered::Next => {}
            Entered::Proof(proof) => {
                model.calling = Some(model.moment.now);
                model.dismissing = false;
                go::to(model, Screen::Run);
                return vec![Command::Change(Change::Execute(proof))];
            }
        },
        _ if confirm.broken.is_some() => {}
        KeyCode::Backspace => {
            confirm.typed.pop();
        }
        // Key repeat is not typing.
        KeyCode::Char(_) if key.kind == KeyEventKind::Repeat => {
            "a held key is not typing".clone_into(&mut confirm.hint);
        }
        KeyCode::Char(c)
            if !key.modifiers.contains(KeyModifiers::CONTROL) && confirm.typed.len() < 256 =>
        {
            confirm.typed.push(c);
        }
        _ => {}
    }
    model.overlay = Some(Overlay::Confirm(confirm));
    vec![]
}

fn on_sure(model: &mut Model, key: &KeyEvent, mut sure: Box<Sure>) -> Vec<Command> {
    sure.hint.clear();
    match key.code {
        KeyCode::Enter if sure.typed.is_empty() => {
            model.tell("cancelled; nothing was asked for", false);
            return vec![];
        }
        KeyCode::Enter => match sure.enter(model.moment.now) {
            Err(why) => sure.hint = why,
            Ok(()) => match Action::Remove.unavailable(model) {
                Some(why) => sure.hint = why,
                None => {
                    model.calling = Some(model.moment.now);
                    let change = NodeChange::Remove;
                    return vec![Command::Change(Change::Node(change, sure.node, sure.reason))];
                }
            },
        },
        KeyCode::Backspace => {
            sure.typed.pop();
        }
        KeyCode::Char(c)
            if key.kind != KeyEventKind::Repeat
                && !key.modifiers.contains(KeyModifiers::CONTROL)
                && sure.typed.len() < 256 =>
        {
            sure.typed.push(c);
        }
        _ => {}
    }
    model.overlay = Some(Overlay::Sure(sure));
    vec![]
}

fn on_palette(
    model: &mut Model,
    key: &KeyEvent,
    mut input: Input,
    mut selected: usize,
) -> Vec<Command> {
    match key.code {
        KeyCode::Enter => {
            let text = input.value().trim().to_owned();
            if text.is_empty() {
                return vec![];
            }
            let whole = Action::by_name(text.split(' ').next().unwrap_or_default());
            // A row that was gone to with the arrows is as good as its name.
            let gone_to = suggestions(&text).get(selected).copied().filter(|_| selected > 0);
            let parsed = match gone_to.filter(|_| whole.is_none()) {
                Some(action) => Ok((action, "")),
                None => Action::parse(&text),
            };
            match parsed {
                // What leads to a change is run by its whole name only; a beginning just fills the
                // name in.
                Ok((action, rest)) if action.is_mutating() && whole.is_none() => {
                    let input = Input::new(format!("{} {rest}", action.name()));
                    model.overlay = Some(Overlay::Palette { input, selected: 0 });
                }
                // It came together with the text, as from a paste without brackets.
                Ok((action, _)) if action.is_mutating() && model.burst.1 > 1 => {
                    model.tell("Enter came together with the text: press it by itself", true);
                    model.overlay = Some(Overlay::Palette { input, selected });
                }
                Ok((action, rest)) => return act(model, action, rest),
                Err(why) => {
                    model.tell(format!("{why}; nothing was done"), true);
                    model.overlay = Some(Overlay::Palette { input, selected });
                }
            }
            return vec![];
        }
        KeyCode::Backspace if input.value().is_empty() => return vec![],
        KeyCode::Up => selected = selected.saturating_sub(1),
        KeyCode::Down => {
            selected = (selected + 1).min(suggestions(input.value()).len().saturating_sub(1));
        }
        KeyCode::Tab => {
            if let Some(action) = suggestions(input.value()).get(selected) {
                input = Input::new(format!("{} ", action.name()));
                selected = 0;
            }
        }
        _ => {
            let before = input.value().len();
            if before < 128 || key.code == KeyCode::Backspace {
                input.handle_event(&crossterm::event::Event::Key(*key));
            }
            if input.value().len() != before {
                selected = 0;
            }
        }
    }
    model.overlay = Some(Overlay::Palette { input, selected });
    vec![]
}

/// Commands whose name fits what is typed, best first. Names only: a word that only stands in a
/// description leads nowhere.
pub fn suggestions(input: &str) -> Vec<Action> {
    use nucleo_matcher::pattern::{CaseMatching, Normalization, Pattern};
    use nucleo_matcher::{Config, Matcher, Utf32Str};
    let word = input.split(' ').next().unwrap_or_default();
    let pattern = Pattern::parse(word, CaseMatching::Ignore, Normalization::Smart);
    let mut matcher = Matcher::new(Config::DEFAULT);
    let mut scored: Vec<(bool, u32, usize, Action)> = Action::ALL
        .iter()
        .enumerate()
        .filter_map(|(i, action)| {
            let mut buffer = Vec::new();
            let score = pattern.score(Utf32Str::new(action.name(), &mut buffer), &mut matcher)?;
            Some((action.name().starts_with(word), score, i, *action))
        })
        .collect();
    scored.sort_by(|a, b| b.0.cmp(&a.0).then(b.1.cmp(&a.1)).then(a.2.cmp(&b.2)));
    scored.into_iter().map(|(.., action)| action).collect()
}

/// Carries a command out.
pub fn act(model: &mut Model, action: Action, argument: &str) -> Vec<Command> {
    if let Some(why) = action.unavailable(model) {
        model.tell(format!("{}: {why}", action.name()), true);
        return vec![];
    }
    match action {
        Action::Switchover | Action::AcceptLoss | Action::Failback | Action::Resume => {
            return propose(model, argument, action);
        }
        Action::Execute => {
            go::to(model, Screen::Plan);
            if let Some(seen) = model.seen() {
                match Confirm::open(&seen.view, model.moment.now) {
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
                return vec![Command::Change(Change::Dismiss(digest))];
            }
        }
        Action::Acknowledge if argument.is_empty() => {
            model.tell("acknowledge: say in words what was found, for the audit", true);
        }
        Action::Acknowledge => {
            model.calling = Some(model.moment.now);
            return vec![Command::Change(Change::Acknowledge(argument.to_owned()))];
        }
        Action::Verify => {
            model.calling = Some(model.moment.now);
            return vec![Command::Change(Change::Verify)];
        }
        other => {
            return match other.of_a_node() {
                Some(change) => change_node(model, argument, other, change),
                None => go::act(model, other, argument),
            };
        }
    }
    vec![]
}

/// A node by its name, then the reason in words.
fn change_node(
    model: &mut Model,
    argument: &str,
    action: Action,
    change: NodeChange,
) -> Vec<Command> {
    let (node, words) = argument.split_once(' ').unwrap_or((argument, ""));
    let known = |v: &ClusterView| v.nodes.iter().any(|n| n.node.as_str() == node);
    if !model.view().is_some_and(known) {
        let why = match node {
            "" => format!("{0}: which node? {0} NODE [WORDS]", action.name()),
            _ => format!("there is no node {node}; nothing was asked for"),
        };
        model.tell(why, true);
        return vec![];
    }
    let reason = match words.trim() {
        "" => "asked for in the console".to_owned(),
        words => words.to_owned(),
    };
    let node = NodeId::new(node);
    if change == NodeChange::Remove
        && let Some(view) = model.view()
    {
        if view.primary.as_ref() == Some(&node) {
            model.tell(format!("{node} holds the write role: move it first"), true);
            return vec![];
        }
        let sure = Sure::ask(view, node, reason, model.moment.now);
        model.overlay = Some(Overlay::Sure(Box::new(sure)));
        return vec![];
    }
    model.calling = Some(model.moment.now);
    vec![Command::Change(Change::Node(change, node, reason))]
}

/// A node where the command takes one, then the reason in words.
fn propose(model: &mut Model, argument: &str, action: Action) -> Vec<Command> {
    let takes_a_node = matches!(action, Action::Switchover | Action::AcceptLoss);
    let (node, words) = if takes_a_node {
        argument.split_once(' ').unwrap_or((argument, ""))
    } else {
        ("", argument)
    };
    let to = (!node.is_empty()).then(|| NodeId::new(node));
    if let Some(to) = &to
        && let Some(view) = model.view()
        && !view.nodes.iter().any(|n| n.node == *to)
    {
        model.tell(format!("there is no node {to} in {}; nothing was asked for", view.name), true);
        return vec![];
    }
    let words = words.trim();
    let reason = if words.is_empty() { "asked for in the console" } else { words };
    model.calling = Some(model.moment.now);
    vec![Command::Change(Change::Propose(Proposal {
        to,
        reason: reason.to_owned(),
        accept_unknown_loss: action == Action::AcceptLoss,
        failback: action == Action::Failback,
        resume: action == Action::Resume,
        ..Proposal::default()
    }))]
}
