//! What every [`Target`] must do. A target runs the suite with [`target_conformance_tests!`](crate::target_conformance_tests).
//!
//! Each check takes a target in which nothing is, and makes buckets in it, which every target has.

use serde_json::json;
use tandem_model::{
    OpId, PhysicalId, Urn,
    plan::{Applied, Change},
    resource::Properties,
    value,
};

use crate::port::{Progress, Target};

/// Writes one test for each check. The argument makes an empty target: `async { Arc<dyn Target> }`, or an `Arc` of one.
#[macro_export]
macro_rules! target_conformance_tests {
    ($fresh:expr) => {
        $crate::target_conformance_tests!(@each $fresh;
            an_operation_that_comes_again_is_answered_as_it_was_first
            an_operation_that_comes_twice_at_once_is_done_once
            a_deletion_that_comes_again_succeeds
            deleting_what_does_not_exist_succeeds
            a_second_create_of_a_urn_makes_another_resource
            an_update_keeps_the_physical_id
            what_exists_of_a_stack_is_listed_and_nothing_else
            acknowledging_twice_is_harmless
            equal_inputs_have_no_difference_and_an_unknown_has_one
            the_identity_stays
        );
    };
    (@each $fresh:expr; $($check:ident)*) => {
        $(
            #[tokio::test]
            async fn $check() {
                let target = $fresh.await;
                $crate::conformance::$check(&*target).await;
            }
        )*
    };
}

#[derive(Debug)]
struct Quiet;

impl Progress for Quiet {
    fn line(&self, _: &Urn, _: &str) {}
}

fn urn(name: &str) -> Urn {
    format!("urn:tandem:conformance:test:bucket:{name}").parse().expect("a urn")
}

fn create(name: &str) -> Change {
    Change::Create { urn: urn(name), inputs: Properties::new() }
}

fn delete(name: &str, id: &PhysicalId) -> Change {
    Change::Delete { urn: urn(name), id: id.clone(), force: false }
}

async fn apply(target: &dyn Target, op: &str, change: &Change) -> Option<Applied> {
    target.apply(&OpId(op.to_owned()), change, &Quiet).await.expect("the target must be able to do this")
}

async fn make(target: &dyn Target, op: &str, name: &str) -> Applied {
    apply(target, op, &create(name)).await.expect("a create answers with what it made")
}

/// The ids of what exists of the stack.
async fn existing(target: &dyn Target) -> Vec<PhysicalId> {
    let stack = "conformance/test".parse().expect("a stack");
    let found = target.list(&stack).await.expect("the target must be able to look");
    found.into_iter().map(|recorded| recorded.id).collect()
}

pub async fn an_operation_that_comes_again_is_answered_as_it_was_first(target: &dyn Target) {
    let first = make(target, "op-1", "a").await;
    assert_eq!(make(target, "op-1", "a").await, first);
    apply(target, "op-2", &delete("a", &first.id)).await;
    assert_eq!(make(target, "op-1", "a").await, first, "even if what it made is gone since");
    assert_eq!(existing(target).await, [], "a repetition makes nothing");
}

pub async fn an_operation_that_comes_twice_at_once_is_done_once(target: &dyn Target) {
    let (one, other) = tokio::join!(make(target, "op-1", "a"), make(target, "op-1", "a"));
    assert_eq!(one, other);
}

pub async fn a_deletion_that_comes_again_succeeds(target: &dyn Target) {
    let made = make(target, "op-1", "a").await;
    assert_eq!(apply(target, "op-2", &delete("a", &made.id)).await, None);
    assert_eq!(apply(target, "op-2", &delete("a", &made.id)).await, None);
}

pub async fn deleting_what_does_not_exist_succeeds(target: &dyn Target) {
    let made = make(target, "op-1", "a").await;
    apply(target, "op-2", &delete("a", &made.id)).await;
    assert_eq!(apply(target, "op-3", &delete("a", &made.id)).await, None);
}

pub async fn a_second_create_of_a_urn_makes_another_resource(target: &dyn Target) {
    let old = make(target, "op-1", "a").await;
    let new = make(target, "op-2", "a").await;
    assert_ne!(old.id, new.id);
    apply(target, "op-3", &delete("a", &old.id)).await;
    assert_eq!(existing(target).await, [new.id], "the newer one stays");
}

pub async fn an_update_keeps_the_physical_id(target: &dyn Target) {
    let made = make(target, "op-1", "a").await;
    let new = Properties::from_iter([("forceDestroy".to_owned(), json!(true))]);
    let update = Change::Update { urn: urn("a"), id: made.id.clone(), old: Properties::new(), new };
    let updated = apply(target, "op-2", &update).await.expect("an update answers with what is there");
    assert_eq!(updated.id, made.id);
    assert_eq!(apply(target, "op-2", &update).await, Some(updated));
}

pub async fn what_exists_of_a_stack_is_listed_and_nothing_else(target: &dyn Target) {
    assert_eq!(existing(target).await, []);
    let inputs = Properties::from_iter([("forceDestroy".to_owned(), json!(true))]);
    let change = Change::Create { urn: urn("kept"), inputs: inputs.clone() };
    let kept = apply(target, "op-1", &change).await.expect("a create answers with what it made");
    let gone = make(target, "op-2", "gone").await;
    apply(target, "op-3", &delete("gone", &gone.id)).await;
    let elsewhere = Change::Create {
        urn: "urn:tandem:conformance:other:bucket:elsewhere".parse().expect("a urn"),
        inputs: Properties::new(),
    };
    apply(target, "op-4", &elsewhere).await;
    let stack = "conformance/test".parse().expect("a stack");
    let listed = target.list(&stack).await.expect("the target must be able to look");
    let [found] = &listed[..] else { panic!("one resource of the stack is left: {listed:?}") };
    assert_eq!((&found.urn, &found.id, &found.inputs), (&urn("kept"), &kept.id, &inputs));
    assert_eq!(found.outputs, kept.outputs);
}

pub async fn acknowledging_twice_is_harmless(target: &dyn Target) {
    let made = make(target, "op-1", "a").await;
    let ops = [OpId("op-1".into()), OpId("never-seen".into())];
    for _ in 0..2 {
        target.acknowledge(&ops).await.expect("the target must be able to forget");
    }
    assert_eq!(existing(target).await, [made.id]);
}

pub async fn equal_inputs_have_no_difference_and_an_unknown_has_one(target: &dyn Target) {
    let inputs = Properties::from_iter([("bucketName".to_owned(), json!("photos"))]);
    assert_eq!(target.diff(&urn("a"), &inputs, &inputs), []);
    let unknown = Properties::from_iter([("bucketName".to_owned(), value::unknown())]);
    let changes = target.diff(&urn("a"), &inputs, &unknown);
    assert_eq!(changes.iter().map(|change| change.property.as_str()).collect::<Vec<_>>(), ["bucketName"]);
}

pub async fn the_identity_stays(target: &dyn Target) {
    let identity = target.identity().await.expect("the target must know itself");
    make(target, "op-1", "a").await;
    assert_eq!(target.identity().await.expect("the target must know itself"), identity);
}
