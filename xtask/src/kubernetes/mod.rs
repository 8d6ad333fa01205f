//! A Kubernetes cluster for the tests: control plane and one node on this machine, in namespaces of its own, and a guest as another node.
//! Owns its start and its end, and what its parts are told; what is done in it is a test's.
//!
//! Kubernetes is as old as Debian's source package of it: no field for AppArmor (annotations only), CRI by its v1alpha2.

mod cgroup;
mod keys;
mod programs;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::{
    command::{CommandExt as _, terminate},
    containers::containerd::Containerd,
    interrupt,
    paths::Paths,
    vm::{Network, Options, Outcome, Parts, Session},
};
use cgroup::Cgroup;
use keys::Keys;

/// The nodes' names.
pub(crate) const HERE: &str = "here";
/// The guest's.
pub(crate) const GUEST: &str = "guest";
/// By which the API server finds the guest's kubelet.
const GUEST_ADDRESS: &str = "127.0.0.2";
/// A node's address must not be a loopback one (kubernetes `pkg/kubelet/kubelet_node_status.go`, `validateNodeIP`).
const NODE_ADDRESS: &str = "10.98.0.1";
/// How a guest reaches this side's loopback (QEMU's user networking).
const FROM_GUEST: &str = "10.0.2.2";
const API_PORT: u16 = 6443;
const KUBELET_PORT: u16 = 10250;
/// For a node to be ready, or the API server.
const START_LIMIT: Duration = Duration::from_mins(4);

