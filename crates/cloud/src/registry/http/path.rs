//! What a path asks for.

use super::super::{Digest, Reference, RegistryError, Repository};

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    Version,
    Catalog,
    Tags(Repository),
    Referrers(Repository, Digest),
    Manifest(Repository, Reference),
    Blob(Digest),
    Uploads(Repository),
    Upload(Repository, String),
}

/// # Errors
/// [`RegistryError`] for what the spec does not have, and for names that nothing can have.
pub(super) fn parse(path: &str) -> Result<Target, RegistryError> {
    let rest = path.strip_prefix("/v2").ok_or(RegistryError::Unsupported)?;
    let rest = rest.strip_prefix('/').unwrap_or(rest);
    match rest {
        "" => return Ok(Target::Version),
        "_catalog" => return Ok(Target::Catalog),
        _ => {}
    }
    if let Some(name) = rest.strip_suffix("/tags/list") {
        return Ok(Target::Tags(Repository::parse(name)?));
    }
    if let Some(name) = rest.strip_suffix("/blobs/uploads/").or_else(|| rest.strip_suffix("/blobs/uploads")) {
        return Ok(Target::Uploads(Repository::parse(name)?));
    }
    // From the end: a repository may have components of these names.
    let (front, last) = rest.rsplit_once('/').ok_or(RegistryError::Unsupported)?;
    if let Some(name) = front.strip_suffix("/blobs/uploads") {
        return Ok(Target::Upload(Repository::parse(name)?, last.to_owned()));
    }
    if let Some(name) = front.strip_suffix("/blobs") {
        Repository::parse(name)?;
        return Ok(Target::Blob(last.parse()?));
    }
    if let Some(name) = front.strip_suffix("/manifests") {
        return Ok(Target::Manifest(Repository::parse(name)?, Reference::parse(last)?));
    }
    if let Some(name) = front.strip_suffix("/referrers") {
        return Ok(Target::Referrers(Repository::parse(name)?, last.parse()?));
    }
    Err(RegistryError::Unsupported)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_known_by_its_end() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let repository = |name: &str| Repository::parse(name).unwrap();
        assert_eq!(parse("/v2/").unwrap(), Target::Version);
        assert_eq!(parse("/v2").unwrap(), Target::Version);
        assert_eq!(parse("/v2/_catalog").unwrap(), Target::Catalog);
        assert_eq!(parse("/v2/a/b/tags/list").unwrap(), Target::Tags(repository("a/b")));
        assert_eq!(parse("/v2/a/blobs/uploads/").unwrap(), Target::Uploads(repository("a")));
        assert_eq!(parse("/v2/a/blobs/uploads/1").unwrap(), Target::Upload(repository("a"), "1".to_owned()));
        assert_eq!(
            parse(&format!("/v2/blobs/x/blobs/{digest}")).unwrap(),
            Target::Blob(digest.parse().unwrap())
        );
        let manifest = parse("/v2/manifests/manifests/manifests/latest").unwrap();
        assert_eq!(
            manifest,
            Target::Manifest(repository("manifests/manifests"), Reference::parse("latest").unwrap())
        );
        for wrong in
            ["/v2/a", "/v2//manifests/x", "/v2/A/manifests/x", "/v2/a/blobs/x", "/v3/", "/v2/../manifests/x"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
