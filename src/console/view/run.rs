//! The run, or the last one: every step with its time against its budget, what was found, and what
//! has to hold before it is done.

use ratatui::text::Line;

use super::super::command::Action;
use super::super::model::Model;
use super::page::{Page, Panel, left, right};
use super::{parts, piece};
use crate::model::Span;
use crate::model::view::{ClusterView, Outcome, RunView, StepState, StepView};
use crate::picture::band::{self, Mark};
use crate::picture::{Gauge, Ink, Said, number, ways};

/// Facts of so many milliseconds before a run are shown with it.
const LED_TO: i64 = 30_000;

pub(super) fn band(model: &Model, view: &ClusterView) -> Vec<band::Line> {
    let Some(run) = &view.run else {
        let mut lines = band::of(view, model.since());
        lines.truncate(3);
        return lines;
    };
    let what = format!("{} {}", run.body.kind.word(), run.body.nodes(model.glyphs.to()));
    let Some(outcome) = run.outcome else {
        let at = run.steps.iter().position(|s| s.state != StepState::Done);
        let mut first = Said::new().say(Ink::Text, what);
        if let Some(at) = at {
            first = first.then(0, ": ").say(
                Ink::Text,
                format!("step {} of {}, {}", at + 1, run.steps.len(), run.steps[at].kind.word()),
            );
        }
        first = first.then(1, ", ").say(Ink::Muted, "it goes on by itself");
        return vec![
            band::Line::badge(Mark::Running, Ink::Warn, "RUNNING", first),
            band::Line::quiet("next", band::next(view, model.since())),
            band::cost(view, model.since()),
        ];
    };
    let (mark, ink, word) = match outcome {
        Outcome::Verified => (Mark::Holds, Ink::Good, "VERIFIED"),
        Outcome::Unproved => (Mark::Degraded, Ink::Warn, "UNPROVED"),
        Outcome::Aborted => (Mark::Critical, Ink::Bad, "ABORTED"),
        Outcome::RolledBack => (Mark::Degraded, Ink::Warn, "UNDONE"),
        Outcome::Unknown => (Mark::Unknown, Ink::Unknown, "UNKNOWN"),
    };
    let said = match outcome {
        Outcome::Verified => Said::new()
            .say(Ink::Strong, run.body.to.node.as_str())
            .say(Ink::Text, " took the write role, and a real write was read back"),
        Outcome::Unproved => {
            Said::text("the role moved; the proof is missing: see what did not hold")
        }
        Outcome::Aborted => Said::text("nothing moved"),
        Outcome::RolledBack => {
            let from = run.body.demoted().map_or("nobody", |n| n.as_str());
            Said::text(format!("it was undone: {from} has the role again"))
        }
        Outcome::Unknown => Said::text("nobody knows how it ended: a person must look"),
    };
    let said = said.then(1, " · ").say(Ink::Muted, what);
    let mut cost = Said::new();
    if let Some(rto) = run.rto {
        let limit = number::span(view.rto);
        // The policy judges what was done after the word was given, and not who read meanwhile.
        let read = run.times.filter(|t| t.decide > Span::secs(1));
        let words = read.map_or(format!("RTO {} of {limit}", number::span(rto)), |t| {
            let [all, act] = [rto, t.act].map(number::span);
            let over = if t.act > view.rto { format!(" of {limit}") } else { String::new() };
            format!("RTO {all} (acted {act}{over})")
        });
        cost = cost.say(Ink::Text, words);
    }
    if let Some(loss) = &run.rpo {
        cost = cost.then(0, " · loss ").and(0, "", ways::loss(loss));
    }
    if let Some(fence) = run.fence {
        cost = cost.then(1, " · ").say(Ink::Text, format!("fence: {}", fence.words()));
    }
    if cost.is_empty() {
        cost = Said::new().say(Ink::Unknown, "neither time nor loss was measured");
    }
    vec![
        band::Line::badge(mark, ink, word, said),
        band::Line::quiet("measured", cost),
        band::Line::quiet("next", band::next(view, model.since())),
    ]
}

