//! `khard status`: owns what there is to say about a node. Decides nothing, changes nothing, and works where half of it is
//! missing; it says what.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use khard_profile::{
    Bytes,
    apparmor_text::{self, ParsedProfile},
};
use serde::Serialize;

use super::{
    apparmor::{self, Details, Loaded},
    apply::KernelHolds,
    boot,
    containers::{self, Container},
    ledger::{Holds, Ledger},
    places::Places,
    processes::{self, Process},
    read_if_there,
};
use crate::{causes::with_causes, kernel};

/// Everything.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Whether it is an image's, in which nothing runs.
    pub(super) in_image: bool,
    /// The kernel's security modules, in their order.
    pub(super) security_modules: Vec<String>,
    /// Why there are no AppArmor profiles here; `None`: there can be.
    pub(super) apparmor_missing: Option<String>,
    /// AppArmor's parser.
    pub(super) parser: Option<PathBuf>,
    /// Why AppArmor's folder is not loaded at boot; `None`: it is.
    pub(super) why_not_at_boot: Option<String>,
    /// What could not be found out, in words.
    pub(super) unknown: Vec<String>,
    /// The runtime that told of containers.
    pub(super) runtime: Option<String>,
    /// Profiles in the kernel; of an image, those that khard has written there.
    pub(super) profiles: Vec<LoadedProfile>,
    /// Profiles that somebody counts on and the kernel does not have.
    pub(super) not_loaded: Vec<NotLoaded>,
    /// Processes without a profile, though there is one for them.
    pub(super) unconfined: Vec<Unconfined>,
    /// Containers, with their seccomp filters.
    pub(super) containers: Vec<Container>,
    /// seccomp profiles that khard wrote.
    pub(super) seccomp: Vec<SeccompFile>,
}

