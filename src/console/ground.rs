//! Whether the terminal's ground is light: it is asked (OSC 11), and answers where its keys come
//! from. Nothing waits for it, and no key is lost: the answer is told from typing by its form. Ready
//! made ones read the terminal themselves, and what was typed meanwhile is gone.

use std::io::Write as _;

use std::time::{Duration, Instant};

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// Longer than any answer.
const ANSWER_MAX: usize = 40;
/// An answer that is later is not told from typing.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);
/// Its first byte may come alone, as Esc, so soon; a person's own Esc is held back for a moment then.
const ESCAPED_WITHIN: Duration = Duration::from_secs(1);

/// What a key is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// A key.
    Key,
    /// The Esc that was held back, and then this key.
    KeyAfterEsc,
    /// A part of the answer.
    Part,
    /// The end of the answer: its ground is light, or dark.
    Ground {
        /// Light.
        light: bool,
    },
}

/// The question, and as much of the answer as came.
#[derive(Debug, Default)]
pub(super) struct Ground {
    until: Option<Instant>,
    /// Its first byte may come alone, and is read as Esc then.
    escaped: bool,
    answer: Option<String>,
}

impl Ground {
    /// Asks.
    pub(super) fn ask() -> Self {
        // A terminal that cannot be written to shows as an end of its events.
        let asked = write!(std::io::stdout(), "\x1b]11;?\x1b\\").is_ok();
        let _ = std::io::stdout().flush();
        let until = asked.then(|| Instant::now() + ANSWERS_WITHIN);
        Self { until, ..Self::default() }
    }

    /// `ESC ]` is read as Alt with a bracket, and the end, `ESC \` or BEL, as Alt with a backslash
    /// or Ctrl with g; or, where it came in two pieces, as Esc and what follows.
    pub(super) fn take(&mut self, key: &KeyEvent) -> Taken {
        let waits = self.until.is_some_and(|until| Instant::now() < until);
        if !waits && !self.escaped && self.answer.is_none() {
            return Taken::Key;
        }
        let escaped = std::mem::take(&mut self.escaped);
        let early = ANSWERS_WITHIN - ESCAPED_WITHIN;
        let may_be_split =
            self.answer.is_some() || self.until.is_some_and(|until| Instant::now() + early < until);
        if key.code == KeyCode::Esc && !escaped && may_be_split {
            self.escaped = true;
            return Taken::Part;
        }
        let alt = escaped || key.modifiers.contains(KeyModifiers::ALT);
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let typed = if escaped { Taken::KeyAfterEsc } else { Taken::Key };
        let Some(answer) = &mut self.answer else {
            if alt && key.code == KeyCode::Char(']') {
                self.answer = Some(String::new());
                return Taken::Part;
            }
            return typed;
        };
        match key.code {
            KeyCode::Char('\\') if alt => self.end(),
            KeyCode::Char('g') if control => self.end(),
            KeyCode::Char(c)
                if !alt && !control && answer.len() < ANSWER_MAX && fits(answer, c) =>
            {
                answer.push(c);
                Taken::Part
            }
            // Somebody types that: it is not an answer.
            _ => {
                (self.until, self.answer) = (None, None);
                typed
            }
        }
    }

    /// An Esc that was held back and that nothing followed.
    pub(super) fn held(&mut self) -> bool {
        self.answer.is_none() && std::mem::take(&mut self.escaped)
    }

    fn end(&mut self) -> Taken {
        self.until = None;
        match self.answer.take().as_deref().and_then(is_light) {
            Some(light) => Taken::Ground { light },
            None => Taken::Part,
        }
    }
}

/// Whether an answer may go on with that.
fn fits(answer: &str, c: char) -> bool {
    const BEGINS: &str = "11;rgb";
    match BEGINS.chars().nth(answer.chars().count()) {
        Some(expected) => c == expected,
        None => c.is_ascii_hexdigit() || ":/a".contains(c),
    }
}

/// `11;rgb:RRRR/GGGG/BBBB`, with one to four hexadecimal digits each (xterm, control sequences). By
/// ITU-R BT.601's weights.
fn is_light(answer: &str) -> Option<bool> {
    let (_, colour) = answer.split_once(':')?;
    let parts: Vec<f64> = colour
        .split('/')
        .take(3)
        .filter_map(|digits| {
            let most = 16_u32.checked_pow(u32::try_from(digits.len()).ok()?)?.checked_sub(1)?;
            Some(f64::from(u32::from_str_radix(digits, 16).ok()?) / f64::from(most))
        })
        .collect();
    let [r, g, b] = parts[..] else { return None };
    Some(0.299 * r + 0.587 * g + 0.114 * b > 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Vec<KeyEvent> {
        let mut keys = vec![];
        let mut escaped = false;
        for c in text.chars() {
            match c {
                '\x1b' => escaped = true,
                '\x07' => keys.push(KeyEvent::new(KeyCode::Char('g'), KeyModifiers::CONTROL)),
                c if std::mem::take(&mut escaped) => {
                    keys.push(KeyEvent::new(KeyCode::Char(c), KeyModifiers::ALT));
                }
                c => keys.push(KeyEvent::new(KeyCode::Char(c), KeyModifiers::NONE)),
            }
        }
        keys
    }
    fn asked() -> Ground {
        Ground { until: Some(Instant::now() + Duration::from_secs(60)), ..Ground::default() }
    }

    #[test]
    fn an_answer_is_told_from_typing_and_typing_is_not_lost() {
        for (answer, light) in [
            ("\x1b]11;rgb:ffff/ffff/ffff\x1b\\", true),
            ("\x1b]11;rgb:1e1e/1e1e/2e2e\x07", false),
            ("\x1b]11;rgba:fd/f6/e3/ff\x1b\\", true),
        ] {
            let mut ground = asked();
            for key in keys("wj") {
                assert_eq!(ground.take(&key), Taken::Key, "typed before");
            }
            let mut taken: Vec<Taken> = keys(answer).iter().map(|key| ground.take(key)).collect();
            assert_eq!(taken.pop(), Some(Taken::Ground { light }), "{answer:?}");
            assert!(taken.iter().all(|t| *t == Taken::Part), "{answer:?}");
            assert_eq!(ground.take(&keys("\x1b]")[0]), Taken::Key, "asked once");
        }
        // In pieces, as over a slow line.
        let mut ground = asked();
        let esc = KeyEvent::new(KeyCode::Esc, KeyModifiers::NONE);
        let pieces = [&[esc][..], &keys("]11;rgb:ffff/ffff/ffff"), &[esc], &keys("\\")].concat();
        let taken: Vec<Taken> = pieces.iter().map(|key| ground.take(key)).collect();
        assert_eq!(taken.last(), Some(&Taken::Ground { light: true }), "{taken:?}");
        assert!(!taken.contains(&Taken::Key), "{taken:?}");
        let mut ground = asked();
        let taken: Vec<Taken> = [esc, keys("w")[0]].iter().map(|key| ground.take(key)).collect();
        assert_eq!(taken, [Taken::Part, Taken::KeyAfterEsc], "a person's Esc");
        let mut ground = asked();
        let taken: Vec<Taken> = keys("\x1b]q").iter().map(|key| ground.take(key)).collect();
        assert_eq!(taken, [Taken::Part, Taken::Key], "a person's Alt-]");
        assert_eq!(ground.take(&keys("q")[0]), Taken::Key);
    }
}
