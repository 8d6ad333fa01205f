//! The views that are rows: what is in their columns. Knows nothing about where they are drawn.

use std::borrow::Cow;

use ratatui::{buffer::Buffer, layout::Rect, style::Style};

use super::{
    grid::{Column, Grid, Line},
    theme::Theme,
};
use crate::tui::state::{EventKind, SortBy, State, SubjectRow};

/// A subject's columns, with what they are sorted by.
const SUBJECTS: [(SortBy, Column); 9] = [
    (SortBy::Label, Column::new(SortBy::Label.title(), 12).grows(1)),
    (SortBy::State, Column::new(SortBy::State.title(), 7)),
    (SortBy::Lost, Column::number(SortBy::Lost.title(), 9)),
    (SortBy::Calls, Column::number(SortBy::Calls.title(), 5)),
    (SortBy::Files, Column::number(SortBy::Files.title(), 5)),
    (SortBy::Other, Column::number(SortBy::Other.title(), 5)),
    (SortBy::LastNew, Column::number(SortBy::LastNew.title(), 5)),
    (SortBy::Rate, Column::number(SortBy::Rate.title(), 7)),
    (SortBy::Coverage, Column::new(SortBy::Coverage.title(), 13)),
];

pub(super) fn subjects(buffer: &mut Buffer, area: Rect, state: &State, theme: &Theme) {
    let table = state.table();
    let row = |at| {
        let row: &SubjectRow = table.list.get(at)?;
        let lost =
            if row.trust.is_lossy() { format!("LOSSY {}", shorter(row.trust.lost)) } else { "0".to_owned() };
        let style = match row {
            row if row.trust.is_lossy() => theme.lossy,
            row if !row.is_alive => theme.dim,
            row if state.looked() == Some(row.id) => theme.title,
            _ => Style::new(),
        };
        let cells = vec![
            Cow::from(&row.label),
            row.state.into(),
            lost.into(),
            short(row.n_calls as u64).into(),
            short(row.n_files as u64).into(),
            short(row.n_other as u64).into(),
            Cow::from(&row.quiet),
            row.rate.map(short).unwrap_or_default().into(),
            Cow::from(&row.trust.words),
        ];
        Some(Line { cells, style })
    };
    let columns = SUBJECTS.map(|(_, column)| column);
    let sorted = SUBJECTS.iter().position(|(sort, _)| *sort == table.sort);
    let (n_rows, cursor) = (table.list.len(), table.list.cursor());
    Grid { columns: &columns, sorted, n_rows, cursor, row }.draw(buffer, area, theme);
}

pub(super) fn syscalls(buffer: &mut Buffer, area: Rect, state: &State, theme: &Theme) {
    const COLUMNS: [Column; 5] = [
        Column::new("call", 18).grows(1),
        Column::new("phases", 14).grows(1),
        Column::number("first", 9),
        Column::new("RuntimeDefault", 14),
        Column::new("witness", 20).grows(1),
    ];
    let calls = state.calls();
    let row = |at| {
        let row = calls.get(at)?;
        let style = match (row.is_ours, row.is_refused_by_default) {
            (true, true) => theme.refused,
            (true, false) => Style::new(),
            (false, _) => theme.dim,
        };
        let mut texts = [&row.name, &row.phases, &row.first].map(Cow::from).to_vec();
        texts.extend([row.runtime_default.into(), Cow::from(&row.witness)]);
        Some(Line { cells: texts, style })
    };
    let sorted = Some(if state.calls_order().0 { 2 } else { 0 });
    let (n_rows, cursor) = (calls.len(), calls.cursor());
    Grid { columns: &COLUMNS, sorted, n_rows, cursor, row }.draw(buffer, area, theme);
}

pub(super) fn files(buffer: &mut Buffer, area: Rect, state: &State, theme: &Theme) {
    const COLUMNS: [Column; 6] = [
        Column::new("file", 22).grows(3),
        Column::new("perms", 6),
        Column::number("files", 6),
        Column::new("facts", 14).grows(1),
        Column::new("witness", 16).grows(1),
        Column::number("first", 9),
    ];
    let files = state.files();
    let row = |at| {
        let row = files.get(at)?;
        let sign = match row.is_open {
            Some(true) => "▾ ",
            Some(false) => "▸ ",
            None => "  ",
        };
        // So deep that nothing else would be seen, depth is not shown any more.
        let name = format!("{:1$}{sign}{2}", "", (row.depth * 2).min(24), row.name);
        let style = if row.is_refused && row.is_open.is_none() { theme.refused } else { Style::new() };
        let n_files = row.is_open.map(|_| row.n_files.to_string()).unwrap_or_default();
        let mut cells = vec![Cow::from(name), Cow::from(&row.perms), Cow::from(n_files)];
        cells.extend([&row.facts, &row.witness, &row.first].map(Cow::from));
        Some(Line { cells, style })
    };
    let (n_rows, cursor) = (files.len(), files.cursor());
    Grid { columns: &COLUMNS, sorted: None, n_rows, cursor, row }.draw(buffer, area, theme);
}

pub(super) fn other(buffer: &mut Buffer, area: Rect, state: &State, theme: &Theme) {
    const COLUMNS: [Column; 4] = [
        Column::new("access", 26).grows(3),
        Column::new("facts", 9),
        Column::number("first", 9),
        Column::new("witness", 16).grows(1),
    ];
    let other = state.other();
    let row = |at| {
        let row = other.get(at)?;
        let style = match row {
            row if row.is_heading => theme.title,
            row if row.is_refused => theme.refused,
            _ => Style::new(),
        };
        let what = if row.is_heading { Cow::from(&row.what) } else { format!("  {}", row.what).into() };
        let mut cells = vec![what];
        cells.extend([&row.facts, &row.first, &row.witness].map(Cow::from));
        Some(Line { cells, style })
    };
    let (n_rows, cursor) = (other.len(), other.cursor());
    Grid { columns: &COLUMNS, sorted: None, n_rows, cursor, row }.draw(buffer, area, theme);
}

pub(super) fn events(buffer: &mut Buffer, area: Rect, state: &State, theme: &Theme) {
    const COLUMNS: [Column; 5] = [
        Column::number("time", 9),
        Column::new("subject", 12).grows(1),
        Column::new("what", 26).grows(3),
        Column::new("phase", 8),
        Column::new("witness", 16).grows(1),
    ];
    let (events, cursor) = state.events().shown(state.filter());
    let row = |at: usize| {
        let event = *events.get(at)?;
        let style = match event.kind {
            EventKind::Seen => Style::new(),
            EventKind::Refused => theme.refused,
            EventKind::Life => theme.title,
            EventKind::Mark => theme.mark,
        };
        let mut cells = [&event.time, &event.subject, &event.what].map(Cow::from).to_vec();
        cells.extend([event.phase.into(), Cow::from(&event.witness)]);
        Some(Line { cells, style })
    };
    let n_rows = events.len();
    Grid { columns: &COLUMNS, sorted: None, n_rows, cursor, row }.draw(buffer, area, theme);
}

/// In five columns at most.
fn short(n: u64) -> String {
    if n < 100_000 { n.to_string() } else { shorter(n) }
}

/// In three columns, or four when it is much.
fn shorter(n: u64) -> String {
    match n {
        0..1000 => n.to_string(),
        1000..1_000_000 => format!("{}k", n / 1000),
        1_000_000..1_000_000_000 => format!("{}M", n / 1_000_000),
        _ => "many".to_owned(),
    }
}
