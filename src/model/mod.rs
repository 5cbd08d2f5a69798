//! The nouns every room shares: ids, time, positions, what an agent reports, what the plane
//! concludes, plans, records and the views that windows draw. Values only: nothing here reads a
//! clock, a file or a socket.

pub mod command;
pub mod constraints;
pub mod data;
pub mod id;
pub mod loss;
pub mod observation;
pub mod outlook;
pub mod plan;
pub mod planted;
pub mod position;
pub mod record;
pub mod serving;
pub mod share;
pub mod testimony;
pub mod time;
pub mod topology;
pub mod view;

pub use data::{DataFault, DataFound, DataMark, LogPrint};
pub use id::{
    ClusterId, Digest, Epoch, Incarnation, Member, Members, NodeId, SyncSet, SyncStage, VoterSet,
};
pub use position::{Lsn, Position, TimelineHistory};
pub use time::{Span, Timestamp, WallTime};
