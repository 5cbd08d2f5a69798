//! Whole numbers with a limit, refused in words: `30s` is no number of seconds, and 2⁶⁴ of them
//! overflow.

use crate::model::Span;
use serde::de::{self, Deserialize, Deserializer, Visitor};

/// A whole number from 0 to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Whole<const MAX: u64>(pub(super) u64);

/// Seconds, at most 31 days: nothing that a policy waits for is longer.
pub(super) type Seconds = Whole<2_678_400>;
/// Milliseconds, at most an hour.
pub(super) type Millis = Whole<3_600_000>;

impl Seconds {
    pub(super) fn span(self) -> Span {
        Span::secs(self.0)
    }
}
impl Millis {
    pub(super) fn span(self) -> Span {
        Span::millis(self.0)
    }
}
/// Per cent.
pub(super) type Percent = Whole<100>;

impl<'de, const MAX: u64> Deserialize<'de> for Whole<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Limited)
    }
}

struct Limited<const MAX: u64>;

impl<const MAX: u64> Limited<MAX> {
    fn no<E: de::Error>(&self, found: impl std::fmt::Display) -> E {
        E::custom(format!(
            "{found} is not a whole number from 0 to {MAX}; write it without a unit, for example 30"
        ))
    }
}

impl<const MAX: u64> Visitor<'_> for Limited<MAX> {
    type Value = Whole<MAX>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a whole number from 0 to {MAX}")
    }
    fn visit_u64<E: de::Error>(self, v: u64) -> Result<Self::Value, E> {
        if v <= MAX { Ok(Whole(v)) } else { Err(self.no(v)) }
    }
    fn visit_i64<E: de::Error>(self, v: i64) -> Result<Self::Value, E> {
        match u64::try_from(v) {
            Ok(v) => self.visit_u64(v),
            Err(_) => Err(self.no(v)),
        }
    }
    fn visit_f64<E: de::Error>(self, v: f64) -> Result<Self::Value, E> {
        Err(self.no(v))
    }
    fn visit_str<E: de::Error>(self, v: &str) -> Result<Self::Value, E> {
        Err(self.no(v))
    }
}
