// What `durable-functions` is on the `js` host: the published library's API, and `df(function* …)` of its first releases.

import { invalid, isAsync, shown } from "../check.js";
import { DurableOrchestrationClient, getClient } from "./client.js";
import { run } from "./entity.js";
import { DurableError } from "./errors.js";
import { DurableHttpRequest, DurableHttpResponse, ManagedIdentityTokenSource } from "./http.js";
import { Executions, turn } from "./turn.js";
import {
    EntityId,
    EntityStateResponse,
    LockState,
    OrchestrationRuntimeStatus,
    RetryOptions,
} from "./values.js";

const executions = new Executions();

/** What a function of ours is for: `"orchestrator"` or `"entity"`; undefined of any other. */
export const DURABLE = Symbol.for("tandem.durable");

function durable(kind, fn, handler) {
    if (typeof fn !== "function") {
        const example = kind === "entity" ? "(ctx) => { … }" : "function* (ctx) { … }";
        throw invalid(`an ${kind} is a function, not ${shown(fn)}`, `write \`df.${kind}(${example})\``);
    }
    return Object.defineProperty(handler, DURABLE, { value: kind });
}

/** Makes a handler of a generator function. A worker calls it with the requests of `turn`. */
export function orchestrator(fn) {
    if (isAsync(fn)) {
        throw invalid(
            "an orchestrator is a generator function, not an async function",
            "write `function* (ctx) { … }`, or `async function* (ctx) { … }`, and `yield` where you would `await`",
        );
    }
    return durable("orchestrator", fn, (request) => turn(fn, request, executions));
}

/** Makes a handler of a function of `ctx.df`. A worker calls it with the requests of `run`. */
export const entity = (fn) => durable("entity", fn, (request) => run(fn, request));

const df = Object.assign((fn) => orchestrator(fn), {
    orchestrator,
    entity,
    getClient,
    DurableError,
    DurableHttpRequest,
    DurableHttpResponse,
    DurableOrchestrationClient,
    EntityId,
    EntityStateResponse,
    LockState,
    ManagedIdentityTokenSource,
    OrchestrationRuntimeStatus,
    RetryOptions,
});

export {
    DurableError,
    DurableHttpRequest,
    DurableHttpResponse,
    DurableOrchestrationClient,
    EntityId,
    EntityStateResponse,
    LockState,
    ManagedIdentityTokenSource,
    OrchestrationRuntimeStatus,
    RetryOptions,
    getClient,
};
export default df;
