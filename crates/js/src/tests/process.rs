//! What a program does to the process around it, seen from outside: each of these runs a worker in a child.

use std::process::{Command, Output};

use super::*;

const PROGRAM: &str = "TANDEM_JS_TEST_PROGRAM";

/// Runs the handler `f` of a program in a process of its own.
fn run(body: &str) -> Output {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "tests::process::child", "--ignored", "--nocapture"]).env(PROGRAM, body);
    child.output().unwrap()
}

#[tokio::test]
#[ignore = "is the child of the others"]
async fn child() {
    let body = std::env::var(PROGRAM).unwrap();
    let source =
        format!("const cloud = require('@tandem/cloud'); new cloud.Function('f', async () => {{ {body} }});");
    let answer = invoke(&source, Value::Null).await.unwrap();
    println!("answer: {answer}");
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn console_writes_whole_lines_to_the_right_stream_before_the_answer() {
    let output =
        run("console.log('a\\nb', { x: 1 }); console.error('bad'); console.group('g'); console.log('in'); \
                      process.stdout.write('no line'); return 1;");
    let text = out(&output);
    assert!(text.contains("a\nb "), "{text}");
    assert!(text.contains("\ng\n  in\nno line"), "{text}");
    assert!(text.find("no line") < text.find("answer: 1"), "{text}");
    assert!(err(&output).contains("bad\n"), "{}", err(&output));
}

#[test]
fn a_rejection_that_nobody_handles_is_a_line_on_stderr_and_not_the_end() {
    let output = run("Promise.reject(new Error('lost')); return 1;");
    assert!(err(&output).contains("uncaught Error: lost (index.js:1:"), "{}", err(&output));
    assert!(out(&output).contains("answer: 1"));
}

#[test]
fn an_error_in_a_timer_is_a_line_on_stderr_and_later_timers_fire() {
    let output = run(
        "setTimeout(() => { throw new Error('late') }, 1);\nawait new Promise((done) => setTimeout(done, 9)); return 1;",
    );
    assert!(err(&output).contains("uncaught Error: late (index.js:1:"), "{}", err(&output));
    assert!(out(&output).contains("answer: 1"));
}

#[test]
fn process_exit_ends_the_worker_with_its_code() {
    assert_eq!(run("console.log('last words'); process.exit(7);").status.code(), Some(7));
}

#[test]
fn objects_outputs_and_collections_can_be_read_in_the_log() {
    let body = "console.log(cloud.output({ a: 1 }), cloud.secret('pw')); console.log(new Map([[1, 2]]), new Set(['x']))";
    let text = out(&run(body));
    assert!(text.contains("output: {") && text.contains("a: 1") && text.contains("(secret)"), "{text}");
    assert!(!text.contains("pw") && text.contains("entries: [") && text.contains("values: ["), "{text}");
}
