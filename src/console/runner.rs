//! The loop: signals, keys, the network and a clock into events; commands into the world. It waits
//! for nothing else.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use crossterm::event::{Event as TerminalEvent, EventStream, MouseEventKind};
use ratatui::Terminal;
use ratatui::backend::Backend as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio_stream::StreamExt as _;

use super::alarm::Alarm;
use super::event::{Command, Event, Moment};
use super::ground::{Ground, Taken};
use super::hands::Hands;
use super::keymap::Keymap;
use super::model::{Access, Model};
use super::paint::Paint;
use super::theme::{Depth, Theme};
use super::update::update;
use super::watched::Watched;
use super::{export, kept, link, terminal, view};
use crate::agent::host;
use crate::config::Identity;
use crate::model::{Span, Timestamp};

/// Where pictures come from.
pub enum Source {
    /// A plane, or the agents.
    Identity(Box<Identity>),
    /// A lab that is still being made: steps as text, then the identity, or why not.
    Starting(mpsc::Receiver<Result<Step, String>>),
}

/// A step of making a lab.
pub enum Step {
    /// In words.
    Said(String),
    /// It runs.
    Ready(Box<Identity>),
}

/// How the console looks and behaves.
pub struct Options {
    /// Name and text of the theme; `None`: as settings say, else as the terminal can. A name that
    /// is not built in is a file, which may be edited meanwhile.
    pub theme: Option<(String, String)>,
    /// Name and text of the keymap; `None`: as settings say, else default.
    pub keymap: Option<(String, String)>,
    /// Only ASCII.
    pub ascii: bool,
    /// The first screen is this cluster's.
    pub cluster: Option<String>,
    /// Cannot express a change.
    pub read_only: bool,
}

/// Drawn at most this often; over SSH less.
const FRAME: Duration = Duration::from_millis(33);
const FRAME_SSH: Duration = Duration::from_millis(100);
/// A countdown's last seconds are drawn at this pace.
const COUNTDOWN: Span = Span::millis(200);

struct Runner {
    model: Model,
    terminal: Terminal<Paint<std::io::Stdout>>,
    /// Whose pictures are kept for the next start.
    plane: Option<String>,
    read_only: bool,
    /// What can change something; a read-only console has none.
    hands: Option<Hands>,
    events: mpsc::Sender<Event>,
    /// The next try of the connection at once.
    now: Arc<Notify>,
    depth: Depth,
    /// Files that may be edited meanwhile.
    theme_file: Option<Watched>,
    keymap_file: Option<Watched>,
    /// What is on the terminal.
    shown: Option<ratatui::buffer::Buffer>,
    quit: bool,
}

