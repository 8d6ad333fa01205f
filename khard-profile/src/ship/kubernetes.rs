//! Owns the forms for Kubernetes: a patch of the pod template, the same as a part of a kustomization, and what to do with them in which
//! order. Knows no cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use super::workload::is_dns_label;
use super::{
    AppArmor, File, KubeVersion, Seccomp, ShipError, Shipment, Suggestions, Workload, operator, yaml,
};
use crate::escape::{shell, terminal};

/// Where a container stands in a pod's specification. A recording cannot tell: the CRI does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Under `initContainers`, sidecars included.
    Init,
    /// Under `containers`.
    Container,
}

/// The recorded containers of one workload, in the order of their names.
#[derive(Clone, Debug, PartialEq)]
pub struct Kubernetes {
    workload: Workload,
    namespace: String,
    version: KubeVersion,
    by_operator: bool,
    containers: BTreeMap<String, (Role, Shipment)>,
}

/// Files, and what to do with them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bundle {
    /// For whom, in words.
    pub title: String,
    /// A line for each container: what it gets.
    pub contents: Vec<String>,
    /// What to do, in this order.
    pub steps: Vec<String>,
    /// What to know before. Escaped for a terminal.
    pub warnings: Vec<String>,
    /// The files.
    pub files: Vec<File>,
}

/// Below 1.30, with the container's name after it (kubernetes staging/src/k8s.io/api/core/v1/annotation_key_constants.go).
const APPARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
/// Where the operator has the profiles, below the kubelet's folder for seccomp (security-profiles-operator 0.9 and later, whose
/// resources are of the cluster: installation-usage.md).
const OPERATOR_FOLDER: &str = "operator/";
/// Where a kubelet looks by default: its root directory, and `seccomp` in it.
const KUBELET_FOLDER: &str = "/var/lib/kubelet/seccomp";
const NODES: &str = "nodes";

impl Kubernetes {
    /// Brings containers together. `workload` and `init`, the names of init containers, are what the user says; without a workload, it is
    /// concluded. With `by_operator`, seccomp profiles come to the nodes as resources of the security-profiles-operator.
    ///
    /// # Errors
    /// When they are not containers of one workload's pods.
    pub fn new(
        shipments: Vec<Shipment>,
        workload: Option<Workload>,
        init: &[String],
        version: KubeVersion,
        by_operator: bool,
    ) -> Result<Self, ShipError> {
        let mut owner: Option<(String, String)> = None;
        let mut told = None;
        let mut containers: BTreeMap<String, (Role, Shipment)> = BTreeMap::new();
        let pods: BTreeSet<String> = shipments.iter().flat_map(|shipment| shipment.pods.clone()).collect();
        for shipment in shipments {
            let (namespace, name, from, container) = shipment.container()?;
            let this = (namespace.to_owned(), name.to_owned());
            let first = owner.get_or_insert_with(|| this.clone());
            if *first != this {
                let path = |(namespace, name): &(String, String)| format!("{namespace}/{name}");
                return Err(ShipError::TwoWorkloads(path(first), path(&this)));
            }
            if let Some(wrong) = [namespace, container].into_iter().find(|name| !is_dns_label(name)) {
                return Err(ShipError::NoKubernetesName(wrong.to_owned()));
            }
            told = Some((name.to_owned(), from));
            let role = if init.iter().any(|name| name == container) { Role::Init } else { Role::Container };
            let container = container.to_owned();
            if containers.insert(container.clone(), (role, shipment)).is_some() {
                return Err(ShipError::TwoRecordings(container));
            }
        }
        if let Some(unknown) = init.iter().find(|name| !containers.contains_key(*name)) {
            return Err(ShipError::NoInitContainer(unknown.clone()));
        }
        let (Some((namespace, _)), Some((name, from))) = (owner, told) else {
            return Err(ShipError::NoProfile);
        };
        let workload = match workload {
            Some(workload) => workload,
            None => Workload::of_pods(&name, from, &pods.iter().map(String::as_str).collect())?,
        };
        Ok(Self { workload, namespace, version, by_operator, containers })
    }

    /// The strategic merge patch that names the profiles, and changes nothing else. With the object's kind and name, as kustomize wants it.
    pub fn patch(&self) -> Value {
        let mut annotations = BTreeMap::new();
        let mut patch = self.object(|container, shipment| {
            let mut context = json!({});
            if let Some(seccomp) = &shipment.seccomp {
                context["seccompProfile"] = localhost(&self.seccomp_path(seccomp));
            }
            if let Some(apparmor) = &shipment.apparmor {
                if self.version < KubeVersion::APPARMOR_FIELD {
                    annotations.insert(
                        format!("{APPARMOR_ANNOTATION}{container}"),
                        format!("localhost/{}", apparmor.name),
                    );
                } else {
                    context["appArmorProfile"] = localhost(&apparmor.name);
                }
            }
            context
        });
        if !annotations.is_empty() {
            merge(&mut patch, self.workload.kind.around(json!({"metadata": {"annotations": annotations}})));
        }
        patch
    }

