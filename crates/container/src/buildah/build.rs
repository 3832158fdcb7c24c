//! Runs one build.
//!
//! Buildah and all that its steps start live in a process and a mount namespace of their own. So stopping a build is
//! killing one process: the kernel ends the rest and takes their mounts away.

use std::{
    fs,
    path::{Component, Path},
    process::Stdio,
};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::unix::pipe,
    process::Command,
    task::spawn_blocking,
};

use super::{
    BuildahStore, host,
    session::Session,
    settings,
    transcript::{Failure, Transcript},
};
use crate::{BuildRequest, ContainerError, Lines, descriptor, layout::at, reference, tool};

/// A line longer than this is cut: some installers draw their progress without ever ending a line.
const LINE_LIMIT: usize = 16 << 10;

/// How many missing base images one build may pull.
const PULLS: usize = 32;

/// Builds, and returns the new image's id in hexadecimal digits.
pub(super) async fn run(
    store: &BuildahStore,
    request: &BuildRequest,
    lines: &dyn Lines,
) -> Result<String, ContainerError> {
    check(request)?;
    let name = reference::name(&request.name)?;
    let session = Session::begin(store).await?;
    let layout = store.layout.clone();
    let access = spawn_blocking(move || host::access(&layout)).await.map_err(tool::broken)??;
    let runtime = settings::write_step_runtime(&store.layout, &access.step_change())?;
    let volumes: Vec<String> = access.volumes().collect();
    let mut pulled: Vec<String> = Vec::new();
    let built = loop {
        // Images that are there are used as they are; the network is asked only for one that is not.
        match attempt(store, request, &name, &runtime, &volumes, &session, lines).await {
            Err(Failure::Missing(image)) => {
                let missing = reference::name(&image)?;
                if pulled.contains(&missing) || pulled.len() == PULLS {
                    let reason = "it was pulled, and the build still does not find it".into();
                    break Err(ContainerError::NoImage { image, reason });
                }
                lines.line(&format!("Pulling {missing}"));
                if let Err(error) = store.pull(&missing).await {
                    break Err(error);
                }
                pulled.push(missing);
            }
            Err(Failure::Other(error)) => break Err(error),
            Ok(id) => break Ok(id),
        }
    };
    session.finish();
    built
}

/// What can be said without starting anything.
fn check(request: &BuildRequest) -> Result<(), ContainerError> {
    let refused = |what: &str| ContainerError::Build {
        step: Some(format!("`{}`", request.dockerfile)),
        instruction: what.to_owned(),
        tail: vec![format!("the build's folder is `{}`", request.context.display())],
    };
    if !request.context.is_dir() {
        return Err(refused("the build's folder does not exist"));
    }
    let inside = Path::new(&request.dockerfile)
        .components()
        .all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    if request.dockerfile.is_empty() || !inside {
        return Err(refused("the path leads out of the build's folder"));
    }
    if !request.context.join(&request.dockerfile).is_file() {
        return Err(refused("there is no such file in the build's folder"));
    }
    Ok(())
}

async fn attempt(
    store: &BuildahStore,
    request: &BuildRequest,
    name: &str,
    runtime: &Path,
    volumes: &[String],
    session: &Session,
    lines: &dyn Lines,
) -> Result<String, Failure> {
    let failed = |reason: String| Failure::Other(ContainerError::Tool { tool: "buildah", reason });
    let answer = store.layout.scratch().join(format!("{}.id", unique()));
    let (output, writer) = std::io::pipe().map_err(|error| failed(error.to_string()))?;
    let mut command =
        command(store, request, name, runtime, volumes, &answer).await.map_err(Failure::Other)?;
    let copy = writer.try_clone().map_err(|error| failed(error.to_string()))?;
    // Of a process group of its own: a Ctrl-C in the terminal of `tandem serve` would look like an instruction that failed.
    command.stdin(Stdio::null()).stdout(copy).stderr(writer).process_group(0).kill_on_drop(true);
    descriptor::inherit(&mut command, session.lock());
    let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
    // Our copies of the pipe's end, and of the lock.
    drop(command);
    let mut transcript = Transcript::default();
    follow(output.into(), |line| {
        transcript.line(line);
        lines.line(line);
    })
    .await
    .map_err(|error| failed(error.to_string()))?;
    let status = child.wait().await.map_err(|error| failed(error.to_string()))?;
    if !status.success() {
        return Err(transcript.failure(&request.dockerfile));
    }
    let id = fs::read_to_string(&answer).map_err(|error| Failure::Other(at(&answer)(error)))?;
    // Scratch; the next session would clear it too.
    let _ = fs::remove_file(&answer);
    Ok(id.trim().trim_start_matches("sha256:").to_owned())
}

async fn command(
    store: &BuildahStore,
    request: &BuildRequest,
    name: &str,
    runtime: &Path,
    volumes: &[String],
    answer: &Path,
) -> Result<Command, ContainerError> {
    let buildah = store.buildah().await?;
    let mut command = Command::new(tool::require("unshare", "util-linux")?);
    command.args(["--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "--"]);
    command.env_clear();
    command.envs(buildah.as_std().get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.arg(buildah.as_std().get_program()).args(buildah.as_std().get_args());
    command
        .args(["bud", "--isolation", "oci", "--network", "host", "--format", "docker"])
        .args(["--layers", "--force-rm", "--pull=never", "--tag", name])
        .arg("--runtime")
        .arg(runtime)
        .arg("--iidfile")
        .arg(answer)
        .arg("--file")
        .arg(request.context.join(&request.dockerfile));
    settings::allow(&mut command, &store.layout);
    for volume in volumes {
        command.arg("--volume").arg(volume);
    }
    for (key, value) in &request.args {
        command.arg("--build-arg").arg(format!("{key}={value}"));
    }
    if let Some(target) = &request.target {
        command.arg("--target").arg(target);
    }
    command.arg(&request.context);
    Ok(command)
}

/// Reads lines until nobody can write any more.
async fn follow(output: std::os::fd::OwnedFd, mut each: impl FnMut(&str)) -> std::io::Result<()> {
    let mut reader = BufReader::new(pipe::Receiver::from_owned_fd(output)?);
    let mut line = Vec::new();
    loop {
        let ready = reader.fill_buf().await?;
        if ready.is_empty() {
            break;
        }
        let (part, ended) = match ready.iter().position(|byte| *byte == b'\n') {
            Some(end) => (end + 1, true),
            None => (ready.len(), false),
        };
        line.extend_from_slice(&ready[..part]);
        reader.consume(part);
        if ended || line.len() >= LINE_LIMIT {
            emit(&line, &mut each);
            line.clear();
        }
    }
    if !line.is_empty() {
        emit(&line, &mut each);
    }
    Ok(())
}

fn emit(line: &[u8], each: &mut impl FnMut(&str)) {
    each(String::from_utf8_lossy(line).trim_end_matches(['\n', '\r']));
}

/// A name in the scratch folder that nobody else has.
pub(super) fn unique() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