/// Runs the console until the person leaves.
///
/// # Errors
/// When the theme or the keymap is wrong, or there is no terminal.
pub async fn run(source: Source, options: Options) -> Result<(), String> {
    let env = |name: &str| std::env::var(name).ok();
    let depth =
        Depth::of(env("NO_COLOR").as_deref(), env("COLORTERM").as_deref(), env("TERM").as_deref());
    // With NO_COLOR the library would also drop bold and reverse, and with them the selection;
    // colours are the theme's matter.
    crossterm::style::force_color_output(true);
    let (settings, trouble) = kept::settings();
    let asked = options.theme.is_some()
        || Theme::built_in(&settings.theme, depth).is_some()
        || env("COLORFGBG").is_some();
    let theme = match &options.theme {
        Some((name, text)) => Theme::parse(name, text, depth)
            .map_err(|p| format!("theme {name}: {}", p.join("; ")))?,
        None => Theme::built_in(&settings.theme, depth)
            .or_else(|| Theme::built_in(Theme::name_for(depth, env("COLORFGBG").as_deref()), depth))
            .ok_or("no theme")?,
    };
    let built_in = |name: &str| {
        super::keymap::BUILT_IN.iter().find(|(n, _)| *n == name).map(|(_, text)| (*text).to_owned())
    };
    let file = |asked: &Option<(String, String)>, known: &[(&str, &str)]| {
        let (name, _) = asked.as_ref()?;
        known.iter().all(|(n, _)| n != name).then(|| Watched::file(name))
    };
    let theme_file = file(&options.theme, super::theme::BUILT_IN);
    let keymap_file = file(&options.keymap, super::keymap::BUILT_IN);
    let keymap_text = options
        .keymap
        .map(|(_, text)| text)
        .or_else(|| built_in(&settings.keymap))
        .unwrap_or_else(|| super::keymap::BUILT_IN[0].1.to_owned());
    let keymap = Keymap::parse(&keymap_text).map_err(|p| format!("keymap: {}", p.join("; ")))?;
    let size = crossterm::terminal::size().unwrap_or((80, 24));
    let (events, mut inbox) = mpsc::channel(256);
    let mut model = Model::new(String::new(), Access::ReadOnly, theme, keymap, size);
    model.moment = moment();
    model.glyphs = match (options.ascii, view::Glyphs::by_name(&settings.glyphs)) {
        (true, _) => view::Glyphs::Ascii,
        (false, Some(kept)) => kept,
        (false, None) => {
            kept::glyphs(env("TERM").as_deref(), env("LC_ALL"), env("LC_CTYPE"), env("LANG"))
        }
    };
    model.zone = chrono::Local::now().offset().local_minus_utc();
    if let Some(why) = trouble {
        model.tell(why, true);
    }
    let mouse = settings.mouse;
    model.settings = settings;
    if let Source::Identity(identity) = &source {
        // The last known picture, as old as it is, before anybody was asked.
        if let Some(seen) = kept::picture(&identity.plane, model.moment) {
            model.clusters.insert(seen.view.cluster.clone(), seen);
        }
    }
    model.wanted = options.cluster;
    model.cluster = model.clusters.keys().next().cloned();
    // A signal that comes as soon as the terminal is taken finds it given back.
    let mut end = signal(SignalKind::terminate()).map_err(|e| e.to_string())?;
    let mut hangup = signal(SignalKind::hangup()).map_err(|e| e.to_string())?;
    let guard = terminal::Guard::take().map_err(|e| format!("no terminal: {e}"))?;
    let terminal = Terminal::new(Paint::on(std::io::stdout())).map_err(|e| e.to_string())?;
    let mut runner = Runner {
        model,
        terminal,
        plane: None,
        hands: None,
        read_only: options.read_only,
        events,
        now: Arc::new(Notify::new()),
        depth,
        theme_file,
        keymap_file,
        shown: None,
        quit: false,
    };
    terminal::mouse(mouse);
    // The first frame waits for nothing.
    runner.draw();
    let guessed = !asked && Theme::for_light(depth).is_some();
    let mut ground = Ground::ask();
    let mut starting = None;
    match source {
        Source::Identity(identity) => runner.connect(*identity),
        Source::Starting(steps) => starting = Some(steps),
    }
    let frame = if std::env::var_os("SSH_CONNECTION").is_some() { FRAME_SSH } else { FRAME };
    let mut keys = EventStream::new();
    let alarm = Alarm::new().map_err(|e| format!("no clock: {e}"))?;
    let mut dirty = false;
    let mut drawn = tokio::time::Instant::now();
    while !runner.quit {
        alarm.set(wake(&runner.model)).map_err(|e| format!("no clock: {e}"))?;
        // In no order: a held key keeps neither a signal nor a picture waiting.
        let event = tokio::select! {
            _ = end.recv() => break,
            _ = hangup.recv() => break,
            key = keys.next() => match key {
                Some(Ok(TerminalEvent::Key(key))) => match ground.take(&key) {
                    Taken::Key => Some(Event::Key(key)),
                    Taken::KeyAfterEsc => {
                        runner.escape();
                        Some(Event::Key(key))
                    }
                    Taken::Part => None,
                    Taken::Ground { light } => {
                        runner.model.on_light = Some(light);
                        dirty = true;
                        if let Some(theme) = Theme::for_light(depth).filter(|_| light && guessed) {
                            runner.model.theme = Arc::new(theme);
                        }
                        None
                    }
                },
                Some(Ok(TerminalEvent::Paste(text))) => Some(Event::Paste(text)),
                Some(Ok(TerminalEvent::Resize(width, height))) => Some(Event::Resize(width, height)),
                Some(Ok(TerminalEvent::Mouse(turn))) => match turn.kind {
                    MouseEventKind::ScrollDown => Some(Event::Wheel(true)),
                    MouseEventKind::ScrollUp => Some(Event::Wheel(false)),
                    _ => None,
                },
                Some(Ok(_)) => None,
                // The terminal is gone.
                Some(Err(_)) | None => break,
            },
            Some(event) = inbox.recv() => Some(event),
            step = next_step(&mut starting) => match step {
                Some(Ok(Step::Said(text))) => Some(Event::Progress(text)),
                Some(Ok(Step::Ready(identity))) => { runner.connect(*identity); None }
                Some(Err(why)) => Some(Event::Failed(why)),
                None => { starting = None; None }
            },
            rung = alarm.rings() => match rung {
                Ok(()) => Some(Event::Tick),
                Err(e) => return Err(format!("no clock: {e}")),
            },
            () = tokio::time::sleep_until(drawn + frame), if dirty => None,
        };
        let typed = matches!(event, Some(Event::Key(_) | Event::Paste(_) | Event::Resize(..)));
        if let Some(event) = event {
            dirty = true;
            if matches!(event, Event::Tick) {
                runner.read_again();
                if ground.held() {
                    runner.escape();
                }
            }
            for command in update(&mut runner.model, moment(), event) {
                runner.act(command);
            }
        }
        // A key is answered at once; what only arrives is gathered to a frame.
        if dirty && (typed || drawn.elapsed() >= frame) {
            runner.draw();
            dirty = false;
            drawn = tokio::time::Instant::now();
        }
        if typed {
            // Keys that wait already do not keep the connection from its turn.
            tokio::task::yield_now().await;
        }
    }
    terminal::mouse(false);
    drop(guard);
    if let (Some(plane), Some(seen)) = (&runner.plane, runner.model.seen()) {
        kept::keep_picture(plane, &seen.view);
    }
    Ok(())
}

