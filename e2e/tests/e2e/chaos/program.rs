//! The program that the schedules work on. Every execution of a handler tells the witness, and prints what it told.

/// The program; another version answers another number. `witness` is a port.
pub(super) fn text(version: u32, witness: u16) -> String {
    format!("const VERSION = {version};\nconst WITNESS = {witness};\n{PROGRAM}")
}

const PROGRAM: &str = r#"
const cloud = require("@tandem/cloud");

const bucket = new cloud.Bucket("bucket");
const marks = new cloud.Bucket("marks");

const job = new cloud.Task("job", {
    image: "docker.io/library/busybox",
    command: ["sh", "-c", "echo begin $TAG; sleep $NAP; echo end $TAG; exit 7"],
    memoryReservation: 16,
});

// Gets its events itself.
const direct = new cloud.Task("direct", {
    image: "docker.io/library/busybox",
    command: ["sh", "-c", "echo job $TANDEM_EVENT"],
    memoryReservation: 16,
});
bucket.onPut("onJob", direct, { keySuffix: ".job" });

const say = async (what, { awsRequestId: id }, kind, name, etag, run = "") => {
    const said = [what, id, kind, name, etag, run].join("~");
    console.log(said);
    await fetch(`http://127.0.0.1:${WITNESS}/${said}`);
};

// Does what the end of the name says.
async function behave(name, context) {
    const id = context.awsRequestId;
    if (name.endsWith(".slow")) await new Promise((done) => setTimeout(done, 30));
    if (name.endsWith(".doomed")) throw new Error("doomed, as asked");
    if (name.endsWith(".flaky")) {
        const known = await marks.list(id);
        if (known.length === 0) {
            await marks.put(id, "failed once");
            throw new Error("flaky, as asked");
        }
    }
    if (name.endsWith(".run") || name.endsWith(".long")) {
        const run = await job.run({ environment: { TAG: id, NAP: name.endsWith(".long") ? "1" : "0" } });
        await say("run", context, "run", name, "", run.id);
    }
}

const onEvent = new cloud.Function("onEvent", async (event, context) => {
    const name = event.data.key;
    const etag = event.data.etag ?? "";
    await say("begin", context, event.type, name, etag);
    if (event.type.endsWith(".put")) await behave(name, context);
    await say("end", context, event.type, name, etag);
});
bucket.onPut("onPut", onEvent);
bucket.onDelete("onDelete", onEvent);

exports.call = new cloud.Function("call", async ({ name }, context) => {
    await say("begin", context, "call", name, "");
    await behave(name, context);
    await say("end", context, "call", name, "");
    return { did: name, version: VERSION };
}).id;

exports.bucket = bucket.id;
"#;
