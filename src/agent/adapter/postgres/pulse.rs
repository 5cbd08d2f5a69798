//! Whether the server lives, as a client would find it: a new connection each time, by its socket
//! and by TCP, and on a primary a write. A session that was opened before tells nothing: it goes on
//! while the postmaster stands still.
//!
//! Any answer is a sign of life, also one that turns the client away. Only silence is none.
//!
//! A new connection costs the server a new process, 3 to 5 ms of a core. A calm one is asked at one
//! door at a time, every few seconds; the write, on a session that is there, keeps its pace.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};

use super::session::Session;
use super::sql::{self, LookError, QUERY_TIMEOUT};
use crate::agent::host;
use crate::config::agent::PostgresConfig;
use crate::model::{Span, Timestamp};

/// Asks whether the server would encrypt by GSSAPI: the shortest question that needs a new process of
/// it. Asked for TLS, a server that has it writes a line to its log each time that nothing follows.
const GSSENC_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 48];
/// The line of `postmaster.pid` that says where the server listens.
const LISTENS: usize = 5;

/// One door of a calm server is asked so often, in turn.
const CALM_INTERVAL: Span = Span::secs(4);

/// What the last rounds found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Signs {
    /// It last gave every sign of life then.
    pub(super) ok: Option<Timestamp>,
    /// How long the last write took.
    pub(super) write_took: Option<Span>,
    /// Nobody answers at any door since then.
    pub(super) silent_since: Option<Timestamp>,
    /// What a new client is told instead of being let in; empty: it is let in.
    pub(super) refuses: String,
}

/// How a new connection went.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Door {
    /// It opened, or there is none.
    Open,
    /// The server answered, and said no.
    Refuses(String),
    /// Nothing came back.
    Silent,
    /// Nobody is there.
    Closed(String),
}

/// How a write on a session went.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Write {
    /// It reached the disk, in that time.
    Done(Span),
    /// None was possible or wanted: there is no session, or it is a standby.
    NotTried,
    /// The server turned it down for a reason that is not its disk's.
    Refused(String),
    /// It did not come back, or the disk does not take it.
    Failed(String),
}

impl Signs {
    /// One round's result; `asked`: a door was asked in it, so that its answer is one of now.
    fn heed(
        &mut self,
        now: Timestamp,
        began: Timestamp,
        asked: bool,
        doors: (&Door, &Door),
        write: &Write,
    ) {
        let (socket, tcp) = doors;
        let answers = |door: &Door| matches!(door, Door::Open | Door::Refuses(_));
        // A door that is not there lets nobody in, but the other one may answer.
        let reached = answers(socket) || answers(tcp);
        self.silent_since = if reached { None } else { Some(self.silent_since.unwrap_or(began)) };
        let words = |name: &str, door: &Door| match door {
            Door::Open => None,
            Door::Refuses(why) | Door::Closed(why) => Some(format!("{name}: {why}")),
            Door::Silent => Some(format!("{name}: no answer for {} s", QUERY_TIMEOUT.as_secs())),
        };
        let write_words = match write {
            Write::Refused(why) | Write::Failed(why) => Some(format!("a write: {why}")),
            Write::Done(_) | Write::NotTried => None,
        };
        let found: Vec<String> = [words("its socket", socket), words("its port", tcp), write_words]
            .into_iter()
            .flatten()
            .collect();
        self.refuses = found.join("; ");
        if let Write::Done(took) = write {
            self.write_took = Some(*took);
        }
        let fresh = asked || matches!(write, Write::Done(_));
        if fresh && reached && !matches!(write, Write::Failed(_)) {
            self.ok = Some(now);
        }
    }
}

/// The rounds, in a task of their own: a look that hangs does not delay them.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    signs: Option<watch::Receiver<Signs>>,
    task: Option<tokio::task::JoinHandle<()>>,
    /// It is a primary: writes belong to it.
    writes: Arc<AtomicBool>,
    since: Option<Timestamp>,
    calm: Arc<Calm>,
}

/// Whether the server is calm, and when it no longer is.
#[derive(Debug, Default)]
struct Calm {
    is: AtomicBool,
    over: Notify,
}

/// What is asked, and what was answered last.
struct Doors {
    session: Option<Session>,
    socket: Door,
    tcp: Door,
    due: Timestamp,
    /// Which one is next at a calm server.
    tcp_is_next: bool,
}

