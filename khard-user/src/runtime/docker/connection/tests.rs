//! What is wrong with a Docker is told by kind, against real sockets.
use super::*;
use crate::runtime::{
    ContainerState, Runtime,
    cri::fake::{PATIENT, SHORT},
    docker::fake::{Fake, Manner},
    find_container,
};

async fn unusable(fake: &Fake) -> String {
    let why = Connection::open_one(&fake.endpoint(), PATIENT).await.expect_err("it cannot be used");
    crate::causes::with_causes(&why)
}

#[tokio::test]
async fn a_daemon_is_spoken_to_in_the_oldest_version_that_both_know() {
    for (api, oldest, spoken) in
        [("1.41", "1.12", "/v1.41/"), ("1.51", "1.24", "/v1.41/"), ("1.52", "1.44", "/v1.44/")]
    {
        let fake = Fake::start();
        (fake.state().api, fake.state().oldest) = (api.to_owned(), oldest.to_owned());
        let connection = fake.connection().await;
        assert_eq!(connection.version().name, "docker");
        connection.containers().await.expect("it answers");
        let asked = fake.state().asked.clone();
        assert!(asked[1].starts_with(spoken), "{asked:?}");
    }
    let fake = Fake::start();
    fake.state().api = "1.40".to_owned();
    assert!(unusable(&fake).await.contains("up to 1.40 only"));
}

#[tokio::test]
async fn what_is_no_docker_is_told_from_what_is_one_in_trouble() {
    let fake = Fake::start();
    fake.state().manners.insert("/version", Manner::Say(200, "<html>"));
    assert!(unusable(&fake).await.contains("does not speak Docker's API: the answer does not make sense"));
    for body in [r#"{"message":"not for you"}"#, "<html>"] {
        fake.state().manners.insert("/version", Manner::Say(403, body));
        assert!(unusable(&fake).await.contains("answers HTTP status 403"));
    }
    fake.state().manners.insert("/version", Manner::Flood);
    assert!(unusable(&fake).await.contains("longer than"));
    fake.state().manners.insert("/version", Manner::Hang);
    let silent = Connection::open_one(&fake.endpoint(), SHORT).await.expect_err("it hangs");
    assert!(matches!(silent, Unusable::Silent(_)), "{silent}");
    let dir = tempfile::tempdir().expect("a folder");
    let missing = Endpoint { text: format!("{}/none", dir.path().display()), ..fake.endpoint() };
    assert!(matches!(Connection::open_one(&missing, PATIENT).await, Err(Unusable::Missing)));
}

#[tokio::test]
async fn hanging_refusing_and_senseless_answers_are_told_apart() {
    let fake = Fake::start();
    let connection = fake.impatient().await;
    fake.state().manners.insert("/containers/json", Manner::Hang);
    assert!(matches!(connection.containers().await, Err(RuntimeError::Silent { .. })));
    fake.state().manners.insert("/containers/json", Manner::Say(500, r#"{"message":"no disk \u001b[2J"}"#));
    let refused = connection.containers().await.expect_err("it refuses");
    assert!(refused.is_transient() && refused.to_string().contains(r"no disk \u{1b}[2J"), "{refused}");
    fake.state().manners.insert("/containers/json", Manner::Say(200, "{}"));
    let lost = connection.containers().await.expect_err("no list");
    assert!(matches!(lost, RuntimeError::Lost { .. }), "{lost}");
}

#[tokio::test]
async fn a_container_is_found_by_id_start_of_id_and_name_and_has_vanished_when_it_is_gone() {
    let fake = Fake::start();
    fake.set_container("abc1", "web", "running");
    fake.set_container("abc2", "old", "exited");
    let runtimes = [Runtime::Docker(fake.connection().await)];
    for (key, id) in [("web", "abc1"), ("abc2", "abc2"), ("abc", "abc1")] {
        let (_, found) = find_container(&runtimes, key).await.expect("it is there");
        assert_eq!(found.id.0, id, "{key}");
    }
    let (_, old) = find_container(&runtimes, "old").await.expect("it is there");
    assert_eq!((old.state, old.exit_code, old.has_started), (ContainerState::Exited, Some(7), true));
    let error = find_container(&runtimes, "nobody").await.expect_err("no such container").to_string();
    assert_eq!(error, "no container has the id or name nobody (asked docker 20.10.24)");
    fake.state().inspected.clear();
    assert!(matches!(find_container(&runtimes, "web").await, Err(RuntimeError::Vanished { .. })));
}
