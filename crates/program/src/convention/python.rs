//! Python: a virtual environment is made in one stage and copied to the next, without `pip`'s cache and without compilers.

use toml_edit::{Document, Item};

use super::{ConventionError, Kind, PORT, Source, USER, entrypoint, exec, procfile, quoted};

const IMAGE: &str = "docker.io/library/python:3.13-slim";
/// Programs that are started if nothing else is said.
const PROGRAMS: [&str; 3] = ["main.py", "app.py", "server.py"];
const LOOKED_FOR: &str =
    "`web:` in `Procfile`, main.py, app.py, server.py, __main__.py, one script in `[project.scripts]`";

pub(super) fn dockerfile(source: &Source<'_>) -> Result<String, ConventionError> {
    let project = match source.has("pyproject.toml") {
        true => Some(source.toml("pyproject.toml")?),
        false => None,
    };
    let project = project.as_ref();
    let start = start(source, project)?;
    let (dependencies, itself) = installs(source, project)?;
    let entrypoint = entrypoint();
    Ok(format!(
        "FROM {IMAGE} AS build
WORKDIR /app
RUN python3 -m venv /venv
ENV PATH=/venv/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
{dependencies}{itself}
FROM {IMAGE}
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp PORT={PORT}
WORKDIR /app
COPY --from=build /venv /venv
COPY . .
USER {USER}
EXPOSE {PORT}
ENTRYPOINT {entrypoint}
CMD {start}
"
    ))
}

/// The layer of the dependencies, and what installs the project itself, if it is a package.
fn installs(
    source: &Source<'_>,
    project: Option<&Document<String>>,
) -> Result<(String, String), ConventionError> {
    let is_package = project.is_some_and(|project| project.contains_key("build-system"));
    if source.has("requirements.txt") {
        let dependencies = "COPY requirements.txt ./\nRUN pip install -r requirements.txt\n".to_owned();
        return Ok((dependencies, String::new()));
    }
    let listed = project.and_then(|project| project.get("project")?.get("dependencies")?.as_array());
    let listed: Vec<String> = match listed {
        Some(listed) => listed
            .iter()
            .map(|one| one.as_str().map(quoted))
            .collect::<Option<_>>()
            .ok_or_else(|| source.wrong("pyproject.toml", "`project.dependencies` is a list of texts"))?,
        None => Vec::new(),
    };
    let dependencies = match listed.is_empty() {
        true => String::new(),
        false => format!("RUN pip install {}\n", listed.join(" ")),
    };
    let itself = if is_package { "COPY . .\nRUN pip install .\n" } else { "" };
    Ok((dependencies, itself.to_owned()))
}

fn start(source: &Source<'_>, project: Option<&Document<String>>) -> Result<String, ConventionError> {
    if let Some(command) = procfile::web(source)? {
        return Ok(command);
    }
    if let Some(program) = source.first(&PROGRAMS) {
        return Ok(exec(&["python3", program]));
    }
    if source.has("__main__.py") {
        return Ok(exec(&["python3", "."]));
    }
    let scripts = project.and_then(|project| project.get("project")?.get("scripts"));
    let mut names = scripts.and_then(Item::as_table_like).into_iter().flat_map(|table| table.iter());
    match (names.next(), names.next()) {
        (Some((name, _)), None) => Ok(exec(&[name])),
        _ => Err(source.no_start(Kind::Python, LOOKED_FOR)),
    }
}
