import type { Input, Resource, ResourceOptions } from "@tandem/cloud";
import type { OrchestrationContext, Orchestrator, Task as Step } from "durable-functions";

export interface WorkflowArgs {
    /** Upper bound of the memory of the orchestrator's worker: MiB, or a text like `"256MiB"`. 128 MiB if not given. */
    memory?: number | string;
    /** Upper bound of a turn, in seconds: 10 if not given. Waiting is no part of it. */
    timeout?: number;
    environment?: Input<Record<string, Input<string | number | boolean>>>;
}

/** How an instance stands: the status object of Durable Functions. */
export interface InstanceStatus {
    /** The workflow's name. */
    name: string;
    instanceId: string;
    runtimeStatus: "Pending" | "Running" | "Suspended" | "Completed" | "Failed" | "Terminated";
    input: unknown;
    /** What the orchestrator set last by `setCustomStatus`. */
    customStatus: unknown;
    /** What it returned; of one that failed or was terminated, why. */
    output: unknown;
    /** In RFC 3339. */
    createdTime: string;
    lastUpdatedTime: string;
    /** The lock on entities that it holds or waits for. */
    lock?: {
        /** `@name@key`. */
        entities: string[];
        requestedTime: string;
        /** Absent while it waits for it. */
        heldSince?: string;
        /** While it waits: who has which of them. */
        heldBy?: Record<string, { instanceId: string; since?: string }>;
    };
    /** Only if it was asked for: the events of the execution, in their order. */
    historyEvents?: object[];
}

/**
 * An orchestrator whose instances survive anything: each of its steps is recorded, and none is taken again.
 *
 * An activity runs at least once, and its result is recorded once. An instance ends on the code that it began with.
 */
export class Workflow<I = any> extends Resource {
    constructor(
        name: string,
        orchestrator: Orchestrator | ((context: OrchestrationContext) => Generator<Step<any>, unknown, any>),
        args?: WorkflowArgs,
        options?: ResourceOptions,
    );

    /**
     * Starts an instance, in a handler; answers its id once it is on disk. A handler that runs again finds the instance that
     * it started.
     *
     * @throws E0872 if an instance of that id has not ended, E0874 if the input is larger than 1 MiB as JSON.
     */
    start(input?: I, options?: { id?: string }): Promise<string>;
    /** @throws E0871 if there is no such instance. */
    status(id: string, options?: { showHistory?: boolean }): Promise<InstanceStatus>;
    /**
     * Raises an event for an instance, which may wait for it already or later.
     *
     * @throws E0871 if there is no such instance, E0873 if it has ended.
     */
    raise(id: string, event: string, data?: unknown): Promise<void>;
    /** Ends an instance at once. What it has begun goes on, and is recorded nowhere. */
    terminate(id: string, reason?: string): Promise<void>;
}

/** As `new Workflow(…)`. */
export function workflow<I = any>(...args: ConstructorParameters<typeof Workflow<I>>): Workflow<I>;
