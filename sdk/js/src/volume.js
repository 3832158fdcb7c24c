// Volumes: folders that containers see, of a stack's own or of the machine.

import { checkOptions, checkType, invalid, shown } from "./check.js";
import { isOutput } from "./output.js";
import { Resource } from "./resource.js";

const MOUNT = ["containerPath", "sourceVolume", "readOnly"];

/** A folder that containers of tasks and services share, and that stays when they go. */
export class SharedVolume extends Resource {
    constructor(name, args, options) {
        const inputs = (key) => {
            const { forceDestroy } = checkOptions(key, args, ["forceDestroy"]);
            checkType(key, "forceDestroy", forceDestroy, ["boolean"]);
            return { forceDestroy };
        };
        super("volume", name, inputs, [], options);
    }
}

/** A folder of the machine. */
export class HostPathVolume {
    constructor(path) {
        if (typeof path !== "string" || !path.startsWith("/"))
            throw invalid(
                `the path of a HostPathVolume is an absolute one, not ${shown(path)}`,
                'write `new cloud.HostPathVolume("/srv/data")`',
            );
        this.path = path;
    }
}

/** The folders that a container sees, as they are sent. */
export function volumesOf(key, volumes) {
    if (volumes === undefined) return undefined;
    if (!Array.isArray(volumes))
        throw invalid(
            `\`volumes\` of ${key} is a list, not ${shown(volumes)}`,
            'write `volumes: [{ containerPath: "/data", sourceVolume: volume }]`',
        );
    return volumes.map((volume, n) => {
        const what = `\`volumes[${n}]\` of ${key}`;
        const { containerPath, sourceVolume, readOnly } = checkOptions(what, volume, MOUNT);
        if (typeof containerPath !== "string" && !isOutput(containerPath))
            throw invalid(
                `\`containerPath\` of ${what} is a text, not ${shown(containerPath)}`,
                "say where the container sees it: `containerPath: \"/data\"`",
            );
        checkType(what, "readOnly", readOnly, ["boolean"]);
        const source = (() => {
            if (sourceVolume instanceof SharedVolume) return { volume: sourceVolume.id };
            if (sourceVolume instanceof HostPathVolume) return { hostPath: sourceVolume.path };
            throw invalid(
                `\`sourceVolume\` of ${what} is a volume, not ${shown(sourceVolume)}`,
                'pass a `new cloud.SharedVolume("data")` or a `new cloud.HostPathVolume("/srv/data")`',
            );
        })();
        return { containerPath, ...source, readOnly };
    });
}
