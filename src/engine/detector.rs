//! Is that node silent? Phi accrual (Hayashibara, Défago, Yared, Katayama: "The φ accrual failure
//! detector", SRDS 2004): from the last arrivals estimate how they are spread, and say how
//! improbable the present silence is: φ = −log10 P(a heartbeat comes later than this). φ = 8 means
//! one wrong suspicion in 10⁸. Or plain counting of missed intervals.
//!
//! Works in integers outwards: φ × 1000, computed by one pinned library, so that every machine
//! concludes the same.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::model::topology::Detection;
use crate::model::{Span, Timestamp};

/// Arrivals remembered.
pub const WINDOW: usize = 200;
/// Arrivals needed before anything is concluded.
pub const SAMPLES_MIN: usize = 5;
/// In a window of fewer than this one long gap would pass for the usual pace.
const SAMPLES_FIRM: usize = 30;
/// Below [`SAMPLES_MIN`] there is nothing to estimate: these fixed ages suspect and fail.
pub const FEW_SUSPECT: Span = Span::secs(1);
/// See [`FEW_SUSPECT`].
pub const FEW_FAILED: Span = Span::secs(3);
/// φ × 1000 when the probability underflows.
pub const PHI_MAX: u64 = 300_000;

/// What a detector says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Silence {
    /// Too few arrivals to say.
    Unknown,
    /// As usual.
    None,
    /// Unusual.
    Suspect,
    /// Practically certain.
    Failed,
}

/// One node's arrivals.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Detector {
    detection: Detection,
    intervals: VecDeque<u64>,
    sum: u64,
    squares: u128,
    last: Option<Timestamp>,
    in_a_row: u32,
    was_failed: bool,
    /// The last interval was left out as unusual.
    #[serde(default)]
    odd: bool,
}

impl Detector {
    /// A detector without arrivals.
    pub fn new(detection: Detection) -> Self {
        Self {
            detection,
            intervals: VecDeque::with_capacity(WINDOW),
            sum: 0,
            squares: 0,
            last: None,
            in_a_row: 0,
            was_failed: false,
            odd: false,
        }
    }

    /// Judges the same arrivals by another rule.
    pub fn adopt(&mut self, detection: Detection) {
        self.detection = detection;
    }

    /// The usual time between two arrivals; `None` without samples.
    pub fn interval(&self) -> Option<Span> {
        (self.intervals.len() >= SAMPLES_MIN)
            .then(|| Span(self.sum / self.intervals.len() as u64 * 1_000))
    }

    /// A heartbeat arrived.
    pub fn heartbeat(&mut self, now: Timestamp) {
        // Before it was due there is nothing to judge: the usual case, and the cheap one.
        let silence = if now > self.due() { self.silence(now) } else { Silence::None };
        let was_failed = silence == Silence::Failed;
        // Two in a row are the pace.
        self.odd = silence == Silence::Suspect && self.intervals.len() < SAMPLES_FIRM && !self.odd;
        // A gap that was judged as a failure says nothing of the usual pace.
        if let Some(last) = self.last.filter(|_| !was_failed && !self.odd) {
            // In microseconds, so that the sum of squares of a window cannot overflow.
            let interval = now.since(last).0 / 1_000;
            if self.intervals.len() == WINDOW
                && let Some(old) = self.intervals.pop_front()
            {
                self.sum -= old;
                self.squares -= u128::from(old) * u128::from(old);
            }
            self.intervals.push_back(interval);
            self.sum += interval;
            self.squares += u128::from(interval) * u128::from(interval);
        }
        if was_failed {
            (self.was_failed, self.in_a_row) = (true, 0);
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.last = Some(now);
    }

    /// The observer itself did not run: its silence starts again now.
    pub fn forgive(&mut self, now: Timestamp) {
        if self.last.is_some() {
            self.last = Some(now);
        }
    }

    /// When the next arrival is overdue: before that nothing unusual can be concluded from silence.
    pub fn due(&self) -> Timestamp {
        let Some(last) = self.last.filter(|_| self.intervals.len() >= SAMPLES_MIN) else {
            return Timestamp(0);
        };
        match &self.detection {
            Detection::Phi { acceptable_pause, .. } => {
                last + *acceptable_pause + Span(self.sum / self.intervals.len() as u64 * 1_000)
            }
            Detection::Counting { interval, timeout, .. } => last + *interval + *timeout,
        }
    }

    /// Since the last arrival.
    pub fn age(&self, now: Timestamp) -> Option<Span> {
        self.last.map(|last| now.since(last))
    }

    /// φ × 1000 at `now`; 0 while unknown, and in counting mode.
    pub fn phi_milli(&self, now: Timestamp) -> u64 {
        let (Detection::Phi { min_deviation, acceptable_pause, .. }, Some(last)) =
            (&self.detection, self.last)
        else {
            return 0;
        };
        if self.intervals.len() < SAMPLES_MIN {
            return 0;
        }
        phi_milli(
            now.since(last),
            self.mean_us(),
            self.deviation_us(),
            *min_deviation,
            *acceptable_pause,
        )
    }

    #[expect(clippy::cast_precision_loss, reason = "microseconds of a few minutes fit in 53 bits")]
    fn mean_us(&self) -> f64 {
        self.sum as f64 / self.intervals.len().max(1) as f64
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "squares of a few minutes' microseconds fit in 53 bits"
    )]
    fn deviation_us(&self) -> f64 {
        let n = self.intervals.len().max(1) as f64;
        let mean = self.mean_us();
        libm::sqrt((self.squares as f64 / n - mean * mean).max(0.0))
    }

