//! What is kept between sessions: a small file in the user's configuration folder. What is wrong in
//! it is said and left alone.

use serde::{Deserialize, Serialize};

/// Who is called by the terminal's bell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bell {
    /// Whoever looks, when something becomes theirs.
    #[default]
    NeedsMe,
    /// Nobody.
    Never,
}

/// Settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// A theme by its name; empty: the terminal decides.
    pub theme: String,
    /// A keymap by its name; empty: default.
    pub keymap: String,
    /// `full`, `blocks` or `ascii`; empty: the terminal decides.
    pub glyphs: String,
    /// Times in local time.
    pub local: bool,
    /// The wheel moves and scrolls; it never confirms.
    pub mouse: bool,
    /// When the bell rings.
    pub bell: Bell,
}

impl Settings {
    /// Where the file is.
    pub fn path() -> Option<std::path::PathBuf> {
        let folders = directories::ProjectDirs::from("", "", "quorate")?;
        Some(folders.config_dir().join("console.toml"))
    }
    /// From the text of a file.
    ///
    /// # Errors
    /// In words, with the line.
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|e| e.to_string().trim().to_owned())
    }
    /// The text of a file.
    pub fn text(&self) -> String {
        // Plain strings and booleans serialise without failing.
        toml::to_string(self).unwrap_or_default()
    }
}
