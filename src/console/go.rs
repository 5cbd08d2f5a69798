//! Getting around: screens, panels, rows, time. Nothing here asks the world to change anything but
//! this console's own look.

use tui_input::Input;

use super::command::Action;
use super::event::Command;
use super::model::{Model, Overlay, Screen};
use super::settings::{Bell, Settings};
use super::{keymap, theme, view};
use crate::model::NodeId;

/// Goes to a screen.
pub(super) fn to(model: &mut Model, screen: Screen) {
    if model.screen != screen {
        model.before = model.screen;
        model.screen = screen;
    }
}

pub(super) fn act(model: &mut Model, action: Action, argument: &str) -> Vec<Command> {
    match action {
        Action::Fleet | Action::Home => to(model, Screen::Fleet),
        Action::Cluster => {
            if !argument.is_empty() {
                let found = model
                    .clusters
                    .values()
                    .find(|s| s.view.name == argument || s.view.cluster.as_str() == argument)
                    .map(|s| s.view.cluster.clone());
                match found {
                    Some(id) => choose_cluster(model, id),
                    None => {
                        model.tell(format!("there is no cluster {argument:?} here"), true);
                        return vec![];
                    }
                }
            }
            to(model, Screen::Cluster);
        }
        Action::Plan => to(model, Screen::Plan),
        Action::Run => to(model, Screen::Run),
        Action::Audit => to(model, Screen::Audit),
        Action::WhatIf if model.place() == Screen::Why => {
            model.tell(
                "what would happen if the primary died now is on this page, below the candidates",
                false,
            );
        }
        Action::Why | Action::WhatIf => to(model, Screen::Why),
        Action::Log => to(model, Screen::Log),
        Action::Settings => to(model, Screen::Settings),
        Action::LastPlace => {
            let before = model.before;
            to(model, before);
        }
        Action::Next
        | Action::Previous
        | Action::First
        | Action::Last
        | Action::PageDown
        | Action::PageUp => moved(model, action),
        Action::NextPanel | Action::PreviousPanel => {
            let next = view::page(model).neighbour(model, action == Action::PreviousPanel);
            if let Some(id) = next {
                let place = model.place();
                model.focus.insert(place, id);
            }
        }
        Action::ReadAll => model.overlay = Some(Overlay::ReadAll { scroll: 0 }),
        Action::Open => return open(model),
        Action::Back => back(model),
        Action::Filter => {
            let now = model.filters.get(&model.place()).cloned().unwrap_or_default();
            model.overlay = Some(Overlay::Filter(Input::new(now)));
        }
        Action::Earlier => in_time(model, 1),
        Action::Later => in_time(model, -1),
        Action::NextTrouble | Action::PreviousTrouble => {
            match view::next_trouble(model, action == Action::PreviousTrouble) {
                Some(id) => {
                    choose_cluster(model, id);
                    to(model, Screen::Cluster);
                }
                None => model.tell("every cluster here is well", false),
            }
        }
        Action::Help => {
            model.overlay = Some(Overlay::Help { scroll: 0, filter: String::new() });
        }
        Action::Palette => {
            model.overlay = Some(Overlay::Palette { input: Input::default(), selected: 0 });
        }
        Action::Freeze => {
            model.frozen = match model.frozen.take() {
                Some(_) => None,
                None => model.seen().cloned().map(|seen| (seen, 0)),
            };
        }
        Action::Zone => {
            model.settings.local = !model.settings.local;
            return vec![Command::Keep(model.settings.clone())];
        }
        Action::Theme => {
            let names: Vec<&str> = theme::BUILT_IN.iter().map(|(n, _)| *n).collect();
            if argument.is_empty() {
                let at = names.iter().position(|n| *n == model.theme.name).map_or(0, |i| i + 1);
                return set(model, "theme", names[at % names.len()]);
            }
            match names.iter().find(|n| **n == argument) {
                Some(name) => return set(model, "theme", name),
                None => model
                    .tell(format!("there is no theme {argument:?}: {}", names.join(", ")), true),
            }
        }
        Action::Copy => return vec![Command::Copy(view::all_text(model))],
        Action::CopyScreen => return vec![Command::CopyScreen],
        Action::Save => return vec![Command::Save],
        Action::Export => {
            let records = model.records().into_iter().rev().cloned().collect();
            return vec![Command::Export(records)];
        }
        Action::Retry => return vec![Command::Retry],
        Action::Suspend => return vec![Command::Suspend],
        Action::Quit => return vec![Command::Quit],
        _ => {}
    }
    vec![]
}

fn choose_cluster(model: &mut Model, id: crate::model::ClusterId) {
    if model.cluster.as_ref() != Some(&id) {
        model.cluster = Some(id);
        model.frozen = None;
        model.node = None;
        // What was selected there has no meaning here.
        model.selected.retain(|(screen, _), _| *screen == Screen::Fleet);
        model.scroll.clear();
    }
}

fn back(model: &mut Model) {
    let place = model.place();
    if model.filters.remove(&place).is_some_and(|f| !f.is_empty()) {
        return;
    }
    match place {
        Screen::Fleet => {}
        Screen::Cluster => to(model, Screen::Fleet),
        Screen::Node | Screen::Plan | Screen::Run | Screen::Audit | Screen::Why => {
            to(model, Screen::Cluster);
        }
        Screen::Log | Screen::Settings => {
            let before = match model.before {
                Screen::Log | Screen::Settings => Screen::Cluster,
                other => other,
            };
            to(model, before);
        }
    }
}

