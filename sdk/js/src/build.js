// How the image of a task or a service is built.

import { checkOptions, checkSize, checkType, invalid, shown } from "./check.js";
import { isOutput } from "./output.js";
import { textsOf } from "./resource.js";

const BUILD = [
    "context",
    "dockerfile",
    "args",
    "target",
    "extraCaCertificates",
    "secrets",
    "cacheFrom",
    "platform",
    "maxAge",
    "contextLimit",
];

export function buildOf(key, build) {
    if (build === undefined) return undefined;
    if (typeof build === "string") return { folder: build };
    if (typeof build !== "object" || build === null)
        throw invalid(
            `\`build\` of ${key} is a folder or an object, not ${shown(build)}`,
            'write `build: "./folder"`',
        );
    const options = checkOptions(`\`build\` of ${key}`, build, BUILD);
    const { context, args, secrets, extraCaCertificates, cacheFrom, contextLimit, ...plain } = options;
    checkType(key, "build.context", context, ["string"]);
    for (const [name, value] of Object.entries(plain)) checkType(key, `build.${name}`, value, ["string"]);
    checkSize(key, "build.contextLimit", contextLimit);
    return {
        ...plain,
        folder: context ?? ".",
        args: textsOf(key, "build.args", args),
        secrets: secretsOf(key, secrets),
        extraCaCertificates: listOf(key, "build.extraCaCertificates", extraCaCertificates),
        cacheFrom: listOf(key, "build.cacheFrom", typeof cacheFrom === "string" ? [cacheFrom] : cacheFrom),
        contextLimit,
    };
}

function listOf(key, property, list) {
    checkType(key, property, list, ["array"]);
    if (!Array.isArray(list)) return list;
    const bad = list.find((one) => typeof one !== "string" && !isOutput(one));
    if (bad !== undefined)
        throw invalid(`\`${property}\` of ${key} is a list of texts; it has ${shown(bad)} in it`, "");
    return list;
}

/** Where the value of each secret is: the deployment reads it, and nobody records it. */
function secretsOf(key, secrets) {
    checkType(key, "build.secrets", secrets, ["object"]);
    if (secrets === undefined || secrets === null) return undefined;
    for (const [id, source] of Object.entries(secrets)) {
        if (!/^[A-Za-z0-9][A-Za-z0-9_.-]*$/.test(id))
            throw invalid(
                `\`build.secrets\` of ${key} has the id "${id}"`,
                "an id has letters, digits, `_`, `.` and `-`",
            );
        if (typeof source === "string" || isOutput(source) || typeof source?.then === "function") continue;
        const { file, env } = source ?? {};
        const [place] = [file, env].filter((one) => one !== undefined);
        if (typeof place !== "string" || Object.keys(source).length !== 1)
            throw invalid(
                `\`build.secrets.${id}\` of ${key} says not where its value is`,
                'write `{ file: "./path" }`, `{ env: "VARIABLE" }`, or a setting: `config.requireSecret("name")`',
            );
    }
    return secrets;
}
