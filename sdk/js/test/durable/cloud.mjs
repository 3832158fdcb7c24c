// Executions under the rules by which the cloud gives ids (crates/cloud/src/workflow/core.rs), over programs made by chance:
// those of retries first, then those of actions, in their order. Ours and the cloud's have to agree, a kept execution and a
// replay have to agree, and nothing may look like a divergence.
//
//   node cloud.mjs [CASES] [SEED]

import assert from "node:assert/strict";

import { ActionType as A, subject } from "../../src/durable/actions.js";
import { Execution } from "../../src/durable/execution.js";
import { EventType as E } from "../../src/durable/history.js";
import { EntityId, RetryOptions } from "../../src/durable/values.js";
import { flat } from "./engine.mjs";
import { orchestrator, program } from "./programs.mjs";
import { random } from "./random.mjs";

const [cases = "500", only] = process.argv.slice(2);
const FEATURES = {
    compound: true,
    failing: true,
    retries: true,
    timeouts: true,
    entities: true,
    locks: true,
    http: true,
};
const BASE = Date.UTC(2026, 0, 1);
const CHILD = [A.CallSubOrchestrator, A.CallSubOrchestratorWithRetry];

class Cloud {
    history = [];
    open = new Map();
    waits = [];
    next = 0;
    actions = 0;
    second = 0;
    held;

    constructor(chance) {
        this.chance = chance;
    }

    event(EventType, rest) {
        return {
            EventType,
            EventId: -1,
            IsPlayed: false,
            Timestamp: new Date(BASE + this.second * 1000).toISOString(),
            ...rest,
        };
    }

    /** The events of a turn: those that lead to a retry come first, each with what is scheduled for it. */
    begin() {
        this.second += 1 + this.chance.below(4);
        this.events = [this.event(E.OrchestratorStarted)];
        if (this.history.length === 0) return [...this.events, this.event(E.ExecutionStarted)];
        const resuming = [];
        // What a turn begins does not end in it.
        const before = new Set(this.open.keys());
        for (let some = 1 + this.chance.below(5); some > 0; some -= 1) {
            const ids = [...this.open.keys()].filter((id) => before.has(id));
            if (ids.length > 0 && (this.waits.length === 0 || this.chance.chance(0.8)))
                this.end(this.chance.pick(ids), resuming);
            else if (this.waits.length > 0) {
                const Name = this.chance.take(this.waits);
                resuming.push(this.event(E.EventRaised, { Name, Input: "7" }));
            }
        }
        this.events.push(...resuming);
        return this.events;
    }

    end(id, resuming) {
        const { action, timer, attempt, message } = this.open.get(id);
        this.open.delete(id);
        const TaskScheduledId = id;
        if (message !== undefined) {
            const failed = { result: `"no ${id}"`, exceptionType: "Error" };
            const Input = JSON.stringify(this.chance.chance(0.2) ? failed : { result: `"r${id}"` });
            return resuming.push(this.event(E.EventRaised, { Name: message, Input, TaskScheduledId }));
        }
        if (timer) {
            const fired = this.event(E.TimerFired, { TimerId: id });
            const { retryOptions } = action ?? {};
            if (retryOptions === undefined || attempt > retryOptions.maxNumberOfAttempts)
                return resuming.push(fired);
            this.events.push(fired);
            return this.work(action, attempt, this.events);
        }
        if (action.actionType === A.LockEntities) {
            const refused = this.chance.chance(0.2) ? { Reason: `no ${id}`, Details: "" } : {};
            if (refused.Reason === undefined) this.held = id;
            return resuming.push(this.event(E.LockAcquired, { TaskScheduledId, ...refused }));
        }
        const child = CHILD.includes(action.actionType);
        if (!this.chance.chance(action.retryOptions ? 0.7 : 0.2)) {
            const kind = child ? E.SubOrchestrationInstanceCompleted : E.TaskCompleted;
            const Result = action.actionType === A.CallHttp ? `{"statusCode":${id}}` : `"r${id}"`;
            return resuming.push(this.event(kind, { TaskScheduledId, Result }));
        }
        const kind = child ? E.SubOrchestrationInstanceFailed : E.TaskFailed;
        const failed = this.event(kind, { TaskScheduledId, Reason: `no ${id}`, Details: "d" });
        if (!action.retryOptions) return resuming.push(failed);
        this.events.push(failed);
        this.open.set(this.next, { timer: true, action, attempt: attempt + 1 });
        return this.events.push(this.event(E.TimerCreated, { EventId: this.next++ }));
    }

