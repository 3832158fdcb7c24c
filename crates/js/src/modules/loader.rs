//! The two hooks of QuickJS: specifier to module name, module name to module.
//!
//! A module's name is its path in the archive, which is how stack traces name it. Modules that are not ES modules have
//! a bridge of another name, generated here; the module itself runs under its path.

use std::sync::Arc;

use rquickjs::{
    Ctx, Module, Result,
    loader::{Loader, Resolver},
};
use serde_json::Value;

use super::{builtin, commonjs, resolve::Target};
use crate::{archive::ModuleKind, host::Shared, sdk};

/// Before the path of a module of the archive, in the imports of modules of ours.
pub(crate) const ABSOLUTE: &str = "tandem:archive/";
/// Before the number of a module that only imports another one.
pub(super) const SHIM: &str = "tandem:require/";
/// Before the path of a CommonJS, JSON or text module: the ES module that stands for it.
const BRIDGE: &str = "tandem:bridge/";

pub(crate) struct ArchiveResolver(pub(crate) Arc<Shared>);

impl Resolver for ArchiveResolver {
    fn resolve<'js>(&mut self, ctx: &Ctx<'js>, base: &str, name: &str) -> Result<String> {
        // Only modules of ours may name modules of ours.
        if base.starts_with(crate::error::INTERNAL) || base.is_empty() {
            if let Some(path) = name.strip_prefix(ABSOLUTE) {
                return Ok(self.module_name(path));
            }
            if let Some(file) = name.strip_prefix("./") {
                let folder = base.rsplit_once('/').map_or(base, |(folder, _)| folder);
                return Ok(format!("{folder}/{file}"));
            }
            if let Some(file) = name.strip_prefix("../") {
                let above = base.rsplitn(3, '/').nth(2).unwrap_or(base);
                return Ok(format!("{above}/{file}"));
            }
            return Ok(name.to_owned());
        }
        match self.0.resolve(base, name).map_err(|error| commonjs::throw(ctx, &error))? {
            Target::Archived(path) => Ok(self.module_name(&path)),
            Target::Internal(name) => Ok(name),
            Target::Builtin(name) => Ok(name.to_owned()),
        }
    }
}

impl ArchiveResolver {
    fn module_name(&self, path: &str) -> String {
        let program = self.0.program();
        let kind = program.as_ref().and_then(|p| p.archive.modules.get(path)).map(|module| module.kind);
        match kind {
            // A built-in's name stands for itself; so does a path that is not there, which then cannot be loaded.
            Some(ModuleKind::Esm) | None => path.to_owned(),
            Some(_) => format!("{BRIDGE}{path}"),
        }
    }
}

pub(crate) struct ArchiveLoader(pub(crate) Arc<Shared>);

impl Loader for ArchiveLoader {
    fn load<'js>(&mut self, ctx: &Ctx<'js>, name: &str) -> Result<Module<'js>> {
        if let Some(source) = sdk::source(name) {
            return Module::declare(ctx.clone(), name, source);
        }
        let program = self.0.program();
        let module = |path: &str| program.as_ref().and_then(|p| p.archive.modules.get(path));
        if let Some(path) = name.strip_prefix(BRIDGE) {
            let names = module(path).map(|m| m.named_exports.as_slice()).unwrap_or_default();
            return Module::declare(ctx.clone(), name, bridge(path, names));
        }
        if let Some(found) = module(name) {
            let module = Module::declare(ctx.clone(), name, found.source.as_str())?;
            let meta = module.meta()?;
            meta.set("url", format!("file:///{name}"))?;
            meta.set("filename", name)?;
            meta.set("dirname", name.rsplit_once('/').map_or("", |(folder, _)| folder))?;
            return Ok(module);
        }
        match builtin::declare(ctx, name) {
            Some(module) => module,
            None => Err(commonjs::throw(ctx, &commonjs::no_archive(name))),
        }
    }
}

/// An ES module whose default export is what the module at `path` exports, and whose other exports are its properties.
fn bridge(path: &str, names: &[String]) -> String {
    use std::fmt::Write;
    let mut source = format!(
        "import {{ importCommonJs }} from \"tandem:runtime/commonjs.js\";\n\
         const exported = importCommonJs({});\nexport default exported;\n",
        Value::from(path)
    );
    for (index, name) in names.iter().filter(|name| *name != "default").enumerate() {
        let name = Value::from(name.as_str());
        let _ = writeln!(source, "const e{index} = exported?.[{name}];\nexport {{ e{index} as {name} }};");
    }
    source
}
