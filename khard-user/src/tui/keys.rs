//! Which key means what: one table, from which keys are read and explained. Knows no state but what the keys mean at the moment.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::state::{Action, Mode, ViewKind};

/// Where a key works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In every view.
    Views,
    /// In these.
    In(&'static [ViewKind]),
    /// In a popup.
    Popup(Mode),
}

/// Keys of one meaning, or of a row of meanings.
#[derive(Debug)]
pub(crate) struct Binding {
    keys: &'static [KeyCode],
    /// For each key, or one for all.
    actions: &'static [Action],
    place: Place,
    /// How the keys are called.
    pub(crate) name: &'static str,
    /// In one word, for the key line; empty: only the help has it.
    pub(crate) short: &'static str,
    /// For the help.
    pub(crate) words: &'static str,
}

const fn bind(
    keys: &'static [KeyCode],
    actions: &'static [Action],
    place: Place,
    name: &'static str,
    short: &'static str,
    words: &'static str,
) -> Binding {
    Binding { keys, actions, place, name, short, words }
}

use KeyCode::{
    BackTab, Backspace, Char, Down, End, Enter, Esc, Home, Left, PageDown, PageUp, Right, Tab, Up,
};
use Place::{In, Popup, Views};

const VIEW_KEYS: &[KeyCode] = &[Char('1'), Char('2'), Char('3'), Char('4'), Char('5'), Char('6'), Char('7')];
const VIEWS: &[Action] = &[
    Action::View(ViewKind::Subjects),
    Action::View(ViewKind::Syscalls),
    Action::View(ViewKind::Files),
    Action::View(ViewKind::Other),
    Action::View(ViewKind::Profile),
    Action::View(ViewKind::Events),
    Action::View(ViewKind::Learning),
];
const FILTERED: &[ViewKind] =
    &[ViewKind::Subjects, ViewKind::Syscalls, ViewKind::Files, ViewKind::Other, ViewKind::Events];

/// Every key, those that are needed most first.
const BINDINGS: &[Binding] = &[
    bind(
        &[Enter],
        &[Action::Select],
        In(&[ViewKind::Subjects]),
        "Enter",
        "look",
        "look at the subject under the cursor",
    ),
    bind(
        &[Left, Char('h'), Right, Char('l')],
        &[Action::Left, Action::Left, Action::Right, Action::Right],
        In(&[ViewKind::Files]),
        "←→ h l",
        "fold",
        "fold and unfold a folder",
    ),
    bind(
        &[Char('p')],
        &[Action::Other],
        In(&[ViewKind::Profile]),
        "p",
        "other profile",
        "seccomp or AppArmor profile",
    ),
    bind(
        &[Char('r')],
        &[Action::Refresh],
        In(&[ViewKind::Profile]),
        "r",
        "make again",
        "make the profile again",
    ),
    bind(
        &[Char('s')],
        &[Action::Sort],
        In(&[ViewKind::Subjects, ViewKind::Syscalls]),
        "s",
        "sort",
        "sort by the next column",
    ),
    bind(
        &[Char('S')],
        &[Action::ReverseSort],
        In(&[ViewKind::Subjects, ViewKind::Syscalls]),
        "S",
        "",
        "sort the other way around",
    ),
    bind(&[Char('/')], &[Action::Filter], In(FILTERED), "/", "filter", "show only rows with a text"),
    bind(&[Char('f')], &[Action::Freeze], Views, "f", "freeze", "hold what is shown; recording goes on"),
    bind(&[Char('m')], &[Action::Mark], Views, "m", "mark", "name this moment in the recording"),
    bind(&[Char('w')], &[Action::Write], Views, "w", "write", "write recordings and profiles now"),
    bind(&[Char('?')], &[Action::Help], Views, "?", "help", "these keys"),
    bind(&[Char('q')], &[Action::Quit], Views, "q", "quit", "end; asks whether to write (Ctrl-C too)"),
    bind(VIEW_KEYS, VIEWS, Views, "1-7", "", "a view by its number"),
    bind(
        &[Tab, BackTab],
        &[Action::NextView, Action::PreviousView],
        Views,
        "Tab S-Tab",
        "",
        "the next view, the one before",
    ),
    bind(
        &[Up, Char('k'), Down, Char('j')],
        &[Action::Up, Action::Up, Action::Down, Action::Down],
        Views,
        "↑↓ k j",
        "",
        "one row up, down",
    ),
    bind(
        &[PageUp, PageDown],
        &[Action::PageUp, Action::PageDown],
        Views,
        "PgUp PgDn",
        "",
        "ten rows up, down",
    ),
    bind(
        &[Home, Char('g'), End, Char('G')],
        &[Action::Home, Action::Home, Action::End, Action::End],
        Views,
        "Home End g G",
        "",
        "the first row, the last (follows events)",
    ),
    bind(&[Esc], &[Action::Back], Views, "Esc", "", "no filter; back to the subjects"),
    bind(&[Char('y')], &[Action::Confirm], Popup(Mode::Quit), "y", "write and quit", ""),
    bind(&[Char('n')], &[Action::Decline], Popup(Mode::Quit), "n", "quit without", ""),
    bind(&[Esc], &[Action::Back], Popup(Mode::Quit), "Esc", "go back", ""),
    bind(&[Enter], &[Action::Confirm], Popup(Mode::Mark), "Enter", "set the mark", ""),
    bind(&[Esc], &[Action::Back], Popup(Mode::Mark), "Esc", "no mark", ""),
    bind(&[Enter], &[Action::Confirm], Popup(Mode::Filter), "Enter", "keep the filter", ""),
    bind(&[Esc], &[Action::Back], Popup(Mode::Filter), "Esc", "no filter", ""),
    bind(&[Backspace], &[Action::Erase], Popup(Mode::Filter), "Backspace", "", ""),
    bind(&[Backspace], &[Action::Erase], Popup(Mode::Mark), "Backspace", "", ""),
    bind(&[Esc, Char('?'), Char('q'), Enter], &[Action::Back], Popup(Mode::Help), "Esc", "close", ""),
];

