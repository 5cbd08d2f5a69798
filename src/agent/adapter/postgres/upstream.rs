//! Asking the upstream itself: whose copy it is, and whether it still has the log that is needed.
//! With PostgreSQL's own client, so that the password file and TLS settings of replication count,
//! over a replication connection.

use std::time::Duration;

use super::archive::{self, Fetching};
use super::files::Control;
use super::{DRY_MAX, Done, Driver, Failed, failed, rebuild};
use crate::agent::host;
use crate::agent::machine::{Goal, Upstream};
use crate::model::{Lsn, NodeId, Position, Span, TimelineHistory, Timestamp};

/// An upstream that does not answer by then is not asked further.
const ANSWER_MAX: Duration = Duration::from_secs(4);
/// A checkpoint may take so long.
const CHECKPOINT_MAX: Duration = Duration::from_secs(60);

/// Pause between two questions.
const ASK_INTERVAL: Span = Span::secs(10);

/// A receiver that lived so long streams. One that is refused the log it asks for is shown as
/// streaming for a moment too, again and again.
const STREAM_MIN: Span = Span::secs(1);

/// A file that takes longer than this is not waited for: its command is ended before.
const ARCHIVE_MAX: Span = Span(archive::FETCH_MAX.as_nanos() as u64 + ASK_INTERVAL.0);

/// How far an archive has helped, and since when no further.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Given {
    replayed: Lsn,
    last: String,
    since: Timestamp,
}

/// Why a standby does not stream, and what is done about it.
#[derive(Debug, Default)]
pub(super) struct Thirst {
    since: Option<Timestamp>,
    /// The receiver that streams, and since when it was seen to.
    stream: Option<(u32, Timestamp)>,
    asked_at: Option<Timestamp>,
    /// What the archive had given when it was looked at last.
    given: Option<Given>,
    /// Its upstream no longer has the log it needs, nor has the archive.
    pub(super) clone_needed: bool,
    /// A rebuild failed: from whom, when it is tried again, and the last words.
    pub(super) failed: Option<(NodeId, Timestamp, String)>,
    /// The pause after that.
    pub(super) pause: Span,
}

impl Thirst {
    /// A look saw this receiver stream, or none. Whether to say so: one that was dry before has to
    /// last.
    pub(super) fn sees(&mut self, receiver: Option<u32>, now: Timestamp) -> bool {
        let Some(pid) = receiver else {
            self.stream = None;
            return false;
        };
        match self.stream {
            Some((same, _)) if same == pid => {}
            _ => self.stream = Some((pid, now)),
        }
        let was_dry = self.since.is_some_and(|since| now.since(since) >= STREAM_MIN);
        !was_dry || self.streams(now)
    }

    /// Whether the archive is waited for: it is asked for the first time, something came since, or
    /// it is at a file that may still come.
    fn waits_for_archive(&mut self, now: Timestamp, replayed: Lsn, at: &Fetching) -> bool {
        match &self.given {
            Some(given) if given.replayed >= replayed && given.last == at.last => {
                at.running && now.since(given.since) < ARCHIVE_MAX
            }
            _ => {
                self.given = Some(Given { replayed, last: at.last.clone(), since: now });
                true
            }
        }
    }

    fn streams(&self, now: Timestamp) -> bool {
        self.stream.is_some_and(|(_, since)| now.since(since) >= STREAM_MIN)
    }
}

/// What an upstream said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Which database it is a copy of.
    pub system: String,
    /// Its line.
    pub timeline: u32,
    /// The end of its log.
    pub end: Lsn,
    /// It has the segment that holds the position asked for.
    pub has: bool,
}

impl Answer {
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let mut identity = lines.next()?.split('|');
        Some(Self {
            system: identity.next()?.to_owned(),
            timeline: identity.next()?.parse().ok()?,
            end: identity.next()?.parse().ok()?,
            has: lines.next()?.trim().parse::<u32>().ok()? > 0,
        })
    }
}

/// Whether the log of `needs` is there, on any line of `history` that can hold it.
fn question(history: &TimelineHistory, needs: Position, segment_bytes: u64) -> String {
    let segment = needs.lsn.0 / segment_bytes;
    let per_file = 0x1_0000_0000 / segment_bytes;
    let lines: Vec<String> = history
        .left
        .iter()
        .filter(|(_, left)| *left >= needs.lsn)
        .map(|(timeline, _)| *timeline)
        .chain([history.timeline])
        .map(|timeline| {
            format!("'{timeline:08X}{:08X}{:08X}'", segment / per_file, segment % per_file)
        })
        .collect();
    format!("SELECT count(*) FROM pg_ls_waldir() WHERE name IN ({})", lines.join(", "))
}

