use super::*;

fn program(body: &str) -> Files {
    let head = "const cloud = require('@tandem/cloud'); const b = new cloud.Bucket('b');";
    files(&[("index.js", &format!("{head}\n{body}"))])
}

#[tokio::test]
async fn a_handler_gets_the_event_and_the_context() {
    let source = "const cloud = require('@tandem/cloud');
        new cloud.Function('f', async (event, context) => ({ event, id: context.requestId, mb: context.memoryLimitInMB,
            left: context.getRemainingTimeInMillis() > 1000, name: context.functionName }));";
    let found = invoke(source, json!({ "n": 1 })).await.unwrap();
    assert_eq!(found, json!({ "event": { "n": 1 }, "id": "r-1", "mb": 64, "left": true, "name": "f" }));
    assert_eq!(
        invoke("new (require('@tandem/cloud').Function)('f', () => {});", Value::Null).await.unwrap(),
        Value::Null
    );
}

#[tokio::test]
async fn a_handler_of_on_put_gets_the_object_and_reaches_outputs_and_tasks() {
    let cloud = Arc::new(Recording {
        answers: BTreeMap::from([
            ("task.run", json!({ "id": "run-1" })),
            (
                "run.wait",
                json!({
                    "id": "run-1", "state": "ended", "outcome": { "outcome": "exited", "code": 0 }, "exitCode": 0,
                    "result": { "frames": 3 },
                }),
            ),
        ]),
        ..Recording::default()
    });
    let vm = worker(
        program(
            "const t = new cloud.Task('t', { build: '.' });
            b.onPut('h', async ({ key, size, eventTime }) => {
                const run = await t.run({ environment: { BUCKET: b.id.get(), KEY: key, SIZE: size, HOST: b.url.host } });
                return { run: run.id, wait: await run.wait(), eventTime };
            }, { keySuffix: '.mp4' });",
        ),
        &cloud,
    )
    .await
    .unwrap();
    assert_eq!(vm.handlers().await, ["h"]);
    let event = json!({ "data": { "bucket": "b-id", "key": "a.mp4", "size": 3, "eventTime": "2030-01-01T00:00:00Z" } });
    let found = vm.invoke("h", event, context()).await.unwrap();
    let expected = json!({
        "run": "run-1", "wait": { "id": "run-1", "state": "ended", "outcome": "exited", "exitCode": 0, "result": { "frames": 3 } },
        "eventTime": "2030-01-01T00:00:00Z",
    });
    assert_eq!(found, expected);
    assert_eq!(cloud.registered(), [""; 0]);
    let environment = json!({ "BUCKET": "b-id", "KEY": "a.mp4", "SIZE": "3", "HOST": "h" });
    assert_eq!(cloud.args("task.run"), json!({ "task": "t", "environment": environment, "command": null }));
}

#[tokio::test]
async fn a_run_is_given_what_json_can_say() {
    let answers = BTreeMap::from([("task.run", json!({ "id": "run-1" }))]);
    let cloud = Arc::new(Recording { answers, ..Recording::default() });
    let vm = worker(
        program(
            "const t = new cloud.Task('t', { build: '.' });
            new cloud.Function('f', () => t.run({ input: { at: new Date(0), bucket: b.id, list: [1, undefined] } }).then(() => 1));
            new cloud.Function('none', () => t.run({ input: () => {} }));
            new cloud.Function('circle', () => { const a = {}; a.a = a; return t.run({ input: a }); });",
        ),
        &cloud,
    )
    .await
    .unwrap();
    vm.invoke("f", Value::Null, context()).await.unwrap();
    let input = json!({ "at": "1970-01-01T00:00:00.000Z", "bucket": "b-id", "list": [1, null] });
    assert_eq!(cloud.args("task.run")["input"], input);
    for (handler, why) in [("none", "which JSON cannot say"), ("circle", "cannot be written as JSON")] {
        let error = vm.invoke(handler, Value::Null, context()).await.unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[tokio::test]
async fn buckets_are_read_and_written() {
    let answers = BTreeMap::from([("bucket.get", json!({ "body": "aGk=" }))]);
    let cloud = Arc::new(Recording { answers, ..Recording::default() });
    let vm = worker(
        program(
            "new cloud.Function('f', async () => {
                await b.put('k', Buffer.from([1, 2]), { contentType: 'x/y' }); await b.put('t', 'é'); await b.delete('old');
                return (await b.get('k')).toString();
            });",
        ),
        &cloud,
    )
    .await
    .unwrap();
    assert_eq!(vm.invoke("f", Value::Null, context()).await.unwrap(), "hi");
    let expected = json!({ "bucket": "b-id", "key": "k", "body": "AQI=", "contentType": "x/y" });
    assert_eq!(cloud.args("bucket.put"), expected);
    assert_eq!(cloud.args("bucket.delete"), json!({ "bucket": "b-id", "key": "old" }));
}

