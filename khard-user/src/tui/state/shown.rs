//! What a drawing needs to know of a state.

use super::{
    CallRow, Events, FileRow, Learning, List, Mode, OtherRow, Popup, Profiles, Setup, State, Status, Table,
    Trust, ViewKind,
};
use crate::stream::SubjectId;

impl State {
    /// What the keys mean.
    pub(crate) fn mode(&self) -> Mode {
        match self.popup {
            None => Mode::View(self.view),
            Some(Popup::Help) => Mode::Help,
            Some(Popup::Filter) => Mode::Filter,
            Some(Popup::Mark(_)) => Mode::Mark,
            Some(Popup::Quit) => Mode::Quit,
        }
    }

    /// The view, also below a popup.
    pub(crate) fn view(&self) -> ViewKind {
        self.view
    }

    /// The subject that is looked at.
    pub(crate) fn looked(&self) -> Option<SubjectId> {
        self.looked
    }

    /// Its label; empty if there is none.
    pub(crate) fn looked_label(&self) -> &str {
        self.looked.and_then(|id| self.table.label(id)).unwrap_or_default()
    }

    /// How far it can be trusted.
    pub(crate) fn looked_trust(&self) -> Option<&Trust> {
        self.looked.and_then(|id| self.table.trust(id))
    }

    /// The filter of the view.
    pub(crate) fn filter(&self) -> &str {
        &self.filters[self.view as usize]
    }

    /// A mark's label as far as it is typed.
    pub(crate) fn typed_mark(&self) -> &str {
        if let Some(Popup::Mark(label)) = &self.popup { label } else { "" }
    }

    /// Whose recordings and profiles would be written.
    pub(crate) fn labels(&self) -> impl ExactSizeIterator<Item = &str> {
        self.table.labels().into_iter()
    }

    pub(crate) fn setup(&self) -> &Setup {
        &self.setup
    }

    pub(crate) fn status(&self) -> &Status {
        &self.status
    }

    /// Why the session has ended, if it has.
    pub(crate) fn over(&self) -> Option<&str> {
        self.over.as_deref()
    }

    pub(crate) fn message(&self) -> Option<&Result<String, String>> {
        self.message.as_ref()
    }

    pub(crate) fn is_frozen(&self) -> bool {
        self.is_frozen
    }

    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    pub(crate) fn calls(&self) -> &List<CallRow> {
        &self.calls
    }

    /// Whether calls are sorted by time, and whether backwards.
    pub(crate) fn calls_order(&self) -> (bool, bool) {
        (self.calls_by_time, self.calls_reversed)
    }

    pub(crate) fn files(&self) -> &List<FileRow> {
        &self.files.list
    }

    pub(crate) fn other(&self) -> &List<OtherRow> {
        &self.other
    }

    pub(crate) fn learning(&self) -> &Learning {
        &self.learning
    }

    pub(crate) fn profiles(&self) -> &Profiles {
        &self.profiles
    }

    pub(crate) fn events(&self) -> &Events {
        &self.events
    }
}
