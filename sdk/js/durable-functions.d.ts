// `durable-functions` on the `js` host: the API of the published library (1.x and 2.x) and `df(function* …)` of its first
// releases, with container tasks beside activities.

declare module "durable-functions" {
    // Orchestrators.

    /**
     * What an orchestrator is: a generator whose yields are tasks. It runs again from its history after each step, so it
     * does the same each time: no time, no chance, no network but by `ctx.df`. An async generator may `await` only what
     * is settled at once.
     */
    type Orchestrate = (
        ctx: OrchestrationContext,
    ) => Generator<Task<any>, unknown, any> | AsyncGenerator<Task<any>, unknown, any>;

    /** What `cloud.Workflow` takes. It is not called by programs. */
    interface Orchestrator {
        (request: object): Promise<object>;
    }

    /** What `df.entity` makes. It is not called by programs. */
    interface Entity {
        (request: object): Promise<object>;
    }

    interface Logger {
        (...values: unknown[]): void;
        info(...values: unknown[]): void;
        verbose(...values: unknown[]): void;
        warn(...values: unknown[]): void;
        error(...values: unknown[]): void;
    }

    interface OrchestrationContext {
        readonly df: DurableOrchestrationContext;
        /** Writes to the log, but not while what happened is replayed. So does `console` while an orchestrator runs. */
        readonly log: Logger;
    }

    /** A step that is yielded to wait for it. It is scheduled when it is first yielded, alone or within `Task.all`. */
    interface Task<T = unknown> {
        /** Whether it has ended, well or not. */
        readonly isCompleted: boolean;
        /** Whether it has failed. */
        readonly isFaulted: boolean;
        /** The result; of a task that failed, the error. */
        readonly result?: T;
    }

    interface TimerTask extends Task<undefined> {
        readonly isCanceled: boolean;
        /**
         *
         * @throws if the timer has fired.
         */
        cancel(): void;
    }

    /** How a container task is run: what `task.run` of `@tandem/cloud` takes. */
    interface TaskOptions {
        /** Added to the task's environment. */
        environment?: Record<string, string | number | boolean>;
        /** `environment`, for short. */
        env?: Record<string, string | number | boolean>;
        /** Replaces the task's command. */
        command?: string[];
        /** What the container finds as JSON in the file that `$TANDEM_INPUT` names. */
        input?: unknown;
    }

    /**
     * Inputs are written as JSON when a method is called (E0863 if they cannot be), and results are read from JSON.
     * A task that fails throws a `DurableError` where it is yielded.
     */
    interface DurableOrchestrationContext {
        readonly instanceId: string;
        /** The instance that called this one as a sub-orchestration. */
        readonly parentInstanceId: string | undefined;
        /** Whether what runs now has run before. */
        readonly isReplaying: boolean;
        /** The time at which the current turn began: the same on every replay. In UTC, to the millisecond. */
        readonly currentUtcDateTime: Date;
        readonly customStatus: unknown;

        /** The input that the instance was started with. */
        getInput<T = any>(): T;
        /** A GUID that is the same on every replay. */
        newGuid(instanceId?: string): string;
        /** What `getStatus` tells of the instance beside its state. */
        setCustomStatus(status: unknown): void;

