// Critical sections: locks on entities, and what an orchestrator may not do while it has one.

import assert from "node:assert/strict";
import test from "node:test";

import df from "../../src/durable/index.js";
import { EventType as E } from "../../src/durable/history.js";
import { started, done, begin, stateOf } from "./history.mjs";

const ada = new df.EntityId("Account", "ada");
const bob = new df.EntityId("account", "bob");
const eve = new df.EntityId("account", "eve");
const acquired = (id) => ({ EventType: E.LockAcquired, TaskScheduledId: id });
const refused = (id) => ({ ...acquired(id), Reason: "there is no entity `account`", Details: "" });
const answered = (id, value) => ({
    EventType: E.EventRaised,
    Name: `m${id}`,
    TaskScheduledId: id,
    Input: JSON.stringify({ result: JSON.stringify(value) }),
});

test("a section locks its entities in one order, calls them, and gives them back", async () => {
    const orchestrate = function* (ctx) {
        const lock = yield ctx.df.lockEntities(bob, ada, bob);
        const { isLocked, ownedLocks } = ctx.df.isLocked();
        const x = yield ctx.df.callEntity(ada, "get");
        lock.release();
        lock.release();
        return [isLocked, ownedLocks.map(String), x, ctx.df.isLocked()];
    };
    const kept = await begin(orchestrate);
    const entities = ["@account@ada", "@account@bob"];
    assert.deepEqual(kept.state.actions, [[{ actionType: 102, entities, id: 0 }]]);
    const called = await kept.feed([started(1), acquired(0)]);
    assert.equal(called.actions[0][0].instanceId, "@account@ada");
    const end = await kept.feed([started(2), answered(1, 7)]);
    assert.deepEqual(end.actions, [[{ actionType: 103, lock: 0, entities, id: 2 }]]);
    const output = [true, entities, 7, { isLocked: false, ownedLocks: [] }];
    assert.deepEqual(JSON.parse(JSON.stringify(end.output)), output);
    // From the history it is the same.
    const scheduled = (EventType, EventId, Name) => ({ EventType, EventId, Name });
    const whole = await stateOf(
        orchestrate,
        scheduled(E.LockRequested, 0, entities.join(", ")),
        acquired(0),
        answered(1, 7),
        scheduled(E.LockReleased, 2, entities.join(", ")),
    );
    assert.deepEqual(JSON.parse(JSON.stringify(whole.output)), output);
});

test("the next section begins when the lock is released, and one that is refused locks nothing", async () => {
    const state = await stateOf(
        function* (ctx) {
            const seen = [];
            try {
                yield ctx.df.lockEntities(ada);
            } catch (error) {
                seen.push(error.message, ctx.df.isLocked().isLocked);
            }
            for (let n = 0; n < 2; n += 1) (yield ctx.df.lockEntities(ada)).release();
            return seen;
        },
        refused(0),
        acquired(1),
        acquired(3),
    );
    assert.deepEqual(state.output, ["there is no entity `account`", false]);
    assert.deepEqual(
        state.actions[0].map(({ actionType, id }) => [actionType, id]),
        [102, 102, 103, 102, 103].map((type, id) => [type, id]),
    );
});

test("what breaks a rule of the section is told where it is done, and can be caught", async () => {
    const tries = {
        "the entity @account@eve is called within the critical section of @account@ada, @account@bob, and is not locked by it":
            (ctx) => ctx.df.callEntity(eve, "get"),
        "the entity @account@ada is signalled within the critical section of @account@ada, @account@bob": (
            ctx,
        ) => ctx.df.signalEntity(ada, "add"),
        'the sub-orchestration "child" is called within the critical section of @account@ada, @account@bob': (
            ctx,
        ) => ctx.df.callSubOrchestrator("child"),
        "a lock on @account@eve is asked for before the one on @account@ada, @account@bob is released": (
            ctx,
        ) => ctx.df.lockEntities(eve),
    };
    for (const [message, attempt] of Object.entries(tries)) {
        const state = await stateOf(function* (ctx) {
            const lock = yield ctx.df.lockEntities(ada, bob);
            const caught = [];
            try {
                attempt(ctx);
            } catch ({ code, message: said }) {
                caught.push(code, said);
            }
            // Others may be signalled, activities called.
            ctx.df.signalEntity(eve, "add");
            lock.release();
            // Now it may do so.
            attempt(ctx);
            return caught;
        }, acquired(0));
        assert.deepEqual(state.output, ["E0880", message]);
    }
    const retries = new df.RetryOptions(1, 2);
    const within = async (attempt) =>
        await stateOf(function* (ctx) {
            yield ctx.df.lockEntities(ada);
            yield attempt(ctx);
        }, acquired(0));
    const child = await within((ctx) => ctx.df.callSubOrchestratorWithRetry("child", retries));
    assert.equal(child.code, "E0880");
    assert.equal((await within((ctx) => ctx.df.callActivity("A"))).error, undefined);
});

test("before it has the lock an orchestrator does not wait for who waits behind it", async () => {
    const early = await stateOf(function* (ctx) {
        const lock = ctx.df.lockEntities(ada);
        yield ctx.df.Task.all([lock, ctx.df.callEntity(ada, "get")]);
    });
    assert.equal(early.code, "E0880");
    assert.match(early.error, /the entity @account@ada is called before the lock on it is there/);
    // Made before, yielded behind it.
    const late = await stateOf(function* (ctx) {
        const call = ctx.df.callEntity(ada, "get");
        yield ctx.df.Task.all([ctx.df.lockEntities(ada), call]);
    });
    assert.equal(late.code, "E0880");
    const before = await stateOf(function* (ctx) {
        const call = ctx.df.callEntity(ada, "get");
        yield ctx.df.Task.all([call, ctx.df.lockEntities(ada), ctx.df.callEntity(bob, "get")]);
    });
    assert.equal(before.error, undefined);
    // Made before, yielded within it.
    const made = await stateOf(function* (ctx) {
        const call = ctx.df.callEntity(bob, "get");
        yield ctx.df.lockEntities(ada);
        yield call;
    }, acquired(0));
    assert.match(made.error, /@account@bob is called within the critical section of @account@ada,/);
    const twice = await stateOf(function* (ctx) {
        yield ctx.df.Task.all([ctx.df.lockEntities(ada), ctx.df.lockEntities(bob)]);
    });
    assert.equal(twice.code, "E0880");
});

test("a lock that is no lock is refused", async () => {
    const none = await stateOf(function* (ctx) {
        yield ctx.df.lockEntities();
    });
    assert.equal(none.code, "E0506");
    assert.equal(none.error, "`lockEntities` is given no entity");
    const list = await stateOf(function* (ctx) {
        yield ctx.df.lockEntities([ada]);
    });
    assert.equal(list.error, "an entity is named by a df.EntityId, not an array");
});

test("another set of entities than before is told", async () => {
    const requested = (Name) => ({ EventType: E.LockRequested, EventId: 0, Name });
    const one = function* (ctx) {
        yield ctx.df.lockEntities(ada, bob);
    };
    const state = await stateOf(one, requested("@account@ada, @account@eve"));
    assert.equal(state.code, "E0861");
    assert.equal(
        state.error.split(": ")[1],
        'the history has lock on "@account@ada, @account@eve" as number 0, and the code schedules lock on "@account@ada, @account@bob"',
    );
    assert.equal((await stateOf(one, done(0))).code, "E0861");
});
