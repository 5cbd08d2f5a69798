//! Everything the console knows. A value: tests make one and compare what `update` makes of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tui_input::Input;

use super::confirm::{Confirm, STALE};
use super::event::{Link, Moment};
use super::history::Lag;
use super::keymap::{Key, Keymap};
use super::settings::Settings;
use super::sure::Sure;
use super::theme::Theme;
use super::view::Glyphs;
use crate::model::record::ChainedRecord;
use crate::model::view::ClusterView;
use crate::model::{ClusterId, NodeId, Span, Timestamp, WallTime};
use crate::picture::number;

/// A screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "named like the commands that lead to them")]
pub enum Screen {
    Fleet,
    Cluster,
    Node,
    Plan,
    Run,
    Audit,
    Why,
    Log,
    Settings,
}

impl Screen {
    /// All of them.
    pub const ALL: [Screen; 9] = [
        Screen::Fleet,
        Screen::Cluster,
        Screen::Node,
        Screen::Plan,
        Screen::Run,
        Screen::Audit,
        Screen::Why,
        Screen::Log,
        Screen::Settings,
    ];
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Screen::Fleet => "fleet",
            Screen::Cluster => "cluster",
            Screen::Node => "node",
            Screen::Plan => "plan",
            Screen::Run => "run",
            Screen::Audit => "audit",
            Screen::Why => "why",
            Screen::Log => "messages",
            Screen::Settings => "settings",
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

/// What lies over the sheet.
#[derive(Clone, Debug)]
pub enum Overlay {
    /// Keys and commands.
    Help {
        /// First line shown.
        scroll: usize,
        /// What is typed to find one.
        filter: String,
    },
    /// A command is typed.
    Palette {
        /// So far.
        input: Input,
        /// Which suggestion is selected.
        selected: usize,
    },
    /// A filter is typed.
    Filter(Input),
    /// All of what is selected, nothing left out.
    ReadAll {
        /// First line shown.
        scroll: usize,
    },
    /// What was asked for was refused.
    Refused {
        /// By which check.
        check: String,
        /// Why, and what would change it.
        why: String,
    },
    /// The gate before an execution.
    Confirm(Box<Confirm>),
    /// The question before a vote is taken away.
    Sure(Box<Sure>),
}

/// A picture and when it came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The picture.
    pub view: Arc<ClusterView>,
    /// When it came, by the console's clock.
    pub at: Timestamp,
    /// How old it was then: one that was kept may be older than the clock, which begins at a boot.
    pub older: Span,
}

impl Seen {
    /// How old it is.
    pub fn age(&self, now: Timestamp) -> Span {
        Span(now.since(self.at).0.saturating_add(self.older.0))
    }
}

/// One line for the person.
#[derive(Clone, Debug)]
pub struct Told {
    /// The line.
    pub text: String,
    /// It stays until a key is pressed.
    pub bad: bool,
    /// When.
    pub at: Timestamp,
    /// When, for people.
    pub wall: crate::model::WallTime,
}

/// Lines for the person that are kept.
const LOG_MAX: usize = 50;

/// The console's state.
#[derive(Clone, Debug)]
pub struct Model {
    /// The present.
    pub moment: Moment,
    /// Terminal size.
    pub size: (u16, u16),
    /// Who looks.
    pub who: String,
    /// Which of several planes.
    pub context: crate::config::identity::Context,
    /// What the session may express.
    pub access: Access,
    /// The connection.
    pub link: Link,
    /// The last tries of the connection, newest last.
    pub tries: VecDeque<(crate::model::WallTime, String)>,
    /// The newest picture of each cluster.
    pub clusters: BTreeMap<ClusterId, Seen>,
    /// Which cluster is looked at.
    pub cluster: Option<ClusterId>,
    /// The id or the name of the one that was asked for, until it is seen.
    pub wanted: Option<String>,
    /// How far each node was behind, lately.
    pub lags: BTreeMap<(ClusterId, NodeId), Lag>,
    /// The frozen picture, and how many came since.
    pub frozen: Option<(Seen, u32)>,
    /// Which screen.
    pub screen: Screen,
    /// The screen before.
    pub before: Screen,
    /// What lies over it.
    pub overlay: Option<Overlay>,
    /// The node that is looked at, by name.
    pub node: Option<NodeId>,
    /// What was selected in each panel of each screen, by name.
    pub selected: BTreeMap<(Screen, &'static str), String>,
    /// The panel that keys go to on each screen.
    pub focus: BTreeMap<Screen, &'static str>,
    /// First line shown of each panel that was scrolled.
    pub scroll: BTreeMap<(Screen, &'static str), usize>,
    /// Filters in force.
    pub filters: BTreeMap<Screen, String>,
    /// The last thing to tell.
    pub told: Option<Told>,
    /// The last things that were told, oldest first.
    pub log: VecDeque<Told>,
    /// A call is under way since.
    pub calling: Option<Timestamp>,
    /// What was asked of it is to drop a plan.
    pub dismissing: bool,
    /// Steps of a lab that is being started.
    pub starting: Vec<String>,
    /// Keys of a sequence that is not complete, and since when.
    pub prefix: Option<(Vec<Key>, Timestamp)>,
    /// What is kept between sessions.
    pub settings: Settings,
    /// The look.
    pub theme: Arc<Theme>,
    /// Whether the terminal's own ground is light, where it said so.
    pub on_light: Option<bool>,
    /// The keys.
    pub keymap: Arc<Keymap>,
    /// The characters.
    pub glyphs: Glyphs,
    /// Local time's distance from UTC in seconds.
    pub zone: i32,
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
            context: crate::config::identity::Context::default(),
            access,
            link: Link::Idle,
            tries: VecDeque::new(),
            clusters: BTreeMap::new(),
            lags: BTreeMap::new(),
            cluster: None,
            wanted: None,
            frozen: None,
            screen: Screen::Cluster,
            before: Screen::Fleet,
            overlay: None,
            node: None,
            selected: BTreeMap::new(),
            focus: BTreeMap::new(),
            scroll: BTreeMap::new(),
            filters: BTreeMap::new(),
            told: None,
            log: VecDeque::new(),
            calling: None,
            on_light: None,
            dismissing: false,
            starting: vec![],
            prefix: None,
            settings: Settings::default(),
            theme: Arc::new(theme),
            keymap: Arc::new(keymap),
            glyphs: Glyphs::default(),
            zone: 0,
            burst: (Timestamp(0), 0),
        }
    }