        /** Runs a function of the stack. It runs at least once, and its result is recorded once. */
        callActivity<T = any>(name: string, input?: unknown): Task<T>;
        /** `callActivity`, as the first releases called it. */
        callActivityAsync<T = any>(name: string, input?: unknown): Task<T>;
        /** Runs a function of the stack, again if it fails. */
        callActivityWithRetry<T = any>(name: string, retryOptions: RetryOptions, input?: unknown): Task<T>;
        /** Runs a container task of the stack; waits for it through restarts of the cloud. Only Tandem has it. */
        callTask<T = any>(name: string, options?: TaskOptions): Task<T>;
        callTaskWithRetry<T = any>(name: string, retryOptions: RetryOptions, options?: TaskOptions): Task<T>;
        /** Runs a workflow of the stack. Without an id, it is made of this instance's. */
        callSubOrchestrator<T = any>(name: string, input?: unknown, instanceId?: string): Task<T>;
        callSubOrchestratorWithRetry<T = any>(
            name: string,
            retryOptions: RetryOptions,
            input?: unknown,
            instanceId?: string,
        ): Task<T>;
        /** Has an entity do something, and waits for what it returns. */
        callEntity<T = any>(entityId: EntityId, operation: string, input?: unknown): Task<T>;
        /**
         * Waits until this instance has the entities to itself, whatever their order. Until the lock is released, or the
         * instance ends, they apply what it calls, and nothing else; no other entities may be called, no second lock be
         * asked for, and no sub-orchestration be called (E0880). Only Tandem has it.
         */
        lockEntities(...entityIds: EntityId[]): Task<Lock>;
        /** Whether it has locked entities, and which. */
        isLocked(): LockState;
        /** Has an entity do something, and does not wait. Not to be yielded. */
        signalEntity(entityId: EntityId, operation: string, input?: unknown): void;
        /**
         * Sends an HTTP request. An answer 202 with a `Location` is asked again, unless `asynchronousPatternEnabled` is
         * false. Content that is no text is sent as JSON.
         */
        callHttp(
            method: string,
            uri: string,
            content?: string | object,
            headers?: Record<string, string>,
            tokenSource?: undefined,
            asynchronousPatternEnabled?: boolean,
        ): Task<DurableHttpResponse>;
        /** Waits until then. Count from `currentUtcDateTime`. */
        createTimer(fireAt: Date): TimerTask;
        /**
         * Waits for an event that is raised by this name. Events that come before somebody waits are kept, in order. Of
         * several tasks that wait for one name, the one that was yielded last is first.
         */
        waitForExternalEvent<T = any>(name: string): Task<T>;
        /** Ends this generation, and begins another with an empty history and this input. Not to be yielded. */
        continueAsNew(input: unknown): void;

        readonly Task: {
            /** Done when all are, with their results in order; fails as soon as one does. */
            all<T = any>(tasks: readonly Task<T>[]): Task<T[]>;
            /** Done with the first that ends, well or not. The result is that task. At least one. */
            any<T extends Task<any>>(tasks: readonly T[]): Task<T>;
        };
    }

    /** How a task is tried again. */
    class RetryOptions {
        /**
         * @param firstRetryIntervalInMilliseconds the first pause; above zero.
         * @param maxNumberOfAttempts how often it is tried, the first time included.
         */
        constructor(firstRetryIntervalInMilliseconds: number, maxNumberOfAttempts: number);
        firstRetryIntervalInMilliseconds: number;
        maxNumberOfAttempts: number;
        /** By what each pause is longer than the one before. 1 if it is not set. */
        backoffCoefficient?: number;
        /** The longest pause. */
        maxRetryIntervalInMilliseconds?: number;
        /** No further attempt is made this long after the first one was scheduled. */
        retryTimeoutInMilliseconds?: number;
    }

    /** What a task that failed throws. */
    class DurableError extends Error {
        readonly reason: string;
        readonly details: string | undefined;
    }

    class DurableHttpRequest {
        constructor(
            method: string,
            uri: string,
            content?: string,
            headers?: Record<string, string>,
            tokenSource?: undefined,
            asynchronousPatternEnabled?: boolean,
        );
        readonly method: string;
        readonly uri: string;
        readonly content?: string;
        readonly headers?: Record<string, string>;
        readonly asynchronousPatternEnabled: boolean;
    }

    class DurableHttpResponse {
        constructor(statusCode: number, content?: string, headers?: Record<string, string>);
        readonly statusCode: number;
        readonly content?: string;
        readonly headers?: Record<string, string>;
        /** A header, whatever its case. */
        getHeader(name: string): string | undefined;
    }

    /** Azure's identities are not here: making one is an error (E0506). */
    class ManagedIdentityTokenSource {
        constructor(resource: string);
    }

