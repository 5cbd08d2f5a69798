//! Keys → commands, from a file in `keymaps/`. The check finds unknown commands, duplicates, keys
//! that terminals cannot tell apart, and keys on commands that change production.

use std::collections::BTreeMap;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::command::Action;
use crate::config::problem::nearest;

/// The keymaps that come with the program.
pub const BUILT_IN: &[(&str, &str)] = &[
    ("default", include_str!("../../keymaps/default.toml")),
    ("vim", include_str!("../../keymaps/vim.toml")),
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
                        "{text:?} is no key: expected a character, C-x, Enter, Esc, Tab, Space, Up, Down, Left, Right, Home, End, PageUp or PageDown"
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
            other => format!("{other:?}"),
        };
        if self.control { format!("C-{name}") } else { name }
    }
}

/// Keys in force.
#[derive(Clone, Debug, Default)]
pub struct Keymap {
    keys: BTreeMap<Key, Action>,
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
            let at = line(name);
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
                match key.as_str().ok_or_else(|| "a key is a text".to_owned()).and_then(Key::parse)
                {
                    Err(why) => problems.push(format!("{at}{why}")),
                    Ok(key) => {
                        if let Some(other) = keymap.keys.insert(key, action) {
                            problems.push(format!(
                                "{at}{} is bound to {} already",
                                key.label(),
                                other.name()
                            ));
                        }
                    }
                }
            }
        }
        for needed in [Action::Quit, Action::Help, Action::Palette, Action::Back] {
            if !keymap.keys.values().any(|a| *a == needed) {
                problems.push(format!("{} has no key: nobody could get to it", needed.name()));
            }
        }
        if problems.is_empty() { Ok(keymap) } else { Err(problems) }
    }

    /// What a key means.
    pub fn action(&self, key: Key) -> Option<Action> {
        self.keys.get(&key).copied()
    }

    /// The keys of a command.
    pub fn keys_of(&self, action: Action) -> Vec<String> {
        let mut keys: Vec<&Key> =
            self.keys.iter().filter(|(_, a)| **a == action).map(|(k, _)| k).collect();
        // Plain keys first: they are what people look for.
        keys.sort_by_key(|k| k.control);
        keys.into_iter().map(|k| k.label()).collect()
    }
}
