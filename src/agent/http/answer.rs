//! What a path is answered, from what the agent's loop knew last.

use std::sync::Arc;

use hyper::StatusCode;
use serde::Serialize;

use super::RouterFacts;
use crate::model::{Epoch, Span, Timestamp};

/// The database was looked at within this time, or nothing is said of it.
const LOOK_AGE_MAX: Span = Span::secs(5);
/// The primary's word on where it is counts for so long.
const AHEAD_AGE_MAX: Span = Span::secs(10);

/// A code, and a body for people.
#[derive(Debug)]
pub struct Answer {
    /// 200, or what stands against it.
    pub code: StatusCode,
    /// Why.
    pub body: Body,
}

/// The body of every answer.
#[derive(Debug, Serialize)]
pub struct Body {
    node: Arc<str>,
    cluster: Arc<str>,
    role: &'static str,
    state: &'static str,
    epoch: Epoch,
    /// How much longer writes may be acknowledged; null where they may not.
    lease_left_ms: Option<u64>,
    /// Behind the primary; null where nobody knows.
    lag_bytes: Option<u64>,
    /// What stands against 200; empty where nothing does.
    why: String,
}

type Held = Result<(), String>;

impl RouterFacts {
    fn lease_left(&self, now: Timestamp) -> Option<Span> {
        self.held_until.map(|until| now.until(until)).filter(|left| *left > Span::ZERO)
    }

    /// It holds the lease at this very moment, and its database takes writes.
    fn primary(&self, now: Timestamp) -> Held {
        match (self.lease_left(now), self.writable) {
            (Some(_), true) => Ok(()),
            (Some(_), false) => Err("it holds the lease, and its database takes no writes".into()),
            (None, _) => Err("it does not hold the write lease".into()),
        }
    }

    fn looked_at(&self, now: Timestamp) -> Held {
        let age = now.since(self.looked);
        if self.looked == Timestamp(0) || age > LOOK_AGE_MAX {
            return Err("its database was not looked at lately: nothing is known of it".into());
        }
        Ok(())
    }

    fn runs(&self, now: Timestamp) -> Held {
        self.looked_at(now)?;
        if self.standby || self.writable {
            return Ok(());
        }
        Err(format!("its database is {}", self.state))
    }

    fn standby(&self, now: Timestamp, asked: &Asked) -> Held {
        self.looked_at(now)?;
        if !self.standby {
            return Err(format!("its database is no standby: {}", self.state));
        }
        if asked.streaming && self.follows.is_none() {
            return Err("it receives from nobody".into());
        }
        match (asked.lag, self.lag(now)) {
            (None, _) => Ok(()),
            (Some(limit), Some(lag)) if lag <= limit => Ok(()),
            (Some(limit), Some(lag)) => Err(format!("{lag} bytes behind, {limit} are asked for")),
            (Some(_), None) => Err("how far it is behind is unknown".into()),
        }
    }

    /// Bytes behind what the holder said; across two histories, or on an old word, nobody knows.
    fn lag(&self, now: Timestamp) -> Option<u64> {
        let (ahead, at) = self.ahead.filter(|_| self.standby)?;
        let fresh = now.since(at) <= AHEAD_AGE_MAX && ahead.timeline == self.replayed.timeline;
        fresh.then(|| ahead.lsn.bytes_since(self.replayed.lsn))
    }
}

/// What the query asks of a standby.
#[derive(Debug, Default)]
struct Asked {
    lag: Option<u64>,
    streaming: bool,
}

impl Asked {
    /// What is not understood is not passed over: whoever asked for it would rely on it.
    fn of(query: &str) -> Result<Self, String> {
        let mut asked = Self::default();
        for part in query.split('&').filter(|p| !p.is_empty()) {
            match part.split_once('=').unwrap_or((part, "")) {
                ("lag", value) => {
                    let wrong = || format!("lag={value}: expected bytes, or 10kB, 16MB, 1GB");
                    asked.lag = Some(bytes(value).ok_or_else(wrong)?);
                }
                ("replication_state", "streaming") => asked.streaming = true,
                _ => {
                    return Err(format!(
                        "{part:?} is not known: lag=, replication_state=streaming"
                    ));
                }
            }
        }
        Ok(asked)
    }
}