    /// The patch for what is suggested, if anything is.
    pub fn suggestions(&self) -> Option<Value> {
        let is_empty = self.containers.values().all(|(_, shipment)| shipment.suggestions.is_empty());
        (!is_empty).then(|| self.object(|_, shipment| security_context(&shipment.suggestions)))
    }

    /// A component, so that it can be named in the kustomization that has the workload.
    pub fn kustomization(&self) -> Value {
        json!({
            "apiVersion": "kustomize.config.k8s.io/v1alpha1",
            "kind": "Component",
            "patches": [{
                "path": "patch.yaml",
                "target": {"kind": self.workload.kind.as_str(), "name": self.workload.name},
            }],
        })
    }

    /// Everything. `out` is the folder that it will be written to, for the commands in the steps.
    ///
    /// # Errors
    /// When the operator's resources cannot say what a seccomp profile says.
    pub fn bundle(&self, out: &Path) -> Result<Bundle, ShipError> {
        let patch = self.patch();
        let json = format!("{patch:#}\n");
        let mut files = vec![
            File::new(&["patch.yaml"], yaml::document(&self.head(), &patch)),
            File::new(&["patch.json"], json),
            File::new(
                &["kustomization.yaml"],
                yaml::document(&self.kustomization_head(), &self.kustomization()),
            ),
        ];
        if let Some(suggestions) = self.suggestions() {
            files.push(File::new(
                &["suggestions.yaml"],
                yaml::document(&self.suggestions_head(), &suggestions),
            ));
        }
        if self.by_operator && self.seccomp().next().is_some() {
            let profiles = self.seccomp().map(operator::document).collect::<Result<Vec<_>, _>>()?;
            files.push(File::new(&["seccompprofiles.yaml"], profiles.join("---\n")));
        } else {
            files.extend(
                self.seccomp()
                    .map(|seccomp| File::new(&[NODES, "seccomp", &seccomp.file()], seccomp.json.clone())),
            );
        }
        let apparmor = self.apparmor();
        files.extend(
            apparmor.map(|apparmor| File::new(&[NODES, "apparmor", &apparmor.file()], apparmor.text.clone())),
        );
        let contents = self.containers.iter().map(|(name, (role, shipment))| {
            let role = if *role == Role::Init { "init container" } else { "container" };
            format!("{role} {name}: {}", profiles(shipment))
        });
        Ok(Bundle {
            title: format!("{} in the namespace {}", self.workload, self.namespace),
            contents: contents.collect(),
            steps: self.steps(out),
            warnings: self.warnings(),
            files,
        })
    }

    fn seccomp(&self) -> impl Iterator<Item = &Seccomp> {
        self.containers.values().filter_map(|(_, shipment)| shipment.seccomp.as_ref())
    }

    fn apparmor(&self) -> impl Iterator<Item = &AppArmor> {
        self.containers.values().filter_map(|(_, shipment)| shipment.apparmor.as_ref())
    }

    fn seccomp_path(&self, seccomp: &Seccomp) -> String {
        let folder = if self.by_operator { OPERATOR_FOLDER } else { "" };
        format!("{folder}{}", seccomp.file())
    }

    /// The object with a security context for each container, left out where `context` gives an empty one.
    fn object(&self, mut context: impl FnMut(&str, &Shipment) -> Value) -> Value {
        let mut spec = json!({});
        for (name, (role, shipment)) in &self.containers {
            let context = context(name, shipment);
            if context == json!({}) {
                continue;
            }
            let list = if *role == Role::Init { "initContainers" } else { "containers" };
            let container = json!({"name": name, "securityContext": context});
            match spec[list].as_array_mut() {
                Some(list) => list.push(container),
                None => spec[list] = json!([container]),
            }
        }
        let kind = self.workload.kind;
        let mut object = if spec == json!({}) { json!({}) } else { kind.around(json!({"spec": spec})) };
        object["apiVersion"] = json!(kind.api_version(self.version));
        object["kind"] = json!(kind.as_str());
        object["metadata"]["name"] = json!(self.workload.name);
        object
    }

    fn head(&self) -> Vec<String> {
        let mut head = vec![
            format!(
                "Profiles for {} in the namespace {}, made by khard of recordings.",
                self.workload, self.namespace
            ),
            String::new(),
            "First all profiles to every node, then this patch:".to_owned(),
        ];
        head.extend(self.on_nodes().into_iter().map(|line| format!("- {line}")));
        head.push(self.apply("patch.yaml"));
        head.push("A container whose profile is not on its node does not start until it is: CreateContainerError, or for AppArmor under older".to_owned());
        head.push("kubelets a pod that stays Pending with the reason AppArmor.".to_owned());
        if self.version >= KubeVersion::APPARMOR_FIELD && self.apparmor().next().is_some() {
            head.push(format!("An annotation {APPARMOR_ANNOTATION}CONTAINER that says another thing has to go: the API server"));
            head.push("refuses a template in which it and the field differ.".to_owned());
        }
        head.extend(self.warnings().into_iter().map(|warning| format!("Warning: {warning}.")));
        head
    }

