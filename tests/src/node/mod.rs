//! A node as tests use it: pods that are made as kubelet makes them and removed with the test, however it ends, and
//! clients of what runs in them. Knows nothing of khard.

#![expect(clippy::missing_panics_doc, reason = "a test fails by panicking")]

mod agent;
mod clients;
mod proxy;
mod workloads;

pub use agent::{Agent, Refused};
pub use clients::{http, redis};
pub use proxy::Proxy;
pub use workloads::{Answers, Workload};

use std::{collections::BTreeSet, env, fs, path::PathBuf, sync::atomic::AtomicU32, time::Duration};

use anyhow::{Context as _, Result};
use khard_user::runtime::{Container, ContainerId};
use tokio::{runtime, time::timeout};

use crate::{
    kubelet::{ContainerSpec, ExecOutput, Kubelet, PodSpec, StartedPod},
    wait,
};

/// The images that every node of the tests has.
pub const NGINX: &str = "docker.io/khard/nginx:1";
/// See [`NGINX`].
pub const REDIS: &str = "docker.io/khard/redis:1";
/// See [`NGINX`].
pub const BUSYBOX: &str = "docker.io/khard/busybox:1";

/// The runtime of this machine, and a kubelet for it.
pub struct Node {
    runtime: runtime::Runtime,
    kubelet: Kubelet,
}

impl Node {
    /// Connects to the runtime that the environment names.
    pub fn connect() -> Self {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a tokio runtime");
        let kubelet = runtime.block_on(Kubelet::connect(None)).expect("a container runtime");
        Self { runtime, kubelet }
    }

    /// The runtime handlers that work here, the default one first.
    pub fn handlers() -> Vec<String> {
        let list = env::var("KHARD_RUNTIMES").unwrap_or_else(|_| "runc".to_owned());
        list.split(',').map(str::to_owned).collect()
    }

    /// How long a pod may take for what takes it a second or two: then it is taken not to do it.
    pub fn patience() -> Duration {
        wait::limit() / 4
    }

    /// The socket of the runtime.
    pub fn socket(&self) -> PathBuf {
        self.kubelet.runtime().socket().to_owned()
    }

    /// Starts a pod.
    pub fn start(&self, spec: PodSpec) -> TestPod<'_> {
        let name = spec.name.clone();
        let (pod, result) = self.try_start(spec);
        result.unwrap_or_else(|error| panic!("pod {name}: {error:#}"));
        pod
    }

    /// Starts a pod that may not start: then what there is of it, and why.
    pub fn try_start(&self, spec: PodSpec) -> (TestPod<'_>, Result<()>) {
        let result = self.runtime.block_on(self.kubelet.run(&spec)).map(|_: StartedPod| ());
        (TestPod { node: self, spec }, result)
    }
}

/// A pod's name that no other test of this run has.
pub fn unique(name: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    format!("{name}-{}-{number}", std::process::id())
}

/// A container of an image, with a command instead of the image's unless it is empty.
pub fn container(name: &str, image: &str, command: &[&str]) -> ContainerSpec {
    ContainerSpec {
        name: name.to_owned(),
        image: image.to_owned(),
        command: command.iter().map(|&word| word.to_owned()).collect(),
        ..ContainerSpec::default()
    }
}

/// A shell that sleeps until it is asked to end.
pub fn sleeper(name: &str) -> ContainerSpec {
    container(name, BUSYBOX, &["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done"])
}

/// A pod that is removed when this value goes.
pub struct TestPod<'n> {
    node: &'n Node,
    spec: PodSpec,
}

