// What orchestrators do wrong, and what they are told.

import assert from "node:assert/strict";
import test from "node:test";

import df from "../../src/durable/index.js";
import { EventType as E } from "../../src/durable/history.js";
import { at, started, done, failed, fired, begin, stateOf } from "./history.mjs";

test("what is yielded and is no task is named, with its place", async () => {
    const state = await stateOf(function* (ctx) {
        yield ctx.df.callActivity("A");
        yield 42;
    }, done(0));
    assert.equal(state.code, "E0860");
    assert.equal(
        state.error,
        'the orchestrator yielded 42 (yield number 2, after the activity "A"): only tasks can be yielded',
    );
    assert.equal(state.isDone, false);
    const signal = await stateOf(function* (ctx) {
        yield ctx.df.signalEntity(new df.EntityId("c", "1"), "add");
    });
    assert.match(signal.error, /yielded nothing \(yield number 1\)/);
    // A task of another execution would never be settled here.
    let foreign;
    await stateOf(function* (ctx) {
        foreign = ctx.df.callActivity("A");
        yield foreign;
    });
    const other = await stateOf(function* () {
        yield foreign;
    });
    assert.equal(other.code, "E0860");
});

test("a history that the code does not follow is told from by its first difference", async () => {
    const scheduled = (id, name) => ({ EventType: E.TaskScheduled, EventId: id, Name: name });
    const one = function* (ctx) {
        yield ctx.df.callActivity("A");
    };
    const told = async (event) => {
        const state = await stateOf(one, event);
        assert.equal(state.code, "E0861");
        return state.error.split(": ")[1];
    };
    assert.equal(
        await told(scheduled(0, "B")),
        'the history has activity "B" as number 0, and the code schedules activity "A"',
    );
    assert.equal(
        await told(scheduled(1, "A")),
        'the history has activity "A" as number 1, and the code has scheduled nothing of that number yet',
    );
    assert.equal(
        await told({ EventType: E.TimerCreated, EventId: 0, FireAt: at(1) }),
        'the history has a timer as number 0, and the code schedules activity "A"',
    );
    assert.equal(
        await told(done(3)),
        "the history has the result of a task as number 3, and the code has scheduled nothing of that number yet",
    );
    assert.equal(
        await told(fired(0)),
        'the history has the end of a timer as number 0, and the code schedules activity "A"',
    );
    assert.equal((await stateOf(one, scheduled(0, "A"), done(0))).isDone, true);
    // Fed, it is found as well.
    const kept = await begin(one);
    assert.equal((await kept.feed([scheduled(0, "B")])).code, "E0861");
    assert.equal(kept.over, true);
});

test("a repeated outcome changes nothing", async () => {
    const state = await stateOf(
        function* (ctx) {
            const first = yield ctx.df.callActivity("A");
            return [first, yield ctx.df.callActivity("B")];
        },
        done(0, 1),
        done(0, 2),
        failed(0),
        done(1, 3),
    );
    assert.deepEqual(state.output, [1, 3]);
});

test("async generators run, and may not wait for what is no task", async () => {
    const orchestrate = async function* (ctx) {
        const a = yield ctx.df.callActivity("A");
        await null;
        try {
            yield ctx.df.callActivity("B");
        } catch (error) {
            return [a, error.message];
        }
        return undefined;
    };
    assert.deepEqual((await stateOf(orchestrate, done(0, "a"), failed(1))).output, ["a", "no 1"]);
    const kept = await begin(orchestrate);
    assert.equal((await kept.feed([started(1), done(0, "a")])).actions[0][0].functionName, "B");
    assert.deepEqual((await kept.feed([started(2), failed(1)])).output, ["a", "no 1"]);
    const late = await stateOf(async function* (ctx) {
        yield ctx.df.callActivity("A");
        await new Promise((resolve) => setTimeout(resolve, 50));
    }, done(0));
    assert.equal(late.code, "E0860");
    assert.match(
        late.error,
        /waits for a promise that is no task \(after yield number 1, after the activity "A"\)/,
    );
});

test("what is no generator is told so", async () => {
    const state = await stateOf(async (ctx) => ctx.df.callActivity("A"));
    assert.equal(state.code, "E0862");
    assert.match(state.error, /it answered a promise/);
    assert.throws(() => df(7), /an orchestrator is a function, not 7/);
    await assert.rejects(
        async () => df(function* () {})({ bindings: {} }),
        /is not called: the cloud runs it/,
    );
});

test("values that JSON does not know fail where they are given", async () => {
    const circle = {};
    circle.self = circle;
    const cases = {
        'the input of activity "A"': function* (ctx) {
            yield ctx.df.callActivity("A", circle);
        },
        "what the orchestrator returned": function* () {
            return circle;
        },
        "the custom status": function* (ctx) {
            ctx.df.setCustomStatus(circle);
        },
        'the input of activity "B"': function* (ctx) {
            yield ctx.df.callActivity("B", 1n);
        },
    };
    for (const [what, orchestrate] of Object.entries(cases)) {
        const state = await stateOf(orchestrate);
        assert.equal(state.code, "E0863");
        assert.ok(state.error.startsWith(`${what} cannot be written as JSON`), state.error);
    }
    // A task may be returned by mistake; it has no circle in it.
    const winner = await stateOf(
        function* (ctx) {
            return yield ctx.df.Task.any([ctx.df.callActivity("A")]);
        },
        done(0, 7),
    );
    assert.deepEqual(winner.output, { isCompleted: true, isFaulted: false, result: 7 });
});

test("what is thrown and is no error is told as a text", async () => {
    const state = await stateOf(function* () {
        throw "nothing";
    });
    assert.equal(state.error, "nothing");
});

test("an async function is no orchestrator, and is refused where it is declared", () => {
    assert.throws(() => df.orchestrator(async () => {}), /a generator function, not an async function/);
    assert.throws(() => df(async (ctx) => ctx), /a generator function, not an async function/);
    assert.doesNotThrow(() => df.orchestrator(async function* () {}));
});
