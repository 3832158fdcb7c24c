//! Brings archives to the target before the first change that refers to them, and only then.
//!
//! A preview applies nothing, so it uploads nothing; nor does an `up` that finds everything as it should be.

use std::{
    collections::HashMap,
    io::Cursor,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;
use tandem_engine::{ArchiveReader, CloudId, Contents, Progress, Target, TargetError};
use tandem_model::{
    OpId, PhysicalId, Recorded, Report, Secrets, StackId, Urn,
    inputs::{builds, codes},
    plan::{Applied, Change, PropertyChange},
    resource::Properties,
};
use tokio::sync::OnceCell;

use crate::context::ContextArchive;

/// What changes refer to: archives by hash, as far as this process has them, and the secrets of builds.
#[derive(Debug, Default)]
pub struct Archives {
    held: Mutex<HashMap<String, Arc<Held>>>,
    secrets: Mutex<HashMap<Urn, Secrets>>,
}

#[derive(Debug)]
struct Held {
    content: Content,
    uploaded: OnceCell<()>,
}

#[derive(Debug, Clone)]
enum Content {
    Bytes(Bytes),
    /// Build folders can be large; their bytes are in a file until they are sent.
    File(Arc<Mutex<ContextArchive>>),
}

impl Archives {
    pub(crate) fn add_bytes(&self, hash: &str, bytes: Vec<u8>) {
        self.add(hash, Content::Bytes(bytes.into()));
    }

    pub(crate) fn add_context(&self, archive: ContextArchive) {
        let hash = archive.hash.clone();
        self.add(&hash, Content::File(Arc::new(Mutex::new(archive))));
    }

    /// The bytes of a packed build folder, if this process packed it.
    pub(crate) fn open(&self, hash: &str) -> Option<std::io::Result<std::fs::File>> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).get(hash).cloned()?;
        let Content::File(archive) = &held.content else { return None };
        let mut archive = archive.lock().unwrap_or_else(PoisonError::into_inner);
        Some(archive.read().and_then(|file| file.try_clone()))
    }

    /// Keeps the secrets for the changes of a resource.
    pub(crate) fn entrust(&self, urn: &Urn, secrets: Secrets) {
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner).insert(urn.clone(), secrets);
    }

    fn add(&self, hash: &str, content: Content) {
        let held = Held { content, uploaded: OnceCell::new() };
        let mut archives = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        archives.entry(hash.to_owned()).or_insert_with(|| Arc::new(held));
    }

    /// Uploads what the inputs refer to and the target has not got from here yet.
    /// And the secrets, which a target forgets after each change.
    async fn bring(&self, urn: &Urn, inputs: &Properties, target: &dyn Target) -> Result<(), TargetError> {
        let secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner).get(urn).cloned();
        if let Some(secrets) = secrets {
            target.entrust(urn, &secrets).await?;
        }
        for hash in references(inputs) {
            let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).get(hash).cloned();
            // What another `up` brought is with the target already.
            let Some(held) = held else { continue };
            held.uploaded.get_or_try_init(|| upload(target, hash, &held.content)).await?;
        }
        Ok(())
    }
}

async fn upload(target: &dyn Target, hash: &str, content: &Content) -> Result<(), TargetError> {
    let reader: ArchiveReader = match content.clone() {
        Content::Bytes(bytes) => Box::new(Cursor::new(bytes)),
        Content::File(archive) => {
            let file = archive
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .read()
                .and_then(|file| file.try_clone());
            Box::new(tokio::fs::File::from_std(file.map_err(|error| TargetError::Unreachable {
                reason: format!("the packed build folder cannot be read back: {error}"),
            })?))
        }
    };
    target.upload(hash, reader).await
}

/// The hashes of archives among a resource's inputs.
fn references(inputs: &Properties) -> impl Iterator<Item = &str> {
    let code = inputs.get("code").and_then(Value::as_str);
    let contexts = builds(inputs).filter_map(|build| build.get("context")).filter_map(Value::as_str);
    let containers = codes(inputs).filter_map(|one| one.get("code")).filter_map(Value::as_str);
    code.into_iter().chain(contexts).chain(containers)
}

/// A target that gets the archives it needs just before it needs them.
#[derive(Debug)]
pub struct Uploading {
    target: Arc<dyn Target>,
    archives: Arc<Archives>,
}

impl Uploading {
    pub fn new(target: Arc<dyn Target>, archives: Arc<Archives>) -> Self {
        Self { target, archives }
    }
}

#[async_trait]
impl Target for Uploading {
    async fn identity(&self) -> Result<CloudId, TargetError> {
        self.target.identity().await
    }

    fn diff(&self, urn: &Urn, old: &Properties, new: &Properties) -> Vec<PropertyChange> {
        self.target.diff(urn, old, new)
    }

    fn refusal(&self, urn: &Urn, old: Option<&Properties>, new: &Properties) -> Option<Report> {
        self.target.refusal(urn, old, new)
    }

    fn foresee(&self, urn: &Urn, changes: &[PropertyChange], outputs: &Properties) -> Properties {
        self.target.foresee(urn, changes, outputs)
    }

    fn made_by_client(&self, urn: &Urn) -> bool {
        self.target.made_by_client(urn)
    }

    async fn list(&self, stack: &StackId) -> Result<Vec<Recorded>, TargetError> {
        self.target.list(stack).await
    }

