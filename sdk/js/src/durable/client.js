// What other functions do with workflows and entities. Thin: each method is a call of the cloud's.

import { invalid, shown } from "../check.js";
import { call } from "../host.js";
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

    /** Those that were created in that time and are in one of these states; all, if neither is given. */
    async getStatusBy(createdTimeFrom, createdTimeTo, runtimeStatus) {
        const all = (await ask("getStatusBy", "workflow.list", {})).map(dated);
        return all.filter(
            (status) =>
                (!createdTimeFrom || createdTimeFrom <= status.createdTime) &&
                (!createdTimeTo || status.createdTime <= createdTimeTo) &&
                (!runtimeStatus?.length || runtimeStatus.includes(status.runtimeStatus)),
        );
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

    async purgeInstanceHistory(instanceId) {
        await ask("purgeInstanceHistory", "workflow.purge", { id: id(instanceId) });
        return { instancesDeleted: 1 };
    }

    /** Purges what has ended of those that were created in that time. */
    async purgeInstanceHistoryBy(createdTimeFrom, createdTimeTo, runtimeStatus) {
        const found = await this.getStatusBy(createdTimeFrom, createdTimeTo, runtimeStatus);
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

    /**
     * The addresses at which an instance is managed. Whoever uses them adds `code`, a key of the stack: the key that a
     * handler has opens more than the instance, and is not for everybody who asks.
     */
    createHttpManagementPayload(instanceId) {
        const at = `${process.env.AWS_ENDPOINT_URL ?? ""}${PATH}/${encodeURIComponent(id(instanceId))}`;
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

    /** The answer 202 that tells whoever asked where to ask again. */
    createCheckStatusResponse(_request, instanceId) {
        const body = this.createHttpManagementPayload(instanceId);
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

/** Times are dates in the program. */
function dated(status) {
    if (status === undefined || status === null) return status;
    const { createdTime, lastUpdatedTime } = status;
    return { ...status, createdTime: new Date(createdTime), lastUpdatedTime: new Date(lastUpdatedTime) };
}
