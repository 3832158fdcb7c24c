// Histories written by hand.

import { EventType as E } from "../../src/durable/history.js";
import { Execution } from "../../src/durable/execution.js";

export const at = (second) => new Date(Date.UTC(2026, 0, 1, 0, 0, second)).toISOString();
export const started = (second) => ({ EventType: E.OrchestratorStarted, EventId: -1, Timestamp: at(second) });
export const begun = [started(0), { EventType: E.ExecutionStarted, EventId: -1, Timestamp: at(0) }];
export const done = (id, value = null) => ({
    EventType: E.TaskCompleted,
    TaskScheduledId: id,
    Result: JSON.stringify(value),
});
export const failed = (id) => ({
    EventType: E.TaskFailed,
    TaskScheduledId: id,
    Reason: `no ${id}`,
    Details: "",
});
export const fired = (id) => ({ EventType: E.TimerFired, TimerId: id });
export const raised = (name, value) => ({
    EventType: E.EventRaised,
    Name: name,
    Input: JSON.stringify(value),
});

export const begin = (orchestrate, ...history) =>
    Execution.begin(orchestrate, { history: [...begun, ...history], instanceId: "i", input: 5 });
export const stateOf = async (orchestrate, ...history) => (await begin(orchestrate, ...history)).state;
