//! Topics as programs use them.

use super::*;

#[tokio::test]
async fn a_subscription_has_a_filter_and_its_handler_gets_the_message_and_the_event() {
    let source = "const cloud = require('@pulumi/cloud');
        const topic = new cloud.Topic('orders');
        topic.subscribe('f', async (message, context, event) => [message.n, context.requestId, event.data.attributes.a],
            { filter: { attributes: { a: ['x'] }, message: { n: [{ numeric: ['>', 0] }] } } });
        topic.subscribe('g', new cloud.Task('t', { image: 'x' }));";
    let cloud = Arc::new(Recording::default());
    deploy_with(files(&[("index.js", source)]), &cloud).await.unwrap();
    assert_eq!(
        cloud.registered(),
        ["topic/orders", "task/t", "function/f", "subscription/f", "subscription/g"]
    );
    let inputs = |name: &str| {
        let calls = cloud.calls.lock().unwrap();
        let found = calls.iter().find(|(_, args)| args["kind"] == "subscription" && args["name"] == name);
        serde_json::from_value::<tandem_model::inputs::Subscription>(found.unwrap().1["inputs"].clone())
            .unwrap()
    };
    assert_eq!(inputs("f").events, [tandem_model::event::TOPIC_MESSAGE]);
    assert_eq!(inputs("f").filter.policies().unwrap().len(), 2);
    assert_eq!(inputs("g").filter.policies().unwrap().len(), 0);
    let event = json!({ "data": { "topic": "orders", "message": { "n": 3 }, "attributes": { "a": "x" } } });
    assert_eq!(invoke(source, event).await.unwrap(), json!([3, "r-1", "x"]));
}

#[tokio::test]
async fn a_handler_publishes() {
    let cloud = Arc::new(Recording {
        answers: BTreeMap::from([("topic.publish", json!("e-1"))]),
        ..Recording::default()
    });
    let source = "const cloud = require('@tandem/cloud'); const topic = new cloud.Topic('orders');
        new cloud.Function('f', (event) => topic.publish(event, { subject: 's', attributes: { a: 1 } }));
        new cloud.Function('wrong', () => topic.publish(undefined));";
    let vm = worker(files(&[("index.js", source)]), &cloud).await.unwrap();
    assert_eq!(vm.invoke("f", json!({ "n": 1 }), context()).await.unwrap(), json!("e-1"));
    let expected =
        json!({ "topic": "orders", "message": { "n": 1 }, "subject": "s", "attributes": { "a": 1 } });
    assert_eq!(cloud.args("topic.publish"), expected);
    let error = vm.invoke("wrong", Value::Null, context()).await.unwrap_err();
    assert_eq!(error.message, "the message of topic.publish is a value that JSON can hold, not nothing");
    let error = refused("const cloud = require('@tandem/cloud');\nnew cloud.Topic('t').publish(1);").await;
    assert_eq!(error.code, "E0507");
    let error =
        refused("new (require('@tandem/cloud').Topic)('t').subscribe('s', () => {}, { filter: { a: [] } });")
            .await;
    assert_eq!(error.message, "the filter of topic/t.subscribe has no option \"a\"");
}
