//! Pods made through a real CRI as kubelet makes them: names, labels, cgroups, order and security of a node.
//!
//! Owns what a kubelet would ask a runtime. It must not know khard's sessions or profiles: tests and demonstrations
//! put the two together.
mod config;
mod log;
mod spec;

pub use spec::{ContainerSpec, MountSpec, PodSpec, Seccomp};

use anyhow::{Context, Result, anyhow, bail};
use khard_user::runtime::{
    Container, ContainerId, ContainerState, Pod, PodId, Runtime, RuntimeError,
    cri::{connection::Connection, generated as wire},
    endpoint,
};
use std::{fs, path::Path, time::Duration};
use tokio::time::{sleep, timeout};

/// The longest any call may take: an emulated machine is slow, and stopping waits for the grace period.
const LIMIT: Duration = Duration::from_mins(2);
/// How often a stop is asked for again. containerd 1.6 answers "ttrpc: closed" for a container that is just ending by
/// itself; kubelet asks again too.
const N_STOPS: u32 = 10;

/// A kubelet of a few functions, on one runtime.
#[derive(Debug, Clone)]
pub struct Kubelet {
    connection: Connection,
    runtime: Runtime,
}

/// A pod that was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartedPod {
    /// The sandbox.
    pub id: PodId,
    /// Name and id of each container in the order of their start, init containers included.
    pub containers: Vec<(String, ContainerId)>,
}

/// What a command in a container said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutput {
    /// Its exit status.
    pub status: i32,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

impl Kubelet {
    /// Connects to the runtime at `endpoint`, else to the one that khard would choose.
    ///
    /// # Errors
    /// No runtime that serves CRI v1 is there.
    pub async fn connect(endpoint: Option<&str>) -> Result<Self> {
        let environment = std::env::var(endpoint::ENDPOINT_VARIABLE).ok();
        let candidates = endpoint::candidates(endpoint, environment.as_deref(), None);
        let endpoint = candidates.first().context("no socket to try")?;
        let connection = Connection::open_one(endpoint, LIMIT)
            .await
            .with_context(|| format!("no CRI v1 at {}", endpoint.text))?;
        Ok(Self { runtime: Runtime::Cri(Box::new(connection.clone())), connection })
    }

    /// The same runtime as khard sees it.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Its connection, for questions that khard does not ask.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Starts a pod: its sandbox, its init containers one after the other to their end, then its containers.
    ///
    /// # Errors
    /// The runtime refuses, or an init container fails. What was made so far stays, as on a node.
    pub async fn run(&self, spec: &PodSpec) -> Result<StartedPod> {
        let mut pod = StartedPod { id: self.run_sandbox(spec, 0).await?, containers: Vec::new() };
        for container in &spec.init_containers {
            let id = self.start(&pod.id, spec, container, 0).await?;
            pod.containers.push((container.name.clone(), id.clone()));
            let ended = self.wait_for_end(&id, LIMIT).await?;
            if ended.exit_code != Some(0) {
                let said = self.logs(&id).await.unwrap_or_default();
                bail!("init container {} ended with {:?}: {said}", container.name, ended.exit_code);
            }
        }
        for container in &spec.containers {
            let id = self.start(&pod.id, spec, container, 0).await?;
            pod.containers.push((container.name.clone(), id));
        }
        Ok(pod)
    }

    /// Makes the sandbox of a pod.
    ///
    /// # Errors
    /// The runtime refuses.
    pub async fn run_sandbox(&self, spec: &PodSpec, attempt: u32) -> Result<PodId> {
        fs::create_dir_all(spec.log_directory()).context("cannot make the pod's log folder")?;
        let request = wire::RunPodSandboxRequest {
            config: Some(config::sandbox(spec, attempt)?),
            runtime_handler: spec.runtime_handler.clone(),
        };
        let mut client = self.connection().client();
        let answer =
            self.connection().call("RunPodSandbox", Box::pin(client.run_pod_sandbox(request))).await?;
        Ok(PodId(answer.pod_sandbox_id))
    }

    /// Makes a container without starting it.
    ///
    /// # Errors
    /// The runtime refuses, for example because the image or a profile is missing.
    pub async fn create(
        &self,
        pod: &PodId,
        spec: &PodSpec,
        container: &ContainerSpec,
        attempt: u32,
    ) -> Result<ContainerId> {
        fs::create_dir_all(spec.log_directory().join(&container.name))
            .context("cannot make the log folder")?;
        let request = wire::CreateContainerRequest {
            pod_sandbox_id: pod.0.clone(),
            config: Some(config::container(spec, container, attempt)),
            sandbox_config: Some(config::sandbox(spec, 0)?),
        };
        let mut client = self.connection().client();
        let answer =
            self.connection().call("CreateContainer", Box::pin(client.create_container(request))).await?;
        Ok(ContainerId(answer.container_id))
    }

