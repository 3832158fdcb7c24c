const cloud = require("@tandem/cloud");

// A container of its own for each tick. It finds the tick in its environment.
const report = new cloud.Task("report", { build: "./report", memoryReservation: 64 });

// Again and again, by the time that passes.
cloud.timer.interval("heartbeat", { seconds: 2 }, async ({ scheduledTime, previousTime }) => {
    const late = Date.now() - Date.parse(scheduledTime);
    console.log(`*** Heartbeat of ${scheduledTime}, ${late} ms late; the one before was ${previousTime ?? "none"}.`);
});

// A task needs no function between.
cloud.timer.interval("reporting", { seconds: 3 }, report);

// By the clock on a wall in Berlin, whether or not it is daylight saving time. AWS's form; a crontab's works, too.
cloud.timer.cron("cleanup", "cron(30 3 ? * MON-FRI *)", async (tick) => {
    console.log(`*** Cleaning up, for ${tick.scheduledTime}.`);
}, { timeZone: "Europe/Berlin" });

cloud.timer.daily("digest", { hour: 6 }, async () => {
    console.log("*** Good morning.");
}, { timeZone: "Asia/Tokyo" });
