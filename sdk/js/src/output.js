// `Output<T>`: a value that the cloud tells when it has made a resource.
//
// An output has a state: the value, whether it is known (a preview does not know what was not made), whether it is
// secret, and the resources it depends on. In the deploy phase a state arrives later, as a promise; in the run phase it
// is there at once, so that `get()` works. Where only a part of a value is unknown, that part is `UNKNOWN`.

import { CloudError } from "./errors.js";
import { deploying } from "./host.js";
import { invalid, shown } from "./check.js";

/** Stands in a value for what is not known yet. */
export const UNKNOWN = Symbol("unknown");

const NONE = new Set();
const PHASE = "E0507";
const NOT_DEPLOYED = "E0513";

// Output (its proxy) → state, or promise of one. Failed: output → error.
const states = new WeakMap();
const failures = new WeakMap();
// Output → what it was made from: resources, other outputs, promises. Known before its value is, so that a circle can be
// told from a promise that never settles.
const sources = new WeakMap();
// Promise → what it was settled with.
const settlements = new WeakMap();

export const isOutput = (value) => typeof value === "object" && value !== null && states.has(value);

/** A resource as the program declared it. */
export class Declared {
    constructor(kind, name, place) {
        this.kind = kind;
        this.name = name;
        this.key = `${kind}/${name}`;
        this.place = place;
    }
}

const known = (value) => ({ value, known: true, secret: false, resources: NONE });

/** Runs `next` on a state now or, if it is a promise of one, later. */
const chain = (state, next) => (state instanceof Promise ? state.then(next) : next(state));

const union = (sets) => {
    const filled = sets.filter((set) => set.size > 0);
    return filled.length <= 1 ? (filled[0] ?? NONE) : new Set(filled.flatMap((set) => [...set]));
};

function joined(values, shape) {
    return {
        value: shape(values.map((state) => state.value)),
        known: values.every((state) => state.known),
        secret: values.some((state) => state.secret),
        resources: union(values.map((state) => state.resources)),
    };
}

function joinAll(members, shape) {
    if (members.some((member) => member instanceof Promise)) {
        return Promise.all(members).then((settled) => joined(settled, shape));
    }
    return joined(members, shape);
}

const isPlain = (value) => {
    const prototype = Object.getPrototypeOf(value);
    return prototype === Object.prototype || prototype === null;
};

/** The state of any value: outputs and promises in it, at whatever depth, are replaced by what they hold. */
export function unwrap(value) {
    if (typeof value !== "object" || value === null) {
        return value === UNKNOWN ? { ...known(value), known: false } : known(value);
    }
    if (isOutput(value)) return states.get(value);
    if (typeof value.then === "function") {
        return Promise.resolve(value).then((settled) => {
            settlements.set(value, settled);
            return unwrap(settled);
        });
    }
    if (Array.isArray(value)) return joinAll(value.map(unwrap), (members) => members);
    if (isPlain(value)) {
        const keys = Object.keys(value);
        return joinAll(
            keys.map((key) => unwrap(value[key])),
            (members) => Object.fromEntries(keys.map((key, index) => [key, members[index]])),
        );
    }
    return known(value);
}

/** The resources that a value is made from, as far as can be told without waiting. */
export function originsIn(value, found = new Set(), seen = new Set()) {
    if (typeof value !== "object" || value === null || seen.has(value)) return found;
    seen.add(value);
    if (isOutput(value)) {
        for (const source of sources.get(value)) {
            if (source instanceof Declared) found.add(source);
            else originsIn(source, found, seen);
        }
    } else if (typeof value.then === "function") originsIn(settlements.get(value), found, seen);
    else if (Array.isArray(value) || isPlain(value)) {
        Object.values(value).forEach((inner) => originsIn(inner, found, seen));
    }
    return found;
}

/** A new output with a state, or a promise of one. `from` is what it is made from. */
export function withState(state, from) {
    const proxy = new Proxy(Object.create(Output.prototype), lifting);
    states.set(proxy, state);
    sources.set(proxy, from);
    // Not a listener to failures: a rejection that nobody handles has to be seen.
    if (state instanceof Promise) state.then((settled) => states.set(proxy, settled));
    return proxy;
}

function failed(error, from) {
    // Shown if nobody asks for the value: an `apply` at the top level may be all there is.
    const output = withState(Promise.reject(error), from);
    failures.set(output, error);
    return output;
}

/** Runs `next` on the whole state of an output. */
function derive(output, next) {
    const state = states.get(output);
    const from = [output];
    if (deploying())
        return withState(
            Promise.resolve(state).then((settled) => next(settled, from)),
            from,
        );
    const error = failures.get(output);
    if (error !== undefined) return failed(error, from);
    try {
        return withState(
            chain(state, (settled) => next(settled, from)),
            from,
        );
    } catch (thrown) {
        return failed(thrown, from);
    }
}

