const cloud = require("@tandem/cloud");
const df = require("durable-functions");

new cloud.Function("count", async ({ text }) => text.split(/\s+/).filter(Boolean).length);

// Counts the words of many texts at once, and adds the counts up.
new cloud.Workflow("words", df.orchestrator(function* (context) {
    const texts = context.df.getInput();
    const counts = yield context.df.Task.all(texts.map((text) => context.df.callActivity("count", { text })));
    return counts.reduce((sum, count) => sum + count, 0);
}));
