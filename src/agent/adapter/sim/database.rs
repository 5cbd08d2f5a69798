//! The simulated database's own process. One line in, one line out: `status`, `standby`, `cut`,
//! `follow ADDRESS NAME`, `primary TIMELINE`, `set TIMELINE LSN`, and `stream NAME LSN` from a
//! standby.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Where the position is kept.
const STATE: &str = "sim.json";
/// The log grows, and standbys ask, at this pace.
const PACE: Duration = Duration::from_millis(20);

/// What it says of itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// Accepts writes.
    pub primary: bool,
    /// Its timeline.
    pub timeline: u32,
    /// The end of its log.
    pub lsn: u64,
    /// The branches behind it.
    pub left: Vec<(u32, u64)>,
    /// Age of its upstream's last word, in ms.
    pub heard_ms: Option<u64>,
    /// Standbys that asked within half a second, and how far they are.
    pub standbys: BTreeMap<String, u64>,
}

#[derive(Default)]
struct State {
    status: Status,
    follow: Option<(String, String)>,
    heard: Option<Instant>,
    asked: BTreeMap<String, (Instant, u64)>,
}

/// Whether one was made here.
pub fn has_data(folder: &Path) -> bool {
    folder.join(STATE).exists()
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves in the present folder until it is killed. Starts as a standby, whatever it was.
///
/// # Errors
/// When the port cannot be had.
pub fn run(port: u16) -> std::io::Result<()> {
    let text = std::fs::read_to_string(STATE).unwrap_or_default();
    let mut status: Status = serde_json::from_str(&text).unwrap_or(Status {
        timeline: 1,
        lsn: 0x0100_0000,
        ..Status::default()
    });
    status.primary = false;
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    let state = Arc::new(Mutex::new(State { status, ..State::default() }));
    keep(&lock(&state).status)?;
    std::fs::write("postmaster.pid", format!("{}\n", std::process::id()))?;
    let grower = Arc::clone(&state);
    std::thread::spawn(move || grow(&grower));
    let follower = Arc::clone(&state);
    std::thread::spawn(move || follow(&follower));
    for stream in listener.incoming().flatten() {
        let state = Arc::clone(&state);
        std::thread::spawn(move || serve(stream, &state));
    }
    Ok(())
}

fn keep(status: &Status) -> std::io::Result<()> {
    crate::agent::host::write_durably(
        Path::new(STATE),
        &serde_json::to_string(status).unwrap_or_default(),
    )
}

/// A primary's log grows only while a standby confirms, as synchronous commit would have it.
fn grow(state: &Mutex<State>) {
    loop {
        std::thread::sleep(PACE);
        let mut state = lock(state);
        let confirmed =
            state.asked.values().any(|(at, _)| at.elapsed() < Duration::from_millis(200));
        if state.status.primary && confirmed {
            state.status.lsn += 96;
        }
    }
}

fn follow(state: &Mutex<State>) {
    let mut connection: Option<(String, BufReader<TcpStream>)> = None;
    loop {
        std::thread::sleep(PACE);
        let (target, at) = {
            let state = lock(state);
            (state.follow.clone(), state.status.lsn)
        };
        let Some((address, name)) = target else {
            connection = None;
            continue;
        };
        if connection.as_ref().is_none_or(|(to, _)| *to != address) {
            connection =
                TcpStream::connect(&address).ok().map(|s| (address.clone(), BufReader::new(s)));
        }
        let Some((_, reader)) = &mut connection else { continue };
        let _ = reader.get_ref().set_read_timeout(Some(Duration::from_millis(500)));
        let mut line = String::new();
        let asked = writeln!(reader.get_ref(), "stream {name} {at}")
            .and_then(|()| reader.read_line(&mut line));
        let Some(upstream) = asked.ok().and_then(|_| serde_json::from_str::<Status>(&line).ok())
        else {
            connection = None;
            continue;
        };
        let mut state = lock(state);
        if state.follow.is_some() {
            (state.status.timeline, state.status.lsn, state.status.left) =
                (upstream.timeline, upstream.lsn, upstream.left);
            state.heard = Some(Instant::now());
        }
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>) {
    let Ok(mut write) = stream.try_clone() else { return };
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut state = lock(state);
        let number = |i: usize| words.get(i).and_then(|w| w.parse::<u64>().ok()).unwrap_or(0);
        match words.first().copied().unwrap_or_default() {
            "standby" => state.status.primary = false,
            "cut" => (state.follow, state.heard) = (None, None),
            "follow" => {
                let word = |i: usize| words.get(i).copied().unwrap_or_default().to_owned();
                state.follow = Some((word(1), word(2)));
            }
            "set" => {
                state.status.timeline = u32::try_from(number(1)).unwrap_or(1);
                state.status.lsn = number(2);
            }
            "primary" if !state.status.primary => {
                let (old, at) = (state.status.timeline, state.status.lsn);
                state.follow = None;
                state.status.left.push((old, at));
                state.status.timeline = u32::try_from(number(1)).unwrap_or(old + 1);
                state.status.primary = true;
                // Kept before it is said; a later crash then starts from here.
                let _ = keep(&state.status);
            }
            "stream" => {
                let name = words.get(1).copied().unwrap_or_default().to_owned();
                state.asked.insert(name, (Instant::now(), number(2)));
            }
            _ => {}
        }
        let mut status = state.status.clone();
        status.heard_ms =
            state.heard.map(|t| u64::try_from(t.elapsed().as_millis()).unwrap_or(u64::MAX));
        let recent =
            state.asked.iter().filter(|(_, (at, _))| at.elapsed() < Duration::from_millis(500));
        status.standbys = recent.map(|(name, (_, at))| (name.clone(), *at)).collect();
        drop(state);
        if writeln!(write, "{}", serde_json::to_string(&status).unwrap_or_default()).is_err() {
            return;
        }
    }
}
