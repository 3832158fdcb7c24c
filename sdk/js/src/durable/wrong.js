// What an orchestrator can do wrong.

import { shown } from "../check.js";
import { CloudError } from "../errors.js";

export const textOf = (error) => (typeof error?.message === "string" ? error.message : String(error));

export const notTask = (value, place) =>
    new CloudError(
        "E0860",
        `the orchestrator yielded ${shown(value)} (${place}): only tasks can be yielded`,
        "yield what `ctx.df.callActivity` and the like answer; `signalEntity` and `continueAsNew` are not waited for",
    );

export const notPrompt = (place) =>
    new CloudError(
        "E0860",
        `the orchestrator waits for a promise that is no task (after ${place})`,
        "yield tasks only, and do what takes time in activities: what an orchestrator awaits itself is not recorded",
    );

export const notGenerator = (value) =>
    new CloudError(
        "E0862",
        `the orchestrator is not a generator function: it answered ${typeof value?.then === "function" ? "a promise" : shown(value)}`,
        "write `df.orchestrator(function* (ctx) { … })`, and `yield` where you would `await`",
    );