impl Pulse {
    /// Begins anew with a server.
    pub(super) fn start(&mut self, config: &PostgresConfig, pause: Duration) {
        self.stop();
        let (out, signs) = watch::channel(Signs::default());
        let writes = Arc::new(AtomicBool::new(false));
        self.writes = Arc::clone(&writes);
        self.signs = Some(signs);
        self.calm = Arc::default();
        let (config, calm) = (config.clone(), Arc::clone(&self.calm));
        self.task = Some(tokio::spawn(async move {
            let mut doors = Doors {
                session: None,
                socket: Door::Open,
                tcp: Door::Open,
                due: host::now(),
                tcp_is_next: false,
            };
            while !out.is_closed() {
                let is_calm = calm.is.load(Ordering::Relaxed);
                round(&config, &mut doors, writes.load(Ordering::Relaxed), is_calm, &out).await;
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = calm.over.notified(), if is_calm => {}
                }
            }
        }));
    }

    /// Whether nothing about the server is new or amiss. One that no longer is calm is asked at
    /// once.
    pub(super) fn calm(&self, calm: bool) {
        if self.calm.is.swap(calm, Ordering::Relaxed) && !calm {
            self.calm.over.notify_one();
        }
    }

    /// Somebody is turned away, or nobody answers.
    pub(super) fn is_amiss(&self) -> bool {
        self.signs.as_ref().is_some_and(|signs| {
            let signs = signs.borrow();
            signs.silent_since.is_some() || !signs.refuses.is_empty()
        })
    }

    /// The server is gone.
    pub(super) fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
        (self.signs, self.since) = (None, None);
    }

    /// From here on it has to write, or no longer.
    pub(super) fn expect_writes(&mut self, expected: bool) {
        self.writes.store(expected, Ordering::Relaxed);
        self.since = if expected { self.since.or_else(|| Some(host::now())) } else { None };
    }

    /// What the last rounds found.
    pub(super) fn signs(&self) -> Signs {
        self.signs.as_ref().map(|signs| signs.borrow().clone()).unwrap_or_default()
    }

    /// When it last gave every sign of life as a primary; it begins with one.
    pub(super) fn write_ok(&self) -> Option<Timestamp> {
        self.since.map(|since| self.signs().ok.map_or(since, |ok| ok.max(since)))
    }
}

async fn round(
    config: &PostgresConfig,
    doors: &mut Doors,
    writes: bool,
    calm: bool,
    out: &watch::Sender<Signs>,
) {
    let began = host::now();
    let opened = doors.session.as_ref().is_some_and(|s| !s.is_closed());
    let well = opened && doors.socket == Door::Open && doors.tcp == Door::Open;
    let asked = !calm || !well || began >= doors.due;
    if asked && calm && well {
        // One that does not open is not vouched for by what the other one said before.
        let tcp_first = doors.tcp_is_next;
        doors.tcp_is_next = !tcp_first;
        if tcp_first {
            doors.tcp = by_tcp(config).await;
        }
        if !tcp_first || doors.tcp != Door::Open {
            doors.socket = by_socket(config, &mut doors.session).await;
        }
        if !tcp_first && doors.socket != Door::Open {
            doors.tcp = by_tcp(config).await;
        }
    } else if asked {
        (doors.socket, doors.tcp) =
            tokio::join!(by_socket(config, &mut doors.session), by_tcp(config));
    }
    if asked {
        doors.due = host::now() + CALM_INTERVAL;
    }
    let write = match doors.session.as_ref().filter(|s| writes && !s.is_closed()) {
        Some(session) if doors.socket != Door::Silent => write(session).await,
        _ => Write::NotTried,
    };
    if let Write::Failed(why) = &write {
        tracing::warn!("write-path check: {why}");
        doors.session = None;
    }
    let answers = (&doors.socket, &doors.tcp);
    out.send_modify(|signs| signs.heed(host::now(), began, asked, answers, &write));
}

async fn by_socket(config: &PostgresConfig, session: &mut Option<Session>) -> Door {
    match Session::connect(config).await {
        Ok(client) => {
            *session = Some(client);
            Door::Open
        }
        Err(answer @ LookError::Answered { .. }) => Door::Refuses(answer.to_string()),
        Err(LookError::Silent) => Door::Silent,
        Err(LookError::Said(why)) => Door::Closed(why),
    }
}

/// Only whether anybody answers: who may come in by TCP is the user's matter.
async fn by_tcp(config: &PostgresConfig) -> Door {
    let Some(address) = tcp_address(&config.data_dir, config.port) else { return Door::Open };
    let ask = async {
        let mut stream = TcpStream::connect(&address).await?;
        stream.write_all(&GSSENC_REQUEST).await?;
        stream.read_u8().await
    };
    match tokio::time::timeout(QUERY_TIMEOUT, ask).await {
        Ok(Ok(_)) => Door::Open,
        Ok(Err(error)) => Door::Closed(format!("{address}: {}", words(&error))),
        Err(_) => Door::Silent,
    }
}

fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "it hung up".to_owned(),
        _ => error.to_string(),
    }
}

/// Where the server listens by its own word; `None` where it does not.
fn tcp_address(data_dir: &Path, port: u16) -> Option<String> {
    let text = std::fs::read_to_string(data_dir.join("postmaster.pid")).ok()?;
    address_of(text.lines().nth(LISTENS)?.trim(), port)
}

fn address_of(listens: &str, port: u16) -> Option<String> {
    match listens {
        "" => None,
        "*" | "0.0.0.0" => Some(format!("127.0.0.1:{port}")),
        "::" => Some(format!("[::1]:{port}")),
        six if six.contains(':') => Some(format!("[{six}]:{port}")),
        other => Some(format!("{other}:{port}")),
    }
}

async fn write(session: &Session) -> Write {
    let began = host::now();
    match sql::write_path(session).await {
        Ok(()) => Write::Done(host::now().since(began)),
        Err(error) => judge_write(&error),
    }
}

/// A disk that is full or fails, and a server that is broken, say so by an error too.
fn judge_write(error: &LookError) -> Write {
    match error {
        LookError::Answered { code, .. }
            if code != "53100" && !code.starts_with("58") && !code.starts_with("XX") =>
        {
            Write::Refused(error.to_string())
        }
        _ => Write::Failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp(ms * 1_000_000)
    }
    fn said(code: &str) -> LookError {
        LookError::Answered { code: code.into(), message: "no".into() }
    }

    #[test]
    fn only_silence_at_every_door_is_no_sign_of_life() {
        let refuses = || Door::Refuses("sorry, too many clients already (53300)".into());
        let closed = || Door::Closed("No such file or directory".into());
        let cases = [
            (Door::Open, Door::Open, true),
            (refuses(), refuses(), true),
            (refuses(), Door::Silent, true),
            (closed(), Door::Open, true),
            (Door::Silent, Door::Silent, false),
            (closed(), Door::Silent, false),
        ];
        for (socket, tcp, lives) in cases {
            let mut signs = Signs::default();
            signs.heed(at(7), at(5), true, (&socket, &tcp), &Write::NotTried);
            let found = (signs.ok, signs.silent_since);
            let expected = if lives { (Some(at(7)), None) } else { (None, Some(at(5))) };
            assert_eq!(found, expected, "{socket:?} {tcp:?}");
        }
    }

    #[test]
    fn who_is_turned_away_is_told_and_silence_is_dated_from_its_first_question() {
        let mut signs = Signs::default();
        signs.heed(at(2), at(1), true, (&Door::Silent, &Door::Silent), &Write::NotTried);
        signs.heed(at(5), at(4), true, (&Door::Silent, &Door::Silent), &Write::NotTried);
        assert_eq!(signs.silent_since, Some(at(1)));
        let door = Door::Refuses("the database system is starting up (57P03)".into());
        signs.heed(at(7), at(6), true, (&door, &Door::Open), &Write::NotTried);
        assert_eq!(signs.silent_since, None);
        assert!(signs.refuses.contains("57P03"), "{}", signs.refuses);
        signs.heed(at(9), at(8), false, (&Door::Open, &Door::Open), &Write::Done(Span(3)));
        assert_eq!((signs.refuses.as_str(), signs.write_took), ("", Some(Span(3))));
    }

    #[test]
    fn a_write_that_is_refused_is_an_answer_unless_the_disk_refuses_it() {
        for (error, fails) in [
            (said("53300"), false),
            (said("57014"), false),
            (said("28000"), false),
            (said("53100"), true),
            (said("58030"), true),
            (said("XX000"), true),
            (LookError::Silent, true),
        ] {
            let write = judge_write(&error);
            assert_eq!(matches!(write, Write::Failed(_)), fails, "{error:?}");
            let mut signs = Signs::default();
            signs.heed(at(7), at(5), true, (&Door::Open, &Door::Open), &write);
            assert_eq!(signs.ok.is_none(), fails, "{error:?}");
        }
    }

    #[test]
    fn the_server_says_where_it_listens() {
        for (listens, address) in [
            ("", None),
            ("*", Some("127.0.0.1:5432")),
            ("::", Some("[::1]:5432")),
            ("fd00::1", Some("[fd00::1]:5432")),
            ("localhost", Some("localhost:5432")),
            ("10.0.0.1", Some("10.0.0.1:5432")),
        ] {
            assert_eq!(address_of(listens, 5432).as_deref(), address, "{listens:?}");
        }
    }
}
