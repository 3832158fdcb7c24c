//! Pulls images from registries (OCI distribution spec 1.1) into OCI image layouts, from where the image store takes them.
//!
//! What is fetched lies in a folder of its own for each name, by digest: a pull that broke off, or was killed, goes on where
//! it stopped. Nothing counts before it has the digest that was announced for it: the manifest's digest covers those of
//! the configuration and the layers.
//!
//! Who is asked, and as whom, is in the user's own files: [`registries`] (mirrors), [`credentials`], [`sources`] (where they
//! are). [`access`] signs in, [`blob`] fetches, [`failure`] says what is tried again. Start at [`Puller`]. See decision
//! 0155.

mod access;
mod blob;
mod credentials;
mod error;
mod failure;
mod manifest;
mod progress;
mod registries;
mod sources;

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::{
    sync::{OwnedMutexGuard, Semaphore},
    task::JoinSet,
};

pub use error::PullError;
pub(crate) use failure::Pauses;
pub(crate) use sources::Sources;

use crate::{ContainerError, Lines, Platform, layout::at};
use access::{Access, MANIFESTS};
use credentials::{Credentials, Found};
use failure::{Failure, Patience};
use manifest::{Descriptor, Manifest};
use progress::Progress;
use registries::{Endpoint, Registries};

/// How many layers are fetched at once.
const AT_ONCE: usize = 3;
/// What a pull that broke off has fetched is kept for so long.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3_600);
/// The largest manifest: what the spec asks registries to take.
const LARGEST_MANIFEST: usize = 4 << 20;
/// The largest configuration of an image.
const LARGEST_CONFIG: u64 = 16 << 20;
/// So many bytes more are a step forward, after which earlier failures do not count.
const STEP: u64 = 64 << 10;

/// Pulls into one folder.
#[derive(Debug)]
pub(crate) struct Puller {
    folder: PathBuf,
    /// `None`: those of this user, read anew each time.
    sources: Option<Sources>,
    pauses: Pauses,
    /// One pull of a name at a time.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// An image that came whole, as the folder of an OCI image layout.
#[derive(Debug)]
pub(crate) struct Pulled {
    pub(crate) folder: PathBuf,
    /// Which of the images in the layout it is, if it came as one of several.
    pub(crate) platform: Option<Platform>,
    /// Whether layers are not in the folder because the image store has them.
    pub(crate) lacking: bool,
    _turn: OwnedMutexGuard<()>,
}

impl Pulled {
    /// The image store has it.
    pub(crate) fn finish(self) {
        // What stays is cleared away by its age.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Puller {
    pub(crate) fn new(folder: PathBuf, sources: Option<Sources>, pauses: Pauses) -> Self {
        Self { folder, sources, pauses, turns: Mutex::default() }
    }

    /// Fetches what a complete name means, for a platform or for this machine, without the layers in `stored` (digests).
    ///
    /// # Errors
    /// [`ContainerError::NoImage`] if there is none or nobody can be reached, [`ContainerError::Platform`] if it is for
    /// other machines, [`ContainerError::Pull`] for the rest.
    pub(crate) async fn pull(
        &self,
        name: &str,
        platform: Option<&Platform>,
        stored: &HashSet<String>,
        lines: &dyn Lines,
    ) -> Result<Pulled, ContainerError> {
        let folder = self.folder(name, platform);
        let turn = self.turn(&folder).lock_owned().await;
        lines.line(&format!("pulling {name}"));
        let sources = self.sources.clone().unwrap_or_else(Sources::of_this_user);
        let endpoints = Registries::read(&sources, name)?.endpoints(name)?;
        let mut last = None;
        for endpoint in &endpoints {
            let found = credentials::find(&sources, &endpoint.registry, &endpoint.repository).await;
            let one = One {
                sources: &sources,
                endpoint,
                found: &found,
                pauses: self.pauses,
                name,
                platform,
                folder: &folder,
                stored,
                lines,
            };
            match one.pull().await {
                Ok((platform, lacking)) => {
                    return Ok(Pulled { folder, platform, lacking, _turn: turn });
                }
                Err(Failure::Own(error)) => return Err(*error),
                Err(failure) => {
                    if endpoint.mirror {
                        let said = one.told(failure);
                        let reason = tandem_model::Explain::report(&said).causes.pop();
                        let reason = reason.unwrap_or_else(|| said.to_string());
                        lines.line(&format!("the mirror {} does not have it: {reason}", endpoint.registry));
                        last = Some(said);
                    } else {
                        last = Some(one.told(failure));
                    }
                }
            }
        }
        Err(last.unwrap_or_else(|| ContainerError::NoImage {
            image: name.to_owned(),
            reason: "its name has no registry".to_owned(),
        }))
    }

    fn folder(&self, name: &str, platform: Option<&Platform>) -> PathBuf {
        let platform = platform.map(Platform::to_string).unwrap_or_default();
        let hash = Sha256::digest(format!("{name} {platform}"));
        self.folder.join(&data_encoding::HEXLOWER.encode(&hash)[..32])
    }

    fn turn(&self, folder: &Path) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        turns.entry(folder.display().to_string()).or_default().clone()
    }
}

/// Removes what pulls have left that broke off long ago.
pub(crate) fn clear(folder: &Path) -> Result<(), ContainerError> {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let blobs = fs::read_dir(path.join("blobs/sha256")).into_iter().flatten().flatten();
        let times = [entry].into_iter().chain(blobs).filter_map(|one| one.metadata().ok()?.modified().ok());
        let age = times.max().and_then(|time| time.elapsed().ok());
        if age.is_some_and(|age| age > KEPT) {
            fs::remove_dir_all(&path).map_err(at(path))?;
        }
    }
    Ok(())
}

