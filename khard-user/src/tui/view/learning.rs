//! The learning view: what to do, how much was found by when, and how far it can be trusted.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    symbols::Marker,
    widgets::{
        Widget,
        canvas::{Canvas, Line},
    },
};

use super::{
    text::{fit, put, put_right, wrap},
    theme::Theme,
};
use crate::tui::state::{Curve, Learning, State, span_of_seconds};

/// Columns for a class's name and number.
const LABELS: u16 = 13;

pub(super) fn draw(buffer: &mut Buffer, area: Rect, state: &State, theme: &Theme) {
    if state.looked().is_none() {
        return;
    }
    let learning = state.learning();
    let style = if learning.is_lossy { theme.lossy } else { theme.title };
    let mut top = area.top();
    for line in wrap(&learning.verdict, area.width) {
        put(buffer, area, area.left(), top, &line, style);
        top += 1;
    }
    let coverage = coverage_lines(learning, area.width, theme);
    let n_lines = u16::try_from(coverage.len()).unwrap_or(u16::MAX).min(area.height / 2);
    let bottom = area.bottom() - n_lines;
    for (y, (line, style)) in (bottom..area.bottom()).zip(&coverage) {
        put(buffer, area, area.left(), y, line, *style);
    }
    // A line between each two parts.
    let height = bottom.saturating_sub(top).saturating_sub(2);
    chart(buffer, Rect { y: top + 1, height, ..area }, learning, theme);
}

fn coverage_lines(learning: &Learning, width: u16, theme: &Theme) -> Vec<(String, Style)> {
    let mut lines = Vec::new();
    for line in &learning.coverage {
        let style = if line.is_lossy { theme.lossy } else { Style::new() };
        let said = format!("{}: {}", line.classes, line.words);
        lines.extend(wrap(&said, width).into_iter().map(|line| (line, style)));
    }
    lines
}

/// A curve for each class, one below the other, each up to its own number: 50 calls are to be seen beside 100,000 files.
fn chart(buffer: &mut Buffer, area: Rect, learning: &Learning, theme: &Theme) {
    let n_curves = u16::try_from(learning.curves.len()).unwrap_or(1).max(1);
    // Above them the names of marks, below them the times.
    let height = area.height.saturating_sub(2) / n_curves;
    if height == 0 || area.width <= LABELS + 10 || learning.length_s <= 0.0 {
        return;
    }
    let graph = Rect { x: area.x + LABELS, width: area.width - LABELS, y: area.y + 1, height };
    for (curve, n) in learning.curves.iter().zip(0..) {
        let graph = Rect { y: graph.y + n * height, ..graph };
        put(buffer, area, area.left(), graph.y, curve.name, Style::new());
        put(buffer, area, area.left() + 6, graph.y, &curve.n.to_string(), theme.title);
        draw_curve(buffer, graph, curve, learning.length_s);
    }
    let bottom = graph.y + height * n_curves;
    marks(buffer, Rect { y: area.y, height: bottom - area.y, ..graph }, learning, theme);
    let axis = Rect { y: bottom, height: 1, ..graph };
    let end = put(buffer, axis, axis.x, bottom, "0 s", theme.dim);
    put_right(buffer, axis, end, bottom, &span_of_seconds(learning.length_s), theme.dim);
}

fn draw_curve(buffer: &mut Buffer, area: Rect, curve: &Curve, length_s: f64) {
    let most = curve.points.last().map_or(1.0, |(_, n)| n.max(1.0));
    let canvas = Canvas::default().marker(Marker::Braille).x_bounds([0.0, length_s]).y_bounds([0.0, most]);
    let canvas = canvas.paint(|context| {
        for pair in curve.points.windows(2) {
            let [(x1, y1), (x2, y2)] = pair else { continue };
            context.draw(&Line { x1: *x1, y1: *y1, x2: *x2, y2: *y2, ..Line::default() });
        }
    });
    canvas.render(area, buffer);
}

fn marks(buffer: &mut Buffer, area: Rect, learning: &Learning, theme: &Theme) {
    let last = area.width.saturating_sub(1);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is in the area")]
    let column = |at_s: f64| area.x + ((at_s / learning.length_s * f64::from(last)) as u16).min(last);
    for (n, (at_s, label)) in learning.marks.iter().enumerate() {
        let x = column(*at_s);
        let next = learning.marks.get(n + 1).map_or(area.right(), |(at_s, _)| column(*at_s));
        for y in area.top()..area.bottom() {
            put(buffer, area, x, y, "│", theme.mark);
        }
        let room = next.saturating_sub(x + 1);
        if room > 2 {
            put(buffer, area, x + 1, area.y, &fit(label, room), theme.mark);
        }
    }
}
