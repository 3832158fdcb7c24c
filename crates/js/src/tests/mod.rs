//! Small programs, run as a deployment or as a worker would run them.

mod deploy;
mod durable;
mod errors;
mod modules;
mod network;
mod outputs;
mod process;
mod run;
mod streams;
mod timers;
mod topics;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use futures::{FutureExt, future::BoxFuture};
use serde_json::{Value, json};
use tandem_model::{ByteSize, Report, value::unknown};

use crate::{Archive, Bridge, CallError, InvokeContext, Module, ModuleKind, Phase, ProgramError, Setup, Vm};

/// A program made of files. A path's extension tells its kind; `.js` is CommonJS.
#[derive(Clone)]
struct Files(Archive);

fn files(files: &[(&str, &str)]) -> Files {
    let module = |(path, source): &(&str, &str)| {
        let kind = match path.rsplit('.').next() {
            Some("mjs") => ModuleKind::Esm,
            Some("json") => ModuleKind::Json,
            Some("js") => ModuleKind::CommonJs,
            _ => ModuleKind::Text,
        };
        let module = Module {
            kind,
            source: (*source).to_owned(),
            imports: BTreeMap::new(),
            named_exports: Vec::new(),
        };
        ((*path).to_owned(), module)
    };
    Files(Archive { entry: files[0].0.to_owned(), modules: files.iter().map(module).collect() })
}

impl Files {
    fn named_exports(mut self, path: &str, names: &[&str]) -> Self {
        self.0.modules.get_mut(path).unwrap().named_exports = names.iter().map(|n| (*n).to_owned()).collect();
        self
    }

    fn import(mut self, path: &str, specifier: &str, target: &str) -> Self {
        self.0.modules.get_mut(path).unwrap().imports.insert(specifier.to_owned(), target.to_owned());
        self
    }
}

/// A cloud that answers at once and remembers what it was asked.
#[derive(Default)]
struct Recording {
    calls: Mutex<Vec<(String, Value)>>,
    dry_run: bool,
    /// A call whose arguments contain this is refused.
    refuse: Option<&'static str>,
    /// Answers by method, for the run phase.
    answers: BTreeMap<&'static str, Value>,
}

impl Recording {
    fn registered(&self) -> Vec<String> {
        let calls = self.calls.lock().unwrap();
        let registered = calls.iter().filter(|(method, _)| method == "resource.register");
        registered.map(|(_, args)| format!("{}/{}", args["kind"], args["name"]).replace('"', "")).collect()
    }

    fn args(&self, needle: &str) -> Value {
        let calls = self.calls.lock().unwrap();
        calls.iter().find(|(method, args)| method == needle || args["name"] == needle).unwrap().1.clone()
    }
}

impl Bridge for Recording {
    fn call(&self, method: String, args: Value) -> BoxFuture<'static, Result<Value, CallError>> {
        let answer = match &self.refuse {
            Some(text) if args.to_string().contains(text) => Err(Report {
                code: "E0204".to_owned(),
                message: format!("the cloud refuses {}", args["name"]),
                help: "ask nicely".to_owned(),
                causes: Vec::new(),
            }),
            _ if method == "resource.register" => {
                let (kind, name) = (args["kind"].as_str().unwrap(), args["name"].as_str().unwrap());
                let urn = format!("urn:tandem:shop:dev:{kind}:{name}");
                Ok(if self.dry_run {
                    json!({ "urn": urn, "id": unknown(), "outputs": { "url": unknown() } })
                } else {
                    let url = json!({ "host": format!("{name}.test"), "port": 80 });
                    json!({ "urn": urn, "id": format!("{name}-id"), "outputs": { "arn": format!("arn:{name}"), "url": url } })
                })
            }
            _ => Ok(self.answers.get(method.as_str()).cloned().unwrap_or(Value::Null)),
        };
        self.calls.lock().unwrap().push((method, args));
        // Answered later, as every real answer is.
        async move {
            tokio::task::yield_now().await;
            answer
        }
        .boxed()
    }
}

fn setup(phase: Phase) -> Setup {
    Setup {
        phase,
        project: "shop".to_owned(),
        stack: "dev".to_owned(),
        config: BTreeMap::from([
            ("shop:color".to_owned(), json!("red")),
            ("count".to_owned(), json!("3")),
            ("other:token".to_owned(), json!({ "$tandem": "secret", "value": "s3cret" })),
        ]),
        dry_run: false,
        environment: BTreeMap::from([("LEVEL".to_owned(), "high".to_owned())]),
        resources: BTreeMap::from([("bucket/b".to_owned(), json!({ "id": "b-id", "url": { "host": "h" } }))]),
    }
}

/// Deploys a program and answers its exports.
async fn deploy_with(files: Files, cloud: &Arc<Recording>) -> Result<Value, ProgramError> {
    let vm = Vm::new().await.unwrap();
    let setup = Setup { dry_run: cloud.dry_run, resources: BTreeMap::new(), ..setup(Phase::Deploy) };
    vm.load(Arc::new(files.0), setup, cloud.clone()).await?;
    vm.finish_deploy().await
}

async fn deploy(source: &str) -> Result<Value, ProgramError> {
    deploy_with(files(&[("index.js", source)]), &Arc::default()).await
}

async fn preview(source: &str) -> Result<Value, ProgramError> {
    let cloud = Recording { dry_run: true, ..Recording::default() };
    deploy_with(files(&[("index.js", source)]), &Arc::new(cloud)).await
}

/// Deploys a program of one module that is expected to fail.
async fn refused(source: &str) -> ProgramError {
    deploy(source).await.unwrap_err()
}

/// Loads a program as a worker does.
async fn worker(files: Files, cloud: &Arc<Recording>) -> Result<Vm, ProgramError> {
    let vm = Vm::new().await.unwrap();
    vm.load(Arc::new(files.0), setup(Phase::Run), cloud.clone()).await?;
    Ok(vm)
}

fn context() -> InvokeContext {
    InvokeContext {
        request_id: "r-1".to_owned(),
        function: "f".to_owned(),
        deadline: SystemTime::now() + Duration::from_secs(60),
        memory: ByteSize::mebibytes(64),
        traceparent: None,
    }
}

/// Invokes the handler `f` of a program of one module.
async fn invoke(source: &str, event: Value) -> Result<Value, ProgramError> {
    let vm = worker(files(&[("index.js", source)]), &Arc::default()).await?;
    vm.invoke("f", event, context()).await
}
