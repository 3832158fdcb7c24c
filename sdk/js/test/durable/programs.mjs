// Orchestrators made by chance, which run on our library and on the published one.
//
// They stay away from what the two do differently on purpose (docs/decisions/0169): no empty lists of tasks, no event that
// is raised before somebody waits for it, and a task that has ended is asked for by `isCompleted || isFaulted`.

/** What a family of programs may do: 1.x knows less, and knows it differently. */
export const ALL = { compound: true, failing: true, retries: true, entities: true, http: true, tasks: false };
export const OLD = {
    compound: true,
    failing: false,
    retries: true,
    entities: false,
    http: false,
    tasks: false,
};

/** A program as data, so that a failure can be printed. */
export function program(chance, features) {
    let names = 0;
    const name = (prefix) => `${prefix}${names++}`;
    // No two timers end at the same time: turns begin at whole seconds.
    const millis = () => 1000 * chance.below(5) + names++;
    const input = () =>
        chance.pick([undefined, null, 7, "text", "", [1, { a: "b" }], { deep: { list: [true] } }]);

    const atom = (alone) => {
        const kinds = ["activity", "activity", "activity", "timer", "event", "sub"];
        if (features.http) kinds.push("http");
        if (features.entities) kinds.push("entity");
        // 1.x takes the next timer for the pause of a retry, whoever made it.
        if (features.retries && (alone || features.failing)) kinds.push("retry", "subRetry");
        const kind = chance.pick(kinds);
        const most = 1 + chance.below(3);
        const timeout = features.timeouts && chance.chance(0.5) ? chance.below(9000) : undefined;
        return { kind, name: name(kind[0].toUpperCase()), input: input(), most, millis: millis(), timeout };
    };
    const task = (depth) => {
        if (depth === 0 || chance.chance(0.6)) return atom(false);
        const children = Array.from({ length: 1 + chance.below(3) }, () => task(depth - 1));
        return { kind: chance.pick(["all", "any"]), children };
    };
    const statement = (depth) => {
        const kinds = ["yield", "yield", "yield", "yield", "status", "guid", "time", "race", "race"];
        if (features.compound) kinds.push("compound", "compound", "drain");
        // 1.x tells of a task how it is by the end of the history.
        if (features.failing) kinds.push("later");
        if (features.entities) kinds.push("signal");
        if (features.locks) kinds.push("section", "section");
        if (depth > 0) kinds.push("try", "try", "block");
        const kind = chance.pick(kinds);
        switch (kind) {
            case "yield":
                return { kind, task: atom(true) };
            case "compound":
                return { kind: "yield", task: { ...task(features.failing ? 2 : 0), ...group(task) } };
            case "drain":
            case "later":
                return { kind, tasks: Array.from({ length: 2 + chance.below(3) }, () => atom(false)) };
            case "race":
                return { kind, task: atom(false), millis: millis() };
            case "section":
                return { kind, names: [name("L"), name("L")], value: input() };
            case "try":
                return { kind, body: block(depth - 1), handler: block(depth - 1) };
            case "block":
                return { kind, body: block(depth - 1) };
            default:
                return { kind, value: input(), name: name("S") };
        }
    };
    const group = (make) => ({
        kind: chance.pick(["all", "any"]),
        children: Array.from({ length: 1 + chance.below(4) }, () => make(features.failing ? 2 : 0)),
    });
    const block = (depth) => Array.from({ length: 1 + chance.below(4) }, () => statement(depth));
    const ends = ["return", "return", "return", "throw", features.failing ? "again" : "yield again"];
    return { body: block(2), end: chance.pick(ends), value: input() };
}

/** The orchestrator of a program. `log` gets what it may not tell by its output: whether it was replaying. */
export function orchestrator({ body, end, value }, df, log) {
    return function* (ctx) {
        const seen = [];
        yield* statements(ctx, df, body, seen, log);
        if (end === "throw") throw new Error(`the end: ${JSON.stringify(seen)}`);
        if (end === "again") ctx.df.continueAsNew(value);
        // In 1.x it is a task like another.
        if (end === "yield again") yield ctx.df.continueAsNew(value);
        return { input: ctx.df.getInput(), instance: ctx.df.instanceId, seen };
    };
}

function* statements(ctx, df, body, seen, log) {
    for (const one of body) yield* statement(ctx, df, one, seen, log);
}

