//! Streams: `examples/social-stream`, containers as handlers, stock clients, dead letters, and clouds that are killed.

use std::{collections::BTreeMap, fs};

use serde_json::Value;

use crate::harness::{Beside, Cloud, Project};

fn json(ran: &crate::harness::Ran) -> Value {
    serde_json::from_str(ran.value()).unwrap_or_else(|error| panic!("{error}: {}", ran.all()))
}

#[test]
fn the_example_counts_each_post_once_in_the_minute_in_which_it_was_written() {
    let cloud = Cloud::new();
    let project = Project::example(&cloud, "social-stream");
    // What the recording itself says, without a stream.
    let program = fs::read_to_string(project.folder().join("index.js")).unwrap();
    let expected = r#"
new cloud.Function("expected", async (recording) => {
    const windows = {};
    for (const post of recorded(recording)) add((windows[windowOf(post)] ??= empty()), post);
    return Object.fromEntries(Object.entries(windows).map(([start, sums]) => [start, told(sums)]));
});
"#;
    project.edit("index.js", &format!("{program}{expected}"));
    let _serving = cloud.serve();
    project.up();
    assert!(project.tandem(&["preview"]).ok().all().contains("Nothing to do"));
    let recording = r#"{ "seed": 7, "count": 1300 }"#;
    assert_eq!(json(&project.tandem(&["invoke", "replay", recording]).ok())["put"], 1300);
    let expected = json(&project.tandem(&["invoke", "expected", recording]).ok());
    assert!(expected.as_object().unwrap().len() > 3, "{expected}");
    let mut log = cloud.log(&project);
    let analyzed = |text: &str| -> u64 {
        let number = text.strip_prefix("*** Analyzed ").and_then(|rest| rest.split(' ').next());
        number.map_or(0, |number| number.parse().unwrap())
    };
    let mut batches = 0;
    loop {
        batches += 1;
        log.wait_for_times("*** Analyzed", batches);
        if log.texts().iter().map(|text| analyzed(text)).sum::<u64>() == 1300 {
            break;
        }
    }
    assert_eq!(json(&project.tandem(&["invoke", "report"]).ok()), expected);
    // Told twice, nothing is counted twice: the recording is put again by a stock client, and is other records.
    let stream = project.output("posts");
    let client = cloud.client(&project);
    let put = "kinesis = boto3.client('kinesis')\n\
               post = {'user': 'ann', 'at': '2026-11-26T08:00:01Z', 'text': 'my coffee is great'}\n\
               print(kinesis.put_record(StreamName=arguments[0], PartitionKey='ann', Data=json.dumps(post))['SequenceNumber'])";
    client.boto3(put, &[&stream]).ok();
    log.wait_for_times("*** Analyzed", batches + 1);
    let after = json(&project.tandem(&["invoke", "report"]).ok());
    let first = "2026-11-26T08:00:00.000Z";
    assert_eq!(after[first]["posts"].as_u64(), expected[first]["posts"].as_u64().map(|posts| posts + 1));
    drop(log);
    cloud.observe();
    project.destroy();
}

const PROGRAM: &str = r#"
const cloud = require("@tandem/cloud");
const posts = new cloud.Stream("posts", { retention: 48 });
posts.subscribe("words", async (records, context, event) => {
    if (records.some(({ value }) => value === "poison")) throw new Error(`cannot stand ${records.length}`);
    const half = records.find(({ value }) => value === "half");
    if (half) return { batchItemFailures: [{ itemIdentifier: half.sequenceNumber }] };
    for (const { key, value } of records) console.log(`read ${JSON.stringify(value)} of ${key}`);
}, { maxAttempts: 2, parallelism: 2 });
posts.subscribe("late", async (records) => console.log(`late ${records[0].value}`), { startingPosition: "latest" });
posts.subscribe("run", new cloud.Task("run", { image: "docker.io/library/busybox", command: ["/bin/sh", "-c", "echo ran $TANDEM_EVENT"] }));
posts.subscribe("whole", new cloud.Function("whole", async (event) => console.log(`whole ${event.type} ${event.data.records[0].data}`)), { batchSize: 1 });
new cloud.Function("put", async ({ key, value }) => posts.put(key, value));
new cloud.Function("all", async () => {
    const values = [];
    for await (const { key, value } of posts.read()) values.push(`${key}: ${value}`);
    for await (const { value } of posts.read({ from: new Date(0), follow: true })) { values.push(`again ${value}`); break; }
    return values;
});
exports.posts = posts;
"#;

