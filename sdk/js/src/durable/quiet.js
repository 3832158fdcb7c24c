// A replay says nothing: what it would log was logged when it happened.

let silent;

/** Silences the console until what it answers is called. */
export function hush() {
    const loud = globalThis.console;
    silent ??= new Proxy(loud, {
        get: (target, name) => (typeof target[name] === "function" ? () => undefined : target[name]),
    });
    globalThis.console = silent;
    return () => {
        globalThis.console = loud;
    };
}

/** `ctx.log`, with the levels that Azure Functions give it. */
export function logger() {
    const log = (...values) => console.log(...values);
    log.info = (...values) => console.info(...values);
    log.verbose = (...values) => console.debug(...values);
    log.warn = (...values) => console.warn(...values);
    log.error = (...values) => console.error(...values);
    return log;
}
