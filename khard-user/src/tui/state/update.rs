//! What happens when a user asks for something. Makes no rows from what a stream tells, only chooses among those that are there.

use super::{Action, Effect, Learning, List, Popup, State, ViewKind, calls};

/// Characters of a filter or a mark at most.
const MAX_TYPED: usize = 120;

impl State {
    /// Does what a user asks for.
    pub(crate) fn update(&mut self, action: Action) -> Option<Effect> {
        self.is_dirty = true;
        self.message = None;
        let effect = match self.popup.take() {
            None => self.update_view(action),
            Some(popup) => self.update_popup(popup, action),
        };
        if effect.is_none() && self.told != self.looked {
            self.told = self.looked;
            return Some(Effect::Look(self.looked));
        }
        effect
    }

    fn update_popup(&mut self, popup: Popup, action: Action) -> Option<Effect> {
        match (popup, action) {
            (Popup::Quit, Action::Confirm) => Some(Effect::Quit { write: true }),
            (Popup::Quit, Action::Decline) => Some(Effect::Quit { write: false }),
            (Popup::Mark(label), Action::Confirm) => {
                let label = label.trim().to_owned();
                (!label.is_empty()).then_some(Effect::Mark(label))
            }
            (Popup::Filter, Action::Back) => {
                self.set_filter(String::new());
                None
            }
            (Popup::Filter, Action::Confirm)
            | (Popup::Help, Action::Back | Action::Help)
            | (Popup::Mark(_) | Popup::Quit, Action::Back) => None,
            (_, Action::Quit) => self.quit(),
            (Popup::Mark(mut label), action) => {
                type_in(&mut label, action);
                self.popup = Some(Popup::Mark(label));
                None
            }
            (Popup::Filter, action @ (Action::Text(_) | Action::Erase)) => {
                let mut filter = self.filter().to_owned();
                type_in(&mut filter, action);
                self.set_filter(filter);
                self.popup = Some(Popup::Filter);
                None
            }
            (popup, _) => {
                self.popup = Some(popup);
                None
            }
        }
    }

    fn update_view(&mut self, action: Action) -> Option<Effect> {
        match action {
            Action::NextView => return self.show(self.view.next()),
            Action::PreviousView => return self.show(self.view.previous()),
            Action::View(view) => return self.show(view),
            Action::Select if self.view == ViewKind::Subjects => return self.look_at_selected(),
            Action::Back if !self.filter().is_empty() => self.set_filter(String::new()),
            Action::Back => return self.show(ViewKind::Subjects),
            Action::Sort | Action::ReverseSort => self.sort(action == Action::ReverseSort),
            Action::Filter if self.view.has_filter() => self.popup = Some(Popup::Filter),
            Action::Help => self.popup = Some(Popup::Help),
            Action::Freeze => self.freeze(),
            Action::Mark if self.over.is_none() && !self.setup.is_replay => {
                self.popup = Some(Popup::Mark(String::new()));
            }
            Action::Mark => {
                self.message = Some(Err("nothing is recorded any more that a mark could name".to_owned()));
            }
            Action::Write => return Some(Effect::Write),
            Action::Other if self.view == ViewKind::Profile => self.profiles.other(),
            Action::Refresh if self.view == ViewKind::Profile => return self.looked.map(Effect::MakeProfile),
            Action::Quit => return self.quit(),
            _ => self.go(action),
        }
        None
    }

    fn quit(&mut self) -> Option<Effect> {
        // Of a replay nothing is written, of what is over everything is.
        if self.setup.is_replay || self.over.is_some() {
            return Some(Effect::Quit { write: false });
        }
        self.popup = Some(Popup::Quit);
        None
    }

    fn show(&mut self, view: ViewKind) -> Option<Effect> {
        let is_other = std::mem::replace(&mut self.view, view) != view;
        if view == ViewKind::Profile && is_other {
            return self.looked.map(Effect::MakeProfile);
        }
        None
    }

    fn look_at_selected(&mut self) -> Option<Effect> {
        let id = self.table.list.selected()?.id;
        if self.looked != Some(id) {
            if self.is_frozen {
                self.message = Some(Err("frozen: press f before looking at another subject".to_owned()));
                return None;
            }
            self.looked = Some(id);
            self.calls = List::default();
            self.files.clear();
            self.other = List::default();
            self.learning = Learning::default();
            self.profiles.rewind();
            self.made = None;
        }
        self.show(ViewKind::Syscalls)
    }

    fn freeze(&mut self) {
        self.is_frozen = !self.is_frozen;
        self.frozen_at = self.is_frozen.then_some(self.view);
        self.events.freeze(self.is_frozen);
        // Whatever happened meanwhile is to be shown.
        self.made = None;
    }

    fn sort(&mut self, reverse: bool) {
        let filter = &self.filters[self.view as usize];
        match (self.view, reverse) {
            (ViewKind::Subjects, false) => self.table.sort_by_next(filter),
            (ViewKind::Subjects, true) => self.table.reverse(filter),
            (ViewKind::Syscalls, _) => {
                if reverse {
                    self.calls_reversed = !self.calls_reversed;
                } else {
                    self.calls_by_time = !self.calls_by_time;
                }
                let mut rows = self.calls.rows().to_vec();
                calls::sort(&mut rows, self.calls_by_time, self.calls_reversed);
                self.calls.set(rows, filter);
            }
            _ => {}
        }
    }

    fn set_filter(&mut self, filter: String) {
        match self.view {
            ViewKind::Subjects => self.table.list.set_filter(&filter),
            ViewKind::Syscalls => self.calls.set_filter(&filter),
            ViewKind::Files => self.files.set_filter(&filter),
            ViewKind::Other => self.other.set_filter(&filter),
            ViewKind::Profile | ViewKind::Events | ViewKind::Learning => {}
        }
        self.filters[self.view as usize] = filter;
    }

    fn go(&mut self, action: Action) {
        match self.view {
            ViewKind::Subjects => self.table.list.go(action),
            ViewKind::Syscalls => self.calls.go(action),
            ViewKind::Files => self.files.go(action),
            ViewKind::Other => self.other.go(action),
            ViewKind::Events => self.events.go(&self.filters[ViewKind::Events as usize], action),
            ViewKind::Profile => {
                if let Some(id) = self.looked {
                    self.profiles.go(id, action);
                }
            }
            ViewKind::Learning => {}
        }
    }
}

fn type_in(text: &mut String, action: Action) {
    match action {
        Action::Text(c) if !c.is_control() && text.chars().count() < MAX_TYPED => text.push(c),
        Action::Erase => drop(text.pop()),
        _ => {}
    }
}
