//! The embedded cloud as a whole: opens its services in order, wires them to each other, and closes them.
//!
//! Opening is made of few and cheap steps: `tandem up` waits for it. What a crash left is taken up here, in this order:
//! the store finds its last commit, the resources are read, each service settles on them, the runs of tasks are compared
//! with the containers that exist, and only then are open deliveries taken up and clients let in.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use axum::middleware;
use jiff::Timestamp;
use tandem_container::{Builder, Image, Parts, Runtime};
use tandem_model::{Explain, Kind, Report, StackId, Urn, inputs};
use tandem_store::{Blobs, FileBlobs, RedbStore, Store};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    archive::Archives,
    backup,
    bucket::{self, Buckets},
    capacity::{Capacity, CapacityStatus, Room},
    credential::Credentials,
    dispatch::{Consumer, Consumers, DeadLetters, Dispatcher, Subscriptions, Trail},
    endpoint::Endpoint,
    function::{self, Functions, spawner::Spawner},
    gateway::{self, Bound, Limits, Routes},
    home::Home,
    image::Images,
    log::{self, Log, RunLogs},
    program::{Attended, Programs},
    provider::{Lines, Provider},
    queue::{self, Queues},
    registry::{self, Registry},
    resource::Resources,
    service::{self, Services},
    settings::Settings,
    stream::{self, Streams},
    target::{self, CloudTarget, Providers, TargetFault},
    task::{self, Tasks},
    timer::{self, Timers},
    topic::Topics,
    volume::Volumes,
    wiring::{
        AllSubscriptions, ContainerLogs, Deferred, Environments, MessageHandlers, OpenError, Orchestration,
        OwnNames, ProgramCalls, Pruned, Tidying, Why, run_tidying, unsupported,
        why::{Node, WhyError},
        within_reach,
    },
    workflow::{self, EntityProvider, Workflows},
};

/// How long attempts and invocations under way may take to end when the cloud closes.
const GRACE: Duration = Duration::from_secs(5);

