//! What an agent reports of its node: facts with their source and age, no conclusions.

use serde::{Deserialize, Serialize};

use super::loss::Doubt;
use super::serving::Serving;
use super::share::Shares;
use super::testimony::{EpochSync, ReleaseNotice};
use super::{
    DataFault, DataFound, Digest, Epoch, Lsn, Member, NodeId, Position, Span, SyncSet, WallTime,
};

/// One agent's report; sent at every interval and at once when something changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeReport {
    /// Who reports.
    pub member: Member,
    /// Names this agent process: process ids are used again.
    pub process: u64,
    /// Rises by one with every report of this agent process.
    pub sequence: u64,
    /// The sender's wall clock, for display.
    pub sent: WallTime,
    /// Process ids, for people and independent tools.
    pub pids: Pids,
    /// What its voter has promised.
    pub vote: VoteFacts,
    /// The write lease, if it holds it.
    pub holding: Option<HoldingFacts>,
    /// Its resource.
    pub resource: ResourceFacts,
    /// Its probes of its peers.
    pub peers: Vec<PeerProbe>,
    /// The plan it was armed with, and how far it is.
    pub armed: Option<ArmedFacts>,
    /// The shares it keeps, where several nodes accept writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shares: Option<Shares>,
    /// The room in every folder that matters on this host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rooms: Vec<Room>,
    /// How much longer its certificates are good.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<Certificate>,
    /// What a server does here that is not owned yet: `primary`, `standby`, `stopped`; empty: there
    /// is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub beside: String,
    /// Servers on this host that take writes on a copy of this node's data, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub copies: Vec<String>,
    /// What it is doing, in words; empty when nothing.
    pub activity: String,
    /// Why it last refused or gave up something, in words; empty when nothing.
    pub complaint: String,
    /// Which data is here.
    #[serde(default)]
    pub data: DataFound,
    /// Up to where the log here was flushed, as its voter remembers durably.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<Position>,
    /// Why the data here has no position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_fault: Option<DataFault>,
}

impl NodeReport {
    /// Log of that primary that readers here do not see yet, in bytes; `None`: nobody can say.
    pub fn replay_lag_behind(&self, primary: &NodeReport) -> Option<u64> {
        let (end, here) = (primary.resource.position, &self.resource);
        let known = here.state == ResourceState::Standby
            && here.position.timeline == end.timeline
            && here.replayed > Lsn(0);
        known.then(|| end.lsn.bytes_since(here.replayed))
    }
    /// It is one of the voters, and has no vote: what it would promise cannot be saved.
    pub fn cannot_save(&self) -> bool {
        !self.vote.votes && self.vote.members.contains(&self.member)
    }
}

/// The room in one folder that matters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// What for: `state`, `data`, `wal`, `tablespace`.
    pub what: String,
    /// Which folder.
    pub path: String,
    /// Free bytes there.
    pub free: u64,
    /// Total bytes there; 0 where they are not known.
    pub total: u64,
}

/// How long a certificate that somebody uses is good.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// `own`, or `authority`.
    pub what: String,
    /// Until then, by the certificate.
    pub until: WallTime,
    /// From now until then by the clock there; zero when it ran out.
    pub left: Span,
    /// From its first moment to its last.
    pub lifetime: Span,
}

/// Process ids of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pids {
    /// The agent.
    pub agent: u32,
    /// The guard, while one runs.
    pub guard: Option<u32>,
    /// The database's postmaster, while it runs.
    pub postmaster: Option<u32>,
}

/// A voter's promises.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VoteFacts {
    /// The epoch it voted in last.
    pub epoch: Epoch,
    /// Whom it voted for.
    pub holder: Option<Member>,
    /// Whether that epoch was released.
    pub released: bool,
    /// Every epoch that it knows to be released.
    #[serde(default)]
    pub releases: Vec<ReleaseNotice>,
    /// Every epoch that may have been won since (and with) the last one known to be written in.
    #[serde(default)]
    pub history: Vec<EpochSync>,
    /// Its log is on a line that may have been won, and nothing there proves who wrote it.
    #[serde(default)]
    pub unproved_line: bool,
    /// Two persons signed whose data is the history, and nothing was written in a later epoch since.
    #[serde(default)]
    pub history_signed: bool,
    /// Whether it has seen proof that the epoch was won.
    pub won: bool,
    /// How much longer its promise binds it.
    pub lease_left: Span,
    /// The version of the voter set it uses; 0 before any was installed.
    pub voters_version: u64,
    /// How many voters that set has.
    pub voters: usize,
    /// Whether this incarnation is one of them.
    #[serde(default)]
    pub votes: bool,
    /// Who they are, as far as this voter knows.
    #[serde(default)]
    pub members: Vec<Member>,
    /// How often its record was written.
    #[serde(default)]
    pub writes: u64,
}

