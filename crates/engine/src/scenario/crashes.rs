//! Crashes at every effect, once and twice: nothing is leaked, nothing is made twice. (I5)

use proptest::{collection, prelude::*};
use tandem_model::plan::Op;

use super::Scenario;

#[test]
fn crash_during_create_never_duplicates_the_resource() {
    let mut s = Scenario::new();
    s.program("bucket/a; function/b needs bucket/a");
    s.crash_after(Op::Create, "function/b");
    s.up().crashed();
    s.preview().steps("same bucket/a; create function/b");
    s.up()
        .resumed("create function/b")
        .steps("same bucket/a; same function/b")
        .leaves("bucket/a=a-1; function/b=b-1");
    s.destroy().leaves_nothing();
}

#[test]
fn crash_between_the_halves_of_a_replacement_still_deletes_the_old_one() {
    let mut s = Scenario::new();
    s.program("task/a pin=1").up();
    s.program("task/a pin=2").crash_after(Op::Create, "task/a");
    s.up().crashed().leaves("task/a=a-1; task/a=a-2");
    s.up().leaves("task/a=a-2");
    s.assert_settled();
}

#[test]
fn crash_during_delete_is_finished_by_the_next_update() {
    let mut s = Scenario::new();
    s.program("bucket/a; function/b needs bucket/a").up();
    s.crash_after(Op::Delete, "function/b");
    s.destroy().crashed();
    s.program("bucket/a").up().resumed("delete function/b").steps("same bucket/a");
    s.assert_settled();
}

/// Brings up `first`, then crashes the way to `second` at each effect there is, and each recovery at each of its own.
fn crash_everywhere(first: &str, second: &str) {
    for at in 1.. {
        let mut crashed_once = false;
        for again in 1.. {
            let mut s = Scenario::new();
            s.program(first).up().summary();
            s.program(second).crash_at(at);
            crashed_once = s.up().result.is_none();
            s.assert_nothing_leaked();
            s.crash_at(again);
            let crashed_twice = s.up().result.is_none();
            s.assert_nothing_leaked();

            s.up().summary();
            s.assert_settled();
            let same = s.up();
            assert!(!same.summary().changes(), "crashed at {at} and {again}: {:?}", same.summary().steps);
            s.destroy().leaves_nothing();
            s.assert_settled();
            if !crashed_twice {
                break;
            }
        }
        if !crashed_once {
            return;
        }
    }
}

#[test]
fn crashes_at_every_effect_of_a_first_update_leave_nothing_unknown() {
    crash_everywhere("", "bucket/a; function/b env=@bucket/a; task/c");
}

#[test]
fn crashes_at_every_effect_of_updates_and_deletes_leave_nothing_unknown() {
    crash_everywhere("bucket/a; function/b x=1 needs bucket/a; task/c", "function/b x=2; task/d");
}

#[test]
fn crashes_at_every_effect_of_a_replacement_leave_nothing_unknown() {
    crash_everywhere("task/a pin=1; function/b env=@task/a", "task/a pin=2; function/b env=@task/a");
}

/// Programs over few names, so that they meet each other's resources; each depends only on those before it.
fn program() -> impl Strategy<Value = String> {
    let declaration = (0..3u8, 0..3u8, any::<[bool; 4]>());
    collection::vec(declaration, 0..4).prop_map(|declarations| {
        let names = ["bucket/a", "task/b", "function/c", "function/d"];
        let lines = declarations.iter().enumerate().map(|(n, (x, pin, needs))| {
            let needs: Vec<&str> = (0..n).filter(|m| needs[*m]).map(|m| names[m]).collect();
            let uses = needs.first().map(|name| format!(" env=@{name}")).unwrap_or_default();
            let needs = if needs.is_empty() { String::new() } else { format!(" needs {}", needs.join(" ")) };
            format!("{} x={x} pin={pin}{uses}{needs}", names[n])
        });
        lines.collect::<Vec<_>>().join("; ")
    })
}

proptest! {
    #[test]
    fn any_program_is_reached_from_any_other_through_any_crashes(
        programs in collection::vec((program(), proptest::option::of(1..40usize)), 1..6),
    ) {
        let mut s = Scenario::new();
        for (program, crash) in &programs {
            s.program(program);
            if let Some(effect) = crash {
                s.crash_at(*effect);
            }
            let outcome = s.up();
            if let Some(result) = &outcome.result {
                prop_assert!(result.is_ok(), "{result:?}");
            }
            s.assert_nothing_leaked();
        }
        s.up().summary();
        s.assert_settled();
        prop_assert!(!s.up().summary().changes());
        s.destroy().leaves_nothing();
        s.assert_settled();
    }
}
