// Events of a history, as the protocol has them.

import { CloudError } from "../errors.js";
import { DurableError } from "./errors.js";

export const EventType = {
    ExecutionStarted: 0,
    TaskScheduled: 4,
    TaskCompleted: 5,
    TaskFailed: 6,
    SubOrchestrationInstanceCreated: 7,
    SubOrchestrationInstanceCompleted: 8,
    SubOrchestrationInstanceFailed: 9,
    TimerCreated: 10,
    TimerFired: 11,
    OrchestratorStarted: 12,
    OrchestratorCompleted: 13,
    EventSent: 14,
    EventRaised: 15,
    // Of Tandem alone.
    LockRequested: 100,
    LockAcquired: 101,
    LockReleased: 102,
};

/** Events that tell what was scheduled: the kind of task, where its name is, how a person calls it. */
export const SCHEDULED = new Map([
    [EventType.TaskScheduled, { kind: "task", name: "Name", what: "activity" }],
    [EventType.SubOrchestrationInstanceCreated, { kind: "sub", name: "Name", what: "sub-orchestration" }],
    [EventType.TimerCreated, { kind: "timer", what: "timer" }],
    [EventType.EventSent, { kind: "sent", name: "InstanceId", what: "message to the entity" }],
    [EventType.LockRequested, { kind: "lock", name: "Name", what: "lock on" }],
    [EventType.LockReleased, { kind: "unlock", name: "Name", what: "release of" }],
]);

/** Events that settle a task: the kind of task, where its id is. */
export const SETTLED = new Map([
    [EventType.TaskCompleted, { kind: "task", id: "TaskScheduledId", what: "the result of a task" }],
    [EventType.TaskFailed, { kind: "task", id: "TaskScheduledId", what: "the failure of a task" }],
    [
        EventType.SubOrchestrationInstanceCompleted,
        { kind: "sub", id: "TaskScheduledId", what: "the result of a sub-orchestration" },
    ],
    [
        EventType.SubOrchestrationInstanceFailed,
        { kind: "sub", id: "TaskScheduledId", what: "the failure of a sub-orchestration" },
    ],
    [EventType.LockAcquired, { kind: "lock", id: "TaskScheduledId", what: "a lock" }],
    [EventType.TimerFired, { kind: "timer", id: "TimerId", what: "the end of a timer" }],
]);

const parsed = (text) => (text === undefined || text === null || text === "" ? undefined : JSON.parse(text));

/** How the task ended that an event settles: `[failed, value]`. */
export function outcome(event) {
    switch (event.EventType) {
        case EventType.TaskCompleted:
        case EventType.SubOrchestrationInstanceCompleted:
            return [false, parsed(event.Result)];
        case EventType.EventRaised:
            return [false, parsed(event.Input)];
        case EventType.TimerFired:
            return [false, undefined];
        default:
            // A lock was refused if there is a reason.
            if (event.EventType === EventType.LockAcquired && typeof event.Reason !== "string")
                return [false, undefined];
            return [true, new DurableError(event.Reason ?? "", event.Details ?? undefined)];
    }
}

/** How an entity's operation ended: the answer is in the message as JSON once more. */
export function answer({ result, exceptionType } = {}) {
    const value = parsed(result);
    return exceptionType === undefined || exceptionType === null
        ? [false, value]
        : [true, new DurableError(String(value ?? exceptionType))];
}

/** How a person calls what has a name, and what has none. */
export const called = ({ what, name }) => (name === undefined ? `a ${what}` : `${what} "${name}"`);

/** The history says one thing and the code another. `code` is undefined where the code has nothing. */
export function diverged(id, recorded, code) {
    const instead =
        code === undefined ? "has scheduled nothing of that number yet" : `schedules ${called(code)}`;
    return new CloudError(
        "E0861",
        `the orchestrator does not do what it did before: the history has ${recorded} as number ${id}, and the code ${instead}`,
        "an orchestrator does the same on every replay: use `ctx.df.currentUtcDateTime` and `ctx.df.newGuid`, and do everything else in activities; an instance needs the code it began with",
    );
}
