//! What is wrong with a socket is told by kind, against real sockets.
use super::*;
use crate::runtime::{
    cri::fake::{Fake, Manner, PATIENT, SHORT},
    endpoint::Origin,
    find_container,
};
use tokio::net::UnixListener;

fn at(path: &Path) -> Endpoint {
    Endpoint { text: path.display().to_string(), origin: Origin::Option }
}

async fn unusable(path: &Path) -> Unusable {
    Connection::open_one(&at(path), PATIENT).await.expect_err("it cannot be used")
}

/// A server that says `banner` to each client, and then stays or hangs up.
fn say(path: &Path, banner: &'static [u8], stays: bool) {
    let listener = UnixListener::bind(path).expect("a free path");
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(banner).await;
            if stays {
                held.push(stream);
            }
        }
    });
}

#[tokio::test]
async fn a_runtime_that_answers_tells_its_name() {
    let fake = Fake::start();
    let connection = Connection::open_one(&fake.endpoint(), PATIENT).await.expect("it answers");
    assert_eq!(connection.said().runtime_name, "fake");
    assert_eq!(connection.daemon_pid().await, Some(std::process::id()));
}

#[tokio::test]
async fn missing_other_and_deserted_files_are_told_apart() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("c.sock");
    assert!(matches!(unusable(&path).await, Unusable::Missing));
    std::fs::write(&path, "").expect("written");
    assert!(matches!(unusable(&path).await, Unusable::NotASocket));
    assert!(matches!(unusable(&path.join("below")).await, Unusable::Missing));
    std::fs::remove_file(&path).expect("removed");
    drop(std::os::unix::net::UnixListener::bind(&path).expect("a free path"));
    assert!(matches!(unusable(&path).await, Unusable::Refused));
    assert!(matches!(unusable(Path::new("c.sock")).await, Unusable::Address));
}

#[tokio::test]
async fn a_server_of_another_protocol_is_quoted() {
    let dir = tempfile::tempdir().expect("a folder");
    let (text, mute, short) = (dir.path().join("text"), dir.path().join("mute"), dir.path().join("short"));
    say(&text, b"220 \x1b[31mhello there, this is mail\r\n", true);
    let error = unusable(&text).await;
    assert!(matches!(error, Unusable::NotGrpc { .. }));
    assert_eq!(
        error.to_string(),
        r"speaks something else than gRPC or Docker's API (first bytes 220 \x1b[31m)"
    );
    say(&short, b"no", false);
    assert!(matches!(unusable(&short).await, Unusable::NotGrpc { first } if first == b"no"));
    say(&mute, b"", false);
    assert!(matches!(unusable(&mute).await, Unusable::Closed));
}

#[tokio::test]
async fn a_server_that_accepts_and_never_answers_is_given_up() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("c.sock");
    say(&path, b"", true);
    let error = Connection::open_one(&at(&path), SHORT).await.expect_err("it is silent");
    assert!(matches!(error, Unusable::Silent(_)), "{error}");
    // The kernel alone accepts here: nobody takes the connection.
    let _held = std::os::unix::net::UnixListener::bind(dir.path().join("d.sock")).expect("a free path");
    let error = Connection::open_one(&at(&dir.path().join("d.sock")), SHORT).await.expect_err("it is silent");
    assert!(matches!(error, Unusable::Silent(_)), "{error}");
}

#[tokio::test]
async fn a_grpc_server_that_hangs_in_the_first_call_is_given_up() {
    let fake = Fake::start();
    fake.state().manners.insert("Version", Manner::Hang);
    let error = Connection::open_one(&fake.endpoint(), SHORT).await.expect_err("it hangs");
    assert!(matches!(error, Unusable::Silent(_)), "{error}");
}

#[tokio::test]
async fn grpc_without_cri_and_the_old_cri_are_told_apart() {
    let fake = Fake::start();
    fake.state().manners.insert("Version", Manner::Unimplemented);
    let error = Connection::open_one(&fake.endpoint(), PATIENT).await.expect_err("no CRI");
    assert!(matches!(error, Unusable::NoCri { .. }), "{error}");
    fake.state().serves_v1alpha2 = true;
    let error = Connection::open_one(&fake.endpoint(), PATIENT).await.expect_err("no CRI v1");
    assert!(matches!(error, Unusable::OldCri), "{error}");
}

#[tokio::test]
async fn dying_hanging_and_refusing_in_a_call_are_told_apart() {
    let mut fake = Fake::start();
    let runtime = fake.runtime().await;
    fake.state().manners.insert("ListPodSandbox", Manner::Hang);
    let impatient = fake.impatient_runtime().await;
    assert!(matches!(impatient.pods().await, Err(RuntimeError::Silent { call: "ListPodSandbox", .. })));
    fake.state().manners.insert("ListPodSandbox", Manner::Unimplemented);
    assert!(matches!(
        runtime.pods().await,
        Err(RuntimeError::Answer { code: tonic::Code::Unimplemented, .. })
    ));
    fake.state().manners.insert("ListPodSandbox", Manner::Die);
    let lost = runtime.pods().await.expect_err("it died");
    assert!(matches!(lost, RuntimeError::Lost { call: "ListPodSandbox", .. }), "{lost:?}");
    fake.dead().await;
    let gone = runtime.pods().await.expect_err("nobody listens");
    assert!(matches!(gone, RuntimeError::Lost { .. }) && gone.is_transient(), "{gone:?}");
    // The same connection serves again once the daemon does.
    fake.state().manners.clear();
    fake.listen();
    assert!(runtime.pods().await.expect("it is back").is_empty());
}

#[tokio::test]
async fn a_container_that_is_removed_meanwhile_has_vanished() {
    let fake = Fake::start();
    fake.add_pod("p", "default", "web");
    fake.set_container("p", "abc", "nginx", wire::ContainerState::ContainerRunning);
    let runtime = fake.runtime().await;
    let runtimes = [runtime.clone()];
    let (_, container) = find_container(&runtimes, "nginx").await.expect("it is there");
    fake.state().statuses.clear();
    assert!(matches!(runtime.details(&container).await, Err(RuntimeError::Vanished { .. })));
    assert!(matches!(find_container(&runtimes, "ab").await, Err(RuntimeError::Vanished { .. })));
    let pod = runtime.live_pod("default", "web").await.expect("it is there");
    assert!(runtime.pod_containers(&pod).await.expect("the pod is still there").is_empty());
}
