//! `pod`: makes pods through a real CRI as kubelet would, for tests and demonstrations.
//!
//! Owns the command line; what kubelet does is in `khard_tests::kubelet`.
use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use khard_tests::kubelet::{ContainerSpec, Kubelet, MountSpec, PodSpec, Seccomp};
use std::{io::Write, path::PathBuf, process::ExitCode};

/// Pods, as kubelet makes them.
#[derive(Debug, Parser)]
#[command(name = "pod")]
struct Cli {
    /// The runtime's CRI socket [default: as khard chooses it]
    #[arg(long, global = true)]
    endpoint: Option<String>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start a pod and print its id, then name and id of each container
    Run(Box<Run>),
    /// Run a command in a container; its exit status is this one's
    Exec {
        #[command(flatten)]
        target: Target,
        /// The command and its arguments
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Stop pods
    Stop(Pods),
    /// Stop and remove pods, with their logs
    Rm(Pods),
    /// Start a container anew: one more attempt
    Restart {
        #[command(flatten)]
        target: Target,
        /// Seconds between SIGTERM and SIGKILL
        #[arg(long, default_value_t = 2)]
        grace: i64,
    },
    /// Wait until a container has ended; its exit status is this one's
    Wait(Target),
    /// List containers
    Ps,
    /// List pods
    Pods,
    /// Print what a container has written
    Logs(Target),
    /// Print a pod's address
    Ip(Target),
    /// Print what the runtime tells of a container, as JSON
    Inspect(Target),
    /// List images
    Images,
    /// Print the runtime's name and version
    Version,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is one switch of the command line")]
struct Run {
    /// The pod's name, and its container's unless --container says otherwise
    #[arg(required_unless_present = "file")]
    name: Option<String>,
    /// The pod's description in JSON; - is standard input
    #[arg(long, conflicts_with_all = ["name", "image"])]
    file: Option<PathBuf>,
    #[arg(long, required_unless_present = "file")]
    image: Option<String>,
    #[arg(long, short, default_value = "default")]
    namespace: String,
    /// The container's name
    #[arg(long, short)]
    container: Option<String>,
    #[arg(long)]
    host_network: bool,
    /// The runtime class's handler
    #[arg(long, default_value = "")]
    runtime: String,
    #[arg(long)]
    cgroup_parent: Option<String>,
    #[arg(long)]
    log_root: Option<PathBuf>,
    /// unconfined, default, or the absolute path of a profile
    #[arg(long, default_value = "unconfined")]
    seccomp: String,
    /// The name of a loaded profile, or unconfined
    #[arg(long)]
    apparmor: Option<String>,
    /// UID or UID:GID
    #[arg(long)]
    user: Option<String>,
    #[arg(long)]
    add_cap: Vec<String>,
    #[arg(long)]
    drop_cap: Vec<String>,
    #[arg(long)]
    no_new_privileges: bool,
    #[arg(long)]
    privileged: bool,
    #[arg(long)]
    read_only: bool,
    /// HOST:CONTAINER[:ro]
    #[arg(long)]
    mount: Vec<String>,
    /// KEY=VALUE
    #[arg(long)]
    env: Vec<String>,
    /// KEY=VALUE, a label of the pod
    #[arg(long)]
    label: Vec<String>,
    /// The command and its arguments, instead of the image's
    #[arg(last = true)]
    command: Vec<String>,
}

#[derive(Debug, Args)]
struct Target {
    pod: String,
    #[arg(long, short, default_value = "default")]
    namespace: String,
    /// The container's name [default: the pod's only one]
    #[arg(long, short)]
    container: Option<String>,
}

#[derive(Debug, Args)]
struct Pods {
    #[arg(required = true, value_name = "POD")]
    names: Vec<String>,
    #[arg(long, short, default_value = "default")]
    namespace: String,
    /// Seconds between SIGTERM and SIGKILL
    #[arg(long, default_value_t = 2)]
    grace: i64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "pod: {error:#}");
            ExitCode::from(125)
        }
    }
}

