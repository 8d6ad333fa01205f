//! A profile's text, with a sign before each line that is new. Knows nothing about what it says.

use ratatui::{buffer::Buffer, layout::Rect, style::Style};

use super::{
    grid::first_shown,
    text::{put, wrap},
    theme::Theme,
};
use crate::tui::state::State;

pub(super) fn draw(buffer: &mut Buffer, area: Rect, state: &State, theme: &Theme) {
    let text = state.looked().and_then(|id| state.profiles().text(id));
    let Some(text) = text else {
        if state.looked().is_some() {
            put(buffer, area, area.left(), area.top(), "The profile is being made.", theme.dim);
        }
        return;
    };
    if let Some(why) = &text.error {
        let said = format!("There is no profile: {why}");
        for (y, line) in (area.top()..area.bottom()).zip(wrap(&said, area.width)) {
            put(buffer, area, area.left(), y, &line, theme.refused);
        }
        return;
    }
    let cursor = state.profiles().cursor(text);
    let top = first_shown(cursor, text.lines.len(), usize::from(area.height));
    for ((y, line), at) in (area.top()..area.bottom()).zip(text.lines.iter().skip(top)).zip(top..) {
        let (sign, style) = if line.is_new { ("+ ", theme.new) } else { ("  ", Style::new()) };
        let x = put(buffer, area, area.left(), y, sign, style);
        put(buffer, area, x, y, &line.text, style);
        if at == cursor {
            buffer.set_style(Rect { y, height: 1, ..area }, theme.selected);
        }
    }
}
