//! One cluster: where its state machine stands, who votes, every node, what happens next.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span as Text};
use ratatui::widgets::Paragraph;

use super::super::model::Model;
use super::super::theme::Role;
use super::{age, piece, words};
use crate::model::observation::ResourceState;
use crate::model::view::{ClusterState, ClusterView, NodeView, Phase};
use crate::model::{NodeId, Span};

pub(super) fn draw(model: &Model, view: &ClusterView, frame: &mut Frame<'_>, area: Rect) {
    let nodes = u16::try_from(view.nodes.len())
        .unwrap_or(u16::MAX)
        .min(area.height.saturating_sub(14).max(3));
    let [machine, table, detail, next, records] = Layout::vertical([
        Constraint::Length(5),
        Constraint::Length(nodes + 1),
        Constraint::Length(4),
        Constraint::Length(4),
        Constraint::Min(0),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(draw_machine(model, view, machine.width)), machine);
    frame.render_widget(Paragraph::new(draw_nodes(model, view, table)), table);
    frame.render_widget(Paragraph::new(draw_detail(model, view, detail.width)), detail);
    frame.render_widget(Paragraph::new(draw_next(model, view, next.width)), next);
    frame.render_widget(Paragraph::new(draw_records(model, view, records)), records);
}

fn short(phase: Phase) -> &'static str {
    match phase {
        Phase::Suspecting => "suspect",
        Phase::Deciding => "decide",
        Phase::AwaitingApproval => "approve",
        Phase::Fencing => "fence",
        Phase::Claiming => "claim",
        Phase::Promoting => "promote",
        Phase::Routing => "follow",
        Phase::Verifying => "verify",
        Phase::Stabilising => "settle",
        Phase::Steady => "steady",
        Phase::Aborted | Phase::RolledBack | Phase::NeedsPerson => "",
    }
}