    /// The screen that is drawn.
    pub fn place(&self) -> Screen {
        match self.screen {
            Screen::Node if self.node_view().is_none() => Screen::Cluster,
            other => other,
        }
    }
    /// The newest picture of the cluster that is looked at.
    pub fn seen(&self) -> Option<&Seen> {
        self.cluster
            .as_ref()
            .and_then(|id| self.clusters.get(id))
            .or_else(|| self.clusters.values().next())
    }
    /// The picture on the screen: the frozen one, else the newest.
    pub fn shown(&self) -> Option<&Seen> {
        self.frozen.as_ref().map(|(seen, _)| seen).or_else(|| self.seen())
    }
    /// Its view.
    pub fn view(&self) -> Option<&ClusterView> {
        self.shown().map(|s| &*s.view)
    }
    /// How old the picture on the screen is, while it goes on.
    pub fn since(&self) -> Span {
        match (&self.frozen, self.seen()) {
            (None, Some(seen)) => seen.age(self.moment.now),
            _ => Span::ZERO,
        }
    }
    /// The node that is looked at.
    pub fn node_view(&self) -> Option<&crate::model::view::NodeView> {
        let id = self.node.as_ref()?;
        self.view()?.nodes.iter().find(|n| n.node == *id)
    }
    /// How old the newest picture is.
    pub fn age(&self) -> Option<Span> {
        self.seen().map(|s| s.age(self.moment.now))
    }
    /// Why the data cannot be acted on; `None` while it is fresh.
    pub fn stale(&self) -> Option<String> {
        match self.age() {
            None => Some("nothing was received yet".into()),
            Some(age) if age > STALE => Some(format!(
                "the picture is {} old, limit {}",
                number::since(age),
                number::since(STALE)
            )),
            Some(_) => None,
        }
    }
    /// Records that pass the filter, newest first.
    pub fn records(&self) -> Vec<&ChainedRecord> {
        let filter = self.filters.get(&Screen::Audit).map_or("", String::as_str);
        let words: Vec<String> = filter.split_whitespace().map(str::to_lowercase).collect();
        let Some(view) = self.view() else { return vec![] };
        view.records
            .iter()
            .rev()
            .filter(|r| words.iter().all(|w| super::view::record_passes(r, w)))
            .collect()
    }
    /// What the person chose in a panel of this screen.
    pub fn chosen(&self, panel: &'static str) -> Option<&str> {
        self.selected.get(&(self.place(), panel)).map(String::as_str)
    }
    /// First line shown of a panel.
    pub fn scrolled(&self, panel: &'static str) -> usize {
        self.scroll.get(&(self.place(), panel)).copied().unwrap_or(0)
    }
    /// The panel that was chosen on this screen.
    pub fn focus(&self) -> Option<&'static str> {
        self.focus.get(&self.place()).copied()
    }
    /// A line for the person.
    pub fn tell(&mut self, text: impl Into<String>, bad: bool) {
        let told = Told { text: text.into(), bad, at: self.moment.now, wall: self.moment.wall };
        self.log.push_back(told.clone());
        if self.log.len() > LOG_MAX {
            self.log.pop_front();
        }
        self.told = Some(told);
    }
    /// A moment in the zone that is set: of today its time, of another day its date too.
    pub fn clock(&self, wall: WallTime) -> String {
        if self.settings.local {
            let shifted = self.local(wall);
            let (hours, minutes) = (self.zone / 3_600, self.zone.abs() / 60 % 60);
            let clock = shifted.clock();
            let zone =
                if minutes == 0 { format!("{hours:+}") } else { format!("{hours:+}:{minutes:02}") };
            let today = self.local(self.moment.wall);
            let words = on_its_day(shifted, today, clock.trim_end_matches('Z').to_owned());
            format!("{words}{zone}")
        } else {
            on_its_day(wall, self.moment.wall, wall.clock().trim_end_matches('Z').to_owned()) + "Z"
        }
    }
    /// Cells of a column of moments, of which that is the oldest.
    pub fn clock_cells(&self, oldest: WallTime) -> usize {
        let cells = |wall| self.clock(wall).chars().count();
        cells(oldest).max(cells(self.moment.wall))
    }
    fn local(&self, wall: WallTime) -> WallTime {
        WallTime(wall.0 + i64::from(self.zone) * 1_000)
    }
}

/// A time of day, with seconds today and with the date on another day.
fn on_its_day(wall: WallTime, today: WallTime, clock: String) -> String {
    let (whole, now) = (wall.rfc3339(), today.rfc3339());
    let day = |text: &str| text.split('T').next().unwrap_or_default().to_owned();
    match (day(&whole).split_once('-'), clock.rsplit_once(':')) {
        (Some((_, date)), Some((minute, _))) if day(&whole) != day(&now) => {
            format!("{date} {minute}")
        }
        _ => clock,
    }
}
