//! An independent client in every live test: it writes where the plane says that the primary is,
//! keeps what was acknowledged, and at the end holds the loss accounts against what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use quorate::model::Epoch;
use quorate::model::loss::LossAccount;
use quorate::model::record::ChainedRecord;
use quorate::model::view::{ClusterView, Verdict};
use tokio_postgres::{AsyncMessage, NoTls, SimpleQueryMessage};

/// A server that says nothing for so long is left alone.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// A commit that waits for a standby is waited for: a dropped client's session would go on waiting,
/// and one after the other would use up the server's connections.
const COMMIT_MAX: Duration = Duration::from_secs(60);
/// So often a connection of its own: an old session would keep a doubt alive.
const PAUSE: Duration = Duration::from_millis(500);
const TABLE: &str = "CREATE TABLE IF NOT EXISTS ledger (n bigint PRIMARY KEY)";

/// "Stopped at once" for a server that takes writes and must not, and a standby's way to what the
/// primary has, last no longer.
const SETTLED_MAX: Duration = Duration::from_secs(10);

/// What one writer saw.
#[derive(Default)]
struct Book {
    /// What was acknowledged, and on which line.
    acknowledged: BTreeMap<i64, u32>,
    /// The highest line that a write was acknowledged on; all rows were looked for there.
    newest: u32,
    /// Rows that were missing when they were looked for: there still on the first line, gone on the
    /// second.
    lost: BTreeMap<i64, (u32, u32)>,
    broken: Vec<String>,
}

impl Book {
    /// All rows were looked for on that line.
    fn compare(&mut self, there: &BTreeSet<i64>, line: u32) {
        let before = self.newest;
        for (n, own) in self.acknowledged.iter().filter(|(n, _)| !there.contains(n)) {
            self.lost.entry(*n).or_insert(((*own).max(before), line));
        }
        self.newest = line.max(before);
    }
}

pub struct Ledger {
    ports: BTreeMap<String, u16>,
    book: Arc<Mutex<Book>>,
    writing: Option<tokio::task::JoinHandle<()>>,
    /// What finished moves said that they lost, by plan, and the epoch in which they were seen.
    said: BTreeMap<String, (Epoch, LossAccount)>,
    /// What the audit says of moves under "none (proved)", and the epoch of that record.
    recorded: Vec<(Epoch, String)>,
    /// Nodes that were called healthy in the last picture, and are no primary.
    healthy: Vec<String>,
    next: i64,
}

impl Ledger {
    pub fn new(ports: BTreeMap<String, u16>) -> Self {
        Self {
            ports,
            book: Arc::default(),
            writing: None,
            said: BTreeMap::new(),
            recorded: vec![],
            healthy: vec![],
            next: 0,
        }
    }

    /// Keeps what the audit says of finished moves.
    pub fn read(&mut self, records: &[ChainedRecord]) {
        let moves = records.iter().map(|r| &r.record).filter(|r| r.kind == "outcome");
        let proved = moves.filter(|r| r.text.contains("RPO none (proved)"));
        self.recorded = proved.map(|r| (r.epoch, r.text.clone())).collect();
    }

    /// Keeps what is said, and writes where the primary is said to be.
    pub fn look(&mut self, view: &ClusterView) {
        if let Some(run) = view.run.as_ref().filter(|run| run.outcome.is_some())
            && let Some(account) = &run.rpo
        {
            let seen = (view.epoch, account.clone());
            self.said.entry(run.plan.as_str().to_owned()).or_insert(seen).1 = account.clone();
        }
        let standbys = view.nodes.iter().filter(|n| Some(&n.node) != view.primary.as_ref());
        let healthy = standbys.filter(|n| n.verdict == Verdict::Healthy);
        self.healthy = healthy.map(|n| n.node.as_str().to_owned()).collect();
        let port = view.primary.as_ref().and_then(|node| self.ports.get(node.as_str())).copied();
        let Some(port) = port else { return };
        if self.writing.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        self.next += 1;
        let (n, book) = (self.next, Arc::clone(&self.book));
        self.writing = Some(tokio::spawn(async move {
            // Nothing of a newer line was acknowledged before this one was sent.
            let newest = book.lock().unwrap().newest;
            if let Some((line, there)) = write(port, n, COMMIT_MAX, newest).await {
                let mut book = book.lock().unwrap();
                if line < newest {
                    let text = format!("line {line} acknowledged after line {newest} had");
                    book.broken.push(text);
                }
                if let Some((there, line)) = there {
                    book.compare(&there, line);
                }
                book.acknowledged.insert(n, line);
            }
            tokio::time::sleep(PAUSE).await;
        }));
    }

