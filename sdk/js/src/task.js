// Tasks: containers that are started on demand and expected to end.

import { buildOf } from "./build.js";
import { checkSource, codeOf } from "./code.js";
import { checkOptions, checkPositive, checkSize, checkType, checkWhole, invalid, shown } from "./check.js";
import { call } from "./host.js";
import { isOutput } from "./output.js";
import { Resource, inHandlerOnly, textsOf } from "./resource.js";
import { volumesOf } from "./volume.js";

const PLACEMENT = ["memory", "memoryReservation", "cpu", "cpuSet", "ephemeralStorage", "priority", "concurrency", "devices"];
const OPTIONS = ["build", "image", "function", ...PLACEMENT, "environment", "command", "dockerLabels", "volumes", "timeout", "retries"];
const DEVICE = ["path", "shared"];
const RETRIES = ["attempts", "backoff", "maxBackoff", "on"];
const ENDS = ["exited", "badResult", "outOfMemory", "timedOut", "lost"];

export class Task extends Resource {
    constructor(name, container, options) {
        super("task", name, (key) => inputs(key, name, container), ["image"], options);
    }

    /** Starts a container. Resolves when the run is accepted for good, not when it ends. */
    async run(options) {
        inHandlerOnly("task.run");
        const what = `${this.declaration.key}.run`;
        const { id } = await call("task.run", { task: this.declaration.name, ...runOf(what, options) });
        return new Run(id);
    }
}

/** What a run is started with: what the cloud is told. */
export function runOf(what, options) {
    const { environment, command, input } = checkOptions(what, options, ["environment", "command", "input"]);
    checkCommand(what, command);
    return {
        environment: plain(textsOf(what, "environment", environment ?? {})),
        command: command ?? null,
        input: jsonOf(what, input),
    };
}

/** What a handler passes on is known by now. */
const plain = (values) =>
    Object.fromEntries(
        Object.entries(values).map(([name, value]) => [name, isOutput(value) ? value.get() : value]),
    );

/** The input of a run as what JSON can say. */
function jsonOf(what, input) {
    if (input === undefined) return undefined;
    let text;
    try {
        text = JSON.stringify(input, (_, value) => (isOutput(value) ? value.get() : value));
    } catch (error) {
        throw invalid(`\`input\` of ${what} cannot be written as JSON: ${error.message}`, "");
    }
    if (text === undefined)
        throw invalid(`\`input\` of ${what} is ${shown(input)}, which JSON cannot say`, "pass data");
    return JSON.parse(text);
}

/** One execution of a task. */
export class Run {
    constructor(id) {
        this.id = id;
    }

    /** Resolves when the container has ended, to how it ended. */
    async wait() {
        return told(await call("run.wait", { id: this.id }));
    }

    async status() {
        return told(await call("run.status", { id: this.id }));
    }

    /** The lines it has printed so far. */
    logs() {
        return call("run.logs", { id: this.id });
    }

    async stop() {
        await call("run.stop", { id: this.id });
    }
}

/** The cloud's outcome has properties of its own; here it is a word, and beside it what matters. */
function told(status) {
    const { id, state, accepted, admitted, mounted, created, started, ended } = status;
    const { attempt, attempts, exitCode, waits, outcome, error, logTail, result } = status;
    return {
        id,
        state,
        accepted,
        admitted,
        mounted,
        created,
        started,
        ended,
        attempt,
        attempts,
        exitCode,
        waits,
        outcome: outcome?.outcome,
        error,
        logTail,
        result,
    };
}

function inputs(key, name, container) {
    const all = checkOptions(key, container, OPTIONS);
    const { build, image, function: code, memory, memoryReservation, cpu, cpuSet, priority, concurrency, devices } = all;
    const { environment, command, dockerLabels, ephemeralStorage, volumes, timeout, retries } = all;
    checkSource(key, { build, image, function: code });
    checkType(key, "image", image, ["string"]);
    checkSize(key, "memory", memory);
    checkSize(key, "memoryReservation", memoryReservation);
    checkPositive(key, "cpu", cpu);
    checkType(key, "cpuSet", cpuSet, ["string"]);
    checkSize(key, "ephemeralStorage", ephemeralStorage);
    checkWhole(key, "priority", priority, -1000);
    checkWhole(key, "concurrency", concurrency, 1);
    checkPositive(key, "timeout", timeout);
    checkCommand(key, command);
    const texts = textsOf(key, "environment", environment);
    return {
        build: buildOf(key, build),
        image,
        function: codeOf(key, `task/${name}`, code, command),
        memory,
        memoryReservation,
        cpu,
        cpuSet,
        ephemeralStorage,
        priority,
        concurrency,
        devices: devicesOf(key, devices),
        environment: texts,
        command,
        dockerLabels: textsOf(key, "dockerLabels", dockerLabels),
        volumes: volumesOf(key, volumes),
        timeout,
        retries: retriesOf(key, retries),
    };
}

/** `byDefault`: whether one that does not say so is shared. */
export function devicesOf(key, devices, byDefault) {
    if (devices === undefined) return undefined;
    if (!Array.isArray(devices))
        throw invalid(`\`devices\` of ${key} is a list, not ${shown(devices)}`, 'write `devices: ["/dev/fuse"]`');
    return devices.map((device, n) => {
        if (typeof device === "string") return { path: device, shared: byDefault };
        const what = `\`devices[${n}]\` of ${key}`;
        const { path, shared } = checkOptions(what, device, DEVICE);
        if (typeof path !== "string")
            throw invalid(`\`path\` of ${what} is a text, not ${shown(path)}`, 'write `{ path: "/dev/fuse", shared: true }`');
        checkType(what, "shared", shared, ["boolean"]);
        return { path, shared: shared ?? byDefault };
    });
}

function retriesOf(key, retries) {
    if (retries === undefined) return undefined;
    if (typeof retries !== "object" || retries === null)
        throw invalid(
            `\`retries\` of ${key} is an object, not ${shown(retries)}`,
            "write `retries: { attempts: 3 }`: three containers at most",
        );
    const what = `\`retries\` of ${key}`;
    const { attempts, backoff, maxBackoff, on } = checkOptions(what, retries, RETRIES);
    if (!Number.isInteger(attempts) || attempts < 1 || attempts > 100)
        throw invalid(
            `\`attempts\` of ${what} is ${shown(attempts)}; it is a whole number from 1 to 100`,
            "it counts the first attempt, too: `retries: { attempts: 3 }`",
        );
    checkType(what, "backoff", backoff, ["number"]);
    checkType(what, "maxBackoff", maxBackoff, ["number"]);
    checkType(what, "on", on, ["array"]);
    const unknown = on?.find((end) => !ENDS.includes(end));
    if (unknown !== undefined)
        throw invalid(`\`on\` of ${what} has ${shown(unknown)} in it`, `an attempt ends as one of ${ENDS.join(", ")}`);
    return { attempts, backoff, maxBackoff, on };
}

export function checkCommand(what, command) {
    checkType(what, "command", command, ["array"]);
    if (!Array.isArray(command)) return;
    const bad = command.find((word) => typeof word !== "string" && !isOutput(word));
    if (bad !== undefined)
        throw invalid(`\`command\` of ${what} is a list of texts; it has ${shown(bad)} in it`, "");
}
