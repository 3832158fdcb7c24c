// Services: containers that are kept running, replicated and load-balanced.

import { buildOf } from "./build.js";
import { checkSource, codeOf } from "./code.js";
import { checkOptions, checkPositive, checkSize, checkType, invalid, shown } from "./check.js";
import { output } from "./output.js";
import { Resource, textsOf } from "./resource.js";
import { checkCommand, devicesOf } from "./task.js";
import { volumesOf } from "./volume.js";

const PLACEMENT = ["memory", "memoryReservation", "cpu", "cpuSet", "ephemeralStorage", "devices"];
const CONTAINER = [
    "build",
    "image",
    "function",
    ...PLACEMENT,
    "environment",
    "command",
    "dockerLabels",
    "ports",
    "volumes",
    "healthCheck",
];
/** As many as a task definition of Amazon ECS has. */
const MOST = 10;
/** A part of the id of a container. */
const NAME = /^[a-z][a-z0-9-]{0,31}$/;
const OPTIONS = ["containers", "replicas", "autoscale", "waitForSteadyState"];
const AUTOSCALE = ["min", "max", "target", "scaleDownAfter"];
const PORT = ["port", "targetPort", "protocol", "external"];
const PROTOCOLS = ["tcp", "http", "udp"];
const HEALTH = ["path", "port", "interval", "timeout", "retries", "startPeriod"];

export class Service extends Resource {
    #ports;

    constructor(name, args, options) {
        let ports;
        super(
            "service",
            name,
            (key) => {
                const inputs = read(key, name, args);
                ports = portsByContainer(inputs.containers);
                return inputs;
            },
            ["images", "endpoints"],
            options,
        );
        this.#ports = ports;
        /** Where the first port is reached: `{ hostname, port }`; null without ports. */
        this.defaultEndpoint = this.#endpoint(Object.values(ports).flat()[0]);
    }

