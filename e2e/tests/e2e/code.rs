//! Code of the program as containers: what it is given and answers, what it reaches, and what kills do to it.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tandem_own_engine::OwnEngine;

use crate::{
    docker::cloud_by,
    harness::{Cloud, PATIENCE, Project, Ran},
};

const TASKS: &str = r#"
const cloud = require('@tandem/cloud');
const fs = require('fs');
const config = new cloud.Config();
const bucket = new cloud.Bucket('out');
const double = new cloud.Function('double', (n) => n * 2);
const inner = new cloud.Task('inner', { function: ({ n }) => { console.log('inner', n); return n + 1; } });
const crunch = new cloud.Task('crunch', {
    function: async ({ n }) => {
        console.log('crunching', n, process.env.LEVEL);
        await bucket.put(`in/${n}`, `text ${n}`);
        fs.writeFileSync('/tmp/mine', 'mine');
        const run = await (await inner.run({ input: { n } })).wait();
        return {
            text: String(await bucket.get(`in/${n}`)), doubled: await double.invoke(n), inner: run.result,
            color: config.get('color'), file: fs.statSync('/tmp/mine').isFile(),
        };
    },
    environment: { LEVEL: 'high' },
    memory: 256,
});
new cloud.Function('caller', async (n) => {
    const { result, outcome } = await (await crunch.run({ input: { n } })).wait();
    return { ...result, outcome };
});
new cloud.Task('silent', { function: () => {} });
const deep = () => { console.log('about to throw'); throw new TypeError('boom'); };
new cloud.Task('thrower', { function: () => deep(), retries: { attempts: 2, backoff: 0.05 } });
new cloud.Task('stuck', { function: () => { console.log('up'); for (;;) ; } });
new cloud.Task('hungry', {
    function: () => { const all = []; for (;;) all.push(new Uint8Array(1 << 20).fill(1)); }, memory: 128,
});
// What a run of it starts is found again by its name.
new cloud.Task('outer', { function: async (n) => { const run = await inner.run({ input: { n } }); return (await run.wait()).result; } });
"#;

fn json_of(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{}", ran.all()))
}

#[track_caller]
fn until<T>(what: &str, mut holds: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + 2 * PATIENCE;
    loop {
        if let Some(found) = holds() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} does not come");
        thread::park_timeout(Duration::from_millis(20));
    }
}

/// The containers that have a folder for their calls.
fn folders(cloud: &Cloud) -> usize {
    fs::read_dir(cloud.home().join("containers/code")).map_or(0, |folder| folder.count())
}

