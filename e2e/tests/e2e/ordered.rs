//! A FIFO queue with a handler, under load, while its cloud is killed again and again.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    thread::sleep,
    time::{Duration, Instant},
};

use crate::harness::{Client, Cloud, PATIENCE};

const PROGRAM: &str = r#"
const cloud = require("@tandem/cloud");
const orders = new cloud.Queue("orders", { fifo: true, visibilityTimeout: 5, forceDestroy: true });
const handled = new cloud.Bucket("handled", { forceDestroy: true });
orders.subscribe("work", async (messages) => {
    // One after the other, and on disk before the next: the order of these is the order of handling.
    for (const { body } of messages) await handled.put(`${body}/${Date.now()}`, "");
}, { batchSize: 5 });
exports.orders = orders.url;
exports.handled = handled.id;
"#;

/// Sends in five groups at once, each message until it is acknowledged, as a client does that retries; ends when told to.
const SENDER: &str = "
import itertools, os, threading
url, acknowledged, stop = arguments
log = open(acknowledged, 'w', buffering=1)
def send(group):
    sqs = boto3.client('sqs', config=Config(retries={'max_attempts': 0}, connect_timeout=2, read_timeout=5))
    for n in itertools.count():
        body = f'{group}/{n:06}'
        while not os.path.exists(stop):
            try:
                sqs.send_message(QueueUrl=url, MessageBody=body, MessageGroupId=group, MessageDeduplicationId=body.replace('/', '-'))
                log.write(body + '\\n')
                break
            except Exception:
                threading.Event().wait(0.02)
        else:
            return
threads = [threading.Thread(target=send, args=[group]) for group in 'abcde']
for thread in threads: thread.start()
for thread in threads: thread.join()
";

const LIST: &str = "
for page in s3.get_paginator('list_objects_v2').paginate(Bucket=arguments[0]):
    for object in page.get('Contents', []): print(object['Key'])
";

/// When each message was handled first, in milliseconds.
fn handled(client: &Client, bucket: &str) -> BTreeMap<String, u64> {
    let listed = client.boto3(LIST, &[bucket]).ok().stdout;
    let mut first = BTreeMap::new();
    for key in listed.lines() {
        let (body, time) = key.rsplit_once('/').unwrap();
        let time: u64 = time.parse().unwrap();
        first
            .entry(body.to_owned())
            .and_modify(|earlier: &mut u64| *earlier = time.min(*earlier))
            .or_insert(time);
    }
    first
}

#[test]
fn every_acknowledged_message_is_handled_and_each_group_in_its_order_though_the_cloud_is_killed() {
    let cloud = Cloud::new();
    let mut serving = cloud.serve();
    let project = cloud.project("ordered", &[("index.js", PROGRAM)]);
    project.up();
    let (queue, bucket, client) =
        (project.output("orders"), project.output("handled"), cloud.client(&project));
    let (log, stop) = (cloud.scratch().join("acknowledged"), cloud.scratch().join("stop"));
    let sender = client.boto3_beside(SENDER, &[&queue, log.to_str().unwrap(), stop.to_str().unwrap()]);
    let sent = || fs::read_to_string(&log).unwrap_or_default().lines().count();
    for _ in 0..6 {
        // Under load, at any moment.
        let before = sent();
        let deadline = Instant::now() + PATIENCE;
        while sent() < before + 20 {
            assert!(Instant::now() < deadline, "nothing more was acknowledged after {before}");
            sleep(Duration::from_millis(10));
        }
        sleep(Duration::from_millis(fastrand::u64(0..700)));
        serving.kill();
        serving = cloud.serve();
    }
    fs::write(&stop, "").unwrap();
    sender.ran().ok();
    let acknowledged: BTreeSet<String> =
        fs::read_to_string(&log).unwrap().lines().map(str::to_owned).collect();
    assert!(acknowledged.len() > 100, "{}", acknowledged.len());

    let deadline = Instant::now() + PATIENCE;
    let first = loop {
        let first = handled(&client, &bucket);
        let lost: Vec<_> = acknowledged.iter().filter(|body| !first.contains_key(*body)).collect();
        if lost.is_empty() {
            break first;
        }
        assert!(
            Instant::now() < deadline,
            "{} of {} were not handled: {lost:?}",
            lost.len(),
            acknowledged.len()
        );
        sleep(Duration::from_millis(100));
    };
    // The keys are in the order of sending; retries come after what they repeat.
    let mut groups: BTreeMap<&str, Vec<(&str, u64)>> = BTreeMap::new();
    for (body, time) in &first {
        let (group, n) = body.split_once('/').unwrap();
        groups.entry(group).or_default().push((n, *time));
    }
    assert_eq!(groups.len(), 5);
    for (group, order) in groups {
        for pair in order.windows(2) {
            assert!(pair[0].1 <= pair[1].1, "group {group}: {} was handled before {}", pair[1].0, pair[0].0);
        }
    }
    project.destroy();
    drop(serving);
}
