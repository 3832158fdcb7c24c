//! Packs the folder that an image is built from.
//!
//! The archive is a tar of content alone: sorted, without times and owners. So a folder that was merely touched, cloned
//! or moved has the hash that it had, and a plan over it is empty. The tar streams through a file; its size is no matter
//! of memory.

mod dockerignore;

use std::{
    fs::{self, File, Metadata},
    io::{self, BufWriter, Read, Seek, SeekFrom, Write},
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER;
use dockerignore::Ignore;
use sha2::{Digest, Sha256};
use tandem_model::{ByteSize, Explain};

use crate::{
    convention::{self, ConventionError},
    project,
};

/// The Dockerfile of a build that names none. Without it the folder is built by convention.
const DOCKERFILE: &str = "Dockerfile";

/// How large a folder may be if nobody allows more. Each byte is read, sent and unpacked; so much of it is a mistake.
pub const LIMIT: ByteSize = ByteSize(4 << 30);

/// So many files are named of a folder that is too large.
const NAMED: usize = 3;

/// A packed build context.
#[derive(Debug)]
pub struct ContextArchive {
    /// `sha256:<hex>` of the tar.
    pub hash: String,
    /// Length of the tar in bytes.
    pub size: u64,
    file: File,
}

impl ContextArchive {
    /// The tar, from its beginning.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn read(&mut self) -> io::Result<&mut File> {
        self.file.seek(SeekFrom::Start(0))?;
        Ok(&mut self.file)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    #[error("there is no folder `{}` to build from", folder.display())]
    NoFolder { folder: PathBuf },
    #[error("there is no `{dockerfile}` in `{}`", folder.display())]
    NoDockerfile { folder: PathBuf, dockerfile: String },
    #[error("`{}` has {size} in it, and {limit} may be sent to a build: {}", folder.display(), largest.join(", "))]
    TooLarge { folder: PathBuf, size: ByteSize, limit: ByteSize, largest: Vec<String> },
    #[error("`{}` is {kind}, which an image cannot have", path.display())]
    Special { path: PathBuf, kind: &'static str },
    #[error("`{}` is not a path inside the build folder", dockerfile)]
    Outside { dockerfile: String },
    #[error("cannot read `{}`", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{}:{line}: not a pattern: {reason}", file.display())]
    Ignore { file: PathBuf, line: usize, reason: String },
    #[error(transparent)]
    Convention(#[from] ConventionError),
    #[error("cannot write the packed folder to a temporary file in `{}`", std::env::temp_dir().display())]
    Unwritable { source: io::Error },
}

impl Explain for ContextError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoFolder { .. } | Self::NoDockerfile { .. } | Self::Outside { .. } => "E0540",
            Self::Unreadable { .. } | Self::Unwritable { .. } => "E0541",
            Self::Ignore { .. } => "E0542",
            Self::TooLarge { .. } => "E0546",
            Self::Special { .. } => "E0547",
            Self::Convention(error) => error.code(),
        }
    }

    fn help(&self) -> String {
        match self {
            Self::NoFolder { .. } => {
                "correct the task's `build`; it is relative to the project's folder".into()
            }
            Self::NoDockerfile { dockerfile, .. } => {
                format!(
                    "write `{dockerfile}`, or name another file in the task's `build: {{ context, dockerfile }}`"
                )
            }
            Self::Outside { .. } => {
                "name the Dockerfile by its path inside the build folder; a link must not lead out of it, either".into()
            }
            Self::TooLarge { folder, size, .. } => format!(
                "exclude what the build does not need in `{}`, or allow more: `build: {{ contextLimit: \"{}GiB\" }}`",
                folder.join(".dockerignore").display(),
                (size.bytes() >> 30) + 1
            ),
            Self::Special { .. } => "remove it, or exclude it in `.dockerignore`".into(),
            Self::Unreadable { path, .. } => {
                format!("check that you may read `{}`, or exclude it in `.dockerignore`", path.display())
            }
            Self::Unwritable { .. } => {
                format!(
                    "free some space in `{}`, or set TMPDIR to another folder",
                    std::env::temp_dir().display()
                )
            }
            Self::Ignore { .. } => "correct or remove the line".into(),
            Self::Convention(error) => error.help(),
        }
    }
}

