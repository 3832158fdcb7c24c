use serde_json::json;

use super::*;

fn source(path: &str, text: &str) -> Source {
    Source { path: path.to_owned(), text: text.to_owned() }
}

fn shown(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(ToString::to_string).collect()
}

#[test]
fn an_arrow_that_the_table_does_not_have_is_found() {
    let page =
        "| `crates/model` | words | |\n| `crates/store` | keys | model |\n| `crates/cloud` | all | store |\n";
    let allowed = arrows::table(page);
    let package = |name: &str, uses: &[&str]| {
        let uses: Vec<_> =
            uses.iter().map(|u| json!({ "name": u, "path": format!("/w/crates/{u}") })).collect();
        json!({ "manifest_path": format!("/w/crates/{name}/Cargo.toml"), "dependencies": uses })
    };
    let metadata = json!({ "packages": [
        package("model", &[]), package("store", &["model", "cloud"]), package("cloud", &["store", "model"]),
        package("stray", &[]),
    ] });
    assert_eq!(
        shown(&arrows::compare(&allowed, &arrows::used(&metadata))),
        [
            "crates/store/Cargo.toml: depends on cloud, against the arrows of ARCHITECTURE.md",
            "crates/stray/Cargo.toml: the table in ARCHITECTURE.md has no row for this crate",
        ]
    );
}

#[test]
fn a_service_that_imports_another_is_found_in_every_form() {
    let sources = [
        source("crates/cloud/src/bucket/mod.rs", "use crate::{home::Home, function::{Pool, self}};\n"),
        source(
            "crates/cloud/src/function/mod.rs",
            "//! See crate::bucket.\nuse crate::dispatch;\nfn f() { crate::task::run() }\n",
        ),
        source("crates/cloud/src/task/mod.rs", "use crate::{log, task::Run, resource::Resources};\n"),
        source("crates/cloud/src/dispatch/mod.rs", ""),
        source("crates/cloud/src/log/mod.rs", ""),
        source("crates/cloud/src/wiring.rs", "use crate::{bucket, function, task};\n"),
    ];
    assert_eq!(
        shown(&services::check(&sources)),
        [
            "crates/cloud/src/bucket/mod.rs:1: the service `bucket` uses the service `function`",
            "crates/cloud/src/function/mod.rs:3: the service `function` uses the service `task`",
        ]
    );
}

#[test]
fn tests_do_not_count_towards_a_files_length() {
    let code = "fn f() {}\n".repeat(800);
    let tests = format!("{code}\n#[cfg(test)]\nmod tests {{\n{code}}}\n");
    let sources = [
        source("crates/a/src/fits.rs", &tests),
        source("crates/a/src/tests.rs", &format!("{code}{code}")),
        source("crates/a/src/long.rs", &format!("{code}fn g() {{}}\n")),
    ];
    let found = length::check(&sources);
    assert_eq!(found.iter().map(|f| f.place.as_str()).collect::<Vec<_>>(), ["crates/a/src/long.rs"]);
}

#[test]
fn codes_and_pages_must_match_each_other() {
    let sources = [
        source("crates/a/src/lib.rs", "match e { A => \"E0201\", B => \"E0202\" }\n"),
        source("sdk/js/index.js", "error('E0501')\n"),
        source("docs/errors/E0201.md", "# E0201: locked\n"),
        source("docs/errors/E0203.md", "# locked\n"),
        source("docs/errors/README.md", "# Errors\n"),
    ];
    assert_eq!(
        shown(&error_pages::check(&sources)),
        [
            "docs/errors/E0203.md: does not begin with `# E0203: …`",
            "docs/errors/E0203.md: no error has this code",
            "crates/a/src/lib.rs:1: E0202 has no page docs/errors/E0202.md",
            "sdk/js/index.js:1: E0501 has no page docs/errors/E0501.md",
        ]
    );
}

#[test]
fn a_failpoint_that_no_test_names_is_found() {
    let product =
        "fn f() { tandem_failpoint::hit(\"a.b.c\"); }\nfn g() { tandem_failpoint::hit(\"a.b.d\"); }\n";
    let sources = [
        source(
            "crates/a/src/lib.rs",
            &format!("{product}\n#[cfg(test)]\nmod tests {{ const P: &str = \"a.b.c\"; }}\n"),
        ),
        source(
            "crates/a/src/other.rs",
            "fn h() { tandem_failpoint::hit(\"short\"); tandem_failpoint::hit(\"a.b.c\"); }\n",
        ),
        source("e2e/tests/crash.rs", "serve(\"short@2\")\n"),
    ];
    // The inline module opens on its own line, as rustfmt has it.
    let sources = sources.map(|s| Source { text: s.text.replace("mod tests { ", "mod tests {\n"), ..s });
    assert_eq!(
        shown(&failpoints::check(&sources)),
        [
            "crates/a/src/lib.rs:1: the failpoint `a.b.c` stands also at crates/a/src/other.rs:1",
            "crates/a/src/lib.rs:2: no test names the failpoint `a.b.d`",
            "crates/a/src/other.rs:1: `short` is not <area>.<what>.<moment>",
        ]
    );
}

#[test]
fn two_decisions_of_one_number_are_found() {
    let sources = [
        source("docs/decisions/0001-store.md", "# Store\n"),
        source("docs/decisions/0001-engine.md", "# Engine\n"),
        source("docs/decisions/notes.md", "# Notes\n"),
    ];
    assert_eq!(
        shown(&decisions::check(&sources)),
        [
            "docs/decisions/0001-engine.md: has the number of docs/decisions/0001-store.md",
            "docs/decisions/notes.md: is not named NNNN-title.md",
        ]
    );
}

#[test]
fn what_is_left_to_do_is_found() {
    let text = format!("fn f() {{}} // {} later\n", concat!("TO", "DO"));
    let found = markers::check(&[source("crates/a/src/lib.rs", &text)]);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].place, "crates/a/src/lib.rs:1");
}
