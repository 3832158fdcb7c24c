//! Go: one static program, alone in its image.

use super::{ConventionError, Kind, PORT, Source, USER, exec};

const BUILD_IMAGE: &str = "docker.io/library/golang:1-bookworm";
const LOOKED_FOR: &str = "`package main` in the folder's .go files, one folder in cmd";

pub(super) fn dockerfile(source: &Source<'_>) -> Result<String, ConventionError> {
    let package = package(source)?;
    let sums = if source.has("go.sum") { " go.sum" } else { "" };
    let start = exec(&["/app"]);
    Ok(format!(
        "FROM {BUILD_IMAGE} AS build
WORKDIR /src
ENV CGO_ENABLED=0
COPY go.mod{sums} ./
RUN go mod download
COPY . .
RUN go build -trimpath -tags timetzdata -ldflags '-s -w' -o /app {package} && mkdir /empty
FROM scratch
ENV HOME=/tmp PORT={PORT}
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build --chown={USER} /empty /tmp
COPY --from=build /app /app
USER {USER}
EXPOSE {PORT}
CMD {start}
"
    ))
}

fn package(source: &Source<'_>) -> Result<String, ConventionError> {
    let is_go = |name: &String| name.ends_with(".go") && !name.ends_with("_test.go");
    for file in source.names("").into_iter().filter(is_go) {
        if source.read(&file)?.lines().any(|line| line.trim_end() == "package main") {
            return Ok(".".to_owned());
        }
    }
    match &source.names("cmd")[..] {
        [one] => Ok(super::quoted(&format!("./cmd/{one}"))),
        _ => Err(source.no_start(Kind::Go, LOOKED_FOR)),
    }
}
