//! From standby to primary, and a primary under a changed synchronous set: each with the proof that
//! it is so.

use std::time::Duration;

use super::sql::{self, Look};
use super::{Done, Driver, Failed, LOOK_INTERVAL, PROMOTE_MAX, failed, files, settings};
use crate::agent::host;
use crate::model::{Epoch, NodeId, Span, SyncSet};

/// How often a promotion that takes long asks what holds it up.
const FREE_INTERVAL: Span = Span::millis(100);

impl Driver {
    /// Promotes in `epoch`: the synchronous set first, the timeline of that number, and the proof
    /// that it is so.
    pub(super) async fn promote(&mut self, epoch: Epoch, sync: &SyncSet) -> Done {
        self.resource.stopped = None;
        if !self.adopt() {
            return failed("the database is not running, so it cannot be promoted");
        }
        let names =
            |s: &SyncSet| (s.members.iter().map(|m| m.node.clone()).collect::<Vec<_>>(), s.k);
        let before = std::mem::replace(&mut self.sync, sync.clone());
        let changed = names(&before) != names(sync);
        let recovery: bool =
            self.client().await?.query_one("SELECT pg_is_in_recovery()", &[]).await?.get(0);
        let data_dir = self.setup.config.data_dir.clone();
        self.promoting = recovery;
        if recovery {
            let current = files::newest_timeline(&data_dir).unwrap_or(0);
            files::place_timelines(&data_dir, current, epoch.0)?;
        }
        let expected = settings::sync_setting(sync);
        if !recovery {
            let found = self.sync_in_force().await?;
            let before = settings::sync_setting(&before);
            self.take_watch_up(epoch, &found, [&before, &expected]);
        }
        self.reload(self.settings(None))?;
        let until = host::now() + PROMOTE_MAX;
        loop {
            let found = self.sync_in_force().await?;
            if found == expected {
                break;
            }
            if host::now() > until {
                return failed(format!(
                    "synchronous_standby_names is {found:?} although {expected:?} was written"
                ));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if recovery {
            self.free_replay("it is promoted").await?;
            let mut asked = host::now();
            self.client().await?.query_one("SELECT pg_promote(false)", &[]).await?;
            loop {
                let row = self.client().await?.query_one("SELECT pg_is_in_recovery()", &[]).await?;
                if !row.get::<_, bool>(0) {
                    break;
                }
                if host::now() > until {
                    return failed(self.why_not_promoted().await);
                }
                // Sessions that were let in after the last look may hold it up too.
                if host::now().since(asked) >= FREE_INTERVAL {
                    self.free_all_replay("it is promoted").await?;
                    asked = host::now();
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            self.begin_watch(epoch).await;
        }
        let Look::Primary(look) = sql::look(self.client().await?).await? else {
            return failed("the server is in recovery again");
        };
        if recovery && u64::from(look.timeline) != epoch.0 {
            return failed(format!(
                "the promotion made timeline {}, not {epoch}: a history file is missing or foreign",
                look.timeline
            ));
        }
        let own = self.expected.borrow().own;
        if !recovery && own.is_some_and(|own| own != look.timeline) {
            let why = format!(
                "it accepts writes on timeline {}, which this node did not open (promoted by hand)",
                look.timeline
            );
            self.stop_stray(&why).await;
            return failed(why);
        }
        self.note_primary(&look);
        self.resource.history = Some(files::history(&data_dir, look.timeline));
        self.pulse.expect_writes(true);
        if changed && !recovery {
            self.confirm_under(epoch, sync).await?;
        }
        Ok(())
    }

    /// A command of the user's runs at the end of recovery, and a promotion waits for it.
    async fn why_not_promoted(&mut self) -> String {
        let sql = "SELECT current_setting('recovery_end_command') <> ''";
        let command = match self.client().await {
            Ok(client) => client.query_one(sql, &[]).await.is_ok_and(|row| row.get(0)),
            Err(_) => false,
        };
        let waits = if command {
            "; a promotion waits for recovery_end_command, which is set here: mend it, or take it \
             out of the configuration"
        } else {
            ""
        };
        format!("the server has not promoted within {PROMOTE_MAX}{waits}")
    }

    async fn sync_in_force(&mut self) -> Result<String, Failed> {
        let sql = "SELECT current_setting('synchronous_standby_names')";
        Ok(self.client().await?.query_one(sql, &[]).await?.get(0))
    }

    /// A changed synchronous set is in force when every walsender has taken it up and a write has
    /// waited for it: what was confirmed before is then on the new set too.
    async fn confirm_under(&mut self, epoch: Epoch, sync: &SyncSet) -> Done {
        let mut write: Option<tokio::task::JoinHandle<Result<Span, sql::LookError>>> = None;
        loop {
            self.look().await;
            self.tell().await;
            if !self.adopt() {
                return failed("the server ended while a changed synchronous set was taken up");
            }
            let named = |node: &NodeId| sync.members.iter().any(|m| m.node == *node);
            let standbys = self.facts.standbys.iter().filter(|s| s.streams());
            let taken_up = standbys
                .into_iter()
                .all(|s| (s.sync_state != "async") == (named(&s.node) && sync.k > 0));
            match &mut write {
                None if taken_up => {
                    let config = self.setup.config.clone();
                    write = Some(tokio::spawn(async move { sql::prove(&config, epoch.0).await }));
                }
                Some(under_way) if under_way.is_finished() => match under_way.await? {
                    Ok(_) => return Ok(()),
                    Err(error) => {
                        self.facts.trouble =
                            format!("a write under the changed synchronous set: {error}");
                        write = None;
                    }
                },
                _ => {}
            }
            tokio::time::sleep(LOOK_INTERVAL / 4).await;
        }
    }
}
