// What a program may pass. An error names what was expected and what came; its frame is the program's own.

import { CloudError } from "./errors.js";

const ARGUMENT = "E0506";

/** How a value is named to a person. */
export function shown(value) {
    if (value === null) return "null";
    if (Array.isArray(value)) return "an array";
    switch (typeof value) {
        case "undefined":
            return "nothing";
        case "string":
            return `"${value}"`;
        case "number":
        case "boolean":
            return String(value);
        case "function":
            return "a function";
        default:
            return "an object";
    }
}

export function invalid(message, help) {
    return new CloudError(ARGUMENT, message, help);
}

/** The rules of names are those of `tandem_model::name`. */
export function checkName(kind, name) {
    const article = `the name of a ${kind}`;
    if (typeof name !== "string" || name === "") {
        throw invalid(
            `${article} is a text that is not empty, not ${shown(name)}`,
            `write for example \`${constructorOf(kind)}("${kind}-1", …)\``,
        );
    }
    if (name.length > 128)
        throw invalid(
            `${article} has at most 128 characters; "${name.slice(0, 32)}…" has ${name.length}`,
            "shorten it",
        );
    const bad = /^[^A-Za-z0-9]/.exec(name) ?? /[^A-Za-z0-9_.-]/.exec(name);
    if (bad !== null) {
        throw invalid(
            `the ${kind} name "${name}" contains "${bad[0]}"`,
            "use letters, digits, `-`, `_` and `.`, starting with a letter or digit",
        );
    }
}

const constructorOf = (kind) =>
    kind === "timer" ? "cloud.timer.daily" : `new cloud.${kind[0].toUpperCase()}${kind.slice(1)}`;

/** An object of options, all of whose keys are known. */
export function checkOptions(what, options, known) {
    if (options === undefined || options === null) return {};
    if (typeof options !== "object" || Array.isArray(options)) {
        throw invalid(
            `the options of ${what} are an object, not ${shown(options)}`,
            `it may have ${known.join(", ")}`,
        );
    }
    const unknown = Object.keys(options).find((key) => !known.includes(key));
    if (unknown !== undefined) {
        throw invalid(`${what} has no option "${unknown}"`, `it may have ${known.join(", ")}`);
    }
    return options;
}

/** Whether a handler is meant to trigger itself. */
export function checkLoop(what, loop) {
    if (loop === undefined || loop === "intended") return;
    throw invalid(`\`loop\` of ${what} is "intended" or nothing, not ${shown(loop)}`, "");
}

/** A property whose type is wrong. Outputs and promises are checked when they are known, by the cloud. */
export function checkType(what, property, value, types) {
    if (value === undefined || value === null) return;
    const type = Array.isArray(value) ? "array" : typeof value;
    // Outputs are proxies of functions' siblings: objects with `apply`; promises have `then`.
    if (type === "object" && (typeof value.apply === "function" || typeof value.then === "function")) return;
    if (!types.includes(type)) {
        throw invalid(`\`${property}\` of ${what} is ${types.join(" or ")}, not ${shown(value)}`, "");
    }
}

/** What `memory` may be: MiB as a number, or a text with a unit. */
export function checkSize(what, property, value) {
    checkType(what, property, value, ["number", "string"]);
    const good =
        typeof value === "number"
            ? Number.isInteger(value) && value > 0
            : typeof value !== "string" || /^\s*\d+\s*([KMG]i?B?|B)?\s*$/.test(value);
    if (!good)
        throw invalid(
            `\`${property}\` of ${what} is a number of MiB or a text like "512MiB", not ${shown(value)}`,
            "",
        );
}

export function checkWhole(what, property, value, least) {
    checkType(what, property, value, ["number"]);
    if (typeof value === "number" && (!Number.isInteger(value) || value < least))
        throw invalid(`\`${property}\` of ${what} is a whole number from ${least} on, not ${value}`, "");
}

export function checkPositive(what, property, value) {
    checkType(what, property, value, ["number"]);
    if (typeof value === "number" && !(value > 0))
        throw invalid(`\`${property}\` of ${what} is above zero, not ${value}`, "");
}

/** Whether it is an async function, which is no generator. */
export const isAsync = (fn) => fn?.constructor?.name === "AsyncFunction";
