//! Forked `js` workers: their sockets and pipes, what they are assigned, and what they ask of the cloud.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    os::{fd::OwnedFd, unix::net::UnixStream},
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    time::{Duration, Instant},
};

use bytes::Bytes;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tandem_model::{Explain, Report};
use tokio::{
    net::unix::OwnedReadHalf,
    sync::{OwnedSemaphorePermit, mpsc},
    task::AbortHandle,
};

use super::{
    assignment::Assignment,
    error::FunctionError,
    output::Output,
    pool::{CallOf, Launch, Pools, Session, core::WorkerId},
    programs::Programs,
    runtime_api,
    spawner::Line,
    version::Version,
    way::Way,
};
use crate::{
    call::{Caller, Calls},
    channel::{self, Answer, Call, Incoming},
    function::Environment,
    log::{Sink, Stream},
    resource::Resources,
};

/// How long the workers of a spawner that has died may take to end, before what they print is read no more.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Starts workers by the spawner.
pub(super) struct Workers {
    way: Way,
    sink: Arc<dyn Sink>,
    calls: Arc<dyn Calls>,
    resources: Arc<Resources>,
    environment: Arc<Environment>,
    programs: Arc<Programs>,
    pools: OnceLock<Weak<Pools>>,
    alive: Mutex<HashMap<WorkerId, Alive>>,
}

/// What is kept for a living worker.
struct Alive {
    session: Arc<Session>,
    frames: mpsc::UnboundedSender<Frame>,
    /// They hold its sockets.
    tasks: Vec<AbortHandle>,
    /// Reads what it prints, until its pipes are closed.
    following: AbortHandle,
}

/// On its way to a worker.
struct Frame {
    bytes: Bytes,
    /// Of the call that this answers. Given back when it is written, so that answers which nobody reads do not pile up.
    _open: Option<OwnedSemaphorePermit>,
}

impl From<Bytes> for Frame {
    fn from(bytes: Bytes) -> Self {
        Self { bytes, _open: None }
    }
}

impl Workers {
    pub(super) fn new(
        line: Arc<Line>,
        cgroup: String,
        sink: Arc<dyn Sink>,
        calls: Arc<dyn Calls>,
        resources: Arc<Resources>,
        environment: Arc<Environment>,
        programs: Arc<Programs>,
    ) -> Arc<Self> {
        Arc::new(Self {
            way: Way::new(line, cgroup),
            sink,
            calls,
            resources,
            environment,
            programs,
            pools: OnceLock::new(),
            alive: Mutex::default(),
        })
    }

    /// Tells the pools what becomes of the workers, for as long as the cloud runs.
    pub(super) async fn report(self: Arc<Self>, pools: Arc<Pools>) {
        let _ = self.pools.set(Arc::downgrade(&pools));
        let hang_up = |kept| {
            let workers = self.clone();
            async move { workers.hang_up(kept).await }
        };
        self.way.report(&pools, hang_up).await;
    }

    /// Lets the spawner go, once there are no workers, and waits until it is gone.
    pub(super) async fn close(&self) {
        self.way.close().await;
    }

