//! Lives of stacks without a crash: what is planned, refused, stopped.

use serde_json::json;
use tandem_model::{Explain, plan::Op};

use super::{Scenario, urn};
use crate::EngineEvent;

#[test]
fn an_update_makes_what_is_declared_and_then_has_nothing_to_do() {
    let mut s = Scenario::new();
    s.program("bucket/a; function/b env=@bucket/a");
    s.preview().steps("create bucket/a; create function/b").leaves("");
    s.up().steps("create bucket/a; create function/b").leaves("bucket/a=a-1; function/b=b-1");
    s.up().steps("same bucket/a; same function/b");
    s.assert_settled();
    s.destroy().steps("delete function/b; delete bucket/a").leaves_nothing();
}

#[test]
fn a_changed_property_is_an_update_and_is_named() {
    let mut s = Scenario::new();
    s.program("function/a memory=1").up();
    let outcome = s.program("function/a memory=2").up().steps("update function/a").leaves("function/a=a-1");
    let change = &outcome.summary().steps[0].changes[0];
    assert_eq!(
        (change.property.as_str(), &change.old, &change.new),
        ("memory", &Some(json!(1)), &Some(json!(2)))
    );
}

#[test]
fn a_replacement_creates_first_deletes_last_and_updates_only_who_sees_it() {
    let mut s = Scenario::new();
    s.program("task/a pin=1; function/sees env=@task/a; function/needs needs task/a").up();
    s.program("task/a pin=2; function/sees env=@task/a; function/needs needs task/a");
    let outcome = s.up().steps("replace task/a; update function/sees; same function/needs");
    let done = outcome.events.iter().filter_map(|event| match event {
        EngineEvent::StepDone { op, urn, .. } => Some(format!("{op} {}", urn.short())),
        _ => None,
    });
    assert_eq!(done.collect::<Vec<_>>(), ["replace task/a", "update function/sees", "delete task/a"]);
    outcome.leaves("function/needs=needs-1; function/sees=sees-1; task/a=a-2");
    s.assert_settled();
}

#[test]
fn what_disappeared_from_the_cloud_is_made_again() {
    let mut s = Scenario::new();
    s.program("bucket/a; bucket/b").up();
    s.world.lose(&urn("bucket/a"));
    s.up().steps("create bucket/a; same bucket/b").leaves("bucket/a=a-2; bucket/b=b-1");
    s.world.lose(&urn("bucket/a"));
    s.destroy().leaves_nothing();
    s.assert_settled();
}

#[test]
fn a_preview_reads_once_and_changes_nothing() {
    let mut s = Scenario::new();
    s.program("bucket/a; function/b").up();
    let before = s.folded();
    s.world.calls();
    s.program("bucket/a x=1; function/c")
        .preview()
        .steps("update bucket/a; create function/c; delete function/b");
    assert_eq!(s.world.calls(), ["list"]);
    assert_eq!(s.folded(), before);
}

#[test]
fn a_failed_step_lets_the_others_be_recorded_and_the_next_update_goes_on() {
    let mut s = Scenario::new();
    s.program("task/bad; bucket/good; function/after needs task/bad");
    s.world.refuse(&urn("task/bad"), true);
    s.up().fails("E0301");
    s.assert_nothing_leaked();
    s.world.refuse(&urn("task/bad"), false);
    s.up().steps("create task/bad; same bucket/good; create function/after");
    s.assert_settled();
}

#[test]
fn a_failure_names_each_resource_with_its_cause() {
    let mut s = Scenario::new();
    s.program("task/a; task/b; function/c needs task/a");
    s.world.refuse(&urn("task/a"), true);
    s.world.refuse(&urn("task/b"), true);
    let error = s.up().fails("E0204");
    assert_eq!(error.to_string(), "failed to create task/a, create task/b; 1 step was not tried");
    let expected = ["create task/a: it is broken [E0301]", "create task/b: it is broken [E0301]"];
    assert_eq!(error.report().causes, expected);
}

#[test]
fn nothing_is_deleted_when_a_step_failed() {
    let mut s = Scenario::new();
    s.program("bucket/old").up();
    s.world.refuse(&urn("task/bad"), true);
    s.program("task/bad").up().leaves("bucket/old=old-1").fails("E0301");
}

