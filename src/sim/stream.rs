//! Writes, flushes, and the log on its way to the standbys.

use super::database::{Chunk, Receiver, Sender, Waiting};
use super::laws::Said;
use super::net::Carries;
use super::world::{Event, World};
use crate::model::{Lsn, Position, Span};

/// A stream that is silent for so long is given up.
const STREAM_SILENCE_MAX: Span = Span::secs(4);
/// A standby tries to connect again after this.
const RECONNECT: Span = Span::millis(500);
/// An upstream says something at least this often.
const LOOKS_PER_KEEPALIVE: u64 = 3;

impl World {
    pub(super) fn write_arrives(&mut self, to: usize, write: u64) {
        let db = &self.hosts[to].db;
        if db.running && db.hung {
            return;
        }
        let unwritable = self.hosts[to].disk.full || self.hosts[to].disk.broken;
        if !db.running || !db.primary || db.stopping || unwritable {
            self.tell_client(to, write, false);
            return;
        }
        let db = &mut self.hosts[to].db;
        let end = db.append(write);
        db.waiting.push_back(Waiting { end, write });
        let (timeline, name) = (db.history.timeline, self.name(to));
        // What a person opened by hand is no epoch's timeline, whatever its number.
        if !self.hosts[to].db.by_hand {
            self.oracle.wrote(self.now, name.as_str(), timeline);
        }
        self.flush(to);
    }

    /// What is in the log now will be on disk a little later.
    pub(super) fn flush(&mut self, host: usize) {
        let (typical, starts, end) =
            (self.hosts[host].disk.flush, self.hosts[host].db.starts, self.hosts[host].db.end);
        let took = self.random.delay(typical);
        self.after(took, Event::Flushed { host, starts, end });
    }

    pub(super) fn flushed(&mut self, host: usize, starts: u64, end: Lsn) {
        let here = &mut self.hosts[host];
        if !here.db.running || here.db.starts != starts || here.db.hung {
            return;
        }
        if here.disk.full || here.disk.broken {
            // PANIC: could not write to file, could not fsync file.
            let what =
                if here.disk.full { "no space left on device" } else { "input/output error" };
            let name = self.name(host);
            self.fact(name, 0, format!("the database panics: {what}"));
            self.kill_database(host);
            return;
        }
        let end = end.min(here.db.end);
        here.db.flushed = here.db.flushed.max(end);
        if !here.disk.lies && here.db.wrong.fsync.is_none() {
            here.durable_log = here.db.flushed;
        }
        if let Some(receiver) = here.db.receiver.filter(|r| r.streaming) {
            let flushed = here.db.flushed;
            if let Some(at) =
                self.net.stream(self.now, &mut self.random, host, receiver.from, Carries::Log)
            {
                let ack = Event::LogAck {
                    to: receiver.from,
                    from: host,
                    connection: receiver.connection,
                    flushed,
                };
                self.queue.push(at, ack);
            }
        }
        self.send_log(host);
        self.confirm(host);
    }

    /// Whatever is on disk here and was not sent yet.
    pub(super) fn send_log(&mut self, host: usize) {
        let flushed = self.hosts[host].db.flushed;
        let standbys: Vec<(usize, Sender)> =
            self.hosts[host].db.senders.iter().map(|(i, s)| (*i, *s)).collect();
        for (standby, sender) in standbys {
            if sender.sent < flushed {
                self.send_chunk(host, standby, sender);
            }
        }
    }

    fn send_chunk(&mut self, host: usize, standby: usize, sender: Sender) {
        let db = &mut self.hosts[host].db;
        let news = sender.told != db.history.timeline;
        let chunk = Chunk {
            start: sender.sent,
            entries: db.since(sender.sent),
            history: news.then(|| db.history.clone()),
        };
        let flushed = db.flushed;
        if let Some(s) = db.senders.get_mut(&standby) {
            s.sent = flushed.max(s.sent);
            s.told = db.history.timeline;
        }
        if let Some(at) = self.net.stream(self.now, &mut self.random, host, standby, Carries::Log) {
            self.queue.push(
                at,
                Event::Log { to: standby, connection: sender.connection, chunk: Box::new(chunk) },
            );
        }
    }

    pub(super) fn log_arrives(&mut self, to: usize, connection: u64, chunk: &Chunk) {
        let now = self.now;
        let db = &mut self.hosts[to].db;
        let Some(receiver) =
            db.receiver.as_mut().filter(|r| r.connection == connection && db.running && !db.hung)
        else {
            return;
        };
        receiver.heard = now;
        let first = !receiver.streaming;
        receiver.streaming = true;
        let from = receiver.from;
        if !db.receive(chunk) {
            // Something before it is still under way, or was lost: ask again from here.
            self.disconnect(to);
            self.follow(to, from);
            return;
        }
        if first && let Some(agent) = &mut self.hosts[to].agent {
            agent.report_due = true;
        }
        self.flush(to);
    }

