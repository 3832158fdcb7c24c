//! What JavaScript may ask of the process around it: the natives behind the runtime and the SDK.
//!
//! `Shared` is what both sides see. It is filled once, by `Vm::load`; before that, a virtual machine is a spare that
//! knows no program.

use std::{
    cell::RefCell,
    io::Write,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::{FutureExt, future::BoxFuture};
use rquickjs::{Array, Ctx, Function, JsLifetime, Object, Promise, Result, Value, function::Opt};
use serde_json::{Value as Json, json};
use tandem_model::Explain;
use tokio::sync::Notify;

use crate::{
    archive::{Archive, ModuleKind},
    bridge::{Bridge, CallError},
    error::{ProgramError, code},
    modules::{
        builtin, commonjs,
        resolve::{self, Target},
    },
    setup::Phase,
    timers::{Kind, Timers},
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

    pub(crate) fn resolve(&self, from: &str, specifier: &str) -> std::result::Result<Target, ProgramError> {
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

/// Counts one call of the SDK while it is under way.
struct Calling(Arc<Shared>);

impl Calling {
    fn new(shared: &Arc<Shared>) -> Self {
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
fn write(stream: i32, text: &str) {
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

/// The object that `runtime/main.js` is started with.
pub(crate) fn natives<'js>(ctx: &Ctx<'js>, shared: &Arc<Shared>) -> Result<Object<'js>> {
    let host = Object::new(ctx.clone())?;
    calls(ctx, shared, &host)?;
    failures(ctx, shared, &host)?;
    timers(ctx, shared, &host)?;
    modules(ctx, shared, &host)?;
    globals(ctx, &host)?;
    Ok(host)
}

fn calls<'js>(ctx: &Ctx<'js>, shared: &Arc<Shared>, host: &Object<'js>) -> Result<()> {
    let shared = shared.clone();
    let call = move |ctx: Ctx<'js>, method: String, args: String| -> Result<Promise<'js>> {
        let calling = Calling::new(&shared);
        // Asked now and not when the future is first polled: calls keep their order.
        let asked = ask(&shared, method, &args);
        Promise::wrap_future(&ctx, async move {
            let answer = asked.await;
            drop(calling);
            match answer {
                Ok(value) => json!({ "value": value }).to_string(),
                Err(report) => json!({ "error": report }).to_string(),
            }
        })
    };
    host.set("call", Function::new(ctx.clone(), call)?)
}

fn ask(
    shared: &Shared,
    method: String,
    args: &str,
) -> BoxFuture<'static, std::result::Result<Json, CallError>> {
    let refused = |error: ProgramError| std::future::ready(Err(error.report())).boxed();
    match (shared.program(), serde_json::from_str(args)) {
        (Some(program), Ok(args)) => program.bridge.call(method, args),
        (None, _) => refused(ProgramError::new(code::PHASE, format!("{method}: no program is loaded"), "")),
        (_, Err(bad)) => refused(ProgramError::new(code::ARGUMENT, format!("{method}: {bad}"), "")),
    }
}

fn failures<'js>(ctx: &Ctx<'js>, shared: &Arc<Shared>, host: &Object<'js>) -> Result<()> {
    let failing = shared.clone();
    // A place, for failures of a resource: its registration has no user frame on the stack.
    let fail = move |error: Value<'js>, place: Opt<String>| {
        let error = ProgramError::from_value(&error);
        failing.fail(match &place.0 {
            Some(place) => error.at_place(place),
            None => error,
        });
    };
    host.set("fail", Function::new(ctx.clone(), fail)?)?;

    let shared = shared.clone();
    let uncaught = move |error: Value<'js>| shared.uncaught(ProgramError::from_value(&error));
    host.set("uncaught", Function::new(ctx.clone(), uncaught)?)?;

    host.set("write", Function::new(ctx.clone(), |stream: i32, text: String| write(stream, &text))?)?;
    host.set("exit", Function::new(ctx.clone(), exit)?)
}

#[expect(clippy::exit, reason = "`process.exit` of a worker ends the worker, as a program expects")]
fn exit(code: i32) {
    let _ = std::io::stdout().flush();
    std::process::exit(code)
}

fn timers<'js>(ctx: &Ctx<'js>, shared: &Arc<Shared>, host: &Object<'js>) -> Result<()> {
    let of = shared.clone();
    let arm = move |id: u32, milliseconds: f64, kind: String| {
        lock(&of.timers).arm(id, milliseconds, Kind::from_js(&kind));
        of.rearmed.notify_one();
    };
    host.set("arm", Function::new(ctx.clone(), arm)?)?;
    let of = shared.clone();
    let disarm = move |id: u32| lock(&of.timers).disarm(id);
    host.set("disarm", Function::new(ctx.clone(), disarm)?)?;
    let of = shared.clone();
    let set_kind = move |id: u32, kind: String| lock(&of.timers).set_kind(id, Kind::from_js(&kind));
    host.set("setTimerKind", Function::new(ctx.clone(), set_kind)?)
}

fn modules<'js>(ctx: &Ctx<'js>, shared: &Arc<Shared>, host: &Object<'js>) -> Result<()> {
    let of = shared.clone();
    // `[kind, path]`: "commonjs", "esm", "json", "text", "internal" or "builtin".
    let resolve = move |ctx: Ctx<'js>, from: String, specifier: String| -> Result<Array<'js>> {
        let target = of.resolve(&from, &specifier).map_err(|error| commonjs::throw(&ctx, &error))?;
        let (kind, path) = match target {
            Target::Archived(path) => {
                let kind = of.program().and_then(|p| p.archive.modules.get(&path).map(|m| m.kind));
                (kind.map_or("text", kind_name), path)
            }
            Target::Internal(path) => ("internal", path),
            Target::Builtin(name) => ("builtin", name.to_owned()),
        };
        let pair = Array::new(ctx)?;
        pair.set(0, kind)?;
        pair.set(1, path)?;
        Ok(pair)
    };
    host.set("resolve", Function::new(ctx.clone(), resolve)?)?;
    host.set("builtins", resolve::builtins())?;
    commonjs::natives(ctx, shared, host)
}

fn kind_name(kind: ModuleKind) -> &'static str {
    match kind {
        ModuleKind::CommonJs => "commonjs",
        ModuleKind::Esm => "esm",
        ModuleKind::Json => "json",
        ModuleKind::Text => "text",
    }
}

fn globals<'js>(ctx: &Ctx<'js>, host: &Object<'js>) -> Result<()> {
    let groups = Array::new(ctx.clone())?;
    for (index, (names, _)) in builtin::LAZY.iter().enumerate() {
        groups.set(index, names.to_vec())?;
    }
    host.set("lazyGlobals", groups)?;
    let set_up = |ctx: Ctx<'js>, group: usize| -> Result<()> {
        match builtin::LAZY.get(group) {
            Some((_, set_up)) => set_up(&ctx),
            None => Ok(()),
        }
    };
    host.set("setUpGlobals", Function::new(ctx.clone(), set_up)?)
}