pub(super) fn page<'a>(model: &'a Model, view: &'a ClusterView) -> Page<'a> {
    let (width, side) = super::widths(model);
    let Some(run) = &view.run else {
        let said = Said::text(
            "Nothing ran yet. A run begins when a plan is executed, or when the policy fails over by itself.",
        );
        let mut page =
            Page::new(vec![Panel::lines("steps", "NO RUN", parts::said(model, &said, 1, width))]);
        page.keys = vec![Action::Plan, Action::Cluster, Action::Audit, Action::Back];
        return page;
    };
    let at = run.steps.iter().position(|s| s.state != StepState::Done && run.outcome.is_none());
    let rows = &run.steps;
    let since = if run.outcome.is_none() { model.since() } else { Span::ZERO };
    let name = rows
        .iter()
        .map(|s| unicode_width::UnicodeWidthStr::width(s.node.as_str()))
        .max()
        .unwrap_or(8)
        .clamp(8, width.saturating_sub(60).clamp(8, 60));
    let head = format!(
        "   {:<8} {} {:<8} {:>9} {:>9} OF BUDGET",
        "STEP",
        left("ON", name),
        "STATE",
        "TOOK",
        "BUDGET"
    );
    let steps = Panel::table(
        "steps",
        "STEPS",
        rows.len(),
        |i| i.to_string(),
        |key| key.parse().ok(),
        move |i| row(model, &rows[i], name, since),
    )
    .head(Line::from(piece(model, Ink::Muted, head)))
    .first(at.or(Some(rows.len().saturating_sub(1))))
    .fact(
        Ink::Muted,
        format!(
            "since {} · budget {}",
            number::span(run.age + since),
            number::span(run.body.budget)
        ),
    )
    .least(rows.len() + 1);
    let mut panels = vec![steps];
    let chosen = model
        .chosen("steps")
        .and_then(|k| k.parse().ok())
        .or(at)
        .unwrap_or(rows.len().saturating_sub(1));
    if let Some(step) = rows.get(chosen) {
        let said = Said::text(step.action.clone());
        let mut lines = parts::said(model, &said, 1, width);
        if !step.found.is_empty() {
            let found = Said::from_words(&step.found, Ink::Text);
            lines.extend(parts::labelled(model, "found", Ink::Muted, &found, 13, width));
        }
        panels.push(
            Panel::lines("evidence", format!("EVIDENCE OF {}", step.kind.word()), lines).least(2),
        );
    }
    panels.push(proofs(model, run, width));
    panels.push(super::cluster::nodes(model, view, width));
    panels.extend(super::chart::lag(model, view, model.chosen("nodes"), width));
    // Since it began, with what led to it.
    let began = view.made.0 - i64::try_from(run.age.as_millis()).unwrap_or(i64::MAX) - LED_TO;
    let of_run = view.records.iter().rev().filter(|r| r.record.wall.0 >= began);
    let (lines, marks) = parts::facts(model, of_run, false, 60, width);
    panels.push(
        Panel::marked("facts", "WHAT WAS DECIDED", lines, marks)
            .first(None)
            .fact(Ink::Muted, "newest first")
            .least(2),
    );
    let mut page = Page::new(panels);
    page.keys = vec![Action::ReadAll, Action::NextPanel, Action::Cluster, Action::Audit];
    page.foot = if run.outcome.is_none() {
        Said::new().say(Ink::Muted, "goes on without this console and without the plane")
    } else {
        super::cluster::picture_age(model, view)
    };
    if let Some(width) = side {
        page.side = vec![
            Panel::lines("move", "MOVE OF THE WRITE ROLE", clock(model, view, run, width)).least(9),
            Panel::lines("plan", "THE PLAN", the_plan(model, run, width)).least(4),
        ];
    }
    page
}

fn row(model: &Model, step: &StepView, name: usize, since: Span) -> Line<'static> {
    let (mark, ink) = model.glyphs.step(step.state);
    let running = step.state == StepState::Running;
    let took = step.took.map(|t| if running { t + since } else { t });
    let over = took.is_some_and(|t| t > step.budget);
    let time_ink = if over { Ink::Bad } else { Ink::Text };
    let mut pieces = vec![
        piece(model, ink, format!(" {mark} {:<8} ", step.kind.word())),
        piece(
            model,
            if running { Ink::Strong } else { Ink::Text },
            format!("{} ", left(step.node.as_str(), name)),
        ),
        piece(model, ink, format!("{:<8} ", step.state.word())),
        piece(model, time_ink, right(&took.map_or(String::new(), number::span), 9)),
        piece(model, Ink::Muted, format!(" {} ", right(&number::span(step.budget), 9))),
    ];
    let used = Gauge::of(took.unwrap_or_default().0, step.budget.0, 12);
    pieces.extend(parts::gauge(model, if over { Ink::Bad } else { ink }, used));
    Line::from(pieces)
}

