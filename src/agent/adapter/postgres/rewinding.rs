//! A rewind that has begun to touch what is here. Half of one leaves a copy that only a clone mends,
//! so it goes on to its end whatever the goal is meanwhile, and nothing else touches the folder
//! before. It costs no claim anything: nothing is received while it runs. One that stands still is
//! ended: its source may be a host that never answers again.

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::clone::SHOWN_EVERY;
use super::unfinished::{self, Unfinished};
use super::{Done, Driver, Failed, ProgramError, configuration, failed};
use crate::agent::host;
use crate::agent::host::stillness::Stillness;
use crate::agent::machine::Upstream;
use crate::model::{NodeId, Span};

/// One that reads and writes nothing for so long is ended.
const STILL_MAX: Span = Span::secs(30);

/// One that runs.
#[derive(Debug)]
pub(super) struct Rewinding {
    from: NodeId,
    lines: watch::Receiver<String>,
    task: JoinHandle<Result<String, ProgramError>>,
}

impl Driver {
    /// Rewinds to follow `upstream`, and waits for the end.
    pub(super) async fn rewind_to(&mut self, upstream: &Upstream) -> Done {
        let arguments = self.rewind_arguments(upstream)?;
        configuration::keep(&self.setup.config.data_dir, &self.setup.state_dir)?;
        unfinished::write(&self.setup, &Unfinished::Rewind)?;
        let (told, lines) = watch::channel(String::new());
        let programs = self.setup.programs.clone();
        let task = tokio::spawn(async move {
            programs.run_telling("pg_rewind", |c| _ = c.args(arguments), Some(told)).await
        });
        self.rewinding = Some(Rewinding { from: upstream.node.clone(), lines, task });
        self.end_rewind().await
    }

    /// Waits for the end of one that an earlier goal began, or this one.
    pub(super) async fn end_rewind(&mut self) -> Done {
        let mut shown = tokio::time::interval(SHOWN_EVERY);
        let mut still = Stillness::default();
        let ended = loop {
            let Some(rewinding) = &mut self.rewinding else { return Ok(()) };
            tokio::select! {
                biased;
                ended = &mut rewinding.task => break ended,
                _ = shown.tick() => {
                    let line = rewinding.lines.borrow_and_update().clone();
                    self.facts.trouble = format!("rewinding to follow {}: {line}", rewinding.from);
                    self.tell().await;
                    let running = self.setup.programs.running();
                    if still.look(&running, 1, host::now()) > STILL_MAX {
                        return self.give_up_rewind().await;
                    }
                }
            }
        };
        self.rewinding = None;
        ended??;
        configuration::put_back(&self.setup.config.data_dir, &self.setup.state_dir)?;
        unfinished::remove(&self.setup)?;
        tracing::info!("rewound");
        self.note_rebuilt()
    }

    async fn give_up_rewind(&mut self) -> Done {
        let Some(rewinding) = self.rewinding.take() else { return Ok(()) };
        rewinding.task.abort();
        self.setup.programs.end_leftovers().await.map_err(Failed)?;
        failed(format!("the rewind from {} stood still for {STILL_MAX}", rewinding.from))
    }
}
