//! One service as it runs: its replicas, and the ports that lead to them.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::ErrorKind,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures::{
    FutureExt,
    future::{self, BoxFuture},
};
use tandem_model::{
    Urn,
    inputs::{self, Port, Protocol},
};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    ServiceError, Shared,
    balance::{Backends, Listener, occupant},
    health::Check,
    keeper::{Keeper, State},
    room, scale,
    store::Replica,
    version::Version,
};
use crate::capacity::{Capacity, Claim, Room};

/// So many restarts before it was ever well, and a new version is given up.
const ATTEMPTS: u32 = 3;
/// How long a port that was ours may take to be free.
const CLOSING: Duration = Duration::from_secs(1);
/// Beyond the start period, for the start itself.
const MARGIN: Duration = Duration::from_secs(15);

/// One service. Lives as long as it is deployed.
#[derive(Debug)]
pub(super) struct Fleet {
    pub(super) urn: Urn,
    pub(super) backends: Arc<Backends>,
    slots: Mutex<BTreeMap<(String, u32), Slot>>,
    /// Let go, and perhaps not gone yet.
    leaving: Mutex<Vec<Leaving>>,
    /// By version, one for each of its containers.
    checks: Mutex<BTreeMap<String, Vec<Check>>>,
    /// The version that the record says, once it is known.
    deployed: Mutex<String>,
    /// How many replicas the load needs, if their number follows it.
    scaled: AtomicU32,
    /// So many stay while a change is prepared, whatever the load.
    floor: AtomicU32,
    /// Ends what follows the load.
    following: Mutex<Option<DropGuard>>,
    listeners: Mutex<Vec<Listener>>,
}

/// The end of a replica, for all who wait for it.
type Leaving = future::Shared<BoxFuture<'static, ()>>;

#[derive(Debug)]
struct Slot {
    state: watch::Receiver<State>,
    retire: CancellationToken,
    keeping: JoinHandle<()>,
    claim: Claim,
    version: Arc<Version>,
}

