//! The run, or the last one: every step with its time against its budget, then the verification and
//! what was measured.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span as Text};
use ratatui::widgets::Paragraph;

use super::super::model::Model;
use super::super::theme::Role;
use super::{piece, plan, words};
use crate::model::view::{ClusterView, Outcome};

pub(super) fn draw(model: &Model, view: &ClusterView, frame: &mut Frame<'_>, area: Rect) {
    let Some(run) = &view.run else {
        let lines =
            vec![Line::default(), Line::from(piece(model, Role::Title, " nothing ran yet"))];
        frame.render_widget(Paragraph::new(lines), area);
        return;
    };
    let width = usize::from(area.width);
    let from = run.body.demoted().map_or("nobody", |n| n.as_str());
    let (role, word) = match run.outcome {
        None => (Role::Current, "RUNNING".to_owned()),
        Some(o @ Outcome::Verified) => (Role::Current, o.word().to_uppercase()),
        Some(o) => (Role::Danger, o.word().to_uppercase()),
    };
    let mut lines = vec![
        Line::from(vec![
            piece(model, role, format!(" {word} ")),
            piece(
                model,
                Role::Title,
                format!(
                    " plan {}  {} {from} → {}",
                    run.plan.short(),
                    run.body.kind.word(),
                    run.body.to.node
                ),
            ),
            piece(model, Role::Muted, format!("  {}", run.age)),
        ]),
        Line::default(),
        Line::from(piece(
            model,
            Role::Muted,
            format!("   {:<8} {:<10} {:<8} {:>9} {:>9}", "step", "node", "state", "took", "budget"),
        )),
    ];
    for step in &run.steps {
        let (glyph, role) = words::step(model, step.state);
        let took = step.took.map_or(String::new(), |t| t.to_string());
        lines.push(Line::from(vec![
            piece(model, role, format!(" {glyph} {:<8} ", step.kind.word())),
            piece(model, Role::Text, format!("{:<10} ", words::cut(step.node.as_str(), 10))),
            piece(model, role, format!("{:<8} ", step.state.word())),
            piece(model, Role::Text, format!("{took:>9} {:>9}  ", step.budget.to_string())),
            piece(
                model,
                Role::Muted,
                if width >= 110 {
                    words::cut(&step.found, width.saturating_sub(53))
                } else {
                    String::new()
                },
            ),
        ]));
    }
    // On a narrow screen what was found has its own lines, for the step that matters now.
    let newest = run
        .steps
        .iter()
        .rev()
        .find(|s| s.state != crate::model::view::StepState::Waiting && run.outcome.is_none());
    if let Some(step) = newest.filter(|_| width < 110) {
        for line in
            words::wrap(&format!("{}: {}", step.kind.word(), step.found), width.saturating_sub(5))
        {
            lines.push(Line::from(piece(model, Role::Muted, format!("   {line}"))));
        }
    }
    lines.push(Line::default());
    if !run.verification.is_empty() {
        for (name, held, found) in &run.verification {
            let (glyph, role) = words::held(model, *held);
            lines.push(Line::from(vec![
                piece(model, role, format!(" {glyph} {name:<12} ")),
                piece(model, Role::Text, words::cut(found, width.saturating_sub(17))),
            ]));
        }
        lines.push(Line::default());
    }
    if let Some(rto) = run.rto {
        lines.push(Line::from(vec![
            Text::raw(" "),
            piece(model, Role::Title, format!("RTO {rto}")),
            piece(
                model,
                Role::Muted,
                "  from the last sign of the old primary to the proof on the new one",
            ),
        ]));
    }
    if let Some(loss) = &run.rpo {
        lines.push(Line::from(vec![
            piece(model, Role::Title, " RPO "),
            piece(model, plan::loss_role(loss), loss.short()),
        ]));
        for line in words::wrap(loss.reason(), width.saturating_sub(7)) {
            lines.push(Line::from(piece(model, Role::Muted, format!("     {line}"))));
        }
    }
    if let Some(fence) = run.fence {
        lines.push(Line::from(vec![
            piece(model, Role::Title, " fence "),
            piece(model, Role::Text, fence.words()),
        ]));
    }
    let shown = super::scrolled(model, lines, area);
    frame.render_widget(Paragraph::new(shown), area);
}
