//! Owns the form for Kubernetes: which containers get what, as a patch of the pod template, and what to do with it in which order. Knows no
//! cluster.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::workload::is_dns_label;
use super::{
    AppArmor, File, KubeVersion, Seccomp, ShipError, Shipment, Suggestions, Workload,
    kustomize::{self, Setting},
    operator,
    operator_apparmor::Form,
    yaml,
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

/// The recorded containers of one workload.
#[derive(Clone, Debug, PartialEq)]
pub struct Kubernetes {
    workload: Workload,
    namespace: String,
    version: KubeVersion,
    by_operator: bool,
    /// In the order of the pod's specification, as far as it is known.
    containers: Vec<Container>,
    /// Whether it is.
    order_is_known: bool,
}

#[derive(Clone, Debug, PartialEq)]
struct Container {
    name: String,
    role: Role,
    shipment: Shipment,
}

impl Role {
    /// The list in a pod's specification.
    const fn list(self) -> &'static str {
        match self {
            Self::Init => "initContainers",
            Self::Container => "containers",
        }
    }
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

/// Below 1.30, with the container's name after it (kubernetes `staging/src/k8s.io/api/core/v1/annotation_key_constants.go`).
const APPARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
/// Where the operator has the profiles, below the kubelet's folder for seccomp (security-profiles-operator 0.9 and later, whose
/// resources are of the cluster: installation-usage.md).
const OPERATOR_FOLDER: &str = "operator/";
/// Where a kubelet looks by default: its root directory, and `seccomp` in it.
const KUBELET_FOLDER: &str = "/var/lib/kubelet/seccomp";
/// Stands for the annotation, among keys of a security context.
const ANNOTATION: &str = "apparmor";
const NODES: &str = "nodes";
/// For the operator.
const APPARMOR_RESOURCES: &str = "apparmorprofiles.yaml";

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
        let mut containers: Vec<Container> = Vec::new();
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
            let name = container.to_owned();
            if containers.iter().any(|container| container.name == name) {
                return Err(ShipError::TwoRecordings(name));
            }
            containers.push(Container { name, role, shipment });
        }
        if let Some(unknown) =
            init.iter().find(|name| !containers.iter().any(|container| container.name == **name))
        {
            return Err(ShipError::NoInitContainer(unknown.clone()));
        }
        let (Some((namespace, _)), Some((name, from))) = (owner, told) else {
            return Err(ShipError::NoProfile);
        };
        let workload = match workload {
            Some(workload) => workload,
            None => Workload::of_pods(&name, from, &pods.iter().map(String::as_str).collect())?,
        };
        let order_is_known = sort(&mut containers);
        Ok(Self { workload, namespace, version, by_operator, containers, order_is_known })
    }

    /// The strategic merge patch that names the profiles, and changes nothing else. The API server puts the containers that it names into
    /// its own order, among themselves.
    pub fn patch(&self) -> Value {
        let settings = self.settings();
        let annotations: Map<String, Value> = settings
            .iter()
            .filter(|setting| setting.key == ANNOTATION)
            .map(|setting| (format!("{APPARMOR_ANNOTATION}{}", setting.container), setting.value.clone()))
            .collect();
        let mut patch = self.object(|container| {
            let fields = settings
                .iter()
                .filter(|setting| setting.container == container.name && setting.key != ANNOTATION);
            fields
                .map(|setting| (setting.key.to_owned(), setting.value.clone()))
                .collect::<Map<_, _>>()
                .into()
        });
        if !annotations.is_empty() {
            merge(&mut patch, self.workload.kind.around(json!({"metadata": {"annotations": annotations}})));
        }
        patch
    }

    /// What names the profiles.
    fn settings(&self) -> Vec<Setting> {
        let mut settings = Vec::new();
        for Container { name, role, shipment } in &self.containers {
            let field = |key, profile: &str| Setting {
                container: name.clone(),
                key,
                path: format!("spec.{}.[name={name}].securityContext.{key}", role.list()),
                value: json!({"type": "Localhost", "localhostProfile": profile}),
            };
            settings.extend(
                shipment.seccomp.iter().map(|seccomp| field("seccompProfile", &self.seccomp_path(seccomp))),
            );
            settings.extend(shipment.apparmor.iter().map(|apparmor| {
                if self.version >= KubeVersion::APPARMOR_FIELD {
                    return field("appArmorProfile", &apparmor.name);
                }
                Setting {
                    container: name.clone(),
                    key: ANNOTATION,
                    path: format!("metadata.annotations.[{APPARMOR_ANNOTATION}{name}]"),
                    value: json!(format!("localhost/{}", apparmor.name)),
                }
            }));
        }
        settings
    }

    /// The patch for what is suggested, if anything is.
    pub fn suggestions(&self) -> Option<Value> {
        let is_empty = self.containers.iter().all(|container| container.shipment.suggestions.is_empty());
        (!is_empty).then(|| self.object(|container| security_context(&container.shipment.suggestions)))
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
        ];
        files.extend(kustomize::files(&self.workload, &self.settings()));
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
        let mut warnings = self.warnings();
        if self.by_operator && self.apparmor().next().is_some() {
            let mut documents = Vec::new();
            for Container { name, shipment, .. } in &self.containers {
                let Some(apparmor) = &shipment.apparmor else { continue };
                let form = Form::new(apparmor)?;
                if !form.missing.is_empty() {
                    let n = form.missing.len();
                    warnings.push(format!(
                        "{name}: the operator's form of its AppArmor profile lacks {n} of its rules or parts, which {APPARMOR_RESOURCES} names"
                    ));
                }
                documents.push(form.document());
            }
            files.push(File::new(&[APPARMOR_RESOURCES], documents.join("---\n")));
        }
        let apparmor = self.apparmor();
        files.extend(
            apparmor.map(|apparmor| File::new(&[NODES, "apparmor", &apparmor.file()], apparmor.text.clone())),
        );
        let contents = self.containers.iter().map(|Container { name, role, shipment }| {
            let role = if *role == Role::Init { "init container" } else { "container" };
            format!("{role} {name}: {}", profiles(shipment))
        });
        Ok(Bundle {
            title: format!("{} in the namespace {}", self.workload, self.namespace),
            contents: contents.collect(),
            steps: self.steps(out),
            warnings,
            files,
        })
    }

    fn seccomp(&self) -> impl Iterator<Item = &Seccomp> {
        self.containers.iter().filter_map(|container| container.shipment.seccomp.as_ref())
    }

    fn apparmor(&self) -> impl Iterator<Item = &AppArmor> {
        self.containers.iter().filter_map(|container| container.shipment.apparmor.as_ref())
    }

    fn seccomp_path(&self, seccomp: &Seccomp) -> String {
        let folder = if self.by_operator { OPERATOR_FOLDER } else { "" };
        format!("{folder}{}", seccomp.file())
    }

    /// The object with a security context for each container, left out where `context` gives an empty one.
    fn object(&self, context: impl Fn(&Container) -> Value) -> Value {
        let mut spec = json!({});
        for container in &self.containers {
            let context = context(container);
            if context == json!({}) {
                continue;
            }
            let list = container.role.list();
            let container = json!({"name": container.name, "securityContext": context});
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
        head.extend(self.on_nodes(str::to_owned).into_iter().map(|line| format!("- {line}")));
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

    fn suggestions_head(&self) -> Vec<String> {
        let mut head = vec![
            format!(
                "What {} seems not to need besides: only a suggestion. Read it, try it, and record again under it, since it changes",
                self.workload
            ),
            "what the runtime calls and what the profiles need.".to_owned(),
        ];
        head.extend(self.order_warning().map(|warning| format!("Warning: {warning}.")));
        for Container { name, shipment, .. } in &self.containers {
            head.push(String::new());
            head.push(format!("{name}:"));
            head.extend(shipment.suggestions.notes.iter().map(|note| format!("- {note}")));
        }
        head
    }

    fn warnings(&self) -> Vec<String> {
        let of_each = self.containers.iter().flat_map(|Container { name, shipment, .. }| {
            shipment.warnings.iter().map(move |what| format!("{name}: {what}"))
        });
        of_each.chain(self.order_warning()).collect()
    }

    /// The API server brings what a patch names into the patch's order.
    fn order_warning(&self) -> Option<String> {
        let n_of = |role| self.containers.iter().filter(|container| container.role == role).count();
        let matters = n_of(Role::Init) > 1 || n_of(Role::Container) > 1;
        let warning = "the order of the containers is not known, since they were not recorded together from the pod's start: the API server takes that of the patch, so bring the names in it, of init containers above all, into the order of the manifest";
        (matters && !self.order_is_known).then(|| warning.to_owned())
    }

    /// What has to be on every node, and how it comes there. `path` says where a file or folder of the output is.
    fn on_nodes(&self, path: impl Fn(&str) -> String) -> Vec<String> {
        let mut lines = Vec::new();
        if self.seccomp().next().is_some() {
            lines.push(if self.by_operator {
                format!(
                    "kubectl apply -f {}, and wait until `kubectl get seccompprofiles` says Installed for each",
                    path("seccompprofiles.yaml")
                )
            } else {
                format!("on every node: the files of {} to {KUBELET_FOLDER}", path("nodes/seccomp"))
            });
        }
        if self.apparmor().next().is_some() {
            let by_hand = format!(
                "on every node: the files of {} to /etc/apparmor.d, each loaded by apparmor_parser -r -W FILE",
                path("nodes/apparmor")
            );
            lines.push(if self.by_operator {
                format!(
                    "kubectl apply -f {}, and wait until `kubectl get apparmorprofiles` says Installed for each; or, for khard's own rules under the same names, {by_hand}",
                    path(APPARMOR_RESOURCES)
                )
            } else {
                by_hand
            });
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
        let mut steps = self.on_nodes(path);
        if self.workload.kind.can_be_patched() {
            let file = path("patch.yaml");
            steps.push(format!("kubectl patch {} -n {} --patch-file {file}", self.workload, self.namespace));
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

/// Brings containers into the order in which their pod started them, if they were recorded in one: the kubelet starts first init containers,
/// then the others, as they stand in the specification (kubernetes pkg/kubelet/kuberuntime), and a younger cgroup has a greater id. Else
/// into that of their names. Says which.
fn sort(containers: &mut [Container]) -> bool {
    containers.sort_by(|one, other| one.name.cmp(&other.name));
    let in_all = |id: &&String| containers.iter().all(|one| one.shipment.first_cgroups.contains_key(*id));
    let mut ids = containers.first().into_iter().flat_map(|first| first.shipment.first_cgroups.keys());
    let Some(sandbox) = ids.find(in_all).cloned() else { return false };
    containers.sort_by_key(|container| container.shipment.first_cgroups.get(&sandbox).copied());
    true
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
fn merge(into: &mut Value, other: Value) {
    match (into, other) {
        (Value::Object(into), Value::Object(other)) => {
            for (key, value) in other {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, other) => *into = other,
    }
}
