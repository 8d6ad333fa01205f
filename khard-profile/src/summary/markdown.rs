//! Owns `summary.md`: a page for people. Every name that a workload or a cluster chose is in a code span.

use std::fmt::Write;

use super::{
    AppArmorSummary, ClassRuns, LeftOut, RiskyCall, RiskyRule, RunSummary, SeccompSummary, Summary, words,
};
use crate::apparmor::FoldReason;
use crate::escape::markdown as code;
use crate::recording::{Subject, Witness};
use crate::seccomp::profile_name;

impl Summary {
    /// The page. `seccomp_json` is the profile that stands beside it, if there is one.
    pub fn to_markdown(&self, seccomp_json: Option<&[u8]>) -> String {
        let mut page = String::new();
        let subject: Vec<String> = words::subject(&self.subject)
            .into_iter()
            .map(|(what, name)| format!("{what} {}", code(name)))
            .collect();
        let _ = writeln!(page, "# {}\n", subject.join(" "));
        headline(&mut page, self);
        for warning in &self.warnings {
            let _ = writeln!(page, "\n> **Warning:** {warning}.");
        }
        runs(&mut page, self);
        spans(&mut page, self);
        class_runs(&mut page, self);
        refused_calls(&mut page, self);
        if let Some(seccomp) = &self.seccomp {
            allowed(&mut page, seccomp);
            risky(&mut page, seccomp);
        }
        if let Some(profile) = &self.apparmor {
            apparmor(&mut page, profile);
        }
        if let Some(why) = &self.no_apparmor {
            let _ =
                writeln!(page, "\n## AppArmor\n\n**There is no AppArmor profile:** {}", code(why.as_bytes()));
        }
        files(&mut page, self, seccomp_json);
        page
    }
}

fn headline(page: &mut String, summary: &Summary) {
    if let Some(seccomp) = &summary.seccomp {
        let n_refused = seccomp.n_existing.saturating_sub(seccomp.n_allowed);
        let _ = writeln!(
            page,
            "**{} of {} system calls are allowed.** Of the {n_refused} others, {} are refused with EPERM; the newer ones, and all that are not known yet, with ENOSYS, so that a libc falls back to an older call.",
            seccomp.n_allowed, seccomp.n_existing, seccomp.n_eperm
        );
    }
    if let Some(why) = &summary.no_seccomp {
        let _ = writeln!(page, "**There is no seccomp profile:** {}", code(why.as_bytes()));
    }
    let coverage = match (summary.complete, summary.lossy) {
        (true, _) => {
            "Every run was recorded from its first instruction, and it is proved that no call was lost."
        }
        (false, true) => "**The recording is lossy**: see the coverage of each run below.",
        (false, false) => {
            "Nothing is known to be lost, but not every run is proved complete from its first instruction: see the coverage of each run below."
        }
    };
    let _ = writeln!(page, "\n{coverage}");
}

fn runs(page: &mut String, summary: &Summary) {
    page.push_str("\n## Runs\n\n| started (UTC) | lasted | what | ended | joined | coverage of system calls |\n|---|---|---|---|---|---|\n");
    for run in &summary.runs {
        let what = match (run.pod.as_ref().or(run.container.as_ref()), run.attempt) {
            (Some(name), Some(attempt)) => format!("{}, attempt {attempt}", code(name.as_bytes())),
            _ => "one run".to_owned(),
        };
        let _ = writeln!(
            page,
            "| {} | {} | {what} | {} | {} | {} |",
            words::utc(run.started_unix_ms),
            words::duration(run.duration_ms),
            words::ended(run.ended),
            run.joiners,
            code(run.coverage.as_bytes())
        );
    }
    page.push('\n');
    distinct(page, summary, "host", |run| Some(code(run.host.as_bytes())));
    distinct(page, summary, "runtime", |run| run.runtime.as_ref().map(|runtime| code(runtime.as_bytes())));
    distinct(page, summary, "image", |run| {
        let (image, id) = run.image.as_ref()?;
        Some(format!("{} = {}", code(image.as_bytes()), code(id.as_bytes())))
    });
    let accesses: std::collections::BTreeSet<_> = summary.runs.iter().flat_map(|run| &run.accesses).collect();
    for (coverage, classes) in accesses {
        let _ = writeln!(page, "- {}: {}", classes.join(", "), code(coverage.as_bytes()));
    }
    if let Some(from) = words::name_from(&summary.subject) {
        let _ =
            writeln!(page, "- the container is called by {from}: its own name is another with each start");
    }
    if let Some(label) = words::derivation(&summary.subject) {
        let _ = writeln!(
            page,
            "- the workload's name is the pod's without what its label `{label}` says is generated"
        );
    }
    for run in &summary.runs {
        for note in &run.notes {
            let _ = writeln!(page, "- {}", code(note.as_bytes()));
        }
    }
    let seen: Vec<String> = summary.seen_by_phase.iter().map(|(phase, n)| format!("{phase} {n}")).collect();
    let _ = writeln!(page, "- different calls seen, by phase: {}", seen.join(", "));
}

