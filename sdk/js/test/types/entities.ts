// What a program in TypeScript may write of entities, and what it may not. It is compiled, and never run.

import * as cloud from "@tandem/cloud";
import df from "durable-functions";
import type {
    DurableOrchestrationClient,
    EntityContext,
    Lock,
    LockState,
    OrchestrationContext,
    Task,
} from "durable-functions";

const account = new cloud.Entity(
    "account",
    df.entity<number>((context: EntityContext<number>) => {
        const balance: number = context.df.getState(() => 0);
        const before: number | undefined = context.df.getState();
        context.df.setState(balance + context.df.getInput<number>()!);
        context.df.signalEntity(context.df.entityId, "log", before);
        context.df.return(balance);
        // @ts-expect-error the state is a number
        context.df.setState("much");
        // @ts-expect-error entities call nobody
        context.df.callEntity(context.df.entityId, "get");
    }),
    { forceDestroy: true },
);

new cloud.Workflow(
    "transfer",
    df.orchestrator(function* (context: OrchestrationContext) {
        const [a, b] = [new df.EntityId("account", "ada"), new df.EntityId("account", "bob")] as const;
        const task: Task<Lock> = context.df.lockEntities(a, b);
        const lock: Lock = yield task;
        const state: LockState = context.df.isLocked();
        const owned: string[] = state.ownedLocks.map(String);
        const balance: Task<number> = context.df.callEntity<number>(a, "balance");
        const left: number = yield balance;
        context.df.signalEntity(new df.EntityId("log", "all"), "add", { left, owned });
        lock.release();
        // @ts-expect-error a list of entities is no entity
        context.df.lockEntities([a, b]);
        // @ts-expect-error a text is no entity
        context.df.callEntity("@account@ada", "balance");
        // @ts-expect-error a lock is released, and no more
        lock.renew();
        return left;
    }),
);

new cloud.Function("balance", async (key: string) => {
    const client: DurableOrchestrationClient = df.getClient();
    await client.signalEntity(new df.EntityId("account", key), "deposit", 1);
    const { entityExists, entityState } = await client.readEntityState<number>(new df.EntityId("account", key));
    await account.signal(key, "deposit", 1);
    const read: number | undefined = await account.read(key);
    const { lock } = await new cloud.Workflow("other", df.orchestrator(function* () {})).status("id");
    return [entityExists ? entityState : read, lock?.heldSince, lock?.heldBy?.["@account@ada"]?.instanceId];
});
