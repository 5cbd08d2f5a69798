//! Clauses, numbers, filters.

use super::number;
use super::said::{Ink, Said, line_of, wrap_words};
use crate::model::Span;

fn lines(said: &Said, width: usize, rows: usize) -> Vec<String> {
    said.fit(width, rows).iter().map(|l| line_of(l)).collect()
}

#[test]
fn whole_clauses_go_and_their_number_is_said() {
    let said = Said::text("node-1 takes writes")
        .then(2, "; ")
        .say(Ink::Text, "every node is well")
        .then(1, "; ")
        .say(Ink::Text, "commits are confirmed");
    assert_eq!(
        lines(&said, 80, 1),
        ["node-1 takes writes; every node is well; commits are confirmed"]
    );
    assert_eq!(lines(&said, 50, 1), ["node-1 takes writes; commits are confirmed +1"]);
    assert_eq!(lines(&said, 30, 1), ["node-1 takes writes +2"]);
    assert_eq!(lines(&said, 12, 1), ["node-1 takes", "writes +2"], "rank 0 always stays");
    assert_eq!(said.least(12), 2);
}

#[test]
fn no_letter_is_lost_whatever_the_width() {
    let text =
        "pg-a-name-of-sixty-cells-0123456789-0123456789-0123456789-01 fällt aus; 読み取り専用";
    for width in 4..90 {
        let squeezed: String =
            wrap_words(text, width).concat().chars().filter(|c| *c != ' ').collect();
        let wanted: String = text.chars().filter(|c| *c != ' ').collect();
        assert_eq!(squeezed, wanted, "at {width}");
        for line in wrap_words(text, width) {
            assert!(unicode_width::UnicodeWidthStr::width(line.as_str()) <= width, "{line:?}");
        }
    }
}

#[test]
fn numbers_read_as_people_read_them() {
    let plain = |text: String| text.replace('\u{a0}', " ");
    assert_eq!(plain(number::span(Span::millis(31))), "31 ms");
    assert_eq!(plain(number::span(Span::millis(746))), "0.7 s");
    assert_eq!(plain(number::span(Span::secs(378))), "6 min 18 s");
    assert_eq!(plain(number::span(Span::secs(11 * 86_400))), "11 d");
    assert_eq!(plain(number::countdown(Span::millis(9_840))), " 9.8 s");
    assert_eq!(plain(number::countdown(Span::secs(161))), "  2:41");
    assert_eq!(number::age(Span::secs(378)), "6:18");
    assert_eq!(plain(number::bytes(0)), "0 B");
    assert_eq!(plain(number::bytes(98_304)), "96 KiB");
    assert_eq!(plain(number::bytes(1_300_000)), "1.2 MiB");
    assert_eq!(plain(number::of_limit(43 << 20, 16 << 20)), "43 of 16 MiB");
    assert_eq!(number::count(1_204_831), "1,204,831");
}

/// Widths of a countdown and of an age in a table hold while they pass.
#[test]
fn a_countdown_keeps_its_width() {
    use unicode_width::UnicodeWidthStr as _;
    for ms in (0..7_200_000).step_by(777) {
        assert_eq!(number::countdown(Span::millis(ms)).width(), 6, "{ms}");
        assert!(number::age(Span::millis(ms)).width() <= 6, "{ms}");
    }
}
