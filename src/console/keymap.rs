//! Keys → commands, from a file in `keymaps/`. The check finds unknown commands, duplicates, keys
//! that terminals cannot tell apart, keys that mean one thing in the whole program and are given
//! another, and keys on commands that change production. `"g f"` is two keys, one after the other.

use std::collections::BTreeMap;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::command::Action;
use crate::config::problem::nearest;

/// The keymaps that come with the program.
pub const BUILT_IN: &[(&str, &str)] = &[
    ("default", include_str!("../../keymaps/default.toml")),
    ("vim", include_str!("../../keymaps/vim.toml")),
    ("helix", include_str!("../../keymaps/helix.toml")),
    ("emacs", include_str!("../../keymaps/emacs.toml")),
    ("auditor", include_str!("../../keymaps/auditor.toml")),
];

/// A key, as a person writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    code: Code,
    control: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Code {
    Char(char),
    Enter,
    Esc,
    Tab,
    BackTab,
    Up,
    Down,
    Left,
    Right,
    Home,
    End,
    PageUp,
    PageDown,
}

impl Key {
    /// From what the terminal sent; `None` for keys that are never bound. Alt is taken as Esc:
    /// multiplexers merge the two.
    pub fn from_event(event: &KeyEvent) -> Option<Key> {
        if event.modifiers.contains(KeyModifiers::ALT) {
            return Some(Key { code: Code::Esc, control: false });
        }
        let code = match event.code {
            KeyCode::Char(c) => Code::Char(c),
            KeyCode::Enter => Code::Enter,
            KeyCode::Esc => Code::Esc,
            KeyCode::Tab => Code::Tab,
            KeyCode::BackTab => Code::BackTab,
            KeyCode::Up => Code::Up,
            KeyCode::Down => Code::Down,
            KeyCode::Left => Code::Left,
            KeyCode::Right => Code::Right,
            KeyCode::Home => Code::Home,
            KeyCode::End => Code::End,
            KeyCode::PageUp => Code::PageUp,
            KeyCode::PageDown => Code::PageDown,
            _ => return None,
        };
        Some(Key { code, control: event.modifiers.contains(KeyModifiers::CONTROL) })
    }

    fn parse(text: &str) -> Result<Key, String> {
        let (control, rest) = match text.strip_prefix("C-") {
            Some(rest) if !rest.is_empty() => (true, rest),
            _ => (false, text),
        };
        let mut chars = rest.chars();
        let code = match (chars.next(), chars.next()) {
            (Some(c), None) => Code::Char(c),
            _ => match rest {
                "Enter" => Code::Enter,
                "Esc" => Code::Esc,
                "Tab" => Code::Tab,
                "S-Tab" => Code::BackTab,
                "Up" => Code::Up,
                "Down" => Code::Down,
                "Left" => Code::Left,
                "Right" => Code::Right,
                "Home" => Code::Home,
                "End" => Code::End,
                "PageUp" => Code::PageUp,
                "PageDown" => Code::PageDown,
                "Space" => Code::Char(' '),
                _ => {
                    return Err(format!(
                        "{text:?} is no key: expected a character, C-x, Enter, Esc, Tab, S-Tab, Space, Up, Down, Left, Right, Home, End, PageUp or PageDown"
                    ));
                }
            },
        };
        if control && matches!(code, Code::Char('i' | 'm' | 'h' | '[')) {
            return Err(format!(
                "{text:?}: terminals cannot tell it apart from Tab, Enter, Backspace or Esc"
            ));
        }
        if control && matches!(code, Code::Char('a' | 'b')) {
            return Err(format!("{text:?} is the prefix of a terminal multiplexer"));
        }
        Ok(Key { code, control })
    }

    /// As people write it.
    pub fn label(self) -> String {
        let name = match self.code {
            Code::Char(' ') => "Space".to_owned(),
            Code::Char(c) => c.to_string(),
            Code::Up => "↑".into(),
            Code::Down => "↓".into(),
            Code::Left => "←".into(),
            Code::Right => "→".into(),
            Code::Enter => "⏎".into(),
            Code::PageUp => "PgUp".into(),
            Code::PageDown => "PgDn".into(),
            Code::BackTab => "S-Tab".into(),
            other => format!("{other:?}"),
        };
        if self.control { format!("C-{name}") } else { name }
    }
}

/// Keys with one meaning in the whole program, and the command that is it.
const FIXED: [(&str, Action); 7] = [
    ("Enter", Action::Open),
    ("Esc", Action::Back),
    ("Tab", Action::NextPanel),
    ("Space", Action::ReadAll),
    ("/", Action::Filter),
    (":", Action::Palette),
    ("?", Action::Help),
];

/// Keys in force.
#[derive(Clone, Debug, Default)]
pub struct Keymap {
    keys: BTreeMap<Vec<Key>, Action>,
}

/// What keys come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A command.
    Action(Action),
    /// The beginning of longer ones.
    Prefix,
    /// Nothing.
    Nothing,
}

