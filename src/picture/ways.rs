//! What a person may do now, best first: each way with what it costs and the words to type.

use super::number;
use super::said::{Ink, Said};
use crate::model::loss::LossAccount;
use crate::model::view::{Act, ClusterView};

/// A way out.
#[derive(Clone, Debug, PartialEq)]
pub struct Way {
    /// Tells it from the others, also when measured numbers in it change.
    pub name: String,
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

/// What is typed for an act: in the console where it has the command, else on a command line.
fn command(act: &Act) -> Option<String> {
    Some(match act {
        Act::Propose(what) if !what.away.is_empty() => what.command(),
        Act::Propose(what) if what.resume => ":resume".to_owned(),
        Act::Propose(what) if what.failback => ":failback".to_owned(),
        Act::Propose(what) => {
            let name = if what.accept_unknown_loss { ":accept-loss" } else { ":switchover" };
            match &what.to {
                Some(to) => format!("{name} {to}"),
                None => name.to_owned(),
            }
        }
        Act::Readmit { node } => format!(":readmit {node}"),
        Act::Undrain { node } => format!(":undrain {node}"),
        Act::Execute { .. } => ":execute".to_owned(),
        Act::Dismiss { .. } => ":dismiss".to_owned(),
        Act::Acknowledge => ":acknowledge WORDS".to_owned(),
        other => return other.command(),
    })
}

/// Every way there is, as the engine found it.
pub fn ways(view: &ClusterView) -> Vec<Way> {
    let back = view
        .outlook
        .forecast
        .as_ref()
        .filter(|f| f.read_only == 0)
        .map_or_else(Said::new, |f| Said::text(format!("≈ {}", number::span(f.outage_p50))));
    view.phase
        .ways_out
        .iter()
        .map(|way| {
            let mut what = Said::text(way.text.clone());
            if !way.needs.is_empty() {
                what = what.say(Ink::Warn, format!("; needs {}", way.needs));
            }
            let moves = matches!(way.act, Act::Propose(_) | Act::Execute { .. });
            let command = command(&way.act);
            let name = || crate::model::record::shape(&way.text).join(" ");
            Way {
                name: command.clone().unwrap_or_else(name),
                what,
                loss: way.loss.as_ref().map_or_else(Said::new, loss),
                back: if moves { back.clone() } else { Said::new() },
                command,
            }
        })
        .collect()
}

/// Whether somebody can do something about it, beyond waiting.
pub fn anything(view: &ClusterView) -> bool {
    view.phase.ways_out.iter().any(|w| w.act != Act::Wait)
}
