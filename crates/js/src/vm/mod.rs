//! One virtual machine: a runtime, the SDK, and at most one program.
//!
//! A machine does everything on the task that calls it, so it needs no `LocalSet` and no other thread: JavaScript runs
//! while one of its methods is awaited, and only then. Methods called at once take turns.

use std::{
    sync::{Arc, Mutex},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

mod drive;

use drive::{Main, Outcome, Rest, function};
use futures::FutureExt;
use rquickjs::{AsyncContext, AsyncRuntime, Ctx, Function, Module};
use serde_json::{Value, json};
use tandem_model::ByteSize;

use crate::{
    archive::Archive,
    bridge::Bridge,
    error::{ProgramError, VmError, code},
    host::{self, Handle, Program, Rejections, Shared, lock},
    modules::{
        builtin,
        loader::{ArchiveLoader, ArchiveResolver},
    },
    natives, sdk,
    setup::{InvokeContext, Phase, Setup},
};

/// The stack that JavaScript may use. A thread of tokio's has 2 MiB, of which native frames need their share.
const STACK: usize = 768 * 1024;
/// The heap that a program may use until an invocation says otherwise.
const HEAP: usize = 1024 * 1024 * 1024;
/// Garbage is looked for whenever this much was allocated.
const GC_THRESHOLD: usize = 20 * 1024 * 1024;

/// The heap of a worker that may use `memory` in all: an eighth is for the process, its stacks and its buffers.
fn heap_of(memory: ByteSize) -> usize {
    usize::try_from(memory.bytes() / 8 * 7).unwrap_or(HEAP)
}

/// A JavaScript machine: what a spare worker holds is one without a program.
///
/// Not to be shared between programs. Its methods may be called from any thread, on any tokio runtime with its timer
/// enabled.
pub struct Vm {
    context: AsyncContext,
    runtime: AsyncRuntime,
    shared: Arc<Shared>,
    /// When the invocation under way is given up; the interrupt handler reads it.
    deadline: Arc<Mutex<Option<Instant>>>,
}

impl Vm {
    /// A machine with the runtime and the SDK, and no program.
    ///
    /// # Errors
    /// [`VmError`] if memory is too short for it.
    pub async fn new() -> Result<Self, VmError> {
        let refused = |error: rquickjs::Error| VmError { reason: error.to_string() };
        let runtime = AsyncRuntime::new().map_err(refused)?;
        runtime.set_max_stack_size(STACK).await;
        runtime.set_memory_limit(HEAP).await;
        runtime.set_gc_threshold(GC_THRESHOLD).await;
        let shared = Arc::new(Shared::default());
        runtime.set_loader(ArchiveResolver(shared.clone()), ArchiveLoader(shared.clone())).await;
        runtime.set_host_promise_rejection_tracker(Some(Box::new(note_rejection))).await;
        let deadline = Arc::<Mutex<Option<Instant>>>::default();
        let until = deadline.clone();
        let passed = move || lock(&until).is_some_and(|at| Instant::now() >= at);
        runtime.set_interrupt_handler(Some(Box::new(passed))).await;
        let context = AsyncContext::full(&runtime).await.map_err(refused)?;
        let natives = shared.clone();
        context
            .with(move |ctx| {
                prepare(&ctx, &natives)
                    .map_err(|error| VmError { reason: ProgramError::caught(&ctx, error).to_string() })
            })
            .await?;
        Ok(Self { context, runtime, shared, deadline })
    }

    /// The same as [`Vm::new`], outside of any async runtime.
    ///
    /// For a process with one thread that makes a machine once and then forks: each child goes on with its copy, and
    /// is spared the start. A copy draws random numbers of its own from [`Vm::load`] on.
    ///
    /// # Errors
    /// [`VmError`] if memory is too short for it.
    pub fn template() -> Result<Self, VmError> {
        let waited = || VmError { reason: "its start waits for something".to_owned() };
        Self::new().now_or_never().unwrap_or_else(|| Err(waited()))
    }

    /// Makes the memory of a copy of a [`Vm::template`] its own, ahead of time: what a spare does while it waits.
    ///
    /// Copies share their pages until one of them writes. Loading a program writes to most of them; looking for garbage
    /// does so too.
    pub async fn settle_in(&self) {
        self.runtime.run_gc().await;
    }

    /// Loads a program: evaluates its entry module, with what that awaits at its top level.
    ///
    /// # Errors
    /// What the program threw, or that it awaits something that never comes. E0507 if the machine has a program.
    pub async fn load(
        &self,
        archive: Arc<Archive>,
        setup: Setup,
        bridge: Arc<dyn Bridge>,
    ) -> Result<(), ProgramError> {
        let entry = archive.entry.clone();
        let phase = setup.phase;
        if !self.shared.fill(Program { archive, bridge, phase }) {
            return Err(ProgramError::new(code::PHASE, "this machine has a program already", ""));
        }
        let setup =
            serde_json::to_string(&setup).map_err(|e| ProgramError::new(code::PHASE, e.to_string(), ""))?;
        let outcome = self.start("load", (setup, entry)).await?;
        loop {
            match self.rest(Some(&outcome), true).await {
                Rest::Settled => {
                    self.settled(&outcome)?;
                    return self.unheard(phase).await;
                }
                Rest::Failed => return Err(self.failure()),
                // Its top level may await the output of a function, which waits for the top level to end.
                Rest::Quiet if phase == Phase::Deploy && self.advance().await? => {}
                Rest::Quiet => {
                    self.unheard(phase).await?;
                    return Err(never("the program's top level awaits a promise that never settles"));
                }
            }
        }
    }

    /// Deploy phase, after [`Vm::load`]: waits until everything is registered, and answers the stack's outputs, with
    /// the markers of [`tandem_model::value`].
    ///
    /// # Errors
    /// The first failure: of a registration, of an `apply`, of a promise that nobody listens to.
    pub async fn finish_deploy(&self) -> Result<Value, ProgramError> {
        loop {
            if let Rest::Failed = self.rest(None, false).await {
                return Err(self.failure());
            }
            self.unheard(Phase::Deploy).await?;
            if !self.advance().await? {
                break;
            }
        }
        let outcome = self.start("exported", ()).await?;
        match self.rest(Some(&outcome), false).await {
            Rest::Settled => {
                let exports = self.settled(&outcome)?;
                self.unheard(Phase::Deploy).await?;
                serde_json::from_str(&exports).map_err(|e| ProgramError::new(code::THROWN, e.to_string(), ""))
            }
            Rest::Failed => Err(self.failure()),
            Rest::Quiet => Err(never("a stack output is a promise that never settles")),
        }
    }

    /// The names of the handlers that the program noted, sorted.
    pub async fn handlers(&self) -> Vec<String> {
        let list = |ctx: Ctx<'_>| -> rquickjs::Result<Vec<String>> { function(&ctx, "handlers")?.call(()) };
        self.context.with(move |ctx| list(ctx).unwrap_or_default()).await
    }

    /// Run phase: calls a handler and waits for what it answers. Lines that it printed are written by then.
    ///
    /// # Errors
    /// What the handler threw; E0511 if there is none of that name; E0512 if its promise can never settle; E0514 if it
    /// held the thread beyond the deadline.
    pub async fn invoke(
        &self,
        handler: &str,
        event: Value,
        context: InvokeContext,
    ) -> Result<Value, ProgramError> {
        self.runtime.set_memory_limit(heap_of(context.memory)).await;
        let told = json!({
            "requestId": context.request_id,
            "functionName": context.function,
            "deadline": context.deadline.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64,
            "memory": context.memory.bytes(),
            "traceparent": context.traceparent,
        });
        let left = context.deadline.duration_since(SystemTime::now()).unwrap_or_default();
        *lock(&self.deadline) = Instant::now().checked_add(left);
        let result = self.call_handler(handler, event, told).await;
        *lock(&self.deadline) = None;
        // Heard or not, what was rejected in this invocation is not told in the next.
        self.unheard(Phase::Run).await?;
        result
    }

    async fn call_handler(&self, handler: &str, event: Value, told: Value) -> Result<Value, ProgramError> {
        let outcome = self.start("invoke", (handler.to_owned(), event.to_string(), told.to_string())).await?;
        match self.rest(Some(&outcome), true).await {
            Rest::Settled => {
                let answer = self.settled(&outcome)?;
                serde_json::from_str(&answer).map_err(|e| ProgramError::new(code::THROWN, e.to_string(), ""))
            }
            Rest::Failed => Err(self.failure()),
            // What is interrupted behind a promise rejects nothing: the engine drops that job.
            Rest::Quiet if lock(&self.deadline).is_some_and(|deadline| deadline <= Instant::now()) => {
                Err(ProgramError::interrupted())
            }
            Rest::Quiet => {
                Err(never(&format!("the handler `{handler}` awaits a promise that never settles")))
            }
        }
    }

    /// Opens the next gate of the registry; false if nothing is left to register.
    async fn advance(&self) -> Result<bool, ProgramError> {
        self.context
            .with(|ctx| {
                let advanced = function(&ctx, "advance").and_then(|advance| advance.call(()));
                advanced.map_err(|error| ProgramError::caught(&ctx, error))
            })
            .await
            .map_err(|error| self.explained(error))
    }

    /// Looks at the promises that were rejected with nobody listening.
    async fn unheard(&self, phase: Phase) -> Result<(), ProgramError> {
        let reasons = self
            .context
            .with(|ctx| ctx.userdata::<Rejections<'_>>().map(|open| open.take()).unwrap_or_default())
            .await;
        for reason in reasons {
            let reason = self.explained(reason);
            if phase == Phase::Deploy {
                return Err(reason);
            }
            self.shared.uncaught(reason);
        }
        Ok(())
    }

    fn settled(&self, outcome: &Outcome) -> Result<String, ProgramError> {
        match outcome.take() {
            Some(result) => result.map_err(|error| self.explained(error)),
            None => Err(never("nothing was answered")),
        }
    }

    fn failure(&self) -> ProgramError {
        let failure = self.shared.failure();
        self.explained(failure.unwrap_or_else(|| never("nothing was answered")))
    }

    fn explained(&self, error: ProgramError) -> ProgramError {
        match self.shared.program() {
            Some(program) => error.with_source(&program.archive),
            None => error,
        }
    }
}

impl std::fmt::Debug for Vm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vm").finish_non_exhaustive()
    }
}

