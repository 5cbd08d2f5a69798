//! Making, rewinding and cloning an instance. Log that a rebuild would erase is copied
//! away first.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::files::{self, Control};
use super::start::at_least;
use super::{Done, Driver, Failed, failed, unfinished};
use crate::agent::host;
use crate::agent::machine::Upstream;
use crate::model::observation::ResourceState;
use crate::model::{Lsn, Position, Span, TimelineHistory};

/// The name under which tools connect: never a node's, or a server would take their word for a
/// standby's.
pub(super) const TOOL: &str = "quorate-rebuild";

/// Pauses after a rebuild that failed: doubled from the first to the second.
const PAUSE_MIN: Span = Span::secs(1);
const PAUSE_MAX: Span = Span::secs(60);

/// Room that stays free beside a fork.
const FORK_RESERVE: u64 = 64 << 20;

impl Driver {
    /// A new, empty database.
    pub(super) async fn init(&mut self) -> Done {
        self.state(ResourceState::Rebuilding);
        self.facts.trouble.clear();
        self.tell().await;
        let (config, args) = (self.setup.config.clone(), self.setup.initdb_args.clone());
        tracing::info!("making a new database in {}", config.data_dir.display());
        self.setup
            .programs
            .run("initdb", |c| {
                c.arg("-D")
                    .arg(&config.data_dir)
                    .args(["-U", &config.user, "--encoding=UTF8", "--locale=C", "--data-checksums"])
                    .args(args);
            })
            .await?;
        Ok(())
    }

    /// Before a start that will follow `upstream`: a former primary past the switch point is
    /// rewound or cloned.
    pub(super) async fn make_followable(&mut self, upstream: &Upstream) -> Done {
        let data_dir = self.setup.config.data_dir.clone();
        let Some(history) = &upstream.history else { return Ok(()) };
        if unfinished::is_here(&self.setup) {
            return self.reclone(upstream).await;
        }
        let control = Control::read(&self.setup.programs, &data_dir).await?;
        if !self.is_apart(history) && !self.prints.unknown {
            let clean = control.is_clean_primary() && history.continues(control.checkpoint);
            if control.was_standby() && !self.can_start(&control) {
                // It can say nothing any more, and no rewind begins with what does not start.
                tracing::warn!("what is here has to replay log that its own history left: cloning");
                self.keep_fork(history, &control)?;
                return self.reclone(upstream).await;
            }
            if clean || control.was_standby() || control.checkpoint.timeline == history.timeline {
                return Ok(());
            }
        }
        // It crashed as a primary: its control file does not say where its log ends.
        self.rewind(upstream, history, &control).await
    }

    /// A history of a line that this standby's log has left, and of which no log is here: with it
    /// the server would not start, and could not even say where its log ends. It is fetched again.
    pub(super) async fn drop_histories_it_left(&mut self) -> Done {
        let data_dir = self.setup.config.data_dir.clone();
        let control = Control::read(&self.setup.programs, &data_dir).await?;
        if control.was_standby() {
            for timeline in
                files::drop_histories(&data_dir, [control.checkpoint, control.consistent])?
            {
                tracing::warn!("the history of timeline {timeline} is not this log's: removed");
            }
        }
        Ok(())
    }

    /// A standby starts towards the newest history that is in its log folder, and not at all where
    /// its own log has left that: a rewind or a receiver that was cut short may have fetched it.
    fn can_start(&self, control: &Control) -> bool {
        let Some(newest) = files::newest_history(&self.setup.config.data_dir) else { return true };
        let needs = [control.checkpoint, control.consistent];
        let on_it = |at: &Position| at.timeline == 0 || newest.continues(*at);
        newest.timeline < control.checkpoint.timeline || needs.iter().all(on_it)
    }

    /// A running standby is past the switch point: stop it and rewind it.
    pub(super) async fn rejoin(&mut self, upstream: &Upstream, position: Position) -> Done {
        let Some(history) = &upstream.history else { return Ok(()) };
        tracing::warn!(
            "what is here up to {position} is not on the way of {}'s timeline {}, or not proved to \
             be: rewinding",
            upstream.node,
            history.timeline
        );
        // While the source does not answer, a standby of nobody is worth more than a stopped one:
        // it can say where its log ends.
        self.paced(upstream)?;
        let checkpoint = self.checkpoint_at(upstream).await;
        self.pace(upstream, checkpoint)?;
        self.stop_gracefully().await?;
        let control = Control::read(&self.setup.programs, &self.setup.config.data_dir).await?;
        self.rewind(upstream, history, &control).await
    }

