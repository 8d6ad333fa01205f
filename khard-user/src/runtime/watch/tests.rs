//! The stream of changes, against a runtime that has events or none, dies and comes back.
use super::*;
use crate::runtime::cri::{
    fake::{Fake, Manner, PATIENT},
    generated as wire,
};
use wire::ContainerState::{ContainerCreated, ContainerExited, ContainerRunning};

/// One change in a word and the name of what changed.
fn told(change: &Change) -> String {
    match change {
        Change::PodAppeared(pod) => format!("pod appeared {}", pod.name),
        Change::PodEnded(pod) => format!("pod ended {}", pod.name),
        Change::PodRemoved(pod) => format!("pod removed {}", pod.name),
        Change::Appeared(c) => format!("appeared {}", c.name),
        Change::Started(c) => format!("started {}", c.name),
        Change::Stopped(c) => format!("stopped {} {}", c.name, c.exit_code.unwrap_or(-1)),
        Change::Removed(c) => format!("removed {}", c.name),
        Change::RuntimeLost(_) => "lost".to_owned(),
        Change::RuntimeBack => "back".to_owned(),
    }
}

async fn expect(watch: &mut Watch, expected: &[&str]) {
    for expected in expected {
        let change = tokio::time::timeout(PATIENT, std::future::poll_fn(|cx| watch.poll_next(cx)))
            .await
            .expect("it is told in time");
        let change = change.expect("a watch does not end by itself");
        assert_eq!(told(&change), *expected);
    }
}

/// No list by itself: whatever is told then has another reason.
const NEVER: Pace = Pace { fast: Duration::from_hours(24), slow: Duration::from_hours(24) };

fn web() -> WatchFilter {
    WatchFilter { namespace: Some("default".into()), pod: Some("web".into()), container: None }
}

#[tokio::test]
async fn a_pod_s_life_is_told_in_order_and_others_are_left_out() {
    let fake = Fake::start();
    fake.state().manners.insert("GetContainerEvents", Manner::Unimplemented);
    fake.add_pod("other", "prod", "web");
    fake.set_container("other", "x", "nginx", ContainerRunning);
    let mut watch = fake.runtime().await.watch(web());
    fake.add_pod("p", "default", "web");
    expect(&mut watch, &["pod appeared web"]).await;
    fake.set_container("p", "i", "init", ContainerExited);
    expect(&mut watch, &["appeared init", "started init", "stopped init 7"]).await;
    fake.set_container("p", "n", "nginx", ContainerCreated);
    expect(&mut watch, &["appeared nginx"]).await;
    fake.set_container("p", "n", "nginx", ContainerRunning);
    expect(&mut watch, &["started nginx"]).await;
    fake.set_container("p", "n", "nginx", ContainerExited);
    expect(&mut watch, &["stopped nginx 7"]).await;
    fake.state().pods[1].state = wire::PodSandboxState::SandboxNotready as i32;
    expect(&mut watch, &["pod ended web"]).await;
    fake.state().containers.clear();
    expect(&mut watch, &["removed init", "removed nginx"]).await;
    fake.state().pods.clear();
    expect(&mut watch, &["pod removed web"]).await;
}

#[tokio::test]
async fn a_container_that_never_started_is_not_told_to_have_started() {
    let fake = Fake::start();
    fake.add_pod("p", "default", "web");
    fake.set_container("p", "n", "nginx", ContainerExited);
    fake.state().statuses.get_mut("n").expect("it was added").0.started_at = 0;
    let mut watch = fake.runtime().await.watch(web());
    expect(&mut watch, &["pod appeared web", "appeared nginx", "stopped nginx 7"]).await;
}

#[tokio::test]
async fn an_event_of_the_runtime_brings_the_next_list_at_once() {
    let fake = Fake::start();
    fake.add_pod("p", "default", "web");
    fake.set_container("p", "n", "nginx", ContainerRunning);
    let mut watch = fake.runtime().await.watch_at(NEVER, web());
    expect(&mut watch, &["pod appeared web", "appeared nginx", "started nginx"]).await;
    while fake.n_listeners() == 0 {
        tokio::task::yield_now().await;
    }
    fake.set_container("p", "n", "nginx", ContainerExited);
    fake.emit().await;
    expect(&mut watch, &["stopped nginx 7"]).await;
}

#[tokio::test]
async fn a_runtime_that_dies_is_told_lost_and_back_with_what_changed_meanwhile() {
    let mut fake = Fake::start();
    fake.add_pod("p", "default", "web");
    fake.set_container("p", "n", "nginx", ContainerRunning);
    let mut watch = fake.runtime().await.watch(web());
    expect(&mut watch, &["pod appeared web", "appeared nginx", "started nginx"]).await;
    fake.state().manners.insert("ListContainers", Manner::Die);
    fake.dead().await;
    expect(&mut watch, &["lost"]).await;
    fake.set_container("p", "n", "nginx", ContainerExited);
    fake.state().manners.clear();
    fake.listen();
    expect(&mut watch, &["back", "stopped nginx 7"]).await;
}

#[tokio::test]
async fn a_runtime_that_hangs_is_told_lost_and_back() {
    let fake = Fake::start();
    fake.add_pod("p", "default", "web");
    fake.state().manners.insert("ListPodSandbox", Manner::Hang);
    let mut watch = fake.impatient_runtime().await.watch(web());
    expect(&mut watch, &["lost"]).await;
    fake.state().manners.clear();
    expect(&mut watch, &["back", "pod appeared web"]).await;
}

#[tokio::test]
async fn asking_for_a_look_brings_the_next_list_at_once() {
    let fake = Fake::start();
    fake.state().manners.insert("GetContainerEvents", Manner::Unimplemented);
    fake.add_pod("p", "default", "web");
    let mut watch = fake.runtime().await.watch_at(NEVER, web());
    expect(&mut watch, &["pod appeared web"]).await;
    fake.set_container("p", "n", "nginx", ContainerCreated);
    watch.look_now();
    expect(&mut watch, &["appeared nginx"]).await;
}

#[tokio::test]
async fn docker_s_containers_are_told_in_the_same_way_and_its_events_bring_a_list_at_once() {
    let fake = crate::runtime::docker::fake::Fake::start();
    fake.set_container("w", "web", "created");
    let runtime = Runtime::Docker(fake.connection().await);
    let mut watch = runtime.watch_at(NEVER, WatchFilter::default());
    expect(&mut watch, &["appeared web"]).await;
    while fake.n_listeners() == 0 {
        tokio::task::yield_now().await;
    }
    fake.set_container("w", "web", "running");
    fake.emit().await;
    expect(&mut watch, &["started web"]).await;
    fake.set_container("w", "web", "exited");
    fake.emit().await;
    expect(&mut watch, &["stopped web 7"]).await;
    // A watch for one pod has nothing to tell of them.
    let mut of_pod = runtime.watch_at(NEVER, web());
    let told = tokio::time::timeout(
        std::time::Duration::from_millis(200),
        std::future::poll_fn(|cx| of_pod.poll_next(cx)),
    );
    assert!(told.await.is_err());
}
