//! The commands people can give: one list for keys, footer, help and palette. A command that
//! changes production has no key; the keymap's check refuses one.

use super::event::Link;
use super::model::{Access, Model, Screen};
use crate::wire::changing::NodeChange;

macro_rules! actions {
    ($($name:ident $text:literal $short:literal $doc:literal;)*) => {
        /// One named command.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "each has its sentence in `doc`")]
        pub enum Action { $($name),* }
        impl Action {
            /// All of them, in the order in which people read them.
            pub const ALL: &[Action] = &[$(Action::$name),*];
            /// Its name, in keymaps and in the palette.
            pub fn name(self) -> &'static str {
                match self { $(Action::$name => $text),* }
            }
            /// One word or two for the last row.
            pub fn short(self) -> &'static str {
                match self { $(Action::$name => $short),* }
            }
            /// What it does, in one sentence.
            pub fn doc(self) -> &'static str {
                match self { $(Action::$name => $doc),* }
            }
        }
    };
}
actions! {
    Open "open" "open" "go deeper into what is selected; never changes production";
    Back "back" "back" "one level back; closes what is on top; never commits anything";
    Next "next" "down" "select the next row, or scroll down";
    Previous "previous" "up" "select the row before, or scroll up";
    NextPanel "next-panel" "panel" "the next panel";
    PreviousPanel "previous-panel" "panel" "the panel before";
    ReadAll "read-all" "read all" "read all of what is selected, nothing left out";
    PageDown "page-down" "page" "a page down";
    PageUp "page-up" "page" "a page up";
    First "first" "first" "the first row";
    Last "last" "last" "the last row";
    Filter "filter" "filter" "filter this list: words, state:critical lag>4k region:eu-*";
    Earlier "earlier" "time" "earlier in time: the record before";
    Later "later" "time" "later in time: the next record";
    NextTrouble "next-trouble" "next trouble" "the next cluster that is not well";
    PreviousTrouble "previous-trouble" "trouble" "the cluster before that is not well";
    Why "why" "why" "why it is as it is: every check, and what would change it";
    WhatIf "what-if" "what-if" "what would happen if the primary died now (simulated)";
    Fleet "fleet" "fleet" "every cluster, those that need somebody first";
    Cluster "cluster" "cluster" "the cluster: the move, its nodes, what you may do";
    Plan "plan" "plan" "the plan that waits: its loss, steps and candidates";
    Run "run" "run" "the run, or the last one: steps, times, proofs";
    Audit "audit" "audit" "the audit: every record, its proof, filters, export";
    Log "log" "messages" "what this console told you, the last fifty";
    Settings "settings" "settings" "theme, keys, glyphs, zone; kept between sessions";
    Home "home" "home" "the first screen";
    LastPlace "last-place" "last place" "where you were before";
    Switchover "switchover" "switchover" "ask for a plan that moves the write role: switchover [NODE]; nothing is done yet";
    AcceptLoss "accept-loss" "accept loss" "ask for a plan that accepts an unknown loss: accept-loss [NODE]; nothing is done yet";
    Failback "failback" "failback" "ask for a plan that moves the role back where it is preferred; nothing is done yet";
    Resume "resume" "resume" "ask for a plan that gives the role back to who held it last: resume; nothing is done yet";
    Execute "execute" "execute" "execute the plan that waits: opens the gate where the name is typed";
    Dismiss "dismiss" "dismiss" "drop the plan that waits";
    Acknowledge "acknowledge" "acknowledge" "say that what happened is known: acknowledge WORDS; cooldown and rate count anew";
    Drain "drain" "drain" "a node's host is to be stopped: drain NODE [WORDS]; no target, of a failover only where nobody else is left";
    Undrain "undrain" "undrain" "a drained node is one like the others again: undrain NODE";
    Restart "restart" "restart" "a standby's server stops cleanly and starts again: restart NODE [WORDS]";
    Add "add" "add" "a declared node votes, and confirms commits if it holds data: add NODE [WORDS]";
    Remove "remove" "remove" "a node neither votes nor confirms any more: remove NODE [WORDS]";
    Readmit "readmit" "readmit" "a reinstalled node takes the place of its former self: readmit NODE [WORDS]";
    Verify "verify" "verify" "prove the present state with a real write that is read back";
    Approvals "approvals" "approvals" "plans that wait for another person's word";
    Region "region" "region" "a region: its clusters, and what leaves if it is lost";
    Runbook "runbook" "runbook" "a runbook, step by step";
    Drill "drill" "drill" "a drill on a cluster that is not production";
    Replay "replay" "replay" "an incident as it was, decision by decision";
    WarRoom "war-room" "war room" "the incident in big letters, to share";
    OnCall "on-call" "on call" "who is called";
    Help "help" "help" "what works here, and why something does not";
    Palette "palette" "command" "type a command";
    Retry "retry" "try now" "try the connection now";
    Export "export" "export" "write the records that are shown into a file";
    Freeze "freeze" "freeze" "freeze the picture, or let it go on";
    Copy "copy" "copy" "copy what is selected to the terminal's clipboard (OSC 52)";
    CopyScreen "copy-screen" "copy screen" "copy the screen as text";
    Save "save" "save" "save the screen as SVG, ANSI and text in this folder";
    Zone "zone" "zone" "times in UTC or in local time";
    Theme "theme" "theme" "the next theme";
    Suspend "suspend" "suspend" "into the shell's background; runs go on";
    Quit "quit" "leave" "leave; a run goes on without the console";
}

