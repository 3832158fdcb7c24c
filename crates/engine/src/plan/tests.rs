use proptest::{collection, prelude::*, sample::Index};
use serde_json::json;
use tandem_model::PhysicalId;

use super::*;

fn urn(name: &str) -> Urn {
    format!("urn:tandem:shop:dev:bucket:{name}").parse().unwrap()
}

fn inputs(value: u8) -> Properties {
    Properties::from_iter([("value".to_owned(), json!(value))])
}

fn recorded(name: &str, value: u8, depends_on: &[&str]) -> Recorded {
    Recorded {
        urn: urn(name),
        id: PhysicalId(format!("{name}-1")),
        inputs: inputs(value),
        outputs: Properties::new(),
        depends_on: depends_on.iter().map(|on| urn(on)).collect(),
    }
}

fn desired(name: &str, inputs: Properties, depends_on: &[&str]) -> Desired {
    Desired {
        urn: urn(name),
        inputs,
        depends_on: depends_on.iter().map(|on| urn(on)).collect(),
        declared_at: Some(format!("index.js:{name}")),
    }
}

/// Values of 10 and more cannot be reached by an update.
fn diff(_: &Urn, old: &Properties, new: &Properties) -> Vec<PropertyChange> {
    let mut changes = crate::diff::properties(old, new);
    for change in &mut changes {
        change.replaces = change.new.as_ref().and_then(serde_json::Value::as_u64).is_some_and(|n| n >= 10);
    }
    changes
}

fn planner(recorded: impl IntoIterator<Item = Recorded>, missing: &[&str]) -> Planner<'static> {
    let recorded = recorded.into_iter().map(|r| (r.urn.clone(), r)).collect();
    Planner::new(recorded, missing.iter().map(|name| urn(name)), diff)
}

#[test]
fn each_step_names_the_properties_that_cause_it() {
    let mut planner = planner([recorded("a", 1, &[]), recorded("b", 1, &[]), recorded("c", 1, &[])], &["c"]);
    let mut step = |name, value| {
        let step = planner.register(&desired(name, inputs(value), &[])).unwrap();
        (step.op, step.changes.into_iter().map(|c| c.property).collect::<Vec<_>>())
    };
    assert_eq!(step("a", 2), (Op::Update, vec!["value".to_owned()]));
    assert_eq!(step("b", 10), (Op::Replace, vec!["value".to_owned()]));
    assert_eq!(step("c", 1), (Op::Create, vec![]), "recorded, but gone from the target");
    assert_eq!(step("d", 1), (Op::Create, vec![]));
}

#[test]
fn an_unknown_input_counts_as_changed() {
    let mut planner = planner([recorded("a", 1, &[])], &[]);
    let unknown = Properties::from_iter([("value".to_owned(), value::unknown())]);
    assert_eq!(planner.register(&desired("a", unknown, &[])).unwrap().op, Op::Update);
}

#[test]
fn a_target_that_does_not_see_an_unknown_still_gets_an_update() {
    let blind = |_: &Urn, _: &Properties, _: &Properties| Vec::new();
    let mut planner = Planner::new([(urn("a"), recorded("a", 1, &[]))].into(), [], blind);
    let unknown = Properties::from_iter([("value".to_owned(), value::unknown())]);
    assert_eq!(planner.register(&desired("a", unknown, &[])).unwrap().op, Op::Update);
}

#[test]
fn a_dependency_must_be_registered_before() {
    let mut planner = planner([], &[]);
    let on = |name| Err(Rejected::Dependency { on: urn(name) });
    assert_eq!(planner.register(&desired("a", inputs(1), &["a"])), on("a"));
    assert_eq!(planner.register(&desired("a", inputs(1), &["b"])), on("b"));
    planner.register(&desired("b", inputs(1), &[])).unwrap();
    planner.register(&desired("a", inputs(1), &["b"])).unwrap();
}

