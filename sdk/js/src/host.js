// The program's surroundings. The host attaches them once, before the program is loaded.

let setup = { phase: "deploy", project: "", stack: "", config: {}, dryRun: false, resources: {} };
let natives = {};

/**
 * `setup`: phase, project, stack, config, dryRun, resources.
 * `host.call(method, args)` answers a promise; `host.fail(error, place)` ends the deployment with an error.
 */
export function attach(given, host) {
    setup = { ...setup, ...given };
    natives = host;
}

export const surroundings = () => setup;
export const deploying = () => setup.phase === "deploy";
export const call = (method, args) => natives.call(method, args);
export const fail = (error, place) => natives.fail(error, place);
