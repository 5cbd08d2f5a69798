//! Faults as people write them in a scenario file, checked against a cluster.

use serde::Deserialize;

use super::fault::{Fault, Membership, Whom};
use super::hands::{Replacement, Setting};
use super::world::PLANES;
use crate::model::{NodeId, Span};

/// A fault as it is written; words and times are checked afterwards, where their place is known.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Written {
    KillDatabase(String),
    HangDatabase(String),
    ResumeDatabase(String),
    KillAgent(String),
    FreezeAgent(String),
    ThawAgent(String),
    PauseHost(Paused),
    ResumeHost(String),
    PowerOff(String),
    PowerOn(String),
    Reinstall(String),
    Cut {
        from: String,
        to: String,
        #[serde(default)]
        one_way: bool,
    },
    Heal,
    Degrade {
        from: String,
        to: String,
        #[serde(default)]
        delay: Option<String>,
        #[serde(default)]
        lost_per_mille: u64,
        #[serde(default)]
        doubled_per_mille: u64,
    },
    SlowDisk {
        node: String,
        flush: String,
    },
    FillDisk(String),
    LyingDisk(String),
    CorruptDisk(String),
    MendDisk(String),
    IoErrorDisk(Node),
    GuardDies(Node),
    GuardUnstartable(Node),
    MendGuard(Node),
    RestartAgent(Node),
    PromoteByHand(Node),
    StartByHand(Node),
    ReplaceData {
        node: String,
        with: Replacement,
    },
    MoveData(Node),
    MoveVolume(Node),
    WrongSetting {
        node: String,
        setting: Setting,
    },
    MendSetting {
        node: String,
        setting: Setting,
    },
    KillPlane(usize),
    StartPlane(usize),
    PausePlane(usize),
    ResumePlane(usize),
    Load {
        every: String,
    },
    AsyncSessions(bool),
    CancelWaits,
    Switchover {
        #[serde(default)]
        to: Option<String>,
        #[serde(default)]
        accept_unknown_loss: bool,
    },
    Drain(String),
    DrainHost(String),
    UndrainHost(String),
    RestartServer(String),
    Failback,
    Resume,
    WayOut,
    Dismiss,
    Acknowledge,
    Verify,
    Override(String),
    History(String),
    FleetSuspects(String),
    RefusedRequest {
        by: String,
        #[serde(default)]
        stranger: bool,
    },
    AddNode(String),
    RemoveNode(String),
    ReadmitNode(String),
    Person {
        #[serde(default)]
        confirms_after: Option<String>,
    },
}

/// `{node: …}`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Node {
    node: String,
}

/// `primary`, or `{node: primary, clock: stops}`.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Paused {
    Host(String),
    With {
        node: String,
        #[serde(default)]
        clock: Clock,
    },
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Clock {
    #[default]
    GoesOn,
    Stops,
}

