//! A cloud of functions only, for one test.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    future::Future,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use libtest_mimic::Failed;
use serde_json::{Value, json};
use tandem_cloud::{
    archive::{Archives, hash},
    call::{Caller, Calls},
    function::{Functions, Invocation, InvokeError, Invoked, Settings, Surroundings, spawner::Spawner},
    log::{Line, Sink},
    provider::Provider,
    resource::Resources,
};
use tandem_js::{Archive, Module, ModuleKind};
use tandem_model::{PhysicalId, Report, Urn, resource::Recorded};
use tokio::task::JoinHandle;

/// One test's helper and name.
pub(crate) struct Test {
    name: &'static str,
    spawner: Option<Spawner>,
    helper: Option<i32>,
}

impl Test {
    pub(crate) fn new(name: &'static str, spawner: Option<Spawner>, helper: Option<i32>) -> Self {
        Self { name, spawner, helper }
    }

    /// Runs the test in a cloud, closes it, and checks that nothing of it is left.
    pub(crate) fn run<F: Future<Output = ()>>(
        self,
        settings: Settings,
        test: impl FnOnce(Cloud) -> F,
    ) -> Result<(), Failed> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(async {
            let name = format!("test-{}-{}", std::process::id(), self.name.len());
            let mut cloud = Cloud::open(&name, self.spawner, settings).await;
            cloud.helper = self.helper;
            let functions = cloud.functions.clone();
            test(cloud).await;
            let pids = pids(&functions);
            functions.close(Duration::from_secs(5)).await;
            for pid in pids {
                assert!(!Path::new(&format!("/proc/{pid}")).exists(), "worker {pid} is left");
            }
            for folder in ["/sys/fs/cgroup/memory", "/sys/fs/cgroup/pids", "/sys/fs/cgroup"] {
                let names = fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.file_name());
                let own = format!("tandem-{name}-");
                let left: Vec<_> = names.filter(|n| n.to_string_lossy().starts_with(&own)).collect();
                assert!(left.is_empty(), "{left:?} are left in {folder}");
            }
        });
        Ok(())
    }
}

pub(crate) struct Cloud {
    /// The process whose children the workers are.
    helper: Option<i32>,
    pub(crate) functions: Functions,
    pub(crate) log: Arc<Kept>,
    pub(crate) calls: Arc<Echo>,
    pub(crate) resources: Arc<Resources>,
    archives: Archives,
    pub(crate) home: tempfile::TempDir,
}

/// Keeps the lines.
#[derive(Default)]
pub(crate) struct Kept(Mutex<Vec<Line>>);

impl Sink for Kept {
    fn write(&self, line: Line) {
        self.0.lock().unwrap().push(line);
    }
}

impl Kept {
    pub(crate) fn clear(&self) {
        self.0.lock().unwrap().clear();
    }

    /// How often each line was printed.
    pub(crate) fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for line in &*self.0.lock().unwrap() {
            *counts.entry(line.text.clone()).or_default() += 1;
        }
        counts
    }

    pub(crate) fn texts(&self) -> Vec<String> {
        self.0.lock().unwrap().iter().map(|l| l.text.clone()).collect()
    }

    pub(crate) fn of(&self, request: &str) -> Vec<String> {
        self.0.lock().unwrap().iter().filter(|l| l.id == request).map(|l| l.text.clone()).collect()
    }
}

/// Answers calls with what they were, later ones first if they ask to wait.
#[derive(Default)]
pub(crate) struct Echo(pub(crate) Mutex<Vec<(Caller, Value)>>);

#[async_trait]
impl Calls for Echo {
    async fn call(&self, caller: &Caller, method: &str, args: Value) -> Result<Value, Report> {
        self.0.lock().unwrap().push((caller.clone(), args["key"].clone()));
        Ok(json!({ "method": method, "args": args, "request": caller.request }))
    }
}

pub(crate) fn urn(name: &str) -> Urn {
    format!("urn:tandem:shop:dev:function:{name}").parse().unwrap()
}

