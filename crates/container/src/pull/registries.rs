//! Which registries are asked for a name: `registries.conf`, version 2 (`containers-registries.conf(5)`).
//!
//! Of it count `[[registry]]` with `prefix`, `location`, `insecure`, `blocked`, `mirror-by-digest-only`, and
//! `[[registry.mirror]]` with `location`, `insecure`, `pull-from-mirror`. Short names are not looked for elsewhere: they
//! mean Docker's registry.

use std::{
    fs,
    path::{Path, PathBuf},
};

use toml_edit::{DocumentMut, Table};

use super::{PullError, Sources};
use crate::{ContainerError, layout::at};

/// One place to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// `host[:port]` as people write it: `docker.io`.
    pub(super) registry: String,
    pub(super) repository: String,
    /// Plain HTTP, or a certificate that nobody vouches for, will do.
    pub(super) insecure: bool,
    pub(super) mirror: bool,
}

#[derive(Debug, Default)]
pub(super) struct Registries(Vec<Registry>);

#[derive(Debug, Default)]
struct Registry {
    file: PathBuf,
    prefix: String,
    location: String,
    insecure: bool,
    blocked: bool,
    mirrors: Vec<Mirror>,
}

#[derive(Debug)]
struct Mirror {
    location: String,
    insecure: bool,
    by_digest: bool,
    by_tag: bool,
}

impl Registries {
    /// # Errors
    /// [`PullError::Settings`] if a file is not TOML.
    pub(super) fn read(sources: &Sources, image: &str) -> Result<Self, ContainerError> {
        let mut all = Self::default();
        let main = sources.registries.iter().find(|file| file.is_file());
        let mut files: Vec<PathBuf> = main.into_iter().cloned().collect();
        for folder in &sources.registries_folders {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
            let mut further: Vec<PathBuf> =
                entries.filter(|path| path.extension().is_some_and(|e| e == "conf")).collect();
            further.sort();
            files.extend(further);
        }
        for file in files {
            let text = fs::read_to_string(&file).map_err(at(&file))?;
            all.add(&file, &text).map_err(|reason| {
                ContainerError::Pull(PullError::Settings { image: image.to_owned(), path: file, reason })
            })?;
        }
        Ok(all)
    }

    fn add(&mut self, file: &Path, text: &str) -> Result<(), String> {
        let document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| error.to_string())?;
        let tables = document.get("registry").and_then(|item| item.as_array_of_tables());
        for table in tables.into_iter().flat_map(|tables| tables.iter()) {
            let registry = registry(file, table);
            if registry.prefix.is_empty() {
                return Err("a `[[registry]]` has neither `prefix` nor `location`".to_owned());
            }
            // A later file has the last word.
            self.0.retain(|one| one.prefix != registry.prefix);
            self.0.push(registry);
        }
        Ok(())
    }

    /// Whom to ask for a complete name (`registry/path:tag`, `registry/path@digest`), in that order.
    ///
    /// # Errors
    /// [`PullError::Settings`] if it is blocked.
    pub(super) fn endpoints(&self, name: &str) -> Result<Vec<Endpoint>, ContainerError> {
        let digest = name.contains('@');
        let bare = bare(name);
        let fitting = self.0.iter().filter_map(|one| Some((one, rest(bare, &one.prefix)?)));
        let Some((registry, (matched, rest))) = fitting.max_by_key(|(one, _)| one.prefix.len()) else {
            return Ok(endpoint(bare, false, false).into_iter().collect());
        };
        if registry.blocked {
            return Err(ContainerError::Pull(PullError::Settings {
                image: name.to_owned(),
                path: registry.file.clone(),
                reason: format!("`{}` is blocked there", registry.prefix),
            }));
        }
        let mirrors = registry.mirrors.iter().filter(|one| if digest { one.by_digest } else { one.by_tag });
        let mirrors =
            mirrors.filter_map(|one| endpoint(&format!("{}{rest}", one.location), one.insecure, true));
        let location = if registry.location.is_empty() { matched } else { &registry.location };
        let own = endpoint(&format!("{location}{rest}"), registry.insecure, false);
        Ok(mirrors.chain(own).collect())
    }
}

fn registry(file: &Path, table: &Table) -> Registry {
    let location = text(table, "location");
    let prefix =
        Some(text(table, "prefix")).filter(|text| !text.is_empty()).unwrap_or_else(|| location.clone());
    let digest_only = flag(table, "mirror-by-digest-only");
    let mirrors = table.get("mirror").and_then(|item| item.as_array_of_tables());
    let mirrors = mirrors.into_iter().flat_map(|tables| tables.iter()).map(|table| {
        let from = text(table, "pull-from-mirror");
        Mirror {
            location: text(table, "location"),
            insecure: flag(table, "insecure"),
            by_digest: from != "tag-only",
            by_tag: from != "digest-only" && !(digest_only && from.is_empty()),
        }
    });
    Registry {
        file: file.to_owned(),
        prefix: prefix.trim_end_matches('/').to_owned(),
        location: location.trim_end_matches('/').to_owned(),
        insecure: flag(table, "insecure"),
        blocked: flag(table, "blocked"),
        mirrors: mirrors.filter(|mirror| !mirror.location.is_empty()).collect(),
    }
}

