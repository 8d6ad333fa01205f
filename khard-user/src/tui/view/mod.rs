//! Draws a [`State`]. Changes nothing, and knows of subjects only what the state shows.

mod frame;
mod grid;
mod learning;
mod popup;
mod profile;
mod rows;
mod text;
mod theme;

use ratatui::{Frame, layout::Rect, style::Style};

pub(crate) use self::theme::{ColorDepth, Theme};
use super::state::{State, ViewKind};

/// Columns and lines below which nothing can be read.
const SMALLEST: (u16, u16) = (40, 10);

/// Draws everything.
pub(crate) fn draw(frame: &mut Frame, state: &State, theme: &Theme) {
    let area = frame.area();
    let buffer = frame.buffer_mut();
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        let said = format!("khard needs {}x{} at least", SMALLEST.0, SMALLEST.1);
        text::put(buffer, area, area.x, area.y, &said, Style::new());
        return;
    }
    let header = Rect { height: frame::HEADER, ..area };
    let footer = Rect { y: area.bottom() - frame::FOOTER, height: frame::FOOTER, ..area };
    let title = Rect { y: header.bottom(), height: 1, ..area };
    let body = Rect { y: title.bottom(), height: footer.y - title.bottom(), ..area };
    frame::header(buffer, header, state, theme);
    frame::title(buffer, title, state, theme);
    match state.view() {
        ViewKind::Subjects => rows::subjects(buffer, body, state, theme),
        ViewKind::Syscalls => rows::syscalls(buffer, body, state, theme),
        ViewKind::Files => rows::files(buffer, body, state, theme),
        ViewKind::Other => rows::other(buffer, body, state, theme),
        ViewKind::Profile => profile::draw(buffer, body, state, theme),
        ViewKind::Events => rows::events(buffer, body, state, theme),
        ViewKind::Learning => learning::draw(buffer, body, state, theme),
    }
    if let Some(said) = frame::nothing(state) {
        text::put(buffer, body, body.x, body.y + 1, said, theme.dim);
    }
    frame::footer(buffer, footer, state, theme);
    popup::draw(buffer, area, state, theme);
}

#[cfg(test)]
mod tests;
