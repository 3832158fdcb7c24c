//! `examples/video-thumbnailer`, from `preview` to `destroy`.

use std::{fs, path::Path, process::Command};

use crate::harness::{Cloud, Project, Ran, examples, prepared};

/// The program as the slide "Defining the app in Pulumi" shows it. It leaves out two things: the `require` line, and how
/// `framePos` is got.
const SLIDE: &str = r#"let bucket = new cloud.Bucket("bucket");

bucket.onPut("onNewThumbnail", async (bucketArgs) => {
    console.log(`*** New thumbnail: file ${bucketArgs.key}.`);
}, { keySuffix: ".jpg" });

let ffmpegTask = new cloud.Task("ffmpegTask", {
    build: "./docker-folder",
    memoryReservation: 512,
});

bucket.onPut("onNewVideo", async (bucketArgs) => {
    const file = bucketArgs.key;
    const framePos = ... // extract timestamp from filename
    await ffmpegTask.run({
        environment: {
            "S3_BUCKET": bucket.id.get(),
            "INPUT_VIDEO": file,
            "TIME_OFFSET": framePos,
            "OUTPUT_FILE": file + '.jpg',
        },
    });
}, { keySuffix: ".mp4" });
"#;

const SLIDE_DOCKERFILE: &str = r"FROM jrottenberg/ffmpeg

RUN apt-get update && \
    apt-get install python-dev python-pip -y && \
    apt-get clean

RUN pip install awscli

WORKDIR /tmp/workdir

ENTRYPOINT \
  aws s3 cp s3://${S3_BUCKET}/${INPUT_VIDEO} ./${INPUT_VIDEO} && \
  ffmpeg -i ./${INPUT_VIDEO} -ss ${TIME_OFFSET} -vframes 1 -f image2 -an -y ${OUTPUT_FILE} && \
  aws s3 cp ./${OUTPUT_FILE} s3://${S3_BUCKET}/${OUTPUT_FILE}
";

#[test]
fn the_example_is_the_slide_with_only_its_gaps_filled() {
    let folder = examples().join("video-thumbnailer");
    let program = fs::read_to_string(folder.join("index.js")).unwrap();
    let shown = program
        .strip_prefix("const cloud = require(\"@pulumi/cloud\");\n\n")
        .and_then(|rest| rest.strip_suffix("\nexports.bucket = bucket.id;\n"))
        .expect("the require line, the slide, the export");
    let (before, after) = SLIDE.split_once("...").unwrap();
    let filled =
        shown.strip_prefix(before).and_then(|rest| rest.strip_suffix(after)).expect("the slide's own lines");
    assert!(!filled.contains('\n'), "`framePos` is one expression: {filled}");
    let dockerfile = fs::read_to_string(folder.join("docker-folder/Dockerfile")).unwrap();
    assert_eq!(dockerfile, SLIDE_DOCKERFILE);
}

