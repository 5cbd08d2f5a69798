//! Every cluster: those that need somebody first, the well ones by region.

use ratatui::text::Line;

use super::super::command::Action;
use super::super::model::{Model, Screen};
use super::page::{Page, Panel, left, right};
use super::{parts, piece};
use crate::model::view::{ClusterState, NodeView};
use crate::picture::band::{self, Mark};
use crate::picture::summary::{Attention, Summary, in_order};
use crate::picture::{Ink, Said, number, ways};

/// Cells of the lag.
const LAG: usize = 13;

/// The clusters that pass the filter, in the order in which people should look.
fn clusters(model: &Model) -> Vec<Summary> {
    let filter = model.filters.get(&Screen::Fleet).map_or("", String::as_str);
    let all = model.clusters.values().map(|seen| Summary::of(&seen.view));
    in_order(all.filter(|s| s.passes(filter)).collect())
}

/// The next cluster that is not well, after the one that is looked at.
pub(in super::super) fn next_trouble(model: &Model, back: bool) -> Option<crate::model::ClusterId> {
    let all = in_order(model.clusters.values().map(|seen| Summary::of(&seen.view)).collect());
    let mut troubled: Vec<_> =
        all.into_iter().filter(|s| s.attention != Attention::Well).map(|s| s.cluster).collect();
    if back {
        troubled.reverse();
    }
    let at = model.cluster.as_ref().and_then(|c| troubled.iter().position(|t| t == c));
    let next = at.map_or(0, |at| (at + 1) % troubled.len().max(1));
    troubled.into_iter().nth(next)
}

/// Of every cluster, whatever the table is filtered to.
pub(super) fn band(model: &Model) -> Vec<band::Line> {
    let all = in_order(model.clusters.values().map(|seen| Summary::of(&seen.view)).collect());
    let count = |a: Attention| all.iter().filter(|s| s.attention == a).count();
    let first = |a: Attention| all.iter().find(|s| s.attention == a);
    let mut lines = vec![];
    let why = |s: &Summary| {
        model.clusters.get(&s.cluster).map_or_else(Said::new, |seen| {
            Said::new().say(Ink::Strong, format!("{}: ", s.name)).and(
                0,
                "",
                band::verdict(&seen.view),
            )
        })
    };
    if let Some(s) = first(Attention::Yours) {
        let red = s.state == ClusterState::Critical;
        let ink = if red { Ink::Bad } else { Ink::Warn };
        let word = format!("{} YOURS", count(Attention::Yours));
        lines.push(band::Line::badge(Mark::Yours, ink, &word, why(s)));
    }
    if let Some(s) = first(Attention::Stopped) {
        let word = format!("{} STOPPED", count(Attention::Stopped));
        lines.push(band::Line::badge(Mark::Critical, Ink::Bad, &word, why(s)));
    }
    if let Some(s) = first(Attention::Moves) {
        let said = Said::new().say(Ink::Strong, format!("{}: ", s.name)).and(0, "", s.next_words());
        let word = format!("{} moves", count(Attention::Moves));
        let by_itself = if s.next.1.is_some() { " left, by itself" } else { ", by itself" };
        lines.push(band::Line {
            label: band::Label::Word(Mark::Moves, Ink::Warn, word),
            said: said.say(Ink::Text, by_itself),
        });
    }
    let unknown = count(Attention::Unknown);
    let degraded = count(Attention::Degraded);
    let well = all.iter().filter(|s| s.state == ClusterState::Healthy).count();
    let mut rest = Said::text(format!("{well} of {} healthy", all.len()));
    if degraded > 0 {
        rest = rest.then(0, " · ").say(Ink::Warn, format!("{degraded} degraded"));
    }
    if unknown > 0 {
        rest = rest.then(0, " · ").say(Ink::Unknown, format!("{unknown} unknown"));
    }
    lines.push(if lines.is_empty() && degraded + unknown == 0 {
        band::Line::badge(Mark::Healthy, Ink::Good, "HEALTHY", rest)
    } else if lines.is_empty() {
        let (mark, ink, word) = if unknown > 0 {
            (Mark::Unknown, Ink::Unknown, "UNKNOWN")
        } else {
            (Mark::Degraded, Ink::Warn, "DEGRADED")
        };
        band::Line::badge(mark, ink, word, rest)
    } else {
        band::Line::quiet("the others", rest)
    });
    lines
}

