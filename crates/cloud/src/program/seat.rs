//! The cloud's side of one container: it listens on its socket, tells it what to be, and answers its calls.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use tandem_model::{Explain, Report};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, mpsc},
    task::AbortHandle,
};

use super::{Assigned, CodeError, Hello, Programs, Tenant, socket};
use crate::{
    call::{Caller, Calls},
    channel::{self, Answer, Call, Incoming},
};

/// After a failure to listen, which is for a full disk or for files of ours that are used up.
const AGAIN: Duration = Duration::from_secs(1);

/// Ends with it: the listening, the connection, and what is being answered.
pub(super) struct Seat(AbortHandle);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Seat {
    pub(super) fn take(programs: &Arc<Programs>, shared: PathBuf, tenant: Tenant) -> Self {
        let (programs, tenant) = (Arc::downgrade(programs), Arc::new(tenant));
        Self(tokio::spawn(attend(programs, shared, tenant)).abort_handle())
    }
}

async fn attend(programs: Weak<Programs>, shared: PathBuf, tenant: Arc<Tenant>) {
    let listener = loop {
        match socket::listen(&shared) {
            Ok(listener) => break listener,
            Err(error) => {
                tracing::error!(folder = %shared.display(), %error, "cannot listen to a container; trying again");
                tokio::time::sleep(AGAIN).await;
            }
        }
    };
    // One connection at a time: a container has one program, and comes again when its connection broke.
    let mut comes = accepted(&listener).await;
    loop {
        let serving = serve(&programs, &tenant, comes);
        comes = tokio::select! {
            served = serving => {
                if let Err(error) = served {
                    tracing::debug!(of = %tenant.of, %error, "the connection of a container ended");
                }
                accepted(&listener).await
            }
            next = accepted(&listener) => next,
        };
    }
}

async fn accepted(listener: &UnixListener) -> UnixStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                tracing::warn!(%error, "cannot take a connection of a container");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// On its way to the container.
type Frame = (Bytes, OwnedSemaphorePermit);

async fn serve(programs: &Weak<Programs>, tenant: &Arc<Tenant>, stream: UnixStream) -> io::Result<()> {
    let (mut reader, mut writer) = stream.into_split();
    let Some(length) = channel::read_length(&mut reader, 1024).await? else { return Ok(()) };
    let hello: Hello = serde_json::from_slice(&channel::read_rest(&mut reader, length).await?)?;
    if hello.assign {
        let (assigned, archive) = assigned(programs, tenant).await?;
        channel::write(&mut writer, &serde_json::to_vec(&assigned)?).await?;
        channel::write(&mut writer, &archive).await?;
    }
    let calls = answerer(programs).await?;
    let (frames, mut outgoing) = mpsc::unbounded_channel::<Frame>();
    let writing = async move {
        while let Some((frame, _open)) = outgoing.recv().await {
            channel::write(&mut writer, &frame).await?;
        }
        Ok(())
    };
    let reading = async move {
        let mut incoming = Incoming::new(reader);
        // Dropped with this future, and with it whatever is still being answered.
        let mut answering = tokio::task::JoinSet::new();
        while let Some((call, taken)) = incoming.next().await? {
            while answering.try_join_next().is_some() {}
            let (calls, tenant, frames) = (calls.clone(), tenant.clone(), frames.clone());
            answering.spawn(async move {
                let answer = answer(&*calls, &tenant, call).await;
                if let Ok(frame) = serde_json::to_vec(&answer) {
                    let _ = frames.send((frame.into(), taken));
                }
            });
        }
        Ok(())
    };
    tokio::select! {
        read = reading => read,
        written = writing => written,
    }
}

async fn answer(calls: &dyn Calls, tenant: &Tenant, call: Call) -> Answer {
    let caller = Caller {
        of: tenant.of.clone(),
        request: tenant.request.clone(),
        ordinal: call.ordinal,
        traceparent: tenant.traceparent.clone(),
    };
    tandem_failpoint::hit("program.call.received");
    let result = calls.call(&caller, &call.method, call.args).await;
    tandem_failpoint::hit("program.call.answered");
    Answer { id: call.id, result }
}

fn here(programs: &Weak<Programs>) -> io::Result<Arc<Programs>> {
    programs.upgrade().ok_or_else(|| io::Error::other("the cloud is closing"))
}

/// What a container is to be, and the program's archive; which is empty if it cannot be.
async fn assigned(programs: &Weak<Programs>, tenant: &Tenant) -> io::Result<(Assigned, Bytes)> {
    let programs = here(programs)?;
    let path = programs.archives.path(&tenant.code.code).map_err(io::Error::other)?;
    Ok(match tokio::fs::read(&path).await {
        Ok(archive) => (Ok(programs.assignment(tenant)), archive.into()),
        Err(source) => (Err(unreadable(tenant, path, source)), Bytes::new()),
    })
}

fn unreadable(tenant: &Tenant, path: PathBuf, source: io::Error) -> Report {
    let error = match source.kind() {
        io::ErrorKind::NotFound => {
            CodeError::NoCode { of: tenant.of.short(), code: tenant.code.code.clone() }
        }
        _ => CodeError::Io { path, source },
    };
    error.report()
}

/// Who answers; at a start that is known only when all services are there.
async fn answerer(programs: &Weak<Programs>) -> io::Result<Arc<dyn Calls>> {
    let mut known = here(programs)?.calls.subscribe();
    let calls = known.wait_for(Option::is_some).await.map_err(io::Error::other)?;
    calls.clone().ok_or_else(|| io::Error::other("nobody answers"))
}
