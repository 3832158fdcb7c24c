//! A plan as a tree: what would happen to which resource, and why.

use serde::Serialize;
use serde_json::Value;
use tandem_engine::{Contents, Summary};
use tandem_model::{
    Urn,
    plan::{Op, PropertyChange, Step},
    value,
};

use super::{
    style::{self, Paint, Style},
    text,
};

/// The most columns that the names of properties take before their values.
const PROPERTY: usize = 28;

/// What there is to say of builds beside a plan.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Rebuilds {
    #[serde(rename = "rebuilds")]
    pub(crate) all: Vec<Rebuild>,
    /// Base images that mean something else now, and what was built from them and stays.
    #[serde(rename = "newerBases")]
    pub(crate) newer: Vec<(Urn, String)>,
}

/// Why an image is made again.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Rebuild {
    pub(crate) urn: Urn,
    /// Of several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) container: Option<String>,
    pub(crate) reasons: Vec<String>,
    /// The properties that say the same in hashes.
    #[serde(skip)]
    pub(crate) hides: Vec<String>,
}

/// The tree of what would change, or that nothing would. With `force`, data that would be lost is only warned about.
pub(crate) fn plan(plan: &Summary, builds: &Rebuilds, force: bool, style: Style) -> String {
    let mut lines = vec![style.paint(Paint::Strong, &plan.stack.to_string())];
    let changing: Vec<&Step> = plan.steps.iter().filter(|step| step.op != Op::Same).collect();
    for (n, step) in changing.iter().enumerate() {
        let last = n + 1 == changing.len();
        lines.push(resource(step, last, style));
        let rebuilds: Vec<&Rebuild> = builds.all.iter().filter(|one| one.urn == step.urn).collect();
        lines.extend(rebuilds.iter().flat_map(|one| rebuild(one, last, style)));
        let hidden =
            |change: &&PropertyChange| rebuilds.iter().any(|one| one.hides.contains(&change.property));
        let shown: Vec<&PropertyChange> = step.changes.iter().filter(|change| !hidden(change)).collect();
        lines.extend(shown.iter().map(|change| property(change, &shown, last, style)));
    }
    let resumed: Vec<String> =
        resumed(plan).map(|step| format!("{} {}", step.op, step.urn.short())).collect();
    if !resumed.is_empty() {
        lines.push(format!("An interrupted update is finished first: {}", resumed.join(", ")));
    }
    if changing.is_empty() {
        let more = if resumed.is_empty() { "" } else { " more" };
        lines.push(format!("Nothing{more} to do: {} as the program wants it.", are(plan.steps.len())));
    } else {
        lines.push(String::new());
        lines.push(format!("Plan: {}", summary(&plan.steps)));
    }
    lines.extend(builds.newer.iter().flat_map(|(urn, base)| {
        let note = format!(
            "note: {base}, from which {} is built, has a newer image; `tandem up --pull` takes it",
            urn.short()
        );
        std::iter::once(String::new()).chain(text::wrapped(&text::harmless(&note), style.width))
    }));
    lines.extend(plan.contents.iter().flat_map(|contents| loss(contents, force, style)));
    lines.extend(plan.forfeit.iter().flat_map(|contents| loss(contents, true, style)));
    lines.join("\n") + "\n"
}

/// What an interrupted update left open; without what the plan shows as made anyhow.
fn resumed(plan: &Summary) -> impl Iterator<Item = &Step> {
    let shown = |urn: &Urn| plan.steps.iter().any(|step| step.urn == *urn && step.op == Op::Create);
    plan.resumes.iter().filter(move |step| !shown(&step.urn))
}

/// How many of which: `2 to create, 1 to update, 3 unchanged`.
fn summary(steps: &[Step]) -> String {
    tally(steps, |op| match op {
        Op::Create => "to create",
        Op::Update => "to update",
        Op::Replace => "to replace",
        Op::Delete => "to delete",
        Op::Same => "unchanged",
    })
}

