//! One program, packed once, and the runs of its deploy phase.
//!
//! `up` runs the program twice: for the plan it shows, and for real. Both runs see the same archive and the same build
//! folders, packed at their first use, so what is made is what was shown even if files change in between.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;

use serde_json::Value;
use tandem_model::{
    ByteSize, Desired, Explain, Kind, MaxAge, Report, Secrets, StackId, StackName, Urn, age, inputs,
    resource::Properties, value,
};
use tokio::{sync::OnceCell, task::spawn_blocking};

use crate::{
    archives::Archives,
    build, context,
    declare::{self, InputError},
    loops,
    pack::{PackError, Packed, deep, pack},
    project::{Project, ProjectError, Setting},
};

/// A packed program with what belongs to it.
#[derive(Debug)]
pub struct Deployment {
    project: Project,
    packed: Packed,
    archives: Arc<Archives>,
    contexts: Mutex<HashMap<BuildFolder, Arc<Packing>>>,
    /// When this was begun: the one moment at which all passes judge ages.
    begun: Timestamp,
    known: Mutex<HashMap<BuildName, Known>>,
    renewals: Mutex<BTreeMap<BuildName, Vec<String>>>,
    /// The functions and subscriptions of the last pass.
    handlers: Mutex<BTreeMap<Urn, Desired>>,
}

/// A resource, and the container of it if it has several.
pub type BuildName = (Urn, Option<String>);

/// What the target knows of a build that is deployed.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// When the oldest of its layers was made.
    pub since: Option<Timestamp>,
    /// Why it is to be made again, whatever the program says.
    pub reasons: Vec<String>,
}

/// A folder, the Dockerfile in it, and how large it may be.
type BuildFolder = (PathBuf, String, ByteSize);
/// The hash of its archive, once it is packed.
type Packing = OnceCell<Result<String, Report>>;

impl Deployment {
    /// Packs the project's program. Blocks on reading files.
    ///
    /// # Errors
    /// [`PackError`] with the place in the program.
    pub fn new(project: Project) -> Result<Self, PackError> {
        let packed = pack(&project)?;
        let archives = Arc::new(Archives::default());
        archives.add_bytes(&packed.hash, packed.bytes.clone());
        Ok(Self {
            project,
            packed,
            archives,
            contexts: Mutex::default(),
            begun: Timestamp::now(),
            known: Mutex::default(),
            renewals: Mutex::default(),
            handlers: Mutex::default(),
        })
    }

