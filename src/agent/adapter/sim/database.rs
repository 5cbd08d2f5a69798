//! The simulated database's own process. A request and an answer are a line of JSON each: what its
//! agent orders, what a standby asks for, what a client writes and reads.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::log::{Log, Origin, Piece, Write};
use crate::model::{Lsn, Position, TimelineHistory};

/// A standby that lost its upstream tries again so often.
const AGAIN: Duration = Duration::from_millis(20);
/// A standby that has everything is answered after this at the latest.
const POLL: Duration = Duration::from_millis(50);
/// A standby that has not asked for so long is not there.
const ASKED: Duration = Duration::from_millis(500);
/// While this file is there it is a standby, as PostgreSQL has it.
const STANDBY: &str = "standby.signal";

/// What it is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// How is it?
    Status,
    /// Be the first database of a new system with this identifier.
    Found(u64),
    /// Receive from nobody.
    Cut,
    /// Receive from there, under that name; first give up what is not in that history, if one is
    /// known.
    Follow(String, String, Option<TimelineHistory>),
    /// Accept writes on this timeline; so many of these standbys confirm each.
    Primary(u32, usize, BTreeSet<String>),
    /// Accept no new writes; what waits goes on waiting.
    Close,
    /// A standby's question: who it is, and where its log ends.
    Stream(String, Position),
    /// A client's.
    Write(Write),
    /// What is there?
    Rows,
}

/// What it answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// How it is.
    Status(Status),
    /// The log that the standby does not have.
    Piece(Piece),
    /// Written, and confirmed as ordered, on this timeline.
    Wrote(u32),
    /// It takes no writes.
    ReadOnly,
    /// What is there.
    Rows(Vec<i64>),
    /// It could not.
    Failed(String),
}

/// What it says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Accepts writes.
    pub primary: bool,
    /// Whose log it has.
    pub origin: Origin,
    /// Where that ends.
    pub position: Position,
    /// Age of its upstream's last word, in ms; `None` while it hears nobody.
    pub heard_ms: Option<u64>,
    /// Standbys that ask, and how far they are.
    pub standbys: BTreeMap<String, Lsn>,
    /// Writes that it gave up since it was started.
    pub discarded: usize,
    /// Clients that write.
    pub sessions: u32,
}

struct State {
    log: Log,
    primary: bool,
    closed: bool,
    needed: usize,
    members: BTreeSet<String>,
    follow: Option<(String, String)>,
    heard: Option<Instant>,
    asked: BTreeMap<String, (Instant, Lsn)>,
    discarded: usize,
    sessions: u32,
}

struct Server {
    state: Mutex<State>,
    /// Something was written or confirmed, or its role changed.
    changed: Condvar,
}

/// Serves in the present folder until it is killed. Starts as a standby, whatever it was.
///
/// # Errors
/// When the port cannot be had, or the folder not be written.
pub fn run(port: u16) -> std::io::Result<()> {
    let log = Log::open(Path::new("."))?;
    std::fs::write(STANDBY, "")?;
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    let state = State {
        log,
        primary: false,
        closed: false,
        needed: 0,
        members: BTreeSet::new(),
        follow: None,
        heard: None,
        asked: BTreeMap::new(),
        discarded: 0,
        sessions: 0,
    };
    let server = Arc::new(Server { state: Mutex::new(state), changed: Condvar::new() });
    std::fs::write("postmaster.pid", format!("{}\n", std::process::id()))?;
    let follower = Arc::clone(&server);
    std::thread::spawn(move || follower.follow());
    for stream in listener.incoming().flatten() {
        let server = Arc::clone(&server);
        std::thread::spawn(move || server.serve(stream));
    }
    Ok(())
}

fn ask(reader: &mut BufReader<TcpStream>, request: &Request) -> Option<Answer> {
    let text = serde_json::to_string(request).ok()? + "\n";
    reader.get_ref().write_all(text.as_bytes()).ok()?;
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    serde_json::from_str(&line).ok()
}

impl Server {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Receives from whom it is to, for ever.
    fn follow(&self) {
        let mut connection: Option<((String, String), BufReader<TcpStream>)> = None;
        loop {
            let (target, end) = {
                let state = self.lock();
                (state.follow.clone(), state.log.position())
            };
            let Some(target) = target else {
                connection = None;
                std::thread::sleep(AGAIN);
                continue;
            };
            if connection.as_ref().is_none_or(|(to, _)| *to != target) {
                let stream = TcpStream::connect(&target.0).ok().filter(|s| {
                    let limits = s.set_read_timeout(Some(ASKED)).and(s.set_nodelay(true));
                    limits.is_ok()
                });
                connection = stream.map(|s| (target.clone(), BufReader::new(s)));
            }
            let asked = Request::Stream(target.1.clone(), end);
            let answer = connection.as_mut().and_then(|(_, reader)| ask(reader, &asked));
            let mut state = self.lock();
            // Whoever was told otherwise meanwhile takes nothing more.
            if state.follow.as_ref() != Some(&target) {
                continue;
            }
            let taken = match &answer {
                Some(Answer::Piece(piece)) => state.log.take(piece).unwrap_or(false),
                _ => false,
            };
            if taken {
                state.heard = Some(Instant::now());
            } else {
                (state.heard, connection) = (None, None);
                drop(state);
                std::thread::sleep(AGAIN);
            }
        }
    }

