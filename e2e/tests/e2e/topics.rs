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
