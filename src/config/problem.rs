//! What is wrong with a file, where, and what was probably meant.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_saphyr::{Location, Spanned};

/// A refused file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Which file.
    pub file: PathBuf,
    /// Line and column, from 1; `None` where the whole file is meant.
    pub place: Option<(u64, u64)>,
    /// What is wrong and what was expected.
    pub what: String,
    /// What was probably meant; empty when nothing comes close.
    pub hint: String,
}

impl Problem {
    /// The file as a whole.
    pub fn file(file: &Path, what: impl Into<String>) -> Self {
        Self { file: file.to_owned(), place: None, what: what.into(), hint: String::new() }
    }
    /// A place in the file.
    pub(crate) fn at<T>(file: &Path, value: &Spanned<T>, what: impl Into<String>) -> Self {
        Self { place: place(value.referenced), ..Self::file(file, what) }
    }
    /// A line and column of the file, from 1.
    pub(crate) fn line(file: &Path, line: u64, column: u64, what: impl Into<String>) -> Self {
        Self { place: Some((line, column)), ..Self::file(file, what) }
    }
    /// With the nearest of the words that are valid here.
    pub(super) fn nearest<'a>(
        mut self,
        wrong: &str,
        valid: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        if let Some(word) = nearest(wrong, valid) {
            self.hint = format!("did you mean {word:?}?");
        }
        self
    }
    /// The same, found in the block of text under `key` of another file: its place is counted in
    /// that file.
    pub(crate) fn inside(self, file: &Path, text: &str, key: &str) -> Self {
        let Some(at) = text
            .lines()
            .position(|line| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(':')))
        else {
            return self;
        };
        let indent =
            text.lines().nth(at + 1).map_or(0, |line| line.len() - line.trim_start().len());
        let place = self.place.map(|(line, column)| (line + at as u64 + 1, column + indent as u64));
        Self { file: file.to_owned(), place, ..self }
    }
    pub(super) fn from_yaml(file: &Path, error: &serde_saphyr::Error) -> Self {
        let text = error.without_snippet().render();
        // The position is shown in our own form.
        let what = text
            .split(" at line ")
            .next()
            .unwrap_or(&text)
            .lines()
            .next()
            .unwrap_or(&text)
            .to_owned();
        let what = match what.find("line ") {
            Some(0) => what.split_once(": ").map_or(what.clone(), |(_, rest)| rest.to_owned()),
            _ => what,
        };
        let wrong = what.split('`').nth(1).unwrap_or("").to_owned();
        let valid = what
            .split_once("expected ")
            .map_or("", |(_, list)| list)
            .trim_start_matches("one of ")
            .to_owned();
        let problem = Self { place: error.location().and_then(place), ..Self::file(file, what) };
        problem.nearest(&wrong, valid.split([',', ' ', '`']).filter(|word| !word.is_empty()))
    }
}

fn place(location: Location) -> Option<(u64, u64)> {
    (location.line() > 0).then(|| (location.line(), location.column()))
}

/// The valid word nearest to `wrong`, if one is near.
pub fn nearest<'a>(wrong: &str, valid: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = valid.into_iter().map(|word| (strsim::damerau_levenshtein(wrong, word), word));
    scored.min().filter(|(distance, word)| *distance <= word.len().max(3) / 3).map(|(_, word)| word)
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some((line, column)) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.what)?;
        if !self.hint.is_empty() {
            write!(f, " ({})", self.hint)?;
        }
        Ok(())
    }
}
impl std::error::Error for Problem {}
