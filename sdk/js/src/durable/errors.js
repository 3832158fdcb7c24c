// What an orchestrator catches.

/** An activity, a task, a sub-orchestration or an entity's operation failed. The message is that of the published library. */
export class DurableError extends Error {
    constructor(reason, details) {
        super(details ? `${reason} \n ${details}` : reason);
        this.name = "DurableError";
        this.reason = reason;
        this.details = details;
    }
}
