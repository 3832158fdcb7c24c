const cloud = require("@tandem/cloud");
const { recorded } = require("./posts");
const { add, empty, merge, told, windowOf } = require("./analysis");

// The posts of a user keep their order; those of different users go to different parts of the stream.
const posts = new cloud.Stream("posts", { shards: 2, forceDestroy: true });
const results = new cloud.Bucket("results", { forceDestroy: true });

// Plays the recording into the stream.
new cloud.Function("replay", async (recording) => {
    const all = [...recorded(recording ?? {})];
    for (let at = 0; at < all.length; at += 500) {
        await posts.putBatch(all.slice(at, at + 500).map((post) => ({ key: post.user, value: post })));
    }
    return { put: all.length };
});

/** An object of the bucket, if it is there. */
async function read(key) {
    try {
        return JSON.parse((await results.get(key)).toString());
    } catch (error) {
        if (error.code === "E0515") return undefined;
        throw error;
    }
}

// One minute of each part of the stream is one object. It says up to which record it counts, and what comes again after a crash
// is left out: so each post is counted once, though it may be handled twice.
posts.subscribe("analyze", async (records) => {
    const windows = new Map();
    for (const record of records) {
        const key = `windows/${windowOf(record.value)}/${record.shard}.json`;
        if (!windows.has(key)) {
            windows.set(key, (await read(key)) ?? { upTo: "0", sums: empty() });
        }
        const window = windows.get(key);
        if (BigInt(record.sequenceNumber) <= BigInt(window.upTo)) continue;
        add(window.sums, record.value);
        window.upTo = record.sequenceNumber;
    }
    for (const [key, window] of windows) await results.put(key, JSON.stringify(window));
    console.log(`*** Analyzed ${records.length} posts of ${records[0].shard}.`);
}, { batchSize: 200, batchWindow: 0.2 });

// Puts the parts together.
new cloud.Function("report", async () => {
    const windows = {};
    for (const { key } of await results.list("windows/")) {
        const [, start] = key.split("/");
        const { sums } = await read(key);
        windows[start] = merge(windows[start] ?? empty(), sums);
    }
    const report = Object.fromEntries(Object.entries(windows).map(([start, sums]) => [start, told(sums)]));
    await results.put("report.json", JSON.stringify(report, null, 4));
    return report;
});

exports.posts = posts.name;
exports.results = results.id;
