//! A client's connection to a database of the lab, of either kind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio_postgres::{AsyncMessage, Client, NoTls};

use crate::agent::adapter::sim::database::{Answer, Request};
use crate::agent::adapter::sim::log::Write;

/// Where to write.
#[derive(Clone, Debug)]
pub struct Target {
    /// Nodes and their ports on loopback.
    pub nodes: BTreeMap<String, u16>,
    /// Simulated databases instead of PostgreSQL.
    pub simulated: bool,
}

const CONNECT_MAX: Duration = Duration::from_millis(250);
const ANSWER_MAX: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(10);
/// A superuser; no password is asked for on loopback.
pub(super) const USER: &str = "postgres";

/// One connection.
pub(super) enum Connection {
    /// To PostgreSQL, and the warnings that it sent.
    Postgres(Client, Arc<AtomicU64>),
    /// To a simulated database.
    Simulated(BufReader<TcpStream>),
}

/// What became of a write.
pub(super) enum Wrote {
    /// By a server on this timeline.
    Acknowledged(u32),
    /// This node takes no writes; another does.
    Elsewhere,
    Failed,
    Unknown,
}

impl Target {
    pub(super) async fn connect(&self, port: u16) -> Option<Connection> {
        if self.simulated {
            let stream = TcpStream::connect(("127.0.0.1", port));
            let stream = tokio::time::timeout(CONNECT_MAX, stream).await.ok()?.ok()?;
            stream.set_nodelay(true).ok()?;
            return Some(Connection::Simulated(BufReader::new(stream)));
        }
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(port).user(USER).dbname("postgres").application_name("load");
        let attempt = tokio::time::timeout(CONNECT_MAX, config.connect(NoTls));
        let (client, mut connection) = attempt.await.ok()?.ok()?;
        let warned = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&warned);
        tokio::spawn(async move {
            while let Some(Ok(message)) =
                std::future::poll_fn(|cx| connection.poll_message(cx)).await
            {
                // 01000: the wait for a synchronous standby was cancelled; the commit is local
                // only.
                if let AsyncMessage::Notice(notice) = message
                    && notice.code().code() == "01000"
                {
                    count.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        Some(Connection::Postgres(client, warned))
    }

    /// Makes the table, on whichever node takes writes.
    ///
    /// # Errors
    /// In words, when none does within `limit`.
    pub async fn prepare(&self, limit: Duration) -> Result<(), String> {
        let until = tokio::time::Instant::now() + limit;
        loop {
            for port in self.nodes.values() {
                if let Some(mut c) = self.connect(*port).await
                    && c.clear().await
                {
                    return Ok(());
                }
            }
            if tokio::time::Instant::now() > until {
                return Err(format!("no node took a write for {} s", limit.as_secs()));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// What is there at the end, on the node that takes writes.
    pub(super) async fn rows(&self) -> Result<BTreeSet<i64>, String> {
        let until = tokio::time::Instant::now() + Duration::from_secs(30);
        loop {
            for port in self.nodes.values() {
                let Some(mut c) = self.connect(*port).await else { continue };
                // A write proves that this is the node whose word counts.
                if matches!(c.insert(0, "count").await, Wrote::Acknowledged(_))
                    && let Some(rows) = c.rows().await
                {
                    return Ok(rows);
                }
            }
            if tokio::time::Instant::now() > until {
                return Err(
                    "no node took a write within 30 s after the load, so nothing could be counted"
                        .into(),
                );
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Connection {
    async fn clear(&mut self) -> bool {
        let sql = "SET client_min_messages = error; CREATE TABLE IF NOT EXISTS load (n bigint NOT \
            NULL, node text NOT NULL); TRUNCATE load";
        match self {
            Connection::Postgres(client, _) => {
                let done = tokio::time::timeout(ANSWER_MAX, client.batch_execute(sql)).await;
                done.is_ok_and(|r| r.is_ok())
            }
            Connection::Simulated(stream) => {
                matches!(ask(stream, Request::Write(Write::Clear)).await, Some(Answer::Wrote(_)))
            }
        }
    }

    /// A row, and what became of it.
    pub(super) async fn insert(&mut self, n: i64, node: &str) -> Wrote {
        let (client, warned) = match self {
            Connection::Postgres(client, warned) => (client, warned),
            Connection::Simulated(stream) => {
                return match ask(stream, Request::Write(Write::Row(n))).await {
                    Some(Answer::Wrote(timeline)) => Wrote::Acknowledged(timeline),
                    Some(Answer::ReadOnly) => Wrote::Elsewhere,
                    Some(_) => Wrote::Failed,
                    None => Wrote::Unknown,
                };
            }
        };
        let before = warned.load(Ordering::SeqCst);
        // The timeline says in which epoch the acknowledging server writes.
        let sql = format!(
            "INSERT INTO load (n, node) VALUES ({n}, '{node}') RETURNING \
                left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)"
        );
        match tokio::time::timeout(ANSWER_MAX, client.simple_query(&sql)).await {
            Ok(Ok(answer)) if warned.load(Ordering::SeqCst) == before => {
                let timeline = answer.iter().find_map(|m| match m {
                    tokio_postgres::SimpleQueryMessage::Row(row) => {
                        u32::from_str_radix(row.get(0)?, 16).ok()
                    }
                    _ => None,
                });
                Wrote::Acknowledged(timeline.unwrap_or(0))
            }
            Ok(Ok(_)) | Err(_) => Wrote::Unknown,
            Ok(Err(error)) => match error.code() {
                Some(code) if code.code() == "25006" => Wrote::Elsewhere,
                // The server said no and rolled back; a shutdown may cut in after the commit, so
                // that is unknown.
                Some(code) if !code.code().starts_with("57") => Wrote::Failed,
                _ => Wrote::Unknown,
            },
        }
    }

    async fn rows(&mut self) -> Option<BTreeSet<i64>> {
        match self {
            Connection::Postgres(client, _) => {
                let rows = client.query("SELECT n FROM load WHERE n <> 0", &[]).await.ok()?;
                Some(rows.iter().map(|r| r.get(0)).collect())
            }
            Connection::Simulated(stream) => match ask(stream, Request::Rows).await? {
                Answer::Rows(rows) => Some(rows.into_iter().filter(|n| *n != 0).collect()),
                _ => None,
            },
        }
    }
}

/// `None`: nobody knows what became of it.
async fn ask(stream: &mut BufReader<TcpStream>, request: Request) -> Option<Answer> {
    let text = serde_json::to_string(&request).ok()? + "\n";
    let talk = async {
        stream.get_mut().write_all(text.as_bytes()).await.ok()?;
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        serde_json::from_str(&line).ok()
    };
    tokio::time::timeout(ANSWER_MAX, talk).await.ok()?
}
