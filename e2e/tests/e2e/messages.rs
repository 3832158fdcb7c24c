//! Queues: `examples/provision-queues`, handlers of messages, stock clients, and clouds that are killed.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::harness::{Cloud, Project};

const PROGRAM: &str = r#"
const cloud = require("@tandem/cloud");
const dead = new cloud.Queue("dead");
const orders = new cloud.Queue("orders", { visibilityTimeout: 2, deadLetter: dead, maxReceiveCount: 2 });
orders.subscribe("work", async (messages) => {
    const failed = messages.filter(({ body }) => body.startsWith("poison"));
    for (const { body, receiveCount } of messages) console.log(`handling ${body} for the ${receiveCount}. time`);
    return { batchItemFailures: failed.map(({ id }) => ({ itemIdentifier: id })) };
}, { batchSize: 5 });

const calls = new cloud.Queue("calls", { fifo: true, contentBasedDeduplication: true });
const run = new cloud.Task("run", { image: "docker.io/library/busybox", command: ["/bin/sh", "-c", "echo ran $TANDEM_EVENT"] });
calls.subscribe("run-it", run);

new cloud.Function("send", async ({ bodies, group }) => {
    if (group) return calls.sendBatch(bodies.map((body) => ({ body, group })));
    return orders.sendBatch(bodies);
});
new cloud.Function("look", async () => {
    const [message] = await dead.receive({ wait: 20 });
    await message.delete();
    return { body: message.body, left: (await dead.receive()).length };
});
exports.orders = orders;
"#;

