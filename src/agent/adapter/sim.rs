//! stub
use crate::config::agent::{PostgresConfig, Route};
use crate::model::NodeId;
use std::collections::BTreeMap;
/// stub
pub async fn run(_me: NodeId, _config: PostgresConfig, _routes: BTreeMap<NodeId, Route>, _port: super::Port) {}