/// Words with the current one lit, in brackets too so that the place is seen without colour. A
/// bracket takes the place of a space, so nothing moves when the place does.
fn ladder(model: &Model, label: &str, words: &[(&'static str, bool)]) -> Line<'static> {
    let mut pieces = vec![piece(model, Role::Text, label.to_owned())];
    let mut before = true;
    for (word, on) in words {
        let (open, close) = if *on {
            ("[", "]")
        } else if before {
            ("", "")
        } else {
            (" ", "")
        };
        pieces.push(piece(
            model,
            if *on { Role::Current } else { Role::Muted },
            format!("{open}{word}{close}"),
        ));
        before = *on;
    }
    Line::from(pieces)
}

fn draw_machine(model: &Model, view: &ClusterView, width: u16) -> Vec<Line<'static>> {
    let states = [
        ClusterState::Healthy,
        ClusterState::Degraded,
        ClusterState::Critical,
        ClusterState::Unknown,
    ];
    let states = ladder(model, " state ", &states.map(|s| (s.word(), view.state == s)));
    let phases =
        ladder(model, " phase ", &Phase::LADDER.map(|p| (short(p), view.phase.phase == p)));
    let exit = matches!(view.phase.phase, Phase::Aborted | Phase::RolledBack | Phase::NeedsPerson);
    let p = &view.phase;
    let mut clock = vec![Text::raw("       ")];
    if exit {
        clock.push(piece(model, Role::Danger, format!(" {} ", p.phase.word().to_uppercase())));
        clock.push(Text::raw(" "));
    }
    let mut words_of = format!("{} acts · for {}", p.owner, p.age);
    if let Some(left) = p.deadline {
        words_of.push_str(&format!(" · {left} left, then {}", p.at_deadline));
    }
    if !p.ways_out.is_empty() {
        let ways: Vec<&str> = p.ways_out.iter().map(|w| w.text.as_str()).collect();
        words_of.push_str(&format!(" · ways out: {}", ways.join("; ")));
    }
    if p.phase == Phase::Steady {
        words_of = format!("nothing moves · for {}", p.age);
    }
    clock.push(piece(
        model,
        if exit { Role::Warn } else { Role::Muted },
        words::cut(&words_of, usize::from(width).saturating_sub(if exit { 26 } else { 8 })),
    ));
    let dots: String =
        (0..view.voters).map(|i| words::dot(model, i < view.votes)).collect::<Vec<_>>().join("");
    let enough = view.votes >= view.quorum;
    let policy = view.strategy.map_or("unknown", |s| s.word());
    let quorum = vec![
        piece(model, Role::Text, " votes "),
        piece(
            model,
            if enough { Role::Good } else { Role::Bad },
            format!(" {dots} {} of {} promise, {} needed", view.votes, view.voters, view.quorum),
        ),
        piece(model, Role::Muted, format!("   epoch {}   policy {policy}", view.epoch)),
    ];
    vec![states, phases, Line::from(clock), Line::from(quorum), Line::default()]
}

const SPARK: usize = 10;

fn draw_nodes(model: &Model, view: &ClusterView, area: Rect) -> Vec<Line<'static>> {
    let wide = area.width >= 110;
    let mut extra =
        if wide { format!(" {:<19} {:>8}", "position", "sessions") } else { String::new() };
    if area.width >= 132 {
        extra.push_str(&format!(" {:>10}  {:<14}", "disk free", "place"));
    }
    let head = format!(
        "   {:<10} {:<9} {:<10} {:<10} {:>5} {:>7}  {:<10} {:>8}{extra}",
        "node", "role", "verdict", "database", "phi", "heard", "lag", ""
    );
    let mut lines = vec![Line::from(piece(model, Role::Muted, head))];
    for node in view.nodes.iter().take(usize::from(area.height).saturating_sub(1)) {
        lines.push(node_line(model, view, node, area.width));
    }
    lines
}

fn node_line(model: &Model, view: &ClusterView, node: &NodeView, width: u16) -> Line<'static> {
    let selected = model.node.as_ref() == Some(&node.node);
    let (glyph, role) = words::verdict(model, node.verdict);
    let resource = node.report.as_ref().map(|r| &r.resource);
    // What a silent node said last is no word about now.
    let stale = node.heartbeat_age.is_none_or(|a| a > Span::secs(2));
    let resource = resource.filter(|_| !stale);
    let database = resource.map_or("unknown", |r| r.state.word());
    let heard = age(model, node.heartbeat_age, Span::secs(1));
    let lag = node.lag_bytes.map_or("-".to_owned(), words::bytes);
    let spark = words::sparkline(model, &node.lag_history, view.rpo_bytes, SPARK);
    let over = node.lag_bytes.is_some_and(|l| l > view.rpo_bytes);
    let is_primary = view.primary.as_ref() == Some(&node.node);
    let mut pieces = vec![
        piece(
            model,
            if selected { Role::Selected } else { Role::Text },
            format!(
                "{} {:<10} ",
                if selected { " >" } else { "  " },
                words::cut(node.node.as_str(), 10)
            ),
        ),
        piece(
            model,
            if is_primary { Role::Title } else { Role::Text },
            format!("{:<9} ", node.role.word()),
        ),
        piece(model, role, format!("{glyph} {:<8} ", node.verdict.word())),
        piece(model, database_role(resource.map(|r| &r.state)), format!("{database:<10} ")),
        piece(model, Role::Text, format!("{:>5} ", phi(node.phi_milli))),
        Text::styled(format!("{:>7}  ", heard.content), heard.style),
        piece(model, if over { Role::Bad } else { Role::Muted }, spark),
        piece(model, if over { Role::Bad } else { Role::Text }, format!(" {lag:>8}")),
    ];
    if width >= 110
        && let Some(r) = resource
    {
        pieces.push(piece(
            model,
            Role::Muted,
            format!(" {:<19} {:>8}", r.position.to_string(), r.sessions),
        ));
        if width >= 132 {
            pieces.push(piece(
                model,
                Role::Muted,
                format!(" {:>10}  {:<14}", words::bytes(r.disk_free), words::cut(&node.place, 14)),
            ));
        }
    }
    Line::from(pieces)
}