    fn serve(&self, stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let Ok(mut write) = stream.try_clone() else { return };
        let mut writes = false;
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let Ok(request) = serde_json::from_str::<Request>(&line) else { break };
            if matches!(request, Request::Write(_)) && !writes {
                writes = true;
                self.lock().sessions += 1;
            }
            let Some(answer) = self.answer(request) else { break };
            let text = serde_json::to_string(&answer).unwrap_or_default() + "\n";
            if write.write_all(text.as_bytes()).is_err() {
                break;
            }
        }
        if writes {
            self.lock().sessions -= 1;
        }
    }

    /// `None`: whoever asked learns nothing, not even that it was not done.
    fn answer(&self, request: Request) -> Option<Answer> {
        let mut state = self.lock();
        let done = match request {
            Request::Status => Ok(()),
            Request::Found(system) => state.log.found(system),
            Request::Cut => {
                (state.follow, state.heard) = (None, None);
                Ok(())
            }
            Request::Follow(address, name, history) => {
                let given_up = history.map_or(Ok(0), |h| state.log.rewind(&h));
                state.follow = Some((address, name));
                given_up.map(|n| state.discarded += n)
            }
            Request::Primary(timeline, needed, members) => {
                (state.needed, state.members, state.closed) = (needed, members, false);
                if state.primary { Ok(()) } else { state.promote(timeline) }
            }
            Request::Close => {
                state.closed = true;
                Ok(())
            }
            Request::Stream(name, at) => return Some(Answer::Piece(self.stream(state, name, at))),
            Request::Write(write) => return self.write(state, write),
            Request::Rows => return Some(Answer::Rows(state.log.rows())),
        };
        let answer = match done {
            Ok(()) => Answer::Status(state.status()),
            Err(error) => Answer::Failed(error.to_string()),
        };
        drop(state);
        self.changed.notify_all();
        Some(answer)
    }

    fn stream(&self, mut state: MutexGuard<'_, State>, name: String, at: Position) -> Piece {
        let end = at.lsn;
        // What went its own way confirms nothing.
        if state.log.origin().history.continues(at) {
            state.asked.insert(name, (Instant::now(), end));
            self.changed.notify_all();
        }
        let (state, _) = self
            .changed
            .wait_timeout_while(state, POLL, |s| s.log.position().lsn <= end)
            .unwrap_or_else(PoisonError::into_inner);
        state.log.piece(end)
    }

    /// Written here, then confirmed by as many as are needed; it waits as long as that takes.
    fn write(&self, mut state: MutexGuard<'_, State>, write: Write) -> Option<Answer> {
        if !state.primary || state.closed {
            return Some(Answer::ReadOnly);
        }
        let end = match state.log.append(write) {
            Ok(end) => end,
            Err(error) => return Some(Answer::Failed(error.to_string())),
        };
        self.changed.notify_all();
        let state = self
            .changed
            .wait_while(state, |s| s.primary && !s.confirmed(end))
            .unwrap_or_else(PoisonError::into_inner);
        state.primary.then(|| Answer::Wrote(state.log.position().timeline))
    }
}

impl State {
    fn promote(&mut self, timeline: u32) -> std::io::Result<()> {
        (self.follow, self.heard) = (None, None);
        self.log.branch(timeline)?;
        std::fs::remove_file(STANDBY)?;
        self.primary = true;
        Ok(())
    }

    fn confirmed(&self, end: Lsn) -> bool {
        let have = self.asked.iter().filter(|(n, (_, at))| self.members.contains(*n) && *at >= end);
        have.count() >= self.needed
    }

    fn status(&self) -> Status {
        let asks = self.asked.iter().filter(|(_, (at, _))| at.elapsed() < ASKED);
        Status {
            primary: self.primary,
            origin: self.log.origin().clone(),
            position: self.log.position(),
            heard_ms: self
                .heard
                .map(|at| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX)),
            standbys: asks.map(|(name, (_, at))| (name.clone(), *at)).collect(),
            discarded: self.discarded,
            sessions: self.sessions,
        }
    }
}
