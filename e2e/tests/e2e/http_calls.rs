//! `callHttp`: requests that the cloud makes for an orchestrator, also when it is killed between them.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread::{self, sleep},
    time::Duration,
};

use serde_json::{Value, json};

use crate::harness::{Cloud, Project};

/// What a server was asked, in order, and whether its job is over.
#[derive(Default)]
struct Asked {
    lines: Vec<String>,
    over: bool,
}

/// A server of jobs: `POST /jobs` is accepted, `GET /jobs/1` tells of it.
#[derive(Clone)]
struct Jobs {
    at: String,
    asked: Arc<Mutex<Asked>>,
}

impl Jobs {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let at = format!("http://{}", listener.local_addr().expect("it is bound"));
        let jobs = Self { at, asked: Arc::default() };
        let serving = jobs.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let _ = serving.answer(stream);
            }
        });
        jobs
    }

    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut first = String::new();
        reader.read_line(&mut first)?;
        let (mut length, mut own) = (0, String::new());
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            let Some((name, value)) = header.trim().split_once(": ") else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().unwrap_or_default(),
                "x-own" => value.clone_into(&mut own),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let body = String::from_utf8_lossy(&body).into_owned();
        let asked = first.rsplit_once(' ').map_or("", |(asked, _)| asked).to_owned();
        let over = {
            let mut known = self.asked.lock().expect("no test panics with it");
            known.lines.push(asked.clone());
            known.over
        };
        let (head, content) = match asked.as_str() {
            "POST /jobs" => ("202 Accepted\r\nLocation: /jobs/1\r\nRetry-After: 1".to_owned(), String::new()),
            "GET /jobs/1" if !over => {
                ("202 Accepted\r\nLocation: /jobs/1\r\nRetry-After: 1".to_owned(), String::new())
            }
            "GET /jobs/1" => ("200 OK".to_owned(), "done".to_owned()),
            "POST /echo" => (format!("200 OK\r\nX-Echo: {own}"), body),
            _ => ("404 Not Found".to_owned(), "nothing".to_owned()),
        };
        let length = content.len();
        write!(stream, "HTTP/1.1 {head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{content}")
    }

    fn count(&self, asked: &str) -> usize {
        let known = self.asked.lock().expect("no test panics with it");
        known.lines.iter().filter(|line| *line == asked).count()
    }

    fn is_over(&self, over: bool) {
        self.asked.lock().expect("no test panics with it").over = over;
    }

    fn wait_for(&self, asked: &str, times: usize) {
        for _ in 0..600 {
            if self.count(asked) >= times {
                return;
            }
            sleep(Duration::from_millis(50));
        }
        panic!("{asked} did not come {times} times");
    }
}

const PROGRAM: &str = r#"
const cloud = require('@tandem/cloud');
const df = require('durable-functions');
new cloud.Workflow('echo', df.orchestrator(function* (ctx) {
    const at = ctx.df.getInput();
    const echoed = yield ctx.df.callHttp('POST', `${at}/echo`, { a: 1 }, { 'x-own': 'yes' });
    const missing = yield ctx.df.callHttp('GET', `${at}/missing`);
    const accepted = yield ctx.df.callHttp('POST', `${at}/jobs`, 'x', {}, undefined, false);
    let said;
    try {
        yield ctx.df.callHttp('GET', 'http://127.0.0.1:1/nobody');
    } catch (error) {
        said = error.message;
    }
    return [echoed.statusCode, echoed.content, echoed.getHeader('X-Echo'), missing.statusCode, accepted.statusCode, said];
}));
new cloud.Workflow('job', df.orchestrator(function* (ctx) {
    const job = yield ctx.df.callHttp('POST', `${ctx.df.getInput()}/jobs`, 'do it');
    return [job.statusCode, job.content];
}));
"#;

/// A request that is accepted, beside an activity that fails until it is told not to.
const BESIDE: &str = r#"
const bucket = new cloud.Bucket('b', { forceDestroy: true });
new cloud.Function('fails', async () => {
    await new Promise((done) => setTimeout(done, 1500));
    if ((await bucket.list()).length === 0) throw new Error('not ready');
});
new cloud.Function('make', async () => bucket.put('ready', 'yes'));
new cloud.Workflow('beside', df.orchestrator(function* (ctx) {
    const job = ctx.df.callHttp('POST', `${ctx.df.getInput()}/jobs`, 'do it');
    yield ctx.df.Task.all([job, ctx.df.callActivity('fails')]);
    return job.result.content;
}));
"#;