#[test]
fn a_video_put_into_the_bucket_gets_the_thumbnail_it_asks_for() {
    let cloud = Cloud::new();
    let project = Project::example(&cloud, "video-thumbnailer");

    // Before there is anything: the preview shows what would be, and changes nothing.
    let preview = project.tandem(&["preview"]).ok();
    for name in ["bucket", "ffmpegTask", "onNewVideo", "onNewThumbnail"] {
        assert!(preview.all().contains(name), "{}", preview.all());
    }
    cloud.import_ffmpeg();
    let images = project.tandem(&["image", "ls"]).ok();
    assert!(images.stdout.contains("docker.io/jrottenberg/ffmpeg"), "{}", images.all());

    project.up();
    cloud.observe();
    assert!(project.tandem(&["preview"]).ok().all().contains("Nothing to do"));

    // One video through every layer, by a stock client.
    let bucket = project.output("bucket");
    let client = cloud.client(&project);
    let video = prepared("TANDEM_TEST_VIDEO");
    let mut log = cloud.log(&project);
    client.aws(&["s3", "cp", video.to_str().unwrap(), &format!("s3://{bucket}/cat_00-01.mp4")]).ok();
    log.wait_for("Stream mapping:");
    cloud.observe();
    let line = log.wait_for("*** New thumbnail: file cat_00-01.mp4.jpg.");
    assert!(line.resource.contains("onNewThumbnail"), "{line:?}");
    let thumbnail = cloud.scratch().join("thumbnail.jpg");
    client.aws(&["s3", "cp", &format!("s3://{bucket}/cat_00-01.mp4.jpg"), thumbnail.to_str().unwrap()]).ok();
    assert_frame_at_one_second(cloud.scratch(), &video, &thumbnail);

    // An edit changes nothing until the next `up`.
    let program = fs::read_to_string(project.folder().join("index.js")).unwrap();
    project.edit("index.js", &program.replace("*** New thumbnail", "*** Edited"));
    client.aws(&["s3", "cp", thumbnail.to_str().unwrap(), &format!("s3://{bucket}/again.jpg")]).ok();
    log.wait_for("*** New thumbnail: file again.jpg.");
    let preview = project.tandem(&["preview"]).ok();
    assert!(
        preview.all().contains("onNewThumbnail") && !preview.all().contains("Nothing to do"),
        "{}",
        preview.all()
    );
    project.up();
    client.aws(&["s3", "cp", thumbnail.to_str().unwrap(), &format!("s3://{bucket}/after.jpg")]).ok();
    log.wait_for("*** Edited: file after.jpg.");
    assert!(
        !log.texts().iter().any(|text| text.contains("New thumbnail: file after.jpg")),
        "{:?}",
        log.texts()
    );

    // Nothing is left: first of the stack, then, as the cloud is dropped, of the cloud.
    drop(log);
    cloud.observe();
    project.tandem(&["destroy", "--yes"]).refused().says("4 objects");
    project.destroy();
    assert!(cloud.mounts().is_empty(), "{:?}", cloud.mounts());
    let gone = client.aws(&["s3", "ls", &format!("s3://{bucket}")]);
    assert_ne!(gone.code, Some(0), "{}", gone.all());
    assert!(!cloud.processes().iter().any(|process| process.contains("conmon")), "{:?}", cloud.processes());
}

/// The picture must be the frame that ffmpeg itself takes at 00:01, and not the one a tenth of a second later.
fn assert_frame_at_one_second(scratch: &Path, video: &Path, thumbnail: &Path) {
    let expected = scratch.join("expected.jpg");
    extract(video, "00:01", &expected);
    let likeness = psnr(thumbnail, &expected);
    assert!(likeness > 40.0, "the thumbnail is not the frame at 00:01: PSNR {likeness} dB");
    let other = scratch.join("other.jpg");
    extract(video, "00:01.1", &other);
    let likeness = psnr(thumbnail, &other);
    assert!(likeness < 30.0, "the frames of this video cannot be told apart: PSNR {likeness} dB");
}

fn extract(video: &Path, at: &str, picture: &Path) {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-nostdin", "-loglevel", "error", "-i"]).arg(video);
    Ran::run(ffmpeg.args(["-ss", at, "-vframes", "1", "-f", "image2", "-an", "-y"]).arg(picture)).ok();
}

/// The peak signal-to-noise ratio of two pictures in decibels; infinite if they are the same.
fn psnr(one: &Path, other: &Path) -> f64 {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-nostdin", "-hide_banner", "-i"]).arg(one).arg("-i").arg(other);
    let ran = Ran::run(ffmpeg.args(["-lavfi", "psnr", "-f", "null", "-"])).ok();
    let average = ran.stderr.split("average:").nth(1).and_then(|rest| rest.split_whitespace().next());
    let average = average.unwrap_or_else(|| panic!("no PSNR: {}", ran.all()));
    if average == "inf" { f64::INFINITY } else { average.parse().unwrap() }
}
