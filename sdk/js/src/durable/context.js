// What an orchestrator is given: `ctx.df` and `ctx.log`.

import { invalid, shown } from "../check.js";
import * as actions from "./actions.js";
import { guidOf } from "./guid.js";
import { DurableHttpRequest, DurableHttpResponse } from "./http.js";
import { logger } from "./quiet.js";
import { AllTask, AnyTask, RetryTask, Task, TimerTask } from "./tasks.js";

export class Context {
    constructor(execution, binding) {
        this.df = new DurableContext(execution, binding);
        this.log = logger();
        this.bindings = { context: { instanceId: binding.instanceId, input: binding.input } };
    }
}

class HttpTask extends Task {
    settle(failed, value) {
        const response = failed ? value : Object.assign(new DurableHttpResponse(), value);
        super.settle(failed, response);
    }
}

class DurableContext {
    #execution;
    #input;
    #guids = 0;

    constructor(execution, { instanceId, parentInstanceId, input }) {
        this.#execution = execution;
        this.#input = input;
        this.instanceId = instanceId;
        this.parentInstanceId = parentInstanceId ?? undefined;
        this.Task = {
            all: (tasks) => new AllTask(execution, this.#tasks("all", tasks)),
            any: (tasks) => new AnyTask(execution, this.#tasks("any", tasks)),
        };
    }

    get isReplaying() {
        return this.#execution.replaying;
    }

    /** A date of the program's own each time: it may change it. */
    get currentUtcDateTime() {
        return new Date(this.#execution.now);
    }

    get customStatus() {
        return this.#execution.customStatus;
    }

    getInput() {
        return this.#input;
    }

    setCustomStatus(status) {
        this.#execution.customStatus = actions.stored("the custom status", status);
    }

    newGuid(instanceId = this.instanceId) {
        return guidOf(`${instanceId}_${this.#execution.now}_${this.#guids++}`);
    }

    callActivity(name, input) {
        return this.#task(actions.callActivity(name, input));
    }

    /** As the library 0.0.3 called it. */
    callActivityAsync(name, input) {
        return this.callActivity(name, input);
    }

    callActivityWithRetry(name, retryOptions, input) {
        return this.#retried(actions.callActivityWithRetry(name, retryOptions, input));
    }

    callTask(name, options) {
        return this.#task(actions.callTask(name, options));
    }

    callTaskWithRetry(name, retryOptions, options) {
        return this.#retried(actions.callTaskWithRetry(name, retryOptions, options));
    }

    callSubOrchestrator(name, input, instanceId) {
        return this.#task(actions.callSubOrchestrator(name, input, instanceId));
    }

    callSubOrchestratorWithRetry(name, retryOptions, input, instanceId) {
        return this.#retried(actions.callSubOrchestratorWithRetry(name, retryOptions, input, instanceId));
    }

    callEntity(entityId, operation, input) {
        return this.#task(actions.callEntity(entityId, operation, input));
    }

    signalEntity(entityId, operation, input) {
        const action = actions.signalEntity(entityId, operation, input);
        this.#execution.section.check(action);
        this.#execution.fire(action);
    }

    /** A critical section, which the published library does not have. Answers a lock, with `release()`. */
    lockEntities(...entityIds) {
        return this.#execution.section.lock(entityIds);
    }

    isLocked() {
        return this.#execution.section.state();
    }

    callHttp(method, uri, content, headers, tokenSource, asynchronousPatternEnabled = true) {
        const body = content && typeof content !== "string" ? JSON.stringify(content) : content;
        const request = new DurableHttpRequest(
            method,
            uri,
            body,
            headers,
            tokenSource,
            asynchronousPatternEnabled,
        );
        return new HttpTask(this.#execution, actions.callHttp(request));
    }

    createTimer(fireAt) {
        return new TimerTask(this.#execution, actions.createTimer(fireAt));
    }

    waitForExternalEvent(name) {
        return this.#task(actions.waitForExternalEvent(name));
    }

    continueAsNew(input) {
        this.#execution.continueAsNew(actions.continueAsNew(input));
    }

    #task(action) {
        this.#execution.section.check(action);
        return new Task(this.#execution, action);
    }

    #retried(action) {
        return new RetryTask(this.#execution, this.#task(action), action.retryOptions);
    }

    #tasks(method, tasks) {
        const least = method === "any" ? 1 : 0;
        const foreign = (task) => !(task instanceof Task) || task.execution !== this.#execution;
        if (Array.isArray(tasks) && tasks.length >= least && !tasks.some(foreign)) return [...tasks];
        const found = Array.isArray(tasks)
            ? tasks.length < least
                ? "an empty one"
                : `one with ${shown(tasks.find(foreign))} in it`
            : shown(tasks);
        throw invalid(
            `\`Task.${method}\` takes a list of tasks, not ${found}`,
            "pass what `ctx.df.callActivity` and the like answer, without `yield`",
        );
    }
}