#[test]
fn an_accepted_request_is_not_made_again_when_its_instance_is_rewound() {
    let cloud = Cloud::new();
    let _serving = cloud.serve();
    let project = cloud.project("shop", &[("index.js", &format!("{PROGRAM}{BESIDE}"))]);
    project.up();
    let jobs = Jobs::new();
    project.tandem(&["workflow", "start", "beside", &json!(jobs.at).to_string(), "--id", "one", "--wait"]);
    let shown = project.tandem(&["workflow", "show", "one"]).ok().stdout;
    assert!(shown.contains("Failed") && shown.contains("not ready"), "{shown}");
    project.tandem(&["invoke", "make"]).ok();
    jobs.is_over(true);
    project.tandem(&["workflow", "rewind", "one"]).ok();
    assert_eq!(ended(&project, "one"), "done");
    assert_eq!(jobs.count("POST /jobs"), 1);
    project.destroy();
}

fn waited_for(project: &Project, workflow: &str, at: &str) -> Value {
    let input = json!(at).to_string();
    let done = project.tandem(&["workflow", "start", workflow, &input, "--wait"]).ok();
    serde_json::from_str(&done.stdout).expect("the output is JSON")
}

fn ended(project: &Project, id: &str) -> Value {
    for _ in 0..600 {
        let shown = project.tandem(&["workflow", "show", id, "--json"]).ok().stdout;
        let now: Value = serde_json::from_str(&shown).expect("the status is JSON");
        if now["runtimeStatus"] == "Completed" {
            return now["output"].clone();
        }
        assert_ne!(now["runtimeStatus"], "Failed", "{now}");
        sleep(Duration::from_millis(50));
    }
    panic!("{id} does not end");
}

#[test]
fn an_orchestrator_gets_the_answer_to_its_request_whatever_its_status_and_an_error_if_there_is_none() {
    let cloud = Cloud::new();
    let project = cloud.project("shop", &[("index.js", PROGRAM)]);
    let _serving = cloud.serve();
    project.up();
    let jobs = Jobs::new();
    let said = waited_for(&project, "echo", &jobs.at);
    assert_eq!(
        said.as_array().map(|all| &all[..5]),
        json!([200, "{\"a\":1}", "yes", 404, 202]).as_array().map(|all| &all[..])
    );
    let error = said[5].as_str().expect("an error has a message");
    assert!(error.contains("GET http://127.0.0.1:1/nobody failed") && error.contains("refused"), "{error}");
    assert_eq!(jobs.count("GET /jobs/1"), 0, "it did not want to be asked for the end");
    jobs.is_over(true);
    assert_eq!(waited_for(&project, "job", &jobs.at), json!([200, "done"]));
    project.destroy();
}

#[test]
fn an_accepted_request_is_made_once_and_asked_for_through_kills() {
    let cloud = Cloud::new();
    let project = cloud.project("shop", &[("index.js", PROGRAM)]);
    let serving = cloud.serve();
    project.up();
    let jobs = Jobs::new();
    let start =
        |id: &str| project.tandem(&["workflow", "start", "job", &json!(jobs.at).to_string(), "--id", id]);
    start("killed").ok();
    jobs.wait_for("GET /jobs/1", 2);
    serving.kill();
    let serving = cloud.serve();
    let before = jobs.count("GET /jobs/1");
    jobs.wait_for("GET /jobs/1", before + 1);
    jobs.is_over(true);
    assert_eq!(ended(&project, "killed"), json!([200, "done"]));
    assert_eq!(jobs.count("POST /jobs"), 1);

    serving.kill();
    let serving = cloud.serve_until("workflow.http.accepted");
    let _ = start("accepted");
    serving.died("workflow.http.accepted");
    let _serving = cloud.serve();
    assert_eq!(ended(&project, "accepted"), json!([200, "done"]));
    assert_eq!(jobs.count("POST /jobs"), 2, "one for each instance");
    project.destroy();
}
