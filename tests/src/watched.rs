//! Runs of workloads under AppArmor, judged: what khard recorded against what AppArmor was asked, and a profile that khard
//! wrote against the same workload. Puts [`crate::workload`], [`crate::audit`] and [`crate::oracle`] together.

#![expect(clippy::missing_panics_doc, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use khard_profile::recording::{Class, Proof, Recording};
use khard_user::bpf::skips_fexit;

use crate::{
    apparmor::{self, Loaded},
    audit::{
        self, Listener,
        apparmor::{Event, Verdict, events},
    },
    oracle::{self, Compared, Told},
    workload::{Ran, Workload},
};

/// By what means khard sees accesses on this kernel without guessing: LSM programs run only where `bpf` is a module.
pub fn exact_attachments() -> &'static [&'static str] {
    if apparmor::has_bpf_lsm() { &["lsm", "fexit"] } else { &["fexit"] }
}

/// What AppArmor told while `run` ran, whole.
pub fn told<T>(run: impl FnOnce() -> T) -> (T, Vec<Event>) {
    assert!(apparmor::is_here(), "this kernel has no AppArmor");
    let mut listener = Listener::start().expect("audit");
    let n_lost = listener.n_lost().expect("audit's status");
    let result = run();
    let heard = listener.take().expect("audit");
    let n_lost_after = listener.n_lost().expect("audit's status");
    audit::assert_whole(&heard, n_lost, n_lost_after).expect("a witness");
    (result, events(&heard.records))
}

/// What AppArmor was asked of a workload, and what khard recorded.
pub struct Comparison {
    /// By class.
    pub classes: BTreeMap<Class, Compared>,
    /// Events of each class that khard may have lost, on kernels that skip programs.
    pub most_lost: BTreeMap<Class, u64>,
}

/// Words of the comparison that one event can be: an exchange asks twice for two letters of one name and one of another.
const WORDS_OF_AN_EVENT: u64 = 6;

impl Comparison {
    /// What AppArmor was asked and khard did not record, of classes of which that is more than may be lost.
    pub fn missed(&self) -> Vec<String> {
        let is_more = |(class, one): &(&Class, &Compared)| {
            one.missed.len() as u64 > self.most_lost.get(class).unwrap_or(&0) * WORDS_OF_AN_EVENT
        };
        let told = |(class, one): (&Class, &Compared)| {
            one.missed.iter().map(|what| format!("{class}: {what}")).collect::<Vec<_>>()
        };
        self.classes.iter().filter(is_more).flat_map(told).collect()
    }
}

/// The bound on what a recording lost, of each class where there is one. Fails if it is known that something was lost.
fn most_lost(recording: &Recording) -> BTreeMap<Class, u64> {
    let mut most = BTreeMap::new();
    for run in recording.runs().values() {
        for (class, coverage) in run.coverage.accesses.iter() {
            let Some(observed) = coverage.observed() else { continue };
            assert!(observed.lost.values().all(|n| *n == 0), "{class}: khard lost something: {observed:?}");
            match observed.proof {
                Proof::Complete { .. } => {}
                Proof::AtMost { lost, .. } => *most.entry(class).or_default() += lost,
                Proof::Unproved { .. } => panic!("{class}: {observed:?}"),
            }
        }
    }
    most
}

/// Runs a workload under a profile that has everything told, and compares; prints how well khard saw it.
pub fn compare(name: &str, profile: &str, attach: &str) -> Comparison {
    let workload = Workload::new(name);
    let profile = Loaded::new(profile);
    let ((done, recording), events) = told(|| workload.confined_and_traced(&profile, attach));
    workload.assert_output(done.code, &done.stdout, &done.stderr);
    let most_lost = most_lost(&recording);
    assert!(most_lost.is_empty() || attach != "lsm" && skips_fexit(), "khard may have lost {most_lost:?}");
    let told = Told::new(&events, &profile);
    assert!(told.asked.get(&Class::Files).is_some_and(|files| files.len() > 10), "AppArmor told too little");
    let compared = oracle::compare(&told.asked, &oracle::of_recording(&recording, &told.asked));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let modules = if apparmor::has_bpf_lsm() { "bpf" } else { "no bpf" };
    println!(
        "\n{name} on {} ({modules}) by {attach}; at most lost: {most_lost:?}; records set aside: {:?}\n{}",
        kernel.trim(),
        told.aside,
        oracle::table(&compared)
    );
    Comparison { classes: compared, most_lost }
}

