//! What keys and messages do to what is shown.

use std::time::Duration;

use khard_profile::recording::Ended;

use super::{
    samples::{
        BEGAN, Fed, Sample, call, ended, file, lossy_state, mark, pulse, ready, subject, subject_state,
    },
    *,
};
use crate::stream::{Message, Stage};

const WORKLOAD: Stage = Stage::Workload;

fn press(fed: &mut Fed, actions: &[Action]) -> Option<Effect> {
    let mut effect = None;
    for action in actions {
        effect = fed.state.update(*action);
        fed.refresh();
    }
    effect
}

fn type_in(fed: &mut Fed, text: &str) {
    text.chars().for_each(|c| drop(fed.state.update(Action::Text(c))));
}

fn labels(fed: &Fed) -> Vec<&str> {
    let list = &fed.state.table().list;
    (0..list.len()).map(|at| list.get(at).unwrap().label.as_str()).collect()
}

fn selected(fed: &Fed) -> &str {
    &fed.state.table().list.selected().unwrap().label
}

fn names(fed: &Fed) -> Vec<&str> {
    let files = fed.state.files();
    (0..files.len()).map(|at| files.get(at).unwrap().name.as_str()).collect()
}

/// Three that have made 1, 3 and 2 calls.
fn three() -> Fed {
    let mut fed = Fed::new();
    fed.tell([ready(), subject(0, "b"), subject(1, "c"), subject(2, "a")]);
    for (id, n) in [(0, 1), (1, 3), (2, 2)] {
        let names = ["read", "write", "close"];
        fed.tell(names.iter().take(n).map(|name| call(id, name, WORKLOAD, 5000)));
    }
    fed.tell([pulse(10, 0)]);
    fed.refresh();
    fed
}

#[test]
fn rows_are_sorted_by_each_column_and_the_cursor_stays_on_its_row() {
    let mut fed = three();
    assert_eq!(labels(&fed), ["b", "c", "a"]);
    press(&mut fed, &[Action::Down]);
    assert_eq!(selected(&fed), "c");
    press(&mut fed, &[Action::Sort]);
    assert_eq!((labels(&fed), selected(&fed)), (vec!["a", "b", "c"], "c"));
    press(&mut fed, &[Action::ReverseSort]);
    assert_eq!(labels(&fed), ["c", "b", "a"]);
    press(&mut fed, &[Action::Sort, Action::Sort]);
    assert_eq!(fed.state.table().sort, SortBy::Calls);
    assert_eq!((labels(&fed), selected(&fed)), (vec!["c", "a", "b"], "c"));
    // Another one becomes the greatest.
    fed.tell(["mmap", "brk", "openat", "read"].map(|name| call(0, name, WORKLOAD, 6000)));
    fed.refresh();
    assert_eq!((labels(&fed), selected(&fed)), (vec!["b", "c", "a"], "c"));
}

#[test]
fn a_filter_hides_rows_until_it_is_taken_back() {
    let mut fed = three();
    press(&mut fed, &[Action::End, Action::Filter]);
    type_in(&mut fed, "ax");
    assert_eq!(labels(&fed), [""; 0]);
    press(&mut fed, &[Action::Erase]);
    assert_eq!((labels(&fed), fed.state.mode()), (vec!["a"], Mode::Filter));
    press(&mut fed, &[Action::Confirm]);
    assert_eq!((labels(&fed), fed.state.mode()), (vec!["a"], Mode::View(ViewKind::Subjects)));
    press(&mut fed, &[Action::Back]);
    assert_eq!((labels(&fed), selected(&fed)), (vec!["b", "c", "a"], "a"));
}

