//! What the steps of a build may use of this machine: its proxies, its certificate authorities, and where its `pip`,
//! `npm`, `go` and `apt` get packages from.
//!
//! Behind a company's proxy, HTTPS is signed by an authority that only the host knows, and packages come from a mirror.
//! A Dockerfile that works elsewhere must work there as it stands. So each step sees the host's bundle of certificates
//! under `/dev` (which is never part of an image) and variables that point the usual clients to it. Neither enters the
//! image or its history. What an image sets itself with `ENV` comes later in the environment than ours.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::settings;
use crate::{ContainerError, layout::at, tool};

/// What Buildah itself is to know: where it finds programs and passwords, and whom it trusts.
pub(super) const BUILDAH_VARIABLES: [&str; 7] = [
    "PATH",
    "HOME",
    "XDG_RUNTIME_DIR",
    "REGISTRY_AUTH_FILE",
    "DOCKER_CONFIG",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// Buildah hands these on to each step by itself.
pub(crate) const PROXY_VARIABLES: [&str; 10] = [
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "no_proxy",
    "all_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
];

/// Handed on as they are: where packages come from.
const PACKAGE_VARIABLES: [&str; 10] = [
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_TRUSTED_HOST",
    "PIP_DEFAULT_TIMEOUT",
    "PIP_RETRIES",
    "NPM_CONFIG_REGISTRY",
    "npm_config_registry",
    "YARN_REGISTRY",
    "GOPROXY",
    "GONOSUMDB",
];

/// How the usual clients are told of a bundle of certificates.
const CERTIFICATE_VARIABLES: [&str; 8] = [
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
    "AWS_CA_BUNDLE",
];

/// Where distributions keep the bundle: Debian, Fedora, SUSE, Alpine.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// `pip`'s own files, weakest first.
const PIP_FILES: [&str; 4] =
    ["/etc/xdg/pip/pip.conf", "/etc/pip.conf", ".pip/pip.conf", ".config/pip/pip.conf"];

/// `apt` settings that say how to reach its sources, not which.
const APT_SETTINGS: [&str; 6] = [
    "Acquire::http::Proxy",
    "Acquire::https::Proxy",
    "Acquire::http::Timeout",
    "Acquire::Retries",
    "Acquire::Check-Valid-Until",
    "Acquire::Check-Date",
];

const INSIDE: &str = "/dev/tandem";

/// What each step gets.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Access {
    pub(super) variables: Vec<(String, String)>,
    /// Files of the host, and where a step sees them.
    pub(super) files: Vec<(PathBuf, String)>,
}

/// Finds out what this machine has, and adds these certificates (PEM) to its own. What has to be written for steps is
/// in `folder`. Blocks for some milliseconds.
pub(super) fn access(folder: &Path, certificates: &[String]) -> Result<Access, ContainerError> {
    let mut access = Access::default();
    let mut apt = apt_settings();
    let bundle = match (bundle(), certificates) {
        (bundle, []) => bundle,
        (bundle, certificates) => Some(extended(bundle, certificates, folder)?),
    };
    if let Some(bundle) = bundle {
        let inside = format!("{INSIDE}/ca-certificates.crt");
        access.variables.extend(CERTIFICATE_VARIABLES.map(|name| (name.to_owned(), inside.clone())));
        apt.push_str(&format!("Acquire::https::CAInfo \"{inside}\";\n"));
        access.files.push((bundle, inside));
    }
    if !apt.is_empty() {
        let file = folder.join("apt.conf");
        settings::replace(&file, &apt)?;
        let inside = format!("{INSIDE}/apt.conf");
        access.variables.push(("APT_CONFIG".into(), inside.clone()));
        access.files.push((file, inside));
    }
    let given = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    let home = env::var_os("HOME").map(PathBuf::from).unwrap_or_else(|| "/".into());
    let files: Vec<String> =
        PIP_FILES.iter().filter_map(|file| fs::read_to_string(home.join(file)).ok()).collect();
    let configured = pip_settings(&files);
    for name in PACKAGE_VARIABLES {
        let from_file =
            || configured.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        if let Some(value) = given(name).or_else(from_file) {
            access.variables.push((name.to_owned(), value));
        }
    }
    Ok(access)
}

fn bundle() -> Option<PathBuf> {
    let chosen = env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let usual = BUNDLES.iter().map(PathBuf::from);
    chosen.into_iter().chain(usual).find_map(|path| fs::canonicalize(path).ok().filter(|path| path.is_file()))
}