fn proofs(model: &Model, run: &RunView, width: usize) -> Panel<'static> {
    let mut lines = vec![];
    for (name, held, found) in &run.verification {
        let (mark, ink) = model.glyphs.held(*held);
        let said = Said::from_words(found, if *held { Ink::Text } else { Ink::Bad });
        let mut rows = parts::labelled(model, "", ink, &said, 17, width);
        if let Some(first) = rows.first_mut() {
            first.spans[0] = piece(model, ink, format!(" {mark} {}", left(name, 14)));
        }
        lines.extend(rows);
    }
    if let Some(fence) = run.fence {
        lines.extend(parts::labelled(
            model,
            "fence",
            Ink::Muted,
            &Said::text(fence.words()),
            17,
            width,
        ));
    }
    let account = run.rpo.as_ref();
    match account {
        Some(account) => lines.extend(super::plan::loss(model, account, width)),
        None => {
            let mut expected = super::plan::loss(model, &run.body.loss, width);
            if let Some(first) = expected.first_mut() {
                first.spans[0] = piece(model, Ink::Muted, left(" expected", 13));
            }
            lines.extend(expected);
        }
    }
    if let Some(rto) = run.rto {
        let said = Said::text(format!(
            "{} from the last sign of the old primary to the proof on the new one",
            number::span(rto)
        ));
        lines.extend(parts::labelled(model, "RTO", Ink::Strong, &said, 13, width));
    }
    if run.verification.is_empty() {
        let said =
            Said::new().say(Ink::Muted, "a real write, committed and read back, is still to come");
        let waits = model.glyphs.step(StepState::Waiting).0;
        if run.outcome.is_none() {
            lines.extend(parts::labelled(model, waits, Ink::Muted, &said, 3, width));
        }
    }
    let needed = lines.len().min(8);
    let panel = Panel::lines("proofs", "PROOFS", lines).least(needed);
    if run.verification.is_empty() {
        panel.fact(Ink::Muted, "what has to hold before it is done")
    } else {
        let band = crate::model::view::band(run.confidence);
        panel.fact(
            Ink::Muted,
            format!("confidence {} of 100, {}", run.confidence, band.replace('_', " ")),
        )
    }
}

/// The clock of the move in letters that are read from two metres.
fn clock(model: &Model, view: &ClusterView, run: &RunView, width: usize) -> Vec<Line<'static>> {
    let time =
        run.rto.unwrap_or(run.age + if run.outcome.is_none() { model.since() } else { Span::ZERO });
    let text = number::countdown(time).replace('\u{a0}', " ").trim().to_owned();
    let mut lines = big(model, &text, width);
    lines.push(Line::default());
    // The policy judges what was done, and not how long somebody read before.
    let judged = run.times.map_or(time, |t| t.act);
    let used =
        Gauge::of(judged.0, view.rto.0, u16::try_from(width.saturating_sub(16)).unwrap_or(8));
    let ink = if judged > view.rto { Ink::Bad } else { Ink::Text };
    let mut pieces = vec![piece(model, Ink::Text, " ")];
    pieces.extend(parts::gauge(model, ink, used));
    pieces.push(piece(model, ink, format!(" of {}", number::span(view.rto))));
    lines.push(Line::from(pieces));
    lines
}

fn big(model: &Model, text: &str, width: usize) -> Vec<Line<'static>> {
    use ratatui::widgets::Widget as _;
    let widget = tui_big_text::BigText::builder()
        .pixel_size(tui_big_text::PixelSize::HalfHeight)
        .lines(vec![text.to_owned().into()])
        .build();
    let mut buffer = ratatui::buffer::Buffer::empty(ratatui::layout::Rect::new(
        0,
        0,
        u16::try_from(width.min(text.len() * 8)).unwrap_or(40),
        4,
    ));
    if model.glyphs == super::Glyphs::Ascii {
        return vec![Line::from(piece(model, Ink::Strong, format!(" {text}")))];
    }
    widget.render(buffer.area, &mut buffer);
    (0..buffer.area.height)
        .map(|y| {
            let row: String = (0..buffer.area.width).map(|x| buffer[(x, y)].symbol()).collect();
            Line::from(piece(model, Ink::Strong, format!(" {}", row.trim_end())))
        })
        .collect()
}

fn the_plan(model: &Model, run: &RunView, width: usize) -> Vec<Line<'static>> {
    let mut lines = vec![];
    let mut say = |label: &str, words: String| {
        lines.extend(parts::labelled(model, label, Ink::Muted, &Said::text(words), 13, width));
    };
    say("plan", run.plan.short().to_owned());
    say("asked by", run.body.requested_by.clone());
    say("why", run.body.reason.clone());
    say("way back", run.body.way_back.clone());
    lines
}
