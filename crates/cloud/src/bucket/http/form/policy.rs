//! What a form's policy allows. Pure.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use s3s::{S3Error, S3Result, s3_error};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Fields;

/// Fields that no condition must be about.
const FREE: [&str; 7] =
    ["policy", "file", "bucket", "signature", "awsaccesskeyid", "x-amz-signature", "x-amz-security-token"];

pub(super) struct Policy {
    expiration: Timestamp,
    conditions: Vec<Condition>,
}

#[derive(Debug, PartialEq)]
enum Condition {
    Equal { field: String, value: String },
    StartsWith { field: String, value: String },
    Length { least: u64, most: u64 },
}

#[derive(Deserialize)]
struct Written {
    expiration: Timestamp,
    conditions: Vec<Value>,
}

impl Policy {
    /// # Errors
    /// `InvalidPolicyDocument` that names what is not valid.
    pub(super) fn parse(encoded: &str) -> S3Result<Self> {
        let json = STANDARD.decode(encoded.trim()).map_err(|_| invalid("it is not in base 64"))?;
        let written: Written = serde_json::from_slice(&json).map_err(|error| invalid(&error.to_string()))?;
        let mut conditions = Vec::new();
        for condition in &written.conditions {
            match condition {
                Value::Object(exact) => conditions.extend(equals(exact)?),
                Value::Array(parts) => conditions.push(operation(parts)?),
                _ => return Err(invalid("a condition is an object or an array")),
            }
        }
        Ok(Self { expiration: written.expiration, conditions })
    }

    /// Whether the fields are as the policy wants them, and nothing else is among them.
    ///
    /// # Errors
    /// `AccessDenied` that names the condition.
    pub(super) fn judge(&self, fields: &Fields, now: Timestamp) -> S3Result<()> {
        if now >= self.expiration {
            return Err(denied("Policy expired."));
        }
        let value = |field: &str| fields.get(field).map(String::as_str).unwrap_or_default();
        for condition in &self.conditions {
            let (operation, field, wanted, holds) = match condition {
                Condition::Equal { field, value: wanted } => ("eq", field, wanted, value(field) == wanted),
                Condition::StartsWith { field, value: wanted } => {
                    ("starts-with", field, wanted, value(field).starts_with(&**wanted))
                }
                Condition::Length { .. } => continue,
            };
            if !holds {
                return Err(denied(&format!(
                    "Policy Condition failed: [\"{operation}\", \"${field}\", \"{wanted}\"]"
                )));
            }
        }
        let is_free = |name: &str| FREE.contains(&name) || name.starts_with("x-ignore-");
        let is_named = |name: &str| {
            self.conditions.iter().any(|condition| match condition {
                Condition::Equal { field, .. } | Condition::StartsWith { field, .. } => field == name,
                Condition::Length { .. } => false,
            })
        };
        match fields.keys().find(|name| !is_free(name) && !is_named(name)) {
            Some(extra) => Err(denied(&format!("Extra input fields: {extra}"))),
            None => Ok(()),
        }
    }

    /// How many bytes the file has at least and at most.
    pub(super) fn length(&self) -> (u64, u64) {
        self.conditions.iter().fold((0, u64::MAX), |(above, below), condition| match condition {
            Condition::Length { least, most } => (above.max(*least), below.min(*most)),
            _ => (above, below),
        })
    }
}

fn equals(exact: &Map<String, Value>) -> S3Result<Vec<Condition>> {
    let condition = |(field, value): (&String, &Value)| {
        let value = text(value).ok_or_else(|| invalid("a condition's value is a text"))?;
        Ok(Condition::Equal { field: field.to_ascii_lowercase(), value })
    };
    exact.iter().map(condition).collect()
}

