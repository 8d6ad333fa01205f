//! What was done and what is in force, in words. Owns the layout; everything that came from outside passes the terminal's escape.

use std::fmt::Write;

use khard_profile::{
    apparmor_text::Mode,
    escape::{self, shell},
};

use super::{
    apply::{Applied, AppliedProfile, AppliedSeccomp, Did},
    containers::Container,
    plural,
    remove::Removed,
    status::{LoadedProfile, Ours, Status},
    switch::{Superseded, Switched},
};

/// Processes of a profile that are named.
const MAX_PROCESSES: usize = 8;

const DENIES_IN_COMPLAIN: &str = "  its deny rules still refuse in complain mode, and without a word in the log; only what no rule names is let through and logged";

/// Anything in which not all goes to the terminal as it is.
pub(super) fn shown(text: impl AsRef<[u8]>) -> String {
    escape::terminal(text.as_ref())
}

fn path(path: &std::path::Path) -> String {
    shown(path.as_os_str().as_encoded_bytes())
}

impl Applied {
    /// With the lines that a manifest or a command needs.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        for profile in &self.apparmor {
            self.profile(&mut out, profile);
        }
        for profile in &self.seccomp {
            self.seccomp(&mut out, profile);
        }
        let nothing = Did::Nothing;
        let idle = self.apparmor.iter().all(|profile| profile.did == nothing)
            && self.seccomp.iter().all(|profile| profile.did.is_none_or(|did| did == nothing));
        if idle {
            out.push_str("Nothing was changed: all of this is so already.\n");
        } else if self.dry_run {
            out.push_str("Nothing was changed: --dry-run.\n");
        }
        out
    }

    fn profile(&self, out: &mut String, profile: &AppliedProfile) {
        let name = shown(&profile.name);
        let verb = match (profile.did, self.in_image, self.dry_run) {
            (Did::Nothing, false, _) => "in force already",
            (Did::Nothing, true, _) => "written already",
            (Did::Added, false, false) => "loaded",
            (Did::Added, true, false) => "written",
            (Did::Replaced, _, false) => "replaced",
            (Did::Added, _, true) => "would be loaded",
            (Did::Replaced, _, true) => "would be replaced",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "AppArmor profile {name}: {verb}, {} mode", profile.mode.as_str());
        let _ = writeln!(out, "  file: {}", path(&profile.file));
        at_boot(out, profile.why_not_at_boot.as_deref());
        if profile.mode == Mode::Complain && profile.denies {
            let _ = writeln!(out, "{DENIES_IN_COMPLAIN}");
        }
        if profile.is_of_host {
            let word = shell(profile.name.as_bytes());
            let _ = writeln!(
                out,
                "  a command: aa-exec -p {word} -- COMMAND\n  a unit of systemd: AppArmorProfile={name}\n  \
                 not for a container: it was recorded outside of one, and is about the host's files"
            );
            return;
        }
        let _ = writeln!(out, "  Kubernetes: appArmorProfile: {{type: Localhost, localhostProfile: {name}}}");
        let option = shell(format!("apparmor={}", profile.name).as_bytes());
        let _ = writeln!(out, "  Docker, Podman: --security-opt {option}");
    }

    fn seccomp(&self, out: &mut String, profile: &AppliedSeccomp) {
        let file = path(&profile.file);
        let verb = match (profile.did, self.dry_run) {
            (None, _) => {
                "left where it is: there is no kubelet here, and --seccomp-dir names no place for Docker or Podman"
            }
            (Some(Did::Nothing), _) => "there already",
            (Some(Did::Added), false) => "written",
            (Some(Did::Replaced), false) => "replaced",
            (Some(Did::Added), true) => "would be written",
            (Some(Did::Replaced), true) => "would be replaced",
        };
        let _ = writeln!(out, "seccomp profile {file}: {verb}");
        if let Some(why) = &profile.why_not_at_boot {
            let _ = writeln!(out, "  it does not survive a reboot: {}", shown(why));
        }
        if let Some(name) = &profile.localhost_profile {
            let name = shown(name);
            let _ =
                writeln!(out, "  Kubernetes: seccompProfile: {{type: Localhost, localhostProfile: {name}}}");
        }
        let option = shell(&[b"seccomp=", profile.file.as_os_str().as_encoded_bytes()].concat());
        let _ = writeln!(out, "  Docker, Podman: --security-opt {option}");
    }
}

