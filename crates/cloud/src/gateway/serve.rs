//! Accepting connections and routing requests.

use std::{collections::HashMap, convert::Infallible, fmt, sync::Arc, time::Duration};

use axum::{Router, extract::DefaultBodyLimit};
use bytes::Bytes;
use http::{Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use s3s::{HttpError, HttpRequest, HttpResponse};
use tokio::net::TcpStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use super::{
    Bound, Limits,
    limits::{Place, Room, Timed, Working},
    sigv4,
};
use crate::credential::Credentials;

/// How long connections may take to finish what they are at once the gateway stops.
const GRACE: Duration = Duration::from_secs(5);
/// How much of a body is gathered for a service that is not S3. The largest of them, Lambda, takes 6 MB.
const BODY_LIMIT: usize = 16 << 20;

/// Where the management URLs of workflows begin. A bucket that is called `runtime` keeps all its other keys.
const WORKFLOWS: &str = "/runtime/webhooks/durabletask/";

pub(super) type Error = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, Error>;

/// Answers S3's requests, and verifies their signatures itself.
#[async_trait::async_trait]
pub trait AnswersS3: Send + Sync {
    /// # Errors
    /// Only what it cannot put into an answer; the gateway then answers that something is wrong inside.
    async fn answer(&self, request: HttpRequest) -> Result<HttpResponse, HttpError>;
}

/// Who answers for each service.
#[derive(Clone)]
pub struct Routes {
    pub credentials: Arc<Credentials>,
    pub s3: Arc<dyn AnswersS3>,
    /// By the name in the credential scope: `lambda`. A router finds the caller's
    /// [`Principal`](crate::credential::Principal) in the request's extensions.
    pub others: HashMap<&'static str, Router>,
    /// Answers what is below `/v2/` and is not signed as AWS has it, and authenticates by itself.
    pub registry: Router,
    /// Answers what is below [`WORKFLOWS`] and is not signed, and authenticates by itself.
    pub workflows: Router,
    pub limits: Limits,
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routes").field("others", &self.others.keys()).finish_non_exhaustive()
    }
}

