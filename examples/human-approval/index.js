const cloud = require("@tandem/cloud");
const df = require("durable-functions");

new cloud.Function("request", async (expense) => {
    console.log(`*** ${expense.who} asks for ${expense.amount}`);
    return expense.amount;
});
new cloud.Function("pay", async (amount) => `paid ${amount}`);
new cloud.Function("escalate", async (amount) => `asked somebody else about ${amount}`);

// Waits for a person, but not for ever. While it waits, it is rows on a disk: no process, no memory.
new cloud.Workflow("approval", df.orchestrator(function* (context) {
    const expense = context.df.getInput();
    const amount = yield context.df.callActivity("request", expense);
    const deadline = new Date(context.df.currentUtcDateTime.getTime() + expense.seconds * 1000);
    const timeout = context.df.createTimer(deadline);
    const approval = context.df.waitForExternalEvent("approval");
    const first = yield context.df.Task.any([approval, timeout]);
    if (first === timeout) return yield context.df.callActivity("escalate", amount);
    timeout.cancel();
    if (!approval.result.approved) return "refused";
    return yield context.df.callActivity("pay", amount);
}));
