//! Questions over HTTP to a daemon that serves Docker's API: finds out whether a socket is one's, and gives each answer a limit in
//! time and in size.
//!
//! Owns transport and failures. It must not know what the answers mean.
use super::wire;
use crate::runtime::{
    endpoint::Endpoint,
    error::{RuntimeError, Unusable},
    socket::{self, refusal},
};
use hyper::{
    Request, Response, StatusCode,
    body::{Body as _, Bytes, Incoming},
    header,
};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use std::{
    future::poll_fn,
    path::{Path, PathBuf},
    pin::Pin,
    time::Duration,
};
use tokio::{net::UnixStream, time::timeout};

/// The longest answer taken, in bytes: some thousands of containers with all their labels.
const ANSWER_MAX_BYTES: usize = 64 << 20;

/// The oldest version of the API that khard speaks (Docker 20.10), and speaks where it may: every later one is compatible, as long
/// as the daemon serves it.
const OLDEST: ApiVersion = ApiVersion(1, 41);

/// A version of the API, such as 1.41.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct ApiVersion(u32, u32);

impl ApiVersion {
    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        Some(Self(major.parse().ok()?, minor.parse().ok()?))
    }
}

/// A daemon that has answered at least once. Cheap to clone; each question has a connection of its own, so that a restarted daemon
/// is no matter.
#[derive(Debug, Clone)]
pub struct Connection {
    path: PathBuf,
    limit: Duration,
    api: ApiVersion,
    version: wire::Server,
}

/// No whole answer came.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// The socket.
    #[error("cannot connect")]
    Connect(#[source] std::io::Error),
    /// What came was no HTTP, or was cut off.
    #[error(transparent)]
    Http(#[from] hyper::Error),
    /// A container's id or so is none.
    #[error("the question makes no address")]
    Address(#[from] hyper::http::uri::InvalidUri),
    /// What came has no end.
    #[error("the answer is longer than {ANSWER_MAX_BYTES} bytes")]
    TooLong,
    /// What came is not what was asked for.
    #[error("the answer does not make sense")]
    Json(#[from] serde_json::Error),
}

impl Connection {
    /// Connects to one socket and asks its version.
    ///
    /// # Errors
    /// What is wrong with that socket.
    pub async fn open_one(endpoint: &Endpoint, limit: Duration) -> Result<Self, Unusable> {
        let path = endpoint.path().ok_or(Unusable::Address)?;
        socket::check(&path)?;
        let answer = timeout(limit, ask(&path, "/version")).await.map_err(|_| Unusable::Silent(limit))?;
        let (status, body) = answer.map_err(|broken| match broken {
            Broken::Connect(error) => refusal(error),
            other => Unusable::NotDocker(Box::new(other)),
        })?;
        if !status.is_success() {
            return Err(Unusable::NoVersion(status.as_u16()));
        }
        let version: wire::Server = serde_json::from_slice(&body)
            .map_err(|error| Unusable::NotDocker(Box::new(Broken::from(error))))?;
        let api = choose(&version).ok_or_else(|| Unusable::OldDocker(version.api_version.clone()))?;
        Ok(Self { path, limit, api, version })
    }

    /// What the daemon said when it was found.
    pub(crate) fn said(&self) -> &wire::Server {
        &self.version
    }

    /// The socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    #[cfg(test)]
    pub(crate) fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// Asks for `path`; `None` where the daemon knows no such thing.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        call: &'static str,
        path: &str,
    ) -> Result<Option<T>, RuntimeError> {
        let lost = |broken: Broken| RuntimeError::Lost { call, source: Box::new(broken) };
        let asked = timeout(self.limit, ask(&self.path, &self.versioned(path))).await;
        let (status, body) =
            asked.map_err(|_| RuntimeError::Silent { call, limit: self.limit })?.map_err(lost)?;
        match status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => {
                serde_json::from_slice(&body).map(Some).map_err(|error| lost(error.into()))
            }
            status => {
                let said = serde_json::from_slice(&body).map(|wire::Failed { message }| message);
                let message = said.unwrap_or_else(|_| String::from_utf8_lossy(&body).into_owned());
                Err(RuntimeError::Refused { call, status: status.as_u16(), message })
            }
        }
    }

    /// Waits for something to happen to a container, again and again, and tells it each time. Returns when the daemon ends the
    /// stream.
    pub(crate) async fn follow_events(&self, mut happened: impl FnMut()) -> Result<(), RuntimeError> {
        const CALL: &str = "GET /events";
        let lost = |broken: Broken| RuntimeError::Lost { call: CALL, source: Box::new(broken) };
        // {"type":["container"]}
        let path = self.versioned("/events?filters=%7B%22type%22%3A%5B%22container%22%5D%7D");
        let mut body = request(&self.path, &path).await.map_err(lost)?.into_body();
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            frame.map_err(|error| lost(error.into()))?;
            happened();
        }
        Ok(())
    }

    fn versioned(&self, path: &str) -> String {
        let ApiVersion(major, minor) = self.api;
        format!("/v{major}.{minor}{path}")
    }
}

/// The version of the API to speak; `None` where the daemon serves none that khard knows.
fn choose(version: &wire::Server) -> Option<ApiVersion> {
    let newest = ApiVersion::parse(&version.api_version)?;
    let oldest = ApiVersion::parse(&version.min_api_version).unwrap_or(OLDEST).max(OLDEST);
    (oldest <= newest).then_some(oldest)
}

async fn request(path: &Path, target: &str) -> Result<Response<Incoming>, Broken> {
    let stream = UnixStream::connect(path).await.map_err(Broken::Connect)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the answer. What it says is what the answer's reader gets as well.
    tokio::spawn(connection);
    let mut request = Request::new(String::new());
    *request.uri_mut() = target.parse()?;
    request.headers_mut().insert(header::HOST, header::HeaderValue::from_static("docker"));
    Ok(sender.send_request(request).await?)
}

async fn ask(path: &Path, target: &str) -> Result<(StatusCode, Vec<u8>), Broken> {
    let response = request(path, target).await?;
    let (status, mut body) = (response.status(), response.into_body());
    let mut whole = Vec::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let data: Bytes = frame?.into_data().unwrap_or_default();
        if whole.len() + data.len() > ANSWER_MAX_BYTES {
            return Err(Broken::TooLong);
        }
        whole.extend_from_slice(&data);
    }
    Ok((status, whole))
}

#[cfg(test)]
mod tests;
