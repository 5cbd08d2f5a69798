//! Everything the console knows. A value: tests make one and compare what `update` makes of it.

use super::confirm::{Confirm, STALE};
use super::event::{Link, Moment};
use super::keymap::Keymap;
use super::theme::Theme;
use crate::model::record::ChainedRecord;
use crate::model::view::ClusterView;
use crate::model::{NodeId, Span, Timestamp};

/// A screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named like the commands that lead to them")]
pub enum Screen {
    Fleet,
    Cluster,
    Plan,
    Run,
    Audit,
    Why,
}

impl Screen {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Screen::Fleet => "fleet",
            Screen::Cluster => "cluster",
            Screen::Plan => "plan",
            Screen::Run => "run",
            Screen::Audit => "audit",
            Screen::Why => "why",
        }
    }
}

/// What this session may express. A read-only one has no way to write; the server checks again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It looks.
    ReadOnly,
    /// It can approve: the identity has an approval key.
    Approver,
}

/// What lies over the screen.
#[derive(Clone, Debug)]
pub enum Overlay {
    /// Keys and commands, from this line on.
    Help {
        /// First line shown.
        scroll: usize,
    },
    /// A command is typed.
    Palette {
        /// So far.
        input: String,
        /// Which suggestion is selected.
        selected: usize,
    },
    /// The gate before an execution.
    Confirm(Box<Confirm>),
}

/// A picture and when it came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The picture.
    pub view: ClusterView,
    /// When it came, by the console's clock.
    pub at: Timestamp,
}

/// One line for the person.
#[derive(Clone, Debug)]
pub struct Told {
    /// The line.
    pub text: String,
    /// It needs attention.
    pub bad: bool,
    /// When.
    pub at: Timestamp,
}

/// The console's state.
#[derive(Clone, Debug)]
pub struct Model {
    /// The present.
    pub moment: Moment,
    /// Terminal size.
    pub size: (u16, u16),
    /// Who looks.
    pub who: String,
    /// What the session may express.
    pub access: Access,
    /// The connection.
    pub link: Link,
    /// The newest picture.
    pub seen: Option<Seen>,
    /// The frozen picture, and how many came since.
    pub frozen: Option<(Seen, u32)>,
    /// Which screen.
    pub screen: Screen,
    /// What lies over it.
    pub overlay: Option<Overlay>,
    /// The selected node, by name: when the row goes, nothing is selected.
    pub node: Option<NodeId>,
    /// The selected record, by number.
    pub record: Option<u64>,
    /// First line shown on screens that scroll.
    pub scroll: usize,
    /// The last thing to tell.
    pub told: Option<Told>,
    /// A call is under way since.
    pub calling: Option<Timestamp>,
    /// What was asked of it is to drop a plan.
    pub dismissing: bool,
    /// Steps of a lab that is being started.
    pub starting: Vec<String>,
    /// The look.
    pub theme: Theme,
    /// The keys.
    pub keymap: Keymap,
    /// Only ASCII.
    pub ascii: bool,
    /// The last key, and how many came in one burst: typing is told from pasting.
    pub burst: (Timestamp, u32),
}

impl Model {
    /// A console that has seen nothing.
    pub fn new(
        who: String,
        access: Access,
        theme: Theme,
        keymap: Keymap,
        size: (u16, u16),
    ) -> Self {
        Self {
            moment: Moment::default(),
            size,
            who,
            access,
            link: Link::Idle,
            seen: None,
            frozen: None,
            screen: Screen::Cluster,
            overlay: None,
            node: None,
            record: None,
            scroll: 0,
            told: None,
            calling: None,
            dismissing: false,
            starting: vec![],
            theme,
            keymap,
            ascii: false,
            burst: (Timestamp(0), 0),
        }
    }

    /// The picture on the screen: the frozen one, else the newest.
    pub fn shown(&self) -> Option<&Seen> {
        self.frozen.as_ref().map(|(seen, _)| seen).or(self.seen.as_ref())
    }
    /// Its view.
    pub fn view(&self) -> Option<&ClusterView> {
        self.shown().map(|s| &s.view)
    }
    /// How old the newest picture is.
    pub fn age(&self) -> Option<Span> {
        self.seen.as_ref().map(|s| self.moment.now.since(s.at))
    }
    /// Why the data cannot be acted on; `None` while it is fresh.
    pub fn stale(&self) -> Option<String> {
        match self.age() {
            None => Some("nothing was received yet".into()),
            Some(age) if age > STALE => Some(format!("the picture is {age} old")),
            Some(_) => None,
        }
    }
    /// Records, newest first.
    pub fn records(&self) -> Vec<&ChainedRecord> {
        self.view().map(|v| v.records.iter().rev().collect()).unwrap_or_default()
    }
    /// How many rows can be selected on this screen.
    pub fn rows(&self) -> usize {
        match self.screen {
            Screen::Fleet => usize::from(self.view().is_some()),
            Screen::Cluster => self.view().map_or(0, |v| v.nodes.len()),
            Screen::Audit => self.records().len(),
            Screen::Plan | Screen::Run | Screen::Why => 0,
        }
    }
    /// A line for the person.
    pub fn tell(&mut self, text: impl Into<String>, bad: bool) {
        self.told = Some(Told { text: text.into(), bad, at: self.moment.now });
    }
}
