// Tasks: what an orchestrator yields. A task is settled once: by an event of the history, or by the tasks it is made of.
//
// What a program sees of a task is `isCompleted`, `isFaulted`, `result`, and of a timer `isCanceled` and `cancel()`. The
// rest is for the execution.

import { ActionType, subject } from "./actions.js";

export class Task {
    #execution;
    #action;
    #parents = [];
    #settled = false;
    #failed = false;
    #result;

    constructor(execution, action) {
        this.#execution = execution;
        this.#action = action;
    }

    /** Whether it has ended, well or not. */
    get isCompleted() {
        return this.#settled;
    }

    get isFaulted() {
        return this.#failed;
    }

    /** The result, or the error. */
    get result() {
        return this.#result;
    }

    get execution() {
        return this.#execution;
    }

    get action() {
        return this.#action;
    }

    /** What the history calls it. */
    get subject() {
        return subject(this.#action);
    }

    /** The tasks that it is made of. */
    get children() {
        return [];
    }

    /** The first outcome stays. */
    settle(failed, value) {
        if (this.#settled) return;
        this.#settled = true;
        this.#failed = failed;
        this.#result = value;
        const parents = this.#parents;
        this.#parents = [];
        for (const parent of parents) parent.childSettled(this);
    }

    /** Tells the parent when it is settled: at once, if it is. */
    join(parent) {
        if (this.#settled) parent.childSettled(this);
        else {
            // A loop of `Task.any` over the same tasks would leave a parent for each turn.
            if (this.#parents.length > 15)
                this.#parents = this.#parents.filter((other) => !other.isCompleted);
            this.#parents.push(parent);
        }
    }

    toJSON() {
        const { isCompleted, isFaulted, result } = this;
        return { isCompleted, isFaulted, result: isFaulted ? result.message : result };
    }
}

export class TimerTask extends Task {
    get isCanceled() {
        return this.action.isCanceled;
    }

    cancel() {
        if (this.isCompleted) throw new Error("Cannot cancel a completed task.");
        if (this.isCanceled) return;
        this.action.isCanceled = true;
        this.execution.canceled(this);
    }
}

class Compound extends Task {
    #children;

    constructor(execution, action, children) {
        super(execution, action);
        this.#children = children;
    }

    get children() {
        return this.#children;
    }
}

/** Done when all are, with their results in order; failed as soon as one is. */
export class AllTask extends Compound {
    #open;

    constructor(execution, children) {
        super(execution, { actionType: ActionType.WhenAll }, children);
        const distinct = new Set(children);
        this.#open = distinct.size;
        if (this.#open === 0) this.settle(false, []);
        distinct.forEach((child) => child.join(this));
    }

    childSettled(child) {
        this.#open -= 1;
        if (child.isFaulted) this.settle(true, child.result);
        else if (this.#open === 0)
            this.settle(
                false,
                this.children.map((one) => one.result),
            );
    }
}

/** Done with the first of its tasks that is settled, well or not; its result is that task. */
export class AnyTask extends Compound {
    constructor(execution, children) {
        super(execution, { actionType: ActionType.WhenAny }, children);
        new Set(children).forEach((child) => child.join(this));
    }

    childSettled(child) {
        this.settle(false, child);
    }
}

/** A year: what grows by a coefficient would leave the range of dates. */
const LONGEST = 366 * 24 * 3600 * 1000;

/** A pause or a further attempt of a task that is retried. The cloud schedules it; the orchestrator only counts along. */
class RetryStep extends Task {
    #subject;

    constructor(execution, subject) {
        super(execution, undefined);
        this.#subject = subject;
    }

    get subject() {
        return this.#subject;
    }
}

/**
 * A task that is tried again when it fails. It takes an id for each pause and for each attempt, as the published library
 * does; a pause follows the last attempt, too.
 */
export class RetryTask extends Compound {
    #options;
    #attempt = 1;
    #error;
    #paused = false;
    #began;

    constructor(execution, first, options) {
        super(execution, first.action, [first]);
        this.#options = options;
        first.join(this);
    }

    /** When its first attempt was scheduled. */
    began(now) {
        this.#began ??= now;
    }

    childSettled(child) {
        // Its time was over.
        if (this.isCompleted) return;
        if (this.#paused) {
            this.#paused = false;
            if (this.#attempt > this.#options.maxNumberOfAttempts) this.settle(true, this.#error);
            else this.#next(this.subject, {});
        } else if (child.isFaulted) {
            this.#failed(child.result);
        } else {
            this.settle(false, child.result);
        }
    }

    #failed(error) {
        this.#error = error;
        this.#attempt += 1;
        this.#paused = true;
        const now = this.execution.now;
        const fireAt = new Date(now + this.#pause()).toISOString();
        const pause = this.#next({ kind: "timer", what: "timer" }, { fireAt });
        const { retryTimeoutInMilliseconds: timeout } = this.#options;
        if (typeof timeout !== "number" || now - this.#began < timeout) return;
        // The cloud makes a pause after each failure; this one leads nowhere.
        this.execution.giveUp(pause, () => this.settle(true, error));
    }

    /** How long it waits before the next attempt, in milliseconds. */
    #pause() {
        const {
            firstRetryIntervalInMilliseconds: first,
            backoffCoefficient,
            maxRetryIntervalInMilliseconds,
        } = this.#options;
        const pause = first * (backoffCoefficient ?? 1) ** (this.#attempt - 2);
        return Math.min(pause, maxRetryIntervalInMilliseconds ?? LONGEST, LONGEST);
    }

    #next(subject, more) {
        const step = new RetryStep(this.execution, subject);
        const id = this.execution.allot(step);
        this.execution.retried({
            of: this.action.id,
            id,
            kind: subject.kind === "timer" ? "timer" : "attempt",
            attempt: this.#attempt,
            ...more,
        });
        step.join(this);
        return id;
    }
}

/** Whether a task waits for an event by its name, and not for an id. */
export const waits = (task) => task.action?.actionType === ActionType.WaitForExternalEvent;
