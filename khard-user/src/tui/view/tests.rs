//! How it looks.

use ratatui::{
    Terminal,
    backend::TestBackend,
    buffer::Cell,
    style::{Color, Modifier},
};

use khard_profile::recording::Ended;

use super::*;
use crate::{
    stream::{Message, Rate, Stage, SubjectId},
    tui::state::{
        Action,
        samples::{Fed, Sample, call, file, ready, subject_state},
    },
};

const SAMPLES: [Sample; 4] = [Sample::Empty, Sample::Normal, Sample::Lossy, Sample::Hostile];

fn drawn(state: &State, (width, height): (u16, u16), colors: ColorDepth) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, state, &Theme::new(colors))).unwrap();
    terminal
}

fn snapshot(name: &str, state: &State, size: (u16, u16)) {
    let terminal = drawn(state, size, ColorDepth::None);
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, terminal.backend()));
}

/// A sample with a view of it.
fn seen(sample: Sample, view: ViewKind) -> Fed {
    let mut fed = Fed::of(sample);
    fed.state.update(Action::View(view));
    fed.refresh();
    fed
}

#[test]
fn every_view_of_every_sample() {
    for view in ViewKind::ALL {
        for sample in SAMPLES {
            let fed = seen(sample, view);
            for size in [(80, 24), (120, 40)] {
                let name = format!("{}_{sample:?}_{}", view.title(), size.0).to_lowercase();
                snapshot(&name, &fed.state, size);
            }
        }
    }
}

#[test]
fn the_other_profile() {
    let mut fed = seen(Sample::Normal, ViewKind::Profile);
    fed.state.update(Action::Other);
    snapshot("apparmor_normal_80", &fed.state, (80, 24));
}

#[test]
fn popups() {
    let small = (80, 24);
    let mut fed = seen(Sample::Normal, ViewKind::Subjects);
    fed.state.update(Action::Help);
    snapshot("help", &fed.state, small);
    fed.state.update(Action::Back);
    fed.state.update(Action::Quit);
    snapshot("quit", &fed.state, small);
    fed.state.update(Action::Back);
    fed.state.update(Action::Mark);
    "load test".chars().for_each(|c| drop(fed.state.update(Action::Text(c))));
    snapshot("mark", &fed.state, small);
    fed.state.update(Action::Back);
    fed.state.update(Action::Filter);
    "shop".chars().for_each(|c| drop(fed.state.update(Action::Text(c))));
    snapshot("filter", &fed.state, small);
}

#[test]
fn how_the_session_stands() {
    let mut fed = seen(Sample::Normal, ViewKind::Files);
    fed.state.refresh(&fed.subjects, std::time::Duration::from_secs(7));
    fed.state.set_message(Err("profiles-out: no space is left".to_owned()));
    snapshot("silent", &fed.state, (80, 24));
    fed.state.update(Action::Freeze);
    fed.state.set_over("the connection was lost");
    fed.state.set_message(Ok("written to profiles-out/shop".to_owned()));
    snapshot("over", &fed.state, (80, 24));
}

#[test]
fn no_size_is_too_small_or_too_large() {
    for sample in SAMPLES {
        for view in ViewKind::ALL {
            let mut fed = seen(sample, view);
            for popup in [None, Some(Action::Help), Some(Action::Quit), Some(Action::Mark)] {
                popup.map(|popup| fed.state.update(popup));
                for width in (1..=200).step_by(23).chain([40, 80]) {
                    for height in (1..=60).step_by(11).chain([10]) {
                        drawn(&fed.state, (width, height), ColorDepth::Sixteen);
                    }
                }
                fed.state.update(Action::Back);
            }
        }
    }
    let fed = seen(Sample::Normal, ViewKind::Subjects);
    assert!(format!("{}", drawn(&fed.state, (39, 24), ColorDepth::None).backend()).contains("40x10"));
}

#[test]
fn no_cell_holds_a_control_character_and_without_colours_none_has_one() {
    for view in ViewKind::ALL {
        let mut fed = seen(Sample::Hostile, view);
        fed.state.set_over("it \u{1b}[2J broke\n");
        fed.state.set_message(Err("a\u{7}b\u{202e}".to_owned()));
        let mut cells = drawn(&fed.state, (120, 40), ColorDepth::None).backend().buffer().content().to_vec();
        // The text of the other profile and the names in the last question too.
        for action in [Action::Other, Action::Quit] {
            fed.state.update(action);
            cells.extend_from_slice(
                drawn(&fed.state, (120, 40), ColorDepth::None).backend().buffer().content(),
            );
        }
        for cell in cells {
            let is_hidden =
                |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            assert!(!cell.symbol().contains(is_hidden), "{:?}", cell.symbol());
            assert_eq!((cell.fg, cell.bg), (Color::Reset, Color::Reset));
        }
    }
}

#[test]
fn a_lossy_subject_is_not_overlooked() {
    for colors in [ColorDepth::None, ColorDepth::Sixteen, ColorDepth::TwoHundredFiftySix] {
        let fed = seen(Sample::Lossy, ViewKind::Subjects);
        let terminal = drawn(&fed.state, (80, 24), colors);
        let row = terminal.backend().buffer().content().chunks(80).nth(5).unwrap();
        let text: String = row.iter().map(Cell::symbol).collect();
        assert!(text.starts_with("shop/web/nginx") && text.contains("LOSSY"), "{text}");
        let lossy = Theme::new(colors).lossy;
        assert_eq!(row[0].fg, lossy.fg.unwrap_or(Color::Reset));
        assert!(row[0].modifier.contains(Modifier::BOLD | Modifier::UNDERLINED));
        for view in
            [ViewKind::Syscalls, ViewKind::Files, ViewKind::Other, ViewKind::Profile, ViewKind::Learning]
        {
            let terminal = drawn(&seen(Sample::Lossy, view).state, (40, 10), colors);
            let title = terminal.backend().buffer().content().chunks(40).nth(3).unwrap();
            assert!(title.iter().map(Cell::symbol).collect::<String>().contains("LOSSY"), "{view:?}");
        }
    }
}

/// A peer can say any number: none of them is one too many.
#[test]
fn numbers_that_cannot_be_are_shown_without_harm() {
    for at_ns in [0, 1, u64::MAX / 2, u64::MAX] {
        for start_ns in [0, 1, u64::MAX] {
            let mut fed = Fed::new();
            let mut state = subject_state(0, "x");
            state.run.id.start_ns = start_ns;
            (state.run.duration_ms, state.run.started_unix_ms, state.run.joiners) = (at_ns, at_ns, at_ns);
            let mut messages = vec![ready(), Message::Subject(Box::new(state.clone()))];
            for mut message in [call(0, "read", Stage::Workload, 1), file(0, "/a", "r", 1)] {
                match &mut message {
                    Message::Call { by: Some(by), .. } | Message::Access { by, .. } => by.time_ns = at_ns,
                    _ => unreachable!(),
                }
                messages.push(message);
            }
            let rate = Some(Rate { subject: state.id, calls_per_s: u64::MAX });
            messages.push(Message::Mark { at_ns, label: "load".into() });
            messages.push(Message::Pulse { now_ns: at_ns, lost: u64::MAX, rate });
            state.run.ended = Ended::SubjectEnded;
            messages.push(Message::Subject(Box::new(state)));
            fed.tell(messages);
            for view in ViewKind::ALL {
                fed.state.update(Action::View(view));
                fed.refresh();
                drawn(&fed.state, (120, 40), ColorDepth::None);
            }
            fed.subjects.recording(&[SubjectId(0)], Ended::AgentLost).unwrap().unwrap().to_json().unwrap();
        }
    }
}
