//! What a container and the cloud say to each other, without the container.

use std::{path::Path, time::Duration};

use async_trait::async_trait;
use serde_json::json;
use tandem_js::Bridge as _;

use super::{inside::link::Link, *};
use crate::{archive::hash, call::Caller};

/// Says who asked.
struct Echo;

#[async_trait]
impl Calls for Echo {
    async fn call(&self, caller: &Caller, method: &str, args: Value) -> Result<Value, Report> {
        let Caller { of, request, ordinal, .. } = caller;
        Ok(json!([of.short(), request, method, ordinal, args]))
    }
}

struct Scene {
    folder: tempfile::TempDir,
    archives: Archives,
}

impl Scene {
    fn new() -> Self {
        // A home whose sockets have longer paths than an address takes.
        let folder = tempfile::Builder::new().prefix(&"long".repeat(30)).tempdir().unwrap();
        let archives = Archives::new(folder.path().join("archives"));
        archives.put(&hash(b"code"), &b"code"[..]).unwrap();
        Self { folder, archives }
    }

    fn open(&self) -> Arc<Programs> {
        Programs::new(Home::new(self.folder.path()), Arc::default(), self.archives.clone())
    }

    fn listening(&self) -> Arc<Programs> {
        let programs = self.open();
        programs.answer_by(Arc::new(Echo));
        let folder = programs.folder(&id());
        socket::make_folder(&folder, Path::new("/nowhere")).unwrap();
        programs.attend(&id(), tenant());
        programs
    }

    /// By a short way: the container has one, too.
    fn socket(&self) -> (fs::File, PathBuf) {
        use std::os::fd::AsRawFd;
        let shared = Home::new(self.folder.path()).code_of_containers().join("run-1/shared");
        let folder = fs::File::open(shared).unwrap();
        let path = format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd());
        (folder, path.into())
    }
}

fn id() -> ContainerId {
    ContainerId("run-1".to_owned())
}

fn tenant() -> Tenant {
    Tenant {
        of: "urn:tandem:shop:dev:task:crunch".parse().unwrap(),
        request: "run-1".to_owned(),
        traceparent: None,
        code: Code { code: hash(b"code"), handler: "task/crunch".to_owned(), config: BTreeMap::new() },
    }
}

#[tokio::test]
async fn a_container_is_told_what_to_be_and_calls_as_itself() {
    let scene = Scene::new();
    let _programs = scene.listening();
    let (_folder, socket) = scene.socket();
    let (link, assigned, archive) = Link::open(&socket).await.unwrap();
    let assigned = assigned.unwrap();
    assert_eq!((assigned.handler.as_str(), assigned.request.as_str()), ("task/crunch", "run-1"));
    assert_eq!(&archive[..], b"code");
    let mut answers = Vec::new();
    for (method, args) in [("task.run", 1), ("bucket.put", 2), ("task.run", 3)] {
        answers.push(link.call(method.into(), json!(args)).await.unwrap());
    }
    let of = "task/crunch";
    let expected = [
        json!([of, "run-1", "task.run", 0, 1]),
        json!([of, "run-1", "bucket.put", 0, 2]),
        json!([of, "run-1", "task.run", 1, 3]),
    ];
    assert_eq!(answers, expected);
}

// I4
#[tokio::test]
async fn what_a_cloud_did_not_answer_is_asked_again_by_the_same_name() {
    let scene = Scene::new();
    let first = scene.listening();
    let (_folder, socket) = scene.socket();
    let (link, ..) = Link::open(&socket).await.unwrap();
    link.call("run.wait".into(), json!("answered")).await.unwrap();
    // Nobody answers from here on, as after a kill.
    first.close();
    let asked = [link.call("run.wait".into(), json!("a")), link.call("run.wait".into(), json!("b"))];
    let _second = scene.listening();
    let answers = tokio::time::timeout(Duration::from_secs(20), futures::future::join_all(asked)).await;
    let answers: Vec<Value> = answers.unwrap().into_iter().map(Result::unwrap).collect();
    let of = "task/crunch";
    assert_eq!(answers, [json!([of, "run-1", "run.wait", 1, "a"]), json!([of, "run-1", "run.wait", 2, "b"])]);
}

#[tokio::test]
async fn a_container_that_comes_again_is_heard_though_its_former_connection_is_open() {
    let scene = Scene::new();
    let _programs = scene.listening();
    let (_folder, socket) = scene.socket();
    let hello = serde_json::to_vec(&Hello { assign: true }).unwrap();
    let mut connections = Vec::new();
    for _ in 0..2 {
        let mut stream = loop {
            // It listens from some moment on.
            match tokio::net::UnixStream::connect(&socket).await {
                Ok(stream) => break stream,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        crate::channel::write(&mut stream, &hello).await.unwrap();
        connections.push(stream);
    }
    let mut second = connections.pop().unwrap();
    let told = crate::channel::read_value::<Assigned>(&mut second).await.unwrap().unwrap();
    assert_eq!(told.unwrap().handler, "task/crunch");
}

#[tokio::test]
async fn code_that_is_gone_is_refused_with_its_name() {
    let scene = Scene::new();
    let programs = scene.listening();
    fs::remove_file(scene.archives.path(&hash(b"code")).unwrap()).unwrap();
    let (_folder, socket) = scene.socket();
    let (_, assigned, _) = Link::open(&socket).await.unwrap();
    assert_eq!(assigned.unwrap_err().code, "E0611");
    let refused = programs.check(&tenant().of, &tenant().code).await.unwrap_err();
    assert!(matches!(refused, CodeError::NoCode { .. }), "{refused}");
}

#[tokio::test]
async fn a_folder_goes_with_its_container() {
    let scene = Scene::new();
    let programs = scene.listening();
    let folder = programs.folder(&id());
    assert!(folder.join("shared").is_dir());
    programs.leave(&id());
    assert!(!folder.exists());
    programs.leave(&id());
}
