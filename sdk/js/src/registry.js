// Every resource that the program declares, and the order in which they are registered.
//
// A handler may use anything its module can see, so what handlers use must exist before them: data and tasks register as
// soon as their inputs are known, functions when nothing else can, then subscriptions. Tasks whose containers run code of the
// program go with the functions; services that do begin at once, so they come last. The host opens the next gate (`advance`)
// when the program and everything it waits for have come to rest.

import { checkName } from "./check.js";
import { CloudError, place } from "./errors.js";
import { call, deploying, fail, surroundings } from "./host.js";
import { Declared, UNKNOWN, originsIn, withState } from "./output.js";
import { decode, encode } from "./values.js";

const STAGES = { bucket: 0, queue: 0, stream: 0, volume: 0, task: 0, service: 0, topic: 0, timer: 0, function: 1, workflow: 1, entity: 1, subscription: 2 };
const LAST = 3;
const FEW = 16;

const declared = new Map();
let gate = 0;
let waiting = [];
// Stage → the first resource that passed its gate.
const leaders = [];
let stopped = false;
let sealed = false;

/** What has code of the program in it may use anything that the code can see. */
function stageOf(kind, inputs) {
    if (kind === "task" && inputs.function !== undefined) return STAGES.function;
    if (kind === "service" && Object.values(inputs.containers).some((one) => one.function !== undefined)) return LAST;
    return STAGES[kind];
}

const never = () => new Promise(() => {});

/** Notes a resource; a second one of the same kind and name is an error that shows both places. */
export function declare(kind, name) {
    checkName(kind, name);
    // Where handlers run nothing is registered, so nobody asks where it was declared.
    const resource = new Declared(kind, name, deploying() ? place() : "");
    if (sealed) {
        throw new CloudError(
            "E0507",
            `${resource.key} is declared inside a handler`,
            "declare it at the top level of the program: only then is it deployed",
        );
    }
    const first = declared.get(resource.key);
    if (first !== undefined) {
        throw new CloudError(
            "E0505",
            `${resource.key} is declared twice: at ${first.place || "an earlier place"} and at ${place()}`,
            `give one of them another name`,
        );
    }
    resource.number = declared.size;
    declared.set(resource.key, resource);
    return resource;
}

/**
 * Registers a resource, or looks it up. Answers a function that makes the output of a name.
 */
export function settle(resource, inputs, dependsOn) {
    const own = new Set([resource]);
    if (!deploying()) {
        const outputs = surroundings().resources[resource.key];
        return (name) => {
            const state =
                outputs === undefined ? { value: UNKNOWN, known: false, secret: false } : decode(outputs[name]);
            return withState({ ...state, resources: own }, [resource]);
        };
    }
    resource.inputs = { inputs, dependsOn };
    resource.stage = stageOf(resource.kind, inputs);
    resource.registered = register(resource, inputs, dependsOn);
    return (name) =>
        withState(
            resource.registered.then((answer) => decode(pick(answer, name), own)),
            [resource],
        );
}

function pick(answer, name) {
    if (name === "id" || name === "urn") return answer[name];
    const value = answer.outputs?.[name];
    // A preview need not list what it does not know.
    return value === undefined && surroundings().dryRun ? { $tandem: "unknown" } : value;
}

async function register(resource, inputs, dependsOn) {
    try {
        const needed = new Set();
        const encoded = await encode(inputs, needed);
        for (const other of await explicit(dependsOn)) needed.add(other);
        await turnOf(resource);
        if (stopped) return await never();
        for (const other of await wave(resource)) needed.add(other);
        const answer = await call("resource.register", {
            kind: resource.kind,
            name: resource.name,
            inputs: encoded,
            dependsOn: [...needed].map((other) => other.urn),
            declaredAt: resource.place,
        });
        resource.urn = answer.urn;
        return answer;
    } catch (error) {
        // Whoever waits for its outputs waits on: the host ends the deployment with this error, and not with theirs.
        stopped = true;
        fail(error, resource.place);
        return never();
    }
}

