//! A Docker that is not there: answers over a real unix socket, and fails as real ones do. For tests.
use super::connection::Connection;
use crate::runtime::{
    cri::fake::{PATIENT, SHORT},
    endpoint::{Endpoint, Origin},
};
use hyper::{
    Request, Response, StatusCode,
    body::{Body, Bytes, Frame, Incoming},
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    convert::Infallible,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
};
use tokio::{net::UnixListener, sync::mpsc, task::JoinHandle};

/// What the fake does with a path instead of answering it.
#[derive(Debug, Clone)]
pub(in crate::runtime) enum Manner {
    /// Takes the request and never answers.
    Hang,
    /// Answers so.
    Say(u16, &'static str),
    /// Sends bytes without an end.
    Flood,
}

/// What the fake knows.
#[derive(Default)]
pub(in crate::runtime) struct State {
    /// Under what paths it answers.
    pub(in crate::runtime) api: String,
    pub(in crate::runtime) oldest: String,
    pub(in crate::runtime) listed: Vec<Value>,
    /// By the container's id.
    pub(in crate::runtime) inspected: BTreeMap<String, Value>,
    /// By path without version and query.
    pub(in crate::runtime) manners: BTreeMap<&'static str, Manner>,
    /// Paths that were asked for, as they were.
    pub(in crate::runtime) asked: Vec<String>,
    /// Who listens for events.
    listeners: Vec<mpsc::Sender<Bytes>>,
}

pub(in crate::runtime) struct Fake {
    path: PathBuf,
    state: Arc<Mutex<State>>,
    server: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Fake {
    pub(in crate::runtime) fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("d.sock");
        let state = State { api: "1.41".into(), oldest: "1.12".into(), ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let listener = UnixListener::bind(&path).expect("a free path");
        let server = tokio::spawn(accept(listener, Arc::clone(&state)));
        Self { path, state, server, _dir: dir }
    }

    pub(in crate::runtime) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds the state")
    }

    pub(in crate::runtime) fn endpoint(&self) -> Endpoint {
        Endpoint { text: format!("unix://{}", self.path.display()), origin: Origin::Option }
    }

    pub(in crate::runtime) async fn connection(&self) -> Connection {
        Connection::open_one(&self.endpoint(), PATIENT).await.expect("the fake answers")
    }

    /// One that is given up soon in every call after the first.
    pub(in crate::runtime) async fn impatient(&self) -> Connection {
        let mut connection = self.connection().await;
        connection.set_limit(SHORT);
        connection
    }

    /// Adds a container, or gives it another state.
    pub(in crate::runtime) fn set_container(&self, id: &str, name: &str, status: &str) {
        let mut state = self.state();
        let created = state.listed.len();
        state.listed.retain(|listed| listed["Id"] != id);
        state.listed.push(json!({
            "Id": id, "Names": [format!("/{name}")], "Image": "nginx:1", "ImageID": "sha256:aa", "Created": created, "State": status,
            "Labels": {},
        }));
        let started = if status == "created" { "0001-01-01T00:00:00Z" } else { "2026-11-29T17:16:38.28Z" };
        state.inspected.insert(
            id.to_owned(),
            json!({
                "Id": id, "Name": format!("/{name}"), "Image": "sha256:aa", "AppArmorProfile": "", "RestartCount": 0,
                "State": { "Status": status, "Pid": 0, "ExitCode": 7, "StartedAt": started },
                "Config": { "Image": "nginx:1", "Labels": null },
                "HostConfig": { "Privileged": false, "SecurityOpt": null, "Runtime": "runc" },
            }),
        );
    }

    /// Sends one event to each that listens for them.
    pub(in crate::runtime) async fn emit(&self) {
        let listeners = self.state().listeners.clone();
        for listener in listeners {
            let _ = listener.send(Bytes::from_static(b"{\"Type\":\"container\"}\n")).await;
        }
    }

    pub(in crate::runtime) fn n_listeners(&self) -> usize {
        self.state().listeners.len()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn accept(listener: UnixListener, state: Arc<Mutex<State>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let service = hyper::service::service_fn(|request: Request<Incoming>| {
                let answer = answer(request.uri(), &state);
                async move { Ok::<_, Infallible>(answer) }
            });
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

fn answer(uri: &hyper::Uri, state: &Mutex<State>) -> Response<Chunks> {
    let mut state = state.lock().expect("no test panics while it holds the state");
    state.asked.push(uri.to_string());
    let path = uri.path();
    let versioned = path.strip_prefix("/v").and_then(|path| path.split_once('/'));
    let path = versioned.map_or(path.to_owned(), |(_, rest)| format!("/{rest}"));
    let (sender, chunks) = mpsc::channel(8);
    let answer = match (state.manners.get(path.as_str()).cloned(), path.as_str()) {
        (Some(Manner::Flood), _) => return Response::new(Chunks::Endless),
        (Some(Manner::Say(status, text)), _) => (status, text.to_owned()),
        (None, "/version") => {
            let version = json!({
                "Version": "20.10.24", "ApiVersion": state.api, "MinAPIVersion": state.oldest, "Os": "linux",
                "Components": [{ "Name": "Engine", "Version": "20.10.24" }],
            });
            (200, version.to_string())
        }
        (None, "/info") => {
            let info = json!({
                "SecurityOptions": ["name=seccomp,profile=default"], "DefaultRuntime": "runc",
                "Runtimes": { "runc": { "path": "runc" } },
            });
            (200, info.to_string())
        }
        (None, "/containers/json") => (200, Value::from(state.listed.clone()).to_string()),
        // An answer that never ends.
        (Some(Manner::Hang), _) | (None, "/events") => {
            state.listeners.push(sender);
            return Response::new(Chunks::Of(chunks));
        }
        (None, path) => {
            let id = path.trim_start_matches("/containers/").trim_end_matches("/json");
            match state.inspected.get(id) {
                Some(inspected) => (200, inspected.to_string()),
                None => (404, r#"{"message":"No such container"}"#.to_owned()),
            }
        }
    };
    sender.try_send(Bytes::from(answer.1)).expect("room for it");
    let mut response = Response::new(Chunks::Of(chunks));
    *response.status_mut() = StatusCode::from_u16(answer.0).expect("a status");
    response
}

/// An answer's body, as it is sent.
enum Chunks {
    Of(mpsc::Receiver<Bytes>),
    Endless,
}

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Of(chunks) => chunks.poll_recv(cx).map(|chunk| chunk.map(|data| Ok(Frame::data(data)))),
            Self::Endless => Poll::Ready(Some(Ok(Frame::data(vec![b' '; 1 << 20].into())))),
        }
    }
}
