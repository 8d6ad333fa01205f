//! A Deployment on two nodes, with real kubelets: recorded on both, united, applied on both, and Ready under its profiles,
//! which are taken as resources too.

use std::{
    fs::{self, File},
    process::{Child, Command},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{Given, operator};
use crate::{
    command::{CommandExt as _, wait},
    kubernetes::{Cluster, GUEST, HERE},
};

/// An init container that writes a page, and nginx, which is ready when a program that is executed in it can read the page. One pod on
/// each node.
const DEPLOYMENT: &str = include_str!("deployment.json");
/// What a person does in a pod.
const EXEC: &str = "id; cat /var/www/html/index.html; wget -q -O - http://127.0.0.1/";
/// What nobody has done while it was recorded: seccomp's and AppArmor's business, each with what the program says when it is refused.
const PLANTED: [(&str, &str); 2] =
    [("chroot / true", "Operation not permitted"), ("echo > /tmp/planted", "Permission denied")];
/// What AppArmor refused, by the kernel's log.
const DENIED: &str = "dmesg | grep 'apparmor=\"DENIED\".*profile=\"khard-' || true";
const RECORD: [&str; 7] = ["trace", "-l", "app=web", "--wait", "--unite", "rollouts", "-o"];

pub(super) fn a_deployment_stays_ready_under_what_both_nodes_recorded(given: &Given<'_>) -> Result<()> {
    let mut cluster = Cluster::start(given.paths, given.parts, given.share)?;
    let recorder = Recorders::start(&mut cluster, given)?;
    fs::write(given.share.join("deployment.json"), DEPLOYMENT)?;
    let file = given.share.join("deployment.json").display().to_string();
    cluster.kubectl(&["apply", "-f", &file]).read()?;
    rolled_out(&cluster)?;
    exec_in_all(&cluster)?;
    // What ends a pod belongs to the recording, and the next pods' names differ.
    cluster.kubectl(&["rollout", "restart", "deployment/web"]).read()?;
    rolled_out(&cluster)?;
    exec_in_all(&cluster)?;
    recorder.end(&mut cluster)?;
    // Without profiles, and without a recorder, what is planted later can be done.
    for pod in pods(&cluster)? {
        for (command, _) in PLANTED {
            pod.exec(&cluster, command).read().with_context(|| format!("unconfined: {command}"))?;
        }
    }

    let khard = |words: &[&str]| {
        Command::new(given.khard)
            .args(words)
            .current_dir(given.share)
            .read_text()
            .with_context(|| words.join(" "))
    };
    let united = khard(&["generate", "here", "there", "-o", "united"])?;
    ensure!(united.contains("4 runs"), "not the pods of both nodes and both roll-outs: {united}");
    cluster.here(given.share, given.khard).args(["apply", "united", "--only", "seccomp"]).read()?;
    cluster.on_guest("khard apply united --enforce")?;
    let export = ["export", "united", "--to", "kubernetes", "--init", "page", "--kube-version", "1.20"];
    let to = |out: &[&str]| khard(&[&export[..], &["--workload", "deployment/web"], out].concat());

    // This machine's kernel has no AppArmor.
    to(&["--only", "seccomp", "-o", "both"])?;
    patch(&cluster, &fs::read_to_string(given.share.join("both/patch.json"))?)?;
    rolled_out(&cluster)?;
    exec_in_all(&cluster)?;
    for pod in pods(&cluster)? {
        pod.refuses(&cluster, PLANTED[0])?;
    }
    let filters = cluster.on_guest("grep -h ^Seccomp: $(pidof nginx | sed 's#[0-9]*#/proc/&/status#g')")?;
    ensure!(filters.lines().all(|line| line.ends_with('2')) && !filters.is_empty(), "{filters}");

    let operators =
        ["export", "united", "--to", "operator", "--init", "page", "--workload", "deployment/web"];
    khard(&[&operators[..], &["-o", "operator"]].concat())?;
    operator::takes_all_of(&cluster, &given.share.join("operator"))?;

    to(&["-o", "guest"])?;
    let on_guest = format!(
        r#"{{"spec": {{"replicas": 1, "template": {{"spec": {{"nodeSelector": {{"kubernetes.io/hostname": "{GUEST}"}}}}}}}}}}"#
    );
    patch(&cluster, &on_guest)?;
    patch(&cluster, &fs::read_to_string(given.share.join("guest/patch.json"))?)?;
    rolled_out(&cluster)?;
    exec_in_all(&cluster)?;
    let labels = cluster.on_guest("cat $(pidof nginx | sed 's#[0-9]*#/proc/&/attr/apparmor/current#g')")?;
    let is_ours = |label: &str| label.starts_with("khard-") && label.ends_with("(enforce)");
    ensure!(labels.lines().all(is_ours) && !labels.is_empty(), "{labels}");
    let denied = cluster.on_guest(DENIED)?;
    ensure!(denied.is_empty(), "{denied}");
    let [pod] = pods(&cluster)?.try_into().map_err(|pods| anyhow::anyhow!("not one pod: {pods:?}"))?;
    for planted in PLANTED {
        pod.refuses(&cluster, planted)?;
    }
    let denied = cluster.on_guest(DENIED)?;
    ensure!(denied.contains("/tmp/planted"), "the kernel's log would not have told: {denied}");
    ensure!(pods(&cluster)?.first().is_some_and(|pod| pod.n_restarts == 0), "restarted");
    Ok(())
}

/// A khard on each node.
struct Recorders {
    here: Child,
}

impl Recorders {
    fn start(cluster: &mut Cluster, given: &Given<'_>) -> Result<Self> {
        let (here, there) = (given.share.join("here.err"), given.share.join("there.err"));
        let mut command = cluster.here(given.share, given.khard);
        let recorder = command.args(RECORD).arg("here").stderr(File::create(&here)?).spawn_owned()?;
        let words = RECORD.join(" ");
        // Its status outlives the script that starts it.
        cluster.on_guest(&format!(
            "(khard {words} there > there.out 2> there.err & echo $! > there.pid; wait $!; echo $? > there.status) > /dev/null 2>&1 &"
        ))?;
        cluster.until("both nodes record", |_| {
            for log in [&here, &there] {
                let said = fs::read_to_string(log).unwrap_or_default();
                ensure!(said.contains("ready:"), "{}: {said}", log.display());
            }
            Ok(())
        })?;
        Ok(Self { here: recorder })
    }

    /// As by Ctrl-C.
    fn end(mut self, cluster: &mut Cluster) -> Result<()> {
        const LIMIT: Duration = Duration::from_mins(1);
        Command::new("kill").args(["-INT", &self.here.id().to_string()]).read()?;
        cluster.on_guest(
            "kill -INT $(cat there.pid); until [ -s there.status ]; do sleep 0.2; done; cat there.err; exit $(cat there.status)",
        )?;
        let status = wait(&mut self.here, Some(Instant::now() + LIMIT))?.context("khard does not end")?;
        ensure!(status.success(), "khard on the node {HERE}: {status}");
        Ok(())
    }
}

/// A pod that runs.
#[derive(Debug)]
struct Pod {
    name: String,
    n_restarts: u64,
}

impl Pod {
    fn exec(&self, cluster: &Cluster, script: &str) -> Command {
        cluster.kubectl(&["exec", &self.name, "-c", "nginx", "--", "sh", "-c", script])
    }

    fn refuses(&self, cluster: &Cluster, (script, why): (&str, &str)) -> Result<()> {
        match self.exec(cluster, script).read_text() {
            Ok(said) => anyhow::bail!("{}: not refused: {script}: {said}", self.name),
            Err(error) => {
                ensure!(error.to_string().contains(why), "{}: {script}: {error:#}", self.name);
                Ok(())
            }
        }
    }
}

fn pods(cluster: &Cluster) -> Result<Vec<Pod>> {
    let list: Value =
        serde_json::from_slice(&cluster.kubectl(&["get", "pods", "-l", "app=web", "-o", "json"]).read()?)?;
    let runs = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null();
    let pods = list["items"].as_array().context("kubectl lists no pods")?.iter().filter(runs);
    pods.map(|pod| {
        let name = pod["metadata"]["name"].as_str().context("a pod without a name")?.to_owned();
        let containers = pod["status"]["containerStatuses"].as_array().context("a pod without containers")?;
        let restarts = containers.iter().filter_map(|container| container["restartCount"].as_u64());
        Ok(Pod { name, n_restarts: restarts.sum() })
    })
    .collect()
}

fn exec_in_all(cluster: &Cluster) -> Result<()> {
    for pod in pods(cluster)? {
        let said = pod.exec(cluster, EXEC).read_text()?;
        ensure!(said.ends_with("hello\nhello"), "{}: {said}", pod.name);
    }
    Ok(())
}

fn rolled_out(cluster: &Cluster) -> Result<()> {
    let status = cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=240s"]).read_text();
    status.map(drop).map_err(|error| {
        let pods = cluster.kubectl(&["describe", "pods"]).read_text().unwrap_or_default();
        error.context(pods)
    })
}

fn patch(cluster: &Cluster, patch: &str) -> Result<()> {
    cluster.kubectl(&["patch", "deployment/web", "-p", patch]).read().map(drop)
}
