//! What is around every view: the session above it, its title, keys and messages below it.

use ratatui::{buffer::Buffer, layout::Rect, style::Style};

use super::{
    text::{fit_end, put, put_all, put_right, width},
    theme::Theme,
};
use crate::tui::{
    keys,
    state::{Mode, SortBy, State, Trust, ViewKind, Which},
};

/// Two lines on the session and one of tabs.
pub(super) const HEADER: u16 = 3;
/// A message, and the keys.
pub(super) const FOOTER: u16 = 2;

pub(super) fn header(buffer: &mut Buffer, area: Rect, state: &State, theme: &Theme) {
    let (status, plain) = (state.status(), Style::new());
    let (word, style) = session(state, theme);
    let s = status.elapsed_s;
    let time = format!("{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
    // Said first what must not be cut off: the source can be a long command.
    let subjects = match status.n_ended {
        0 => format!("  {} recorded  ", status.n_alive),
        n => format!("  {} recorded, {n} ended  ", status.n_alive),
    };
    let source = &state.setup().source;
    let parts = [
        ("khard ", theme.title),
        (&word, style),
        ("  ", plain),
        (&time, plain),
        (&subjects, plain),
        (source, plain),
    ];
    put_all(buffer, area, area.y, parts);

    let lost = format!("LOST up to {}", status.lost);
    let (lost, style) = if status.lost == 0 { ("lost 0", plain) } else { (lost.as_str(), theme.lossy) };
    let mut x = put(buffer, area, area.x, area.y + 1, lost, style) + 2;
    let by = if status.attachments.is_empty() { "nothing yet" } else { &status.attachments };
    x = put(buffer, area, x, area.y + 1, "by ", theme.dim);
    x = put(buffer, area, x, area.y + 1, by, plain) + 2;
    if let Some(trust) = state.looked_trust().filter(|trust| trust.is_lossy()) {
        let said = format!("LOSSY {} ({})", trust.lossy.join(", "), state.looked_label());
        x = put(buffer, area, x, area.y + 1, &said, theme.lossy) + 2;
    }
    if !status.kernel.is_empty() {
        x = put(buffer, area, x, area.y + 1, "Linux ", theme.dim);
        put(buffer, area, x, area.y + 1, &status.kernel, plain);
    }
    tabs(buffer, area, state, theme);
}

/// How the session stands.
fn session(state: &State, theme: &Theme) -> (String, Style) {
    let (word, style) = match (state.over(), state.status().silent_s) {
        (Some(why), _) => (format!("ended: {why}"), theme.title),
        (None, Some(s)) => (format!("no word from the agent for {s} s"), theme.lossy),
        (None, None) if state.setup().is_replay => ("replay".to_owned(), Style::new()),
        (None, None) => ("recording".to_owned(), Style::new()),
    };
    if state.is_frozen() { (format!("FROZEN ({word})"), theme.mark) } else { (word, style) }
}

fn tabs(buffer: &mut Buffer, area: Rect, state: &State, theme: &Theme) {
    let mut x = area.left();
    for (n, view) in (1..).zip(ViewKind::ALL) {
        let style = if view == state.view() { theme.selected } else { Style::new() };
        x = put(buffer, area, x, area.y + 2, &format!(" {n} {} ", view.title()), style);
    }
}

/// What a view shows. That it is lossy is said before all else that could be cut off.
pub(super) fn title(buffer: &mut Buffer, area: Rect, state: &State, theme: &Theme) {
    let view = state.view();
    let is_of_one = !matches!(view, ViewKind::Subjects | ViewKind::Events);
    let mut x = area.left();
    if is_of_one && state.looked_trust().is_some_and(Trust::is_lossy) {
        x = put(buffer, area, x, area.y, "LOSSY", theme.lossy);
        x = put(buffer, area, x, area.y, " ", Style::new());
    }
    let place = match place(state) {
        None | Some((_, 0)) => String::new(),
        Some((at, n)) => format!("{}/{n}", at + 1),
    };
    // Room for the place in the list, for a label can be long.
    let room = Rect { width: area.width.saturating_sub(width(&place) + 1), ..area };
    x = put(buffer, room, x, area.y, &what(state), theme.title);
    if !state.filter().is_empty() {
        x = put(buffer, room, x, area.y, "  filter ", theme.dim);
        x = put(buffer, room, x, area.y, state.filter(), theme.mark);
    }
    put_right(buffer, area, x, area.y, &place, theme.dim);
}

fn what(state: &State) -> String {
    let of = match state.looked_label() {
        "" => String::new(),
        label => format!(" of {label}"),
    };
    let arrow = |is_reversed| if is_reversed { "▼" } else { "▲" };
    match state.view() {
        ViewKind::Subjects => {
            let table = state.table();
            let by = if table.sort == SortBy::Coming { "in" } else { "by" };
            format!("Subjects {by} {} {}", table.sort.title(), arrow(table.is_reversed))
        }
        ViewKind::Syscalls => {
            let (by_time, is_reversed) = state.calls_order();
            format!("System calls{of} by {} {}", if by_time { "time" } else { "name" }, arrow(is_reversed))
        }
        ViewKind::Files => format!("Files{of}"),
        ViewKind::Other => format!("Other accesses{of}"),
        ViewKind::Profile => {
            let kind = match state.profiles().which {
                Which::Seccomp => "seccomp",
                Which::AppArmor => "AppArmor",
            };
            let text = state.looked().and_then(|id| state.profiles().text(id));
            let changes = text.map(|text| (text.n_new(), text.n_removed)).filter(|n| *n != (0, 0));
            let changes =
                changes.map(|(new, gone)| format!(": {new} new lines, {gone} gone")).unwrap_or_default();
            format!("{kind} profile{of}{changes}")
        }
        ViewKind::Events => match (state.events().is_following(), state.events().n_dropped()) {
            (true, 0) => "Events, newest last".to_owned(),
            (true, n) => format!("Events, newest last, {n} older ones dropped"),
            (false, 0) => "Events (End follows)".to_owned(),
            (false, n) => format!("Events (End follows), {n} older ones dropped"),
        },
        ViewKind::Learning => format!("Learning{of}"),
    }
}

/// Where the cursor is among how many rows; `None` for a view without rows.
fn place(state: &State) -> Option<(usize, usize)> {
    Some(match state.view() {
        ViewKind::Subjects => (state.table().list.cursor(), state.table().list.len()),
        ViewKind::Syscalls => (state.calls().cursor(), state.calls().len()),
        ViewKind::Files => (state.files().cursor(), state.files().len()),
        ViewKind::Other => (state.other().cursor(), state.other().len()),
        ViewKind::Events => {
            let (shown, at) = state.events().shown(state.filter());
            (at, shown.len())
        }
        ViewKind::Profile => {
            let text = state.looked().and_then(|id| state.profiles().text(id));
            text.map_or((0, 0), |text| (state.profiles().cursor(text), text.lines.len()))
        }
        ViewKind::Learning => return None,
    })
}

/// What is said in place of rows, if there are none.
pub(super) fn nothing(state: &State) -> Option<&'static str> {
    let n_rows = place(state).map(|(_, n)| n);
    match state.view() {
        ViewKind::Events => {}
        _ if state.looked().is_none() => return Some("Nobody is recorded yet."),
        ViewKind::Profile => return None,
        _ => {}
    }
    match n_rows {
        Some(0) if state.filter().is_empty() => Some("Nothing was seen yet."),
        Some(0) => Some("Nothing matches the filter."),
        _ => None,
    }
}

