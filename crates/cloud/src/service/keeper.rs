//! Keeps one replica running: starts it, asks whether it is well, and replaces it when it ends or is not.
//!
//! A replica has one container or several, which live and end together: the end of one is the replica's. Its record is
//! committed before they are created, under ids that follow from its own, so a restart finds them whatever happened in
//! between:
//!
//! | killed | record | containers | a restart |
//! |---|---|---|---|
//! | before the record's commit | none | absent | begins anew |
//! | before the last one's start | there | some run, others are absent or unstarted | starts these under the same ids |
//! | while they run | there | running | goes on asking whether they are well |
//! | after the end of one | there | one exited | ends the others, removes all, begins another replica |
//! | while they are removed | there | some absent; the first one, whose network it is, goes last | removes the rest, begins another replica |
//! | after their removal | ended | absent | only the logs are left |
//!
//! Not [ended](Replica::ended) and of a version that was never committed: removed (see [`super::provider`]).

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, future, stream::FuturesUnordered};

use jiff::Timestamp;
use tandem_container::{Container, ContainerError, ContainerId, Exit, Network, Networking, Spec};
use tandem_failpoint::hit;
use tandem_model::{Explain, Urn};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    ServiceError, Shared,
    balance::Backend,
    fleet::Fleet,
    network::Address,
    store::{self, Replica, StackNetwork},
    version::{Member, Version},
};
use crate::{
    capacity::{Claim, Held},
    log, mount,
    program::Tenant,
};

/// How long a replica that is told to end may take, with what it has under way and then to end itself.
const GRACE: Duration = Duration::from_secs(10);
/// The pause before the first restart; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How often it is looked why there is no room.
const LOOK: Duration = Duration::from_millis(200);
/// Who was well for so long has not failed at its start.
const SETTLED: Duration = Duration::from_secs(60);

/// How a replica stands, for everybody who watches.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    pub(super) id: Option<String>,
    pub(super) since: Option<Timestamp>,
    pub(super) healthy: bool,
    /// Starts after the first one.
    pub(super) restarts: u32,
    /// Why there is no room for it.
    pub(super) waits: Option<String>,
    /// Why it is not well, or why the last container ended.
    pub(super) trouble: Option<String>,
    /// The container that ended last, or because of which the others did.
    pub(super) ended: Option<String>,
}

/// One place among the replicas of a version.
pub(super) struct Keeper {
    pub(super) shared: Arc<Shared>,
    pub(super) fleet: Arc<Fleet>,
    pub(super) version: Arc<Version>,
    pub(super) slot: u32,
    pub(super) state: watch::Sender<State>,
    /// This replica is not wanted any more.
    pub(super) retire: CancellationToken,
    /// What it sets aside on the machine.
    pub(super) claim: Claim,
}

/// Why a container is not watched any more.
enum Over {
    /// One of the containers is at fault, for this reason.
    Failed(ContainerId, String),
    Retired,
    Closing,
}

