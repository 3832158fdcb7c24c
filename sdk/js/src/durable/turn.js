// The turns of a worker: executions that live on between the turns of an instance.
//
// A generator serves one attempt. A turn takes it out of the cache before it runs on, and puts it back under the hash that
// the history has if the turn is committed. The next turn names the hash of what *was* committed; if that is another, or
// if the generator is gone, the cloud is asked for the whole history.

import { CloudError } from "../errors.js";
import { Execution } from "./execution.js";

/** How many generators a worker keeps. The one that was not used for longest goes. */
const MOST = 500;

export class Executions {
    #kept = new Map();
    #most;

    constructor(most = MOST) {
        this.#most = most;
    }

    get size() {
        return this.#kept.size;
    }

    /** Takes the execution out, if it stands at the history of that hash; at another it is of no use to anybody. */
    take(key, hash) {
        const kept = this.#kept.get(key);
        this.#kept.delete(key);
        return kept !== undefined && kept.hash === hash ? kept.execution : undefined;
    }

    keep(key, hash, execution) {
        this.#kept.set(key, { hash, execution });
        if (this.#kept.size > this.#most) this.#kept.delete(this.#kept.keys().next().value);
    }
}

/**
 * One turn of an orchestrator.
 *
 * The request has `instance` and `execution`, which name the generation, and either `binding`, the whole history, or
 * `events`, those since the history whose hash is `hash`. `commit` is the hash that the history has once the turn is
 * committed. The answer is `{ state }`, or `{ replay: true }` if only events were sent and their execution is not here.
 */
export async function turn(orchestrate, request, executions) {
    const { instance, execution: generation, hash, binding, events, commit } = request ?? {};
    if (binding === undefined && !Array.isArray(events)) {
        throw new CloudError(
            "E0862",
            "an orchestrator is not called: the cloud runs it, turn by turn",
            'declare it as a workflow, `new cloud.Workflow("name", …)`, and start it by `df.getClient(context).startNew("name")`',
        );
    }
    const key = JSON.stringify([instance, generation]);
    const kept = executions.take(key, hash);
    if (binding === undefined && kept === undefined) return { replay: true };
    const execution = binding === undefined ? kept : await Execution.begin(orchestrate, binding);
    const state = binding === undefined ? await execution.feed(events) : execution.state;
    if (!execution.over && commit !== undefined) executions.keep(key, commit, execution);
    return { state };
}