const ended = (task) => task.isCompleted || task.isFaulted;
// A winner that failed has its error as its result; a winner that is a compound has another task in it.
const shown = (result) => {
    if (result instanceof Error) return `error: ${result.message}`;
    if (Array.isArray(result)) return result.map(shown);
    if (result && typeof result === "object" && "isFaulted" in result)
        return ["winner", shown(result.result)];
    return result ?? null;
};

function* statement(ctx, df, one, seen, log) {
    switch (one.kind) {
        case "yield": {
            const result = yield make(ctx, df, one.task);
            seen.push(shown(result));
            if (!one.task.children) log.push([one.task.name, ctx.df.isReplaying]);
            break;
        }
        case "race": {
            const timer = ctx.df.createTimer(new Date(ctx.df.currentUtcDateTime.getTime() + one.millis));
            const task = make(ctx, df, one.task);
            const winner = yield ctx.df.Task.any([timer, task]);
            seen.push(winner === timer ? "late" : shown(winner.result));
            if (!timer.isCompleted) timer.cancel();
            break;
        }
        case "section": {
            const entities = one.names.map((key) => new df.EntityId("Counter", key));
            const lock = yield ctx.df.lockEntities(...entities);
            try {
                seen.push(ctx.df.isLocked().ownedLocks.map(String));
                seen.push(shown(yield ctx.df.callEntity(entities[0], "add", one.value)));
                const both = entities.map((entity) => ctx.df.callEntity(entity, "add", one.value));
                seen.push(shown(yield ctx.df.Task.all(both)));
            } finally {
                lock.release();
            }
            break;
        }
        case "drain": {
            // Whoever is ready is dealt with first; what is still open is waited for again.
            let open = one.tasks.map((task) => make(ctx, df, task));
            while (open.length > 0) {
                const winner = yield ctx.df.Task.any(open);
                seen.push([open.indexOf(winner), shown(winner.result)]);
                open = open.filter((task) => task !== winner);
            }
            break;
        }
        case "later": {
            const tasks = one.tasks.map((task) => make(ctx, df, task));
            yield ctx.df.Task.any(tasks);
            const [first, ...rest] = tasks;
            seen.push(rest.filter(ended).length);
            try {
                seen.push(shown(yield first));
            } catch (error) {
                seen.push(shown(error));
            }
            break;
        }
        case "try":
            try {
                yield* statements(ctx, df, one.body, seen, log);
            } catch (error) {
                seen.push(shown(error));
                yield* statements(ctx, df, one.handler, seen, log);
            }
            break;
        case "block":
            yield* statements(ctx, df, one.body, seen, log);
            break;
        case "status":
            ctx.df.setCustomStatus({ at: seen.length, value: one.value });
            break;
        case "guid":
            seen.push(ctx.df.newGuid(ctx.df.instanceId));
            break;
        case "time":
            seen.push(ctx.df.currentUtcDateTime.toISOString());
            break;
        case "signal":
            ctx.df.signalEntity(new df.EntityId("Counter", one.name), "add", one.value);
            break;
        default:
            throw new Error(`no such statement: ${one.kind}`);
    }
}

function options(df, { most, timeout }) {
    const retries = new df.RetryOptions(100, most);
    if (timeout !== undefined) retries.retryTimeoutInMilliseconds = timeout;
    return retries;
}

function make(ctx, df, task) {
    const { kind, name, input } = task;
    switch (kind) {
        case "all":
        case "any":
            return ctx.df.Task[kind](task.children.map((child) => make(ctx, df, child)));
        case "activity":
            return ctx.df.callActivity(name, input);
        case "retry":
            return ctx.df.callActivityWithRetry(name, options(df, task), input);
        case "sub":
            return ctx.df.callSubOrchestrator(name, input);
        case "subRetry":
            return ctx.df.callSubOrchestratorWithRetry(name, options(df, task), input, `${name}-id`);
        case "timer":
            return ctx.df.createTimer(new Date(ctx.df.currentUtcDateTime.getTime() + task.millis));
        case "event":
            return ctx.df.waitForExternalEvent(name);
        case "http":
            return ctx.df.callHttp("POST", `http://localhost/${name}`, input, { accept: "text/plain" });
        case "entity":
            return ctx.df.callEntity(new df.EntityId("Counter", name), "add", input);
        default:
            throw new Error(`no such task: ${kind}`);
    }
}