/// One profile in the kernel, or for one.
#[derive(Clone, Debug, Serialize)]
pub(super) struct LoadedProfile {
    pub(super) name: Bytes,
    /// As the kernel names it: enforce, complain, kill, unconfined, user (a program is asked).
    pub(super) mode: String,
    /// What it confines.
    pub(super) processes: Vec<ProcessName>,
    /// Ids of containers with such processes.
    pub(super) containers: BTreeSet<String>,
    /// What khard has to do with it.
    pub(super) khard: Option<Ours>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct ProcessName {
    pub(super) pid: u32,
    pub(super) comm: Bytes,
}

/// Of a profile that khard wrote.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Ours {
    pub(super) file: PathBuf,
    /// What became of it by somebody else's hands; `None`: nothing.
    pub(super) changed: Option<&'static str>,
    /// Why it is not loaded at the next boot; `None`: it is.
    pub(super) why_not_at_boot: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct NotLoaded {
    pub(super) name: String,
    /// khard, or containers.
    pub(super) wanted_by: BTreeSet<String>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Unconfined {
    pub(super) pid: u32,
    pub(super) comm: Bytes,
    pub(super) profile: Bytes,
    /// Why it should be under that profile.
    pub(super) why: &'static str,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct SeccompFile {
    pub(super) file: PathBuf,
    pub(super) changed: Option<&'static str>,
    pub(super) why_not_at_boot: Option<String>,
    /// Running containers that were started with it.
    pub(super) containers: BTreeSet<String>,
}

/// A seccomp profile that a running container was started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    /// The file.
    pub file: PathBuf,
    /// The container, not escaped.
    pub container: String,
}

impl Status {
    /// Looks at the node.
    pub async fn gather(places: &Places, runtime_endpoint: Option<&str>) -> Self {
        let mut unknown = Vec::new();
        let processes = places.kernel.as_ref().map(|kernel| processes::all(&kernel.proc)).unwrap_or_default();
        if places.kernel.as_ref().is_some_and(|kernel| !processes::sees_all(&kernel.proc)) {
            unknown.push(
                "processes outside of khard's own PID namespace: run it on the node itself, or in a pod with hostPID"
                    .to_owned(),
            );
        }
        let mut containers = containers::of_processes(&processes);
        // The runtime of this machine knows nothing of an image.
        let asked = match places.kernel {
            Some(_) => containers::ask_runtime(&mut containers, runtime_endpoint).await,
            None => containers::Asked::default(),
        };
        unknown.extend(
            asked.problems.into_iter().map(|problem| format!("what the container runtime knows: {problem}")),
        );
        let ledger = Ledger::read(places).unwrap_or_else(|error| {
            unknown.push(format!("what khard wrote: {}", with_causes(&error)));
            Ledger::default()
        });
        let apparmor_missing = match &places.kernel {
            Some(kernel) => apparmor::missing(kernel),
            None => Some("an image has no kernel".to_owned()),
        };
        let kernel = places.kernel.as_ref().filter(|_| apparmor_missing.is_none());
        let loaded = kernel.map_or_else(Loaded::default, |kernel| {
            Loaded::read(kernel).unwrap_or_else(|problem| {
                unknown.push(problem);
                Loaded::default()
            })
        });
        let details = kernel.map(Details::all).unwrap_or_default();
        let containers: Vec<_> = containers.into_values().collect();
        let modes = match places.kernel {
            Some(_) => loaded.modes.clone(),
            None => written_modes(places, &ledger),
        };
        Self {
            in_image: places.kernel.is_none(),
            security_modules: places
                .kernel
                .as_ref()
                .and_then(|_| kernel::security_modules().ok())
                .unwrap_or_default(),
            parser: places.parser.as_ref().map(|parser| parser.program.clone()),
            why_not_at_boot: match (&places.kernel, &apparmor_missing) {
                (Some(_), Some(missing)) => Some(missing.clone()),
                _ => boot::why_not(places, &places.profiles.join("any")),
            },
            runtime: asked.runtime,
            profiles: modes
                .iter()
                .map(|(name, mode)| loaded_profile(places, &ledger, name, mode, &processes))
                .collect(),
            not_loaded: if kernel.is_some() { not_loaded(&loaded, &ledger, &containers) } else { Vec::new() },
            unconfined: if kernel.is_some() {
                unconfined(&loaded, &details, &processes, &containers)
            } else {
                Vec::new()
            },
            seccomp: ledger
                .seccomp
                .iter()
                .map(|(file, sha256)| seccomp_file(places, file, sha256, &containers))
                .collect(),
            apparmor_missing,
            unknown,
            containers,
        }
    }