/// When the picture changes next without anybody: the clock's next second, the last ten seconds of
/// a countdown, a hint that appears.
fn wake(model: &Model) -> Span {
    let next_second = 1_000 - u64::try_from(model.moment.wall.0.rem_euclid(1_000)).unwrap_or(0);
    let mut next = Span::millis(next_second);
    let counts = |left: Option<Span>| left.is_some_and(|l| l > Span::ZERO && l < Span::secs(10));
    let since = model.since();
    let phase = model.view().and_then(|v| v.phase.deadline);
    let retry = match &model.link {
        super::event::Link::Lost { retry_at, .. } => Some(model.moment.now.until(*retry_at)),
        _ => None,
    };
    if counts(phase.map(|d| Span(d.0.saturating_sub(since.0)))) || counts(retry) {
        next = next.min(COUNTDOWN);
    }
    if let Some((_, since)) = &model.prefix {
        let hint = model.moment.now.until(*since + view::HINT_AFTER);
        if hint > Span::ZERO {
            next = next.min(hint);
        }
    }
    next
}

async fn next_step(
    steps: &mut Option<mpsc::Receiver<Result<Step, String>>>,
) -> Option<Result<Step, String>> {
    match steps {
        Some(steps) => steps.recv().await,
        None => std::future::pending().await,
    }
}

fn moment() -> Moment {
    Moment { now: host::now(), wall: host::wall() }
}

impl Runner {
    fn connect(&mut self, identity: Identity) {
        self.model.who.clone_from(&identity.name);
        self.model.context.clone_from(&identity.context);
        let acts = !self.read_only;
        self.hands = acts.then(|| Hands::of(&identity, self.events.clone())).flatten();
        let approver = self.hands.is_some();
        self.model.access = if approver { Access::Approver } else { Access::ReadOnly };
        self.plane = Some(identity.plane.clone());
        tokio::spawn(link::run(identity, self.events.clone(), self.now.clone()));
    }

    fn escape(&mut self) {
        let esc = crossterm::event::KeyCode::Esc.into();
        for command in update(&mut self.model, moment(), Event::Key(esc)) {
            self.act(command);
        }
    }

    /// A theme and a keymap whose files changed. One that is wrong changes nothing.
    fn read_again(&mut self) {
        let why = |e: std::io::Error| vec![e.to_string()];
        let theme = self.theme_file.as_mut().and_then(Watched::changed).map(|text| {
            let name = self.model.theme.name.clone();
            text.map_err(why).and_then(|text| Theme::parse(&name, &text, self.depth))
        });
        let keymap = self.keymap_file.as_mut().and_then(Watched::changed);
        let keymap = keymap.map(|text| text.map_err(why).and_then(|text| Keymap::parse(&text)));
        let told = |read: Result<(), Vec<String>>, what: &str| match read {
            Ok(()) => (format!("the {what} was read again"), false),
            Err(p) => (format!("the {what} stays as it was: {}", p.join("; ")), true),
        };
        for (words, bad) in [
            theme.map(|t| told(t.map(|t| self.model.theme = Arc::new(t)), "theme")),
            keymap.map(|k| told(k.map(|k| self.model.keymap = Arc::new(k)), "keymap")),
        ]
        .into_iter()
        .flatten()
        {
            self.model.tell(words, bad);
        }
    }

    fn draw(&mut self) {
        // A terminal that went away shows as an end of its events.
        let _ = self.paint();
    }

    /// Nothing is written where nothing changed: an idle console is silent.
    fn paint(&mut self) -> std::io::Result<()> {
        self.terminal.autoresize()?;
        let mut frame = self.terminal.get_frame();
        view::view(&self.model, &mut frame);
        let drawn = self.terminal.current_buffer_mut();
        if self.shown.as_ref() == Some(drawn) {
            drawn.reset();
            return Ok(());
        }
        self.shown = Some(drawn.clone());
        self.terminal.flush()?;
        self.terminal.swap_buffers();
        self.terminal.backend_mut().flush()
    }

