use super::*;

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

/// The Dockerfile without its first line and the line that is the same in all.
fn dockerfile(files: &[(&str, &str)]) -> String {
    let text = of(folder(files).path()).unwrap().dockerfile;
    let same = |line: &&str| !line.starts_with("# By convention") && !line.starts_with("ENTRYPOINT");
    text.lines().filter(same).map(|line| line.to_owned() + "\n").collect()
}

fn failure(files: &[(&str, &str)]) -> (String, String) {
    let error = of(folder(files).path()).unwrap_err();
    (error.code().to_owned(), error.help())
}

fn line<'a>(text: &'a str, start: &str) -> &'a str {
    text.lines().rfind(|line| line.starts_with(start)).unwrap_or_else(|| panic!("no {start}:\n{text}"))
}

#[test]
fn of_several_kinds_the_first_in_order_counts_and_nothing_is_an_error_that_names_them() {
    let mut files = vec![
        ("Cargo.toml", "[package]\nname = \"x\""),
        ("src/main.rs", ""),
        ("go.mod", ""),
        ("main.go", "package main"),
        ("pyproject.toml", ""),
        ("main.py", ""),
        ("package.json", "{}"),
        ("index.js", ""),
        ("index.html", ""),
    ];
    let mut found = Vec::new();
    while !files.is_empty() {
        let kind = of(folder(&files).path()).unwrap().kind;
        files.retain(|(file, _)| !kind.files().contains(file));
        found.push(kind);
        if kind == Kind::Site {
            break;
        }
    }
    assert_eq!(found, Kind::ORDER);
    let (code, help) = failure(&[("README.md", "")]);
    assert_eq!(code, "E0545");
    for name in [
        "Dockerfile",
        "Cargo.toml",
        "go.mod",
        "requirements.txt",
        "pyproject.toml",
        "package.json",
        "index.html",
    ] {
        assert!(help.contains(name), "{help}");
    }
}

