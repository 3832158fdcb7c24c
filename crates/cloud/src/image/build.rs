//! One build: what it reads, whether that was built before, and what it is called.

use std::{collections::BTreeMap, fs, time::Duration};

use bytes::Bytes;
use data_encoding::HEXLOWER;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tandem_container::{BuildRequest, ContainerError, Image, ImageRef, Platform, Unheard};
use tandem_model::{Secrets, Urn, inputs};
use tandem_store::Batch;

use super::{
    ImageError, Images, Passed, context, encode,
    facts::{Made, made_key},
    image_key,
};
use crate::provider::Lines;

impl Images {
    /// Builds an image, unless the same was built before, is not too old, and has the name that is `wanted`. Without such it is
    /// called after the resource and its hash.
    pub(super) async fn build(
        &self,
        urn: &Urn,
        build: &inputs::Build,
        secrets: &Secrets,
        wanted: Option<&str>,
        lines: &dyn Lines,
    ) -> Result<Image, ImageError> {
        let platform = platform(urn, build)?;
        if let Some(platform) = &platform {
            platform.check_runs_here(&format!("the build of {}", urn.short()))?;
        }
        let (unpacking_home, unpacking_urn, unpacking) = (self.home.clone(), urn.clone(), build.clone());
        let unpacked = tokio::task::spawn_blocking(move || {
            let folder = context::unpack(&unpacking_home, &unpacking_urn, &unpacking)?;
            let path = folder.path().join(&unpacking.dockerfile);
            let dockerfile = fs::read_to_string(&path).map_err(|source| ImageError::Io { path, source })?;
            Ok::<_, ImageError>((folder, dockerfile))
        });
        let (folder, dockerfile) = match unpacked.await {
            Ok(result) => result?,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        let bases = self.bases(build, &dockerfile, platform.as_ref(), lines).await?;
        let hash = hash(build, bases.as_ref());
        let turn = self.turn(&hash);
        let _turn = turn.lock().await;
        if bases.is_some()
            && let Some(image) = self.built(&hash).await?
            && !self.is_too_old(build, &image)?
            && wanted.is_none_or(|wanted| image.names.iter().any(|name| name == wanted))
        {
            lines.line(&format!("{} was built before: {}", build.folder, image.digest));
            return Ok(image);
        }
        let missing: Vec<String> =
            build.secrets.iter().filter(|id| !secrets.0.contains_key(*id)).cloned().collect();
        if !missing.is_empty() {
            return Err(ImageError::Secrets { of: urn.clone(), missing });
        }
        let request = BuildRequest {
            context: folder.path().to_owned(),
            dockerfile: build.dockerfile.clone(),
            args: build.args.clone(),
            target: build.target.clone(),
            name: wanted.map_or_else(|| name(urn, &hash), str::to_owned),
            certificates: build.extra_ca_certificates.iter().map(|one| one.pem.clone()).collect(),
            secrets: Secrets(
                secrets.0.clone().into_iter().filter(|(id, _)| build.secrets.contains(id)).collect(),
            ),
            cache_from: build.cache_from.clone(),
            platform,
            max_age: build.max_age.as_ref().map(|age| age.duration()),
        };
        let built = self.builder.build(&request, &Passed(lines)).await?;
        let made = Made { since: built.since, bases: bases.unwrap_or_default() };
        let mut batch = Batch::default();
        batch.put(image_key(&built.image.digest), encode(&built.image));
        batch.put(built_key(&hash), built.image.digest.clone().into_bytes());
        batch.put(made_key(&built.image.digest), made.encode());
        self.store.commit(batch).await?;
        Ok(built.image)
    }

    /// The images that the Dockerfile reads, by their complete names, and their digests; `None` if that cannot be told.
    async fn bases(
        &self,
        build: &inputs::Build,
        dockerfile: &str,
        platform: Option<&Platform>,
        lines: &dyn Lines,
    ) -> Result<Option<BTreeMap<String, String>>, ImageError> {
        let Some(bases) = context::bases(dockerfile, &build.args) else { return Ok(None) };
        let here = Platform::here();
        let wanted = platform.unwrap_or(&here);
        let mut digests = BTreeMap::new();
        for (base, line) in bases {
            let place = format!("{}/{}:{line}", build.folder.trim_end_matches('/'), build.dockerfile);
            let reference = ImageRef(base.clone());
            let found = match platform {
                // A pull that nobody asks for would take the one for this machine.
                Some(_) if !self.has(&base).await? => {
                    self.builder.pull(&reference, platform, &Passed(lines)).await
                }
                _ => self.builder.resolve(&reference, &Passed(lines)).await,
            };
            let found = found.map_err(|error| match error {
                ContainerError::NoImage { image, reason } => {
                    ImageError::Base { image, place: place.clone(), reason }
                }
                error @ (ContainerError::Pull(_) | ContainerError::Platform { .. }) => {
                    ImageError::Pull { place: place.clone(), source: error }
                }
                other => other.into(),
            })?;
            if let Some(platform) = found.platform.as_ref().filter(|platform| !platform.fits(wanted)) {
                return Err(ContainerError::Platform {
                    what: format!("the base image `{base}` ({place})"),
                    wanted: platform.clone().into(),
                    here: wanted.clone().into(),
                }
                .into());
            }
            digests.insert(tandem_container::complete(&base)?, found.digest);
        }
        Ok(Some(digests))
    }

    async fn has(&self, name: &str) -> Result<bool, ImageError> {
        let name = tandem_container::complete(name)?;
        Ok(self.builder.names().await?.iter().any(|(one, _)| *one == name))
    }

    /// The image that was built from that, if it is still there.
    async fn built(&self, hash: &str) -> Result<Option<Image>, ImageError> {
        let Some(digest) = self.store.snapshot()?.get(&built_key(hash))? else { return Ok(None) };
        let image = ImageRef(String::from_utf8_lossy(&digest).into_owned());
        match self.builder.resolve(&image, &Unheard).await {
            Ok(image) => Ok(Some(image)),
            Err(ContainerError::NoImage { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn is_too_old(&self, build: &inputs::Build, image: &Image) -> Result<bool, ImageError> {
        let Some(bound) = &build.max_age else { return Ok(false) };
        let since = self.made(&image.digest)?.map_or(image.created, |made| made.since);
        Ok(age(since) > bound.duration())
    }
}

/// How long ago that was. Nothing is younger than new.
fn age(since: Timestamp) -> Duration {
    Timestamp::now().duration_since(since).try_into().unwrap_or_default()
}

fn platform(urn: &Urn, build: &inputs::Build) -> Result<Option<Platform>, ImageError> {
    let read = build.platform.as_ref().map(|text| text.parse::<Platform>()).transpose();
    read.map_err(|error| ImageError::Property {
        of: urn.clone(),
        reason: format!("`build.platform`: {error}"),
    })
}

fn built_key(hash: &str) -> Bytes {
    format!("task/built/{hash}").into()
}

/// What a build reads, as one name: context, Dockerfile, arguments, target, base images, certificates, platform. Not what
/// it is called, nor its secrets: as with Docker, another value makes no other image.
fn hash(build: &inputs::Build, bases: Option<&BTreeMap<String, String>>) -> String {
    let inputs::Build { folder: _, context, dockerfile, args, target, .. } = build;
    let inputs::Build { extra_ca_certificates, platform, .. } = build;
    let bases = bases.map(|bases| bases.values().collect::<Vec<_>>());
    let mut read = vec![serde_json::json!([context, dockerfile, args, target, bases])];
    // Not there in what was built before there were such things.
    read.extend(extra_ca_certificates.iter().map(|one| serde_json::json!(["ca", one.pem])));
    read.extend(platform.iter().map(|platform| serde_json::json!(["platform", platform])));
    let text = read.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    HEXLOWER.encode(&Sha256::digest(text))
}

/// `localhost/tandem/<project>-<stack>-<task>:<hash>`, in the characters that names of images may have.
fn name(urn: &Urn, hash: &str) -> String {
    let raw = format!("{}-{}-{}", urn.stack.project, urn.stack.stack, urn.name).to_lowercase();
    let words: Vec<&str> =
        raw.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty()).collect();
    format!("localhost/tandem/{}:{}", words.join("-"), &hash[..12])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(json: serde_json::Value) -> inputs::Build {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn the_name_of_an_image_is_legal_whatever_the_task_is_called() {
        let urn = "urn:tandem:My.Shop:dev_1:task:ffmpeg--Task_".parse().unwrap();
        assert_eq!(name(&urn, "0123456789abcdef"), "localhost/tandem/my-shop-dev-1-ffmpeg-task:0123456789ab");
    }

    #[test]
    fn the_same_content_is_the_same_build_and_anything_it_reads_makes_another() {
        let of = |extra: serde_json::Value, base: &str| {
            let mut inputs = serde_json::json!({ "folder": "./a", "context": "sha256:1" });
            let (Some(all), Some(more)) = (inputs.as_object_mut(), extra.as_object()) else {
                panic!("objects")
            };
            all.extend(more.clone());
            hash(&build(inputs), Some(&BTreeMap::from([("base".to_owned(), base.to_owned())])))
        };
        let one = of(serde_json::json!({}), "sha256:b");
        for same in [
            serde_json::json!({ "folder": "./b" }),
            serde_json::json!({ "secrets": ["npm"], "cacheFrom": ["ci/cache"] }),
            serde_json::json!({ "maxAge": "7d", "renewed": "2026-11-26T08:00:00Z" }),
        ] {
            assert_eq!(of(same.clone(), "sha256:b"), one, "{same}");
        }
        for other in [
            serde_json::json!({ "args": { "A": "1" } }),
            serde_json::json!({ "platform": "linux/arm64" }),
            serde_json::json!({ "extraCaCertificates": [{ "file": "a.pem", "pem": "A" }] }),
        ] {
            assert_ne!(of(other.clone(), "sha256:b"), one, "{other}");
        }
        assert_ne!(of(serde_json::json!({}), "sha256:c"), one);
    }
}
