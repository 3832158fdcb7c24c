/// <reference path="./pulumi.d.ts" />

import type { Queue } from "./queue.js";
import type { Workflow } from "./workflow.js";

export * from "./queue.js";
export * from "./stream.js";
/** Handlers that run at times. */
export * as timer from "./timer.js";
export * from "./topic.js";
export * from "./workflow.js";
export * from "./entity.js";

/**
 * What a Tandem program imports: `const cloud = require("@tandem/cloud")` or `import * as cloud from "@tandem/cloud"`.
 *
 * A program is loaded twice. While it is **deployed**, constructors register resources, and handlers are only noted by
 * their name. While it **runs**, a worker loads it again: constructors look their outputs up, and a handler is called.
 * So code at the top level runs at every cold start, and a handler may use anything that its module can see.
 */

/** A plain value, a promise of one, or an output. */
export type Input<T> = T | Promise<T> | Output<T>;

/** What is left of a value when the outputs and promises in it are replaced by what they hold. */
export type Unwrap<T> =
    T extends Output<infer U>
        ? Unwrap<U>
        : T extends Promise<infer U>
          ? Unwrap<U>
          : T extends (...args: never[]) => unknown
            ? T
            : T extends Uint8Array | Date
              ? T
              : T extends object
                ? { [K in keyof T]: Unwrap<T[K]> }
                : T;

/** Properties of the value, as outputs: `bucket.url.length`. */
export type Lifted<T> = T extends string | readonly unknown[]
    ? { readonly [K in Exclude<keyof T, keyof OutputMethods<T> | symbol>]: Output<T[K]> }
    : T extends object
      ? { readonly [K in Exclude<keyof T, keyof OutputMethods<T> | symbol>]-?: Output<NonNullable<T[K]>> }
      : {};

export interface OutputMethods<T> {
    /**
     * Makes a new output from the value. Promises and outputs that `callback` answers are flattened.
     *
     * During a preview the value of something that is not made yet is unknown: then `callback` is not called, and the
     * result is unknown too. A secret stays one. An error that `callback` throws fails the deployment.
     */
    apply<U>(callback: (value: T) => Input<U>): Output<Unwrap<U>>;

    /**
     * The value itself, inside a handler.
     *
     * @throws E0507 while the program is deployed, as the value is not there yet; E0513 if the resource is not deployed.
     */
    get(): T;
}

/**
 * A value that is known once the cloud has made a resource. It remembers which resources it depends on, and whether it
 * is secret. Properties of the value can be read through it.
 */
export type Output<T> = OutputMethods<T> & Lifted<T>;

export const Output: {
    /** The same as {@link output}. */
    create<T>(value: Input<T>): Output<Unwrap<T>>;
    isInstance(value: unknown): value is Output<unknown>;
};

/** The value as an output. Outputs and promises in it, at whatever depth, are replaced by what they hold. */
export function output<T>(value: Input<T>): Output<Unwrap<T>>;

/** One output of many: of a list, or of an object. */
export function all<T extends readonly unknown[] | []>(
    values: T,
): Output<{ -readonly [K in keyof T]: Unwrap<T[K]> }>;
export function all<T extends Record<string, unknown>>(values: T): Output<{ [K in keyof T]: Unwrap<T[K]> }>;

/** Joins texts and outputs: `concat("s3://", bucket.id, "/in")`. */
export function concat(...parts: Input<unknown>[]): Output<string>;

/** A template with outputs in it: `` interpolate`s3://${bucket.id}/in` ``. */
export function interpolate(texts: TemplateStringsArray, ...values: Input<unknown>[]): Output<string>;

/** An output whose value is not shown anywhere. Everything made from it is secret too. */
export function secret<T>(value: Input<T>): Output<Unwrap<T>>;

/** The same value, no longer secret. */
export function unsecret<T>(value: Output<T>): Output<T>;

export function isSecret(value: Output<unknown>): Promise<boolean>;

/** Options of every resource. */
export interface ResourceOptions {
    /** Resources that must exist before this one, and outlive it, though it uses none of their outputs. */
    dependsOn?: Resource | Resource[] | Promise<Resource | Resource[]>;
}