    fn alive<T>(&self, f: impl FnOnce(&mut HashMap<WorkerId, Alive>) -> T) -> T {
        f(&mut self.alive.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What a worker of this version is told.
    fn assignment(&self, version: &Version) -> Assignment {
        let stack = version.urn.stack.clone();
        let resources = self
            .resources
            .list(Some(&stack))
            .into_iter()
            .map(|resource| (resource.urn.short(), resource.outputs.clone()))
            .collect();
        let mut environment = BTreeMap::from([
            ("AWS_LAMBDA_FUNCTION_NAME".to_owned(), version.id.to_string()),
            ("AWS_LAMBDA_FUNCTION_VERSION".to_owned(), version.hash.clone()),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE".to_owned(), (version.inputs.memory.bytes() >> 20).to_string()),
            ("_HANDLER".to_owned(), version.inputs.handler.clone()),
            ("LAMBDA_TASK_ROOT".to_owned(), "/var/task".to_owned()),
            ("TZ".to_owned(), "UTC".to_owned()),
        ]);
        environment.extend((self.environment)(&version.urn, &version.id));
        environment.extend(version.inputs.environment.clone());
        Assignment {
            stack,
            handler: version.inputs.handler.clone(),
            config: version.inputs.config.clone(),
            environment,
            resources,
            allowance: version.allowance(),
        }
    }

    /// Answers a worker's calls until it closes the connection.
    async fn serve_calls(
        self: Arc<Self>,
        session: Arc<Session>,
        reader: OwnedReadHalf,
        frames: mpsc::UnboundedSender<Frame>,
    ) {
        let mut calls = Incoming::new(reader);
        // Dropped with this future, and with it whatever is still being answered.
        let mut answering = tokio::task::JoinSet::new();
        while let Ok(Some((call, taken))) = calls.next().await {
            while answering.try_join_next().is_some() {}
            let (workers, frames) = (self.clone(), frames.clone());
            // Numbered here, in the order in which they were made: what is started takes its id from that (I4).
            let of = session.calls(&call.request, &call.method);
            answering.spawn(async move {
                let id = call.id;
                let result = workers.answer(of, call).await;
                if let Ok(frame) = serde_json::to_vec(&Answer { id, result }) {
                    let _ = frames.send(Frame { bytes: frame.into(), _open: Some(taken) });
                }
            });
        }
        // It may have ended, or said something that is not a call; either way it is of no use any more.
        self.kill(session.worker);
    }

    async fn answer(&self, of: Option<CallOf>, call: Call) -> Result<serde_json::Value, Report> {
        let of = of.ok_or_else(|| super::error::InvokeError::Closing.report())?;
        let caller =
            Caller { of: of.function, request: of.request, traceparent: of.traceparent, ordinal: of.ordinal };
        self.calls.call(&caller, &call.method, call.args).await
    }
}

fn not_blocking(file: &OwnedFd) -> io::Result<()> {
    fcntl(file, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(())
}

fn stream() -> io::Result<(tokio::net::UnixStream, OwnedFd)> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((tokio::net::UnixStream::from_std(ours)?, theirs.into()))
}

impl Workers {
    fn launch(self: &Arc<Self>, session: &Arc<Session>) -> io::Result<()> {
        let (runtime, runtime_end) = stream()?;
        let (channel, channel_end) = stream()?;
        let (out, out_end) = io::pipe()?;
        let (err, err_end) = io::pipe()?;
        let (out, err) = (OwnedFd::from(out), OwnedFd::from(err));
        not_blocking(&out)?;
        not_blocking(&err)?;
        self.way.spawn(session.worker, vec![runtime_end, channel_end, out_end.into(), err_end.into()])?;

        let output = Arc::new(Output::new(self.sink.clone(), [(out, Stream::Stdout), (err, Stream::Stderr)]));
        session.prints_to(output.clone());
        let (reader, mut writer) = channel.into_split();
        let (frames, mut outgoing) = mpsc::unbounded_channel::<Frame>();
        let (workers, served) = (self.clone(), session.clone());
        let tasks = vec![
            tokio::spawn(async move {
                let worker = served.worker;
                let _ = runtime_api::serve(served, runtime).await;
                // A worker without its runtime API can do nothing more.
                workers.kill(worker);
            })
            .abort_handle(),
            tokio::spawn(self.clone().serve_calls(session.clone(), reader, frames.clone())).abort_handle(),
            tokio::spawn(async move {
                while let Some(frame) = outgoing.recv().await {
                    if channel::write(&mut writer, &frame.bytes).await.is_err() {
                        break;
                    }
                }
            })
            .abort_handle(),
        ];
        let following = tokio::spawn(async move { output.follow().await }).abort_handle();
        let worker = Alive { session: session.clone(), frames, tasks, following };
        self.alive(|alive| alive.insert(session.worker, worker));
        Ok(())
    }
}

impl Launch for Arc<Workers> {
    fn start(&self, session: &Arc<Session>) -> io::Result<()> {
        self.launch(session)
    }

    fn assign(&self, worker: WorkerId, version: &Arc<Version>) {
        let found = self.alive(|alive| alive.get(&worker).map(|a| (a.session.clone(), a.frames.clone())));
        let Some((session, frames)) = found else { return };
        let (workers, version) = (self.clone(), version.clone());
        tokio::spawn(async move {
            let archive = match workers.programs.read(&version.inputs.code).await {
                Ok(archive) => archive,
                Err(error) => {
                    let message = format!("the program's archive cannot be read: {error}");
                    return session.fail_init(FunctionError::new("Runtime.CodeUnreadable", message));
                }
            };
            if let Ok(assignment) = serde_json::to_vec(&workers.assignment(&version)) {
                let _ = frames.send(Bytes::from(assignment).into());
                let _ = frames.send(archive.into());
            }
        });
    }

    fn kill(&self, worker: WorkerId) {
        Workers::kill(self, worker);
    }

    fn forget(&self, worker: WorkerId) {
        if let Some(alive) = self.alive(|alive| alive.remove(&worker)) {
            alive.tasks.iter().chain([&alive.following]).for_each(AbortHandle::abort);
        }
    }
}

impl Workers {
    /// Closes the sockets of all workers but those `kept`, by which they end, and reads what they print until then. One that
    /// does not end is not waited for for long.
    async fn hang_up(&self, kept: Vec<WorkerId>) {
        let ending: Vec<AbortHandle> = self.alive(|alive| {
            let ending = alive.iter().filter(|(worker, _)| !kept.contains(worker));
            ending
                .map(|(_, alive)| {
                    alive.tasks.iter().for_each(AbortHandle::abort);
                    alive.following.clone()
                })
                .collect()
        });
        let deadline = Instant::now() + LAST_WORDS;
        while Instant::now() < deadline && !ending.iter().all(AbortHandle::is_finished) {
            // Nothing tells that all of them are.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    fn kill(&self, worker: WorkerId) {
        if let Err(error) = self.way.kill(worker) {
            tracing::warn!(%error, worker = worker.0, "a worker cannot be ended by the spawner; its sockets are closed");
            if let Some(alive) = self.alive(|alive| alive.remove(&worker)) {
                alive.tasks.iter().chain([&alive.following]).for_each(AbortHandle::abort);
            }
        }
    }
}
