// CommonJS as Node has it, with the archive in the place of the file system.

import { host } from "./host.js";

const cache = new Map();
let main;

class Module {
    constructor(path) {
        this.id = path;
        this.filename = path;
        this.exports = {};
        this.loaded = false;
        this.children = [];
    }
}

function requireFor(from) {
    const require = (specifier) => {
        if (typeof specifier !== "string") {
            throw new TypeError(`require() needs the name of a module, not ${typeof specifier}`);
        }
        const [kind, path] = host.resolve(from, specifier);
        return exportsOf(kind, path, from);
    };
    // `require.main === module` is how a program asks whether it is the one that was started.
    Object.defineProperty(require, "main", { get: () => main });
    require.resolve = (specifier) => host.resolve(from, specifier)[1];
    return require;
}

/** What `require` answers for a resolved module. */
export function exportsOf(kind, path, from) {
    const known = cache.get(path);
    // A module that is still running gives what it exported so far: that is how cycles work in Node.
    if (known !== undefined) return known.exports;
    switch (kind) {
        case "commonjs":
            return run(path).exports;
        case "json":
            return parsed(path).exports;
        case "text":
            return keep(path, host.source(path)).exports;
        case "builtin":
        case "internal": {
            const namespace = host.requireEsm(path, from);
            return keep(path, namespace.default ?? namespace).exports;
        }
        default:
            return keep(path, host.requireEsm(path, from)).exports;
    }
}

function keep(path, exports) {
    const module = new Module(path);
    module.exports = exports;
    module.loaded = true;
    cache.set(path, module);
    return module;
}

function parsed(path) {
    try {
        return keep(path, JSON.parse(host.source(path)));
    } catch (error) {
        error.message = `${path}: ${error.message}`;
        throw error;
    }
}

function run(path) {
    const body = host.compile(path);
    const module = new Module(path);
    main ??= module;
    cache.set(path, module);
    const slash = path.lastIndexOf("/");
    try {
        body.call(
            module.exports,
            module.exports,
            requireFor(path),
            module,
            path,
            slash < 0 ? "." : path.slice(0, slash),
        );
        module.loaded = true;
    } catch (error) {
        // A later require tries again, as in Node.
        cache.delete(path);
        throw error;
    }
    return module;
}

/** What an ES module gets that imports a module of another kind. */
export function importCommonJs(path) {
    const [kind] = host.resolve("", `/${path}`);
    host.enterImport(path);
    try {
        return exportsOf(kind, path, path);
    } finally {
        host.leaveImport();
    }
}

/** A program whose entry is an ES module has no main module. */
export function forgetMain() {
    main = null;
}

/** `createRequire` of `node:module`. */
export function createRequire(from) {
    return requireFor(String(from).replace(/^file:\/\/\//, ""));
}