/// The lease from the holder's side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HoldingFacts {
    /// In which epoch.
    pub epoch: Epoch,
    /// How much longer writes may be acknowledged without another renewal.
    pub left: Span,
    /// Voters whose promise reaches beyond now.
    pub promised_by: Vec<NodeId>,
    /// The synchronous set in force.
    pub sync: SyncSet,
    /// What is said against the account of its writes.
    #[serde(default)]
    pub doubt: Doubt,
}

/// What a resource is doing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum ResourceState {
    /// Not looked at yet.
    #[default]
    Unknown,
    /// No process of it remains.
    Stopped(StopEvidence),
    /// Starting or recovering.
    Starting,
    /// Accepts no writes, replays.
    Standby,
    /// Accepts writes.
    Primary,
    /// Processes exist, but it does not answer.
    Hung,
    /// Being rewound or cloned.
    Rebuilding,
    /// No data here (a witness).
    None,
}

impl ResourceState {
    /// The word for screens.
    pub fn word(&self) -> &'static str {
        match self {
            ResourceState::Unknown => "unknown",
            ResourceState::Stopped(_) => "stopped",
            ResourceState::Starting => "starting",
            ResourceState::Standby => "standby",
            ResourceState::Primary => "primary",
            ResourceState::Hung => "hung",
            ResourceState::Rebuilding => "rebuilding",
            ResourceState::None => "no data",
        }
    }
}

/// What an adapter of simulated databases calls them.
pub const SIMULATED: &str = "sim";
/// The state of a standby that has caught up and receives, in the server's own word.
pub const STREAMING: &str = "streaming";

impl ResourceFacts {
    /// Whether its database is a simulated one.
    pub fn is_simulated(&self) -> bool {
        self.kind == SIMULATED
    }
}

impl StandbyFacts {
    /// Whether it receives, and has caught up.
    pub fn streams(&self) -> bool {
        self.state == STREAMING
    }
}

impl StopEvidence {
    /// What stands for how, where there is no data that could run.
    pub const NOTHING: &str = "empty";
    /// Whether there was nothing that could be stopped: no data was ever put there.
    pub fn is_of_nothing(&self) -> bool {
        self.how == Self::NOTHING
    }
}

/// Proof that a resource is stopped: what was looked at, and what was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopEvidence {
    /// When the last process was seen to be gone.
    pub at: WallTime,
    /// How: fast, immediate, kill, found dead.
    pub how: String,
    /// Processes that had to be killed.
    pub killed: u32,
    /// Processes with this data directory that remain; evidence only when 0.
    pub remaining: u32,
    /// The end of its log, known after a clean stop.
    pub final_position: Option<Position>,
    /// What was looked at: processes, folders, port and socket.
    #[serde(default)]
    pub looked: String,
}

/// A resource as the agent sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ResourceFacts {
    /// `postgres`, `sim` or `none`.
    pub kind: String,
    /// Server version, for people.
    pub version: String,
    /// What it is doing.
    pub state: ResourceState,
    /// Since when, by the node's wall clock.
    pub since: WallTime,
    /// The greater of received and replayed on a standby, written on a primary.
    pub position: Position,
    /// Flushed here.
    pub flushed: Lsn,
    /// Replayed here.
    pub replayed: Lsn,
    /// The node whose log it receives now, by its own view; `None` when it receives from nobody.
    pub receiving_from: Option<NodeId>,
    /// Age of the last message from its upstream.
    pub upstream_age: Option<Span>,
    /// Standbys connected to it, by its own view.
    pub standbys: Vec<StandbyFacts>,
    /// The synchronous setting in force in the server.
    pub sync_setting: String,
    /// Client sessions.
    pub sessions: u32,
    /// The load it carries, in units of its capacity; `None` where nobody measures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<u64>,
    /// Commits whose wait for synchronous standbys was cancelled, seen since the primary was
    /// promoted; `None`: nobody can say.
    #[serde(default)]
    pub unsynchronised_sessions: Option<u32>,
    /// Free bytes where the data is.
    pub disk_free: u64,
    /// Total bytes there.
    pub disk_total: u64,
    /// How long the last check of each layer took.
    pub check: CheckTimes,
    /// How the last real write read back went, once asked for.
    pub proof: Option<WriteProof>,
    /// That it did not go, if that is newer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unproved: Option<Unproved>,
    /// What is wrong, in words.
    pub trouble: String,
    /// Why what was ordered is not reached yet, by the last try; `None`: reached, or nothing failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setback: Option<Setback>,
    /// What a new client of the database is told instead of being let in; empty: it is let in.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub refuses: String,
    /// Why clients' writes do not go through although the database accepts writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<Blocked>,
    /// Whether it could serve as a primary; `None` where nobody looks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving: Option<Serving>,
    /// Where what was found was not what was ordered, the last few.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub found: Vec<Found>,
}

/// Tries to reach what was ordered that failed, one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setback {
    /// Why the last one failed.
    pub what: String,
    /// When the first one failed, by the node's wall clock.
    pub first: WallTime,
    /// When the last one did.
    pub last: WallTime,
    /// How many there were.
    pub times: u32,
}

