//! What a virtual machine and its natives share: the program, its timers, its failures.
//!
//! [`Shared`] is filled once, by `Vm::load`; before that, a virtual machine is a spare that knows no program.

use std::{
    cell::RefCell,
    io::Write,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use rquickjs::{Ctx, JsLifetime, Value};
use tokio::sync::Notify;

use crate::{
    archive::Archive,
    bridge::Bridge,
    error::{ProgramError, code},
    modules::resolve::{self, Target},
    setup::Phase,
    timers::Timers,
};

/// The one program of a virtual machine.
#[derive(Clone)]
pub(crate) struct Program {
    pub(crate) archive: Arc<Archive>,
    pub(crate) bridge: Arc<dyn Bridge>,
    pub(crate) phase: Phase,
}

/// What the virtual machine and its natives share.
#[derive(Default)]
pub(crate) struct Shared {
    program: Mutex<Option<Program>>,
    pub(crate) timers: Mutex<Timers>,
    /// Told when a timer was armed: the one waited for may no longer be the next.
    pub(crate) rearmed: Notify,
    /// The first failure of the deploy phase. Later ones are its consequences.
    failure: Mutex<Option<ProgramError>>,
    calls: AtomicUsize,
    /// Told when a failure is recorded and no call is under way.
    pub(crate) failed: Notify,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Gives the machine its program. False if it has one.
    pub(crate) fn fill(&self, program: Program) -> bool {
        let mut slot = lock(&self.program);
        let empty = slot.is_none();
        if empty {
            *slot = Some(program);
        }
        empty
    }

    pub(crate) fn program(&self) -> Option<Program> {
        lock(&self.program).clone()
    }

    pub(crate) fn resolve(&self, from: &str, specifier: &str) -> Result<Target, ProgramError> {
        match self.program() {
            Some(program) => resolve::resolve(&program.archive, from, specifier),
            None => Err(ProgramError::new(code::NO_MODULE, "no program is loaded", "")),
        }
    }

    /// Records a failure that the deploy phase ends with.
    pub(crate) fn fail(&self, error: ProgramError) {
        lock(&self.failure).get_or_insert(error);
        self.tell_failed();
    }

    /// The failure, once no call is under way.
    pub(crate) fn failure(&self) -> Option<ProgramError> {
        let failure = lock(&self.failure).clone()?;
        (self.calls.load(Ordering::SeqCst) == 0).then_some(failure)
    }

    fn tell_failed(&self) {
        if self.failure().is_some() {
            self.failed.notify_one();
        }
    }

    /// An error that nothing in the program catches: it ends a deployment, and is a line on stderr in a worker.
    pub(crate) fn uncaught(&self, error: ProgramError) {
        let program = self.program();
        let error = match &program {
            Some(program) => error.with_source(&program.archive),
            None => error,
        };
        match program.map(|p| p.phase) {
            Some(Phase::Run) => {
                let mut text = format!("uncaught {error}");
                for frame in error.stack.iter().filter(|frame| frame.is_user()) {
                    text.push_str(&format!("\n    at {} ({frame})", frame.function));
                }
                text.push('\n');
                write(2, &text);
            }
            _ => self.fail(error),
        }
    }
}

/// The way from a context to what is shared, for callbacks that get nothing else.
#[derive(JsLifetime)]
pub(crate) struct Handle(pub(crate) Arc<Shared>);

/// Hears of failures in LLRT's background work: a socket's, a stream's.
pub(crate) fn hear_background_failures() {
    llrt_context::set_spawn_error_handler(|ctx, error| {
        let value = match error {
            rquickjs::CaughtError::Exception(exception) => exception.into_object().into_value(),
            rquickjs::CaughtError::Value(value) => value,
            rquickjs::CaughtError::Error(error) => {
                let error = ProgramError::caught(ctx, error);
                return uncaught_in(ctx, error);
            }
        };
        uncaught_in(ctx, ProgramError::from_value(&value));
    });
}

fn uncaught_in(ctx: &Ctx<'_>, error: ProgramError) {
    if let Some(handle) = ctx.userdata::<Handle>() {
        handle.0.uncaught(error);
    }
}

/// Counts one call of the SDK while it is under way.
pub(crate) struct Calling(Arc<Shared>);

impl Calling {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        shared.calls.fetch_add(1, Ordering::SeqCst);
        Self(shared.clone())
    }
}

impl Drop for Calling {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::SeqCst);
        self.0.tell_failed();
    }
}

/// Writes a text to stdout (1) or stderr (2) at once. Whoever reads may be gone: then there is nobody to tell.
pub(crate) fn write(stream: i32, text: &str) {
    if stream == 1 {
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    } else {
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }
}

/// The promises that were rejected with nobody listening, with their reasons.
#[derive(Default, JsLifetime)]
pub(crate) struct Rejections<'js>(RefCell<Vec<Rejection<'js>>>);

#[derive(JsLifetime)]
struct Rejection<'js> {
    promise: Value<'js>,
    reason: Value<'js>,
}

impl<'js> Rejections<'js> {
    /// What QuickJS tells about a promise; `handled` if somebody listens after all.
    ///
    /// A module that throws rejects two promises with one reason, one of which nobody can see: hearing one is hearing
    /// both.
    pub(crate) fn note(&self, promise: Value<'js>, reason: Value<'js>, handled: bool) {
        let mut open = self.0.borrow_mut();
        if handled {
            open.retain(|known| known.promise != promise && known.reason != reason);
        } else {
            open.push(Rejection { promise, reason });
        }
    }

    /// Takes the reasons that nobody listens to.
    pub(crate) fn take(&self) -> Vec<ProgramError> {
        self.0.take().into_iter().map(|open| ProgramError::from_value(&open.reason)).collect()
    }
}
