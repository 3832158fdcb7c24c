// What our library does where the published one gives no answer, or another: see docs/decisions/0169.

import assert from "node:assert/strict";
import test from "node:test";

import df from "../../src/durable/index.js";
import { ActionType } from "../../src/durable/actions.js";
import { EventType as E } from "../../src/durable/history.js";
import { Execution } from "../../src/durable/execution.js";
import { at, started, begun, done, failed, fired, raised, begin, stateOf } from "./history.mjs";

test("events that nobody waits for yet are kept, in order", async () => {
    const orchestrate = function* (ctx) {
        const seen = [yield ctx.df.callActivity("A")];
        for (let n = 0; n < 3; n += 1) seen.push(yield ctx.df.waitForExternalEvent("e"));
        return seen;
    };
    const early = await stateOf(orchestrate, raised("e", 1), raised("e", 2), done(0, 0), raised("e", 3));
    assert.deepEqual(early.output, [0, 1, 2, 3]);
    const kept = await begin(orchestrate, raised("e", 1), raised("e", 2));
    const fed = await kept.feed([started(1), done(0, 0)]);
    assert.equal(fed.actions[0].length, 3);
    assert.deepEqual((await kept.feed([started(2), raised("e", 3)])).output, [0, 1, 2, 3]);
});

test("a wait that is yielded again takes one event, and the next wait the next", async () => {
    const state = await stateOf(
        function* (ctx) {
            const wait = ctx.df.waitForExternalEvent("e");
            yield ctx.df.Task.any([wait, ctx.df.callActivity("A")]);
            yield ctx.df.Task.any([wait, ctx.df.callActivity("B")]);
            yield ctx.df.callActivity("C");
            return [wait.result, yield ctx.df.waitForExternalEvent("e")];
        },
        done(0),
        raised("e", 1),
        raised("e", 2),
        done(2),
    );
    assert.deepEqual(state.output, [1, 2]);
});

test("of two waits for an event, the later one is first, as in Durable Functions", async () => {
    const state = await stateOf(
        function* (ctx) {
            return yield ctx.df.Task.all([
                ctx.df.waitForExternalEvent("e"),
                ctx.df.waitForExternalEvent("e"),
            ]);
        },
        raised("e", 1),
        raised("e", 2),
    );
    assert.deepEqual(state.output, [2, 1]);
});

test("a task may be part of several lists", async () => {
    const state = await stateOf(
        function* (ctx) {
            const [a, b, c] = ["A", "B", "C"].map((name) => ctx.df.callActivity(name));
            const [one, other] = [ctx.df.Task.all([a, b]), ctx.df.Task.all([a, a, c])];
            return [yield one, yield other];
        },
        done(0, "a"),
        done(1, "b"),
        done(2, "c"),
    );
    assert.deepEqual(state.output, [
        ["a", "b"],
        ["a", "a", "c"],
    ]);
});

test("lists of tasks: none is done at once, and of none there is no first", async () => {
    const state = await stateOf(function* (ctx) {
        return yield ctx.df.Task.all([]);
    });
    assert.deepEqual(state.output, []);
    const wrong = async (make) =>
        (
            await stateOf(function* (ctx) {
                yield make(ctx.df);
            })
        ).error;
    assert.match(await wrong((one) => one.Task.any([])), /takes a list of tasks, not an empty one/);
    assert.match(await wrong((one) => one.Task.all([one.callActivity("A"), 7])), /not one with 7 in it/);
    assert.match(await wrong((one) => one.Task.all("A")), /takes a list of tasks, not "A"/);
});

test("a task that failed has ended", async () => {
    const state = await stateOf(function* (ctx) {
        const task = ctx.df.callActivity("A");
        const winner = yield ctx.df.Task.any([task, ctx.df.callActivity("B")]);
        return [
            winner === task,
            task.isCompleted,
            task.isFaulted,
            task.result.reason,
            task.result instanceof df.DurableError,
        ];
    }, failed(0));
    assert.deepEqual(state.output, [true, true, true, "no 0", true]);
});

