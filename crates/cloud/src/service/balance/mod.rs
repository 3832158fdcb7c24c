//! Balancing: who of a service's replicas gets the next connection or request.
//!
//! Only replicas that are healthy, of the version that is current. So a new version is started beside the old one, and
//! takes over in one moment; what the old one still has under way is waited for.

mod http;
mod listener;
mod occupant;
mod tcp;
mod udp;

use std::{
    net::Ipv4Addr,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;

pub(super) use self::{
    listener::{Listener, forward},
    occupant::occupant,
};

/// How long a connection or request is held while no replica is healthy: one may be on its way.
/// Unless it is said otherwise: a service without replicas has to start one first.
const HOLD: Duration = Duration::from_secs(5);
/// On how many replicas a request is tried.
const TRIES: usize = 3;
/// A replica is on the same machine: who does not take a connection in this time never will.
const CONNECT: Duration = Duration::from_secs(2);

/// The replicas of one service.
#[derive(Debug, Default)]
pub(super) struct Backends {
    inner: RwLock<Inner>,
    turn: AtomicUsize,
    /// Told whenever one becomes healthy or another version becomes current.
    better: Notify,
    /// How many connections and requests are held.
    held: AtomicUsize,
    /// The most that were under way and held together since somebody looked.
    peak: AtomicUsize,
    /// Told when something is asked for, and nobody is able.
    lacking: Notify,
    /// How long is held, in milliseconds; 0: [`HOLD`].
    hold: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    current: String,
    all: Vec<Arc<Backend>>,
}

/// One replica, as a place to send to.
#[derive(Debug)]
pub(super) struct Backend {
    id: String,
    version: String,
    address: Ipv4Addr,
    healthy: AtomicBool,
    under_way: AtomicUsize,
    done: Notify,
}

/// A connection or request that a replica has. Counts until it is dropped.
#[derive(Debug)]
pub(super) struct Use(Arc<Backend>);

impl Use {
    fn address(&self) -> Ipv4Addr {
        self.0.address
    }

    /// Of this replica only: the next one may have its address.
    fn id(&self) -> String {
        self.0.id.clone()
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        if self.0.under_way.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.done.notify_waiters();
        }
    }
}

/// Counts as held until it is dropped.
struct Held<'a>(&'a AtomicUsize);

impl<'a> Held<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Backend {
    /// Returns when nothing is under way any more, or after `patience`.
    pub(super) async fn drained(&self, patience: Duration) {
        let drained = async {
            loop {
                let done = self.done.notified();
                if self.under_way.load(Ordering::Acquire) == 0 {
                    return;
                }
                done.await;
            }
        };
        let _ = tokio::time::timeout(patience, drained).await;
    }
}

