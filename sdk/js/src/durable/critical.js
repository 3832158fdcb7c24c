// The critical section of an orchestrator: from its call of `lockEntities` until the lock is released.
//
// The rules are those of Durable Functions for .NET. Whatever breaks one is told where it is called. A task may be made
// before the section and yielded within it: so tasks are looked at when they are yielded, too.

import { invalid, shown } from "../check.js";
import { CloudError } from "../errors.js";
import { ActionType, lockEntities, unlock } from "./actions.js";
import { EntityId } from "./entity_id.js";
import { Task } from "./tasks.js";
import { LockState } from "./values.js";

const CHILDREN = [ActionType.CallSubOrchestrator, ActionType.CallSubOrchestratorWithRetry];

const broken = (message, help) => new CloudError("E0880", message, help);

/** What an orchestrator gets when it has the lock. */
class Lock {
    #release;

    constructor(release) {
        this.#release = release;
    }

    /** Lets others have the entities. The second time, nothing happens. */
    release() {
        this.#release();
    }
}

class LockTask extends Task {
    #section;

    constructor(section, execution, action) {
        super(execution, action);
        this.#section = section;
    }

    settle(failed, value) {
        if (failed) this.#section.leave(this);
        super.settle(failed, failed ? value : new Lock(() => this.#section.release(this)));
    }
}

export class CriticalSection {
    #execution;
    /** The lock that was asked for and is not released. */
    #task;

    constructor(execution) {
        this.#execution = execution;
    }

    get #entities() {
        return this.#task.action.entities;
    }

    /** The task of a lock on these entities. */
    lock(entities) {
        if (entities.length === 0)
            throw invalid(
                "`lockEntities` is given no entity",
                'write for example `yield ctx.df.lockEntities(new df.EntityId("account", "ada"))`',
            );
        const action = lockEntities(entities);
        if (this.#task !== undefined)
            throw broken(
                `a lock on ${action.entities.join(", ")} is asked for before the one on ${this.#entities.join(", ")} is released`,
                "lock all entities at once: two instances that lock them one by one may wait for each other for ever",
            );
        this.#task = new LockTask(this, this.#execution, action);
        return this.#task;
    }

    state() {
        const held = this.#task?.isCompleted ?? false;
        return new LockState(held, held ? this.#entities.map(EntityId.getEntityIdFromSchedulerId) : []);
    }

    leave(task) {
        if (this.#task === task) this.#task = undefined;
    }

    release(task) {
        if (this.#task !== task) return;
        this.#task = undefined;
        this.#execution.fire(unlock(task.action));
    }

    /** Throws if the orchestrator may not do this now. `yielded` says that it was made before, and is done only now. */
    check({ actionType, instanceId, functionName }, yielded = false) {
        if (this.#task === undefined) return;
        const held = this.#task.isCompleted;
        const ours = this.#entities.includes(instanceId);
        const section = `the critical section of ${this.#entities.join(", ")}`;
        if (!held) {
            // It would wait for the lock to be released, and the lock for whoever waits for it.
            const behind = !yielded || this.#task.action.id !== undefined;
            if (actionType === ActionType.CallEntity && ours && behind)
                throw broken(
                    `the entity ${instanceId} is called before the lock on it is there`,
                    "`yield` what `ctx.df.lockEntities` answers, and call the entity then",
                );
        } else if (actionType === ActionType.CallEntity && !ours) {
            throw broken(
                `the entity ${instanceId} is called within ${section}, and is not locked by it`,
                "lock it together with the others, or call it after `release()`; it may be signalled",
            );
        } else if (actionType === ActionType.SignalEntity && ours) {
            throw broken(
                `the entity ${instanceId} is signalled within ${section}`,
                "call it: a signal would not be applied before the lock is released",
            );
        } else if (CHILDREN.includes(actionType)) {
            throw broken(
                `the sub-orchestration ${shown(functionName)} is called within ${section}`,
                "call it before the lock or after `release()`: it might ask for the same entities",
            );
        }
    }
}
