//! Finds the file that a specifier names, by Node's rules (<https://nodejs.org/api/modules.html#all-together>) and with
//! TypeScript's habits on top: an extension may be left out in `import` too, and `./x.js` finds `x.ts`.
//!
//! Paths are logical: symbolic links are followed when a file is read, never spelled out, so a package that is linked
//! into `node_modules` keeps its place in the project. Nothing outside of the project's folder is found.

use std::{
    cell::RefCell,
    collections::HashMap,
    path::{Path, PathBuf},
    rc::Rc,
};

use super::{
    builtin::{self, Builtin},
    manifest::Manifest,
    parse::How,
};

/// Tried in this order after the exact name.
const EXTENSIONS: [&str; 7] = ["js", "mjs", "cjs", "ts", "mts", "cts", "json"];

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Resolved {
    Builtin,
    /// A path in the archive.
    File(String),
}

/// Why nothing was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Miss {
    NoFile {
        tried: String,
    },
    NoPackage {
        name: String,
    },
    /// The package is there, but has no such file, or does not offer it.
    NotOffered {
        package: String,
    },
    NodeOnly,
    Native,
    Outside,
    Url,
}

pub(super) struct Resolver<'a> {
    root: &'a Path,
    manifests: RefCell<HashMap<String, Option<Rc<Manifest>>>>,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(root: &'a Path) -> Self {
        Self { root, manifests: RefCell::default() }
    }

    /// `from` is the archive path of the module that names `specifier`.
    pub(super) fn resolve(&self, from: &str, specifier: &str, how: How) -> Result<Resolved, Miss> {
        match builtin::find(specifier) {
            Some(Builtin::Here) => return Ok(Resolved::Builtin),
            Some(Builtin::NodeOnly) if self.package_of(from, specifier).is_none() => {
                return Err(Miss::NodeOnly);
            }
            _ => {}
        }
        let folder = parent(from);
        if is_relative(specifier) {
            let path = join(folder, specifier).ok_or(Miss::Outside)?;
            let folder_only = specifier.ends_with('/')
                || specifier == "."
                || specifier == ".."
                || specifier.ends_with("/..");
            return self.file_or_folder(&path, folder_only).map(Resolved::File);
        }
        if specifier.starts_with('/') {
            return Err(Miss::Outside);
        }
        if specifier.contains("://") || specifier.starts_with("data:") || specifier.starts_with("file:") {
            return Err(Miss::Url);
        }
        let conditions: [&str; 4] = match how {
            How::Import => ["import", "module-sync", "node", "default"],
            How::Require => ["require", "module-sync", "node", "default"],
        };
        if specifier.starts_with('#') {
            return self.own_import(folder, specifier, &conditions, how);
        }
        self.package(folder, specifier, &conditions).map(Resolved::File)
    }

    /// The file that a project's `main`, or its lack, names.
    pub(super) fn entry(&self, main: Option<&str>) -> Result<String, Miss> {
        let path = join("", main.unwrap_or(".")).ok_or(Miss::Outside)?;
        self.file_or_folder(&path, main.is_none())
    }

    /// Whether the nearest `package.json` says `module` or `commonjs`. None if it does not say.
    pub(super) fn package_type(&self, path: &str) -> Option<bool> {
        let manifest = ancestors(parent(path)).find_map(|folder| self.manifest(folder))?;
        manifest.kind.as_deref().map(|kind| kind == "module")
    }

    fn file_or_folder(&self, path: &str, folder_only: bool) -> Result<String, Miss> {
        let file = if folder_only { None } else { self.file(path) };
        let found = file.or_else(|| self.folder(path)).ok_or_else(|| Miss::NoFile {
            tried: if path.is_empty() { "index.js".to_owned() } else { path.to_owned() },
        })?;
        if found.ends_with(".node") { Err(Miss::Native) } else { Ok(found) }
    }

    fn file(&self, path: &str) -> Option<String> {
        if path.is_empty() {
            return None;
        }
        let exact = Some(path.to_owned());
        let extended = EXTENSIONS.iter().map(|extension| Some(format!("{path}.{extension}")));
        // TypeScript's authors write the extension that the compiler will give.
        let compiled = [(".js", ".ts"), (".mjs", ".mts"), (".cjs", ".cts")]
            .map(|(to, from)| path.strip_suffix(to).map(|stem| format!("{stem}{from}")));
        std::iter::once(exact).chain(extended).chain(compiled).flatten().find(|path| self.is_file(path))
    }

    fn folder(&self, path: &str) -> Option<String> {
        let main = self.manifest(path).and_then(|manifest| {
            let main = join(path, manifest.main()?)?;
            self.file(&main).or_else(|| self.index(&main))
        });
        main.or_else(|| self.index(path))
    }

    fn index(&self, folder: &str) -> Option<String> {
        EXTENSIONS.iter().map(|e| below(folder, &format!("index.{e}"))).find(|path| self.is_file(path))
    }

    fn package(&self, from: &str, specifier: &str, conditions: &[&str]) -> Result<String, Miss> {
        let (name, rest) = split(specifier);
        let itself = ancestors(from)
            .find_map(|folder| Some((folder, self.manifest(folder)?)))
            .filter(|(_, manifest)| manifest.name.as_deref() == Some(name) && manifest.exports.is_some());
        let folder = match itself {
            Some((folder, _)) => folder.to_owned(),
            None => {
                self.package_of(from, specifier).ok_or_else(|| Miss::NoPackage { name: name.to_owned() })?
            }
        };
        let not_offered = || Miss::NotOffered { package: name.to_owned() };
        match self.manifest(&folder).as_deref() {
            Some(Manifest { exports: Some(exports), .. }) => {
                let subpath = if rest.is_empty() { ".".to_owned() } else { format!("./{rest}") };
                let target = exports.find(&subpath, conditions).ok_or_else(not_offered)?;
                let path = join(&folder, &target).ok_or(Miss::Outside)?;
                self.is_file(&path).then_some(path).ok_or_else(not_offered)
            }
            _ => {
                let path = below(&folder, rest);
                self.file_or_folder(&path, rest.is_empty()).map_err(|miss| match miss {
                    Miss::NoFile { .. } => not_offered(),
                    other => other,
                })
            }
        }
    }

    /// `#x`, which the importing package's own `package.json` maps.
    fn own_import(
        &self,
        folder: &str,
        specifier: &str,
        conditions: &[&str],
        how: How,
    ) -> Result<Resolved, Miss> {
        let found = ancestors(folder).find_map(|folder| Some((folder, self.manifest(folder)?)));
        let missing = || Miss::NoFile { tried: "imports in package.json".to_owned() };
        let (owner, manifest) = found.ok_or_else(missing)?;
        let target = manifest.imports.as_ref().and_then(|imports| imports.find(specifier, conditions));
        let target = target.ok_or_else(missing)?;
        if is_relative(&target) {
            let path = join(owner, &target).ok_or(Miss::Outside)?;
            return self.file_or_folder(&path, false).map(Resolved::File);
        }
        if target.starts_with('#') {
            return Err(missing());
        }
        self.resolve(&below(owner, "package.json"), &target, how)
    }

    /// The folder of the package in the nearest `node_modules`.
    fn package_of(&self, from: &str, specifier: &str) -> Option<String> {
        let (name, _) = split(specifier);
        ancestors(from)
            .filter(|folder| *folder != "node_modules" && !folder.ends_with("/node_modules"))
            .map(|folder| below(folder, &format!("node_modules/{name}")))
            .find(|folder| self.absolute(folder).is_dir())
    }

    fn manifest(&self, folder: &str) -> Option<Rc<Manifest>> {
        let mut manifests = self.manifests.borrow_mut();
        let read = || Manifest::of(&self.absolute(folder)).map(Rc::new);
        manifests.entry(folder.to_owned()).or_insert_with(read).clone()
    }

    fn is_file(&self, path: &str) -> bool {
        self.absolute(path).is_file()
    }

    fn absolute(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }
}