/// What the user's marks split the runs into.
fn spans(page: &mut String, summary: &Summary) {
    for run in summary.runs.iter().filter(|run| !run.spans.is_empty()) {
        page.push_str("\n## Between marks\n\nOnly what was seen for the first time: what comes again is not recorded again.\n\n| from | mark | calls first seen | accesses first seen |\n|---|---|---|---|\n");
        for span in &run.spans {
            let mark = span.mark.as_ref().map_or("the beginning".to_owned(), |label| code(label.as_slice()));
            let from = words::duration(span.from_ms);
            let _ = writeln!(page, "| {from} | {mark} | {} | {} |", span.n_calls, span.n_accesses);
        }
    }
}

/// What a filter refused while recording.
fn refused_calls(page: &mut String, summary: &Summary) {
    if summary.refused_calls.is_empty() {
        return;
    }
    page.push_str("\n## Refused by a seccomp filter while recording\n\nTried, and answered by the filter that was in force. Not granted by the profile here.\n\n");
    for refused in &summary.refused_calls {
        let phases: Vec<String> = refused.phases.iter().map(ToString::to_string).collect();
        let _ = writeln!(
            page,
            "- {}, {}{}",
            code(refused.what.as_bytes()),
            phases.join(", "),
            first(refused.witness.as_ref())
        );
    }
}

/// In how many runs things were seen.
fn class_runs(page: &mut String, summary: &Summary) {
    if !summary.class_runs.is_empty() {
        page.push_str("\n## In how many runs\n\nA run is whole for a class if it tells of absence too: seen exactly, from the first instruction, and nothing known to be lost. Whatever was seen is granted, unless `--min-seen` asks for more runs.\n\n| class | whole runs | seen in all of them | not in all of them |\n|---|---|---|---|\n");
    }
    for ClassRuns { class, n_whole, in_all, in_fewer } in &summary.class_runs {
        let _ = writeln!(page, "| {class} | {n_whole} | {in_all} | {} |", in_fewer.len());
    }
    for ClassRuns { class, n_whole, in_fewer, .. } in
        summary.class_runs.iter().filter(|class| class.n_whole > 0)
    {
        let fewer = in_fewer.iter().map(|fewer| {
            let others = if fewer.n_others > 0 {
                format!(", and of others in {}", fewer.n_others)
            } else {
                String::new()
            };
            let what = code(fewer.what.as_bytes());
            format!("{what}: in {} of {n_whole}{others}{}", fewer.n_runs, first(fewer.witness.as_ref()))
        });
        list(page, &format!("Not in all whole runs ({class})"), fewer);
    }
    if let Some(LeftOut { min_seen, what }) = &summary.left_out {
        let what = what.iter().map(|what| code(what.as_bytes()));
        list(page, &format!("**Not granted**, since fewer than {min_seen} runs have it"), what);
    }
}

/// A line for each different value of a property of the runs.
fn distinct(page: &mut String, summary: &Summary, what: &str, value: impl Fn(&RunSummary) -> Option<String>) {
    let values: std::collections::BTreeSet<String> = summary.runs.iter().filter_map(value).collect();
    for value in values {
        let _ = writeln!(page, "- {what}: {value}");
    }
}

fn allowed(page: &mut String, seccomp: &SeccompSummary) {
    page.push_str(
        "\n## Why calls are allowed\n\n| because of | calls | only because of it |\n|---|---|---|\n",
    );
    for reason in &seccomp.reasons {
        let because = match reason.reason {
            "workload" => "the workload",
            "joiner" => "processes that joined (exec, probes)",
            "floor" => "the runtime, once the filter is in force (floor)",
            "always" => "what can be called at any time (exit, signals, clock)",
            other => other,
        };
        let _ = writeln!(page, "| {because} | {} | {} |", reason.n_calls, reason.n_only);
    }
    let _ = writeln!(page, "\n- floor: {}", code(seccomp.floor.as_bytes()));
    let architectures: Vec<String> = seccomp.architectures.iter().map(|arch| format!("`{arch}`")).collect();
    let _ = writeln!(page, "- architectures: {}", architectures.join(", "));
    for compat in &seccomp.compat {
        let _ = writeln!(
            page,
            "- different calls in the ABI `{}`: {}{}",
            compat.abi,
            compat.n_calls,
            first(compat.witness.as_ref())
        );
    }
    if !seccomp.unwritable.is_empty() {
        let _ = writeln!(
            page,
            "- **seen, but without a name, so not allowed:** {}",
            seccomp.unwritable.join(", ")
        );
    }
}

