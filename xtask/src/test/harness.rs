//! Tests of the guests themselves: what happens in one reaches this side, and a lost one is told from a command that
//! fails. They need a guest, so they are no unit tests.

mod kubelet;
mod libc;
mod operator;
mod stream;

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};

use super::{Run, report::Counts};
use crate::{
    debian,
    paths::Paths,
    vm::{Options, Outcome, Parts, Session, Stream},
};

/// What a test is given.
struct Given<'a> {
    paths: &'a Paths,
    /// What guests are made of.
    parts: &'a Parts,
    /// Boots one.
    boot: &'a dyn Fn() -> Result<Session>,
    /// The folder that it shares.
    share: &'a Path,
    /// khard, for this side.
    khard: &'a Path,
}

type Test = fn(&Given<'_>) -> Result<()>;

const TESTS: [(&str, Test); 4] = [
    ("status_output_and_files_come_back", status_output_and_files_come_back),
    ("a_panic_is_noticed_at_once_with_the_console", a_panic_is_noticed_at_once_with_the_console),
    ("a_command_without_end_is_given_up", a_command_without_end_is_given_up),
    (
        "a_client_here_records_what_an_agent_in_a_guest_tells",
        stream::a_client_here_records_what_an_agent_in_a_guest_tells,
    ),
];

/// Tests of what users are given.
const DIST_TESTS: [(&str, Test); 1] =
    [("a_static_khard_records_where_another_libc_is", libc::a_static_khard_records_where_another_libc_is)];

/// Tests with a cluster of this machine and a guest.
const KUBELET_TESTS: [(&str, Test); 1] = [(
    "a_deployment_stays_ready_under_what_both_nodes_recorded",
    kubelet::a_deployment_stays_ready_under_what_both_nodes_recorded,
)];

pub(super) fn run(run: &Run, row: &str, kernel: &str, counts: &mut Counts) -> Result<()> {
    each(run, row, kernel, &run.built.khard, &TESTS, counts)
}

pub(super) fn dist(run: &Run, row: &str, kernel: &str, counts: &mut Counts) -> Result<()> {
    each(run, row, kernel, &crate::dist::program(run.paths)?, &DIST_TESTS, counts)
}

pub(super) fn kubelet(run: &Run, row: &str, kernel: &str, counts: &mut Counts) -> Result<()> {
    each(run, row, kernel, &run.built.khard, &KUBELET_TESTS, counts)
}

fn each(
    run: &Run,
    row: &str,
    kernel: &str,
    khard: &Path,
    tests: &[(&str, Test)],
    counts: &mut Counts,
) -> Result<()> {
    let parts = Parts::make(run.paths, kernel, &debian::suite(), &run.built.bin_dir)?;
    let share = run.paths.state_dir("share")?.join(row);
    for (name, test) in tests {
        let _ = fs::remove_dir_all(&share);
        fs::create_dir_all(&share)?;
        let boot = || parts.boot(run.paths, &share, &Options::default(), false);
        match test(&Given { paths: run.paths, parts: &parts, boot: &boot, share: &share, khard }) {
            Ok(()) => counts.add(Counts::pass()),
            Err(error) => counts.add(Counts::failure(name, &format!("{error:#}"))),
        }
    }
    Ok(())
}

fn status_output_and_files_come_back(given: &Given<'_>) -> Result<()> {
    let mut guest = (given.boot)()?;
    fs::write(given.share.join("in"), "from the host\n")?;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let script =
        "cat in; echo trouble >&2; printf 'from the guest' > out; type khard > /dev/null || exit 1; exit 7";
    let outcome = guest.run(script, Some(LIMIT), &mut |stream, bytes| match stream {
        Stream::Out => out.extend(bytes),
        Stream::Err => err.extend(bytes),
    })?;
    ensure!(matches!(outcome, Outcome::Exited(7)), "{outcome:?}");
    ensure!(out == b"from the host\n", "standard output: {}", String::from_utf8_lossy(&out));
    ensure!(err == b"trouble\n", "standard error: {}", String::from_utf8_lossy(&err));
    guest.end()?;
    ensure!(fs::read(given.share.join("out"))? == b"from the guest", "the file differs");
    Ok(())
}

fn a_panic_is_noticed_at_once_with_the_console(given: &Given<'_>) -> Result<()> {
    let mut guest = (given.boot)()?;
    let started = Instant::now();
    let outcome = guest.run("echo c > /proc/sysrq-trigger; sleep 1000", Some(LIMIT), &mut |_, _| {})?;
    let Outcome::MachineGone(console) = outcome else { bail!("{outcome:?}") };
    ensure!(console.contains("Kernel panic"), "the console has no panic: {console}");
    ensure!(started.elapsed() < LIMIT / 2, "noticed after {} s", started.elapsed().as_secs());
    Ok(())
}

fn a_command_without_end_is_given_up(given: &Given<'_>) -> Result<()> {
    let mut guest = (given.boot)()?;
    let outcome = guest.run("sleep 1000", Some(Duration::from_secs(2)), &mut |_, _| {})?;
    ensure!(matches!(outcome, Outcome::OutOfTime), "{outcome:?}");
    Ok(())
}

const LIMIT: Duration = Duration::from_mins(2);
