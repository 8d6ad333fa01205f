//! Which runtimes are asked, with a CRI and a Docker that are not there.
use super::*;
use crate::runtime::{cri::fake::Fake as FakeCri, find_container};
use crate::runtime::{cri::fake::PATIENT, docker::fake::Fake as FakeDocker};
use std::path::Path;

fn usual(endpoint: Endpoint) -> Endpoint {
    Endpoint { origin: Origin::Default, ..endpoint }
}

fn at(path: &Path) -> Endpoint {
    Endpoint { text: path.display().to_string(), origin: Origin::Default }
}

async fn kinds(
    cri: Vec<Endpoint>,
    docker: Vec<Endpoint>,
    wanted: Wanted<'_>,
) -> Result<Vec<bool>, RuntimeError> {
    let runtimes = connect_to(Places { cri, docker }, wanted, PATIENT).await?;
    Ok(runtimes.iter().map(Runtime::has_pods).collect())
}

#[tokio::test]
async fn a_socket_is_what_it_speaks_and_not_what_it_is_called() {
    let (cri, docker) = (FakeCri::start(), FakeDocker::start());
    assert!(find_out(&cri.endpoint(), PATIENT).await.expect("it answers").has_pods());
    assert!(!find_out(&docker.endpoint(), PATIENT).await.expect("it answers").has_pods());
}

#[tokio::test]
async fn containers_are_both_s_and_pods_and_docker_run_only_one_s() {
    let (cri, docker) = (FakeCri::start(), FakeDocker::start());
    let places = || (vec![usual(cri.endpoint())], vec![usual(docker.endpoint())]);
    for (wanted, expected) in [
        (Wanted::Containers, vec![true, false]),
        (Wanted::Pods, vec![true]),
        (Wanted::DockerRun { host: None, and_others: false }, vec![false]),
        (Wanted::DockerRun { host: None, and_others: true }, vec![true, false]),
    ] {
        let (cri, docker) = places();
        assert_eq!(kinds(cri, docker, wanted).await.expect("both answer"), expected, "{wanted:?}");
    }
    // A container is found in whichever has it.
    cri.add_pod("p", "default", "web");
    cri.set_container("p", "aa1", "nginx", crate::runtime::cri::generated::ContainerState::ContainerRunning);
    docker.set_container("bb2", "web", "running");
    let (of_cri, of_docker) = places();
    let both = Places { cri: of_cri, docker: of_docker };
    let both = connect_to(both, Wanted::Containers, PATIENT).await.expect("both answer");
    for (key, has_pods) in [("nginx", true), ("web", false), ("bb", false)] {
        let (runtime, _) = find_container(&both, key).await.expect("it is there");
        assert_eq!(runtime.has_pods(), has_pods, "{key}");
    }
    let nobody = find_container(&both, "nobody").await.expect_err("neither has it").to_string();
    assert!(nobody.contains("(asked fake 1.2, docker 20.10.24)"), "{nobody}");
}

#[tokio::test]
async fn one_that_nobody_named_may_be_missing_and_one_that_was_named_may_not() {
    let dir = tempfile::tempdir().expect("a folder");
    let (gone, plain) = (dir.path().join("gone"), dir.path().join("plain"));
    std::fs::write(&plain, "").expect("written");
    let docker = FakeDocker::start();
    let found = kinds(vec![at(&gone)], vec![at(&plain), usual(docker.endpoint())], Wanted::Containers);
    assert_eq!(found.await.expect("the last one answers"), [false]);
    let none = kinds(vec![at(&gone)], vec![at(&plain)], Wanted::Containers).await.expect_err("none answers");
    let expected = format!("{}: no such file; {}: not a socket", gone.display(), plain.display());
    assert!(none.to_string().contains(&expected), "{none}");
    let named = Endpoint { origin: Origin::Environment, ..at(&gone) };
    for wanted in [Wanted::Containers, Wanted::Pods] {
        let named = kinds(vec![named.clone()], vec![docker.endpoint()], wanted).await;
        assert!(matches!(named, Err(RuntimeError::Endpoint { why: Unusable::Missing, .. })), "{named:?}");
    }
}

#[tokio::test]
async fn what_only_one_kind_can_do_is_not_asked_of_the_other() {
    let (cri, docker) = (FakeCri::start(), FakeDocker::start());
    let no_pods = kinds(vec![docker.endpoint()], Vec::new(), Wanted::Pods).await;
    assert!(matches!(no_pods, Err(RuntimeError::NoPods { .. })), "{no_pods:?}");
    for and_others in [false, true] {
        let wanted = Wanted::DockerRun { host: None, and_others };
        let no_docker = kinds(vec![cri.endpoint()], Vec::new(), wanted).await;
        assert!(matches!(no_docker, Err(RuntimeError::NotDocker { .. })), "{no_docker:?}");
        // Where nobody named one, what is missing is Docker.
        let gone = at(Path::new("/nowhere/docker.sock"));
        let missing = kinds(vec![usual(cri.endpoint())], vec![gone], wanted).await.expect_err("no Docker");
        assert!(missing.to_string().contains("/nowhere/docker.sock: no such file"), "{missing}");
    }
}