#[tokio::test]
async fn an_object_that_is_not_there_is_an_error_with_the_key() {
    let vm = worker(program("new cloud.Function('f', () => b.get('k'));"), &Arc::default()).await.unwrap();
    let error = vm.invoke("f", Value::Null, context()).await.unwrap_err();
    assert_eq!(error.code, "E0515");
    assert_eq!(error.message, "there is no object \"k\" in bucket b-id");
}

#[tokio::test]
async fn an_error_of_the_cloud_is_one_of_the_handler_with_its_frame() {
    let cloud = Arc::new(Recording { refuse: Some("secret-key"), ..Recording::default() });
    let body = "new cloud.Function('f', async () => {\n  try { await b.put('secret-key', 'x') } catch (e) { console.error(e.code, e.help); throw e }\n});";
    let vm = worker(program(body), &cloud).await.unwrap();
    let error = vm.invoke("f", Value::Null, context()).await.unwrap_err();
    assert_eq!(error.code, "E0204");
    assert_eq!(error.at.as_ref().map(|at| at.line), Some(3));
}

#[tokio::test]
async fn outputs_can_be_combined_in_a_handler() {
    let vm = worker(
        program(
            "const text = cloud.interpolate`<${b.id}>`; const host = b.url.host;
            new cloud.Function('f', () => [text.get(), host.get(), b.id.apply((i) => i.length).get(), `${b.id}`]);",
        ),
        &Arc::default(),
    )
    .await
    .unwrap();
    assert_eq!(vm.invoke("f", Value::Null, context()).await.unwrap(), json!(["<b-id>", "h", 4, "b-id"]));
}

#[tokio::test]
async fn a_resource_that_is_not_deployed_says_so() {
    let body = "const c = new cloud.Bucket('c'); const text = cloud.interpolate`${c.id}!`;
        new cloud.Function('f', () => text.get());";
    let vm = worker(program(body), &Arc::default()).await.unwrap();
    let error = vm.invoke("f", Value::Null, context()).await.unwrap_err();
    assert_eq!(error.code, "E0513");
    assert_eq!(error.message, "bucket/c is not deployed yet");
}

#[tokio::test]
async fn a_resource_declared_in_a_handler_is_an_error() {
    let vm = worker(program("new cloud.Function('f', () => { new cloud.Bucket('c'); });"), &Arc::default())
        .await
        .unwrap();
    assert_eq!(vm.invoke("f", Value::Null, context()).await.unwrap_err().code, "E0507");
}

#[tokio::test]
async fn code_of_a_container_is_a_handler_whose_answer_says_whether_there_is_a_result() {
    let body = "new cloud.Task('t', { function: (input) => input && input.of });
        new cloud.Service('web', { function: async () => null });
        new cloud.Service('s', { containers: { a: { function: () => { throw new RangeError('far') } } } });";
    let vm = worker(program(body), &Arc::default()).await.unwrap();
    assert_eq!(vm.handlers().await, ["service/s/a", "service/web/web", "task/t"]);
    let call = async |name: &str, input: Value| vm.invoke(name, input, context()).await;
    assert_eq!(call("task/t", json!({ "of": [1] })).await.unwrap(), json!({ "result": [1] }));
    assert_eq!(call("task/t", Value::Null).await.unwrap(), json!({}));
    assert_eq!(call("service/web/web", Value::Null).await.unwrap(), json!({ "result": null }));
    assert_eq!(call("service/s/a", Value::Null).await.unwrap_err().name, "RangeError");
}

#[tokio::test]
async fn an_unknown_handler_lists_those_there_are() {
    let body = "new cloud.Function('f', () => {}); new cloud.Function('a', () => {});";
    let vm = worker(program(body), &Arc::default()).await.unwrap();
    let error = vm.invoke("g", Value::Null, context()).await.unwrap_err();
    assert_eq!(error.code, "E0511");
    assert_eq!(error.message, "the program has no handler \"g\"; it has a, f");
}

#[tokio::test]
async fn a_handler_that_throws_leaves_the_worker_usable() {
    let body = "let n = 0; new cloud.Function('f', async () => { n += 1; if (n === 1) throw new TypeError('first'); return n });";
    let vm = worker(program(body), &Arc::default()).await.unwrap();
    let error = vm.invoke("f", Value::Null, context()).await.unwrap_err();
    assert_eq!((error.name.as_str(), error.message.as_str()), ("TypeError", "first"));
    assert_eq!(vm.invoke("f", Value::Null, context()).await.unwrap(), 2);
}

