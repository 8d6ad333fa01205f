//! Rows with a cursor that stays on its row when rows come, go and move. Knows nothing about what is in them.

use super::Action;

/// Rows that a page up or down goes.
const PAGE: usize = 10;

/// What a row must tell of itself.
pub(crate) trait Row: PartialEq {
    /// By what it is known again.
    type Key: PartialEq;

    /// By what it is known again.
    fn key(&self) -> Self::Key;

    /// Whether a filter lets it through. Never asked with an empty filter.
    fn matches(&self, filter: &str) -> bool;
}

/// Rows, of which some are shown, and one of these is under the cursor.
#[derive(Debug)]
pub(crate) struct List<R> {
    rows: Vec<R>,
    shown: Vec<usize>,
    cursor: usize,
}

impl<R> Default for List<R> {
    fn default() -> Self {
        Self { rows: Vec::new(), shown: Vec::new(), cursor: 0 }
    }
}

impl<R: Row> List<R> {
    /// Other rows. True if anything is different.
    pub(super) fn set(&mut self, rows: Vec<R>, filter: &str) -> bool {
        let key = self.selected().map(Row::key);
        self.set_with_cursor_on(rows, filter, key.as_ref())
    }

    /// Other rows, with the cursor on a certain one if it is there.
    pub(super) fn set_with_cursor_on(&mut self, rows: Vec<R>, filter: &str, key: Option<&R::Key>) -> bool {
        let is_other = rows != self.rows;
        if is_other {
            self.rows = rows;
        }
        self.show(filter, key) || is_other
    }

    /// Another filter.
    pub(super) fn set_filter(&mut self, filter: &str) {
        let key = self.selected().map(Row::key);
        self.show(filter, key.as_ref());
    }

    fn show(&mut self, filter: &str, key: Option<&R::Key>) -> bool {
        let is_shown = |idx: &usize| filter.is_empty() || self.rows[*idx].matches(filter);
        let shown: Vec<usize> = (0..self.rows.len()).filter(is_shown).collect();
        let found = key.and_then(|key| shown.iter().position(|idx| self.rows[*idx].key() == *key));
        let cursor = found.unwrap_or(self.cursor).min(shown.len().saturating_sub(1));
        let is_other = shown != self.shown || cursor != self.cursor;
        (self.shown, self.cursor) = (shown, cursor);
        is_other
    }

    pub(super) fn go(&mut self, action: Action) {
        self.cursor = moved(self.cursor, self.shown.len(), action);
    }

    pub(super) fn put_cursor_on(&mut self, key: &R::Key) {
        if let Some(at) = self.shown.iter().position(|idx| self.rows[*idx].key() == *key) {
            self.cursor = at;
        }
    }

    pub(super) fn rows(&self) -> &[R] {
        &self.rows
    }

    /// The row under the cursor.
    pub(crate) fn selected(&self) -> Option<&R> {
        self.get(self.cursor)
    }

    /// The place of the cursor among the rows that are shown.
    pub(crate) fn cursor(&self) -> usize {
        self.cursor
    }

    /// How many rows are shown.
    pub(crate) fn len(&self) -> usize {
        self.shown.len()
    }

    /// A row that is shown.
    pub(crate) fn get(&self, at: usize) -> Option<&R> {
        self.shown.get(at).map(|idx| &self.rows[*idx])
    }
}

/// Where a cursor goes among `len` rows.
pub(super) fn moved(cursor: usize, len: usize, action: Action) -> usize {
    let to = match action {
        Action::Up => cursor.saturating_sub(1),
        Action::Down => cursor + 1,
        Action::PageUp => cursor.saturating_sub(PAGE),
        Action::PageDown => cursor + PAGE,
        Action::Home => 0,
        Action::End => len,
        _ => cursor,
    };
    to.min(len.saturating_sub(1))
}
