// Workflows: orchestrators whose instances survive anything. The orchestrator is noted by a name that no function can have.

import { checkOptions, checkPositive, checkSize, checkType, invalid, isAsync, shown } from "./check.js";
import { handlers } from "./function.js";
import { call } from "./host.js";
import { Resource, inHandlerOnly, textsOf } from "./resource.js";

const OPTIONS = ["memory", "timeout", "environment"];
/** What `df.orchestrator` and `df.entity` mark their functions with. Not imported: most programs do not pay for them. */
export const DURABLE = Symbol.for("tandem.durable");
/** In seconds. Turns are short, and others wait behind one that never ends. */
const TIMEOUT = 10;

export class Workflow extends Resource {
    constructor(name, orchestrator, args, options) {
        const handler = `workflow/${name}`;
        const inputs = (key) => {
            if (typeof orchestrator !== "function" || isAsync(orchestrator) || (orchestrator[DURABLE] ?? "orchestrator") !== "orchestrator") {
                throw invalid(
                    `the orchestrator of ${key} is a generator function, not ${isAsync(orchestrator) ? "an async function" : shown(orchestrator)}`,
                    `write \`new cloud.Workflow("${name}", df(function* (ctx) { … }))\``,
                );
            }
            const { memory, timeout, environment } = checkOptions(key, args, OPTIONS);
            checkSize(key, "memory", memory);
            checkPositive(key, "timeout", timeout);
            const texts = textsOf(key, "environment", environment);
            // One worker takes all turns of a version, for it has the generators.
            return { handler, memory, timeout: timeout ?? TIMEOUT, concurrency: 1, environment: texts };
        };
        super("workflow", name, inputs, [], options);
        handlers.set(handler, turnsOf(orchestrator));
    }

    /** Starts an instance; answers its id once it is on disk. */
    async start(input, options) {
        inHandlerOnly("workflow.start");
        const { id } = checkOptions("workflow.start", options, ["id"]);
        checkType("workflow.start", "id", id, ["string"]);
        const started = await call("workflow.start", { name: this.declaration.name, id, input });
        return started.id;
    }

    /** How an instance stands, as the status object of Durable Functions. */
    async status(id, options) {
        inHandlerOnly("workflow.status");
        const { showHistory } = checkOptions("workflow.status", options, ["showHistory"]);
        return call("workflow.status", { id, showHistory: showHistory === true });
    }

    /** Raises an event for an instance, which may wait for it already or later. */
    async raise(id, event, data) {
        inHandlerOnly("workflow.raise");
        await call("workflow.raise", { id, name: event, data: data ?? null });
    }

    /** Ends an instance at once. */
    async terminate(id, reason) {
        inHandlerOnly("workflow.terminate");
        await call("workflow.terminate", { id, reason: reason ?? "" });
    }
}

/** As `new Workflow(…)`. */
export function workflow(name, orchestrator, args, options) {
    return new Workflow(name, orchestrator, args, options);
}

/** Takes the turns that come together one after the other: one that fails is the business of its instance. */
function turnsOf(orchestrator) {
    let take = orchestrator?.[DURABLE] === undefined ? undefined : orchestrator;
    return async ({ turns }) => {
        take ??= (await import("./durable/index.js")).orchestrator(orchestrator);
        const answers = [];
        for (const request of turns) {
            try {
                answers.push(await take(request));
            } catch (error) {
                answers.push({ state: { isDone: false, actions: [[]], error: String(error?.message ?? error) } });
            }
        }
        return { turns: answers };
    };
}
