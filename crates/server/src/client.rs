//! The other side of the socket: what `tandem`'s commands use, and the engine's way to the cloud.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use tandem_engine::{ArchiveReader, CloudId, Contents, Progress, Target, TargetError};
use tandem_model::{
    Explain, OpId, PhysicalId, Recorded, Report, Secrets, StackId, Urn,
    plan::{Applied, Change, PropertyChange},
    resource::Properties,
};
use tokio::{io::AsyncRead, net::UnixStream};

use crate::wire::{self, Applying, CloudInfo};

/// Why the cloud gave no answer, or not the one that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("no cloud is running at `{}`", socket.display())]
    NotRunning { socket: PathBuf },
    #[error("the cloud at `{}` may not be used by this user", socket.display())]
    Forbidden { socket: PathBuf },
    #[error("the connection to the cloud broke: {reason}")]
    Broken { reason: String },
    #[error(transparent)]
    Refused(Report),
}

impl Explain for ClientError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotRunning { .. } => "E0310",
            Self::Forbidden { .. } => "E0311",
            Self::Broken { .. } | Self::Refused(_) => "E0301",
        }
    }
    fn help(&self) -> String {
        match self {
            Self::NotRunning { .. } => {
                "start it with `tandem serve --detach`; `tandem up` does so by itself".into()
            }
            Self::Forbidden { .. } => "run the command as the user who runs the cloud".into(),
            Self::Broken { .. } => {
                "see the end of `serve.log` in the cloud's folder, and start it again".into()
            }
            Self::Refused(report) => report.help.clone(),
        }
    }
    fn report(&self) -> Report {
        match self {
            Self::Refused(report) => report.clone(),
            other => Report {
                code: other.code().into(),
                message: other.to_string(),
                help: other.help(),
                causes: vec![],
            },
        }
    }
}

impl From<ClientError> for TargetError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Refused(report) => Self::Refused(report),
            other => Self::Unreachable { reason: other.to_string() },
        }
    }
}

fn broken(error: impl std::fmt::Display) -> ClientError {
    ClientError::Broken { reason: error.to_string() }
}

/// Speaks to one cloud. Cheap: a connection is made for each request.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
    /// The cloud that this client first met, which its changes are meant for.
    cloud: Arc<OnceLock<CloudId>>,
}

/// A request's body: bytes, or a stream of them.
type Body = BoxBody<Bytes, std::io::Error>;

impl Client {
    pub fn new(socket: impl AsRef<Path>) -> Self {
        Self { socket: socket.as_ref().to_owned(), cloud: Arc::default() }
    }

    async fn send(&self, method: Method, path: &str, body: Body) -> Result<Response<Incoming>, ClientError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => {
                ClientError::NotRunning { socket: self.socket.clone() }
            }
            std::io::ErrorKind::PermissionDenied => ClientError::Forbidden { socket: self.socket.clone() },
            _ => broken(error),
        })?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // Ends with the sender or the answer's body, whichever is dropped last.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "tandem")
            .header("content-type", "application/json")
            .body(body)
            .map_err(broken)?;
        let response = sender.send_request(request).await.map_err(broken)?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = response.into_body().collect().await.map_err(broken)?.to_bytes();
        Err(match serde_json::from_slice::<Report>(&body) {
            Ok(report) => ClientError::Refused(report),
            Err(_) if status == StatusCode::NOT_FOUND => {
                broken(format!("it does not know `{path}`; is it of another version?"))
            }
            Err(_) => broken(format!("it answered {status}")),
        })
    }

    async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Body,
    ) -> Result<T, ClientError> {
        let response = self.send(method, path, body).await?;
        let bytes = response.into_body().collect().await.map_err(broken)?.to_bytes();
        serde_json::from_slice(&bytes).map_err(broken)
    }

    /// Asks with `GET`.
    ///
    /// # Errors
    /// [`ClientError`]; `Refused` carries the cloud's own words.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.json(Method::GET, path, empty()).await
    }

    /// Asks with `POST` and a JSON body.
    ///
    /// # Errors
    /// [`ClientError`]; `Refused` carries the cloud's own words.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.json(Method::POST, path, json(body)?).await
    }

    /// Asks with `DELETE`.
    ///
    /// # Errors
    /// [`ClientError`]; `Refused` carries the cloud's own words.
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.json(Method::DELETE, path, empty()).await
    }

    /// Asks with `POST`, answered by a stream of records. Dropping the stream tells the cloud to stop.
    ///
    /// # Errors
    /// [`ClientError`]; `Refused` carries the cloud's own words.
    pub async fn stream<T: DeserializeOwned + 'static>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<BoxStream<'static, Result<T, ClientError>>, ClientError> {
        let response = self.send(Method::POST, path, json(body)?).await?;
        Ok(wire::records(response.into_body()).map(|record| record.map_err(broken)).boxed())
    }

    /// Sends a file with `POST`, answered by JSON.
    ///
    /// # Errors
    /// [`ClientError`]; `Broken` if the file cannot be read to its end.
    pub async fn send_file<T: DeserializeOwned>(
        &self,
        path: &str,
        file: tokio::fs::File,
    ) -> Result<T, ClientError> {
        self.json(Method::POST, path, streamed(file)).await
    }

    /// The buckets of a stack that its clients made, so that no program declares them.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn made(&self, stack: &StackId) -> Result<Vec<Recorded>, ClientError> {
        self.post("/v1/made", &wire::OfStack { stack: Some(stack.clone()) }).await
    }

    /// # Errors
    /// [`ClientError::NotRunning`] if there is no cloud.
    pub async fn info(&self) -> Result<CloudInfo, ClientError> {
        self.get("/v1/cloud").await
    }
}