fn operation(parts: &[Value]) -> S3Result<Condition> {
    let [operation, first, second] = parts else {
        return Err(invalid("a condition in an array has three parts"));
    };
    let operation = operation.as_str().unwrap_or_default().to_ascii_lowercase();
    if operation == "content-length-range" {
        let number = |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
        return match (number(first), number(second)) {
            (Some(least), Some(most)) if least <= most => Ok(Condition::Length { least, most }),
            _ => Err(invalid("a content-length-range has two numbers, the larger one last")),
        };
    }
    let field = first.as_str().and_then(|field| field.strip_prefix('$'));
    let (Some(field), Some(value)) = (field, text(second)) else {
        return Err(invalid("a condition is about a field, as `$key`, and a text"));
    };
    let field = field.to_ascii_lowercase();
    match &*operation {
        "eq" => Ok(Condition::Equal { field, value }),
        "starts-with" => Ok(Condition::StartsWith { field, value }),
        _ => Err(invalid(&format!("`{operation}` is not a condition"))),
    }
}

/// Numbers may be written without quotes: `{"success_action_status": 201}`.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn invalid(what: &str) -> S3Error {
    s3_error!(InvalidPolicyDocument, "the form's policy is not valid: {what}")
}

fn denied(what: &str) -> S3Error {
    s3_error!(AccessDenied, "Invalid according to Policy: {what}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(conditions: Value) -> S3Result<Policy> {
        let written = json!({ "expiration": "2026-01-15T12:00:00.000Z", "conditions": conditions });
        Policy::parse(&STANDARD.encode(written.to_string()))
    }

    fn judge(conditions: Value, fields: &[(&str, &str)]) -> Result<(), String> {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let judged = policy(conditions).unwrap().judge(&fields, "2026-01-15T11:00:00Z".parse().unwrap());
        judged.map_err(|error| error.message().unwrap_or_default().to_owned())
    }

    #[test]
    fn every_condition_must_hold_and_every_field_must_be_named() {
        let conditions =
            json!([{ "acl": "private" }, ["starts-with", "$Key", "user/"], ["eq", "$x-amz-meta-a", "b"]]);
        let good = [
            ("acl", "private"),
            ("key", "user/x"),
            ("x-amz-meta-a", "b"),
            ("x-ignore-me", "c"),
            ("policy", "…"),
        ];
        assert_eq!(judge(conditions.clone(), &good), Ok(()));
        let wrong =
            judge(conditions.clone(), &[("acl", "private"), ("key", "other/x"), ("x-amz-meta-a", "b")]);
        assert!(wrong.unwrap_err().contains(r#"["starts-with", "$key", "user/"]"#));
        assert!(judge(conditions.clone(), &good[1..]).unwrap_err().contains("$acl"));
        let extra = judge(conditions, &[&good[..], &[("content-type", "x")]].concat());
        assert!(extra.unwrap_err().contains("Extra input fields: content-type"));
    }

    #[test]
    fn a_policy_ends() {
        let policy = policy(json!([])).unwrap();
        assert!(policy.judge(&Fields::new(), "2026-01-15T11:59:59Z".parse().unwrap()).is_ok());
        assert!(policy.judge(&Fields::new(), "2026-01-15T12:00:00Z".parse().unwrap()).is_err());
    }

    #[test]
    fn the_length_is_within_all_ranges() {
        let conditions = json!([["content-length-range", 1, 100], ["content-length-range", "5", "1000"]]);
        assert_eq!(policy(conditions).unwrap().length(), (5, 100));
        assert_eq!(policy(json!([])).unwrap().length(), (0, u64::MAX));
    }

    #[test]
    fn what_is_no_policy_is_refused() {
        assert!(Policy::parse("???").is_err());
        assert!(Policy::parse(&STANDARD.encode("{}")).is_err());
        for wrong in [
            json!([1]),
            json!([["eq", "$key"]]),
            json!([["eq", "key", "x"]]),
            json!([["ends-with", "$key", "x"]]),
            json!([["content-length-range", 2, 1]]),
            json!([{ "key": [] }]),
        ] {
            assert!(policy(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
