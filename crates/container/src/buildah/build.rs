//! Runs one build.
//!
//! Buildah and all that its steps start live in a process and a mount namespace of their own. So stopping a build is
//! killing one process: the kernel ends the rest and takes their mounts away.
//!
//! Secrets are handed to Buildah as files without a name, in memory, so no argument and no variable has one. It shows a
//! secret to a step as a file in the folder of the step's container, which goes with the step, or with the next session
//! if the build is killed.

use std::{
    fs,
    io::Write,
    os::fd::{AsRawFd, OwnedFd},
    path::{Component, Path, PathBuf},
    process::Stdio,
    sync::Arc,
};

use jiff::Timestamp;
use rustix::fs::{MemfdFlags, memfd_create};
use tandem_model::Secrets;

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

/// What a build made.
pub(super) struct Made {
    /// The image's id in hexadecimal digits.
    pub(super) id: String,
    /// The ids of the images that it took steps over from, as far as Buildah shows them.
    pub(super) reused: Vec<String>,
    pub(super) begun: Timestamp,
}

/// What all attempts of a build share.
struct Attempt<'a> {
    store: &'a BuildahStore,
    request: &'a BuildRequest,
    name: String,
    runtime: PathBuf,
    volumes: Vec<String>,
    secrets: Vec<(String, Arc<OwnedFd>)>,
}

/// Builds.
pub(super) async fn run(
    store: &BuildahStore,
    request: &BuildRequest,
    lines: &dyn Lines,
) -> Result<Made, ContainerError> {
    check(request)?;
    let name = reference::name(&request.name)?;
    let begun = Timestamp::now();
    let session = Session::begin(store).await?;
    // What steps see is the same for all builds, but for certificates of their own.
    let own = (!request.certificates.is_empty()).then(|| store.layout.scratch().join(unique()));
    if let Some(own) = &own {
        fs::create_dir_all(own).map_err(at(own))?;
    }
    let folder = own.clone().unwrap_or_else(|| store.layout.settings());
    let (written, certificates) = (folder.clone(), request.certificates.clone());
    let access =
        spawn_blocking(move || host::access(&written, &certificates)).await.map_err(tool::broken)??;
    let attempt = Attempt {
        store,
        request,
        name,
        runtime: settings::write_step_runtime(&store.layout, &folder, &access.step_change())?,
        volumes: access.volumes().collect(),
        secrets: held(&request.secrets)?,
    };
    let mut pulled: Vec<String> = Vec::new();
    let built = loop {
        // Images that are there are used as they are; the network is asked only for one that is not.
        match attempt.run(&session, lines).await {
            Err(Failure::Missing(image)) => {
                let missing = reference::name(&image)?;
                if pulled.contains(&missing) || pulled.len() == PULLS {
                    let reason = "it was pulled, and the build still does not find it".into();
                    break Err(ContainerError::NoImage { image, reason });
                }
                if let Err(error) = store.fetch(&missing, request.platform.as_ref(), lines).await {
                    break Err(error);
                }
                pulled.push(missing);
            }
            Err(Failure::Other(error)) => break Err(error),
            Ok((id, reused)) => break Ok(Made { id, reused, begun }),
        }
    };
    if let Some(own) = own {
        // Scratch; the next session would clear it too.
        let _ = fs::remove_dir_all(own);
    }
    session.finish();
    built
}

/// The secrets as files in memory that have no name.
fn held(secrets: &Secrets) -> Result<Vec<(String, Arc<OwnedFd>)>, ContainerError> {
    let hold = |value: &[u8]| -> std::io::Result<Arc<OwnedFd>> {
        let mut file = fs::File::from(memfd_create("secret", MemfdFlags::CLOEXEC)?);
        file.write_all(value)?;
        Ok(Arc::new(file.into()))
    };
    let held = secrets.0.iter().map(|(id, value)| Ok((id.clone(), hold(value)?)));
    held.collect::<std::io::Result<_>>().map_err(at("/proc/self/fd"))
}

/// What can be said without starting anything.
pub(crate) fn check(request: &BuildRequest) -> Result<(), ContainerError> {
    if let Some(platform) = &request.platform {
        platform.check_runs_here("the build")?;
    }
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

impl Attempt<'_> {
    /// Builds once. Returns the new image's id, and those that it took steps over from.
    async fn run(&self, session: &Session, lines: &dyn Lines) -> Result<(String, Vec<String>), Failure> {
        let failed = |reason: String| Failure::Other(ContainerError::Tool { tool: "buildah", reason });
        let answer = self.store.layout.scratch().join(format!("{}.id", unique()));
        let (output, writer) = std::io::pipe().map_err(|error| failed(error.to_string()))?;
        let mut command = self.command(&answer).await.map_err(Failure::Other)?;
        let copy = writer.try_clone().map_err(|error| failed(error.to_string()))?;
        // Of a process group of its own: a Ctrl-C in the terminal of `tandem serve` would look like an instruction that failed.
        command.stdin(Stdio::null()).stdout(copy).stderr(writer).process_group(0).kill_on_drop(true);
        let mut inherited = session.lock();
        inherited.extend(self.secrets.iter().map(|(_, file)| file.clone()));
        descriptor::inherit(&mut command, inherited);
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
            return Err(transcript.failure(&self.request.dockerfile));
        }
        let id = fs::read_to_string(&answer).map_err(|error| Failure::Other(at(&answer)(error)))?;
        // Scratch; the next session would clear it too.
        let _ = fs::remove_file(&answer);
        Ok((id.trim().trim_start_matches("sha256:").to_owned(), transcript.reused))
    }

    async fn command(&self, answer: &Path) -> Result<Command, ContainerError> {
        let Self { store, request, .. } = self;
        let buildah = store.buildah().await?;
        let mut command = Command::new(tool::require("unshare", "util-linux")?);
        command.args(["--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "--"]);
        command.env_clear();
        command.envs(buildah.as_std().get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.arg(buildah.as_std().get_program()).args(buildah.as_std().get_args());
        command
            .args(["bud", "--isolation", "oci", "--network", "host", "--format", "docker"])
            .args(["--layers", "--force-rm", "--pull=never", "--tag", &self.name])
            .arg("--runtime")
            .arg(&self.runtime)
            .arg("--iidfile")
            .arg(answer)
            .arg("--file")
            .arg(request.context.join(&request.dockerfile));
        settings::allow(&mut command, &store.layout);
        for volume in &self.volumes {
            command.arg("--volume").arg(volume);
        }
        for (key, value) in &request.args {
            command.arg("--build-arg").arg(format!("{key}={value}"));
        }
        for (id, file) in &self.secrets {
            // Buildah opens it anew for each step: a descriptor of its own, at the beginning.
            command.arg("--secret").arg(format!("id={id},src=/proc/self/fd/{}", file.as_raw_fd()));
        }
        for repository in &request.cache_from {
            // One that does not answer must not cost six seconds a step. (0 would mean three.)
            command.args(["--retry", "1", "--retry-delay", "1ms", "--cache-from", repository]);
        }
        if let Some(platform) = &request.platform {
            command.arg("--platform").arg(platform.to_string());
        }
        if let Some(age) = request.max_age {
            command.arg("--cache-ttl").arg(format!("{}ms", age.as_millis().max(1)));
        }
        if let Some(target) = &request.target {
            command.arg("--target").arg(target);
        }
        command.arg(&request.context);
        Ok(command)
    }
}

/// Reads lines until nobody can write any more.
async fn follow(output: OwnedFd, mut each: impl FnMut(&str)) -> std::io::Result<()> {
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
pub(crate) fn unique() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
