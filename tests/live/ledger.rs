//! An independent client in every live test: it writes where the plane says that the primary is,
//! keeps what was acknowledged, and at the end holds the loss accounts against what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quorate::model::Epoch;
use quorate::model::loss::LossAccount;
use quorate::model::view::ClusterView;
use tokio_postgres::{AsyncMessage, NoTls, SimpleQueryMessage};

/// A server that says nothing for so long is left alone.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// A commit that waits for a standby is waited for: a dropped client's session would go on waiting,
/// and one after the other would use up the server's connections.
const COMMIT_MAX: Duration = Duration::from_secs(60);
/// So often a connection of its own: an old session would keep a doubt alive.
const PAUSE: Duration = Duration::from_millis(500);
const TABLE: &str = "CREATE TABLE IF NOT EXISTS ledger (n bigint PRIMARY KEY)";

/// What one writer saw.
#[derive(Default)]
struct Book {
    /// What was acknowledged, and on which line.
    acknowledged: BTreeMap<i64, u32>,
    /// The highest line that a write was acknowledged on.
    newest: u32,
    broken: Vec<String>,
}

pub struct Ledger {
    ports: BTreeMap<String, u16>,
    book: Arc<Mutex<Book>>,
    writing: Option<tokio::task::JoinHandle<()>>,
    /// What finished moves said that they lost, by plan, and the epoch in which they were seen.
    said: BTreeMap<String, (Epoch, LossAccount)>,
    next: i64,
}

impl Ledger {
    pub fn new(ports: BTreeMap<String, u16>) -> Self {
        Self { ports, book: Arc::default(), writing: None, said: BTreeMap::new(), next: 0 }
    }

    /// Keeps what is said, and writes where the primary is said to be.
    pub fn look(&mut self, view: &ClusterView) {
        if let Some(run) = view.run.as_ref().filter(|run| run.outcome.is_some())
            && let Some(account) = &run.rpo
        {
            let seen = (view.epoch, account.clone());
            self.said.entry(run.plan.as_str().to_owned()).or_insert(seen).1 = account.clone();
        }
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
            if let Some(line) = write(port, n, COMMIT_MAX).await {
                let mut book = book.lock().unwrap();
                if line < newest {
                    let text = format!("line {line} acknowledged after line {newest} had");
                    book.broken.push(text);
                }
                book.newest = book.newest.max(line);
                book.acknowledged.insert(n, line);
            }
            tokio::time::sleep(PAUSE).await;
        }));
    }

    /// What was said and is not so, by what is there now; nothing where nobody takes writes.
    pub async fn broken(self) -> Vec<String> {
        if let Some(task) = self.writing {
            let _ = tokio::time::timeout(ANSWER_MAX + PAUSE, task).await;
        }
        let mut there = None;
        for port in self.ports.values() {
            if write(*port, 0, ANSWER_MAX).await.is_some() {
                there = rows(*port).await;
            }
        }
        let mut book = self.book.lock().unwrap();
        let mut broken = std::mem::take(&mut book.broken);
        let Some(there) = there else { return broken };
        let missing: Vec<_> =
            book.acknowledged.iter().filter(|(n, _)| !there.contains(n)).collect();
        // Lost in a move to a newer line: one that said "none (proved)" is wrong, unless another of
        // them said otherwise.
        let unexplained = |line: u32| {
            let later = || self.said.values().filter(|(epoch, _)| epoch.0 > u64::from(line));
            later().next().is_some() && later().all(|(_, account)| is_proved(account))
        };
        let wrong: Vec<_> = missing.iter().filter(|(_, line)| unexplained(**line)).collect();
        if !wrong.is_empty() {
            broken.push(format!(
                "none (proved), and of {} acknowledged rows these are missing (row, line): \
                 {wrong:?}; said: {:?}",
                book.acknowledged.len(),
                self.said,
            ));
        }
        println!(
            "ledger: {} acknowledged, {} missing, {} accounts",
            book.acknowledged.len(),
            missing.len(),
            self.said.len()
        );
        broken
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

/// The line on which it was acknowledged.
async fn write(port: u16, n: i64, limit: Duration) -> Option<u32> {
    let (client, warned) = connect(port).await?;
    let insert = format!(
        "INSERT INTO ledger VALUES ({n}) ON CONFLICT DO NOTHING; \
         SELECT left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)"
    );
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
    answer.iter().find_map(|m| match m {
        SimpleQueryMessage::Row(row) => u32::from_str_radix(row.get(0)?, 16).ok(),
        _ => None,
    })
}

async fn rows(port: u16) -> Option<BTreeSet<i64>> {
    let (client, _) = connect(port).await?;
    let rows = client.query("SELECT n FROM ledger", &[]);
    let rows = tokio::time::timeout(ANSWER_MAX, rows).await.ok()?.ok()?;
    Some(rows.iter().map(|row| row.get(0)).collect())
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
        (vec![(next, real), (next, unknown)], 0),
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
        let broken = cluster.runtime.block_on(ledger.broken());
        assert_eq!(broken.len(), found, "{text}: {broken:?}");
    }
}
