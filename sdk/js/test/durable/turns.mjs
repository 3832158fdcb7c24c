// Turns of a worker: generators that live on, and those that may not.

import assert from "node:assert/strict";
import test from "node:test";

import df from "../../src/durable/index.js";
import { started, begun, done, raised } from "./history.mjs";

test("the slides' form", async () => {
    const chain = df(function* (ctx) {
        const x = yield ctx.df.callActivityAsync("F1");
        const y = yield ctx.df.callActivityAsync("F2", x);
        return yield ctx.df.callActivityAsync("F3", y);
    });
    const first = await chain({
        instance: "i",
        execution: "1",
        binding: { history: begun, instanceId: "i" },
        commit: "a",
    });
    assert.deepEqual(first.state.actions, [[{ actionType: 0, functionName: "F1", input: undefined, id: 0 }]]);
    const second = await chain({
        instance: "i",
        execution: "1",
        hash: "a",
        events: [started(1), done(0, "x")],
        commit: "b",
    });
    assert.deepEqual(second.state.actions, [[{ actionType: 0, functionName: "F2", input: '"x"', id: 1 }]]);
    assert.equal(second.state.continued, true);
    assert.equal(second.state.from, 1);
    const request = {
        instance: "i",
        execution: "1",
        hash: "b",
        events: [started(2), done(1, 1), done(2, [3])],
        commit: "c",
    };
    const third = await chain(request);
    assert.equal(third.state.isDone, true);
    assert.deepEqual(third.state.output, [3]);
    assert.deepEqual(await chain(request), { replay: true });
});

test("a generator serves one attempt, and only the history that was committed", async () => {
    const wait = df(function* (ctx) {
        for (;;) yield ctx.df.waitForExternalEvent("e");
    });
    const names = { instance: "w", execution: "1" };
    const whole = { ...names, binding: { history: begun, instanceId: "w" }, commit: "a" };
    const more = (hash, commit) => ({ ...names, hash, events: [started(1), raised("e", 1)], commit });
    await wait(whole);
    assert.equal((await wait(more("a", "b"))).state.continued, true);
    // The commit of that turn failed, so the next one names the hash before.
    assert.deepEqual(await wait(more("a", "b")), { replay: true });
    assert.deepEqual(await wait(more("b", "c")), { replay: true });
    await wait(whole);
    assert.deepEqual(await wait({ ...more("a", "b"), execution: "2" }), { replay: true });
    assert.equal((await wait(more("a", "b"))).state.from, 1);
});

test("the executions that were not used for longest go", async () => {
    const wait = df(function* (ctx) {
        yield ctx.df.waitForExternalEvent("e");
    });
    const named = (number) => ({ instance: `many-${number}`, execution: "1" });
    for (let number = 0; number < 501; number += 1)
        await wait({ ...named(number), binding: { history: begun, instanceId: "m" }, commit: "a" });
    const asked = async (number) => wait({ ...named(number), hash: "a", events: [started(1)], commit: "b" });
    assert.deepEqual(await asked(0), { replay: true });
    assert.equal((await asked(1)).state.isDone, false);
});
