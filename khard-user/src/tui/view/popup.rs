//! What is drawn above a view: the keys, and the question before the end.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    widgets::{Block, Clear, Widget},
};

use super::{
    text::{put, width},
    theme::Theme,
};
use crate::tui::{
    keys,
    state::{Mode, State},
};

/// Labels in the question before the end at most.
const N_LABELS: usize = 8;

type Part = (String, Style);

pub(super) fn draw(buffer: &mut Buffer, area: Rect, state: &State, theme: &Theme) {
    match state.mode() {
        Mode::Help => draw_box(buffer, area, "Keys", &help(theme)),
        Mode::Quit => draw_box(buffer, area, "Write before the end?", &quit(state, theme)),
        Mode::View(_) | Mode::Filter | Mode::Mark => {}
    }
}

fn help(theme: &Theme) -> Vec<Vec<Part>> {
    let name_width = keys::help().map(|key| usize::from(width(key.name))).max().unwrap_or(0);
    let pad = |name: &str| name_width - usize::from(width(name)) + 2;
    let line = |key: &keys::Binding| {
        vec![
            (key.name.to_owned(), theme.key),
            (format!("{:1$}{2}", "", pad(key.name), key.words), Style::new()),
        ]
    };
    keys::help().map(line).collect()
}

fn quit(state: &State, theme: &Theme) -> Vec<Vec<Part>> {
    let plain = |text: String| vec![(text, Style::new())];
    let labels = state.labels();
    let n = labels.len();
    if n == 0 {
        return vec![
            plain("Nothing was recorded: there is nothing to write.".to_owned()),
            Vec::new(),
            answers(theme),
        ];
    }
    let mut lines = vec![plain("Recordings and profiles of".to_owned())];
    lines.extend(labels.take(N_LABELS).map(|label| vec![(format!("  {label}"), theme.title)]));
    if n > N_LABELS {
        lines.push(plain(format!("  and {} more", n - N_LABELS)));
    }
    lines.push(plain(format!("would be written to {}", state.setup().out_dir)));
    lines.extend([Vec::new(), answers(theme)]);
    lines
}

fn answers(theme: &Theme) -> Vec<Part> {
    let answer = |key: &keys::Binding| {
        [(key.name.to_owned(), theme.key), (format!(" {}   ", key.short), Style::new())]
    };
    keys::line(Mode::Quit).flat_map(answer).collect()
}

/// As large as its text, in the middle.
fn draw_box(buffer: &mut Buffer, area: Rect, title: &str, lines: &[Vec<Part>]) {
    let of_line = |line: &Vec<Part>| line.iter().map(|(text, _)| width(text)).fold(0, u16::saturating_add);
    let widest = lines.iter().map(of_line).chain([width(title)]).max().unwrap_or(0);
    let height = u16::try_from(lines.len()).unwrap_or(u16::MAX).saturating_add(2).min(area.height);
    let outer = area.centered(
        ratatui::layout::Constraint::Length(widest.saturating_add(4).min(area.width)),
        ratatui::layout::Constraint::Length(height),
    );
    Clear.render(outer, buffer);
    let block = Block::bordered().title(format!(" {title} "));
    let inner = block.inner(outer);
    block.render(outer, buffer);
    let inner = Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner };
    for (y, line) in (inner.top()..inner.bottom()).zip(lines) {
        let mut x = inner.left();
        for (text, style) in line {
            x = put(buffer, inner, x, y, text, *style);
        }
    }
}
