// What the client asks the cloud.

import assert from "node:assert/strict";
import test from "node:test";

import df from "../../src/durable/index.js";
import { attach } from "../../src/host.js";

const asked = [];
let answers = {};
const call = async (method, args) => {
    asked.push([method, JSON.parse(JSON.stringify(args))]);
    return answers[method] ?? null;
};
attach({ phase: "run" }, { call });
const client = df.getClient({});

async function sent(act) {
    asked.length = 0;
    await act();
    return asked;
}

test("starts, and answers the id", async () => {
    answers = { "workflow.start": { id: "i-1" } };
    assert.equal(await client.startNew("chain", undefined, { a: 1 }), "i-1");
    assert.deepEqual(asked.pop(), ["workflow.start", { name: "chain", input: { a: 1 } }]);
    await client.startNew("chain", "mine");
    assert.deepEqual(asked.pop(), ["workflow.start", { name: "chain", id: "mine" }]);
    await assert.rejects(client.startNew(""), /a workflow's name is a text that is not empty/);
});

test("statuses have dates", async () => {
    const status = {
        instanceId: "i",
        runtimeStatus: "Completed",
        createdTime: "2026-01-01T00:00:00Z",
        lastUpdatedTime: "2026-01-01T00:00:01Z",
        output: [1],
    };
    answers = {
        "workflow.status": status,
        "workflow.list": [status, { ...status, instanceId: "j", runtimeStatus: "Running" }],
    };
    assert.equal(
        (await client.getStatus("i")).lastUpdatedTime - (await client.getStatus("i")).createdTime,
        1000,
    );
    const [from, later] = [new Date("2026-01-01"), new Date("2026-01-02")];
    const found = async (...filter) =>
        (await client.getStatusBy(...filter)).map(({ instanceId }) => instanceId);
    assert.deepEqual(await found(from, later, [df.OrchestrationRuntimeStatus.Running]), ["j"]);
    assert.deepEqual(await found(from), ["i", "j"]);
    assert.deepEqual(await found(later), []);
    assert.deepEqual(await found(undefined, new Date("2025-01-01")), []);
    assert.equal((await client.getStatusAll()).length, 2);
    // Only what has ended is purged.
    const purged = await sent(() => client.purgeInstanceHistoryBy(from));
    assert.deepEqual(purged.slice(1), [["workflow.purge", { id: "i" }]]);
    answers = {};
    assert.equal(await client.getStatus("unknown"), null);
});

test("what is done to an instance and to an entity", async () => {
    const id = new df.EntityId("Counter", "one");
    answers = { "entity.read": { exists: true, state: 3 } };
    const calls = await sent(async () => {
        await client.raiseEvent("i", "approved", { by: "me" });
        await client.terminate("i", "enough");
        await client.suspend("i", "wait");
        await client.resume("i", "go");
        await client.rewind("i", "mended");
        await client.signalEntity(id, "add", 0);
        assert.deepEqual({ ...(await client.readEntityState(id)) }, { entityExists: true, entityState: 3 });
    });
    assert.deepEqual(calls, [
        ["workflow.raise", { id: "i", name: "approved", data: { by: "me" } }],
        ["workflow.terminate", { id: "i", reason: "enough" }],
        ["workflow.suspend", { id: "i", reason: "wait" }],
        ["workflow.resume", { id: "i", reason: "go" }],
        ["workflow.rewind", { id: "i", reason: "mended" }],
        ["entity.signal", { entity: "Counter", key: "one", operation: "add", input: 0 }],
        ["entity.read", { entity: "Counter", key: "one" }],
    ]);
    await assert.rejects(client.readEntityState("Counter"), /named by a df.EntityId, not "Counter"/);
});

test("whoever asks over HTTP is told where to ask again", async () => {
    process.env.AWS_ENDPOINT_URL = "http://127.0.0.1:4566";
    const request = { url: "http://shop.test:8080/orders?x=1" };
    const { status, headers, body } = client.createCheckStatusResponse(request, "a b");
    assert.equal(status, 202);
    assert.equal(headers.Location, "http://127.0.0.1:4566/runtime/webhooks/durabletask/instances/a%20b");
    assert.equal(body.sendEventPostUri, `${headers.Location}/raiseEvent/{eventName}`);
    answers = { "workflow.status": { runtimeStatus: "Failed", output: "why" } };
    assert.equal((await client.waitForCompletionOrCreateCheckStatusResponse(request, "i")).status, 500);
    answers = { "workflow.status": { runtimeStatus: "Completed", output: [1] } };
    assert.equal((await client.waitForCompletionOrCreateCheckStatusResponse(request, "i")).body, "[1]");
    answers = { "workflow.status": { runtimeStatus: "Running" } };
    assert.equal((await client.waitForCompletionOrCreateCheckStatusResponse(request, "i", 2, 1)).status, 202);
});

test("nothing is asked while the program is deployed", async () => {
    attach({ phase: "deploy" }, { call });
    await assert.rejects(df.getClient().startNew("chain"), (error) => error.code === "E0507");
    attach({ phase: "run" }, { call });
});
