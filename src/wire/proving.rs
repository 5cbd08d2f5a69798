//! Proving the present state: a real write is asked for, and what is said of it then counts.

use std::time::Duration;

use super::channel::{Client, Refused};
use super::message::{CallReply, CallRequest};
use crate::engine::PersonOrder;
use crate::model::view::ClusterView;

/// The write waits for standbys; where it does not come back the parts say so.
const WRITE_MAX: Duration = Duration::from_secs(5);

/// The newest word about a write: that it came back, or that it was refused.
fn proof(view: &ClusterView) -> Option<String> {
    let primary = view.nodes.iter().find(|n| Some(&n.node) == view.primary.as_ref())?;
    let resource = &primary.report.as_ref()?.resource;
    let read = resource.proof.as_ref().map(|p| p.asked.clone());
    read.or_else(|| resource.unproved.as_ref().map(|u| u.asked.clone()))
}

impl Client {
    /// Asks for a real write, waits for it, and verifies. Who may not ask for one gets the parts
    /// with that one not held.
    ///
    /// # Errors
    /// As [`Client::call`]: of the write it is then unknown whether it was made.
    pub async fn prove(&self, reason: &str) -> Result<CallReply, Refused> {
        let before = match self.call(&CallRequest::View).await? {
            CallReply::View(view) => proof(&view),
            _ => None,
        };
        let order = PersonOrder::Verify { reason: reason.to_owned() };
        let refused = match self.call(&CallRequest::Order(order)).await? {
            CallReply::Refused { check, why } => {
                Some(format!("not made: refused ({check}): {why}"))
            }
            _ => None,
        };
        let until = tokio::time::Instant::now() + WRITE_MAX;
        while refused.is_none() && tokio::time::Instant::now() < until {
            if let CallReply::View(now) = self.call(&CallRequest::View).await?
                && proof(&now).is_some_and(|asked| Some(asked) != before)
            {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let mut reply = self.call(&CallRequest::Verify).await?;
        if let (CallReply::Verified { parts, confidence }, Some(why)) = (&mut reply, refused) {
            parts.retain(|(name, ..)| name != "write");
            parts.push(("write".into(), false, why));
            *confidence = crate::engine::confidence(parts);
        }
        Ok(reply)
    }
}
