// Queues: messages that wait until somebody has received and deleted them.

import { checkLoop, checkOptions, checkType, checkWhole, invalid, shown } from "./check.js";
import { Subscription, consumerOf } from "./consumer.js";
import { call } from "./host.js";
import { output } from "./output.js";
import { Resource, inHandlerOnly, textsOf } from "./resource.js";

const OPTIONS = [
    "queueName",
    "visibilityTimeout",
    "retention",
    "delay",
    "receiveWait",
    "maxMessageSize",
    "maxReceiveCount",
    "deadLetter",
    "fifo",
    "contentBasedDeduplication",
    "deduplicationScope",
    "fifoThroughputLimit",
    "tags",
    "forceDestroy",
];
const NUMBERS = ["visibilityTimeout", "retention", "delay", "receiveWait", "maxMessageSize", "maxReceiveCount"];
const TEXTS = ["queueName", "deduplicationScope", "fifoThroughputLimit"];
const FLAGS = ["fifo", "contentBasedDeduplication", "forceDestroy"];
const SENT = ["delay", "attributes", "group", "deduplicationId"];
const MESSAGES = "dev.tandem.queue.messages";

/** After how many receives a message goes there, if it is not said. */
const MAX_RECEIVE_COUNT = 3;

export class Queue extends Resource {
    constructor(name, args, options) {
        super("queue", name, (key) => inputsOf(key, args), ["arn", "url", "name"], options);
    }

    /**
     * Runs `handler` on messages, some at once; those that it does not fail on are deleted.
     */
    subscribe(name, handler, options) {
        const what = `${this.declaration.key}.subscribe`;
        const { batchSize, batchWindow, concurrency, loop } = checkOptions(`the options of ${what}`, options, [
            "batchSize",
            "batchWindow",
            "concurrency",
            "loop",
        ]);
        checkLoop(what, loop);
        checkWhole(what, "batchSize", batchSize, 1);
        checkWhole(what, "concurrency", concurrency, 1);
        checkType(what, "batchWindow", batchWindow, ["number"]);
        const consumer = consumerOf(what, name, handler, ({ data }) => data.messages);
        new Subscription(name, this, consumer, [MESSAGES], {}, { batchSize, batchWindow, concurrency, loop });
    }

    /** Sends a message; when the promise resolves, it is on disk. Answers its id. */
    async send(body, options) {
        inHandlerOnly("queue.send");
        const [answer] = await this.#send([messageOf(body, options)]);
        if (answer.error !== undefined) throw Object.assign(new Error(answer.error), { code: answer.code });
        return answer;
    }

    /** Sends messages, each a text, a value or `{ body, … }`, and answers what became of each: an id or an error. */
    async sendBatch(messages) {
        inHandlerOnly("queue.sendBatch");
        if (!Array.isArray(messages)) throw invalid(`queue.sendBatch takes a list, not ${shown(messages)}`, "");
        const whole = (message) => typeof message === "object" && message !== null && "body" in message;
        const split = ({ body, ...options }) => messageOf(body, options);
        return this.#send(messages.map((message) => (whole(message) ? split(message) : messageOf(message))));
    }

    #send(messages) {
        return call("queue.send", { queue: this.id.get(), messages });
    }

    /** Receives up to `max` messages, waiting up to `wait` seconds for the first. */
    async receive({ max = 1, wait, visibilityTimeout } = {}) {
        inHandlerOnly("queue.receive");
        const queue = this.id.get();
        const received = await call("queue.receive", { queue, max, wait, visibilityTimeout });
        return received.map((message) => ({
            ...message,
            delete: () => call("queue.delete", { queue, receipts: [message.receipt] }),
            hide: (seconds) => call("queue.hide", { queue, receipt: message.receipt, seconds }),
        }));
    }
}

