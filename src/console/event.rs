//! Everything that may change what is on the screen, and everything the console may ask the world
//! to do.

use crossterm::event::KeyEvent;

use super::confirm::TypedProof;
use super::settings::Settings;
use crate::model::plan::Proposal;
use crate::model::record::ChainedRecord;
use crate::model::view::ClusterView;
use crate::model::{Digest, NodeId, Timestamp, WallTime};
use crate::wire::changing::{Changed, NodeChange};
use crate::wire::message::CallReply;

/// One happening. Time comes in with it.
#[derive(Clone, Debug)]
pub enum Event {
    /// A key.
    Key(KeyEvent),
    /// Pasted text.
    Paste(String),
    /// The terminal has this size now.
    Resize(u16, u16),
    /// Time passed.
    Tick,
    /// The connection's state.
    Link(Link),
    /// A new picture.
    View(Box<ClusterView>),
    /// The answer to a call, or why there is none.
    Reply(Result<CallReply, CallFailed>),
    /// How a change of a node ended.
    Changed(Changed),
    /// A step of a lab that is being started.
    Progress(String),
    /// The lab could not be started.
    Failed(String),
    /// Something to tell the person.
    Told(String),
    /// The wheel was turned: down, or up.
    Wheel(bool),
}

/// A call without an answer.
#[derive(Clone, Debug)]
pub struct CallFailed {
    /// In words.
    pub why: String,
    /// Whether the other side may have acted.
    pub outcome_unknown: bool,
}

/// The connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// Nothing is tried yet.
    Idle,
    /// Trying.
    Connecting {
        /// Whom.
        target: String,
        /// Which try.
        attempt: u32,
    },
    /// Connected to a plane or an agent.
    Live {
        /// Whom.
        target: String,
        /// It is a plane.
        plane: bool,
    },
    /// Lost; tried again at a moment.
    Lost {
        /// Why.
        why: String,
        /// Which try comes next.
        attempt: u32,
        /// When.
        retry_at: Timestamp,
        /// Since when it is waited for.
        since: Timestamp,
    },
}

/// What the console asks a plane to do.
#[derive(Debug, PartialEq)]
pub enum Change {
    /// Make a plan.
    Propose(Proposal),
    /// Sign and execute a plan. Only a typed proof makes this.
    Execute(TypedProof),
    /// Drop a plan that waits.
    Dismiss(Digest),
    /// What happened is known.
    Acknowledge(String),
    /// Prove the present state with a real write.
    Verify,
    /// Change one node, for that reason.
    Node(NodeChange, NodeId, String),
}

/// What the console asks the world to do.
#[derive(Debug, PartialEq)]
pub enum Command {
    /// Leave.
    Quit,
    /// Put the console into the background of the shell.
    Suspend,
    /// Change something. A read-only console has nothing that could carry this out.
    Change(Change),
    /// Try the connection now.
    Retry,
    /// Put text on the clipboard of the terminal (OSC 52).
    Copy(String),
    /// The same with the whole screen.
    CopyScreen,
    /// Save the screen as SVG, ANSI and text.
    Save,
    /// Write these records into a file.
    Export(Vec<ChainedRecord>),
    /// Use this built-in theme.
    Theme(&'static str),
    /// Use this built-in keymap.
    Keymap(&'static str),
    /// Keep these settings.
    Keep(Settings),
    /// Ring the terminal's bell.
    Bell,
}

/// The present, as it comes in with an event.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moment {
    /// Suspend-aware clock.
    pub now: Timestamp,
    /// Wall clock.
    pub wall: WallTime,
}