impl Action {
    /// It leads to a change in production: it has no key.
    pub fn is_mutating(self) -> bool {
        matches!(
            self,
            Action::Switchover
                | Action::AcceptLoss
                | Action::Failback
                | Action::Resume
                | Action::Execute
                | Action::Dismiss
                | Action::Acknowledge
                | Action::Verify
        ) || self.of_a_node().is_some()
    }

    /// What it asks of one node: done as soon as it is said.
    pub fn of_a_node(self) -> Option<NodeChange> {
        Some(match self {
            Action::Drain => NodeChange::Drain,
            Action::Undrain => NodeChange::Undrain,
            Action::Restart => NodeChange::Restart,
            Action::Add => NodeChange::Add,
            Action::Remove => NodeChange::Remove,
            Action::Readmit => NodeChange::Readmit,
            _ => return None,
        })
    }

    /// Its place is kept: the screen behind it does not exist yet.
    pub fn is_reserved(self) -> bool {
        matches!(
            self,
            Action::Approvals
                | Action::Region
                | Action::Runbook
                | Action::Drill
                | Action::Replay
                | Action::WarRoom
                | Action::OnCall
        )
    }

    /// What was typed as a command: its name, or the beginning of one, and the rest of the line.
    /// A word that begins no name is an error, however well it fits a sentence.
    ///
    /// # Errors
    /// In words, with the nearest name.
    pub fn parse(input: &str) -> Result<(Action, &str), String> {
        let (word, rest) = input.trim().split_once(' ').unwrap_or((input.trim(), ""));
        let begins = |a: &Action| a.name().starts_with(word);
        if let Some(action) =
            Action::by_name(word).or_else(|| Action::ALL.iter().copied().find(begins))
            && !word.is_empty()
        {
            return Ok((action, rest.trim()));
        }
        let names = Action::ALL.iter().copied().map(Action::name);
        let hint = crate::config::problem::nearest(word, names)
            .map_or(String::new(), |n| format!("; did you mean {n}?"));
        Err(format!("there is no command {word:?}{hint}"))
    }

    /// By its name.
    pub fn by_name(name: &str) -> Option<Action> {
        Action::ALL.iter().copied().find(|a| a.name() == name)
    }

    /// The same on the command line.
    pub fn twin(self) -> Option<&'static str> {
        Some(match self {
            Action::Switchover => "quorate switchover --to NODE",
            Action::AcceptLoss => "quorate plan --to NODE --accept-unknown-loss",
            Action::Resume => "quorate plan --resume",
            Action::Execute => "quorate execute DIGEST --confirm NODE",
            Action::Acknowledge => "quorate acknowledge --reason WORDS",
            Action::Verify => "quorate verify",
            Action::Drain => "quorate node drain NODE",
            Action::Undrain => "quorate node undrain NODE",
            Action::Restart => "quorate node restart NODE",
            Action::Add => "quorate node add NODE",
            Action::Remove => "quorate node remove NODE",
            Action::Readmit => "quorate node readmit NODE",
            Action::Why => "quorate why",
            Action::Audit => "quorate audit",
            Action::Cluster => "quorate status",
            _ => return None,
        })
    }

    /// Why it is not possible here and now; `None` when it is.
    pub fn unavailable(self, model: &Model) -> Option<String> {
        if self.is_reserved() {
            return Some("this version does not have it".into());
        }
        if self.is_mutating() {
            return self.refused(model);
        }
        let rows = model.place() == Screen::Fleet || model.place() == Screen::Audit;
        match self {
            Action::Filter if !rows => {
                Some("only lists of clusters and of records are filtered".into())
            }
            Action::Export if model.place() != Screen::Audit => {
                Some("only the audit is exported".into())
            }
            Action::Retry if matches!(model.link, Link::Live { plane: true, .. }) => {
                Some("it is connected".into())
            }
            _ => None,
        }
    }

    fn refused(self, model: &Model) -> Option<String> {
        if model.access == Access::ReadOnly {
            return Some("this session is read-only".into());
        }
        if !matches!(model.link, Link::Live { plane: true, .. }) {
            return Some("no plane is connected".into());
        }
        if let Some(why) = model.stale() {
            return Some(why);
        }
        if model.frozen.is_some() {
            return Some("the picture is frozen; f lets it go on".into());
        }
        let view = model.view()?;
        let runs = view.run.as_ref().filter(|r| r.outcome.is_none());
        match self {
            Action::Acknowledge | Action::Verify => None,
            _ if let Some(run) = runs => {
                Some(format!("a run is under way: plan {}", run.plan.short()))
            }
            Action::Execute | Action::Dismiss if view.plan.is_none() => {
                Some("no plan waits; :switchover NODE makes one".into())
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
        assert_eq!(Action::parse("remove node-2"), Ok((Action::Remove, "node-2")));
        for unknown in ["start", "stop node-1", "show", ""] {
            assert!(Action::parse(unknown).is_err(), "{unknown:?}");
        }
        assert!(Action::parse("audti").unwrap_err().contains("did you mean audit?"));
    }
}
