use super::*;

async fn exports(files: Files) -> Value {
    deploy_with(files, &Arc::default()).await.unwrap()
}

#[tokio::test]
async fn commonjs_modules_load_once_and_see_their_names() {
    let program = files(&[
        (
            "index.js",
            "exports.a = require('./lib/a').n; exports.b = require('./lib/a.js').n; exports.file = __filename; \
             exports.dir = require('./lib/a').dir; exports.json = require('./data.json').x; \
             exports.text = require('./note.txt'); exports.sloppy = typeof this === 'object';",
        ),
        (
            "lib/a.js",
            "global.count = (global.count || 0) + 1; module.exports = { n: count, dir: __dirname };",
        ),
        ("data.json", "{\"x\": [1, 2]}"),
        ("note.txt", "hello"),
    ]);
    assert_eq!(
        exports(program).await,
        json!({ "a": 1, "b": 1, "file": "index.js", "dir": "lib", "json": [1, 2], "text": "hello", "sloppy": true })
    );
}

#[tokio::test]
async fn a_cycle_of_requires_gives_what_was_exported_so_far() {
    let program = files(&[
        ("index.js", "exports.a = require('./a').done; exports.seen = require('./b').seen;"),
        ("a.js", "exports.early = 1; require('./b'); exports.late = 2; exports.done = true;"),
        ("b.js", "const a = require('./a'); exports.seen = Object.keys(a).join();"),
    ]);
    assert_eq!(exports(program).await, json!({ "a": true, "seen": "early" }));
}

#[tokio::test]
async fn builtin_modules_load_with_and_without_their_prefix() {
    let source = "
        const path = require('node:path'); const { EventEmitter } = require('events');
        const { createHash } = require('crypto'); const fs = require('fs');
        exports.joined = path.join('a', '..', 'b'); exports.same = path === require('path');
        exports.emitter = new EventEmitter().listenerCount === undefined;
        exports.hash = createHash('sha256').update('a').digest('hex').slice(0, 8);
        exports.exists = typeof fs.existsSync; exports.buffer = Buffer.from('hi').toString('hex');
        exports.url = new URL('http://h/p?q=1').searchParams.get('q'); exports.level = process.env.LEVEL;
        exports.uuid = crypto.randomUUID().length; exports.text = new TextEncoder().encode('é').length;";
    let found = deploy(source).await.unwrap();
    assert_eq!(found["joined"], "b");
    assert_eq!(found["same"], true);
    assert_eq!(found["hash"], "ca978112");
    assert_eq!(found["buffer"], "6869");
    assert_eq!(found["url"], "1");
    assert_eq!(found["level"], "high");
    assert_eq!(found["uuid"], 36);
    assert_eq!(found["text"], 2);
}

