//! Rows in columns, with a cursor that stays in the middle as far as there are rows. Knows nothing about what they say.

use std::borrow::Cow;

use ratatui::{buffer::Buffer, layout::Rect, style::Style};

use super::{
    text::{fit, put, width},
    theme::Theme,
};

/// A column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    title: &'static str,
    width: u16,
    /// Shares of the room that is left.
    grows: u16,
    is_right: bool,
}

impl Column {
    /// As wide as it is said.
    pub(super) const fn new(title: &'static str, width: u16) -> Self {
        Self { title, width, grows: 0, is_right: false }
    }

    /// For numbers.
    pub(super) const fn number(title: &'static str, width: u16) -> Self {
        Self { title, width, grows: 0, is_right: true }
    }

    /// Wider, if there is room.
    pub(super) const fn grows(mut self, shares: u16) -> Self {
        self.grows = shares;
        self
    }
}

/// A row: a cell for each column, and how it looks as a whole.
#[derive(Debug)]
pub(super) struct Line<'a> {
    pub(super) cells: Vec<Cow<'a, str>>,
    pub(super) style: Style,
}

/// Rows, of which only those are asked for that are drawn.
pub(super) struct Grid<'a, F> {
    pub(super) columns: &'a [Column],
    /// The column that rows are sorted by.
    pub(super) sorted: Option<usize>,
    pub(super) n_rows: usize,
    pub(super) cursor: usize,
    pub(super) row: F,
}

impl<'a, F: Fn(usize) -> Option<Line<'a>>> Grid<'_, F> {
    pub(super) fn draw(&self, buffer: &mut Buffer, area: Rect, theme: &Theme) {
        if area.is_empty() {
            return;
        }
        let places = places(self.columns, area);
        for (idx, (column, (x, width))) in self.columns.iter().zip(&places).enumerate() {
            let style =
                if self.sorted == Some(idx) { theme.heading.patch(theme.title) } else { theme.heading };
            cell(buffer, area, area.top(), (*x, *width), column.is_right, column.title, style);
        }
        let height = usize::from(area.height - 1);
        let top = first_shown(self.cursor, self.n_rows, height);
        for (y, at) in (area.top() + 1..area.bottom()).zip(top..self.n_rows) {
            let Some(line) = (self.row)(at) else { break };
            for ((text, column), place) in line.cells.iter().zip(self.columns).zip(&places) {
                cell(buffer, area, y, *place, column.is_right, text, line.style);
            }
            if at == self.cursor {
                buffer.set_style(Rect { y, height: 1, ..area }, theme.selected);
            }
        }
    }
}

/// The first of the rows that are shown, when the cursor is to be in the middle.
pub(super) fn first_shown(cursor: usize, n_rows: usize, height: usize) -> usize {
    cursor.saturating_sub(height / 2).min(n_rows.saturating_sub(height))
}

fn cell(
    buffer: &mut Buffer,
    area: Rect,
    y: u16,
    (x, room): (u16, u16),
    is_right: bool,
    text: &str,
    style: Style,
) {
    let text = fit(text, room);
    let x = if is_right { x + (room - width(&text)) } else { x };
    put(buffer, area, x, y, &text, style);
}

/// Where each column begins and how wide it is; those on the right have no place if there is no room.
fn places(columns: &[Column], area: Rect) -> Vec<(u16, u16)> {
    let gap = if area.width < 100 { 1 } else { 2 };
    let needed = |n: usize| columns[..n].iter().map(|column| column.width + gap).sum::<u16>() - gap;
    let n = (1..=columns.len()).rev().find(|n| needed(*n) <= area.width).unwrap_or(1);
    let columns = &columns[..n];
    let shares: u16 = columns.iter().map(|column| column.grows).sum();
    let room = area.width.saturating_sub(needed(n));
    let mut x = area.left();
    let place = |column: &Column| {
        let more = (room * column.grows).checked_div(shares).unwrap_or(0);
        let place = (x, (column.width + more).min(area.width));
        x += place.1 + gap;
        place
    };
    columns.iter().map(place).collect()
}
