// Code of the program as what a container runs. It is noted by name, as the handler of a function is: the container loads the
// program again and finds it there.

import { invalid, shown } from "./check.js";
import { handlers } from "./function.js";

/**
 * Notes the code, and answers what the cloud is told of it. `name` is none that a function can have: there is a `/` in it.
 *
 * Only what is returned as something is a result: nothing is none, and `null` is one.
 */
export function codeOf(key, name, code, command) {
    if (code === undefined) return undefined;
    if (typeof code !== "function") {
        throw invalid(
            `\`function\` of ${key} is a function, not ${shown(code)}`,
            "write `function: async () => { … }`",
        );
    }
    if (command !== undefined) {
        throw invalid(
            `${key} has both \`function\` and \`command\``,
            "leave `command` out: the function is what its container runs",
        );
    }
    handlers.set(name, async (input) => {
        const result = await code(input ?? undefined);
        return result === undefined ? {} : { result };
    });
    return { handler: name };
}

/** Exactly one of the three. */
export function checkSource(key, sources) {
    const given = Object.keys(sources).filter((source) => sources[source] !== undefined);
    if (given.length === 1) return;
    const what =
        given.length === 0
            ? "neither `build` nor `image` nor `function`"
            : `both ${given.map((source) => `\`${source}\``).join(" and ")}`;
    throw invalid(
        `${key} has ${what}`,
        'give exactly one: `build: "./folder"` with a Dockerfile in it, `image: "name"`, or `function: async () => { … }`',
    );
}
