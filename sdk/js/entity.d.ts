import type { Input, Resource, ResourceOptions } from "@tandem/cloud";
import type { Entity as Operations, EntityContext } from "durable-functions";

export interface EntityArgs {
    /** Upper bound of the memory of a worker: MiB, or a text like `"256MiB"`. 128 MiB if not given. */
    memory?: number | string;
    /** Upper bound of a batch of operations, in seconds: 30 if not given. */
    timeout?: number;
    /** How many entities of this name may work at once: 100 if not given. One entity is never in two places. */
    concurrency?: number;
    environment?: Input<Record<string, Input<string | number | boolean>>>;
    /** Lets `destroy` delete it with the states of its entities. */
    forceDestroy?: boolean;
}

/**
 * A state for each key, changed by operations that are applied one after the other, each once.
 *
 * Orchestrators call and signal it by `ctx.df.callEntity` and `ctx.df.signalEntity`. Its name has no case.
 */
export class Entity<State = any> extends Resource {
    constructor(
        name: string,
        operations: Operations | ((context: EntityContext<State>) => unknown),
        args?: EntityArgs,
        options?: ResourceOptions,
    );

    /**
     * Sends an operation, in a handler. It is on disk when this returns, and applied once, after those that this handler sent
     * before. A handler that runs again within a day sends nothing again.
     *
     * @throws E0874 if the input is larger than 1 MiB as JSON.
     */
    signal(key: string, operation: string, input?: unknown): Promise<void>;
    /** The state as the last operations left it, in a handler; undefined if there is none. */
    read(key: string): Promise<State | undefined>;
}

/** As `new Entity(…)`. */
export function entity<State = any>(...args: ConstructorParameters<typeof Entity<State>>): Entity<State>;
