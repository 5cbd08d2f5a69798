//! Bugs that were met once, put back by a test to see that the simulator finds them again. Outside
//! of tests none is ever there: [`planted`] is a constant `false`.

/// One that was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A former holder takes its role back whatever would be lost, and learns from nobody that it
    /// had a successor.
    ReclaimsAtAnyLoss,
    /// A candidate gives up on an account that grants under way would still mend.
    SettlesEarly,
    /// An older epoch of its own is never given back once it voted for somebody else.
    KeepsOldEpochs,
    /// A stopped former primary stays stopped, and cannot say where its log ends.
    StaysStopped,
    /// A restarted voter forgets that it may have promised.
    NoBlackout,
    /// A grant leaves the old upstream connected.
    NoCut,
    /// The lease runs out and nobody stops the database.
    NoFence,
    /// A guard goes on guarding what it was started with.
    OldGuard,
    /// A server is stopped when no process is found by its directory's path.
    StoppedByPath,
    /// After a flush failed, what is read back is taken for written.
    TrustsTheCache,
    /// Nobody stops what a person made writable.
    LeavesStrays,
    /// Positions count whatever data they are of.
    NoMark,
    /// A line counts whoever opened it.
    AnyLine,
    /// A log of the same line counts whatever it says.
    AnyLog,
    /// The guard's deadline only ever rises.
    GuardOnlyRises,
    /// A lease is renewed for ever without a guard.
    UnguardedForEver,
    /// A holder keeps to itself that its commits are not confirmed as ordered.
    DoubtForgotten,
    /// A holder that hears of a newer winner goes on, and climbs above it.
    HoldsOnOvertaken,
    /// A proof counts whoever asked for it, and whenever.
    AnyProof,
}

#[cfg(test)]
impl Bug {
    /// All of them.
    pub const ALL: [Bug; 19] = [
        Bug::ReclaimsAtAnyLoss,
        Bug::SettlesEarly,
        Bug::KeepsOldEpochs,
        Bug::StaysStopped,
        Bug::NoBlackout,
        Bug::NoCut,
        Bug::NoFence,
        Bug::OldGuard,
        Bug::StoppedByPath,
        Bug::TrustsTheCache,
        Bug::LeavesStrays,
        Bug::NoMark,
        Bug::AnyLine,
        Bug::AnyLog,
        Bug::GuardOnlyRises,
        Bug::UnguardedForEver,
        Bug::DoubtForgotten,
        Bug::HoldsOnOvertaken,
        Bug::AnyProof,
    ];
}

#[cfg(test)]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Whether this bug is put back here.
#[cfg(test)]
pub fn planted(bug: Bug) -> bool {
    PLANTED.with(|p| p.get() == Some(bug))
}
/// Never, outside of tests.
#[cfg(not(test))]
#[must_use]
pub const fn planted(_: Bug) -> bool {
    false
}

/// Puts a bug back on this thread while `run` runs.
#[cfg(test)]
pub fn with<T>(bug: Bug, run: impl FnOnce() -> T) -> T {
    PLANTED.with(|p| p.set(Some(bug)));
    let result = run();
    PLANTED.with(|p| p.set(None));
    result
}
