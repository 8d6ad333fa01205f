//! Pods with what is done to them: requests and exec'd commands, whose answers are the same each time. Owns the
//! questions; it must not know under which profile they are asked.

#![expect(clippy::missing_panics_doc, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use khard_user::runtime::ContainerState;

use super::{BUSYBOX, NGINX, REDIS, TestPod, container, http, redis, unique};
use crate::kubelet::{ContainerSpec, MountSpec, PodSpec, Seccomp};

/// What a pod answered to each question.
pub type Answers = BTreeMap<String, String>;

/// What a user types into `kubectl exec`: a shell with a pipe, and one call that no server makes, `sync`.
const SHELL: &[&str] = &["sh", "-c", "id; ls /etc; echo pod | tr a-z A-Z; sync"];

/// A kind of pod.
pub struct Workload {
    /// Its name, and its pods' names begin so.
    pub name: &'static str,
    init_containers: Vec<ContainerSpec>,
    containers: Vec<ContainerSpec>,
    /// Fails while it does not serve yet.
    serves: fn(&TestPod<'_>) -> Result<()>,
    ask: fn(&TestPod<'_>) -> Result<Answers>,
}

impl Workload {
    /// nginx, with a page.
    pub fn nginx() -> Self {
        Self {
            name: "nginx",
            init_containers: Vec::new(),
            containers: vec![container("nginx", NGINX, &[])],
            serves: |pod| serves_http(pod, 80),
            ask: |pod| {
                let mut answers = ask_nginx(pod)?;
                ask_exec(pod, "nginx", SHELL, &mut answers)?;
                // Last: what all that left behind.
                answers.insert("errors".to_owned(), nginx_errors(pod, "nginx")?);
                Ok(answers)
            },
        }
    }

    /// redis, which saves its data.
    pub fn redis() -> Self {
        Self {
            name: "redis",
            init_containers: Vec::new(),
            containers: vec![container("redis", REDIS, &[])],
            serves: |pod| {
                redis(&pod.ip()?, &["PING"])?;
                Ok(())
            },
            ask: |pod| {
                let mut answers = Answers::new();
                let commands =
                    ["SET greeting hello", "APPEND greeting !", "INCR count", "RPUSH list a b c", "SAVE"];
                let said = redis(&pod.ip()?, &commands).context("commands")?;
                answers.extend(commands.iter().map(|&command| command.to_owned()).zip(said));
                ask_exec(pod, "redis", &["redis-cli", "STRLEN", "greeting"], &mut answers)?;
                ask_exec(pod, "redis", SHELL, &mut answers)?;
                answers.insert("errors".to_owned(), redis_warnings(pod)?);
                Ok(answers)
            },
        }
    }

    /// An init container that writes a file to `shared`, nginx, and another server that shows the file.
    pub fn two_containers(shared: &Path) -> Self {
        let with_data = |container: ContainerSpec| {
            let data = MountSpec { host: shared.to_owned(), container: "/data".into(), read_only: false };
            ContainerSpec { mounts: vec![data], ..container }
        };
        let prepare = ["sh", "-c", "mkdir -p /data/www && date > /dev/null && echo ready > /data/www/state"];
        let serve = [
            "sh",
            "-c",
            "trap 'exit 0' TERM; httpd -p 8080 -h /data/www; while :; do sleep 1 & wait $!; done",
        ];
        Self {
            name: "two",
            init_containers: vec![with_data(container("prepare", BUSYBOX, &prepare))],
            containers: vec![container("nginx", NGINX, &[]), with_data(container("side", BUSYBOX, &serve))],
            serves: |pod| serves_http(pod, 80).and_then(|()| serves_http(pod, 8080)),
            ask: |pod| {
                let mut answers = ask_nginx(pod)?;
                answers.insert("GET :8080/state".to_owned(), http(&pod.ip()?, 8080, "/state")?);
                ask_exec(pod, "nginx", SHELL, &mut answers)?;
                ask_exec(pod, "side", &["cat", "/data/www/state"], &mut answers)?;
                answers.insert("errors".to_owned(), nginx_errors(pod, "nginx")?);
                Ok(answers)
            },
        }
    }

    /// The names of its containers, in the order of their start.
    pub fn containers(&self) -> Vec<String> {
        self.init_containers.iter().chain(&self.containers).map(|container| container.name.clone()).collect()
    }

    /// A new pod.
    pub fn spec(&self, handler: &str) -> PodSpec {
        let first = self.containers.first().expect("a pod has a container").clone();
        PodSpec {
            runtime_handler: handler.to_owned(),
            init_containers: self.init_containers.clone(),
            containers: self.containers.clone(),
            ..PodSpec::new(&unique(self.name), first)
        }
    }

    /// A new pod with the profile in the file that each container's name gives.
    pub fn confined(&self, handler: &str, profile: impl Fn(&str) -> std::path::PathBuf) -> PodSpec {
        let mut spec = self.spec(handler);
        for container in spec.init_containers.iter_mut().chain(&mut spec.containers) {
            container.seccomp = Seccomp::Localhost(profile(&container.name));
        }
        spec
    }

    /// Waits until a pod serves.
    ///
    /// # Errors
    /// A container has ended, or it does not serve within `limit`.
    pub fn wait_to_serve(&self, pod: &TestPod<'_>, limit: Duration) -> Result<()> {
        let began = Instant::now();
        loop {
            let Err(error) = (self.serves)(pod) else { return Ok(()) };
            for container in &self.containers {
                let found = pod.find(&container.name)?;
                if found.state == ContainerState::Exited {
                    let said = pod.logs(&container.name).unwrap_or_default();
                    let last = said.lines().last().unwrap_or_default();
                    bail!("{} ended with {:?}: {last}", container.name, found.exit_code.unwrap_or(-1));
                }
            }
            if began.elapsed() > limit {
                return Err(error.context(format!("does not serve within {} s", limit.as_secs())));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks all questions of a pod that serves.
    ///
    /// # Errors
    /// No answer to one of them.
    pub fn ask(&self, pod: &TestPod<'_>) -> Result<Answers> {
        (self.ask)(pod)
    }

    /// Stops a pod, whose last answers are its containers' exit statuses.
    ///
    /// # Errors
    /// It does not stop.
    pub fn stop(&self, pod: &TestPod<'_>) -> Result<Answers> {
        pod.try_stop()?;
        let ended = |container: &ContainerSpec| {
            let status = pod.find(&container.name)?.exit_code.context("a container without an end")?;
            Ok((format!("exit status of {}", container.name), status.to_string()))
        };
        self.containers.iter().map(ended).collect()
    }
}

fn serves_http(pod: &TestPod<'_>, port: u16) -> Result<()> {
    http(&pod.ip()?, port, "/")?;
    Ok(())
}

fn ask_nginx(pod: &TestPod<'_>) -> Result<Answers> {
    let ip = pod.ip()?;
    let mut answers = Answers::new();
    for path in ["/", "/missing"] {
        answers.insert(format!("GET {path}"), http(&ip, 80, path).with_context(|| format!("GET {path}"))?);
    }
    for _ in 0..10 {
        ensure!(http(&ip, 80, "/").context("GET / again")? == answers["GET /"], "GET / has another answer");
    }
    Ok(answers)
}

fn ask_exec(pod: &TestPod<'_>, container: &str, command: &[&str], answers: &mut Answers) -> Result<()> {
    let question = format!("exec in {container}: {}", command.join(" "));
    let output = pod.try_exec(container, command).with_context(|| question.clone())?;
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    answers.insert(question, format!("status {}\n{stdout}{stderr}", output.status));
    Ok(())
}

/// nginx's error log without times and process ids. It is read from outside, since exec may be what is broken.
fn nginx_errors(pod: &TestPod<'_>, container: &str) -> Result<String> {
    let pid = *pod.processes(container).first().context("the container has no process")?;
    let log = fs::read_to_string(format!("/proc/{pid}/root/var/log/nginx/error.log"))?;
    // DATE TIME [LEVEL] PID#TID: *CONNECTION TEXT, client: … : https://nginx.org/en/docs/ngx_core_module.html#error_log
    let text = |line: &str| {
        let words: Vec<_> =
            line.split(' ').skip(2).filter(|word| !word.contains('#') && !word.starts_with('*')).collect();
        words.join(" ").split(", client:").next().unwrap_or_default().to_owned()
    };
    Ok(log.lines().map(text).collect::<Vec<_>>().join("\n"))
}

/// The warnings in redis' log, without times and process ids: `PID:ROLE DATE LEVEL TEXT`, where `#` is a warning.
fn redis_warnings(pod: &TestPod<'_>) -> Result<String> {
    let log = pod.logs("redis")?;
    let warnings = log.lines().filter_map(|line| line.split_once(" # ")).map(|(_, text)| text);
    Ok(warnings.collect::<Vec<_>>().join("\n"))
}
