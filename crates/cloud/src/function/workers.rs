//! Forked `js` workers: their sockets and pipes, what they are assigned, and what they ask of the cloud.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    os::{fd::OwnedFd, unix::net::UnixStream},
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
};

use bytes::Bytes;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tandem_model::{Explain, Report};
use tokio::{
    net::unix::OwnedReadHalf,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::AbortHandle,
};

use super::{
    channel::{self, Answer, Assignment, Call},
    error::FunctionError,
    output::Output,
    pool::{
        Launch, Pools, Session,
        core::{Loss, WorkerId},
    },
    programs::Programs,
    runtime_api,
    spawner::{Fate, Line},
    version::Version,
};
use crate::{
    call::{Caller, Calls},
    function::Environment,
    log::{Sink, Stream},
    resource::Resources,
};

/// Calls that one worker may have open at once. More wait in its socket.
const OPEN_CALLS: usize = 256;

/// Starts workers by the spawner.
pub(super) struct Workers {
    line: Arc<Line>,
    sink: Arc<dyn Sink>,
    calls: Arc<dyn Calls>,
    resources: Arc<Resources>,
    environment: Arc<Environment>,
    programs: Arc<Programs>,
    pools: OnceLock<Weak<Pools>>,
    alive: Mutex<HashMap<WorkerId, Alive>>,
    /// Set when the spawner is gone.
    gone: OnceLock<()>,
}

/// What is kept for a living worker.
struct Alive {
    session: Arc<Session>,
    frames: Frames,
    tasks: Vec<AbortHandle>,
}

/// Frames for a worker. A call's answer carries the call's permit until it is written, so that a worker that asks and does
/// not read does not fill the cloud's memory.
type Frames = mpsc::UnboundedSender<(Bytes, Option<OwnedSemaphorePermit>)>;

impl Workers {
    pub(super) fn new(
        line: Arc<Line>,
        sink: Arc<dyn Sink>,
        calls: Arc<dyn Calls>,
        resources: Arc<Resources>,
        environment: Arc<Environment>,
        programs: Arc<Programs>,
    ) -> Arc<Self> {
        Arc::new(Self {
            line,
            sink,
            calls,
            resources,
            environment,
            programs,
            pools: OnceLock::new(),
            alive: Mutex::default(),
            gone: OnceLock::new(),
        })
    }

    /// Tells the pools what becomes of the workers, until the spawner is gone.
    pub(super) async fn report(self: Arc<Self>, pools: Arc<Pools>) {
        let _ = self.pools.set(Arc::downgrade(&pools));
        while let Some(fate) = self.line.next().await {
            match fate {
                Fate::Started { worker, pid } => pools.running(worker, pid),
                Fate::NotStarted { worker, reason } => pools.exited(worker, Loss::NotStarted, Some(reason)),
                Fate::Ended { worker, loss } => pools.exited(worker, loss, None),
            }
        }
        let _ = self.gone.set(());
        // The workers end with their sockets, which are closed here.
        pools.abandon_all();
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
    async fn serve_calls(self: Arc<Self>, session: Arc<Session>, mut reader: OwnedReadHalf, frames: Frames) {
        let open = Arc::new(Semaphore::new(OPEN_CALLS));
        // Dropped with this future, and with it whatever is still being answered.
        let mut answering = tokio::task::JoinSet::new();
        while let Ok(permit) = open.clone().acquire_owned().await {
            let Ok(Some(call)) = channel::read_value::<Call>(&mut reader).await else { break };
            while answering.try_join_next().is_some() {}
            let (workers, session, frames) = (self.clone(), session.clone(), frames.clone());
            answering.spawn(async move {
                let id = call.id;
                let result = workers.answer(&session, call).await;
                if let Ok(frame) = serde_json::to_vec(&Answer { id, result }) {
                    let _ = frames.send((frame.into(), Some(permit)));
                }
            });
        }
        // It may have ended, or said something that is not a call; either way it is of no use any more.
        self.kill(session.worker);
    }

    async fn answer(&self, session: &Session, call: Call) -> Result<serde_json::Value, Report> {
        let of = session
            .calls(&call.request, &call.method)
            .ok_or_else(|| super::error::InvokeError::Closing.report())?;
        let caller = Caller {
            function: of.function,
            request: of.request,
            traceparent: of.traceparent,
            ordinal: of.ordinal,
        };
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
        if self.gone.get().is_some() {
            return Err(io::Error::other("the process that starts workers is gone"));
        }
        let (runtime, runtime_end) = stream()?;
        let (channel, channel_end) = stream()?;
        let (out, out_end) = io::pipe()?;
        let (err, err_end) = io::pipe()?;
        let (out, err) = (OwnedFd::from(out), OwnedFd::from(err));
        not_blocking(&out)?;
        not_blocking(&err)?;
        self.line.spawn(session.worker, &[runtime_end, channel_end, out_end.into(), err_end.into()])?;

        let output = Arc::new(Output::new(self.sink.clone(), [(out, Stream::Stdout), (err, Stream::Stderr)]));
        session.prints_to(output.clone());
        let (reader, mut writer) = channel.into_split();
        let (frames, mut outgoing) = mpsc::unbounded_channel();
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
                while let Some((frame, _permit)) = outgoing.recv().await {
                    if channel::write(&mut writer, &frame).await.is_err() {
                        break;
                    }
                }
            })
            .abort_handle(),
            tokio::spawn(async move { output.follow().await }).abort_handle(),
        ];
        self.alive(|alive| alive.insert(session.worker, Alive { session: session.clone(), frames, tasks }));
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
                let _ = frames.send((assignment.into(), None));
                let _ = frames.send((archive, None));
            }
        });
    }

    fn kill(&self, worker: WorkerId) {
        Workers::kill(self, worker);
    }

    fn forget(&self, worker: WorkerId) {
        if let Some(alive) = self.alive(|alive| alive.remove(&worker)) {
            alive.tasks.iter().for_each(AbortHandle::abort);
        }
    }
}

impl Workers {
    fn kill(&self, worker: WorkerId) {
        if let Err(error) = self.line.kill(worker) {
            tracing::warn!(%error, worker = worker.0, "a worker cannot be ended by the spawner; its sockets are closed");
            if let Some(alive) = self.alive(|alive| alive.remove(&worker)) {
                alive.tasks.iter().for_each(AbortHandle::abort);
            }
        }
    }
}
