//! What `khard export --to operator` writes, given to a real API server that knows the resources of the security-profiles-operator. The
//! operator itself is not there.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::{command::CommandExt as _, kubernetes::Cluster};

/// The operator's v1: of its types, what the API server checks. Where that is from, and its licence, is said in its annotations.
const DEFINITIONS: &str = include_str!("operator-crds.json");
/// The files of an export.
const FILES: [&str; 2] = ["seccompprofiles.yaml", "apparmorprofiles.yaml"];
/// What that API refuses, each by another of its checks.
const REFUSED: [&str; 3] = [
    r#"{"kind": "SeccompProfile", "spec": {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38}}"#,
    r#"{"kind": "SeccompProfile", "spec": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "ALLOW"}]}}"#,
    r#"{"kind": "AppArmorProfile", "spec": {"abstract": {"filesystem": {"readOnlyPaths": ["/{a,b}"]}}}}"#,
];

/// The API server takes all resources of the export in `dir`, and keeps every word of them.
pub(super) fn takes_all_of(cluster: &Cluster, dir: &Path) -> Result<()> {
    let definitions = dir.join("definitions.json");
    fs::write(&definitions, DEFINITIONS)?;
    let apply = |file: &Path| {
        cluster.kubectl(&["apply", "-o", "json", "-f", &file.display().to_string()]).read_text()
    };
    apply(&definitions)?;
    let bad = dir.join("bad.json");
    for resource in REFUSED {
        let mut resource: Value = serde_json::from_str(resource)?;
        resource["apiVersion"] = json!("security-profiles-operator.x-k8s.io/v1");
        resource["metadata"] = json!({"name": "bad"});
        fs::write(&bad, resource.to_string())?;
        // Until the new kinds are published, it is refused for that.
        cluster.until("resources of the operator are checked", |_| match apply(&bad) {
            Ok(said) => bail!("taken: {resource}: {said}"),
            Err(error) => {
                let said = format!("{error:#}");
                let why = ["unknown field", "Unsupported value", "should match"];
                ensure!(why.iter().any(|why| said.contains(why)), "{said}");
                Ok(())
            }
        })?;
    }
    for file in FILES {
        let file = dir.join(file);
        let taken = items(&apply(&file)?)?;
        ensure!(!taken.is_empty(), "{} has no resource", file.display());
        let meant =
            cluster.kubectl(&["create", "--dry-run=client", "-o", "json", "-f"]).arg(&file).read_text()?;
        let meant = items(&meant)?;
        ensure!(taken.len() == meant.len(), "{} of {} resources", taken.len(), meant.len());
        for (meant, taken) in meant.iter().zip(&taken) {
            let name = meant["metadata"]["name"].as_str().context("a resource without a name")?;
            let kept = meant["spec"].as_object().context("a resource without a spec")?;
            let differs = kept.iter().find(|(key, value)| taken["spec"].get(key) != Some(value));
            ensure!(differs.is_none(), "{name}: {differs:?} became {taken}");
        }
    }
    Ok(())
}

/// The resources that kubectl prints: a list, or one alone, or one after the other.
fn items(said: &str) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for value in serde_json::Deserializer::from_str(said).into_iter::<Value>() {
        let value = value.context("what kubectl prints")?;
        match value["items"].as_array() {
            Some(items) => all.extend(items.iter().cloned()),
            None => all.push(value),
        }
    }
    Ok(all)
}
