//! What there is: repositories, tags, and what refers to a manifest.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    Registry, RegistryError,
    manifest::OCI_INDEX,
    name::{Digest, Repository},
    store,
};

/// A page of names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) names: Vec<String>,
    pub(super) more: bool,
}

/// Those after `last`, at most `most`.
fn page(names: BTreeSet<String>, most: Option<usize>, last: Option<&str>) -> Page {
    let mut names: Vec<String> =
        names.into_iter().filter(|name| last.is_none_or(|last| &**name > last)).collect();
    let most = most.unwrap_or(names.len());
    let more = names.len() > most && most > 0;
    names.truncate(most);
    Page { names, more }
}

impl Registry {
    /// The repositories that have a tag, or an image in the image store.
    pub(super) async fn catalog(
        &self,
        most: Option<usize>,
        last: Option<&str>,
    ) -> Result<Page, RegistryError> {
        let tags = store::tags(&*self.store.snapshot()?, None)?;
        let of_tags = tags.into_iter().map(|(repository, ..)| repository);
        let named = self.image_names().await;
        let of_images = named.iter().filter_map(|(name, _)| Some(tagged(name)?.0));
        let names = of_tags.chain(of_images).map(|repository| repository.short().to_owned()).collect();
        Ok(page(names, most, last))
    }

    /// # Errors
    /// [`RegistryError::NameUnknown`] if there is nothing of that name.
    pub(super) async fn tags(
        &self,
        repository: &Repository,
        most: Option<usize>,
        last: Option<&str>,
    ) -> Result<Page, RegistryError> {
        let (tags, is_known) = {
            let snapshot = self.store.snapshot()?;
            let tags = store::tags(&*snapshot, Some(repository))?;
            let is_known = !store::manifests(&*snapshot, Some(repository))?.is_empty();
            (tags, is_known)
        };
        let named = self.image_names().await;
        let of_images = named.iter().filter_map(|(name, _)| tagged(name)).filter(|(of, _)| of == repository);
        let names: BTreeSet<String> = tags
            .into_iter()
            .map(|(_, tag, _)| tag.as_str().to_owned())
            .chain(of_images.map(|(_, tag)| tag))
            .collect();
        if names.is_empty() && !is_known {
            return Err(RegistryError::NameUnknown(repository.to_string()));
        }
        Ok(page(names, most, last))
    }

    /// An index of the manifests whose subject is this one.
    pub(super) fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Value, RegistryError> {
        let all = store::manifests(&*self.store.snapshot()?, Some(repository))?.into_iter();
        let manifests: Vec<Value> = all
            .filter(|(_, _, row)| row.subject.as_ref() == Some(subject))
            .filter(|(_, _, row)| artifact_type.is_none() || row.artifact_type.as_deref() == artifact_type)
            .map(|(_, digest, row)| {
                let mut described =
                    json!({ "mediaType": row.media_type, "digest": digest.to_string(), "size": row.size });
                if let Some(kind) = row.artifact_type {
                    described["artifactType"] = kind.into();
                }
                if let Some(annotations) = row.annotations {
                    described["annotations"] = json!(annotations);
                }
                described
            })
            .collect();
        Ok(json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests }))
    }
}

/// A name of the image store in two: `docker.io/library/app`, `v1`.
fn tagged(name: &str) -> Option<(Repository, String)> {
    let (repository, tag) = name.rsplit_once(':')?;
    Some((Repository::complete(repository)?, tag.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_go_on_after_the_last_name() {
        let names = || ["a", "b", "c"].map(str::to_owned).into();
        let of = |names: &[&str], more| Page { names: names.iter().map(|n| (*n).to_owned()).collect(), more };
        assert_eq!(page(names(), None, None), of(&["a", "b", "c"], false));
        assert_eq!(page(names(), Some(2), None), of(&["a", "b"], true));
        assert_eq!(page(names(), Some(2), Some("b")), of(&["c"], false));
        assert_eq!(page(names(), Some(0), None), of(&[], false));
        assert_eq!(page(names(), Some(9), Some("zz")), of(&[], false));
    }
}