/**
 * What a resource waited for, so that a destroy goes the other way round: everything of the wave before its own.
 *
 * Beyond `FEW` of those, only the first resource of a wave names them, and the others name the first: the number of
 * dependencies grows with the program, and not with its square.
 */
async function wave(resource) {
    const { stage } = resource;
    const registered = [...declared.values()].filter((other) => other.stage < stage && other.urn !== undefined);
    // Those of the last wave that had any: a program may have no functions, or no subscriptions.
    const before = Math.max(...registered.map((other) => other.stage));
    const earlier = registered.filter((other) => other.stage === before);
    if (earlier.length <= FEW) return earlier;
    if (leaders[stage] === undefined) {
        leaders[stage] = resource;
        return earlier;
    }
    await leaders[stage].registered;
    return [leaders[stage]];
}

async function explicit(dependsOn) {
    const others = await resourcesOf(dependsOn);
    await Promise.all(others.map((other) => other.registered));
    return others;
}

/** `dependsOn` is a resource, a list of them, or a promise of either. */
async function resourcesOf(dependsOn) {
    const value = await dependsOn;
    if (value === undefined || value === null) return [];
    const list = await Promise.all(Array.isArray(value) ? value : [value]);
    return list.map((other) => other.declaration ?? other);
}

function turnOf(resource) {
    if (resource.stage <= gate) return undefined;
    return new Promise((resume) => waiting.push({ resource, resume }));
}

/**
 * Opens the next gate that somebody waits at. False if nothing is left to do.
 *
 * Called when nothing moves any more, so a resource that is not registered by then never will be.
 */
export function advance() {
    while (gate < LAST) {
        gate += 1;
        const ready = waiting.filter(({ resource }) => resource.stage <= gate);
        waiting = waiting.filter(({ resource }) => resource.stage > gate);
        // In the order of the program, and not of the cloud's answers.
        ready.sort((one, other) => one.resource.number - other.resource.number);
        ready.forEach(({ resume }) => resume());
        if (ready.length > 0) return true;
    }
    const stuck = [...declared.values()].filter((resource) => resource.urn === undefined);
    if (stuck.length > 0) throw stuckError(stuck);
    return false;
}

function stuckError(stuck) {
    const needs = (resource) => {
        const { inputs, dependsOn } = resource.inputs;
        const found = originsIn([inputs]);
        for (const other of [dependsOn].flat())
            if (other?.declaration !== undefined) found.add(other.declaration);
        return [...found].filter((other) => other.urn === undefined);
    };
    const circle = findCircle(stuck, needs);
    if (circle !== undefined) {
        const path = circle.map((resource) => resource.key).join(" → ");
        const places = circle
            .slice(0, -1)
            .map((resource) => `${resource.key} at ${resource.place}`)
            .join(", ");
        return new CloudError(
            "E0508",
            `resources wait for each other: ${path}`,
            `break the circle (${places})`,
        );
    }
    const first = stuck.find((resource) => needs(resource).length === 0) ?? stuck[0];
    return new CloudError(
        "E0512",
        `an input of ${first.key}, declared at ${first.place}, is a promise that never settles`,
        "see what should settle it",
    );
}

function findCircle(resources, needs) {
    const done = new Set();
    const visit = (resource, path) => {
        const start = path.indexOf(resource);
        if (start >= 0) return [...path.slice(start), resource];
        if (done.has(resource)) return undefined;
        done.add(resource);
        for (const other of needs(resource)) {
            const found = visit(other, [...path, resource]);
            if (found !== undefined) return found;
        }
        return undefined;
    };
    for (const resource of resources) {
        const found = visit(resource, []);
        if (found !== undefined) return found;
    }
    return undefined;
}

/** From here on a worker calls handlers only. */
export function seal() {
    sealed = true;
}
