//! A witness: nothing runs here, so every goal is reached at once.

use super::{Port, Seen};
use crate::agent::machine::Resource;
use crate::model::observation::{ResourceFacts, ResourceState};

/// Runs until the runtime goes away.
pub async fn run(mut port: Port) {
    loop {
        let settled = port.goal.borrow_and_update().0;
        let resource = Resource { settled, ..Resource::default() };
        let facts = ResourceFacts {
            kind: "none".into(),
            state: ResourceState::None,
            ..ResourceFacts::default()
        };
        if port.seen.send(Seen::Now(Box::new((resource, facts, None)))).await.is_err()
            || port.goal.changed().await.is_err()
        {
            return;
        }
    }
}
