//! Names of images, completed as Docker completes them.
//!
//! `ffmpeg` is `docker.io/library/ffmpeg:latest`, `jrottenberg/ffmpeg:4` is `docker.io/jrottenberg/ffmpeg:4`, and
//! `registry.example:5000/x` stays where it is. Grammar: OCI distribution spec 1.1, "Pulling manifests".

use crate::{ContainerError, ImageRef};

/// What somebody means by an [`ImageRef`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reference {
    /// `sha256:<hex>` of an image's configuration, in full.
    Digest(String),
    /// A complete name: registry, path, and tag or `@sha256:…` of a manifest.
    Name(String),
}

const REGISTRY: &str = "docker.io";
/// Docker's older name of the same place.
const OLD_REGISTRY: &str = "index.docker.io";

/// # Errors
/// [`ContainerError::NoImage`] if no image can have this name.
pub(crate) fn parse(image: &ImageRef) -> Result<Reference, ContainerError> {
    let text = image.0.trim();
    if let Some(hex) = text.strip_prefix("sha256:") {
        return match is_hex_digest(hex) {
            true => Ok(Reference::Digest(text.to_owned())),
            false => Err(refused(text, "a digest is `sha256:` and 64 hexadecimal digits")),
        };
    }
    name(text).map(Reference::Name)
}

/// Completes an image's name, as Docker does it.
///
/// # Errors
/// [`ContainerError::NoImage`] if no image can have this name.
pub fn name(text: &str) -> Result<String, ContainerError> {
    let text = text.trim();
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    if digest.is_some_and(|digest| !digest.strip_prefix("sha256:").is_some_and(is_hex_digest)) {
        return Err(refused(text, "what follows `@` is `sha256:` and 64 hexadecimal digits"));
    }
    let (path, tag) = match rest.rsplit_once(':') {
        // A colon before a slash belongs to a port.
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (rest, None),
    };
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err(refused(text, "a tag has letters, digits, `_`, `.` and `-`, at most 128"));
    }
    let (registry, path) = match path.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest.to_owned()),
        Some(_) => (REGISTRY, path.to_owned()),
        None => (REGISTRY, format!("library/{path}")),
    };
    let registry = if registry == OLD_REGISTRY { REGISTRY } else { registry };
    if !is_registry(registry) || path.split('/').any(|part| !is_path_part(part)) {
        return Err(refused(text, "an image's name has lower-case letters, digits, `.`, `_`, `-` and `/`"));
    }
    Ok(match (tag, digest) {
        (_, Some(digest)) => format!("{registry}/{path}@{digest}"),
        (tag, None) => format!("{registry}/{path}:{}", tag.unwrap_or("latest")),
    })
}

/// How the tag begins under which the image store knows an image that is called by its manifest's digest: Buildah gives
/// no such names itself.
const BY_DIGEST: &str = ":tandem-sha256-";

/// A complete name, as the image store has it.
pub(crate) fn stored(name: &str) -> String {
    name.replacen("@sha256:", BY_DIGEST, 1)
}

/// A name of the image store, as people have it.
pub(crate) fn outward(name: &str) -> String {
    match name.split_once(BY_DIGEST) {
        Some((path, hex)) if is_hex_digest(hex) => format!("{path}@sha256:{hex}"),
        _ => name.to_owned(),
    }
}

fn refused(text: &str, reason: &str) -> ContainerError {
    ContainerError::NoImage { image: text.to_owned(), reason: reason.to_owned() }
}

fn is_hex_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_registry(text: &str) -> bool {
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'[');
    first && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']'))
}

fn is_tag(text: &str) -> bool {
    let mut bytes = text.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    first && text.len() <= 128 && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

fn is_path_part(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends = text.bytes().next().is_some_and(plain) && text.bytes().next_back().is_some_and(plain);
    ends && text.bytes().all(|b| plain(b) || matches!(b, b'_' | b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_completed_as_docker_does() {
        for (short, full) in [
            ("ffmpeg", "docker.io/library/ffmpeg:latest"),
            ("ffmpeg:4.4", "docker.io/library/ffmpeg:4.4"),
            ("jrottenberg/ffmpeg", "docker.io/jrottenberg/ffmpeg:latest"),
            ("index.docker.io/a/b", "docker.io/a/b:latest"),
            ("localhost/x", "localhost/x:latest"),
            ("registry.example:5000/team/x:1", "registry.example:5000/team/x:1"),
        ] {
            assert_eq!(name(short).unwrap(), full);
        }
        let digest = format!("sha256:{}", "a".repeat(64));
        assert_eq!(name(&format!("x@{digest}")).unwrap(), format!("docker.io/library/x@{digest}"));
        let named = name(&format!("x@{digest}")).unwrap();
        assert!(!stored(&named).contains('@') && outward(&stored(&named)) == named);
        assert_eq!(outward("docker.io/library/x:tandem-sha256-1"), "docker.io/library/x:tandem-sha256-1");
        assert_eq!(parse(&ImageRef(digest.clone())).unwrap(), Reference::Digest(digest));
    }

    #[test]
    fn what_cannot_be_a_name_is_refused() {
        for bad in [
            "",
            "Upper",
            "a//b",
            "a/-b",
            "x:",
            "x:.tag",
            "x@sha256:12",
            "../etc",
            "a b",
            "--help",
            "sha256:xyz",
        ] {
            assert!(parse(&ImageRef(bad.into())).is_err(), "{bad}");
        }
    }
}