    async fn rewind(
        &mut self,
        upstream: &Upstream,
        history: &TimelineHistory,
        control: &Control,
    ) -> Done {
        self.paced(upstream)?;
        let rewound = self.rewind_or_clone(upstream, history, control).await;
        self.pace(upstream, rewound)
    }

    async fn rewind_or_clone(
        &mut self,
        upstream: &Upstream,
        history: &TimelineHistory,
        control: &Control,
    ) -> Done {
        self.same_system(upstream, control).await?;
        self.setup.programs.end_leftovers().await.map_err(Failed)?;
        self.checkpoint_at(upstream).await?;
        self.state(ResourceState::Rebuilding);
        self.facts.trouble = format!("rewinding to follow {}", upstream.node);
        self.resource.stopped = None;
        self.tell().await;
        self.find_data();
        self.keep_fork(history, control)?;
        if self.must_be_cloned(history, control) {
            self.keep_stray(control)?;
            return self.reclone(upstream).await;
        }
        // A crashed server needs its own recovery first; then the rewind has a consistent state to
        // start from.
        if !control.is_clean() {
            self.recover_alone(control).await?;
        }
        // Only looked at: what fails here has touched nothing, and the copy stays what it was.
        let rewound = match self.try_rewind(upstream).await {
            Ok(()) => self.rewind_to(upstream).await,
            tried => tried,
        };
        let Err(why) = rewound else { return Ok(()) };
        tracing::warn!("pg_rewind could not: {}; cloning instead", why.0);
        self.clone_from(upstream)
            .await
            .map_err(|also| Failed(format!("{}; cloning {}: {}", why.0, upstream.node, also.0)))
    }

    async fn try_rewind(&mut self, upstream: &Upstream) -> Done {
        let arguments = self.rewind_arguments(upstream)?;
        let doing = format!("rewinding to follow {}", upstream.node);
        let tried = self.run_shown("pg_rewind", &doing, |c| _ = c.args(arguments).arg("--dry-run"));
        tried.await
    }

    pub(super) fn rewind_arguments(&self, upstream: &Upstream) -> Result<Vec<OsString>, Failed> {
        let Some(source) = self.conninfo(&upstream.node, TOOL) else {
            return failed("no way to it is configured");
        };
        let source = format!("{source} dbname={}", self.setup.config.database);
        let data_dir = self.setup.config.data_dir.clone();
        Ok(vec![
            "-D".into(),
            data_dir.into(),
            "--source-server".into(),
            source.into(),
            "--no-ensure-shutdown".into(),
            "--progress".into(),
        ])
    }

    async fn recover_alone(&mut self, control: &Control) -> Done {
        let data_dir = self.setup.config.data_dir.clone();
        let _ = std::fs::remove_file(data_dir.join("standby.signal"));
        let arguments = self.fixed_arguments(|name| Some(at_least("", control.demands(name))));
        self.setup
            .programs
            .run("postgres", |c| {
                c.args(["--single", "-D"]).arg(&data_dir).args(arguments).args([
                    "-c",
                    "synchronous_standby_names=",
                    "template1",
                ]);
            })
            .await?;
        Ok(())
    }

    /// Every timeline here is kept from where it leaves the history that is followed; a foreign one
    /// whole.
    fn keep_fork(&mut self, history: &TimelineHistory, control: &Control) -> Done {
        let data_dir = &self.setup.config.data_dir.clone();
        for timeline in files::timelines(data_dir).into_iter().filter(|t| *t != history.timeline) {
            let from = history.left_at(timeline).unwrap_or(Lsn(0));
            let (folder, count) = files::keep_fork(
                data_dir,
                &self.fork_folder()?,
                timeline,
                from,
                control.segment_bytes,
            )?;
            tracing::warn!(
                "kept {count} log segments of timeline {timeline} from {from} on in {}",
                folder.display()
            );
            let line = self.resource.data.line.as_ref();
            let end = end_of(timeline, line, self.resource.position);
            if end.is_none_or(|end| end > from) {
                self.note_given_up(timeline, from, end, &folder, count);
            }
        }
        Ok(())
    }

