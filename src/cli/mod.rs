//! One file per subcommand; the only room that knows all others.

mod lab;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Failover for replicated databases, with a console to trust at 3 a.m.
#[derive(Debug, Parser)]
#[command(name = "quorate", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent of one node.
    Agent {
        /// Its agent.yaml.
        #[arg(long)]
        config: PathBuf,
    },
    /// Run a control plane.
    Plane {
        /// Its plane.yaml.
        #[arg(long)]
        config: PathBuf,
    },
    /// Run the guard of one node (started by its agent).
    #[command(hide = true)]
    Guard {
        #[arg(long)]
        state_dir: PathBuf,
        #[arg(long)]
        data_dir: PathBuf,
    },
    /// A real cluster on this machine, to try, test and drill on.
    Lab(lab::Arguments),
}

/// What a command came to; the exit code says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Done. 0
    Done,
    /// An error: a file, an address, the environment. 1
    Error,
}

/// Runs the program.
pub fn main() -> ExitCode {
    if let Err(error) = color_eyre::install() {
        eprintln!("{error}");
    }
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Some(Command::Agent { config }) => {
            log();
            agent(&config)
        }
        Some(Command::Plane { config }) => {
            log();
            plane(&config)
        }
        Some(Command::Guard { state_dir, data_dir }) => {
            crate::agent::guard::run(&state_dir, &data_dir).map(|()| Outcome::Done).map_err(Into::into)
        }
        Some(Command::Lab(arguments)) => lab::run(arguments),
        None => Err(color_eyre::eyre::eyre!("no console yet")),
    };
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Error) => ExitCode::from(1),
        Err(error) => {
            eprintln!("quorate: {error:#}");
            ExitCode::from(1)
        }
    }
}

fn log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("QUORATE_LOG").unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
}

fn agent(config: &std::path::Path) -> color_eyre::Result<Outcome> {
    let config = crate::config::AgentConfig::read(config)?;
    runtime()?.block_on(crate::agent::runtime::run(config))?;
    Ok(Outcome::Done)
}

fn plane(config: &std::path::Path) -> color_eyre::Result<Outcome> {
    let config = crate::config::PlaneConfig::read(config)?;
    runtime()?.block_on(crate::plane::runtime::run(config))?;
    Ok(Outcome::Done)
}