impl Keeper {
    /// Until it is retired, or the cloud closes.
    pub(super) async fn keep(self, found: Option<Replica>) {
        let Some(_room) = self.room().await else { return };
        let mut next = found;
        let mut failures = 0;
        loop {
            let over = match self.replica(next.take()).await {
                Ok((replica, address)) => self.live(&replica, address, &mut failures).await,
                Err(error) => Some(error.report().message),
            };
            let Some(trouble) = over else { return };
            failures += 1;
            self.state.send_modify(|state| {
                state.healthy = false;
                state.restarts += 1;
                state.trouble = Some(trouble);
            });
            let pause = pause(failures);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.retire.cancelled() => return,
                () = self.shared.closing.cancelled() => return,
            }
        }
    }

    /// Waits until there is room, which it holds until it is retired. `None`: it is not wanted any more.
    async fn room(&self) -> Option<Held> {
        let capacity = &self.shared.parts.capacity;
        let taken = capacity.take(self.claim.clone());
        tokio::pin!(taken);
        loop {
            tokio::select! {
                biased;
                room = &mut taken => {
                    self.state.send_modify(|state| state.waits = None);
                    return Some(room);
                }
                () = self.retire.cancelled() => return None,
                () = self.shared.closing.cancelled() => return None,
                () = tokio::time::sleep(LOOK) => {
                    let why = capacity.why(&self.claim.id);
                    self.state.send_modify(|state| state.waits = why);
                }
            }
        }
    }

    /// One container from its start to its removal. Answers why another one is needed; `None` if none is.
    async fn live(&self, replica: &Replica, address: Address, failures: &mut u32) -> Option<String> {
        self.state.send_modify(|state| {
            state.id = Some(replica.id.clone());
            state.since = Some(replica.created);
        });
        let backend = self.fleet.backends.add(&replica.id, &replica.version, replica.address);
        let begun = tokio::time::Instant::now();
        let over = match self.start(replica).await {
            Ok(()) => self.watch(replica, &backend).await,
            Err(error) => Over::Failed(replica.first(), error.report().message),
        };
        self.fleet.backends.set_healthy(&backend, false);
        self.state.send_modify(|state| state.healthy = false);
        let (ended, trouble) = match over {
            Over::Closing => return None,
            Over::Retired => {
                let end = async {
                    backend.drained(GRACE).await;
                    self.end(replica).await;
                };
                self.unless_closing(end).await?;
                (replica.first(), None)
            }
            // The others end with it.
            Over::Failed(container, why) => {
                self.unless_closing(self.end(replica)).await?;
                (container, Some(why))
            }
        };
        self.fleet.backends.remove(&backend);
        self.state.send_modify(|state| {
            state.id = None;
            state.ended = Some(ended.0);
        });
        if begun.elapsed() > SETTLED {
            *failures = 0;
        }
        self.remove(replica).await;
        drop(address);
        if let Some(why) = &trouble {
            self.shared.say(&self.fleet.urn, &replica.id, format!("a replica is replaced: {why}"));
        }
        trouble
    }

    /// A close of the cloud waits for nothing that the next start does as well.
    async fn unless_closing<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.shared.closing.run_until_cancelled(work).await
    }

    /// The record of the container to look after: the one that was found, or a new one.
    async fn replica(&self, found: Option<Replica>) -> Result<(Replica, Address), ServiceError> {
        if let Some(replica) = found {
            let address = self.shared.networks.retake(&replica);
            return Ok((replica, address));
        }
        let network = self.shared.networks.of(&self.fleet.urn.stack).await?;
        let address = self.shared.networks.take(&network)?;
        let replica = Replica {
            id: new_id(),
            others: self.version.members.iter().skip(1).map(|member| member.name.clone()).collect(),
            service: self.fleet.urn.clone(),
            version: self.version.name.clone(),
            slot: self.slot,
            address: address.address,
            created: Timestamp::now(),
            ended: None,
        };
        self.shared.parts.store.commit(store::put(&replica)).await?;
        hit("service.replica.recorded");
        self.shared.tell_log(&replica);
        Ok((replica, address))
    }

    /// Starts those of its containers that do not run and have not ended.
    async fn start(&self, replica: &Replica) -> Result<(), ServiceError> {
        let runtime = &self.shared.parts.runtime;
        let network = self.shared.networks.of(&self.fleet.urn.stack).await?;
        self.shared.reach_cloud(&self.fleet.urn.stack, network.gateway());
        for (id, member) in replica.containers().iter().zip(&self.version.members) {
            let (programs, tenant) = (&self.shared.parts.programs, self.tenant(member, id));
            match runtime.inspect(id).await? {
                Container::Running => {
                    tenant.into_iter().for_each(|tenant| programs.attend(id, tenant));
                    continue;
                }
                Container::Exited(_) => continue,
                Container::Unstarted => runtime.remove(id).await?,
                Container::Absent => {}
            }
            let mut spec = self.spec(member, id, replica, &network);
            mount::recheck(&self.shared.parts.home, &spec.volumes)?;
            if let Some(tenant) = tenant {
                programs.dress(id, &mut spec, tenant).await?;
            }
            runtime.start(id, &spec).await?;
            hit("service.replica.started");
        }
        Ok(())
    }

    /// Who is in a container that runs code of the program. It asks by the container's own name: the next one begins anew.
    fn tenant(&self, member: &Member, id: &ContainerId) -> Option<Tenant> {
        let (of, request) = (self.fleet.urn.clone(), id.0.clone());
        Some(Tenant { of, request, traceparent: None, code: member.code.clone()? })
    }

    fn spec(&self, member: &Member, id: &ContainerId, replica: &Replica, network: &StackNetwork) -> Spec {
        let urn = &self.fleet.urn;
        let mut spec = member.spec.clone();
        spec.environment.extend(self.shared.parts.environment.for_service(urn, network.gateway()));
        spec.environment.extend(member.environment.clone());
        spec.environment.insert("TANDEM_REPLICA".to_owned(), replica.slot.to_string());
        let first = replica.first();
        spec.network = Some(if *id != first {
            Networking::Of(first)
        } else {
            Networking::Own(Network {
                bridge: network.bridge(),
                subnet: network.subnet(),
                gateway: network.gateway(),
                address: replica.address,
                aliases: vec![urn.name.to_string()],
            })
        });
        spec
    }

    /// Until it ends, is not well any more, or is not wanted.
    async fn watch(&self, replica: &Replica, backend: &Backend) -> Over {
        let runtime = &self.shared.parts.runtime;
        let ended = |(id, member): (ContainerId, &'_ Member)| {
            let name = member.name.clone();
            async move {
                let why = match runtime.wait(&id).await {
                    Ok(exit) => told(exit),
                    Err(ContainerError::Absent(_)) => "its container is gone".to_owned(),
                    Err(error) => error.to_string(),
                };
                let why = self.of_container(&name, why);
                (id, why)
            }
        };
        let ended = replica.containers().into_iter().zip(&self.version.members).map(ended);
        let mut ended: FuturesUnordered<_> = ended.collect();
        tokio::select! {
            Some((id, why)) = ended.next() => Over::Failed(id, why),
            (id, why) = self.ask(replica, backend) => Over::Failed(id, why),
            never = self.tend_logs(replica) => never,
            () = self.retire.cancelled() => Over::Retired,
            () = self.shared.closing.cancelled() => Over::Closing,
        }
    }

    /// Keeps the ends of its logs, for as long as it is watched.
    async fn tend_logs(&self, replica: &Replica) -> ! {
        let mut looks = tokio::time::interval(log::TEND);
        loop {
            looks.tick().await;
            for id in replica.containers() {
                log::tend(&self.shared.parts.runtime.log_file(&id), |word| {
                    self.shared.say(&self.fleet.urn, &id.0, word);
                });
            }
        }
    }

    /// What is said of one container, with its name if it is one of several.
    fn of_container(&self, name: &str, why: String) -> String {
        if self.version.members.len() == 1 { why } else { format!("`{name}`: {why}") }
    }

    /// Asks again and again whether its containers are well; returns when one has not been for too long.
    async fn ask(&self, replica: &Replica, backend: &Backend) -> (ContainerId, String) {
        let unwell = AtomicUsize::new(self.version.members.len());
        let ask = async |at: usize, id: ContainerId, name: &str| {
            let why = self.ask_one(at, replica, backend, &unwell).await;
            (id, self.of_container(name, why))
        };
        let members = replica.containers().into_iter().zip(&self.version.members).enumerate();
        let mut asked: FuturesUnordered<_> =
            members.map(|(at, (id, member))| ask(at, id, &member.name)).collect();
        match asked.next().await {
            Some(failed) => failed,
            None => std::future::pending().await,
        }
    }

    /// `unwell`: how many of the replica's containers have not been well yet.
    async fn ask_one(
        &self,
        container: usize,
        replica: &Replica,
        backend: &Backend,
        unwell: &AtomicUsize,
    ) -> String {
        let begun = tokio::time::Instant::now();
        let (mut was_well, mut failures) = (false, 0);
        loop {
            // Set before any replica of the version is kept.
            let Some(check) = self.fleet.check(&self.version.name, container) else {
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            };
            match check.ask(replica.address).await {
                Ok(()) => {
                    if !was_well {
                        unwell.fetch_sub(1, Ordering::AcqRel);
                    }
                    (was_well, failures) = (true, 0);
                    if unwell.load(Ordering::Acquire) == 0 {
                        self.fleet.backends.set_healthy(backend, true);
                        self.state.send_if_modified(|state| {
                            let news = !state.healthy;
                            (state.healthy, state.trouble) = (true, None);
                            news
                        });
                    }
                }
                Err(why) if was_well => {
                    failures += 1;
                    self.state.send_modify(|state| state.trouble = Some(why.clone()));
                    if failures >= check.retries {
                        return format!("it is not well any more: {why}");
                    }
                }
                Err(why) => {
                    self.state.send_modify(|state| state.trouble = Some(why.clone()));
                    if begun.elapsed() > check.start_period {
                        return format!("it was not well within {:?}: {why}", check.start_period);
                    }
                }
            }
            // A start is looked at closely: whoever waits for it waits no longer than it takes.
            let pause = if was_well { check.interval } else { check.interval.min(Duration::from_millis(50)) };
            tokio::time::sleep(pause).await;
        }
    }

    /// Ends all that still runs of it.
    async fn end(&self, replica: &Replica) {
        future::join_all(replica.containers().iter().map(|id| self.end_one(id))).await;
    }

    /// SIGTERM, and after the grace SIGKILL.
    async fn end_one(&self, id: &ContainerId) {
        let runtime = &self.shared.parts.runtime;
        for (signal, all) in [(libc::SIGTERM, false), (libc::SIGKILL, true)] {
            match runtime.signal(id, signal, all).await {
                Ok(()) => {}
                Err(ContainerError::Absent(_)) => return,
                Err(error) => tracing::warn!(container = id.0, signal, %error, "cannot signal a replica"),
            }
            if tokio::time::timeout(GRACE, runtime.wait(id)).await.is_ok() {
                return;
            }
        }
    }

    /// What is left of a container, except its log. What cannot be removed now is removed by the next start.
    async fn remove(&self, replica: &Replica) {
        self.shared.remove(replica).await;
    }
}

