// Entities of ours against those of the published library, over batches made by chance.
//
//   node entities.mjs FOLDER [CASES]

import assert from "node:assert/strict";
import { createRequire } from "node:module";

import ours from "../../src/durable/index.js";
import { random } from "./random.mjs";

const [folder, cases = "500"] = process.argv.slice(2);
const published = createRequire(`${folder}/index.js`)("durable-functions-2");

const counter = (df) => async (ctx) => {
    const state = () => ctx.df.getState(() => ({ n: 100 }));
    switch (ctx.df.operationName) {
        case "add":
            ctx.df.setState({ n: state().n + (ctx.df.getInput() ?? 1) });
            break;
        case "later":
            await null;
            ctx.df.return(ctx.df.isNewlyConstructed);
            break;
        case "get":
            ctx.df.return({
                ...state(),
                id: ctx.df.entityId.name,
                key: ctx.df.entityKey,
                name: ctx.df.entityName,
            });
            break;
        case "tell":
            ctx.df.signalEntity(new df.EntityId("Other", "x"), "hear", state());
            break;
        case "end":
            ctx.df.destructOnExit();
            break;
        case "half":
            ctx.df.setState({ n: -1 });
            throw new Error("half way");
    }
};

/** Times are not compared; and of an error the published library tells nothing. */
const comparable = ({ results, ...rest }) => ({
    ...rest,
    results: results.map(({ isError, result }) => ({ isError, result: isError ? undefined : result })),
});

async function theirs(request) {
    let answered;
    const done = (error, state) => {
        assert.equal(error, null);
        answered = state;
    };
    await published.entity(counter(published))({ bindings: { context: structuredClone(request) }, done });
    return JSON.parse(JSON.stringify(answered));
}

for (let seed = 1; seed <= Number(cases); seed += 1) {
    const chance = random(seed);
    const batch = Array.from({ length: 1 + chance.below(6) }, (_, number) => ({
        id: `${number}`,
        isSignal: chance.chance(0.5),
        name: chance.pick(["add", "add", "later", "get", "tell", "end", "half", "none"]),
        input: chance.pick([undefined, "5", "-2"]),
    }));
    const exists = chance.chance(0.5);
    const request = {
        self: { name: "counter", key: "k" },
        exists,
        state: exists ? '{"n":1}' : undefined,
        batch,
    };
    const answer = JSON.parse(JSON.stringify(await ours.entity(counter(ours))(request)));
    try {
        assert.deepEqual(comparable(answer), comparable(await theirs(request)));
        const failures = answer.results
            .filter(({ isError }) => isError)
            .map(({ result }) => JSON.parse(result));
        assert.ok(failures.every((text) => text === "half way"));
    } catch (error) {
        console.error(`seed ${seed}: ${JSON.stringify(request)}`);
        throw error;
    }
}
console.log(`${cases} batches: no difference`);
