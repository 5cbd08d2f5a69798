//! Incidents as files (`tests/scenarios/*.txt`): the name is the headline, the first comment the
//! story. A line is a command; what it says is recorded below it, indented. Found at run time.
//! `UPDATE_GOLDEN=1` records anew: read every line of it.
//!
//! Three voters n1 to n3; n1 holds epoch 1 with commits waiting for one of n2 and n3; D = 100, G =
//! 10.
//!
//! | command | what happens |
//! |---|---|
//! | `time N` | it is N |
//! | `log NODE N` | the node's log ends at N |
//! | `receiving NODE` / `cut NODE` | it receives from its upstream / is cut off durably |
//! | `writable NODE` / `stopped NODE` | its database could write / could not |
//! | `renew NODE epoch=E to=A,B [duration=D] [version=V] [promoted=no]` | a holder's renewal reaches these voters |
//! | `ask NODE epoch=E to=A,B` | what a claim would get |
//! | `claim NODE epoch=E to=A,B [version=V]` | a claim reaches these voters; then where it stands |
//! | `release NODE epoch=E to=A,B [end=N] [promoted=no]` | a release reaches these voters |
//! | `restart NODE` | its volatile state is gone |
//! | `reinstall NODE` | it comes back with a new incarnation and nothing durable |

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed expectation is a failed test"
)]

use std::collections::{BTreeMap, BTreeSet};

use quorate::lease::{
    Claim, ClaimRequest, Cut, EpochSync, Local, ReleaseNotice, Renew, Standing, Terms, Voter,
    VoterRecord,
};
use quorate::model::{
    Epoch, Lsn, Member, Position, Span, SyncSet, TimelineHistory, Timestamp, VoterSet,
};

const TERMS: Terms = Terms { duration: Span(100), grace: Span(10) };

struct World {
    now: Timestamp,
    voters: BTreeMap<String, (Voter, Local)>,
    log: BTreeMap<String, u64>,
    claims: BTreeMap<(String, u64), Claim>,
}

fn member(node: &str) -> Member {
    Member::new(node, "first")
}
fn set() -> VoterSet {
    VoterSet { version: 1, members: ["n1", "n2", "n3"].map(member).into_iter().collect() }
}
fn sync_of(node: &str) -> SyncSet {
    SyncSet {
        members: set().members.iter().filter(|m| m.node.as_str() != node).cloned().collect(),
        k: 1,
    }
}

struct Words<'a>(Vec<&'a str>);

impl Words<'_> {
    fn node(&self) -> String {
        self.0.get(1).unwrap_or_else(|| panic!("{:?} names no node", self.0)).to_string()
    }
    fn value(&self, key: &str) -> Option<String> {
        self.0.iter().find_map(|w| w.strip_prefix(key)?.strip_prefix('=')).map(str::to_owned)
    }
    fn number(&self, key: &str, default: u64) -> u64 {
        self.value(key).map_or(default, |v| v.parse().unwrap())
    }
    fn to(&self) -> Vec<String> {
        self.value("to")
            .unwrap_or_default()
            .split(',')
            .filter(|w| !w.is_empty())
            .map(str::to_owned)
            .collect()
    }
}

impl World {
    fn new() -> Self {
        let entry = EpochSync {
            epoch: Epoch(1),
            holder: member("n1"),
            sync: sync_of("n1").into(),
            won: true,
            promoted: true,
            doubt: quorate::model::loss::Doubt::default(),
        };
        let voters = ["n1", "n2", "n3"].map(|node| {
            let record = VoterRecord {
                voters: Some(set()),
                epoch: Epoch(1),
                holder: Some(member("n1")),
                history: vec![entry.clone()],
                ..VoterRecord::new(member(node))
            };
            let cut = if node == "n1" { Cut::Nothing } else { Cut::Not };
            (
                node.to_owned(),
                (
                    Voter::restore(record, TERMS, Timestamp(0)),
                    Local { not_writable: node != "n1", cut, unproved_line: false },
                ),
            )
        });
        let log = ["n1", "n2", "n3"].map(|n| (n.to_owned(), 0)).into_iter().collect();
        Self {
            now: Timestamp(0),
            voters: voters.into_iter().collect(),
            log,
            claims: BTreeMap::new(),
        }
    }

    fn request(&self, node: &str, words: &Words<'_>) -> ClaimRequest {
        ClaimRequest {
            voters: VoterSet { version: words.number("version", 1), ..set() },
            epoch: Epoch(words.number("epoch", 0)),
            candidate: self.voters[node].0.record().me.clone(),
            duration: TERMS.duration,
            sync: sync_of(node).into(),
            plan: None,
            approvals: vec![],
            released: self.voters[node].0.record().released.clone(),
            process: 0,
        }
    }

