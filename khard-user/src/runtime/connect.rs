//! Which of the machine's runtimes are asked. Owns what a socket is found to be, and what it means when one of several is missing; it
//! must not know what they are asked for.
use super::{
    Runtime, cri, describe_all, docker,
    endpoint::{self, Endpoint, Origin},
    error::{RuntimeError, Tried, Unusable},
};
use std::time::Duration;

/// How long a runtime may take for one answer.
pub const DEFAULT_LIMIT: Duration = Duration::from_secs(5);

/// What the runtimes are wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted<'a> {
    /// Pods: only a CRI has them.
    Pods,
    /// What `docker run` starts, which only Docker has.
    DockerRun {
        /// The daemon's address, if the command says it.
        host: Option<&'a str>,
        /// Other containers too, whoever has them.
        and_others: bool,
    },
    /// Containers, whoever has them.
    Containers,
}

/// Connects to the runtimes: to the one at `option`, of whichever kind, else to the first CRI of the environment's, crictl's and the
/// well-known ones, and to Docker where the environment or custom has it.
///
/// # Errors
/// `Endpoint` for one that was named and cannot be used, `NoEndpoint` with what was tried when there is none, `NoPods`.
pub async fn connect(option: Option<&str>, wanted: Wanted<'_>) -> Result<Vec<Runtime>, RuntimeError> {
    let environment = std::env::var(endpoint::ENDPOINT_VARIABLE).ok();
    let crictl = std::fs::read_to_string(endpoint::CRICTL_CONFIG).ok();
    let docker_host = std::env::var(endpoint::DOCKER_VARIABLE).ok();
    let of_command = match wanted {
        Wanted::DockerRun { host, .. } => host,
        Wanted::Pods | Wanted::Containers => None,
    };
    let places = Places {
        cri: endpoint::candidates(option, environment.as_deref(), crictl.as_deref()),
        docker: endpoint::docker_candidates(of_command, docker_host.as_deref()),
    };
    connect_to(places, wanted, DEFAULT_LIMIT).await
}

/// Where to look for runtimes of each kind.
#[derive(Debug, Clone)]
struct Places {
    cri: Vec<Endpoint>,
    docker: Vec<Endpoint>,
}

async fn connect_to(
    places: Places,
    wanted: Wanted<'_>,
    limit: Duration,
) -> Result<Vec<Runtime>, RuntimeError> {
    let Places { cri, docker } = places;
    let is_by_option = cri.first().is_some_and(|first| first.origin == Origin::Option);
    let runtimes = match wanted {
        _ if is_by_option => vec![first_of(cri, limit).await?],
        Wanted::DockerRun { and_others: false, .. } => vec![first_of(docker, limit).await?],
        Wanted::Pods => vec![first_of(cri, limit).await?],
        Wanted::Containers | Wanted::DockerRun { and_others: true, .. } => {
            let (cri, docker) = tokio::join!(first_of(cri, limit), first_of(docker, limit));
            // Who is to start a container must be there.
            let docker = if wanted == Wanted::Containers { docker } else { Ok(docker?) };
            match (cri, docker) {
                (Ok(cri), Ok(docker)) if cri.socket() == docker.socket() => vec![cri],
                (Ok(cri), Ok(docker)) => vec![cri, docker],
                (Ok(one), Err(RuntimeError::NoEndpoint { .. }))
                | (Err(RuntimeError::NoEndpoint { .. }), Ok(one)) => vec![one],
                (
                    Err(RuntimeError::NoEndpoint { tried: mut all }),
                    Err(RuntimeError::NoEndpoint { tried }),
                ) => {
                    all.extend(tried);
                    return Err(RuntimeError::NoEndpoint { tried: all });
                }
                (Err(named), _) | (_, Err(named)) => return Err(named),
            }
        }
    };
    match wanted {
        Wanted::Pods if !runtimes.iter().any(Runtime::has_pods) => {
            Err(RuntimeError::NoPods { runtime: describe_all(&runtimes) })
        }
        Wanted::DockerRun { .. } if runtimes.iter().all(Runtime::has_pods) => {
            Err(RuntimeError::NotDocker { runtime: describe_all(&runtimes) })
        }
        _ => Ok(runtimes),
    }
}

/// The first that can be used. One that was named stands alone.
async fn first_of(candidates: Vec<Endpoint>, limit: Duration) -> Result<Runtime, RuntimeError> {
    let mut tried = Vec::new();
    for candidate in candidates {
        let why = match find_out(&candidate, limit).await {
            Ok(runtime) => return Ok(runtime),
            Err(why) => why,
        };
        let Endpoint { text: endpoint, origin } = candidate;
        if origin != Origin::Default {
            return Err(RuntimeError::Endpoint { endpoint, origin, why });
        }
        tried.push(Tried { endpoint, why });
    }
    Err(RuntimeError::NoEndpoint { tried })
}

/// Asks a socket in both languages, since its name says nothing for certain. What the CRI has against it says more.
pub(crate) async fn find_out(endpoint: &Endpoint, limit: Duration) -> Result<Runtime, Unusable> {
    let (docker, cri) = tokio::join!(
        docker::connection::Connection::open_one(endpoint, limit),
        cri::connection::Connection::open_one(endpoint, limit)
    );
    match (docker, cri) {
        (Ok(docker), _) => Ok(Runtime::Docker(docker)),
        (_, Ok(cri)) => Ok(Runtime::Cri(Box::new(cri))),
        // HTTP is spoken there, by a Docker that is too old or by another.
        (Err(why @ (Unusable::OldDocker(_) | Unusable::NoVersion(_))), _) | (_, Err(why)) => Err(why),
    }
}

#[cfg(test)]
mod tests;