    /// For the audit: which log is given up, and where it is kept. A rebuild that is tried again
    /// gives up the same.
    pub(super) fn note_given_up(
        &mut self,
        timeline: u32,
        from: Lsn,
        end: Option<Lsn>,
        folder: &Path,
        segments: usize,
    ) {
        let range = end.map_or_else(
            || "up to an end that nobody knows".to_owned(),
            |end| format!("to {end}, {} B", end.bytes_since(from)),
        );
        let what = format!(
            "its log of timeline {timeline} from {from} {range}, is not in the history that it follows"
        );
        let done = format!(
            "set aside in {} ({segments} segments): quorate fork show looks into it; whether \
             anything acknowledged is in it says the loss account of the move that left it",
            folder.display()
        );
        if !self.facts.found.iter().any(|f| f.what == what && f.done == done) {
            self.note_found(what, done);
        }
    }

    /// Where forked log is kept: in the state folder, as long as that leaves room for what the voter
    /// has to save there; else beside the data, where it came from.
    pub(super) fn fork_folder(&self) -> Result<PathBuf, Failed> {
        let data_dir = &self.setup.config.data_dir;
        let log = files::log_bytes(data_dir);
        let beside = data_dir.with_extension("forks");
        let has_room = |folder: &Path| host::disk(folder).0 > log + FORK_RESERVE;
        let (state, parent) = (&self.setup.state_dir, beside.parent().unwrap_or(data_dir));
        if has_room(state) {
            return Ok(self.setup.forks.clone());
        }
        if has_room(parent) {
            return Ok(beside);
        }
        failed(format!(
            "its log goes apart and has to be kept before it is rebuilt: {} MiB are needed in {} or \
             {}: make room there",
            (log + FORK_RESERVE) >> 20,
            state.display(),
            parent.display()
        ))
    }

    /// A new copy in place of the one that is here, which stays until the new one is whole, and
    /// goes on running if it does.
    pub(super) async fn reclone(&mut self, upstream: &Upstream) -> Done {
        self.paced(upstream)?;
        let data_dir = self.setup.config.data_dir.clone();
        let cloned = async {
            match Control::read(&self.setup.programs, &data_dir).await {
                Ok(control) => self.same_system(upstream, &control).await?,
                // Half-rewound from there: it was the same before.
                Err(_) if unfinished::is_here(&self.setup) => {}
                Err(error) => return Err(error.into()),
            }
            self.clone_from(upstream).await
        }
        .await;
        self.pace(upstream, cloned)
    }

    /// A rebuild that failed is not tried again at once: each try costs the upstream a checkpoint
    /// and a copy.
    fn paced(&self, upstream: &Upstream) -> Done {
        let thirst = &self.thirst;
        match &thirst.failed {
            Some((node, until, why)) if *node == upstream.node && host::now() < *until => {
                failed(format!("{why} (tried again in {})", host::now().until(*until)))
            }
            _ => Ok(()),
        }
    }

    fn pace(&mut self, upstream: &Upstream, done: Done) -> Done {
        match &done {
            Ok(()) => {
                self.thirst.failed = None;
                self.thirst.pause = PAUSE_MIN;
            }
            Err(why) => {
                let again = self.thirst.failed.as_ref().is_some_and(|(n, ..)| *n == upstream.node);
                let pause = if again { Span(self.thirst.pause.0 * 2) } else { PAUSE_MIN };
                self.thirst.pause = pause.min(PAUSE_MAX);
                let until = host::now() + self.thirst.pause;
                self.thirst.failed = Some((upstream.node.clone(), until, why.0.clone()));
            }
        }
        done
    }
}

/// Where the log of one timeline ends here; `None`: nobody knows. `line` is the line that it is on,
/// `position` the end of that.
fn end_of(
    timeline: u32,
    line: Option<&TimelineHistory>,
    position: Option<Position>,
) -> Option<Lsn> {
    let line = line?;
    line.left_at(timeline).or_else(|| position.filter(|p| p.timeline == timeline).map(|p| p.lsn))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_what_is_given_up_is_known_or_not() {
        let line = TimelineHistory { timeline: 3, left: vec![(1, Lsn(100)), (2, Lsn(200))] };
        let at = |timeline, lsn| Some(Position { timeline, lsn: Lsn(lsn) });
        assert_eq!(end_of(2, Some(&line), at(3, 300)), Some(Lsn(200)));
        assert_eq!(end_of(3, Some(&line), at(3, 300)), Some(Lsn(300)));
        assert_eq!(end_of(3, Some(&line), None), None, "it crashed");
        assert_eq!(end_of(4, Some(&line), at(3, 300)), None);
        assert_eq!(end_of(3, None, at(3, 300)), None);
    }
}