impl Written {
    /// Checked against a cluster: `a, b` lists words of [`Whom::parse`].
    ///
    /// # Errors
    /// In words; the caller knows the place in the file.
    pub(super) fn check(self, nodes: &[NodeId], regions: &[String]) -> Result<Fault, String> {
        let who = |text: String| -> Result<Vec<Whom>, String> {
            text.split(',')
                .map(|w| {
                    Whom::parse(w.trim(), nodes, regions)
                        .map_err(|e| format!("{:?}: {e}", w.trim()))
                })
                .collect()
        };
        let plane = |n: usize| {
            n.checked_sub(1)
                .filter(|n| *n < PLANES)
                .ok_or_else(|| format!("plane {n}: there are planes 1 to {PLANES}"))
        };
        Ok(match self {
            Written::KillDatabase(w) => Fault::KillDatabase(who(w)?),
            Written::HangDatabase(w) => Fault::HangDatabase(who(w)?),
            Written::ResumeDatabase(w) => Fault::ResumeDatabase(who(w)?),
            Written::KillAgent(w) => Fault::KillAgent(who(w)?),
            Written::FreezeAgent(w) => Fault::FreezeAgent(who(w)?),
            Written::ThawAgent(w) => Fault::ThawAgent(who(w)?),
            Written::PauseHost(
                Paused::Host(node) | Paused::With { node, clock: Clock::GoesOn },
            ) => Fault::PauseHost(who(node)?),
            Written::PauseHost(Paused::With { node, clock: Clock::Stops }) => {
                Fault::SuspendHost(who(node)?)
            }
            Written::ResumeHost(w) => Fault::ResumeHost(who(w)?),
            Written::PowerOff(w) => Fault::PowerOff(who(w)?),
            Written::PowerOn(w) => Fault::PowerOn(who(w)?),
            Written::Reinstall(w) => Fault::Reinstall(who(w)?),
            Written::Cut { from, to, one_way } => Fault::Cut(who(from)?, who(to)?, !one_way),
            Written::Heal => Fault::Heal,
            Written::Degrade { from, to, delay, lost_per_mille, doubled_per_mille } => {
                let delay = delay.map(|d| span(&d)).transpose()?;
                Fault::Degrade(
                    who(from)?,
                    who(to)?,
                    delay,
                    lost_per_mille.min(1_000),
                    doubled_per_mille.min(1_000),
                )
            }
            Written::SlowDisk { node, flush } => Fault::SlowDisk(who(node)?, span(&flush)?),
            Written::FillDisk(w) => Fault::FillDisk(who(w)?),
            Written::LyingDisk(w) => Fault::LyingDisk(who(w)?),
            Written::CorruptDisk(w) => Fault::CorruptDisk(who(w)?),
            Written::MendDisk(w) => Fault::MendDisk(who(w)?),
            Written::IoErrorDisk(w) => Fault::BreakDisk(who(w.node)?),
            Written::GuardDies(w) => Fault::KillGuard(who(w.node)?),
            Written::GuardUnstartable(w) => Fault::NoGuard(who(w.node)?),
            Written::MendGuard(w) => Fault::MendGuard(who(w.node)?),
            Written::RestartAgent(w) => Fault::RestartAgent(who(w.node)?),
            Written::PromoteByHand(w) => Fault::PromoteByHand(who(w.node)?),
            Written::StartByHand(w) => Fault::StartByHand(who(w.node)?),
            Written::ReplaceData { node, with } => Fault::ReplaceData(who(node)?, with),
            Written::MoveData(w) => Fault::MoveData(who(w.node)?),
            Written::MoveVolume(w) => Fault::MoveVolume(who(w.node)?),
            Written::WrongSetting { node, setting } => Fault::Setting(who(node)?, setting, true),
            Written::MendSetting { node, setting } => Fault::Setting(who(node)?, setting, false),
            Written::KillPlane(n) => Fault::KillPlane(plane(n)?),
            Written::StartPlane(n) => Fault::StartPlane(plane(n)?),
            Written::PausePlane(n) => Fault::PausePlane(plane(n)?),
            Written::ResumePlane(n) => Fault::ResumePlane(plane(n)?),
            Written::Load { every } => Fault::Load(span(&every)?),
            Written::AsyncSessions(on) => Fault::AsyncSessions(on),
            Written::CancelWaits => Fault::CancelWaits,
            Written::Switchover { to, accept_unknown_loss } => {
                Fault::Switchover(to.map(who).transpose()?, accept_unknown_loss)
            }
            Written::Drain(w) => Fault::Drain(who(w)?),
            Written::DrainHost(w) => Fault::Rest(who(w)?, true),
            Written::UndrainHost(w) => Fault::Rest(who(w)?, false),
            Written::RestartServer(w) => Fault::RestartServer(who(w)?),
            Written::Failback => Fault::Failback,
            Written::Resume => Fault::Resume,
            Written::WayOut => Fault::WayOut,
            Written::Dismiss => Fault::Dismiss,
            Written::Acknowledge => Fault::Acknowledge,
            Written::Verify => Fault::Verify,
            Written::Override(w) => Fault::Override(who(w)?),
            Written::History(w) => Fault::History(who(w)?),
            Written::FleetSuspects(why) => Fault::FleetSuspects(why),
            Written::RefusedRequest { by, stranger } => Fault::RefusedRequest(by, stranger),
            Written::AddNode(w) => Fault::Node(Membership::Add, who(w)?),
            Written::RemoveNode(w) => Fault::Node(Membership::Remove, who(w)?),
            Written::ReadmitNode(w) => Fault::Node(Membership::Readmit, who(w)?),
            Written::Person { confirms_after } => {
                Fault::Person(confirms_after.map(|t| span(&t)).transpose()?)
            }
        })
    }
}

/// A time as people write it: `250ms`, `1.5s` is written `1s 500ms`, `2m`.
///
/// # Errors
/// What was expected.
pub(super) fn span(text: &str) -> Result<Span, String> {
    let parsed = humantime::parse_duration(text)
        .map_err(|e| format!("time {text:?}: {e}; write 250ms, 3s or 2m"))?;
    u64::try_from(parsed.as_nanos())
        .ok()
        .filter(|ns| *ns <= 86_400_000_000_000)
        .map(Span)
        .ok_or_else(|| format!("{text:?} is longer than a day"))
}