#[test]
fn a_second_registration_says_where_the_first_one_was() {
    let mut planner = planner([], &[]);
    planner.register(&desired("a", inputs(1), &[])).unwrap();
    let again = planner.register(&desired("a", inputs(1), &[]));
    assert_eq!(again, Err(Rejected::Twice { first: Some("index.js:a".into()) }));
}

#[test]
fn a_cycle_in_a_state_does_not_keep_its_members_from_deletion() {
    let planner =
        planner([recorded("a", 1, &["b"]), recorded("b", 1, &["a"]), recorded("c", 1, &["a"])], &[]);
    assert_eq!(planner.finish().len(), 3);
}

/// A graph in which a resource depends only on those before it, as a program can only declare it.
fn graph() -> impl Strategy<Value = Vec<(u8, Vec<Index>)>> {
    collection::vec((0u8..20, collection::vec(any::<Index>(), 0..4)), 0..40)
}

fn names(graph: &[(u8, Vec<Index>)]) -> Vec<(String, u8, Vec<String>)> {
    let name = |n: usize| format!("r{n}");
    let dependencies = |n: usize, picks: &[Index]| match n {
        0 => Vec::new(),
        n => picks.iter().map(|pick| name(pick.index(n))).collect(),
    };
    graph.iter().enumerate().map(|(n, (value, picks))| (name(n), *value, dependencies(n, picks))).collect()
}

proptest! {
    #[test]
    fn what_is_not_registered_is_deleted_before_what_it_depends_on(graph in graph(), kept in any::<u64>()) {
        let all = names(&graph);
        let refs = |on: &[String]| on.iter().map(|s| urn(s)).collect::<Vec<_>>();
        let recorded = all.iter().map(|(n, v, on)| Recorded { depends_on: refs(on), ..recorded(n, *v, &[]) });
        let mut planner = planner(recorded, &[]);
        let mut kept_urns = HashSet::new();
        for (index, (name, value, _)) in all.iter().enumerate() {
            if kept >> (index % 64) & 1 == 1 {
                prop_assert_eq!(planner.register(&desired(name, inputs(*value), &[])).unwrap().op, Op::Same);
                kept_urns.insert(urn(name));
            }
        }
        let deleted = planner.finish();
        let place: HashMap<&Urn, usize> = deleted.iter().enumerate().map(|(i, r)| (&r.urn, i)).collect();
        prop_assert_eq!(place.len() + kept_urns.len(), all.len());
        for doomed in &deleted {
            prop_assert!(!kept_urns.contains(&doomed.urn));
            for on in &doomed.depends_on {
                prop_assert!(place.get(on).is_none_or(|p| *p > place[&doomed.urn]), "{} too early", on);
            }
        }
    }

    #[test]
    fn a_step_depends_on_nothing_but_the_record_and_the_wish(old in graph(), new in graph(), gone in any::<u64>()) {
        let (old, new) = (names(&old), names(&new));
        let missing: Vec<&str> = old.iter().enumerate()
            .filter(|(i, _)| gone >> (i % 64) & 1 == 1).map(|(_, (n, ..))| n.as_str()).collect();
        let mut planner = planner(old.iter().map(|(n, v, _)| recorded(n, *v, &[])), &missing);
        for (name, value, on) in &new {
            let on: Vec<&str> = on.iter().map(String::as_str).collect();
            let step = planner.register(&desired(name, inputs(*value), &on)).unwrap();
            let before = old.iter().find(|(n, ..)| n == name).filter(|(n, ..)| !missing.contains(&n.as_str()));
            let expected = match before {
                None => Op::Create,
                Some((_, v, _)) if v == value => Op::Same,
                Some(_) if *value >= 10 => Op::Replace,
                Some(_) => Op::Update,
            };
            prop_assert_eq!(step.op, expected);
            prop_assert_eq!(step.changes.is_empty(), matches!(expected, Op::Create | Op::Same));
        }
    }
}
