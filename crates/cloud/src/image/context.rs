//! Build contexts: from an archive to a folder, and what its Dockerfile starts from.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use tandem_failpoint::try_hit;
use tandem_model::{Urn, inputs};
use tar::EntryType;
use tempfile::TempDir;

use super::ImageError;
use crate::home::Home;

/// Where contexts are unpacked for the time of a build.
pub(crate) fn scratch(home: &Home) -> PathBuf {
    home.run().join("builds")
}

/// Unpacks the context of a build into a folder of its own, which is removed with the answer. Blocks.
///
/// # Errors
/// [`ImageError::Context`] if the archive is not the one that is named, leads out of the folder, or holds something else
/// than files, folders and links; [`ImageError::Io`] if it cannot be read or written.
pub(super) fn unpack(home: &Home, of: &Urn, build: &inputs::Build) -> Result<TempDir, ImageError> {
    let bad = |reason: String| ImageError::Context { of: of.clone(), reason };
    let hex = build.context.strip_prefix("sha256:").filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
    let hex = hex.ok_or_else(|| bad(format!("`{}` is not the name of an archive", build.context)))?;
    let path = home.archives().join(hex);
    let at = |path: &Path| {
        let path = path.to_owned();
        |source| ImageError::Io { path, source }
    };
    if digest(&path).map_err(at(&path))? != hex {
        return Err(bad("the archive is damaged".to_owned()));
    }
    let scratch = scratch(home);
    fs::create_dir_all(&scratch).map_err(at(&scratch))?;
    let folder = TempDir::new_in(&scratch).map_err(at(&scratch))?;
    let mut archive = tar::Archive::new(File::open(&path).map_err(at(&path))?);
    for entry in archive.entries().map_err(|e| bad(e.to_string()))? {
        let mut entry = entry.map_err(|e| bad(e.to_string()))?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let kind = entry.header().entry_type();
        if !matches!(kind, EntryType::Regular | EntryType::Directory | EntryType::Symlink | EntryType::Link) {
            return Err(bad(format!("`{name}` is neither a file nor a folder nor a link")));
        }
        // Refuses whatever would land outside, also by way of a link that was unpacked before.
        let unpacked = try_hit("task.context.unpacking").and_then(|()| entry.unpack_in(folder.path()));
        match unpacked {
            Ok(true) => {}
            Ok(false) => return Err(bad(format!("`{name}` leads out of the folder"))),
            Err(e) if is_full(&e) => return Err(at(folder.path())(e)),
            Err(e) => return Err(bad(format!("`{name}`: {e}"))),
        }
    }
    if !folder.path().join(&build.dockerfile).is_file() {
        return Err(bad(format!("there is no `{}` in {}", build.dockerfile, build.folder)));
    }
    Ok(folder)
}

/// Nothing is wrong with the archive then.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn digest(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(HEXLOWER.encode(&hash.finalize())),
            n => hash.update(&buffer[..n]),
        }
    }
}

/// The images that a Dockerfile reads, in `FROM` and in `--from=`: what a build depends on besides its context; and the
/// line that names each first. `None` if that cannot be told without building.
pub(super) fn bases(dockerfile: &str, args: &BTreeMap<String, String>) -> Option<BTreeMap<String, usize>> {
    let mut bases = BTreeMap::new();
    let mut stages = BTreeSet::new();
    let mut global = BTreeMap::new();
    let lines = dockerfile.lines().map(str::trim).enumerate();
    for (index, line) in lines.filter(|(_, line)| !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let instruction = words.next().unwrap_or_default().to_ascii_uppercase();
        let is_base = |name: &str, stages: &BTreeSet<String>| {
            name != "scratch" && !stages.contains(&name.to_lowercase()) && name.parse::<usize>().is_err()
        };
        match instruction.as_str() {
            // Only those before the first FROM may be used in a FROM.
            "ARG" if stages.is_empty() && bases.is_empty() => {
                let word = words.next()?;
                let (name, default) = word.split_once('=').map_or((word, None), |(n, d)| (n, Some(d)));
                let value = args.get(name).map(String::as_str).or(default);
                global.extend(value.map(|value| (name.to_owned(), value.trim_matches('"').to_owned())));
            }
            "FROM" => {
                let mut words = words.filter(|word| !word.starts_with("--"));
                let name = substitute(words.next()?, &global)?;
                if is_base(&name, &stages) {
                    bases.entry(name).or_insert(index + 1);
                }
                let named = words.next().is_some_and(|word| word.eq_ignore_ascii_case("as"));
                stages.insert(if named { words.next()?.to_lowercase() } else { String::new() });
            }
            _ => {
                for word in words {
                    let from = word.strip_prefix("--from=").or_else(|| {
                        let mount = word.strip_prefix("--mount=")?;
                        mount.split(',').find_map(|part| part.strip_prefix("from="))
                    });
                    if let Some(name) = from {
                        let name = substitute(name, &BTreeMap::new())?;
                        if is_base(&name, &stages) {
                            bases.entry(name).or_insert(index + 1);
                        }
                    }
                }
            }
        }
    }
    Some(bases)
}

