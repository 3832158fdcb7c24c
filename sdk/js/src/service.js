// Services: containers that are kept running, replicated and load-balanced.

import { checkOptions, checkPositive, checkSize, checkType, invalid, shown } from "./check.js";
import { output } from "./output.js";
import { Resource, textsOf } from "./resource.js";
import { buildOf, checkCommand, checkSource } from "./task.js";

const CONTAINER = ["build", "image", "memory", "cpu", "environment", "command", "ports", "healthCheck"];
const OPTIONS = ["containers", "replicas", "waitForSteadyState"];
const PORT = ["port", "targetPort", "protocol", "external"];
const PROTOCOLS = ["tcp", "http"];
const HEALTH = ["path", "port", "interval", "timeout", "retries", "startPeriod"];

export class Service extends Resource {
    #container;

    constructor(name, args, options) {
        let container;
        super(
            "service",
            name,
            (key) => {
                const { named, inputs } = read(key, args);
                container = named;
                return inputs;
            },
            ["image", "endpoint", "endpoints"],
            options,
        );
        this.#container = container;
        /** Where the first port is reached: `{ hostname, port }`. */
        this.defaultEndpoint = this.endpoint;
    }

    /** Where a port is reached: `{ hostname, port }`. Without a port, the first one. */
    getEndpoint(container, port) {
        if (typeof container === "number") return this.getEndpoint(undefined, container);
        if (container !== undefined && container !== this.#container) {
            throw invalid(
                `${this.declaration.key} has no container \`${container}\``,
                this.#container === undefined ? "leave it out" : `it has \`${this.#container}\``,
            );
        }
        if (port === undefined) return this.defaultEndpoint;
        return output(this.endpoints).apply((all) => {
            const found = all?.[port];
            if (found === undefined)
                throw invalid(`${this.declaration.key} publishes no port ${port}`, "see its `ports`");
            return found;
        });
    }
}

/** The one container, by its name if it has one, and what is sent. */
function read(key, args) {
    const { containers, replicas, waitForSteadyState, ...only } = checkOptions(key, args, [
        ...OPTIONS,
        ...CONTAINER,
    ]);
    checkPositive(key, "replicas", replicas);
    checkType(key, "waitForSteadyState", waitForSteadyState, ["boolean"]);
    const service = { replicas, waitForSteadyState };
    if (containers === undefined) return { inputs: { ...inputs(key, only), ...service } };
    checkType(key, "containers", containers, ["object"]);
    if (Object.keys(only).length > 0) {
        throw invalid(
            `${key} has both \`containers\` and \`${Object.keys(only)[0]}\``,
            "move what the container needs into it",
        );
    }
    const names = Object.keys(containers);
    if (names.length !== 1) {
        throw invalid(
            `\`containers\` of ${key} has ${names.length} containers; a service here has one`,
            "make a service of each: they find each other by name",
        );
    }
    const [named] = names;
    const what = `\`containers.${named}\` of ${key}`;
    return { named, inputs: { ...inputs(what, checkOptions(what, containers[named], CONTAINER)), ...service } };
}

function inputs(key, container) {
    const { build, image, memory, cpu, environment, command, ports, healthCheck } = container;
    checkSource(key, build, image);
    checkType(key, "image", image, ["string"]);
    checkSize(key, "memory", memory);
    checkPositive(key, "cpu", cpu);
    checkCommand(key, command);
    return {
        build: buildOf(key, build),
        image,
        memory,
        cpu,
        environment: textsOf(key, "environment", environment),
        command,
        ports: portsOf(key, ports),
        healthCheck: healthCheckOf(key, healthCheck),
    };
}

function portsOf(key, ports) {
    if (ports === undefined) return undefined;
    if (!Array.isArray(ports))
        throw invalid(`\`ports\` of ${key} is a list, not ${shown(ports)}`, "write `ports: [{ port: 8080 }]`");
    return ports.map((port, n) => {
        const what = `\`ports[${n}]\` of ${key}`;
        const { port: number, targetPort, protocol, external } = checkOptions(what, port, PORT);
        for (const [name, value] of Object.entries({ port: number, targetPort })) {
            if (value === undefined && name === "targetPort") continue;
            if (!Number.isInteger(value) || value < 1 || value > 65535)
                throw invalid(`\`${name}\` of ${what} is ${shown(value)}`, "a port is a number from 1 to 65535");
        }
        if (protocol !== undefined && !PROTOCOLS.includes(protocol)) {
            throw invalid(
                `\`protocol\` of ${what} is ${shown(protocol)}`,
                "it is `\"tcp\"` (connections are balanced) or `\"http\"` (requests are)",
            );
        }
        checkType(what, "external", external, ["boolean"]);
        return { port: number, targetPort, protocol, external };
    });
}

function healthCheckOf(key, check) {
    if (check === undefined) return undefined;
    const what = `\`healthCheck\` of ${key}`;
    const all = checkOptions(what, check, HEALTH);
    checkType(what, "path", all.path, ["string"]);
    for (const name of HEALTH.slice(1)) checkPositive(what, name, all[name]);
    return all;
}
