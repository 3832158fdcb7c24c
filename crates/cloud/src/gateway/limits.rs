//! What one client may take from the others: time to send, and connections.
//!
//! A client that sends nothing for a while is cut off: in the head of a request, between two requests, or in a body.
//! There may be so many connections at once; when one more comes, the one that has been idle longest is closed for it, as
//! any client expects of a connection that it keeps for later. If none is idle, the new one is closed. So neither slow
//! clients nor many keep the cloud from answering.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::CancellationToken;

/// The most connections at once, where the limit of open files allows them.
const CONNECTIONS: usize = 4096;
/// How many open files a cloud asks for, if it has fewer.
const OPEN_FILES: u64 = 65_536;

/// How much a client may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For the whole head of a request, counted from the end of the one before.
    pub head: Duration,
    /// Between two pieces of a body.
    pub body: Duration,
    pub connections: usize,
}

impl Limits {
    /// Those of this process. Raises its limit of open files as far as it may: half of them are for connections, the
    /// others for bodies, workers and the store.
    pub fn of_this_process() -> Self {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
        let wanted = hard.min(OPEN_FILES).max(soft);
        let files = match setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) {
            Ok(()) => wanted,
            Err(_) => soft,
        };
        let half = usize::try_from(files / 2).unwrap_or(CONNECTIONS);
        let sixty = Duration::from_secs(60);
        Self { head: sixty, body: sixty, connections: half.min(CONNECTIONS) }
    }
}

/// The connections that there are.
#[derive(Debug)]
pub(super) struct Room {
    most: usize,
    taken: AtomicUsize,
    idle: Mutex<Idle>,
}

#[derive(Debug, Default)]
struct Idle {
    next: u64,
    /// By when they became idle.
    since: BTreeMap<u64, CancellationToken>,
}

impl Room {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most: most.max(1), taken: AtomicUsize::new(0), idle: Mutex::default() })
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more, if need be that of the connection that has been idle longest. `None`: all are busy.
    pub(super) fn take(self: &Arc<Self>) -> Option<Arc<Place>> {
        if self.taken.load(Ordering::Relaxed) >= self.most {
            let (_, longest) = self.idle().since.pop_first()?;
            longest.cancel();
        }
        // Whoever was closed gives its place back a moment later; until then there is one more.
        self.taken.fetch_add(1, Ordering::Relaxed);
        let place = Arc::new(Place {
            room: self.clone(),
            unwanted: CancellationToken::new(),
            state: Mutex::new(State { requests: 0, idle: None }),
        });
        place.rest(&mut place.state());
        Some(place)
    }
}

/// One connection's place. Dropped, it is free.
#[derive(Debug)]
pub(super) struct Place {
    room: Arc<Room>,
    /// Cancelled when another connection is to have the place.
    pub(super) unwanted: CancellationToken,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    requests: usize,
    /// The key among those that are idle.
    idle: Option<u64>,
}

impl Place {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rest(&self, state: &mut State) {
        let mut idle = self.room.idle();
        let key = idle.next;
        idle.next += 1;
        idle.since.insert(key, self.unwanted.clone());
        state.idle = Some(key);
    }

    /// Busy until the answer is dropped with this.
    pub(super) fn work(self: &Arc<Self>) -> Working {
        let mut state = self.state();
        state.requests += 1;
        if let Some(key) = state.idle.take() {
            self.room.idle().since.remove(&key);
        }
        drop(state);
        Working(self.clone())
    }

    pub(super) fn is_busy(&self) -> bool {
        self.state().requests > 0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(key) = self.state().idle.take() {
            self.room.idle().since.remove(&key);
        }
        self.room.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct Working(Arc<Place>);

impl Drop for Working {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.requests -= 1;
        if state.requests == 0 {
            self.0.rest(&mut state);
        }
    }
}

/// A client that was cut off. Its words are what the services tell it from other errors by.
#[derive(Debug, thiserror::Error)]
#[error("nothing of the body came for {} s", .0.as_secs())]
pub(super) struct Silent(Duration);

/// A body that ends with [`Silent`] if nothing of it comes for so long.
pub(super) struct Timed<B> {
    body: B,
    patience: Duration,
    /// When it is over with a client that is waited for.
    until: Pin<Box<Sleep>>,
    waiting: bool,
}

impl<B> Timed<B> {
    pub(super) fn new(body: B, patience: Duration) -> Self {
        Self { body, patience, until: Box::pin(sleep(patience)), waiting: false }
    }
}

impl<B: Body<Data = Bytes, Error: Into<super::serve::Error>> + Unpin> Body for Timed<B> {
    type Data = Bytes;
    type Error = super::serve::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let patience = self.patience;
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.waiting = false;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        // What is counted is the client's time, not how long the last piece took to be stored.
        if !self.waiting {
            self.waiting = true;
            self.until.as_mut().reset(Instant::now() + patience);
        }
        self.until.as_mut().poll(cx).map(|()| Some(Err(Silent(patience).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_more_takes_the_place_of_the_one_that_is_idle_longest() {
        let room = Room::new(2);
        let (first, second) = (room.take().unwrap(), room.take().unwrap());
        drop(first.work());
        // The first was busy since, so the second is idle for longer.
        let third = room.take().unwrap();
        assert!(second.unwanted.is_cancelled() && !first.unwanted.is_cancelled());
        drop(second);
        let (_one, _other) = (first.work(), third.work());
        assert!(room.take().is_none(), "all are busy");
        drop(first);
        assert!(room.take().is_none(), "its request is still being answered");
    }

    #[test]
    fn a_place_is_free_when_its_last_answer_is_gone() {
        let room = Room::new(1);
        let place = room.take().unwrap();
        let working = place.work();
        assert!(place.is_busy());
        drop(place);
        assert!(room.take().is_none());
        drop(working);
        assert!(room.take().is_some_and(|place| !place.unwanted.is_cancelled()));
        assert!(room.idle().since.is_empty());
    }
}
