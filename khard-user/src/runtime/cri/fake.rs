//! A CRI runtime that is not there: answers over a real unix socket, and fails as real ones do. For tests.
use super::{connection::Connection, generated as wire};
use crate::runtime::{
    Runtime,
    endpoint::{Endpoint, Origin},
};
use hyper::{
    Request, Response,
    body::{Body, Bytes, Frame, Incoming},
    header::HeaderMap,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    net::UnixListener,
    sync::{Notify, mpsc},
    task::JoinHandle,
};

/// The limit that tests give to a call that is answered.
pub(in crate::runtime) const PATIENT: Duration = Duration::from_mins(1);
/// The limit that tests give to one that is not.
pub(in crate::runtime) const SHORT: Duration = Duration::from_millis(100);

/// What the fake does with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::runtime) enum Manner {
    /// Takes it and never answers.
    Hang,
    /// Breaks all connections and stops listening.
    Die,
    /// Does not know the call.
    Unimplemented,
}

/// What the fake knows.
#[derive(Default)]
pub(in crate::runtime) struct State {
    pub(in crate::runtime) pods: Vec<wire::PodSandbox>,
    pub(in crate::runtime) containers: Vec<wire::Container>,
    /// By container: its status and the document under "info".
    pub(in crate::runtime) statuses: BTreeMap<String, (wire::ContainerStatus, String)>,
    /// By call, as `Version`; a call that is not here is answered.
    pub(in crate::runtime) manners: BTreeMap<&'static str, Manner>,
    /// Who listens for events.
    listeners: Vec<mpsc::Sender<Frame<Bytes>>>,
    /// The old service's calls are known too.
    pub(in crate::runtime) serves_v1alpha2: bool,
}

pub(in crate::runtime) struct Fake {
    path: PathBuf,
    state: Arc<Mutex<State>>,
    death: Arc<Notify>,
    server: Option<JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

impl Fake {
    pub(in crate::runtime) fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("c.sock");
        let mut fake = Self { path, state: Arc::default(), death: Arc::default(), server: None, _dir: dir };
        fake.listen();
        fake
    }

    /// Listens on the socket anew, as a restarted daemon.
    pub(in crate::runtime) fn listen(&mut self) {
        let _ = std::fs::remove_file(&self.path);
        let listener = UnixListener::bind(&self.path).expect("a free path");
        let (state, death) = (Arc::clone(&self.state), Arc::clone(&self.death));
        self.server = Some(tokio::spawn(async move {
            tokio::select! { () = death.notified() => {}, () = accept(listener, state, Arc::clone(&death)) => {} }
        }));
    }

    /// Waits until it has died by [`Manner::Die`].
    pub(in crate::runtime) async fn dead(&mut self) {
        self.server.take().expect("it was started").await.expect("it ends by itself");
    }

    pub(in crate::runtime) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds the state")
    }

    pub(in crate::runtime) fn endpoint(&self) -> Endpoint {
        Endpoint { text: format!("unix://{}", self.path.display()), origin: Origin::Option }
    }

    pub(in crate::runtime) async fn runtime(&self) -> Runtime {
        let connection = Connection::open_one(&self.endpoint(), PATIENT).await.expect("the fake answers");
        Runtime::Cri(Box::new(connection))
    }

    /// One that is given up soon in every call after the first.
    pub(in crate::runtime) async fn impatient_runtime(&self) -> Runtime {
        let mut connection = Connection::open_one(&self.endpoint(), PATIENT).await.expect("the fake answers");
        connection.set_limit(SHORT);
        Runtime::Cri(Box::new(connection))
    }

    /// Sends one event to each that listens for them.
    pub(in crate::runtime) async fn emit(&self) {
        let listeners = self.state().listeners.clone();
        for listener in listeners {
            let _ = listener.send(Frame::data(framed(&wire::ContainerEventResponse::default()))).await;
        }
    }

    pub(in crate::runtime) fn n_listeners(&self) -> usize {
        self.state().listeners.iter().filter(|l| !l.is_closed()).count()
    }

    /// Adds a pod.
    pub(in crate::runtime) fn add_pod(&self, id: &str, namespace: &str, name: &str) {
        let metadata = wire::PodSandboxMetadata {
            name: name.into(),
            namespace: namespace.into(),
            uid: format!("uid-{id}"),
            attempt: 0,
        };
        self.state().pods.push(wire::PodSandbox {
            id: id.into(),
            metadata: Some(metadata),
            created_at: 1,
            ..Default::default()
        });
    }

    /// Adds a container, or gives it another state: `started_at` follows from the state.
    pub(in crate::runtime) fn set_container(
        &self,
        pod: &str,
        id: &str,
        name: &str,
        state: wire::ContainerState,
    ) {
        let mut all = self.state();
        let created_at = i64::try_from(all.containers.len()).expect("few") + 10;
        let metadata = Some(wire::ContainerMetadata { name: name.into(), attempt: 0 });
        let has_started = state != wire::ContainerState::ContainerCreated;
        let status = wire::ContainerStatus {
            id: id.into(),
            metadata: metadata.clone(),
            state: state as i32,
            started_at: if has_started { 20 } else { 0 },
            finished_at: if state == wire::ContainerState::ContainerExited { 30 } else { 0 },
            exit_code: 7,
            ..Default::default()
        };
        all.statuses.entry(id.into()).or_default().0 = status;
        if let Some(known) = all.containers.iter_mut().find(|c| c.id == id) {
            known.state = state as i32;
            return;
        }
        all.containers.push(wire::Container {
            id: id.into(),
            pod_sandbox_id: pod.into(),
            metadata,
            state: state as i32,
            created_at,
            ..Default::default()
        });
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.abort();
        }
    }
}

