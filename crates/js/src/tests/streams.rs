//! Streams as programs use them.

use super::*;

#[tokio::test]
async fn a_subscription_says_how_it_reads_and_its_handler_gets_records_with_their_values() {
    let source = "const cloud = require('@pulumi/cloud');
        const posts = new cloud.Stream('posts', { shards: 3, retention: 48 });
        posts.subscribe('f', async (records, context, event) => [
            records.map(({ key, value }) => [key, value instanceof Uint8Array ? [...value] : value]), context.requestId, event.data.shard,
        ], { batchSize: 10, parallelism: 2, startingPosition: new Date(0) });
        posts.subscribe('g', new cloud.Task('t', { image: 'x' }), { startingPosition: 'latest', maxAttempts: 7 });";
    let cloud = Arc::new(Recording::default());
    deploy_with(files(&[("index.js", source)]), &cloud).await.unwrap();
    assert_eq!(
        cloud.registered(),
        ["stream/posts", "task/t", "function/f", "subscription/f", "subscription/g"]
    );
    let inputs = |kind: &str, name: &str| {
        let calls = cloud.calls.lock().unwrap();
        let found = calls.iter().find(|(_, args)| args["kind"] == kind && args["name"] == name);
        found.unwrap().1["inputs"].clone()
    };
    let subscription = |name: &str| {
        serde_json::from_value::<tandem_model::inputs::Subscription>(inputs("subscription", name)).unwrap()
    };
    let (f, g) = (subscription("f"), subscription("g"));
    assert_eq!(f.events, [tandem_model::event::STREAM_RECORDS]);
    assert_eq!((f.batch_size, f.parallelism, f.max_attempts), (Some(10), Some(2), 5));
    assert_eq!(json!(f.starting_position), json!("1970-01-01T00:00:00Z"));
    assert_eq!((json!(g.starting_position), g.max_attempts), (json!("latest"), 7));
    let stream: tandem_model::inputs::Stream = serde_json::from_value(inputs("stream", "posts")).unwrap();
    assert_eq!((stream.shards, stream.retention), (3, Some(48)));
    let record = |data: Value| {
        let mut record = json!({ "key": "k", "sequenceNumber": "65536", "shard": "s", "time": "t" });
        record.as_object_mut().unwrap().extend(data.as_object().unwrap().clone());
        record
    };
    let records = [json!({ "data": "{\"n\":1}" }), json!({ "data": "no JSON" }), json!({ "base64": "AP8=" })]
        .map(record);
    let event = json!({ "data": { "stream": "posts-1", "shard": "s", "records": records } });
    let expected = json!([[["k", { "n": 1 }], ["k", "no JSON"], ["k", [0, 255]]], "r-1", "s"]);
    assert_eq!(invoke(source, event).await.unwrap(), expected);
}

const PROGRAM: &str = "const cloud = require('@tandem/cloud'); const posts = new cloud.Stream('posts');
    new cloud.Function('put', () => posts.put('ann', { n: 1 }));
    new cloud.Function('batch', () => posts.putBatch([{ key: 'a', value: 'text' }, { key: 'b', value: new Uint8Array([0, 255]) }]));
    new cloud.Function('read', async () => {
        const values = [];
        for await (const { value } of posts.read({ from: 'latest' })) values.push(value);
        return values;
    });
    new cloud.Function('wrong', async (call) => eval(call));";

async fn running(cloud: &Arc<Recording>) -> Vm {
    let vm = Vm::new().await.unwrap();
    let resources = BTreeMap::from([("stream/posts".to_owned(), json!({ "id": "posts-1" }))]);
    let setup = Setup { resources, ..setup(Phase::Run) };
    vm.load(Arc::new(files(&[("index.js", PROGRAM)]).0), setup, cloud.clone()).await.unwrap();
    vm
}

#[tokio::test]
async fn a_handler_puts_values_as_json_and_bytes_as_they_are_and_reads_to_the_end() {
    let put = json!([{ "shard": "s", "sequenceNumber": "1" }]);
    let page = json!({ "records": [{ "key": "k", "data": "7" }], "cursor": { "0": 2 }, "ended": true });
    let cloud = Arc::new(Recording {
        answers: BTreeMap::from([("stream.put", put.clone()), ("stream.read", page)]),
        ..Recording::default()
    });
    let vm = running(&cloud).await;
    assert_eq!(vm.invoke("put", Value::Null, context()).await.unwrap(), put[0]);
    let expected = json!({ "stream": "posts-1", "records": [{ "key": "ann", "data": "{\"n\":1}" }] });
    assert_eq!(cloud.args("stream.put"), expected);
    cloud.calls.lock().unwrap().clear();
    vm.invoke("batch", Value::Null, context()).await.unwrap();
    let records = json!([{ "key": "a", "data": "\"text\"" }, { "key": "b", "base64": "AP8=" }]);
    assert_eq!(cloud.args("stream.put")["records"], records);
    assert_eq!(vm.invoke("read", Value::Null, context()).await.unwrap(), json!([7]));
    let asked = cloud.args("stream.read");
    assert_eq!((&asked["from"], &asked["wait"]), (&json!("latest"), &json!(false)));
}

#[tokio::test]
async fn what_cannot_be_is_refused_where_it_is_written() {
    let vm = running(&Arc::default()).await;
    for (call, expected) in [
        ("posts.put('', 1)", "the key of stream.put is a text that is not empty, not \"\""),
        ("posts.put('k')", "the value of stream.put is one that JSON can hold, or bytes, not nothing"),
        ("posts.putBatch('k')", "stream.putBatch takes a list of records, not \"k\""),
        (
            "posts.putBatch(Array(501).fill({ key: 'k', value: 1 }))",
            "stream.putBatch takes at most 500 records, not 501",
        ),
        ("posts.putBatch([{ key: 'k', data: 1 }])", "a record of stream.putBatch has no option \"data\""),
    ] {
        let error = vm.invoke("wrong", json!(call), context()).await.unwrap_err();
        assert_eq!(error.message, expected);
    }
    for (rest, expected) in [
        (", { shards: 0 })", "`shards` of stream/s is a whole number from 1 on, not 0"),
        (", { size: 1 })", "stream/s has no option \"size\""),
        (
            ").subscribe('f', new cloud.Queue('q'))",
            "the handler of stream/s.subscribe is a function, a cloud.Function, a cloud.Task or a cloud.Workflow, not an object",
        ),
        (
            ").subscribe('f', () => {}, { startingPosition: 7 })",
            "a position in stream/s.subscribe is \"trimHorizon\", \"latest\" or a time, not 7",
        ),
        (
            ").put('k', 1)",
            "`stream.put` works inside handlers only: while the program is deployed, the resource is not there yet",
        ),
    ] {
        let error = refused(&format!("const cloud = require('@tandem/cloud'); module.exports = async () => {{ await new cloud.Stream('s'{rest}; }};")).await;
        assert_eq!(error.message, expected);
    }
}
