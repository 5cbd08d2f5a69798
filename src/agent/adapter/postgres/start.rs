//! Starting the server: always as a standby, with the fixed settings on its command line.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use super::files::{self, Control};
use super::session::Session;
use super::{Done, Driver, Failed, archive, failed, settings, unfinished};
use crate::agent::machine::Upstream;
use crate::model::observation::ResourceState;

impl Driver {
    /// Starts the server as a standby, whatever it was, and waits until it answers. One that was
    /// rewound needs its upstream's log before it does.
    pub(super) async fn start(&mut self, upstream: Option<&Upstream>) -> Done {
        let config = self.setup.config.clone();
        let data_dir = &config.data_dir;
        if unfinished::is_here(&self.setup) {
            return failed("a rebuild was interrupted here; waiting for a primary to clone from");
        }
        if let Some(major) = files::data_major(data_dir)
            && major != self.setup.programs.major
        {
            return failed(format!(
                "{} was made by PostgreSQL {major}, the programs are {}: set postgres.bin_dir to PostgreSQL {major}'s bin folder",
                data_dir.display(),
                self.setup.programs.version
            ));
        }
        self.clear_the_way().await?;
        self.setup.programs.end_leftovers().await.map_err(Failed)?;
        files::remove_loose_placeholders(data_dir)?;
        files::signal_standby(data_dir)?;
        let arguments = self.arguments(upstream).await?;
        std::fs::create_dir_all(&config.socket_dir)?;
        self.state(ResourceState::Starting);
        self.resource.stopped = None;
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log_path())?;
        let mut command = std::process::Command::new(self.setup.programs.path("postgres"));
        command
            .arg("-D")
            .arg(data_dir)
            .args(arguments)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        // A group of its own: what ends the agent's terminal does not end the database.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn()?;
        let pid = child.id();
        std::thread::spawn(move || child.wait());
        if !self.watch(pid) {
            return failed("the server ended as soon as it was started");
        }
        self.tell().await;
        loop {
            tokio::select! {
                () = self.exited() => {
                    self.exit = None;
                    let last = last_line(&self.log_path());
                    return failed(format!("the server did not start: {last}"));
                }
                () = tokio::time::sleep(Duration::from_millis(10)) => {
                    if let Ok(client) = Session::connect(&self.setup.config).await {
                        self.client = Some(client);
                        return Ok(());
                    }
                }
            }
        }
    }

    /// The command line of a start, and everything written before it: the user's own values count
    /// where they are safe, and they are what the files say without this agent's lines.
    async fn arguments(&mut self, upstream: Option<&Upstream>) -> Result<Vec<String>, Failed> {
        let config = self.setup.config.clone();
        let main = config.config_file.clone();
        let main = main.unwrap_or_else(|| config.data_dir.join("postgresql.conf"));
        if !main.exists() {
            return failed(format!(
                "there is no {}: where the configuration lies elsewhere (Debian: \
                 /etc/postgresql/…/postgresql.conf) set postgres.config_file in agent.yaml",
                main.display()
            ));
        }
        let by_system = files::auto_value(&config.data_dir, "restore_command")
            .filter(|value| !value.is_empty() && !archive::is_wrapper(value));
        // Kept before the line is taken out: a crash in between must not lose it.
        if by_system.is_some() {
            self.archive.system.clone_from(&by_system);
            self.archive.save(&self.setup.state_dir)?;
        }
        files::uncover_user_values(&config.data_dir)?;
        let names: Vec<&str> = settings::known(self.setup.programs.major)
            .filter(|s| s.asks_user())
            .map(|s| s.name)
            .chain(["restore_command"])
            .collect();
        let mut values = Vec::new();
        for name in &names {
            values.push(self.users_value(name).await?);
        }
        let control = Control::read(&self.setup.programs, &config.data_dir).await?;
        let of = |name: &str| {
            let own = names.iter().position(|n| *n == name).map_or("", |at| &values[at]);
            at_least(own, control.demands(name))
        };
        self.found_archive(by_system, of("restore_command"), control.segment_bytes)?;
        let moving = self.settings(upstream);
        files::write_moving(&config.data_dir, &moving)?;
        self.watch.ordered(moving);
        Ok(self.fixed_arguments(|name| Some(of(name))))
    }

    /// What the user's files say of a setting.
    async fn users_value(&self, name: &str) -> Result<String, Failed> {
        let config = &self.setup.config;
        let said = self
            .setup
            .programs
            .run("postgres", |c| {
                c.arg("-D").arg(&config.data_dir);
                c.args(self.fixed_arguments(|_| None)).args(["-C", name]);
            })
            .await?;
        Ok(said.trim_end_matches('\n').to_owned())
    }

    fn config_argument(&self) -> Vec<String> {
        self.setup
            .config
            .config_file
            .as_ref()
            .map_or(vec![], |file| vec!["-c".to_owned(), format!("config_file={}", file.display())])
    }

    pub(super) fn fixed_arguments(&self, user: impl Fn(&str) -> Option<String>) -> Vec<String> {
        let mut arguments = self.config_argument();
        arguments.extend(settings::arguments(self.setup.programs.major, &self.setup.config, user));
        arguments
    }
}

/// The user's own value, or what the log demands if that is more.
pub(super) fn at_least(own: &str, demanded: Option<u64>) -> String {
    match (own.parse::<u64>(), demanded) {
        (Ok(own), Some(demanded)) => own.max(demanded).to_string(),
        (Err(_), Some(demanded)) => demanded.to_string(),
        (_, None) => own.to_owned(),
    }
}

fn last_line(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text
        .lines()
        .rev()
        .find(|l| l.contains("FATAL") || l.contains("PANIC"))
        .or_else(|| text.lines().last());
    line.unwrap_or("it said nothing").to_owned()
}
