use super::*;

const B: &str = "const pulumi = require('@pulumi/pulumi'); const cloud = require('@pulumi/cloud'); const b = new cloud.Bucket('b');";

#[tokio::test]
async fn apply_flattens_promises_and_outputs() {
    let found = deploy(&format!(
        "{B} exports.a = b.id.apply((id) => id.length);
        exports.b = b.id.apply(async (id) => ({{ id }}));
        exports.c = b.id.apply((id) => pulumi.output([id, b.arn]));
        exports.d = Promise.resolve(b.id);"
    ))
    .await
    .unwrap();
    assert_eq!(found, json!({ "a": 4, "b": { "id": "b-id" }, "c": ["b-id", "arn:b"], "d": "b-id" }));
}

#[tokio::test]
async fn all_interpolate_and_concat_join_outputs() {
    let found = deploy(&format!(
        "{B} exports.list = pulumi.all([b.id, 1, Promise.resolve(2)]).apply(([a, x, y]) => a + x + y);
        exports.object = pulumi.all({{ id: b.id, n: 1 }}); exports.text = pulumi.interpolate`<${{b.id}}|${{1}}>`;
        exports.joined = pulumi.concat('a/', b.id, '/', 3); exports.nested = pulumi.output({{ a: [{{ b: b.arn }}] }});"
    ))
    .await
    .unwrap();
    let expected = json!({
        "list": "b-id12", "object": { "id": "b-id", "n": 1 }, "text": "<b-id|1>", "joined": "a/b-id/3",
        "nested": { "a": [{ "b": "arn:b" }] },
    });
    assert_eq!(found, expected);
}

#[tokio::test]
async fn properties_are_lifted() {
    let found = deploy(&format!(
        "{B} exports.host = b.url.host; exports.none = b.url.path.deep; exports.len = b.id.length;"
    ))
    .await
    .unwrap();
    assert_eq!(found, json!({ "host": "b.test", "len": 4 }));
}

#[tokio::test]
async fn unknowns_stay_unknown_and_are_not_applied() {
    let found = preview(&format!(
        "{B} let ran = false; exports.id = b.id; exports.applied = b.id.apply(() => {{ ran = true; return 1; }});
        exports.text = pulumi.interpolate`x${{b.arn}}`; exports.host = b.url.host; exports.known = b.urn;
        exports.part = pulumi.output({{ known: 1, not: b.id }}).known;
        exports.whole = {{ known: 1, not: b.id }};
        exports.ran = pulumi.output(1).apply(() => ran);"
    ))
    .await
    .unwrap();
    let expected = json!({
        "id": unknown(), "applied": unknown(), "text": unknown(), "host": unknown(), "part": 1,
        "known": "urn:tandem:shop:dev:bucket:b", "whole": { "known": 1, "not": unknown() }, "ran": false,
    });
    assert_eq!(found, expected);
}

#[tokio::test]
async fn unknown_inputs_are_marked_where_they_stand() {
    let cloud = Arc::new(Recording { dry_run: true, ..Recording::default() });
    let source =
        format!("{B} new cloud.Function('f', () => {{}}, {{ environment: {{ A: b.id, B: 'x' }} }});");
    deploy_with(files(&[("index.js", &source)]), &cloud).await.unwrap();
    assert_eq!(cloud.args("f")["inputs"]["environment"], json!({ "A": unknown(), "B": "x" }));
}

#[tokio::test]
async fn secrets_stay_secret_through_apply_and_all() {
    let found = deploy(
        "const pulumi = require('@pulumi/pulumi'); const s = pulumi.secret('pw');
        exports.s = s; exports.applied = s.apply((v) => v + '!'); exports.all = pulumi.all([s, 1]);
        exports.nested = { user: 'me', pw: s }; exports.open = pulumi.unsecret(s);
        exports.is = pulumi.isSecret(s); exports.not = pulumi.isSecret(pulumi.output(1));
        exports.inner = pulumi.output(1).apply(() => s);",
    )
    .await
    .unwrap();
    let secret = |value: Value| tandem_model::value::secret(value);
    let expected = json!({
        "s": secret(json!("pw")), "applied": secret(json!("pw!")), "all": secret(json!(["pw", 1])),
        "nested": { "user": "me", "pw": secret(json!("pw")) }, "open": "pw", "is": true, "not": false,
        "inner": secret(json!("pw")),
    });
    assert_eq!(found, expected);
}

#[tokio::test]
async fn dependencies_are_carried_by_what_is_made_from_an_output() {
    let cloud = Arc::new(Recording::default());
    let source = format!(
        "{B} new cloud.Bucket('c', {{ bucketName: pulumi.interpolate`x-${{b.id.apply((i) => i)}}` }});"
    );
    deploy_with(files(&[("index.js", &source)]), &cloud).await.unwrap();
    assert_eq!(cloud.args("c")["dependsOn"], json!(["urn:tandem:shop:dev:bucket:b"]));
    assert_eq!(cloud.args("c")["inputs"], json!({ "bucketName": "x-b-id" }));
}

#[tokio::test]
async fn an_error_in_apply_fails_the_deployment_at_its_place() {
    let error = refused(&format!("{B}\nb.id.apply((id) => {{\n    throw new Error('no ' + id);\n}});")).await;
    assert_eq!(error.to_string(), "Error: no b-id (index.js:3:29)");
}

#[tokio::test]
async fn get_while_deploying_shows_how_to_use_apply() {
    let error = refused(&format!("{B}\nb.id.get();")).await;
    assert_eq!(error.code, "E0507");
    assert!(error.help.contains("output.apply(value => …)"), "{}", error.help);
    assert_eq!(error.at.as_ref().map(|at| at.line), Some(2));
}

#[tokio::test]
async fn an_output_as_text_says_what_to_do() {
    let found =
        deploy(&format!("{B} exports.text = `${{b.id}}`; exports.json = JSON.stringify({{ id: b.id }});"))
            .await
            .unwrap();
    assert!(found["text"].as_str().unwrap().starts_with("Calling [toString] on an [Output<T>]"), "{found}");
    assert!(found["json"].as_str().unwrap().contains("Calling [toJSON]"), "{found}");
}
