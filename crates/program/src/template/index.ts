import * as cloud from "@tandem/cloud";

// A bucket. Put a file into it:  aws s3 cp notes.txt s3://$(tandem stack output bucket)/
const files = new cloud.Bucket("files");

// Runs for every file that is put; `tandem logs` shows what it prints.
files.onPut("onNewFile", async ({ key, size }) => {
    console.log(`${key} has ${size} bytes`);
});

export const bucket = files.id;
