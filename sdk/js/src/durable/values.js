// Values that programs make and read: options of retries, states of entities, statuses.

import { invalid, shown } from "../check.js";

export { EntityId } from "./entity_id.js";

/**
 * How a task is tried again: the first pause in milliseconds, and the number of attempts, the first one included.
 * `backoffCoefficient`, `maxRetryIntervalInMilliseconds` and `retryTimeoutInMilliseconds` may be set on it.
 */
export class RetryOptions {
    constructor(firstRetryIntervalInMilliseconds, maxNumberOfAttempts) {
        for (const [what, value] of Object.entries({
            firstRetryIntervalInMilliseconds,
            maxNumberOfAttempts,
        })) {
            if (typeof value !== "number" || !(value > 0))
                throw invalid(
                    `\`${what}\` of df.RetryOptions is a number above zero, not ${shown(value)}`,
                    "",
                );
        }
        this.firstRetryIntervalInMilliseconds = firstRetryIntervalInMilliseconds;
        this.maxNumberOfAttempts = maxNumberOfAttempts;
    }
}

export class EntityStateResponse {
    constructor(entityExists, entityState) {
        this.entityExists = entityExists;
        this.entityState = entityState;
    }
}

/** Whether an orchestrator is in a critical section, and which entities it has locked. */
export class LockState {
    constructor(isLocked, ownedLocks) {
        this.isLocked = isLocked;
        this.ownedLocks = ownedLocks;
    }
}

export const OrchestrationRuntimeStatus = Object.freeze({
    Running: "Running",
    Completed: "Completed",
    ContinuedAsNew: "ContinuedAsNew",
    Failed: "Failed",
    Canceled: "Canceled",
    Terminated: "Terminated",
    Pending: "Pending",
    Suspended: "Suspended",
});