    /// Takes what is known of a deployed build, before the first pass.
    pub fn know(&self, name: BuildName, known: Known) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(name, known);
    }

    /// Why builds are made again though what they read may be as it was. Known after a pass.
    pub fn renewals(&self) -> BTreeMap<BuildName, Vec<String>> {
        self.renewals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is likely to be wrong with the program though it can be deployed. Known after a pass.
    pub fn warnings(&self) -> Vec<Report> {
        let handlers = self.handlers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let found = deep(|| loops::find(&self.packed.archive, &handlers));
        // Without a thread more there is no advice; nothing else depends on it.
        found.unwrap_or_default().iter().map(Explain::report).collect()
    }

    /// The tar of a folder that was packed in a pass, from its beginning.
    pub fn packed_folder(&self, hash: &str) -> Option<io::Result<File>> {
        self.archives.open(hash)
    }

    pub fn project(&self) -> &Project {
        &self.project
    }

    pub fn packed(&self) -> &Packed {
        &self.packed
    }

    /// What the engine's changes refer to. Wrap the target in [`Uploading`](crate::archives::Uploading) with it.
    pub fn archives(&self) -> Arc<Archives> {
        self.archives.clone()
    }

    pub(crate) fn stack(&self, stack: &StackName) -> StackId {
        StackId { project: self.project.name.clone(), stack: stack.clone() }
    }

    /// Turns what the SDK sent into what the engine takes: fills in what only this side knows, and checks the inputs.
    pub(crate) async fn desired(&self, stack: &StackId, args: Value) -> Result<Desired, Report> {
        let mut desired = declare::read(stack, args).map_err(|error| error.report())?;
        match desired.urn.kind {
            Kind::Function => {
                self.code(stack, &mut desired.inputs)?;
                self.handled(&desired);
            }
            Kind::Workflow | Kind::Entity => self.code(stack, &mut desired.inputs)?,
            Kind::Task | Kind::Service => {
                for code in inputs::codes_mut(&mut desired.inputs) {
                    self.code(stack, code)?;
                }
                let mut secrets = Secrets::default();
                for (container, build) in inputs::builds_mut(&mut desired.inputs) {
                    self.build(&desired.urn, build, &mut secrets).await?;
                    self.renew((desired.urn.clone(), container.map(str::to_owned)), build);
                }
                self.archives.entrust(&desired.urn, secrets);
            }
            Kind::Subscription => {
                // Only the warning is silenced by it.
                if desired.inputs.remove("loop").is_none() {
                    self.handled(&desired);
                }
            }
            Kind::Bucket | Kind::Queue | Kind::Stream | Kind::Volume | Kind::Topic | Kind::Timer => {}
        }
        declare::check(&desired).map_err(|error: InputError| error.report())?;
        Ok(desired)
    }

    fn handled(&self, desired: &Desired) {
        let mut handlers = self.handlers.lock().unwrap_or_else(PoisonError::into_inner);
        handlers.insert(desired.urn.clone(), desired.clone());
    }

    /// Adds what a handler is loaded from: the program, and the configuration that it was deployed with.
    fn code(&self, stack: &StackId, asked: &mut Properties) -> Result<(), Report> {
        asked.insert("code".to_owned(), self.packed.hash.clone().into());
        let config = self.config(&stack.stack).map_err(|error| error.report())?;
        if !config.is_empty() {
            asked.insert("config".to_owned(), Value::Object(config.into_iter().collect()));
        }
        Ok(())
    }

    /// Reads what a build reads: its folder, its certificates, its secrets.
    async fn build(&self, urn: &Urn, asked: &mut Properties, secrets: &mut Secrets) -> Result<(), Report> {
        build::read(&self.project.folder, urn, asked, secrets).map_err(|error| error.report())?;
        // Only the packing is bound by it.
        let limit = asked.remove("contextLimit").map(serde_json::from_value::<ByteSize>).transpose();
        let limit = limit.map_err(|error| {
            let (urn, reason) = (urn.short(), format!("`build.contextLimit`: {error}"));
            InputError::Property { urn, reason }.report()
        })?;
        if let Some((folder, dockerfile)) = declare::build_folder(asked) {
            let context = self.context(folder, dockerfile, limit.unwrap_or(context::LIMIT)).await?;
            asked.insert("context".to_owned(), context.into());
        }
        Ok(())
    }

    /// Asks for a build to be made again that is known to be too old, or is wanted anew.
    fn renew(&self, name: BuildName, asked: &mut Properties) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&name).cloned();
        let Known { since, mut reasons } = known.unwrap_or_default();
        let bound = asked.get("maxAge").and_then(Value::as_str).and_then(|text| text.parse::<MaxAge>().ok());
        if let (Some(since), Some(bound)) = (since, bound) {
            let age: Duration = self.begun.duration_since(since).try_into().unwrap_or_default();
            if age > bound.duration() {
                reasons.push(format!("its layers are {} old, and `maxAge` is {bound}", age::told(age)));
            }
        }
        if !reasons.is_empty() {
            asked.insert("renewed".to_owned(), self.begun.to_string().into());
            self.renewals.lock().unwrap_or_else(PoisonError::into_inner).insert(name, reasons);
        }
    }

    /// The hash of a packed build folder. Two tasks that are built from one folder pack it once.
    async fn context(&self, folder: String, dockerfile: String, limit: ByteSize) -> Result<String, Report> {
        // Written as `./folder`; shown and compared without the dot.
        let folder: PathBuf = self.project.folder.join(folder).components().collect();
        let key = (folder.clone(), dockerfile.clone(), limit);
        let cell =
            self.contexts.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default().clone();
        let packing = || async {
            let packed = spawn_blocking(move || context::pack(&folder, &dockerfile, limit)).await;
            let packed = packed.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
            let packed = packed.map_err(|error| error.report())?;
            let hash = packed.hash.clone();
            self.archives.add_context(packed);
            Ok(hash)
        };
        cell.get_or_init(packing).await.clone()
    }

    /// The stack's configuration as the program reads it.
    pub(crate) fn config(&self, stack: &StackName) -> Result<BTreeMap<String, Value>, ProjectError> {
        let config = self.project.config(stack)?;
        // A secret stays one in whatever is made of it: in plans, in the state, in outputs.
        let marked = |Setting { value, secret }| match secret {
            true => value::secret(value.into()),
            false => Value::String(value),
        };
        Ok(config.0.into_iter().map(|(key, setting)| (key, marked(setting))).collect())
    }
}