/** Something that the cloud makes. Its name is unique among the resources of its kind in the program. */
export abstract class Resource {
    /** The name that the cloud gave it: of a bucket, what S3 clients call it. */
    readonly id: Output<string>;
    /** `urn:tandem:<project>:<stack>:<kind>:<name>`: the same for as long as the program declares it. */
    readonly urn: Output<string>;
}

/** What a handler is told about its invocation. */
export interface Context {
    /** The same for every attempt at one event. */
    readonly requestId: string;
    /** The same as {@link requestId}, under the name that AWS Lambda gives it. */
    readonly awsRequestId: string;
    readonly functionName: string;
    /** In MiB. */
    readonly memoryLimitInMB: number;
    /** W3C trace context of the cause. */
    readonly traceparent?: string;
    /** How long until the invocation is given up. */
    getRemainingTimeInMillis(): number;
}

/** What an `onPut` or `onDelete` handler gets. */
export interface BucketHandlerArgs {
    /** The object's key. */
    key: string;
    /** In bytes; 0 for a deletion. */
    size: number;
    /** When it happened, in RFC 3339. */
    eventTime: string;
    /** The version that was written or is gone, or of the delete marker; only of a bucket that was ever versioned. */
    versionId?: string;
}

/**
 * Called at least once for each event. If it throws, or is not done in time, it is called again, up to the
 * subscription's number of attempts; then the event goes to the dead letters.
 */
export type BucketHandler = (args: BucketHandlerArgs, context: Context) => Promise<unknown> | unknown;

/** Which objects a subscription is about. */
export interface BucketFilter {
    keyPrefix?: Input<string>;
    keySuffix?: Input<string>;
    /** The handler is meant to trigger itself: `tandem preview` does not warn of it. */
    loop?: "intended";
}

export interface BucketArgs {
    /** Pins the bucket's name. Otherwise it is made from the resource's name. */
    bucketName?: Input<string>;
    /** Lets `tandem destroy` delete it with the objects in it. Otherwise it must be empty. */
    forceDestroy?: Input<boolean>;
    /** Which pages of other origins may use it from a browser. The first rule that fits decides. */
    cors?: Input<CorsRule[]>;
}

/** What pages of some origins may do with a bucket. A `*` in a pattern stands for anything. */
export interface CorsRule {
    id?: string;
    /** Patterns: `https://*.example.com`. */
    allowedOrigins: string[];
    allowedMethods: ("GET" | "PUT" | "POST" | "DELETE" | "HEAD")[];
    /** Patterns of the headers that a page may send beyond the simple ones. */
    allowedHeaders?: string[];
    /** The headers of an answer that a page may read beyond the simple ones. */
    exposeHeaders?: string[];
    /** How long a browser may remember what it was told. */
    maxAgeSeconds?: number;
}

/** An object in a listing. */
export interface ObjectSummary {
    key: string;
    /** In bytes. */
    size: number;
    etag?: string;
    /** In RFC 3339. */
    modified: string;
}

/** Objects by key. S3 clients reach it too, by its {@link Resource.id | id}. */
export class Bucket extends Resource {
    constructor(name: string, args?: BucketArgs, options?: ResourceOptions);
    constructor(name: string, options?: ResourceOptions);

    readonly arn: Output<string>;
    /** Where S3 clients find it. */
    readonly url: Output<string>;

    /**
     * Runs `handler` when an object was put.
     *
     * A function written in place becomes a `cloud.Function` called `name`. A {@link Function} gets the whole event, as a
     * CloudEvents 1.0 envelope. A {@link Task} is started once for each event, and so is a {@link Workflow}, with that envelope as
     * its input.
     */
    onPut(name: string, handler: BucketHandler | Function<any, any> | Task | Workflow | Queue, filter?: BucketFilter): void;
    /** Runs `handler` when an object was deleted; otherwise like {@link onPut}. */
    onDelete(name: string, handler: BucketHandler | Function<any, any> | Task | Workflow | Queue, filter?: BucketFilter): void;

    /**
     * The object's content. In handlers only.
     *
     * @throws E0515 if there is no such object.
     */
    get(key: string): Promise<Buffer>;
    /** Stores an object; when the promise resolves, it is on disk. A text is stored as UTF-8. In handlers only. */
    put(
        key: string,
        contents: Uint8Array | ArrayBuffer | string,
        options?: { contentType?: string },
    ): Promise<void>;
    /** Deletes an object; deleting what is not there succeeds. In handlers only. */
    delete(key: string): Promise<void>;
    /** The objects whose keys start with `prefix`, ordered by key. In handlers only. */
    list(prefix?: string): Promise<ObjectSummary[]>;
}