/// A running cloud.
pub struct Cloud {
    pub home: Home,
    pub started: Timestamp,
    pub endpoint: Endpoint,
    pub target: Arc<CloudTarget>,
    pub archives: Archives,
    pub resources: Arc<Resources>,
    pub log: Log,
    pub dispatcher: Dispatcher,
    pub dead_letters: DeadLetters,
    why: Why,
    pub functions: Functions,
    pub tasks: Tasks,
    pub services: Services,
    pub timers: Arc<Timers>,
    pub workflows: Workflows,
    programs: Arc<Programs>,
    capacity: Capacity,
    pub images: Arc<dyn Builder>,
    /// The images of tasks and services.
    pub builds: Arc<Images>,
    pub registry: Arc<Registry>,
    tidying: Arc<Tidying>,
    /// The log knows them weakly, because they write to it.
    _run_logs: Arc<dyn RunLogs>,
    environments: Environments,
    store: Arc<dyn Store>,
    blobs: Arc<dyn Blobs>,
    buckets: Arc<Buckets>,
    pub queues: Arc<Queues>,
    streams: Arc<Streams>,
    receivers: Arc<queue::Subscribers>,
    readers: Arc<stream::Subscribers>,
    /// Takes no more clients once cancelled.
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

impl Cloud {
    /// Opens the cloud that lives in `home`. The caller holds the folder's lock. Without a spawner everything but
    /// functions works.
    ///
    /// # Errors
    /// [`OpenError`] names what is in the way; nothing runs then.
    pub async fn open(home: Home, spawner: Option<Spawner>) -> Result<Arc<Self>, OpenError> {
        if home.restoring().exists() {
            return Err(OpenError::Restoring { home: home.path().to_owned() });
        }
        let Parts { builder, runtime, tidy } = Settings::read(&home)?.backend.open(&home.containers())?;
        for path in [home.data(), home.run()] {
            std::fs::create_dir_all(&path).map_err(|source| OpenError::Folder { path, source })?;
        }
        discard_imports(&home);
        let options = tandem_store::Options::default();
        let keep_free = options.keep_free;
        let store: Arc<dyn Store> = Arc::new(RedbStore::open(home.store(), options)?);
        let blobs: Arc<dyn Blobs> = Arc::new(FileBlobs::open(home.blobs(), keep_free)?);
        let resources = Arc::new(Resources::default());
        let id = target::load(&store, &resources).await?;
        let archives = Archives::new(home.archives());
        let programs = Programs::new(home.clone(), resources.clone(), archives.clone());
        programs.sweep(&*runtime).await;
        let runtime: Arc<dyn Runtime> = Arc::new(Attended::new(runtime, programs.clone()));
        let credentials = Arc::new(Credentials::open(&home, resources.clone())?);
        let bound = Bound::bind(&home).await?;
        let endpoint = bound.endpoint();
        let environments = Environments::new(credentials.clone(), endpoint);
        let log = Log::open(&home)?;
        let trail = Trail::open(home.trail());
        let (outbox, hints) = Dispatcher::outbox_with(trail.clone());

        let buckets =
            Arc::new(Buckets::new(store.clone(), blobs.clone(), outbox.clone(), resources.clone(), endpoint));
        let queues = Arc::new(Queues::new(store.clone(), resources.clone(), endpoint, trail.clone()));
        let streams = Arc::new(Streams::new(store.clone(), resources.clone()));
        let images: Arc<dyn Builder> = Arc::new(OwnNames::new(builder, endpoint));
        let registry = Registry::open(&home, keep_free, store.clone(), resources.clone(), images.clone())
            .map_err(|source| OpenError::Folder { path: home.registry(), source })?;
        let registry = Arc::new(registry);
        let builds = Arc::new(Images::new(home.clone(), store.clone(), images.clone()));
        let capacity = Capacity::new(Room::of_this_machine());
        let survey = capacity.survey();
        let tasks = Tasks::open(task::Parts {
            home: home.clone(),
            store: store.clone(),
            resources: resources.clone(),
            images: builds.clone(),
            programs: programs.clone(),
            runtime: runtime.clone(),
            log: Arc::new(log.clone()),
            environment: Arc::new(environments.clone()),
            capacity: capacity.clone(),
            grace: task::GRACE,
        })?;
        let services = Services::open(service::Parts {
            home: home.clone(),
            store: store.clone(),
            resources: resources.clone(),
            images: builds.clone(),
            programs: programs.clone(),
            runtime,
            log: Arc::new(log.clone()),
            log_changes: tasks.log_changes(),
            environment: Arc::new(environments.clone()),
            cloud: endpoint.address(),
            capacity: capacity.clone(),
        })?;
        drop(survey);
        let of_instances = workflow::code_in_use(&*store)?;
        if let Err(error) =
            archives.sweep(&resources, tasks.code_of_open_runs()?.into_iter().chain(of_instances))
        {
            tracing::warn!(%error, "cannot sweep the archives");
        }
        let run_logs: Arc<dyn RunLogs> =
            Arc::new(ContainerLogs { tasks: tasks.clone(), services: services.clone() });
        log.attach_runs(Arc::downgrade(&run_logs));
        let topics = Arc::new(Topics::new(store.clone(), outbox.clone(), resources.clone()));
        let calls = Arc::new(ProgramCalls {
            topics: topics.clone(),
            buckets: buckets.clone(),
            tasks: tasks.clone(),
            queues: queues.clone(),
            streams: streams.clone(),
            log: log.clone(),
            functions: OnceLock::new(),
            workflows: OnceLock::new(),
        });
        let for_functions = environments.clone();
        let surroundings = function::Surroundings {
            cloud: id.0.chars().take(8).collect(),
            resources: resources.clone(),
            archives: archives.clone(),
            log: Arc::new(log.clone()),
            calls: calls.clone(),
            environment: Arc::new(move |urn: &Urn, _: &_| for_functions.of_resource(urn)),
        };
        let functions = Functions::open(spawner, surroundings, function::Settings::default()).await;
        let _ = calls.functions.set(functions.clone());
        let orchestration = Orchestration { functions: functions.clone(), tasks: tasks.clone() };
        let workflows = Workflows::new(store.clone(), resources.clone(), Arc::new(orchestration));
        let _ = calls.workflows.set(workflows.clone());
        programs.answer_by(calls);

        let handlers = Arc::new(MessageHandlers {
            functions: functions.clone(),
            tasks: tasks.clone(),
            workflows: workflows.clone(),
        });
        let receivers = queue::Subscribers::new(queues.clone(), resources.clone(), handlers.clone());
        let readers = stream::Subscribers::new(
            streams.clone(),
            resources.clone(),
            handlers.clone(),
            Arc::new(log.clone()),
        );
        let subscriptions = AllSubscriptions {
            dispatched: Subscriptions::new(store.clone(), outbox.clone(), resources.clone()),
            store: store.clone(),
            to_queues: receivers.clone(),
            to_streams: readers.clone(),
            resources: resources.clone(),
        };
        let volumes = Arc::new(Volumes::new(home.clone(), store.clone(), resources.clone()));
        let timers = Arc::new(Timers::new(store.clone(), outbox.clone(), Timestamp::now));
        let providers = Providers::from([
            (Kind::Bucket, buckets.clone() as Arc<dyn Provider>),
            (Kind::Queue, Arc::new(queue::Provided(queues.clone())) as Arc<dyn Provider>),
            (Kind::Stream, Arc::new(stream::Provided(streams.clone()))),
            (Kind::Volume, volumes.clone()),
            (Kind::Task, Arc::new(tasks.clone())),
            (Kind::Service, Arc::new(services.clone())),
            (Kind::Function, Arc::new(functions.clone())),
            (Kind::Topic, topics),
            (Kind::Timer, timers.clone()),
            (Kind::Workflow, Arc::new(workflows.clone())),
            (Kind::Entity, Arc::new(EntityProvider(workflows.clone()))),
            (Kind::Subscription, Arc::new(subscriptions)),
        ]);
        let target = Arc::new(CloudTarget::new(id, store.clone(), resources.clone(), providers));
        target.settle_all().await;
        workflows.settle_versions().await?;
        workflows.open().await?;
        services.sweep();
        volumes.sweep().await;
        let consumers = Consumers::from([
            (Kind::Function, handlers as Arc<dyn Consumer>),
            (Kind::Task, Arc::new(tasks.clone())),
            (Kind::Workflow, Arc::new(workflows.clone())),
            (Kind::Queue, Arc::new(queue::Provided(queues.clone()))),
        ]);
        let dispatcher = Dispatcher::start(store.clone(), hints, consumers, Arc::new(log.clone()))
            .map_err(TargetFault::from)?;

        let dead_letters =
            DeadLetters::new(store.clone(), outbox.clone(), resources.clone(), Arc::new(log.clone()));
        let why = Why {
            resources: resources.clone(),
            buckets: buckets.clone(),
            queues: queues.clone(),
            functions: functions.clone(),
            tasks: tasks.clone(),
            log: log.clone(),
            letters: dead_letters.clone(),
            trail,
            workflows: workflows.clone(),
        };
        let deferred = Deferred { store: store.clone(), outbox, resources: resources.clone() };
        let lambda = function::invoke_api::router(functions.clone(), Arc::new(deferred))
            .route_layer(middleware::from_fn_with_state(resources.clone(), within_reach))
            .fallback(unsupported);
        let routes = Routes {
            credentials: credentials.clone(),
            s3: bucket::http::service(buckets.clone(), credentials.clone(), target.clone()),
            registry: registry::http::router(registry.clone(), credentials.clone()),
            workflows: workflow::http::router(workflows.clone(), credentials, endpoint),
            others: HashMap::from([
                ("lambda", lambda),
                ("sqs", queue::http::router(queues.clone(), target.clone())),
                ("kinesis", stream::http::router(streams.clone())),
            ]),
            limits: Limits::of_this_process(),
        };
        let (stop, serving) = (CancellationToken::new(), TaskTracker::new());
        serving.spawn(gateway::serve(bound, routes, stop.clone()));
        let (weak, halt) = (Arc::downgrade(&buckets), stop.clone());
        let expiring = bucket::run_lifecycle(weak, Timestamp::now, tokio::time::sleep);
        serving.spawn(async move { _ = halt.run_until_cancelled_owned(expiring).await });
        let ticking = timer::run(Arc::downgrade(&timers), tokio::time::sleep);
        let halt = stop.clone();
        serving.spawn(async move { _ = halt.run_until_cancelled_owned(ticking).await });
        let (weak, halt) = (Arc::downgrade(&queues), stop.clone());
        serving.spawn(async move { _ = halt.run_until_cancelled_owned(queue::run_retention(weak)).await });
        let (weak, halt) = (Arc::downgrade(&streams), stop.clone());
        serving.spawn(async move { _ = halt.run_until_cancelled_owned(stream::run_retention(weak)).await });
        let forgetting =
            log::run_retention(log.clone(), Arc::downgrade(&resources), Timestamp::now, tokio::time::sleep);
        let halt = stop.clone();
        serving.spawn(async move { _ = halt.run_until_cancelled_owned(forgetting).await });
        let (weak, halt) = (Arc::downgrade(&registry), stop.clone());
        let clearing = registry::run_garbage(weak, Timestamp::now, tokio::time::sleep);
        serving.spawn(async move { _ = halt.run_until_cancelled_owned(clearing).await });
        let (sweeping, halt) = (sweep(Arc::downgrade(&buckets)), stop.clone());
        serving.spawn(async move { _ = halt.run_until_cancelled_owned(sweeping).await });
        let tidying = Arc::new(Tidying {
            home: home.clone(),
            store: store.clone(),
            resources: resources.clone(),
            target: target.clone(),
            tasks: tasks.clone(),
            services: services.clone(),
            registry: registry.clone(),
            images: tidy,
        });
        let (weak, halt) = (Arc::downgrade(&tidying), stop.clone());
        let tidying_up = run_tidying(weak, tokio::time::sleep);
        serving.spawn(async move { _ = halt.run_until_cancelled_owned(tidying_up).await });
        Ok(Arc::new(Self {
            tidying,
            home,
            started: Timestamp::now(),
            endpoint,
            target,
            archives,
            resources,
            log,
            dispatcher,
            why,
            dead_letters,
            functions,
            tasks,
            services,
            timers,
            workflows,
            programs,
            capacity,
            images,
            builds,
            registry,
            _run_logs: run_logs,
            environments,
            store,
            blobs,
            buckets,
            queues,
            streams,
            receivers,
            readers,
            stop,
            serving,
        }))
    }

