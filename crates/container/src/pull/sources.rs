//! Where this user's settings for registries are: passwords, mirrors, certificates.

use std::{
    env,
    path::{Path, PathBuf},
};

/// Files and folders, those that count most first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sources {
    /// `auth.json` and `config.json`.
    pub(super) passwords: Vec<PathBuf>,
    /// `registries.conf`; the first that is there counts.
    pub(super) registries: Vec<PathBuf>,
    /// Their `.d` folders, of which later ones count more.
    pub(super) registries_folders: Vec<PathBuf>,
    /// `certs.d`: a folder for each registry, with certificates (`*.crt`) of authorities that it is trusted by.
    pub(super) certificates: Vec<PathBuf>,
    /// Where `docker-credential-…` programs are looked for.
    pub(super) programs: Vec<PathBuf>,
}

impl Sources {
    /// As Podman, Buildah and Docker look for them.
    pub(crate) fn of_this_user() -> Self {
        let folder = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = folder("HOME").unwrap_or_else(|| "/".into());
        let config = folder("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config")).join("containers");
        let runtime = folder("XDG_RUNTIME_DIR").map(|folder| folder.join("containers"));
        let runtime =
            runtime.unwrap_or_else(|| Path::new("/run/containers").join(nix::unistd::geteuid().to_string()));
        let docker = folder("DOCKER_CONFIG").unwrap_or_else(|| home.join(".docker"));
        let passwords = match folder("REGISTRY_AUTH_FILE") {
            Some(file) => vec![file],
            None => vec![runtime.join("auth.json"), config.join("auth.json"), docker.join("config.json")],
        };
        let system = Path::new("/etc/containers");
        let registries = match folder("CONTAINERS_REGISTRIES_CONF") {
            Some(file) => vec![file],
            None => vec![config.join("registries.conf"), system.join("registries.conf")],
        };
        Self {
            passwords,
            registries,
            registries_folders: vec![system.join("registries.conf.d"), config.join("registries.conf.d")],
            certificates: vec![config.join("certs.d"), system.join("certs.d"), "/etc/docker/certs.d".into()],
            programs: env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect(),
        }
    }
}
