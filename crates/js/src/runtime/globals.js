// Globals that programs expect and that LLRT leaves to others: timers, the rest of `process` and `console`.

import { host } from "./host.js";

/** Runs what nobody can catch. */
function guarded(callback, args) {
    try {
        callback(...args);
    } catch (error) {
        host.uncaught(error);
    }
}

const timers = new Map();
let lastTimer = 0;

class Timeout {
    #id;
    #kind;

    constructor(id, kind) {
        this.#id = id;
        this.#kind = kind;
    }
    ref() {
        host.setTimerKind(this.#id, this.#kind);
        return this;
    }
    unref() {
        host.setTimerKind(this.#id, "background");
        return this;
    }
    hasRef() {
        return timers.get(this.#id)?.kind !== "background";
    }
    close() {
        clear(this);
        return this;
    }
    [Symbol.toPrimitive]() {
        return this.#id;
    }
}

function start(callback, delay, kind, args) {
    if (typeof callback !== "function") {
        throw new TypeError(`a timer needs a function to call, not ${typeof callback}`);
    }
    const id = ++lastTimer;
    const milliseconds = Number(delay) >= 1 ? Number(delay) : 0;
    timers.set(id, { callback, args, kind, milliseconds });
    host.arm(id, milliseconds, kind);
    return new Timeout(id, kind);
}

function clear(timer) {
    if (timer === undefined || timer === null) return;
    const id = Number(timer);
    if (timers.delete(id)) host.disarm(id);
}

/** Called by the host when a timer is due. */
export function fire(id) {
    const timer = timers.get(id);
    if (timer === undefined) return;
    // Armed again first: the callback may clear its own interval.
    if (timer.kind === "repeating") host.arm(id, Math.max(timer.milliseconds, 1), timer.kind);
    else timers.delete(id);
    guarded(timer.callback, timer.args);
}

function defineTimers() {
    globalThis.setTimeout = (callback, delay, ...args) => start(callback, delay, "once", args);
    globalThis.setInterval = (callback, delay, ...args) => start(callback, delay, "repeating", args);
    globalThis.setImmediate = (callback, ...args) => start(callback, 0, "once", args);
    globalThis.clearTimeout = clear;
    globalThis.clearInterval = clear;
    globalThis.clearImmediate = clear;
    globalThis.queueMicrotask = (callback) => {
        if (typeof callback !== "function") {
            throw new TypeError(`queueMicrotask needs a function to call, not ${typeof callback}`);
        }
        Promise.resolve().then(() => guarded(callback, []));
    };
    // LLRT's uses LLRT's timers, which do not run here.
    AbortSignal.timeout = (delay) => {
        const controller = new AbortController();
        const reason = new DOMException("The operation was aborted due to timeout", "TimeoutError");
        setTimeout(() => controller.abort(reason), delay).unref();
        return controller.signal;
    };
}

function defineProcess() {
    process.title = "tandem";
    process.nextTick = (callback, ...args) => queueMicrotask(() => callback(...args));
    const stream = (number) => ({
        isTTY: false,
        write(text) {
            host.write(number, String(text));
            return true;
        },
    });
    process.stdout = stream(1);
    process.stderr = stream(2);
}

/** What must not be the same in two copies of a machine. */
export function becomeAnIndividual() {
    process.pid = process.id = host.pid();
    const started = Date.now();
    process.uptime = () => (Date.now() - started) / 1000;
    Math.random = randomFrom(host.seed());
}

/** xoshiro128** of Blackman and Vigna, <https://prng.di.unimi.it/>; two draws make the 53 bits of a number. */
function randomFrom([a, b, c, d]) {
    const rotated = (x, by) => (x << by) | (x >>> (32 - by));
    const draw = () => {
        const result = Math.imul(rotated(Math.imul(b, 5), 7), 9) >>> 0;
        const shifted = b << 9;
        c ^= a;
        d ^= b;
        b ^= c;
        a ^= d;
        c ^= shifted;
        d = rotated(d, 11);
        return result;
    };
    return function random() {
        return ((draw() >>> 5) * 0x4000000 + (draw() >>> 6)) / 0x20000000000000;
    };
}

function defineConsole() {
    const counts = new Map();
    const starts = new Map();
    console.count = (label = "default") => {
        counts.set(label, (counts.get(label) ?? 0) + 1);
        console.log(`${label}: ${counts.get(label)}`);
    };
    console.countReset = (label = "default") => void counts.delete(label);
    console.time = (label = "default") => void starts.set(label, Date.now());
    console.timeLog = (label = "default", ...rest) => {
        if (starts.has(label)) console.log(`${label}: ${Date.now() - starts.get(label)}ms`, ...rest);
    };
    console.timeEnd = (label = "default") => {
        console.timeLog(label);
        starts.delete(label);
    };
    console.dir = (value) => console.log(value);
    console.table = (value) => console.log(value);

    let indent = "";
    for (const method of ["log", "info", "debug", "warn", "error", "trace"]) {
        const plain = console[method];
        console[method] = (...args) => {
            if (indent === "") return plain(...args);
            return typeof args[0] === "string"
                ? plain(indent + args[0], ...args.slice(1))
                : plain(indent.slice(1), ...args);
        };
    }
    console.group = (...labels) => {
        if (labels.length > 0) console.log(...labels);
        indent += "  ";
    };
    console.groupEnd = () => {
        indent = indent.slice(2);
    };
}

/** What `console` shows of objects whose content is not in properties. The symbol is LLRT's. */
function defineInspection() {
    const custom = Symbol.for("llrt.inspect.custom");
    const show = (type, view) => {
        Object.defineProperty(type.prototype, custom, {
            configurable: true,
            get() {
                return view(this);
            },
        });
    };
    show(Map, (map) => ({ size: map.size, entries: [...map].slice(0, 100) }));
    show(Set, (set) => ({ size: set.size, values: [...set].slice(0, 100) }));
    show(ArrayBuffer, (buffer) => ({ byteLength: buffer.byteLength }));
}

function defineLazily() {
    host.lazyGlobals.forEach((names, group) => {
        const setUp = () => {
            for (const name of names) delete globalThis[name];
            host.setUpGlobals(group);
        };
        for (const name of names) {
            Object.defineProperty(globalThis, name, {
                configurable: true,
                get() {
                    setUp();
                    return globalThis[name];
                },
                set(value) {
                    Object.defineProperty(globalThis, name, { configurable: true, writable: true, value });
                },
            });
        }
    });
}

export function defineGlobals() {
    globalThis.global = globalThis;
    globalThis.self = globalThis;
    globalThis.structuredClone = host.structuredClone;
    Error.stackTraceLimit = 50;
    defineLazily();
    defineTimers();
    defineProcess();
    defineConsole();
    defineInspection();
}