    /// What is free on the machine, who holds the rest, and who waits; and what would fit of a stack's tasks, or of all.
    pub fn capacity(&self, stack: Option<&StackId>) -> CapacityStatus {
        self.capacity.status(&self.tasks.claims(stack))
    }

    /// What became of an object, an event, a delivery or a run of a stack, or why nothing happened.
    ///
    /// # Errors
    /// [`WhyError`].
    pub async fn why(&self, stack: &StackId, what: &str) -> Result<Vec<Node>, WhyError> {
        self.why.ask(stack, what).await
    }

    /// Builds a folder, packed as for a task, into an image of that name, or of one made of its content. Dropped, the build
    /// ends.
    ///
    /// # Errors
    /// Why there is no image, for people.
    pub async fn build(
        &self,
        build: &inputs::Build,
        name: Option<&str>,
        lines: &dyn Lines,
    ) -> Result<Image, Report> {
        let _underway = self.target.begin();
        self.builds.build_folder(build, name, lines).await.map_err(|error| error.report())
    }

    /// Removes the images that nobody needs, with `all` also those that have a name; or tells which, with `dry_run`. Waits for
    /// builds under way.
    ///
    /// # Errors
    /// A [`Report`] for people; what went is gone, and asking again goes on.
    pub async fn prune_images(&self, all: bool, dry_run: bool) -> Result<Pruned, Report> {
        self.tidying.prune(all, dry_run).await
    }

