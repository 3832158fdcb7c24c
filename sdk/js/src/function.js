// Functions: handlers that run in workers. A handler is noted by the function's name; the worker finds it again there.

import { checkOptions, checkPositive, checkSize, invalid, shown } from "./check.js";
import { call } from "./host.js";
import { Resource, inHandlerOnly, textsOf } from "./resource.js";

const OPTIONS = ["memory", "timeout", "concurrency", "environment"];

/** Name → function of the event and the context. */
export const handlers = new Map();

class CloudFunction extends Resource {
    constructor(name, handler, args, options) {
        const inputs = (key) => {
            if (typeof handler !== "function") {
                throw invalid(
                    `the handler of ${key} is a function, not ${shown(handler)}`,
                    `write \`new cloud.Function("${name}", async (event, context) => { … })\``,
                );
            }
            const { memory, timeout, concurrency, environment } = checkOptions(key, args, OPTIONS);
            checkSize(key, "memory", memory);
            checkPositive(key, "timeout", timeout);
            checkPositive(key, "concurrency", concurrency);
            const texts = textsOf(key, "environment", environment);
            return { handler: name, memory, timeout, concurrency, environment: texts };
        };
        super("function", name, inputs, ["arn"], options);
        handlers.set(name, handler);
    }

    /** Runs it now, and answers what its handler answers. */
    async invoke(payload) {
        inHandlerOnly("function.invoke");
        return call("function.invoke", { function: this.declaration.name, payload: payload ?? null });
    }
}

// Programs write `cloud.Function`; here the name would hide the global one.
export { CloudFunction as Function };
