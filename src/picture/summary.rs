//! One cluster in one row, and its rank for attention: yours before bad, bad before what is merely
//! not as it should be.

use super::said::{Ink, Said};
use super::{number, rail};
use crate::model::view::{ClusterState, ClusterView, Owner, Phase};
use crate::model::{ClusterId, NodeId, Span};

/// Who has to act, most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attention {
    /// A person.
    Yours,
    /// Writes are stopped, and nothing moves by itself.
    Stopped,
    /// The program; it goes on by itself.
    Moves,
    /// Nobody knows.
    Unknown,
    /// Nobody at once: it works with less than it should have.
    Degraded,
    /// Nobody.
    Well,
}

/// Who has to act here.
pub fn attention(view: &ClusterView) -> Attention {
    // A plan that waits is a person's, whatever else passes by itself meanwhile.
    if view.plan.is_some() {
        return Attention::Yours;
    }
    match (view.phase.phase, view.state) {
        (Phase::AwaitingApproval | Phase::NeedsPerson, _) => Attention::Yours,
        (Phase::Suspecting, _) if view.outlook.stuck => Attention::Yours,
        // Nobody fails over until somebody starts a plane.
        (_, ClusterState::Unknown) if view.phase.owner == Owner::NoPlane => Attention::Yours,
        (Phase::Steady, ClusterState::Critical) => Attention::Stopped,
        (Phase::Steady, ClusterState::Unknown) => Attention::Unknown,
        (Phase::Steady, ClusterState::Degraded) => Attention::Degraded,
        (Phase::Steady, ClusterState::Healthy) => Attention::Well,
        _ => Attention::Moves,
    }
}

/// One cluster in a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Which.
    pub cluster: ClusterId,
    /// Its name.
    pub name: String,
    /// Where its nodes are, each region once.
    pub regions: Vec<String>,
    /// Its state.
    pub state: ClusterState,
    /// Who has to act.
    pub attention: Attention,
    /// Who holds the write role, or is about to.
    pub primary: Option<NodeId>,
    /// Voters that promise or have granted, of how many, and how many are needed.
    pub votes: (usize, usize, usize),
    /// The worst lag of a node that may take over; `None` where it is not known.
    pub lag: Option<u64>,
    /// The same in time, as the servers say it.
    pub lag_time: Option<Span>,
    /// The limit it is held against.
    pub lag_limit: u64,
    /// The phase's short word, and how long it has left.
    pub next: (&'static str, Option<Span>),
}

impl Summary {
    /// Of that view.
    pub fn of(view: &ClusterView) -> Self {
        let mut regions: Vec<String> = vec![];
        for node in &view.nodes {
            let region = node.place.split('/').next().unwrap_or_default();
            if !regions.iter().any(|r| r == region) {
                regions.push(region.to_owned());
            }
        }
        let copies =
            || view.nodes.iter().filter(|n| n.role == crate::model::topology::Role::Secondary);
        let known = copies().all(|n| n.lag_bytes.is_some());
        let running = view.run.as_ref().filter(|r| r.outcome.is_none());
        Self {
            cluster: view.cluster.clone(),
            name: view.name.clone(),
            regions,
            state: view.state,
            attention: attention(view),
            primary: view.primary.clone().or_else(|| running.map(|r| r.body.to.node.clone())),
            votes: (view.votes, view.voters, view.quorum),
            lag: copies().filter_map(|n| n.lag_bytes).max().filter(|_| known),
            lag_time: copies().filter_map(|n| n.lag).max().filter(|_| known),
            lag_limit: view.rpo_bytes,
            next: (rail::word(view.phase.phase), view.phase.deadline),
        }
    }
    /// Voters that may fail before there is no quorum.
    pub fn spare(&self) -> usize {
        self.votes.0.saturating_sub(self.votes.2)
    }
    /// What happens next, in few words.
    pub fn next_words(&self) -> Said {
        let (word, left) = self.next;
        let left = left.map_or(String::new(), |l| format!(" {}", number::countdown(l)));
        match self.attention {
            Attention::Yours => Said::new().say(Ink::Bad, format!("person{left}")),
            Attention::Moves => Said::new().say(Ink::Warn, format!("{word}{left}")),
            Attention::Stopped => Said::new().say(Ink::Bad, "nothing by itself"),
            Attention::Unknown => Said::new().say(Ink::Unknown, "not known"),
            Attention::Degraded | Attention::Well => Said::new(),
        }
    }
    /// Whether a filter lets it through: words anywhere in its name, and `state:`, `region:`,
    /// `primary:`, `phase:` with `*` at the end, `lag>SIZE`, `spare<N`.
    pub fn passes(&self, filter: &str) -> bool {
        filter.split_whitespace().all(|word| self.passes_one(&word.to_lowercase()))
    }