export interface FunctionArgs {
    /** Upper bound of a worker's memory: MiB, or a text such as `"1GiB"`. 128 MiB if not given. */
    memory?: Input<number | string>;
    /** Upper bound of one invocation, in seconds. 60 if not given. */
    timeout?: Input<number>;
    /** Upper bound of workers at once. 100 if not given. */
    concurrency?: Input<number>;
    /** What `process.env` has in the handler. */
    environment?: Input<Record<string, Input<string>>>;
}

/** A handler that runs in workers: none while it is idle, as many as its events need otherwise. */
export class Function<E = any, R = any> extends Resource {
    /** `handler` answers something that JSON can carry. */
    constructor(
        name: string,
        handler: (event: E, context: Context) => Promise<R> | R,
        args?: FunctionArgs,
        options?: ResourceOptions,
    );

    readonly arn: Output<string>;

    /** Runs it now and answers what its handler answers; fails if it throws. It is not retried. In handlers only. */
    invoke(payload?: E): Promise<R>;
}

/** How an image is built. */
export interface TaskBuild {
    /** The folder that is sent to the build, relative to the project. The project itself if not given. */
    context?: Input<string>;
    /** The Dockerfile's path inside the folder. `Dockerfile` if not given; without it the folder is built by convention. */
    dockerfile?: Input<string>;
    /** Build arguments (`ARG`). */
    args?: Input<Record<string, Input<string>>>;
    /** The stage to build, of several. */
    target?: Input<string>;
    /** Files of the project with certificates (PEM) that steps trust besides the machine's. They are in no layer. */
    extraCaCertificates?: Input<string>[];
    /**
     * What steps may mount, by id: `RUN --mount=type=secret,id=npm …` finds it in `/run/secrets/npm`. The values are in
     * no layer, state or log. As with Docker, another value builds nothing.
     */
    secrets?: Record<string, BuildSecret>;
    /** A repository, or several, in which Buildah looks for steps that were built elsewhere (`buildah build --cache-to`). */
    cacheFrom?: string | Input<string>[];
    /** What machine the image is for: `linux/arm64`. This machine if not given. */
    platform?: Input<string>;
    /** Layers that are older are made again by the next `up`: `"7d"`, `"12h"`. No bound if not given. */
    maxAge?: Input<string>;
    /** How large the folder may be: MiB, or a text such as `"16GiB"`. 4 GiB if not given. */
    contextLimit?: Input<number | string>;
}

/** Where the value of a build's secret is: in a file, in a variable of `tandem`'s environment, or given (a setting). */
export type BuildSecret = { file: string } | { env: string } | Input<string>;

export interface TaskArgs {
    /**
     * A folder, relative to the project, with a Dockerfile or by convention; or more exactly. Exactly one of this, `image` and
     * `function`.
     */
    build?: string | TaskBuild;
    /** An image by name: `docker.io/library/debian:bookworm`. */
    image?: Input<string>;
    /**
     * Code of the program as what the container runs: called once, with the run's `input`. What it returns is the run's `result`;
     * `undefined` is none. If it throws, the container exits with 1. Not together with `command`.
     */
    function?: (input?: any) => unknown;
    /** Hard limit of a container's memory: MiB, or a text such as `"1GiB"`. No limit if not given. */
    memory?: Input<number | string>;
    /** What a run sets aside on the machine; runs wait while that is not free. 128 MiB if not given. */
    memoryReservation?: Input<number | string>;
    /** Upper bound of processors: `0.5` is half of one. No bound if not given. So much is set aside, too. */
    cpu?: Input<number>;
    /** The processors that its containers may run on: `"0-1,3"`. All if not given. */
    cpuSet?: Input<string>;
    /** How much a container may write to its own file system; then that is full: MiB, or a text. As much as the disk takes if not given. */
    ephemeralStorage?: Input<number | string>;
    /**
     * Runs with a higher one go first: a point goes for a minute of waiting, so that nobody waits for ever. -1000 to 1000; 0 if
     * not given.
     */
    priority?: Input<number>;
    /** How many runs of this task there are at once, at most. As many as fit if not given. */
    concurrency?: Input<number>;
    /**
     * Devices of the machine that its containers use, at the same path: `"/dev/fuse"`. A run waits until no other one uses them.
     * With `shared: true` those that share it use it together.
     */
    devices?: (string | { path: string; shared?: boolean })[];
    /** Environment variables of every run. */
    environment?: Input<Record<string, Input<string>>>;
    /** Replaces the image's command. */
    command?: Input<Input<string>[]>;
    /** For programs that look at containers from outside: annotations of the OCI runtime, labels of Docker. */
    dockerLabels?: Input<Record<string, Input<string>>>;
    /** Folders that its containers see. */
    volumes?: VolumeMount[];
    /** Upper bound of one attempt of a run, in seconds. No bound if not given. */
    timeout?: Input<number>;
    /** When a run whose container failed is tried again, in a new one. Never if not given. */
    retries?: TaskRetries;
}

