use super::*;

const THUMBNAILER: &str = r#"const cloud = require("@pulumi/cloud");
let bucket = new cloud.Bucket("bucket");

bucket.onPut("onNewThumbnail", async (bucketArgs) => {
    console.log(`*** New thumbnail: file ${bucketArgs.key}.`);
}, { keySuffix: ".jpg" });

let ffmpegTask = new cloud.Task("ffmpegTask", {
    build: "./docker-folder",
    memoryReservation: 512,
});

bucket.onPut("onNewVideo", async (bucketArgs) => {
    const run = await ffmpegTask.run({ environment: { S3_BUCKET: bucket.id.get(), INPUT_VIDEO: bucketArgs.key } });
    return run.id;
}, { keySuffix: ".mp4" });

exports.bucket = bucket.id;
"#;

#[tokio::test]
async fn data_comes_first_then_functions_then_subscriptions() {
    let cloud = Arc::new(Recording::default());
    let exports = deploy_with(files(&[("index.js", THUMBNAILER)]), &cloud).await.unwrap();
    assert_eq!(exports, json!({ "bucket": "bucket-id" }));
    assert_eq!(
        cloud.registered(),
        [
            "bucket/bucket",
            "task/ffmpegTask",
            "function/onNewThumbnail",
            "function/onNewVideo",
            "subscription/onNewThumbnail",
            "subscription/onNewVideo",
        ]
    );
    let task = cloud.args("ffmpegTask");
    assert_eq!(task["inputs"], json!({ "build": { "folder": "./docker-folder" }, "memoryReservation": 512 }));
    assert_eq!(task["declaredAt"], "index.js:8:22");
}

#[tokio::test]
async fn later_resources_name_what_they_waited_for() {
    let cloud = Arc::new(Recording::default());
    deploy_with(files(&[("index.js", THUMBNAILER)]), &cloud).await.unwrap();
    let calls = cloud.calls.lock().unwrap();
    let of = |kind: &str| {
        calls.iter().find(|(_, a)| a["kind"] == kind && a["name"] == "onNewVideo").unwrap().1.clone()
    };
    let function = of("function");
    assert_eq!(function["inputs"], json!({ "handler": "onNewVideo" }));
    let (bucket, task) = ("urn:tandem:shop:dev:bucket:bucket", "urn:tandem:shop:dev:task:ffmpegTask");
    assert_eq!(function["dependsOn"], json!([bucket, task]));
    let subscription = of("subscription");
    let consumer = "urn:tandem:shop:dev:function:onNewVideo";
    assert_eq!(
        subscription["inputs"],
        json!({
            "source": bucket,
            "consumer": consumer,
            "events": ["dev.tandem.bucket.object.put"],
            "filter": { "suffix": ".mp4" },
        })
    );
    let other = "urn:tandem:shop:dev:function:onNewThumbnail";
    assert_eq!(subscription["dependsOn"], json!([bucket, consumer, other]));
}

#[tokio::test]
async fn dependencies_grow_with_the_program_and_not_with_its_square() {
    let cloud = Arc::new(Recording::default());
    let source = "const cloud = require('@tandem/cloud');
        for (let i = 0; i < 50; i++) { const b = new cloud.Bucket(`b${i}`); b.onPut(`f${i}`, () => {}); }";
    deploy_with(files(&[("index.js", source)]), &cloud).await.unwrap();
    let calls = cloud.calls.lock().unwrap();
    let dependencies = |kind: &str| -> Vec<usize> {
        let of = calls.iter().filter(|(_, args)| args["kind"] == kind);
        of.map(|(_, args)| args["dependsOn"].as_array().unwrap().len()).collect()
    };
    let functions = dependencies("function");
    assert_eq!((functions.len(), functions[0], functions[1..].iter().max()), (50, 50, Some(&1)));
    let subscriptions = dependencies("subscription");
    assert_eq!((subscriptions[0], subscriptions[1..].iter().max()), (51, Some(&3)));
}

