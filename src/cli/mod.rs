//! One file per subcommand; the only room that knows all others.

mod adopt;
mod approval_key;
mod audit;
pub mod bytes;
mod console;
mod doctor;
mod evacuate;
mod files;
mod fork;
mod lab;
mod look;
mod manual;
mod node;
mod output;
mod person;
mod release;
mod replay;
mod rolling;
mod run;
mod simulate;
mod status;
mod why;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Failover for replicated databases, with a console to trust at 3 a.m.
#[derive(Debug, Parser)]
#[command(name = "quorate", version, after_help = EXIT_CODES, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(flatten)]
    alone: console::Alone,
    #[command(subcommand)]
    command: Option<Command>,
}

const EXIT_CODES: &str = "Without a command: a lab in a temporary folder (a real PostgreSQL \
    cluster), and the console on it.

Exit codes: 0 done · 1 error · 2 wrong usage · 3 refused, by a check that is named · 4 unknown, look before you act
            5 ended without the role moving as ordered · 6 degraded, 7 critical or unknown (status --check)";

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
    },
    /// Fetch one file of log from the user's archive (called by the server as its restore_command).
    #[command(hide = true)]
    WalFetch {
        #[arg(long)]
        state_dir: PathBuf,
        file: String,
        path: String,
        restart: Option<String>,
    },
    /// Run a simulated database in the present folder (started by an agent).
    #[command(hide = true)]
    SimDatabase {
        #[arg(long)]
        port: u16,
    },
    /// Open the console on a cluster.
    Console(console::Arguments),
    /// Themes of the console: list, show, check.
    Theme(look::Arguments),
    /// Keymaps of the console: list, show, check.
    Keymap(look::Arguments),
    /// Show the cluster.
    Status(status::Arguments),
    /// Make a plan for a move of the write role; nothing is done.
    Plan(run::PlanArguments),
    /// Execute a plan that was shown, and follow it to its end.
    Execute(run::ExecuteArguments),
    /// Drop the plan that waits.
    Dismiss(run::DismissArguments),
    /// Plan and execute a planned move of the write role.
    Switchover(run::SwitchoverArguments),
    /// Many clusters leave a region in waves, or follow each other into a warm standby.
    Evacuate(evacuate::Arguments),
    /// Why is it as it is, and why did nothing happen?
    Why(why::WhyArguments),
    /// Look at one node's host: settings, archive, slots, room, clocks, certificates, who else may
    /// start the server. Exit 6 when something wants minding, 7 when a promise does not hold.
    Doctor(doctor::Arguments),
    /// Take over a PostgreSQL that runs already: look at it, say what is missing, and begin.
    Adopt(adopt::Arguments),
    /// Give a server back as a plain PostgreSQL: its agent and guard end, and it goes on. Standbys
    /// first, then the primary, then the rest.
    Release(release::Arguments),
    /// Log that was given up by a rewind or a clone, and is kept: list, show, prune.
    Fork(fork::Arguments),
    /// Verify the present state, with a real write read back.
    Verify(why::VerifyArguments),
    /// Say that what happened is known: cooldown, rate and crash loops count anew.
    Acknowledge(why::AcknowledgeArguments),
    /// Feed a recorded journal to the engine again: the decisions must be identical.
    Replay(replay::ReplayArguments),
    /// Would a recorded incident have gone better under another policy?
    Backtest(replay::BacktestArguments),
    /// Change who votes and who confirms commits: add, remove, readmit, override.
    Node(node::Arguments),
    /// Play a scenario on a simulated cluster: the production code on a virtual clock.
    Simulate(simulate::Arguments),
    /// Show, export and verify the audit log.
    Audit(audit::Arguments),
    /// A real cluster on this machine, to try, test and drill on.
    Lab(lab::Arguments),
    /// Make a person's key for approvals, and print what goes into allowlist.yaml.
    ApprovalKey(approval_key::Arguments),
    /// Write man pages into a folder.
    Man(manual::ManArguments),
    /// Print the completions of a shell.
    Completions(manual::CompletionsArguments),
}