    /// What the present silence means.
    pub fn silence(&self, now: Timestamp) -> Silence {
        let Some(last) = self.last else { return Silence::Unknown };
        // Before the next arrival is due nothing unusual can be seen; only after a failure recovery
        // has to be counted.
        if now < self.due() && matches!(self.detection, Detection::Phi { .. }) {
            return Silence::None;
        }
        match &self.detection {
            Detection::Phi { suspect_milli, failed_milli, .. } => {
                if self.intervals.len() < SAMPLES_MIN {
                    return match now.since(last) {
                        age if age >= FEW_FAILED => Silence::Failed,
                        age if age >= FEW_SUSPECT => Silence::Suspect,
                        _ => Silence::Unknown,
                    };
                }
                let phi = self.phi_milli(now);
                if phi >= *failed_milli {
                    Silence::Failed
                } else if phi >= *suspect_milli {
                    Silence::Suspect
                } else {
                    Silence::None
                }
            }
            Detection::Counting {
                interval,
                timeout,
                failure_threshold,
                recovery_threshold,
                jitter_percent,
            } => {
                // Late is one that its jitter and the time-out do not excuse; silence is counted in
                // intervals from the last word on.
                let age = now.since(last).0;
                let excused = interval.0 + interval.0 / 100 * jitter_percent + timeout.0;
                let missed = if age < excused { 0 } else { (age / interval.0.max(1)).max(1) };
                if missed >= u64::from(*failure_threshold) {
                    Silence::Failed
                } else if missed >= 1 || (self.was_failed && self.in_a_row < *recovery_threshold) {
                    Silence::Suspect
                } else {
                    Silence::None
                }
            }
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bounded to 0..=PHI_MAX"
)]
fn phi_milli(
    silent: Span,
    mean_us: f64,
    deviation_us: f64,
    min_deviation: Span,
    pause: Span,
) -> u64 {
    let deviation = deviation_us.max(min_deviation.0 as f64 / 1_000.0);
    let y = (silent.0 as f64 / 1_000.0 - mean_us - pause.0 as f64 / 1_000.0) / deviation;
    let later = 0.5 * libm::erfc(y / core::f64::consts::SQRT_2);
    if later <= 0.0 {
        return PHI_MAX;
    }
    (-libm::log10(later) * 1_000.0).clamp(0.0, PHI_MAX as f64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp(ms * 1_000_000)
    }
    fn phi() -> Detector {
        Detector::new(Detection::Phi {
            suspect_milli: 8_000,
            failed_milli: 16_000,
            min_deviation: Span::millis(50),
            acceptable_pause: Span::millis(0),
        })
    }

    #[test]
    fn a_node_is_unknown_until_there_are_samples() {
        let mut d = phi();
        assert_eq!(d.silence(at(10_000)), Silence::Unknown);
        d.heartbeat(at(0));
        assert_eq!(d.silence(at(900)), Silence::Unknown);
        assert_eq!(
            d.silence(at(3_000)),
            Silence::Failed,
            "but not for ever: one heartbeat and then nothing"
        );
    }

    #[test]
    fn phi_follows_the_normal_distribution() {
        let mut d = phi();
        for i in 0..=50 {
            d.heartbeat(at(i * 100));
        }
        let last = 5_000;
        // Exactly at the mean half of all arrivals are later: −log10(0.5) = 0.301.
        assert_eq!(d.phi_milli(at(last + 100)), 301);
        // Four deviations: P = 3.167e-5, φ = 4.499.
        assert_eq!(d.phi_milli(at(last + 300)), 4_499);
        assert_eq!(d.silence(at(last + 300)), Silence::None);
        assert_eq!(d.silence(at(last + 400)), Silence::Suspect);
        assert_eq!(d.silence(at(last + 600)), Silence::Failed);
        assert_eq!(d.phi_milli(at(last + 60_000)), PHI_MAX);
    }

    #[test]
    fn jitter_makes_it_patient() {
        let (mut steady, mut jittery) = (phi(), phi());
        let mut t = 0;
        for i in 0..100 {
            steady.heartbeat(at(i * 300));
            t += if i % 2 == 0 { 100 } else { 500 };
            jittery.heartbeat(at(t));
        }
        assert!(steady.phi_milli(at(99 * 300 + 900)) > jittery.phi_milli(at(t + 900)));
    }

    /// A restart of two seconds among few arrivals is no reason to wait longer for the next silence;
    /// a pace that became slower is.
    #[test]
    fn one_gap_among_few_arrivals_does_not_make_it_patient() {
        let mut d = phi();
        for i in 0..=8 {
            d.heartbeat(at(i * 250));
        }
        d.heartbeat(at(2_000 + 550));
        d.heartbeat(at(2_550 + 250));
        assert_eq!(d.silence(at(2_800 + 800)), Silence::Failed);
        let mut slower = phi();
        for t in [0, 250, 500, 750, 1_000, 1_250, 1_790, 2_330, 2_870, 3_410] {
            slower.heartbeat(at(t));
        }
        assert_eq!(slower.silence(at(3_410 + 540)), Silence::None);
    }

    /// Every 5 s, 2 s of time-out, three misses: failed 15 s after the last word, and not later.
    #[test]
    fn a_silent_node_is_failed_at_the_third_interval() {
        let mut d = Detector::new(Detection::Counting {
            interval: Span::secs(5),
            timeout: Span::secs(2),
            failure_threshold: 3,
            recovery_threshold: 2,
            jitter_percent: 10,
        });
        d.heartbeat(at(0));
        d.heartbeat(at(5_400));
        assert_eq!(d.silence(at(5_400 + 7_400)), Silence::None, "late, and excused");
        assert_eq!(d.silence(at(5_400 + 7_500)), Silence::Suspect);
        assert_eq!(d.silence(at(5_400 + 14_999)), Silence::Suspect);
        assert_eq!(d.silence(at(5_400 + 15_000)), Silence::Failed);
    }

    #[test]
    fn counting_counts() {
        let mut d = Detector::new(Detection::Counting {
            interval: Span::millis(1_000),
            timeout: Span::millis(500),
            failure_threshold: 3,
            recovery_threshold: 2,
            jitter_percent: 0,
        });
        d.heartbeat(at(0));
        let cases = [
            (1_400, Silence::None),
            (1_500, Silence::Suspect),
            (2_900, Silence::Suspect),
            (3_000, Silence::Failed),
        ];
        for (t, expected) in cases {
            assert_eq!(d.silence(at(t)), expected, "{t} ms");
        }
        d.heartbeat(at(4_000));
        assert_eq!(
            d.silence(at(4_001)),
            Silence::Suspect,
            "one arrival after a failure is not enough"
        );
        d.heartbeat(at(5_000));
        assert_eq!(d.silence(at(5_001)), Silence::None);
    }
}
