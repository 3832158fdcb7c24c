import type { Context, Function, Queue, ResourceOptions, Task, Workflow } from "@tandem/cloud";

/** What a timer's handler gets. */
export interface Tick {
    /** The timer's name. */
    timer: string;
    /** The time that has come, in RFC 3339. Of several that were missed, the last. */
    scheduledTime: string;
    /** That of the tick before; absent of the first. */
    previousTime?: string;
}

/** Who gets the ticks: a handler, a function (which gets the whole event), or a task (one run for each tick). */
export type Action = ((tick: Tick, context: Context) => unknown) | Function<any, any> | Task | Workflow | Queue;

/** The parts of an interval; they add up. At least one second. */
export interface IntervalRate {
    seconds?: number;
    minutes?: number;
    hours?: number;
    days?: number;
    weeks?: number;
}

/** A time of day: in UTC, or in the timer's time zone. Midnight if nothing is given. */
export interface DailySchedule extends HourlySchedule {
    hourUTC?: number;
    hour?: number;
}

/** A minute of the hour: in UTC, or in the timer's time zone. */
export interface HourlySchedule {
    minuteUTC?: number;
    minute?: number;
}

export interface TimerOptions extends ResourceOptions {
    /** A name of the IANA database, such as `Europe/Berlin`. UTC if none is given. */
    timeZone?: string;
}

/** Ticks again and again, so much time after the last tick; the first time after one interval. */
export function interval(name: string, rate: IntervalRate, action: Action, options?: ResourceOptions): void;

/**
 * Ticks when a cron expression comes true: of five fields as in a crontab, `0 12 * * MON-FRI`, or of six as on AWS,
 * `cron(0 12 ? * MON-FRI *)` or without `cron(…)`. Also `@daily`, `rate(5 minutes)`.
 *
 * A time that the clock leaves out ticks when it goes on, and a time that comes twice ticks the first time; an expression for
 * every hour goes by the time that passes.
 */
export function cron(name: string, cronTab: string, action: Action, options?: TimerOptions): void;

/** Ticks once a day. */
export function daily(name: string, action: Action, options?: TimerOptions): void;
export function daily(name: string, schedule: DailySchedule, action: Action, options?: TimerOptions): void;

/** Ticks once an hour. */
export function hourly(name: string, action: Action, options?: TimerOptions): void;
export function hourly(name: string, schedule: HourlySchedule, action: Action, options?: TimerOptions): void;

/** Ticks once. A new timer whose time is past is refused. */
export function at(name: string, date: Date | string, action: Action, options?: ResourceOptions): void;
