//! Lengths of time and amounts, as people read them: unit in the same cell, never broken over a
//! line, widths that hold while values change.

use super::said::HARD_SPACE;
use crate::model::Span;

fn with(value: impl std::fmt::Display, unit: &str) -> String {
    format!("{value}{HARD_SPACE}{unit}")
}

/// In a sentence: `31 ms`, `0.7 s`, `9.8 s`, `6 min 18 s`, `3 h 05 min`, `11 d`.
pub fn span(span: Span) -> String {
    let ms = span.as_millis();
    let s = ms / 1_000;
    match ms {
        0..100 => with(ms, "ms"),
        10_000..60_000 if ms.is_multiple_of(1_000) => with(s, "s"),
        60_000..3_600_000 if s.is_multiple_of(60) => with(s / 60, "min"),
        100..60_000 => with(format_args!("{s}.{}", ms % 1_000 / 100), "s"),
        60_000..3_600_000 => {
            format!(
                "{}{HARD_SPACE}{}",
                with(s / 60, "min"),
                with(format_args!("{:02}", s % 60), "s")
            )
        }
        3_600_000..172_800_000 => {
            let minutes = with(format_args!("{:02}", s / 60 % 60), "min");
            format!("{}{HARD_SPACE}{minutes}", with(s / 3_600, "h"))
        }
        _ => with(s / 86_400, "d"),
    }
}

/// In whole seconds, for what is watched while it passes.
pub fn since(length: Span) -> String {
    let s = length.as_millis() / 1_000;
    if s < 60 { with(s, "s") } else { span(Span::secs(s)) }
}

/// For what lasts: it stands still while nothing happens. `21 s`, `6 min`, `3 h 05 min`, `11 d`.
pub fn lasting(length: Span) -> String {
    let s = length.as_millis() / 1_000;
    if s < 60 { with(s, "s") } else { span(Span::secs(s / 60 * 60)) }
}

/// What is left of a countdown; its width holds: ` 9.8 s`, `11.2 s`, `  2:41`.
pub fn countdown(span: Span) -> String {
    let ms = span.as_millis();
    let s = ms / 1_000;
    match ms {
        0..60_000 => with(format_args!("{s:>2}.{}", ms % 1_000 / 100), "s").replace(' ', "\u{a0}"),
        60_000..3_600_000 => {
            format!("{HARD_SPACE}{:>2}:{:02}", s / 60, s % 60).replace(' ', "\u{a0}")
        }
        _ => format!("{:>2}:{:02}h", s / 3_600, s / 60 % 60).replace(' ', "\u{a0}"),
    }
}

/// In a table, at most five cells: `<2 s` (the beat of a calm plane and its agents), `9.8 s`, `52 s`, `6:18`, `3:05h`, `11 d`.
pub fn age(age: Span) -> String {
    let s = age.as_millis() / 1_000;
    match s {
        0..2 => "<2 s".into(),
        2..10 => format!("{s}.{} s", age.as_millis() % 1_000 / 100),
        10..60 => format!("{s} s"),
        60..3_600 => format!("{}:{:02}", s / 60, s % 60),
        3_600..172_800 => format!("{}:{:02}h", s / 3_600, s / 60 % 60),
        _ => format!("{} d", s / 86_400),
    }
}

/// Bytes with three figures at most: `0 B`, `96 KiB`, `1.2 MiB`, `41 MiB`.
pub fn bytes(n: u64) -> String {
    let (mut value, mut unit) = (n, 0);
    let mut rest = 0;
    while value >= 1_024 && unit < 5 {
        rest = value % 1_024 * 10 / 1_024;
        value /= 1_024;
        unit += 1;
    }
    let unit = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"][unit];
    if unit != "B" && value < 10 && rest > 0 {
        with(format_args!("{value}.{rest}"), unit)
    } else {
        with(value, unit)
    }
}

/// `41 of 16 MiB`: value and limit in the limit's unit where both share it, else both in full.
pub fn of_limit(n: u64, limit: u64) -> String {
    let (value, limit) = (bytes(n), bytes(limit));
    match (value.split_once(HARD_SPACE), limit.split_once(HARD_SPACE)) {
        (Some((v, a)), Some((_, b))) if a == b => format!("{v}{HARD_SPACE}of{HARD_SPACE}{limit}"),
        _ => format!("{value}{HARD_SPACE}of{HARD_SPACE}{limit}"),
    }
}

/// `1,204,831`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// φ: a whole number is enough to compare with its limits, and stands still while all is well.
pub fn phi(milli: u64) -> String {
    match milli {
        0..1_000 => "<1".into(),
        1_000..100_000 => format!("{}", milli / 1_000),
        _ => ">99".into(),
    }
}