/// Fails if, by any exact means, khard recorded less than AppArmor was asked.
pub fn assert_all_is_recorded(name: &str, profile: &str) {
    let missed = exact_attachments().iter().flat_map(|attach| {
        let missed = compare(name, profile, attach).missed();
        missed.into_iter().map(move |what| format!("by {attach}, {what}"))
    });
    let missed: Vec<_> = missed.collect();
    assert!(missed.is_empty(), "khard did not record of {name}:\n{}", missed.join("\n"));
}

/// Records a workload, loads the profile that khard wrote, and runs it again: it must print the same, and be denied
/// nothing. The profile's text.
pub fn assert_no_denials(name: &str, attach: &str, args: &[&str]) -> String {
    let workload = Workload::new(name);
    let (recorded, unconfined) = told(|| workload.traced(attach, args).expect(0));
    workload.assert_output(recorded.code, &recorded.stdout, &recorded.stderr);
    let old = denials(&unconfined, |_| true);
    let file = profile_file(&recorded.out);
    let text = fs::read_to_string(&file).expect("the profile that khard wrote");
    let profile = Loaded::new(&text);
    let (ran, events) = told(|| workload.confined(&profile));
    let denied = denials(&events, |event| profile.is(&event.profile));
    let new: Vec<_> = denied.difference(&old).map(String::as_str).collect();
    let most_lost: u64 = most_lost(&recorded.recording(name)).values().sum();
    let said = |what: &str| {
        format!("{name} by {attach}: {what}\ndenied: {}\nunder:\n{text}", new.join("\n        "))
    };
    // Where the kernel may skip programs, what was lost is all that may be denied.
    assert!(new.len() as u64 <= most_lost, "{}", said("it was denied what it had done before"));
    let Ran { code, stdout, stderr } = ran;
    if new.is_empty() {
        assert_eq!(code, 0, "{}", said(&stderr));
        assert_eq!(stdout, recorded.stdout, "{}", said("it printed something else"));
    }
    println!(
        "{name} by {attach}: {} lines of profile, at most {most_lost} lost, {} denied",
        text.lines().count(),
        new.len()
    );
    text
}

/// The profile that khard makes of a workload, and its recording.
pub fn profile_of(workload: &Workload) -> (String, Recording) {
    let done = workload.traced("auto", &[]).expect(0);
    workload.assert_output(done.code, &done.stdout, &done.stderr);
    let text = fs::read_to_string(profile_file(&done.out)).unwrap();
    (text, done.recording(workload.name()))
}

/// Lines that were needed by somebody: the floor was not.
pub fn rules(text: &str) -> Vec<&str> {
    let is_rule = |line: &&str| line.starts_with("  ") && line.ends_with(',') && !line.contains("(receive)");
    text.lines().filter(is_rule).collect()
}

/// What was refused, once each.
pub fn denials(events: &[Event], of: impl Fn(&Event) -> bool) -> BTreeSet<String> {
    let denied = events.iter().filter(|event| event.verdict == Verdict::Denied && of(event));
    denied.map(|event| event.text.split_once("): ").map_or("", |(_, what)| what).to_owned()).collect()
}

/// The one file below a folder that is an AppArmor profile.
pub fn profile_file(out: &Path) -> PathBuf {
    let files: Vec<_> =
        crate::khard::files_below(out).into_iter().filter(|file| file.ends_with(".apparmor")).collect();
    let [file] = files.as_slice() else { panic!("khard wrote {} AppArmor profiles: {files:?}", files.len()) };
    out.join(file)
}
