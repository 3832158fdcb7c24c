// A small engine: it turns actions into a history, and lets what was scheduled end by chance.

import { ActionType as A } from "../../src/durable/actions.js";
import { EventType as E } from "../../src/durable/history.js";

const BASE = Date.UTC(2026, 0, 2, 3, 4, 5);
const RETRIED = [A.CallActivityWithRetry, A.CallSubOrchestratorWithRetry, A.CallTaskWithRetry];
export const isCompound = ({ actionType }) => actionType === A.WhenAll || actionType === A.WhenAny;

/** The atomic actions in a list, in the order of the protocol. */
export const flat = (actions) =>
    actions.flatMap((one) => (isCompound(one) ? flat(one.compoundActions) : [one]));

export class Engine {
    history = [];
    /** What can end: its id, and a function that makes the event. */
    #open = [];
    #known = new Set();
    #byId = new Map();
    #seconds = 0;
    #played = 0;

    constructor(chance, { failing }) {
        this.chance = chance;
        this.failing = failing;
    }

    get done() {
        return this.#open.length === 0;
    }

    /** Begins a turn: some of what is open ends. Answers the events that are new since the last turn. */
    turn() {
        this.#seconds += 1 + this.chance.below(5);
        this.#push({ EventType: E.OrchestratorStarted, EventId: -1 });
        if (this.#seconds < 10 && this.history.length === 1) {
            this.#push({ EventType: E.ExecutionStarted, EventId: -1, Name: "orchestrator" });
        } else {
            // 1.x sees what comes later in the same turn.
            for (let some = this.failing ? 1 + this.chance.below(3) : 1; some > 0 && !this.done; some -= 1) {
                this.#push(this.chance.take(this.#open).end());
            }
        }
        return this.history.slice(this.#played);
    }

    /** Records what a turn asked for, and marks all as played. */
    commit(actions, retries, canceled = []) {
        const before = this.history.length;
        // What is scheduled is recorded in the order of the ids, whoever asked for it.
        const wanted = [
            ...flat(actions).map((action) => () => this.#schedule(action)),
            ...retries.map((one) => () => this.#retry(one)),
        ];
        wanted.forEach((schedule) => schedule());
        const scheduled = this.history.splice(before);
        scheduled.sort((one, other) => one.EventId - other.EventId);
        // Whether a canceled timer still ends is left to chance. 1.x asks the history of the day after, and would
        // then not find it canceled.
        const gone = new Set([
            ...canceled,
            ...flat(actions)
                .filter((one) => one.isCanceled)
                .map((one) => one.id),
        ]);
        if (!this.failing || this.chance.chance(0.7))
            this.#open = this.#open.filter(({ id }) => !gone.has(id));
        this.history.forEach((event) => (event.IsPlayed = true));
        this.#played = this.history.length;
        this.history.push(...scheduled);
        this.#push({ EventType: E.OrchestratorCompleted, EventId: -1 });
        this.history.forEach((event) => (event.IsPlayed = true));
    }

    #push(event) {
        this.history.push({
            IsPlayed: false,
            Timestamp: new Date(BASE + this.#seconds * 1000).toISOString(),
            ...event,
        });
    }

    #schedule(action) {
        if (action.actionType === A.ContinueAsNew) return;
        if (action.actionType === A.WaitForExternalEvent) {
            // The same wait may come in several lists; its name is its own.
            if (this.#known.has(action.externalEventName)) return;
            this.#known.add(action.externalEventName);
            const Input = JSON.stringify(this.#value(action.externalEventName));
            this.#open.push({
                end: () => ({ EventType: E.EventRaised, EventId: -1, Name: action.externalEventName, Input }),
            });
            return;
        }
        if (this.#known.has(action.id)) return;
        this.#known.add(action.id);
        this.#byId.set(action.id, action);
        this.#start(action.id, action, RETRIED.includes(action.actionType));
    }

    #retry({ of, id, kind, fireAt }) {
        const action = this.#byId.get(of);
        if (kind === "attempt") {
            this.#start(id, action, true);
            return;
        }
        this.#push({ EventType: E.TimerCreated, EventId: id, FireAt: fireAt });
        this.#open.push({
            id,
            end: () => ({ EventType: E.TimerFired, EventId: -1, TimerId: id, FireAt: fireAt }),
        });
    }

    #start(id, action, retried) {
        switch (action.actionType) {
            case A.CreateTimer:
                this.#push({ EventType: E.TimerCreated, EventId: id, FireAt: action.fireAt });
                this.#open.push({
                    id,
                    end: () => ({ EventType: E.TimerFired, EventId: -1, TimerId: id, FireAt: action.fireAt }),
                });
                break;
            case A.SignalEntity:
            case A.CallEntity: {
                const guid = `00000000-0000-0000-0000-${String(id).padStart(12, "0")}`;
                this.#push({
                    EventType: E.EventSent,
                    EventId: id,
                    InstanceId: action.instanceId,
                    Name: "op",
                    Input: JSON.stringify({ id: guid, op: action.operation }),
                });
                if (action.actionType === A.SignalEntity) break;
                const failed = this.failing && this.chance.chance(0.2);
                const answer = {
                    result: JSON.stringify(failed ? `no ${id}` : this.#value(id)),
                    ...(failed ? { exceptionType: "Error" } : {}),
                };
                this.#open.push({
                    end: () => ({
                        EventType: E.EventRaised,
                        EventId: -1,
                        Name: guid,
                        Input: JSON.stringify(answer),
                    }),
                });
                break;
            }
            case A.CallSubOrchestrator:
            case A.CallSubOrchestratorWithRetry:
                this.#push({
                    EventType: E.SubOrchestrationInstanceCreated,
                    EventId: id,
                    Name: action.functionName,
                    InstanceId: action.instanceId ?? `sub:${id}`,
                });
                this.#open.push({
                    id,
                    end: () =>
                        this.#end(
                            id,
                            E.SubOrchestrationInstanceCompleted,
                            E.SubOrchestrationInstanceFailed,
                            retried,
                        ),
                });
                break;
            default: {
                const http = action.actionType === A.CallHttp;
                const Name = http ? "BuiltIn::HttpActivity" : (action.functionName ?? action.taskName);
                this.#push({ EventType: E.TaskScheduled, EventId: id, Name });
                this.#open.push({
                    id,
                    end: () => this.#end(id, E.TaskCompleted, E.TaskFailed, retried, http),
                });
            }
        }
    }

    #end(id, completed, failed, retried, http = false) {
        if ((this.failing && this.chance.chance(0.25)) || (retried && this.chance.chance(0.5)))
            return {
                EventType: failed,
                EventId: -1,
                TaskScheduledId: id,
                Reason: `reason ${id}`,
                Details: `details ${id}`,
            };
        const value = http
            ? { statusCode: 200, content: `c${id}`, headers: { "Content-Type": "text/plain" } }
            : this.#value(id);
        return { EventType: completed, EventId: -1, TaskScheduledId: id, Result: JSON.stringify(value) };
    }

    #value(id) {
        return this.chance.pick([id, `r${id}`, { id }, [id, null], null, false]);
    }
}