fn streamed(from: impl AsyncRead + Send + Sync + 'static) -> Body {
    let chunks = tokio_util::io::ReaderStream::with_capacity(from, 1 << 20).map(|c| c.map(Frame::data));
    BodyExt::boxed(StreamBody::new(chunks))
}

fn empty() -> Body {
    Full::default().map_err(|never| match never {}).boxed()
}

fn json(body: &impl Serialize) -> Result<Body, ClientError> {
    let bytes = serde_json::to_vec(body).map_err(broken)?;
    Ok(Full::from(bytes).map_err(|never| match never {}).boxed())
}

#[async_trait]
impl Target for Client {
    async fn identity(&self) -> Result<CloudId, TargetError> {
        let id = CloudId(self.info().await?.id);
        // Changes are meant for the one that was met first: one that takes its place meanwhile is another.
        self.cloud.get_or_init(|| id.clone());
        Ok(id)
    }

    fn diff(&self, urn: &Urn, old: &Properties, new: &Properties) -> Vec<PropertyChange> {
        tandem_cloud::target::diff(urn, old, new)
    }

    fn refusal(&self, urn: &Urn, old: Option<&Properties>, new: &Properties) -> Option<Report> {
        tandem_cloud::refusal(urn, old, new, Timestamp::now())
    }

    fn foresee(&self, urn: &Urn, changes: &[PropertyChange], outputs: &Properties) -> Properties {
        tandem_cloud::target::foresee(urn, changes, outputs)
    }

    fn made_by_client(&self, urn: &Urn) -> bool {
        tandem_cloud::is_made_by_client(urn)
    }

    async fn list(&self, stack: &StackId) -> Result<Vec<Recorded>, TargetError> {
        Ok(self.post("/v1/resources", &wire::Resources { stack: stack.clone() }).await?)
    }

    async fn contents(&self, resources: &[(Urn, PhysicalId)]) -> Result<Vec<Contents>, TargetError> {
        Ok(self.post("/v1/contents", &wire::Named { resources: resources.to_vec() }).await?)
    }

    async fn apply(
        &self,
        op: &OpId,
        change: &Change,
        progress: &dyn Progress,
    ) -> Result<Option<Applied>, TargetError> {
        let cloud = self.cloud.get().cloned();
        let request = wire::Apply { op: op.clone(), change: change.clone(), cloud };
        let mut answer = self.stream::<Applying>("/v1/apply", &request).await?;
        while let Some(record) = answer.next().await {
            match record? {
                Applying::Line(line) => progress.line(change.urn(), &line),
                Applying::Done(applied) => return Ok(applied),
                Applying::Failed(report) => return Err(TargetError::Refused(report)),
            }
        }
        Err(TargetError::Unreachable { reason: "the answer ended early".into() })
    }

    async fn entrust(&self, urn: &Urn, secrets: &Secrets) -> Result<(), TargetError> {
        let entrust = wire::Entrust { urn: urn.clone(), secrets: secrets.clone() };
        Ok(self.post("/v1/secrets", &entrust).await?)
    }

    async fn acknowledge(&self, ops: &[OpId]) -> Result<(), TargetError> {
        Ok(self.post("/v1/acknowledge", &wire::Acknowledge { ops: ops.to_vec() }).await?)
    }

    async fn upload(&self, hash: &str, archive: ArchiveReader) -> Result<(), TargetError> {
        Ok(self.json(Method::PUT, &format!("/v1/archives/{hash}"), streamed(archive)).await?)
    }
}
