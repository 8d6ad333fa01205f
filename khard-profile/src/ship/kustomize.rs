//! Owns the form for kustomize: a component, which the kustomization that has the workload can name.
//!
//! By replacements, not by a patch: one of kustomize's puts the containers that it names before all others (kyaml's
//! `MergeOptionsListPrepend`), and init containers run in their order.

use serde_json::{Value, json};

use super::{File, Workload, yaml};

/// One place of the pod's template and what is to be there.
pub(super) struct Setting {
    /// Whose.
    pub(super) container: String,
    /// `seccompProfile` or so.
    pub(super) key: &'static str,
    /// Below [`Kind::pod_path`](super::Kind::pod_path), as kustomize has paths.
    pub(super) path: String,
    /// What is to be there.
    pub(super) value: Value,
}

/// The component, and what it takes values from.
pub(super) fn files(workload: &Workload, settings: &[Setting]) -> [File; 2] {
    let head = [
        format!(
            "Names the profiles in {workload}: name this folder under \"components\" in the kustomization that has it."
        ),
        "First all profiles to every node: see patch.yaml.".to_owned(),
    ];
    [
        File::new(&["kustomization.yaml"], yaml::document(&head, &component(workload, settings))),
        File::new(&["profiles.yaml"], yaml::document(&[], &profiles(workload, settings))),
    ]
}

fn component(workload: &Workload, settings: &[Setting]) -> Value {
    let replacements = settings.iter().map(|Setting { container, key, path, .. }| {
        json!({
            "source": {"kind": "Profiles", "name": name(workload), "fieldPath": format!("containers.{container}.{key}")},
            "targets": [{
                "select": {"kind": workload.kind.as_str(), "name": workload.name},
                "fieldPaths": [format!("{}{path}", workload.kind.pod_path())],
                "options": {"create": true},
            }],
        })
    });
    json!({
        "apiVersion": "kustomize.config.k8s.io/v1alpha1",
        "kind": "Component",
        "resources": ["profiles.yaml"],
        "replacements": replacements.collect::<Vec<_>>(),
    })
}

/// Comes into no output of kustomize, by its annotation.
fn profiles(workload: &Workload, settings: &[Setting]) -> Value {
    let mut profiles = json!({
        "apiVersion": "khard/v1",
        "kind": "Profiles",
        "metadata": {"name": name(workload), "annotations": {"config.kubernetes.io/local-config": "true"}},
    });
    for setting in settings {
        profiles["containers"][&setting.container][setting.key] = setting.value.clone();
    }
    profiles
}

fn name(workload: &Workload) -> String {
    format!("{}-{}", workload.kind.as_str().to_ascii_lowercase(), workload.name)
}
