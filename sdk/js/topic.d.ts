import type { Context, Function, Queue, Resource, ResourceOptions, Task, Workflow } from "@tandem/cloud";

/** The whole event in which a message comes: a CloudEvents 1.0 envelope. */
export interface TopicEvent<T> {
    /** The same for one message to all subscriptions, and for a message that a handler publishes again. */
    id: string;
    subject?: string;
    time: string;
    /** Which attempt at it this is, counted from 1. */
    attempt: number;
    data: { topic: string; message: T; attributes?: Attributes };
}

export type Attributes = Record<string, string | number | boolean | (string | number | boolean)[]>;

/** A value, or one of the operators of Amazon SNS. */
export type Condition =
    | string
    | number
    | boolean
    | null
    | { prefix: string }
    | { suffix: string }
    | { "equals-ignore-case": string }
    | { "anything-but": string | number | (string | number)[] | { prefix: string } | { suffix: string } | { wildcard: string } }
    | { wildcard: string }
    | { cidr: string }
    | { numeric: (string | number)[] }
    | { exists: boolean };

/** Of each key one condition must hold, and all keys must. */
export interface FilterPolicy {
    [key: string]: Condition[] | FilterPolicy;
}

export interface TopicFilter {
    /** On the attributes of a message. */
    attributes?: FilterPolicy;
    /** On the message, which is an object then. */
    message?: FilterPolicy;
}

export interface PublishOptions {
    subject?: string;
    attributes?: Attributes;
}

/** Messages that go to every subscription that wants them. */
export class Topic<T = any> extends Resource {
    constructor(name: string, options?: ResourceOptions);

    /** Publishes a message, inside a handler. Answers the id of its event, once that is on disk. */
    publish(message: T, options?: PublishOptions): Promise<string>;

    /**
     * Runs `handler` for each message. A {@link Function} gets the whole event, and a {@link Task} or a {@link Workflow} is started once
     * for each, with the event as its input.
     * What was published before the subscription was deployed, it does not get.
     */
    subscribe(
        name: string,
        handler: ((message: T, context: Context, event: TopicEvent<T>) => unknown) | Function<any, any> | Task | Workflow | Queue,
        /** `loop`: the handler is meant to publish to this topic, and `tandem preview` does not warn of it. */
        options?: { filter?: TopicFilter; loop?: "intended" },
    ): void;
}