#[test]
fn a_delete_that_fails_keeps_what_it_depends_on() {
    let mut s = Scenario::new();
    s.program("bucket/a; function/b needs bucket/a; function/c").up();
    s.world.refuse(&urn("function/b"), true);
    s.destroy().leaves("bucket/a=a-1; function/b=b-1").fails("E0301");
    s.world.refuse(&urn("function/b"), false);
    s.destroy().leaves_nothing();
}

#[test]
fn data_is_deleted_only_with_force() {
    let mut s = Scenario::new();
    s.program("bucket/a; function/b needs bucket/a").up();
    s.world.fill(&urn("bucket/a"), 3);
    let error = s.destroy().leaves("bucket/a=a-1; function/b=b-1").fails("E0206");
    assert_eq!(error.to_string(), "would delete data: bucket/a holds 3 objects (300 B)");
    s.force().destroy().leaves_nothing();
}

#[test]
fn a_bucket_that_says_so_is_deleted_with_its_data() {
    let mut s = Scenario::new();
    s.program("bucket/a forceDestroy=true").up();
    s.world.fill(&urn("bucket/a"), 3);
    s.destroy().leaves_nothing();
}

#[test]
fn a_replacement_does_not_lose_data_unasked() {
    let mut s = Scenario::new();
    s.program("bucket/a pin=1").up();
    s.world.fill(&urn("bucket/a"), 1);
    let preview = s.program("bucket/a pin=2; function/b").preview();
    assert_eq!(preview.summary().contents[0].items, 1);
    s.up().leaves("bucket/a=a-1").fails("E0206");
    s.program("bucket/a pin=2 forceDestroy=true").up().steps("replace bucket/a").leaves("bucket/a=a-2");
}

#[test]
fn a_replacement_goes_by_what_the_newer_inputs_say_of_its_data() {
    let mut s = Scenario::new();
    s.program("bucket/a pin=1 forceDestroy=true").up();
    s.world.fill(&urn("bucket/a"), 1);
    let preview = s.program("bucket/a pin=2").preview();
    assert_eq!(preview.summary().contents[0].items, 1);
    s.up().leaves("bucket/a=a-1").fails("E0206");
    s.force().up().leaves("bucket/a=a-2");
}

#[test]
fn data_that_may_go_is_told_all_the_same() {
    let mut s = Scenario::new();
    s.program("bucket/a forceDestroy=true; bucket/b").up();
    s.world.fill(&urn("bucket/a"), 2);
    let preview = s.program("").preview();
    assert_eq!((preview.summary().contents.len(), preview.summary().forfeit[0].items), (0, 2));
}

#[test]
fn what_an_interrupted_replacement_left_is_told_and_guarded_before_anything_is_done() {
    let mut s = Scenario::new();
    s.program("bucket/a pin=1").up();
    s.program("bucket/a pin=2").crash_after(Op::Create, "bucket/a").up().crashed();
    s.world.fill(&urn("bucket/a"), 1);
    s.up().leaves("bucket/a=a-1; bucket/a=a-2").fails("E0206");
    let preview = s.preview();
    assert!(preview.summary().changes(), "the older one is still to go");
    assert_eq!(preview.summary().contents.len(), 1);
    s.force().up().leaves("bucket/a=a-2");
    assert!(!s.preview().summary().changes());
    s.assert_settled();
}

#[test]
fn a_resource_declared_twice_says_where() {
    let mut s = Scenario::new();
    let error = s.program("bucket/a; bucket/a").up().fails("E0205");
    assert_eq!(
        error.to_string(),
        "bucket/a is declared twice: at index.js:bucket/a and at index.js:bucket/a"
    );
}

#[test]
fn a_cycle_is_a_dependency_that_is_not_declared_before() {
    let mut s = Scenario::new();
    let error = s.program("task/a needs function/b; function/b needs task/a").up().leaves("").fails("E0209");
    assert_eq!(error.to_string(), "task/a depends on function/b, which is not declared before it");
}

#[test]
fn a_state_is_not_applied_to_another_cloud() {
    let mut s = Scenario::new();
    s.program("bucket/a").up();
    s.world.replace();
    s.up().fails("E0207");
    s.preview().fails("E0207");
}

#[test]
fn an_empty_stack_moves_to_another_cloud() {
    let mut s = Scenario::new();
    s.program("bucket/a").up();
    s.destroy();
    s.world.replace();
    s.up().steps("create bucket/a").leaves("bucket/a=a-1");
}