/// One pull from one place.
struct One<'a> {
    sources: &'a Sources,
    endpoint: &'a Endpoint,
    found: &'a Found,
    pauses: Pauses,
    name: &'a str,
    platform: Option<&'a Platform>,
    folder: &'a Path,
    stored: &'a HashSet<String>,
    lines: &'a dyn Lines,
}

impl One<'_> {
    fn told(&self, failure: Failure) -> ContainerError {
        let failure = match (failure, &self.found.trouble) {
            (Failure::Denied(said), Some(trouble)) => Failure::Denied(format!("{said}; {trouble}")),
            (failure, _) => failure,
        };
        let signed_in = self.found.credentials != Credentials::Nobody;
        failure.told(self.name, &self.endpoint.registry, signed_in)
    }

    /// A mirror is not waited for: there is another place to ask.
    fn patience(&self) -> Patience {
        let times = if self.endpoint.mirror { 1 } else { self.pauses.times };
        Patience::new(Pauses { times, ..self.pauses })
    }

    /// Fetches all that is not there yet, and writes the layout around it.
    async fn pull(&self) -> Result<(Option<Platform>, bool), Failure> {
        let access = self.open().await?;
        let wanted = match self.name.split_once('@') {
            Some((_, digest)) => digest,
            None => self.name.rsplit_once(':').map_or("latest", |(_, tag)| tag),
        };
        let (bytes, top) = self.manifest(&access, wanted).await?;
        let (read, media_type) = manifest::parse(&bytes).map_err(Failure::Final)?;
        let mut manifests = vec![(top.clone(), bytes)];
        let (image, platform) = match read {
            Manifest::Image { .. } => (read, None),
            Manifest::Index(all) => {
                let (chosen, platform) = manifest::choose(&all, self.platform).map_err(|found| {
                    let wanted = self.platform.cloned().unwrap_or_else(Platform::here).to_string();
                    let image = self.name.to_owned();
                    Failure::from(ContainerError::Pull(PullError::NoPlatform { image, wanted, found }))
                })?;
                let (bytes, digest) = self.manifest(&access, &chosen.digest).await?;
                let (read, _) = manifest::parse(&bytes).map_err(Failure::Final)?;
                manifests.push((digest, bytes));
                (read, Some(platform))
            }
        };
        let Manifest::Image { config, layers } = image else {
            return Err(Failure::Final("a list of images leads to another list".to_owned()));
        };
        if config.size > LARGEST_CONFIG {
            return Err(Failure::Final(format!("its configuration has {} bytes", config.size)));
        }
        let blobs = self.folder.join("blobs/sha256");
        tokio::fs::create_dir_all(&blobs).await.map_err(at(&blobs)).map_err(Failure::from)?;
        let access = Arc::new(access);
        let silent = Progress::silent();
        self.fetch(&access, vec![config.clone()], &silent).await?;
        self.check_platform(&blob::path(&blobs, &config), platform.is_some())?;

        let mut seen = HashSet::new();
        let unique: Vec<Descriptor> =
            layers.into_iter().filter(|layer| seen.insert(layer.digest.clone())).collect();
        let count = unique.len();
        let missing: Vec<Descriptor> =
            unique.into_iter().filter(|layer| !self.stored.contains(&layer.digest)).collect();
        let lacking = missing.len() < count;
        let progress = Progress::of(self.name, missing.iter().map(|layer| layer.size).sum());
        self.fetch(&access, missing, &progress).await?;
        self.write(media_type, &top, &manifests).map_err(at(self.folder)).map_err(Failure::from)?;
        Ok((platform, lacking))
    }

    async fn open(&self) -> Result<Access, Failure> {
        let mut patience = self.patience();
        loop {
            match Access::open(self.sources, self.endpoint, &self.found.credentials, self.pauses.silence)
                .await
            {
                Ok(access) => return Ok(access),
                Err(failure) => patience.after(failure).await?,
            }
        }
    }

    /// A manifest by its tag or digest, and its digest.
    async fn manifest(&self, access: &Access, wanted: &str) -> Result<(Vec<u8>, String), Failure> {
        let reference = access.reference(wanted);
        let mut patience = self.patience();
        let bytes = loop {
            let answer = access.client.pull_manifest_raw(&reference, &access.auth, MANIFESTS).await;
            match answer.map_err(Failure::of_registry) {
                Ok((bytes, _)) => break bytes,
                Err(failure) => patience.after(failure).await?,
            }
        };
        if bytes.len() > LARGEST_MANIFEST {
            return Err(Failure::Final(format!("its manifest has {} bytes", bytes.len())));
        }
        let digest = format!("sha256:{}", data_encoding::HEXLOWER.encode(&Sha256::digest(&bytes)));
        if wanted.contains(':') && wanted != digest {
            return Err(Failure::Damaged(format!("{wanted} was asked for, and {digest} came")));
        }
        Ok((bytes.to_vec(), digest))
    }

    /// Fetches blobs, some at once.
    async fn fetch(
        &self,
        access: &Arc<Access>,
        blobs: Vec<Descriptor>,
        progress: &Progress,
    ) -> Result<(), Failure> {
        let room = Arc::new(Semaphore::new(AT_ONCE));
        // Dropped with this pull, it ends them.
        let mut fetching = JoinSet::new();
        for blob in blobs {
            let fetch = Fetch {
                access: access.clone(),
                sources: self.sources.clone(),
                endpoint: self.endpoint.clone(),
                credentials: self.found.credentials.clone(),
                folder: self.folder.join("blobs/sha256"),
                patience: self.patience(),
                silence: self.pauses.silence,
            };
            let (room, done) = (room.clone(), progress.done());
            fetching.spawn(async move {
                let _room = room.acquire_owned().await;
                fetch.fetch(&blob, &done).await
            });
        }
        let mut ticks = tokio::time::interval(progress::EVERY);
        let mut shown = 0;
        loop {
            tokio::select! {
                fetched = fetching.join_next() => match fetched {
                    None => return Ok(()),
                    Some(Ok(fetched)) => fetched?,
                    Some(Err(error)) => return Err(Failure::from(crate::tool::broken(error))),
                },
                _ = ticks.tick() => progress.tell(self.lines, &mut shown),
            }
        }
    }

    /// What the configuration says of machines. Of several, one was chosen by what the index says.
    fn check_platform(&self, config: &Path, chosen: bool) -> Result<(), Failure> {
        #[derive(serde::Deserialize)]
        struct Config {
            #[serde(default)]
            os: String,
            #[serde(default)]
            architecture: String,
            #[serde(default)]
            variant: String,
        }
        let bytes = fs::read(config).map_err(at(config)).map_err(Failure::from)?;
        let said: Config = serde_json::from_slice(&bytes)
            .map_err(|error| Failure::Final(format!("its configuration is none: {error}")))?;
        let platform = Platform::of(&said.os, &said.architecture, Some(&said.variant));
        let Some(platform) = platform.filter(|_| !chosen) else { return Ok(()) };
        match self.platform {
            Some(wanted) if !platform.fits(wanted) => {
                let (image, wanted) = (self.name.to_owned(), wanted.to_string());
                let found = vec![platform.to_string()];
                Err(ContainerError::Pull(PullError::NoPlatform { image, wanted, found }).into())
            }
            Some(_) => Ok(()),
            None => Ok(platform.check_runs_here(&format!("the image `{}`", self.name))?),
        }
    }

    /// The layout's files around the blobs (OCI image spec 1.1, "Image Layout").
    fn write(&self, media_type: &str, top: &str, manifests: &[(String, Vec<u8>)]) -> std::io::Result<()> {
        for (digest, bytes) in manifests {
            let hex = digest.trim_start_matches("sha256:");
            fs::write(self.folder.join("blobs/sha256").join(hex), bytes)?;
        }
        let size = manifests.first().map_or(0, |(_, bytes)| bytes.len());
        let described = json!({ "mediaType": media_type, "digest": top, "size": size });
        let index = json!({ "schemaVersion": 2, "manifests": [described] });
        fs::write(self.folder.join("index.json"), index.to_string())?;
        fs::write(self.folder.join("oci-layout"), json!({ "imageLayoutVersion": "1.0.0" }).to_string())
    }
}

/// One blob, with all attempts.
struct Fetch {
    access: Arc<Access>,
    sources: Sources,
    endpoint: Endpoint,
    credentials: Credentials,
    folder: PathBuf,
    patience: Patience,
    silence: Duration,
}

impl Fetch {
    async fn fetch(mut self, blob: &Descriptor, done: &std::sync::atomic::AtomicU64) -> Result<(), Failure> {
        let part = blob::path(&self.folder, blob).with_extension("part");
        let mut renewed = false;
        let (mut before, len) = (0, || fs::metadata(&part).map_or(0, |file| file.len()));
        loop {
            let failure = match blob::fetch(&self.access, blob, &self.folder, done).await {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            if len() >= before + STEP {
                self.patience.restore();
                (before, renewed) = (len(), false);
            }
            if matches!(failure, Failure::Denied(_)) && !renewed {
                // The token's time may be over.
                renewed = true;
                let access =
                    Access::open(&self.sources, &self.endpoint, &self.credentials, self.silence).await;
                match access {
                    Ok(access) => self.access = Arc::new(access),
                    Err(failure) => self.patience.after(failure).await?,
                }
                continue;
            }
            self.patience.after(failure).await?;
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