#[tokio::test]
async fn a_loop_is_interrupted_at_the_deadline() {
    let vm = worker(program("new cloud.Function('f', () => { for (;;); });"), &Arc::default()).await.unwrap();
    let deadline = SystemTime::now() + Duration::from_millis(30);
    let error = vm.invoke("f", Value::Null, InvokeContext { deadline, ..context() }).await.unwrap_err();
    assert_eq!(error.code, "E0514", "{error:?}");
    assert_eq!(error.at.as_ref().map(|at| at.line), Some(2));
}

#[tokio::test]
async fn a_loop_behind_a_promise_is_interrupted_at_the_deadline_too() {
    // The engine counts wrongly when it is interrupted there, and cannot be freed any more; a worker ends without that.

    let body = "new cloud.Function('f', async () => { await null; for (;;); });";
    let vm = worker(program(body), &Arc::default()).await.unwrap();
    let deadline = SystemTime::now() + Duration::from_millis(30);
    let error = vm.invoke("f", Value::Null, InvokeContext { deadline, ..context() }).await.unwrap_err();
    std::mem::forget(vm);
    assert_eq!(error.code, "E0514", "{error:?}");
}

#[tokio::test]
async fn a_handler_that_can_never_finish_is_told_at_once() {
    let vm = worker(program("new cloud.Function('f', () => new Promise(() => {}));"), &Arc::default())
        .await
        .unwrap();
    let error = vm.invoke("f", Value::Null, context()).await.unwrap_err();
    assert_eq!(error.code, "E0512");
}

#[tokio::test]
async fn timers_fire_in_order_and_can_be_cleared() {
    let body = "new cloud.Function('f', async () => {
        const seen = []; const note = (x) => seen.push(x);
        setTimeout(note, 8, 'c'); setTimeout(note, 1, 'a'); clearTimeout(setTimeout(note, 2, 'no')); setImmediate(note, 'i');
        queueMicrotask(() => note('m'));
        const every = setInterval(() => { note('e'); if (seen.length > 6) clearInterval(every) }, 2);
        await new Promise((done) => setTimeout(done, 30));
        const signal = AbortSignal.timeout(1); await new Promise((done) => setTimeout(done, 5));
        return [seen.slice(0, 3), seen.includes('c'), seen.includes('no'), signal.aborted];
    });";
    let vm = worker(program(body), &Arc::default()).await.unwrap();
    assert_eq!(
        vm.invoke("f", Value::Null, context()).await.unwrap(),
        json!([["m", "i", "a"], true, false, true])
    );
}

#[tokio::test]
async fn generators_and_modern_syntax_work() {
    let body = "class A { #x = 1; static { A.s = 2 } get x() { return this.#x ?? 0 } }
        function* g() { const got = yield 1; yield got * 2; }
        new cloud.Function('f', async () => {
            const it = g(); it.next(); const { value } = it.next(21);
            async function* later() { yield 1; yield 2; }
            let sum = 0; for await (const n of later()) sum += n;
            return [value, sum, new A().x, A.s, Object.groupBy([1, 2], (n) => n % 2 ? 'odd' : 'even'), [3, 1].toSorted()];
        });";
    let vm = worker(program(body), &Arc::default()).await.unwrap();
    let expected = json!([42, 3, 1, 2, { "odd": [1], "even": [2] }, [1, 3]]);
    assert_eq!(vm.invoke("f", Value::Null, context()).await.unwrap(), expected);
}

#[tokio::test]
async fn an_answer_that_is_not_json_is_an_error() {
    for answer in ["10n", "(() => { const a = {}; a.a = a; return a })()"] {
        let vm = worker(program(&format!("new cloud.Function('f', () => {answer});")), &Arc::default())
            .await
            .unwrap();
        assert_eq!(vm.invoke("f", Value::Null, context()).await.unwrap_err().name, "TypeError", "{answer}");
    }
}

#[test]
fn a_machine_can_be_moved_between_threads() {
    fn is_send<T: Send>(_: &T) {}
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let vm = runtime.block_on(Vm::new()).unwrap();
    is_send(&vm.invoke("f", Value::Null, context()));
}

#[test]
fn a_template_serves_without_a_second_start_and_draws_its_own_numbers() {
    let templates = [Vm::template().unwrap(), Vm::template().unwrap()];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let body = "new cloud.Function('f', () => { const all = Array.from({ length: 1000 }, Math.random);
        return { all, mean: all.reduce((a, b) => a + b) / 1000, inside: all.every((n) => n >= 0 && n < 1) } });";
    let [a, b] = templates.map(|vm| {
        runtime.block_on(async {
            vm.load(Arc::new(program(body).0), setup(Phase::Run), Arc::<Recording>::default()).await.unwrap();
            vm.invoke("f", Value::Null, context()).await.unwrap()
        })
    });
    assert_ne!(a["all"], b["all"]);
    for found in [a, b] {
        assert!(
            (found["mean"].as_f64().unwrap() - 0.5).abs() < 0.1 && found["inside"] == true,
            "{}",
            found["mean"]
        );
    }
}
