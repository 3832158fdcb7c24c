import type { Context, Function, Input, Output, Resource, ResourceOptions, Task, Workflow } from "@tandem/cloud";

export interface StreamArgs {
    /** Pins the stream's name. Otherwise it is made from the resource's name. */
    streamName?: Input<string>;
    /**
     * Into how many parts the keys are divided, 1 to 256; 1 if not given. Parts are written and read independently. Another
     * number makes another stream: the old one is deleted, if it holds no records or may be deleted with them.
     */
    shards?: Input<number>;
    /** How long a record is kept, in hours: 1 to 8,760; 24 if not given. Then it is gone, whether or not it was read. */
    retention?: Input<number>;
    /** Lets `destroy` delete it with its records. */
    forceDestroy?: boolean;
}

/** Where reading begins: the oldest record that is kept, what comes from now on, or what came at that time or later. */
export type StartingPosition = "trimHorizon" | "latest" | Date | string;

export interface StreamSubscribeOptions {
    /** The most records that a handler gets at once, 1 to 10,000: 100 if not given; 1 for a task. They have 4 MiB at most. */
    batchSize?: number;
    /** How long records are waited for after the first, in seconds, up to 300. 0 if not given. */
    batchWindow?: number;
    /**
     * Where it begins when it is deployed for the first time; `"trimHorizon"` if not given. Afterwards it counts no more:
     * `"latest"` is what is put after that.
     */
    startingPosition?: StartingPosition;
    /**
     * How many batches of one shard are handled at once, 1 to 10; 1 if not given. Those of one key never are.
     */
    parallelism?: number;
    /** How often a record is tried before it goes to the dead letters; 5 if not given. */
    maxAttempts?: number;
    /** The handler is meant to put into this stream: `tandem preview` does not warn of it. */
    loop?: "intended";
}

/** A record as a handler gets it. */
export interface StreamRecord<T = any> {
    /** Grows within a shard; unique in the stream. A decimal number of many digits. */
    sequenceNumber: string;
    /** `shardId-000000000000`. */
    shard: string;
    key: string;
    /** When it came, in RFC 3339. */
    time: string;
    /**
     * What was put, by its bytes alone: read as JSON if they are that, else a text if they are valid UTF-8, else bytes. So a
     * `Uint8Array` that happens to be valid UTF-8 comes back as a text, or as what it means in JSON.
     */
    value: T;
}

/** From which record of a batch on it failed; those before it are done. The form of AWS Lambda. */
export interface PartlyRead {
    /** The sequence number of a record. Of several, the first counts. */
    batchItemFailures: { itemIdentifier: string }[];
}

export type RecordHandler<T> = (
    records: StreamRecord<T>[],
    context: Context,
    event: unknown,
) => Promise<PartlyRead | unknown> | unknown;

export interface PutRecord {
    shard: string;
    sequenceNumber: string;
}

/**
 * Records that are kept for a time, in order for each key, and read as often as one likes. Kinesis clients reach it too, by its
 * `name`.
 */
export class Stream<T = any> extends Resource {
    constructor(name: string, args?: StreamArgs, options?: ResourceOptions);

    readonly arn: Output<string>;
    readonly name: Output<string>;

    /**
     * Runs `handler` on the records, in batches; those of one key in their order. At least once: a batch that was under way when
     * the cloud was killed comes again, as the same request.
     *
     * What fails is tried again, and holds up what comes after it in its part of the stream and nothing else. A batch that fails
     * is halved until the record is found that it fails for; that one is tried again after 1, 2, 4, … seconds, and after
     * `maxAttempts` goes to the dead letters.
     *
     * A {@link Function} gets a CloudEvents 1.0 envelope with `data.records`, whose data is text in `data` or bytes in `base64`.
     * A {@link Task} is run for each record, finds that envelope on its standard input and in `TANDEM_EVENT`, and has handled it if
     * it exits with 0. A {@link Workflow} is started once for each record, with that envelope as its input, and has handled it once
     * the instance is on disk.
     */
    subscribe(
        name: string,
        handler: RecordHandler<T> | Function<any, any> | Task | Workflow,
        options?: StreamSubscribeOptions,
    ): void;

    /**
     * Puts a record of at most 1 MiB with its key; when the promise resolves, it is on disk. The value is kept as JSON, or as it is
     * if it is a `Uint8Array`; see `value` for what comes back. A key has 1 to 256 characters. A handler that runs again puts again. In handlers only.
     *
     * @throws E0843 if the record is too large or the key too long.
     */
    put(key: string, value: T): Promise<PutRecord>;

    /**
     * Puts up to 500 records of at most 10 MiB together, all or none, in one commit. Those of one key keep the order of the list. In
     * handlers only.
     *
     * @throws E0843, E0844 if one of them, or all together, cannot be put.
     */
    putBatch(records: { key: string; value: T }[]): Promise<PutRecord[]>;

    /**
     * The records from a position on (`"trimHorizon"` if not given), of all shards by the time at which they came. Ends with the
     * last that is there; with `follow` it goes on with those that come, until the loop is left. In handlers only.
     */
    read(options?: { from?: StartingPosition; follow?: boolean }): AsyncGenerator<StreamRecord<T>, void, void>;
}
