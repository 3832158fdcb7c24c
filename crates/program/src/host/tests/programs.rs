//! Programs as people write them, from the source to the registrations: pack, child process and SDK together.

use super::*;

/// Runs a program for real, and answers its exports.
async fn exports(files: &[(&str, &str)]) -> Value {
    match program(files).run(&Recorder::default()).await {
        Ok(exports) => Value::Object(exports),
        Err(error) => panic!("{:?}", error.report()),
    }
}

/// Runs a program that fails, and answers its code and message.
async fn failure(files: &[(&str, &str)]) -> (String, String) {
    let report = program(files).run(&Recorder::default()).await.unwrap_err().report();
    (report.code, report.message)
}

#[tokio::test]
async fn typescript_with_types_everywhere() {
    let index = r#"
        import * as cloud from "@tandem/cloud";
        import type { Shape } from "./types";
        import { Size, limits } from "./types";

        interface Named<T extends string = string> { readonly name: T; tags?: Record<string, number>[] }
        type Pair = [first: number, second?: string];

        abstract class Base<T> {
            declare ghost: string;
            #secret: T;
            protected constructor(value: T) { this.#secret = value; }
            get value(): T { return this.#secret; }
            abstract area(this: Base<T>): number;
        }
        class Square extends Base<number> implements Shape {
            constructor(private_: number) { super(private_); }
            override area(): number { return this.value ** 2; }
        }
        function pick<T, K extends keyof T>(from: T, key: K): T[K];
        function pick(from: any, key: any): any { return from[key]!; }

        const sizes = { small: 1, large: 2 } satisfies Record<string, Size>;
        const bucket: cloud.Bucket = new cloud.Bucket("x" as string);
        const pair = [sizes.large, "two"] as Pair;
        export const area = (new Square(3) as Shape).area();
        export const picked = pick({ a: pair }, "a");
        export const id = bucket.id.apply((id: string): string => id.toUpperCase());
        export const limit = limits?.max ?? 0;
    "#;
    let types = "export interface Shape { area(): number }\nexport type Size = 1 | 2;\nexport const limits = { max: 5 } as const;";
    let found = exports(&[("index.ts", index), ("types.ts", types)]).await;
    assert_eq!(found, json!({ "area": 9, "picked": [2, "two"], "id": "X-1", "limit": 5 }));
}

#[tokio::test]
async fn typescript_that_stands_for_code() {
    let index = r#"
        import fs = require("fs");
        import { Level, Flag } from "./level";
        enum Local { A = "a".length, delete, C = A | 4, "two words" = 9, Text = `t` }
        const enum Inlined { X = Local.C }
        class Point { constructor(public readonly x: number, protected y = x + 1) {} sum() { return this.x + this.y } }
        class Named extends Point { constructor(private name: string) { super(1); this.name += "!"; } get n() { return this.name } }
        export const level = [Level.Low, Level[1], Level.High, Object.keys(Level).length];
        export const local = [Local.A, Local.delete, Local[2], Local.C, Local["two words"], Local.Text, Inlined.X];
        export const flags = Flag.Read | Flag.Write;
        export const named = [new Named("n").n, new Named("n").sum()];
        export const read = typeof fs.readFileSync;
    "#;
    let level = "export enum Level {\n  Low = 1,\n  High = Low << 3,\n}\nexport enum Flag { Read = 1 << 0, Write = 1 << 1 }";
    let found = exports(&[("index.ts", index), ("level.ts", level)]).await;
    assert_eq!(found["level"], json!([1, "Low", 8, 4]));
    assert_eq!(found["local"], json!([1, 2, "delete", 5, 9, "t", 5]));
    assert_eq!((&found["flags"], &found["named"]), (&json!(3), &json!(["n!", 3])));
    assert_eq!(found["read"], "function");
}

#[tokio::test]
async fn es_modules_import_commonjs_json_and_each_other() {
    let found = exports(&[
        (
            "index.mjs",
            "import whole, { one, two as zwei } from './old.cjs'; import * as all from './old.cjs';\n\
             import data from './data.json' with { type: 'json' }; import plain from './data.json';\n\
             const dynamic = await import('./data.json', { with: { type: 'json' } });\n\
             import { even } from './even.mjs';\n\
             export { one, zwei }; export const three = all.three; export const same = whole.one === one;\n\
             export const list = data.list; export const isEven = even(10); export const alike = plain === data && dynamic.default === data;\n\
             export const late = await new Promise((resolve) => setTimeout(() => resolve('late'), 5));",
        ),
        ("old.cjs", "exports.one = 1; exports.two = 2; Object.defineProperty(exports, 'three', { value: 3 });"),
        ("data.json", "{ \"list\": [1, { \"a\": null }] }"),
        ("even.mjs", "import { odd } from './odd.mjs'; export const even = (n) => n === 0 || odd(n - 1);"),
        ("odd.mjs", "import { even } from './even.mjs'; export const odd = (n) => n !== 0 && even(n - 1);"),
    ])
    .await;
    let expected = json!({
        "one": 1, "zwei": 2, "three": 3, "same": true, "list": [1, { "a": null }], "isEven": true, "alike": true,
        "late": "late",
    });
    assert_eq!(found, expected);
}

#[tokio::test]
async fn commonjs_has_what_node_gives_it() {
    let found = exports(&[
        (
            "index.js",
            "const cloud = require('@pulumi/cloud'), pulumi = require('@pulumi/pulumi');\n\
             const { join, sep } = require('node:path'); const esm = require('./new.mjs');\n\
             exports.main = require.main === module; exports.file = __filename; exports.folder = __dirname;\n\
             exports.again = require('./a') === require('./a.js'); exports.cycle = require('./a').seen;\n\
             exports.esm = [esm.default, esm.named]; exports.joined = join('a', '..', 'b') + sep;\n\
             exports.thisIsExports = this === module.exports;\n\
             try { require('./missing-' + 1) } catch (error) { exports.missing = error.code ?? error.message }\n\
             exports.stack = pulumi.getStack(); exports.project = pulumi.getProject();",
        ),
        ("a.js", "exports.early = 1; exports.seen = require('./b').seen;"),
        ("b.js", "exports.seen = require('./a').early;"),
        ("new.mjs", "export default 'd'; export const named = 'n';"),
    ])
    .await;
    assert_eq!(found["main"], true, "{found}");
    assert_eq!((&found["file"], &found["folder"]), (&json!("index.js"), &json!(".")));
    assert_eq!(
        (&found["again"], &found["cycle"], &found["thisIsExports"]),
        (&json!(true), &json!(1), &json!(true))
    );
    assert_eq!((&found["esm"], &found["joined"]), (&json!(["d", "n"]), &json!("b/")));
    assert_eq!((&found["stack"], &found["project"]), (&json!("dev"), &json!("shop")));
    assert_eq!(found["missing"], "MODULE_NOT_FOUND");
}

#[tokio::test]
async fn packages_in_node_modules_run_as_they_are() {
    let found = exports(&[
        (
            "index.ts",
            "import slug, { version } from 'slug'; import { Queue } from '@data/queue';\n\
             const queue = new Queue(); let heard: string[] = []; queue.on('x', (t: string) => heard.push(t));\n\
             queue.emit('x', slug('AbC')); export { heard, version };",
        ),
        ("node_modules/slug/package.json", "{\"main\": \"slug\"}"),
        (
            "node_modules/slug/slug.js",
            "(function (root, make) { if (typeof exports === 'object' && typeof module !== 'undefined') module.exports = make();\n\
             else root.slug = make(); })(this, function () { function slug(t) { return t.toLowerCase() } slug.version = '1'; return slug; });",
        ),
        ("node_modules/@data/queue/package.json", "{\"type\": \"module\", \"exports\": {\".\": {\"types\": \"./x.d.ts\", \"default\": \"./q.js\"}}}"),
        ("node_modules/@data/queue/q.js", "import { EventEmitter } from 'events'; export class Queue extends EventEmitter {}"),
    ])
    .await;
    assert_eq!(found, json!({ "heard": ["abc"], "version": "1" }));
}

#[tokio::test]
async fn computed_names_find_what_include_packed() {
    let yaml = "name: shop\nruntime: js\ninclude: ['plugins/*.js', 'texts/*.txt', 'data/*.json']\n";
    let found = exports(&[
        ("Tandem.yaml", yaml),
        (
            "index.js",
            "const names = ['a', 'b']; exports.plugins = names.map((n) => require('./plugins/' + n).name);\n\
             exports.text = require(`./texts/${names[0]}.txt`); exports.data = require('./data/' + names[1] + '.json');\n\
             exports.later = import('./plugins/' + names[1] + '.js').then((m) => m.default.name);",
        ),
        ("plugins/a.js", "exports.name = 'A'"),
        ("plugins/b.js", "exports.name = require('./a').name + 'B'"),
        ("texts/a.txt", "hello\n"),
        ("data/b.json", "[1]"),
    ])
    .await;
    assert_eq!(found, json!({ "plugins": ["A", "AB"], "text": "hello\n", "data": [1], "later": "AB" }));
}

#[tokio::test]
async fn a_program_may_be_a_function_and_wait_for_what_it_needs() {
    let index = "import { Bucket, Config, interpolate, all } from '@tandem/cloud';\n\
                 export default async () => {\n\
                     const config = new Config();\n\
                     const count = config.requireNumber('count');\n\
                     await new Promise((r) => setTimeout(r, 5));\n\
                     const buckets = Array.from({ length: count }, (_, i) => new Bucket(`b${i}`));\n\
                     const secret = config.requireSecret('token');\n\
                     return { urls: all(buckets.map((b) => b.url)), first: interpolate`s3://${buckets[0].id}/`, secret };\n\
                 };";
    let program =
        program(&[("index.ts", index), ("Tandem.dev.yaml", "config:\n  count: 3\n  token: hush\n")]);
    let recorder = Recorder::default();
    let found = program.run(&recorder).await.unwrap();
    assert_eq!(found["urls"], json!(["http://x/b0", "http://x/b1", "http://x/b2"]));
    assert_eq!(found["first"], "s3://b0-1/");
    assert_eq!(found["secret"], value::secret("hush".into()));
    assert_eq!(recorder.names().len(), 3);
}

#[tokio::test]
async fn a_resource_waits_for_the_outputs_it_is_made_of() {
    let index = "const cloud = require('@tandem/cloud');\n\
                 const task = new cloud.Task('b-task', { image: 'x', environment: { ARN: new cloud.Bucket('a').arn } });\n\
                 const f = new cloud.Function('f', async () => 1, { environment: { IMAGE: task.image, N: '2' } });\n\
                 exports.arn = f.arn; exports.task = task;";
    let program = program(&[("index.js", index)]);
    let recorder = Recorder::default();
    let found = program.run(&recorder).await.unwrap();
    assert_eq!(recorder.names(), ["bucket/a", "task/b-task", "function/f"]);
    let desired = recorder.desired();
    assert_eq!(desired[1].inputs["environment"], json!({ "ARN": "arn:a" }));
    assert_eq!(desired[1].depends_on, [desired[0].urn.clone()]);
    assert_eq!(desired[2].inputs["environment"], json!({ "IMAGE": "sha256:1", "N": "2" }));
    assert_eq!(found["arn"], "arn:f");
    assert_eq!(found["task"]["id"], "b-task-1");
}

#[tokio::test]
async fn a_thousand_resources_are_one_program() {
    let index =
        "const cloud = require('@tandem/cloud');\nfor (let i = 0; i < 1000; i++) new cloud.Bucket('b' + i);";
    let program = program(&[("index.js", index)]);
    let recorder = Recorder::default();
    program.run(&recorder).await.unwrap();
    assert_eq!(recorder.names().len(), 1000);
}

#[tokio::test]
async fn mistakes_are_told_with_the_place_in_the_users_file() {
    let cloud = "const cloud = require('@tandem/cloud');\n";
    let cases = [
        ("undefined.foo;", "E0501", "index.js:2:"),
        ("Promise.reject(new Error('lost'));", "E0501", "lost (index.js:2:"),
        ("new cloud.Bucket('a'); new cloud.Bucket('a');", "E0505", "bucket/a is declared twice"),
        ("new cloud.Bucket('a b');", "E0506", "contains \" \""),
        ("new cloud.Bucket('a', { size: 1 });", "E0506", "no option \"size\""),
        ("new cloud.Task('t', { image: 'x', build: '.' });", "E0506", "both `build` and `image`"),
        ("const b = new cloud.Bucket('a'); b.id.get();", "E0507", "index.js:2:"),
        ("new cloud.Bucket('a').get('key');", "E0507", "index.js:2:"),
        ("process.exit(3);", "E0509", "index.js:2:"),
        ("(function f() { f() })();", "E0510", "index.js:2:"),
        ("exports.x = new Promise(() => {});", "E0512", ""),
        ("new cloud.Config().require('size');", "E0506", "size"),
    ];
    for (line, code, text) in cases {
        let source = format!("{cloud}{line}");
        let (found, message) = failure(&[("index.js", &source)]).await;
        assert_eq!(found, code, "{line}: {message}");
        assert!(message.contains(text), "{line}: {message}");
    }
}

#[tokio::test]
async fn an_error_deep_inside_points_into_the_module_that_threw() {
    let files = [
        ("index.ts", "import { check } from './lib/check';\n\nexport const x: number = check(7 as any);"),
        (
            "lib/check.ts",
            "interface A { b: string }\nexport function check(a: A): number {\n    const n: number = a.b.length;\n    return n;\n}\n",
        ),
    ];
    let RunError::Program { error, .. } = program(&files).run(&Recorder::default()).await.unwrap_err() else {
        panic!("it throws")
    };
    let at = error.at.as_ref().unwrap();
    assert_eq!((at.file.as_str(), at.line), ("lib/check.ts", 3), "{error}");
    assert!(error.stack.iter().any(|frame| frame.file == "index.ts" && frame.line == 3), "{:?}", error.stack);
    assert!(error.source_line.as_deref().unwrap().contains("a.b.length"));
}

#[tokio::test]
async fn two_failures_in_promises_are_told_once_and_the_run_ends() {
    let index = "const cloud = require('@tandem/cloud');\n\
                 const b = new cloud.Bucket('refused');\n\
                 exports.url = b.url.apply((u) => u.length); exports.id = cloud.interpolate`${b.id}`;";
    let program = program(&[("index.js", index)]);
    let recorder = Recorder { refuse: Some("refused"), ..Recorder::default() };
    let error = program.run(&recorder).await.unwrap_err().report();
    assert_eq!(error.code, "E0302");
    assert!(
        error.message.starts_with("bucket/refused is refused (index.js:2:15)\n  2 | const b"),
        "{}",
        error.message
    );
}
