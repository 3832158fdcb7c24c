//! What a person sees on a terminal of 80 columns.

use crate::harness::{Cloud, Gate, Hold, Screen};

/// Names that a narrow terminal has no room for.
fn long(name: &str) -> String {
    format!("{name}-with-a-name-that-is-longer-than-a-terminal-of-eighty-columns-is-wide-{name}-{name}")
}

fn program() -> String {
    format!(
        r#"
const cloud = require("@tandem/cloud");
new cloud.Bucket("{}");
new cloud.Task("{}", {{ build: "./image" }});
exports.word = "done";
"#,
        long("bucket"),
        long("task"),
    )
}

#[test]
fn progress_of_long_names_leaves_nothing_behind_on_a_narrow_terminal() {
    let cloud = Cloud::new();
    cloud.import_busybox();
    let mut gate = Gate::shut();
    let dockerfile = format!("FROM busybox\nRUN {}; echo {}\n", gate.command("building"), "x".repeat(200));
    let project = cloud.project("narrow", &[("index.js", &program()), ("image/Dockerfile", &dockerfile)]);
    let mut command = project.command();
    command.args(["up", "--yes"]);
    let mut screen = Screen::run(&command, 80, 50);
    let visit = gate.wait_for("building");
    screen.wait_for("Creating");
    // Redrawn many times, in a window that is made larger meanwhile. (What a smaller one does to lines that are there,
    // this screen does not show.)
    for columns in [100, 120] {
        screen.resize(columns, 50);
        screen.wait_for("Creating");
    }
    visit.release();
    let status = screen.end();
    let lines = screen.lines();
    assert!(status.success(), "{}", lines.join("\n"));
    let count = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
    assert_eq!((count("Creating"), count("Waiting")), (0, 0), "{}", lines.join("\n"));
    assert_eq!((count("Created"), count("Finished"), count("word")), (2, 1, 1), "{}", lines.join("\n"));
    project.destroy();
}

#[test]
fn a_plan_is_shown_in_colour_and_asked_about_and_declined() {
    let cloud = Cloud::new();
    let program = "const cloud = require(\"@tandem/cloud\");\nnew cloud.Bucket(\"photos\");\n";
    let project = cloud.project("asked", &[("index.js", program)]);
    let mut command = project.command();
    command.arg("up");
    let mut screen = Screen::run(&command, 80, 24);
    screen.wait_for("Make these changes? [y/N]");
    assert!(screen.colors("+ create"));
    screen.press("n\n");
    assert_eq!(screen.end().code(), Some(3), "{}", screen.lines().join("\n"));
    assert!(screen.lines().iter().any(|line| line == "Nothing was changed."), "{:?}", screen.lines());

    // The same without colours, interrupted at the question.
    command.args(["--color", "never"]);
    let mut screen = Screen::run(&command, 80, 24);
    screen.wait_for("Make these changes? [y/N]");
    assert!(!screen.colors("+ create"));
    screen.press_ctrl_c();
    assert!(!screen.end().success());
    project.tandem(&["stack", "show"]).ok();
    project.destroy();
}

#[test]
fn a_destroy_is_asked_about_and_stops_at_ctrl_c_at_the_question_and_while_it_deletes() {
    let cloud = Cloud::new();
    let hold = Hold::new(cloud.scratch(), "closing");
    let _serving = cloud.serve_with(&[("TANDEM_FAILPOINT", &hold.at("bucket.closing.committed"))]);
    let program = "const cloud = require(\"@tandem/cloud\");\nnew cloud.Bucket(\"photos\");\n";
    let project = cloud.project("undone", &[("index.js", program)]);
    project.up();
    let mut command = project.command();
    command.arg("destroy");
    let mut screen = Screen::run(&command, 80, 24);
    screen.wait_for("Destroy all of this? [y/N]");
    screen.press_ctrl_c();
    assert!(!screen.end().success());
    assert!(project.tandem(&["preview"]).ok().all().contains("Nothing to do"), "something was deleted");

    let mut screen = Screen::run(&command, 80, 24);
    screen.wait_for("Destroy all of this? [y/N]");
    screen.press("y\n");
    screen.wait_for("Deleting");
    hold.reached();
    screen.press_ctrl_c();
    screen.wait_for("Stopping after what runs: delete bucket/photos");
    screen.press_ctrl_c();
    assert_eq!(screen.end().code(), Some(130), "{}", screen.lines().join("\n"));
    assert!(screen.lines().iter().any(|line| line.contains("error[E0210]")), "{:?}", screen.lines());
    hold.release();
    project.destroy();
    project.tandem(&["destroy", "--yes"]).ok().says("nothing to destroy");
}

#[test]
fn help_and_tables_fit_into_eighty_columns() {
    let cloud = Cloud::new();
    let commands = [
        "",
        "new",
        "preview",
        "up",
        "destroy",
        "stack",
        "config",
        "logs",
        "ps",
        "invoke",
        "run",
        "image",
        "env",
        "serve",
        "explain",
        "completions",
        "backup",
        "restore",
        "refresh",
    ];
    for name in commands {
        let mut command = cloud.command();
        command.args(name.split_whitespace()).arg("--help");
        let mut screen = Screen::run(&command, 80, 200);
        assert!(screen.end().success(), "{name}");
        assert_eq!(screen.cut_line(), None, "help of `{name}`");
    }
}