/// How many of which, in the words given.
pub(super) fn tally(steps: &[Step], word: impl Fn(Op) -> &'static str) -> String {
    let counts = [Op::Create, Op::Update, Op::Replace, Op::Delete, Op::Same].map(|op| {
        let n = steps.iter().filter(|step| step.op == op).count();
        (n > 0).then(|| format!("{n} {}", word(op)))
    });
    counts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn are(n: usize) -> String {
    match n {
        0 => "there are no resources,".to_owned(),
        1 => "the 1 resource is".to_owned(),
        n => format!("all {n} resources are"),
    }
}

fn resource(step: &Step, last: bool, style: Style) -> String {
    let branch = style.paint(Paint::Faint, if last { "└─" } else { "├─" });
    let (paint, mark) = style::of(step.op);
    let op = style.paint(paint, &format!("{mark} {:<7}", step.op.as_str()));
    format!("{branch} {op} {}", text::cut(&step.urn.short(), style.width.saturating_sub(13)))
}

/// One line a reason.
fn rebuild(rebuild: &Rebuild, last: bool, style: Style) -> Vec<String> {
    let trunk = style.paint(Paint::Faint, if last { "  " } else { "│ " });
    let of = rebuild.container.as_ref().map_or("rebuild".to_owned(), |name| format!("rebuild of {name}"));
    let room = style.width.saturating_sub(14 + text::width(&of) + 2);
    let line = |reason: &String| {
        format!("{trunk}            {of}: {}", text::cut(&text::harmless(reason), room.max(8)))
    };
    rebuild.reasons.iter().map(line).collect()
}

fn property(change: &PropertyChange, all: &[&PropertyChange], last: bool, style: Style) -> String {
    let trunk = style.paint(Paint::Faint, if last { "  " } else { "│ " });
    let longest = all.iter().map(|change| text::width(&change.property)).max().unwrap_or(0);
    let column = longest.min(PROPERTY);
    let name = text::padded(&text::cut(&change.property, column), column);
    let suffix = if change.replaces { "  (forces replacement)" } else { "" };
    // Both values get half of what is left of the line.
    let room = style.width.saturating_sub(14 + column + 2 + 3 + text::width(suffix)) / 2;
    let shown =
        |value: &Option<Value>| value.as_ref().map_or("(none)".to_owned(), |value| short(value, room.max(8)));
    let (old, new) = (shown(&change.old), shown(&change.new));
    let suffix = style.paint(Paint::Change, suffix);
    format!("{trunk}            {name}  {} → {new}{suffix}", style.paint(Paint::Faint, &old))
}

/// A value in few columns: a hash by its first digits, a resource by its short name, an unknown as what it is, a secret
/// not at all.
fn short(value: &Value, columns: usize) -> String {
    if value::has_unknown(value) {
        return "(known after it is applied)".to_owned();
    }
    let value = value::redacted(value);
    let urn = value.as_str().and_then(|text| text.parse::<Urn>().ok());
    let text = match value.as_str() {
        _ if let Some(urn) = urn => urn.short(),
        Some(text) if text.starts_with("sha256:") && text.len() > 15 => text[..15].to_owned(),
        _ => value.to_string(),
    };
    text::cut(&text::harmless(&text), columns)
}

fn loss(contents: &Contents, force: bool, style: Style) -> [String; 2] {
    let warning = style.paint(Paint::Bad, "warning");
    let fate = if force { "which will be lost" } else { "which would be lost; that needs --force" };
    [String::new(), format!("{warning}: {contents}, {fate}")]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn step(op: Op, name: &str, changes: Vec<PropertyChange>) -> Step {
        let urn = format!("urn:tandem:shop:dev:{}", name.replace('/', ":")).parse().unwrap();
        Step { op, urn, changes }
    }

    fn change(property: &str, old: Value, new: Value, replaces: bool) -> PropertyChange {
        let given = |value: Value| (!value.is_null()).then_some(value);
        PropertyChange { property: property.into(), old: given(old), new: given(new), replaces }
    }

    fn summary_of(steps: Vec<Step>) -> Summary {
        Summary {
            stack: "shop/dev".parse().unwrap(),
            steps,
            resumes: vec![],
            contents: vec![],
            forfeit: vec![],
            exports: serde_json::Map::new(),
            elapsed: Duration::ZERO,
        }
    }

    #[test]
    fn a_first_plan_is_a_list_of_what_is_made() {
        let steps = vec![step(Op::Create, "bucket/photos", vec![]), step(Op::Create, "task/resize", vec![])];
        insta::assert_snapshot!(plan(&summary_of(steps), &Rebuilds::default(), false, Style::PLAIN), @"
        shop/dev
        ├─ + create  bucket/photos
        └─ + create  task/resize

        Plan: 2 to create
        ");
    }

    #[test]
    fn each_change_shows_what_causes_it() {
        let hash = |digit: &str| json!(format!("sha256:{}", digit.repeat(64)));
        let changes = vec![
            change("code", hash("1"), hash("2"), false),
            change("environment.LEVEL", json!("info"), Value::Null, false),
            change("environment.TOKEN", value::secret(json!("a")), value::secret(json!("b")), false),
            change("memory", json!(128), json!(256), false),
            change(
                "source",
                json!("urn:tandem:shop:dev:bucket:a"),
                json!("urn:tandem:shop:dev:bucket:b"),
                false,
            ),
        ];
        let steps = vec![
            step(Op::Same, "bucket/photos", vec![]),
            step(Op::Update, "function/resize", changes),
            step(Op::Replace, "bucket/old", vec![change("bucketName", json!("a"), value::unknown(), true)]),
            step(Op::Delete, "task/gone", vec![]),
        ];
        let contents = vec![Contents {
            urn: "urn:tandem:shop:dev:bucket:old".parse().unwrap(),
            items: 3,
            bytes: 2048,
            unit: "object".into(),
            unfinished: 0,
        }];
        insta::assert_snapshot!(plan(&Summary { contents, ..summary_of(steps) }, &Rebuilds::default(), false, Style::PLAIN), @r#"
        shop/dev
        ├─ ~ update  function/resize
        │             code               sha256:11111111 → sha256:22222222
        │             environment.LEVEL  "info" → (none)
        │             environment.TOKEN  "[secret]" → "[secret]"
        │             memory             128 → 256
        │             source             bucket/a → bucket/b
        ├─ ± replace bucket/old
        │             bucketName  "a" → (known after it is applied)  (forces replacement)
        └─ - delete  task/gone

        Plan: 1 to update, 1 to replace, 1 to delete, 1 unchanged

        warning: bucket/old holds 3 objects (2 KiB), which would be lost; that needs --force
        "#);
    }

    #[test]
    fn a_rebuild_is_told_by_its_reasons_instead_of_hashes() {
        let changes = vec![
            change("build.args.LEVEL", json!("1"), json!("2"), false),
            change("build.context", json!("sha256:1"), json!("sha256:2"), false),
            change("build.renewed", Value::Null, json!("2026-11-26T08:00:00Z"), false),
        ];
        let steps = vec![step(Op::Update, "task/resize", changes), step(Op::Same, "service/web", vec![])];
        let urn = |index: usize| steps[index].urn.clone();
        let builds = Rebuilds {
            all: vec![Rebuild {
                urn: urn(0),
                container: None,
                reasons: vec![
                    "2 files changed: a, b".into(),
                    "its layers are 8 days old, and `maxAge` is 7d".into(),
                ],
                hides: vec!["build.context".into(), "build.renewed".into()],
            }],
            newer: vec![(urn(1), "docker.io/library/debian:bookworm".into())],
        };
        insta::assert_snapshot!(plan(&summary_of(steps), &builds, false, Style::PLAIN), @"
        shop/dev
        └─ ~ update  task/resize
                      rebuild: 2 files changed: a, b
                      rebuild: its layers are 8 days old, and `maxAge` is 7d
                      build.args.LEVEL  \"1\" → \"2\"

        Plan: 1 to update, 1 unchanged

        note: docker.io/library/debian:bookworm, from which service/web is built, has a
        newer image; `tandem up --pull` takes it
        ");
    }

    #[test]
    fn a_plan_without_changes_says_so() {
        let steps = vec![step(Op::Same, "bucket/photos", vec![]), step(Op::Same, "task/resize", vec![])];
        insta::assert_snapshot!(plan(&summary_of(steps), &Rebuilds::default(), false, Style::PLAIN), @"
        shop/dev
        Nothing to do: all 2 resources are as the program wants it.
        ");
    }

    #[test]
    fn what_an_interrupted_update_left_open_is_told() {
        let resumes =
            vec![step(Op::Update, "task/resize", vec![]), step(Op::Create, "bucket/photos", vec![])];
        let steps = vec![step(Op::Create, "bucket/photos", vec![]), step(Op::Same, "task/resize", vec![])];
        insta::assert_snapshot!(plan(&Summary { resumes, ..summary_of(steps) }, &Rebuilds::default(), false, Style::PLAIN), @"
        shop/dev
        └─ + create  bucket/photos
        An interrupted update is finished first: update task/resize

        Plan: 1 to create, 1 unchanged
        ");
    }

    #[test]
    fn long_values_are_cut_to_the_line() {
        let long = change(
            "environment.A_VERY_LONG_VARIABLE_NAME",
            json!("x".repeat(300)),
            json!("y".repeat(300)),
            false,
        );
        let text = plan(
            &summary_of(vec![step(Op::Update, "function/resize", vec![long])]),
            &Rebuilds::default(),
            false,
            Style::PLAIN,
        );
        assert!(text.lines().all(|line| text::width(line) <= 80), "{text}");
    }
}
