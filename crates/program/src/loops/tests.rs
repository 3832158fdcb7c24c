use std::collections::BTreeMap;

use serde_json::json;
use tandem_js::ModuleKind;
use tandem_model::{StackId, resource::Properties};

use super::*;

/// The loops of a program of one subscription, `s`, to a source, in the line that has `subscribe` or `onPut` in it.
fn told(kind: &str, filter: serde_json::Value, source: &str) -> Vec<String> {
    let module = tandem_js::Module {
        kind: ModuleKind::CommonJs,
        source: source.to_owned(),
        imports: BTreeMap::new(),
        named_exports: Vec::new(),
    };
    let archive =
        Archive { entry: "index.js".into(), modules: BTreeMap::from([("index.js".into(), module)]) };
    let stack: StackId = "p/dev".parse().unwrap();
    let at = |what: &str| {
        let place = Place::at("index.js", source, source.find(what)?);
        Some(place.to_string())
    };
    let desired = |kind: Kind, inputs: serde_json::Value, declared_at| Desired {
        urn: Urn::new(stack.clone(), kind, "s".parse().unwrap()),
        inputs: inputs.as_object().cloned().unwrap_or_else(Properties::new),
        depends_on: Vec::new(),
        declared_at,
    };
    let subscribed = at(if kind == "bucket" { ".onPut(" } else { ".subscribe(" });
    let subscription = desired(
        Kind::Subscription,
        json!({
            "source": format!("urn:tandem:p:dev:{kind}:x"),
            "consumer": "urn:tandem:p:dev:function:s",
            "events": ["e"],
            "filter": filter,
        }),
        subscribed.clone(),
    );
    let function = desired(Kind::Function, json!({}), at("new cloud.Function(").or(subscribed));
    // The same place may make several.
    let second = Urn { name: "t".parse().unwrap(), ..subscription.urn.clone() };
    let second = Desired { urn: second, ..subscription.clone() };
    let declared = [subscription, second, function].map(|desired| (desired.urn.clone(), desired));
    find(&archive, &declared.into()).iter().map(ToString::to_string).collect()
}

fn bucket(filter: serde_json::Value, source: &str) -> String {
    told("bucket", filter, source).join("; ")
}

const SURELY: &str = "subscription/s triggers itself: ";
const PERHAPS: &str = "subscription/s may trigger itself: ";

#[test]
fn a_handler_that_puts_what_its_filter_wants_triggers_itself() {
    let all = json!({});
    insta::assert_snapshot!(
        bucket(all.clone(), "const b = new Bucket('b');\nb.onPut('s', async ({ key }) => {\n  await b.put(`k-${key + 1}`, 'x');\n});"),
        @"subscription/s triggers itself: its handler puts `k-…` into bucket/x at index.js:3:9, and gets that object again"
    );
    let mp4 = json!({ "suffix": ".mp4" });
    for handler in [
        "async ({ key }) => b.put(key, 'x')",
        "async (args) => { const file = args.key; await b.put('out/' + file, 'x'); }",
        "async function ({ key: k }) { for (const n of [1, 2]) await b.put(`${n}-${k}`, 'x'); }",
        "async (args, context, event) => { await b.put(event.subject, 'x'); }",
        "async ({ key }) => { try { await b.put(key.replace('.avi', '.avi') + '.mp4', 'x'); } finally { done(); } }",
        "async () => { await b.put('fixed.mp4', 'x'); }",
    ] {
        let found = bucket(mp4.clone(), &format!("b.onPut('s', {handler}, {{ keySuffix: '.mp4' }})"));
        assert!(found.starts_with(SURELY), "{handler}: {found}");
    }
    for handler in ["async ({ key }) => b.put(make(key), 'x')", "async ({ size }) => b.put(`${size}`, 'x')"] {
        let found = bucket(mp4.clone(), &format!("b.onPut('s', {handler}, {{ keySuffix: '.mp4' }})"));
        assert!(found.starts_with(PERHAPS), "{handler}: {found}");
    }
}

