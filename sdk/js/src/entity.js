// Entities: states that operations change, one after the other. The function is noted by a name that no function can have.

import { checkOptions, checkPositive, checkSize, checkType, invalid, shown } from "./check.js";
import { handlers } from "./function.js";
import { call } from "./host.js";
import { Resource, inHandlerOnly, textsOf } from "./resource.js";
import { DURABLE } from "./workflow.js";

const OPTIONS = ["memory", "timeout", "concurrency", "environment", "forceDestroy"];
/** In seconds, for a batch of operations. */
const TIMEOUT = 30;

export class Entity extends Resource {
    constructor(name, entity, args, options) {
        const handler = `entity/${name}`;
        const inputs = (key) => {
            if (typeof entity !== "function" || (entity[DURABLE] ?? "entity") !== "entity") {
                throw invalid(
                    `the operations of ${key} are a function, not ${shown(entity)}`,
                    `write \`new cloud.Entity("${name}", df.entity((ctx) => { … }))\``,
                );
            }
            const { memory, timeout, concurrency, environment, forceDestroy } = checkOptions(key, args, OPTIONS);
            checkSize(key, "memory", memory);
            checkPositive(key, "timeout", timeout);
            checkPositive(key, "concurrency", concurrency);
            checkType(key, "forceDestroy", forceDestroy, ["boolean"]);
            const texts = textsOf(key, "environment", environment);
            return { handler, memory, timeout: timeout ?? TIMEOUT, concurrency, environment: texts, forceDestroy };
        };
        super("entity", name, inputs, [], options);
        handlers.set(handler, batchesOf(entity));
    }

    /** Sends an operation; it is on disk when this returns, and applied once. */
    async signal(key, operation, input) {
        inHandlerOnly("entity.signal");
        await call("entity.signal", { entity: this.declaration.name, key: keyOf(key), operation: String(operation), input });
    }

    /** The state as the last operations left it; undefined if there is none. */
    async read(key) {
        inHandlerOnly("entity.read");
        const { exists, state } = await call("entity.read", { entity: this.declaration.name, key: keyOf(key) });
        return exists ? state : undefined;
    }
}

/** As `new Entity(…)`. */
export function entity(name, operations, args, options) {
    return new Entity(name, operations, args, options);
}

function keyOf(key) {
    if (typeof key === "string" && key.trim() !== "") return key;
    throw invalid(`the key of an entity is a text that is not empty, not ${shown(key)}`, "");
}

function batchesOf(entity) {
    let apply = entity?.[DURABLE] === undefined ? undefined : entity;
    return async (request) => {
        apply ??= (await import("./durable/index.js")).entity(entity);
        return apply(request);
    };
}
