//! What a program exports, and summaries as data.

use serde_json::{Value, json};
use tandem_engine::Summary;
use tandem_model::{Report, resource::Properties, value};

use super::{
    plan::Rebuilds,
    style::{Paint, Style},
    text,
};

/// The exports as a block with aligned values; empty if there are none. Secrets are hidden.
pub(crate) fn outputs(exports: &Properties, style: Style) -> String {
    if exports.is_empty() {
        return String::new();
    }
    let column = exports.keys().map(|name| text::width(name)).max().unwrap_or(0);
    let lines = exports.iter().map(|(name, value)| {
        let shown = if value::has_unknown(value) {
            "(known after it is applied)".to_owned()
        } else {
            bare(&value::redacted(value))
        };
        format!("  {}  {}", text::padded(name, column), text::harmless(&shown))
    });
    let head = style.paint(Paint::Strong, "Outputs");
    std::iter::once(head).chain(lines).collect::<Vec<_>>().join("\n") + "\n"
}

/// A value as data for a shell: a string bare, anything else as JSON.
pub(crate) fn bare(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A plan with what there is to say of its builds and of the program, for programs.
pub(crate) fn json_plan(summary: &Summary, builds: &Rebuilds, warnings: &[Report]) -> Value {
    let (mut plan, more) = (json(summary), json!(builds));
    if let (Value::Object(plan), Value::Object(more)) = (&mut plan, more) {
        plan.extend(more);
        plan.insert("warnings".to_owned(), json!(warnings));
    }
    plan
}

/// A plan or what came of it, for programs. Secrets are hidden.
pub(crate) fn json(summary: &Summary) -> Value {
    json!({
        "stack": summary.stack.to_string(),
        "changes": summary.changes(),
        "steps": value::redacted(&json!(summary.steps)),
        "resumes": summary.resumes,
        "wouldLose": summary.contents,
        "willLose": summary.forfeit,
        "outputs": value::redacted(&Value::Object(summary.exports.clone())),
        "seconds": summary.elapsed.as_secs_f64(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_aligned_and_hide_secrets() {
        let Value::Object(exports) =
            json!({ "bucket": "photos-1", "key": value::secret(json!("s3cret")), "sizes": [1, 2] })
        else {
            panic!("an object")
        };
        insta::assert_snapshot!(outputs(&exports, Style::PLAIN), @"
        Outputs
          bucket  photos-1
          key     [secret]
          sizes   [1,2]
        ");
    }
}