/// Packs a folder, leaving out what its `.dockerignore` (or `<dockerfile>.dockerignore`) excludes. The Dockerfile is
/// always in. If it is `Dockerfile` and there is none, it is written by [`convention`].
///
/// Of a file its bytes and its mode are kept, of a symbolic link its target, which is not followed. How large all is, is
/// known before anything is read.
///
/// # Errors
/// [`ContextError`]; nothing stays behind.
pub fn pack(folder: &Path, dockerfile: &str, limit: ByteSize) -> Result<ContextArchive, ContextError> {
    if !folder.is_dir() {
        return Err(ContextError::NoFolder { folder: folder.to_owned() });
    }
    if Path::new(dockerfile).is_absolute() || dockerfile.split('/').any(|part| part == "..") {
        return Err(ContextError::Outside { dockerfile: dockerfile.to_owned() });
    }
    let by_convention = dockerfile == DOCKERFILE && fs::symlink_metadata(folder.join(DOCKERFILE)).is_err();
    let made = if by_convention { Some(convention::of(folder)?) } else { None };
    if made.is_none() && !folder.join(dockerfile).is_file() {
        let dockerfile = dockerfile.to_owned();
        return Err(ContextError::NoDockerfile { folder: folder.to_owned(), dockerfile });
    }
    if made.is_none() && !is_inside(folder, dockerfile) {
        return Err(ContextError::Outside { dockerfile: dockerfile.to_owned() });
    }
    let dockerfile = dockerfile.trim_start_matches("./");
    let mut finding = Finding {
        root: folder,
        ignore: ignore(folder, dockerfile, made.as_ref().map(convention::Convention::ignored))?,
        dockerfile,
        found: Vec::new(),
    };
    finding.folder("")?;
    let entries = finding.found;
    check_size(folder, &entries, limit)?;
    let file = tempfile::tempfile().map_err(|source| ContextError::Unwritable { source })?;
    let output = Hashing { inner: BufWriter::new(file), hash: Sha256::new(), size: 0 };
    let mut packing = Packing { root: folder, tar: tar::Builder::new(output) };
    if let Some(made) = &made {
        packing.text(DOCKERFILE, &made.dockerfile)?;
        // It excludes no file that is packed; Buildah reads it, so that neither of the two gets into the image.
        packing.text(IGNORE, "Dockerfile\n.dockerignore\n")?;
    }
    entries
        .iter()
        .filter(|entry| made.is_none() || !WRITTEN.contains(&&*entry.path))
        .try_for_each(|entry| packing.entry(entry))?;
    let unwritable = |source| ContextError::Unwritable { source };
    let output = packing.tar.into_inner().map_err(unwritable)?;
    let file = output.inner.into_inner().map_err(|error| unwritable(error.into_error()))?;
    let hash = format!("sha256:{}", HEXLOWER.encode(&output.hash.finalize()));
    Ok(ContextArchive { hash, size: output.size, file })
}

const IGNORE: &str = ".dockerignore";
/// What comes from the convention, and not from the folder.
const WRITTEN: [&str; 2] = [DOCKERFILE, IGNORE];

/// What stays out; `before` is heard first.
fn ignore(folder: &Path, dockerfile: &str, before: Option<String>) -> Result<Ignore, ContextError> {
    let before = before.unwrap_or_default();
    for name in [format!("{dockerfile}.dockerignore"), IGNORE.to_owned()] {
        let file = folder.join(name);
        match fs::read_to_string(&file) {
            Ok(text) => {
                return Ignore::parse(&before, &text).map_err(|bad| ContextError::Ignore {
                    file,
                    line: bad.line,
                    reason: bad.reason,
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(ContextError::Unreadable { path: file, source }),
        }
    }
    Ok(Ignore::parse(&before, "").unwrap_or_default())
}

/// Whether the file is in the folder, also if it is a link.
fn is_inside(folder: &Path, dockerfile: &str) -> bool {
    let real = |path: &Path| fs::canonicalize(path).ok();
    real(folder).zip(real(&folder.join(dockerfile))).is_some_and(|(folder, file)| file.starts_with(folder))
}

fn check_size(folder: &Path, entries: &[Entry], limit: ByteSize) -> Result<(), ContextError> {
    let mut files: Vec<&Entry> = entries.iter().filter(|entry| entry.meta.is_file()).collect();
    let size = files.iter().map(|file| file.meta.len()).sum();
    if size <= limit.bytes() {
        return Ok(());
    }
    files.sort_by_key(|file| std::cmp::Reverse(file.meta.len()));
    let named = |file: &&Entry| format!("`{}` ({})", file.path, ByteSize(file.meta.len()));
    let largest = files.iter().take(NAMED).map(named).collect();
    Err(ContextError::TooLarge { folder: folder.to_owned(), size: ByteSize(size), limit, largest })
}

/// What is to be packed.
struct Entry {
    /// Relative to the folder, with `/`.
    path: String,
    meta: Metadata,
}

/// Looks what is in the folder, and reads none of it.
struct Finding<'a> {
    root: &'a Path,
    ignore: Ignore,
    dockerfile: &'a str,
    found: Vec<Entry>,
}

impl Finding<'_> {
    fn folder(&mut self, folder: &str) -> Result<(), ContextError> {
        let path = self.root.join(folder);
        let unreadable = |source| ContextError::Unreadable { path: path.clone(), source };
        let mut names = Vec::new();
        for entry in fs::read_dir(&path).map_err(unreadable)? {
            let name = entry.map_err(unreadable)?.file_name();
            names.push(name.into_string().map_err(|name| ContextError::Unreadable {
                path: path.join(name),
                source: io::Error::new(io::ErrorKind::InvalidData, "the name is not UTF-8"),
            })?);
        }
        names.sort();
        for name in names {
            self.entry(&if folder.is_empty() { name } else { format!("{folder}/{name}") })?;
        }
        Ok(())
    }

    fn entry(&mut self, path: &str) -> Result<(), ContextError> {
        let full = self.root.join(path);
        let meta = fs::symlink_metadata(&full)
            .map_err(|source| ContextError::Unreadable { path: full.clone(), source })?;
        let holds_dockerfile = self.dockerfile == path || self.dockerfile.starts_with(&format!("{path}/"));
        let excluded = self.ignore.excludes(path) && !holds_dockerfile;
        if meta.is_dir() {
            if !excluded {
                self.found.push(Entry { path: path.to_owned(), meta });
            } else if !self.ignore.has_exceptions() {
                return Ok(());
            }
            return self.folder(path);
        }
        // An image would show a stack's secrets to whoever gets it.
        let name = path.rsplit('/').next().unwrap_or(path);
        if excluded || project::holds_secrets(name) {
            return Ok(());
        }
        let kind = meta.file_type();
        if !kind.is_file() && !kind.is_symlink() {
            let kind = match kind {
                kind if kind.is_socket() => "a socket",
                kind if kind.is_fifo() => "a named pipe",
                _ => "a device",
            };
            return Err(ContextError::Special { path: full, kind });
        }
        self.found.push(Entry { path: path.to_owned(), meta });
        Ok(())
    }
}

struct Packing<'a> {
    root: &'a Path,
    tar: tar::Builder<Hashing>,
}

