//! The report for a reader. Owns layout and words; decides nothing. Everything that came from outside passes the
//! terminal's escape.
use super::{
    Finding, Outcome, Report, brief,
    kernel::KernelFacts,
    programs::{HookFacts, ProgramFacts},
};
use khard_profile::escape;
use std::{collections::BTreeSet, fmt::Write};

/// The widest label, and two spaces.
const LABEL_WIDTH: usize = 18;

/// The whole report, in lines.
#[must_use]
pub fn render(report: &Report) -> String {
    let mut out = Page(String::new());
    kernel(&mut out, &report.kernel);
    programs(&mut out, &report.programs, &report.kernel);
    runtimes(&mut out, report);
    out.section("What works");
    let width = report.abilities.iter().map(|ability| ability.what.len()).max().unwrap_or(0);
    for ability in &report.abilities {
        let mark = if ability.works { "yes" } else { "no " };
        let why = escape::terminal(ability.why.as_bytes());
        out.line(&format!("{mark}  {:<width$}  {why}", ability.what));
    }
    out.0
}

fn kernel(out: &mut Page, kernel: &KernelFacts) {
    out.section("Kernel");
    out.row("release", &format!("{} {}", kernel.release, kernel.machine));
    out.row(
        "BTF",
        &match &kernel.btf {
            Finding::Known(btf) if btf.missing.is_empty() => {
                format!("all {} fields that khard reads", btf.n_fields)
            }
            Finding::Known(btf) => format!("without {}", btf.missing.join(", ")),
            Finding::Unknown(why) => format!("none: {why}"),
        },
    );
    out.row("preemption", &found(&kernel.preemption, Clone::clone));
    out.row("lockdown", &found(&kernel.lockdown, Clone::clone));
    out.row("security modules", &found(&kernel.lsms, |lsms| lsms.join(",")));
    out.row("AppArmor", if kernel.apparmor { "on" } else { "off, or not built in" });
    let seccomp = kernel.seccomp_actions.join(" ");
    out.row("seccomp", if seccomp.is_empty() { "no filters" } else { &seccomp });
    let tree = kernel
        .cgroups
        .v2
        .as_ref()
        .map_or("no v2 tree".to_owned(), |at| format!("v2 tree at {}", at.display()));
    out.row("cgroups", &format!("{}, {tree}", kernel.cgroups.layout));
    out.row("tracefs", if kernel.tracefs_mounted { "mounted" } else { "not mounted" });
    let missing = kernel.privileges.missing_capabilities.join(", ");
    let rights =
        if missing.is_empty() { "all that recording needs".to_owned() } else { format!("without {missing}") };
    out.row("this process", &format!("user {}, {rights}", kernel.privileges.uid));
}

fn programs(out: &mut Page, programs: &ProgramFacts, kernel: &KernelFacts) {
    out.section("Kernel programs");
    for kind in &programs.types {
        let mut text = match (&kind.loads, &kind.attaches) {
            (Outcome::Yes, Outcome::Yes) => "loads and attaches".to_owned(),
            (Outcome::Yes, attaches) => format!("loads; does not attach: {}", reason(attaches)),
            (loads, _) => format!("does not load: {}", reason(loads)),
        };
        let lists_bpf = kernel.lsms.known().map(|lsms| lsms.iter().any(|lsm| lsm == "bpf"));
        // Measured on 6.1, 6.12, 6.18 and 7.3: without bpf in the list they load, attach, and never run.
        if kind.name == "LSM" && kind.attaches.is_yes() && lists_bpf != Some(true) {
            text += "; never runs unless bpf is among the security modules (boot option lsm=)";
        }
        out.row(kind.name, &text);
    }
    let planned = programs.planned.join(" ");
    let state = match (&programs.load, &programs.attach) {
        (Outcome::Yes, Outcome::Yes) => "load and attach".to_owned(),
        (Outcome::Yes, attach) => format!("load; do not attach: {}", reason(attach)),
        (load, _) => format!("do not load: {}", reason(load)),
    };
    out.row("khard's own", &format!("{planned}: {state}"));
    accesses(out, &programs.hooks);
}

/// By what means accesses are seen here, and what that costs.
fn accesses(out: &mut Page, hooks: &[HookFacts]) {
    if hooks.is_empty() {
        return;
    }
    out.section("Files and all else that AppArmor decides on");
    for (means, costs) in [
        ("lsm", "at these hooks only; what other security modules refuse is not seen"),
        ("fexit", "at these hooks only; refusals are seen too"),
        ("tracepoint", "at these events only"),
        ("syscall", "one more program at the end of every system call; paths that are strings are inferred"),
    ] {
        let classes: BTreeSet<_> =
            hooks.iter().filter(|hook| hook.by == Some(means)).map(|hook| hook.class).collect();
        if !classes.is_empty() {
            let classes = classes.into_iter().collect::<Vec<_>>().join(", ");
            out.row(means, &format!("{classes} ({costs})"));
        }
    }
    for hook in hooks {
        if let Some(reason) = &hook.why_not {
            out.row("not seen", &format!("{} ({}): {}", hook.name, hook.class, brief(reason)));
        }
    }
}

fn runtimes(out: &mut Page, report: &Report) {
    out.section("Containers");
    for program in &report.runtimes.programs {
        let version = program.version.as_deref().unwrap_or("version unknown");
        out.row(program.name, &format!("{version} ({})", program.path.display()));
    }
    for endpoint in &report.runtimes.endpoints {
        let state = endpoint.answers.as_ref().or(endpoint.problem.as_ref()).map_or("", String::as_str);
        out.row("socket", &format!("{}: {state}", endpoint.endpoint));
    }
    if report.runtimes.endpoints.is_empty() {
        out.row("socket", "none in the well-known places");
    }
    for kubelet in &report.kubelets {
        let process = kubelet.pid.map_or("not running".to_owned(), |pid| format!("process {pid}"));
        let exists = if kubelet.seccomp_root_exists { "" } else { " (not there yet)" };
        let default = found(&kubelet.seccomp_default, |on| if *on { "on" } else { "off" }.to_owned());
        let root = kubelet.seccomp_root.display();
        out.row("kubelet", &format!("{process}; profiles below {root}{exists}; SeccompDefault {default}"));
    }
    if report.kubelets.is_empty() {
        out.row("kubelet", "none found");
    }
}

fn found<T>(finding: &Finding<T>, text: impl Fn(&T) -> String) -> String {
    match finding {
        Finding::Known(value) => text(value),
        Finding::Unknown(why) => format!("unknown ({why})"),
    }
}

fn reason(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Yes => "",
        Outcome::No(why) | Outcome::Untried(why) => brief(why),
    }
}

struct Page(String);

impl Page {
    fn section(&mut self, title: &str) {
        let gap = if self.0.is_empty() { "" } else { "\n" };
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{gap}{title}");
    }

    fn row(&mut self, label: &str, text: &str) {
        self.line(&format!("{label:<LABEL_WIDTH$}{}", escape::terminal(text.as_bytes())));
    }

    fn line(&mut self, text: &str) {
        let _ = writeln!(self.0, "  {}", text.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_from_outside_cannot_move_the_cursor() {
        let mut page = Page(String::new());
        page.section("Containers");
        page.row("socket", "evil \x1b[2J\nWhat works");
        assert_eq!(page.0, "Containers\n  socket            evil \\x1b[2J\\x0aWhat works\n");
    }
}
