//! Whose name and password a registry gets: what `docker login`, `podman login` and `buildah login` have written, and
//! what credential helpers (`docker-credential-…`) tell.
//!
//! Formats: `containers-auth.json(5)`, Docker's `config.json`, and the protocol of `docker-credential-helpers`. A file that
//! cannot be read, or a helper that does not answer, is no reason not to ask the registry: most images are for everybody.
//! If it then refuses, the person is told.

use std::{collections::HashMap, fmt, fs, path::Path, process::Stdio, time::Duration};

use data_encoding::BASE64_NOPAD;
use serde::Deserialize;
use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

use super::Sources;

/// How long a helper may take; some ask a service of their own.
const HELPER_LIMIT: Duration = Duration::from_secs(30);

/// How Docker calls its own registry in its files.
const DOCKER: &str = "https://index.docker.io/v1/";

#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    Nobody,
    Password {
        user: String,
        password: String,
    },
    /// An OAuth 2 refresh token, which the registry's token service takes.
    Identity(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nobody => "Nobody",
            Self::Password { .. } => "Password",
            Self::Identity(_) => "Identity",
        })
    }
}

/// What was found, and what was in the way.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) credentials: Credentials,
    pub(super) trouble: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct File {
    auths: HashMap<String, Entry>,
    cred_helpers: HashMap<String, String>,
    creds_store: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
}

/// Looks for the credentials for a repository (`registry/path`). Starts helpers if the files say so.
pub(super) async fn find(sources: &Sources, registry: &str, repository: &str) -> Found {
    let mut trouble = None;
    for path in &sources.passwords {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => {
                trouble = Some(format!("`{}` cannot be read: {error}", path.display()));
                continue;
            }
        };
        let Ok(file) = serde_json::from_str::<File>(&text) else {
            // The parser's words would show what is in it.
            trouble = Some(format!("`{}` is not as such files are", path.display()));
            continue;
        };
        match in_file(sources, &file, registry, repository).await {
            Ok(Some(credentials)) => return Found { credentials, trouble },
            Ok(None) => {}
            Err(reason) => trouble = Some(reason),
        }
    }
    Found { credentials: Credentials::Nobody, trouble }
}

async fn in_file(
    sources: &Sources,
    file: &File,
    registry: &str,
    repository: &str,
) -> Result<Option<Credentials>, String> {
    let is_docker = is_docker(registry);
    let helper = file.cred_helpers.iter().find(|(key, _)| same_registry(key, registry));
    if let Some((key, program)) = helper.filter(|(_, program)| !program.is_empty()) {
        return ask(sources, program, if is_docker { DOCKER } else { key }).await;
    }
    if let Some(entry) = entry(file, registry, repository)
        && let Some(credentials) = entry.credentials()
    {
        return Ok(Some(credentials));
    }
    if file.creds_store.is_empty() {
        return Ok(None);
    }
    ask(sources, &file.creds_store, if is_docker { DOCKER } else { registry }).await
}

/// The entry for the repository, or for the longest part of its path, or for the registry.
fn entry<'a>(file: &'a File, registry: &str, repository: &str) -> Option<&'a Entry> {
    let mut path = format!("{registry}/{repository}");
    loop {
        if let Some(entry) = file.auths.get(&path).filter(|entry| entry.credentials().is_some()) {
            return Some(entry);
        }
        path.truncate(path.rfind('/')?);
        if !path.contains('/') {
            break;
        }
    }
    let mut all = file.auths.iter().filter(|(key, _)| same_registry(key, registry));
    all.find(|(_, entry)| entry.credentials().is_some()).map(|(_, entry)| entry)
}

fn is_docker(registry: &str) -> bool {
    matches!(registry, "docker.io" | "index.docker.io" | "registry-1.docker.io")
}

/// `https://host/v1/`, as Docker once wrote keys, is `host`.
fn same_registry(key: &str, registry: &str) -> bool {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let host = match bare {
        Some(bare) => bare.split('/').next().unwrap_or_default(),
        None => key.strip_suffix('/').unwrap_or(key),
    };
    host == registry || (is_docker(host) && is_docker(registry))
}

impl Entry {
    fn credentials(&self) -> Option<Credentials> {
        if !self.identitytoken.is_empty() {
            return Some(Credentials::Identity(self.identitytoken.clone()));
        }
        if !self.username.is_empty() && !self.password.is_empty() {
            let (user, password) = (self.username.clone(), self.password.clone());
            return Some(Credentials::Password { user, password });
        }
        let bytes = BASE64_NOPAD.decode(self.auth.trim().trim_end_matches('=').as_bytes()).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let (user, password) = text.split_once(':')?;
        let (user, password) = (user.to_owned(), password.trim_end_matches('\0').to_owned());
        (!user.is_empty()).then_some(Credentials::Password { user, password })
    }
}

