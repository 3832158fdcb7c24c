//! What a build reads besides its folder: certificates and secrets.
//!
//! Certificates become inputs, so that another certificate is another build. Secrets do not: of them only the ids stay
//! among the inputs, which are recorded and shown; the values go to the target beside the change.

use std::{
    collections::BTreeMap,
    env, fs, io,
    os::unix::ffi::OsStringExt as _,
    path::{Component, Path, PathBuf},
};

use serde_json::{Map, Value, json};
use tandem_model::{ByteSize, Explain, Secrets, Urn, value};

/// As Docker has it.
const LARGEST_SECRET: usize = 500 << 10;
/// All of them are recorded with their resource.
const LARGEST_CERTIFICATES: usize = 256 << 10;

#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    #[error("{urn}: the secret `{id}` cannot be read from `{}`", path.display())]
    SecretFile { urn: String, id: String, path: PathBuf, source: io::Error },
    #[error("{urn}: the secret `{id}` is in the variable `{name}`, which is not set")]
    SecretVariable { urn: String, id: String, name: String },
    #[error("{urn}: the secret `{id}` has {size}; it may have {}", ByteSize(LARGEST_SECRET as u64))]
    SecretSize { urn: String, id: String, size: ByteSize },
    #[error("{urn}: two of its containers have a secret `{id}`, and their values differ")]
    SecretTwice { urn: String, id: String },
    #[error("{urn}: the certificates in `{}` cannot be read", path.display())]
    CertificateFile { urn: String, path: PathBuf, source: io::Error },
    #[error("{urn}: `{file}`, which `extraCaCertificates` names, {reason}")]
    Certificate { urn: String, file: String, reason: &'static str },
}

impl Explain for BuildError {
    fn code(&self) -> &'static str {
        "E0548"
    }

    fn help(&self) -> String {
        match self {
            Self::SecretFile { .. } => {
                "write the file, or correct the path; it is relative to the project's folder".into()
            }
            Self::SecretVariable { name, .. } => format!("set it where you call `tandem`: `export {name}=…`"),
            Self::SecretSize { .. } => {
                "hand larger things to the build in its folder or by the network".into()
            }
            Self::SecretTwice { .. } => "give one of them another id".into(),
            Self::CertificateFile { .. } => {
                "write the file, or correct the path; it is relative to the project's folder".into()
            }
            Self::Certificate { .. } => {
                "name files of the project with certificates alone, as PEM: `-----BEGIN CERTIFICATE-----`"
                    .into()
            }
        }
    }
}

/// Takes the secrets out of a build's inputs, and reads its certificates into them. The builds of one resource share their
/// secrets.
pub(crate) fn read(
    project: &Path,
    urn: &Urn,
    build: &mut Map<String, Value>,
    secrets: &mut Secrets,
) -> Result<(), BuildError> {
    if let Some(Value::Array(files)) = build.get_mut("extraCaCertificates") {
        certificates(project, urn, files)?;
    }
    if let Some(Value::Object(given)) = build.get("secrets")
        && !value::is_marker(given)
    {
        for (id, source) in given.iter() {
            if let Some(secret) = secret(project, urn, id, source)? {
                if secrets.0.get(id).is_some_and(|other| *other != secret) {
                    return Err(BuildError::SecretTwice { urn: urn.short(), id: id.clone() });
                }
                secrets.0.insert(id.clone(), secret);
            }
        }
        let ids: Vec<Value> = given.keys().map(|id| json!(id)).collect();
        build.insert("secrets".to_owned(), ids.into());
    }
    Ok(())
}

/// A secret's value; `None` if it is not known yet.
fn secret(project: &Path, urn: &Urn, id: &str, source: &Value) -> Result<Option<Vec<u8>>, BuildError> {
    let (urn, id) = (urn.short(), id.to_owned());
    let place = |key: &str| source.get(key).and_then(Value::as_str);
    let value = if let Value::String(text) = value::revealed(source) {
        text.into_bytes()
    } else if let Some(file) = place("file") {
        let path = project.join(file);
        fs::read(&path).map_err(|source| BuildError::SecretFile {
            urn: urn.clone(),
            id: id.clone(),
            path,
            source,
        })?
    } else if let Some(name) = place("env") {
        let Some(value) = env::var_os(name) else {
            return Err(BuildError::SecretVariable { urn, id, name: name.to_owned() });
        };
        value.into_vec()
    } else {
        return Ok(None);
    };
    if value.len() > LARGEST_SECRET {
        return Err(BuildError::SecretSize { urn, id, size: ByteSize(value.len() as u64) });
    }
    Ok(Some(value))
}

