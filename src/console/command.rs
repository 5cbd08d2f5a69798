//! The commands people can give: one list for keys, footer, help and palette. A command that
//! changes production has no key; the keymap's check refuses one.

use super::event::Link;
use super::model::{Access, Model, Screen};

/// One named command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each has its sentence in `doc`")]
pub enum Action {
    Fleet,
    Cluster,
    Plan,
    Run,
    Audit,
    Why,
    Next,
    Previous,
    First,
    Last,
    PageDown,
    PageUp,
    Open,
    Back,
    Help,
    Palette,
    Freeze,
    Copy,
    Save,
    Theme,
    Suspend,
    Quit,
    Switchover,
    Execute,
    Dismiss,
}

impl Action {
    /// All of them, in the order in which people read them.
    pub const ALL: [Action; 25] = [
        Action::Fleet,
        Action::Cluster,
        Action::Plan,
        Action::Run,
        Action::Audit,
        Action::Why,
        Action::Next,
        Action::Previous,
        Action::First,
        Action::Last,
        Action::PageDown,
        Action::PageUp,
        Action::Open,
        Action::Back,
        Action::Switchover,
        Action::Execute,
        Action::Dismiss,
        Action::Help,
        Action::Palette,
        Action::Freeze,
        Action::Copy,
        Action::Save,
        Action::Theme,
        Action::Suspend,
        Action::Quit,
    ];

    /// Its name, in keymaps and in the palette.
    pub fn name(self) -> &'static str {
        match self {
            Action::Fleet => "fleet",
            Action::Cluster => "cluster",
            Action::Plan => "plan",
            Action::Run => "run",
            Action::Audit => "audit",
            Action::Why => "why",
            Action::Next => "next",
            Action::Previous => "previous",
            Action::First => "first",
            Action::Last => "last",
            Action::PageDown => "page-down",
            Action::PageUp => "page-up",
            Action::Open => "open",
            Action::Back => "back",
            Action::Help => "help",
            Action::Palette => "palette",
            Action::Freeze => "freeze",
            Action::Copy => "copy",
            Action::Save => "save",
            Action::Theme => "theme",
            Action::Suspend => "suspend",
            Action::Quit => "quit",
            Action::Switchover => "switchover",
            Action::Execute => "execute",
            Action::Dismiss => "dismiss",
        }
    }

    /// One word or two for the footer.
    pub fn short(self) -> &'static str {
        match self {
            Action::Next => "down",
            Action::Previous => "up",
            Action::Palette => "command",
            other => other.name(),
        }
    }

    /// What it does, in one sentence.
    pub fn doc(self) -> &'static str {
        match self {
            Action::Fleet => "Show every cluster.",
            Action::Cluster => "Show the cluster: state machine, quorum, nodes, what happens next.",
            Action::Plan => {
                "Show the plan that waits, or what would be planned now: steps, candidates, loss."
            }
            Action::Run => "Show the run, or the last one: steps, times, verification.",
            Action::Audit => "Show the audit log, newest first.",
            Action::Why => "Show why it is as it is, and what holds a move back.",
            Action::Next => "Select the next row.",
            Action::Previous => "Select the previous row.",
            Action::First => "Select the first row.",
            Action::Last => "Select the last row.",
            Action::PageDown => "Go a page down.",
            Action::PageUp => "Go a page up.",
            Action::Open => "Open what is selected.",
            Action::Back => "Back one level; never commits anything.",
            Action::Help => "Show every key and command that works here, and why one does not.",
            Action::Palette => "Type a command.",
            Action::Freeze => {
                "Freeze the picture (the console goes on receiving), or let it go on."
            }
            Action::Copy => "Copy the screen as text to the terminal's clipboard (OSC 52).",
            Action::Save => "Save the screen as SVG and text in the current folder.",
            Action::Theme => "Use the next theme.",
            Action::Suspend => "Put the console into the shell's background; runs go on.",
            Action::Quit => "Leave; a run goes on without the console.",
            Action::Switchover => {
                "Ask for a plan that moves the write role: switchover [NODE]. Nothing is done yet."
            }
            Action::Execute => {
                "Execute the plan that waits: opens the gate where you type the demoted node's name."
            }
            Action::Dismiss => "Drop the plan that waits.",
        }
    }

    /// It leads to a change in production: it has no key.
    pub fn is_mutating(self) -> bool {
        matches!(self, Action::Switchover | Action::Execute | Action::Dismiss)
    }

    /// What was typed as a command: its name, or the beginning of one, and the rest of the line.
    /// A word that begins no name is an error, however well it fits a sentence.
    ///
    /// # Errors
    /// In words, with the nearest name.
    pub fn parse(input: &str) -> Result<(Action, &str), String> {
        let (word, rest) = input.trim().split_once(' ').unwrap_or((input.trim(), ""));
        let begins = |a: &Action| a.name().starts_with(word);
        if let Some(action) = Action::by_name(word).or_else(|| Action::ALL.into_iter().find(begins))
            && !word.is_empty()
        {
            return Ok((action, rest.trim()));
        }
        let names = Action::ALL.into_iter().map(Action::name);
        let hint = crate::config::problem::nearest(word, names)
            .map_or(String::new(), |n| format!("; did you mean {n}?"));
        Err(format!("there is no command {word:?}{hint}"))
    }

    /// By its name.
    pub fn by_name(name: &str) -> Option<Action> {
        Action::ALL.into_iter().find(|a| a.name() == name)
    }

    /// Why it is not possible here and now; `None` when it is.
    pub fn unavailable(self, model: &Model) -> Option<String> {
        match self {
            Action::Switchover | Action::Execute | Action::Dismiss => {
                if model.access == Access::ReadOnly {
                    return Some("this session is read-only".into());
                }
                if !matches!(model.link, Link::Live { plane: true, .. }) {
                    return Some("no plane is connected".into());
                }
                if let Some(why) = model.stale() {
                    return Some(why);
                }
                let view = model.view()?;
                let runs = view.run.as_ref().is_some_and(|r| r.outcome.is_none());
                match self {
                    _ if runs => Some("a run is under way".into()),
                    Action::Execute | Action::Dismiss if view.plan.is_none() => {
                        Some("no plan waits; ask for one with :switchover".into())
                    }
                    _ => None,
                }
            }
            Action::Open if model.screen != Screen::Fleet => {
                Some("there is nothing to open here".into())
            }
            Action::Next | Action::Previous | Action::First | Action::Last if model.rows() == 0 => {
                Some("there are no rows here".into())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_names_and_nothing_else() {
        assert_eq!(Action::parse("why"), Ok((Action::Why, "")));
        assert_eq!(Action::parse("switchover node-2 now"), Ok((Action::Switchover, "node-2 now")));
        assert_eq!(Action::parse("exe").map(|(a, _)| a), Ok(Action::Execute));
        for unknown in ["start", "stop node-1", "show", ""] {
            assert!(Action::parse(unknown).is_err(), "{unknown:?}");
        }
        assert!(Action::parse("audti").unwrap_err().contains("did you mean audit?"));
    }
}