pub(super) fn page(model: &Model) -> Page<'_> {
    let all = clusters(model);
    let wide = model.size.0 >= 160;
    let name = if wide { 20 } else { 12 };
    let head = format!(
        "   {} {:<10} {:<10} {:<5} {:>5} {:>13} {}",
        left("CLUSTER", name),
        "STATE",
        "PRIMARY",
        "VOTES",
        "SPARE",
        "LAG OF RPO",
        "NEXT"
    );
    let total = model.clusters.len();
    let shown = all.len();
    let (yours, others): (Vec<Summary>, Vec<Summary>) =
        all.iter().cloned().partition(|s| s.attention != Attention::Well);
    let healthy = all.iter().filter(|s| s.state == ClusterState::Healthy).count();
    let listed: Vec<Summary> = yours.into_iter().chain(others).collect();
    let keys: Vec<String> = listed.iter().map(|s| s.cluster.as_str().to_owned()).collect();
    let find = {
        let keys = keys.clone();
        move |name: &str| keys.iter().position(|k| k == name)
    };
    let row = move |i: usize| row(model, &listed[i], name);
    let filter = model.filters.get(&Screen::Fleet).filter(|f| !f.is_empty());
    let oldest = model.clusters.values().map(|s| s.age(model.moment.now)).max();
    let unknown = filter.and_then(|f| f.split_whitespace().find(|w| !Summary::knows(w)));
    let fact = match (filter, oldest) {
        (Some(_), _) if let Some(word) = unknown => format!("{word} is no filter"),
        (Some(filter), _) => format!("/{filter}"),
        (None, Some(age)) => format!("trouble first · oldest picture {}", number::age(age)),
        (None, None) => "trouble first".to_owned(),
    };
    let title = if shown == total {
        let s = if total == 1 { "" } else { "S" };
        format!("{total} CLUSTER{s} · {healthy} HEALTHY")
    } else {
        format!("{shown} OF {total} CLUSTERS")
    };
    let table = Panel::table("clusters", title, shown, move |i| keys[i].clone(), find, row)
        .head(Line::from(piece(model, Ink::Muted, head)))
        .fact(Ink::Muted, fact)
        .least(4);
    let (width, side) = super::widths(model);
    let mut panels = vec![table];
    let regions = regions(model, &all);
    if total > 1 && !regions.is_empty() {
        panels.push(Panel::lines("regions", "HEALTHY BY REGION", regions).least(3));
    }
    let mut records: Vec<_> =
        model.clusters.values().flat_map(|s| s.view.records.iter().rev().take(20)).collect();
    records.sort_by_key(|r| std::cmp::Reverse(r.record.wall));
    let (lines, marks) = parts::facts(model, records.into_iter(), total > 1, 60, width);
    panels.push(
        Panel::marked("facts", "LAST FACTS", lines, marks)
            .first(None)
            .fact(Ink::Muted, "newest first")
            .least(3),
    );
    let mut page = Page::new(panels);
    page.foot = Said::new().say(Ink::Muted, format!("{shown} of {total} shown"));
    page.keys =
        vec![Action::Open, Action::ReadAll, Action::Filter, Action::NextTrouble, Action::Audit];
    if let Some(side) = side {
        page.side = beside(model, side);
    }
    page
}

fn row(model: &Model, s: &Summary, name: usize) -> Line<'static> {
    let (mark, ink) = band::state(s.state);
    let before = match s.attention {
        Attention::Yours => piece(model, Ink::Bad, model.glyphs.mark(Mark::Yours)),
        Attention::Moves => piece(model, Ink::Warn, model.glyphs.mark(Mark::Moves)),
        _ => piece(model, Ink::Text, " "),
    };
    let primary = match &s.primary {
        Some(p) => piece(model, Ink::Text, left(p.as_str(), 10)),
        None => piece(model, Ink::Bad, left("nobody", 10)),
    };
    let (votes, of, _) = s.votes;
    let over = s.lag.is_some_and(|l| l > s.lag_limit);
    let lag = match s.lag {
        None => "unknown".to_owned(),
        Some(lag) => {
            let of = number::of_limit(lag, s.lag_limit);
            // The deadline beside it keeps its place.
            let of = if of.chars().count() < LAG { of } else { number::bytes(lag) };
            format!("{of}{}", if over { "!" } else { "" })
        }
    };
    let lag_ink = match s.lag {
        None => Ink::Unknown,
        Some(_) if over => Ink::Bad,
        Some(_) => Ink::Text,
    };
    let mut pieces = vec![
        piece(model, Ink::Text, " "),
        before,
        piece(model, Ink::Text, format!(" {} ", left(&s.name, name))),
        piece(model, ink, left(&format!("{} {}", model.glyphs.mark(mark), s.state.word()), 11)),
        primary,
        piece(model, Ink::Text, format!(" {:<5} {:>5} ", format!("{votes}/{of}"), s.spare())),
        piece(model, lag_ink, right(&lag, LAG)),
        piece(model, Ink::Text, " "),
    ];
    for line in s.next_words().whole(24) {
        pieces.extend(line.into_iter().map(|(ink, words)| piece(model, ink, words)));
    }
    Line::from(pieces)
}

