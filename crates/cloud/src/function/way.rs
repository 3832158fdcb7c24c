//! The way to the spawner, also when it dies: another one is started, and what it was to start meanwhile waits.
//!
//! The spawner has no state that would be lost with it: what its workers were doing ends with them, as any lost worker's
//! request does, and their cgroups are cleared by the next spawner. A cloud in which none can be started any more goes
//! on, and answers requests for new workers with the reason, until one can.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::task::spawn_blocking;

use super::{
    pool::{
        Pools,
        core::{Loss, WorkerId},
    },
    spawner::{self, Fate, Line, PrepareError},
};

/// Between attempts to start a spawner, if the one before failed or died young; doubled each time.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A spawner that dies before this age is likely to have been followed by another such one.
const YOUNG: Duration = Duration::from_secs(1);

/// Leads to the spawner of the moment.
pub(super) struct Way {
    cgroup: String,
    state: Mutex<State>,
}

enum State {
    Open(Arc<Line>),
    /// Another one is being started. These workers are to be started by it.
    Waiting(Vec<(WorkerId, Vec<OwnedFd>)>),
    /// None could be started, for this reason. It is being tried.
    Blocked(String),
    Closed,
}

impl Way {
    pub(super) fn new(line: Arc<Line>, cgroup: String) -> Self {
        Self { cgroup, state: Mutex::new(State::Open(line)) }
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn waiting(&self) -> Vec<WorkerId> {
        self.with(|state| match state {
            State::Waiting(workers) => workers.iter().map(|(worker, _)| *worker).collect(),
            _ => Vec::new(),
        })
    }

    /// What it was before, unless it is closed.
    fn become_if_open(&self, next: State) -> Option<State> {
        self.with(|state| match state {
            State::Closed => None,
            _ => Some(std::mem::replace(state, next)),
        })
    }

    /// Asks for a worker; what becomes of it is told to the pools.
    ///
    /// # Errors
    /// If there is no spawner, nor will there be one in a moment.
    pub(super) fn spawn(&self, worker: WorkerId, ends: Vec<OwnedFd>) -> io::Result<()> {
        self.with(|state| match state {
            State::Open(line) => match line.spawn(worker, &ends) {
                // Its end has not been noticed here yet.
                Err(error) if is_gone(&error) => {
                    *state = State::Waiting(vec![(worker, ends)]);
                    Ok(())
                }
                other => other,
            },
            State::Waiting(workers) => {
                workers.push((worker, ends));
                Ok(())
            }
            State::Blocked(reason) => Err(io::Error::other(reason.clone())),
            State::Closed => Err(io::Error::other("the cloud is closing")),
        })
    }

    /// Asks to end a worker; it may have ended by itself.
    ///
    /// # Errors
    /// If there is nobody to do it.
    pub(super) fn kill(&self, worker: WorkerId) -> io::Result<()> {
        self.with(|state| match state {
            State::Open(line) => line.kill(worker),
            _ => Err(io::Error::other("there is no spawner at the moment")),
        })
    }

    /// Tells the pools what becomes of workers, and starts another spawner whenever there is none. `hang_up` ends the workers
    /// of the one that has died.
    pub(super) async fn report<H: Future<Output = ()>>(
        &self,
        pools: &Pools,
        hang_up: impl Fn(Vec<WorkerId>) -> H,
    ) {
        let mut line = self.with(|state| match state {
            State::Open(line) => Some(line.clone()),
            _ => None,
        });
        let mut pause = PAUSE;
        while let Some(open) = line {
            let born = Instant::now();
            while let Some(fate) = open.next().await {
                match fate {
                    Fate::Started { worker, pid } => pools.running(worker, pid),
                    Fate::NotStarted { worker, reason } => {
                        pools.exited(worker, Loss::NotStarted, Some(reason));
                    }
                    Fate::Ended { worker, loss } => pools.exited(worker, loss, None),
                }
            }
            tracing::warn!("the process that starts workers is gone; another one is started");
            let closed = self.with(|state| {
                if let State::Open(_) = state {
                    *state = State::Waiting(Vec::new());
                }
                matches!(state, State::Closed)
            });
            if closed {
                return;
            }
            // Their lines come before the end of their requests. Not those that have yet to be started.
            hang_up(self.waiting()).await;
            pools.abandon_all_but(|| self.waiting());
            // Reaps it.
            let _ = spawn_blocking(move || open.close()).await;
            if born.elapsed() < YOUNG {
                rest(&mut pause).await;
            } else {
                pause = PAUSE;
            }
            line = self.restart(pools, &mut pause).await;
        }
    }

    /// Starts spawners until one is ready; none if the cloud is closing.
    async fn restart(&self, pools: &Pools, pause: &mut Duration) -> Option<Arc<Line>> {
        loop {
            // A program is executed: others go on meanwhile.
            let started = match spawn_blocking(spawner::start_another).await {
                Ok(Ok(spawner)) => spawner.prepare(&self.cgroup).await,
                Ok(Err(error)) => Err(PrepareError::Io(error)),
                Err(stopped) => Err(PrepareError::Io(io::Error::other(stopped))),
            };
            match started {
                Ok((line, _)) => {
                    let State::Waiting(workers) = self.become_if_open(State::Open(line.clone()))? else {
                        return Some(line);
                    };
                    for (worker, ends) in workers {
                        if let Err(error) = line.spawn(worker, &ends) {
                            pools.exited(worker, Loss::NotStarted, Some(error.to_string()));
                        }
                    }
                    return Some(line);
                }
                Err(error) => {
                    tracing::error!(%error, "no spawner of workers can be started; trying again");
                    let reason = format!("the process that starts workers is gone: {error}");
                    if let State::Waiting(workers) = self.become_if_open(State::Blocked(reason.clone()))? {
                        for (worker, _) in workers {
                            pools.exited(worker, Loss::NotStarted, Some(reason.clone()));
                        }
                    }
                    rest(pause).await;
                }
            }
        }
    }

    /// Lets the spawner go, and waits until it is gone.
    pub(super) async fn close(&self) {
        let state = self.with(|state| std::mem::replace(state, State::Closed));
        if let State::Open(line) = state {
            let _ = spawn_blocking(move || line.close()).await;
        }
    }
}

/// Pauses, for longer each time.
async fn rest(pause: &mut Duration) {
    tokio::time::sleep(*pause).await;
    *pause = (2 * *pause).min(LONGEST_PAUSE);
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}