impl Setback {
    /// One more try failed.
    pub fn after(before: Option<Self>, what: &str, at: WallTime) -> Self {
        let (first, times) = before.map_or((at, 0), |b| (b.first, b.times));
        Self { what: what.to_owned(), first, last: at, times: times.saturating_add(1) }
    }

    /// Pauses between tries grow, up to sixteen times the first: what failed ten times is seldom
    /// mended within the next moment, and a try may cost others something.
    pub fn pauses(&self) -> u32 {
        (1 << (self.times / 10).min(4)).max(1)
    }
}

/// What holds up the writes of clients, or would after a promotion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "by")]
pub enum Blocked {
    /// New transactions are read-only by the server's own setting.
    ReadOnly,
    /// Every session of one database begins read only.
    Database {
        /// Which.
        database: String,
    },
    /// Every connection that is not kept for superusers is taken.
    Full {
        /// So many are for ordinary roles.
        limit: u32,
    },
    /// Commits wait for standbys that stream.
    Waiting {
        /// How many sessions wait.
        sessions: u32,
        /// The longest wait, as far as it was seen.
        longest: Span,
    },
}

impl std::fmt::Display for Blocked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Blocked::ReadOnly => write!(
                f,
                "default_transaction_read_only = on: clients' writes are refused; mend: ALTER \
                 SYSTEM RESET default_transaction_read_only (or where else it is set), and reload"
            ),
            Blocked::Database { database } => write!(
                f,
                "database {database} is read only (ALTER DATABASE … SET \
                 default_transaction_read_only = on): writes of its new sessions are refused"
            ),
            Blocked::Full { limit } => write!(
                f,
                "all {limit} connections of ordinary roles are taken: new clients are turned away \
                 (the rest is kept for superusers)"
            ),
            Blocked::Waiting { sessions, longest } => write!(
                f,
                "{sessions} commits wait for a standby that streams, the longest for {longest}: \
                 slow or paused replay, or a slow disk there"
            ),
        }
    }
}

/// Something that was found and not ordered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// When, by the node's wall clock.
    pub at: WallTime,
    /// What.
    pub what: String,
    /// What was done about it.
    pub done: String,
}

/// How long the layered checks took; `None` where one failed or was not made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CheckTimes {
    /// The process exists and answers a query.
    pub live: Option<Span>,
    /// It is ready in its role.
    pub ready: Option<Span>,
    /// It can write to its disk.
    pub deep: Option<Span>,
}

/// A write that was committed synchronously and read back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WriteProof {
    /// In which epoch.
    pub epoch: Epoch,
    /// How long the commit took, its wait for standbys included.
    pub took: Span,
    /// When, by the node's wall clock.
    pub at: WallTime,
    /// The command that asked for it: a write proves nothing to another.
    #[serde(default)]
    pub asked: String,
}

/// A write that was asked for and did not come back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unproved {
    /// The command that asked for it.
    pub asked: String,
    /// What the server said, or that it said nothing.
    pub why: String,
    /// When, by the node's wall clock.
    pub at: WallTime,
}

/// One standby as its primary sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StandbyFacts {
    /// Which node.
    pub node: NodeId,
    /// `streaming`, `catchup`, …
    pub state: String,
    /// `sync`, `quorum`, `potential`, `async`.
    pub sync_state: String,
    /// Sent to it.
    pub sent: Lsn,
    /// Flushed there.
    pub flushed: Lsn,
    /// Replayed there.
    pub replayed: Lsn,
    /// Written here but not flushed there.
    pub lag_bytes: u64,
    /// How long the last flush confirmation took.
    pub lag: Option<Span>,
}

/// One agent's probe of another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerProbe {
    /// Who was probed.
    pub node: NodeId,
    /// Age of the last answer; `None` if there never was one.
    pub answered: Option<Span>,
    /// Round trip of the last answer.
    pub round_trip: Option<Span>,
    /// Whether the peer's agent said its resource runs.
    pub resource_runs: Option<bool>,
    /// The last try found a host that answers and no agent that listens there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub closed: bool,
}

/// How far an armed candidate is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArmedFacts {
    /// Which plan.
    pub plan: Digest,
    /// Where it stands.
    pub stage: ArmedStage,
    /// The epoch claimed or won, once known.
    pub epoch: Option<Epoch>,
    /// What fenced the former holder, once won.
    pub fence: Option<super::loss::FenceRung>,
    /// The loss account as the candidate computed it from the grants; of one that gave up: what it
    /// refused.
    pub loss: Option<super::loss::LossAccount>,
    /// Who granted, where it won and refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub granted: Vec<NodeId>,
    /// In words: what it waits for, or why it gave up.
    pub why: String,
}

/// Stages of an armed candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArmedStage {
    /// Waits until the voters would grant.
    Waiting,
    /// Has claimed, counts grants.
    Claiming,
    /// Won; fetches log that another voter has and it lacks.
    Fetching,
    /// Won; promotes.
    Promoting,
    /// Accepts writes.
    Done,
    /// Gave up; nothing was promoted.
    Abandoned,
}