export interface TaskRetries {
    /** How many containers there are at most, the first included: 1 to 100. */
    attempts: number;
    /** The pause after the first attempt, in seconds; doubled after each further one, and shortened by chance. 1 if not given. */
    backoff?: number;
    /** The longest pause, in seconds. 300 if not given. */
    maxBackoff?: number;
    /**
     * After which ends. `["exited", "outOfMemory", "timedOut"]` if not given; `exited` is another code than 0. Never after a
     * stop, nor if the container could not be started.
     */
    on?: ("exited" | "badResult" | "outOfMemory" | "timedOut" | "lost")[];
}

/**
 * A folder that containers of tasks and services share, and that stays when these go. `destroy` deletes it if it is empty, or with
 * `forceDestroy` or `--force`. Not in backups. Everybody may write in it, whatever user their images have.
 */
export class SharedVolume extends Resource {
    constructor(name: string, args?: { forceDestroy?: boolean }, options?: ResourceOptions);
}

/** A folder of the machine. It exists, and is not one with the cloud's own files. */
export class HostPathVolume {
    /** `path` is absolute. */
    constructor(path: string);
    readonly path: string;
}

/** Where a container sees a volume. What is written is seen by all at once; nobody is locked out of anything. */
export interface VolumeMount {
    /** Absolute, outside of `/proc`, `/sys` and `/dev`; made if the image lacks it, and hides what the image has there. */
    containerPath: Input<string>;
    sourceVolume: SharedVolume | HostPathVolume;
    /** False if not given. */
    readOnly?: boolean;
}

/** A port that the machine listens on for a service. */
export interface ServicePort {
    /** On the machine: 1 to 65535. */
    port: number;
    /** In the container; the same if not given. */
    targetPort?: number;
    /**
     * What is balanced: `"tcp"`, connections, `"http"`, requests, or `"udp"`, datagrams by client. A request that a replica does not
     * answer because it ends is tried on another one, if it may be repeated; a connection that is upgraded (WebSocket) stays with
     * its replica. `"tcp"` if not given.
     */
    protocol?: "tcp" | "http" | "udp";
    /** Whether other machines reach it: on all addresses then, and otherwise on `127.0.0.1`. */
    external?: boolean;
}

/** When a replica counts as healthy. Times are in seconds. */
export interface HealthCheck {
    /** Asked by GET; well if the answer is below 400. If not given, that the port takes a connection is enough. */
    path?: string;
    /** In the container; the first port's target, UDP aside, if not given. A container without ports is healthy while it runs. */
    port?: number;
    /** Between two questions; 2 if not given. */
    interval?: number;
    /** How long an answer may take; 2 if not given. */
    timeout?: number;
    /** After so many failures in a row the replica is replaced; 3 if not given. */
    retries?: number;
    /** How long it may take until it is healthy for the first time; 60 if not given. */
    startPeriod?: number;
}