    /// Starts a container that was made.
    ///
    /// # Errors
    /// The runtime cannot start it.
    pub async fn start_created(&self, id: &ContainerId) -> Result<()> {
        let mut client = self.connection().client();
        let request = wire::StartContainerRequest { container_id: id.0.clone() };
        self.connection().call("StartContainer", client.start_container(request)).await?;
        Ok(())
    }

    async fn start(
        &self,
        pod: &PodId,
        spec: &PodSpec,
        container: &ContainerSpec,
        attempt: u32,
    ) -> Result<ContainerId> {
        let id = self.create(pod, spec, container, attempt).await?;
        self.start_created(&id).await.with_context(|| format!("container {}", container.name))?;
        Ok(id)
    }

    /// Starts a container of a running pod anew, as after a crash: one more attempt, the old one stopped if it runs.
    ///
    /// # Errors
    /// The pod was not made here, has no such container, or the runtime refuses.
    pub async fn restart(&self, pod: &Pod, name: &str, grace_s: i64) -> Result<ContainerId> {
        let spec = self.spec_of(pod).await?;
        let container = spec
            .containers
            .iter()
            .find(|c| c.name == name)
            .with_context(|| format!("pod {} has no container {name}", spec.name))?;
        self.restart_as(pod, container, grace_s).await
    }

    /// Starts a container anew as another specification says.
    ///
    /// # Errors
    /// The runtime refuses.
    pub async fn restart_as(
        &self,
        pod: &Pod,
        container: &ContainerSpec,
        grace_s: i64,
    ) -> Result<ContainerId> {
        let spec = self.spec_of(pod).await?;
        let attempts = self.runtime.pod_containers(pod).await?;
        let last = attempts.into_iter().rfind(|c| c.name == container.name);
        let attempt = last.as_ref().map_or(0, |c| c.attempt + 1);
        if let Some(running) = last.filter(|c| c.state == ContainerState::Running) {
            self.stop_container(&running.id, grace_s).await?;
        }
        self.start(&pod.id, &spec, container, attempt).await
    }

