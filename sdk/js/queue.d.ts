import type { Context, Function, Input, Output, Resource, ResourceOptions, Task, Workflow } from "@tandem/cloud";

/** Whole seconds and bytes, in the ranges of Amazon SQS. */
export interface QueueArgs {
    /** Pins the queue's name; otherwise it is derived from the resource's. That of a FIFO queue ends in `.fifo`. */
    queueName?: Input<string>;
    /** How long a received message is hidden from others, in seconds: 0 to 43,200. 30 if not given. */
    visibilityTimeout?: Input<number>;
    /** How long a message is kept, in seconds: 60 to 1,209,600. 345,600, four days, if not given. */
    retention?: Input<number>;
    /** How long each message is hidden after it was sent, in seconds: 0 to 900. */
    delay?: Input<number>;
    /** How long a receive waits for a message if it does not say itself, in seconds: 0 to 20. */
    receiveWait?: Input<number>;
    /** The most bytes of a message with its attributes: 1,024 to 1,048,576, which is the default. */
    maxMessageSize?: Input<number>;
    /** Where a message goes that was received `maxReceiveCount` times and not deleted: a queue, or its ARN. */
    deadLetter?: Queue | Input<string>;
    /** 1 to 1,000; 3 if not given. */
    maxReceiveCount?: Input<number>;
    /** Messages of a group keep their order, and one that is sent twice within five minutes is there once. */
    fifo?: boolean;
    /** A message without a deduplication id is recognised by its body. For FIFO queues. */
    contentBasedDeduplication?: Input<boolean>;
    /** Among which messages a deduplication id is unique. For FIFO queues. */
    deduplicationScope?: Input<"queue" | "messageGroup">;
    /** Kept and told, without effect: nothing is throttled here. For FIFO queues. */
    fifoThroughputLimit?: Input<"perQueue" | "perMessageGroupId">;
    tags?: Input<Record<string, Input<string>>>;
    /** Lets `destroy` delete it with its messages. */
    forceDestroy?: boolean;
}

export interface SubscribeOptions {
    /** The most messages that a handler gets at once, 1 to 1,000: 10 if not given; 1 for a task. */
    batchSize?: number;
    /** How long messages are waited for after the first, in seconds, up to 300. 0 if not given. */
    batchWindow?: number;
    /** How many batches are handled at once: 10 if not given. */
    concurrency?: number;
    /** The handler is meant to send to this queue: `tandem preview` does not warn of it. */
    loop?: "intended";
}

/** A message as a handler gets it. */
export interface Message {
    /** The same each time that it is received. */
    id: string;
    /** As it was sent: JSON, unless the sender sent a text. */
    body: string;
    attributes: Record<string, string>;
    /** 1 for the first time. */
    receiveCount: number;
    /** RFC 3339. */
    sentAt: string;
    group?: string;
}

export interface ReceivedMessage extends Message {
    receipt: string;
    /** It is done: nobody receives it again. */
    delete(): Promise<void>;
    /** Hides it for so many seconds from now; 0 gives it back. */
    hide(seconds: number): Promise<void>;
}

export interface SendOptions {
    /** How long it is hidden first, in seconds: 0 to 900. Not in FIFO queues. */
    delay?: number;
    attributes?: Record<string, string | number>;
    /** FIFO queues need one. */
    group?: string;
    deduplicationId?: string;
}

export interface Sent {
    id: string;
    /** Of FIFO queues: greater than that of every message sent before. */
    sequenceNumber?: string;
}

/** Which messages of a batch failed; the others are deleted. The form of AWS Lambda. */
export interface PartlyHandled {
    batchItemFailures: { itemIdentifier: string }[];
}

export type MessageHandler = (messages: Message[], context: Context) => Promise<PartlyHandled | unknown> | unknown;

/** Messages that wait until somebody has received and deleted them. SQS clients reach it too, by its `url`. */
export class Queue extends Resource {
    constructor(name: string, args?: QueueArgs, options?: ResourceOptions);

    readonly arn: Output<string>;
    readonly url: Output<string>;
    readonly name: Output<string>;

    /**
     * Runs `handler` on messages; those on which it does not fail are deleted. A failed one comes again after 1, 2, 4, … seconds,
     * and moves to the dead-letter queue as the queue says. At least once.
     *
     * A {@link Function} gets a CloudEvents 1.0 envelope with `data.messages`. A {@link Task} is run for each message, finds
     * that envelope on its standard input and in `TANDEM_EVENT`, and has handled it if it exits with 0. A {@link Workflow} is
     * started once for each message, with that envelope as its input, and has handled it once the instance is on disk.
     */
    subscribe(name: string, handler: MessageHandler | Function<any, any> | Task | Workflow, options?: SubscribeOptions): void;

    /** Sends a message; when the promise resolves, it is on disk. What is no text is sent as JSON. In handlers only. */
    send(body: unknown, options?: SendOptions): Promise<Sent>;
    /** Sends up to 1 MiB of messages in one commit, and answers what became of each. In handlers only. */
    sendBatch(messages: unknown[]): Promise<(Sent | { error: string; code: string })[]>;
    /** Receives up to `max` messages (1 to 10; 1 if not given), waiting up to `wait` seconds (20 at most). In handlers only. */
    receive(options?: { max?: number; wait?: number; visibilityTimeout?: number }): Promise<ReceivedMessage[]>;
}