#[test]
fn a_python_project_has_its_requirements_in_a_layer_before_its_sources() {
    insta::assert_snapshot!(dockerfile(&[("requirements.txt", "six"), ("app.py", "")]), @r#"
    FROM docker.io/library/python:3.13-slim AS build
    WORKDIR /app
    RUN python3 -m venv /venv
    ENV PATH=/venv/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
    COPY requirements.txt ./
    RUN pip install -r requirements.txt

    FROM docker.io/library/python:3.13-slim
    ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp PORT=8080
    WORKDIR /app
    COPY --from=build /venv /venv
    COPY . .
    USER 65532:65532
    EXPOSE 8080
    CMD ["python3", "app.py"]
    "#);
}

#[test]
fn what_pyproject_lists_is_installed_before_the_project_itself() {
    let project = "[project]\nname = \"x\"\ndependencies = [\"flask>=3\", 'six; python_version < \"4\"']\n\
                   scripts = { serve = \"x:main\" }\n[build-system]\nrequires = []\n";
    let text = dockerfile(&[("pyproject.toml", project)]);
    let layers: Vec<&str> =
        text.lines().filter(|l| l.starts_with("RUN pip") || l.starts_with("COPY . ")).collect();
    assert_eq!(
        layers,
        [
            "RUN pip install 'flask>=3' 'six; python_version < \"4\"'",
            "COPY . .",
            "RUN pip install .",
            "COPY . ."
        ]
    );
    assert_eq!(line(&text, "CMD"), r#"CMD ["serve"]"#);
    let (code, help) = failure(&[("pyproject.toml", "[project]\nname = \"x\"\n"), ("library.py", "")]);
    assert!(code == "E0549" && help.contains("main.py"), "{help}");
    assert_eq!(failure(&[("pyproject.toml", "[project\n"), ("main.py", "")]).0, "E0549");
}

#[test]
fn a_procfile_says_what_is_started() {
    let start = |procfile: &str| {
        let text = dockerfile(&[("requirements.txt", ""), ("main.py", ""), ("Procfile", procfile)]);
        line(&text, "CMD").to_owned()
    };
    let web = "worker: x\nweb: gunicorn -b :$PORT \"app:app\"\n";
    assert_eq!(start(web), r#"CMD ["sh", "-c", "exec gunicorn -b :$PORT \"app:app\""]"#);
    assert_eq!(start("web: ./migrate && ./serve"), r#"CMD ["sh", "-c", "./migrate && ./serve"]"#);
    assert_eq!(start("worker: x"), r#"CMD ["python3", "main.py"]"#);
}

#[test]
fn a_node_project_is_installed_by_its_lock_file_and_built_if_it_can_be() {
    let package = r#"{ "dependencies": { "ms": "2" }, "scripts": { "build": "tsc", "start": "node dist/server.js --loud" } }"#;
    insta::assert_snapshot!(dockerfile(&[("package.json", package), ("package-lock.json", "{}")]), @r#"
    FROM docker.io/library/node:22-slim AS build
    WORKDIR /app
    COPY package.json package-lock.json ./
    RUN npm ci --no-audit --no-fund
    COPY . .
    RUN npm run build
    RUN npm prune --omit=dev --no-audit --no-fund

    FROM docker.io/library/node:22-slim
    ENV NODE_ENV=production HOME=/tmp PORT=8080
    WORKDIR /app
    COPY --from=build /app ./
    USER 65532:65532
    EXPOSE 8080
    CMD ["node", "dist/server.js", "--loud"]
    "#);
}

#[test]
fn each_lock_file_has_its_tool_and_nothing_is_installed_where_nothing_is_listed() {
    let run = |files: &[(&str, &str)]| line(&dockerfile(files), "RUN").to_owned();
    let some = ("package.json", r#"{ "main": "x.js", "dependencies": { "ms": "2" } }"#);
    assert_eq!(run(&[some]), "RUN npm prune --omit=dev --no-audit --no-fund");
    assert_eq!(run(&[some, ("yarn.lock", "")]), "RUN corepack enable && yarn install --frozen-lockfile");
    assert_eq!(run(&[some, ("pnpm-lock.yaml", "")]), "RUN pnpm prune --prod");
    assert!(!dockerfile(&[("package.json", "{}"), ("server.js", "")]).contains("RUN"));
}

#[test]
fn node_starts_what_the_package_says() {
    let start =
        |package: &str| line(&dockerfile(&[("package.json", package), ("server.js", "")]), "CMD").to_owned();
    assert_eq!(start("{}"), r#"CMD ["node", "server.js"]"#);
    assert_eq!(start(r#"{ "main": "lib/x.js" }"#), r#"CMD ["node", "lib/x.js"]"#);
    assert_eq!(start(r#"{ "scripts": { "start": "node a.js" } }"#), r#"CMD ["node", "a.js"]"#);
    // A shell, another program, or a script before it: that is for npm.
    for script in ["node $FILE", "next start"] {
        assert_eq!(
            start(&format!(r#"{{ "scripts": {{ "start": "{script}" }} }}"#)),
            r#"CMD ["npm", "start"]"#
        );
    }
    assert_eq!(
        start(r#"{ "scripts": { "start": "node a.js", "prestart": "x" } }"#),
        r#"CMD ["npm", "start"]"#
    );
    assert_eq!(failure(&[("package.json", "{}")]).0, "E0549");
    assert_eq!(failure(&[("package.json", "{")]).0, "E0549");
}

#[test]
fn a_rust_project_has_its_dependencies_in_a_layer_and_its_program_alone_in_the_image() {
    let manifest = "[package]\nname = \"shop\"\n[dependencies]\nserde = \"1\"\n";
    let files = [("Cargo.toml", manifest), ("Cargo.lock", ""), ("src/main.rs", ""), ("src/lib.rs", "")];
    insta::assert_snapshot!(dockerfile(&files), @r#"
    FROM docker.io/library/rust:1-slim-bookworm AS build
    WORKDIR /src
    COPY Cargo.toml Cargo.lock ./
    RUN mkdir src && echo 'fn main() {}' > src/main.rs && touch src/lib.rs && cargo build --release --locked && rm -r src
    COPY . .
    RUN find . -name '*.rs' -exec touch {} + && cargo build --release --locked --bin shop
    FROM docker.io/library/debian:bookworm-slim
    ENV HOME=/tmp PORT=8080
    WORKDIR /app
    COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
    COPY --from=build /src/target/release/shop /usr/local/bin/app
    USER 65532:65532
    EXPOSE 8080
    CMD ["/usr/local/bin/app"]
    "#);
}

#[test]
fn the_program_of_a_rust_project_is_the_one_that_there_is() {
    let built = |files: &[(&str, &str)]| {
        let text = dockerfile(files);
        line(&text, "RUN").rsplit(' ').next().unwrap().to_owned()
    };
    let plain = "[package]\nname = \"x\"\n";
    assert_eq!(built(&[("Cargo.toml", plain), ("src/bin/one.rs", "")]), "one");
    assert_eq!(built(&[("Cargo.toml", &format!("{plain}[[bin]]\nname = \"b\"\n"))]), "b");
    let chosen = format!("{plain}default-run = \"two\"\n");
    assert_eq!(built(&[("Cargo.toml", &chosen), ("src/bin/one.rs", ""), ("src/bin/two.rs", "")]), "two");
    let two = [("Cargo.toml", plain), ("src/bin/one.rs", ""), ("src/bin/two.rs", "")];
    assert_eq!(failure(&two).0, "E0549");
    // Of its own paths nothing is there before the sources.
    let paths = format!("{plain}[dependencies]\ny = {{ path = \"y\" }}\n");
    assert!(!dockerfile(&[("Cargo.toml", &paths), ("src/main.rs", "")]).contains("COPY Cargo.toml"));
}

#[test]
fn a_go_project_is_one_program_alone() {
    insta::assert_snapshot!(dockerfile(&[("go.mod", ""), ("go.sum", ""), ("main.go", "// x\npackage main\n")]), @r#"
    FROM docker.io/library/golang:1-bookworm AS build
    WORKDIR /src
    ENV CGO_ENABLED=0
    COPY go.mod go.sum ./
    RUN go mod download
    COPY . .
    RUN go build -trimpath -tags timetzdata -ldflags '-s -w' -o /app . && mkdir /empty
    FROM scratch
    ENV HOME=/tmp PORT=8080
    COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
    COPY --from=build --chown=65532:65532 /empty /tmp
    COPY --from=build /app /app
    USER 65532:65532
    EXPOSE 8080
    CMD ["/app"]
    "#);
    let below =
        dockerfile(&[("go.mod", ""), ("lib.go", "package lib"), ("cmd/serve/main.go", "package main")]);
    assert!(line(&below, "RUN go build").contains("-o /app ./cmd/serve"), "{below}");
    assert_eq!(failure(&[("go.mod", ""), ("lib.go", "package lib")]).0, "E0549");
}

#[test]
fn a_static_site_is_files_and_a_server() {
    insta::assert_snapshot!(dockerfile(&[("index.html", ""), ("404.html", "")]), @r#"
    FROM docker.io/library/busybox:1
    ENV HOME=/tmp PORT=8080
    RUN printf '%s\n' '.js:text/javascript' '.mjs:text/javascript' '.json:application/json' '.map:application/json' '.svg:image/svg+xml' '.wasm:application/wasm' '.webp:image/webp' '.woff2:font/woff2' '.webmanifest:application/manifest+json' 'E404:/site/404.html' > /etc/httpd.conf
    COPY . /site
    USER 65532:65532
    EXPOSE 8080
    CMD ["sh", "-c", "exec busybox httpd -f -p \"$PORT\" -h /site -c /etc/httpd.conf"]
    "#);
}

#[test]
fn what_a_shell_could_read_is_quoted() {
    assert_eq!(quoted("six==1.17.0"), "six==1.17.0");
    assert_eq!(quoted("it's; rm"), r"'it'\''s; rm'");
    assert_eq!(exec(&["a\"b", "c"]), r#"["a\"b", "c"]"#);
}