fn at_boot(out: &mut String, why_not: Option<&str>) {
    let _ = match why_not {
        None => writeln!(out, "  after a reboot: loaded again, in the same mode"),
        Some(why) => writeln!(out, "  after a reboot: gone; {}", shown(why)),
    };
}

impl Switched {
    /// With what it means for what runs.
    pub fn to_text(&self) -> String {
        let name = shown(&self.name);
        let mode = self.mode.as_str();
        let mut out = if self.changed {
            format!("AppArmor profile {name}: {mode} mode from now on\n")
        } else {
            format!("AppArmor profile {name}: in {mode} mode already; nothing was changed\n")
        };
        let _ = writeln!(out, "  file: {}", path(&self.file));
        at_boot(&mut out, self.why_not_at_boot.as_deref());
        let n = self.n_processes;
        if n > 0 {
            let _ = writeln!(
                out,
                "  {n} running {} under it, and so stay{}",
                plural(n, "process is", "processes are"),
                plural(n, "s", "")
            );
        }
        match self.mode {
            Mode::Complain if self.denies => {
                let _ = writeln!(out, "{DENIES_IN_COMPLAIN}");
            }
            Mode::Complain => {
                let _ =
                    writeln!(out, "  what no rule allows is let through and logged (apparmor=\"ALLOWED\")");
            }
            _ => {
                let _ = writeln!(out, "  what no rule allows is refused and logged (apparmor=\"DENIED\")");
            }
        }
        if let Some(superseded) = &self.superseded {
            superseded.warning(&mut out, &name);
        }
        out
    }
}

impl Superseded {
    fn warning(&self, out: &mut String, name: &str) {
        let folder = path(&self.folder);
        let by: Vec<_> = self.by.keys().map(shown).collect();
        let _ = writeln!(
            out,
            "  warning: {folder} has been made again since, and holds {} now; what was added there is not in {name}",
            by.join(", ")
        );
        if self.by.values().any(|is_in_force| !is_in_force) {
            let folder = shell(self.folder.as_os_str().as_encoded_bytes());
            let _ = writeln!(out, "  put it into force: khard apply {folder} --complain");
        }
        let _ = writeln!(out, "  then name it where {name} is named, and start that anew");
    }
}

impl Removed {
    /// A line for each.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        for name in &self.apparmor {
            let _ = writeln!(out, "AppArmor profile {}: removed", shown(name));
        }
        for file in &self.seccomp {
            let _ = writeln!(out, "seccomp profile {}: removed", path(file));
        }
        for what in &self.absent {
            let _ = writeln!(out, "{}: not there already", shown(what));
        }
        for what in &self.shared {
            let _ = writeln!(out, "{}: stays, for it came from another folder too", shown(what));
        }
        out
    }
}

/// A node's state, in lines.
pub fn render(status: &Status) -> String {
    let mut out = String::new();
    let on = match &status.apparmor_missing {
        None => "active".to_owned(),
        Some(why) => shown(why),
    };
    let _ = writeln!(out, "AppArmor: {on}");
    let parser = status.parser.as_deref().map_or("none: install the package apparmor".to_owned(), path);
    let _ = writeln!(out, "apparmor_parser: {parser}");
    // Without AppArmor, why is said already.
    if status.apparmor_missing.is_none() || status.in_image {
        let at_boot =
            status.why_not_at_boot.as_deref().map_or("profiles are loaded at boot".to_owned(), shown);
        let _ = writeln!(out, "{}: {at_boot}", if status.in_image { "boot" } else { "reboot" });
    }
    if !status.in_image {
        let _ = writeln!(out, "security modules: {}", shown(status.security_modules.join(",")));
    }
    if let Some(runtime) = &status.runtime {
        let _ = writeln!(out, "container runtime: {}", shown(runtime));
    }
    for unknown in &status.unknown {
        let _ = writeln!(out, "not known: {}", shown(unknown));
    }
    profiles(&mut out, status);
    if !status.not_loaded.is_empty() {
        out.push_str("\nNot loaded, though counted on\n");
        for profile in &status.not_loaded {
            let by: Vec<_> = profile.wanted_by.iter().map(shown).collect();
            let _ = writeln!(out, "  {}  by {}", shown(&profile.name), by.join(", "));
        }
    }
    if !status.unconfined.is_empty() {
        out.push_str("\nNot confined, though a profile is there for them\n");
        for process in &status.unconfined {
            let (comm, profile) = (shown(process.comm.as_slice()), shown(process.profile.as_slice()));
            let _ = writeln!(out, "  {} {comm}  {profile}: {}", process.pid, process.why);
        }
    }
    if !status.in_image {
        let _ = writeln!(out, "\nContainers: {}", status.containers.len());
    }
    for container in &status.containers {
        one_container(&mut out, container);
    }
    if !status.seccomp.is_empty() {
        out.push_str("\nseccomp profiles that khard wrote\n");
        for file in &status.seccomp {
            let _ = write!(out, "  {}", path(&file.file));
            let of: Vec<_> = file.containers.iter().map(shown).collect();
            if !of.is_empty() {
                let _ = write!(out, "  used by {}", of.join(", "));
            }
            for why in file.changed.into_iter().chain(file.why_not_at_boot.as_deref()) {
                let _ = write!(out, "; {}", shown(why));
            }
            out.push('\n');
        }
    }
    out
}

