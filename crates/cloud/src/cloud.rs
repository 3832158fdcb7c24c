//! The embedded cloud as a whole: opens its services in order, wires them to each other, and closes them.
//!
//! Opening is made of few and cheap steps: `tandem up` waits for it. What a crash left is taken up here, in this order:
//! the store finds its last commit, the resources are read, each service settles on them, the runs of tasks are compared
//! with the containers that exist, and only then are open deliveries taken up and clients let in.

use std::{collections::BTreeMap, fmt, io, path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;
use tandem_model::{Explain, Kind, StackId};
use tandem_store::{BlobError, OpenError as StoreError, RedbStore, Store};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    credential::{Credentials, RootKeyError},
    dispatch::{Consumers, Dispatcher, Subscriptions},
    gateway::{BindError, Bound, Endpoint},
    home::Home,
    log::{Log, LogError},
    resource::Resources,
    service::Service,
    target::{self, CloudTarget, Services, TargetFault, archive::Archives},
    wiring::Environments,
};

/// How long attempts under way may take to end when the cloud closes.
const GRACE: Duration = Duration::from_secs(10);

/// A running cloud.
pub struct Cloud {
    pub home: Home,
    pub started: Timestamp,
    pub endpoint: Endpoint,
    pub target: CloudTarget,
    pub archives: Archives,
    pub resources: Arc<Resources>,
    pub log: Log,
    pub dispatcher: Dispatcher,
    environments: Environments,
    store: Arc<dyn Store>,
    stop: CancellationToken,
    serving: TaskTracker,
}

impl fmt::Debug for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cloud")
            .field("home", &self.home)
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

/// A cloud that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot use `{}`", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Blobs(#[from] BlobError),
    #[error(transparent)]
    Target(#[from] TargetFault),
    #[error(transparent)]
    RootKey(#[from] RootKeyError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Log(#[from] LogError),
}

impl Explain for OpenError {
    fn code(&self) -> &'static str {
        match self {
            Self::Folder { .. } => "E0314",
            Self::Store(e) => e.code(),
            Self::Blobs(e) => e.code(),
            Self::Target(e) => e.code(),
            Self::RootKey(e) => e.code(),
            Self::Bind(e) => e.code(),
            Self::Log(e) => e.code(),
        }
    }
    fn help(&self) -> String {
        match self {
            Self::Folder { .. } => "check space and permissions there".into(),
            Self::Store(e) => e.help(),
            Self::Blobs(e) => e.help(),
            Self::Target(e) => e.help(),
            Self::RootKey(e) => e.help(),
            Self::Bind(e) => e.help(),
            Self::Log(e) => e.help(),
        }
    }
}

impl Cloud {
    /// Opens the cloud that lives in `home`. The caller holds the folder's lock.
    ///
    /// # Errors
    /// [`OpenError`] names what is in the way; nothing runs then.
    pub async fn open(home: Home) -> Result<Arc<Self>, OpenError> {
        let folder = |path: PathBuf| {
            std::fs::create_dir_all(&path).map_err(|source| OpenError::Folder { path, source })
        };
        folder(home.data())?;
        folder(home.run())?;
        let store: Arc<dyn Store> =
            Arc::new(RedbStore::open(home.data().join("store.redb"), tandem_store::Options::default())?);
        let resources = Arc::new(Resources::default());
        let id = target::load(&store, &resources).await?;
        let archives = Archives::new(home.archives());
        if let Err(error) = archives.sweep(&resources) {
            tracing::warn!(%error, "cannot sweep the archives");
        }
        let credentials = Arc::new(Credentials::open(&home, resources.clone())?);
        let bound = Bound::bind(&home).await?;
        let endpoint = bound.endpoint();
        let environments = Environments::new(credentials.clone(), endpoint);
        let log = Log::open(&home)?;

        let (outbox, hints) = Dispatcher::outbox();
        let subscriptions = Subscriptions::new(store.clone(), outbox.clone(), resources.clone());
        let services = Services::from([(Kind::Subscription, Arc::new(subscriptions) as Arc<dyn Service>)]);
        let target = CloudTarget::new(id, store.clone(), resources.clone(), services);
        target.settle_all().await;

        let consumers = Consumers::new();
        let dispatcher = Dispatcher::start(store.clone(), hints, consumers, Arc::new(log.clone()))
            .map_err(TargetFault::from)?;
        let stop = CancellationToken::new();
        let serving = TaskTracker::new();
        drop(bound);
        Ok(Arc::new(Self {
            home,
            started: Timestamp::now(),
            endpoint,
            target,
            archives,
            resources,
            log,
            dispatcher,
            environments,
            store,
            stop,
            serving,
        }))
    }

    /// The variables by which the person who works with a stack reaches it.
    pub fn operator_environment(&self, stack: &StackId) -> BTreeMap<String, String> {
        self.environments.of_operator(stack)
    }

    /// Takes no more requests, lets what is under way end, and closes the store. Containers go on.
    pub async fn close(&self) {
        self.stop.cancel();
        self.dispatcher.close(GRACE).await;
        self.serving.close();
        self.serving.wait().await;
        self.log.flush().await;
        self.store.close().await;
    }
}
