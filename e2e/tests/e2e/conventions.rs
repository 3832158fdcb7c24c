//! Folders without a Dockerfile: built by what is in them, and run.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    time::Duration,
};

use serde_json::Value;

use crate::harness::{Cloud, Ran};

/// A web server that needs a package of the registry, and tells who it is.
const APP: &str = "\
import os, signal, http.server, itsdangerous
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f'itsdangerous {os.getuid()} {sorted(os.listdir())}'.encode())
def stop(*_):
    print('told to stop', flush=True)
    os._exit(0)
signal.signal(signal.SIGTERM, stop)
http.server.HTTPServer(('', int(os.environ['PORT'])), Handler).serve_forever()
";

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The head and the body of an answer.
fn get(port: u16, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.to_lowercase(), body.to_owned())
}

fn write(folder: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn digest(ran: &Ran) -> String {
    let digest = ran.stdout.trim().to_owned();
    assert!(digest.starts_with("sha256:") && digest.len() == 71, "{}", ran.all());
    digest
}

#[test]
fn a_python_project_and_a_site_are_built_and_serve() {
    let cloud = Cloud::new();
    let _serving = cloud.serve();
    cloud.import_conventional();
    let (app, site) = (free_port(), free_port());
    let program = format!(
        "const cloud = require('@tandem/cloud');\n\
         const service = (name, port) => new cloud.Service(name, {{\n\
             build: './' + name,\n\
             ports: [{{ port, targetPort: 8080, protocol: 'http' }}],\n\
             healthCheck: {{ path: '/', interval: 0.2 }},\n\
         }});\n\
         service('app', {app}); service('site', {site});\n"
    );
    let project = cloud.project(
        "conventions",
        &[
            ("index.js", &program),
            ("app/requirements.txt", "itsdangerous==2.2.0\n"),
            ("app/main.py", APP),
            ("app/node_modules/tool/index.js", ""),
            ("site/index.html", "<h1>hello</h1>"),
            ("site/404.html", "not here"),
            ("site/app.mjs", "export {}"),
            ("site/.env", "KEY=secret"),
        ],
    );
    project.up();
    assert_eq!(get(app, "/").1, "itsdangerous 65532 ['main.py', 'requirements.txt']");
    assert_eq!(get(site, "/").1, "<h1>hello</h1>");
    let (head, _) = get(site, "/app.mjs");
    assert!(head.contains("200 ok") && head.contains("content-type: text/javascript"), "{head}");
    for hidden in ["/.env", "/Dockerfile", "/.dockerignore"] {
        let (head, body) = get(site, hidden);
        assert!(head.contains("404") && body.contains("not here"), "{hidden}: {head}");
    }
    // What is the same is not built again, and what is told to stop hears it.
    let same = project.tandem(&["preview", "--json"]).ok();
    assert!(!same.stdout.contains("\"update\""), "{}", same.all());
    project.edit("app/main.py", &APP.replace("f'itsdangerous", "f'changed"));
    project.up();
    assert_eq!(get(app, "/").1, "changed 65532 ['main.py', 'requirements.txt']");
    let mut log = cloud.log(&project);
    log.wait_for("told to stop");
    project.destroy();
}

#[test]
fn a_folder_is_built_by_hand_and_its_dependencies_are_a_layer_that_is_kept() {
    let cloud = Cloud::new();
    let _serving = cloud.serve();
    cloud.import_conventional();
    let folder = cloud.scratch().join("job");
    write(
        &folder,
        &[
            (
                "package.json",
                r#"{ "dependencies": { "ms": "2.1.3" }, "scripts": { "start": "node main.js" } }"#,
            ),
            ("main.js", "console.log(require('ms')(60000), process.getuid());"),
        ],
    );
    let printed = cloud.tandem(&["build", "job", "--print-dockerfile"]).ok().stdout;
    assert!(
        printed.contains("FROM docker.io/library/node:22-slim") && printed.contains("npm install"),
        "{printed}"
    );
    let first = cloud.tandem(&["build", "job", "-t", "team/job:v1"]).ok();
    assert!(first.stderr.contains("RUN npm install"), "{}", first.all());
    assert_eq!(digest(&cloud.tandem(&["build", "job", "-t", "team/job:v1"]).ok()), digest(&first));

    // Another name for the same content; a change of a source takes the dependencies as they are.
    let named = cloud.tandem(&["-C", folder.to_str().unwrap(), "build", "-t", "again", "--json"]).ok();
    let image: Value = serde_json::from_str(&named.stdout).unwrap();
    assert_eq!(image["digest"], digest(&first).as_str());
    assert!(image["names"].as_array().unwrap().contains(&"docker.io/library/again:latest".into()), "{image}");
    write(&folder, &[("main.js", "console.log('changed', require('ms')(60000), process.getuid());")]);
    let changed = cloud.tandem(&["build", "job", "-t", "team/job:v1"]).ok();
    assert_ne!(digest(&changed), digest(&first));
    let install = changed.stderr.split("RUN npm install").nth(1).unwrap();
    assert!(install.split("STEP").next().unwrap().contains("Using cache"), "{}", changed.all());

    let program =
        "const cloud = require('@tandem/cloud');\nnew cloud.Task('job', { image: 'team/job:v1' });\n";
    let project = cloud.project("byhand", &[("index.js", program)]);
    project.up();
    assert_eq!(project.tandem(&["run", "job"]).ok().stdout.trim(), "changed 1m 65532");
    project.destroy();

    // The Dockerfile that was printed, kept and changed, is the folder's own from then on.
    write(&folder, &[("Dockerfile", &printed.replace("node:22-slim", "no-such-image"))]);
    let own = cloud.tandem(&["build", "job", "--print-dockerfile"]).ok().stdout;
    assert!(own.contains("no-such-image"), "{own}");
}

#[test]
fn a_folder_of_which_nothing_is_known_says_what_was_looked_for() {
    let cloud = Cloud::new();
    write(cloud.scratch(), &[("what/README.md", "?"), ("py/pyproject.toml", "[project]\nname = 'x'\n")]);
    for print in [&["--print-dockerfile"][..], &[]] {
        let nothing = cloud.tandem(&[&["build", "what"], print].concat());
        assert_eq!(nothing.code, Some(1));
        for word in
            ["E0545", "what` says how to build it", "Cargo.toml, go.mod, requirements.txt", "index.html"]
        {
            assert!(nothing.stderr.contains(word), "{word}: {}", nothing.all());
        }
        let start = cloud.tandem(&[&["build", "py"], print].concat());
        assert!(start.stderr.contains("E0549") && start.stderr.contains("__main__.py"), "{}", start.all());
        let none = cloud.tandem(&[&["build", "none"], print].concat());
        assert!(none.stderr.contains("E0540"), "{}", none.all());
    }
    let help = cloud.tandem(&["build", "--help"]).ok().stdout;
    assert!(
        help.contains("--print-dockerfile") && help.contains("requirements.txt, pyproject.toml"),
        "{help}"
    );
}
