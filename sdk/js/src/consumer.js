// What every source of events shares: who gets them.

import { invalid, shown } from "./check.js";
import { Function } from "./function.js";
import { Resource } from "./resource.js";
import { Task } from "./task.js";
import { DURABLE, Workflow } from "./workflow.js";

export class Subscription extends Resource {
    constructor(name, source, consumer, events, filter, more = {}) {
        const inputs = { source: source.urn, consumer: consumer.urn, events, filter, ...more };
        super("subscription", name, () => inputs, []);
    }
}

/** Whether it handles events as it is. */
export function isDeclared(handler) {
    return handler instanceof Function || handler instanceof Task || handler instanceof Workflow;
}

/**
 * Who gets the events of a source. A handler becomes a function of that name, and gets what `unpack` makes of an event,
 * the context, and the whole event.
 *
 * `what` is the place in the program, for errors: `bucket/videos.onPut`.
 */
export function consumerOf(what, name, handler, unpack) {
    if (isDeclared(handler)) return handler;
    // Queues have subscriptions of their own, so they are not imported here.
    const batched = what.startsWith("queue/") || what.startsWith("stream/");
    if (handler?.declaration?.kind === "queue" && !batched) return handler;
    if (typeof handler !== "function") {
        const [kind, method] = [what.split("/")[0], what.split(".").pop()];
        throw invalid(
            `the handler of ${what} is a function, a cloud.Function, a cloud.Task${batched ? " or a cloud.Workflow" : ", a cloud.Workflow or a cloud.Queue"}, not ${shown(handler)}`,
            `write \`${kind}.${method}("name", async (args) => { … })\``,
        );
    }
    if (handler[DURABLE] !== undefined) {
        const [kind, method] = [what.split("/")[0], what.split(".").pop()];
        throw invalid(
            `the handler of ${what} is an ${handler[DURABLE]}, which is no handler by itself`,
            handler[DURABLE] === "entity"
                ? "signal it from a handler: `df.getClient(context).signalEntity(…)`"
                : `declare it as a workflow, and pass that: \`${kind}.${method}("name", new cloud.Workflow("name", …))\``,
        );
    }
    return new Function(name, (event, context) => handler(unpack(event), context, event));
}
