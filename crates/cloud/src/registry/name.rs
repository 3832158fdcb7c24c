//! Names on the wire: repositories, tags, digests. Grammar: OCI distribution spec 1.1, "Pulling manifests".

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::RegistryError;

/// A repository, by the complete name of the images in it: `docker.io/library/app`.
///
/// Clients may leave out what Docker leaves out: `app` is the same repository, as `image: "app"` is the same image.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository(String);

const DOCKER: &str = "docker.io/";
const LIBRARY: &str = "docker.io/library/";

impl Repository {
    /// # Errors
    /// [`RegistryError::NameInvalid`]
    pub fn parse(text: &str) -> Result<Self, RegistryError> {
        let invalid = || RegistryError::NameInvalid(text.chars().take(255).collect());
        if text.len() > 255 || !text.split('/').all(is_component) {
            return Err(invalid());
        }
        // What may stand for a registry in front may have a port elsewhere, but not here: a colon is no name's.
        let complete = tandem_container::complete(text).map_err(|_| invalid())?;
        complete.strip_suffix(":latest").map(|name| Self(name.to_owned())).ok_or_else(invalid)
    }

    /// One that a row or the image store names in full.
    pub(super) fn complete(name: &str) -> Option<Self> {
        name.split('/').all(is_component).then(|| Self(name.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As a person writes it: without what is completed.
    pub(super) fn short(&self) -> &str {
        let plain = |rest: &&str| {
            let (first, more) = rest.split_once('/').map_or((*rest, false), |(first, _)| (first, true));
            !(more && (first.contains('.') || first == "localhost"))
        };
        let library = self.0.strip_prefix(LIBRARY).filter(|rest| !rest.contains('/'));
        library
            .or_else(|| self.0.strip_prefix(DOCKER).filter(|r| r.contains('/')).filter(plain))
            .unwrap_or(&self.0)
    }

    /// The image that a tag names: `docker.io/library/app:v1`.
    pub(super) fn image(&self, tag: &Tag) -> String {
        format!("{}:{}", self.0, tag.0)
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

/// Lower-case letters and digits, parted by one `.`, one or two `_`, or any number of `-`.
fn is_component(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends = |b: Option<&u8>| b.is_some_and(|b| word(*b));
    ends(bytes.first())
        && ends(bytes.last())
        && bytes
            .split(|b| word(*b))
            .all(|parting| matches!(parting, b"" | b"." | b"_" | b"__") || parting.iter().all(|b| *b == b'-'))
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(String);

impl Tag {
    pub fn parse(text: &str) -> Option<Self> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let legal = text.len() <= 128
            && text.bytes().next().is_some_and(word)
            && text.bytes().all(|b| word(b) || b == b'.' || b == b'-');
        legal.then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `sha256:<hex>`: the one algorithm that every registry must know, and the one that this knows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    pub(super) fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self::from_hash(&sha2::Sha256::digest(bytes))
    }

    pub(super) fn from_hash(hash: &[u8]) -> Self {
        Self(data_encoding::HEXLOWER.encode(hash))
    }

    pub(super) fn hex(&self) -> &str {
        &self.0
    }

    pub(super) fn from_hex(hex: &str) -> Option<Self> {
        let legal = hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        legal.then(|| Self(hex.to_owned()))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

impl FromStr for Digest {
    type Err = RegistryError;

    fn from_str(text: &str) -> Result<Self, RegistryError> {
        text.strip_prefix("sha256:").and_then(Self::from_hex).ok_or_else(|| RegistryError::DigestInvalid {
            reason: "a digest is `sha256:` and 64 hexadecimal digits; other algorithms are not known here"
                .to_owned(),
        })
    }
}

impl TryFrom<String> for Digest {
    type Error = RegistryError;

    fn try_from(text: String) -> Result<Self, RegistryError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// By what a manifest is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    Tag(Tag),
    Digest(Digest),
}

impl Reference {
    /// # Errors
    /// [`RegistryError::DigestInvalid`], or [`RegistryError::ManifestInvalid`] for what can be neither.
    pub fn parse(text: &str) -> Result<Self, RegistryError> {
        if text.contains(':') {
            return text.parse().map(Self::Digest);
        }
        let tag = Tag::parse(text).ok_or_else(|| {
            RegistryError::ManifestInvalid(
                "a tag has letters, digits, `_`, `.` and `-`, at most 128".to_owned(),
            )
        })?;
        Ok(Self::Tag(tag))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_the_name_of_an_image_completed_as_docker_does_it() {
        for (asked, complete, short) in [
            ("app", "docker.io/library/app", "app"),
            ("team/app", "docker.io/team/app", "team/app"),
            ("docker.io/library/app", "docker.io/library/app", "app"),
            ("docker.io/a.b/app", "docker.io/a.b/app", "docker.io/a.b/app"),
            (
                "localhost/tandem/shop-dev-job",
                "localhost/tandem/shop-dev-job",
                "localhost/tandem/shop-dev-job",
            ),
            ("ghcr.io/a/b__c/d--e", "ghcr.io/a/b__c/d--e", "ghcr.io/a/b__c/d--e"),
        ] {
            let repository = Repository::parse(asked).unwrap();
            assert_eq!((repository.as_str(), repository.short()), (complete, short), "{asked}");
            assert_eq!(Repository::parse(repository.short()).unwrap(), repository, "{asked}");
        }
        let long = "a".repeat(256);
        for wrong in ["", "App", "a//b", "/a", "a/", "a:1", "a@b", "../a", "a..b", "-a", "a___b", "ä", &long]
        {
            assert!(Repository::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn tags_and_digests_are_told_apart() {
        let hex = "a".repeat(64);
        assert!(matches!(Reference::parse("v1.0-rc_1"), Ok(Reference::Tag(_))));
        assert!(matches!(Reference::parse(&format!("sha256:{hex}")), Ok(Reference::Digest(_))));
        let upper = format!("sha256:{}", hex.to_uppercase());
        for wrong in ["", ".a", "a b", "sha256:12", "sha512:aa", &upper, &"x".repeat(129)] {
            assert!(Reference::parse(wrong).is_err(), "{wrong}");
        }
    }
}