impl Packing<'_> {
    fn text(&mut self, path: &str, text: &str) -> Result<(), ContextError> {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        self.append(&mut header, path, text.as_bytes())
    }

    fn entry(&mut self, Entry { path, meta }: &Entry) -> Result<(), ContextError> {
        let full = self.root.join(path);
        let unreadable = |source| ContextError::Unreadable { path: full.clone(), source };
        if meta.is_dir() {
            let mut header = header(meta, tar::EntryType::Directory, 0);
            return self.append(&mut header, &format!("{path}/"), io::empty());
        }
        if meta.is_symlink() {
            let target = fs::read_link(&full).map_err(unreadable)?;
            let mut header = header(meta, tar::EntryType::Symlink, 0);
            header.set_mode(0o777);
            return self
                .tar
                .append_link(&mut header, path, &target)
                .map_err(|source| ContextError::Unwritable { source });
        }
        let file = File::open(&full).map_err(unreadable)?;
        let mut header = header(meta, tar::EntryType::Regular, meta.len());
        // A file that grows while it is read must not spill over into the next entry.
        let mut body = Exactly { inner: file.take(meta.len()), missing: meta.len(), failed: None };
        let appended = self.tar.append_data(&mut header, path, &mut body);
        match body.failed.take() {
            Some(source) => Err(unreadable(source)),
            None => appended.map_err(|source| ContextError::Unwritable { source }),
        }
    }

    fn append(&mut self, header: &mut tar::Header, path: &str, body: impl Read) -> Result<(), ContextError> {
        self.tar.append_data(header, path, body).map_err(|source| ContextError::Unwritable { source })
    }
}

/// Whose entry it is and when it was made are left out: they differ between two clones of the same folder.
fn header(meta: &Metadata, kind: tar::EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(meta.permissions().mode() & 0o7777);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// Reads a file to the length it had, and keeps its failure apart from that of the writer.
struct Exactly<R> {
    inner: io::Take<R>,
    missing: u64,
    failed: Option<io::Error>,
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = self.inner.read(buffer).and_then(|count| match count {
            0 if self.missing > 0 && !buffer.is_empty() => {
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file shrank while it was read"))
            }
            count => Ok(count),
        });
        match result {
            Ok(count) => {
                self.missing -= count as u64;
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let kind = error.kind();
                self.failed = Some(error);
                Err(kind.into())
            }
        }
    }
}

/// Hashes what is written through it.
struct Hashing {
    inner: BufWriter<File>,
    hash: Sha256,
    size: u64,
}

impl Write for Hashing {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        tandem_failpoint::try_hit("program.context.writing")?;
        let count = self.inner.write(buffer)?;
        self.hash.update(&buffer[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests;
