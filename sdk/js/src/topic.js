// Topics: what is published goes to every subscription that wants it.

import { checkLoop, checkOptions, checkType, invalid, shown } from "./check.js";
import { Subscription, consumerOf } from "./consumer.js";
import { call } from "./host.js";
import { Resource, inHandlerOnly } from "./resource.js";

const MESSAGE = "dev.tandem.topic.message";

export class Topic extends Resource {
    constructor(name, options) {
        super("topic", name, () => ({}), [], options);
    }

    /** Answers the id of the event, once it is on disk. */
    async publish(message, options) {
        inHandlerOnly("topic.publish");
        const { subject, attributes } = checkOptions("topic.publish", options, ["subject", "attributes"]);
        checkType("topic.publish", "subject", subject, ["string"]);
        checkType("topic.publish", "attributes", attributes, ["object"]);
        if (message === undefined || typeof message === "function")
            throw invalid(
                `the message of topic.publish is a value that JSON can hold, not ${shown(message)}`,
                "publish an object, a text or a number",
            );
        const topic = this.declaration.name;
        return call("topic.publish", { topic, message, subject, attributes: attributes ?? {} });
    }

    subscribe(name, handler, options) {
        const what = `${this.declaration.key}.subscribe`;
        const { filter, loop } = checkOptions(what, options, ["filter", "loop"]);
        checkLoop(what, loop);
        const { attributes, message } = checkOptions(`the filter of ${what}`, filter, ["attributes", "message"]);
        const consumer = consumerOf(what, name, handler, ({ data }) => data.message);
        new Subscription(name, this, consumer, [MESSAGE], { attributes, message }, { loop });
    }
}