    // Entities.

    /** Which entity: the name of an entity function, whatever its case, and a key. */
    class EntityId {
        constructor(name: string, key: string);
        readonly name: string;
        readonly key: string;
        static getEntityIdFromSchedulerId(id: string): EntityId;
        static getSchedulerIdFromEntityId(id: EntityId): string;
        /** `@counter@one`. */
        toString(): string;
    }

    /** A lock on entities that is held. */
    interface Lock {
        /** Lets others have the entities. The second time, nothing happens. */
        release(): void;
    }

    class LockState {
        constructor(isLocked: boolean, ownedLocks: EntityId[]);
        readonly isLocked: boolean;
        readonly ownedLocks: EntityId[];
    }

    interface EntityContext<State = any> {
        readonly df: DurableEntityContext<State>;
        readonly log: Logger;
    }

    /** One operation of an entity. Operations run one after the other, so none needs a lock. */
    interface DurableEntityContext<State = any> {
        readonly entityName: string;
        readonly entityKey: string;
        readonly entityId: EntityId;
        readonly operationName: string | undefined;
        /** Whether there was no such entity before. */
        readonly isNewlyConstructed: boolean;
        /** The state, or what `initializer` makes if there is none. */
        getState(initializer: () => State): State;
        getState(): State | undefined;
        setState(state: State): void;
        getInput<T = any>(): T | undefined;
        /** What whoever called gets. */
        return(value: unknown): void;
        /** Removes the entity with its state. */
        destructOnExit(): void;
        signalEntity(entityId: EntityId, operation: string, input?: unknown): void;
    }

    // Clients.

    /** The states of an instance. */
    const OrchestrationRuntimeStatus: {
        readonly Running: "Running";
        readonly Completed: "Completed";
        readonly ContinuedAsNew: "ContinuedAsNew";
        readonly Failed: "Failed";
        readonly Canceled: "Canceled";
        readonly Terminated: "Terminated";
        readonly Pending: "Pending";
        readonly Suspended: "Suspended";
    };
    type OrchestrationRuntimeStatus = (typeof OrchestrationRuntimeStatus)[keyof typeof OrchestrationRuntimeStatus];

    interface DurableOrchestrationStatus {
        readonly name: string;
        readonly instanceId: string;
        readonly runtimeStatus: OrchestrationRuntimeStatus;
        readonly createdTime: Date;
        readonly lastUpdatedTime: Date;
        readonly input: any;
        /** Of an instance that failed, why. */
        readonly output: any;
        readonly customStatus?: any;
        /** Only if it was asked for. */
        readonly historyEvents?: object[];
    }

    class EntityStateResponse<State = any> {
        constructor(entityExists: boolean, entityState?: State);
        readonly entityExists: boolean;
        readonly entityState?: State;
    }

    /** Addresses at which an instance is managed. Whoever uses them adds `code`, a key of the stack. */
    interface HttpManagementPayload {
        readonly id: string;
        readonly statusQueryGetUri: string;
        readonly sendEventPostUri: string;
        readonly terminatePostUri: string;
        readonly suspendPostUri: string;
        readonly resumePostUri: string;
        readonly rewindPostUri: string;
        readonly purgeHistoryDeleteUri: string;
    }

    interface HttpResponse {
        status: number;
        body: unknown;
        headers: Record<string, string>;
    }

    /** The part of an HTTP request that is used: its address. */
    type HttpRequest = { url?: string; http?: { url?: string } };