async fn run(cli: Cli) -> Result<ExitCode> {
    let kubelet = Kubelet::connect(cli.endpoint.as_deref()).await?;
    let mut out = std::io::stdout();
    match cli.verb {
        Verb::Run(run) => {
            let started = kubelet.run(&run.spec()?).await?;
            writeln!(out, "{}", started.id.0)?;
            for (name, id) in started.containers {
                writeln!(out, "{name}\t{id}")?;
            }
        }
        Verb::Exec { target, command } => {
            let said = kubelet.exec(&target.container(&kubelet).await?.id, &command).await?;
            out.write_all(&said.stdout)?;
            std::io::stderr().write_all(&said.stderr)?;
            return Ok(exit_code(said.status));
        }
        Verb::Stop(pods) => {
            for name in &pods.names {
                kubelet.stop(&kubelet.pod(&pods.namespace, name).await?, pods.grace).await?;
            }
        }
        Verb::Rm(pods) => {
            for name in &pods.names {
                kubelet.remove(&kubelet.pod(&pods.namespace, name).await?, pods.grace).await?;
            }
        }
        Verb::Restart { target, grace } => {
            let container = target.container(&kubelet).await?;
            let pod = container.pod.context("a container without a pod")?;
            writeln!(out, "{}", kubelet.restart(&pod, &container.name, grace).await?)?;
        }
        Verb::Wait(target) => {
            let id = target.container(&kubelet).await?.id;
            let ended = kubelet.wait_for_end(&id, std::time::Duration::MAX).await?;
            return Ok(exit_code(ended.exit_code.unwrap_or(-1)));
        }
        Verb::Ps => {
            for c in kubelet.runtime().containers().await? {
                let (state, pod) = (c.state.as_str(), c.pod.context("a container without a pod")?);
                writeln!(
                    out,
                    "{}\t{state}\t{}/{}\t{}\t{}\t{}",
                    c.id, pod.namespace, pod.name, c.name, c.attempt, c.image
                )?;
            }
        }
        Verb::Pods => {
            for pod in kubelet.runtime().pods().await? {
                let state = if pod.is_ready { "ready" } else { "notready" };
                writeln!(out, "{}\t{state}\t{}/{}\t{}", pod.id.0, pod.namespace, pod.name, pod.attempt)?;
            }
        }
        Verb::Logs(target) => write!(out, "{}", kubelet.logs(&target.container(&kubelet).await?.id).await?)?,
        Verb::Ip(target) => {
            let pod = kubelet.pod(&target.namespace, &target.pod).await?;
            writeln!(out, "{}", kubelet.ip(&pod.id).await?)?;
        }
        Verb::Inspect(target) => {
            writeln!(out, "{}", kubelet.inspect(&target.container(&kubelet).await?.id).await?)?;
        }
        Verb::Images => {
            for name in kubelet.images().await? {
                writeln!(out, "{name}")?;
            }
        }
        Verb::Version => {
            let version = kubelet.runtime().version();
            writeln!(out, "{} {}", version.name, version.version)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn exit_code(status: i32) -> ExitCode {
    u8::try_from(status).map_or(ExitCode::FAILURE, ExitCode::from)
}

impl Target {
    async fn container(&self, kubelet: &Kubelet) -> Result<khard_user::runtime::Container> {
        let pod = kubelet.pod(&self.namespace, &self.pod).await?;
        kubelet.container(&pod, self.container.as_deref()).await
    }
}

impl Run {
    fn spec(self) -> Result<PodSpec> {
        if let Some(file) = self.file {
            let text = if file.as_os_str() == "-" {
                std::io::read_to_string(std::io::stdin())?
            } else {
                std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?
            };
            return serde_json::from_str(&text)
                .with_context(|| format!("{} describes no pod", file.display()));
        }
        let name = self.name.context("a pod needs a name")?;
        let (user, group) = self.user.as_deref().map(user_and_group).transpose()?.unzip();
        let container = ContainerSpec {
            name: self.container.unwrap_or_else(|| name.clone()),
            image: self.image.context("a pod needs an image")?,
            command: self.command,
            args: Vec::new(),
            env: pairs(&self.env)?,
            mounts: self.mount.iter().map(|text| mount(text)).collect::<Result<_>>()?,
            seccomp: Seccomp::from(self.seccomp),
            apparmor: self.apparmor,
            user,
            group: group.flatten(),
            add_capabilities: self.add_cap,
            drop_capabilities: self.drop_cap,
            no_new_privileges: self.no_new_privileges,
            privileged: self.privileged,
            read_only_root: self.read_only,
        };
        let spec = PodSpec::new(&name, container);
        Ok(PodSpec {
            namespace: self.namespace,
            labels: pairs(&self.label)?,
            host_network: self.host_network,
            runtime_handler: self.runtime,
            cgroup_parent: self.cgroup_parent,
            log_root: self.log_root.unwrap_or_else(|| spec.log_root.clone()),
            ..spec
        })
    }
}

fn pairs<T: FromIterator<(String, String)>>(texts: &[String]) -> Result<T> {
    let split = |text: &String| {
        let (key, value) = text.split_once('=').with_context(|| format!("{text} is not KEY=VALUE"))?;
        Ok((key.to_owned(), value.to_owned()))
    };
    texts.iter().map(split).collect()
}

fn user_and_group(text: &str) -> Result<(i64, Option<i64>)> {
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    Ok((user.parse()?, group.map(str::parse).transpose()?))
}

fn mount(text: &str) -> Result<MountSpec> {
    let mut parts = text.split(':');
    let (host, container) =
        (parts.next().unwrap_or_default(), parts.next().context("a mount is HOST:CONTAINER[:ro]")?);
    Ok(MountSpec { host: host.into(), container: container.into(), read_only: parts.next() == Some("ro") })
}
