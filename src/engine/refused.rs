//! Requests that were refused at the door or by a check: each of a known person is recorded, those
//! of strangers are counted and recorded together, so that nobody fills the log from outside.

use serde::{Deserialize, Serialize};

use super::{Engine, Making, rules};
use crate::model::WallTime;

/// Strangers are recorded together this often.
const STRANGERS_EVERY_MS: i64 = 600_000;

/// A request that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedRequest {
    /// Who asked, by certificate.
    pub who: String,
    /// Nobody of that name may do anything here.
    pub stranger: bool,
    /// What for.
    pub asked: String,
    /// Which check refused it, and why.
    pub why: String,
}

/// Strangers' requests that are not recorded yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Strangers {
    /// How many.
    pub count: u64,
    /// The last of them.
    pub last: String,
    /// When some were recorded last.
    pub recorded: Option<WallTime>,
}

impl Engine {
    pub(super) fn request_refused(&mut self, making: &mut Making, refused: RefusedRequest) {
        let RefusedRequest { who, stranger, asked, why } = &refused;
        if *stranger {
            self.durable.strangers.count += 1;
            self.durable.strangers.last = format!("{who}, for {asked}");
            self.record_strangers(making);
            return;
        }
        let text = format!("{who} asked for {asked}, refused: {why}");
        let data = serde_json::json!({ "request": refused });
        self.note(making, rules::REQUEST_REFUSED, who, "refused", text, data);
    }

    /// The first at once; those that follow together, when it is time.
    pub(super) fn record_strangers(&mut self, making: &mut Making) {
        let Strangers { count, last, recorded } = &self.durable.strangers;
        let due = recorded.is_none_or(|at| self.wall.0 - at.0 >= STRANGERS_EVERY_MS);
        if *count == 0 || !due {
            return;
        }
        let text = match count {
            1 => format!("a stranger was refused: {last}"),
            count => format!("strangers were refused {count} times, the last: {last}"),
        };
        let data = serde_json::json!({ "strangers": self.durable.strangers });
        self.note(making, rules::REQUEST_REFUSED, "plane", "refused", text, data);
        self.durable.strangers = Strangers { recorded: Some(self.wall), ..Strangers::default() };
    }
}