impl Driver {
    /// A standby that does not stream asks its upstream whether the log that it needs is still
    /// there. If not: the archive first, if there is one; a clone only when that has not it either.
    /// True: the goal has to be reached anew.
    pub(super) async fn must_rebuild(&mut self, goal: &Goal) -> bool {
        let upstream = match goal {
            Goal::Standby { upstream: Some(upstream), .. } if upstream.history.is_some() => {
                upstream
            }
            _ => {
                self.thirst.since = None;
                return false;
            }
        };
        if self.exit.is_none() {
            self.thirst.since = None;
            return true;
        }
        let now = host::now();
        if self.thirst.streams(now) {
            (self.thirst.since, self.thirst.given) = (None, None);
            if self.archive.accepts.is_some() {
                self.leave_archive();
            }
            return false;
        }
        let since = *self.thirst.since.get_or_insert(now);
        let lately = self.thirst.asked_at.is_some_and(|at| now.since(at) < ASK_INTERVAL);
        if now.since(since) < DRY_MAX || lately {
            return false;
        }
        self.thirst.asked_at = Some(now);
        // A receiver is asked for by a startup process that is not held up.
        if let Err(failure) = self.free_replay("it cannot follow its upstream otherwise").await {
            self.note(format!("what holds replay up cannot be ended: {}", failure.0));
        }
        match self.is_gone(upstream).await {
            Ok(false) => false,
            Ok(true) => self.without_upstream(upstream).await,
            Err(failure) => {
                self.note(format!("does not stream from {}: {}", upstream.node, failure.0));
                false
            }
        }
    }

    /// Whether the log that is needed next is gone from `upstream`.
    async fn is_gone(&mut self, upstream: &Upstream) -> Result<bool, Failed> {
        let data_dir = self.setup.config.data_dir.clone();
        let control = Control::read(&self.setup.programs, &data_dir).await?;
        let answer = self.ask(upstream, self.facts.position, control.segment_bytes).await?;
        if answer.system != control.system {
            return Err(Failed(format!(
                "it is a copy of another database (system identifier {}, here {})",
                answer.system, control.system
            )));
        }
        Ok(!answer.has && answer.end >= self.facts.position.lsn)
    }

    async fn without_upstream(&mut self, upstream: &Upstream) -> bool {
        let replayed = self.facts.replayed;
        self.look_for_archive().await;
        let fetching = Fetching::look(&self.setup.state_dir);
        if self.archive.exists()
            && let Some(history) = &upstream.history
            && self.thirst.waits_for_archive(host::now(), replayed, &fetching)
        {
            if self.archive.accepts.is_none() {
                tracing::info!(
                    "{} no longer has the log after {replayed}: the archive is asked",
                    upstream.node
                );
            }
            if self.open_archive(history).is_ok() {
                return false;
            }
        }
        tracing::warn!(
            "{} no longer has the log after {}: cloning it",
            upstream.node,
            self.facts.position
        );
        self.thirst.given = None;
        self.thirst.clone_needed = true;
        true
    }

    /// It streams again: the archive is not needed.
    fn leave_archive(&mut self) {
        let closed = self.close_archive().map(|_| ());
        let ordered = self.following.clone();
        let reloaded = closed.and_then(|()| self.reload(self.settings(ordered.as_ref())));
        if let Err(failure) = reloaded {
            self.note(format!("the archive cannot be left: {}", failure.0));
        }
    }

    /// Asks `upstream` who it is, and whether it has the log from `needs` on.
    pub(super) async fn ask(
        &self,
        upstream: &Upstream,
        needs: Position,
        segment_bytes: u64,
    ) -> Result<Answer, Failed> {
        let history = upstream.history.clone().unwrap_or_default();
        let question = question(&history, needs, segment_bytes);
        let said = self.psql(upstream, ANSWER_MAX, &["IDENTIFY_SYSTEM", &question]).await?;
        Answer::parse(&said).ok_or_else(|| Failed(format!("{} answered {said:?}", upstream.node)))
    }

