// Streams: records that are kept for a time, in order for each key, and read as often as one likes.

import { checkLoop, checkOptions, checkType, checkWhole, invalid, shown } from "./check.js";
import { Subscription, consumerOf } from "./consumer.js";
import { call } from "./host.js";
import { Resource, inHandlerOnly } from "./resource.js";

const OPTIONS = ["streamName", "shards", "retention", "forceDestroy"];
const BATCHING = ["batchSize", "batchWindow", "startingPosition", "parallelism", "maxAttempts", "loop"];
const RECORDS = "dev.tandem.stream.records";

/** How often a record is tried, if it is not said: the pauses between are 1, 2, 4 and 8 seconds. */
const MAX_ATTEMPTS = 5;
/** The most records of one put. */
const MOST = 500;

export class Stream extends Resource {
    constructor(name, args, options) {
        super("stream", name, (key) => inputsOf(key, args), ["arn", "name"], options);
    }

    /**
     * Runs `handler` on the records of the stream, those of one key in their order; what it does not fail on is done.
     */
    subscribe(name, handler, options) {
        const what = `${this.declaration.key}.subscribe`;
        const given = checkOptions(`the options of ${what}`, options, BATCHING);
        for (const property of ["batchSize", "parallelism", "maxAttempts"])
            checkWhole(what, property, given[property], 1);
        checkType(what, "batchWindow", given.batchWindow, ["number"]);
        checkLoop(what, given.loop);
        const consumer = consumerOf(what, name, handler, ({ data }) => data.records.map(recordOf));
        new Subscription(name, this, consumer, [RECORDS], {}, {
            maxAttempts: MAX_ATTEMPTS,
            ...given,
            startingPosition: positionOf(what, given.startingPosition),
        });
    }

    /** Puts a record; when the promise resolves, it is on disk. Answers its shard and its sequence number. */
    async put(key, value) {
        inHandlerOnly("stream.put");
        const [answer] = await call("stream.put", {
            stream: this.id.get(),
            records: [encoded("stream.put", { key, value })],
        });
        return answer;
    }

    /** Puts up to 500 records, all or none, in one commit. */
    async putBatch(records) {
        inHandlerOnly("stream.putBatch");
        if (!Array.isArray(records))
            throw invalid(
                `stream.putBatch takes a list of records, not ${shown(records)}`,
                "write `stream.putBatch([{ key, value }, …])`",
            );
        const all = records.map((record) => encoded("stream.putBatch", record));
        if (all.length > MOST)
            throw invalid(`stream.putBatch takes at most ${MOST} records, not ${all.length}`, "put them in parts");
        return all.length === 0 ? [] : call("stream.put", { stream: this.id.get(), records: all });
    }

    /**
     * The records from a position on, of all shards by the time at which they came. Ends with the last that is there, or with
     * `follow` goes on with those that come.
     */
    async *read(options) {
        inHandlerOnly("stream.read");
        const { from, follow = false } = checkOptions("the options of stream.read", options, ["from", "follow"]);
        checkType("stream.read", "follow", follow, ["boolean"]);
        const stream = this.id.get();
        let cursor;
        for (;;) {
            const page = await call("stream.read", {
                stream,
                cursor,
                from: cursor === undefined ? positionOf("stream.read", from) : undefined,
                wait: follow,
            });
            for (const record of page.records) yield recordOf(record);
            if (page.ended && !follow) return;
            cursor = page.cursor;
        }
    }
}

function inputsOf(key, args) {
    const given = checkOptions(key, args, OPTIONS);
    for (const property of ["shards", "retention"]) checkWhole(key, property, given[property], 1);
    checkType(key, "streamName", given.streamName, ["string"]);
    checkType(key, "forceDestroy", given.forceDestroy, ["boolean"]);
    return given;
}

/** A time is sent as the cloud writes times. */
function positionOf(what, position) {
    if (position === undefined || position === null) return undefined;
    if (position instanceof Date && !Number.isNaN(position.getTime())) return position.toISOString();
    if (typeof position === "string") return position;
    throw invalid(
        `a position in ${what} is "trimHorizon", "latest" or a time, not ${shown(position)}`,
        'write for example `"latest"` or `new Date("2026-01-01")`',
    );
}

/** What is no bytes is put as JSON. */
function encoded(what, record) {
    const { key, value } = checkOptions(`a record of ${what}`, record, ["key", "value"]);
    if (typeof key !== "string" || key === "")
        throw invalid(
            `the key of ${what} is a text that is not empty, not ${shown(key)}`,
            "records of one key keep their order: take for example the id of what they are about",
        );
    if (value instanceof Uint8Array) return { key, base64: Buffer.from(value).toString("base64") };
    const data = JSON.stringify(value);
    if (data === undefined)
        throw invalid(`the value of ${what} is one that JSON can hold, or bytes, not ${shown(value)}`, "");
    return { key, data };
}

/** What came as JSON is read; other texts and bytes are themselves. */
function recordOf({ base64, data, ...record }) {
    if (base64 !== undefined) return { ...record, value: new Uint8Array(Buffer.from(base64, "base64")) };
    try {
        return { ...record, value: JSON.parse(data) };
    } catch {
        return { ...record, value: data };
    }
}
