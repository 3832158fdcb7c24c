//! What a user can get wrong, and what Tandem says then.

use std::{net::TcpListener, os::unix::process::CommandExt};

use crate::harness::{Cloud, Gate, Ran, binary};

/// A program with one function behind a bucket, and how it handles.
fn handler(body: &str, options: &str) -> String {
    format!(
        r#"
const cloud = require("@tandem/cloud");
const bucket = new cloud.Bucket("bucket");
bucket.onPut("good", async (args) => console.log(`good ${{args.key}}`), {{ keySuffix: ".good" }});
new cloud.Function("bad", async (event) => {{
{body}
}}, {options});
exports.bucket = bucket.id;
"#
    )
}

/// Deploys a function that misbehaves, invokes it, checks what is said, and that the cloud goes on.
fn misbehaves(body: &str, options: &str, expected: &[&str]) {
    let cloud = Cloud::new();
    let project = cloud.project("misbehaves", &[("index.js", &handler(body, options))]);
    project.up();
    cloud.observe();
    let ran = project.tandem(&["invoke", "bad", "{}"]);
    assert_eq!(ran.code, Some(1), "{}", ran.all());
    for text in expected {
        assert!(ran.stderr.contains(text), "expected `{text}`:\n{}", ran.all());
    }
    let client = cloud.client(&project);
    let bucket = project.output("bucket");
    let mut log = cloud.log(&project);
    client.boto3("s3.put_object(Bucket=arguments[0], Key='a.good', Body=b'')", &[&bucket]).ok();
    log.wait_for("good a.good");
    drop(log);
    project.destroy();
}

#[test]
fn a_handler_that_throws_is_shown_with_its_place() {
    misbehaves("    throw new TypeError(\"no such thing\");", "{}", &["no such thing", "index.js:6"]);
}

#[test]
fn a_handler_that_never_returns_is_ended_at_its_timeout() {
    misbehaves("    for (;;) {}", "{ timeout: 1 }", &["1 s"]);
}

#[test]
fn a_handler_that_waits_too_long_is_ended_at_its_timeout() {
    let body = "    await new Promise((resolve) => setTimeout(resolve, 3600000));";
    misbehaves(body, "{ timeout: 1 }", &["1 s"]);
}

#[test]
fn a_handler_that_waits_for_nothing_is_told_without_waiting() {
    misbehaves("    await new Promise(() => {});", "{ timeout: 900 }", &["never settles"]);
}

#[test]
fn a_handler_that_eats_memory_is_ended_at_its_limit() {
    let body = "    const eaten = []; for (;;) { eaten.push(new Uint8Array(1 << 20).fill(1)); }";
    misbehaves(body, "{ memory: 64 }", &["memory"]);
}

#[test]
fn a_syntax_error_names_file_line_and_column() {
    let cloud = Cloud::new();
    let program = "const cloud = require(\"@tandem/cloud\");\nconst bucket = new cloud.Bucket(\"bucket\";\n";
    let project = cloud.project("broken", &[("index.js", program)]);
    project.tandem(&["preview"]).refused().says("index.js:2");
}

#[test]
fn a_missing_module_is_named_with_who_asked_for_it() {
    let cloud = Cloud::new();
    let project = cloud.project("missing", &[("index.js", "\nrequire(\"./nowhere\");\n")]);
    project.tandem(&["preview"]).refused().says("./nowhere").says("index.js:2");
}

#[test]
fn two_resources_of_one_name_are_shown_at_both_places() {
    let cloud = Cloud::new();
    let program =
        "const cloud = require(\"@tandem/cloud\");\nnew cloud.Bucket(\"b\");\nnew cloud.Bucket(\"b\");\n";
    let project = cloud.project("twice", &[("index.js", program)]);
    project.tandem(&["preview"]).refused().says("index.js:2").says("index.js:3");
}

#[test]
fn an_error_thrown_by_a_program_shows_the_users_own_frame() {
    let cloud = Cloud::new();
    let library = "exports.fail = () => {\n    throw new Error(\"out of luck\");\n};\n";
    let program = "const { fail } = require(\"./lib/library\");\n\nfail();\n";
    let project = cloud.project("throws", &[("index.js", program), ("lib/library.js", library)]);
    project.tandem(&["preview"]).refused().says("out of luck").says("lib/library.js:2").says("index.js:3");
}

const TASK: &str = r#"
const cloud = require("@tandem/cloud");
new cloud.Task("job", { build: "./image" });
"#;

