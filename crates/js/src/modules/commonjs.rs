//! The natives of `runtime/commonjs.js`: sources, compilation, and ES modules for `require`.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use rquickjs::{Ctx, Error, Function, Module, Object, Result, Value, promise::PromiseState};

use super::{compile, loader, resolve};
use crate::{
    error::{NODE_NO_MODULE, ProgramError, code},
    host::{Shared, lock},
};

/// Throws an error of ours, with its code and help as properties. A missing module has Node's code, which packages ask
/// for when a module is optional.
pub(crate) fn throw(ctx: &Ctx<'_>, error: &ProgramError) -> Error {
    let build = || -> Result<Value<'_>> {
        let exception = rquickjs::Exception::from_message(ctx.clone(), &error.message)?;
        let object = exception.into_object();
        let code = if error.code == code::NO_MODULE { NODE_NO_MODULE } else { &error.code };
        object.set("code", code)?;
        object.set("help", &error.help)?;
        Ok(object.into_value())
    };
    match build() {
        Ok(value) => ctx.throw(value),
        Err(error) => error,
    }
}

pub(super) fn no_archive(name: &str) -> ProgramError {
    ProgramError::new(code::NO_MODULE, format!("there is no module `{name}`"), "")
}

/// Adds the natives to `host`.
pub(crate) fn natives<'js>(ctx: &Ctx<'js>, shared: &Arc<Shared>, host: &Object<'js>) -> Result<()> {
    let of = shared.clone();
    let source = move |ctx: Ctx<'js>, path: String| -> Result<String> {
        let module = of.program().and_then(|p| p.archive.modules.get(&path).map(|m| m.source.clone()));
        module.ok_or_else(|| throw(&ctx, &no_archive(&path)))
    };
    host.set("source", Function::new(ctx.clone(), source)?)?;

    let of = shared.clone();
    let compiled = move |ctx: Ctx<'js>, path: String| -> Result<Function<'js>> {
        let program = of.program().ok_or_else(|| throw(&ctx, &no_archive(&path)))?;
        let module = program.archive.modules.get(&path).ok_or_else(|| throw(&ctx, &no_archive(&path)))?;
        compile::commonjs(&ctx, &path, &module.source)
    };
    host.set("compile", Function::new(ctx.clone(), compiled)?)?;

    // CommonJS modules that an import is evaluating just now, innermost last.
    let evaluating = Arc::new(Mutex::new(Vec::<String>::new()));
    let of = evaluating.clone();
    let enter = move |path: String| lock(&of).push(path);
    host.set("enterImport", Function::new(ctx.clone(), enter)?)?;
    let of = evaluating.clone();
    let leave = move || drop(lock(&of).pop());
    host.set("leaveImport", Function::new(ctx.clone(), leave)?)?;

    let of = shared.clone();
    let shims = AtomicU64::new(0);
    let require_esm = move |ctx: Ctx<'js>, path: String, from: String| -> Result<Value<'js>> {
        if let Some(program) = of.program()
            && let Some(importer) =
                lock(&evaluating).iter().find(|cjs| resolve::imports_statically(&program.archive, &path, cjs))
        {
            return Err(throw(&ctx, &cycle(&path, &from, importer)));
        }
        require(&ctx, &path, &from, shims.fetch_add(1, Ordering::Relaxed))
    };
    host.set("requireEsm", Function::new(ctx.clone(), require_esm)?)
}

/// Evaluates an ES module at once and answers its namespace.
///
/// A module of ours that imports it does the work: linking it finds the module if it is loaded and loads it if not, and
/// its promise is settled when `eval` returns, unless something awaits at its top level.
fn require<'js>(ctx: &Ctx<'js>, path: &str, from: &str, shim: u64) -> Result<Value<'js>> {
    let specifier = serde_json::Value::from(format!("{}{path}", loader::ABSOLUTE));
    let source = format!("import * as namespace from {specifier};\nexport {{ namespace }};\n");
    let module = Module::declare(ctx.clone(), format!("{}{shim}", loader::SHIM), source)?;
    let (module, promise) = module.eval()?;
    match promise.state() {
        PromiseState::Resolved => module.namespace()?.get("namespace"),
        PromiseState::Rejected => {
            // Listened to here, so that it does not count as unhandled.
            promise.catch()?.call::<_, ()>((
                rquickjs::function::This(promise.clone()),
                Function::new(ctx.clone(), || ())?,
            ))?;
            match promise.result::<Value<'js>>() {
                Some(Err(error)) => Err(error),
                _ => Err(Error::Unknown),
            }
        }
        PromiseState::Pending => Err(throw(
            ctx,
            &ProgramError::new(
                code::REQUIRE_ESM,
                format!("`{from}` requires `{path}`, which awaits at its top level"),
                format!("load it with `await import(…)` instead, or make `{from}` an ES module"),
            ),
        )),
    }
}

fn cycle(path: &str, from: &str, importer: &str) -> ProgramError {
    ProgramError::new(
        code::REQUIRE_ESM,
        format!("`{from}` requires the ES module `{path}`, which is still loading: it imports `{importer}`"),
        "break the circle: move what both need into a third module",
    )
}
