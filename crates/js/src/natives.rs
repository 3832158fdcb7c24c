//! What JavaScript may ask of the process around it, for the runtime and the SDK. User code cannot reach these.

use std::{io::Write, sync::Arc};

use futures::{FutureExt, future::BoxFuture};
use rquickjs::{Array, Ctx, Function, Object, Promise, Result, Value, function::Opt};
use serde_json::{Value as Json, json};
use tandem_model::Explain;

use crate::{
    archive::ModuleKind,
    bridge::CallError,
    error::{ProgramError, code},
    host::{Calling, Shared, lock, write},
    modules::{
        builtin, commonjs,
        resolve::{self, Target},
    },
    timers::Kind,
};

/// The object that `runtime/main.js` is started with.
pub(crate) fn natives<'js>(ctx: &Ctx<'js>, shared: &Arc<Shared>) -> Result<Object<'js>> {
    let host = Object::new(ctx.clone())?;
    calls(ctx, shared, &host)?;
    failures(ctx, shared, &host)?;
    timers(ctx, shared, &host)?;
    modules(ctx, shared, &host)?;
    globals(ctx, &host)?;
    process(ctx, &host)?;
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
    host.set("uncaught", Function::new(ctx.clone(), uncaught)?)
}

#[expect(clippy::exit, reason = "`process.exit` of a worker ends the worker, as a program expects")]
fn exit(code: i32) {
    let _ = std::io::stdout().flush();
    std::process::exit(code)
}

fn process<'js>(ctx: &Ctx<'js>, host: &Object<'js>) -> Result<()> {
    host.set("pid", Function::new(ctx.clone(), std::process::id)?)?;
    host.set("exit", Function::new(ctx.clone(), exit)?)?;
    host.set("write", Function::new(ctx.clone(), |stream: i32, text: String| write(stream, &text))?)?;
    // Four words from the system. QuickJS seeds `Math.random` when a context is made, so the copies of a template
    // would all draw the same numbers.
    let seed = || {
        let bytes = uuid::Uuid::new_v4().into_bytes();
        bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect::<Vec<_>>()
    };
    host.set("seed", Function::new(ctx.clone(), seed)?)
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
    host.set("setUpGlobals", Function::new(ctx.clone(), set_up)?)?;
    let clone = |ctx: Ctx<'js>, value: Value<'js>, options: Opt<Object<'js>>| {
        llrt_utils::clone::structured_clone(&ctx, value, options)
    };
    host.set("structuredClone", Function::new(ctx.clone(), clone)?)
}
