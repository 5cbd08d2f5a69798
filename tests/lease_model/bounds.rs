//! What may happen in the model, how often, and with which rule broken.

/// A rule that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    None,
    /// A majority is enough, whoever confirmed commits.
    MajorityIsEnough,
    /// A restarted voter believes that it promised nothing.
    NoBlackout,
    /// The holder counts from when an answer arrives.
    CountsFromAnswer,
    /// A grant leaves the upstream connected.
    NoCut,
    /// A reinstalled node votes under its old identity.
    ReinstalledVotes,
    /// A holder that meets a higher epoch gives up instead of climbing.
    NoClimb,
    /// A voter says what is not on its disk yet.
    SaysBeforeDisk,
    /// A holder counts with a new voter set before a majority of both has it.
    NewVotersAtOnce,
    /// A voter grants whatever voter set the claim carries.
    AnyVoterSet,
    /// The database uses a new synchronous set that voters were not told of.
    NoJointStage,
    /// Voters whose power-off two persons attested live, cut off from the others.
    AttestedLives,
    /// After an override a claim counts what those who are left know as all there is, from the
    /// epoch that they know on.
    OverrideKnowsAll,
    /// The joint stage ends before the new set has what the old one confirmed.
    LeavesJointEarly,
    /// A holder without a guard renews.
    UnguardedForEver,
    /// A restarted agent goes on with its database and leaves the guard behind.
    ForgetsItsGuard,
    /// After a write to its store failed a voter believes what it reads back.
    TrustsTheCache,
}

/// What may happen, and how often.
#[derive(Clone, Debug)]
pub struct Bounds {
    pub mutant: Mutant,
    /// Nodes that vote at first.
    pub voters: usize,
    /// Nodes that may be added.
    pub strangers: usize,
    /// Voters came before this began, all but the first two and the last; so many (the last, then
    /// the second) missed it.
    pub stale: usize,
    /// The second and the last voter hear nothing from the others, nor they from them.
    pub parted: bool,
    /// The holder's agent was restarted in the middle of a change: the last voter is to leave, and
    /// nobody else knows.
    pub resumed: bool,
    /// How many voters after the first confirm at first; 0: all of them.
    pub confirming: usize,
    pub time: u64,
    pub claims: u8,
    pub renewals: u8,
    pub writes: u8,
    pub crashes: u8,
    pub pauses: u8,
    pub releases: u8,
    pub reinstalls: u8,
    pub doubles: u8,
    /// Voters that come or go.
    pub changes: u8,
    /// Changes of the synchronous set.
    pub sync_changes: u8,
    /// A node that holds nothing hears what voter set a peer has.
    pub hears: u8,
    /// So many voters, the last ones, may lose their power for good; the others then remove them by
    /// override.
    pub gone: usize,
    /// Changes may also set how many standbys a commit waits for.
    pub resizes: bool,
    /// Ask for a climb.
    pub strands: bool,
    /// Agents that die, or are restarted, while their database goes on.
    pub agent_crashes: u8,
    /// Guards that die and cannot be started again; nobody's agent dies then too.
    pub guard_deaths: u8,
    /// Writes to a voter's store that fail; what was to be written turns out lost, or kept.
    pub store_failures: u8,
}

pub const QUIET: Bounds = Bounds {
    mutant: Mutant::None,
    voters: 3,
    strangers: 0,
    stale: 0,
    parted: false,
    resumed: false,
    confirming: 0,
    time: 3,
    claims: 1,
    renewals: 1,
    writes: 1,
    crashes: 0,
    pauses: 0,
    releases: 0,
    reinstalls: 0,
    doubles: 0,
    changes: 0,
    sync_changes: 0,
    hears: 0,
    gone: 0,
    resizes: false,
    strands: false,
    agent_crashes: 0,
    guard_deaths: 0,
    store_failures: 0,
};