test("retries: what the cloud schedules by itself has ids and times", async () => {
    const orchestrate = function* (ctx) {
        const options = Object.assign(new df.RetryOptions(1000, 4), {
            backoffCoefficient: 3,
            maxRetryIntervalInMilliseconds: 5000,
        });
        yield ctx.df.callActivityWithRetry("A", options);
    };
    const steps = [
        started(1),
        failed(0),
        started(2),
        fired(1),
        failed(2),
        started(8),
        fired(3),
        failed(4),
        started(9),
        fired(5),
        failed(6),
        fired(7),
    ];
    const state = await stateOf(orchestrate, ...steps);
    const pause = (id, attempt, second) => ({ of: 0, id, kind: "timer", attempt, fireAt: at(second) });
    const attempt = (id, number) => ({ of: 0, id, kind: "attempt", attempt: number });
    assert.deepEqual(state.retries, [
        pause(1, 2, 2),
        attempt(2, 2),
        pause(3, 3, 5),
        attempt(4, 3),
        pause(5, 4, 13),
        attempt(6, 4),
        pause(7, 5, 14),
    ]);
    assert.equal(state.error, "no 6");
    const kept = await begin(orchestrate);
    assert.deepEqual((await kept.feed(steps.slice(0, 2))).retries, [pause(1, 2, 2)]);
});

test("retries end when their time is over", async () => {
    const state = await stateOf(
        function* (ctx) {
            yield ctx.df.callActivityWithRetry(
                "A",
                Object.assign(new df.RetryOptions(1000, 9), { retryTimeoutInMilliseconds: 5000 }),
            );
        },
        started(2),
        failed(0),
        started(3),
        fired(1),
        started(5),
        failed(2),
    );
    assert.equal(state.error, "no 2");
    // The cloud makes a pause after each failure; this one leads nowhere.
    assert.deepEqual(
        state.retries.map(({ id, kind }) => [id, kind]),
        [
            [1, "timer"],
            [2, "attempt"],
            [3, "timer"],
        ],
    );
    assert.deepEqual(state.canceled, [3]);
});

test("a container task is an action like another", async () => {
    const orchestrate = function* (ctx) {
        const render = ctx.df.callTask("render", { env: { SIZE: 3 }, command: ["go"], input: { a: 1 } });
        return yield ctx.df.Task.all([render, ctx.df.callTaskWithRetry("mix", new df.RetryOptions(1, 2))]);
    };
    const [render, mix] = (await stateOf(orchestrate)).actions[0][0].compoundActions;
    const input = { environment: { SIZE: "3" }, command: ["go"], input: { a: 1 } };
    assert.deepEqual(render, { taskName: "render", actionType: ActionType.CallTask, input, id: 0 });
    assert.deepEqual(mix.input, { environment: {}, command: null, input: undefined });
    assert.equal(mix.actionType, ActionType.CallTaskWithRetry);
    assert.equal(mix.id, 1);
    const scheduled = { EventType: E.TaskScheduled, EventId: 0, Name: "render" };
    const ended = await stateOf(orchestrate, scheduled, done(0, 7), done(1, 8));
    assert.deepEqual(ended.output, [7, 8]);
    const wrong = await stateOf(function* (ctx) {
        yield ctx.df.callTask("render", { image: "x" });
    });
    assert.match(wrong.error, /task\/render has no option "image"/);
});

test("an action has the input that it was made with", async () => {
    const state = await stateOf(function* (ctx) {
        const list = [1];
        const task = ctx.df.callActivity("A", list);
        list.push(2);
        yield task;
    });
    assert.deepEqual(state.actions[0][0].input, [1]);
});

test("an action is sent once, however many lists its task is part of", async () => {
    const orchestrate = function* (ctx) {
        let open = ["A", "B", "C"].map((name) => ctx.df.callActivity(name));
        while (open.length > 0) {
            const winner = yield ctx.df.Task.any(open);
            open = open.filter((task) => task !== winner);
        }
        yield ctx.df.callActivity("D");
    };
    const any = (...ids) => ({ actionType: ActionType.WhenAny, compoundActions: ids });
    const ids = (state) =>
        state.actions[0].map((one) =>
            one.compoundActions ? any(...one.compoundActions.map(({ id }) => id)) : one.id,
        );
    const kept = await begin(orchestrate);
    assert.deepEqual(ids(kept.state), [any(0, 1, 2)]);
    const fed = await kept.feed([started(1), done(1), done(0)]);
    assert.deepEqual([ids(fed), fed.from], [[any(), any()], 3]);
    const last = await kept.feed([started(2), done(2)]);
    assert.deepEqual([ids(last), last.from], [[3], 3]);
    assert.deepEqual(ids(await stateOf(orchestrate, done(1), done(0), done(2))), [
        any(0, 1, 2),
        any(),
        any(),
        3,
    ]);
});

