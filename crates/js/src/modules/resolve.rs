//! What a specifier means, as Node has it, with the archive in the place of the file system.

use crate::{
    archive::{Archive, ModuleKind},
    error::{ProgramError, code},
};

/// What a specifier stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// A module of the archive, by its path.
    Archived(String),
    /// A module of ours: `tandem:sdk/cloud.js`.
    Internal(String),
    /// A Node-like module: `path`, `fs/promises`.
    Builtin(&'static str),
}

/// The entry modules of the SDK, by the names that programs import.
const SDK: [(&str, &str); 5] = [
    ("@tandem/cloud", "tandem:sdk/tandem.js"),
    ("@pulumi/cloud", "tandem:sdk/cloud.js"),
    ("@pulumi/pulumi", "tandem:sdk/pulumi.js"),
    ("@pulumi/aws", "tandem:sdk/aws.js"),
    ("durable-functions", "tandem:sdk/durable/index.js"),
];

/// Modules of Node that are ours, in JavaScript.
const OWN: [(&str, &str); 3] = [
    ("module", "tandem:runtime/module.js"),
    ("process", "tandem:runtime/process.js"),
    ("timers/promises", "tandem:runtime/timers_promises.js"),
];

/// The names of all modules of Node that there are, sorted.
pub(crate) fn builtins() -> Vec<&'static str> {
    let mut names: Vec<_> = super::builtin::NAMES.into_iter().chain(OWN.map(|(name, _)| name)).collect();
    names.sort_unstable();
    names
}

/// Whether a specifier names a module of ours: the SDK, or a module of Node that there is, with or without `node:`.
pub fn is_builtin(specifier: &str) -> bool {
    let bare = specifier.strip_prefix("node:").unwrap_or(specifier);
    SDK.iter().any(|(name, _)| *name == specifier) || builtins().contains(&bare)
}

/// Resolves `specifier` as written in the module `from`.
///
/// # Errors
/// E0503, naming the specifier and the module.
pub(crate) fn resolve(archive: &Archive, from: &str, specifier: &str) -> Result<Target, ProgramError> {
    if let Some((_, path)) = SDK.iter().find(|(name, _)| *name == specifier) {
        return Ok(Target::Internal((*path).to_owned()));
    }
    let bare = specifier.strip_prefix("node:").unwrap_or(specifier);
    if let Some((_, path)) = OWN.iter().find(|(name, _)| *name == bare) {
        return Ok(Target::Internal((*path).to_owned()));
    }
    if let Some(name) = super::builtin::NAMES.into_iter().find(|name| *name == bare.trim_end_matches('/')) {
        return Ok(Target::Builtin(name));
    }
    if let Some(path) = archive.modules.get(from).and_then(|module| module.imports.get(specifier)) {
        return Ok(Target::Archived(path.clone()));
    }
    if let Some(path) = relative(from, specifier).and_then(|path| find(archive, &path)) {
        return Ok(Target::Archived(path));
    }
    Err(not_found(from, specifier))
}

