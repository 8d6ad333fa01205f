//! What a user can ask of the dashboard, and what the dashboard asks of its surroundings. Knows no key and no terminal.

use crate::stream::SubjectId;

/// One of the views, in the order of their tabs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ViewKind {
    /// Every subject.
    Subjects,
    /// System calls of one subject.
    Syscalls,
    /// Its files.
    Files,
    /// Its other accesses.
    Other,
    /// Its profiles as they would be written now.
    Profile,
    /// First sightings of all subjects.
    Events,
    /// Whether more recording would bring more.
    Learning,
}

impl ViewKind {
    /// Every view.
    pub(crate) const ALL: [Self; 7] = [
        Self::Subjects,
        Self::Syscalls,
        Self::Files,
        Self::Other,
        Self::Profile,
        Self::Events,
        Self::Learning,
    ];

    /// The tab's name.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Subjects => "Subjects",
            Self::Syscalls => "Syscalls",
            Self::Files => "Files",
            Self::Other => "Other",
            Self::Profile => "Profile",
            Self::Events => "Events",
            Self::Learning => "Learning",
        }
    }

    /// Whether it has rows that a filter can choose from.
    pub(crate) const fn has_filter(self) -> bool {
        !matches!(self, Self::Profile | Self::Learning)
    }

    pub(super) fn next(self) -> Self {
        Self::ALL[(self as usize + 1) % Self::ALL.len()]
    }

    pub(super) fn previous(self) -> Self {
        Self::ALL[(self as usize + Self::ALL.len() - 1) % Self::ALL.len()]
    }
}

/// What the keys mean at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A view is looked at.
    View(ViewKind),
    /// The list of keys.
    Help,
    /// A filter is typed.
    Filter,
    /// A mark's label is typed.
    Mark,
    /// The question before the end.
    Quit,
}

/// What a user asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// One row up.
    Up,
    /// One row down.
    Down,
    /// A page up.
    PageUp,
    /// A page down.
    PageDown,
    /// To the first row.
    Home,
    /// To the last row; events are followed again.
    End,
    /// Folds a folder, or goes to the one around it.
    Left,
    /// Unfolds a folder.
    Right,
    /// The tab to the right.
    NextView,
    /// The tab to the left.
    PreviousView,
    /// A certain tab.
    View(ViewKind),
    /// Looks at the subject under the cursor.
    Select,
    /// Closes what is open, else goes back to the subjects.
    Back,
    /// Sorts by the next column.
    Sort,
    /// Sorts the other way around.
    ReverseSort,
    /// Begins to type a filter.
    Filter,
    /// Shows the keys.
    Help,
    /// Holds what is shown, or goes on.
    Freeze,
    /// Begins to type a mark's label.
    Mark,
    /// Writes recordings and profiles now.
    Write,
    /// The other profile of the two.
    Other,
    /// Makes the profiles again.
    Refresh,
    /// Asks whether to write, and ends.
    Quit,
    /// A typed character.
    Text(char),
    /// Takes the last character back.
    Erase,
    /// Yes.
    Confirm,
    /// No.
    Decline,
}

/// What has to be done outside of the dashboard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Name this moment.
    Mark(String),
    /// Count the calls of this subject, and of no other.
    Look(Option<SubjectId>),
    /// Write recordings and profiles.
    Write,
    /// Make this subject's profiles, for [`super::State::set_profile`].
    MakeProfile(SubjectId),
    /// End the session.
    Quit {
        /// Whether recordings and profiles are written first.
        write: bool,
    },
}
