const cloud = require("@tandem/cloud");

// A bucket. Put a file into it:  aws s3 cp notes.txt s3://$(tandem stack output bucket)/
const bucket = new cloud.Bucket("files");

// A container, built from the Dockerfile in `worker`. It runs when it is started, and ends.
const worker = new cloud.Task("worker", {
    build: "./worker",
    memoryReservation: 64,
});

// Starts one container for every file that is put; `tandem logs` shows what both print.
bucket.onPut("onNewFile", async ({ key }) => {
    await worker.run({ environment: { KEY: key } });
});

exports.bucket = bucket.id;