/// Enter: deeper into what is selected. It never changes production.
fn open(model: &mut Model) -> Vec<Command> {
    let (panel, key) = {
        let page = view::page(model);
        let Some(panel) = page.focused(model) else { return vec![] };
        (panel.id, panel.selected(model))
    };
    let Some(key) = key else {
        model.overlay = Some(Overlay::ReadAll { scroll: 0 });
        return vec![];
    };
    match panel {
        "clusters" => {
            choose_cluster(model, crate::model::ClusterId::new(&key));
            to(model, Screen::Cluster);
        }
        "nodes" | "candidates" => {
            model.node = Some(NodeId::new(&key));
            to(model, Screen::Node);
        }
        "facts" | "refusals" => {
            // Of a list of several clusters it says of which.
            let key = match key.rsplit_once('/') {
                Some((cluster, number)) => {
                    choose_cluster(model, crate::model::ClusterId::new(cluster));
                    number.to_owned()
                }
                None => key,
            };
            model.filters.remove(&Screen::Audit);
            model.selected.insert((Screen::Audit, "records"), key);
            to(model, Screen::Audit);
        }
        "ways" => {
            if let Some(command) = order_of(model, &key) {
                let input = Input::new(command);
                model.overlay = Some(Overlay::Palette { input, selected: 0 });
                return vec![];
            }
            let waits = model.view().is_some_and(|v| v.plan.is_some());
            to(model, if waits { Screen::Plan } else { Screen::Why });
        }
        "settings" => return change(model, &key),
        _ => model.overlay = Some(Overlay::ReadAll { scroll: 0 }),
    }
    vec![]
}

/// What is typed for the way of that name, where it is no part of the plan that waits: written out,
/// not run.
fn order_of(model: &Model, name: &str) -> Option<String> {
    let ways = crate::picture::ways::ways(model.view()?);
    let way = ways.iter().find(|w| w.name == name)?;
    let command = way.command.as_deref()?.strip_prefix(':')?;
    let of_the_plan = [Action::Execute, Action::Dismiss].iter().any(|a| a.name() == command);
    // What the person has to add is left open, and the name of a node that is changed at once.
    let (name, _) = command.split_once(' ').unwrap_or((command, ""));
    let at_once = Action::by_name(name).is_some_and(|a| a.of_a_node().is_some());
    let command = if at_once { format!("{name} ") } else { command.replace("WORDS", "") };
    (!of_the_plan).then_some(command)
}

/// Takes the next value of a setting.
fn change(model: &mut Model, name: &str) -> Vec<Command> {
    let found = view::choices(model).into_iter().find(|(n, ..)| *n == name);
    let Some((name, values, at)) = found else { return vec![] };
    set(model, name, values[(at + 1) % values.len()])
}

fn set(model: &mut Model, name: &str, value: &'static str) -> Vec<Command> {
    let s: &mut Settings = &mut model.settings;
    let mut commands = vec![];
    match name {
        "theme" => {
            value.clone_into(&mut s.theme);
            commands.push(Command::Theme(value));
        }
        "glyphs" => {
            value.clone_into(&mut s.glyphs);
            model.glyphs = view::Glyphs::by_name(value).unwrap_or_default();
        }
        "keymap" => {
            value.clone_into(&mut s.keymap);
            if keymap::BUILT_IN.iter().any(|(n, _)| *n == value) {
                commands.push(Command::Keymap(value));
            }
        }
        "mouse" => s.mouse = value == "on",
        "zone" => s.local = value == "local",
        _ => s.bell = if value == "never" { Bell::Never } else { Bell::NeedsMe },
    }
    commands.push(Command::Keep(model.settings.clone()));
    commands
}

/// Moves the selection of the panel that has the focus, or scrolls it where nothing is selected.
pub(super) fn moved(model: &mut Model, action: Action) {
    let place = model.place();
    let by: isize = match action {
        Action::Next => 1,
        Action::Previous => -1,
        Action::PageDown => 10,
        Action::PageUp => -10,
        Action::First => isize::MIN,
        _ => isize::MAX,
    };
    let step = |at: usize, last: usize| match by {
        isize::MIN => 0,
        isize::MAX => last,
        by => at.saturating_add_signed(by).min(last),
    };
    let (id, key, scroll) = {
        let page = view::page(model);
        let Some(panel) = page.focused(model) else { return };
        match panel.count() {
            0 => {
                // At least a third of it stays in sight.
                let last = panel.scroll_max(model.size.1 / 3);
                (panel.id, None, step(model.scrolled(panel.id).min(last), last))
            }
            count => {
                let at = panel.at(model);
                let next = at.map_or(0, |at| step(at, count - 1));
                (panel.id, panel.key(next), 0)
            }
        }
    };
    match key {
        Some(key) => _ = model.selected.insert((place, id), key),
        None => _ = model.scroll.insert((place, id), scroll),
    }
}

/// Earlier or later in time: the record before or after the one that is looked at.
fn in_time(model: &mut Model, by: isize) {
    if model.place() != Screen::Audit {
        to(model, Screen::Audit);
    }
    let next = {
        let records = model.records();
        let chosen = model.selected.get(&(Screen::Audit, "records"));
        let at = chosen
            .and_then(|k| k.parse::<u64>().ok())
            .and_then(|n| records.iter().position(|r| r.number == n));
        let next =
            at.map_or(0, |at| at.saturating_add_signed(by).min(records.len().saturating_sub(1)));
        records.get(next).map(|r| r.number.to_string())
    };
    if let Some(key) = next {
        model.selected.insert((Screen::Audit, "records"), key);
    }
}
