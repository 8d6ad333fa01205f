//! One connection to a CRI v1 runtime: finds out what is wrong with a socket, and gives each call a time limit.
//!
//! Owns transport and failures. It must not know what the answers mean.
use super::generated::{
    self as wire, image_service_client::ImageServiceClient, runtime_service_client::RuntimeServiceClient,
};
use crate::runtime::{
    endpoint::Endpoint,
    error::{RuntimeError, Unusable},
    socket::{self, refusal},
};
use std::{
    error::Error as _,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::timeout,
};
use tonic::transport::Channel;

/// The longest answer taken, in bytes: what kubelet and crictl take; gRPC's own 4 MiB are too few on a full node.
const ANSWER_MAX_BYTES: usize = 16 << 20;

/// What every HTTP/2 client sends first: RFC 9113 section 3.4, and an empty SETTINGS frame.
const HTTP2_HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";

/// A runtime that has answered at least once. Cheap to clone; it reconnects by itself with the next call.
#[derive(Debug, Clone)]
pub struct Connection {
    client: RuntimeServiceClient<Channel>,
    channel: Channel,
    path: PathBuf,
    limit: Duration,
    version: wire::VersionResponse,
}

impl Connection {
    /// Connects to one socket and asks its version.
    ///
    /// # Errors
    /// What is wrong with that socket.
    pub async fn open_one(endpoint: &Endpoint, limit: Duration) -> Result<Self, Unusable> {
        let path = endpoint.path().ok_or(Unusable::Address)?;
        timeout(limit, greet(&path)).await.map_err(|_| Unusable::Silent(limit))??;
        let channel = lazy_channel(path.clone());
        let client = RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(ANSWER_MAX_BYTES);
        let mut connection = Self { client, channel, path, limit, version: wire::VersionResponse::default() };
        match connection.ask_version().await {
            Ok(version) => connection.version = version,
            Err(RuntimeError::Silent { limit, .. }) => return Err(Unusable::Silent(limit)),
            Err(RuntimeError::Answer { code: tonic::Code::Unimplemented, message, .. }) => {
                let old = timeout(limit, serves_v1alpha2(connection.channel)).await.unwrap_or(false);
                return Err(if old { Unusable::OldCri } else { Unusable::NoCri { message } });
            }
            Err(error) => return Err(Unusable::FirstCall(Box::new(error))),
        }
        Ok(connection)
    }

    /// What the runtime said when it was found.
    #[must_use]
    pub fn said(&self) -> &wire::VersionResponse {
        &self.version
    }

    /// The socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A client for one call; pass the call through [`Connection::call`].
    #[must_use]
    pub fn client(&self) -> RuntimeServiceClient<Channel> {
        self.client.clone()
    }

    /// The same for images.
    #[must_use]
    pub fn image_client(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(self.channel.clone())
    }

    /// Awaits one call within the limit.
    ///
    /// # Errors
    /// `Silent`, `Lost` or `Answer`.
    pub async fn call<T>(
        &self,
        name: &'static str,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, RuntimeError> {
        match timeout(self.limit, call).await {
            Err(_) => Err(RuntimeError::Silent { call: name, limit: self.limit }),
            Ok(Err(status)) => Err(failure(name, status)),
            Ok(Ok(answer)) => Ok(answer.into_inner()),
        }
    }

    /// The process that listens on the socket; `None` when it cannot be told (socket activation names the activator).
    pub async fn daemon_pid(&self) -> Option<u32> {
        let stream = UnixStream::connect(&self.path).await.ok()?;
        stream.peer_cred().ok()?.pid()?.try_into().ok()
    }

    #[cfg(test)]
    pub(crate) fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    async fn ask_version(&self) -> Result<wire::VersionResponse, RuntimeError> {
        let mut client = self.client();
        let request = wire::VersionRequest { version: "v1".into() };
        self.call("Version", client.version(request)).await
    }
}

/// Tells a failure of the transport from an answer of the runtime: only the former has a cause on this side.
pub(crate) fn failure(call: &'static str, status: tonic::Status) -> RuntimeError {
    if status.source().is_some() {
        return RuntimeError::Lost { call, source: Box::new(status) };
    }
    RuntimeError::Answer { call, code: status.code(), message: status.message().to_owned() }
}

/// Says hello in HTTP/2 on a connection of its own and looks at the answer's first frame: a server must send SETTINGS
/// first (RFC 9113 section 3.4). What a gRPC library says about a peer that is none changes with its versions.
async fn greet(path: &Path) -> Result<(), Unusable> {
    socket::check(path)?;
    let mut stream = UnixStream::connect(path).await.map_err(refusal)?;
    let mut first = [0_u8; 9];
    let mut n_read = 0;
    // A server that hangs up at once makes this fail, and may have said why before: what it said decides.
    let _ = stream.write_all(HTTP2_HELLO).await;
    while n_read < first.len() {
        match stream.read(&mut first[n_read..]).await {
            Ok(0) | Err(_) => break,
            Ok(n) => n_read += n,
        }
    }
    let is_settings = n_read == first.len() && first[3] == 4 && first[5..] == [0; 4];
    match (is_settings, n_read) {
        (true, _) => Ok(()),
        (false, 0) => Err(Unusable::Closed),
        (false, _) => Err(Unusable::NotGrpc { first: first[..n_read].to_vec() }),
    }
}

/// A channel over the unix socket, made anew by path after a break: a restarted daemon makes a new socket file.
fn lazy_channel(path: PathBuf) -> Channel {
    let connect = tower::service_fn(move |_: tonic::transport::Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(hyper_util::rt::TokioIo::new) }
    });
    // The address only fills the :authority header, which servers on unix sockets do not read.
    tonic::transport::Endpoint::from_static("http://localhost").connect_with_connector_lazy(connect)
}

/// Asks for the version by the old name. Both versions have the same request and answer.
async fn serves_v1alpha2(channel: Channel) -> bool {
    let mut grpc = tonic::client::Grpc::new(channel);
    if grpc.ready().await.is_err() {
        return false;
    }
    let path =
        tonic::codegen::http::uri::PathAndQuery::from_static("/runtime.v1alpha2.RuntimeService/Version");
    let codec = tonic_prost::ProstCodec::<wire::VersionRequest, wire::VersionResponse>::default();
    grpc.unary(tonic::Request::new(wire::VersionRequest::default()), path, codec).await.is_ok()
}

#[cfg(test)]
mod tests;