fn risky(page: &mut String, seccomp: &SeccompSummary) {
    let (n_closed, n_open) = (seccomp.closed.len(), seccomp.open.len());
    let _ = writeln!(
        page,
        "\n## Risky calls\n\nOf the calls on khard's list of risky ones, {n_closed} are closed and {n_open} open."
    );
    if n_open > 0 {
        page.push_str("\n| open | risk | because of |\n|---|---|---|\n");
        for RiskyCall { name, risk, why, witness } in &seccomp.open {
            let _ = writeln!(page, "| `{name}` | {risk} | {why}{} |", first(witness.as_ref()));
        }
    }
    if n_closed > 0 {
        page.push_str("\n| closed | risk |\n|---|---|\n");
        for alike in seccomp.closed.chunk_by(|one, next| one.risk == next.risk) {
            let names: Vec<String> = alike.iter().map(|call| format!("`{}`", call.name)).collect();
            let _ = writeln!(page, "| {} | {} |", names.join(", "), alike[0].risk);
        }
    }
}

/// Rules of one kind that are shown; the rest is counted.
const MAX_RULES: usize = 40;

fn apparmor(page: &mut String, profile: &AppArmorSummary) {
    let n_rules: usize = profile.n_rules.values().sum();
    let of: Vec<String> = profile.n_rules.iter().map(|(group, n)| format!("{group} {n}")).collect();
    let _ = writeln!(
        page,
        "\n## AppArmor\n\n**`{}` has {n_rules} rules that allow something** ({}).\n",
        profile.name,
        of.join(", ")
    );
    for warning in &profile.warnings {
        let _ = writeln!(page, "> **Warning:** {}\n", code(warning.as_bytes()));
    }
    let flags = if profile.flags.is_empty() { "none".to_owned() } else { profile.flags.join(", ") };
    let _ = writeln!(page, "- abi {}, flags: {flags}", profile.abi);
    if profile.flags.contains(&"attach_disconnected") {
        page.push_str("- the price of `attach_disconnected`: a descriptor that leaks in from the host is taken by its path within its own file system, as if that were a path of the container\n");
    }
    let _ = writeln!(page, "- rules that nobody was seen to need (floor): {}", profile.n_floor);
    let _ = writeln!(page, "- the paths make {} states; the parser can compile 65,535", profile.n_states);
    if let Some(compiled) = profile.compiled {
        let _ = writeln!(page, "- compiled here, to {} bytes", compiled.n_bytes);
    }
    if !profile.optional_capabilities.is_empty() {
        let _ = writeln!(
            page,
            "- only tested for, and not granted (a refusal is silent, and most programs go on): {}",
            profile.optional_capabilities.join(", ")
        );
    }
    if profile.open.is_empty() {
        page.push_str("\nNothing on khard's list of risky rules is open.\n");
    } else {
        page.push_str("\n| open | risk | because of |\n|---|---|---|\n");
        for RiskyRule { rule, risk, witness } in profile.open.iter().take(MAX_RULES) {
            let by = witness.as_ref().map(|witness| first(Some(witness)));
            let by = by.as_deref().and_then(|by| by.strip_prefix(", ")).unwrap_or_default();
            let _ = writeln!(page, "| `{rule}` | {risk} | {by} |");
        }
        more(page, profile.open.len());
    }
    // A rule's text holds neither a backtick nor a bar: see `apparmor::Rule::to_text`.
    let recorded = |rule: &str, n: usize| format!("`{rule}` (accesses recorded: {n})");
    let generalised = profile.generalised.iter().map(|rule| recorded(&rule.rule, rule.n_recorded));
    list(page, "Generalised, since the name will be another next time", generalised);
    let folded = profile.folded.iter().map(|rule| {
        let why = match rule.reason {
            FoldReason::Versions => "versions of a library",
            FoldReason::Threshold => "as many files as the threshold says",
            FoldReason::Limit => "more paths than the parser can compile",
        };
        format!("{}: {why}", recorded(&rule.rule, rule.n_recorded))
    });
    list(page, "Folded: these allow more than what was seen", folded);
    let rules = |all: &[String]| all.iter().map(|rule| format!("`{rule}`")).collect::<Vec<_>>().into_iter();
    list(
        page,
        "Only attempted, and refused while recording; allowed so that the error stays the same",
        rules(&profile.attempt_only),
    );
    list(page, "Refused while recording, and denied without a word in the log", rules(&profile.denied));
    let named = |all: &[String]| all.iter().map(|what| code(what.as_bytes())).collect::<Vec<_>>().into_iter();
    list(page, "Refused while recording, and not allowed", named(&profile.not_granted));
    list(page, "**Seen, but no rule can say it**", named(&profile.not_expressible));
}