impl Fleet {
    pub(super) fn new(urn: Urn) -> Self {
        Self {
            urn,
            backends: Arc::default(),
            slots: Mutex::default(),
            leaving: Mutex::default(),
            checks: Mutex::default(),
            deployed: Mutex::default(),
            scaled: AtomicU32::new(0),
            floor: AtomicU32::new(0),
            following: Mutex::default(),
            listeners: Mutex::default(),
        }
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<(String, u32), Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listeners(&self) -> MutexGuard<'_, Vec<Listener>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn checks(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Check>>> {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a container of a version is asked. Another version's is none of its business.
    pub(super) fn check(&self, version: &str, container: usize) -> Option<Check> {
        self.checks().get(version)?.get(container).cloned()
    }

    pub(super) fn set_checks(&self, version: &str, service: &inputs::Service) {
        let mut kept: BTreeSet<String> = self.slots().keys().map(|(name, _)| name.clone()).collect();
        // It may have no replica at the moment, and be woken at any.
        kept.insert(self.deployed());
        let mut checks = self.checks();
        checks.retain(|name, _| kept.contains(name));
        checks.insert(version.to_owned(), service.containers.values().map(Check::of).collect());
    }

    /// How many replicas there should be at this moment.
    pub(super) fn count(&self, service: &inputs::Service) -> u32 {
        match &service.autoscale {
            None => service.replicas,
            Some(bounds) => self.scaled().clamp(bounds.min, bounds.max),
        }
    }

    pub(super) fn scaled(&self) -> u32 {
        self.scaled.load(Ordering::Acquire)
    }

    pub(super) fn set_scaled(&self, count: u32) {
        self.scaled.store(count, Ordering::Release);
    }

    /// Has the number of replicas follow the load, if it is to; whoever followed before ends.
    pub(super) fn follow(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        version: &Arc<Version>,
        service: &inputs::Service,
    ) {
        let patience = service.autoscale.as_ref().map(|_| self.patience(&version.name));
        self.backends.set_hold(patience);
        let following = service.autoscale.clone().map(|bounds| {
            let stop = shared.closing.child_token();
            let (shared, fleet, version) = (shared.clone(), self.clone(), version.clone());
            let tracker = shared.tracker.clone();
            tracker.spawn(scale::follow(shared, fleet, version, bounds, stop.clone()));
            stop.drop_guard()
        });
        *self.following.lock().unwrap_or_else(PoisonError::into_inner) = following;
    }

    /// Starts so many replicas of a version, and keeps them until [`begun`](Self::begun), though nobody asks for them.
    pub(super) fn begin(self: &Arc<Self>, shared: &Arc<Shared>, version: &Arc<Version>, count: u32) {
        let _following = self.following.lock().unwrap_or_else(PoisonError::into_inner);
        self.floor.store(count, Ordering::Release);
        self.keep(shared, version, count, Vec::new());
    }

    /// The change that was prepared happens, or does not.
    pub(super) fn begun(&self) {
        self.floor.store(0, Ordering::Release);
    }

    /// From here on nobody changes the number of replicas.
    pub(super) fn stop_following(&self) {
        *self.following.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Sees to it that there are so many replicas of a version, unless nobody follows its load any more.
    pub(super) fn scale(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        version: &Arc<Version>,
        count: u32,
        stop: &CancellationToken,
    ) {
        // Whoever stops it holds this, and goes on when we are done.
        let _following = self.following.lock().unwrap_or_else(PoisonError::into_inner);
        if stop.is_cancelled() {
            return;
        }
        let count = count.max(self.floor.load(Ordering::Acquire));
        if self.scaled() != count {
            tracing::debug!(service = %self.urn, count, "another number of replicas");
            self.set_scaled(count);
        }
        self.keep(shared, version, count, Vec::new());
        let name = &version.name;
        self.let_go_where(&mut self.slots(), |(of, slot)| of == name && *slot >= count);
    }

    /// How long a replica of a version may take to become healthy.
    fn patience(&self, version: &str) -> Duration {
        let longest = self.checks().get(version).into_iter().flatten().map(|check| check.start_period).max();
        longest.unwrap_or_default() + MARGIN
    }

    /// The images that its replicas are of, also while one of them is to be started again.
    pub(super) fn images(&self) -> BTreeSet<String> {
        let slots = self.slots();
        let members = slots.values().flat_map(|slot| &slot.version.members);
        members.map(|member| member.spec.image.clone()).collect()
    }

    /// How each replica of a version stands, in order; of all versions without one.
    pub(super) fn states(&self, version: Option<&str>) -> Vec<(String, u32, State)> {
        let of = |name: &str| version.is_none_or(|version| version == name);
        let slots = self.slots();
        let all = slots.iter().filter(|((name, _), _)| of(name));
        all.map(|((name, slot), kept)| (name.clone(), *slot, kept.state.borrow().clone())).collect()
    }

    /// How many replicas of a version are kept.
    pub(super) fn kept(&self, version: &str) -> u32 {
        self.slots().keys().filter(|(name, _)| name == version).map(|(_, slot)| slot + 1).max().unwrap_or(0)
    }

    /// Sees to it that so many replicas of a version are kept. `found`: containers that are there already.
    pub(super) fn keep(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        version: &Arc<Version>,
        count: u32,
        mut found: Vec<Replica>,
    ) {
        let (mut slots, needs) = (self.slots(), version.needs);
        for slot in 0..count {
            let key = (version.name.clone(), slot);
            if let Some(kept) = slots.get(&key).filter(|slot| !slot.retire.is_cancelled()) {
                shared.parts.capacity.resize(Claim { needs, ..kept.claim.clone() });
                continue;
            }
            let at = found.iter().position(|replica| replica.slot == slot);
            let replica = at.map(|at| found.swap_remove(at));
            let (state, watched) = watch::channel(State::default());
            let retire = CancellationToken::new();
            let claim = room::claim(&self.urn, needs, version.devices.clone(), slot, replica.as_ref());
            let keeper = Keeper {
                shared: shared.clone(),
                fleet: self.clone(),
                version: version.clone(),
                slot,
                state,
                retire: retire.clone(),
                claim: claim.clone(),
            };
            let keeping = shared.tracker.spawn(keeper.keep(replica));
            slots.insert(key, Slot { state: watched, retire, keeping, claim, version: version.clone() });
        }
    }

    /// Sets aside so much for each replica that there is.
    pub(super) fn resize(&self, capacity: &Capacity, needs: Room) {
        for slot in self.slots().values() {
            capacity.resize(Claim { needs, ..slot.claim.clone() });
        }
    }

    /// Waits until all that were let go are gone.
    pub(super) async fn gone(&self) {
        let leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner).clone();
        future::join_all(leaving).await;
    }

    /// Lets everything go but the first `count` replicas of the version that serves. Does not wait.
    pub(super) fn let_go_of_others(&self, count: u32) {
        let current = self.backends.current();
        // One that was committed and not waited for is still on its way.
        let deployed = self.deployed();
        self.let_go_where(&mut self.slots(), |(name, slot)| {
            *name != current && *name != deployed || *slot >= count
        });
    }

    pub(super) fn deployed(&self) -> String {
        self.deployed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_deployed(&self, version: &str) {
        version.clone_into(&mut self.deployed.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Lets replicas go that are not among the first `count` of this version: of others, and beyond. Does not wait.
    pub(super) fn let_go(&self, version: Option<&str>, count: u32) {
        self.let_go_where(&mut self.slots(), |(name, slot)| version != Some(name.as_str()) || *slot >= count);
    }

    fn let_go_where(&self, slots: &mut BTreeMap<(String, u32), Slot>, goes: impl Fn(&(String, u32)) -> bool) {
        let keys: Vec<_> = slots.keys().filter(|key| goes(key)).cloned().collect();
        let gone: Vec<Slot> = keys.iter().filter_map(|key| slots.remove(key)).collect();
        gone.iter().for_each(|slot| slot.retire.cancel());
        let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        leaving.retain(|leaving| leaving.peek().is_none());
        // One that panicked is told by the panic.
        leaving.extend(gone.into_iter().map(|slot| slot.keeping.map(drop).boxed().shared()));
    }

    /// Lets a version serve with so many replicas, and the former ones go; nothing if it was let go itself meanwhile. At
    /// once: two versions that become well at the same moment take over one after the other.
    pub(super) fn take_over(&self, version: &str, count: u32, former: &[String]) {
        let mut slots = self.slots();
        if slots.keys().any(|(name, _)| name == version) {
            self.backends.set_current(version);
            let goes =
                |(name, slot): &(String, u32)| former.contains(name) || name == version && *slot >= count;
            self.let_go_where(&mut slots, goes);
        }
    }

    pub(super) fn listens_on(&self, port: &Port) -> bool {
        self.listeners().iter().any(|listener| listener.port.place() == port.place())
    }

    /// Waits until so many replicas of a version are well.
    ///
    /// # Errors
    /// [`ServiceError::Unhealthy`] if one is not in time, or ended again and again.
    pub(super) async fn healthy(&self, version: &str, count: u32) -> Result<(), ServiceError> {
        let patience = self.patience(version);
        let watched: Vec<_> = {
            let slots = self.slots();
            let of = (0..count).filter_map(|slot| slots.get(&(version.to_owned(), slot)));
            of.map(|slot| slot.state.clone()).collect()
        };
        if watched.len() < count as usize {
            let reason = "another change took its place".to_owned();
            return Err(ServiceError::Unhealthy {
                service: self.urn.clone().into(),
                reason,
                tail: Vec::new(),
            });
        }
        for (slot, mut state) in watched.into_iter().enumerate() {
            let settled = async {
                let settled = state.wait_for(|state| state.healthy || state.restarts >= ATTEMPTS).await;
                settled.map(|state| (!state.healthy).then(|| state.trouble.clone().unwrap_or_default()))
            };
            let reason = match tokio::time::timeout(patience, settled).await {
                Ok(Ok(None)) => continue,
                Ok(Ok(Some(trouble))) => trouble,
                // The cloud closes.
                Ok(Err(_)) => "its start was given up".to_owned(),
                Err(_) if state.borrow().waits.is_some() => {
                    let why = state.borrow().waits.clone().unwrap_or_default();
                    let reason = format!("replica {slot}: {why}, after {patience:?}");
                    return Err(ServiceError::NoRoom { service: self.urn.clone().into(), reason });
                }
                Err(_) => {
                    let why = state.borrow().trouble.clone().unwrap_or_else(|| "it does not start".into());
                    format!("{why}, after {patience:?}")
                }
            };
            return Err(ServiceError::Unhealthy {
                service: self.urn.clone().into(),
                reason: format!("replica {slot}: {reason}"),
                tail: Vec::new(),
            });
        }
        Ok(())
    }

    /// Listens on what is not listened on yet. On an error nothing changes.
    ///
    /// # Errors
    /// [`ServiceError::Port`] names the port that cannot be had.
    pub(super) fn listen<'a>(&self, ports: impl Iterator<Item = &'a Port>) -> Result<(), ServiceError> {
        let mut listeners = self.listeners();
        let mut new = Vec::new();
        for port in ports {
            if listeners.iter().any(|listener| listener.port == *port) {
                continue;
            }
            // The same port, to another place in the container: the old one gives way when the change is true.
            if listeners.iter().any(|listener| listener.port.place() == port.place()) {
                continue;
            }
            new.push(Listener::open(port, self.backends.clone()).map_err(|source| {
                ServiceError::Port {
                    service: self.urn.clone().into(),
                    port: port.port,
                    by: (source.kind() == ErrorKind::AddrInUse && port.protocol != Protocol::Udp)
                        .then(|| occupant(port.port))
                        .flatten(),
                    source,
                }
            })?);
        }
        listeners.append(&mut new);
        Ok(())
    }

    /// As [`listen`](Self::listen), just after ports were closed: one that leads elsewhere now is free in a moment.
    ///
    /// # Errors
    /// As of [`listen`](Self::listen).
    pub(super) async fn listen_anew(&self, service: &inputs::Service) -> Result<(), ServiceError> {
        let begun = tokio::time::Instant::now();
        loop {
            match self.listen(service.ports()) {
                Err(ServiceError::Port { source, .. })
                    if source.kind() == ErrorKind::AddrInUse && begun.elapsed() < CLOSING =>
                {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                listening => return listening,
            }
        }
    }

    /// Closes what is not among these.
    pub(super) fn listen_only<'a>(&self, ports: impl Iterator<Item = &'a Port>) {
        let ports: Vec<&Port> = ports.collect();
        self.listeners().retain(|listener| ports.contains(&&listener.port));
    }
}
