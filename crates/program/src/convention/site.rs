//! A static site: files, and BusyBox's web server, of two megabytes.

use super::{ConventionError, PORT, Source, USER, entrypoint, exec};

const IMAGE: &str = "docker.io/library/busybox:1";
/// What browsers insist on, and BusyBox does not know.
const TYPES: [(&str, &str); 9] = [
    (".js", "text/javascript"),
    (".mjs", "text/javascript"),
    (".json", "application/json"),
    (".map", "application/json"),
    (".svg", "image/svg+xml"),
    (".wasm", "application/wasm"),
    (".webp", "image/webp"),
    (".woff2", "font/woff2"),
    (".webmanifest", "application/manifest+json"),
];

pub(super) fn dockerfile(source: &Source<'_>) -> Result<String, ConventionError> {
    let mut lines: Vec<String> = TYPES.iter().map(|(ending, kind)| format!("'{ending}:{kind}'")).collect();
    if source.has("404.html") {
        lines.push("'E404:/site/404.html'".to_owned());
    }
    let start = exec(&["sh", "-c", "exec busybox httpd -f -p \"$PORT\" -h /site -c /etc/httpd.conf"]);
    let entrypoint = entrypoint();
    Ok(format!(
        "FROM {IMAGE}
ENV HOME=/tmp PORT={PORT}
RUN printf '%s\\n' {} > /etc/httpd.conf
COPY . /site
USER {USER}
EXPOSE {PORT}
ENTRYPOINT {entrypoint}
CMD {start}
",
        lines.join(" ")
    ))
}
