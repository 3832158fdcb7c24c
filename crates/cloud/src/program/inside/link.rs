//! The way to the cloud, which may be away for a while: what it did not answer is asked again, in the same order.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use serde_json::Value;
use tandem_js::{Bridge, CallError};
use tandem_model::Report;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
    sync::{Notify, oneshot},
};

use crate::{
    channel::{self, Answer, Call},
    program::{Assigned, Hello},
};

/// The pause before the cloud is looked for again; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Sends the calls of the program.
#[derive(Debug, Default)]
pub(crate) struct Link {
    state: Mutex<State>,
    /// Told of each new call.
    called: Notify,
}

#[derive(Debug, Default)]
struct State {
    last: u64,
    /// How many calls there were of each method.
    ordinals: HashMap<String, u32>,
    /// By id, which is the order in which they were made.
    waiting: BTreeMap<u64, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    frame: Bytes,
    /// On the connection that there is now.
    sent: bool,
    answer: oneshot::Sender<Result<Value, Report>>,
}

impl Link {
    /// Waits for the cloud, and answers what it says that this container is to be, with the program's archive.
    ///
    /// # Errors
    /// If it says what it should not.
    pub(crate) async fn open(socket: &Path) -> io::Result<(Arc<Self>, Assigned, Bytes)> {
        loop {
            let mut stream = connect(socket, true).await;
            let told = async {
                let Some(assigned) = channel::read_value::<Assigned>(&mut stream).await? else {
                    return Ok(None);
                };
                Ok::<_, io::Error>(channel::read(&mut stream).await?.map(|archive| (assigned, archive)))
            };
            match told.await {
                Ok(Some((assigned, archive))) => {
                    let link = Arc::new(Self::default());
                    tokio::spawn(link.clone().keep(socket.to_owned(), stream));
                    return Ok((link, assigned, archive));
                }
                Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(error),
                // It went away meanwhile.
                Ok(None) | Err(_) => tokio::time::sleep(FIRST_PAUSE).await,
            }
        }
    }

    async fn keep(self: Arc<Self>, socket: PathBuf, mut stream: UnixStream) {
        loop {
            let (reader, writer) = stream.into_split();
            tokio::select! {
                () = self.hear(reader) => {}
                () = self.say(writer) => {}
            }
            self.with(|state| state.waiting.values_mut().for_each(|waiting| waiting.sent = false));
            stream = connect(&socket, false).await;
        }
    }

    /// Hands out answers until the connection breaks.
    async fn hear(&self, mut reader: impl AsyncRead + Unpin) {
        while let Ok(Some(Answer { id, result })) = channel::read_value(&mut reader).await {
            if let Some(waiting) = self.with(|state| state.waiting.remove(&id)) {
                // A program that failed meanwhile does not wait any more.
                let _ = waiting.answer.send(result);
            }
        }
    }

    /// Sends calls until the connection breaks.
    async fn say(&self, mut writer: impl AsyncWrite + Unpin) {
        loop {
            let next = self.with(|state| {
                let waiting = state.waiting.values_mut().find(|waiting| !waiting.sent)?;
                waiting.sent = true;
                Some(waiting.frame.clone())
            });
            match next {
                Some(frame) if channel::write(&mut writer, &frame).await.is_err() => return,
                Some(_) => {}
                None => self.called.notified().await,
            }
        }
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn begin(&self, method: String, args: Value) -> io::Result<oneshot::Receiver<Result<Value, Report>>> {
        let (answer, receiver) = oneshot::channel();
        self.with(|state| {
            state.last += 1;
            let next = state.ordinals.entry(method.clone()).or_default();
            let ordinal = *next;
            *next += 1;
            let call = Call { id: state.last, request: String::new(), ordinal, method, args };
            let waiting = Waiting { frame: serde_json::to_vec(&call)?.into(), sent: false, answer };
            state.waiting.insert(call.id, waiting);
            Ok::<_, io::Error>(())
        })?;
        self.called.notify_one();
        Ok(receiver)
    }
}

impl Bridge for Link {
    fn call(&self, method: String, args: Value) -> BoxFuture<'static, Result<Value, CallError>> {
        let begun = self.begin(method, args);
        Box::pin(async move {
            let answer = match begun {
                Ok(answer) => answer.await.map_err(io::Error::other),
                Err(error) => Err(error),
            };
            answer.unwrap_or_else(|error| Err(unsayable(&error)))
        })
    }
}

/// Connects, however long that takes: there is nothing else that the container could do.
async fn connect(socket: &Path, assign: bool) -> UnixStream {
    let mut pause = FIRST_PAUSE;
    loop {
        let connected = async {
            let mut stream = UnixStream::connect(socket).await?;
            channel::write(&mut stream, &serde_json::to_vec(&Hello { assign })?).await?;
            Ok::<_, io::Error>(stream)
        };
        match connected.await {
            Ok(stream) => return stream,
            Err(_) => tokio::time::sleep(pause).await,
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn unsayable(error: &io::Error) -> Report {
    Report {
        code: "E0321".to_owned(),
        message: format!("the call cannot be sent: {error}"),
        help: "see its arguments".to_owned(),
        causes: Vec::new(),
    }
}