    fn kustomization_head(&self) -> Vec<String> {
        vec![
            format!(
                "Adds patch.yaml to {}: name this folder under \"components\" in the kustomization that has it.",
                self.workload
            ),
            "First all profiles to every node: see patch.yaml.".to_owned(),
        ]
    }

    fn suggestions_head(&self) -> Vec<String> {
        let mut head = vec![
            format!(
                "What {} seems not to need besides: only a suggestion. Read it, try it, and record again under it, since it changes",
                self.workload
            ),
            "what the runtime calls and what the profiles need.".to_owned(),
        ];
        for (name, (_, shipment)) in &self.containers {
            head.push(String::new());
            head.push(format!("{name}:"));
            head.extend(shipment.suggestions.notes.iter().map(|note| format!("- {note}")));
        }
        head
    }

    fn warnings(&self) -> Vec<String> {
        let all = self.containers.iter();
        all.flat_map(|(name, (_, shipment))| {
            shipment.warnings.iter().map(move |what| format!("{name}: {what}"))
        })
        .collect()
    }

    /// What has to be on every node, and how it comes there.
    fn on_nodes(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.seccomp().next().is_some() {
            lines.push(if self.by_operator {
                "seccompprofiles.yaml to the security-profiles-operator (1.0 or later), until each has the status Installed".to_owned()
            } else {
                format!("{NODES}/seccomp/*.json to {KUBELET_FOLDER}/")
            });
        }
        if self.apparmor().next().is_some() {
            let mut line = format!(
                "{NODES}/apparmor/* to /etc/apparmor.d/, and loaded there: apparmor_parser -r -W FILE"
            );
            if self.by_operator {
                line += " (the operator's AppArmorProfile takes no profile as a text)";
            }
            lines.push(line);
        }
        lines
    }

    fn apply(&self, file: &str) -> String {
        if self.workload.kind.can_be_patched() {
            format!("- kubectl patch {} -n {} --patch-file {file}", self.workload, self.namespace)
        } else {
            format!(
                "- this to the manifest of {}, by kustomize or by hand: what is there already cannot be changed, so delete and create it again",
                self.workload
            )
        }
    }

    fn steps(&self, out: &Path) -> Vec<String> {
        let path = |name: &str| shell(out.join(name).as_os_str().as_encoded_bytes());
        let mut steps: Vec<String> =
            self.on_nodes().into_iter().map(|line| format!("on every node: {line}")).collect();
        if self.by_operator && self.seccomp().next().is_some() {
            let file = path("seccompprofiles.yaml");
            steps[0] = format!(
                "kubectl apply -f {file}, and wait until `kubectl get seccompprofiles` says Installed"
            );
        }
        if self.workload.kind.can_be_patched() {
            let patch = path("patch.yaml");
            steps.push(format!("kubectl patch {} -n {} --patch-file {patch}", self.workload, self.namespace));
        } else {
            steps.push(format!(
                "{} cannot be changed once it is there: patch its manifest, then delete and create it: kubectl patch --local -f MANIFEST --patch-file {} -o yaml",
                self.workload,
                path("patch.yaml")
            ));
        }
        steps.push(format!(
            "or, in a kustomization: \"components: [{}]\"",
            terminal(out.as_os_str().as_encoded_bytes())
        ));
        if self.suggestions().is_some() {
            steps
                .push(format!("later: read {}, try it, and record again under it", path("suggestions.yaml")));
        }
        steps
    }
}

impl AppArmor {
    /// Its file's name on a node, as `/etc/apparmor.d` has them.
    pub(super) fn file(&self) -> String {
        self.name.trim_start_matches('/').replace('/', ".")
    }
}

/// What a container gets, in words.
pub(super) fn profiles(shipment: &Shipment) -> String {
    let of = |what: &str, name: Option<&String>| match name {
        Some(name) => format!("{what} {name}"),
        None => format!("no {what} profile"),
    };
    let seccomp = of("seccomp", shipment.seccomp.as_ref().map(|seccomp| &seccomp.name));
    format!("{seccomp}, {}", of("AppArmor", shipment.apparmor.as_ref().map(|apparmor| &apparmor.name)))
}

fn localhost(name: &str) -> Value {
    json!({"type": "Localhost", "localhostProfile": name})
}

fn security_context(suggestions: &Suggestions) -> Value {
    let mut context = json!({});
    if let Some(used) = &suggestions.capabilities {
        context["capabilities"] = json!({"drop": ["ALL"]});
        if !used.is_empty() {
            context["capabilities"]["add"] = used.keys().cloned().collect();
        }
    }
    if suggestions.read_only_root {
        context["readOnlyRootFilesystem"] = json!(true);
    }
    if suggestions.no_new_privileges {
        context["allowPrivilegeEscalation"] = json!(false);
    }
    context
}

/// Puts what is in one object into another.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}
