//! Certificates that run out: told while there is time, because afterwards nobody new is let in
//! anywhere, people included.

use super::Engine;
use crate::model::observation::Certificate;
use crate::model::view::Verdict;
use crate::model::{NodeId, Span};

/// One that has less than this left is told.
const LEFT_LEAST: Span = Span::secs(14 * 24 * 3_600);

/// Those that live shortly are renewed late in their lives: a quarter of it is warning enough.
pub fn is_ending(certificate: &Certificate) -> bool {
    certificate.left < LEFT_LEAST.min(Span(certificate.lifetime.0 / 4))
}

/// In words: whose, and how long.
pub fn in_words(whose: &str, certificate: &Certificate) -> String {
    let what = match certificate.what.as_str() {
        "own" => format!("the certificate of {whose}"),
        "authority" => format!("the authority's certificate that {whose} trusts"),
        other => format!("the {other} certificate of {whose}"),
    };
    let until = certificate.until.rfc3339();
    let days = certificate.left.0 / Span::secs(24 * 3_600).0;
    match days {
        _ if certificate.left == Span::ZERO => format!("{what} ran out at {until}"),
        2.. => format!("{what} runs out in {days} days, at {until}"),
        _ => format!("{what} runs out in {}, at {until}", certificate.left),
    }
}

impl Engine {
    /// The one that ends first, among those that end soon.
    pub(super) fn certificate_that_ends(&self) -> Option<String> {
        let heard = self.nodes.iter().filter(|(_, m)| m.verdict <= Verdict::Degraded);
        let of_nodes = heard.filter_map(|(node, m)| Some((node, m.report.as_ref()?)));
        let of_nodes = of_nodes
            .flat_map(|(node, r)| r.certificates.iter().map(move |c| (NodeId::as_str(node), c)));
        let own = self.own_certificates.iter().map(|c| ("the plane", c));
        let ending = of_nodes.chain(own).filter(|(_, c)| is_ending(c));
        let (whose, first) = ending.min_by_key(|(_, c)| c.until)?;
        let told = in_words(whose, first);
        Some(format!("{told}: put new files in its place, they are read without a restart"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(left_h: u64, lifetime_h: u64) -> Certificate {
        Certificate {
            what: "own".into(),
            left: Span::secs(left_h * 3_600),
            lifetime: Span::secs(lifetime_h * 3_600),
            ..Certificate::default()
        }
    }

    #[test]
    fn there_is_time_left_when_it_is_told() {
        for (left, lifetime, told) in [
            (24 * 15, 24 * 365, false),
            (24 * 13, 24 * 365, true),
            (0, 24 * 365, true),
            // Renewed by a machine every day: at a third of its life at the latest.
            (8, 24, false),
            (5, 24, true),
        ] {
            assert_eq!(is_ending(&certificate(left, lifetime)), told, "{left} of {lifetime}");
        }
        assert!(in_words("n1", &certificate(24 * 13, 1)).contains("in 13 days"));
        assert!(in_words("n1", &certificate(5, 1)).contains("in 5 h 00 min"));
        assert!(in_words("n1", &certificate(0, 1)).contains("ran out"));
    }
}
