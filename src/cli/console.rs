//! `quorate console`, and `quorate` alone: a lab in a temporary folder with the console on it.

use std::io::IsTerminal as _;

use clap::Args;
use color_eyre::Result;
use color_eyre::eyre::eyre;
use tokio::sync::mpsc;

use super::Outcome;
use super::person::Person;
use crate::config::Identity;
use crate::console::{self, Options, Source, Step, keymap, theme};
use crate::lab::Lab;
use crate::model::topology::Strategy;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    person: Person,
    #[command(flatten)]
    look: Look,
}

/// How the console looks.
#[derive(Debug, Args)]
pub(super) struct Look {
    /// A built-in theme (dark, light, term16, mono, projector, hc-dark, hc-light, cvd-dark,
    /// cvd-light) or a file.
    #[arg(long)]
    theme: Option<String>,
    /// A built-in keymap (default, vim, helix, emacs, auditor) or a file.
    #[arg(long)]
    keymap: Option<String>,
    /// Only ASCII characters.
    #[arg(long)]
    ascii: bool,
    /// A session that cannot express a change.
    #[arg(long)]
    read_only: bool,
    /// Begin at this cluster.
    #[arg(long)]
    cluster: Option<String>,
}

/// `quorate` without a command.
#[derive(Debug, Args)]
pub(super) struct Alone {
    #[command(flatten)]
    look: Look,
    /// Keep the lab's folder and name it at the end.
    #[arg(long)]
    keep: bool,
    /// The lab asks a person before it fails over.
    #[arg(long)]
    manual: bool,
}

impl Look {
    fn options(&self) -> Result<Options> {
        let read = |asked: &Option<String>,
                    built_in: &[(&str, &str)],
                    kind: &str|
         -> Result<Option<(String, String)>> {
            let Some(name) = asked else { return Ok(None) };
            if let Some((name, text)) = built_in.iter().find(|(n, _)| n == name) {
                return Ok(Some(((*name).to_owned(), (*text).to_owned())));
            }
            let known: Vec<&str> = built_in.iter().map(|(n, _)| *n).collect();
            let text = std::fs::read_to_string(name).map_err(|e| {
                eyre!(
                    "{kind} {name:?} is neither built in ({}) nor a readable file: {e}",
                    known.join(", ")
                )
            })?;
            Ok(Some((name.clone(), text)))
        };
        Ok(Options {
            theme: read(&self.theme, theme::BUILT_IN, "theme")?,
            keymap: read(&self.keymap, keymap::BUILT_IN, "keymap")?,
            ascii: self.ascii,
            read_only: self.read_only,
            cluster: self.cluster.clone(),
        })
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<Outcome> {
    let options = arguments.look.options()?;
    let identity = arguments.person.identity()?;
    need_terminal()?;
    super::log_to_file("console");
    runtime()?
        .block_on(console::run(Source::Identity(Box::new(identity)), options))
        .map_err(|e| eyre!(e))?;
    Ok(Outcome::Done)
}

/// One thread: what arrives wakes it once, and nothing is handed from thread to thread.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn need_terminal() -> Result<()> {
    if std::io::stdout().is_terminal() && std::io::stdin().is_terminal() {
        return Ok(());
    }
    Err(eyre!(
        "the console needs a terminal; for scripts there are `quorate status`, `plan`, `execute`, \
            `switchover`, `audit` and `quorate lab up`"
    ))
}

pub(super) fn alone(arguments: &Alone) -> Result<Outcome> {
    let options = arguments.look.options()?;
    need_terminal()?;
    let simulated = super::lab::must_simulate()?;
    super::log_to_file("lab");
    let folder = tempfile::Builder::new().prefix("quorate-").tempdir()?.keep();
    let program = std::env::current_exe()?;
    let strategy = if arguments.manual { Strategy::Manual } else { Strategy::Automatic };
    let lab_options = crate::lab::Options { strategy, simulated, ..crate::lab::Options::default() };
    let (steps, inbox) = mpsc::channel(32);
    let making = {
        let folder = folder.clone();
        std::thread::spawn(move || make(&folder, lab_options, &program, &steps))
    };
    let left =
        runtime()?.block_on(console::run(Source::Starting(inbox), options)).map_err(|e| eyre!(e));
    // Leaving early waits for what was begun, so that it can be ended.
    let lab = making
        .join()
        .map_err(|_| eyre!("making the lab failed; its folder is {}", folder.display()))?;
    match lab {
        Some(lab) => lab.down(arguments.keep)?,
        None if !arguments.keep => std::fs::remove_dir_all(&folder)?,
        None => {}
    }
    left?;
    if arguments.keep {
        eprintln!("the lab's folder: {}", folder.display());
    }
    Ok(Outcome::Done)
}

fn make(
    folder: &std::path::Path,
    options: crate::lab::Options,
    program: &std::path::Path,
    steps: &mpsc::Sender<Result<Step, String>>,
) -> Option<Lab> {
    // The console may have gone; the lab is ended all the same.
    let said = |text: &str| _ = steps.blocking_send(Ok(Step::Said(text.to_owned())));
    let lab = match Lab::create(folder, options, program, said) {
        Ok(lab) => lab,
        Err(error) => {
            let _ = steps.blocking_send(Err(error.to_string()));
            return Lab::open(folder).ok();
        }
    };
    let ready = Identity::read(&lab.identity("operator"))
        .map(|i| Step::Ready(Box::new(i)))
        .map_err(|e| e.to_string());
    let _ = steps.blocking_send(ready);
    Some(lab)
}
