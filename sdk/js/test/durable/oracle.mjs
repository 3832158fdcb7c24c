// Our library against the published ones, over programs and histories made by chance.
//
//   node oracle.mjs FOLDER [CASES] [SEED]
//
// FOLDER has the published libraries in its node_modules. After each turn of each program, the state that ours answers is
// compared with theirs, action by action; and the turn of an execution that was kept with the replay of the whole history.

import assert from "node:assert/strict";
import { createRequire } from "node:module";

import { RetryOptions, EntityId } from "../../src/durable/values.js";
import { Execution } from "../../src/durable/execution.js";
import { Engine, flat } from "./engine.mjs";
import { ALL, OLD, orchestrator, program } from "./programs.mjs";
import { random } from "./random.mjs";

const [folder, cases = "600", only] = process.argv.slice(2);
const require = createRequire(`${folder}/index.js`);
const published = { 1: require("durable-functions-1"), 2: require("durable-functions-2") };
const ours = { RetryOptions, EntityId };

const json = (value) => JSON.parse(JSON.stringify(value));

/** Without what only ours says. */
const plain = (actions) =>
    json(actions).map(({ id, ...action }) =>
        action.compoundActions ? { ...action, compoundActions: plain(action.compoundActions) } : action,
    );

/** What the published library answers for a history. */
async function answerOf(df, run, binding) {
    let answered;
    const context = {
        bindings: { context: structuredClone(binding) },
        done: (error, state) => {
            answered = error
                ? { ...JSON.parse(error.message.split("$OutOfProcData$:")[1]), isDone: false }
                : json(state);
        },
    };
    await df.orchestrator(run)(context);
    if (answered === undefined) await new Promise((resolve) => setImmediate(resolve));
    assert.notEqual(answered, undefined, "the published library answers");
    return answered;
}

/** 2.x sends an action again with each list that its task is part of; ours sends it once. All of them differ. */
function once(actions, seen = new Set()) {
    const fresh = ({ isCanceled, ...action }) => {
        const key = JSON.stringify(action);
        return !seen.has(key) && seen.add(key);
    };
    return actions.flatMap((action) => {
        if (action.compoundActions)
            return [{ ...action, compoundActions: once(action.compoundActions, seen) }];
        return fresh(action) ? [action] : [];
    });
}

function compareWithNew(state, theirs) {
    assert.deepEqual(plain(state.actions[0]), once(theirs.actions[0]), "actions");
    assert.equal(state.isDone, theirs.isDone, "isDone");
    assert.deepEqual(json(state.output ?? null), theirs.output ?? null, "output");
    assert.equal(state.error, theirs.error, "error");
    assert.deepEqual(state.customStatus, theirs.customStatus, "customStatus");
    assert.equal(state.schemaVersion, theirs.schemaVersion, "schemaVersion");
}

/** 1.x has no lists. */
function compareWithOld(state, theirs) {
    // Its errors have no details.
    const brief = (value) => JSON.parse(JSON.stringify(value ?? null).replace(/ (\\+n) details \d+/g, ""));
    assert.deepEqual(plain(flat(state.actions[0])), plain(theirs.actions.flat()), "actions");
    assert.equal(state.isDone, theirs.isDone, "isDone");
    assert.deepEqual(brief(state.output), theirs.output ?? null, "output");
    assert.equal(brief(state.error), theirs.error ?? null, "error");
    assert.deepEqual(state.customStatus, theirs.customStatus, "customStatus");
}

/** A replay of all, out of a replay of less and what was fed to it. */
function joined(before, fed) {
    const { from, continued, canceled = [], actions, retries = [], ...rest } = fed;
    assert.equal(continued, true);
    assert.equal(from, flat(before.actions[0]).length, "from");
    const all = [...before.actions[0], ...actions[0]];
    flat(all).forEach((action) => {
        if (canceled.includes(action.id)) action.isCanceled = true;
    });
    return { ...rest, actions: [all], retries: [...(before.retries ?? []), ...retries] };
}

const comparable = (state) => json({ ...state, stack: undefined, retries: state.retries ?? [] });

async function one(seed, version) {
    const chance = random(seed);
    const features = version === 2 ? ALL : OLD;
    const source = program(chance, features);
    const engine = new Engine(chance, features);
    const df = published[version];
    const input = chance.pick([undefined, "hello", { a: [1] }]);
    let kept;
    let state;
    let turns = 0;
    try {
        for (;;) {
            const events = engine.turn();
            const binding = {
                history: engine.history,
                input,
                instanceId: `instance-${seed}`,
                isReplaying: false,
                parentInstanceId: undefined,
                upperSchemaVersion: 1,
            };
            const log = [];
            const execution = await Execution.begin(orchestrator(source, ours, log), json(binding));
            const full = execution.state;
            const theirLog = [];
            const theirs = await answerOf(df, orchestrator(source, df, theirLog), binding);
            if (version === 2) {
                compareWithNew(full, theirs);
                assert.deepEqual(log, theirLog, "whether it was replaying");
            } else compareWithOld(full, theirs);
            if (kept === undefined) {
                kept = execution;
                state = json(full);
                engine.commit(state.actions[0], state.retries ?? []);
            } else {
                const before = state;
                const fed = json(await kept.feed(json(events)));
                state = joined(before, fed);
                assert.deepEqual(comparable(state), comparable(full), "what was fed is what is replayed");
                engine.commit(fed.actions[0], fed.retries ?? [], fed.canceled);
            }
            turns += 1;
            assert.equal(kept.over, state.isDone || state.error !== undefined);
            if (kept.over) return turns;
            assert.ok(!engine.done, "something is open");
        }
    } catch (error) {
        console.error(
            `seed ${seed}, version ${version}.x, after ${turns} turns\n${JSON.stringify(source, null, 1)}`,
        );
        console.error(JSON.stringify(engine.history));
        throw error;
    }
}

process.on("unhandledRejection", (error) => {
    console.error("the published library failed:", error);
    process.exitCode = 1;
});

let turns = 0;
const seeds =
    only === undefined ? Array.from({ length: Number(cases) }, (_, index) => index + 1) : [Number(only)];
for (const seed of seeds) {
    turns += await one(seed, 2);
    turns += await one(seed, 1);
}
console.log(`${seeds.length} programs twice, ${turns} turns: no difference`);