    fn act(&mut self, command: Command) {
        match command {
            Command::Quit => self.quit = true,
            Command::Suspend => self.suspend(),
            Command::Change(change) => match &self.hands {
                Some(hands) => hands.carry_out(change),
                None => self.model.tell("this console is read-only", true),
            },
            Command::Retry => self.now.notify_one(),
            Command::Copy(text) => self.copy(&text),
            Command::CopyScreen => {
                let text = self.screen(export::text);
                self.copy(&text);
            }
            Command::Save => self.save(),
            Command::Export(records) => self.export(&records),
            Command::Theme(name) => {
                if let Some(theme) = Theme::built_in(name, self.depth) {
                    self.model.theme = Arc::new(theme);
                }
            }
            Command::Keymap(name) => {
                let text = super::keymap::BUILT_IN.iter().find(|(n, _)| *n == name);
                if let Some(Ok(keymap)) = text.map(|(_, text)| Keymap::parse(text)) {
                    self.model.keymap = Arc::new(keymap);
                }
            }
            Command::Keep(settings) => {
                terminal::mouse(settings.mouse);
                if let Err(why) = kept::keep_settings(&settings) {
                    self.model.tell(format!("settings were not saved: {why}"), true);
                }
            }
            Command::Bell => {
                let _ =
                    std::io::stdout().write_all(b"\x07").and_then(|()| std::io::stdout().flush());
            }
        }
    }

    fn copy(&mut self, text: &str) {
        let encoded = base64::engine::general_purpose::STANDARD.encode(text);
        let sent = write!(std::io::stdout(), "\x1b]52;c;{encoded}\x07")
            .and_then(|()| std::io::stdout().flush());
        self.model.tell(
            if sent.is_ok() {
                "sent to the terminal's clipboard"
            } else {
                "the terminal did not take it"
            },
            sent.is_err(),
        );
    }

    fn file(&self, what: &str) -> String {
        format!("quorate-{what}{}", self.model.moment.wall.rfc3339().replace([':', '.'], "-"))
    }

    fn save(&mut self) {
        let theme = self.model.theme.clone();
        let (text, ansi, svg) = self.screen(|buffer| {
            (export::text(buffer), export::ansi(buffer), export::svg(buffer, &theme))
        });
        let name = self.file("");
        let saved = std::fs::write(format!("{name}.txt"), text)
            .and_then(|()| std::fs::write(format!("{name}.ans"), ansi))
            .and_then(|()| std::fs::write(format!("{name}.svg"), svg));
        match saved {
            Ok(()) => self.model.tell(format!("saved {name}.svg, .ans and .txt"), false),
            Err(e) => self.model.tell(format!("could not save {name}: {e}"), true),
        }
    }

    fn export(&mut self, records: &[crate::model::record::ChainedRecord]) {
        let name = format!("{}.jsonl", self.file("audit-"));
        let text: String = records
            .iter()
            .filter_map(|r| serde_json::to_string(r).ok())
            .map(|line| line + "\n")
            .collect();
        match std::fs::write(&name, text) {
            Ok(()) => self.model.tell(format!("{} records are in {name}", records.len()), false),
            Err(e) => self.model.tell(format!("could not write {name}: {e}"), true),
        }
    }

    /// The screen as it is, drawn once more without the terminal.
    fn screen<T>(&self, read: impl FnOnce(&ratatui::buffer::Buffer) -> T) -> T {
        let (width, height) = self.model.size;
        let backend = ratatui::backend::TestBackend::new(width.max(1), height.max(1));
        // Drawing into memory does not fail.
        let mut memory = match Terminal::new(backend) {
            Ok(memory) => memory,
            Err(never) => match never {},
        };
        let _ = memory.draw(|frame| view::view(&self.model, frame));
        read(memory.backend().buffer())
    }

    fn suspend(&mut self) {
        terminal::give_back();
        eprintln!("quorate: in the background; a run goes on. `fg` brings the console back.");
        if let Some(me) = host::pid(std::process::id()) {
            let _ = rustix::process::kill_process(me, rustix::process::Signal::STOP);
        }
        // Woken again.
        let _ = terminal::enter();
        terminal::mouse(self.model.settings.mouse);
        self.terminal.backend_mut().forget();
        let _ = self.terminal.clear();
        self.shown = None;
        self.model.moment = Moment { now: host::now().max(Timestamp(0)), wall: host::wall() };
    }
}
