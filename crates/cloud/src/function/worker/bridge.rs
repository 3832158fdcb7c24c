//! The program's calls, on the frames of [`crate::channel`].

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use futures::future::BoxFuture;
use serde_json::Value;
use tandem_js::{Bridge, CallError};
use tandem_model::Report;
use tokio::{
    net::unix::{OwnedReadHalf, OwnedWriteHalf},
    sync::{mpsc, oneshot},
};

use crate::channel::{self, Answer, Call};

type Waiting = HashMap<u64, oneshot::Sender<Result<Value, Report>>>;

/// Sends the calls of a program to the cloud.
#[derive(Debug)]
pub(super) struct CloudBridge {
    frames: mpsc::UnboundedSender<Vec<u8>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: u64,
    request: String,
    waiting: Waiting,
}

impl CloudBridge {
    /// Takes over the connection; must be called inside the runtime.
    pub(super) fn open(mut reader: OwnedReadHalf, mut writer: OwnedWriteHalf) -> Arc<Self> {
        let (frames, mut outgoing) = mpsc::unbounded_channel::<Vec<u8>>();
        let bridge = Arc::new(Self { frames, state: Mutex::default() });
        tokio::spawn(async move {
            while let Some(frame) = outgoing.recv().await {
                if channel::write(&mut writer, &frame).await.is_err() {
                    break;
                }
            }
        });
        let answered = bridge.clone();
        tokio::spawn(async move {
            while let Ok(Some(Answer { id, result })) = channel::read_value(&mut reader).await {
                if let Some(waiting) = answered.with(|state| state.waiting.remove(&id)) {
                    let _ = waiting.send(result);
                }
            }
            // Whoever waits learns it by its sender going.
            answered.with(|state| state.waiting.clear());
        });
        bridge
    }

    /// Names the request in which the calls are made from now on.
    pub(super) fn enter(&self, request: &str) {
        self.with(|state| request.clone_into(&mut state.request));
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn begin(&self, method: String, args: Value) -> io::Result<oneshot::Receiver<Result<Value, Report>>> {
        let (sender, receiver) = oneshot::channel();
        let frame = self.with(|state| {
            state.last += 1;
            state.waiting.insert(state.last, sender);
            serde_json::to_vec(&Call {
                id: state.last,
                request: state.request.clone(),
                ordinal: 0,
                method,
                args,
            })
        })?;
        self.frames.send(frame).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(receiver)
    }
}

impl Bridge for CloudBridge {
    fn call(&self, method: String, args: Value) -> BoxFuture<'static, Result<Value, CallError>> {
        let begun = self.begin(method, args);
        Box::pin(async move {
            match begun {
                Ok(answer) => answer.await.unwrap_or_else(|_| Err(gone())),
                Err(_) => Err(gone()),
            }
        })
    }
}

fn gone() -> Report {
    Report {
        code: "E0605".to_owned(),
        message: "the cloud is gone".to_owned(),
        help: String::new(),
        causes: Vec::new(),
    }
}
