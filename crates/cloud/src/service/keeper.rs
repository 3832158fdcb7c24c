//! Keeps one replica running: starts it, asks whether it is well, and replaces it when it ends or is not.
//!
//! A replica's record is committed before its container is created, under the container's own id, so a restart finds it
//! whatever happened in between:
//!
//! | killed | record | container | a restart |
//! |---|---|---|---|
//! | before the record's commit | none | absent | begins anew |
//! | before the container's start | there | absent, or unstarted | starts it under the same id |
//! | while it runs | there | running | goes on asking whether it is well |
//! | after its end | there | exited | removes it, begins another one |
//! | after that one's removal | ended | absent | only its log is left |
//!
//! Not [ended](Replica::ended) and of a version that was never committed: removed (see [`super::provider`]).

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tandem_container::{Container, ContainerError, Exit, Network, Spec};
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
    version::Version,
};

/// How long a replica that is told to end may take, with what it has under way and then to end itself.
const GRACE: Duration = Duration::from_secs(10);
/// The pause before the first restart; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
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
    /// Why it is not well, or why the last container ended.
    pub(super) trouble: Option<String>,
    /// Of the container that ended last.
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
}

/// Why a container is not watched any more.
enum Over {
    Ended(String),
    Unwell(String),
    Retired,
    Closing,
}

impl Keeper {
    /// Until it is retired, or the cloud closes.
    pub(super) async fn keep(self, found: Option<Replica>) {
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
            Err(error) => Over::Ended(error.report().message),
        };
        self.fleet.backends.set_healthy(&backend, false);
        self.state.send_modify(|state| state.healthy = false);
        let trouble = match over {
            Over::Closing => return None,
            Over::Retired => {
                let end = async {
                    backend.drained(GRACE).await;
                    self.end(replica).await;
                };
                self.unless_closing(end).await?;
                None
            }
            Over::Unwell(why) => {
                self.unless_closing(self.end(replica)).await?;
                Some(why)
            }
            Over::Ended(why) => Some(why),
        };
        self.fleet.backends.remove(&backend);
        self.state.send_modify(|state| {
            state.id = None;
            state.ended = Some(replica.id.clone());
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

    async fn start(&self, replica: &Replica) -> Result<(), ServiceError> {
        let runtime = &self.shared.parts.runtime;
        let id = replica.container();
        let network = self.shared.networks.of(&self.fleet.urn.stack).await?;
        self.shared.reach_cloud(&self.fleet.urn.stack, network.gateway());
        match runtime.inspect(&id).await? {
            Container::Running | Container::Exited(_) => return Ok(()),
            Container::Unstarted => runtime.remove(&id).await?,
            Container::Absent => {}
        }
        let spec = self.spec(replica, &network);
        runtime.start(&id, &spec).await?;
        hit("service.replica.started");
        Ok(())
    }

    fn spec(&self, replica: &Replica, network: &StackNetwork) -> Spec {
        let urn = &self.fleet.urn;
        let mut spec = self.version.spec.clone();
        spec.environment.extend(self.shared.parts.environment.for_service(urn, network.gateway()));
        spec.environment.extend(self.version.environment.clone());
        spec.environment.insert("TANDEM_REPLICA".to_owned(), replica.slot.to_string());
        spec.network = Some(Network {
            bridge: network.bridge(),
            subnet: network.subnet(),
            gateway: network.gateway(),
            address: replica.address,
            aliases: vec![urn.name.to_string()],
        });
        spec
    }

    /// Until it ends, is not well any more, or is not wanted.
    async fn watch(&self, replica: &Replica, backend: &Backend) -> Over {
        let id = replica.container();
        let runtime = self.shared.parts.runtime.clone();
        let ended = async {
            match runtime.wait(&id).await {
                Ok(exit) => told(exit),
                Err(ContainerError::Absent(_)) => "its container is gone".to_owned(),
                Err(error) => error.to_string(),
            }
        };
        tokio::select! {
            why = ended => Over::Ended(why),
            why = self.ask(replica, backend) => Over::Unwell(why),
            () = self.retire.cancelled() => Over::Retired,
            () = self.shared.closing.cancelled() => Over::Closing,
        }
    }

    /// Asks again and again whether it is well; returns when it has not been for too long.
    async fn ask(&self, replica: &Replica, backend: &Backend) -> String {
        let begun = tokio::time::Instant::now();
        let (mut was_well, mut failures) = (false, 0);
        loop {
            let check = self.fleet.check();
            match check.ask(replica.address).await {
                Ok(()) => {
                    (was_well, failures) = (true, 0);
                    self.fleet.backends.set_healthy(backend, true);
                    self.state.send_if_modified(|state| {
                        let news = !state.healthy;
                        (state.healthy, state.trouble) = (true, None);
                        news
                    });
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

    /// SIGTERM, and after the grace SIGKILL.
    async fn end(&self, replica: &Replica) {
        let runtime = &self.shared.parts.runtime;
        let id = replica.container();
        for (signal, all) in [(libc::SIGTERM, false), (libc::SIGKILL, true)] {
            match runtime.signal(&id, signal, all).await {
                Ok(()) => {}
                Err(ContainerError::Absent(_)) => return,
                Err(error) => tracing::warn!(container = id.0, signal, %error, "cannot signal a replica"),
            }
            if tokio::time::timeout(GRACE, runtime.wait(&id)).await.is_ok() {
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
        if let Err(error) = self.parts.runtime.remove(&replica.container()).await {
            tracing::warn!(container = replica.id, %error, "cannot remove what is left of a replica");
            return;
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
        self.parts.log.write(crate::log::Line {
            time: Timestamp::now(),
            resource: service.clone(),
            stream: crate::log::Stream::System,
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