    /// Waits until a container has ended.
    ///
    /// # Errors
    /// It does not within `limit`, or is removed.
    pub async fn wait_for_end(&self, id: &ContainerId, limit: Duration) -> Result<Container> {
        let ended = async {
            loop {
                let found = self.runtime.container(id).await?;
                let found = found.with_context(|| format!("container {id} is gone"))?;
                if found.state == ContainerState::Exited {
                    return Ok(found);
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        let late = || format!("container {id} still runs after {} s", limit.as_secs());
        timeout(limit, ended).await.with_context(late)?
    }

    /// Runs a command in a container and waits for its end: what a probe or `kubectl exec` does.
    ///
    /// # Errors
    /// The runtime cannot run it. A command that fails is no error.
    pub async fn exec(&self, id: &ContainerId, command: &[String]) -> Result<ExecOutput> {
        let mut client = self.connection().client();
        let request = wire::ExecSyncRequest { container_id: id.0.clone(), cmd: command.to_vec(), timeout: 0 };
        let answer = self.connection().call("ExecSync", client.exec_sync(request)).await?;
        Ok(ExecOutput { status: answer.exit_code, stdout: answer.stdout, stderr: answer.stderr })
    }

    /// What a container has written to its standard output and error so far.
    ///
    /// # Errors
    /// It has no log.
    pub async fn logs(&self, id: &ContainerId) -> Result<String> {
        let status = self.container_status(id).await?;
        let path = status.status.context("the runtime tells no status")?.log_path;
        let text = fs::read(&path).with_context(|| format!("cannot read {path}"))?;
        Ok(log::messages(&String::from_utf8_lossy(&text)))
    }

    /// The runtime's verbose word about a container: JSON.
    ///
    /// # Errors
    /// It has none, or no such container.
    pub async fn inspect(&self, id: &ContainerId) -> Result<String> {
        self.container_status(id).await?.info.remove("info").context("the runtime tells no details")
    }

    async fn container_status(
        &self,
        id: &ContainerId,
    ) -> Result<wire::ContainerStatusResponse, RuntimeError> {
        let mut client = self.connection().client();
        let request = wire::ContainerStatusRequest { container_id: id.0.clone(), verbose: true };
        self.connection().call("ContainerStatus", client.container_status(request)).await
    }

    /// The pod's address; empty on the host's network.
    ///
    /// # Errors
    /// The runtime refuses.
    pub async fn ip(&self, pod: &PodId) -> Result<String> {
        let mut client = self.connection().client();
        let request = wire::PodSandboxStatusRequest { pod_sandbox_id: pod.0.clone(), verbose: false };
        let answer = self.connection().call("PodSandboxStatus", client.pod_sandbox_status(request)).await?;
        Ok(answer.status.and_then(|status| status.network).unwrap_or_default().ip)
    }

    /// Names of the images that the runtime has.
    ///
    /// # Errors
    /// The runtime refuses.
    pub async fn images(&self) -> Result<Vec<String>> {
        let mut client = self.connection().image_client();
        let answer =
            self.connection().call("ListImages", client.list_images(wire::ListImagesRequest::default()));
        Ok(answer.await?.images.into_iter().flat_map(|image| image.repo_tags).collect())
    }

    /// Stops a pod's containers, each with SIGTERM and after `grace_s` seconds with SIGKILL, then its sandbox.
    ///
    /// # Errors
    /// The runtime fails to, again and again.
    pub async fn stop(&self, pod: &Pod, grace_s: i64) -> Result<()> {
        for container in self.runtime.pod_containers(pod).await? {
            if container.state == ContainerState::Running {
                self.stop_container(&container.id, grace_s).await?;
            }
        }
        let mut client = self.connection().client();
        again(async || {
            let request = wire::StopPodSandboxRequest { pod_sandbox_id: pod.id.0.clone() };
            self.connection().call("StopPodSandbox", client.stop_pod_sandbox(request)).await
        })
        .await?;
        Ok(())
    }

    /// Stops one container.
    ///
    /// # Errors
    /// The runtime fails to, again and again.
    pub async fn stop_container(&self, id: &ContainerId, grace_s: i64) -> Result<()> {
        let mut client = self.connection().client();
        again(async || {
            let request = wire::StopContainerRequest { container_id: id.0.clone(), timeout: grace_s };
            self.connection().call("StopContainer", client.stop_container(request)).await
        })
        .await?;
        Ok(())
    }

    /// Stops and removes a pod with its cgroup and its logs.
    ///
    /// # Errors
    /// The runtime fails to.
    pub async fn remove(&self, pod: &Pod, grace_s: i64) -> Result<()> {
        let spec = self.spec_of(pod).await.ok();
        self.stop(pod, grace_s).await?;
        let mut client = self.connection().client();
        let request = wire::RemovePodSandboxRequest { pod_sandbox_id: pod.id.0.clone() };
        self.connection().call("RemovePodSandbox", client.remove_pod_sandbox(request)).await?;
        if let Some(spec) = spec {
            // Runtimes leave the pod's own cgroup and its logs to kubelet.
            remove_cgroup(&spec.cgroup_parent());
            let _ = fs::remove_dir_all(spec.log_directory());
        }
        Ok(())
    }

    /// The pod by name: the live one, else the newest that has ended.
    ///
    /// # Errors
    /// There is none, or several live ones.
    pub async fn pod(&self, namespace: &str, name: &str) -> Result<Pod> {
        match self.runtime.live_pod(namespace, name).await {
            Err(RuntimeError::PodEnded { .. }) => {
                let pods = self.runtime.pods_named(namespace, name).await?;
                pods.into_iter().next().ok_or_else(|| anyhow!("pod {name} has been removed"))
            }
            other => Ok(other?),
        }
    }

    /// A pod's container by name: its last attempt. Without a name the only one that runs, or the last one made.
    ///
    /// # Errors
    /// There is none, or without a name several run.
    pub async fn container(&self, pod: &Pod, name: Option<&str>) -> Result<Container> {
        let mut found = self.runtime.pod_containers(pod).await?;
        found.retain(|c| name.is_none_or(|name| c.name == name));
        let running = found.iter().filter(|c| c.state == ContainerState::Running);
        let running: Vec<_> = running.map(|c| c.name.as_str()).collect();
        if running.len() > 1 && name.is_none() {
            bail!("pod {} has several containers, name one with -c: {}", pod.name, running.join(", "));
        }
        let last = found.pop();
        let running = found.into_iter().chain(last.clone()).rfind(|c| c.state == ContainerState::Running);
        running.or(last).with_context(|| format!("pod {} has no such container", pod.name))
    }

    /// The description that the pod was made from, which is kept on its sandbox.
    async fn spec_of(&self, pod: &Pod) -> Result<PodSpec> {
        let mut client = self.connection().client();
        let filter = wire::PodSandboxFilter { id: pod.id.0.clone(), ..Default::default() };
        let request = wire::ListPodSandboxRequest { filter: Some(filter) };
        let answer = self.connection().call("ListPodSandbox", client.list_pod_sandbox(request)).await?;
        let sandbox = answer.items.into_iter().next().context("the pod is gone")?;
        let text =
            sandbox.annotations.get(config::SPEC_ANNOTATION).context("the pod was made by somebody else")?;
        serde_json::from_str(text).context("the pod's description cannot be read")
    }
}

/// Asks until the runtime agrees.
async fn again<T>(mut ask: impl AsyncFnMut() -> Result<T, RuntimeError>) -> Result<T, RuntimeError> {
    let mut n_left = N_STOPS;
    loop {
        n_left -= 1;
        match ask().await {
            Err(RuntimeError::Answer { .. }) if n_left > 0 => sleep(Duration::from_millis(300)).await,
            other => return other,
        }
    }
}

/// Removes an empty cgroup from every hierarchy of this machine.
fn remove_cgroup(path: &str) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for line in mounts.lines() {
        let mut fields = line.split(' ').skip(1);
        if let (Some(at), Some("cgroup" | "cgroup2")) = (fields.next(), fields.next()) {
            let _ = fs::remove_dir(Path::new(at).join(path.trim_start_matches('/')));
        }
    }
}
