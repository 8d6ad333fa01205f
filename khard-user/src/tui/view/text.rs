//! Text in a certain width, as terminals count it. Knows nothing about what it says.

use std::borrow::Cow;

use ratatui::{buffer::Buffer, layout::Rect, style::Style};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Columns that a text takes.
pub(super) fn width(text: &str) -> u16 {
    u16::try_from(text.width()).unwrap_or(u16::MAX)
}

/// The beginning that fits, with `…` if something is missing.
pub(super) fn fit(text: &str, width: u16) -> Cow<'_, str> {
    if self::width(text) <= width {
        return Cow::Borrowed(text);
    }
    let mut left = usize::from(width);
    let Some(room) = left.checked_sub(1) else { return Cow::Borrowed("") };
    left = room;
    let fits = |c: &char| {
        let found = left.checked_sub(c.width().unwrap_or(0));
        found.inspect(|rest| left = *rest).is_some()
    };
    Cow::Owned(text.chars().take_while(fits).chain(['…']).collect())
}

/// The end that fits, for a text that is being typed.
pub(super) fn fit_end(text: &str, width: u16) -> &str {
    let starts = text.char_indices().map(|(at, _)| &text[at..]);
    starts.into_iter().find(|end| self::width(end) <= width).unwrap_or("")
}

/// Lines that are no wider, broken at spaces where that is possible.
pub(super) fn wrap(text: &str, width: u16) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let Some(line) = lines.last_mut() else { break };
        if line.is_empty() {
            line.push_str(word);
        } else if self::width(line).saturating_add(1).saturating_add(self::width(word)) <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines.iter().map(|line| fit(line, width).into_owned()).collect()
}

/// Writes as much as there is room for in one line, and returns where it ends.
pub(super) fn put(buffer: &mut Buffer, area: Rect, x: u16, y: u16, text: &str, style: Style) -> u16 {
    if y < area.top() || y >= area.bottom() || x < area.left() || x >= area.right() {
        return x;
    }
    let text = fit(text, area.right() - x);
    buffer.set_string(x, y, &text, style);
    x + width(&text)
}

/// Parts one after the other, in one line.
pub(super) fn put_all<'a>(
    buffer: &mut Buffer,
    area: Rect,
    y: u16,
    parts: impl IntoIterator<Item = (&'a str, Style)>,
) -> u16 {
    parts.into_iter().fold(area.left(), |x, (text, style)| put(buffer, area, x, y, text, style))
}

/// At the right end of a line, unless something that ends at `from` is in the way.
pub(super) fn put_right(buffer: &mut Buffer, area: Rect, from: u16, y: u16, text: &str, style: Style) {
    let x = area.right().saturating_sub(width(text));
    if x > from {
        put(buffer, area, x, y, text, style);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wide_character_is_never_cut_in_two() {
        assert_eq!(
            [fit("名前名前", 8), fit("名前名前", 7), fit("名前名前", 6)],
            ["名前名前", "名前名…", "名前…"]
        );
        assert_eq!([fit("abc", 2), fit("abc", 1), fit("abc", 0)], ["a…", "…", ""]);
        assert_eq!(fit("e\u{301}e\u{301}e\u{301}", 2), "e\u{301}…");
        assert_eq!([fit_end("abc", 2), fit_end("a名", 1), fit_end("", 0)], ["bc", "", ""]);
    }

    #[test]
    fn lines_break_at_spaces() {
        assert_eq!(wrap("record it again, now", 9), ["record it", "again,", "now"]);
        assert_eq!(wrap("unbreakable", 5), ["unbr…"]);
    }
}