    work(action, attempt, events) {
        const { kind: what, name: Name } = subject(action);
        if (what === "sent") return this.send(action, events);
        if (what === "unlock") {
            assert.equal(action.lock, this.held, "the lock that it holds");
            this.held = undefined;
            return events.push(this.event(E.LockReleased, { EventId: this.next++, Name }));
        }
        const scheduled = what === "lock" ? E.LockRequested : E.TaskScheduled;
        const kind = CHILD.includes(action.actionType) ? E.SubOrchestrationInstanceCreated : scheduled;
        this.open.set(this.next, { action, attempt });
        events.push(this.event(kind, { EventId: this.next++, Name }));
    }

    /** A message to an entity, which answers by an event of the message's name; to a signal it does not. */
    send({ actionType, operation: Name, instanceId: InstanceId }, events) {
        const EventId = this.next++;
        const message = `message ${EventId}`;
        if (actionType === A.CallEntity) this.open.set(EventId, { message });
        const Input = JSON.stringify({ id: message, op: Name });
        events.push(this.event(E.EventSent, { EventId, Name, InstanceId, Input }));
    }

    commit(events, { actions, canceled = [], from = 0 }) {
        canceled.forEach((id) => this.open.delete(id));
        assert.equal(from, this.actions, "the number of the first action");
        this.actions += flat(actions[0]).length;
        for (const action of flat(actions[0])) {
            if (action.actionType === A.WaitForExternalEvent) this.waits.push(action.externalEventName);
            if (action.id === undefined) continue;
            assert.equal(action.id, this.next, "the id of an action");
            if (action.actionType === A.CreateTimer) {
                events.push(this.event(E.TimerCreated, { EventId: this.next }));
                if (!action.isCanceled) this.open.set(this.next, { timer: true });
                this.next += 1;
            } else this.work(action, 1, events);
        }
        events.push(this.event(E.OrchestratorCompleted));
        this.history.push(...events.map((event) => ({ ...event, IsPlayed: true })));
    }
}

/** What of a state does not depend on how much of the history it is told of. */
const outcome = ({ isDone, output, error, customStatus }) =>
    JSON.parse(JSON.stringify({ isDone, output, error, customStatus }));

async function one(seed) {
    const chance = random(seed);
    const source = program(chance, FEATURES);
    const run = orchestrator(source, { RetryOptions, EntityId }, []);
    const cloud = new Cloud(chance);
    const begin = (history) => Execution.begin(run, { history, instanceId: "i" });
    let kept;
    let turns = 0;
    try {
        for (;;) {
            const events = cloud.begin();
            const whole = (await begin([...cloud.history, ...events])).state;
            assert.equal(whole.code, undefined, whole.error);
            const state = kept === undefined ? whole : await kept.feed(events);
            assert.deepEqual(outcome(state), outcome(whole));
            kept ??= await begin(events);
            cloud.commit([...events], state);
            assert.equal(flat(whole.actions[0]).length, cloud.actions, "as many actions in a replay");
            turns += 1;
            if (kept.over) return turns;
            assert.ok(cloud.open.size + cloud.waits.length > 0, "something is open");
        }
    } catch (error) {
        console.error(`seed ${seed}, after ${turns} turns\n${JSON.stringify(source, null, 1)}`);
        console.error(JSON.stringify([cloud.history, cloud.events]));
        throw error;
    }
}

const seeds =
    only === undefined ? Array.from({ length: Number(cases) }, (_, index) => index + 1) : [Number(only)];
let turns = 0;
for (const seed of seeds) turns += await one(seed);
console.log(`${seeds.length} programs, ${turns} turns: ids agree`);