fn phi(milli: u64) -> String {
    if milli >= 100_000 {
        ">99".into()
    } else {
        format!("{}.{}", milli / 1_000, milli % 1_000 / 100)
    }
}

fn database_role(state: Option<&ResourceState>) -> Role {
    match state {
        Some(ResourceState::Primary) => Role::Good,
        Some(ResourceState::Stopped(_) | ResourceState::Hung) => Role::Bad,
        Some(ResourceState::Starting | ResourceState::Rebuilding) => Role::Warn,
        Some(ResourceState::Standby | ResourceState::None) => Role::Text,
        Some(ResourceState::Unknown) | None => Role::Unknown,
    }
}

/// The selected node, or the first that is not well.
fn draw_detail(model: &Model, view: &ClusterView, width: u16) -> Vec<Line<'static>> {
    let unwell = || view.nodes.iter().find(|n| !n.why.is_empty()).map(|n| n.node.clone());
    let chosen: Option<NodeId> =
        model.node.clone().or_else(unwell).or_else(|| view.primary.clone());
    let Some(node) = chosen.and_then(|id| view.nodes.iter().find(|n| n.node == id)) else {
        return vec![];
    };
    let width = usize::from(width).saturating_sub(4);
    let mut lines = vec![Line::default()];
    let why = if node.why.is_empty() { "nothing is wrong".to_owned() } else { node.why.clone() };
    let mut first = format!("{}: {why}", node.node);
    if let Some(r) = &node.report {
        let complaint = if node.why.is_empty() { String::new() } else { r.complaint.clone() };
        for extra in [&r.activity, &complaint] {
            if !extra.is_empty() && !first.contains(extra.as_str()) {
                first.push_str(&format!(" · {extra}"));
            }
        }
    }
    for line in words::wrap(&first, width).into_iter().take(2) {
        lines.push(Line::from(piece(
            model,
            if node.why.is_empty() { Role::Muted } else { Role::Warn },
            format!("  {line}"),
        )));
    }
    let votes: Vec<String> = node
        .votes
        .iter()
        .map(|(n, sees)| format!("{n} {}", if *sees { "sees it" } else { "does not" }))
        .collect();
    let mut second =
        if votes.is_empty() { String::new() } else { format!("observers: {}", votes.join(", ")) };
    if let Some(r) = &node.report
        && let Some(holding) =
            r.holding.as_ref().filter(|_| node.heartbeat_age.is_some_and(|a| a < Span::secs(2)))
    {
        second = format!(
            "lease: {} left, promised by {} · {second}",
            holding.left,
            holding.promised_by.len()
        );
    }
    lines.push(Line::from(piece(model, Role::Muted, format!("  {}", words::cut(&second, width)))));
    lines
}

fn draw_next(model: &Model, view: &ClusterView, width: u16) -> Vec<Line<'static>> {
    let width = usize::from(width).saturating_sub(8);
    let mut lines = vec![Line::from(vec![
        piece(model, Role::Text, " next  "),
        piece(model, Role::Title, words::cut(&view.outlook.next, width)),
    ])];
    for line in words::wrap(&view.outlook.if_primary_died, width).into_iter().take(2) {
        lines.push(Line::from(piece(model, Role::Text, format!("       {line}"))));
    }
    lines
}

fn draw_records(model: &Model, view: &ClusterView, area: Rect) -> Vec<Line<'static>> {
    let mut lines = vec![];
    for record in view.records.iter().rev().take(usize::from(area.height)) {
        let text = format!(
            " {} {:>4} {}",
            record.record.wall.clock(),
            record.record.rule,
            record.record.text
        );
        lines.push(Line::from(piece(
            model,
            Role::Muted,
            words::cut(&text, usize::from(area.width)),
        )));
    }
    lines
}