    /// The variables by which the person who works with a stack reaches it.
    pub fn operator_environment(&self, stack: &StackId) -> BTreeMap<String, String> {
        self.environments.of_operator(stack)
    }

    /// What a backup copies, with nothing of it being deleted until that is dropped.
    pub fn backup_sources(&self) -> backup::Sources {
        backup::Sources {
            home: self.home.clone(),
            store: self.store.clone(),
            blobs: self.blobs.clone(),
            live: Some(backup::Live { target: self.target.commits(), hold: self.buckets.hold() }),
        }
    }

    /// Takes no more requests, lets what is under way end, and closes the store. Containers go on.
    pub async fn close(&self) {
        self.stop.cancel();
        self.queues.drain();
        self.streams.drain();
        self.tasks.drain();
        tokio::join!(
            self.dispatcher.close(GRACE),
            self.receivers.close(GRACE),
            self.readers.close(GRACE),
            self.workflows.close(GRACE)
        );
        self.functions.close(GRACE).await;
        self.tasks.close().await;
        self.services.close().await;
        self.programs.close();
        self.serving.close();
        self.serving.wait().await;
        self.log.flush().await;
        tandem_failpoint::hit("cloud.close.drained");
        self.store.close().await;
    }
}

/// Removes the files of imports that were under way when an earlier cloud was killed.
fn discard_imports(home: &Home) {
    let Ok(entries) = std::fs::read_dir(home.run()) else { return };
    for entry in entries.flatten().filter(|e| Home::is_import(&e.file_name().to_string_lossy())) {
        let _ = std::fs::remove_file(entry.path());
    }
}

/// Removes what earlier starts left and nothing refers to. Beside everything else: a large folder must not delay the
/// start.
async fn sweep(buckets: Weak<Buckets>) {
    let Some(buckets) = buckets.upgrade() else { return };
    match buckets.sweep().await {
        Ok(swept) if swept.blobs > 0 => {
            tracing::info!(blobs = swept.blobs, bytes = swept.bytes, "removed bodies that nothing refers to");
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "cannot sweep the blobs"),
    }
}
