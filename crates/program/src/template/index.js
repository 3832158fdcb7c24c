const cloud = require("@tandem/cloud");

// A bucket. Put a file into it:  aws s3 cp notes.txt s3://$(tandem stack output bucket)/
const bucket = new cloud.Bucket("files");

// Runs for every file that is put; `tandem logs` shows what it prints.
bucket.onPut("onNewFile", async ({ key, size }) => {
    console.log(`${key} has ${size} bytes`);
});

exports.bucket = bucket.id;
