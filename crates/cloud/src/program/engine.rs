//! The folder that lets this binary run in a container which has nothing: itself, its libraries, its loader, and whom it
//! trusts.
//!
//! It is a copy, named by its content, so that an upgrade of the binary does not reach into containers that run. It is true
//! once it has its name, which it gets after its files are synced.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use tandem_container::{Spec, Volume};

use super::{CodeError, ENGINE};
use crate::home::Home;

pub(super) const BINARY: &str = "tandem";
/// The loader's name in the folder, whatever it is called on the machine.
const LOADER: &str = "lib/ld.so";
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// A complete folder.
#[derive(Debug)]
pub(super) struct Engine {
    folder: PathBuf,
    /// Whether the binary needs the loader.
    loaded: bool,
}

impl Engine {
    /// Makes the folder unless it is there, and removes those of earlier binaries that no container has. Blocks.
    ///
    /// # Errors
    /// [`CodeError::Engine`] names the file that cannot be had.
    pub(super) fn make(home: &Home) -> Result<Self, CodeError> {
        let files = files()?;
        let name = name(&files)?;
        let root = home.engines();
        let folder = root.join(&name);
        let loaded = files.contains_key(LOADER);
        if !folder.is_dir() {
            copy(&files, &root, &folder)?;
        }
        let used = used(home);
        for entry in fs::read_dir(&root).into_iter().flatten().flatten() {
            let other = entry.file_name();
            if other != name.as_str() && !used.contains(Path::new(&other)) {
                // What cannot be removed goes another time.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        Ok(Self { folder, loaded })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Lets a container have it, and begin by it.
    pub(super) fn dress(&self, spec: &mut Spec) {
        spec.volumes.push(read_only(self.folder.clone(), ENGINE));
        if self.loaded {
            let loader = [format!("{ENGINE}/{LOADER}"), "--library-path".into(), format!("{ENGINE}/lib")];
            spec.args.splice(0..0, loader);
        }
    }
}

pub(super) fn read_only(source: PathBuf, target: &str) -> Volume {
    Volume { source, target: target.to_owned(), read_only: true }
}

/// What the folder consists of: its path in it, and where it is now.
fn files() -> Result<BTreeMap<String, PathBuf>, CodeError> {
    let maps = Path::new("/proc/self/maps");
    let text = fs::read_to_string(maps).map_err(at(maps))?;
    let mut files = BTreeMap::from([(BINARY.to_owned(), PathBuf::from("/proc/self/exe"))]);
    for library in libraries(&text) {
        let name = library.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let loader = name.starts_with("ld-") || name.starts_with("ld.");
        files.insert(if loader { LOADER.to_owned() } else { format!("lib/{name}") }, library);
    }
    if Path::new(CERTIFICATES).exists() {
        files.insert("ca-certificates.crt".to_owned(), CERTIFICATES.into());
    }
    Ok(files)
}

/// The shared libraries among the mapped files (`proc_pid_maps(5)`).
fn libraries(maps: &str) -> BTreeSet<PathBuf> {
    let path = |line: &str| {
        // The package that it is of may have been upgraded: then there is another one under its path, which is as good.
        let path = line.trim_end_matches(" (deleted)");
        let path = path.split_once('/').map(|(_, rest)| format!("/{rest}"))?;
        let name = Path::new(&path).file_name()?.to_str()?;
        let library = name.ends_with(".so") || name.contains(".so.");
        library.then(|| PathBuf::from(path))
    };
    let executable = |line: &&str| line.split(' ').nth(1).is_some_and(|rights| rights.contains('x'));
    maps.lines().filter(executable).filter_map(path).collect()
}

fn name(files: &BTreeMap<String, PathBuf>) -> Result<String, CodeError> {
    let mut all = Sha256::new();
    for (name, path) in files {
        let mut one = Sha256::new();
        let mut file = fs::File::open(path).map_err(at(path))?;
        io::copy(&mut file, &mut one).map_err(at(path))?;
        all.update(name);
        all.update(one.finalize());
    }
    Ok(HEXLOWER.encode(&all.finalize()[..16]))
}

fn copy(files: &BTreeMap<String, PathBuf>, root: &Path, folder: &Path) -> Result<(), CodeError> {
    let unfinished = root.join(format!("new-{}", uuid::Uuid::new_v4().simple()));
    let make_folder = |path: &Path| {
        fs::create_dir_all(path).map_err(at(path))?;
        // Whoever is in the container reads it, regardless of our mask.
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(at(path))
    };
    make_folder(&unfinished)?;
    make_folder(&unfinished.join("lib"))?;
    let copied = files.iter().try_for_each(|(name, from)| {
        let to = unfinished.join(name);
        let copied = || {
            fs::copy(from, &to)?;
            fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
            fs::File::open(&to)?.sync_all()
        };
        copied().map_err(at(from))
    });
    let named = copied.and_then(|()| fs::rename(&unfinished, folder).map_err(at(folder)));
    if named.is_err() {
        let _ = fs::remove_dir_all(&unfinished);
    }
    // Somebody else may have made the same.
    if folder.is_dir() { Ok(()) } else { named }
}

/// The names of the engines that containers have.
fn used(home: &Home) -> BTreeSet<PathBuf> {
    let containers = fs::read_dir(home.code_of_containers()).into_iter().flatten().flatten();
    let engine = |entry: fs::DirEntry| fs::read_link(entry.path().join("engine")).ok();
    containers.filter_map(engine).filter_map(|path| path.file_name().map(PathBuf::from)).collect()
}

fn at(path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> CodeError {
    let path = path.as_ref().to_owned();
    move |source| CodeError::Engine { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_what_is_executed_of_mapped_shared_objects() {
        let maps = "\
7f00-7f01 r--p 00000000 fe:00 1 /lib/x86_64-linux-gnu/libc.so.6
7f01-7f02 r-xp 00001000 fe:00 1 /lib/x86_64-linux-gnu/libc.so.6
7f03-7f04 r-xp 00000000 fe:00 2 /lib64/ld-linux-x86-64.so.2
7f05-7f06 r-xp 00000000 fe:00 3 /opt/my tools/libown.so (deleted)
7f07-7f08 r-xp 00000000 fe:00 4 /usr/bin/tandem
7f09-7f0a r--p 00000000 fe:00 5 /usr/share/locale.so.cache
7f0b-7f0c r-xp 00000000 00:00 0 [vdso]
";
        let found: Vec<PathBuf> = libraries(maps).into_iter().collect();
        let expected =
            ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2", "/opt/my tools/libown.so"];
        assert_eq!(found, expected.map(PathBuf::from));
    }

    #[test]
    fn an_engine_is_made_once_and_those_that_nobody_has_go() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new(folder.path());
        let engine = Engine::make(&home).unwrap();
        assert!(engine.folder().join(BINARY).is_file());
        let made = fs::metadata(engine.folder().join(BINARY)).unwrap().modified().unwrap();
        for other in ["kept", "left", "new-1"] {
            fs::create_dir(home.engines().join(other)).unwrap();
        }
        fs::create_dir_all(home.code_of_containers().join("run")).unwrap();
        let link = home.code_of_containers().join("run/engine");
        std::os::unix::fs::symlink(home.engines().join("kept"), link).unwrap();
        assert_eq!(Engine::make(&home).unwrap().folder(), engine.folder());
        assert_eq!(fs::metadata(engine.folder().join(BINARY)).unwrap().modified().unwrap(), made);
        let left: BTreeSet<_> =
            fs::read_dir(home.engines()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(left, BTreeSet::from([engine.folder().to_owned(), home.engines().join("kept")]));
    }
}