fn text(table: &Table, key: &str) -> String {
    table.get(key).and_then(|item| item.as_str()).unwrap_or_default().trim().to_owned()
}

fn flag(table: &Table, key: &str) -> bool {
    table.get(key).and_then(|item| item.as_bool()).unwrap_or_default()
}

/// A name without tag and digest.
pub(super) fn bare(name: &str) -> &str {
    let name = name.split_once('@').map_or(name, |(bare, _)| bare);
    match name.rsplit_once(':') {
        Some((bare, tag)) if !tag.contains('/') => bare,
        _ => name,
    }
}

/// What a prefix takes of a name, and what it leaves: all up to a `/` or the end.
fn rest<'a>(bare: &'a str, prefix: &str) -> Option<(&'a str, &'a str)> {
    let end = match prefix.strip_prefix("*.") {
        // A wildcard stands for a part of the host.
        Some(domain) => {
            let host = bare.split('/').next().unwrap_or_default();
            host.strip_suffix(domain).filter(|part| part.ends_with('.'))?;
            host.len()
        }
        None => bare.starts_with(prefix).then_some(prefix.len())?,
    };
    let (matched, rest) = bare.split_at(end);
    (rest.is_empty() || rest.starts_with('/')).then_some((matched, rest))
}

fn endpoint(place: &str, insecure: bool, mirror: bool) -> Option<Endpoint> {
    let (registry, repository) = place.split_once('/')?;
    let (registry, repository) = (registry.to_owned(), repository.trim_matches('/').to_owned());
    Some(Endpoint { registry, repository, insecure, mirror })
}

#[cfg(test)]
mod tests {
    use tandem_model::Explain;

    use super::*;

    fn read(text: &str) -> Registries {
        let mut all = Registries::default();
        all.add(Path::new("/etc/containers/registries.conf"), text).unwrap();
        all
    }

    /// `host/path`, with `!` behind an insecure and `<` before a mirror.
    fn asked(all: &Registries, name: &str) -> Vec<String> {
        let shown = |one: Endpoint| {
            let (mirror, insecure) = (if one.mirror { "<" } else { "" }, if one.insecure { "!" } else { "" });
            format!("{mirror}{}/{}{insecure}", one.registry, one.repository)
        };
        all.endpoints(name).unwrap().into_iter().map(shown).collect()
    }

    #[test]
    fn without_settings_a_name_is_asked_for_where_it_says() {
        let none = Registries::default();
        assert_eq!(asked(&none, "docker.io/library/busybox:1"), ["docker.io/library/busybox"]);
        assert_eq!(asked(&none, "localhost:5000/a/b:1"), ["localhost:5000/a/b"]);
    }

    #[test]
    fn mirrors_come_first_and_the_longest_prefix_counts() {
        let all = read(
            "unqualified-search-registries = [\"quay.io\"]\n\
             [[registry]]\nprefix = \"docker.io\"\nlocation = \"hub.example/cache\"\n\
             [[registry.mirror]]\nlocation = \"127.0.0.1:5000\"\ninsecure = true\n\
             [[registry.mirror]]\nlocation = \"two.example/m\"\npull-from-mirror = \"digest-only\"\n\
             [[registry]]\nlocation = \"docker.io/team\"\n\
             [[registry]]\nprefix = \"*.corp.example\"\ninsecure = true\n",
        );
        let mirrored = ["<127.0.0.1:5000/library/x!", "hub.example/cache/library/x"];
        assert_eq!(asked(&all, "docker.io/library/x:1"), mirrored);
        let digest = format!("docker.io/library/x@sha256:{}", "0".repeat(64));
        assert_eq!(asked(&all, &digest)[1], "<two.example/m/library/x");
        assert_eq!(asked(&all, "docker.io/team/x:1"), ["docker.io/team/x"]);
        assert_eq!(
            asked(&all, "docker.io/teams/x:1").len(),
            2,
            "a prefix ends where a part of the path does"
        );
        assert_eq!(asked(&all, "a.corp.example/x:1"), ["a.corp.example/x!"]);
        assert_eq!(asked(&all, "corp.example/x:1"), ["corp.example/x"]);
    }

    #[test]
    fn a_later_file_has_the_last_word_and_what_is_blocked_is_not_asked() {
        let mut all = read("[[registry]]\nlocation = \"a.example\"\ninsecure = true\n");
        all.add(Path::new("/b.conf"), "[[registry]]\nprefix = \"a.example\"\nblocked = true\n").unwrap();
        let error = all.endpoints("a.example/x:1").unwrap_err();
        assert_eq!(error.code(), "E0419");
        assert!(error.to_string().contains("/b.conf"), "{error}");
        assert!(all.add(Path::new("/c.conf"), "[[registry").is_err());
        assert!(all.add(Path::new("/c.conf"), "[[registry]]\ninsecure = true\n").is_err());
    }
}
