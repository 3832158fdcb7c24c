//! Rust: the dependencies are built for an empty program first, so they are built once; the last stage has the program alone.

use toml_edit::{Document, Item};

use super::{ConventionError, Kind, PORT, Source, USER, entrypoint, exec};

const BUILD_IMAGE: &str = "docker.io/library/rust:1-slim-bookworm";
/// Of the same release, for the C library.
const IMAGE: &str = "docker.io/library/debian:bookworm-slim";
const LOOKED_FOR: &str =
    "src/main.rs, one `[[bin]]`, `default-run`, one file in src/bin, in a Cargo.toml with `[package]`";

pub(super) fn dockerfile(source: &Source<'_>) -> Result<String, ConventionError> {
    let manifest = source.toml("Cargo.toml")?;
    let program = program(source, &manifest).ok_or_else(|| source.no_start(Kind::Rust, LOOKED_FOR))?;
    let locked = if source.has("Cargo.lock") { " --locked" } else { "" };
    let start = exec(&["/usr/local/bin/app"]);
    let entrypoint = entrypoint();
    Ok(format!(
        "FROM {BUILD_IMAGE} AS build
WORKDIR /src
{}COPY . .
RUN find . -name '*.rs' -exec touch {{}} + && cargo build --release{locked} --bin {program}
FROM {IMAGE}
ENV HOME=/tmp PORT={PORT}
WORKDIR /app
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /src/target/release/{program} /usr/local/bin/app
USER {USER}
EXPOSE {PORT}
ENTRYPOINT {entrypoint}
CMD {start}
",
        dependencies(source, &manifest, locked)
    ))
}

/// The layer of the dependencies, of a package without surprises: its own paths and build script need the sources.
fn dependencies(source: &Source<'_>, manifest: &Document<String>, locked: &str) -> String {
    let has_paths = manifest.raw().lines().any(|line| line.contains("path") && line.contains('='));
    let alone = !manifest.contains_key("workspace") && !source.has("build.rs") && !has_paths;
    if !alone || !source.has("src/main.rs") {
        return String::new();
    }
    let lock = if source.has("Cargo.lock") { " Cargo.lock" } else { "" };
    let library = if source.has("src/lib.rs") { " && touch src/lib.rs" } else { "" };
    format!(
        "COPY Cargo.toml{lock} ./
RUN mkdir src && echo 'fn main() {{}}' > src/main.rs{library} && cargo build --release{locked} && rm -r src
"
    )
}

/// The program that is built and started.
fn program(source: &Source<'_>, manifest: &Document<String>) -> Option<String> {
    let package = manifest.get("package")?;
    if let Some(name) = package.get("default-run").and_then(Item::as_str) {
        return Some(name.to_owned());
    }
    let declared = manifest.get("bin").and_then(Item::as_array_of_tables);
    let declared: Vec<&str> =
        declared.into_iter().flatten().filter_map(|bin| bin.get("name")?.as_str()).collect();
    if let [one] = declared[..] {
        return Some(one.to_owned());
    }
    if source.has("src/main.rs") {
        return package.get("name")?.as_str().map(str::to_owned);
    }
    let names = source.names("src/bin");
    let programs: Vec<&str> = names.iter().map(|name| name.strip_suffix(".rs").unwrap_or(name)).collect();
    match programs[..] {
        [one] => Some(one.to_owned()),
        _ => None,
    }
}