/// Where containerd is: what a control plane and a kubelet write goes away with it. `$1`: this cluster's folder.
///
/// A kubelet sets the kernel's parameters to what it likes; here it finds files of its own in their place.
const PREPARE: &str = r#"
ip addr add 10.98.0.1/32 dev lo
mount --make-rshared /
for place in /var/lib /var/log; do mount -t tmpfs tmpfs $place; done
mkdir -p /var/lib/kubelet/seccomp /var/lib/cni "$1/sysctl"
for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
        kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
    file=$1/sysctl/$(echo ${setting%=*} | tr / _)
    echo ${setting#*=} > "$file"
    mount --bind "$file" /proc/sys/${setting%=*}
done
printf '127.0.0.1 localhost here\n127.0.0.2 guest\n' > "$1/hosts"
mount --bind "$1/hosts" /etc/hosts
"#;

/// What makes a guest a node.
const JOIN: &str = r"set -e
modprobe virtio_net
until device=$(ls /sys/class/net | grep ^e); do sleep 0.1; done
ip addr add 10.0.2.15/24 dev $device
ip link set $device up
ip route add default via 10.0.2.2
khard-containerd
mkdir -p /var/lib/kubelet/seccomp
cp node/kubelet /usr/local/bin/
setsid kubelet --config=node/kubelet.json --kubeconfig=node/kubeconfig --hostname-override=guest --node-ip=10.0.2.15 \
    --container-runtime=remote --container-runtime-endpoint=unix:///run/containerd/containerd.sock \
    > node/log 2>&1 < /dev/null &
";

/// A running cluster. Dropping it ends it, with its pods.
pub(crate) struct Cluster {
    /// In the order of their start.
    processes: Vec<Child>,
    /// The other node.
    pub(crate) guest: Session,
    containerd: Containerd,
    /// After those who are in it.
    cgroup: Cgroup,
    dir: PathBuf,
}

impl Cluster {
    /// Starts one; returns when both nodes are ready. `share` is the guest's shared folder.
    pub(crate) fn start(paths: &Paths, parts: &Parts, share: &Path) -> Result<Self> {
        let programs = programs::dir(paths)?;
        let containerd = Containerd::start(paths)?;
        let dir = paths.state_dir("cluster")?.join(std::process::id().to_string());
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir)?;
        let keys = Keys::make(
            dir.join("keys"),
            &["localhost", HERE, GUEST],
            &["127.0.0.1", FROM_GUEST, "10.96.0.1"],
        )?;
        containerd.command(&dir, "sh").args(["-euc", PREPARE, "sh"]).arg(&dir).read()?;
        // Before it is a node: booting takes the CPUs, which kubelets' leases and probes want.
        let network = Network {
            of_pid: containerd.pid(),
            forward: format!("tcp:{GUEST_ADDRESS}:{KUBELET_PORT}-:{KUBELET_PORT}"),
        };
        let guest =
            parts.boot(paths, share, &Options { network: Some(network), ..Options::default() }, false)?;
        let cgroup = Cgroup::make(format!("khard-cluster-{}", std::process::id()))?;
        let mut cluster = Self { processes: Vec::new(), guest, containerd, cgroup, dir };
        cluster.start_control_plane(&programs, &keys)?;
        cluster.start_node(&programs, &keys)?;
        cluster.join_guest(&programs, &keys, share)?;
        for node in [HERE, GUEST] {
            cluster.until(&format!("the node {node} is ready"), |cluster| {
                let node: Value =
                    serde_json::from_slice(&cluster.kubectl(&["get", "node", node, "-o", "json"]).read()?)?;
                let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
                let is_ready =
                    |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
                ensure!(conditions.iter().any(is_ready), "{conditions:?}");
                Ok(())
            })?;
        }
        cluster.until("there is a service account", |cluster| {
            cluster.kubectl(&["get", "serviceaccount", "default"]).read().map(drop)
        })?;
        Ok(cluster)
    }

    /// A command on the node of this machine, in the folder `dir`.
    pub(crate) fn here(&self, dir: &Path, program: &Path) -> Command {
        self.containerd.command(dir, program)
    }

    /// `kubectl`, as the cluster's administrator.
    pub(crate) fn kubectl(&self, words: &[&str]) -> Command {
        let mut command = self.containerd.command(&self.dir, "kubectl");
        command.arg("--kubeconfig").arg(self.dir.join("kubeconfig")).args(words);
        command
    }

    /// Waits for something; the error says what stood in its way at last, with the end of the log of each part.
    pub(crate) fn until(&self, what: &str, mut is_so: impl FnMut(&Self) -> Result<()>) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let Err(error) = is_so(self) else { return Ok(()) };
            interrupt::check()?;
            if Instant::now() > deadline {
                bail!("not within {} s: {what}: {error:#}\n{}", START_LIMIT.as_secs(), self.logs());
            }
            thread::sleep(Duration::from_millis(300));
        }
    }

    fn logs(&self) -> String {
        const SHOWN_LINES: usize = 15;
        let entries = fs::read_dir(self.dir.join("log")).into_iter().flatten().flatten();
        let end = |path: PathBuf| {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            let shown = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n");
            format!("---- {}\n{shown}\n", path.display())
        };
        entries.map(|entry| end(entry.path())).collect()
    }

    /// Starts a part of the cluster beside containerd; its output goes to a file of its name.
    fn spawn(&mut self, program: PathBuf, arguments: &[String]) -> Result<()> {
        let logs = self.dir.join("log");
        fs::create_dir_all(&logs)?;
        let log = File::create(logs.join(program.file_name().context("a program without a name")?))?;
        let child = self
            .containerd
            .command(&self.dir, program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn_owned()?;
        self.processes.push(child);
        Ok(())
    }

    fn start_control_plane(&mut self, programs: &Path, keys: &Keys) -> Result<()> {
        let kubeconfig = self.dir.join("kubeconfig");
        let server = format!("https://127.0.0.1:{API_PORT}");
        fs::write(&kubeconfig, Keys::kubeconfig(&server, &keys.dir).to_string())?;
        let kubeconfig = format!("--kubeconfig={}", kubeconfig.display());
        let data = self.dir.join("etcd");
        let file = |option: &str, name: &str| format!("--{option}={}", keys.file(name));
        self.spawn(
            programs.join("etcd"),
            &[format!("--data-dir={}", data.display()), "--unsafe-no-fsync=true".to_owned()],
        )?;
        self.spawn(
            programs.join("kube-apiserver"),
            &[
                "--etcd-servers=http://127.0.0.1:2379".to_owned(),
                "--bind-address=127.0.0.1".to_owned(),
                format!("--secure-port={API_PORT}"),
                format!("--advertise-address={NODE_ADDRESS}"),
                "--endpoint-reconciler-type=none".to_owned(),
                "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
                "--authorization-mode=RBAC".to_owned(),
                "--allow-privileged=true".to_owned(),
                "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
                // By its name, for the guest's own address is on its side alone.
                "--kubelet-preferred-address-types=Hostname".to_owned(),
                file("tls-cert-file", "server.crt"),
                file("tls-private-key-file", "server.key"),
                file("client-ca-file", "ca.crt"),
                file("service-account-key-file", "accounts.pub"),
                file("service-account-signing-key-file", "accounts.key"),
                file("kubelet-client-certificate", "client.crt"),
                file("kubelet-client-key", "client.key"),
                file("kubelet-certificate-authority", "ca.crt"),
            ],
        )?;
        self.until("the API server is ready", |cluster| {
            cluster.kubectl(&["get", "--raw", "/readyz"]).read().map(drop)
        })?;
        self.spawn(
            programs.join("kube-controller-manager"),
            &[
                kubeconfig.clone(),
                "--leader-elect=false".to_owned(),
                file("service-account-private-key-file", "accounts.key"),
                file("root-ca-file", "ca.crt"),
            ],
        )?;
        self.spawn(programs.join("kube-scheduler"), &[kubeconfig, "--leader-elect=false".to_owned()])
    }

    fn start_node(&mut self, programs: &Path, keys: &Keys) -> Result<()> {
        let mut config = kubelet(&keys.dir);
        config["address"] = json!("127.0.0.1");
        // It ends whatever it does not know below its root.
        config["cgroupRoot"] = json!(format!("/{}", self.cgroup.name()));
        let path = self.dir.join("kubelet.json");
        fs::write(&path, config.to_string())?;
        self.spawn(
            programs.join("kubelet"),
            &[
                format!("--config={}", path.display()),
                format!("--kubeconfig={}", self.dir.join("kubeconfig").display()),
                "--container-runtime=remote".to_owned(),
                format!("--container-runtime-endpoint=unix://{}", self.containerd.socket().display()),
                format!("--hostname-override={HERE}"),
                format!("--node-ip={NODE_ADDRESS}"),
                // A negative one is out of reach where CAP_SYS_RESOURCE is.
                "--oom-score-adj=0".to_owned(),
            ],
        )
    }

    fn join_guest(&mut self, programs: &Path, keys: &Keys, share: &Path) -> Result<()> {
        let node = share.join("node");
        fs::create_dir_all(&node)?;
        fs::copy(programs.join("kubelet"), node.join("kubelet"))?;
        for file in ["ca.crt", "server.crt", "server.key", "client.crt", "client.key"] {
            fs::copy(keys.dir.join(file), node.join(file))?;
        }
        let inside = Path::new("/host/node");
        let server = format!("https://{FROM_GUEST}:{API_PORT}");
        fs::write(node.join("kubeconfig"), Keys::kubeconfig(&server, inside).to_string())?;
        fs::write(node.join("kubelet.json"), kubelet(inside).to_string())?;
        self.on_guest(JOIN).map(drop)
    }

    /// What a script prints on the guest; an error, with what it wrote, unless it succeeds.
    pub(crate) fn on_guest(&mut self, script: &str) -> Result<String> {
        let mut said = Vec::new();
        let outcome = self.guest.run(script, Some(START_LIMIT), &mut |_, bytes| said.extend(bytes))?;
        let said = String::from_utf8_lossy(&said).into_owned();
        ensure!(matches!(outcome, Outcome::Exited(0)), "in the guest: {outcome:?}: {said}\n{script}");
        Ok(said)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The kubelet first, which would start again what ends.
        for process in self.processes.iter_mut().rev() {
            terminate(process);
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// What both kubelets are told; `keys` is where a node has its certificates.
fn kubelet(keys: &Path) -> Value {
    let file = |name: &str| keys.join(name).display().to_string();
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": false},
            "x509": {"clientCAFile": file("ca.crt")},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "tlsCertFile": file("server.crt"),
        "tlsPrivateKeyFile": file("server.key"),
        "readOnlyPort": 0,
        "cgroupDriver": "cgroupfs",
        "failSwapOn": false,
        "makeIPTablesUtilChains": false,
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "nodeStatusUpdateFrequency": "1s",
        "resolvConf": "",
    })
}
