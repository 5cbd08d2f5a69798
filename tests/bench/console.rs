//! The console on a live plane, in a terminal of its own: what it costs while nothing happens, how
//! long a key takes to be seen, and how long it takes to leave. `cargo bench --bench console`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a measurement that cannot be made is not made"
)]

#[path = "../terminal/pty.rs"]
#[allow(dead_code, reason = "the tests need more of it")]
mod pty;

use std::path::Path;
use std::time::{Duration, Instant};

use pty::Pty;
use quorate::lab::{Lab, Options};

const PROGRAM: &str = env!("CARGO_BIN_EXE_quorate");
/// Processor time is counted in hundredths of a second.
const TICKS: f64 = 100.0;

/// Times a thread of it gave the processor away, its processor time in seconds, and its memory in
/// KiB.
fn spent(pid: u32) -> (u64, f64, u64) {
    let number = |text: &str, name: &str| -> u64 {
        let line = text.lines().find(|l| l.starts_with(name)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
    };
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let woken = tasks
        .filter_map(|t| std::fs::read_to_string(t.path().join("status")).ok())
        .map(|text| number(&text, "voluntary_ctxt_switches"))
        .sum();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    (woken, ticks / TICKS, number(&status, "VmRSS"))
}

fn percentile(times: &mut [Duration], of: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() * of / 100).min(times.len() - 1)]
}

fn console<'a>(identity: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["console", "--identity", identity], more].concat()
}

fn main() {
    if std::env::args().any(|a| a == "--list") {
        return;
    }
    let seconds = std::env::var("SECONDS_IDLE").ok().and_then(|s| s.parse().ok()).unwrap_or(30);
    let folder = tempfile::Builder::new().prefix("qb-").tempdir_in("/tmp").unwrap();
    let home = tempfile::tempdir().unwrap();
    let lab =
        Lab::create(&folder.path().join("lab"), Options::default(), Path::new(PROGRAM), |_| {})
            .unwrap();
    let identity = lab.identity("operator").display().to_string();
    for size in [(80, 24), (200, 60)] {
        let begun = Instant::now();
        let mut terminal = Pty::start(size, home.path(), PROGRAM, &console(&identity, &[]));
        terminal.more_than(0);
        let first = begun.elapsed();
        terminal.wait("HEALTHY");
        // The first minute is not idle: the forecast arrives, and "since" counts seconds.
        while !terminal.shows("since 1 min") {
            std::thread::sleep(Duration::from_millis(500));
        }
        let (before, bytes) = (spent(terminal.pid()), terminal.bytes());
        std::thread::sleep(Duration::from_secs(seconds));
        let (after, now) = (spent(terminal.pid()), terminal.bytes());
        let per = |difference: f64| difference / seconds as f64;
        println!(
            "{}x{}: first bytes after {:.1} ms; idle over {seconds} s: {:.1} bytes/s, {:.1} \
             wake-ups/s, {:.2} % of a core; {:.1} MiB",
            size.0,
            size.1,
            first.as_secs_f64() * 1e3,
            per((now - bytes) as f64),
            per((after.0 - before.0) as f64),
            per(after.1 - before.1) * 100.0,
            after.2 as f64 / 1024.0
        );
        let mut times = vec![];
        for key in [b"6", b"2"].iter().cycle().take(400) {
            let drawn = terminal.bytes();
            let pressed = Instant::now();
            terminal.write(key);
            terminal.more_than(drawn);
            times.push(pressed.elapsed());
            // The whole frame comes before the next key; and a person does not type faster.
            std::thread::sleep(Duration::from_millis(20));
        }
        let pressed = Instant::now();
        terminal.write(b"q");
        terminal.left();
        println!(
            "key to paint p50 {:.2} ms, p99 {:.2} ms; q takes {:.1} ms",
            percentile(&mut times, 50).as_secs_f64() * 1e3,
            percentile(&mut times, 99).as_secs_f64() * 1e3,
            pressed.elapsed().as_secs_f64() * 1e3
        );
    }
    lab.down(false).unwrap();
}
