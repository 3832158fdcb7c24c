//! Packs a program: every module that its entry reaches, types blanked out, imports resolved.
//!
//! Invariants:
//! - The same files give the same bytes, whatever their times and wherever the project lies.
//! - Everything in the archive is text, at a path inside the project's folder.
//! - A line in the archive is the line in the file, and but for rewritten enums and the like a column is the column, so
//!   an error in production points into the user's code.
//!
//! Start at [`pack`]; [`resolve`] finds modules, [`parse`] reads them.

mod builtin;
mod error;
mod exports;
mod include;
mod lower;
mod manifest;
mod parse;
mod resolve;
mod typescript;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs, io, mem,
    ops::Range,
    thread,
};

use tandem_js::{Archive, Module, ModuleKind, archive};

pub use error::PackError;
use parse::{How, Imported, Names, Parsed};
pub(crate) use parse::{javascript, offset};
use resolve::{Miss, Resolved, Resolver};

use crate::{
    place::{Place, frame},
    project::Project,
};

/// Deeply nested code is parsed by recursion; bundled files nest deeper than a thread's usual stack.
const STACK: usize = 256 << 20;

/// A program as one immutable value.
#[derive(Debug, Clone)]
pub struct Packed {
    pub archive: Archive,
    /// The archive's encoding.
    pub bytes: Vec<u8>,
    /// The version's name: `sha256:<hex>` of `bytes`.
    pub hash: String,
    /// Paths of what was packed, sorted, relative to the project's folder.
    pub files: Vec<String>,
    /// What was packed in another form than it was written in.
    originals: BTreeMap<String, String>,
}

impl Packed {
    /// A line of a packed file as its author wrote it. Lines count from 1.
    pub fn line(&self, file: &str, line: u32) -> Option<&str> {
        let packed = || self.archive.modules.get(file).map(|module| &module.source);
        let text = self.originals.get(file).or_else(packed)?;
        text.lines().nth(usize::try_from(line).ok()?.checked_sub(1)?)
    }
}

/// Packs the project's program. Reads files, and nothing else.
///
/// # Errors
/// [`PackError`], with the place in the program where there is one.
pub fn pack(project: &Project) -> Result<Packed, PackError> {
    let packed = deep(|| Packing::new(project).run());
    packed.map_err(|source| PackError::Unreadable { path: ".".to_owned(), source })?
}

/// Does something with a stack that is large enough for code as it is found.
///
/// # Errors
/// Those of starting a thread.
pub(crate) fn deep<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let builder = thread::Builder::new().name("pack".to_owned()).stack_size(STACK);
        let working = builder.spawn_scoped(scope, work)?;
        Ok(working.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// A module that was read, before its imports' names are known.
struct Read {
    kind: ModuleKind,
    source: String,
    parsed: Parsed,
    /// Specifier → archive path.
    imports: BTreeMap<String, String>,
    /// The text, if the source is another one.
    original: Option<String>,
}

struct Packing<'a> {
    project: &'a Project,
    resolver: Resolver<'a>,
    queue: VecDeque<String>,
    modules: BTreeMap<String, Read>,
}

impl<'a> Packing<'a> {
    fn new(project: &'a Project) -> Self {
        let resolver = Resolver::new(&project.folder);
        Self { project, resolver, queue: VecDeque::new(), modules: BTreeMap::new() }
    }

    fn run(mut self) -> Result<Packed, PackError> {
        let main = self.project.main.as_deref();
        let entry = self.resolver.entry(main).map_err(|_| PackError::NoEntry {
            folder: self.project.folder.clone(),
            wanted: match main {
                Some(main) => vec![format!("`main` names `{main}`, which is not there")],
                None => vec!["neither an `index` file nor a `package.json` with `main`".to_owned()],
            },
        })?;
        self.queue.push_back(entry.clone());
        self.queue.extend(include::files(&self.project.folder, &self.project.include)?);
        while let Some(path) = self.queue.pop_front() {
            if !self.modules.contains_key(&path) {
                let module = self.read(&path)?;
                self.queue.extend(module.imports.values().cloned());
                self.modules.insert(path, module);
            }
        }
        let mut names = self.named_exports();
        let mut originals = BTreeMap::new();
        let modules = self.modules.into_iter().map(|(path, read)| {
            originals.extend(read.original.map(|text| (path.clone(), text)));
            let named_exports = names.remove(&path).unwrap_or_default().into_iter().collect();
            (path, Module { kind: read.kind, source: read.source, imports: read.imports, named_exports })
        });
        let archive = Archive { entry, modules: modules.collect() };
        let bytes = archive.encode();
        let hash = archive::hash(&bytes);
        let files = archive.modules.keys().cloned().collect();
        Ok(Packed { archive, bytes, hash, files, originals })
    }

    fn read(&self, path: &str) -> Result<Read, PackError> {
        let bytes = fs::read(self.project.folder.join(path))
            .map_err(|source| PackError::Unreadable { path: path.to_owned(), source })?;
        let text = String::from_utf8(bytes).map_err(|_| PackError::Binary { path: path.to_owned() })?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        match path.rsplit_once('.').map_or("", |(_, extension)| extension) {
            "json" => json(path, text),
            "js" | "mjs" | "cjs" | "ts" | "mts" | "cts" => self.code(path, text),
            _ => Ok(plain(ModuleKind::Text, text)),
        }
    }

