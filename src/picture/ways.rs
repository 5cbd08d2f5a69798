//! What a person may do now, best first: each way with what it costs and the words to type.

use super::number;
use super::said::{Ink, Said};
use crate::model::loss::LossAccount;
use crate::model::view::{ClusterView, Phase};

/// A way out.
#[derive(Clone, Debug, PartialEq)]
pub struct Way {
    /// What it is.
    pub what: Said,
    /// What acknowledged data it loses; empty where it loses none by its nature or nobody said.
    pub loss: Said,
    /// When writes are back.
    pub back: Said,
    /// What is typed for it; `None`: hands, or time.
    pub command: Option<String>,
}

/// A loss account with its ink.
pub fn loss(account: &LossAccount) -> Said {
    match account {
        LossAccount::None { .. } => Said::new().say(Ink::Good, account.short()),
        LossAccount::AtMost { bytes, span, .. } => {
            let mut words = format!("at most {}", number::bytes(*bytes));
            if let Some(span) = span {
                words.push_str(&format!(", {}", number::span(*span)));
            }
            Said::new().say(Ink::Warn, words)
        }
        LossAccount::Unknown { .. } => Said::new().say(Ink::Bad, "unknown"),
    }
}

/// Every way there is.
pub fn ways(view: &ClusterView) -> Vec<Way> {
    let mut ways = vec![];
    let back = view
        .outlook
        .forecast
        .as_ref()
        .filter(|f| f.read_only == 0)
        .map_or_else(Said::new, |f| Said::text(format!("≈ {}", number::span(f.outage_p50))));
    if let Some(plan) = &view.plan {
        let from = plan.demoted().map_or("nobody", |n| n.as_str());
        let what = Said::text("carry out the plan that waits: ")
            .say(Ink::Text, format!("{} {from} → ", plan.kind.word()))
            .say(Ink::Strong, plan.to.node.as_str());
        let command = Some(":execute".to_owned());
        ways.push(Way { what, loss: loss(&plan.loss), back, command });
        ways.push(Way {
            what: Said::text("drop the plan; nothing is changed"),
            loss: Said::new(),
            back: Said::new(),
            command: Some(":dismiss".to_owned()),
        });
        return ways;
    }
    if view.phase.phase != Phase::NeedsPerson {
        return ways;
    }
    for candidate in view.outlook.candidates.iter().filter(|c| c.eligible) {
        ways.push(Way {
            what: Said::text("ask for a plan that gives the role to ")
                .say(Ink::Strong, candidate.node.as_str()),
            loss: Said::text("the plan says it"),
            back: back.clone(),
            command: Some(format!(":switchover {}", candidate.node)),
        });
    }
    for words in &view.phase.ways_out {
        ways.push(Way {
            what: Said::text(words.clone()),
            loss: Said::new(),
            back: Said::new(),
            command: None,
        });
    }
    ways
}