/// Serves until `stop` is cancelled; then takes no more connections, and returns when those under way are done, or
/// after five seconds.
pub async fn serve(bound: Bound, mut routes: Routes, stop: CancellationToken) {
    for router in routes.others.values_mut() {
        // The body was gathered, and bounded, to verify it.
        *router = std::mem::take(router).layer(DefaultBodyLimit::disable());
    }
    let room = Room::new(routes.limits.connections);
    let routes = Arc::new(routes);
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = bound.listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => match room.take() {
                Some(place) => {
                    connections.spawn(connection(stream, place, routes.clone(), stop.clone()));
                }
                None => tracing::warn!("closed a new connection, because all others are busy"),
            },
            Err(error) => {
                // Out of file descriptors, most likely: they come back when other connections end.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(bound);
    connections.close();
    if tokio::time::timeout(GRACE, connections.wait()).await.is_err() {
        tracing::warn!(left = connections.len(), "connections were cut, because they did not end in time");
    }
}

async fn connection(stream: TcpStream, place: Arc<Place>, routes: Arc<Routes>, stop: CancellationToken) {
    // An answer smaller than a packet must not wait for the acknowledgement of the one before.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(routes.limits.head);
    let at = place.clone();
    let service = service_fn(move |request| {
        let (routes, working) = (routes.clone(), at.work());
        async move { Ok::<_, Infallible>(held(routes.answer(request).await, working)) }
    });
    let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = place.unwanted.cancelled() => {
            // Between requests nothing is lost; a request that came just now is still answered.
            if !place.is_busy() {
                return;
            }
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// The answer, which keeps its connection from being idle until it is sent.
fn held(answer: Response<Body>, working: Working) -> Response<Body> {
    answer.map(|body| {
        body.map_err(move |error| {
            let _ = &working;
            error
        })
        .boxed_unsync()
    })
}

impl Routes {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let service = sigv4::service(request.headers(), request.uri()).map(str::to_owned);
        match service.as_deref() {
            None if is_registry(request.uri().path()) => self.pass_on(&self.registry, request).await,
            None if request.uri().path().starts_with(WORKFLOWS) => {
                self.pass_on(&self.workflows, request).await
            }
            None | Some("s3" | "sts") => self.to_s3(request).await,
            Some(service) => match self.others.get(service) {
                Some(router) => self.to_router(router, service, request).await,
                None => refuse(
                    StatusCode::NOT_IMPLEMENTED,
                    "UnknownService",
                    &format!("this cloud has no service `{service}`"),
                ),
            },
        }
    }

    async fn to_s3(&self, request: Request<Incoming>) -> Response<Body> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let answer = self
            .s3
            .answer(request.map(|body| s3s::Body::http_body_unsync(Timed::new(body, self.limits.body))))
            .await;
        match answer {
            Ok(response) => {
                if response.status() == StatusCode::FORBIDDEN {
                    tracing::info!(service = "s3", %method, path, "refused a request");
                }
                response.map(|body| body.map_err(Error::from).boxed_unsync())
            }
            Err(error) => {
                tracing::error!(error = %Error::from(error), "cannot answer an S3 request");
                refuse(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "InternalError",
                    "the request could not be answered",
                )
            }
        }
    }

    /// To who authenticates by itself. Bodies may be as large as images are, so they go on as they come.
    async fn pass_on(&self, router: &Router, request: Request<Incoming>) -> Response<Body> {
        let request = request.map(|body| axum::body::Body::new(Timed::new(body, self.limits.body)));
        let Ok(response) = router.clone().oneshot(request).await;
        response.map(|body| body.map_err(Error::from).boxed_unsync())
    }

    async fn to_router(&self, router: &Router, service: &str, request: Request<Incoming>) -> Response<Body> {
        let (mut parts, body) = request.into_parts();
        let body = match Limited::new(Timed::new(body, self.limits.body), BODY_LIMIT).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                return refuse(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "RequestEntityTooLargeException",
                    "the request's body is too large",
                );
            }
            Err(error) => {
                return refuse(
                    StatusCode::BAD_REQUEST,
                    "IncompleteBody",
                    &format!("the body ended early: {error}"),
                );
            }
        };
        match sigv4::verify(&parts, &body, service, &self.credentials, jiff::Timestamp::now()) {
            Ok(principal) => parts.extensions.insert(principal),
            Err(error) => {
                tracing::info!(service, %error, "refused a request");
                let message = error.to_string();
                let form = parts
                    .headers
                    .get(CONTENT_TYPE)
                    .is_some_and(|kind| kind.as_bytes().starts_with(FORM.as_bytes()));
                return match form {
                    true => refuse_form(StatusCode::FORBIDDEN, error.name(), &message),
                    false => refuse(StatusCode::FORBIDDEN, error.name(), &message),
                };
            }
        };
        let request = Request::from_parts(parts, axum::body::Body::from(body));
        let Ok(response) = router.clone().oneshot(request).await;
        response.map(|body| body.map_err(Error::from).boxed_unsync())
    }
}

const FORM: &str = "application/x-www-form-urlencoded";

/// An error as the AWS Query protocols have it. Neither names nor messages here hold anything that XML would take for its
/// own, but for the key id that the client sent.
fn refuse_form(status: StatusCode, name: &str, message: &str) -> Response<Body> {
    let message = message.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let body = format!(
        "<ErrorResponse><Error><Type>Sender</Type><Code>{name}</Code><Message>{message}</Message></Error></ErrorResponse>"
    );
    let body = Full::new(Bytes::from(body)).map_err(|never: Infallible| match never {}).boxed_unsync();
    Response::builder()
        .status(status)
        .header(CONTENT_TYPE, "text/xml")
        .body(body)
        .expect("a status, a valid header and a body make a response")
}

/// No bucket has this name: it is too short.
fn is_registry(path: &str) -> bool {
    path == "/v2" || path.starts_with("/v2/")
}

/// An error as the AWS JSON protocols have it: its name in a header, its message in the body.
fn refuse(status: StatusCode, name: &str, message: &str) -> Response<Body> {
    let body = serde_json::json!({ "__type": name, "message": message, "Message": message }).to_string();
    let body = Full::new(Bytes::from(body)).map_err(|never: Infallible| match never {}).boxed_unsync();
    Response::builder()
        .status(status)
        .header("x-amzn-errortype", name)
        .header("content-type", "application/json")
        .body(body)
        .expect("a status, two valid headers and a body make a response")
}