fn list(page: &mut String, title: &str, items: impl ExactSizeIterator<Item = String>) {
    let n = items.len();
    if n == 0 {
        return;
    }
    let _ = writeln!(page, "\n{title}:\n");
    for item in items.take(MAX_RULES) {
        let _ = writeln!(page, "- {item}");
    }
    more(page, n);
}

fn more(page: &mut String, n: usize) {
    if n > MAX_RULES {
        let _ = writeln!(page, "\nAnd {} more.", n - MAX_RULES);
    }
}

fn first(witness: Option<&Witness>) -> String {
    let Some(witness) = witness else { return String::new() };
    format!(", first by {} ({})", code(witness.comm.as_slice()), code(witness.exe.as_slice()))
}

fn files(page: &mut String, summary: &Summary, seccomp_json: Option<&[u8]>) {
    page.push_str("\n## Files\n\n- `recording.json`: what was seen, by whom and when; everything else can be made from it again\n");
    let seccomp = seccomp_json.map(|json| profile_name(&summary.subject, json));
    let apparmor = summary.apparmor.as_ref();
    if seccomp.is_some() {
        page.push_str(
            "- `seccomp.json`: the profile, as runc, crun, containerd, Docker and Podman take it\n",
        );
    }
    if let Some(AppArmorSummary { file, name, .. }) = apparmor {
        let _ = writeln!(page, "- `{file}`: the AppArmor profile `{name}`, as `apparmor_parser` takes it");
    }
    let files: Vec<&str> =
        seccomp.iter().map(|_| "seccomp.json").chain(apparmor.map(|of| of.file.as_str())).collect();
    if files.is_empty() {
        page.push_str("\n## Next\n\n```sh\nkhard generate recording.json\n```\n");
        return;
    }
    page.push_str(
        "\n## Next\n\nIn this folder, check what is there against this or another recording:\n\n```sh\n",
    );
    for file in files {
        let _ = writeln!(page, "khard check {file} --against recording.json");
    }
    page.push_str("```\n\n");
    match &summary.subject {
        Subject::Container { .. } => on_nodes(page, seccomp.as_deref(), apparmor),
        Subject::Docker { .. } | Subject::Command { .. } | Subject::Cgroup { .. } => {
            // What was recorded outside of a container is about the host's files.
            let (of_container, of_host) =
                if summary.subject.is_container() { (apparmor, None) } else { (None, apparmor) };
            if seccomp.is_some() || of_container.is_some() {
                under_docker(page, seccomp.is_some(), of_container);
            }
            if let Some(AppArmorSummary { file, name, .. }) = of_host {
                let blank = if seccomp.is_some() { "\n" } else { "" };
                let _ = writeln!(
                    page,
                    "{blank}Run a command under the AppArmor profile, which is not for containers:\n\n```sh\napparmor_parser -r {file}\naa-exec -p {name} -- COMMAND\n```"
                );
            }
        }
    }
    let _ = writeln!(page, "\nRecorded by {}.", code(summary.written_by.as_bytes()));
}

fn under_docker(page: &mut String, has_seccomp: bool, apparmor: Option<&AppArmorSummary>) {
    page.push_str("Run a container under it:\n\n```sh\n");
    let mut options = String::new();
    if has_seccomp {
        options.push_str(" --security-opt seccomp=seccomp.json");
    }
    if let Some(AppArmorSummary { file, name, .. }) = apparmor {
        let _ = writeln!(page, "apparmor_parser -r {file}");
        let _ = write!(options, " --security-opt apparmor={name}");
    }
    let _ = writeln!(page, "docker run{options} IMAGE\n```");
}

fn on_nodes(page: &mut String, seccomp: Option<&str>, apparmor: Option<&AppArmorSummary>) {
    page.push_str("Put it on each node, and name it in the container's security context:\n\n```sh\n");
    let mut context = String::new();
    if let Some(name) = seccomp {
        let _ = writeln!(page, "install -D -m 0644 seccomp.json /var/lib/kubelet/seccomp/{name}.json");
        let _ =
            write!(context, "  seccompProfile:\n    type: Localhost\n    localhostProfile: {name}.json\n");
    }
    if let Some(AppArmorSummary { file, name, .. }) = apparmor {
        let _ = writeln!(
            page,
            "install -D -m 0644 {file} /etc/apparmor.d/{name}\napparmor_parser -r /etc/apparmor.d/{name}"
        );
        let _ = write!(context, "  appArmorProfile:\n    type: Localhost\n    localhostProfile: {name}\n");
    }
    let _ = writeln!(page, "```\n\n```yaml\nsecurityContext:\n{context}```");
    if apparmor.is_some() {
        page.push_str(
            "\nKubernetes before 1.30 takes AppArmor profiles by annotations: `khard export` writes these.\n",
        );
    }
}