async fn accept(listener: UnixListener, state: Arc<Mutex<State>>, death: Arc<Notify>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (state, death) = (Arc::clone(&state), Arc::clone(&death));
        tokio::spawn(async move {
            let fatal = Arc::new(Notify::new());
            let service =
                hyper::service::service_fn(|request| answer(request, Arc::clone(&state), Arc::clone(&fatal)));
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                _ = connection => {}
                // Dropping the connection without a word is what a killed process does.
                () = fatal.notified() => death.notify_one(),
            }
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
    fatal: Arc<Notify>,
) -> Result<Response<Frames>, Infallible> {
    let uri = request.uri().path().to_owned();
    let body = read_all(request.into_body()).await;
    let (sender, frames) = mpsc::channel(8);
    let mut state = state.lock().expect("no test panics while it holds the state");
    let (service, call) = uri.trim_start_matches('/').split_once('/').unwrap_or_default();
    let is_old = service == "runtime.v1alpha2.RuntimeService";
    let manner = state.manners.get(call).copied().filter(|_| !is_old);
    let message = match (manner, call) {
        (Some(Manner::Hang), _) => {
            // Held for good: the answer never ends.
            state.listeners.push(sender);
            return Ok(Response::new(Frames(frames)));
        }
        (Some(Manner::Die), _) => {
            // Held too: an answer that ends before the connection does is another failure.
            state.listeners.push(sender);
            fatal.notify_one();
            return Ok(Response::new(Frames(frames)));
        }
        (None, _) if is_old && !state.serves_v1alpha2 => Err((12, "unknown service".to_owned())),
        (None, "Version") => Ok(framed(&wire::VersionResponse {
            runtime_name: "fake".into(),
            runtime_version: "1.2".into(),
            ..Default::default()
        })),
        (None, "ListPodSandbox") => Ok(framed(&wire::ListPodSandboxResponse { items: state.pods.clone() })),
        (None, "ListContainers") => {
            Ok(framed(&wire::ListContainersResponse { containers: state.containers.clone() }))
        }
        (None, "ContainerStatus") => status(&state, &body),
        (None, "GetContainerEvents") => {
            state.listeners.push(sender);
            return Ok(grpc(frames));
        }
        (Some(Manner::Unimplemented) | None, _) => Err((12, format!("unknown method {call}"))),
    };
    let mut trailers = HeaderMap::new();
    let (code, words) = message.as_ref().map_or_else(|(code, words)| (*code, words.as_str()), |_| (0, ""));
    trailers.insert("grpc-status", code.into());
    trailers.insert("grpc-message", words.parse().expect("plain words"));
    if let Ok(data) = message {
        sender.try_send(Frame::data(data)).expect("room for it");
    }
    sender.try_send(Frame::trailers(trailers)).expect("room for it");
    Ok(grpc(frames))
}

fn status(state: &State, body: &[u8]) -> Result<Bytes, (u16, String)> {
    let request = wire::ContainerStatusRequest::decode(&body[5..]).expect("a well-formed request");
    let Some((status, info)) = state.statuses.get(&request.container_id) else {
        return Err((5, format!("no container {}", request.container_id)));
    };
    let info = if request.verbose { [("info".to_owned(), info.clone())].into() } else { HashMap::new() };
    Ok(framed(&wire::ContainerStatusResponse { status: Some(status.clone()), info }))
}

fn grpc(frames: mpsc::Receiver<Frame<Bytes>>) -> Response<Frames> {
    Response::builder()
        .header("content-type", "application/grpc")
        .body(Frames(frames))
        .expect("a well-formed answer")
}

/// A gRPC message on the wire: not compressed, its length, itself.
fn framed(message: &impl Message) -> Bytes {
    let body = message.encode_to_vec();
    let length = u32::try_from(body.len()).expect("a short message");
    [&[0][..], &length.to_be_bytes(), &body].concat().into()
}

async fn read_all(mut body: Incoming) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(Ok(frame)) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        all.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
    }
    all
}

/// An answer's body, as it is sent.
struct Frames(mpsc::Receiver<Frame<Bytes>>);

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|frame| frame.map(Ok))
    }
}
