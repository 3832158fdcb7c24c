//! Archives of programs and build contexts: immutable files named by their hash.
//!
//! Who owns it: the folder [`Home::archives`](crate::home::Home::archives) is written here only. An archive is true once
//! it has its final name; it gets that name after its bytes and before the folder are synced. A crash leaves at most a
//! file under a temporary name, which the next start removes.

use std::{
    collections::HashSet,
    fs, io,
    io::{Read, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use tandem_model::{Explain, Kind, Recorded, inputs};

use crate::resource::Resources;

/// Archives younger than this are kept even if nothing refers to them: an `up` may be about to.
const GRACE: Duration = Duration::from_secs(24 * 60 * 60);

/// An archive that cannot be stored or found.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("the archive is not what its name says: {actual} instead of {expected}")]
    Wrong { expected: String, actual: String },
    #[error("`{name}` is not the name of an archive")]
    Name { name: String },
    #[error("cannot read the archive {name}")]
    Read { name: String, source: io::Error },
    #[error("cannot write the archive")]
    Write { source: io::Error },
}

impl Explain for ArchiveError {
    fn code(&self) -> &'static str {
        match self {
            Self::Wrong { .. } | Self::Name { .. } => "E0307",
            Self::Read { .. } | Self::Write { .. } => "E0308",
        }
    }

    fn help(&self) -> String {
        match self {
            Self::Wrong { .. } | Self::Name { .. } => "run `tandem up` again".into(),
            Self::Read { .. } | Self::Write { .. } => "check the space and the health of the disk".into(),
        }
    }
}

/// `sha256:<hex>` of the bytes.
pub fn hash(bytes: &[u8]) -> String {
    named(&Sha256::digest(bytes))
}

fn named(digest: &[u8]) -> String {
    format!("sha256:{}", HEXLOWER.encode(digest))
}

