//! Owns the forms for Docker, Podman and Compose: a command line for each container, and a fragment of a Compose file. Knows no daemon.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::kubernetes::{Bundle, profiles};
use super::{File, ShipError, Shipment, yaml};
use crate::escape::shell;
use crate::recording::Subject;

/// A program that starts containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// `docker run`.
    Docker,
    /// `podman run`.
    Podman,
}

impl Engine {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }
}

/// Why a command or cgroup gets no AppArmor profile here.
const NO_APPARMOR: &str = "its AppArmor profile is left out: it was recorded outside of a container, so that it is about the host's files. `khard trace -- docker run …` records a container";

/// What was recorded, each by the name of its service.
#[derive(Clone, Debug, PartialEq)]
pub struct Docker {
    services: BTreeMap<String, Shipment>,
}

impl Docker {
    /// Brings recordings together.
    ///
    /// # Errors
    /// When two have the same name, or one has nothing that a container can be started with.
    pub fn new(shipments: Vec<Shipment>) -> Result<Self, ShipError> {
        let mut services = BTreeMap::new();
        for mut shipment in shipments {
            let name = service(&shipment.subject);
            // It names the host's paths, and lacks what a runtime needs to start and stop a container under it.
            if !shipment.subject.is_container() && shipment.apparmor.take().is_some() {
                if shipment.seccomp.is_none() {
                    return Err(ShipError::NotOfContainer(name));
                }
                shipment.warnings.push(NO_APPARMOR.to_owned());
            }
            if services.insert(name.clone(), shipment).is_some() {
                return Err(ShipError::TwoRecordings(name));
            }
        }
        Ok(Self { services })
    }

    /// The words of the command that runs a container under its profiles, whose files are in `out`.
    pub fn run(engine: Engine, shipment: &Shipment, out: &Path) -> Vec<Vec<u8>> {
        let mut words: Vec<Vec<u8>> = vec![engine.as_str().into(), b"run".to_vec()];
        let mut option = |value: Vec<u8>| words.extend([b"--security-opt".to_vec(), value]);
        if let Some(seccomp) = &shipment.seccomp {
            let path = out.join(seccomp.file());
            option([b"seccomp=", path.as_os_str().as_encoded_bytes()].concat());
        }
        if let Some(apparmor) = &shipment.apparmor {
            option(format!("apparmor={}", apparmor.name).into());
        }
        // An image's name that looks like an option would be one.
        let image = shipment.image.as_deref().filter(|image| !image.starts_with('-'));
        words.push(image.unwrap_or("IMAGE").into());
        words
    }

    /// Services with their profiles, whose files are in the folder of the Compose file.
    pub fn compose(&self) -> Value {
        self.of_services(|shipment| {
            let seccomp = shipment.seccomp.iter().map(|seccomp| format!("seccomp:./{}", seccomp.file()));
            let apparmor = shipment.apparmor.iter().map(|apparmor| format!("apparmor:{}", apparmor.name));
            json!({"security_opt": seccomp.chain(apparmor).collect::<Vec<_>>()})
        })
    }

    /// The fragment for what is suggested, if anything is.
    pub fn suggestions(&self) -> Option<Value> {
        let is_empty = self.services.values().all(|shipment| shipment.suggestions.is_empty());
        (!is_empty).then(|| {
            self.of_services(|shipment| {
                let mut service = json!({});
                if let Some(used) = &shipment.suggestions.capabilities {
                    service["cap_drop"] = json!(["ALL"]);
                    if !used.is_empty() {
                        service["cap_add"] = used.keys().cloned().collect();
                    }
                }
                if shipment.suggestions.read_only_root {
                    service["read_only"] = json!(true);
                }
                if shipment.suggestions.no_new_privileges {
                    service["security_opt"] = json!(["no-new-privileges:true"]);
                }
                service
            })
        })
    }

    fn of_services(&self, service: impl Fn(&Shipment) -> Value) -> Value {
        let services = self.services.iter().map(|(name, shipment)| (name.clone(), service(shipment)));
        let services: Map<String, Value> = services.filter(|(_, service)| *service != json!({})).collect();
        json!({"services": services})
    }