#[test]
fn a_task_is_code_that_gets_an_input_and_reaches_what_the_program_declares() {
    let cloud = Cloud::new();
    let _serving = cloud.serve();
    let project = cloud.project("crunching", &[("index.js", TASKS)]);
    project.tandem(&["config", "set", "color", "red"]).ok();
    project.up();
    let ran = project.tandem(&["preview"]).ok();
    assert!(ran.all().contains("Nothing to do"), "{}", ran.all());
    let answer = json_of(&project.tandem(&["invoke", "caller", "21"]).ok());
    let expected = json!({
        "text": "text 21", "doubled": 42, "inner": 22, "color": "red", "file": true, "outcome": "exited",
    });
    assert_eq!(answer, expected);
    let ran = project.tandem(&["run", "crunch", "--input", r#"{"n": 4}"#]).ok();
    assert!(ran.stdout.starts_with("crunching 4 high\n"), "{}", ran.all());
    let ran = project.tandem(&["run", "silent"]).ok();
    assert_eq!(ran.stdout, "");

    let ran = project.tandem(&["run", "thrower"]);
    assert_eq!(ran.code, Some(1), "{}", ran.all());
    assert_eq!(ran.stdout, "about to throw\nabout to throw\n", "{}", ran.all());
    let told = "TypeError: boom\n    at deep (index.js:";
    assert!(ran.stderr.contains(told), "{}", ran.all());
    let ran = project.tandem(&["run", "hungry", "--json"]);
    let last: Value = serde_json::from_str(ran.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(last["outcome"]["outcome"], "outOfMemory", "{}", ran.all());
    let ran = project.tandem(&["run", "silent", "--", "sh"]).says("takes no command");
    assert!(ran.stderr.contains("error[E0707]"), "{}", ran.all());
    project.tandem(&["image", "prune"]).ok();
    project.tandem(&["run", "silent"]).ok();

    let id = project.tandem(&["run", "stuck", "--detach"]).ok().value().to_owned();
    until("its first line", || {
        project.tandem(&["logs", "--run", &id]).ok().stdout.contains("up").then_some(())
    });
    assert_eq!(folders(&cloud), 1);
    cloud.observe();
    // It holds its thread, and ends all the same: at SIGTERM, long before it would be killed.
    let begun = Instant::now();
    project.tandem(&["runs", "stop", &id]).ok().says("was stopped");
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
    assert_eq!(folders(&cloud), 0, "the folder of a container is left");
    project.destroy();
}

// I4
#[test]
fn what_code_in_a_container_starts_is_started_once_wherever_the_cloud_is_killed() {
    let cloud = Cloud::new();
    let mut serving = cloud.serve();
    let project = cloud.project("once", &[("index.js", TASKS)]);
    project.up();
    for (before, failpoint) in ["program.call.received", "program.call.answered"].into_iter().enumerate() {
        serving.terminate();
        serving = cloud.serve_until(failpoint);
        let id = project.tandem(&["run", "outer", "--detach", "--input", "6"]).ok().value().to_owned();
        serving.died(failpoint);
        serving = cloud.serve();
        let ran = project.tandem(&["runs", "wait", &id]).ok();
        assert_eq!(ran.value(), "7", "{failpoint}: {}", ran.all());
        let runs = json_of(&project.tandem(&["runs", "ls", "inner", "--json"]).ok());
        assert_eq!(runs.as_array().unwrap().len(), before + 1, "{failpoint}: {runs}");
    }
    until("the end of all folders", || (folders(&cloud) == 0).then_some(()));
    cloud.observe();
    project.destroy();
}

#[test]
fn a_container_of_code_is_run_by_docker_too() {
    let Some(engine) = OwnEngine::for_test() else { return };
    let cloud = cloud_by(&engine);
    let serving = cloud.serve();
    let project = cloud.project("docked", &[("index.js", TASKS)]);
    project.up();
    let answer = json_of(&project.tandem(&["invoke", "caller", "3"]).ok());
    assert_eq!((&answer["text"], &answer["inner"]), (&json!("text 3"), &json!(4)), "{answer}");
    assert_eq!(project.tandem(&["run", "thrower"]).code, Some(1));
    serving.terminate();
    let serving = cloud.serve_until("program.call.answered");
    let id = project.tandem(&["run", "outer", "--detach", "--input", "6"]).ok().value().to_owned();
    serving.died("program.call.answered");
    let _serving = cloud.serve();
    assert_eq!(project.tandem(&["runs", "wait", &id]).ok().value(), "7");
    project.destroy();
    assert_eq!(folders(&cloud), 0, "the folder of a container is left");
}

/// Each replica writes one object after another, and tells how it is called.
fn poller(version: &str) -> String {
    format!(
        "const cloud = require('@tandem/cloud');\n\
         const bucket = new cloud.Bucket('out');\n\
         const pause = () => new Promise((resume) => setTimeout(resume, 20));\n\
         new cloud.Service('poller', {{\n\
             function: async () => {{\n\
                 const me = `{version}/${{process.env.HOSTNAME}}`;\n\
                 for (let n = 0; ; n += 1) {{ await bucket.put(`${{me}}/${{n}}`, ''); await pause(); }}\n\
             }},\n\
             replicas: 2,\n\
         }});\n\
         new cloud.Function('keys', async () => (await bucket.list()).map((one) => one.key));\n"
    )
}

/// How many objects each replica of a version wrote, without a gap.
fn written(project: &Project<'_>, version: &str) -> BTreeMap<String, usize> {
    let keys = json_of(&project.tandem(&["invoke", "keys"]).ok());
    let mut all: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for key in keys.as_array().unwrap().iter().map(|key| key.as_str().unwrap()) {
        let [of, replica, n] = key.split('/').collect::<Vec<_>>()[..] else { panic!("{key}") };
        if of == version {
            all.entry(replica.to_owned()).or_default().push(n.parse().unwrap());
        }
    }
    let counted = |(replica, mut numbers): (String, Vec<usize>)| {
        numbers.sort_unstable();
        assert_eq!(numbers, (0..numbers.len()).collect::<Vec<_>>(), "{replica} lost an object");
        (replica, numbers.len())
    };
    all.into_iter().map(counted).collect()
}

#[test]
fn a_service_is_code_that_goes_on_over_a_kill_and_is_rolled_by_a_change() {
    let cloud = Cloud::new();
    let serving = cloud.serve();
    let project = cloud.project("polling", &[("index.js", &poller("one"))]);
    project.up();
    let before = until("two replicas at work", || {
        let written = written(&project, "one");
        (written.len() == 2 && written.values().all(|count| *count > 3)).then_some(written)
    });
    cloud.observe();
    serving.kill();
    let _serving = cloud.serve();
    until("both of them going on", || {
        let now = written(&project, "one");
        assert_eq!(now.len(), 2, "a replica was replaced: {before:?}, {now:?}");
        before.iter().all(|(replica, count)| now[replica] > count + 3).then_some(())
    });

    project.edit("index.js", &poller("two"));
    let ran = project.tandem(&["preview"]).ok();
    assert!(ran.all().contains("poller") && ran.all().contains("code"), "{}", ran.all());
    project.up();
    until("two replicas of the next version", || (written(&project, "two").len() == 2).then_some(()));
    until("the end of the former version", || (folders(&cloud) == 2).then_some(()));
    let former = written(&project, "one");
    until("the next objects", || written(&project, "two").values().all(|count| *count > 5).then_some(()));
    assert_eq!(written(&project, "one"), former, "the former version goes on");
    cloud.observe();
    project.destroy();
    assert_eq!(folders(&cloud), 0, "the folder of a container is left");
}

#[test]
fn a_service_of_code_listens_on_its_ports() {
    let cloud = Cloud::new();
    let _serving = cloud.serve();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let program = format!(
        "const cloud = require('@tandem/cloud');\n\
         const net = require('net');\n\
         new cloud.Service('echo', {{\n\
             function: () => new Promise((_, failed) => {{\n\
                 const server = net.createServer((socket) => {{\n\
                     socket.on('data', (data) => socket.write(`echo ${{data}}`));\n\
                     socket.on('error', () => {{}});\n\
                 }});\n\
                 server.on('error', failed);\n\
                 server.listen(7000);\n\
             }}),\n\
             ports: [{{ port: {port}, targetPort: 7000 }}],\n\
         }});\n"
    );
    let project = cloud.project("echoing", &[("index.js", &program)]);
    project.up();
    for word in ["one", "two"] {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(word.as_bytes()).unwrap();
        let mut answer = vec![0; "echo ".len() + word.len()];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(String::from_utf8(answer).unwrap(), format!("echo {word}"));
    }
    cloud.observe();
    project.destroy();
}