/// The path that a relative specifier names, without `.` and `..`. `None` for bare names and paths that leave the project.
fn relative(from: &str, specifier: &str) -> Option<String> {
    let absolute = specifier.strip_prefix('/');
    if absolute.is_none() && !matches!(specifier.split('/').next(), Some("." | "..")) {
        return None;
    }
    let mut parts: Vec<&str> = match absolute {
        Some(_) => Vec::new(),
        None => from.rsplit_once('/').map(|(folder, _)| folder.split('/').collect()).unwrap_or_default(),
    };
    for part in absolute.unwrap_or(specifier).split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// The usual order: the path itself, with an extension, as a folder with an index.
fn find(archive: &Archive, path: &str) -> Option<String> {
    const EXTENSIONS: [&str; 8] = [".js", ".cjs", ".mjs", ".ts", ".cts", ".mts", ".tsx", ".json"];
    let known = |candidate: &String| archive.modules.contains_key(candidate);
    let folder = if path.is_empty() { "index".to_owned() } else { format!("{path}/index") };
    let with = |stem: &str| EXTENSIONS.map(|extension| format!("{stem}{extension}"));
    // TypeScript writes `./a.js` for a file that is `a.ts`.
    let typescript = path.strip_suffix(".js").map(|stem| format!("{stem}.ts"));
    std::iter::once(path.to_owned()).chain(with(path)).chain(typescript).chain(with(&folder)).find(known)
}

fn not_found(from: &str, specifier: &str) -> ProgramError {
    let local = specifier.starts_with(['.', '/']);
    let help = if local {
        format!(
            "see that the file exists; if `{from}` computes the name, add the file to `include` in Tandem.yaml"
        )
    } else if specifier.starts_with("node:") || NODE_ONLY.contains(&specifier) {
        format!("the built-in runtime has these modules of Node: {}", builtins().join(", "))
    } else {
        format!("install it beside the program (`npm install {specifier}`), or see that the name is right")
    };
    ProgramError::new(
        code::NO_MODULE,
        format!("cannot find module `{specifier}`, which `{from}` asks for"),
        help,
    )
}

/// Modules of Node that people know and the built-in runtime has not.
const NODE_ONLY: [&str; 17] = [
    "cluster",
    "constants",
    "diagnostics_channel",
    "domain",
    "http",
    "http2",
    "inspector",
    "punycode",
    "querystring",
    "readline",
    "repl",
    "stream",
    "sys",
    "tls",
    "v8",
    "vm",
    "worker_threads",
];

/// Whether evaluating `from` evaluates `to` through ES imports alone.
pub(crate) fn imports_statically(archive: &Archive, from: &str, to: &str) -> bool {
    let mut seen = std::collections::BTreeSet::new();
    let mut open = vec![from];
    while let Some(path) = open.pop() {
        if path == to {
            return true;
        }
        let Some(module) = archive.modules.get(path).filter(|module| module.kind == ModuleKind::Esm) else {
            continue;
        };
        open.extend(module.imports.values().map(String::as_str).filter(|next| seen.insert(*next)));
    }
    false
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::archive::Module;

    fn archive(paths: &[&str]) -> Archive {
        let module = |path: &&str| {
            let module = Module {
                kind: ModuleKind::CommonJs,
                source: String::new(),
                imports: BTreeMap::new(),
                named_exports: Vec::new(),
            };
            ((*path).to_owned(), module)
        };
        Archive { entry: paths[0].to_owned(), modules: paths.iter().map(module).collect() }
    }

    #[test]
    fn a_computed_specifier_is_resolved_as_node_would_resolve_it() {
        let archive = archive(&["index.js", "lib/a.js", "lib/b.json", "lib/c/index.js", "lib/d.ts"]);
        let at = |from: &str, specifier: &str| resolve(&archive, from, specifier);
        let archived = |path: &str| Target::Archived(path.to_owned());
        assert_eq!(at("index.js", "./lib/a").unwrap(), archived("lib/a.js"));
        assert_eq!(at("lib/a.js", "./b.json").unwrap(), archived("lib/b.json"));
        assert_eq!(at("lib/a.js", "./c").unwrap(), archived("lib/c/index.js"));
        assert_eq!(at("lib/a.js", "..").unwrap(), archived("index.js"));
        assert_eq!(at("lib/a.js", "./d.js").unwrap(), archived("lib/d.ts"));
        assert_eq!(at("lib/a.js", "node:path").unwrap(), Target::Builtin("path"));
        assert_eq!(
            at("lib/a.js", "@pulumi/cloud").unwrap(),
            Target::Internal("tandem:sdk/cloud.js".to_owned())
        );
    }

    #[test]
    fn a_missing_module_is_named_with_who_asks_for_it() {
        let archive = archive(&["index.js"]);
        let error = resolve(&archive, "index.js", "../secret").unwrap_err();
        assert_eq!(error.to_string(), "cannot find module `../secret`, which `index.js` asks for");
        assert!(error.help.contains("`include`"), "{}", error.help);
        let error = resolve(&archive, "index.js", "lodash").unwrap_err();
        assert!(error.help.contains("npm install lodash"), "{}", error.help);
        let error = resolve(&archive, "index.js", "stream").unwrap_err();
        assert!(error.help.contains("modules of Node: assert"), "{}", error.help);
    }
}
