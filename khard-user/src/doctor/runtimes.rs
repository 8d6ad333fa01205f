//! Container runtimes on this machine: programs and their versions, and the sockets of CRIs and of Docker that answer.
//!
//! Owns looking for them. What they are asked for is `runtime`'s.
use crate::runtime::{
    OciRuntime,
    endpoint::{self, Endpoint, Origin},
    find_out,
};
use serde::Serialize;
use std::{ffi::OsString, path::PathBuf, time::Duration};

/// Programs that start containers, or are asked by those that do.
const PROGRAMS: [&str; 11] = [
    "runc",
    "crun",
    "youki",
    "runsc",
    "kata-runtime",
    "containerd",
    "crio",
    "dockerd",
    "docker",
    "podman",
    "apparmor_parser",
];

/// Where administrators' tools are even if a user's search path leaves them out.
const USUAL_FOLDERS: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// How long one socket may take to answer. khard itself waits longer; here there may be several to try.
const LIMIT: Duration = Duration::from_secs(2);

/// Programs and sockets.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RuntimeFacts {
    pub(crate) programs: Vec<ProgramFile>,
    pub(crate) endpoints: Vec<EndpointFacts>,
}

/// One program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ProgramFile {
    pub(crate) name: &'static str,
    pub(crate) path: PathBuf,
    /// `None` if it does not say.
    pub(crate) version: Option<String>,
}

/// One socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct EndpointFacts {
    /// Its address.
    pub(crate) endpoint: String,
    /// Name and version of the runtime that answers on it.
    pub(crate) answers: Option<String>,
    /// Else the reason.
    pub(crate) problem: Option<String>,
}

impl RuntimeFacts {
    pub(super) async fn gather(option: Option<&str>) -> Self {
        let mut search = std::env::var_os("PATH").unwrap_or_default();
        for folder in USUAL_FOLDERS {
            search.push(":");
            search.push(folder);
        }
        let mut programs = Vec::new();
        for name in PROGRAMS {
            programs.extend(program(name, &search).await);
        }
        let mut endpoints = Vec::new();
        for candidate in candidates(option) {
            endpoints.extend(endpoint_facts(candidate).await);
        }
        Self { programs, endpoints }
    }
}

async fn program(name: &'static str, search: &OsString) -> Option<ProgramFile> {
    let path = crate::runtime::find_in(search, name.as_ref())?;
    let version = OciRuntime::ask(path.clone()).await.version;
    Some(ProgramFile { name, path, version })
}

/// What khard would try, and the well-known sockets that it would then leave aside.
fn candidates(option: Option<&str>) -> Vec<Endpoint> {
    let environment = std::env::var(endpoint::ENDPOINT_VARIABLE).ok();
    let crictl = std::fs::read_to_string(endpoint::CRICTL_CONFIG).ok();
    let mut all = endpoint::candidates(option, environment.as_deref(), crictl.as_deref());
    let docker_host = std::env::var(endpoint::DOCKER_VARIABLE).ok();
    let docker = endpoint::docker_candidates(None, docker_host.as_deref());
    let usual = endpoint::candidates(None, None, None);
    for other in docker.into_iter().chain(endpoint::docker_candidates(None, None)).chain(usual) {
        // /var/run leads to /run.
        let file = |endpoint: &Endpoint| endpoint.path().map(|path| path.canonicalize().unwrap_or(path));
        if all.iter().all(|known| file(known) != file(&other)) {
            all.push(other);
        }
    }
    all
}

/// A well-known socket that is not there is not worth a line; one that somebody named is.
async fn endpoint_facts(candidate: Endpoint) -> Option<EndpointFacts> {
    let is_there = candidate.path().is_some_and(|path| path.exists());
    if candidate.origin == Origin::Default && !is_there {
        return None;
    }
    let (answers, problem) = match find_out(&candidate, LIMIT).await {
        Ok(runtime) => (Some(runtime.describe()), None),
        Err(why) => (None, Some(crate::causes::with_causes(&why))),
    };
    Some(EndpointFacts { endpoint: candidate.text, answers, problem })
}
