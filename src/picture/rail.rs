//! The move of the write role as a rail of stations: what is done, where it stands, what is to come
//! and what was left out.

use crate::model::plan::StepKind;
use crate::model::view::{ClusterView, Phase, StepState};

/// How a station is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Passed.
    Done,
    /// Here.
    Here,
    /// To come.
    ToCome,
    /// Not on the way of this move.
    LeftOut,
}

/// The short word under a station.
pub fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Steady => "steady",
        Phase::Suspecting => "suspect",
        Phase::Deciding => "decide",
        Phase::AwaitingApproval => "approve",
        Phase::Fencing => "fence",
        Phase::Claiming => "claim",
        Phase::Promoting => "promote",
        Phase::Routing => "follow",
        Phase::Verifying => "verify",
        Phase::Stabilising => "settle",
        Phase::Aborted => "aborted",
        Phase::RolledBack => "rolled back",
        Phase::NeedsPerson => "a person",
    }
}

/// Every station with its mark. The exits stand where the move left the rail: beside `decide`.
pub fn stations(view: &ClusterView) -> Vec<(Phase, Stop)> {
    let here = match view.phase.phase {
        Phase::NeedsPerson | Phase::Aborted | Phase::RolledBack => Phase::Deciding,
        on => on,
    };
    let at = Phase::LADDER.iter().position(|p| *p == here).unwrap_or(0);
    let run = view.run.as_ref().filter(|r| r.outcome.is_none() || here == Phase::Stabilising);
    Phase::LADDER
        .iter()
        .enumerate()
        .map(|(i, phase)| {
            let stop = if i == at {
                Stop::Here
            } else if i > at {
                Stop::ToCome
            } else if run.is_some_and(|r| was_left_out(*phase, r)) {
                Stop::LeftOut
            } else {
                Stop::Done
            };
            (*phase, stop)
        })
        .collect()
}

fn was_left_out(phase: Phase, run: &crate::model::view::RunView) -> bool {
    let kind = match phase {
        Phase::Fencing => StepKind::Fence,
        Phase::Claiming => StepKind::Claim,
        Phase::Promoting => StepKind::Promote,
        Phase::Routing => StepKind::Follow,
        Phase::Verifying => StepKind::Verify,
        // A planned move was never suspected; whether somebody approved it is not said here.
        Phase::Suspecting | Phase::Deciding => return run.body.kind.is_planned(),
        Phase::AwaitingApproval => return run.body.is_by_policy(),
        _ => return false,
    };
    !run.steps.iter().any(|s| s.kind == kind && s.state != StepState::Waiting)
}