#[test]
fn who_is_looked_at_is_told_once() {
    let mut fed = three();
    assert_eq!(fed.state.looked(), Some(SubjectId(0)));
    assert_eq!(press(&mut fed, &[Action::Down]), Some(Effect::Look(Some(SubjectId(0)))));
    assert_eq!(press(&mut fed, &[Action::Select]), Some(Effect::Look(Some(SubjectId(1)))));
    assert_eq!(fed.state.view(), ViewKind::Syscalls);
    assert_eq!(fed.state.calls().len(), 3);
    assert_eq!(press(&mut fed, &[Action::Back, Action::Select]), None);
    // Only its calls in a second are shown, not those that came for another.
    press(&mut fed, &[Action::Back]);
    assert!(fed.state.table().list.rows().iter().all(|row| row.rate.is_none()));
}

#[test]
fn folders_fold_and_the_cursor_stays() {
    let mut fed = three();
    fed.tell(["/etc/a", "/etc/x/y/z", "/usr/b"].map(|path| file(0, path, "r", 10)));
    press(&mut fed, &[Action::View(ViewKind::Files)]);
    assert_eq!(names(&fed), ["/", "etc/", "a", "x/y/", "z", "usr/", "b"]);
    press(&mut fed, &[Action::Down, Action::Down, Action::Down, Action::Down]);
    assert_eq!(fed.state.files().selected().unwrap().name, "z");
    // To the folder around it, and shut.
    press(&mut fed, &[Action::Left]);
    assert_eq!(fed.state.files().selected().unwrap().name, "x/y/");
    press(&mut fed, &[Action::Left]);
    assert_eq!(names(&fed), ["/", "etc/", "a", "x/y/", "usr/", "b"]);
    // Something new in it does not open it, and something new before it does not move the cursor.
    fed.tell(["/etc/x/y/new", "/bin/sh"].map(|path| file(0, path, "rx", 20)));
    fed.refresh();
    let row = fed.state.files().selected().unwrap();
    assert_eq!((row.name.as_str(), row.n_files, row.perms.as_str()), ("x/y/", 2, "rx"));
    press(&mut fed, &[Action::Right]);
    assert_eq!(names(&fed), ["/", "bin/", "sh", "etc/", "a", "x/y/", "new", "z", "usr/", "b"]);
    press(&mut fed, &[Action::Filter]);
    type_in(&mut fed, "y/z");
    assert_eq!(names(&fed), ["/", "etc/", "x/y/", "z"]);
}

#[test]
fn what_is_frozen_stays_while_events_are_kept() {
    let mut fed = three();
    press(&mut fed, &[Action::View(ViewKind::Events)]);
    let n_events = |fed: &Fed| fed.state.events().shown("").0.len();
    let before = n_events(&fed);
    press(&mut fed, &[Action::Freeze]);
    fed.state.drawn();
    fed.tell([call(0, "mmap", WORKLOAD, 9000), ended(1, "c", 9), pulse(20, 5)]);
    fed.refresh();
    assert!(!fed.state.is_dirty());
    assert_eq!((n_events(&fed), fed.state.status().lost), (before, 0));
    // The other views are of that moment too, and nobody else can be looked at.
    press(&mut fed, &[Action::View(ViewKind::Syscalls)]);
    assert_eq!(fed.state.calls().len(), 1);
    press(&mut fed, &[Action::Back, Action::Down, Action::Select]);
    assert_eq!((fed.state.looked(), fed.state.view()), (Some(SubjectId(0)), ViewKind::Subjects));
    assert!(matches!(fed.state.message(), Some(Err(_))));
    press(&mut fed, &[Action::Freeze, Action::View(ViewKind::Events)]);
    assert_eq!((n_events(&fed), fed.state.status().lost), (before + 2, 5));
}

#[test]
fn a_mark_is_typed_and_needs_a_name() {
    let mut fed = three();
    press(&mut fed, &[Action::Down, Action::Mark]);
    type_in(&mut fed, " load testt\u{7}");
    press(&mut fed, &[Action::Erase]);
    assert_eq!(press(&mut fed, &[Action::Confirm]), Some(Effect::Mark("load test".to_owned())));
    assert_eq!(press(&mut fed, &[Action::Mark, Action::Text(' '), Action::Confirm]), None);
    press(&mut fed, &[Action::Mark, Action::Text('x'), Action::Back]);
    assert_eq!((fed.state.mode(), fed.state.typed_mark()), (Mode::View(ViewKind::Subjects), ""));
    fed.state.set_over("the end");
    press(&mut fed, &[Action::Mark]);
    assert!(matches!(fed.state.message(), Some(Err(_))));
}

