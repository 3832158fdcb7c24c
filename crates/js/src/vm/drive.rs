//! Lets JavaScript run, and notices when it is done, has failed, or can no longer get anywhere.

use std::{
    sync::{Arc, Mutex},
    time::Instant,
};

use rquickjs::{
    Ctx, Function, JsLifetime, Object, Promise,
    function::{IntoArgs, This},
};
use tokio::sync::Notify;

use super::Vm;
use crate::{error::ProgramError, host::lock};

/// The runtime's own module.
#[derive(JsLifetime)]
pub(super) struct Main<'js>(pub(super) Object<'js>);

/// What a promise was settled with, once it is.
#[derive(Default)]
pub(super) struct Outcome {
    slot: Mutex<Option<Result<String, ProgramError>>>,
    settled: Notify,
}

impl Outcome {
    fn settle(&self, result: Result<String, ProgramError>) {
        lock(&self.slot).get_or_insert(result);
        self.settled.notify_one();
    }

    pub(super) fn take(&self) -> Option<Result<String, ProgramError>> {
        lock(&self.slot).take()
    }
}

/// Why the machine stopped to look.
pub(super) enum Rest {
    Settled,
    /// Nothing that is awaited can happen any more.
    Quiet,
    Failed,
}

impl Vm {
    /// Calls an async function of the runtime.
    pub(super) async fn start<A>(&self, name: &'static str, args: A) -> Result<Arc<Outcome>, ProgramError>
    where
        A: for<'js> IntoArgs<'js> + Send,
    {
        let outcome = Arc::new(Outcome::default());
        let told = outcome.clone();
        self.context
            .with(move |ctx| {
                let started = function(&ctx, name)
                    .and_then(|function| function.call(args))
                    .and_then(|promise| watch(&ctx, &promise, told));
                started.map_err(|error| ProgramError::caught(&ctx, error))
            })
            .await
            .map_err(|error| self.explained(error))?;
        Ok(outcome)
    }

    /// Lets JavaScript run until the outcome is there, a failure ends the deployment, or nothing can move any more.
    pub(super) async fn rest(&self, outcome: Option<&Outcome>, intervals_count: bool) -> Rest {
        loop {
            let next = lock(&self.shared.timers).next();
            tokio::select! {
                biased;
                () = settled(outcome) => return Rest::Settled,
                () = self.shared.failed.notified() => {
                    if self.shared.failure().is_some() {
                        return Rest::Failed;
                    }
                }
                () = self.runtime.idle() => {
                    if outcome.is_some_and(|o| lock(&o.slot).is_some()) {
                        return Rest::Settled;
                    }
                    if self.shared.failure().is_some() {
                        return Rest::Failed;
                    }
                    let timers = { let timers = lock(&self.shared.timers); timers.next().filter(|_| timers.hold_up(intervals_count)) };
                    let Some(due) = timers else { return Rest::Quiet };
                    tokio::time::sleep_until(due.into()).await;
                    self.fire().await;
                }
                () = self.shared.rearmed.notified() => {}
                () = due(next) => self.fire().await,
            }
        }
    }

    /// Calls the timers that are due, each followed by the promise jobs it caused, as Node has it.
    async fn fire(&self) {
        let now = Instant::now();
        loop {
            let Some(id) = lock(&self.shared.timers).take_due(now) else { return };
            let shared = self.shared.clone();
            self.context
                .with(move |ctx| {
                    let fired = function(&ctx, "fire").and_then(|fire| fire.call::<_, ()>((id,)));
                    if let Err(error) = fired {
                        shared.uncaught(ProgramError::caught(&ctx, error));
                    }
                    while ctx.execute_pending_job() {}
                })
                .await;
        }
    }
}

async fn settled(outcome: Option<&Outcome>) {
    match outcome {
        Some(outcome) => outcome.settled.notified().await,
        None => std::future::pending().await,
    }
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// A function of `runtime/main.js`.
pub(super) fn function<'js>(ctx: &Ctx<'js>, name: &str) -> rquickjs::Result<Function<'js>> {
    match ctx.userdata::<Main<'js>>() {
        Some(main) => main.0.get(name),
        None => Err(rquickjs::Error::Unknown),
    }
}

/// Tells an outcome when a promise is settled.
fn watch<'js>(ctx: &Ctx<'js>, promise: &Promise<'js>, outcome: Arc<Outcome>) -> rquickjs::Result<()> {
    let refused = outcome.clone();
    let resolved = move |value: rquickjs::Value<'js>| {
        let text = value.as_string().and_then(|text| text.to_string().ok()).unwrap_or_default();
        outcome.settle(Ok(text));
    };
    let rejected = move |reason: rquickjs::Value<'js>| refused.settle(Err(ProgramError::from_value(&reason)));
    let resolved = Function::new(ctx.clone(), resolved)?;
    let rejected = Function::new(ctx.clone(), rejected)?;
    promise.then()?.call((This(promise.clone()), resolved, rejected))
}