impl Backends {
    fn read<T>(&self, f: impl FnOnce(&Inner) -> T) -> T {
        f(&self.inner.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        f(&mut self.inner.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds a replica, which is not healthy yet.
    pub(super) fn add(&self, id: &str, version: &str, address: Ipv4Addr) -> Arc<Backend> {
        let backend = Arc::new(Backend {
            id: id.to_owned(),
            version: version.to_owned(),
            address,
            healthy: AtomicBool::new(false),
            under_way: AtomicUsize::new(0),
            done: Notify::new(),
        });
        self.write(|inner| inner.all.push(backend.clone()));
        backend
    }

    pub(super) fn set_healthy(&self, backend: &Backend, healthy: bool) {
        backend.healthy.store(healthy, Ordering::Release);
        if healthy {
            self.better.notify_waiters();
        }
    }

    pub(super) fn remove(&self, backend: &Backend) {
        self.write(|inner| inner.all.retain(|other| other.id != backend.id));
    }

    pub(super) fn current(&self) -> String {
        self.read(|inner| inner.current.clone())
    }

    /// From now on only replicas of this version get anything new.
    pub(super) fn set_current(&self, version: &str) {
        self.write(|inner| version.clone_into(&mut inner.current));
        self.better.notify_waiters();
    }

    /// How long a connection or request is held.
    pub(super) fn set_hold(&self, hold: Option<Duration>) {
        let hold = hold.map_or(0, |hold| u64::try_from(hold.as_millis()).unwrap_or(u64::MAX));
        self.hold.store(hold, Ordering::Relaxed);
    }

    fn hold(&self) -> Duration {
        match self.hold.load(Ordering::Relaxed) {
            0 => HOLD,
            hold => Duration::from_millis(hold),
        }
    }

    /// The most that were under way and held at once, since this was asked last.
    pub(super) fn peak(&self) -> usize {
        self.peak.swap(self.load(), Ordering::AcqRel).max(self.load())
    }

    /// Returns when something is held, or lost, because nobody is able.
    pub(super) async fn lacking(&self) {
        self.lacking.notified().await;
    }

    fn load(&self) -> usize {
        let under_way = self.read(|inner| {
            inner.all.iter().map(|backend| backend.under_way.load(Ordering::Acquire)).sum::<usize>()
        });
        under_way + self.held.load(Ordering::Acquire)
    }

    fn asked(&self, able: bool) {
        self.peak.fetch_max(self.load().max(1), Ordering::AcqRel);
        if !able {
            self.lacking.notify_one();
        }
    }

    /// The healthy replica with the least under way, of those that were not tried.
    fn pick(&self, tried: &[String]) -> Option<Use> {
        let picked = self.pick_able(tried);
        self.asked(picked.is_some());
        picked
    }

    fn pick_able(&self, tried: &[String]) -> Option<Use> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        self.read(|inner| {
            let able = |backend: &&Arc<Backend>| {
                backend.version == inner.current
                    && backend.healthy.load(Ordering::Acquire)
                    && !tried.contains(&backend.id)
            };
            let able: Vec<_> = inner.all.iter().filter(able).collect();
            let count = able.len();
            // Of several with the same load, another one each time.
            let next = (0..count)
                .map(|n| able[(turn + n) % count])
                .min_by_key(|backend| backend.under_way.load(Ordering::Acquire))?;
            next.under_way.fetch_add(1, Ordering::AcqRel);
            Some(Use(next.clone()))
        })
    }

    /// Whether a replica that was picked would be again.
    fn still_able(&self, chosen: &Use) -> bool {
        self.read(|inner| {
            chosen.0.version == inner.current && inner.all.iter().any(|one| Arc::ptr_eq(one, &chosen.0))
        }) && chosen.0.healthy.load(Ordering::Acquire)
    }

    /// As [`pick`](Self::pick), and waits a while for one.
    async fn pick_or_wait(&self, tried: &[String]) -> Option<Use> {
        if let Some(found) = self.pick(tried) {
            return Some(found);
        }
        let waited = async {
            loop {
                let better = self.better.notified();
                if let Some(found) = self.pick_able(tried) {
                    return found;
                }
                // Not while it is picked: then it would count twice.
                let _held = Held::new(&self.held);
                self.asked(false);
                better.await;
            }
        };
        tokio::time::timeout(self.hold(), waited).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, last)
    }

    #[test]
    fn the_least_loaded_healthy_replica_of_the_current_version_is_taken() {
        let backends = Backends::default();
        let [one, two, old] =
            [("1", "b", 1), ("2", "b", 2), ("3", "a", 3)].map(|(id, v, n)| backends.add(id, v, address(n)));
        backends.set_current("b");
        assert!(backends.pick(&[]).is_none(), "none is healthy");
        for backend in [&one, &two, &old] {
            backends.set_healthy(backend, true);
        }
        let first = backends.pick(&[]).unwrap();
        let second = backends.pick(&[]).unwrap();
        let mut both = [first.address(), second.address()];
        both.sort();
        assert_eq!(both, [address(1), address(2)]);
        drop(first);
        let third = backends.pick(&[]).unwrap();
        assert_ne!(third.address(), second.address(), "the one that has nothing under way");
        assert_eq!(backends.pick(&["1".to_owned()]).unwrap().address(), address(2));
        let both = ["1", "2"].map(str::to_owned);
        assert!(backends.pick(&both).is_none());
        let next = backends.add("4", "b", address(1));
        backends.set_healthy(&next, true);
        assert_eq!(backends.pick(&both).unwrap().id(), "4", "it has the address of one that was tried");
        backends.remove(&next);
        backends.set_current("a");
        assert_eq!(backends.pick(&[]).unwrap().address(), address(3));
        backends.remove(&old);
        assert!(backends.pick(&[]).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_drained_replica_has_nothing_under_way_or_no_more_time() {
        let backends = Backends::default();
        let one = backends.add("1", "a", address(1));
        backends.set_current("a");
        backends.set_healthy(&one, true);
        let under_way = backends.pick(&[]).unwrap();
        let begun = tokio::time::Instant::now();
        one.drained(Duration::from_secs(7)).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(7));
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(under_way);
        });
        one.drained(Duration::from_secs(7)).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(8));
    }
}
