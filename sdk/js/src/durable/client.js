// What other functions do with workflows and entities. Thin: each method is a call of the cloud's.

import { invalid, shown } from "../check.js";
import { call, surroundings } from "../host.js";
import { inHandlerOnly } from "../resource.js";
import { schedulerId } from "./entity_id.js";
import { EntityStateResponse } from "./values.js";

/** The client of the program's stack. The context that the published library asks for is not needed. */
export const getClient = () => new DurableOrchestrationClient();

const PATH = "/runtime/webhooks/durabletask/instances";
const OVER = { Completed: 200, Canceled: 200, Terminated: 200, Failed: 500 };

export class DurableOrchestrationClient {
    /** Starts an instance and answers its id. */
    async startNew(name, instanceId, input) {
        const { id } = await ask("startNew", "workflow.start", {
            name: text("a workflow's name", name),
            id: instanceId || undefined,
            input,
        });
        return id;
    }

    async getStatus(instanceId, showHistory = false, showHistoryOutput = false, showInput = true) {
        const asked = { id: id(instanceId), showHistory, showHistoryOutput, showInput };
        return dated(await ask("getStatus", "workflow.status", asked));
    }

    getStatusAll() {
        return this.getStatusBy();
    }

    async getStatusBy(createdTimeFrom, createdTimeTo, runtimeStatus) {
        const found = await ask(
            "getStatusBy",
            "workflow.list",
            filter(createdTimeFrom, createdTimeTo, runtimeStatus),
        );
        return found.map(dated);
    }

    async raiseEvent(instanceId, name, data) {
        await ask("raiseEvent", "workflow.raise", {
            id: id(instanceId),
            name: text("an event's name", name),
            data,
        });
    }

    async terminate(instanceId, reason) {
        await ask("terminate", "workflow.terminate", { id: id(instanceId), reason });
    }

    async suspend(instanceId, reason) {
        await ask("suspend", "workflow.suspend", { id: id(instanceId), reason });
    }

    async resume(instanceId, reason) {
        await ask("resume", "workflow.resume", { id: id(instanceId), reason });
    }

    async rewind(instanceId, reason) {
        await ask("rewind", "workflow.rewind", { id: id(instanceId), reason });
    }

    /** Answers `{ instancesDeleted }`. */
    purgeInstanceHistory(instanceId) {
        return ask("purgeInstanceHistory", "workflow.purge", { id: id(instanceId) });
    }

    /** Purges what has ended of those that were created in that time. */
    async purgeInstanceHistoryBy(createdTimeFrom, createdTimeTo, runtimeStatus) {
        const found = await ask(
            "purgeInstanceHistoryBy",
            "workflow.list",
            filter(createdTimeFrom, createdTimeTo, runtimeStatus),
        );
        const ended = found.filter((status) => status.runtimeStatus in OVER);
        for (const status of ended) await this.purgeInstanceHistory(status.instanceId);
        return { instancesDeleted: ended.length };
    }

    async signalEntity(entityId, operation, input) {
        await ask("signalEntity", "entity.signal", {
            ...entity(entityId),
            operation: operation ?? "",
            input,
        });
    }

    async readEntityState(entityId) {
        const { exists, state } = await ask("readEntityState", "entity.read", entity(entityId));
        return new EntityStateResponse(exists, exists ? state : undefined);
    }

    /** The addresses at which an instance is managed. */
    createHttpManagementPayload(instanceId) {
        return addresses(surroundings().address, instanceId);
    }

    /** The answer 202 that tells whoever asked where to ask again. */
    createCheckStatusResponse(request, instanceId) {
        const url = request?.url ?? request?.http?.url;
        const body = addresses(url === undefined ? surroundings().address : new URL(url).origin, instanceId);
        const headers = {
            "Content-Type": "application/json",
            Location: body.statusQueryGetUri,
            "Retry-After": "10",
        };
        return { status: 202, body, headers };
    }

    /** The output, if the instance ends in time; or `createCheckStatusResponse`. Times are in milliseconds. */
    async waitForCompletionOrCreateCheckStatusResponse(
        request,
        instanceId,
        timeout = 10000,
        interval = 1000,
    ) {
        if (interval > timeout)
            throw invalid(`the interval, ${interval} ms, is longer than the time to wait, ${timeout} ms`, "");
        const end = Date.now() + timeout;
        for (;;) {
            const found = await this.getStatus(instanceId);
            const status = OVER[found?.runtimeStatus];
            if (status !== undefined) {
                const body = JSON.stringify(found.runtimeStatus === "Completed" ? found.output : found);
                return { status, body, headers: { "Content-Type": "application/json" } };
            }
            const left = end - Date.now();
            if (left <= 0) return this.createCheckStatusResponse(request, instanceId);
            await new Promise((resolve) => setTimeout(resolve, Math.min(left, interval)));
        }
    }
}

async function ask(method, name, args) {
    inHandlerOnly(`df.getClient(…).${method}`);
    return call(name, args);
}

function text(what, value) {
    if (typeof value === "string" && value.trim() !== "") return value;
    throw invalid(`${what} is a text that is not empty, not ${shown(value)}`, "");
}

const id = (instanceId) => text("an instance's id", instanceId);

function entity(entityId) {
    schedulerId(entityId);
    return { entity: entityId.name, key: entityId.key };
}

const filter = (from, to, runtimeStatus) => ({
    createdTimeFrom: from?.toISOString(),
    createdTimeTo: to?.toISOString(),
    runtimeStatus: runtimeStatus?.length > 0 ? runtimeStatus : undefined,
});

/** Times are dates in the program. */
function dated(status) {
    if (status === undefined || status === null) return status;
    const { createdTime, lastUpdatedTime } = status;
    return { ...status, createdTime: new Date(createdTime), lastUpdatedTime: new Date(lastUpdatedTime) };
}

function addresses(base, instanceId) {
    if (base === undefined)
        throw invalid(
            "the cloud has told no address at which workflows are managed",
            "pass the request: its address is used then",
        );
    const at = `${base}${PATH}/${encodeURIComponent(id(instanceId))}`;
    return {
        id: instanceId,
        statusQueryGetUri: at,
        sendEventPostUri: `${at}/raiseEvent/{eventName}`,
        terminatePostUri: `${at}/terminate?reason={text}`,
        suspendPostUri: `${at}/suspend?reason={text}`,
        resumePostUri: `${at}/resume?reason={text}`,
        rewindPostUri: `${at}/rewind?reason={text}`,
        purgeHistoryDeleteUri: at,
    };
}