/// Asks a helper. What it prints is a secret or may be, and is shown to nobody.
async fn ask(sources: &Sources, name: &str, server: &str) -> Result<Option<Credentials>, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    let program = format!("docker-credential-{name}");
    let found = sources.programs.iter().map(|folder| folder.join(&program)).find(|path| path.is_file());
    let path = match found {
        Some(path) if !name.contains('/') => path,
        _ => return Err(format!("the program `{program}`, which would know your password, is not there")),
    };
    let output = match timeout(HELPER_LIMIT, run(&path, server)).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(format!("`{program}` could not be asked for your password: {error}")),
        Err(_) => return Err(format!("`{program}` did not tell your password within {HELPER_LIMIT:?}")),
    };
    if !output.status.success() {
        // How all helpers say that they know none.
        let none = String::from_utf8_lossy(&output.stdout).contains("credentials not found");
        let reason = format!("`{program}` did not tell your password ({})", output.status);
        return if none { Ok(None) } else { Err(reason) };
    }
    let answer: Answer = serde_json::from_slice(&output.stdout)
        .map_err(|_| format!("`{program}` answers in a way that no helper does"))?;
    Ok(Some(match answer.username.as_str() {
        "<token>" => Credentials::Identity(answer.secret),
        _ => Credentials::Password { user: answer.username, password: answer.secret },
    }))
}

async fn run(program: &Path, server: &str) -> std::io::Result<std::process::Output> {
    let mut command = Command::new(program);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.process_group(0).kill_on_drop(true).spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // One that ends without reading has its answer anyway.
        let _ = input.write_all(format!("{server}\n").as_bytes()).await;
    }
    child.wait_with_output().await
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new(files: &[&str]) -> (Self, Sources) {
            let folder = tempfile::TempDir::new().unwrap();
            let mut sources = Sources { programs: vec![folder.path().to_owned()], ..Sources::default() };
            for (n, text) in files.iter().enumerate() {
                let path = folder.path().join(format!("{n}.json"));
                fs::write(&path, text).unwrap();
                sources.passwords.push(path);
            }
            (Self(folder), sources)
        }

        fn helper(&self, name: &str, script: &str) {
            let path = self.0.path().join(format!("docker-credential-{name}"));
            fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    fn password(user: &str, password: &str) -> Credentials {
        Credentials::Password { user: user.to_owned(), password: password.to_owned() }
    }

    async fn found(sources: &Sources, registry: &str, repository: &str) -> Credentials {
        find(sources, registry, repository).await.credentials
    }

    #[tokio::test]
    async fn the_closest_entry_of_the_first_file_counts() {
        let first = r#"{ "auths": {
            "quay.io/team/secret": { "auth": "c2VjcmV0OnA6MQ==" },
            "quay.io": { "auth": "cXVheTpwMg" },
            "https://index.docker.io/v1/": { "identitytoken": "refresh" },
            "empty.example": {},
            "http://old.example/v2/": { "username": "old", "password": "p3" } } }"#;
        let second =
            r#"{ "auths": { "quay.io": { "auth": "bm86bm8=" }, "empty.example": { "auth": "dHdvOnA0" } } }"#;
        let (_folder, sources) = Folder::new(&[first, second]);
        assert_eq!(found(&sources, "quay.io", "team/secret/app").await, password("secret", "p:1"));
        assert_eq!(found(&sources, "quay.io", "team/other").await, password("quay", "p2"));
        assert_eq!(found(&sources, "docker.io", "library/x").await, Credentials::Identity("refresh".into()));
        assert_eq!(found(&sources, "old.example", "x").await, password("old", "p3"));
        assert_eq!(found(&sources, "empty.example", "x").await, password("two", "p4"));
        assert_eq!(found(&sources, "other.example", "x").await, Credentials::Nobody);
    }

    #[tokio::test]
    async fn helpers_are_asked_by_their_protocol() {
        let text = r#"{ "auths": { "a.example": {} }, "credsStore": "store",
            "credHelpers": { "b.example": "token", "c.example": "broken", "d.example": "away" } }"#;
        let (folder, sources) = Folder::new(&[text]);
        folder.helper(
            "store",
            "read -r server; case $1-$server in get-a.example) echo '{\"ServerURL\":\"x\",\"Username\":\"u\",\"Secret\":\"s\"}';; \
             get-https://index.docker.io/v1/) echo '{\"Username\":\"hub\",\"Secret\":\"h\"}';; \
             *) echo 'credentials not found in native keychain'; exit 1;; esac",
        );
        folder.helper("token", "echo '{\"Username\":\"<token>\",\"Secret\":\"refresh\"}'");
        folder.helper("broken", "echo the-secret; exit 3");
        assert_eq!(found(&sources, "a.example", "x").await, password("u", "s"));
        assert_eq!(found(&sources, "docker.io", "library/x").await, password("hub", "h"));
        assert_eq!(found(&sources, "b.example", "x").await, Credentials::Identity("refresh".into()));
        let none = find(&sources, "e.example", "x").await;
        assert_eq!((none.credentials, none.trouble), (Credentials::Nobody, None));
        for (registry, trouble) in [("c.example", "exit status: 3"), ("d.example", "docker-credential-away")]
        {
            let found = find(&sources, registry, "x").await;
            assert_eq!(found.credentials, Credentials::Nobody);
            let said = found.trouble.unwrap();
            assert!(said.contains(trouble) && !said.contains("the-secret"), "{said}");
        }
    }

    #[tokio::test]
    async fn a_damaged_file_is_named_and_shows_nothing_of_itself() {
        let (_folder, sources) = Folder::new(&["{ \"auths\": { \"a\": \"cGFzc3dvcmQ\" } }"]);
        let found = find(&sources, "a", "x").await;
        let said = found.trouble.unwrap();
        assert!(said.contains("0.json") && !said.contains("cGFz"), "{said}");
        assert!(!format!("{:?}", password("user", "hush")).contains("hush"));
    }
}
