// The life of a program, as the host drives it: attach, load, then either the gates and the exports of a deployment,
// or the invocations of a worker.

import { CloudError } from "./errors.js";
import { handlers as noted } from "./function.js";
import { attach, deploying } from "./host.js";
import { advance, seal } from "./registry.js";
import { encode } from "./values.js";

export { attach, advance };

let exports;

/** Takes what the entry module exports. A function is called first: a program may be an async function. */
export async function loaded(exported) {
    const namespace = exported?.[Symbol.toStringTag] === "Module";
    const main = namespace ? exported.default : exported;
    // Arrow and async functions have no prototype; a class or a constructor is a value like any other.
    if (typeof main === "function" && main.prototype === undefined) exports = await main();
    else exports = namespace ? named(exported) : exported;
    if (!deploying()) seal();
}

function named(namespace) {
    const { default: main, ...rest } = namespace;
    return main !== undefined && Object.keys(rest).length === 0 ? main : { ...namespace };
}

/** The stack's outputs as JSON with markers. Functions are not outputs. */
export async function exported() {
    if (typeof exports !== "object" || exports === null) return JSON.stringify({});
    const entries = Object.entries(exports).filter(([, value]) => typeof value !== "function");
    return JSON.stringify(await encode(Object.fromEntries(entries), new Set()));
}

export const handlers = () => [...noted.keys()].sort();

/** Calls a handler. Event and context are JSON, and so is what it answers. */
export async function invoke(name, event, context) {
    const handler = noted.get(name);
    if (handler === undefined) {
        const found = handlers().join(", ") || "none";
        throw new CloudError(
            "E0511",
            `the program has no handler "${name}"; it has ${found}`,
            "run `tandem up`, so that the cloud knows the program as it is",
        );
    }
    const answer = await handler(JSON.parse(event), contextOf(JSON.parse(context)));
    return JSON.stringify(answer) ?? "null";
}

/** The error of a program that ends itself while it is deployed. */
export const exited = (code) =>
    new CloudError(
        "E0509",
        `the program called process.exit(${code}) while it was deployed`,
        "throw an error instead, so that it is clear what is wrong",
    );

function contextOf({ requestId, functionName, deadline, memory, traceparent }) {
    return {
        requestId,
        awsRequestId: requestId,
        functionName,
        memoryLimitInMB: Math.floor(memory / (1 << 20)),
        traceparent,
        getRemainingTimeInMillis: () => Math.max(0, deadline - Date.now()),
    };
}
