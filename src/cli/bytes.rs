//! Every parser of outside bytes behind one door each, for the fuzzer and for the corpus test: any
//! input is understood or refused, nothing panics, and a refusal can be printed.

use std::path::Path;

use prost::Message as _;

use crate::engine::journal;
use crate::sim::scenario;
use crate::wire::message::{CallReply, CallRequest, FromAgent, PeerMessage, PeerReply, ToAgent};
use crate::wire::proto::Envelope;
use crate::{config, wire};

const HERE: &str = "input";

/// `cluster.yaml`.
pub fn cluster(text: &str) -> bool {
    let result = config::cluster::parse(Path::new(HERE), text);
    if let Err(problem) = &result {
        assert!(!problem.to_string().is_empty(), "a refusal says why");
    }
    result.is_ok()
}

/// `policy.yaml`, for the cluster of the rehearsals.
pub fn policy(text: &str) -> bool {
    let Ok(cluster) = config::cluster::parse(Path::new(HERE), scenario::CLUSTER) else {
        return false;
    };
    let result = config::policy::parse(Path::new(HERE), text, &cluster);
    if let Err(problem) = &result {
        assert!(!problem.to_string().is_empty(), "a refusal says why");
    }
    result.is_ok()
}

/// A scenario, for the cluster of the rehearsals.
pub fn scenario(text: &str) -> bool {
    let Ok(cluster) = config::cluster::parse(Path::new(HERE), scenario::CLUSTER) else {
        return false;
    };
    let result = scenario::parse(Path::new(HERE), text, &cluster);
    if let Err(problem) = &result {
        assert!(!problem.to_string().is_empty(), "a refusal says why");
    }
    result.is_ok()
}

/// A journal: parsed only. One that was written by an engine replays; one that somebody made up may
/// hold an engine that no engine ever was.
pub fn journal(text: &str) -> bool {
    let result = journal::parse(Path::new(HERE), text);
    if let Err(problem) = &result {
        assert!(!problem.to_string().is_empty(), "a refusal says why");
    }
    result.is_ok()
}

/// An envelope, and the document in it as each of the messages there are.
pub fn wire(data: &[u8]) -> bool {
    let Ok(envelope) = Envelope::decode(data) else { return false };
    let peer = wire::open::<PeerMessage>("peer", &envelope).is_ok()
        | wire::open::<PeerReply>("peer", &envelope).is_ok();
    let plane = wire::open::<FromAgent>("agent", &envelope).is_ok()
        | wire::open::<ToAgent>("agent", &envelope).is_ok();
    let person = wire::open::<CallRequest>("call", &envelope).is_ok()
        | wire::open::<CallReply>("call", &envelope).is_ok();
    peer | plane | person
}