    /** Where a port of a container is reached: `{ hostname, port }`. Without a port, its first one. */
    getEndpoint(container, port) {
        if (typeof container === "number") return this.getEndpoint(undefined, container);
        const { key } = this.declaration;
        const names = Object.keys(this.#ports);
        if (container !== undefined && !names.includes(container))
            throw invalid(`${key} has no container ${shown(container)}`, `it has ${names.join(", ")}`);
        const published = container === undefined ? Object.values(this.#ports).flat() : this.#ports[container];
        if (port === undefined) return this.#endpoint(published[0]);
        if (!published.includes(port))
            throw invalid(
                `${container === undefined ? key : `\`${container}\` of ${key}`} publishes no port ${port}`,
                published.length === 0 ? "give it `ports`" : `it publishes ${published.join(", ")}`,
            );
        return this.#endpoint(port);
    }

    #endpoint(port) {
        return output(this.endpoints).apply((all) => (port === undefined ? null : (all?.[port] ?? null)));
    }

    describe() {
        return { ...super.describe(), defaultEndpoint: this.defaultEndpoint };
    }
}

/** What is sent: the containers by name; the only one is called as its service is if nothing else is said. */
function read(key, name, args) {
    const { containers, replicas, autoscale, waitForSteadyState, ...only } = checkOptions(key, args, [
        ...OPTIONS,
        ...CONTAINER,
    ]);
    checkPositive(key, "replicas", replicas);
    checkType(key, "waitForSteadyState", waitForSteadyState, ["boolean"]);
    if (autoscale !== undefined && replicas !== undefined)
        throw invalid(`${key} has both \`replicas\` and \`autoscale\``, "leave `replicas` out: `min` and `max` bound it");
    const service = { replicas, autoscale: autoscaleOf(key, autoscale), waitForSteadyState };
    const code = (container) => `service/${name}/${container}`;
    if (containers === undefined) {
        const container = nameOf(name);
        return { containers: { [container]: inputs(key, code(container), only) }, ...service };
    }
    if (typeof containers !== "object" || containers === null || Array.isArray(containers))
        throw invalid(
            `\`containers\` of ${key} is an object, not ${shown(containers)}`,
            'write `containers: { web: { image: "nginx" } }`',
        );
    if (Object.keys(only).length > 0) {
        throw invalid(
            `${key} has both \`containers\` and \`${Object.keys(only)[0]}\``,
            "move what a container needs into it",
        );
    }
    const names = Object.keys(containers);
    if (names.length < 1 || names.length > MOST)
        throw invalid(
            `\`containers\` of ${key} has ${names.length} containers; a service has 1 to ${MOST}`,
            "make another service of what does not belong together: they find each other by name",
        );
    const read = (container) => {
        const what = `\`containers.${container}\` of ${key}`;
        if (!NAME.test(container))
            throw invalid(
                `${what} cannot be called like that`,
                "use up to 32 small letters, digits and `-`, beginning with a letter",
            );
        return inputs(what, code(container), checkOptions(what, containers[container], CONTAINER));
    };
    return { containers: Object.fromEntries(names.map((one) => [one, read(one)])), ...service };
}

function autoscaleOf(key, autoscale) {
    if (autoscale === undefined) return undefined;
    const what = `\`autoscale\` of ${key}`;
    const { min, max, target, scaleDownAfter } = checkOptions(what, autoscale, AUTOSCALE);
    for (const [name, value, least] of [
        ["min", min ?? 1, 0],
        ["max", max, 1],
    ]) {
        if (!Number.isInteger(value) || value < least)
            throw invalid(`\`${name}\` of ${what} is a whole number from ${least} on, not ${shown(value)}`, "");
    }
    if (typeof target !== "object" || target === null)
        throw invalid(
            `\`target\` of ${what} is an object, not ${shown(target)}`,
            "write `target: { requests: 10 }`, so many under way in one replica, or `{ cpu: 60 }`, in percent",
        );
    const { requests, cpu } = checkOptions(`\`target\` of ${what}`, target, ["requests", "cpu"]);
    for (const [name, value] of Object.entries({ requests, cpu })) {
        if (value !== undefined && typeof value !== "number")
            throw invalid(`\`${name}\` of the target of ${what} is a number, not ${shown(value)}`, "");
        checkPositive(what, `target.${name}`, value);
    }
    checkPositive(what, "scaleDownAfter", scaleDownAfter);
    return { min, max, target: { requests, cpu }, scaleDownAfter };
}

/** The name of a container that has none. */
function nameOf(service) {
    const name = service.toLowerCase().replace(/[^a-z0-9]+/g, "-");
    return NAME.test(name) ? name : "main";
}

/** The published ports of each container, in the order of the program. */
function portsByContainer(containers) {
    const ports = ([name, container]) => [name, (container.ports ?? []).map(({ port }) => port)];
    return Object.fromEntries(Object.entries(containers).map(ports));
}

/** `name`: of its code, if it has some. */
function inputs(key, name, container) {
    const { build, image, function: code, memory, memoryReservation, cpu, cpuSet } = container;
    const { environment, command, dockerLabels, ephemeralStorage, devices, ports, volumes, healthCheck } = container;
    checkSource(key, { build, image, function: code });
    checkType(key, "image", image, ["string"]);
    checkSize(key, "memory", memory);
    checkSize(key, "memoryReservation", memoryReservation);
    checkPositive(key, "cpu", cpu);
    checkType(key, "cpuSet", cpuSet, ["string"]);
    checkSize(key, "ephemeralStorage", ephemeralStorage);
    checkCommand(key, command);
    return {
        build: buildOf(key, build),
        image,
        function: codeOf(key, name, code, command),
        memory,
        memoryReservation,
        cpu,
        cpuSet,
        ephemeralStorage,
        // Replicas of two versions run at once during an update.
        devices: devicesOf(key, devices, true),
        environment: textsOf(key, "environment", environment),
        command,
        dockerLabels: textsOf(key, "dockerLabels", dockerLabels),
        ports: portsOf(key, ports),
        volumes: volumesOf(key, volumes),
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
                "it is `\"tcp\"` (connections are balanced), `\"http\"` (requests are) or `\"udp\"`",
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
