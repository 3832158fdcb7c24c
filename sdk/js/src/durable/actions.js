// The actions of the out-of-process protocol: what an orchestrator asks of the cloud, as plain JSON.
//
// Inputs are written when the action is made. What the program does to the object afterwards changes no action, so an
// action is the same on every replay, and when its generator lived on.

import { invalid, shown } from "../check.js";
import { CloudError } from "../errors.js";
import { runOf } from "../task.js";
import { schedulerId } from "./entity_id.js";

/** The numbers of the protocol; from 100 on, those of Tandem. */
export const ActionType = {
    CallActivity: 0,
    CallActivityWithRetry: 1,
    CallSubOrchestrator: 2,
    CallSubOrchestratorWithRetry: 3,
    ContinueAsNew: 4,
    CreateTimer: 5,
    WaitForExternalEvent: 6,
    CallEntity: 7,
    CallHttp: 8,
    SignalEntity: 9,
    WhenAny: 11,
    WhenAll: 12,
    CallTask: 100,
    CallTaskWithRetry: 101,
    LockEntities: 102,
    Unlock: 103,
};

export const isCompound = ({ actionType }) =>
    actionType === ActionType.WhenAll || actionType === ActionType.WhenAny;

/** A value as it is after it was stored: a copy that nobody else holds. */
export function stored(what, value) {
    if (typeof value !== "object" && typeof value !== "bigint") return value;
    try {
        return JSON.parse(JSON.stringify(value) ?? "null");
    } catch (error) {
        throw new CloudError(
            "E0863",
            `${what} cannot be written as JSON: ${error.message}`,
            "pass values that JSON knows: texts, numbers, lists and objects that do not contain themselves",
        );
    }
}

// A text is wrapped once more: so does the published library, and the cloud takes it off again.
const inputOf = (what, input) =>
    typeof input === "string" ? JSON.stringify(input) : stored(`the input of ${what}`, input);

function named(what, name) {
    if (typeof name === "string" && name.trim() !== "") return name;
    throw invalid(`the name of ${what} is a text that is not empty, not ${shown(name)}`, "");
}

function retried(name, options) {
    const { firstRetryIntervalInMilliseconds: first, maxNumberOfAttempts: most } = options ?? {};
    if (typeof first === "number" && typeof most === "number") return stored("the retry options", options);
    throw invalid(
        `the retry options of "${name}" are a df.RetryOptions, not ${shown(options)}`,
        "write `new df.RetryOptions(1000, 3)`: the first pause in milliseconds, and how many attempts",
    );
}

export function callActivity(name, input) {
    const functionName = named("an activity", name);
    return { functionName, actionType: ActionType.CallActivity, input: inputOf(`activity "${name}"`, input) };
}

export function callActivityWithRetry(name, retryOptions, input) {
    return {
        ...callActivity(name, input),
        actionType: ActionType.CallActivityWithRetry,
        retryOptions: retried(name, retryOptions),
    };
}

export function callSubOrchestrator(name, input, instanceId) {
    const functionName = named("a sub-orchestration", name);
    if (instanceId) named("a sub-orchestration's instance", instanceId);
    return {
        functionName,
        instanceId,
        actionType: ActionType.CallSubOrchestrator,
        input: inputOf(`sub-orchestration "${name}"`, input),
    };
}

export function callSubOrchestratorWithRetry(name, retryOptions, input, instanceId) {
    return {
        ...callSubOrchestrator(name, input, instanceId),
        actionType: ActionType.CallSubOrchestratorWithRetry,
        retryOptions: retried(name, retryOptions),
    };
}

/** A container task, which the published library does not have. Its options are those of `task.run`; `env` is `environment`. */
export function callTask(name, options) {
    const taskName = named("a task", name);
    const { env: environment, ...rest } = options ?? {};
    const input = runOf(`task/${name}`, environment === undefined ? rest : { environment, ...rest });
    return { taskName, actionType: ActionType.CallTask, input };
}

export function callTaskWithRetry(name, retryOptions, options) {
    return {
        ...callTask(name, options),
        actionType: ActionType.CallTaskWithRetry,
        retryOptions: retried(name, retryOptions),
    };
}

function onEntity(actionType, entityId, operation, input) {
    return {
        operation: named("an entity's operation", operation),
        actionType,
        input: inputOf(`the operation "${operation}"`, input),
        instanceId: schedulerId(entityId),
    };
}

export const callEntity = (entityId, operation, input) =>
    onEntity(ActionType.CallEntity, entityId, operation, input);
export const signalEntity = (entityId, operation, input) =>
    onEntity(ActionType.SignalEntity, entityId, operation, input);

/** The entities in one order, each once. */
export const lockEntities = (entityIds) => ({
    actionType: ActionType.LockEntities,
    entities: [...new Set(entityIds.map(schedulerId))].sort(),
});

/** Gives a lock back: `lock` is the id of the task that asked for it. */
export const unlock = ({ id, entities }) => ({ actionType: ActionType.Unlock, lock: id, entities });

export const callHttp = (request) => ({
    httpRequest: stored("the HTTP request", request),
    actionType: ActionType.CallHttp,
});

export function createTimer(fireAt) {
    if (!(fireAt instanceof Date) || Number.isNaN(fireAt.getTime())) {
        throw invalid(
            `a timer's time is a Date, not ${fireAt instanceof Date ? "an invalid one" : shown(fireAt)}`,
            "count from `ctx.df.currentUtcDateTime`, which is the same on every replay",
        );
    }
    return { fireAt: fireAt.toISOString(), isCanceled: false, actionType: ActionType.CreateTimer };
}

export const waitForExternalEvent = (name) => ({
    externalEventName: named("an external event", name),
    reason: "ExternalEvent",
    actionType: ActionType.WaitForExternalEvent,
});

export const continueAsNew = (input) => ({
    actionType: ActionType.ContinueAsNew,
    input: inputOf("the next generation", input),
});

/**
 * What an action leads to in the history: the kind of task, the name that is recorded, and how a person calls it.
 */
export function subject(action) {
    switch (action.actionType) {
        case ActionType.CallActivity:
        case ActionType.CallActivityWithRetry:
            return { kind: "task", name: action.functionName, what: "activity" };
        case ActionType.CallTask:
        case ActionType.CallTaskWithRetry:
            return { kind: "task", name: action.taskName, what: "task" };
        case ActionType.CallHttp:
            return { kind: "task", name: "BuiltIn::HttpActivity", what: "HTTP request" };
        case ActionType.CallSubOrchestrator:
        case ActionType.CallSubOrchestratorWithRetry:
            return { kind: "sub", name: action.functionName, what: "sub-orchestration" };
        case ActionType.CreateTimer:
            return { kind: "timer", what: "timer" };
        case ActionType.CallEntity:
        case ActionType.SignalEntity:
            return { kind: "sent", name: action.instanceId, what: "message to the entity" };
        case ActionType.LockEntities:
            return { kind: "lock", name: action.entities.join(", "), what: "lock on" };
        case ActionType.Unlock:
            return { kind: "unlock", name: action.entities.join(", "), what: "release of" };
        default:
            return { kind: "event", name: action.externalEventName, what: "wait for the event" };
    }
}
