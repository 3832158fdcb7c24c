// Entities: a state that operations change, one after the other. The cloud sends them in batches.

import { CloudError } from "../errors.js";
import { stored } from "./actions.js";
import { EntityId, schedulerId } from "./entity_id.js";
import { logger } from "./quiet.js";
import { textOf } from "./wrong.js";

/**
 * Runs a batch: `{ self: { name, key }, exists, state?, batch: [{ isSignal, name, input?, id }] }`, where `state` and
 * `input` are JSON texts. Answers `{ entityExists, entityState?, results, signals }`: one result for each operation, in
 * order, and a state that the next batch begins with. An operation that fails keeps what it did before it failed.
 */
export async function run(entity, request) {
    const { self, exists, state, batch } = request ?? {};
    if (!Array.isArray(batch)) {
        throw new CloudError(
            "E0862",
            "an entity is not called: the cloud hands it its operations",
            "call it by `ctx.df.callEntity` or `ctx.df.signalEntity`, or signal it by `df.getClient(context).signalEntity`",
        );
    }
    const response = { entityExists: exists, entityState: state ?? undefined, results: [], signals: [] };
    const id = new EntityId(self.name, self.key);
    for (const operation of batch) {
        const began = Date.now();
        const result = { isError: false, duration: 0, result: undefined };
        try {
            await entity({ df: contextOf(id, operation, response, result), log: logger() });
        } catch (error) {
            result.isError = true;
            result.result = JSON.stringify(textOf(error));
        }
        result.duration = Date.now() - began;
        response.results.push(result);
    }
    return response;
}

const written = (what, value) => JSON.stringify(stored(what, value));

function contextOf(id, operation, response, result) {
    const what = `the entity ${id}`;
    return {
        entityName: id.name,
        entityKey: id.key,
        entityId: id,
        operationName: operation.name,
        isNewlyConstructed: !response.entityExists,
        getInput: () => (operation.input ? JSON.parse(operation.input) : undefined),
        getState: (initializer) =>
            response.entityState ? JSON.parse(response.entityState) : initializer?.(),
        setState: (state) => {
            response.entityState = written(`the state of ${what}`, state);
            response.entityExists = true;
        },
        return: (value) => {
            result.result = written(`what ${what} returns`, value);
            response.entityExists = true;
        },
        destructOnExit: () => {
            response.entityExists = false;
            response.entityState = undefined;
        },
        signalEntity: (target, name, input) => {
            schedulerId(target);
            const { name: entity, key } = target;
            const signal = input === undefined ? "" : written(`the input of "${name}"`, input);
            response.signals.push({ target: { name: entity, key }, name, input: signal });
        },
    };
}