    /// What was said and is not so, by what is there now; nothing where nobody takes writes.
    pub async fn broken(mut self) -> Vec<String> {
        if let Some(task) = self.writing.take() {
            let _ = tokio::time::timeout(ANSWER_MAX + PAUSE, task).await;
        }
        let end = Instant::now() + SETTLED_MAX;
        let (writers, there) = loop {
            let (mut writers, mut there) = (vec![], None);
            for (node, port) in &self.ports {
                if let Some((_, seen)) = write(*port, 0, ANSWER_MAX, 0).await {
                    writers.push(node.clone());
                    there = seen.or(there);
                }
            }
            if writers.len() < 2 || Instant::now() >= end {
                break (writers, there);
            }
        };
        let mut broken = std::mem::take(&mut self.book.lock().unwrap().broken);
        if writers.len() > 1 {
            broken.push(format!("several nodes take writes, and go on: {}", writers.join(", ")));
        }
        let Some((there, _)) = there else { return broken };
        if let [writer] = writers.as_slice() {
            for node in self.healthy.iter().filter(|n| *n != writer) {
                broken.extend(self.strange_rows(node, writer, end).await);
            }
        }
        let mut book = self.book.lock().unwrap();
        book.compare(&there, u32::MAX);
        let wrong: Vec<_> = book.lost.iter().filter(|(_, lines)| self.is_denied(**lines)).collect();
        if !wrong.is_empty() {
            broken.push(format!(
                "none (proved), and of {} acknowledged rows these are missing (row, still there on \
                 line, gone on line): {wrong:?}; said: {:?}; recorded: {:?}",
                book.acknowledged.len(),
                self.said,
                self.recorded,
            ));
        }
        println!(
            "ledger: {} acknowledged, {} lost, {} accounts",
            book.acknowledged.len(),
            book.lost.len(),
            self.said.len()
        );
        broken
    }

    /// Lost in a move to a line after `there` and up to `gone`, and each one that could have been it
    /// said, on the screen or in the audit, that nothing was.
    fn is_denied(&self, (there, gone): (u32, u32)) -> bool {
        let could = |epoch: Epoch| epoch.0 > u64::from(there) && epoch.0 <= u64::from(gone);
        let mut said = self.said.values().filter(|(epoch, _)| could(*epoch)).peekable();
        if said.peek().is_some() {
            return said.all(|(_, account)| is_proved(account));
        }
        self.recorded.iter().any(|(epoch, _)| could(*epoch))
    }

    /// A standby that is called healthy has no row that the primary lacks.
    async fn strange_rows(&self, node: &str, writer: &str, end: Instant) -> Option<String> {
        loop {
            // The standby's first: what the primary has by then can only be more.
            let own = rows(self.ports[node]).await?;
            let strange: Vec<_> =
                own.difference(&rows(self.ports[writer]).await?).copied().collect();
            if strange.is_empty() {
                return None;
            }
            if Instant::now() >= end {
                return Some(format!(
                    "{node} is called healthy, and has rows that {writer} lacks: {strange:?}"
                ));
            }
        }
    }
}

/// It speaks of the rows here: in a logged table, by a role and into a database that wait, and not
/// after a warning that the wait was cancelled.
fn is_proved(account: &LossAccount) -> bool {
    let elsewhere = ["unlogged tables", "commits whose wait"];
    let of_rows = |words: &String| !elsewhere.iter().any(|e| words.contains(e));
    matches!(account, LossAccount::None { .. }) && !account.excluded().iter().any(of_rows)
}

/// With the number of warnings that the server sent: of a commit whose wait for a standby was
/// cancelled it says no more (01000), and it is acknowledged by nobody but the primary.
async fn connect(port: u16) -> Option<(tokio_postgres::Client, Arc<AtomicU64>)> {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(port).user("postgres").dbname("postgres");
    config.application_name("ledger");
    let attempt = tokio::time::timeout(ANSWER_MAX, config.connect(NoTls));
    let (client, mut connection) = attempt.await.ok()?.ok()?;
    let warned = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&warned);
    tokio::spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notice(notice) = message
                && notice.code().code() == "01000"
            {
                count.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    Some((client, warned))
}