/// A size as PostgreSQL writes them.
fn bytes(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let power = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "kb" => 1,
        "mb" => 2,
        "gb" => 3,
        "tb" => 4,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << (10 * power))
}

/// What `path` is answered at this moment. In doubt it is 503.
pub fn answer(path: &str, query: &str, facts: &RouterFacts, now: Timestamp) -> Answer {
    let (code, why) = match judge(path, query, facts, now) {
        Ok(Ok(())) => (StatusCode::OK, String::new()),
        Ok(Err(why)) => (StatusCode::SERVICE_UNAVAILABLE, why),
        Err((code, why)) => (code, why),
    };
    let role = match (facts.primary(now), facts.standby) {
        (Ok(()), _) => "primary",
        (Err(_), true) => "standby",
        (Err(_), false) => "none",
    };
    let body = Body {
        node: facts.node.clone(),
        cluster: facts.cluster.clone(),
        role,
        state: facts.state,
        epoch: facts.epoch,
        lease_left_ms: facts.lease_left(now).map(|left| left.0 / 1_000_000),
        lag_bytes: facts.lag(now),
        why,
    };
    Answer { code, body }
}

fn judge(
    path: &str,
    query: &str,
    s: &RouterFacts,
    now: Timestamp,
) -> Result<Held, (StatusCode, String)> {
    let asked = || Asked::of(query).map_err(|why| (StatusCode::BAD_REQUEST, why));
    let confirms = |wanted: bool| match (s.synchronous, wanted) {
        (true, false) => Err("commits may wait for it".into()),
        (false, true) => Err("no commit waits for it".into()),
        _ => Ok(()),
    };
    let primary = s.primary(now);
    Ok(match path {
        "/" | "/primary" | "/master" | "/leader" | "/read-write" => primary,
        // There are no clusters that follow another cluster.
        "/standby-leader" | "/standby_leader" => Err("it leads no cluster of standbys".into()),
        "/replica" => s.standby(now, &asked()?),
        "/read-only" | "/readiness" => primary.or(s.standby(now, &asked()?)),
        "/sync" | "/synchronous" | "/quorum" => {
            s.standby(now, &asked()?).and_then(|()| confirms(true))
        }
        "/read-only-sync" | "/read-only-quorum" => {
            primary.or(s.standby(now, &asked()?).and_then(|()| confirms(true)))
        }
        "/async" | "/asynchronous" => s.standby(now, &asked()?).and_then(|()| confirms(false)),
        "/health" => s.runs(now),
        "/liveness" if now.since(s.at) <= s.turns_within => Ok(()),
        "/liveness" => Err("the agent's loop stands still".into()),
        _ => {
            let known = "no such path: /primary, /read-write, /leader, /replica, /read-only, \
                /sync, /async, /health, /liveness, /readiness";
            return Err((StatusCode::NOT_FOUND, known.into()));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Lsn, NodeId, Position};

    const NOW: Timestamp = Timestamp(1_000_000_000_000);

    fn at(timeline: u32, lsn: u64) -> Position {
        Position { timeline, lsn: Lsn(lsn) }
    }
    fn primary() -> RouterFacts {
        RouterFacts {
            at: NOW,
            turns_within: Span::secs(5),
            looked: NOW,
            held_until: Some(NOW + Span::millis(1)),
            writable: true,
            state: "primary",
            ..RouterFacts::default()
        }
    }
    fn standby() -> RouterFacts {
        RouterFacts {
            at: NOW,
            turns_within: Span::secs(5),
            looked: NOW,
            standby: true,
            state: "standby",
            follows: Some(NodeId::new("node-1")),
            synchronous: true,
            replayed: at(3, 1_000),
            ahead: Some((at(3, 3_048), NOW)),
            ..RouterFacts::default()
        }
    }
    fn code(of: &RouterFacts, target: &str, now: Timestamp) -> u16 {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        answer(path, query, of, now).code.as_u16()
    }
    const PRIMARY_PATHS: [&str; 5] = ["/", "/primary", "/master", "/leader", "/read-write"];

    #[test]
    fn a_primary_is_one_only_while_its_lease_runs_and_its_database_takes_writes() {
        let mut node = primary();
        for path in PRIMARY_PATHS {
            assert_eq!(code(&node, path, NOW), 200, "{path}");
            // Nobody told it that the lease ended: its own clock does.
            assert_eq!(code(&node, path, NOW + Span::millis(1)), 503, "{path}");
        }
        node.writable = false;
        assert!(PRIMARY_PATHS.iter().all(|path| code(&node, path, NOW) == 503));
        node = RouterFacts { held_until: None, ..primary() };
        assert!(PRIMARY_PATHS.iter().all(|path| code(&node, path, NOW) == 503));
        // Writable and without a lease it runs, and no more is said of it.
        assert_eq!(code(&node, "/health", NOW), 200);
        for path in ["/replica", "/read-only", "/readiness", "/sync", "/async", "/standby-leader"] {
            assert_eq!(code(&node, path, NOW), 503, "{path}");
        }
    }

    #[test]
    fn a_standby_is_judged_by_what_is_asked() {
        let node = standby();
        let asked = |target: &str| code(&node, target, NOW);
        for path in ["/replica", "/read-only", "/sync", "/quorum", "/health", "/readiness"] {
            assert_eq!(asked(path), 200, "{path}");
        }
        assert!(PRIMARY_PATHS.iter().all(|path| asked(path) == 503));
        assert_eq!((asked("/async"), asked("/standby-leader")), (503, 503));
        assert_eq!((asked("/replica?lag=2047"), asked("/replica?lag=2kB")), (503, 200));
        assert_eq!((asked("/replica?lag=2MB"), asked("/async?lag=1TB")), (200, 503));
        for wrong in ["/replica?lag=", "/replica?lag=2x", "/replica?lag=99999999TB", "/sync?tag=a"]
        {
            assert_eq!(asked(wrong), 400, "{wrong}");
        }
        assert_eq!((asked("/replicas"), asked("/patroni")), (404, 404));
    }

    #[test]
    fn what_is_not_known_is_not_said() {
        let lag = |node: &RouterFacts, now| {
            (code(node, "/replica", now), code(node, "/replica?lag=1GB", now))
        };
        assert_eq!(lag(&standby(), NOW), (200, 200));
        let unheard = RouterFacts { ahead: None, ..standby() };
        assert_eq!(lag(&unheard, NOW), (200, 503));
        let parted = RouterFacts { replayed: at(2, 1_000), ..standby() };
        assert_eq!(lag(&parted, NOW), (200, 503), "another history has other numbers");
        let heard_long_ago = RouterFacts { looked: NOW + Span::secs(11), ..standby() };
        assert_eq!(lag(&heard_long_ago, NOW + Span::secs(11)), (200, 503));
        assert_eq!(
            lag(&standby(), NOW + Span::secs(6)),
            (503, 503),
            "its database was not looked at"
        );
        assert_eq!(code(&standby(), "/health", NOW + Span::secs(6)), 503);
        assert_eq!(code(&standby(), "/liveness", NOW), 200);
        assert_eq!(code(&standby(), "/liveness", NOW + Span::secs(6)), 503);
        let alone = RouterFacts { follows: None, ..standby() };
        assert_eq!(code(&alone, "/replica?replication_state=streaming", NOW), 503);
    }
}
