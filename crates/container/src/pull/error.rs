//! Why an image could not be pulled, for the person who asked.

use std::path::PathBuf;

use tandem_model::Explain;

/// What a registry, or the way to it, has against a pull. An image that is not there, and a registry that cannot be
/// reached, are [`ContainerError::NoImage`](crate::ContainerError::NoImage).
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    #[error("the registry `{registry}` does not let you pull `{image}`")]
    Denied {
        image: String,
        registry: String,
        /// Whether it was asked with credentials.
        signed_in: bool,
        reason: String,
    },
    #[error("the registry `{registry}` gets too many requests, and did not answer for `{image}`")]
    Throttled { image: String, registry: String },
    #[error("pulling `{image}` from `{registry}` broke off")]
    Broken { image: String, registry: String, reason: String },
    #[error("what `{registry}` sent for `{image}` is not what it announced")]
    Damaged { image: String, registry: String, reason: String },
    #[error("there is no `{image}` for `{wanted}`")]
    NoPlatform { image: String, wanted: String, found: Vec<String> },
    #[error("`{}` does not let `{image}` be pulled", path.display())]
    Settings { image: String, path: PathBuf, reason: String },
}

impl PullError {
    /// What is below the message.
    #[must_use]
    pub fn causes(&self) -> Vec<String> {
        match self {
            Self::Throttled { .. } => Vec::new(),
            Self::Denied { reason, .. }
            | Self::Broken { reason, .. }
            | Self::Damaged { reason, .. }
            | Self::Settings { reason, .. } => vec![reason.clone()],
            Self::NoPlatform { found, .. } if found.is_empty() => {
                vec!["it is there for no platform at all".to_owned()]
            }
            Self::NoPlatform { found, .. } => vec![format!("it is there for {}", found.join(", "))],
        }
    }
}

impl Explain for PullError {
    fn code(&self) -> &'static str {
        match self {
            Self::Denied { .. } => "E0414",
            Self::Throttled { .. } => "E0415",
            Self::Broken { .. } => "E0416",
            Self::Damaged { .. } => "E0417",
            Self::NoPlatform { .. } => "E0418",
            Self::Settings { .. } => "E0419",
        }
    }

    fn help(&self) -> String {
        match self {
            Self::Denied { registry, signed_in: false, .. } => format!(
                "see that the name is right; if the image is private, log in with `docker login {registry}` or \
                 `buildah login {registry}`, then try again"
            ),
            Self::Denied { registry, .. } => format!(
                "see that the name is right and that your account may pull it, or log in anew with `docker login \
                 {registry}` or `buildah login {registry}`"
            ),
            Self::Throttled { registry, .. } => format!(
                "wait and try again; or log in (`docker login {registry}`), which most registries answer more often"
            ),
            Self::Broken { .. } => "try again: it goes on where it stopped".into(),
            Self::Damaged { .. } => {
                "try again; if it stays so, the registry or a proxy before it is at fault, or the image has to be \
                 pushed anew"
                    .into()
            }
            Self::NoPlatform { .. } => "use another tag or image, or build it for this platform".into(),
            Self::Settings { path, .. } => format!("mend `{}`, or use another image", path.display()),
        }
    }
}