    async fn contents(&self, resources: &[(Urn, PhysicalId)]) -> Result<Vec<Contents>, TargetError> {
        self.target.contents(resources).await
    }

    async fn apply(
        &self,
        op: &OpId,
        change: &Change,
        progress: &dyn Progress,
    ) -> Result<Option<Applied>, TargetError> {
        match change {
            Change::Create { urn, inputs } | Change::Update { urn, new: inputs, .. } => {
                self.archives.bring(urn, inputs, &*self.target).await?;
            }
            Change::Delete { .. } => {}
        }
        self.target.apply(op, change, progress).await
    }

    async fn entrust(&self, urn: &Urn, secrets: &Secrets) -> Result<(), TargetError> {
        self.target.entrust(urn, secrets).await
    }

    async fn acknowledge(&self, ops: &[OpId]) -> Result<(), TargetError> {
        self.target.acknowledge(ops).await
    }

    async fn upload(&self, hash: &str, archive: ArchiveReader) -> Result<(), TargetError> {
        self.target.upload(hash, archive).await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// Writes down what it is asked for.
    #[derive(Debug, Default)]
    struct Log(Mutex<Vec<String>>);

    impl Log {
        fn push(&self, line: String) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
        fn lines(&self) -> Vec<String> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
        }
    }

    #[async_trait]
    impl Target for Log {
        async fn identity(&self) -> Result<CloudId, TargetError> {
            Ok(CloudId("c".to_owned()))
        }
        fn diff(&self, _: &Urn, _: &Properties, _: &Properties) -> Vec<PropertyChange> {
            Vec::new()
        }
        async fn list(&self, _: &StackId) -> Result<Vec<Recorded>, TargetError> {
            Ok(Vec::new())
        }
        async fn contents(&self, _: &[(Urn, PhysicalId)]) -> Result<Vec<Contents>, TargetError> {
            Ok(Vec::new())
        }
        async fn apply(
            &self,
            op: &OpId,
            _: &Change,
            _: &dyn Progress,
        ) -> Result<Option<Applied>, TargetError> {
            self.push(format!("apply {op}"));
            Ok(None)
        }
        async fn entrust(&self, urn: &Urn, secrets: &Secrets) -> Result<(), TargetError> {
            self.push(format!("entrust {} {secrets:?}", urn.short()));
            Ok(())
        }
        async fn acknowledge(&self, _: &[OpId]) -> Result<(), TargetError> {
            Ok(())
        }
        async fn upload(&self, hash: &str, mut archive: ArchiveReader) -> Result<(), TargetError> {
            let mut bytes = Vec::new();
            archive.read_to_end(&mut bytes).await.unwrap();
            assert_eq!(tandem_js::archive::hash(&bytes), hash);
            self.push(format!("upload {} bytes", bytes.len()));
            Ok(())
        }
    }

    #[tokio::test]
    async fn secrets_are_brought_before_each_change_of_their_resource() {
        let log = Arc::new(Log::default());
        let archives = Arc::new(Archives::default());
        archives.entrust(
            &"urn:tandem:shop:dev:task:x".parse().unwrap(),
            Secrets([("npm".to_owned(), b"hush".to_vec())].into()),
        );
        let target = Uploading::new(log.clone(), archives);
        for (index, kind) in ["task", "bucket", "task"].into_iter().enumerate() {
            target.apply(&OpId(index.to_string()), &create(kind, json!({})), &Silent).await.unwrap();
        }
        let brought = r#"entrust task/x Secrets(["npm"])"#;
        assert_eq!(log.lines(), [brought, "apply 0", "apply 1", brought, "apply 2"]);
    }

    struct Silent;

    impl Progress for Silent {
        fn line(&self, _: &Urn, _: &str) {}
    }

    fn create(kind: &str, inputs: Value) -> Change {
        let urn = format!("urn:tandem:shop:dev:{kind}:x").parse().unwrap();
        Change::Create { urn, inputs: inputs.as_object().unwrap().clone() }
    }

    #[tokio::test]
    async fn an_archive_is_uploaded_once_and_just_before_it_is_needed() {
        let log = Arc::new(Log::default());
        let archives = Arc::new(Archives::default());
        let code = tandem_js::archive::hash(b"code");
        archives.add_bytes(&code, b"code".to_vec());
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("Dockerfile"), "FROM scratch").unwrap();
        let context = crate::context::pack(folder.path(), "Dockerfile", crate::context::LIMIT).unwrap();
        let (hash, size) = (context.hash.clone(), context.size);
        archives.add_context(context);
        let target = Uploading::new(log.clone(), archives);
        let changes = [
            create("bucket", json!({})),
            create("function", json!({ "code": code })),
            create("function", json!({ "code": code })),
            create("task", json!({ "build": { "context": hash } })),
            create("function", json!({ "code": "sha256:elsewhere" })),
        ];
        for (index, change) in changes.iter().enumerate() {
            target.apply(&OpId(index.to_string()), change, &Silent).await.unwrap();
        }
        let expected = [
            "apply 0",
            "upload 4 bytes",
            "apply 1",
            "apply 2",
            &format!("upload {size} bytes"),
            "apply 3",
            "apply 4",
        ];
        assert_eq!(log.lines(), expected);
    }
}
