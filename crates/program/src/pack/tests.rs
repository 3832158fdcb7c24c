use std::path::Path;

use tandem_model::Explain;

use super::*;

fn project(files: &[(&str, &str)]) -> (tempfile::TempDir, Project) {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), files);
    if !folder.path().join("Tandem.yaml").exists() {
        fs::write(folder.path().join("Tandem.yaml"), "name: shop\nruntime: js\n").unwrap();
    }
    let project = Project::find(folder.path()).unwrap();
    (folder, project)
}

fn write(folder: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn packed(files: &[(&str, &str)]) -> Packed {
    pack(&project(files).1).unwrap()
}

fn refused(files: &[(&str, &str)]) -> PackError {
    pack(&project(files).1).unwrap_err()
}

#[test]
fn a_program_is_its_reachable_modules() {
    let packed = packed(&[
        ("index.js", "const a = require('./a'); const c = require('@pulumi/cloud'); require('fs');"),
        ("a/index.ts", "import data from '../data.json'; export const x: number = data.x;"),
        ("data.json", "{\"x\": 1}"),
        ("unused.js", "syntax error"),
    ]);
    assert_eq!(packed.archive.entry, "index.js");
    assert_eq!(packed.files, ["a/index.ts", "data.json", "index.js"]);
    let kinds: Vec<_> = packed.archive.modules.values().map(|m| m.kind).collect();
    assert_eq!(kinds, [ModuleKind::Esm, ModuleKind::Json, ModuleKind::CommonJs]);
    let index = &packed.archive.modules["index.js"];
    assert_eq!(index.imports, BTreeMap::from([("./a".to_owned(), "a/index.ts".to_owned())]));
    assert_eq!(packed.archive.modules["a/index.ts"].imports["../data.json"], "data.json");
    assert_eq!(Archive::decode(&packed.bytes).unwrap(), packed.archive);
}

#[test]
fn the_same_content_is_the_same_version() {
    let files = [("index.js", "require('./b'); require('./a')"), ("a.js", "require('./b')"), ("b.js", "")];
    let one = packed(&files);
    let mut backwards = files;
    backwards.reverse();
    assert_eq!(one.hash, packed(&backwards).hash);
    let other =
        packed(&[("index.js", "require('./b'); require('./a')"), ("a.js", "require('./b') "), ("b.js", "")]);
    assert_ne!(one.hash, other.hash);
}

#[test]
fn the_kind_of_a_module_is_by_extension_then_package_then_syntax() {
    let packed = packed(&[
        (
            "index.mjs",
            "import './a.js'; import './b.cjs'; import './esm/c.js'; import './d.mts'; import './e.cts'",
        ),
        ("a.js", "exports.a = 1"),
        ("b.cjs", "exports.b = 1"),
        ("esm/package.json", "{\"type\": \"module\"}"),
        ("esm/c.js", "console.log(1)"),
        ("d.mts", "let x: number = 1"),
        ("e.cts", "let x: number = 1"),
    ]);
    let kind = |path: &str| packed.archive.modules[path].kind;
    for path in ["index.mjs", "esm/c.js", "d.mts"] {
        assert_eq!(kind(path), ModuleKind::Esm, "{path}");
    }
    for path in ["a.js", "b.cjs", "e.cts"] {
        assert_eq!(kind(path), ModuleKind::CommonJs, "{path}");
    }
}

#[test]
fn a_commonjs_module_offers_what_es_modules_import_from_it() {
    let packed = packed(&[
        (
            "index.mjs",
            "import d, { dynamic } from './a.cjs'; import * as all from './b.cjs'; export * from './c.cjs'",
        ),
        ("a.cjs", "module.exports = make()"),
        ("b.cjs", "exports.x = 1; Object.assign(exports, { y: 2 })"),
        ("c.cjs", "module.exports = { ...require('./b.cjs'), z: 1 }"),
    ]);
    let names = |path: &str| packed.archive.modules[path].named_exports.join(" ");
    assert_eq!(names("a.cjs"), "dynamic");
    assert_eq!(names("b.cjs"), "x");
    assert_eq!(names("c.cjs"), "x z");
}

#[test]
fn the_entry_is_main_or_the_package_or_the_index() {
    let main = packed(&[
        ("Tandem.yaml", "name: a\nruntime: js\nmain: src/app\n"),
        ("src/app.ts", ""),
        ("index.js", ""),
    ]);
    assert_eq!(main.archive.entry, "src/app.ts");
    let folder = packed(&[("Tandem.yaml", "name: a\nruntime: js\nmain: src/\n"), ("src/index.ts", "")]);
    assert_eq!(folder.archive.entry, "src/index.ts");
    let package = packed(&[("package.json", "{\"main\": \"app.js\"}"), ("app.js", ""), ("index.js", "")]);
    assert_eq!(package.archive.entry, "app.js");
    let error = refused(&[("readme.md", "")]);
    assert_eq!(error.code(), "E0520");
    assert!(error.help().contains("index.js"), "{}", error.help());
}

#[test]
fn a_syntax_error_shows_the_line_and_a_caret() {
    let error = refused(&[("index.js", "require('./lib/x')"), ("lib/x.js", "let a;\n  let b = = 2;\n")]);
    assert_eq!(error.code(), "E0521");
    assert_eq!(
        error.to_string(),
        "lib/x.js:2:11: expression expected\n  2 |   let b = = 2;\n    |           ^"
    );
    let json = refused(&[("index.js", "require('./x.json')"), ("x.json", "{\n  \"a\": ,\n}")]);
    assert!(json.to_string().starts_with("x.json:2:8: expected value\n  2 |   \"a\": ,\n"), "{json}");
    let namespace = refused(&[("index.ts", "namespace A { export const b = 1 }")]);
    assert_eq!(namespace.code(), "E0522");
}

#[test]
fn a_missing_module_names_the_place_and_the_remedy() {
    let error = refused(&[("index.js", "const a = 1;\nconst b = require('./b');")]);
    assert_eq!(error.code(), "E0523");
    assert!(error.to_string().starts_with("index.js:2:19: no module `./b`"), "{error}");
    let package = refused(&[("index.js", "import x from 'left-pad'")]);
    assert!(package.help().contains("npm install left-pad"), "{}", package.help());
    let outside = refused(&[("index.js", "require('../x')")]);
    assert_eq!(outside.code(), "E0524");
    let node = refused(&[("index.js", "require('http')")]);
    assert_eq!(node.code(), "E0525");
    packed(&[("index.js", "try { require('optional') } catch {}")]);
}

#[test]
fn included_files_are_packed_though_no_module_names_them() {
    let yaml = "name: a\nruntime: js\ninclude: ['templates/**/*.html', 'plugins/*.ts']\n";
    let packed = packed(&[
        ("Tandem.yaml", yaml),
        ("index.js", ""),
        ("templates/a/b.html", "<p>"),
        ("templates/b.txt", ""),
        ("plugins/p.ts", "import './q'; let x: string"),
        ("plugins/q.js", ""),
    ]);
    assert_eq!(packed.files, ["index.js", "plugins/p.ts", "plugins/q.js", "templates/a/b.html"]);
    assert_eq!(packed.archive.modules["templates/a/b.html"].kind, ModuleKind::Text);
    let none = refused(&[("Tandem.yaml", yaml), ("index.js", "")]);
    assert_eq!(none.code(), "E0527");
    let away = refused(&[("Tandem.yaml", "name: a\nruntime: js\ninclude: ['../*']\n"), ("index.js", "")]);
    assert_eq!(away.code(), "E0527");
}

#[test]
fn binary_files_are_refused_by_name() {
    let (folder, project) =
        project(&[("Tandem.yaml", "name: a\nruntime: js\ninclude: ['*.png']\n"), ("index.js", "")]);
    fs::write(folder.path().join("x.png"), [0x89, 0x50, 0xff]).unwrap();
    let error = pack(&project).unwrap_err();
    assert_eq!(error.to_string(), "`x.png` is not text in UTF-8");
}

#[test]
fn deeply_nested_code_is_packed() {
    let deep = format!("module.exports = {}1{};", "(".repeat(3000), ")".repeat(3000));
    let long = format!("module.exports = 0{};", " + 1".repeat(10_000));
    packed(&[("index.js", "require('./deep'); require('./long')"), ("deep.js", &deep), ("long.js", &long)]);
}

#[test]
fn a_script_for_the_shell_is_still_a_module() {
    let packed = packed(&[("index.js", "#!/usr/bin/env node\nexports.a = 1")]);
    assert_eq!(packed.archive.modules["index.js"].source, "///usr/bin/env node\nexports.a = 1");
}