fn never(message: &str) -> ProgramError {
    ProgramError::new(
        code::NEVER_SETTLES,
        message,
        "see what should settle it: no timer, request or call is under way that could",
    )
}

fn note_rejection<'js>(
    ctx: Ctx<'js>,
    promise: rquickjs::Value<'js>,
    reason: rquickjs::Value<'js>,
    handled: bool,
) {
    if let Some(rejections) = ctx.userdata::<Rejections<'js>>() {
        rejections.note(promise, reason, handled);
    }
}

fn prepare(ctx: &Ctx<'_>, shared: &Arc<Shared>) -> rquickjs::Result<()> {
    builtin::set_up(ctx)?;
    let _ = ctx.store_userdata(Rejections::default());
    let _ = ctx.store_userdata(Handle(shared.clone()));
    host::hear_background_failures();
    let source = sdk::source(sdk::MAIN).unwrap_or_default();
    let (module, evaluated) = Module::declare(ctx.clone(), sdk::MAIN, source)?.eval()?;
    evaluated.finish::<()>()?;
    let main = module.namespace()?;
    main.get::<_, Function<'_>>("prepare")?.call::<_, ()>((natives::natives(ctx, shared)?,))?;
    let _ = ctx.store_userdata(Main(main));
    Ok(())
}
