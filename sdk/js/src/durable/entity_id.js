// Which entity: a name, which is an entity function's, and a key.

import { invalid, shown } from "../check.js";

export class EntityId {
    constructor(name, key) {
        for (const [what, value] of [
            ["name", name],
            ["key", key],
        ]) {
            if (typeof value !== "string" || value.trim() === "")
                throw invalid(
                    `the ${what} of an entity is a text that is not empty, not ${shown(value)}`,
                    "",
                );
        }
        this.name = name;
        this.key = key;
    }

    static getEntityIdFromSchedulerId(id) {
        const at = id.indexOf("@", 1);
        return new EntityId(id.slice(1, at), id.slice(at + 1));
    }

    static getSchedulerIdFromEntityId(id) {
        return schedulerId(id);
    }

    toString() {
        return schedulerId(this);
    }
}

/** The instance that an entity is: `@counter@one`. Names of entities have no case. */
export function schedulerId(entity) {
    if (typeof entity?.name !== "string" || typeof entity.key !== "string")
        throw invalid(
            `an entity is named by a df.EntityId, not ${shown(entity)}`,
            'write `new df.EntityId("counter", "one")`',
        );
    return `@${entity.name.toLowerCase()}@${entity.key}`;
}