#[test]
fn an_answer_that_got_lost_is_asked_for_again_under_the_same_id() {
    let mut s = Scenario::new();
    s.program("bucket/a");
    s.world.silence(&urn("bucket/a"), true);
    s.up().leaves("bucket/a=a-1").fails("E0301");
    s.assert_nothing_leaked();
    s.world.silence(&urn("bucket/a"), false);
    s.up().resumed("create bucket/a").steps("same bucket/a").leaves("bucket/a=a-1");
    s.assert_settled();
}

#[test]
fn what_an_interrupted_update_made_and_nobody_wants_any_more_is_deleted() {
    let mut s = Scenario::new();
    s.program("bucket/a").crash_after(Op::Create, "bucket/a").up().crashed();
    s.program("bucket/b").preview().steps("create bucket/b; delete bucket/a");
    s.up().resumed("create bucket/a").steps("create bucket/b; delete bucket/a").leaves("bucket/b=b-1");
}

#[test]
fn exports_are_kept_by_a_success_and_by_nothing_else() {
    let mut s = Scenario::new();
    s.program("bucket/a").up();
    let exports = s.folded().state.exports;
    assert_eq!(exports["bucket/a"]["token"], "a-1");
    s.world.refuse(&urn("bucket/b"), true);
    s.program("bucket/b").up().fails("E0301");
    assert_eq!(s.folded().state.exports, exports);
    s.destroy();
    assert!(s.folded().state.exports.is_empty());
}

#[test]
fn what_the_preview_did_not_say_is_not_done() {
    let mut s = Scenario::new();
    s.program("bucket/a").up();
    let unforeseen = |s: &mut Scenario, shown: &str, done: &str| {
        let shown = s.program(shown).preview().summary().steps.clone();
        let message = s.program(done).up_expecting(shown).fails("E0208").report().message;
        message.strip_prefix("the preview did not foresee this: ").unwrap().to_owned()
    };
    assert_eq!(unforeseen(&mut s, "bucket/a", "bucket/a; bucket/b"), "create bucket/b");
    assert_eq!(
        unforeseen(&mut s, "bucket/a", "bucket/a x=1"),
        "update bucket/a, where the preview said same"
    );
    assert_eq!(unforeseen(&mut s, "bucket/a", ""), "delete bucket/a, where the preview said same");
    assert_eq!(unforeseen(&mut s, "bucket/a; bucket/b", "bucket/a"), "bucket/b was not declared this time");
    let reason = unforeseen(&mut s, "bucket/a x=1", "bucket/a x=2");
    assert_eq!(reason, "update bucket/a because of `x`, which has another value now");
    s.program("bucket/a").up().leaves("bucket/a=a-1").steps("same bucket/a");
}

#[test]
fn a_step_waits_for_what_it_depends_on() {
    let mut s = Scenario::new();
    let outcome = s.program("bucket/a; function/b needs bucket/a; bucket/c").up();
    let told: Vec<String> = outcome
        .events
        .iter()
        .filter_map(|event| match event {
            EngineEvent::StepWaiting { urn, .. } => Some(format!("{} waits", urn.short())),
            EngineEvent::StepStarted { urn, .. } => Some(format!("{} starts", urn.short())),
            EngineEvent::StepDone { urn, .. } => Some(format!("{} done", urn.short())),
            _ => None,
        })
        .collect();
    let place =
        |what: &str| told.iter().position(|t| t == what).unwrap_or_else(|| panic!("{what}: {told:?}"));
    assert!(place("bucket/a done") < place("function/b starts"));
    assert!(
        place("bucket/c starts") < place("bucket/a done"),
        "independent steps run at the same time: {told:?}"
    );
    assert!(place("function/b waits") < place("bucket/a done"));
}

#[test]
fn a_stop_lets_what_runs_end_and_starts_no_more() {
    let mut s = Scenario::new();
    s.program("task/slow; function/b needs task/slow");
    let outcome = s.up_stopping("task/slow", 1).leaves("task/slow=slow-1");
    outcome.fails("E0210");
    s.assert_settled();
    s.up().steps("same task/slow; create function/b");
}

#[test]
fn a_second_stop_waits_for_nothing_and_the_next_update_finishes_it() {
    let mut s = Scenario::new();
    s.program("task/slow");
    s.up_stopping("task/slow", 2).leaves("").fails("E0210");
    s.assert_nothing_leaked();
    assert_eq!(s.preview().summary().resumes[0].urn, urn("task/slow"), "the preview tells");
    s.up().resumed("create task/slow").steps("same task/slow");
    s.assert_settled();
}