fn profiles(out: &mut String, status: &Status) {
    if status.apparmor_missing.is_some() && !status.in_image {
        return;
    }
    let mut modes: Vec<_> = status.profiles.iter().map(|profile| profile.mode.as_str()).collect();
    modes.sort_unstable();
    let counts: Vec<_> =
        modes.chunk_by(|a, b| a == b).map(|same| format!("{} {}", same.len(), shown(same[0]))).collect();
    let counts = if counts.is_empty() { String::new() } else { format!(" ({})", counts.join(", ")) };
    let _ = writeln!(out, "\nProfiles: {}{counts}", status.profiles.len());
    for profile in &status.profiles {
        one_profile(out, profile, status);
    }
}

fn one_profile(out: &mut String, profile: &LoadedProfile, status: &Status) {
    let mode = if profile.mode == "user" { "prompt" } else { &profile.mode };
    let _ = write!(out, "  {}  {}", shown(profile.name.as_slice()), shown(mode));
    match &profile.khard {
        None => {}
        Some(Ours { changed: Some(changed), .. }) => {
            let _ = write!(out, "  by khard, but {changed}");
        }
        Some(Ours { why_not_at_boot: Some(why), .. }) => {
            let gone = if status.in_image { "not loaded at boot" } else { "gone after a reboot" };
            let _ = write!(out, "  by khard; {gone}: {}", shown(why));
        }
        Some(_) if status.in_image => out.push_str("  by khard; loaded at boot"),
        Some(_) => out.push_str("  by khard; loaded again at boot"),
    }
    out.push('\n');
    let n = profile.processes.len();
    if n > 0 {
        let named = profile.processes.iter().take(MAX_PROCESSES);
        let named: Vec<_> =
            named.map(|process| format!("{} {}", process.pid, shown(process.comm.as_slice()))).collect();
        let others =
            if n > MAX_PROCESSES { format!(" and {} more", n - MAX_PROCESSES) } else { String::new() };
        let _ = writeln!(out, "    {n} {}: {}{others}", plural(n, "process", "processes"), named.join(", "));
    }
    for id in &profile.containers {
        let container = status.containers.iter().find(|container| container.id == *id);
        let label = container.map_or_else(|| id.clone(), Container::label);
        let _ = writeln!(out, "    container {}", shown(label));
    }
}

fn one_container(out: &mut String, container: &Container) {
    let seccomp = match (container.seccomp_mode, container.seccomp_filters) {
        (Some(0), _) => "no seccomp".to_owned(),
        (Some(1), _) => "seccomp strict".to_owned(),
        (Some(2), Some(n)) => {
            format!("seccomp, {n} {}", plural(n.try_into().unwrap_or(usize::MAX), "filter", "filters"))
        }
        (Some(2), None) => "seccomp".to_owned(),
        _ => "seccomp not known".to_owned(),
    };
    let from = container.seccomp_from.as_deref().filter(|_| container.seccomp_mode == Some(2));
    let from = from.map(|from| format!(" of {}", shown(from))).unwrap_or_default();
    let labels: Vec<_> = container
        .apparmor
        .iter()
        .map(|(name, mode)| format!("{} ({})", shown(name.as_slice()), shown(mode)))
        .collect();
    let labels = if labels.is_empty() { "no AppArmor profile".to_owned() } else { labels.join(", ") };
    let _ =
        writeln!(out, "  {}  process {}: {seccomp}{from}; {labels}", shown(container.label()), container.pid);
}
