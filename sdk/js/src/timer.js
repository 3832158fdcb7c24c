// Timers: handlers that run at times. The schedules themselves are read by the cloud, in a preview already.

import { checkOptions, checkType, invalid, shown } from "./check.js";
import { Subscription, consumerOf, isDeclared } from "./consumer.js";
import { Resource } from "./resource.js";

const TICK = "dev.tandem.timer.tick";

/** Unit of an interval → its seconds. */
const UNITS = { seconds: 1, minutes: 60, hours: 3600, days: 86400, weeks: 604800 };

class Timer extends Resource {
    constructor(name, inputs, options) {
        super("timer", name, inputs, [], options);
    }
}

/** Ticks again and again, so much time after the last tick. */
export function interval(name, rate, handler, options) {
    const inputs = (key) => {
        const given = checkOptions(`the interval of ${key}`, rate, Object.keys(UNITS));
        let every = 0;
        for (const [unit, value] of Object.entries(given)) {
            if (typeof value !== "number" || !Number.isFinite(value))
                throw invalid(`\`${unit}\` of ${key} is a number, not ${shown(value)}`, "write for example `{ minutes: 5 }`");
            every += value * UNITS[unit];
        }
        return { every };
    };
    declare("interval", name, inputs, handler, options, []);
}

/** Ticks when a cron expression comes true: of five fields as in a crontab, or of six as on AWS. */
export function cron(name, cronTab, handler, options) {
    const inputs = (key, { timeZone }) => {
        if (cronTab === undefined || cronTab === null)
            throw invalid(`the schedule of ${key} is a cron expression, not ${shown(cronTab)}`, 'write for example "0 12 * * *"');
        checkType(key, "cronTab", cronTab, ["string"]);
        return { cron: cronTab, timeZone };
    };
    declare("cron", name, inputs, handler, options, ["timeZone"]);
}

/** Ticks once a day: at midnight, or at the time that the schedule names. */
export function daily(name, schedule, handler, options) {
    if (isConsumer(schedule)) return daily(name, undefined, schedule, handler);
    const inputs = (key, { timeZone }) => {
        const { hour, minute } = timeOf(key, schedule, timeZone, ["hour", "minute"]);
        return { cron: `${minute} ${hour} * * *`, timeZone };
    };
    declare("daily", name, inputs, handler, options, ["timeZone"]);
}

/** Ticks once an hour: on the hour, or at the minute that the schedule names. */
export function hourly(name, schedule, handler, options) {
    if (isConsumer(schedule)) return hourly(name, undefined, schedule, handler);
    const inputs = (key, { timeZone }) => {
        const { minute } = timeOf(key, schedule, timeZone, ["minute"]);
        return { cron: `${minute} * * * *`, timeZone };
    };
    declare("hourly", name, inputs, handler, options, ["timeZone"]);
}

/** Ticks once. */
export function at(name, date, handler, options) {
    const inputs = (key) => {
        const wrong = () =>
            invalid(
                `the date of ${key} is a Date or a text, not ${date instanceof Date ? "an invalid Date" : shown(date)}`,
                'write for example `new Date("2027-01-31T12:00:00Z")`',
            );
        if (date === undefined || date === null) throw wrong();
        if (!(date instanceof Date)) {
            checkType(key, "date", date, ["string"]);
            return { at: date };
        }
        if (Number.isNaN(date.getTime())) throw wrong();
        return { at: date.toISOString() };
    };
    declare("at", name, inputs, handler, options, []);
}

function isConsumer(value) {
    return typeof value === "function" || isDeclared(value);
}

function declare(method, name, inputs, handler, options, own) {
    const { dependsOn, ...given } = options ?? {};
    const timer = new Timer(
        name,
        (key) => {
            const { timeZone } = checkOptions(key, given, own);
            checkType(key, "timeZone", timeZone, ["string"]);
            return inputs(key, { timeZone });
        },
        { dependsOn },
    );
    const consumer = consumerOf(`${timer.declaration.key}.${method}`, name, handler, ({ data }) => data);
    new Subscription(name, timer, consumer, [TICK], {});
}

/** `hourUTC` and `minuteUTC`, as `@pulumi/cloud` has them; or `hour` and `minute`, in the timer's time zone. */
function timeOf(key, schedule, timeZone, parts) {
    const given = checkOptions(
        `the schedule of ${key}`,
        schedule,
        parts.flatMap((part) => [`${part}UTC`, part]),
    );
    const time = {};
    for (const [part, last] of [
        ["hour", 23],
        ["minute", 59],
    ]) {
        const [utc, local] = [given[`${part}UTC`], given[part]];
        if (utc !== undefined && timeZone !== undefined && timeZone !== "UTC")
            throw invalid(`\`${part}UTC\` of ${key} is in UTC, and its time zone is another one`, `write \`${part}\``);
        if (utc !== undefined && local !== undefined)
            throw invalid(`${key} has both \`${part}\` and \`${part}UTC\``, "give one of them");
        const value = local ?? utc ?? 0;
        if (!Number.isInteger(value) || value < 0 || value > last)
            throw invalid(
                `\`${local === undefined ? part + "UTC" : part}\` of ${key} is a whole number from 0 to ${last}, not ${shown(value)}`,
                "",
            );
        time[part] = value;
    }
    return time;
}
