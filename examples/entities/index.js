const cloud = require("@tandem/cloud");
const df = require("durable-functions");

// An account for each key. Operations come one after the other, and each counts once, whatever is killed.
const account = new cloud.Entity("account", df.entity((context) => {
    const balance = context.df.getState(() => 0);
    const amount = context.df.getInput();
    switch (context.df.operationName) {
        case "deposit":
            context.df.setState(balance + amount);
            return context.df.return(balance + amount);
        case "withdraw":
            if (balance < amount) throw new Error(`${balance} is not enough for ${amount}`);
            context.df.setState(balance - amount);
            return context.df.return(balance - amount);
    }
}));

new cloud.Workflow("transfer", df.orchestrator(function* (context) {
    const { from, to, amount } = context.df.getInput();
    // What is not there cannot be moved: this throws, and nothing else happens.
    const left = yield context.df.callEntity(new df.EntityId("account", from), "withdraw", amount);
    const now = yield context.df.callEntity(new df.EntityId("account", to), "deposit", amount);
    return { [from]: left, [to]: now };
}));

new cloud.Function("balance", async (name) => (await account.read(name)) ?? 0);