#[tokio::test]
async fn inputs_are_those_that_the_model_reads() {
    use tandem_model::{Urn, inputs};
    let cloud = Arc::new(Recording::default());
    let source = "const cloud = require('@tandem/cloud');
        const b = new cloud.Bucket('b', { forceDestroy: true, bucketName: 'pinned' });
        const f = new cloud.Function('f', () => {}, { memory: '1GiB', timeout: 2.5, concurrency: 3, environment: { A: b.id } });
        new cloud.Task('t', { image: 'debian', memory: 64, cpu: 0.5, command: ['a', b.id], timeout: 9 });
        b.onDelete('s', f, { keyPrefix: 'in/' });";
    deploy_with(files(&[("index.js", source)]), &cloud).await.unwrap();
    let read = |name: &str| {
        let args = cloud.args(name);
        let urn: Urn =
            format!("urn:tandem:shop:dev:{}:{name}", args["kind"].as_str().unwrap()).parse().unwrap();
        (urn, args["inputs"].as_object().unwrap().clone())
    };
    let (urn, given) = read("b");
    assert!(inputs::read::<inputs::Bucket>(&urn, &given).unwrap().force_destroy);
    let (urn, mut given) = read("f");
    given.insert("code".to_owned(), json!("sha256:0"));
    let function: inputs::Function = inputs::read(&urn, &given).unwrap();
    assert_eq!((function.memory, function.concurrency), (ByteSize::mebibytes(1024), 3));
    assert_eq!(function.environment["A"], "b-id");
    let (urn, given) = read("t");
    let task: inputs::Task = inputs::read(&urn, &given).unwrap();
    assert_eq!(task.command.unwrap(), ["a", "b-id"]);
    let (urn, given) = read("s");
    let subscription: inputs::Subscription = inputs::read(&urn, &given).unwrap();
    assert_eq!(subscription.consumer.short(), "function/f");
}

#[tokio::test]
async fn environment_variables_are_texts() {
    let cloud = Arc::new(Recording::default());
    let source = "const cloud = require('@tandem/cloud'); const b = new cloud.Bucket('b');
        const environment = { N: 1, T: true, B: b.id, L: b.id.length, P: Promise.resolve('p') };
        new cloud.Function('f', () => {}, { environment }); new cloud.Task('t', { image: 'x', environment: cloud.output(environment) });";
    deploy_with(files(&[("index.js", source)]), &cloud).await.unwrap();
    let expected = json!({ "N": "1", "T": "true", "B": "b-id", "L": "4", "P": "p" });
    assert_eq!(cloud.args("f")["inputs"]["environment"], expected);
    assert_eq!(cloud.args("t")["inputs"]["environment"], expected);
    let error =
        refused("new (require('@tandem/cloud').Function)('f', () => {}, { environment: { A: undefined } });")
            .await;
    assert_eq!(error.message, "`environment.A` of function/f is a text, not nothing");
}

#[tokio::test]
async fn a_bucket_may_depend_on_a_function() {
    let cloud = Arc::new(Recording::default());
    let source = "const cloud = require('@tandem/cloud');
        const f = new cloud.Function('f', () => {});
        new cloud.Bucket('late', { bucketName: f.id });
        new cloud.Bucket('early');
        new cloud.Bucket('last', {}, { dependsOn: [f] });";
    deploy_with(files(&[("index.js", source)]), &cloud).await.unwrap();
    assert_eq!(cloud.registered(), ["bucket/early", "function/f", "bucket/last", "bucket/late"]);
    assert_eq!(cloud.args("late")["dependsOn"], json!(["urn:tandem:shop:dev:function:f"]));
}

#[tokio::test]
async fn a_top_level_may_await_the_output_of_a_function() {
    let cloud = Arc::new(Recording::default());
    let source = "import * as cloud from '@tandem/cloud';
        const f = new cloud.Function('f', () => {});
        const id = await new Promise((done) => f.id.apply(done));
        new cloud.Bucket('b', { bucketName: id });";
    deploy_with(files(&[("index.mjs", source)]), &cloud).await.unwrap();
    assert_eq!(cloud.registered(), ["function/f", "bucket/b"]);
}

#[tokio::test]
async fn resources_declared_after_a_timer_are_deployed_too() {
    let cloud = Arc::new(Recording::default());
    let source = "const cloud = require('@tandem/cloud'); setInterval(() => {}, 1000);
        setTimeout(() => new cloud.Bucket('b'), 5); new cloud.Function('f', () => {});";
    deploy_with(files(&[("index.js", source)]), &cloud).await.unwrap();
    assert_eq!(cloud.registered(), ["bucket/b", "function/f"]);
}

