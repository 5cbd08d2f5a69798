//! Laws about the source text: imports run down the list of rooms, every file says what it is for,
//! every rule has its sentence in the printed table, and rejected words stay out.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed expectation is a failed test"
)]

use std::path::{Path, PathBuf};

/// The rooms in the order of `src/lib.rs`: a room uses only rooms that stand above it. `cli` knows
/// all.
const ROOMS: &[&str] = &[
    "model", "config", "lease", "engine", "picture", "access", "audit", "store", "wire", "agent",
    "sim", "plane", "lab", "console", "cli",
];
/// Arrows that run up the list, each with its reason.
const EXCEPTIONS: &[(&str, &str)] = &[];

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn sources() -> Vec<(PathBuf, String)> {
    let mut found = vec![];
    files(Path::new("src"), &mut found);
    found.sort();
    found.into_iter().map(|path| (path.clone(), std::fs::read_to_string(&path).unwrap())).collect()
}

fn room(path: &Path) -> Option<String> {
    let part = path.strip_prefix("src").unwrap().iter().next()?.to_str()?;
    let name = part.strip_suffix(".rs").unwrap_or(part);
    ROOMS.contains(&name).then(|| name.to_owned())
}

/// Rooms named in one line of code: `crate::x` and `crate::{x, y}`.
fn named(line: &str) -> Vec<String> {
    let mut names = vec![];
    for (at, _) in line.match_indices("crate::") {
        let rest = &line[at + 7..];
        if let Some(list) = rest.strip_prefix('{') {
            names.extend(list.split(',').map(|w| {
                w.trim().split("::").next().unwrap_or_default().trim_matches('}').to_owned()
            }));
        } else {
            names.push(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    names
}

fn violations(sources: &[(PathBuf, String)]) -> Vec<String> {
    let place = |room: &str| ROOMS.iter().position(|r| *r == room);
    let mut wrong = vec![];
    for (path, text) in sources {
        let Some(from) = room(path) else { continue };
        for (number, line) in
            text.lines().enumerate().filter(|(_, l)| !l.trim_start().starts_with("//"))
        {
            for to in named(line) {
                let up = place(&to) > place(&from);
                if up && from != "cli" && !EXCEPTIONS.contains(&(from.as_str(), to.as_str())) {
                    wrong.push(format!(
                        "{}:{}: {from} may not use {to}",
                        path.display(),
                        number + 1
                    ));
                }
            }
        }
    }
    wrong
}

#[test]
fn imports_run_down_the_list_of_rooms() {
    let wrong = violations(&sources());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let planted = vec![(
        PathBuf::from("src/lease/mod.rs"),
        "use crate::{model::Span, plane::runtime};\n".to_owned(),
    )];
    assert_eq!(violations(&planted), ["src/lease/mod.rs:1: lease may not use plane"]);
}

#[test]
fn every_file_says_what_it_is_for() {
    for (path, text) in sources() {
        assert!(
            text.starts_with("//! ") && !text.starts_with("//! stub"),
            "{} does not open with what it is for",
            path.display()
        );
    }
}

#[test]
fn pure_rooms_have_their_lock_at_the_door() {
    for door in
        ["src/lease/mod.rs", "src/engine/mod.rs", "src/agent/machine/mod.rs", "src/sim/mod.rs"]
    {
        let text = std::fs::read_to_string(door).unwrap();
        assert!(
            text.contains("#![deny(clippy::disallowed_methods, clippy::disallowed_types)]"),
            "{door}"
        );
    }
}

#[test]
fn rejected_words_stay_out() {
    for (path, text) in sources() {
        for word in [
            concat!("TO", "DO"),
            concat!("FIX", "ME"),
            concat!("unimplemented", "!"),
            concat!("to", "do!"),
        ] {
            assert!(!text.contains(word), "{} contains {word}", path.display());
        }
    }
}

/// `docs/rules.md` is the printed table; `UPDATE_GOLDEN=1` prints it again.
#[test]
fn the_printed_rules_are_the_rules_in_force() {
    let mut table = String::from(
        "# Rules\n\nPrinted from `src/engine/rules.rs`; the number is in every audit record.\n\n| \
            rule | what it says |\n|---|---|\n",
    );
    for (number, sentence) in quorate::engine::rules::RULES {
        table.push_str(&format!("| {number} | {sentence} |\n"));
    }
    let path = Path::new("docs/rules.md");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &table).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(path).unwrap_or_default(),
        table,
        "docs/rules.md is stale: UPDATE_GOLDEN=1 cargo nextest run tidy"
    );
    let numbers: Vec<u16> = quorate::engine::rules::RULES.iter().map(|(n, _)| *n).collect();
    let mut sorted = numbers.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), numbers.len(), "a rule's number is used once");
}
