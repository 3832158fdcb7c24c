//! A topic from a handler that publishes to functions and a container that subscribe, over a kill of the cloud.

use serde_json::Value;

use crate::harness::Cloud;

const PROGRAM: &str = "const cloud = require('@tandem/cloud');
const orders = new cloud.Topic('orders');
const print = new cloud.Task('print', { image: 'docker.io/library/busybox', command: ['sh', '-c', 'echo \"*** task $TANDEM_EVENT\"'] });
new cloud.Function('order', ({ n, price, colour }) =>
    orders.publish({ n, price }, { subject: `order ${n}`, attributes: { colour } }));
orders.subscribe('all', async ({ n }, context, event) => console.log(`*** all ${n} ${event.subject} ${event.id}`));
orders.subscribe('dear', async ({ n }) => console.log(`*** dear ${n}`), { filter: { message: { price: [{ numeric: ['>', 10] }] } } });
orders.subscribe('failing', async () => { throw new Error('no'); }, { filter: { attributes: { colour: ['red'] } } });
orders.subscribe('printed', print, { filter: { attributes: { colour: [{ 'anything-but': 'red' }] } } });
";

const LONG: &str = r#"
const cloud = require("@tandem/cloud");
const topic = new cloud.Topic("topic");
topic.subscribe("told", new cloud.Task("told", {
    image: "docker.io/library/busybox",
    command: ["sh", "-c", "tee /tmp/event | wc -c | tr '\\n' ' '; cmp /tmp/event $TANDEM_EVENT_FILE && echo bytes, size ${TANDEM_EVENT_SIZE-none}, variable ${#TANDEM_EVENT}"],
}));
new cloud.Function("publish", (length) => topic.publish("x".repeat(length)));
"#;

#[test]
fn a_container_reads_an_event_of_any_length_from_its_standard_input_also_after_a_kill() {
    let cloud = Cloud::new();
    let serving = cloud.serve();
    cloud.import_busybox();
    let project = cloud.project("long", &[("index.js", LONG)]);
    project.up();
    serving.kill();
    for (round, point) in ["task.run.committed", "container.start.monitored"].into_iter().enumerate() {
        let serving = cloud.serve_until(point);
        let long = 200_000;
        let _ = project.tandem(&["invoke", "publish", &long.to_string()]);
        serving.died(point);
        let serving = cloud.serve();
        let mut log = cloud.log(&project);
        let told = log.wait_for_times(", variable 0", round + 1).text;
        let (bytes, rest) = told.split_once(" bytes, size ").unwrap();
        let (size, _) = rest.split_once(',').unwrap();
        // A line of JSON: the event and its end.
        assert_eq!(bytes.parse::<usize>().unwrap(), size.parse::<usize>().unwrap() + 1, "{told}");
        assert!(size.parse::<usize>().unwrap() > long, "{told}");
        drop(log);
        assert!(serving.terminate().success(), "{point}");
    }
    let _serving = cloud.serve();
    project.tandem(&["invoke", "publish", "10"]).ok();
    let told = cloud.log(&project).wait_for("bytes, size none").text;
    assert!(!told.contains("variable 0"), "{told}");
    project.destroy();
}

const LOOP: &str = r#"
const cloud = require("@tandem/cloud");
const topic = new cloud.Topic("topic");
topic.subscribe("again", async ({ n }) => {
    console.log(`step ${n} of the loop`);
    await topic.publish({ n: n + 1 });
});
const [out, back] = [new cloud.Topic("out"), new cloud.Queue("back", { forceDestroy: true })];
out.subscribe("to-queue", back);
back.subscribe("to-topic", async (messages) => {
    for (const { body } of messages) {
        const { n } = JSON.parse(body).data.message;
        console.log(`turn ${n} of the loop`);
        await out.publish({ n: n + 1 });
    }
});
new cloud.Function("begin", () => topic.publish({ n: 1 }));
new cloud.Function("begin-both", () => out.publish({ n: 1 }));
"#;

#[test]
fn a_chain_through_topics_and_through_queues_is_stopped_after_a_hundred_deliveries() {
    let cloud = Cloud::new();
    let _serving = cloud.serve();
    let project = cloud.project("loops", &[("index.js", LOOP)]);
    project.up();
    let mut log = cloud.log(&project);
    // Of a turn through both there are two deliveries.
    for (begin, last, beyond) in
        [("begin", "step 100 of the loop", "step 101 "), ("begin-both", "turn 50 of the loop", "turn 51 ")]
    {
        let listed = || project.tandem(&["dead-letters", "ls", "--json"]).ok().stdout;
        let before = listed().lines().count();
        project.tandem(&["invoke", begin]).ok();
        log.wait_for(last);
        while listed().lines().count() == before {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let letters: Vec<Value> = listed().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(letters.len(), before + 1, "{letters:?}");
        assert!(letters.iter().all(|letter| letter["error"]["code"] == "E0652"), "{letters:?}");
        assert!(!log.texts().iter().any(|text| text.contains(beyond)), "{:?}", log.texts().last());
    }
    drop(log);
    project.destroy();
}

#[test]
fn a_message_goes_to_functions_and_containers_that_want_it_also_after_a_kill() {
    let cloud = Cloud::new();
    let serving = cloud.serve();
    cloud.import_busybox();
    let project = cloud.project("shop", &[("index.js", PROGRAM)]);
    project.up();
    let mut log = cloud.log(&project);
    let publish = |n: u32, price: u32, colour: &str| {
        let payload = format!(r#"{{"n":{n},"price":{price},"colour":"{colour}"}}"#);
        project.tandem(&["invoke", "order", &payload]).ok().value().trim_matches('"').to_owned()
    };
    let id = publish(1, 5, "red");
    assert_eq!(log.wait_for("*** all 1 ").text, format!("*** all 1 order 1 {id}"));
    publish(2, 50, "blue");
    log.wait_for("*** dear 2");
    let told = log.wait_for("*** task ").text;
    let event: Value = serde_json::from_str(told.trim_start_matches("*** task ")).unwrap();
    assert_eq!(event["type"], "dev.tandem.topic.message");
    assert_eq!(event["data"]["message"]["n"], 2);
    assert!(!log.texts().iter().any(|text| text.contains("*** dear 1")), "{:?}", log.texts());
    cloud.observe();

    // What was acknowledged before the kill is delivered after it.
    drop(log);
    publish(3, 70, "green");
    serving.kill();
    let _serving = cloud.serve();
    let mut log = cloud.log(&project);
    log.wait_for("*** all 3 ");
    log.wait_for("*** dear 3");
    cloud.observe();

    // A filter that makes no sense is told where it is, and changes nothing.
    project.edit("index.js", &PROGRAM.replace("['red']", "'red'"));
    let refused = project.tandem(&["preview"]).failed("E0680").says("at `colour`");
    assert!(refused.all().contains("index.js:"), "{}", refused.all());
    drop(log);
    project.destroy();
}