#[test]
fn a_dockerfile_that_fails_is_shown_with_its_instruction_and_last_lines() {
    let cloud = Cloud::new();
    cloud.import_busybox();
    let dockerfile = "FROM busybox\nRUN echo before\nRUN echo about to fail; exit 9\n";
    let project = cloud.project("fails", &[("index.js", TASK), ("image/Dockerfile", dockerfile)]);
    let failed = project.tandem(&["up", "--yes"]).failed("E0402").says("about to fail");
    assert!(failed.stderr.contains("RUN echo about to fail; exit 9"), "{}", failed.all());
    // Mended, it goes on from there.
    project.edit("image/Dockerfile", "FROM busybox\nRUN echo before\nCMD [\"echo\", \"it works\"]\n");
    project.up();
    let run = project.tandem(&["run", "job"]).ok();
    assert!(run.all().contains("it works"), "{}", run.all());
    cloud.observe();
    project.destroy();
}

#[test]
fn a_missing_base_image_says_how_to_get_it() {
    let cloud = Cloud::new();
    let dockerfile = "FROM localhost:1/nobody/nothing:none\n";
    let project = cloud.project("baseless", &[("index.js", TASK), ("image/Dockerfile", dockerfile)]);
    project
        .tandem(&["up", "--yes"])
        .failed("E0403")
        .says("tandem image import localhost:1/nobody/nothing:none");
    project.destroy();
}

#[test]
fn a_missing_tool_is_named_with_its_package() {
    let cloud = Cloud::new();
    let _serving = cloud.serve_with(&[("PATH", "/nonexistent")]);
    let project = cloud.project("tools", &[("index.js", TASK), ("image/Dockerfile", "FROM busybox\n")]);
    project.tandem(&["up", "--yes"]).failed("E0401").says("apt-get install");
    project.destroy();
}

