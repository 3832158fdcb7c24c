// Buckets: objects by key, and handlers that run when one is put or deleted.

import { Buffer } from "buffer";

import { checkLoop, checkOptions, checkType, invalid, shown } from "./check.js";
import { Subscription, consumerOf } from "./consumer.js";
import { CloudError } from "./errors.js";
import { call } from "./host.js";
import { Resource, inHandlerOnly } from "./resource.js";

const PUT = "dev.tandem.bucket.object.put";
const DELETED = "dev.tandem.bucket.object.deleted";

export class Bucket extends Resource {
    constructor(name, args, options) {
        // `@pulumi/cloud` has the resource's options in the second place.
        const [own, shared] =
            options === undefined && args?.dependsOn !== undefined ? [undefined, args] : [args, options];
        const inputs = (key) => {
            const { bucketName, forceDestroy, cors } = checkOptions(key, own, ["bucketName", "forceDestroy", "cors"]);
            checkType(key, "bucketName", bucketName, ["string"]);
            checkType(key, "forceDestroy", forceDestroy, ["boolean"]);
            checkType(key, "cors", cors, ["array"]);
            return { bucketName, forceDestroy, cors };
        };
        super("bucket", name, inputs, ["arn", "url"], shared);
    }

    onPut(name, handler, filter) {
        this.#subscribe("onPut", PUT, name, handler, filter);
    }

    onDelete(name, handler, filter) {
        this.#subscribe("onDelete", DELETED, name, handler, filter);
    }

    #subscribe(method, event, name, handler, filter) {
        const what = `${this.declaration.key}.${method}`;
        const { keyPrefix, keySuffix, loop } = checkOptions(`the filter of ${what}`, filter, [
            "keyPrefix",
            "keySuffix",
            "loop",
        ]);
        checkType(`the filter of ${what}`, "keyPrefix", keyPrefix, ["string"]);
        checkType(`the filter of ${what}`, "keySuffix", keySuffix, ["string"]);
        checkLoop(what, loop);
        const consumer = consumerOf(what, name, handler, objectOf);
        new Subscription(name, this, consumer, [event], { prefix: keyPrefix, suffix: keySuffix }, { loop });
    }

    async get(key) {
        inHandlerOnly("bucket.get");
        checkKey("get", key);
        const bucket = this.id.get();
        const found = await call("bucket.get", { bucket, key });
        if (found === null || found === undefined) {
            throw new CloudError(
                "E0515",
                `there is no object "${key}" in bucket ${bucket}`,
                "see what is there with `bucket.list()`",
            );
        }
        return Buffer.from(found.body, "base64");
    }

    async put(key, contents, { contentType } = {}) {
        inHandlerOnly("bucket.put");
        checkKey("put", key);
        const body = bytesOf(contents).toString("base64");
        await call("bucket.put", { bucket: this.id.get(), key, body, contentType });
    }

    async delete(key) {
        inHandlerOnly("bucket.delete");
        checkKey("delete", key);
        await call("bucket.delete", { bucket: this.id.get(), key });
    }

    async list(prefix) {
        inHandlerOnly("bucket.list");
        return call("bucket.list", { bucket: this.id.get(), prefix });
    }
}

function objectOf({ data }) {
    return { key: data.key, size: data.size, eventTime: data.eventTime, versionId: data.versionId };
}

function checkKey(method, key) {
    if (typeof key !== "string" || key === "")
        throw invalid(`the key of bucket.${method} is a text that is not empty, not ${shown(key)}`, "");
}

function bytesOf(contents) {
    if (typeof contents === "string" || contents instanceof Uint8Array || contents instanceof ArrayBuffer)
        return Buffer.from(contents);
    throw invalid(
        `bucket.put takes a Buffer or a text, not ${shown(contents)}`,
        "for an object, write `JSON.stringify(object)`",
    );
}
