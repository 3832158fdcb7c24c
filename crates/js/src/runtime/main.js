// What the host calls: start, load, the steps of a deployment, invoke.

import { host } from "./host.js";
import { becomeAnIndividual, defineGlobals, fire } from "./globals.js";
import { exportsOf, forgetMain } from "./commonjs.js";
import * as sdk from "tandem:sdk/program.js";
// Every program imports it sooner or later: a spare has it already.
import "tandem:sdk/tandem.js";

export { fire };

/** Once, in a machine without a program. */
export function prepare(natives) {
    Object.assign(host, natives);
    defineGlobals();
}

/** Once, with the program. `setup` is JSON. */
export async function load(setup, entry) {
    const { phase, environment, ...rest } = JSON.parse(setup);
    becomeAnIndividual();
    process.env = environment;
    process.argv = ["tandem", entry];
    const failing = (error, place) => host.fail(error, place);
    sdk.attach({ phase, ...rest }, { call, fail: failing });
    process.exit = (code = process.exitCode ?? 0) => {
        if (phase === "run") host.exit(Number(code));
        const error = sdk.exited(code);
        host.fail(error);
        throw error;
    };
    const [kind, path] = host.resolve("", `/${entry}`);
    if (kind === "esm") forgetMain();
    const exported = kind === "esm" ? await import(`tandem:archive/${path}`) : exportsOf(kind, path, "");
    await sdk.loaded(exported);
}

async function call(method, args) {
    // After the first await, the program is no longer on the stack.
    const { stack } = new Error();
    const answer = JSON.parse(await host.call(method, JSON.stringify(args)));
    if (answer.error === undefined) return answer.value;
    const { message, code, help, causes } = answer.error;
    const error = new Error(message);
    error.stack = stack;
    error.code = code;
    error.help = help ?? "";
    if (causes?.length > 0) error.cause = new Error(causes.join(": "));
    throw error;
}

export const advance = () => sdk.advance();
export const exported = () => sdk.exported();
export const handlers = () => sdk.handlers();
export const invoke = (handler, event, context) => sdk.invoke(handler, event, context);