impl Keymap {
    /// Reads a keymap: `[keys]` with `command = ["key", …]`.
    ///
    /// # Errors
    /// Every problem, in words, with its line.
    pub fn parse(text: &str) -> Result<Keymap, Vec<String>> {
        let table: toml::Table =
            text.parse().map_err(|e: toml::de::Error| vec![e.to_string().trim().to_owned()])?;
        let mut problems = Vec::new();
        let mut keymap = Keymap::default();
        let line = |needle: &str| {
            text.lines()
                .position(|l| l.trim_start().starts_with(needle))
                .map_or(String::new(), |i| format!("line {}: ", i + 1))
        };
        for (section, _) in table.iter().filter(|(name, _)| *name != "keys") {
            problems.push(format!(
                "{}unknown section {section:?}: expected [keys]",
                line(&format!("[{section}]"))
            ));
        }
        let empty = toml::Table::new();
        let keys = table.get("keys").and_then(toml::Value::as_table).unwrap_or(&empty);
        for (name, value) in keys {
            let at = line(&format!("{name} "));
            let Some(action) = Action::by_name(name) else {
                let hint = nearest(name, Action::ALL.iter().map(|a| a.name()))
                    .map_or(String::new(), |n| format!(" (did you mean {n:?}?)"));
                problems.push(format!("{at}unknown command {name:?}{hint}"));
                continue;
            };
            if action.is_mutating() {
                problems.push(format!("{at}{name} leads to a change in production and has no key; it is typed in the palette"));
                continue;
            }
            for key in value.as_array().into_iter().flatten() {
                match key.as_str().ok_or_else(|| "a key is a text".to_owned()).and_then(sequence) {
                    Err(why) => problems.push(format!("{at}{why}")),
                    Ok(keys) => keymap.bind(keys, action, &at, &mut problems),
                }
            }
        }
        for needed in [Action::Quit, Action::Help, Action::Palette, Action::Back] {
            if !keymap.keys.values().any(|a| *a == needed) {
                problems.push(format!("{} has no key: nobody could get to it", needed.name()));
            }
        }
        keymap.lint(&mut problems);
        if problems.is_empty() { Ok(keymap) } else { Err(problems) }
    }

    fn bind(&mut self, keys: Vec<Key>, action: Action, at: &str, problems: &mut Vec<String>) {
        let label = labels(&keys);
        if let Some(other) = self.keys.insert(keys, action) {
            problems.push(format!("{at}{label} is bound to {} already", other.name()));
        }
    }

    fn lint(&self, problems: &mut Vec<String>) {
        for (key, meaning) in FIXED {
            let bound = Key::parse(key).ok().and_then(|k| self.keys.get(&vec![k]).copied());
            if let Some(other) = bound.filter(|a| *a != meaning) {
                problems.push(format!(
                    "{key} means {} in the whole program, not {}",
                    meaning.name(),
                    other.name()
                ));
            }
        }
        for keys in self.keys.keys() {
            let shorter = (1..keys.len()).find_map(|n| self.keys.get(&keys[..n]));
            if let Some(hides) = shorter {
                problems.push(format!(
                    "{} can never be reached: {} comes first",
                    labels(keys),
                    hides.name()
                ));
            }
        }
    }

    /// What keys, one after the other, mean.
    pub fn find(&self, keys: &[Key]) -> Found {
        if let Some(action) = self.keys.get(keys) {
            return Found::Action(*action);
        }
        let begins = self.keys.keys().any(|k| k.len() > keys.len() && k.starts_with(keys));
        if begins { Found::Prefix } else { Found::Nothing }
    }
    /// What a single key means.
    pub fn action(&self, key: Key) -> Option<Action> {
        self.keys.get(&vec![key]).copied()
    }
    /// The next keys after these, with the command each one leads to.
    pub fn after(&self, keys: &[Key]) -> Vec<(String, Action)> {
        self.keys
            .iter()
            .filter(|(k, _)| k.len() > keys.len() && k.starts_with(keys))
            .map(|(k, action)| (labels(&k[keys.len()..]), *action))
            .collect()
    }

    /// The keys of a command.
    pub fn keys_of(&self, action: Action) -> Vec<String> {
        let mut keys: Vec<&Vec<Key>> =
            self.keys.iter().filter(|(_, a)| **a == action).map(|(k, _)| k).collect();
        // Short and plain keys first: they are what people look for.
        keys.sort_by_key(|k| (k.len(), k.iter().any(|k| k.control)));
        keys.into_iter().map(|k| labels(k)).collect()
    }
}

fn sequence(text: &str) -> Result<Vec<Key>, String> {
    if text == " " {
        return Err("a space is written Space".to_owned());
    }
    text.split(' ').map(Key::parse).collect()
}

/// As people write them.
pub fn labels(keys: &[Key]) -> String {
    keys.iter().map(|k| k.label()).collect::<Vec<_>>().join(" ")
}