#[tokio::test]
async fn every_builtin_module_and_lazy_global_can_be_used() {
    for name in crate::modules::resolve::builtins() {
        deploy(&format!("if (Object.keys(require('{name}')).length === 0) throw new Error('empty');"))
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    for name in crate::modules::builtin::LAZY.iter().flat_map(|(names, _)| *names) {
        deploy(&format!("if (typeof {name} === 'undefined') throw new Error('absent');"))
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[tokio::test]
async fn es_modules_import_commonjs_json_and_text() {
    let program = files(&[
        (
            "index.mjs",
            "import lib, { one } from './lib.js'; import data from './data.json'; import note from './note.txt';\n\
             import { join } from 'path'; export const sum = one + lib.two + data.three; export { note };\n\
             export const joined = join('a', 'b'); export const file = import.meta.filename;",
        ),
        ("lib.js", "module.exports = { one: 1, two: 2 };"),
        ("data.json", "{\"three\": 3}"),
        ("note.txt", "hi"),
    ])
    .named_exports("lib.js", &["one", "two"]);
    let expected = json!({ "sum": 6, "note": "hi", "joined": "a/b", "file": "index.mjs" });
    assert_eq!(exports(program).await, expected);
}

#[tokio::test]
async fn top_level_await_and_dynamic_import_work() {
    let program = files(&[
        (
            "index.mjs",
            "const { n } = await import('./lib.mjs'); await new Promise((done) => setTimeout(done, 5)); export const x = n;",
        ),
        ("lib.mjs", "export const n = await Promise.resolve(7);"),
    ]);
    assert_eq!(exports(program).await, json!({ "x": 7 }));
}

#[tokio::test]
async fn require_of_an_es_module_answers_its_namespace() {
    let program = files(&[
        (
            "index.js",
            "const lib = require('./lib.mjs'); exports.n = lib.n; exports.same = lib === require('./lib.mjs');",
        ),
        ("lib.mjs", "import './other.mjs'; export const n = 7;"),
        ("other.mjs", "export {};"),
    ]);
    assert_eq!(exports(program).await, json!({ "n": 7, "same": true }));
}

#[tokio::test]
async fn require_of_an_es_module_that_awaits_says_what_to_do() {
    let program = files(&[
        ("index.js", "require('./lib.mjs');"),
        ("lib.mjs", "await new Promise((done) => setTimeout(done, 1));"),
    ]);
    let error = deploy_with(program, &Arc::default()).await.unwrap_err();
    assert_eq!(error.code, "E0504");
    assert_eq!(
        error.to_string(),
        "`index.js` requires `lib.mjs`, which awaits at its top level (index.js:1:1)"
    );
}

#[tokio::test]
async fn require_of_an_es_module_that_is_still_loading_is_an_error() {
    let program = files(&[("index.mjs", "import './lib.js';"), ("lib.js", "require('./index.mjs');")])
        .import("index.mjs", "./lib.js", "lib.js");
    let error = deploy_with(program, &Arc::default()).await.unwrap_err();
    assert_eq!(error.code, "E0504");
    assert!(error.message.contains("still loading"), "{error}");
}

#[tokio::test]
async fn an_error_thrown_by_a_required_es_module_comes_through() {
    let program = files(&[
        ("index.js", "try { require('./lib.mjs') } catch (e) { exports.caught = e.message }"),
        ("lib.mjs", "throw new Error('no');"),
    ]);
    assert_eq!(exports(program).await, json!({ "caught": "no" }));
}

#[tokio::test]
async fn a_missing_module_names_itself_and_who_asks() {
    let error = refused("const x = 1;\n  require('./' + 'gone');").await;
    assert_eq!(error.code, "E0503");
    assert_eq!(error.to_string(), "cannot find module `./gone`, which `index.js` asks for (index.js:2:18)");
    assert!(error.help.contains("`include`"), "{}", error.help);
    assert_eq!(error.source_line.as_deref(), Some("  require('./' + 'gone');"));

    let program = files(&[("index.mjs", "import 'lodash';")]);
    let error = deploy_with(program, &Arc::default()).await.unwrap_err();
    assert_eq!(error.code, "E0503");
}

#[tokio::test]
async fn a_program_may_be_an_async_function() {
    let source = "module.exports = async () => ({ answer: await Promise.resolve(42) });";
    assert_eq!(deploy(source).await.unwrap(), json!({ "answer": 42 }));
}

#[tokio::test]
async fn a_program_can_ask_whether_it_is_the_main_module() {
    let program = files(&[
        ("index.js", "exports.main = require.main === module; exports.lib = require('./lib').main;"),
        ("lib.js", "exports.main = require.main === module;"),
    ]);
    assert_eq!(exports(program).await, json!({ "main": true, "lib": false }));
}

#[tokio::test]
async fn es_modules_can_make_a_require() {
    let program = files(&[
        (
            "lib/index.mjs",
            "import { createRequire, isBuiltin } from 'node:module'; const require = createRequire(import.meta.url);
             export const n = require('./a').n; export const builtin = isBuiltin('node:fs');
             import { setTimeout as after } from 'timers/promises'; export const waited = await after(1, 'yes');",
        ),
        ("lib/a.js", "exports.n = structuredClone(new Map([['a', 1]])).get('a');"),
    ]);
    assert_eq!(exports(program).await, json!({ "n": 1, "builtin": true, "waited": "yes" }));
}

#[tokio::test]
async fn a_module_that_throws_may_be_imported_in_a_try() {
    let program = files(&[
        (
            "index.mjs",
            "export let caught; try { await import('./bad.mjs') } catch (e) { caught = e.message }",
        ),
        ("bad.mjs", "throw new Error('no');"),
    ]);
    assert_eq!(exports(program).await, json!({ "caught": "no" }));
}

#[tokio::test]
async fn modules_of_ours_cannot_be_imported_by_programs() {
    for name in ["tandem:runtime/host.js", "tandem:archive/index.js"] {
        let error = refused(&format!("require('{name}');")).await;
        assert_eq!(error.code, "E0503", "{name}");
        let program = files(&[("index.mjs", &format!("await import('{name}');"))]);
        assert_eq!(deploy_with(program, &Arc::default()).await.unwrap_err().code, "E0503", "{name}");
    }
}

#[tokio::test]
async fn the_sdk_can_be_imported_in_every_way() {
    let source = "import cloud, { Bucket } from '@pulumi/cloud'; import * as pulumi from '@pulumi/pulumi';
        import { createRequire } from 'module'; const require = createRequire('/index.mjs');
        export const same = [cloud.Bucket, require('@pulumi/cloud').Bucket, require('@tandem/cloud').Bucket].every((b) => b === Bucket);
        export const output = pulumi.output === require('@tandem/cloud').output;";
    assert_eq!(exports(files(&[("index.mjs", source)])).await, json!({ "same": true, "output": true }));
}