impl Place {
    fn is_of(self, mode: Mode) -> bool {
        match (self, mode) {
            (Views, Mode::View(_)) => true,
            (In(views), Mode::View(view)) => views.contains(&view),
            (Popup(popup), mode) => popup == mode,
            _ => false,
        }
    }
}

/// What a key means.
pub(crate) fn action(event: KeyEvent, mode: Mode) -> Option<Action> {
    if event.kind == KeyEventKind::Release {
        return None;
    }
    if event.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) {
        let is_ctrl_c = event.modifiers.contains(KeyModifiers::CONTROL) && event.code == Char('c');
        return is_ctrl_c.then_some(Action::Quit);
    }
    let found = BINDINGS.iter().filter(|binding| binding.place.is_of(mode)).find_map(|binding| {
        let at = binding.keys.iter().position(|key| *key == event.code)?;
        binding.actions.get(at).or(binding.actions.last()).copied()
    });
    match (found, mode, event.code) {
        (None, Mode::Filter | Mode::Mark, Char(c)) => Some(Action::Text(c)),
        (found, ..) => found,
    }
}

/// The key line of a mode.
pub(crate) fn line(mode: Mode) -> impl Iterator<Item = &'static Binding> {
    BINDINGS.iter().filter(move |binding| !binding.short.is_empty() && binding.place.is_of(mode))
}

/// Every key of the views, for the help.
pub(crate) fn help() -> impl Iterator<Item = &'static Binding> {
    BINDINGS.iter().filter(|binding| !binding.words.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(code: KeyCode, mode: Mode) -> Option<Action> {
        action(KeyEvent::new(code, KeyModifiers::NONE), mode)
    }

    #[test]
    fn a_key_means_what_it_means_where_it_is_pressed() {
        let (subjects, files) = (Mode::View(ViewKind::Subjects), Mode::View(ViewKind::Files));
        assert_eq!(press(Char('3'), subjects), Some(Action::View(ViewKind::Files)));
        assert_eq!(press(Char('k'), files), Some(Action::Up));
        assert_eq!([press(Right, files), press(Right, subjects)], [Some(Action::Right), None]);
        assert_eq!(press(Char('q'), Mode::Mark), Some(Action::Text('q')));
        assert_eq!(press(Char('y'), Mode::Quit), Some(Action::Confirm));
        assert_eq!(press(Char('x'), Mode::Quit), None);
    }

    #[test]
    fn control_c_asks_everywhere_and_a_release_is_nothing() {
        let ctrl_c = KeyEvent::new(Char('c'), KeyModifiers::CONTROL);
        for mode in [Mode::View(ViewKind::Events), Mode::Help, Mode::Filter, Mode::Mark, Mode::Quit] {
            assert_eq!(action(ctrl_c, mode), Some(Action::Quit));
        }
        assert_eq!(action(KeyEvent { kind: KeyEventKind::Release, ..ctrl_c }, Mode::Help), None);
    }

    #[test]
    fn no_key_has_two_meanings() {
        let views = ViewKind::ALL.map(Mode::View);
        for mode in views.into_iter().chain([Mode::Help, Mode::Filter, Mode::Mark, Mode::Quit]) {
            let keys = BINDINGS.iter().filter(|binding| binding.place.is_of(mode)).flat_map(|b| b.keys);
            let mut keys: Vec<_> = keys.collect();
            let n = keys.len();
            keys.sort_by_key(|key| format!("{key:?}"));
            keys.dedup();
            assert_eq!(keys.len(), n, "{mode:?}");
        }
    }

    #[test]
    fn a_view_has_a_number_and_a_filter_key_if_it_has_a_filter() {
        for view in ViewKind::ALL {
            let has_key = press(Char('/'), Mode::View(view)) == Some(Action::Filter);
            assert_eq!(has_key, view.has_filter());
        }
        assert_eq!(VIEWS.len(), ViewKind::ALL.len());
    }
}
