//! Node: dependencies by the lock file that is there, `build` if there is such a script, and without what only that needed.

use serde_json::Value;

use super::{ConventionError, Kind, PORT, Source, USER, entrypoint, exec, procfile};

const IMAGE: &str = "docker.io/library/node:22-slim";
/// Programs that are started if nothing else is said.
const PROGRAMS: [&str; 4] = ["server.js", "index.js", "server.mjs", "index.mjs"];
const LOOKED_FOR: &str =
    "`web:` in `Procfile`, the script `start`, `main`, server.js, index.js, server.mjs, index.mjs";

pub(super) fn dockerfile(source: &Source<'_>) -> Result<String, ConventionError> {
    let package: Value = serde_json::from_str(&source.read("package.json")?)
        .map_err(|error| source.wrong("package.json", &error.to_string()))?;
    let start = start(source, &package)?;
    let tool = Tool::of(source, &package);
    let mut build = String::new();
    if let Some(tool) = &tool {
        let manifests: Vec<&str> =
            ["package.json", tool.lock].into_iter().filter(|file| source.has(file)).collect();
        build += &format!("COPY {} ./\nRUN {}\n", manifests.join(" "), tool.install);
    }
    build += "COPY . .\n";
    if script(&package, "build").is_some() {
        build += &format!("RUN {} run build\n", tool.as_ref().map_or("npm", |tool| tool.name));
    }
    if let Some(prune) = tool.as_ref().and_then(|tool| tool.prune) {
        build += &format!("RUN {prune}\n");
    }
    let entrypoint = entrypoint();
    Ok(format!(
        "FROM {IMAGE} AS build
WORKDIR /app
{build}
FROM {IMAGE}
ENV NODE_ENV=production HOME=/tmp PORT={PORT}
WORKDIR /app
COPY --from=build /app ./
USER {USER}
EXPOSE {PORT}
ENTRYPOINT {entrypoint}
CMD {start}
"
    ))
}

/// What installs the dependencies.
struct Tool {
    name: &'static str,
    lock: &'static str,
    install: &'static str,
    /// Takes away what only the build needed.
    prune: Option<&'static str>,
}

impl Tool {
    /// By the lock file; none if nothing is to be installed.
    fn of(source: &Source<'_>, package: &Value) -> Option<Self> {
        if source.has("pnpm-lock.yaml") {
            return Some(Self {
                name: "pnpm",
                lock: "pnpm-lock.yaml",
                install: "corepack enable && pnpm install --frozen-lockfile",
                prune: Some("pnpm prune --prod"),
            });
        }
        if source.has("yarn.lock") {
            return Some(Self {
                name: "yarn",
                lock: "yarn.lock",
                install: "corepack enable && yarn install --frozen-lockfile",
                prune: None,
            });
        }
        let lock = source.first(&["package-lock.json", "npm-shrinkwrap.json"]);
        let lists = |key: &str| package[key].as_object().is_some_and(|listed| !listed.is_empty());
        let any = lists("dependencies") || lists("devDependencies") || lists("optionalDependencies");
        (lock.is_some() || any).then_some(Self {
            name: "npm",
            lock: lock.unwrap_or("package-lock.json"),
            install: if lock.is_some() {
                "npm ci --no-audit --no-fund"
            } else {
                "npm install --no-audit --no-fund"
            },
            prune: Some("npm prune --omit=dev --no-audit --no-fund"),
        })
    }
}

fn script<'a>(package: &'a Value, name: &str) -> Option<&'a str> {
    package["scripts"][name].as_str().map(str::trim).filter(|script| !script.is_empty())
}

fn start(source: &Source<'_>, package: &Value) -> Result<String, ConventionError> {
    if let Some(command) = procfile::web(source)? {
        return Ok(command);
    }
    if let Some(script) = script(package, "start") {
        // Without `npm` in between, which would get the signals, if nothing in it is a shell's to read.
        let words: Vec<&str> = script.split_whitespace().collect();
        let plain = |word: &&str| word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./=:@".contains(&b));
        let hooked = ["prestart", "poststart"].iter().any(|hook| package["scripts"][*hook].is_string());
        return Ok(match words.first() == Some(&"node") && words.iter().all(plain) && !hooked {
            true => exec(&words),
            false => exec(&["npm", "start"]),
        });
    }
    let main = package["main"].as_str();
    match main.or_else(|| source.first(&PROGRAMS)) {
        Some(program) => Ok(exec(&["node", program])),
        None => Err(source.no_start(Kind::Node, LOOKED_FOR)),
    }
}