    /// Whether a word of a filter means something: what is nothing lets nobody through, and is named.
    pub fn knows(word: &str) -> bool {
        let word = word.to_lowercase();
        match (word.split_once(':'), word.split_once('>'), word.split_once('<')) {
            (Some((name, _)), ..) => matches!(name, "state" | "region" | "primary" | "phase"),
            (_, Some((name, value)), _) => {
                name == "lag" && (size(value).is_some() || time_of(value).is_some())
            }
            (.., Some((name, value))) => name == "spare" && value.parse::<usize>().is_ok(),
            _ => true,
        }
    }

    fn passes_one(&self, word: &str) -> bool {
        let like = |text: &str, pattern: &str| {
            let text = text.to_lowercase();
            match pattern.strip_suffix('*') {
                Some(start) => text.starts_with(start),
                None => text == pattern || (pattern.len() > 2 && text.starts_with(pattern)),
            }
        };
        if let Some((name, value)) = word.split_once(':') {
            return match name {
                "state" => like(self.state.word(), value),
                "region" => self.regions.iter().any(|r| like(r, value)),
                "primary" => self.primary.as_ref().is_some_and(|p| like(p.as_str(), value)),
                "phase" => like(self.next.0, value),
                _ => false,
            };
        }
        if let Some((name, value)) = word.split_once('>') {
            let bytes = || size(value).is_some_and(|most| self.lag.is_none_or(|l| l > most));
            let time = |most: Span| self.lag_time.is_none_or(|l| l > most);
            return name == "lag" && time_of(value).map_or_else(bytes, time);
        }
        if let Some((name, value)) = word.split_once('<') {
            return name == "spare" && value.parse().is_ok_and(|n: usize| self.spare() < n);
        }
        self.name.to_lowercase().contains(word) || self.cluster.as_str().contains(word)
    }
}

/// `5s`, `200ms`, `2min`.
fn time_of(text: &str) -> Option<Span> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let number = digits.parse::<u64>().ok()?;
    match &text[digits.len()..] {
        "ms" => Some(Span::millis(number)),
        "s" => Some(Span::secs(number)),
        "min" => Some(Span::secs(number.checked_mul(60)?)),
        _ => None,
    }
}

/// `16MiB`, `4k`, `128`.
fn size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let factor = match text[digits.len()..].chars().next() {
        None | Some('b') => 1,
        Some('k') => 1 << 10,
        Some('m') => 1 << 20,
        Some('g') => 1 << 30,
        Some(_) => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// In the order in which people should look: attention first, then by name.
pub fn in_order(mut clusters: Vec<Summary>) -> Vec<Summary> {
    let worst_first = |state| match state {
        ClusterState::Critical => 0,
        ClusterState::Unknown => 1,
        ClusterState::Degraded => 2,
        ClusterState::Healthy => 3,
    };
    clusters.sort_by(|a, b| {
        let urgent = a.attention.cmp(&b.attention);
        urgent
            .then_with(|| worst_first(a.state).cmp(&worst_first(b.state)))
            .then_with(|| a.name.cmp(&b.name))
    });
    clusters
}