#[test]
fn messages_reach_handlers_and_containers_and_those_that_fail_their_dead_letter_queue() {
    let cloud = Cloud::new();
    let project = cloud.project("shop", &[("index.js", PROGRAM)]);
    let _serving = cloud.serve();
    cloud.import_busybox();
    project.up();
    assert!(project.tandem(&["preview"]).ok().all().contains("Nothing to do"));
    let sent = project.tandem(&["invoke", "send", r#"{"bodies": ["good", "poison"]}"#]).ok();
    let sent: Value = serde_json::from_str(sent.value()).unwrap();
    assert!(sent[0]["id"].is_string(), "{sent}");
    let mut log = cloud.log(&project);
    log.wait_for("handling good for the 1. time");
    log.wait_for("handling poison for the 1. time");
    log.wait_for("handling poison for the 2. time");
    let looked = project.tandem(&["invoke", "look"]).ok();
    let looked: Value = serde_json::from_str(looked.value()).unwrap();
    assert_eq!((looked["body"].as_str(), looked["left"].as_u64()), (Some("poison"), Some(0)));
    let why = project.tandem(&["why", sent[1]["id"].as_str().unwrap()]).ok();
    assert!(why.all().contains("failed: E0784 the handler named it"), "{}", why.all());
    project.tandem(&["invoke", "send", r#"{"bodies": ["first", "second"], "group": "g"}"#]).ok();
    log.wait_for(r#""body":"first""#);
    log.wait_for(r#""body":"second""#);
    let texts = log.texts();
    assert_eq!(texts.iter().filter(|text| text.contains("handling good")).count(), 1);
    assert_eq!(texts.iter().filter(|text| text.contains("handling poison")).count(), 2);
    let place = |body: &str| texts.iter().position(|text| text.contains(body)).unwrap();
    assert!(place(r#""body":"first""#) < place(r#""body":"second""#));
    drop(log);
    cloud.observe();
    project.destroy();
}

const DEPTHS: &str = r#"
const cloud = require("@tandem/cloud");
const dead = new cloud.Queue("dead", { forceDestroy: true });
const inbox = new cloud.Queue("inbox", { visibilityTimeout: 1, deadLetter: dead, maxReceiveCount: 1, forceDestroy: true });
const calm = new cloud.Queue("calm", { visibilityTimeout: 3600, forceDestroy: true });
exports.inbox = inbox.url;
exports.calm = calm.url;
"#;

/// Of a queue, as `ps` tells it: visible, in flight, delayed.
fn depth(project: &Project<'_>, queue: &str) -> [u64; 3] {
    let told: Value = serde_json::from_str(&project.tandem(&["ps", "--json"]).ok().stdout).unwrap();
    let queues = told["queues"].as_array().unwrap();
    let urn = |one: &&Value| one["urn"].as_str().unwrap().ends_with(&format!(":queue:{queue}"));
    let found = queues.iter().find(urn).unwrap();
    ["visible", "inFlight", "delayed"].map(|name| found[name].as_u64().unwrap())
}

#[test]
fn what_queues_hold_is_shown_and_what_is_in_a_dead_letter_queue_goes_back() {
    let cloud = Cloud::new();
    let project = cloud.project("depths", &[("index.js", DEPTHS)]);
    let _serving = cloud.serve();
    project.up();
    let client = cloud.client(&project);
    let fill = "sqs = boto3.client('sqs')
for delay in [0, 0, 0, 900]: sqs.send_message(QueueUrl=arguments[0], MessageBody='x', DelaySeconds=delay)
sqs.receive_message(QueueUrl=arguments[0])";
    client.boto3(fill, &[&project.output("calm")]).ok();
    assert_eq!(depth(&project, "calm"), [2, 1, 1]);
    let shown = project.tandem(&["ps"]).ok().stdout;
    assert!(shown.contains("\ncalm   2        1          1") && shown.contains("inbox\n"), "{shown}");
    project.tandem(&["dead-letters", "ls"]).ok().says("There are no dead letters");

    // Received once, and not deleted: the next receive moves it.
    let give_up = "sqs = boto3.client('sqs')
for n in range(2): sqs.send_message(QueueUrl=arguments[0], MessageBody=str(n))
while len(sqs.receive_message(QueueUrl=arguments[0], MaxNumberOfMessages=10, WaitTimeSeconds=3).get('Messages', [])): pass";
    client.boto3(give_up, &[&project.output("inbox")]).ok();
    assert_eq!((depth(&project, "inbox"), depth(&project, "dead")), ([0; 3], [2, 0, 0]));
    let listed = project.tandem(&["dead-letters", "ls"]).ok().says("tandem dead-letters redrive queue/dead");
    assert!(
        listed.stdout.contains("queue/dead         2         0          queue/inbox"),
        "{}",
        listed.stdout
    );
    let json: Value =
        serde_json::from_str(&project.tandem(&["dead-letters", "ls", "--json"]).ok().stdout).unwrap();
    assert_eq!((&json["origin"], &json["visible"]), (&"queue".into(), &2.into()));
    project.tandem(&["dead-letters", "drop", "queue/dead"]).failed("E0776");
    project.tandem(&["dead-letters", "redrive", "queue/calm"]).failed("E0776");
    project.tandem(&["dead-letters", "redrive", "queue/none"]).failed("E0770");
    project
        .tandem(&["dead-letters", "redrive", "queue/dead"])
        .ok()
        .says("moved 2 messages of queue/dead back");
    assert_eq!((depth(&project, "inbox"), depth(&project, "dead")), ([2, 0, 0], [0; 3]));
    client.boto3(give_up, &[&project.output("inbox")]).ok();
    let all = project.tandem(&["dead-letters", "redrive", "--all", "--json"]).ok().stdout;
    let all: Value = serde_json::from_str(&all).unwrap();
    assert_eq!((&all["id"], &all["messages"]), (&"queue/dead".into(), &4.into()));
    project.destroy();
}

const SOURCES: &str = r#"
const cloud = require("@tandem/cloud");
const inbox = new cloud.Queue("inbox");
const bucket = new cloud.Bucket("bucket");
bucket.onPut("put-to-inbox", inbox, { keyPrefix: "declared/" });
const topic = new cloud.Topic("topic");
topic.subscribe("topic-to-inbox", inbox);
const ticks = new cloud.Queue("ticks", { forceDestroy: true });
cloud.timer.interval("often", { seconds: 1 }, ticks);
new cloud.Function("publish", async () => topic.publish({ hello: "queue" }));
exports.inbox = inbox.url;
exports.ticks = ticks.url;
exports.arn = inbox.arn;
exports.bucket = bucket.id;
"#;

#[test]
fn events_of_buckets_topics_and_timers_become_messages_that_a_stock_client_receives() {
    let cloud = Cloud::new();
    let project = cloud.project("shop", &[("index.js", SOURCES)]);
    let _serving = cloud.serve();
    project.up();
    let (inbox, arn, bucket) = (project.output("inbox"), project.output("arn"), project.output("bucket"));
    let client = cloud.client(&project);
    let notify = "s3.put_bucket_notification_configuration(Bucket=arguments[0], NotificationConfiguration={'QueueConfigurations': \
                  [{'Id': 'all', 'QueueArn': arguments[1], 'Events': ['s3:ObjectCreated:*'], 'Filter': {'Key': {'FilterRules': \
                  [{'Name': 'prefix', 'Value': 'wire/'}]}}}]})\n\
                  told = s3.get_bucket_notification_configuration(Bucket=arguments[0])['QueueConfigurations'][0]\n\
                  assert told['QueueArn'] == arguments[1], told\n\
                  for key in ['declared/a', 'wire/b', 'elsewhere/c']: s3.put_object(Bucket=arguments[0], Key=key, Body=b'x')";
    client.boto3(notify, &[&bucket, &arn]).ok();
    project.tandem(&["invoke", "publish"]).ok();
    let receive = "sqs = boto3.client('sqs')\n\
                   got = []\n\
                   while len(got) < 3:\n    \
                       got += sqs.receive_message(QueueUrl=arguments[0], WaitTimeSeconds=20, MaxNumberOfMessages=10)['Messages']\n\
                   got += sqs.receive_message(QueueUrl=arguments[0], WaitTimeSeconds=1).get('Messages', [])\n\
                   print(json.dumps([json.loads(m['Body']) for m in got]))";
    let got: Vec<Value> = serde_json::from_str(&client.boto3(receive, &[&inbox]).ok().stdout).unwrap();
    let of = |kind: &str| got.iter().filter(|event| event["type"] == kind).collect::<Vec<_>>();
    assert_eq!(got.len(), 3, "{got:?}");
    assert_eq!(of("dev.tandem.bucket.object.put")[0]["data"]["key"], "declared/a");
    assert_eq!(of("dev.tandem.topic.message")[0]["data"]["message"]["hello"], "queue");
    let records = got.iter().find_map(|event| event["Records"].as_array()).unwrap();
    assert_eq!(records[0]["s3"]["object"]["key"], "wire/b");
    let tick = "sqs = boto3.client('sqs')\n\
                print(sqs.receive_message(QueueUrl=arguments[0], WaitTimeSeconds=20)['Messages'][0]['Body'])";
    let tick = client.boto3(tick, &[&project.output("ticks")]).ok().stdout;
    let tick: Value = serde_json::from_str(&tick).unwrap();
    assert_eq!((&tick["type"], &tick["data"]["timer"]), (&"dev.tandem.timer.tick".into(), &"often".into()));
    project.destroy();
}

const LOOP: &str = r#"
const cloud = require("@tandem/cloud");
const dead = new cloud.Queue("dead");
const queue = new cloud.Queue("queue", { deadLetter: dead, maxReceiveCount: 1 });
queue.subscribe("again", async ([{ body }]) => {
    console.log(`step ${body} of the loop`);
    await queue.send(String(Number(body) + 1));
}, { batchSize: 1 });
new cloud.Function("begin", async () => queue.send("1"));
new cloud.Function("end", async () => (await dead.receive({ wait: 20 }))[0].body);
"#;

#[test]
fn a_handler_that_sends_to_its_own_queue_is_stopped_after_a_hundred_steps() {
    let cloud = Cloud::new();
    let project = cloud.project("shop", &[("index.js", LOOP)]);
    let _serving = cloud.serve();
    project.up();
    project.tandem(&["invoke", "begin"]).ok();
    let mut log = cloud.log(&project);
    log.wait_for("step 100 of the loop");
    // The next one is not handled, and moves to the dead-letter queue as what fails does.
    let ended = loop {
        let ended = project.tandem(&["invoke", "end"]);
        if ended.all().contains("101") {
            break ended;
        }
    };
    assert!(ended.ok().value().contains("101"));
    assert!(!log.texts().iter().any(|text| text.contains("step 101 ")), "{:?}", log.texts().last());
    drop(log);
    project.destroy();
}

const SENDER: &str = "\
import boto3, json, sys, itertools
sqs = boto3.client('sqs')
for n in itertools.count():
    entries = [{'Id': str(k), 'MessageBody': f'{n}.{k}'} for k in range(10)]
    try:
        answer = sqs.send_message_batch(QueueUrl=sys.argv[1], Entries=entries)
    except Exception as error:
        break
    print('\\n'.join(entries[int(e['Id'])]['MessageBody'] for e in answer['Successful']), flush=True)
";

const DRAINER: &str = "\
import boto3, sys
sqs = boto3.client('sqs')
quiet = 0
while quiet < 3:
    messages = sqs.receive_message(QueueUrl=sys.argv[1], MaxNumberOfMessages=10, WaitTimeSeconds=1).get('Messages', [])
    quiet = 0 if messages else quiet + 1
    for m in messages:
        print(m['Body'], flush=True)
    if messages:
        sqs.delete_message_batch(QueueUrl=sys.argv[1], Entries=[{'Id': str(n), 'ReceiptHandle': m['ReceiptHandle']} for n, m in enumerate(messages)])
";

#[test]
fn what_was_acknowledged_is_received_though_the_cloud_is_killed_again_and_again() {
    let cloud = Cloud::new();
    let program = "const cloud = require('@tandem/cloud'); exports.queue = new cloud.Queue('q', { visibilityTimeout: 1 }).url;";
    let project = cloud.project("shop", &[("index.js", program)]);
    let mut serving = cloud.serve();
    project.up();
    let queue = project.output("queue");
    let mut acknowledged = BTreeSet::new();
    for round in 0..3 {
        let client = cloud.client(&project);
        let script = SENDER.replace("f'{n}.{k}'", &format!("f'{round}.{{n}}.{{k}}'"));
        let sender = client.boto3_beside(&script, &[&queue]);
        std::thread::sleep(std::time::Duration::from_millis(1500));
        serving.kill();
        acknowledged.extend(
            sender.ran().all().lines().filter(|l| l.starts_with(char::is_numeric)).map(str::to_owned),
        );
        serving = cloud.serve();
    }
    assert!(acknowledged.len() > 100, "{}", acknowledged.len());
    let received = cloud.client(&project).boto3(DRAINER, &[&queue]).ok();
    let received: BTreeSet<_> = received.stdout.lines().map(str::to_owned).collect();
    let lost: Vec<_> = acknowledged.difference(&received).collect();
    assert!(lost.is_empty(), "{lost:?}");
    drop(serving);
}

#[test]
fn the_queues_of_the_slide_are_provisioned_and_print_what_they_are() {
    let cloud = Cloud::new();
    let project = Project::example(&cloud, "provision-queues");
    let _serving = cloud.serve();
    let up = project.up();
    assert!(up.all().contains("arn:aws:sqs:us-east-1:000000000000:"), "{}", up.all());
    let issuer: Value = serde_json::from_str(&project.output("certIssuer")).unwrap();
    for name in ["request", "response", "prepare", "initOrg", "initOrgRes", "confirmTxs"] {
        assert!(issuer[name]["url"].as_str().is_some_and(|url| url.starts_with("http://")), "{issuer}");
    }
    let client = cloud.client(&project);
    let attributes = "print(boto3.client('sqs').get_queue_attributes(QueueUrl=arguments[0], AttributeNames=['All'])['Attributes'])";
    let told = client.boto3(attributes, &[issuer["request"]["url"].as_str().unwrap()]).ok();
    assert!(told.stdout.contains("maxReceiveCount"), "{}", told.stdout);
    let told = client.boto3(attributes, &[issuer["confirmTxs"]["url"].as_str().unwrap()]).ok();
    assert!(!told.stdout.contains("maxReceiveCount"), "{}", told.stdout);
    project.destroy();
}
