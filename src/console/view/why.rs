//! Why it is as it is: the answer, what the policy says of a move now, every candidate through
//! every check, what was refused lately.

use super::super::command::Action;
use super::super::model::Model;
use super::page::{Page, Panel};
use super::parts;
use crate::model::view::ClusterView;
use crate::picture::{Ink, band, outlook};

pub(super) fn band(model: &Model, view: &ClusterView) -> Vec<band::Line> {
    let mut lines = band::of(view, model.since());
    let answer = outlook::answer(&view.outlook.answer);
    if !answer.is_empty() {
        lines[0].said = answer;
    }
    lines
}

pub(super) fn page<'a>(model: &'a Model, view: &'a ClusterView) -> Page<'a> {
    let (width, side) = super::widths(model);
    let mut panels = vec![];
    let list = &view.outlook.constraints;
    let (mut lines, mut marks) = (vec![], vec![]);
    // What fails comes first.
    let mut order: Vec<_> = list.iter().collect();
    order.sort_by_key(|c| c.passed);
    for check in order {
        marks.push((lines.len(), check.name.to_string()));
        lines.extend(parts::check(model, check, width));
    }
    let passed = list.iter().filter(|c| c.passed).count();
    if !list.is_empty() {
        let needed = lines.len().min(8);
        panels.push(
            Panel::marked("policy", "WHAT THE POLICY SAYS OF A MOVE NOW", lines, marks)
                .fact(Ink::Muted, format!("{passed} of {} pass", list.len()))
                .least(needed),
        );
    }
    panels.push(super::plan::candidates(model, &view.outlook.candidates, width));
    panels.extend(super::cluster::what_if(model, view));
    let refused = || view.records.iter().rev().filter(|r| is_refusal(&r.record.kind));
    let count = refused().count();
    let (facts, marks) = parts::facts(model, refused(), false, 20, width);
    panels.push(
        Panel::marked("refusals", "REFUSALS LATELY", facts, marks)
            .first(None)
            .fact(Ink::Muted, format!("{count} · newest first"))
            .least(2),
    );
    let mut page = Page::new(panels);
    page.typed = super::cluster::act(view);
    page.keys = vec![Action::NextPanel, Action::ReadAll, Action::Audit, Action::Back];
    page.foot = super::cluster::picture_age(model, view);
    page.detail =
        vec![outlook::answer(&view.outlook.answer), outlook::at_length(&view.outlook, view.made)];
    if let Some(width) = side {
        let mut lines = vec![];
        for node in &view.nodes {
            for said in super::node::in_words(view, node).into_iter().take(2) {
                lines.extend(parts::said(model, &said, 1, width));
            }
        }
        page.side = vec![Panel::lines("nodes", "NODES", lines).least(8)];
    }
    page
}

fn is_refusal(kind: &str) -> bool {
    kind == "refusal"
}
