//! What is on this machine between sessions: settings in the configuration folder, the last known
//! picture in the state folder. Nothing in it is needed, and nothing in it is a secret.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::event::Moment;
use super::model::Seen;
use super::settings::Settings;
use super::view::Glyphs;
use crate::model::Span;
use crate::model::view::ClusterView;

/// Settings, and what is wrong with the file when something is.
pub(super) fn settings() -> (Settings, Option<String>) {
    let Some(path) = Settings::path() else { return (Settings::default(), None) };
    match std::fs::read_to_string(&path) {
        Err(e) if e.kind() == ErrorKind::NotFound => (Settings::default(), None),
        Err(e) => (Settings::default(), Some(format!("{}: {e}", path.display()))),
        Ok(text) => match Settings::parse(&text) {
            Ok(settings) => (settings, None),
            Err(why) => (Settings::default(), Some(format!("{}: {why}", path.display()))),
        },
    }
}

/// Writes settings.
pub(super) fn keep_settings(settings: &Settings) -> std::io::Result<()> {
    let Some(path) = Settings::path() else { return Err(ErrorKind::NotFound.into()) };
    write(&path, settings.text().as_bytes())
}

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, bytes)
}

fn picture_path(plane: &str) -> Option<PathBuf> {
    let folders = directories::ProjectDirs::from("", "", "quorate")?;
    let name: String =
        plane.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let folder = folders.state_dir().unwrap_or_else(|| folders.data_local_dir());
    Some(folder.join(format!("last-{name}.json")))
}

/// The last picture that came from there, seen as long ago as it is old.
pub(super) fn picture(plane: &str, moment: Moment) -> Option<Seen> {
    let bytes = std::fs::read(picture_path(plane)?).ok()?;
    let view: ClusterView = serde_json::from_slice(&bytes).ok()?;
    let old = Span::millis(u64::try_from(moment.wall.0 - view.made.0).unwrap_or(0));
    Some(Seen { view: view.into(), at: moment.now, older: old })
}

/// Keeps a picture for the next start. One that cannot be kept is missed by nobody.
pub(super) fn keep_picture(plane: &str, view: &ClusterView) {
    if let (Some(path), Ok(bytes)) = (picture_path(plane), serde_json::to_vec(view)) {
        let _ = write(&path, &bytes);
    }
}

/// Which characters a terminal draws, from what it says of itself.
pub(super) fn glyphs(
    term: Option<&str>,
    all: Option<String>,
    ctype: Option<String>,
    lang: Option<String>,
) -> Glyphs {
    let locale = [all, ctype, lang].into_iter().flatten().find(|v| !v.is_empty());
    let utf8 = locale.as_deref().is_none_or(|l| {
        let l = l.to_lowercase();
        l.contains("utf-8") || l.contains("utf8")
    });
    match term {
        Some("linux") => Glyphs::Blocks,
        _ if !utf8 => Glyphs::Ascii,
        _ => Glyphs::Full,
    }
}