/// What a command came to; the exit code says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Done. 0
    Done,
    /// Something has to be named. 2
    Usage,
    /// Refused, by a check that is named. 3
    Refused,
    /// Nobody knows whether it was done; what to look at is said. 4
    Unknown,
    /// It ended without the role moving as ordered: aborted or rolled back. 5
    NotDone,
    /// `status --check`: writable, with less than it should have. 6
    Degraded,
    /// `status --check`: not writable, or not known. 7
    Critical,
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
        Some(Command::Guard { state_dir }) => {
            crate::agent::guard::run(&state_dir).map(|()| Outcome::Done).map_err(Into::into)
        }
        Some(Command::WalFetch { state_dir, file, path, restart }) => {
            let restart = restart.unwrap_or_default();
            let fetched =
                crate::agent::adapter::postgres::archive::fetch(&state_dir, &file, &path, &restart);
            Ok(if fetched { Outcome::Done } else { Outcome::NotDone })
        }
        Some(Command::SimDatabase { port }) => crate::agent::adapter::sim::database::run(port)
            .map(|()| Outcome::Done)
            .map_err(Into::into),
        Some(Command::Console(arguments)) => console::run(&arguments),
        Some(Command::Theme(arguments)) => look::themes(&arguments),
        Some(Command::Keymap(arguments)) => look::keymaps(&arguments),
        Some(Command::Status(arguments)) => status::run(&arguments),
        Some(Command::Plan(arguments)) => run::plan(&arguments),
        Some(Command::Execute(arguments)) => run::execute(&arguments),
        Some(Command::Dismiss(arguments)) => run::dismiss(&arguments),
        Some(Command::Switchover(arguments)) => run::switchover(&arguments),
        Some(Command::Evacuate(arguments)) => evacuate::run(&arguments),
        Some(Command::Why(arguments)) => why::why(&arguments),
        Some(Command::Doctor(arguments)) => doctor::run(&arguments),
        Some(Command::Adopt(arguments)) => adopt::run(&arguments),
        Some(Command::Release(arguments)) => release::run(&arguments),
        Some(Command::ApprovalKey(arguments)) => approval_key::run(&arguments),
        Some(Command::Man(arguments)) => manual::man(&arguments),
        Some(Command::Completions(arguments)) => manual::completions(&arguments),
        Some(Command::Fork(arguments)) => fork::run(&arguments),
        Some(Command::Verify(arguments)) => why::verify(&arguments),
        Some(Command::Acknowledge(arguments)) => why::acknowledge(&arguments),
        Some(Command::Replay(arguments)) => replay::replay(&arguments),
        Some(Command::Backtest(arguments)) => replay::backtest(&arguments),
        Some(Command::Node(arguments)) => node::run(&arguments),
        Some(Command::Simulate(arguments)) => simulate::run(&arguments),
        Some(Command::Audit(arguments)) => audit::run(&arguments),
        Some(Command::Lab(arguments)) => lab::run(arguments),
        None => console::alone(&arguments.alone),
    };
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Usage) => ExitCode::from(2),
        Ok(Outcome::Refused) => ExitCode::from(3),
        Ok(Outcome::Unknown) => ExitCode::from(4),
        Ok(Outcome::NotDone) => ExitCode::from(5),
        Ok(Outcome::Degraded) => ExitCode::from(6),
        Ok(Outcome::Critical) => ExitCode::from(7),
        Err(error) => {
            let refused = error.downcast_ref::<crate::wire::channel::Refused>();
            if let Some(refused) = refused.filter(|r| r.not_allowed) {
                eprintln!("quorate: refused (role): {refused}");
                return ExitCode::from(3);
            }
            eprintln!("quorate: {error:#}");
            ExitCode::from(1)
        }
    }
}

fn log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("QUORATE_LOG")
        .unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
}

/// Logs beside the screen, never on it.
fn log_to_file(name: &str) {
    let folder = directories::ProjectDirs::from("", "", "quorate")
        .and_then(|d| d.state_dir().map(ToOwned::to_owned));
    let Some(folder) = folder else { return };
    let file = std::fs::create_dir_all(&folder).and_then(|()| {
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(folder.join(format!("{name}.log")))
    });
    // Without a log the console still works.
    if let Ok(file) = file {
        let filter = tracing_subscriber::EnvFilter::try_from_env("QUORATE_LOG")
            .unwrap_or_else(|_| "info".into());
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::sync::Mutex::new(file))
            .with_ansi(false)
            .init();
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
}

fn agent(config: &std::path::Path) -> color_eyre::Result<Outcome> {
    let config = crate::config::AgentConfig::read(config)?;
    use crate::agent::runtime::{StartError, run};
    // One thread for the lease and the wire, and one for the database: a disk that hangs under the
    // data holds up no vote, and a calm node wakes nobody to hand work over.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(run(config)) {
        // Its unit starts it again whatever ends it, but for this.
        Err(StartError::Released(why)) => {
            eprintln!("quorate: refused (released): {why}");
            Ok(Outcome::Refused)
        }
        ended => Ok(ended.map(|()| Outcome::Done)?),
    }
}

fn plane(config: &std::path::Path) -> color_eyre::Result<Outcome> {
    let config = crate::config::PlaneConfig::read(config)?;
    runtime()?.block_on(crate::plane::runtime::run(config))?;
    Ok(Outcome::Done)
}