fn is_relative(specifier: &str) -> bool {
    specifier == "." || specifier == ".." || specifier.starts_with("./") || specifier.starts_with("../")
}

/// `@scope/name/rest` as its package and the rest.
fn split(specifier: &str) -> (&str, &str) {
    let scope = if specifier.starts_with('@') { specifier.find('/').map_or(0, |slash| slash + 1) } else { 0 };
    match specifier[scope..].find('/') {
        Some(slash) => (&specifier[..scope + slash], &specifier[scope + slash + 1..]),
        None => (specifier, ""),
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn below(folder: &str, rest: &str) -> String {
    match (folder, rest) {
        ("", rest) => rest.to_owned(),
        (folder, "") => folder.to_owned(),
        (folder, rest) => format!("{folder}/{rest}"),
    }
}

/// The folder itself, those above it, and at last the project's, which is empty.
fn ancestors(folder: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(folder), |folder| (!folder.is_empty()).then(|| parent(folder)))
}

/// The path, normalised. None if it leaves the project.
fn join(folder: &str, relative: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in relative.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn resolve(files: &[(&str, &str)], from: &str, specifier: &str, how: How) -> Result<String, Miss> {
        let folder = folder(files);
        match Resolver::new(folder.path()).resolve(from, specifier, how)? {
            Resolved::File(path) => Ok(path),
            Resolved::Builtin => Ok("builtin".to_owned()),
        }
    }

    #[test]
    fn relative_specifiers_try_extensions_and_index_files() {
        let files = &[
            ("a.ts", ""),
            ("a.json", ""),
            ("b/index.js", ""),
            ("c/package.json", r#"{"main":"lib"}"#),
            ("c/lib/index.mjs", ""),
            ("src/m.ts", ""),
        ];
        let find = |from, specifier| resolve(files, from, specifier, How::Require).unwrap();
        assert_eq!(find("index.js", "./a"), "a.ts");
        assert_eq!(find("index.js", "./a.json"), "a.json");
        assert_eq!(find("index.js", "./b"), "b/index.js");
        assert_eq!(find("src/m.ts", "../b/"), "b/index.js");
        assert_eq!(find("index.js", "./c"), "c/lib/index.mjs");
        assert_eq!(find("index.js", "./src/m.js"), "src/m.ts");
        assert_eq!(find("b/x.js", "."), "b/index.js");
    }

    #[test]
    fn a_module_outside_of_the_project_is_not_found() {
        assert_eq!(resolve(&[], "src/a.js", "../../x", How::Import), Err(Miss::Outside));
        assert_eq!(resolve(&[], "a.js", "/etc/passwd", How::Import), Err(Miss::Outside));
        assert_eq!(resolve(&[], "a.js", "https://x.y/z.js", How::Import), Err(Miss::Url));
    }

    #[test]
    fn packages_resolve_by_main_or_exports() {
        let files = &[
            ("node_modules/old/package.json", r#"{"main":"./lib/old"}"#),
            ("node_modules/old/lib/old.js", ""),
            ("node_modules/old/deep/x.js", ""),
            (
                "node_modules/@s/new/package.json",
                r#"{"exports":{".":{"import":"./i.mjs","require":"./r.cjs"},"./f/*":"./f/*.js"}}"#,
            ),
            ("node_modules/@s/new/i.mjs", ""),
            ("node_modules/@s/new/r.cjs", ""),
            ("node_modules/@s/new/f/g.js", ""),
            ("node_modules/old/node_modules/inner/index.js", ""),
            ("node_modules/bin/build/x.node", ""),
            ("node_modules/bin/package.json", r#"{"main":"build/x.node"}"#),
        ];
        let find = |from, specifier, how| resolve(files, from, specifier, how);
        assert_eq!(find("a/b.js", "old", How::Require).unwrap(), "node_modules/old/lib/old.js");
        assert_eq!(find("a/b.js", "old/deep/x", How::Require).unwrap(), "node_modules/old/deep/x.js");
        assert_eq!(find("b.js", "@s/new", How::Import).unwrap(), "node_modules/@s/new/i.mjs");
        assert_eq!(find("b.js", "@s/new", How::Require).unwrap(), "node_modules/@s/new/r.cjs");
        assert_eq!(find("b.js", "@s/new/f/g", How::Require).unwrap(), "node_modules/@s/new/f/g.js");
        assert_eq!(
            find("b.js", "@s/new/hidden", How::Require),
            Err(Miss::NotOffered { package: "@s/new".into() })
        );
        let inner = find("node_modules/old/lib/old.js", "inner", How::Require).unwrap();
        assert_eq!(inner, "node_modules/old/node_modules/inner/index.js");
        assert_eq!(find("b.js", "bin", How::Require), Err(Miss::Native));
        assert_eq!(find("b.js", "none/x", How::Require), Err(Miss::NoPackage { name: "none".into() }));
    }

    #[test]
    fn a_package_may_name_itself_and_its_own_imports() {
        let manifest =
            r##"{"name":"me","exports":{"./x":"./src/x.js"},"imports":{"#y":"./src/y.js","#fs":"node:fs"}}"##;
        let files = &[("package.json", manifest), ("src/x.js", ""), ("src/y.js", "")];
        assert_eq!(resolve(files, "src/a.js", "me/x", How::Import).unwrap(), "src/x.js");
        assert_eq!(resolve(files, "src/a.js", "#y", How::Import).unwrap(), "src/y.js");
        assert_eq!(resolve(files, "src/a.js", "#fs", How::Import).unwrap(), "builtin");
    }

    #[test]
    fn a_package_stands_in_for_a_module_that_only_node_has() {
        assert_eq!(resolve(&[], "a.js", "punycode", How::Require), Err(Miss::NodeOnly));
        let files = &[("node_modules/punycode/index.js", "")];
        assert_eq!(
            resolve(files, "a.js", "punycode", How::Require).unwrap(),
            "node_modules/punycode/index.js"
        );
    }
}