const hasUnknown = (value) =>
    value === UNKNOWN ||
    (Array.isArray(value)
        ? value.some(hasUnknown)
        : typeof value === "object" &&
          value !== null &&
          isPlain(value) &&
          Object.values(value).some(hasUnknown));

function member(output, property) {
    return derive(output, (state) => {
        const inner = state.value === UNKNOWN ? UNKNOWN : state.value?.[property];
        if (!state.known && inner === undefined) return { ...state, value: UNKNOWN };
        return chain(unwrap(inner), (found) => ({
            value: found.value,
            known: found.known && !hasUnknown(found.value),
            secret: state.secret || found.secret,
            resources: union([state.resources, found.resources]),
        }));
    });
}

const lifting = {
    get(target, property, receiver) {
        // `then` must be absent: `await` would take an output for a promise.
        if (typeof property === "symbol" || property in target) return Reflect.get(target, property, receiver);
        if (property === "then") return undefined;
        if (property === "__pulumiOutput") return true;
        return member(receiver, property);
    },
};

const asText = (what) =>
    `Calling [${what}] on an [Output<T>] is not supported: its value is not there yet. ` +
    "Use `output.apply(value => …)`, or `pulumi.interpolate` and `pulumi.concat` for texts.";

export class Output {
    static create(value) {
        return output(value);
    }
    static isInstance(value) {
        return isOutput(value);
    }

    apply(callback) {
        if (typeof callback !== "function") {
            throw invalid(
                `\`apply\` needs a function that takes the value, not ${shown(callback)}`,
                "write `output.apply(value => …)`",
            );
        }
        return derive(this, (state, from) => {
            if (!state.known) return { ...state, value: UNKNOWN };
            const result = callback(state.value);
            from.push(result);
            return chain(unwrap(result), (made) => ({
                value: made.value,
                known: made.known,
                secret: state.secret || made.secret,
                resources: union([state.resources, made.resources]),
            }));
        });
    }

    get() {
        if (deploying()) {
            throw new CloudError(
                PHASE,
                "`get()` works inside handlers only: while the program is deployed, the value is not there yet",
                "use `output.apply(value => …)` here, or `pulumi.interpolate` for a text",
            );
        }
        const error = failures.get(this);
        if (error !== undefined) throw error;
        const state = states.get(this);
        if (state instanceof Promise) {
            throw new CloudError(
                PHASE,
                "this output is made from a promise that is not settled yet",
                "await the promise itself, and call `get()` on outputs of resources",
            );
        }
        if (!state.known) {
            const names = [...originsIn(this)].map((resource) => resource.key).join(", ");
            throw new CloudError(
                NOT_DEPLOYED,
                `${names || "this resource"} is not deployed yet`,
                "run `tandem up`",
            );
        }
        return state.value;
    }

    toString() {
        return deploying() ? asText("toString") : String(this.get());
    }

    toJSON() {
        return deploying() ? asText("toJSON") : this.get();
    }

    [Symbol.toPrimitive]() {
        return this.toString();
    }

    /** What `console.log` shows. */
    get [Symbol.for("llrt.inspect.custom")]() {
        const state = states.get(this);
        if (state instanceof Promise || !state.known) return { output: "(not known yet)" };
        return { output: state.secret ? "(secret)" : state.value };
    }
}

/** The value as an output; outputs and promises in it are taken along. */
export function output(value) {
    return isOutput(value) ? value : withState(unwrap(value), [value]);
}

/** One output of many: an array or an object of values, outputs and promises. */
export function all(values) {
    if (typeof values !== "object" || values === null) {
        throw invalid(
            `\`all\` needs an array or an object of outputs, not ${shown(values)}`,
            "write `all([a, b])` or `all({ a, b })`",
        );
    }
    return output(Array.isArray(values) || isPlain(values) ? values : [...values]);
}

/** Joins texts and outputs: concat("http://", host, "/"). */
export function concat(...parts) {
    return all(parts).apply((values) => values.join(""));
}

/** A template with outputs in it: interpolate`http://${host}/`. */
export function interpolate(texts, ...values) {
    return all(values).apply((known) =>
        texts.map((text, index) => text + (index < known.length ? known[index] : "")).join(""),
    );
}

/** An output whose value displays hide. */
export function secret(value) {
    return derive(output(value), (state) => ({ ...state, secret: true }));
}

/** The same value, no longer secret. */
export function unsecret(value) {
    return derive(output(value), (state) => ({ ...state, secret: false }));
}

/** A promise of whether an output is secret. */
export async function isSecret(value) {
    return (await states.get(output(value))).secret;
}

/** The state, for the SDK itself. */
export const stateOf = (value) => states.get(output(value));
