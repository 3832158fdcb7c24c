// One execution of an orchestrator: a generator that the events of a history drive.
//
// A turn hands it events, in the order of the history; each may settle a task, and the generator runs on when the task
// that it waits for is settled. What it then asks for are the turn's actions. An execution that is kept goes on with the
// events that are new (`feed`), and ends where a replay of the whole history ends: nothing here looks at anything but the
// events.
//
// Ids are given to tasks when they are first yielded, in the order of the published library 2.x: depth first through
// what is yielded, one for each fire-and-forget action, and those of retries when they are due.

import { CloudError } from "../errors.js";
import { isCompound, stored, subject } from "./actions.js";
import { Context } from "./context.js";
import { CriticalSection } from "./critical.js";
import { EventType, SCHEDULED, SETTLED, answer, called, diverged, outcome } from "./history.js";
import { hush } from "./quiet.js";
import { soon } from "./soon.js";
import { Task, waits } from "./tasks.js";
import { notGenerator, notTask, textOf } from "./wrong.js";

/** V2 of the protocol: compound actions, no ids for parts of long timers and of polled HTTP requests. */
const SCHEMA = 1;

export class Execution {
    /** Actions that the last state did not have yet. */
    #actions = [];
    /** How many actions states have had, those within `Task.all` and `Task.any` one by one, and not these themselves. */
    #emitted = 0;
    #new = 0;
    /** Ids from here on belong to actions that no state had yet. */
    #firstNewId = 0;
    /** Pauses and attempts of retries that the last state did not have yet. */
    #retries = [];
    /** Timers that an earlier state had and that are canceled since, and pauses that lead nowhere. */
    #canceled = [];
    #ids = 0;
    /** Id, or the GUID of a message to an entity → the task that is open. */
    #open = new Map();
    /** Id → what the code scheduled, until the history has confirmed it. */
    #unconfirmed = new Map();
    /** Tasks whose action was emitted, alone or as part of another. */
    #yielded = new WeakSet();
    /** Waits for events that have their place in the line. */
    #lined = new WeakSet();
    /** Name of an event → the tasks that wait for it, the last of which gets the next one, as in Durable Functions. */
    #waiting = new Map();
    /** Name of an event → those that nobody has waited for yet, first come first served. */
    #buffered = new Map();
    /**
     * What is to be done when the events of a turn are over. The cloud takes ids for all pauses of a turn first, so the
     * generator must not run on between them.
     */
    #late = [];
    #yields = 0;
    #generator;
    #context;
    /** What the generator waits for; before it begins, nothing. */
    #current;
    #returned = false;
    #output;
    #failure;
    #continued = false;
    #now;
    replaying;
    customStatus;
    section = new CriticalSection(this);
    /** The orchestrator state after the whole history that it began with. */
    state;

    constructor(orchestrate, binding) {
        const first = binding.history.find((event) => event.EventType === EventType.OrchestratorStarted);
        if (first === undefined) throw new Error("a history has an OrchestratorStarted event");
        this.#now = Date.parse(first.Timestamp);
        this.replaying = binding.isReplaying ?? false;
        this.#context = new Context(this, binding);
        try {
            this.#generator = orchestrate(this.#context);
            if (typeof this.#generator?.next !== "function") throw notGenerator(this.#generator);
        } catch (error) {
            this.#failure = { error };
        }
    }

    /** The deterministic time, in milliseconds since 1970. */
    get now() {
        return this.#now;
    }

    get #ended() {
        return this.#returned || this.#failure !== undefined;
    }

    /** It returned, threw, or goes on as new: there is nothing to feed any more. */
    get over() {
        return this.#ended || this.#continued;
    }