fn regions(model: &Model, all: &[Summary]) -> Vec<Line<'static>> {
    let mut regions: Vec<(&str, Vec<&Summary>)> = vec![];
    for s in all.iter().filter(|s| s.attention == Attention::Well) {
        let region = s.regions.first().map_or("nowhere", String::as_str);
        match regions.iter_mut().find(|(r, _)| *r == region) {
            Some((_, list)) => list.push(s),
            None => regions.push((region, vec![s])),
        }
    }
    regions
        .into_iter()
        .map(|(region, list)| {
            let dots = model.glyphs.mark(Mark::Healthy).repeat(list.len().min(24));
            let worst = list.iter().filter_map(|s| s.lag.map(|l| (l, s.lag_limit))).max();
            let spare = list.iter().map(|s| s.spare()).min().unwrap_or(0);
            let lag = worst.map_or("worst lag unknown".to_owned(), |(l, limit)| {
                format!("worst lag {}", number::of_limit(l, limit))
            });
            Line::from(vec![
                piece(model, Ink::Text, format!("   {} ", left(region, 12))),
                piece(model, Ink::Good, left(&dots, 24)),
                piece(
                    model,
                    Ink::Text,
                    format!(" {:>4}   {lag}   spare {spare} or more", list.len()),
                ),
            ])
        })
        .collect()
}

/// The selected cluster in full, beside the list.
fn beside(model: &Model, width: usize) -> Vec<Panel<'_>> {
    let all = clusters(model);
    let chosen = model.chosen("clusters");
    let Some(s) = all
        .iter()
        .find(|s| chosen.is_some_and(|c| c == s.cluster.as_str()))
        .or_else(|| all.first())
    else {
        return vec![];
    };
    let Some(seen) = model.clusters.get(&s.cluster) else { return vec![] };
    let view = &seen.view;
    let mut lines = vec![];
    for line in band::of(view, seen.age(model.moment.now)) {
        lines.extend(parts::said(model, &line.said, 1, width));
        lines.push(Line::default());
    }
    let mut panels = vec![Panel::lines("cluster", s.name.clone(), lines).least(12)];
    let ways = if ways::anything(view) { ways::ways(view) } else { vec![] };
    if s.attention == Attention::Yours && !ways.is_empty() {
        panels.push(super::cluster::may_do(model, &ways, width));
    }
    let of_node = |node: &NodeView| {
        let (mark, ink) = model.glyphs.verdict(node.verdict);
        let role = node.role.word();
        let words = Said::text(format!("{} {role}", node.node)).say(
            Ink::Muted,
            match &*node.why {
                "" => String::new(),
                why => format!(" · {why}"),
            },
        );
        parts::labelled(model, mark, ink, &words, 3, width)
    };
    panels.push(
        Panel::lines("members", "ITS NODES", view.nodes.iter().flat_map(of_node).collect())
            .least(view.nodes.len()),
    );
    let others = all.iter().filter(|o| {
        o.cluster != s.cluster && matches!(o.attention, Attention::Yours | Attention::Stopped)
    });
    let mut lines = vec![];
    for other in others {
        let Some(seen) = model.clusters.get(&other.cluster) else { continue };
        let said = Said::new().say(Ink::Strong, format!("{}: ", other.name)).and(
            0,
            "",
            band::yours(&seen.view),
        );
        lines.extend(parts::labelled(
            model,
            model.glyphs.mark(Mark::Yours),
            Ink::Warn,
            &said,
            3,
            width,
        ));
    }
    if !lines.is_empty() {
        panels.push(Panel::lines("others", "OTHERS THAT NEED SOMEBODY", lines).least(2));
    }
    panels
}