impl Cloud {
    async fn open(name: &str, spawner: Option<Spawner>, settings: Settings) -> Self {
        let home = tempfile::tempdir().unwrap();
        let archives = Archives::new(home.path().to_owned());
        let (resources, log, calls) =
            (Arc::new(Resources::default()), Arc::<Kept>::default(), Arc::<Echo>::default());
        let surroundings = Surroundings {
            cloud: name.to_owned(),
            resources: resources.clone(),
            archives: archives.clone(),
            log: log.clone(),
            calls: calls.clone(),
            environment: Arc::new(|urn, _| {
                BTreeMap::from([("AWS_ACCESS_KEY_ID".to_owned(), urn.name.to_string())])
            }),
        };
        let functions = Functions::open(spawner, surroundings, settings).await;
        Self { functions, log, calls, resources, archives, helper: None, home }
    }

    /// Deploys a program whose only module is this, as a function of this name with these further inputs.
    pub(crate) async fn deploy(&self, name: &str, source: &str, inputs: Value) {
        let module = Module {
            kind: ModuleKind::CommonJs,
            source: source.to_owned(),
            imports: BTreeMap::new(),
            named_exports: Vec::new(),
        };
        let archive =
            Archive { entry: "index.js".to_owned(), modules: [("index.js".to_owned(), module)].into() };
        let bytes = archive.encode();
        let code = hash(&bytes);
        self.archives.put(&code, &bytes[..]).unwrap();
        let mut all = json!({ "code": code, "handler": name });
        let (Value::Object(all), Value::Object(more)) = (&mut all, inputs) else { unreachable!() };
        all.extend(more);
        let recorded = Recorded {
            urn: urn(name),
            id: PhysicalId(format!("{name}-1")),
            inputs: all.clone(),
            outputs: serde_json::from_value(json!({ "id": format!("{name}-1") })).unwrap(),
            depends_on: Vec::new(),
        };
        let recorded = self.resources.put(recorded);
        self.functions.settle(&recorded.urn, &recorded.id, Some(&recorded)).await;
    }

    pub(crate) async fn invoke(
        &self,
        name: &str,
        request: &str,
        event: Value,
    ) -> Result<Invoked, InvokeError> {
        let invocation = Invocation {
            request_id: request.to_owned(),
            payload: event.to_string().into(),
            traceparent: None,
        };
        self.functions.invoke(&urn(name), invocation).await
    }

    /// The processes of workers, as the kernel knows them.
    pub(crate) fn children(&self) -> BTreeSet<i32> {
        self.helper.map(children_of).unwrap_or_default()
    }

    /// Asks for a run without waiting for it.
    pub(crate) fn begin(
        &self,
        name: &str,
        request: &str,
        event: Value,
    ) -> JoinHandle<Result<Invoked, InvokeError>> {
        let (functions, name) = (self.functions.clone(), urn(name));
        let invocation = Invocation {
            request_id: request.to_owned(),
            payload: event.to_string().into(),
            traceparent: None,
        };
        tokio::spawn(async move { functions.invoke(&name, invocation).await })
    }

    /// Waits for something that comes by itself, looking now and then.
    pub(crate) async fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let since = Instant::now();
        while !holds() {
            assert!(since.elapsed() < Duration::from_secs(20), "{what} does not come");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// The children of a process that have not ended.
pub(crate) fn children_of(parent: i32) -> BTreeSet<i32> {
    let all = fs::read_dir("/proc").unwrap();
    let pids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // `pid (name) state parent …`
        let Some((_, rest)) = stat.rsplit_once(") ") else { return false };
        let mut fields = rest.split(' ');
        fields.next() != Some("Z") && fields.next().and_then(|p| p.parse().ok()) == Some(parent)
    })
    .collect()
}

/// The processes of all workers, as `tandem ps` tells of them.
pub(crate) fn pids(functions: &Functions) -> Vec<i32> {
    let (deployed, others) = functions.processes();
    deployed.iter().flat_map(|f| &f.workers).chain(&others).filter_map(|w| w.pid).collect()
}

/// What a handler answered.
pub(crate) fn answer(invoked: &Invoked) -> Value {
    serde_json::from_slice(&invoked.payload).unwrap()
}

/// Whether there is such a process, and it has not ended; one that has is there until its parent has noticed.
pub(crate) fn is_alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}