    pub(super) fn log_confirmed(&mut self, to: usize, from: usize, connection: u64, flushed: Lsn) {
        let now = self.now;
        let db = &mut self.hosts[to].db;
        if !db.running || db.hung {
            return;
        }
        let Some(sender) = db.senders.get_mut(&from).filter(|s| s.connection == connection) else {
            return;
        };
        sender.flushed = sender.flushed.max(flushed);
        sender.heard = now;
        self.confirm(to);
    }

    /// Commits that have what they waited for are acknowledged: this is the moment that counts.
    pub(super) fn confirm(&mut self, host: usize) {
        let db = &mut self.hosts[host].db;
        if !db.running || !db.primary || db.hung || db.waiting.is_empty() {
            return;
        }
        let done = db.confirmed();
        let ordered = db.sync.1 > 0 || db.wrong.names.is_some();
        let waited = ordered && !db.asynchronous;
        let said = Said {
            waited,
            named: ordered && db.asynchronous || waited && self.is_doubt_unheard(host),
        };
        for commit in done {
            self.acknowledge(host, commit, said);
            self.tell_client(host, commit.write, true);
        }
    }

    /// Receive from `from`: connects, and again whenever that ends.
    pub(super) fn follow(&mut self, host: usize, from: usize) {
        let connection = self.connections + 1;
        self.connections = connection;
        let db = &mut self.hosts[host].db;
        if db.receiver.is_some_and(|r| r.from == from && r.streaming) {
            return;
        }
        let receiver =
            Receiver { from, connection, tries: connection, streaming: false, heard: self.now };
        db.receiver = Some(receiver);
        let starts = db.starts;
        self.after(Span::millis(2), Event::Connect { host, starts, tries: connection });
    }

    /// Its stream ended: it tries again, after that.
    pub(super) fn stream_ended(&mut self, host: usize, after: Span) {
        let db = &mut self.hosts[host].db;
        let Some(receiver) = &mut db.receiver else { return };
        let tries = self.connections + 1;
        self.connections = tries;
        (receiver.streaming, receiver.tries) = (false, tries);
        let starts = db.starts;
        self.after(after, Event::Connect { host, starts, tries });
    }

    pub(super) fn disconnect(&mut self, host: usize) {
        if let Some(receiver) = self.hosts[host].db.receiver.take()
            && self.net.passes(host, receiver.from)
        {
            let senders = &mut self.hosts[receiver.from].db.senders;
            if senders.get(&host).is_some_and(|s| s.connection == receiver.connection) {
                senders.remove(&host);
            }
        }
    }

    pub(super) fn connect(&mut self, host: usize, starts: u64, tries: u64) {
        let db = &mut self.hosts[host].db;
        if !db.running || db.primary || db.starts != starts {
            return;
        }
        let waits = db.receiver.filter(|r| !r.streaming && r.tries == tries);
        let Some(receiver) = waits else { return };
        if db.hung {
            self.after(RECONNECT, Event::Connect { host, starts, tries });
            return;
        }
        let connection = self.connections + 1;
        self.connections = connection;
        db.receiver = Some(Receiver { connection, ..receiver });
        let position = db.position();
        if let Some(at) =
            self.net.stream(self.now, &mut self.random, host, receiver.from, Carries::Log)
        {
            self.queue.push(
                at,
                Event::Connected { to: receiver.from, from: host, connection, at: position },
            );
        }
        self.after(RECONNECT, Event::Connect { host, starts, tries });
    }

    pub(super) fn connected(&mut self, to: usize, from: usize, connection: u64, at: Position) {
        let now = self.now;
        let same = self.hosts[to].db.system == self.hosts[from].db.system;
        let db = &mut self.hosts[to].db;
        // A log of another system, that parted from this one, or is ahead of it, cannot be
        // continued.
        let fits = same && db.history.continues(at) && at.lsn <= db.flushed;
        if !db.running || db.hung || !fits {
            return;
        }
        let sender = Sender { sent: at.lsn, flushed: Lsn(0), heard: now, connection, told: 0 };
        db.senders.insert(from, sender);
        if let Some(agent) = &mut self.hosts[to].agent {
            agent.report_due = true;
        }
        self.send_chunk(to, from, sender);
    }

    /// At every look: word to the standbys, and streams that are silent for too long end.
    pub(super) fn keep_alive(&mut self, host: usize) {
        let now = self.now;
        let Some(agent) = &mut self.hosts[host].agent else { return };
        agent.looks += 1;
        let says = agent.looks.is_multiple_of(LOOKS_PER_KEEPALIVE);
        let db = &mut self.hosts[host].db;
        if !db.running || db.hung {
            return;
        }
        db.senders.retain(|_, s| now.since(s.heard) < STREAM_SILENCE_MAX);
        let silent = |r: &Receiver| r.streaming && now.since(r.heard) >= STREAM_SILENCE_MAX;
        if db.receiver.as_ref().is_some_and(silent) {
            self.stream_ended(host, Span::millis(5));
        }
        if says {
            let standbys: Vec<(usize, Sender)> =
                self.hosts[host].db.senders.iter().map(|(i, s)| (*i, *s)).collect();
            for (standby, sender) in standbys {
                self.send_chunk(host, standby, sender);
            }
        }
    }
}