/// Copies everything, and answers its hash.
fn copy(mut from: impl Read, to: &mut impl Write) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(named(&hash.finalize())),
            Ok(count) => {
                hash.update(&buffer[..count]);
                tandem_failpoint::try_hit("archive.file.writing")?;
                to.write_all(&buffer[..count])?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The folder of archives.
#[derive(Debug, Clone)]
pub struct Archives {
    folder: PathBuf,
}

impl Archives {
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Where the archive of that hash is, or would be.
    ///
    /// # Errors
    /// [`ArchiveError::Name`] if it is no hash.
    pub fn path(&self, name: &str) -> Result<PathBuf, ArchiveError> {
        let hex = name
            .strip_prefix("sha256:")
            .filter(|h| h.len() == 64 && h.bytes().all(|b| b.is_ascii_hexdigit()));
        match hex {
            Some(hex) => Ok(self.folder.join(hex)),
            None => Err(ArchiveError::Name { name: name.to_owned() }),
        }
    }

    /// The hashes, without `sha256:`, and files of all archives.
    ///
    /// # Errors
    /// [`io::Error`] if the folder cannot be read.
    pub fn list(&self) -> io::Result<Vec<(String, PathBuf)>> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut archives = Vec::new();
        for entry in entries {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if let Ok(path) = self.path(&format!("sha256:{name}")) {
                archives.push((name, path));
            }
        }
        archives.sort();
        Ok(archives)
    }

    /// Stores an archive under its hash. Storing it again makes it young again, and changes nothing else. The content is
    /// read to its end, and never held in memory whole.
    ///
    /// # Errors
    /// [`ArchiveError`] if the content does not have that hash, or cannot be read or written.
    pub fn put(&self, name: &str, content: impl Read) -> Result<(), ArchiveError> {
        let path = self.path(name)?;
        let temporary = self.folder.join(format!("new-{}", uuid::Uuid::new_v4().simple()));
        let stored = self.receive(name, content, &temporary, &path);
        if stored.is_err() {
            // What cannot be removed is removed at the next start.
            let _ = fs::remove_file(&temporary);
        }
        stored
    }

    fn receive(
        &self,
        name: &str,
        content: impl Read,
        temporary: &Path,
        path: &Path,
    ) -> Result<(), ArchiveError> {
        let unwritten = |source| ArchiveError::Write { source };
        fs::create_dir_all(&self.folder).map_err(unwritten)?;
        let mut file = fs::File::create_new(temporary).map_err(unwritten)?;
        let actual = copy(content, &mut file).map_err(unwritten)?;
        if actual != name {
            return Err(ArchiveError::Wrong { expected: name.to_owned(), actual });
        }
        self.settle(&file, temporary, path).map_err(unwritten)
    }

    fn settle(&self, file: &fs::File, temporary: &Path, path: &Path) -> io::Result<()> {
        file.sync_all()?;
        tandem_failpoint::try_hit("archive.file.synced")?;
        fs::rename(temporary, path)?;
        fs::File::open(&self.folder)?.sync_all()
    }

    /// Removes what neither a resource nor `others` refer to, and what a crash left. Called at start, before anything is
    /// stored.
    ///
    /// # Errors
    /// [`io::Error`] if the folder cannot be read; what cannot be removed stays for the next start.
    pub fn sweep(&self, resources: &Resources, others: impl IntoIterator<Item = String>) -> io::Result<()> {
        let mut referenced = self.referenced(resources);
        referenced.extend(others.into_iter().filter_map(|name| self.path(&name).ok()));
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let old = |modified: SystemTime| modified.elapsed().is_ok_and(|age| age > GRACE);
        for entry in entries {
            let entry = entry?;
            let temporary = entry.file_name().to_string_lossy().starts_with("new-");
            let unused = !referenced.contains(&entry.path()) && entry.metadata()?.modified().is_ok_and(old);
            if temporary || unused {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }

    fn referenced(&self, resources: &Resources) -> HashSet<PathBuf> {
        let named = |r: &Recorded| -> Vec<String> {
            match r.urn.kind {
                Kind::Function | Kind::Workflow => {
                    inputs::read::<inputs::Function>(&r.urn, &r.inputs).map(|f| f.code).into_iter().collect()
                }
                Kind::Entity => {
                    let read = inputs::Entity::read(&r.urn, &r.inputs);
                    read.map(|entity| entity.function.code).into_iter().collect()
                }
                Kind::Task | Kind::Service => {
                    let contexts = inputs::builds(&r.inputs).filter_map(|build| build.get("context"));
                    let codes = inputs::codes(&r.inputs).filter_map(|code| code.get("code"));
                    contexts.chain(codes).filter_map(|name| name.as_str()).map(str::to_owned).collect()
                }
                Kind::Bucket
                | Kind::Queue
                | Kind::Stream
                | Kind::Volume
                | Kind::Topic
                | Kind::Timer
                | Kind::Subscription => Vec::new(),
            }
        };
        let names = resources.list(None).into_iter().flat_map(|r| named(&r));
        names.filter_map(|name| self.path(&name).ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_stored_only_under_its_own_hash() {
        let folder = tempfile::tempdir().unwrap();
        let archives = Archives::new(folder.path().join("archives"));
        archives.put(&hash(b"code"), &b"code"[..]).unwrap();
        archives.put(&hash(b"code"), &b"code"[..]).unwrap();
        assert_eq!(fs::read(archives.path(&hash(b"code")).unwrap()).unwrap(), b"code");
        assert!(matches!(archives.put(&hash(b"code"), &b"other"[..]), Err(ArchiveError::Wrong { .. })));
        assert_eq!(fs::read_dir(folder.path().join("archives")).unwrap().count(), 1);
        assert!(matches!(archives.put("sha256:../../etc", io::empty()), Err(ArchiveError::Name { .. })));
    }

    #[test]
    fn code_that_a_container_may_load_stays_however_old() {
        let folder = tempfile::tempdir().unwrap();
        let archives = Archives::new(folder.path().to_owned());
        for text in ["of a task", "of a service", "of a run", "nobody's"] {
            archives.put(&hash(text.as_bytes()), text.as_bytes()).unwrap();
            let file = fs::File::open(archives.path(&hash(text.as_bytes())).unwrap()).unwrap();
            file.set_modified(SystemTime::now() - 2 * GRACE).unwrap();
        }
        let resources = Resources::default();
        let code = |text: &str| serde_json::json!({ "code": hash(text.as_bytes()), "handler": "x" });
        for (kind, inputs) in [
            ("task", serde_json::json!({ "function": code("of a task") })),
            ("service", serde_json::json!({ "containers": { "a": { "function": code("of a service") } } })),
        ] {
            resources.put(Recorded {
                urn: format!("urn:tandem:shop:dev:{kind}:x").parse().unwrap(),
                id: tandem_model::PhysicalId(kind.to_owned()),
                inputs: inputs.as_object().unwrap().clone(),
                outputs: serde_json::Map::new(),
                depends_on: Vec::new(),
            });
        }
        archives.sweep(&resources, [hash(b"of a run")]).unwrap();
        let left: HashSet<String> = archives.list().unwrap().into_iter().map(|(name, _)| name).collect();
        let kept =
            ["of a task", "of a service", "of a run"].map(|text| hash(text.as_bytes())[7..].to_owned());
        assert_eq!(left, HashSet::from(kept));
    }

    #[test]
    fn what_a_crash_left_goes_and_a_young_archive_stays() {
        let folder = tempfile::tempdir().unwrap();
        let archives = Archives::new(folder.path().to_owned());
        archives.put(&hash(b"code"), &b"code"[..]).unwrap();
        fs::write(folder.path().join("new-1"), b"half").unwrap();
        archives.sweep(&Resources::default(), []).unwrap();
        assert!(!folder.path().join("new-1").exists());
        assert!(archives.path(&hash(b"code")).unwrap().exists());
    }
}