    /// Refuses an upstream that is a copy of another database: neither a rewind nor a clone may
    /// erase what is here for it.
    pub(super) async fn same_system(&self, upstream: &Upstream, control: &Control) -> Done {
        let answer = self.ask(upstream, control.checkpoint, control.segment_bytes).await?;
        if answer.system == control.system {
            return Ok(());
        }
        failed(format!(
            "the database here belongs to another cluster (system identifier {}; {} has {}): \
             nothing was touched. If it is not wanted, stop this agent, move {} away and start the \
             agent again: it then clones {}",
            control.system,
            upstream.node,
            answer.system,
            self.setup.config.data_dir.display(),
            upstream.node
        ))
    }

    /// `pg_rewind` before version 16 reads the source's timeline from its last checkpoint; one that
    /// is older than the promotion makes it see nothing to do.
    pub(super) async fn checkpoint_at(&self, upstream: &Upstream) -> Done {
        self.psql(upstream, CHECKPOINT_MAX, &["CHECKPOINT"]).await.map(|_| ())
    }

    pub(super) async fn psql(
        &self,
        upstream: &Upstream,
        limit: Duration,
        commands: &[&str],
    ) -> Result<String, Failed> {
        let Some(way) = self.conninfo(&upstream.node, rebuild::TOOL) else {
            return failed("no way to it is configured");
        };
        let way = format!("{way} dbname={} replication=database", self.setup.config.database);
        let asked = self.setup.programs.run("psql", |c| {
            c.args(["-X", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=1", "-d"]).arg(way);
            for command in commands {
                c.args(["-c", command]);
            }
        });
        match tokio::time::timeout(limit, asked).await {
            Ok(said) => Ok(said?),
            Err(_) => failed(format!(
                "{} did not answer within {}",
                upstream.node,
                Span::secs(limit.as_secs())
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_that_is_refused_again_and_again_does_not_stream() {
        let at = |ms: u64| Timestamp(Span::millis(ms).0);
        let mut thirst = Thirst::default();
        assert!(thirst.sees(Some(1), at(0)), "at once, where nothing was dry");
        thirst.since = Some(at(100));
        for n in 2..40 {
            let said = thirst.sees((n % 2 == 0).then_some(n), at(u64::from(n) * 100));
            assert!(n < 11 || !said, "receiver {n}");
            assert!(!thirst.streams(at(u64::from(n) * 100)));
        }
        assert!(!thirst.sees(Some(50), at(5_000)) && thirst.sees(Some(50), at(6_000)));
    }

    #[test]
    fn an_archive_is_waited_for_while_it_is_at_a_file_and_not_for_ever() {
        let at = |s: u64| Timestamp(Span::secs(s).0);
        let (idle, busy) = (Fetching::default(), Fetching { running: true, last: String::new() });
        let mut thirst = Thirst::default();
        assert!(thirst.waits_for_archive(at(0), Lsn(5), &idle), "asked for the first time");
        assert!(thirst.waits_for_archive(at(10), Lsn(5), &busy), "its first file takes long");
        assert!(thirst.waits_for_archive(at(60), Lsn(5), &busy));
        assert!(!thirst.waits_for_archive(at(70), Lsn(5), &busy), "it hangs");
        let came = Fetching { running: false, last: "000000050000000000000009".into() };
        assert!(thirst.waits_for_archive(at(71), Lsn(5), &came));
        assert!(thirst.waits_for_archive(at(80), Lsn(6), &came), "replay went on");
        assert!(!thirst.waits_for_archive(at(90), Lsn(6), &came), "it has no more");
    }

    #[test]
    fn an_answer_is_read() {
        let answer = Answer::parse("7712998327505785964|4|0/50002A0|postgres\n0\n").unwrap();
        assert_eq!((answer.timeline, answer.end, answer.has), (4, Lsn(0x50002A0), false));
        assert_eq!(answer.system, "7712998327505785964");
        assert_eq!(Answer::parse("ERROR"), None);
    }

    #[test]
    fn the_segment_is_looked_for_on_every_line_that_can_hold_it() {
        let history = TimelineHistory::parse(5, "1\t0/3000000\tx\n3\t1/5800000\tx\n");
        let needs = Position { timeline: 3, lsn: Lsn(0x1_0500_0010) };
        assert_eq!(
            question(&history, needs, 16 << 20),
            "SELECT count(*) FROM pg_ls_waldir() WHERE name IN \
             ('000000030000000100000005', '000000050000000100000005')"
        );
    }
}
