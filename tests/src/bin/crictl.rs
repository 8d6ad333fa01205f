//! A `crictl` for guests, which have none: Debian has no package of it. It takes those words and files of the real one that
//! docs/tutorial.md uses, and refuses all others, so that the tutorial's own commands can be run by a test.
//!
//! Words and output are those of <https://github.com/kubernetes-sigs/cri-tools>, docs/crictl.md and cmd/crictl/exec.go; the files
//! are the CRI's messages as JSON, keys named as in its api.proto. Unlike the real one it reaches no registry: what it is to pull has to be
//! there.
use std::{
    fs,
    io::{Write as _, stderr, stdout},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use khard_tests::kubelet::Kubelet;
use khard_user::runtime::{ContainerId, cri::generated as wire};
use serde::{Deserialize, de::DeserializeOwned};

/// Pods and containers of a runtime that speaks CRI.
#[derive(Debug, Parser)]
#[command(name = "crictl")]
enum Cli {
    /// Say that an image is there
    Pull { image: String },
    /// Start a pod without containers, and print its id
    Runp { config: PathBuf },
    /// Make a container in a pod, and print its id
    Create { pod: String, config: PathBuf, pod_config: PathBuf },
    /// Start a container that was made
    Start { container: String },
    /// Run a command in a container
    Exec {
        container: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
    /// Stop and remove pods
    Rmp {
        #[arg(short, required = true)]
        force: bool,
        #[arg(required = true)]
        pods: Vec<String>,
    },
}

/// `PodSandboxConfig`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pod {
    metadata: PodMetadata,
    #[serde(default)]
    linux: Linux,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PodMetadata {
    name: String,
    namespace: String,
    uid: String,
}

/// `ContainerConfig`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Container {
    metadata: ContainerMetadata,
    image: Image,
    #[serde(default)]
    command: Vec<String>,
    #[serde(default)]
    linux: Linux,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ContainerMetadata {
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Image {
    image: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Linux {
    #[serde(default)]
    security_context: SecurityContext,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct SecurityContext {
    #[serde(default)]
    namespace_options: Namespaces,
    seccomp: Option<Profile>,
    apparmor: Option<Profile>,
}

/// Modes by their numbers: 0 the pod's, 1 the container's, 2 the node's.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Namespaces {
    #[serde(default)]
    network: i32,
    #[serde(default)]
    pid: i32,
}

/// Types by their numbers: 0 the runtime's default, 1 unconfined, 2 the node's.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Profile {
    profile_type: i32,
    #[serde(default)]
    localhost_ref: String,
}

impl Pod {
    fn into_wire(self) -> wire::PodSandboxConfig {
        let PodMetadata { name, namespace, uid } = self.metadata;
        let context = wire::LinuxSandboxSecurityContext {
            namespace_options: Some(self.linux.security_context.namespace_options.into_wire()),
            ..Default::default()
        };
        wire::PodSandboxConfig {
            metadata: Some(wire::PodSandboxMetadata { name, uid, namespace, attempt: 0 }),
            linux: Some(wire::LinuxPodSandboxConfig {
                security_context: Some(context),
                ..Default::default()
            }),
            ..Default::default()
        }
    }
}

impl Container {
    fn into_wire(self) -> wire::ContainerConfig {
        let context = self.linux.security_context;
        let context = wire::LinuxContainerSecurityContext {
            namespace_options: Some(context.namespace_options.into_wire()),
            seccomp: context.seccomp.map(Profile::into_wire),
            apparmor: context.apparmor.map(Profile::into_wire),
            ..Default::default()
        };
        wire::ContainerConfig {
            metadata: Some(wire::ContainerMetadata { name: self.metadata.name, attempt: 0 }),
            image: Some(wire::ImageSpec { image: self.image.image, ..Default::default() }),
            command: self.command,
            linux: Some(wire::LinuxContainerConfig { security_context: Some(context), ..Default::default() }),
            ..Default::default()
        }
    }
}

impl Namespaces {
    fn into_wire(self) -> wire::NamespaceOption {
        wire::NamespaceOption { network: self.network, pid: self.pid, ..Default::default() }
    }
}

impl Profile {
    fn into_wire(self) -> wire::SecurityProfile {
        wire::SecurityProfile { profile_type: self.profile_type, localhost_ref: self.localhost_ref }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(stderr(), "crictl: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<ExitCode> {
    let kubelet = Kubelet::connect(None).await?;
    let connection = kubelet.connection();
    let mut client = connection.client();
    match cli {
        Cli::Pull { image } => {
            let images = kubelet.images().await?;
            ensure!(
                images.contains(&image),
                "no registry here, and of {image} there is nothing among {images:?}"
            );
            writeln!(stdout(), "Image is up to date for {image}")?;
        }
        Cli::Runp { config } => {
            let config = read::<Pod>(&config)?.into_wire();
            let request = wire::RunPodSandboxRequest { config: Some(config), ..Default::default() };
            let made = connection.call("RunPodSandbox", Box::pin(client.run_pod_sandbox(request))).await?;
            writeln!(stdout(), "{}", made.pod_sandbox_id)?;
        }
        Cli::Create { pod, config, pod_config } => {
            let request = wire::CreateContainerRequest {
                pod_sandbox_id: pod,
                config: Some(read::<Container>(&config)?.into_wire()),
                sandbox_config: Some(read::<Pod>(&pod_config)?.into_wire()),
            };
            let made = connection.call("CreateContainer", Box::pin(client.create_container(request))).await?;
            writeln!(stdout(), "{}", made.container_id)?;
        }
        Cli::Start { container } => {
            kubelet.start_created(&ContainerId(container.clone())).await?;
            writeln!(stdout(), "{container}")?;
        }
        Cli::Exec { container, command } => {
            let said = kubelet.exec(&ContainerId(container), &command).await?;
            stdout().write_all(&said.stdout)?;
            stderr().write_all(&said.stderr)?;
            if said.status != 0 {
                bail!("command terminated with exit code {}", said.status);
            }
        }
        Cli::Rmp { force: _, pods } => {
            for id in pods {
                let all = kubelet.runtime().pods().await?;
                let pod = all.iter().find(|pod| pod.id.0 == id).with_context(|| format!("no pod {id}"))?;
                kubelet.remove(pod, 0).await?;
                writeln!(stdout(), "Removed sandbox {id}")?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn read<T: DeserializeOwned>(path: &PathBuf) -> Result<T> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("in {}", path.display()))
}