/// Puts the content of each file in the place of its name.
fn certificates(project: &Path, urn: &Urn, files: &mut [Value]) -> Result<(), BuildError> {
    let urn = urn.short();
    let mut read = BTreeMap::new();
    for file in files.iter_mut() {
        let Value::String(name) = file else { continue };
        let name = std::mem::take(name);
        let refused = |reason| Err(BuildError::Certificate { urn: urn.clone(), file: name.clone(), reason });
        if !Path::new(&name).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir)) {
            return refused("is not a path inside the project's folder");
        }
        let path = project.join(&name);
        let unreadable =
            |source| BuildError::CertificateFile { urn: urn.clone(), path: path.clone(), source };
        let bytes = fs::read(&path).map_err(unreadable)?;
        let Ok(pem) = String::from_utf8(bytes) else { return refused("is not text") };
        if pem.contains("PRIVATE KEY-----") {
            return refused("has a private key in it");
        }
        if !pem.contains("-----BEGIN CERTIFICATE-----")
            && !pem.contains("-----BEGIN TRUSTED CERTIFICATE-----")
        {
            return refused("has no certificate in it");
        }
        read.insert(name.clone(), pem.len());
        if read.values().sum::<usize>() > LARGEST_CERTIFICATES {
            return refused("makes them more than 256 KiB together");
        }
        *file = json!({ "file": name, "pem": pem });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEM: &str = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";

    struct Project(tempfile::TempDir);

    impl Project {
        fn new(files: &[(&str, &str)]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            files.iter().for_each(|(name, text)| fs::write(folder.path().join(name), text).unwrap());
            Self(folder)
        }

        fn read(&self, build: Value) -> Result<(Value, Secrets), BuildError> {
            let urn = "urn:tandem:p:dev:task:t".parse().unwrap();
            let mut build = build.as_object().unwrap().clone();
            let mut secrets = Secrets::default();
            read(self.0.path(), &urn, &mut build, &mut secrets)?;
            Ok((Value::Object(build), secrets))
        }
    }

    #[test]
    fn of_secrets_only_their_ids_stay_among_the_inputs() {
        let project = Project::new(&[("token", "from a file\n")]);
        let home = env::var("HOME").unwrap();
        let given = json!({
            "file": { "file": "./token" },
            "env": { "env": "HOME" },
            "setting": value::secret(json!("from a setting")),
            "later": value::unknown(),
        });
        let (build, secrets) = project.read(json!({ "secrets": given })).unwrap();
        assert_eq!(build, json!({ "secrets": ["env", "file", "later", "setting"] }));
        let expected = [("env", home.as_str()), ("file", "from a file\n"), ("setting", "from a setting")];
        let expected = expected.map(|(id, value)| (id.to_owned(), value.as_bytes().to_vec()));
        assert_eq!(secrets.0, expected.into());
    }

    #[test]
    fn a_secret_that_is_not_there_is_named_with_its_place() {
        let project = Project::new(&[("large", &"x".repeat(LARGEST_SECRET + 1))]);
        let said =
            |source: Value| project.read(json!({ "secrets": { "npm": source } })).unwrap_err().to_string();
        let missing = said(json!({ "file": "nowhere" }));
        assert!(
            missing.starts_with("task/t: the secret `npm` cannot be read from `/")
                && missing.ends_with("/nowhere`")
        );
        let unset = said(json!({ "env": "TANDEM_TEST_NOBODY_SETS_THIS" }));
        assert!(unset.contains("the variable `TANDEM_TEST_NOBODY_SETS_THIS`, which is not set"), "{unset}");
        assert!(said(json!({ "file": "large" })).contains("may have 500 KiB"));
    }

    #[test]
    fn certificates_are_read_into_the_inputs_and_what_is_none_is_refused() {
        let key = "-----BEGIN PRIVATE KEY-----";
        let both = format!("{PEM}{key}");
        let project = Project::new(&[("ca.pem", PEM), ("both.pem", &both), ("text", "no")]);
        let (build, _) = project.read(json!({ "extraCaCertificates": ["./ca.pem"] })).unwrap();
        assert_eq!(build, json!({ "extraCaCertificates": [{ "file": "./ca.pem", "pem": PEM }] }));
        let said =
            |file: &str| project.read(json!({ "extraCaCertificates": [file] })).unwrap_err().to_string();
        for (file, reason) in [
            ("both.pem", "has a private key in it"),
            ("text", "has no certificate in it"),
            ("../ca.pem", "is not a path inside the project's folder"),
            ("/etc/ssl/cert.pem", "is not a path inside the project's folder"),
            ("nowhere.pem", "cannot be read"),
        ] {
            assert!(said(file).contains(reason), "{file}: {}", said(file));
        }
    }
}