#[tokio::test]
async fn what_runs_code_of_the_program_comes_after_what_that_may_use_and_a_service_last() {
    let cloud = Arc::new(Recording::default());
    let source = "const cloud = require('@tandem/cloud');
        new cloud.Service('poller', { function: () => bucket.list() });
        const task = new cloud.Task('crunch', { function: () => bucket.list(), memory: 64 });
        const bucket = new cloud.Bucket('b');
        new cloud.Service('web', { image: 'nginx' });
        bucket.onPut('h', task);";
    deploy_with(files(&[("index.js", source)]), &cloud).await.unwrap();
    assert_eq!(
        cloud.registered(),
        ["bucket/b", "service/web", "task/crunch", "subscription/h", "service/poller"]
    );
    let cloud = Arc::new(Recording::default());
    let source = "const cloud = require('@tandem/cloud');
        const poller = new cloud.Service('poller', { function: () => {} });
        new cloud.Function('f', () => {}, { environment: { POLLER: poller.id } });";
    deploy_with(files(&[("index.js", source)]), &cloud).await.unwrap();
    assert_eq!(cloud.registered(), ["service/poller", "function/f"]);
}

#[tokio::test]
async fn two_resources_of_one_name_are_an_error_that_shows_both_places() {
    let source =
        "const cloud = require('@pulumi/cloud');\nnew cloud.Bucket('b');\n\n  new cloud.Bucket('b');";
    let error = refused(source).await;
    assert_eq!(error.code, "E0505");
    assert_eq!(
        error.to_string(),
        "bucket/b is declared twice: at index.js:2:5 and at index.js:4:7 (index.js:4:7)"
    );
    let source =
        "const cloud = require('@pulumi/cloud'); const a = new cloud.Bucket('a'), b = new cloud.Bucket('b');
        a.onPut('h', () => {});\n b.onPut('h', () => {});";
    assert_eq!(refused(source).await.code, "E0505");
}

#[tokio::test]
async fn a_circle_is_told_with_the_names_in_it() {
    let source = "const cloud = require('@tandem/cloud');
        let settle; const later = new Promise((resolve) => { settle = resolve });
        const a = new cloud.Bucket('a', { bucketName: cloud.output(later) });
        const b = new cloud.Bucket('b', { bucketName: a.id });
        settle(b.id);";
    let error = refused(source).await;
    assert_eq!(error.code, "E0508", "{error:?}");
    assert_eq!(error.message, "resources wait for each other: bucket/a → bucket/b → bucket/a");
}

#[tokio::test]
async fn an_input_that_never_settles_is_told() {
    let source = "const cloud = require('@tandem/cloud'); new cloud.Bucket('a', { bucketName: new Promise(() => {}) });";
    let error = refused(source).await;
    assert_eq!(error.code, "E0512");
    assert!(error.message.contains("bucket/a, declared at index.js:1"), "{error}");
}

#[tokio::test]
async fn a_refused_registration_has_the_place_and_the_words_of_the_cloud() {
    let cloud = Arc::new(Recording { refuse: Some("\"bad\""), ..Recording::default() });
    let source = "const cloud = require('@tandem/cloud');\nconst b = new cloud.Bucket('bad');
        b.id.apply(() => { throw new Error('not reached') });\nnew cloud.Function('f', () => {});";
    let error = deploy_with(files(&[("index.js", source)]), &cloud).await.unwrap_err();
    assert_eq!(error.code, "E0204");
    assert_eq!(error.help, "ask nicely");
    assert_eq!(error.to_string(), "the cloud refuses \"bad\" (index.js:2:15)");
    assert_eq!(error.source_line.as_deref(), Some("const b = new cloud.Bucket('bad');"));
    assert_eq!(cloud.registered(), ["bucket/bad"]);
}