/// Puts in `$NAME` and `${NAME}`; `None` if one is not known or is written in another way.
fn substitute(text: &str, values: &BTreeMap<String, String>) -> Option<String> {
    let mut result = String::new();
    let mut rest = text.trim_matches('"');
    while let Some((before, after)) = rest.split_once('$') {
        result.push_str(before);
        let (name, after) = match after.strip_prefix('{') {
            Some(braced) => braced.split_once('}')?,
            None => {
                let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
                after.split_at(end)
            }
        };
        result.push_str(values.get(name)?);
        rest = after;
    }
    result.push_str(rest);
    Some(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(dockerfile: &str, args: &[(&str, &str)]) -> Option<Vec<String>> {
        let args = args.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        bases(dockerfile, &args).map(|found| found.into_keys().collect())
    }

    #[test]
    fn the_images_that_a_dockerfile_reads_are_found() {
        let slide = "FROM jrottenberg/ffmpeg\nRUN apt-get update && \\\n  apt-get clean\n";
        assert_eq!(read(slide, &[]).unwrap(), ["jrottenberg/ffmpeg"]);
        let placed = bases("# one\nFROM a\n\nCOPY --from=b /x /\nCOPY --from=a /y /\n", &BTreeMap::new());
        assert_eq!(placed.unwrap(), BTreeMap::from([("a".to_owned(), 2), ("b".to_owned(), 4)]));
        let stages = "# syntax\nFROM --platform=linux/amd64 rust:1 AS Build\nRUN x\nFROM scratch\n\
                      COPY --from=build /x /x\nCOPY --from=0 /y /y\nCOPY --from=busybox:1 /bin/sh /sh\n\
                      RUN --mount=type=bind,from=alpine,target=/a true\n";
        assert_eq!(read(stages, &[]).unwrap(), ["alpine", "busybox:1", "rust:1"]);
    }

    #[test]
    fn arguments_are_put_in_and_what_is_unknown_is_not_guessed() {
        let text = "ARG VERSION=12\nARG BASE\nFROM ${BASE}:$VERSION\n";
        assert_eq!(read(text, &[("BASE", "debian")]).unwrap(), ["debian:12"]);
        assert_eq!(read(text, &[("BASE", "debian"), ("VERSION", "13")]).unwrap(), ["debian:13"]);
        assert_eq!(read(text, &[]), None);
        assert_eq!(read("FROM ${A:-b}\n", &[]), None);
    }

    struct Context {
        home: TempDir,
        build: inputs::Build,
    }

    /// A home with an archive as the `tar` command would make it, but with any names.
    fn context(entries: &[(&str, EntryType, &[u8])]) -> Context {
        let home = tempfile::tempdir().unwrap();
        let mut archive = tar::Builder::new(Vec::new());
        for (name, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            // Past the checks of the library that writes.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(0o755);
            if *kind == EntryType::Symlink {
                header.set_link_name(std::str::from_utf8(content).unwrap()).unwrap();
                header.set_size(0);
                header.set_cksum();
                archive.append(&header, io::empty()).unwrap();
            } else {
                header.set_size(content.len() as u64);
                header.set_cksum();
                archive.append(&header, *content).unwrap();
            }
        }
        let bytes = archive.into_inner().unwrap();
        let archives = Home::new(home.path()).archives();
        fs::create_dir_all(&archives).unwrap();
        let plain = home.path().join("archive");
        fs::write(&plain, bytes).unwrap();
        let hex = digest(&plain).unwrap();
        fs::rename(plain, archives.join(&hex)).unwrap();
        let build = serde_json::json!({ "folder": "./f", "context": format!("sha256:{hex}") });
        Context { home, build: serde_json::from_value(build).unwrap() }
    }

    fn unpacked(context: &Context) -> Result<TempDir, ImageError> {
        let task = "urn:tandem:p:dev:task:t".parse().unwrap();
        unpack(&Home::new(context.home.path()), &task, &context.build)
    }

    const FILE: EntryType = EntryType::Regular;

    #[test]
    fn a_context_is_unpacked_with_its_modes_and_gone_afterwards() {
        use std::os::unix::fs::PermissionsExt;
        let context = context(&[
            ("Dockerfile", FILE, b"FROM x"),
            ("bin/run", FILE, b"#!"),
            ("link", EntryType::Symlink, b"bin/run"),
        ]);
        let folder = unpacked(&context).unwrap();
        let path = folder.path().to_owned();
        assert_eq!(fs::read_to_string(path.join("link")).unwrap(), "#!");
        assert_eq!(fs::metadata(path.join("bin/run")).unwrap().permissions().mode() & 0o777, 0o755);
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn nothing_is_unpacked_outside_of_the_folder() {
        let out = context(&[("Dockerfile", FILE, b"FROM x"), ("../escaped", FILE, b"!")]);
        assert!(matches!(unpacked(&out), Err(ImageError::Context { .. })));
        assert!(!scratch(&Home::new(out.home.path())).join("escaped").exists());

        let target = tempfile::tempdir().unwrap();
        let link = target.path().to_str().unwrap().as_bytes();
        let by_link =
            context(&[("d", EntryType::Symlink, link), ("d/escaped", FILE, b"!"), ("Dockerfile", FILE, b"")]);
        assert!(matches!(unpacked(&by_link), Err(ImageError::Context { .. })));
        assert!(!target.path().join("escaped").exists());

        let device = context(&[("null", EntryType::Char, b""), ("Dockerfile", FILE, b"")]);
        assert!(matches!(unpacked(&device), Err(ImageError::Context { .. })));
    }

    #[test]
    fn an_archive_that_is_damaged_or_lacks_its_dockerfile_is_refused() {
        let lacking = context(&[("dockerfile.txt", FILE, b"FROM x")]);
        let refused = unpacked(&lacking).unwrap_err().to_string();
        assert!(refused.contains("there is no `Dockerfile` in ./f"), "{refused}");

        let mut damaged = context(&[("Dockerfile", FILE, b"FROM x")]);
        let archives = Home::new(damaged.home.path()).archives();
        let path = archives.join(damaged.build.context.trim_start_matches("sha256:"));
        fs::write(path, b"something else").unwrap();
        assert!(unpacked(&damaged).unwrap_err().to_string().contains("damaged"));
        damaged.build.context = "sha256:../../etc/passwd".into();
        assert!(unpacked(&damaged).unwrap_err().to_string().contains("not the name of an archive"));
    }
}