#[test]
fn the_end_is_asked_for_unless_nothing_can_be_written() {
    let mut fed = three();
    press(&mut fed, &[Action::Down]);
    assert_eq!(press(&mut fed, &[Action::Quit, Action::Quit]), None);
    assert_eq!(fed.state.mode(), Mode::Quit);
    assert_eq!(fed.state.labels().collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(press(&mut fed, &[Action::Confirm]), Some(Effect::Quit { write: true }));
    assert_eq!(press(&mut fed, &[Action::Quit, Action::Decline]), Some(Effect::Quit { write: false }));
    press(&mut fed, &[Action::Quit, Action::Back]);
    assert_eq!(fed.state.mode(), Mode::View(ViewKind::Subjects));
    // From everywhere, also while something is typed.
    press(&mut fed, &[Action::Mark, Action::Quit]);
    assert_eq!(fed.state.mode(), Mode::Quit);
    let setup = Setup { source: "x".to_owned(), out_dir: "y".to_owned(), is_replay: true };
    assert_eq!(State::new(setup).update(Action::Quit), Some(Effect::Quit { write: false }));
}

#[test]
fn a_line_is_new_if_it_was_not_there_at_the_look_before() {
    let texts = |text: &str| ProfileTexts { seccomp: Ok(text.to_owned()), apparmor: Err("none".to_owned()) };
    let id = SubjectId(0);
    let mut fed = three();
    press(&mut fed, &[Action::Down]);
    assert_eq!(press(&mut fed, &[Action::View(ViewKind::Profile)]), Some(Effect::MakeProfile(id)));
    let changes = |fed: &Fed| fed.state.profiles().text(id).map(|text| (text.n_new(), text.n_removed));
    fed.state.set_profile(id, texts("a\nb\n"));
    assert_eq!(changes(&fed), Some((0, 0)));
    // Made again before anybody saw it.
    fed.state.set_profile(id, texts("a\nb\nc\n"));
    assert_eq!(changes(&fed), Some((0, 0)));
    fed.state.drawn();
    assert_eq!(press(&mut fed, &[Action::Refresh]), Some(Effect::MakeProfile(id)));
    fed.state.set_profile(id, texts("b\nd\n"));
    assert_eq!(changes(&fed), Some((1, 2)));
    press(&mut fed, &[Action::Other]);
    assert_eq!(fed.state.profiles().text(id).unwrap().error.as_deref(), Some("none"));
}

#[test]
fn only_the_newest_events_are_kept_and_followed_unless_one_is_looked_at() {
    let mut fed = three();
    press(&mut fed, &[Action::View(ViewKind::Events)]);
    fed.tell((0..10_000).map(|n| file(0, &format!("/{n}"), "r", 20)));
    let events = fed.state.events();
    assert_eq!((events.shown("").0.len(), events.n_dropped(), events.is_following()), (10_000, 9, true));
    press(&mut fed, &[Action::Up]);
    let at = |fed: &Fed| {
        let (shown, at) = fed.state.events().shown("");
        shown[at].what.clone()
    };
    assert_eq!((at(&fed), fed.state.events().is_following()), ("open /9998 r".to_owned(), false));
    fed.tell([mark(20, "x")]);
    assert_eq!(at(&fed), "open /9998 r");
    press(&mut fed, &[Action::End]);
    assert_eq!((at(&fed), fed.state.events().is_following()), ("mark: x".to_owned(), true));
}

#[test]
fn nothing_is_drawn_when_nothing_that_is_shown_has_changed() {
    let mut fed = three();
    fed.state.drawn();
    fed.refresh();
    assert!(!fed.state.is_dirty());
    let mut is_dirty_after = |messages: Vec<Message>, silent_s: u64| {
        fed.tell(messages);
        fed.state.refresh(&fed.subjects, Duration::from_secs(silent_s));
        let is_dirty = fed.state.is_dirty();
        fed.state.drawn();
        is_dirty
    };
    assert!(is_dirty_after(vec![pulse(11, 0)], 0));
    assert!(!is_dirty_after(vec![pulse(11, 0)], 2));
    assert!(is_dirty_after(vec![], 3));
    assert!(!is_dirty_after(vec![call(0, "read", WORKLOAD, 5000)], 3));
    assert!(is_dirty_after(vec![call(0, "fsync", WORKLOAD, 9000)], 3));
    // Nobody wonders at the silence of who has said farewell.
    fed.state.set_over("the end");
    fed.state.refresh(&fed.subjects, Duration::from_mins(1));
    assert_eq!(fed.state.status().silent_s, None);
}

#[test]
fn a_large_subject_is_gone_through_once_a_second_at_most() {
    let mut fed = three();
    press(&mut fed, &[Action::View(ViewKind::Files)]);
    fed.tell((0..=LARGE).map(|n| file(0, &format!("/d/{n}"), "r", 20)));
    fed.refresh();
    let n_files = |fed: &Fed| fed.state.files().get(0).map_or(0, |row| row.n_files);
    // It was small when it was looked at in this second.
    assert_eq!(n_files(&fed), 0);
    fed.tell([pulse(11, 0)]);
    fed.refresh();
    assert_eq!(n_files(&fed), LARGE + 1);
    fed.tell([file(0, "/d/more", "r", 30)]);
    fed.refresh();
    assert_eq!(n_files(&fed), LARGE + 1);
    fed.tell([pulse(12, 0)]);
    fed.refresh();
    assert_eq!(n_files(&fed), LARGE + 2);
}

#[test]
fn a_call_that_belongs_elsewhere_after_all_is_counted_again() {
    let mut fed = three();
    let n_calls = |fed: &Fed| fed.state.table().list.get(0).unwrap().n_calls;
    fed.tell([call(0, "mmap", Stage::Untold, 10)]);
    fed.refresh();
    assert_eq!(n_calls(&fed), 2);
    let mut state = subject_state(0, "b");
    state.placement = crate::stream::Placement::new(|_| khard_profile::recording::Phase::Joining);
    fed.tell([Message::Subject(Box::new(state))]);
    fed.refresh();
    assert_eq!(n_calls(&fed), 0);
}

#[test]
fn a_loss_is_named_by_class_and_how_a_subject_ended_is_said() {
    let mut fed = three();
    let mut state = lossy_state(1, "c");
    state.run.ended = Ended::AgentLost;
    fed.tell([Message::Subject(Box::new(state))]);
    fed.refresh();
    let row = fed.state.table().list.get(1).unwrap();
    assert_eq!((row.state, row.trust.lost), ("cut off", 319));
    assert_eq!(row.trust.lossy, ["syscalls", "files"]);
    assert_eq!((fed.state.status().n_alive, fed.state.status().n_ended), (2, 1));
    assert_eq!(fed.state.status().attachments, "lsm+syscall+tracepoint");
}

#[test]
fn learning_goes_on_with_time_and_names_marks() {
    let mut fed = Fed::of(Sample::Normal);
    press(&mut fed, &[Action::View(ViewKind::Learning)]);
    let learning = fed.state.learning();
    assert!(learning.verdict.starts_with("Nothing new for 4 m 10 s: "), "{}", learning.verdict);
    assert_eq!(learning.marks, [(20.0, "load test".to_owned()), (100.0, "reload".to_owned())]);
    assert_eq!(learning.coverage.last().unwrap().classes, "all others");
    fed.state.drawn();
    fed.tell([pulse(350, 0)]);
    fed.refresh();
    assert!(fed.state.is_dirty());
    assert!(fed.state.learning().verdict.starts_with("Nothing new for 4 m 20 s: "));
    assert_eq!(fed.subjects.began_ns(), BEGAN);
}