    /// What running containers need to start again.
    pub fn needs(&self) -> Vec<Needs> {
        let need = |container: &Container| {
            Some(Needs { file: container.seccomp_file()?.into(), container: container.label() })
        };
        self.containers.iter().filter_map(need).collect()
    }
}

/// The modes that profiles of an image have by their texts.
fn written_modes(places: &Places, ledger: &Ledger) -> BTreeMap<Bytes, String> {
    let modes = ledger.apparmor.iter().map(|(name, entry)| {
        let text = read_if_there(&places.below_root(&entry.file)).ok().flatten();
        let profile = text.and_then(|text| ParsedProfile::parse(&text).ok());
        let mode = profile.map_or("unknown", |profile| profile.flags.mode.in_kernel());
        (Bytes::from(name.as_str()), mode.to_owned())
    });
    modes.collect()
}

fn loaded_profile(
    places: &Places,
    ledger: &Ledger,
    name: &Bytes,
    mode: &str,
    processes: &[Process],
) -> LoadedProfile {
    let confined: Vec<_> = processes.iter().filter(|process| process.is_under(name.as_slice())).collect();
    let entry =
        std::str::from_utf8(name.as_slice()).ok().and_then(|name| ledger.apparmor.get_key_value(name));
    let khard = entry.map(|(name, entry)| {
        let file = places.below_root(&entry.file);
        let changed =
            match (KernelHolds::of(places, name, Some(entry)), Holds::of(&file, Some(&entry.sha256))) {
                (Ok(KernelHolds::Others(_)), _) => Some("it was loaded anew by somebody else"),
                (_, Ok((Holds::Others, _))) => Some("its file was changed since"),
                (_, Ok((Holds::Nothing, _))) => Some("its file is gone"),
                _ => None,
            };
        Ours { changed, why_not_at_boot: boot::why_not(places, &file), file: entry.file.clone() }
    });
    LoadedProfile {
        name: name.clone(),
        mode: mode.to_owned(),
        containers: confined
            .iter()
            .filter_map(|process| process.container.as_ref())
            .map(|(id, _)| id.clone())
            .collect(),
        processes: confined
            .into_iter()
            .map(|process| ProcessName { pid: process.pid, comm: process.comm.clone() })
            .collect(),
        khard,
    }
}

fn not_loaded(loaded: &Loaded, ledger: &Ledger, containers: &[Container]) -> Vec<NotLoaded> {
    let by_khard = ledger.apparmor.keys().map(|name| (name.as_str(), "khard".to_owned()));
    let by_containers = containers.iter().filter_map(|container| {
        let name = container.wants_apparmor.as_deref()?;
        Some((name.strip_prefix("localhost/").unwrap_or(name), container.label()))
    });
    let mut wanted: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (name, by) in by_khard.chain(by_containers) {
        if name != "unconfined" && loaded.mode_of(name).is_none() {
            wanted.entry(name).or_default().insert(by);
        }
    }
    wanted.into_iter().map(|(name, wanted_by)| NotLoaded { name: name.to_owned(), wanted_by }).collect()
}

/// By what the kernel would attach on their exec, and by what their container was to have.
fn unconfined(
    loaded: &Loaded,
    details: &BTreeMap<Bytes, Details>,
    processes: &[Process],
    containers: &[Container],
) -> Vec<Unconfined> {
    let attachments: Vec<_> = details
        .iter()
        // A profile without an attachment has its name there, which may be no path.
        .filter_map(|(name, details)| {
            Some((name, details.attachment().filter(|text| text.starts_with(b"/"))?))
        })
        .collect();
    let wants: BTreeMap<&str, &str> = containers
        .iter()
        .filter_map(|container| Some((container.id.as_str(), container.wants_apparmor.as_deref()?)))
        .filter(|(_, name)| *name != "unconfined" && loaded.mode_of(name).is_some())
        .collect();
    let of_process = |process: &Process| {
        let new = |profile: &Bytes, why| {
            Some(Unconfined { pid: process.pid, comm: process.comm.clone(), profile: profile.clone(), why })
        };
        let wanted = process.container.as_ref().and_then(|(id, _)| wants.get(id.as_str()));
        if let Some(name) = wanted.filter(|name| !process.is_under(name.as_bytes())) {
            return new(&Bytes::from(*name), "its container was to have it");
        }
        let exe = process.exe.as_ref().filter(|_| process.is_unconfined && process.labels.is_empty())?;
        let exe = apparmor::bytes_of(exe);
        let matching =
            attachments.iter().find(|(_, text)| apparmor_text::attaches_to(text, exe) == Some(true));
        matching.and_then(|(name, _)| new(name, "it attaches to its program, which ran before it was loaded"))
    };
    processes.iter().filter_map(of_process).collect()
}

fn seccomp_file(
    places: &Places,
    file: &std::path::Path,
    sha256: &str,
    containers: &[Container],
) -> SeccompFile {
    let path = places.below_root(file);
    let changed = match Holds::of(&path, Some(sha256)) {
        Ok((Holds::Ours, _)) => None,
        Ok((Holds::Nothing, _)) => Some("it is gone"),
        _ => Some("it was changed since"),
    };
    SeccompFile {
        changed,
        why_not_at_boot: boot::in_memory(places, &path),
        containers: containers
            .iter()
            .filter(|container| {
                container.seccomp_file().is_some_and(|path| std::path::Path::new(path) == file)
            })
            .map(Container::label)
            .collect(),
        file: file.to_owned(),
    }
}