#[tokio::test]
async fn arguments_of_the_wrong_kind_are_told_where_they_are() {
    for (statement, message) in [
        ("new cloud.Bucket()", "the name of a bucket is a text that is not empty, not nothing"),
        ("new cloud.Bucket('a b')", "the bucket name \"a b\" contains \" \""),
        ("new cloud.Bucket('-a')", "the bucket name \"-a\" contains \"-\""),
        ("new cloud.Bucket('a', { size: 1 })", "bucket/a has no option \"size\""),
        ("new cloud.Bucket('a', {}, { protect: true })", "bucket/a has no option \"protect\""),
        ("new cloud.Bucket('a', { forceDestroy: 1 })", "`forceDestroy` of bucket/a is boolean, not 1"),
        ("new cloud.Function('f')", "the handler of function/f is a function, not nothing"),
        (
            "new cloud.Function('f', () => {}, { memory: -1 })",
            "`memory` of function/f is a number of MiB or a text like \"512MiB\", not -1",
        ),
        ("new cloud.Task('t', {})", "task/t has neither `build` nor `image` nor `function`"),
        ("new cloud.Task('t', { image: 'x', function() {} })", "task/t has both `image` and `function`"),
        (
            "new cloud.Task('t', { function: () => {}, command: ['x'] })",
            "task/t has both `function` and `command`",
        ),
        ("new cloud.Task('t', { function: 'crunch' })", "`function` of task/t is a function, not \"crunch\""),
        (
            "new cloud.Service('s', { containers: { a: { build: '.', function: () => {} } } })",
            "`containers.a` of service/s has both `build` and `function`",
        ),
        ("new cloud.Task('t', { build: '.', image: 'x' })", "task/t has both `build` and `image`"),
        (
            "new cloud.Task('t', { image: 'x', concurrency: 1.5 })",
            "`concurrency` of task/t is a whole number from 1 on, not 1.5",
        ),
        (
            "new cloud.Task('t', { image: 'x', devices: '/dev/fuse' })",
            "`devices` of task/t is a list, not \"/dev/fuse\"",
        ),
        (
            "new cloud.Task('t', { image: 'x', devices: [{ shared: true }] })",
            "`path` of `devices[0]` of task/t is a text, not nothing",
        ),
        (
            "new cloud.Task('t', { image: 'x', command: ['a', 1] })",
            "`command` of task/t is a list of texts; it has 1 in it",
        ),
        (
            "new cloud.Bucket('a').onPut('h', 3)",
            "the handler of bucket/a.onPut is a function, a cloud.Function, a cloud.Task, a cloud.Workflow or a cloud.Queue, not 3",
        ),
        (
            "new cloud.Bucket('a').onPut('h', require('durable-functions')(function* () {}))",
            "the handler of bucket/a.onPut is an orchestrator, which is no handler by itself",
        ),
        (
            "new cloud.Bucket('a').onPut('h', require('durable-functions').entity(() => {}))",
            "the handler of bucket/a.onPut is an entity, which is no handler by itself",
        ),
        (
            "new cloud.Bucket('a', {}, { dependsOn: ['x'] })",
            "`dependsOn` of bucket/a has \"x\" in it, which is not a resource",
        ),
    ] {
        let error = refused(&format!("const cloud = require('@tandem/cloud');\n{statement};")).await;
        assert_eq!(error.code, "E0506", "{error:?}");
        assert_eq!(error.message, message);
        assert_eq!(error.at.as_ref().map(|at| at.line), Some(2), "{statement}");
    }
}

#[tokio::test]
async fn what_needs_a_handler_says_so_while_deploying() {
    for statement in ["b.get('k')", "b.put('k', 'v')", "b.list()", "t.run()", "f.invoke()"] {
        let source = format!(
            "import * as cloud from '@tandem/cloud';
            const b = new cloud.Bucket('b'), t = new cloud.Task('t', {{ image: 'x' }}), f = new cloud.Function('f', () => {{}});
            await {statement};"
        );
        let error = deploy_with(files(&[("index.mjs", &source)]), &Arc::default()).await.unwrap_err();
        assert_eq!(error.code, "E0507", "{error:?}");
        assert_eq!(error.at.as_ref().map(|at| at.line), Some(3));
    }
}

#[tokio::test]
async fn configuration_is_read_by_namespace() {
    let found = deploy(
        "const pulumi = require('@pulumi/pulumi'); const config = new pulumi.Config(); const other = new pulumi.Config('other');
        exports.color = config.require('color'); exports.count = config.requireNumber('count');
        exports.absent = config.get('absent') === undefined; exports.token = other.requireSecret('token');
        exports.where = `${pulumi.getProject()}/${pulumi.getStack()}`; exports.dry = pulumi.runtime.isDryRun();",
    )
    .await
    .unwrap();
    let expected = json!({
        "color": "red", "count": 3, "absent": true, "where": "shop/dev", "dry": false,
        "token": { "$tandem": "secret", "value": "s3cret" },
    });
    assert_eq!(found, expected);
    let error = refused("new (require('@pulumi/pulumi').Config)().require('size');").await;
    assert_eq!(error.message, "the setting \"size\" is missing");
    assert_eq!(error.help, "run `tandem config set size VALUE`");
}

#[tokio::test]
async fn an_exported_resource_shows_its_outputs() {
    let found = deploy("exports.b = new (require('@tandem/cloud').Bucket)('b'); exports.f = () => {};")
        .await
        .unwrap();
    assert_eq!(
        found,
        json!({ "b": {
            "id": "b-id", "urn": "urn:tandem:shop:dev:bucket:b", "arn": "arn:b",
            "url": { "host": "b.test", "port": 80 },
        } })
    );
}