/// The line on which it was acknowledged, and, on one that is newer than `known`, all rows that are
/// there, with the line on which they were read.
async fn write(
    port: u16,
    n: i64,
    limit: Duration,
    known: u32,
) -> Option<(u32, Option<(BTreeSet<i64>, u32)>)> {
    let (client, warned) = connect(port).await?;
    let insert = format!("INSERT INTO ledger VALUES ({n}) ON CONFLICT DO NOTHING; {LINE}");
    let work = async {
        if client.batch_execute(TABLE).await.is_err() {
            return None;
        }
        client.simple_query(&insert).await.ok()
    };
    let answer = tokio::time::timeout(limit, work).await.ok()??;
    if warned.load(Ordering::SeqCst) > 0 {
        return None;
    }
    let line = line_in(&answer)?;
    if line <= known {
        return Some((line, None));
    }
    let all = client.simple_query("SELECT n FROM ledger");
    let all = tokio::time::timeout(ANSWER_MAX, all).await.ok().and_then(Result::ok);
    Some((line, all.map(|all| (numbers(&all), line))))
}

/// The timeline that a primary writes on (`pg_walfile_name(pg_lsn)`).
const LINE: &str = "SELECT left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)";

fn line_in(answer: &[SimpleQueryMessage]) -> Option<u32> {
    answer.iter().find_map(|m| match m {
        SimpleQueryMessage::Row(row) => u32::from_str_radix(row.get(0)?, 16).ok(),
        _ => None,
    })
}

fn numbers(answer: &[SimpleQueryMessage]) -> BTreeSet<i64> {
    let number = |m: &SimpleQueryMessage| match m {
        SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
        _ => None,
    };
    answer.iter().filter_map(number).collect()
}

async fn rows(port: u16) -> Option<BTreeSet<i64>> {
    let (client, _) = connect(port).await?;
    let rows = client.simple_query("SELECT n FROM ledger");
    let rows = tokio::time::timeout(ANSWER_MAX, rows).await.ok()?.ok()?;
    Some(numbers(&rows))
}

/// The law itself: what is missing under "none (proved)" is found, and what was said otherwise is
/// not held against anybody.
#[test]
fn a_missing_row_under_none_proved_is_found() {
    let mut cluster = crate::Cluster::start(crate::quick());
    cluster.calm();
    // An account as they are, of a real move.
    cluster.once(quorate::lab::measure::Event::Kill);
    let view = cluster.calm();
    let real = view.run.as_ref().and_then(|run| run.rpo.clone()).unwrap();
    assert!(is_proved(&real) && !real.excluded().is_empty(), "{real:?}");
    let LossAccount::None { proof, by, .. } = real.clone() else { unreachable!() };
    let role = LossAccount::None { proof, by, excluded: vec!["role etl".into()] };
    let unknown = LossAccount::Unknown { why: String::new() };
    let primary = view.primary.clone().unwrap();
    let ports = cluster.lab().postgres_ports().clone();
    let (now, next) = (view.epoch, Epoch(view.epoch.0 + 1));
    for (accounts, found) in [
        (vec![], 0),
        (vec![(next, real.clone())], 1),
        (vec![(now, real.clone())], 0),
        (vec![(next, role)], 0),
        (vec![(next, unknown.clone())], 0),
        (vec![(now, unknown.clone()), (next, real.clone())], 1),
        (vec![(next, real.clone()), (next, unknown.clone())], 0),
        (vec![(next, real.clone()), (Epoch(next.0 + 1), unknown)], 1),
    ] {
        let mut ledger = Ledger::new(ports.clone());
        // Rows of its own, beside those of the cluster's.
        ledger.next = -1_000_000;
        let text = format!("{accounts:?}");
        ledger.said.extend((0..).map(|n: u32| n.to_string()).zip(accounts));
        cluster.runtime.block_on(async {
            // What is said here is not what the ledger would note of that view.
            ledger.look(&ClusterView { run: None, ..view.clone() });
            ledger.writing.take().unwrap().await.unwrap();
        });
        assert_eq!(ledger.book.lock().unwrap().acknowledged.len(), 1);
        cluster.sql(primary.as_str(), &["DELETE FROM ledger WHERE n < 0"]).unwrap();
        let there = cluster.runtime.block_on(rows(ports[primary.as_str()])).unwrap();
        // As its first write on the line of the next move would have found it.
        if text.contains(&format!("{:?}", Epoch(next.0 + 1))) {
            ledger.book.lock().unwrap().compare(&there, next.0 as u32);
        }
        let broken = cluster.runtime.block_on(ledger.broken());
        assert_eq!(broken.len(), found, "{text}: {broken:?}");
    }
}