pub(super) fn footer(buffer: &mut Buffer, area: Rect, state: &State, theme: &Theme) {
    match (state.mode(), state.message()) {
        (Mode::Filter, _) => prompt(buffer, area, "filter: ", state.filter(), theme),
        (Mode::Mark, _) => prompt(buffer, area, "mark this moment as: ", state.typed_mark(), theme),
        (_, Some(Ok(said))) => drop(put(buffer, area, area.x, area.y, said, theme.title)),
        (_, Some(Err(said))) => drop(put(buffer, area, area.x, area.y, said, theme.refused)),
        (_, None) => {}
    }
    let y = area.y + 1;
    let mut x = area.left();
    for key in keys::line(state.mode()) {
        let needed = width(key.name) + 1 + width(key.short);
        if x.saturating_add(needed) > area.right() {
            break;
        }
        x = put(buffer, area, x, y, key.name, theme.key);
        x = put(buffer, area, x + 1, y, key.short, Style::new()) + 2;
    }
}

fn prompt(buffer: &mut Buffer, area: Rect, question: &str, typed: &str, theme: &Theme) {
    let x = put(buffer, area, area.x, area.y, question, theme.title);
    let typed = fit_end(typed, area.right().saturating_sub(x + 1));
    let x = put(buffer, area, x, area.y, typed, Style::new());
    put(buffer, area, x, area.y, " ", theme.selected);
}