    /// Everything. `out` is the folder that it will be written to, for the commands in the steps.
    pub fn bundle(&self, out: &Path) -> Bundle {
        let path = |name: &str| shell(out.join(name).as_os_str().as_encoded_bytes());
        let head = [
            "Profiles that khard made of recordings. Name this file after your own: docker compose -f compose.yaml -f THIS up -d.".to_owned(),
            "Paths are taken from the folder of the first of them: copy the .json files there. Load AppArmor's profiles first, on the machine".to_owned(),
            "that runs the containers: apparmor_parser -r -W FILE. Without them, or without a file, a container does not start.".to_owned(),
        ];
        let head =
            head.into_iter().chain(self.warnings().into_iter().map(|warning| format!("Warning: {warning}.")));
        let mut files =
            vec![File::new(&["compose.yaml"], yaml::document(&head.collect::<Vec<_>>(), &self.compose()))];
        if let Some(suggestions) = self.suggestions() {
            files.push(File::new(
                &["compose.suggestions.yaml"],
                yaml::document(&self.suggestions_head(), &suggestions),
            ));
        }
        let mut steps = Vec::new();
        for shipment in self.services.values() {
            if let Some(seccomp) = &shipment.seccomp {
                files.push(File::new(&[&seccomp.file()], seccomp.json.clone()));
            }
            if let Some(apparmor) = &shipment.apparmor {
                files.push(File::new(&[&apparmor.file()], apparmor.text.clone()));
                steps.push(format!(
                    "as root, where the containers run: apparmor_parser -r -W {}",
                    path(&apparmor.file())
                ));
            }
        }
        for engine in [Engine::Docker, Engine::Podman] {
            for shipment in self.services.values() {
                let words: Vec<String> =
                    Self::run(engine, shipment, out).iter().map(|word| shell(word)).collect();
                let or = if engine == Engine::Podman { "or: " } else { "" };
                steps.push(format!("{or}{}", words.join(" ")));
            }
        }
        // Compose takes their paths from the folder of the first file.
        let json = self.services.values().filter_map(|shipment| shipment.seccomp.as_ref());
        let json: Vec<String> = json.map(|seccomp| path(&seccomp.file())).collect();
        let copy = if json.is_empty() { String::new() } else { format!("cp {} . && ", json.join(" ")) };
        steps.push(format!(
            "or, with Compose, in the folder of your compose.yaml: {copy}docker compose -f compose.yaml -f {} up -d",
            path("compose.yaml")
        ));
        if self.suggestions().is_some() {
            steps.push(format!(
                "later: read {}, try it, and record again under it",
                path("compose.suggestions.yaml")
            ));
        }
        Bundle {
            title: "Docker, Podman and Compose".to_owned(),
            contents: self
                .services
                .iter()
                .map(|(name, shipment)| format!("{name}: {}", profiles(shipment)))
                .collect(),
            steps,
            warnings: self.warnings(),
            files,
        }
    }

    fn warnings(&self) -> Vec<String> {
        let all = self.services.iter();
        all.flat_map(|(name, shipment)| shipment.warnings.iter().map(move |what| format!("{name}: {what}")))
            .collect()
    }

    fn suggestions_head(&self) -> Vec<String> {
        let mut head = vec![
            "What the services seem not to need besides: only a suggestion. Read it, try it, and record again under it, since it changes".to_owned(),
            "what the runtime calls and what the profiles need.".to_owned(),
        ];
        for (name, shipment) in &self.services {
            head.push(String::new());
            head.push(format!("{name}:"));
            head.extend(shipment.suggestions.notes.iter().map(|note| format!("- {note}")));
        }
        head
    }
}

/// A service's name: the container's, or the last component of the command or cgroup. Compose takes letters, digits and `_.-`
/// (compose-spec.json), so that any other character becomes a dash.
fn service(subject: &Subject) -> String {
    let path = match subject {
        Subject::Command { program: path } | Subject::Cgroup { path } => path.to_string_lossy().into_owned(),
        Subject::Docker { name: container, .. } | Subject::Container { container, .. } => container.clone(),
    };
    let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '-' };
    let name: String = last.chars().map(plain).collect();
    let name = name.trim_matches(['-', '.']);
    if name.is_empty() { "service".to_owned() } else { name.to_owned() }
}
