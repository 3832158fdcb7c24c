// What all resources have in common.

import { checkOptions, checkType, invalid, shown } from "./check.js";
import { CloudError } from "./errors.js";
import { deploying } from "./host.js";
import { isOutput, output } from "./output.js";
import { declare, settle } from "./registry.js";

export class Resource {
    #outputs;

    constructor(kind, name, makeInputs, outputs, options) {
        const declaration = declare(kind, name);
        const { dependsOn } = checkOptions(declaration.key, options, ["dependsOn"]);
        checkDependsOn(declaration.key, dependsOn);
        Object.defineProperty(this, "declaration", { value: declaration });
        const output = settle(declaration, makeInputs(declaration.key), dependsOn);
        this.#outputs = ["id", "urn", ...outputs];
        for (const property of this.#outputs) this[property] = output(property);
    }

    /** What a stack output of this resource shows. */
    describe() {
        return Object.fromEntries(this.#outputs.map((property) => [property, this[property]]));
    }
}

function checkDependsOn(key, dependsOn) {
    for (const other of [dependsOn].flat()) {
        if (
            other === undefined ||
            other === null ||
            other instanceof Resource ||
            typeof other.then === "function"
        )
            continue;
        throw invalid(
            `\`dependsOn\` of ${key} has ${shown(other)} in it, which is not a resource`,
            "pass resources: `{ dependsOn: [bucket] }`",
        );
    }
}

/** Environment variables and build arguments are texts; numbers and booleans become some. */
export function textsOf(what, property, values) {
    checkType(what, property, values, ["object"]);
    if (values === undefined || values === null) return undefined;
    if (isOutput(values) || typeof values.then === "function") {
        return output(values).apply((known) => textsOf(what, property, known));
    }
    const text = (name, value) => {
        if (isOutput(value) || typeof value?.then === "function")
            return output(value).apply((known) => text(name, known));
        if (["string", "number", "boolean"].includes(typeof value)) return String(value);
        throw invalid(`\`${property}.${name}\` of ${what} is a text, not ${shown(value)}`, "");
    };
    return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, text(name, value)]));
}

/** Throws in the deploy phase: what follows needs the resource to exist. */
export function inHandlerOnly(what) {
    if (!deploying()) return;
    throw new CloudError(
        "E0507",
        `\`${what}\` works inside handlers only: while the program is deployed, the resource is not there yet`,
        "call it in a handler: of `onPut`, or of a `cloud.Function`",
    );
}
