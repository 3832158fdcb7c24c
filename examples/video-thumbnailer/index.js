const cloud = require("@pulumi/cloud");

let bucket = new cloud.Bucket("bucket");

bucket.onPut("onNewThumbnail", async (bucketArgs) => {
    console.log(`*** New thumbnail: file ${bucketArgs.key}.`);
}, { keySuffix: ".jpg" });

let ffmpegTask = new cloud.Task("ffmpegTask", {
    build: "./docker-folder",
    memoryReservation: 512,
});

bucket.onPut("onNewVideo", async (bucketArgs) => {
    const file = bucketArgs.key;
    const framePos = file.slice(file.lastIndexOf("_") + 1, file.lastIndexOf(".")).replace(/-/g, ":"); // extract timestamp from filename
    await ffmpegTask.run({
        environment: {
            "S3_BUCKET": bucket.id.get(),
            "INPUT_VIDEO": file,
            "TIME_OFFSET": framePos,
            "OUTPUT_FILE": file + '.jpg',
        },
    });
}, { keySuffix: ".mp4" });

exports.bucket = bucket.id;