function inputsOf(key, args) {
    const given = checkOptions(key, args, OPTIONS);
    for (const property of NUMBERS) checkWhole(key, property, given[property], 0);
    for (const property of TEXTS) checkType(key, property, given[property], ["string"]);
    for (const property of FLAGS) checkType(key, property, given[property], ["boolean"]);
    const { deadLetter, maxReceiveCount, tags, ...inputs } = given;
    return { ...inputs, redrive: redriveOf(key, deadLetter, maxReceiveCount), tags: textsOf(key, "tags", tags) };
}

function redriveOf(key, deadLetter, maxReceiveCount) {
    if (deadLetter === undefined) {
        if (maxReceiveCount === undefined) return undefined;
        throw invalid(
            `${key} has a \`maxReceiveCount\` and no \`deadLetter\``,
            "say which queue takes the messages: `deadLetter: otherQueue`",
        );
    }
    const arn = deadLetter instanceof Queue ? deadLetter.arn : deadLetter;
    checkType(key, "deadLetter", arn, ["string"]);
    return { deadLetterTargetArn: arn, maxReceiveCount: maxReceiveCount ?? MAX_RECEIVE_COUNT };
}

/** A body that is no text is sent as JSON. */
function messageOf(body, options) {
    const { delay, attributes, group, deduplicationId } = checkOptions("a message", options, SENT);
    if (body === undefined) throw invalid("a message has a body", 'write `queue.send("text")` or `queue.send({ … })`');
    return {
        body: typeof body === "string" ? body : JSON.stringify(body),
        delay,
        attributes: attributes && Object.fromEntries(Object.entries(attributes).map(attributeOf)),
        group,
        deduplicationId,
    };
}

function attributeOf([name, value]) {
    const type = typeof value === "number" ? "Number" : "String";
    return [name, { DataType: type, StringValue: String(value) }];
}

/** Programs of `@pulumi/aws` name things otherwise. */
export class SqsQueue extends Queue {
    constructor(name, args, options) {
        super(name, awsArgs(`queue/${name}`, args), options);
    }
}

const AWS = {
    name: "queueName",
    visibilityTimeoutSeconds: "visibilityTimeout",
    messageRetentionSeconds: "retention",
    delaySeconds: "delay",
    receiveWaitTimeSeconds: "receiveWait",
    maxMessageSize: "maxMessageSize",
    fifoQueue: "fifo",
    contentBasedDeduplication: "contentBasedDeduplication",
    deduplicationScope: "deduplicationScope",
    fifoThroughputLimit: "fifoThroughputLimit",
    tags: "tags",
};
/** What says how AWS keeps a queue, and changes nothing of what it does. */
const WITHOUT_EFFECT = ["sqsManagedSseEnabled"];

function awsArgs(key, args) {
    const known = [...Object.keys(AWS), ...WITHOUT_EFFECT, "redrivePolicy"];
    const { redrivePolicy, ...given } = checkOptions(key, args, known);
    const renamed = Object.entries(given).filter(([name]) => name in AWS);
    const inputs = Object.fromEntries(renamed.map(([name, value]) => [AWS[name], value]));
    if (redrivePolicy === undefined) return inputs;
    // It comes as a text, often of outputs.
    const policy = output(redrivePolicy).apply((text) => policyOf(key, text));
    return {
        ...inputs,
        deadLetter: policy.apply(({ deadLetterTargetArn }) => deadLetterTargetArn),
        maxReceiveCount: policy.apply(({ maxReceiveCount }) => Number(maxReceiveCount)),
    };
}

function policyOf(key, policy) {
    try {
        const read = typeof policy === "string" ? JSON.parse(policy) : policy;
        if (typeof read.deadLetterTargetArn === "string" && read.maxReceiveCount !== undefined) return read;
    } catch {
        // Said below.
    }
    throw invalid(
        `\`redrivePolicy\` of ${key} is JSON of an object with \`deadLetterTargetArn\` and \`maxReceiveCount\``,
        "write `redrivePolicy: dead.arn.apply((arn) => JSON.stringify({ deadLetterTargetArn: arn, maxReceiveCount: 4 }))`",
    );
}