    fn code(&self, path: &str, text: &str) -> Result<Read, PackError> {
        let source = match text.strip_prefix("#!") {
            Some(rest) => format!("//{rest}"),
            None => text.to_owned(),
        };
        let wrong = |mistake: parse::Mistake| {
            let place = Place::at(path, text, mistake.offset);
            let frame = frame(text, &place);
            PackError::Syntax { place, reason: mistake.reason, frame }
        };
        let typed = path.ends_with("ts");
        let source = if typed {
            typescript::strip(&source).map_err(|error| match error {
                typescript::StripError::Syntax(mistake) => wrong(mistake),
                typescript::StripError::Unsupported { offset, what, instead } => {
                    let place = Place::at(path, text, offset);
                    let frame = frame(text, &place);
                    PackError::TypeScript { place, what, instead, frame }
                }
            })?
        } else {
            source
        };
        let mut parsed = parse::parse(&source).map_err(wrong)?;
        let source = blanked(source, mem::take(&mut parsed.attributes));
        let esm = match path.rsplit_once('.').map_or("", |(_, extension)| extension) {
            "mjs" | "mts" => true,
            "cjs" | "cts" => false,
            _ => self.resolver.package_type(path).unwrap_or(parsed.is_esm) || parsed.is_esm,
        };
        let mut imports = BTreeMap::new();
        for imported in &parsed.imports {
            match self.resolver.resolve(path, &imported.specifier, imported.how) {
                Ok(Resolved::File(file)) => drop(imports.insert(imported.specifier.clone(), file)),
                Ok(Resolved::Builtin) => {}
                Err(_) if imported.optional => {}
                Err(miss) => return Err(self.missing(path, text, imported, miss)),
            }
        }
        let kind = if esm { ModuleKind::Esm } else { ModuleKind::CommonJs };
        let original = (source != text).then(|| text.to_owned());
        Ok(Read { kind, source, parsed, imports, original })
    }

    fn missing(&self, path: &str, text: &str, imported: &Imported, miss: Miss) -> PackError {
        let place = Place::at(path, text, imported.offset);
        let frame = frame(text, &place);
        let specifier = imported.specifier.clone();
        let advice = match miss {
            Miss::Outside => return PackError::Outside { place, specifier, frame },
            Miss::NodeOnly => return PackError::NoBuiltin { place, specifier, frame },
            Miss::NoFile { tried } => {
                format!(
                    "correct the path; there is no `{tried}` in the project, with or without an extension"
                )
            }
            Miss::NoPackage { name } => {
                format!("run `npm install {name}`, which puts it into the project's `node_modules`")
            }
            Miss::NotOffered { package } => {
                format!("see `exports` in the package.json of `{package}`: it does not offer this name")
            }
            Miss::Native => {
                "use a package of plain JavaScript: the embedded host loads no native code".to_owned()
            }
            Miss::Url => {
                "download the module into the project: a program loads nothing from the network".to_owned()
            }
        };
        PackError::Missing { place, specifier, advice, frame }
    }

    /// For each CommonJS module, the names that ES modules need to find in it.
    fn named_exports(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut names: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for module in self.modules.values() {
            for imported in module.parsed.imports.iter().filter(|i| i.how == How::Import) {
                let Some(path) = module.imports.get(&imported.specifier) else { continue };
                if self.modules.get(path).is_none_or(|m| m.kind != ModuleKind::CommonJs) {
                    continue;
                }
                let wanted = names.entry(path.clone()).or_default();
                match &imported.names {
                    Names::Listed(listed) => {
                        wanted.extend(listed.iter().filter(|n| *n != "default").cloned())
                    }
                    Names::All => self.exported(path, wanted, &mut BTreeSet::new()),
                }
            }
        }
        names
    }

    /// Everything that a CommonJS module is seen to export, through its re-exports.
    fn exported(&self, path: &str, names: &mut BTreeSet<String>, seen: &mut BTreeSet<String>) {
        let Some(module) = self.modules.get(path).filter(|_| seen.insert(path.to_owned())) else { return };
        names.extend(module.parsed.commonjs_exports.iter().cloned());
        for specifier in &module.parsed.commonjs_reexports {
            if let Some(path) = module.imports.get(specifier) {
                self.exported(path, names, seen);
            }
        }
    }
}

/// The source with spaces in these places, so that all others stay where they are.
fn blanked(source: String, places: Vec<Range<usize>>) -> String {
    if places.is_empty() {
        return source;
    }
    let mut bytes = source.into_bytes();
    for byte in places.into_iter().flatten() {
        if !matches!(bytes[byte], b'\n' | b'\r') {
            bytes[byte] = b' ';
        }
    }
    String::from_utf8(bytes).expect("blanks are ASCII and replace whole characters")
}

fn plain(kind: ModuleKind, text: &str) -> Read {
    let source = text.to_owned();
    Read { kind, source, parsed: Parsed::default(), imports: BTreeMap::new(), original: None }
}

fn json(path: &str, text: &str) -> Result<Read, PackError> {
    match serde_json::from_str::<serde::de::IgnoredAny>(text) {
        Ok(_) => Ok(plain(ModuleKind::Json, text)),
        Err(error) => {
            let place =
                Place { file: path.to_owned(), line: error.line().max(1), column: error.column().max(1) };
            let frame = frame(text, &place);
            let reason = error.to_string();
            let reason = reason.split(" at line ").next().unwrap_or(&reason).to_owned();
            Err(PackError::Syntax { place, reason, frame })
        }
    }
}

#[cfg(test)]
mod tests;