    fn run(&mut self, line: &str) -> Vec<String> {
        let words = Words(line.split_whitespace().collect());
        let now = self.now;
        match words.0[0] {
            "time" => {
                self.now = Timestamp(words.node().parse().unwrap());
                vec![]
            }
            "log" => {
                self.log.insert(words.node(), words.0[2].parse().unwrap());
                vec![]
            }
            "receiving" | "cut" | "writable" | "stopped" => {
                let node = words.node();
                let at = Position { timeline: 1, lsn: Lsn(self.log[&node]) };
                let local = &mut self.voters.get_mut(&node).unwrap().1;
                match words.0[0] {
                    "receiving" => local.cut = Cut::Not,
                    "cut" => local.cut = Cut::At(at),
                    "writable" => local.not_writable = false,
                    _ => local.not_writable = true,
                }
                vec![]
            }
            "renew" => {
                let holder = self.voters[&words.node()].0.record().me.clone();
                let renew = Renew {
                    voters_version: words.number("version", 1),
                    next_version: None,
                    epoch: Epoch(words.number("epoch", 0)),
                    sync: sync_of(holder.node.as_str()).into(),
                    holder,
                    round: 1,
                    duration: Span(words.number("duration", 100)),
                    promoted: (words.value("promoted").as_deref() != Some("no"))
                        .then(TimelineHistory::default),
                    system: None,
                    process: 0,
                    doubt: quorate::model::loss::Doubt::default(),
                };
                let promised = |node: &String, world: &mut Self| {
                    let voter = &mut world.voters.get_mut(node).unwrap().0;
                    match voter.renew(now, &renew).reply {
                        Ok(_) => format!("{node} promises until {}", voter.lease_until().0),
                        Err(why) => format!("{node} refuses: {}", ticks(&why)),
                    }
                };
                words.to().iter().map(|node| promised(node, self)).collect()
            }
            "ask" => {
                let request = self.request(&words.node(), &words);
                let say = |node: &String| match self.voters[node]
                    .0
                    .ask(now, &request, self.voters[node].1)
                    .refusal
                {
                    None => format!("{node} would grant"),
                    Some(why) => format!("{node} would refuse: {}", ticks(&why)),
                };
                words.to().iter().map(say).collect()
            }
            "claim" => {
                let node = words.node();
                let request = self.request(&node, &words);
                let incumbent = self.voters[&node]
                    .0
                    .record()
                    .last_won()
                    .is_some_and(|w| w.holder.node.as_str() == node);
                let key = (node.clone(), request.epoch.0);
                let mut claim = self
                    .claims
                    .remove(&key)
                    .unwrap_or_else(|| Claim::new(request.clone(), set(), now, incumbent));
                let mut said = vec![];
                for to in words.to() {
                    let (voter, local) = self.voters.get_mut(&to).unwrap();
                    match voter.claim(now, &request, *local).reply {
                        Ok(grant) => {
                            said.push(format!("{to} grants epoch {} to {node}", request.epoch));
                            claim.grant(grant);
                        }
                        Err(why) => said.push(format!("{to} refuses: {}", ticks(&why))),
                    }
                }
                said.push(match claim.standing(&[], false) {
                    Standing::Waiting { why } => format!("not won: {why}"),
                    Standing::Unfenced { why } => format!("not won: {why}"),
                    Standing::Won(win) => {
                        let fetch = win.fetch.map_or(String::new(), |(from, at)| {
                            format!("; fetch from {from} up to {}", at.lsn.0)
                        });
                        format!(
                            "won; fence: {}; loss: {}{fetch}",
                            win.fence.words(),
                            win.loss.short()
                        )
                    }
                });
                self.claims.insert(key, claim);
                said
            }
            "release" => {
                let node = words.node();
                let end = words
                    .value("end")
                    .map(|e| Position { timeline: 1, lsn: Lsn(e.parse().unwrap()) });
                let holder = self.voters[&node].0.record().me.clone();
                let notice = ReleaseNotice {
                    epoch: Epoch(words.number("epoch", 0)),
                    holder,
                    final_position: end,
                    promoted: words.value("promoted").as_deref() != Some("no"),
                    since: None,
                    process: 0,
                };
                for to in words.to() {
                    let _ = self.voters.get_mut(&to).unwrap().0.release(now, &notice);
                }
                vec![]
            }
            "restart" | "reinstall" => {
                let node = words.node();
                let voter = &mut self.voters.get_mut(&node).unwrap().0;
                let record = match words.0[0] {
                    "restart" => voter.record().clone(),
                    _ => VoterRecord::new(Member::new(node.as_str(), "second")),
                };
                *voter = Voter::restore(record, TERMS, now);
                vec![]
            }
            other => panic!("unknown command {other:?}"),
        }
    }
}

/// Here a nanosecond is a tick.
fn ticks(why: &quorate::lease::Refusal) -> String {
    match why {
        quorate::lease::Refusal::Promised { to, left } => {
            format!(
                "promised to {} for {} more",
                to.as_ref().map_or("it does not know whom", |m| m.node.as_str()),
                left.0
            )
        }
        other => other.to_string(),
    }
}

#[test]
fn every_incident_goes_as_recorded() {
    let mut files: Vec<_> =
        std::fs::read_dir("tests/scenarios").unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let mut seen = BTreeSet::new();
    let mut wrong = vec![];
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("# "), "{} does not open with its story", file.display());
        let mut world = World::new();
        let mut recorded = String::new();
        for line in text.lines().filter(|l| !l.starts_with("  ")) {
            recorded.push_str(line);
            recorded.push('\n');
            if !line.is_empty() && !line.starts_with('#') {
                for said in world.run(line) {
                    recorded.push_str(&format!("  {said}\n"));
                }
            }
        }
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&file, &recorded).unwrap();
        } else if recorded != text {
            wrong.push(format!("--- {}, as it goes now:\n{recorded}", file.display()));
        }
        seen.insert(file);
    }
    assert!(seen.len() >= 8, "only {} scenarios were found", seen.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
