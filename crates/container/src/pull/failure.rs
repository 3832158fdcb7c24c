//! What can go wrong in one request, whether it is worth another, and when.

use std::time::Duration;

use oci_client::errors::{DigestError, OciDistributionError, OciErrorCode};
use reqwest::StatusCode;

use super::error::PullError;
use crate::ContainerError;

/// One request, or what came of it, failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// 401 or 403.
    Denied(String),
    /// 404.
    Missing(String),
    /// 429; the registry may say when to come again.
    Throttled(Option<Duration>),
    /// Nobody answers there.
    Unreachable(String),
    /// An answer that is none: 5xx, a connection that ended, silence.
    Broken(String),
    /// Other bytes than the digest says.
    Damaged(String),
    /// It will not be another time.
    Final(String),
    /// Not the registry's.
    Own(Box<ContainerError>),
}

impl From<ContainerError> for Failure {
    fn from(error: ContainerError) -> Self {
        Self::Own(Box::new(error))
    }
}

impl Failure {
    /// From the answer to a request.
    pub(super) fn of_status(status: StatusCode, body: &str) -> Self {
        let said = format!("it answered {status}{}", first_words(body));
        match status.as_u16() {
            401 | 403 => Self::Denied(said),
            404 => Self::Missing(said),
            429 => Self::Throttled(None),
            408 | 500.. => Self::Broken(said),
            _ => Self::Final(said),
        }
    }

    pub(super) fn of_request(error: &reqwest::Error) -> Self {
        let said = chain(error);
        match error {
            error if error.is_connect() => Self::Unreachable(said),
            error if error.is_timeout() => Self::Broken("it did not answer in time".to_owned()),
            error if error.is_builder() || error.is_redirect() => Self::Final(said),
            _ => Self::Broken(said),
        }
    }

    pub(super) fn of_stream(error: &std::io::Error) -> Self {
        let inner = error.get_ref();
        if let Some(DigestError::VerificationError { expected, actual }) =
            inner.and_then(|e| e.downcast_ref())
        {
            return Self::Damaged(format!("it announced {expected} and sent {actual}"));
        }
        match inner.and_then(|e| e.downcast_ref::<reqwest::Error>()) {
            Some(error) => Self::of_request(error),
            None => Self::Broken(error.to_string()),
        }
    }

    pub(super) fn of_registry(error: OciDistributionError) -> Self {
        use OciDistributionError as E;
        match error {
            E::RequestError(error) => Self::of_request(&error),
            E::IoError(error) => Self::of_stream(&error),
            E::DigestError(error) => Self::Damaged(error.to_string()),
            E::UnauthorizedError { .. } => Self::Denied("it answered 401 Unauthorized".to_owned()),
            E::ServerError { code, message, .. } => match StatusCode::from_u16(code) {
                Ok(status) => Self::of_status(status, &message),
                Err(_) => Self::Broken(format!("it answered {code}")),
            },
            E::RegistryError { envelope, .. } => {
                let said = envelope.errors.iter().map(|error| match error.message.as_str() {
                    "" => format!("{:?}", error.code),
                    message => message.to_owned(),
                });
                let said = format!("it says: {}", said.collect::<Vec<_>>().join("; "));
                let is =
                    |codes: &[OciErrorCode]| envelope.errors.iter().any(|error| codes.contains(&error.code));
                use OciErrorCode as C;
                if is(&[C::Toomanyrequests]) {
                    Self::Throttled(None)
                } else if is(&[C::Unauthorized, C::Denied]) {
                    Self::Denied(said)
                } else if is(&[C::ManifestUnknown, C::NameUnknown, C::NotFound, C::BlobUnknown]) {
                    Self::Missing(said)
                } else {
                    Self::Final(said)
                }
            }
            other => Self::Final(other.to_string()),
        }
    }

    /// For the person who asked.
    pub(super) fn told(self, image: &str, registry: &str, signed_in: bool) -> ContainerError {
        let (image, registry) = (image.to_owned(), registry.to_owned());
        let missing = |said: String| ContainerError::NoImage {
            image: image.clone(),
            reason: format!("it is not in the store and could not be pulled from `{registry}`: {said}"),
        };
        let error = match self {
            Self::Own(error) => return *error,
            Self::Missing(said) | Self::Unreachable(said) | Self::Final(said) => return missing(said),
            Self::Denied(reason) => PullError::Denied { image, registry, signed_in, reason },
            Self::Throttled(_) => PullError::Throttled { image, registry },
            Self::Broken(reason) => PullError::Broken { image, registry, reason },
            Self::Damaged(reason) => PullError::Damaged { image, registry, reason },
        };
        ContainerError::Pull(error)
    }
}

/// How often, and with which pauses, something is tried again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pauses {
    pub(super) first: Duration,
    /// No pause is longer, whatever the registry asks for.
    pub(super) longest: Duration,
    pub(super) times: u32,
    /// How long an answer, or its next part, may be awaited.
    pub(super) silence: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        let (first, longest) = (Duration::from_millis(500), Duration::from_secs(20));
        Self { first, longest, times: 5, silence: Duration::from_secs(30) }
    }
}

/// Counts down.
#[derive(Debug)]
pub(super) struct Patience {
    pauses: Pauses,
    used: u32,
    /// Of what may happen once.
    once: u32,
}

impl Patience {
    pub(super) fn new(pauses: Pauses) -> Self {
        Self { pauses, used: 0, once: 0 }
    }

    /// Something moved: what failed before is forgiven.
    pub(super) fn restore(&mut self) {
        self.used = 0;
    }

    /// Waits for the next attempt.
    ///
    /// # Errors
    /// The failure, if it is not worth another attempt or there were enough.
    pub(super) async fn after(&mut self, failure: Failure) -> Result<(), Failure> {
        let (used, most, asked) = match &failure {
            Failure::Throttled(asked) => (&mut self.used, self.pauses.times, *asked),
            Failure::Broken(_) => (&mut self.used, self.pauses.times, None),
            // A registry that is not there seldom comes back within seconds; and what was damaged on the way may not
            // be a second time.
            Failure::Unreachable(_) | Failure::Damaged(_) => (&mut self.once, 1, None),
            Failure::Denied(_) | Failure::Missing(_) | Failure::Final(_) | Failure::Own(_) => {
                return Err(failure);
            }
        };
        if *used >= most {
            return Err(failure);
        }
        let pause = asked.unwrap_or(self.pauses.first * 2_u32.pow((*used).min(10)));
        *used += 1;
        tracing::debug!(?failure, ?pause, "trying again");
        tokio::time::sleep(pause.min(self.pauses.longest)).await;
        Ok(())
    }
}

/// An error with what is behind it, and without addresses, which may have tokens in them.
fn chain(error: &reqwest::Error) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut next = std::error::Error::source(error);
    while let Some(error) = next {
        let word = error.to_string();
        if words.last() != Some(&word) {
            words.push(word);
        }
        next = error.source();
    }
    if words.is_empty() { "the request failed".to_owned() } else { words.join(": ") }
}

/// What an answer begins with, if it is text for people.
fn first_words(body: &str) -> String {
    let line = body.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let plain = !line.starts_with(['<', '{', '[']) && !line.chars().any(char::is_control);
    if line.is_empty() || !plain { String::new() } else { format!(": {:.120}", line) }
}