    /** What functions do with the stack's workflows and entities. In handlers only (E0507). */
    class DurableOrchestrationClient {
        /**
         * Starts an instance of a workflow and answers its id. What it answered is on disk.
         *
         * @throws if the id is in use by an instance that is not over, or no workflow has the name.
         */
        startNew(name: string, instanceId?: string, input?: unknown): Promise<string>;
        getStatus(
            instanceId: string,
            showHistory?: boolean,
            showHistoryOutput?: boolean,
            showInput?: boolean,
        ): Promise<DurableOrchestrationStatus>;
        getStatusAll(): Promise<DurableOrchestrationStatus[]>;
        getStatusBy(
            createdTimeFrom?: Date,
            createdTimeTo?: Date,
            runtimeStatus?: OrchestrationRuntimeStatus[],
        ): Promise<DurableOrchestrationStatus[]>;
        /** Raises an event. An instance that does not wait for it yet finds it when it does. */
        raiseEvent(instanceId: string, name: string, data?: unknown): Promise<void>;
        terminate(instanceId: string, reason?: string): Promise<void>;
        suspend(instanceId: string, reason?: string): Promise<void>;
        resume(instanceId: string, reason?: string): Promise<void>;
        /** Has an instance that failed go on from before its failure. */
        rewind(instanceId: string, reason?: string): Promise<void>;
        /** Removes an instance that has ended, with its history. */
        purgeInstanceHistory(instanceId: string): Promise<{ instancesDeleted: number }>;
        /** Removes those that have ended of the instances that were created in that time. */
        purgeInstanceHistoryBy(
            createdTimeFrom?: Date,
            createdTimeTo?: Date,
            runtimeStatus?: OrchestrationRuntimeStatus[],
        ): Promise<{ instancesDeleted: number }>;
        signalEntity(entityId: EntityId, operation?: string, input?: unknown): Promise<void>;
        readEntityState<State = any>(entityId: EntityId): Promise<EntityStateResponse<State>>;
        createHttpManagementPayload(instanceId: string): HttpManagementPayload;
        /** The answer 202 that tells whoever asked where to ask again. */
        createCheckStatusResponse(request: HttpRequest | undefined, instanceId: string): HttpResponse;
        /** The output, if the instance ends within `timeout` milliseconds, looking each `interval`; otherwise an answer 202. */
        waitForCompletionOrCreateCheckStatusResponse(
            request: HttpRequest,
            instanceId: string,
            timeout?: number,
            interval?: number,
        ): Promise<HttpResponse>;
    }

    // What the module is.

    interface DurableFunctions {
        /** The form of the first releases: the same as `df.orchestrator`. */
        (fn: Orchestrate): Orchestrator;
        orchestrator(fn: Orchestrate): Orchestrator;
        entity<State = any>(fn: (ctx: EntityContext<State>) => unknown): Entity;
        /** The client of the stack. The context is not needed. */
        getClient(context?: unknown): DurableOrchestrationClient;
        DurableError: typeof DurableError;
        DurableHttpRequest: typeof DurableHttpRequest;
        DurableHttpResponse: typeof DurableHttpResponse;
        DurableOrchestrationClient: typeof DurableOrchestrationClient;
        EntityId: typeof EntityId;
        EntityStateResponse: typeof EntityStateResponse;
        LockState: typeof LockState;
        ManagedIdentityTokenSource: typeof ManagedIdentityTokenSource;
        OrchestrationRuntimeStatus: typeof OrchestrationRuntimeStatus;
        RetryOptions: typeof RetryOptions;
    }

    const df: DurableFunctions;
    const orchestrator: DurableFunctions["orchestrator"];
    const entity: DurableFunctions["entity"];
    const getClient: DurableFunctions["getClient"];

    export {
        DurableEntityContext,
        DurableError,
        DurableHttpRequest,
        DurableHttpResponse,
        DurableOrchestrationClient,
        DurableOrchestrationContext,
        DurableOrchestrationStatus,
        Entity,
        EntityContext,
        EntityId,
        EntityStateResponse,
        HttpManagementPayload,
        HttpRequest,
        HttpResponse,
        Lock,
        LockState,
        Logger,
        ManagedIdentityTokenSource,
        OrchestrationContext,
        OrchestrationRuntimeStatus,
        Orchestrate,
        Orchestrator,
        RetryOptions,
        Task,
        TaskOptions,
        TimerTask,
        entity,
        getClient,
        orchestrator,
    };
    export default df;
}