#[test]
fn functions_of_the_module_are_followed_and_so_are_handlers_by_name() {
    let named = "const PLACE = 'in/';\nfunction save(name, body) { return b.put(PLACE + name, body); }\n\
                 async function handle({ key }) { await save(key, 'x'); }\nb.onPut('s', handle);";
    assert!(bucket(json!({ "prefix": "in/" }), named).contains("puts `in/in/…` into"));
    let apart = "const f = new cloud.Function('s', async (event) => { await b.put(event.data.key, 'x'); });\n\
                 b.onPut('s', f, { keyPrefix: 'in/' });";
    assert!(bucket(json!({ "prefix": "in/" }), apart).starts_with(SURELY));
    assert!(bucket(json!({}), "shop.photos.onPut('s', () => shop.photos.put('x', 'y'))").starts_with(SURELY));
}

#[test]
fn what_goes_elsewhere_or_on_a_condition_is_no_loop() {
    let mp4 = json!({ "suffix": ".mp4" });
    for handler in [
        "async ({ key }) => b.put(key + '.jpg', 'x')",
        "async ({ key }) => b.put(key.replace('.mp4', '.jpg'), 'x')",
        "async ({ key }) => b.put(key.replace(/mp4$/, 'jpg'), 'x')",
        "async ({ key }) => { const out = `${base(key)}.jpg`; await b.put(out, 'x'); }",
        "async ({ key }) => other.put(key, 'x')",
        "async ({ key }) => { if (key.startsWith('a')) await b.put(key, 'x'); }",
        "async ({ key }) => { if (key.startsWith('out/')) return; await b.put('out/' + key, 'x'); }",
        "async ({ key }) => { key.length > 9 || await b.put(key, 'x'); }",
        "async ({ key }) => { try { work(); } catch { await b.put(key, 'x'); } }",
        "async ({ key }, b) => b.put(key, 'x')",
        "async ({ key }) => { const b = others[key]; await b.put(key, 'x'); }",
        "async ({ key }) => b.get(key)",
        "task",
    ] {
        let source = format!("b.onPut('s', {handler}, {{ keySuffix: '.mp4' }})");
        assert_eq!(bucket(mp4.clone(), &source), "", "{handler}");
    }
    let prefixes = "b.onPut('s', async ({ key }) => { await b.put('thumbs/' + key.split('/')[1], 'x'); })";
    assert_eq!(bucket(json!({ "prefix": "videos/" }), prefixes), "");
    assert_eq!(bucket(json!({}), "b.onPut('s', async () => {"), "", "what cannot be read is not judged");
}

#[test]
fn a_message_that_its_handler_sends_comes_again() {
    for (kind, method) in [
        ("queue", "send"),
        ("queue", "sendBatch"),
        ("topic", "publish"),
        ("stream", "put"),
        ("stream", "putBatch"),
    ] {
        let again = format!("q.subscribe('s', async (m) => {{ await q.{method}(m); }})");
        let found = told(kind, json!({}), &again).join("; ");
        assert!(found.starts_with(SURELY) && found.contains(&format!("to {kind}/x at")), "{found}");
        let retried = format!("q.subscribe('s', async (m) => {{ if (m.n < 5) await q.{method}(m); }})");
        assert_eq!(told(kind, json!({}), &retried), [""; 0]);
    }
    let filtered = "q.subscribe('s', async (m) => { await q.publish(m); })";
    assert_eq!(told("topic", json!({ "attributes": { "a": ["b"] } }), filtered), [""; 0]);
}

#[test]
fn the_thumbnailer_of_the_examples_is_no_loop() {
    let source = include_str!("../../../../examples/video-thumbnailer/index.js");
    let source = source.replacen("bucket.onPut(\"onNewThumbnail\"", "bucket.first(\"onNewThumbnail\"", 1);
    assert_eq!(bucket(json!({ "suffix": ".mp4" }), &source), "");
}

#[test]
fn functions_that_call_many_others_are_not_followed_for_ever() {
    let mut source = String::from(
        "const b = new Bucket('b');\nb.onPut('s', async () => { await b.put('k', 'x'); f0(); });\n",
    );
    for n in 0..9 {
        let calls = format!("f{}(); ", n + 1).repeat(20);
        source.push_str(&format!("function f{n}() {{ {calls} }}\n"));
    }
    let told = bucket(json!({}), &source);
    assert!(told.starts_with(SURELY), "{told}");
}