#[test]
fn without_root_the_cloud_says_that_it_needs_it() {
    let cloud = Cloud::new();
    let home = cloud.scratch().join("home-of-nobody");
    std::fs::create_dir(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(65534), Some(65534)).unwrap();
    // Nobody may not read our folders: a copy of the binary where everyone may.
    std::fs::set_permissions(cloud.scratch(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let copy = cloud.scratch().join("tandem");
    std::fs::copy(binary(), &copy).unwrap();
    let mut command = std::process::Command::new(copy);
    Ran::run(command.arg("serve").env("TANDEM_HOME", home).uid(65534).gid(65534)).refused().says("root");
}

#[test]
fn a_resource_that_waits_for_itself_is_named() {
    let cloud = Cloud::new();
    let program = r#"
const cloud = require("@tandem/cloud");
const pulumi = require("@pulumi/pulumi");
let tell;
const own = new Promise((resolve) => { tell = resolve; });
const ouroboros = new cloud.Bucket("ouroboros", { bucketName: pulumi.output(own) });
ouroboros.id.apply(tell);
"#;
    let project = cloud.project("cycle", &[("index.js", program)]);
    project.tandem(&["up", "--yes"]).refused().says("ouroboros");
}

#[test]
fn run_exits_with_the_containers_own_code_and_takes_its_environment() {
    let cloud = Cloud::new();
    cloud.import_busybox();
    let program = r#"
const cloud = require("@tandem/cloud");
new cloud.Task("job", { image: "busybox", command: ["sh", "-c", "echo $WORD; echo complaint >&2; exit $CODE"] });
"#;
    let project = cloud.project("codes", &[("index.js", program)]);
    project.up();
    let run = project.tandem(&["run", "job", "--env", "WORD=hello", "--env", "CODE=42"]);
    assert_eq!(run.code, Some(42), "{}", run.all());
    assert!(run.all().contains("hello") && run.all().contains("complaint"), "{}", run.all());
    cloud.observe();
    project.destroy();
}

#[test]
fn a_container_that_eats_memory_is_told_apart_from_one_that_fails() {
    let cloud = Cloud::new();
    cloud.import_busybox();
    let program = r#"
const cloud = require("@tandem/cloud");
new cloud.Task("job", { image: "busybox", memory: 32, command: ["sh", "-c", "tail /dev/zero"] });
"#;
    let project = cloud.project("hungry", &[("index.js", program)]);
    project.up();
    let run = project.tandem(&["run", "job"]);
    assert_eq!(run.code, Some(137), "{}", run.all());
    assert!(run.stderr.contains("memory"), "{}", run.all());
    project.destroy();
}

#[test]
fn a_second_up_waits_for_nobody_and_names_who_holds_the_lock() {
    let cloud = Cloud::new();
    cloud.import_busybox();
    let mut gate = Gate::shut();
    let dockerfile = format!("FROM busybox\nRUN {}\n", gate.command("building"));
    let project = cloud.project("locked", &[("index.js", TASK), ("image/Dockerfile", &dockerfile)]);
    let mut first = project.command().args(["up", "--yes"]).spawn().unwrap();
    let visit = gate.wait_for("building");
    project.tandem(&["up", "--yes"]).refused().says(&first.id().to_string());
    visit.release();
    assert!(first.wait().unwrap().success());
    project.destroy();
}

#[test]
fn a_taken_port_is_an_error_and_the_cloud_never_moves() {
    let cloud = Cloud::new();
    let project = cloud.project("port", &[("index.js", "exports.word = \"here\";\n")]);
    project.up();
    let endpoint = cloud.client(&project).variable("AWS_ENDPOINT_URL").to_owned();
    cloud.tandem(&["serve", "--stop"]).ok();
    let address = endpoint.strip_prefix("http://").unwrap().trim_end_matches('/').to_owned();
    let taken = TcpListener::bind(&address).unwrap();
    cloud.tandem(&["serve", "--detach"]).refused().says(&address);
    drop(taken);
    cloud.tandem(&["serve", "--detach"]).ok();
    assert_eq!(cloud.client(&project).variable("AWS_ENDPOINT_URL"), endpoint);
    assert_eq!(project.output("word"), "here");
    project.destroy();
}

#[test]
fn a_wrong_signature_is_refused_as_s3_refuses_it() {
    let cloud = Cloud::new();
    let project = cloud.project("signed", &[("index.js", &handler("", "{}"))]);
    project.up();
    let bucket = project.output("bucket");
    let client = cloud.client(&project);
    let refusal = "\
try:
    s3.put_object(Bucket=arguments[0], Key='k', Body=b'x')
    print('accepted')
except ClientError as error:
    print(error.response['Error']['Code'])
";
    let wrong_secret = client.with("AWS_SECRET_ACCESS_KEY", "wrong").boto3(refusal, &[&bucket]).ok();
    assert_eq!(wrong_secret.value(), "SignatureDoesNotMatch", "{}", wrong_secret.all());
    let wrong_key = client.with("AWS_ACCESS_KEY_ID", "AKIAWRONG").boto3(refusal, &[&bucket]).ok();
    assert_eq!(wrong_key.value(), "InvalidAccessKeyId", "{}", wrong_key.all());
    let right = client.boto3(refusal, &[&bucket]).ok();
    assert_eq!(right.value(), "accepted", "{}", right.all());
    project.destroy();
}

#[test]
fn odd_keys_arrive_as_they_were_sent() {
    let cloud = Cloud::new();
    let program = r#"
const cloud = require("@tandem/cloud");
const bucket = new cloud.Bucket("bucket");
bucket.onPut("echo", async (args) => {
    const body = await bucket.get(args.key);
    console.log(`${args.key.length} ${JSON.stringify(args.key)} ${body.toString()}`);
});
exports.bucket = bucket.id;
"#;
    let project = cloud.project("keys", &[("index.js", program)]);
    project.up();
    let bucket = project.output("bucket");
    let client = cloud.client(&project);
    let mut log = cloud.log(&project);
    let round_trip = "\
keys = ['a/../b', '../up', 'with space', 'plus+and%25', 'ünï/ćødé/日本', 'a//b/', 'k' * 1024, '?query&x=1#f']
for key in keys:
    s3.put_object(Bucket=arguments[0], Key=key, Body=key[:5].encode())
    assert s3.get_object(Bucket=arguments[0], Key=key)['Body'].read() == key[:5].encode(), key
listed = [o['Key'] for o in s3.list_objects_v2(Bucket=arguments[0])['Contents']]
assert sorted(listed) == sorted(keys), listed
try:
    s3.put_object(Bucket=arguments[0], Key='k' * 1025, Body=b'')
    print('accepted')
except ClientError as error:
    print(error.response['Error']['Code'])
";
    assert_eq!(client.boto3(round_trip, &[&bucket]).ok().value(), "KeyTooLongError");
    for expected in [
        "\"a/../b\" a/../",
        "\"../up\" ../up",
        "\"with space\" with ",
        "\"ünï/ćødé/日本\" ünï/ć",
        "1024 \"kkk",
    ] {
        log.wait_for(expected);
    }
    drop(log);
    project.destroy();
}

#[test]
fn a_bucket_with_something_in_it_is_not_destroyed_unasked() {
    let cloud = Cloud::new();
    let project = cloud.project("full", &[("index.js", &handler("", "{}"))]);
    project.up();
    let bucket = project.output("bucket");
    let client = cloud.client(&project);
    client.boto3("s3.put_object(Bucket=arguments[0], Key='k', Body=b'abc')", &[&bucket]).ok();
    project.tandem(&["destroy", "--yes"]).refused().says("1 object");
    let kept =
        client.boto3("print(s3.get_object(Bucket=arguments[0], Key='k')['Body'].read())", &[&bucket]).ok();
    assert_eq!(kept.value(), "b'abc'");
    project.destroy();
}

#[test]
fn commands_without_a_project_or_with_a_wrong_word_say_so() {
    let cloud = Cloud::new();
    cloud.tandem(&["preview"]).refused().says("Tandem.yaml");
    let usage = cloud.tandem(&["uo"]);
    assert_eq!(usage.code, Some(2), "{}", usage.all());
    let explained = cloud.tandem(&["explain", "E0402"]).ok();
    assert!(explained.stdout.contains("E0402"), "{}", explained.all());
}