test("a timer that is canceled later is named, because its action is not sent again", async () => {
    const orchestrate = function* (ctx) {
        const early = ctx.df.createTimer(new Date(Date.parse(at(9))));
        yield ctx.df.Task.any([early, ctx.df.callActivity("A")]);
        early.cancel();
        const late = ctx.df.createTimer(new Date(Date.parse(at(20))));
        late.cancel();
        yield ctx.df.Task.any([late, ctx.df.callActivity("B")]);
    };
    const kept = await begin(orchestrate);
    const fed = await kept.feed([started(1), done(1)]);
    assert.deepEqual(fed.canceled, [0]);
    assert.equal(fed.actions[0][0].compoundActions[0].isCanceled, true);
    const whole = await stateOf(orchestrate, started(1), done(1));
    assert.equal(whole.actions[0][0].compoundActions[0].isCanceled, true);
    assert.equal(whole.canceled, undefined);
});

test("a replay is silent, and what is new is heard", async () => {
    const real = globalThis.console;
    const heard = [];
    globalThis.console = {
        log: (...values) => heard.push(values.join(" ")),
        warn: (...values) => heard.push(`! ${values}`),
    };
    try {
        const orchestrate = function* (ctx) {
            console.log("begin");
            ctx.log("replaying", ctx.df.isReplaying);
            yield ctx.df.callActivity("A");
            ctx.log.warn("after A");
            // What has ended already says nothing of whether this is a replay.
            const task = ctx.df.callActivity("B");
            yield ctx.df.Task.any([task]);
            yield task;
            console.log("after B", ctx.df.isReplaying);
        };
        const played = (events) => events.map((event) => ({ ...event, IsPlayed: true }));
        const history = [...played([...begun, done(0)]), done(1)];
        await Execution.begin(orchestrate, { history, instanceId: "i" });
        assert.deepEqual(heard.splice(0), ["after B false"]);
        const kept = await begin(orchestrate);
        await kept.feed([done(0)]);
        assert.deepEqual(heard.splice(0), ["begin", "replaying false", "! after A"]);
    } finally {
        globalThis.console = real;
    }
});

test("the time is a date of the program's own", async () => {
    const state = await stateOf(function* (ctx) {
        ctx.df.currentUtcDateTime.setFullYear(1999);
        return [ctx.df.currentUtcDateTime, ctx.df.getInput(), ctx.df.newGuid() === ctx.df.newGuid()];
    });
    assert.deepEqual(state.output, [at(0), 5, false]);
});

test("the time does not go back", async () => {
    const state = await stateOf(
        function* (ctx) {
            yield ctx.df.callActivity("A");
            const later = ctx.df.currentUtcDateTime;
            yield ctx.df.callActivity("B");
            return [later, ctx.df.currentUtcDateTime];
        },
        started(5),
        done(0),
        started(4),
        done(1),
    );
    assert.deepEqual(state.output, [at(5), at(5)]);
});

test("after continueAsNew the orchestrator runs on while it need not wait", async () => {
    const state = await stateOf(function* (ctx) {
        const task = ctx.df.callActivity("A");
        yield task;
        ctx.df.continueAsNew(1);
        yield task;
        ctx.df.setCustomStatus("again");
        yield ctx.df.callActivity("B");
        ctx.df.setCustomStatus("never");
    }, done(0));
    assert.deepEqual([state.customStatus, state.isDone, state.actions[0].length], ["again", true, 2]);
});

test("after continueAsNew nothing is scheduled", async () => {
    const kept = await begin(function* (ctx) {
        ctx.df.continueAsNew({ n: 2 });
        ctx.df.signalEntity(new df.EntityId("c", "1"), "add");
        yield ctx.df.callActivity("A");
    });
    assert.deepEqual(kept.state.actions, [[{ actionType: ActionType.ContinueAsNew, input: { n: 2 } }]]);
    assert.equal(kept.state.isDone, true);
    await assert.rejects(kept.feed([done(0)]), /over/);
});

test("an HTTP answer has its headers by any case, and there are no managed identities", async () => {
    const state = await stateOf(
        function* (ctx) {
            const response = yield ctx.df.callHttp("GET", "http://localhost/");
            return [response.statusCode, response.getHeader("content-type"), response.getHeader("x")];
        },
        done(0, { statusCode: 204, content: "", headers: { "Content-Type": "text/plain" } }),
    );
    assert.deepEqual(JSON.parse(JSON.stringify(state.output)), [204, "text/plain", null]);
    assert.throws(
        () => new df.ManagedIdentityTokenSource("https://management.core.windows.net"),
        /Azure's identities/,
    );
});