#[test]
fn records_reach_handlers_functions_and_containers_and_those_that_fail_the_dead_letters() {
    let cloud = Cloud::new();
    let project = cloud.project("shop", &[("index.js", PROGRAM)]);
    let serving = cloud.serve();
    cloud.import_busybox();
    project.up();
    assert!(project.tandem(&["preview"]).ok().all().contains("Nothing to do"));
    let put = |value: &str| {
        let record = format!(r#"{{ "key": "ann", "value": {value} }}"#);
        json(&project.tandem(&["invoke", "put", &record]).ok())
    };
    let first = put(r#""one""#);
    assert_eq!(first["shard"], "shardId-000000000000", "{first}");
    put(r#""poison""#);
    put(r#"{ "n": 3 }"#);
    let mut log = cloud.log(&project);
    log.wait_for(r#"read "one" of ann"#);
    log.wait_for(r#"read {"n":3} of ann"#);
    log.wait_for("late one");
    log.wait_for(r#"whole dev.tandem.stream.records "poison""#);
    log.wait_for("ran {");
    log.wait_for("gave up record");
    let letters = project.tandem(&["dead-letters", "ls"]).ok();
    assert!(
        letters.stdout.contains("words") && letters.stdout.contains("cannot stand 1"),
        "{}",
        letters.all()
    );
    // Mended, it is delivered again.
    project.edit("index.js", &PROGRAM.replace("value === \"poison\"", "false"));
    project.up();
    project.tandem(&["dead-letters", "redrive", "--all"]).ok();
    log.wait_for(r#"read "poison" of ann"#);
    let all = json(&project.tandem(&["invoke", "all"]).ok());
    assert_eq!(all[0], "ann: one", "{all}");
    assert_eq!(all[3], "again one", "{all}");
    let refused = project.tandem(&["invoke", "put", r#"{ "key": "", "value": 1 }"#]);
    assert!(refused.all().contains("the key of stream.put is a text that is not empty"), "{}", refused.all());
    // What a handler says that it has not handled is not handled by a redrive either.
    put(r#""half""#);
    log.wait_for("the handler says that the record failed");
    project.tandem(&["dead-letters", "redrive", "--all"]).ok();
    log.wait_for("gave up `shardId-000000000000` after 2 attempts");
    let letters = project.tandem(&["dead-letters", "ls"]).ok();
    assert!(letters.stdout.contains("the handler says that the record failed"), "{}", letters.all());
    // Records are data.
    let refused = project.tandem(&["destroy", "--yes"]).refused().says("4 records");
    assert!(!refused.all().contains("0 B"), "{}", refused.all());
    project.edit("index.js", &PROGRAM.replace("retention: 48", "shards: 3"));
    project.tandem(&["up", "--yes"]).refused().says("4 records");
    drop(log);
    cloud.observe();
    // A backup has them.
    let file = cloud.scratch().join("backup.tar");
    let file = file.to_str().unwrap();
    assert!(serving.terminate().success());
    cloud.tandem(&["backup", file]).ok();
    {
        let restored = Cloud::new();
        restored.tandem(&["restore", file]).ok();
        let _serving = restored.serve();
        let copy = restored.project("shop", &[("index.js", PROGRAM)]);
        let again = json(&copy.tandem(&["invoke", "all"]).ok());
        assert_eq!((&again[0], &again[3]), (&all[0], &Value::from("ann: half")), "{again}");
        copy.destroy();
    }
    let _serving = cloud.serve();
    project.destroy();
}

/// Each record says which of its key it is. The handler keeps the last that it saw of each key, and notes where one is left out.
const COUNTING: &str = r#"
const cloud = require("@tandem/cloud");
const numbers = new cloud.Stream("numbers", { shards: 2, forceDestroy: true });
const seen = new cloud.Bucket("seen", { forceDestroy: true });
numbers.subscribe("count", async (records) => {
    const last = {};
    for (const { key, value } of records) {
        if (last[key] === undefined) {
            const objects = await seen.list(`last/${key}`);
            last[key] = objects.length === 0 ? 0 : Number((await seen.get(`last/${key}`)).toString());
        }
        if (value > last[key] + 1) await seen.put(`gap/${key}/${value}`, String(last[key]));
        last[key] = Math.max(last[key], value);
    }
    for (const [key, value] of Object.entries(last)) await seen.put(`last/${key}`, String(value));
}, { batchSize: 200, parallelism: 2 });
exports.numbers = numbers.name;
exports.seen = seen.id;
"#;

/// Puts numbers for each of its keys, one after the other, each again until it is acknowledged. Ends with the last number that is.
const PUTTING: &str = r"
import os, time
kinesis = boto3.client('kinesis', config=Config(retries={'max_attempts': 0}, connect_timeout=2, read_timeout=10))
stream, client, until = arguments[0], arguments[1], arguments[2]
n = 0
while not os.path.exists(until):
    records = [{'PartitionKey': f'{client}-{key}', 'Data': str(n + step)} for step in range(1, 11) for key in range(3)]
    while True:
        try:
            kinesis.put_records(StreamName=stream, Records=records)
            break
        except Exception:
            time.sleep(0.05)
    n += 10
    time.sleep(0.05)
print(n)
";

#[test]
fn killed_again_and_again_under_load_every_acknowledged_record_is_handled_and_no_key_leaves_one_out() {
    const KILLS: usize = 6;
    let cloud = Cloud::new();
    let project = cloud.project("shop", &[("index.js", COUNTING)]);
    let mut serving = cloud.serve();
    project.up();
    let (stream, seen) = (project.output("numbers"), project.output("seen"));
    let client = cloud.client(&project);
    let end = cloud.scratch().join("end");
    let clients: Vec<Beside> = (0..3)
        .map(|n| client.boto3_beside(PUTTING, &[&stream, &format!("client-{n}"), end.to_str().unwrap()]))
        .collect();
    let progress = "kinesis = s3.list_objects_v2(Bucket=arguments[0], Prefix='last/').get('Contents', [])\n\
                    print(json.dumps({o['Key'][5:]: int(s3.get_object(Bucket=arguments[0], Key=o['Key'])['Body'].read()) for o in kinesis}))";
    let handled = || -> BTreeMap<String, u64> {
        let ran = client.boto3(progress, &[&seen]).ok();
        serde_json::from_str(ran.value()).unwrap()
    };
    let mut before = 0;
    for _ in 0..KILLS {
        // In the midst of it: something was handled since the last kill.
        loop {
            let sum = handled().values().sum::<u64>();
            if sum > before {
                before = sum;
                break;
            }
        }
        serving.kill();
        serving = cloud.serve();
    }
    fs::write(&end, "").unwrap();
    let mut expected = BTreeMap::new();
    for (n, client) in clients.into_iter().enumerate() {
        let last: u64 = client.ran().ok().value().parse().unwrap();
        expected.extend((0..3).map(|key| (format!("client-{n}-{key}"), last)));
    }
    while handled() != expected {
        let now = handled();
        assert!(now.iter().all(|(key, n)| n <= &expected[key]), "{now:?} of {expected:?}");
    }
    let gaps = client.boto3(
        "print([o['Key'] for o in s3.list_objects_v2(Bucket=arguments[0], Prefix='gap/').get('Contents', [])])",
        &[&seen],
    );
    assert_eq!(gaps.ok().value(), "[]");
    drop(serving);
    let _serving = cloud.serve();
    cloud.observe();
    project.destroy();
}

#[test]
fn another_number_of_shards_under_a_pinned_name_is_refused_by_the_preview() {
    const PINNED: &str = "const cloud = require(\"@tandem/cloud\");\n\
                          new cloud.Stream(\"posts\", { streamName: \"shop-posts\", shards: 2 });\n";
    let cloud = Cloud::new();
    let project = cloud.project("shop", &[("index.js", PINNED)]);
    let _serving = cloud.serve();
    project.up();
    project.edit("index.js", &PINNED.replace("shards: 2", "shards: 3"));
    for command in [&["preview"][..], &["up", "--yes"]] {
        project
            .tandem(command)
            .refused()
            .says("E0849")
            .says("stream/posts has 2 shards; with 3 it is another stream")
            .says("give `streamName` another value");
    }
    project.edit("index.js", &PINNED.replace("shop-posts", "shop-posts-3").replace("shards: 2", "shards: 3"));
    project.up();
    project.destroy();
}
