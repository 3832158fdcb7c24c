const cloud = require("@tandem/cloud");
const chain = require("./function-chaining");

// The orchestrator calls these by name, and passes what one returns to the next.
new cloud.Function("F1", async () => "the");
new cloud.Function("F2", async (words) => `${words} work`);
new cloud.Function("F3", async (words) => `${words} is`);
new cloud.Function("F4", async (words) => `${words} done`);

new cloud.Workflow("chain", chain);