/// Writes the machine's bundle and these certificates into one file.
fn extended(
    bundle: Option<PathBuf>,
    certificates: &[String],
    folder: &Path,
) -> Result<PathBuf, ContainerError> {
    let mut all = match bundle {
        Some(bundle) => fs::read_to_string(&bundle).map_err(at(bundle))?,
        None => String::new(),
    };
    for certificate in certificates {
        all.push('\n');
        all.push_str(certificate);
    }
    all.push('\n');
    let file = folder.join("ca-certificates.crt");
    settings::replace(&file, &all)?;
    Ok(file)
}

/// The `[global]` section of `pip.conf` files, in the names of `pip`'s variables.
fn pip_settings(files: &[String]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for text in files {
        let mut global = false;
        for line in text.lines().map(str::trim) {
            if line.starts_with('[') {
                global = line == "[global]";
            } else if let Some((key, value)) = line.split_once('=').filter(|_| global) {
                let name = format!("PIP_{}", key.trim().replace('-', "_").to_uppercase());
                let name = if name == "PIP_TIMEOUT" { "PIP_DEFAULT_TIMEOUT".into() } else { name };
                found.push((name, value.trim().to_owned()));
            }
        }
    }
    found
}

/// The host's own settings, in `apt`'s syntax. Empty where there is no `apt`.
fn apt_settings() -> String {
    let Some(program) = tool::find("apt-config") else { return String::new() };
    let Ok(done) = Command::new(program).arg("dump").env("LC_ALL", "C").output() else {
        return String::new();
    };
    let text = String::from_utf8_lossy(&done.stdout);
    // Acquire::http::Proxy "http://…";
    let wanted = |line: &&str| line.split_once(' ').is_some_and(|(name, _)| APT_SETTINGS.contains(&name));
    text.lines().filter(wanted).map(|line| format!("{line}\n")).collect()
}

impl Access {
    /// The change to a step's OCI configuration, as a `sed` script: our variables come first in `process.env`.
    ///
    /// Inside of a JSON string a quote is escaped, so the first `"env":[` is the key and nothing else.
    pub(super) fn step_change(&self) -> String {
        if self.variables.is_empty() {
            return String::new();
        }
        let mut list = String::new();
        for (name, value) in &self.variables {
            list.push_str(&serde_json::Value::from(format!("{name}={value}")).to_string());
            list.push(',');
        }
        let escaped = list.replace('\\', "\\\\").replace('&', "\\&").replace('|', "\\|");
        format!("s|\"env\": *\\[|\"env\":[{escaped}|\n")
    }

    /// `--volume` arguments.
    pub(super) fn volumes(&self) -> impl Iterator<Item = String> + '_ {
        let plain = |path: &Path| !path.to_string_lossy().contains(':');
        let files = self.files.iter().filter(move |(file, _)| plain(file));
        files.map(|(file, inside)| format!("{}:{inside}:ro", file.display()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn pip_files_are_read_as_pip_reads_them() {
        let system = "[global]\nindex-url = https://mirror.example/simple\ntimeout = 30\n[install]\ntrusted-host = no\n";
        let own = "[global]\nindex-url=https://own.example/simple\n";
        assert_eq!(
            pip_settings(&[system.into(), own.into()]),
            [
                ("PIP_INDEX_URL".to_owned(), "https://mirror.example/simple".to_owned()),
                ("PIP_DEFAULT_TIMEOUT".to_owned(), "30".to_owned()),
                ("PIP_INDEX_URL".to_owned(), "https://own.example/simple".to_owned()),
            ]
        );
    }

    #[test]
    fn variables_reach_a_steps_configuration_whatever_they_hold() {
        let awkward = r#"https://u:p|&\"x"@mirror/simple"#;
        let access =
            Access { variables: vec![("A".into(), awkward.into()), ("B".into(), "1".into())], files: vec![] };
        let folder = tempfile::TempDir::new().unwrap();
        let (script, config) = (folder.path().join("step.sed"), folder.path().join("config.json"));
        fs::write(&script, access.step_change()).unwrap();
        let before = serde_json::json!({ "process": { "args": ["\"env\":[", "env"], "env": ["PATH=/bin"] } });
        fs::File::create(&config).unwrap().write_all(before.to_string().as_bytes()).unwrap();
        let done = Command::new("sed").arg("-i").arg("-f").arg(&script).arg(&config).status().unwrap();
        assert!(done.success());
        let after: serde_json::Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
        assert_eq!(after["process"]["env"], serde_json::json!([format!("A={awkward}"), "B=1", "PATH=/bin"]));
        assert_eq!(after["process"]["args"], before["process"]["args"]);
    }
}