impl TestPod<'_> {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Runs a command in a container and waits for its end.
    pub fn exec(&self, container: &str, command: &[&str]) -> ExecOutput {
        self.try_exec(container, command)
            .unwrap_or_else(|error| panic!("exec of {command:?} in {container}: {error:#}"))
    }

    /// The same where the runtime may refuse.
    pub fn try_exec(&self, container: &str, command: &[&str]) -> Result<ExecOutput> {
        let id = self.find(container)?.id;
        let words: Vec<String> = command.iter().map(|&word| word.to_owned()).collect();
        self.node.runtime.block_on(async {
            let output = timeout(Node::patience(), self.node.kubelet.exec(&id, &words)).await;
            output.with_context(|| format!("{command:?} does not end"))?
        })
    }

    /// Its address.
    pub fn ip(&self) -> Result<String> {
        self.node.runtime.block_on(async {
            let pod = self.node.kubelet.pod(&self.spec.namespace, &self.spec.name).await?;
            self.node.kubelet.ip(&pod.id).await
        })
    }

    /// A container's last attempt.
    pub fn container(&self, name: &str) -> Container {
        self.find(name).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// The same where there may be none.
    pub(crate) fn find(&self, name: &str) -> Result<Container> {
        self.node.runtime.block_on(async {
            let pod = self.node.kubelet.pod(&self.spec.namespace, &self.spec.name).await?;
            self.node.kubelet.container(&pod, Some(name)).await
        })
    }

    /// What a container has written.
    pub fn logs(&self, container: &str) -> Result<String> {
        let id = self.find(container)?.id;
        self.node.runtime.block_on(self.node.kubelet.logs(&id))
    }

    /// What the runtime tells of a container, as JSON.
    pub fn inspect(&self, container: &str) -> String {
        let id = self.container(container).id;
        self.node.runtime.block_on(self.node.kubelet.inspect(&id)).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Starts a container anew: one more attempt.
    pub fn restart(&self, container: &str) {
        let again = self.node.runtime.block_on(async {
            let pod = self.node.kubelet.pod(&self.spec.namespace, &self.spec.name).await?;
            self.node.kubelet.restart(&pod, container, grace_s()).await
        });
        again.unwrap_or_else(|error| panic!("{container} does not start again: {error:#}"));
    }

    /// The same as another specification says.
    pub fn restart_as(&self, container: &ContainerSpec) {
        let again = self.node.runtime.block_on(async {
            let pod = self.node.kubelet.pod(&self.spec.namespace, &self.spec.name).await?;
            self.node.kubelet.restart_as(&pod, container, grace_s()).await
        });
        again.unwrap_or_else(|error| panic!("{} does not start again: {error:#}", container.name));
    }

    /// Stops it, as kubelet does when a pod is deleted.
    pub fn stop(&self) {
        self.try_stop().unwrap_or_else(|error| panic!("pod {} does not stop: {error:#}", self.spec.name));
    }

    /// The same where the runtime may fail to.
    pub fn try_stop(&self) -> Result<()> {
        self.node.runtime.block_on(async {
            let pod = self.node.kubelet.pod(&self.spec.namespace, &self.spec.name).await?;
            self.node.kubelet.stop(&pod, grace_s()).await
        })
    }

    /// The processes in a container.
    pub fn processes(&self, container: &str) -> BTreeSet<u32> {
        processes_of(&self.container(container).id)
    }
}

impl Drop for TestPod<'_> {
    fn drop(&mut self) {
        let removed = self.node.runtime.block_on(async {
            let (namespace, name) = (&self.spec.namespace, &self.spec.name);
            let pods = self.node.kubelet.runtime().pods_named(namespace, name).await?;
            for pod in pods.iter().filter(|pod| pod.uid == self.spec.uid) {
                self.node.kubelet.remove(pod, 0).await?;
            }
            anyhow::Ok(())
        });
        if let Err(error) = removed {
            eprintln!("pod {} stays: {error:#}", self.spec.name);
        }
    }
}

/// What a container gets between SIGTERM and SIGKILL: so much that only one that does not heed SIGTERM is killed.
fn grace_s() -> i64 {
    Node::patience().as_secs().cast_signed()
}

/// The processes whose cgroup has a container's id.
fn processes_of(id: &ContainerId) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let pid = entry.file_name().to_string_lossy().parse::<u32>();
        let cgroups = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        if let Ok(pid) = pid
            && cgroups.contains(&id.0)
        {
            found.insert(pid);
        }
    }
    found
}

/// A field of /proc/PID/status; `None` if the process has gone.
pub fn status_field(pid: u32, name: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.map(|value| value.trim().to_owned())
}