    /** Goes on with further events. The state's actions are those that these events led to. */
    async feed(events) {
        if (this.over) throw new Error("an execution that is over was fed");
        const from = this.#emitted;
        await this.#run(events);
        return { ...this.#take(), continued: true, from };
    }

    /** Runs an orchestrator over a history; the `state` of what it answers goes to the cloud. */
    static async begin(orchestrate, binding) {
        const execution = new Execution(orchestrate, binding);
        if (!execution.over) await execution.#run(binding.history);
        execution.state = execution.#take();
        return execution;
    }

    async #run(events) {
        for (const event of events) {
            if (this.#late.length > 0 && this.#isAfter(event)) await this.#catchUp();
            if (this.over) return;
            try {
                this.#apply(event);
            } catch (error) {
                if (!(error instanceof CloudError)) throw error;
                this.#failure = { error };
            }
            await this.#resume();
            if (this.over) return;
        }
        await this.#catchUp();
    }

    /** Lets the generator run as far as it gets. */
    async #resume() {
        while (!this.#ended && this.#current?.isCompleted) await this.#step();
    }

    async #catchUp() {
        for (const then of this.#late.splice(0)) {
            then();
            await this.#resume();
        }
    }

    /** Whether the events that a turn began with are over: this is something that it led to, or the next turn. */
    #isAfter({ EventType: type, EventId: id }) {
        if (SCHEDULED.has(type)) return id >= this.#ids;
        return type === EventType.OrchestratorCompleted || type === EventType.OrchestratorStarted;
    }

    // What the context calls.

    /** An action that nobody waits for. */
    fire(action) {
        if (this.#continued) return;
        action.id = this.#ids++;
        this.#unconfirmed.set(action.id, subject(action));
        this.#emit(action);
    }

    continueAsNew(action) {
        if (!this.#continued) this.#emit(action);
        this.#continued = true;
    }

    canceled(timer) {
        const { action } = timer;
        // What is still to be emitted says so itself.
        if (action.id < this.#firstNewId) this.#canceled.push(action.id);
    }

    /** A pause of a retry leads nowhere; what follows from that waits until the turn's events have been seen. */
    giveUp(id, then) {
        this.#canceled.push(id);
        this.#late.push(then);
    }

    /** A pause or an attempt of a retry, which the cloud schedules by itself. */
    retried(entry) {
        this.#retries.push(entry);
    }

    /** The id of a task that the cloud schedules. */
    allot(task) {
        const id = this.#ids++;
        this.#open.set(id, task);
        this.#unconfirmed.set(id, task.subject);
        return id;
    }

    // Events.

    #apply(event) {
        const { EventType: type } = event;
        if (type === EventType.OrchestratorStarted) {
            this.#now = Math.max(this.#now, Date.parse(event.Timestamp));
        } else if (type === EventType.ExecutionStarted) {
            this.replaying = event.IsPlayed ?? false;
            this.#current = new Task(this);
            this.#current.settle(false, undefined);
        } else if (SCHEDULED.has(type)) {
            this.#confirm(event, SCHEDULED.get(type));
        } else if (SETTLED.has(type)) {
            this.#settle(event, SETTLED.get(type));
        } else if (type === EventType.EventRaised) {
            this.#raise(event);
        }
    }

    /** The history says that something was scheduled: so must the code have done. */
    #confirm(event, { kind, name, what }) {
        const id = event.EventId;
        const code = this.#unconfirmed.get(id);
        this.#unconfirmed.delete(id);
        const recorded = called({ what, name: event[name] });
        if (code === undefined && id >= this.#ids) throw diverged(id, recorded, undefined);
        if (code !== undefined && (code.kind !== kind || (name !== undefined && code.name !== event[name])))
            throw diverged(id, recorded, code);
        // An entity answers by an event that has the name of the message.
        if (kind === "sent" && this.#open.has(id)) {
            const task = this.#open.get(id);
            this.#open.delete(id);
            this.#open.set(JSON.parse(event.Input).id, task);
        }
    }

    #settle(event, { kind, id: key, what }) {
        const id = event[key];
        if (!(id < this.#ids)) throw diverged(id, what, undefined);
        const task = this.#open.get(id);
        // Settled already: the first outcome stays.
        if (task === undefined) return;
        if (task.subject.kind !== kind) throw diverged(id, what, task.subject);
        this.#open.delete(id);
        this.replaying = event.IsPlayed ?? false;
        task.settle(...outcome(event));
    }

    #raise(event) {
        const name = event.Name;
        // A kept execution was not told the message's name; our cloud tells the task, too.
        const key = this.#open.has(name) ? name : event.TaskScheduledId;
        const call = this.#open.get(key);
        const waiting = this.#waiting.get(name);
        if (call !== undefined) {
            this.#open.delete(key);
            this.replaying = event.IsPlayed ?? false;
            call.settle(...answer(outcome(event)[1]));
        } else if (waiting?.length > 0) {
            this.replaying = event.IsPlayed ?? false;
            waiting.pop().settle(...outcome(event));
        } else {
            const buffered = this.#buffered.get(name) ?? [];
            buffered.push(outcome(event)[1]);
            this.#buffered.set(name, buffered);
        }
    }

    // The generator.

    async #step() {
        const { isFaulted, result } = this.#current;
        const loud = this.replaying ? hush() : undefined;
        try {
            let step = isFaulted ? this.#generator.throw(result) : this.#generator.next(result);
            if (typeof step?.then === "function") step = await soon(step, () => this.#place());
            this.#accept(step);
        } catch (error) {
            this.#failure = { error };
        } finally {
            loud?.();
        }
    }

    #accept({ done, value }) {
        if (done) {
            this.#output = stored("what the orchestrator returned", value);
            this.#returned = true;
            return;
        }
        this.#yields += 1;
        // `yield ctx.df.continueAsNew(…)` is how programs for the library 1.x end.
        if (this.#continued && value === undefined) {
            this.#current = undefined;
            return;
        }
        if (!(value instanceof Task) || value.execution !== this) throw notTask(value, this.#place());
        this.#current = value;
        if (this.#continued || value.isCompleted) return;
        this.#track(value);
        if (!this.#yielded.has(value)) this.#actions.push(this.#fresh(value));
    }

    /** Gives ids to what is yielded for the first time, and events to those who wait for one that came before. */
    #track(task) {
        if (task.children.length > 0) {
            task.began?.(this.#now);
            task.children.forEach((child) => this.#track(child));
        } else if (task.action === undefined || task.isCompleted) {
            // A step of a retry has its id already.
        } else if (waits(task)) {
            if (this.#lined.has(task)) return;
            this.#lined.add(task);
            this.#wait(task, task.action.externalEventName);
        } else if (task.action.id === undefined && !isCompound(task.action)) {
            this.section.check(task.action, true);
            task.action.id = this.allot(task);
        }
    }

    #wait(task, name) {
        const buffered = this.#buffered.get(name);
        if (buffered !== undefined) {
            const value = buffered.shift();
            if (buffered.length === 0) this.#buffered.delete(name);
            task.settle(false, value);
            return;
        }
        const waiting = this.#waiting.get(name) ?? [];
        waiting.push(task);
        this.#waiting.set(name, waiting);
    }

    /** The action of a task, without what an earlier one had in it: an action is sent once. */
    #fresh(task) {
        this.#yielded.add(task);
        const { action, children } = task;
        if (!isCompound(action)) {
            children.forEach((child) => this.#yielded.add(child));
            this.#new += 1;
            return action;
        }
        const compoundActions = [];
        for (const child of children) {
            if (!this.#yielded.has(child)) compoundActions.push(this.#fresh(child));
        }
        return { ...action, compoundActions };
    }

    #emit(action) {
        this.#new += 1;
        this.#actions.push(action);
    }

    /** Where the program is, for errors: which of its yields, and after what. */
    #place() {
        const last = this.#current?.action === undefined ? undefined : subject(this.#current.action);
        const after = last?.name === undefined ? "" : `, after the ${last.what} "${last.name}"`;
        return `yield number ${this.#yields}${after}`;
    }

    /** The state of the turn; what it has, the next one has not. */
    #take() {
        const state = {
            isDone: this.#failure === undefined && (this.#returned || this.#continued),
            actions: [this.#actions],
            output: this.#output,
            customStatus: this.customStatus ?? undefined,
            schemaVersion: SCHEMA,
        };
        if (this.#failure !== undefined) Object.assign(state, described(this.#failure.error));
        if (this.#retries.length > 0) state.retries = this.#retries;
        if (this.#canceled.length > 0) state.canceled = this.#canceled;
        this.#emitted += this.#new;
        this.#new = 0;
        this.#firstNewId = this.#ids;
        this.#actions = [];
        this.#retries = [];
        this.#canceled = [];
        return state;
    }
}

function described(error) {
    const { code, stack } = error ?? {};
    return {
        error: textOf(error),
        code: typeof code === "string" ? code : undefined,
        stack: typeof stack === "string" ? stack : undefined,
    };
}