export interface ServiceContainer {
    /**
     * A folder, relative to the project, with a Dockerfile or by convention; or more exactly. Exactly one of this, `image` and
     * `function`.
     */
    build?: string | TaskBuild;
    /** An image by name. */
    image?: Input<string>;
    /**
     * Code of the program as what the container runs. When it ends or throws, the container ends, and another one is started. A change
     * of the program is a new version of it. It starts when all else of the program is there. Not together with `command`.
     */
    function?: () => unknown;
    /** Hard limit of its memory: MiB, or a text such as `"1GiB"`. No limit if not given. */
    memory?: Input<number | string>;
    /** What a replica sets aside on the machine, as a run does; it waits while that is not free. 128 MiB if not given. */
    memoryReservation?: Input<number | string>;
    /** Upper bound of processors: `0.5` is half of one. No bound if not given. So much is set aside, too. */
    cpu?: Input<number>;
    /** The processors that its containers may run on: `"0-1,3"`. All if not given. */
    cpuSet?: Input<string>;
    /** How much it may write to its own file system; then that is full: MiB, or a text. As much as the disk takes if not given. */
    ephemeralStorage?: Input<number | string>;
    /** Devices of the machine that it uses, at the same path, together with others that share them: `"/dev/fuse"`. */
    devices?: (string | { path: string; shared?: true })[];
    environment?: Input<Record<string, Input<string>>>;
    /** Replaces the image's command. */
    command?: Input<Input<string>[]>;
    /** For programs that look at containers from outside: annotations of the OCI runtime, labels of Docker. */
    dockerLabels?: Input<Record<string, Input<string>>>;
    ports?: ServicePort[];
    /** Folders that it sees. */
    volumes?: VolumeMount[];
    healthCheck?: HealthCheck;
}

/** The properties of the only container at the top, or of one to ten under their names in `containers`. */
export interface ServiceArgs extends ServiceContainer {
    /**
     * By name: small letters, digits and `-`. The containers of a replica start and end together, and share one network: they reach
     * each other as `localhost`, so no two of them have the same `targetPort`.
     */
    containers?: Record<string, ServiceContainer>;
    /** How many replicas are kept running; 1 if not given. */
    replicas?: number;
    /** Lets the number of replicas follow the load, in place of `replicas`. */
    autoscale?: ServiceAutoscale;
    /**
     * Whether `up` waits until all replicas of a new version are healthy, and fails without a change if they never are. True if
     * not given. Otherwise the new version takes over when it is healthy; not with `autoscale`.
     */
    waitForSteadyState?: boolean;
}

/**
 * More replicas are started as soon as they are needed, and fewer are left once fewer were enough for `scaleDownAfter` seconds. With
 * `min: 0` none run while nobody asks, and the first request is held until one is healthy.
 */
export interface ServiceAutoscale {
    /** 1 if not given. */
    min?: number;
    max: number;
    /**
     * What one replica is to have: so many `requests` and connections under way at once, so much of the processor time that it may
     * have (`cpu`, in percent; on the average of five seconds; a container without `cpu` of its own counts as one core), or both:
     * then the one counts that needs more replicas.
     */
    target: { requests: number; cpu?: number } | { requests?: number; cpu: number };
    /** In seconds; 60 if not given. */
    scaleDownAfter?: number;
}

/** Where a port of a service is reached. */
export interface ServiceEndpoint {
    hostname: string;
    port: number;
}

/**
 * Containers that are kept running, replicated and load-balanced. Each replica has an address of its own on the stack's network,
 * where services find each other by name: `http://web:80`, with the port in the container. `TANDEM_REPLICA` says which
 * one it is, from 0. An update starts the new version beside the old one, so it needs room for both.
 */
export class Service extends Resource {
    constructor(name: string, args: ServiceArgs, options?: ResourceOptions);

    /** The digests of its images, by container; the only one is called as its service if it has no other name. */
    readonly images: Output<Record<string, string>>;
    /** By port on the machine, as a text. */
    readonly endpoints: Output<Record<string, ServiceEndpoint>>;
    /** Of the first port; null without ports. */
    readonly defaultEndpoint: Output<ServiceEndpoint>;

    getEndpoint(port?: number): Output<ServiceEndpoint>;
    getEndpoint(container?: string, port?: number): Output<ServiceEndpoint>;
}

/** What one run has on top of its task. */
export interface RunArgs {
    /** Added to the task's environment. */
    environment?: Record<string, string | number | boolean | Output<string>>;
    /** Replaces the task's command. */
    command?: string[];
    /**
     * What the container finds as JSON in the file that `$TANDEM_INPUT` names; at most 256 KiB. Larger things go through a
     * bucket.
     */
    input?: unknown;
}