impl Shared {
    pub(super) async fn remove(&self, replica: &Replica) {
        // The one whose network it is goes last.
        for container in replica.containers().iter().rev() {
            if let Err(error) = self.parts.runtime.remove(container).await {
                tracing::warn!(container = container.0, %error, "cannot remove what is left of a replica");
                return;
            }
        }
        hit("service.replica.removed");
        let ended = Replica { ended: Some(Timestamp::now()), ..replica.clone() };
        match self.parts.store.commit(store::put(&ended)).await {
            Ok(()) => self.tell_log(&ended),
            Err(error) => {
                tracing::warn!(container = replica.id, %error, "cannot record the end of a replica")
            }
        }
    }

    pub(super) fn say(&self, service: &Urn, id: &str, text: String) {
        self.parts.log.write(log::Line {
            time: Timestamp::now(),
            resource: service.clone(),
            stream: log::Stream::System,
            id: id.to_owned(),
            text,
        });
    }
}

/// `s-` and 80 bits: told from a run's id by its first letter.
fn new_id() -> String {
    let hex = uuid::Uuid::new_v4().simple().to_string();
    // The digit with the version is the same in every id.
    format!("s-{}{}", &hex[..12], &hex[13..21])
}

fn pause(failures: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST_PAUSE)
}

fn told(exit: Exit) -> String {
    match exit {
        Exit::Code { code } => format!("it exited with code {code}"),
        Exit::OutOfMemory { .. } => "it ran out of memory".to_owned(),
        Exit::Lost { .. } => "its monitor is gone".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_half_a_minute() {
        let pauses: Vec<u128> = [1, 2, 3, 9, 10, 1000].map(|n| pause(n).as_millis()).into();
        assert_eq!(pauses, [100, 200, 400, 25_600, 30_000, 30_000]);
    }

    #[test]
    fn no_id_is_that_of_a_run() {
        let id = new_id();
        assert!(id.starts_with("s-") && id.len() == 22, "{id}");
    }
}
