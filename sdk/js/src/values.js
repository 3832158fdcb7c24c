// Values on their way to and from the host: JSON with markers for what is unknown and what is secret. The markers are
// those of `tandem_model::value`.

import { invalid } from "./check.js";
import { Resource } from "./resource.js";
import { UNKNOWN, isOutput, stateOf } from "./output.js";

const KEY = "$tandem";
const marker = (kind, rest) => ({ [KEY]: kind, ...rest });

/** Collects, while a value is written, the resources it depends on. */
export async function encode(value, resources, path = "") {
    if (isOutput(value)) {
        const state = await stateOf(value);
        state.resources.forEach((resource) => resources.add(resource));
        const plain = await encode(state.value, resources, path);
        return state.secret && plain !== undefined ? marker("secret", { value: plain }) : plain;
    }
    if (value === UNKNOWN) return marker("unknown");
    switch (typeof value) {
        case "undefined":
            return undefined;
        case "function":
        case "symbol":
        case "bigint":
            throw invalid(
                `\`${path}\` is a ${typeof value}, which cannot be stored`,
                "pass a text, a number, a list or an object",
            );
        case "object":
            return value === null ? null : encodeObject(value, resources, path);
        default:
            return value;
    }
}

async function encodeObject(value, resources, path) {
    if (typeof value.then === "function") return encode(await value, resources, path);
    if (value instanceof Resource) return encode(value.describe(), resources, path);
    if (typeof value.toJSON === "function") return value.toJSON();
    if (Array.isArray(value)) {
        const members = await Promise.all(
            value.map((member, index) => encode(member, resources, `${path}[${index}]`)),
        );
        return members.map((member) => member ?? null);
    }
    const entries = await Promise.all(
        Object.entries(value).map(async ([key, inner]) => [
            key,
            await encode(inner, resources, path === "" ? key : `${path}.${key}`),
        ]),
    );
    return Object.fromEntries(entries.filter(([, inner]) => inner !== undefined));
}

/** The state of what the host answered. */
export function decode(json, resources) {
    let secret = false;
    let known = true;
    const read = (value) => {
        if (typeof value !== "object" || value === null) return value;
        if (Array.isArray(value)) return value.map(read);
        if (value[KEY] === "unknown") {
            known = false;
            return UNKNOWN;
        }
        if (value[KEY] === "secret") {
            secret = true;
            return read(value.value);
        }
        return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, read(inner)]));
    };
    const value = read(json);
    return { value, known, secret, resources };
}