/** A container that is started on demand and expected to end. */
export class Task extends Resource {
    constructor(name: string, args: TaskArgs, options?: ResourceOptions);

    /** The digest of its image. */
    readonly image: Output<string>;

    /**
     * Starts a container. Resolves once the run is durably accepted, which may be before the container starts. A handler
     * that is called again for the same event finds the run it started before. In handlers only.
     */
    run<R = any>(args?: RunArgs): Promise<Run<R>>;
}

/** How a run stands, or how it ended. Times are in RFC 3339. */
export interface RunStatus<R = any> {
    readonly id: string;
    readonly state: "queued" | "starting" | "running" | "ended";
    readonly accepted: string;
    /** Which attempt it is, counted from 1. */
    readonly attempt: number;
    /** The attempts before, in their order, each with its outcome as the cloud tells it. */
    readonly attempts?: { started?: string; ended: string; outcome: string; code?: number }[];
    /** When there was room for it. */
    readonly admitted?: string;
    /** When its file system was there. */
    readonly mounted?: string;
    /** When its container was made, up to its first instruction. */
    readonly created?: string;
    readonly started?: string;
    readonly ended?: string;
    /** What it waits for in the queue. */
    readonly waits?: string;
    /**
     * Once it has ended. `failed`: its container could not be started; `lost`: nobody saw how it ended; `badResult`: it exited
     * with 0, but what it wrote to `$TANDEM_RESULT` is not JSON, or has more than 256 KiB.
     */
    readonly outcome?: "exited" | "badResult" | "outOfMemory" | "timedOut" | "stopped" | "lost" | "failed";
    /** The container's exit code, 128 + n after signal n; 124 after a timeout, 143 when stopped, 125 if there is none. */
    readonly exitCode?: number;
    /** Why it did not succeed; names the run and its task. */
    readonly error?: string;
    /** From `wait`, if it did not succeed: the last lines that it printed. */
    readonly logTail?: string[];
    /** What the container wrote as JSON to the file that `$TANDEM_RESULT` names; nothing if it wrote none. */
    readonly result?: R;
}

/** One execution of a task. */
export class Run<R = any> {
    /** Also the container's id. */
    readonly id: string;
    /** Resolves when the container has ended, to how it ended. Does not fail if the container did. */
    wait(): Promise<RunStatus<R>>;
    status(): Promise<RunStatus<R>>;
    /** The lines that it has printed so far. */
    logs(): Promise<string[]>;
    /** Ends it: SIGTERM, and SIGKILL if that is not enough. */
    stop(): Promise<void>;
}

/** Settings of the stack, which `tandem config set` changes. */
export class Config {
    /** Settings are read as `<namespace>:<key>`. The namespace is the project's name if not given. */
    constructor(namespace?: string);
    readonly name: string;

    /** `undefined` if it is not set. */
    get(key: string): string | undefined;
    getBoolean(key: string): boolean | undefined;
    getNumber(key: string): number | undefined;
    getObject<T>(key: string): T | undefined;

    /** @throws E0506 if it is not set. */
    require(key: string): string;
    requireBoolean(key: string): boolean;
    requireNumber(key: string): number;
    requireObject<T>(key: string): T;

    getSecret(key: string): Output<string> | undefined;
    getSecretBoolean(key: string): Output<boolean> | undefined;
    getSecretNumber(key: string): Output<number> | undefined;
    getSecretObject<T>(key: string): Output<T> | undefined;
    requireSecret(key: string): Output<string>;
    requireSecretBoolean(key: string): Output<boolean>;
    requireSecretNumber(key: string): Output<number>;
    requireSecretObject<T>(key: string): Output<T>;
}

/** The project's name. */
export function getProject(): string;
/** The stack's name. */
export function getStack(): string;

export const runtime: {
    /** Whether this is a preview, which makes nothing. */
    isDryRun(): boolean;
};

/** Messages to the person who deploys, on stderr. */
export const log: {
    debug(message: string): Promise<void>;
    info(message: string): Promise<void>;
    warn(message: string): Promise<void>;
    /** Also fails the deployment. */
    error(message: string): Promise<void>;
};

/** An error of Tandem. `tandem explain <code>` tells more. */
export class CloudError extends Error {
    readonly code: string;
    /** What to do next. May be empty. */
    readonly help: string;
}
