//! Filter policies: which events a subscription wants, told by what is in them. In the form of Amazon SNS.
//!
//! An object: of each key, one of the conditions in its list must hold, and all keys must. An object in place of a list
//! goes into the object that is there. Of a list in an event, one member is enough. Source:
//! <https://docs.aws.amazon.com/sns/latest/dg/sns-subscription-filter-policies.html>.

use std::net::IpAddr;

use serde_json::{Map, Value};

use crate::Explain;

/// How deep a policy may go, and how many conditions it may have: it is judged for each event.
const DEEPEST: usize = 5;
const MOST: usize = 150;

/// A policy, read.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy(Vec<(String, Part)>);

#[derive(Debug, Clone, PartialEq)]
enum Part {
    AnyOf(Vec<Condition>),
    Within(Policy),
    /// Of `$or`: one of them admits the object itself.
    Or(Vec<Policy>),
}

#[derive(Debug, Clone, PartialEq)]
enum Condition {
    Is(Value),
    Prefix(String),
    Suffix(String),
    IgnoringCase(String),
    /// The texts between the asterisks.
    Wildcard(Vec<String>),
    /// An address, and how many of its bits count.
    Cidr(IpAddr, u32),
    /// Some value that none of these holds of.
    AnythingBut(Vec<Condition>),
    Numeric(Vec<(Comparison, f64)>),
    Exists(bool),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Comparison {
    Equal,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

/// A policy that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the filter policy is not valid at `{place}`: {wrong}")]
pub struct PolicyError {
    /// Its keys, joined by dots.
    pub place: String,
    pub wrong: String,
}

impl Explain for PolicyError {
    fn code(&self) -> &'static str {
        "E0680"
    }

    fn help(&self) -> String {
        "write for example `{ colour: [\"red\", { prefix: \"gre\" }], price: [{ numeric: [\">\", 0, \"<=\", 100] }] }`".into()
    }
}

impl Policy {
    /// # Errors
    /// [`PolicyError`] names the place.
    pub fn read(policy: &Value) -> Result<Self, PolicyError> {
        let mut left = MOST;
        read(policy, &mut Vec::new(), &mut left)
    }

    /// Whether an object is what it wants.
    pub fn admits(&self, object: &Map<String, Value>) -> bool {
        self.0.iter().all(|(key, part)| {
            let found = object.get(key);
            match part {
                Part::Or(policies) => policies.iter().any(|policy| policy.admits(object)),
                Part::AnyOf(conditions) => conditions.iter().any(|condition| condition.holds_of(found)),
                Part::Within(policy) => {
                    let nothing = Map::new();
                    match found {
                        Some(Value::Object(object)) => policy.admits(object),
                        Some(Value::Array(items)) => {
                            items.iter().filter_map(Value::as_object).any(|object| policy.admits(object))
                        }
                        // It may ask that nothing is there.
                        _ => policy.admits(&nothing),
                    }
                }
            }
        })
    }
}

fn read<'a>(policy: &'a Value, place: &mut Vec<&'a str>, left: &mut usize) -> Result<Policy, PolicyError> {
    let wrong = |place: &[&str], wrong: &str| PolicyError { place: place.join("."), wrong: wrong.to_owned() };
    let Value::Object(keys) = policy else { return Err(wrong(place, "a policy is an object")) };
    if keys.is_empty() {
        return Err(wrong(place, "it has no keys"));
    }
    if place.len() >= DEEPEST {
        return Err(wrong(place, "it is too deep"));
    }
    let mut parts = Vec::new();
    for (key, value) in keys {
        place.push(key);
        let part = match value {
            Value::Array(policies) if key == "$or" && is_or(policies) => {
                let read = policies.iter().map(|policy| read(policy, place, left));
                Part::Or(read.collect::<Result<_, _>>()?)
            }
            Value::Array(conditions) if conditions.is_empty() => {
                return Err(wrong(place, "the list is empty"));
            }
            Value::Array(conditions) => {
                *left = left
                    .checked_sub(conditions.len())
                    .ok_or_else(|| wrong(place, "there are too many conditions"))?;
                let read = conditions.iter().map(condition).collect::<Result<_, _>>();
                Part::AnyOf(read.map_err(|reason| wrong(place, &reason))?)
            }
            Value::Object(_) => Part::Within(read(value, place, left)?),
            _ => return Err(wrong(place, "a key has a list of conditions, or an object")),
        };
        place.pop();
        parts.push((key.clone(), part));
    }
    Ok(Policy(parts))
}

/// The operators of conditions.
const OPERATORS: [&str; 8] =
    ["prefix", "suffix", "equals-ignore-case", "wildcard", "cidr", "anything-but", "numeric", "exists"];

/// Whether a list of the key `$or` is one of policies, and not of conditions of an odd key. Source: as above, "OR operator".
fn is_or(policies: &[Value]) -> bool {
    let of_keys = |policy: &Value| {
        let keys = policy.as_object().filter(|keys| !keys.is_empty());
        keys.is_some_and(|keys| keys.keys().all(|key| !OPERATORS.contains(&key.as_str())))
    };
    policies.len() > 1 && policies.iter().all(of_keys)
}

fn condition(value: &Value) -> Result<Condition, String> {
    let object = match value {
        Value::Object(object) => object,
        Value::Array(_) => return Err("a condition is a value or an object, not a list".to_owned()),
        exact => return Ok(Condition::Is(exact.clone())),
    };
    let mut entries = object.iter();
    let (Some((operator, operand)), None) = (entries.next(), entries.next()) else {
        return Err("a condition has one operator".to_owned());
    };
    let text = || operand.as_str().map(str::to_owned).ok_or_else(|| format!("`{operator}` takes a text"));
    Ok(match operator.as_str() {
        "prefix" => Condition::Prefix(text()?),
        "suffix" => Condition::Suffix(text()?),
        "equals-ignore-case" => Condition::IgnoringCase(text()?),
        "wildcard" => Condition::Wildcard(wildcard(&text()?)?),
        "cidr" => cidr(&text()?).ok_or("`cidr` takes for example \"10.0.0.0/24\"")?,
        "exists" => Condition::Exists(operand.as_bool().ok_or("`exists` takes true or false")?),
        "numeric" => Condition::Numeric(comparisons(operand)?),
        "anything-but" => Condition::AnythingBut(match operand {
            Value::Array(values) if !values.is_empty() && values.iter().all(is_plain) => {
                values.iter().cloned().map(Condition::Is).collect()
            }
            Value::Object(_) => match condition(operand)? {
                form @ (Condition::Prefix(_) | Condition::Suffix(_) | Condition::Wildcard(_)) => vec![form],
                _ => return Err("`anything-but` takes values, `prefix`, `suffix` or `wildcard`".to_owned()),
            },
            value if is_plain(value) => vec![Condition::Is(value.clone())],
            _ => return Err("`anything-but` takes values, `prefix`, `suffix` or `wildcard`".to_owned()),
        }),
        other => return Err(format!("there is no `{other}`; there are {}", OPERATORS.join(", "))),
    })
}

fn is_plain(value: &Value) -> bool {
    value.is_string() || value.is_number()
}

/// The texts between the asterisks of a pattern; one that is meant itself is written `\*`.
fn wildcard(pattern: &str) -> Result<Vec<String>, String> {
    let mut parts = vec![String::new()];
    let mut chars = pattern.chars();
    while let Some(char) = chars.next() {
        let last = parts.last_mut().expect("there is one from the beginning");
        match char {
            '\\' => match chars.next() {
                Some(meant @ ('*' | '\\')) => last.push(meant),
                _ => return Err("in `wildcard`, `\\` stands before `*` or `\\`".to_owned()),
            },
            '*' => parts.push(String::new()),
            char => last.push(char),
        }
    }
    Ok(parts)
}

/// Whether a text is these, in their order, with anything between them.
fn matches(parts: &[String], text: &str) -> bool {
    let [first, between @ .., last] = parts else { return parts.first().is_some_and(|only| only == text) };
    let Some(mut rest) = text.strip_prefix(first.as_str()).and_then(|rest| rest.strip_suffix(last.as_str()))
    else {
        return false;
    };
    // The earliest place leaves the most for those that follow.
    between.iter().all(|part| match rest.split_once(part.as_str()) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

/// `10.0.0.0/24`, or an address of the other kind.
fn cidr(text: &str) -> Option<Condition> {
    let (address, bits) = text.split_once('/')?;
    let (address, bits) = (address.parse::<IpAddr>().ok()?, bits.parse::<u32>().ok()?);
    (bits <= width(address)).then_some(Condition::Cidr(address, bits))
}

fn width(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Whether the first bits of two addresses are the same.
fn is_within(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    let number = |address: IpAddr| match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    };
    let shift = width(network) - bits;
    address.is_ipv4() == network.is_ipv4()
        && (number(address) ^ number(network)).checked_shr(shift).is_none_or(|differ| differ == 0)
}

/// `[">", 0, "<=", 100]`
fn comparisons(operand: &Value) -> Result<Vec<(Comparison, f64)>, String> {
    let shape = || "`numeric` takes for example [\">\", 0, \"<=\", 100]".to_owned();
    let items = operand.as_array().filter(|items| matches!(items.len(), 2 | 4)).ok_or_else(shape)?;
    let pair = |pair: &[Value]| {
        let comparison = match pair[0].as_str()? {
            "=" => Comparison::Equal,
            "<" => Comparison::Less,
            "<=" => Comparison::AtMost,
            ">" => Comparison::Greater,
            ">=" => Comparison::AtLeast,
            _ => return None,
        };
        Some((comparison, pair[1].as_f64()?))
    };
    items.chunks(2).map(|two| pair(two).ok_or_else(shape)).collect()
}

impl Condition {
    fn holds_of(&self, found: Option<&Value>) -> bool {
        match (self, found) {
            (Self::Exists(wanted), found) => found.is_some() == *wanted,
            (_, None) => false,
            // An object is no value.
            (_, Some(Value::Object(_))) => false,
            (_, Some(Value::Array(items))) => items.iter().any(|item| self.holds_of(Some(item))),
            (condition, Some(value)) => condition.holds(value),
        }
    }

    fn holds(&self, value: &Value) -> bool {
        let text = value.as_str();
        match self {
            Self::Is(wanted) => match (wanted.as_f64(), value.as_f64()) {
                // 1 and 1.0 are one number.
                (Some(wanted), Some(value)) => wanted.total_cmp(&value).is_eq(),
                _ => wanted == value,
            },
            Self::Prefix(prefix) => text.is_some_and(|text| text.starts_with(prefix)),
            Self::Suffix(suffix) => text.is_some_and(|text| text.ends_with(suffix)),
            Self::IgnoringCase(wanted) => {
                text.is_some_and(|text| text.to_lowercase() == wanted.to_lowercase())
            }
            Self::Wildcard(parts) => text.is_some_and(|text| matches(parts, text)),
            Self::Cidr(network, bits) => {
                let address = text.and_then(|text| text.parse().ok());
                address.is_some_and(|address| is_within(address, *network, *bits))
            }
            Self::AnythingBut(others) => !others.iter().any(|other| other.holds(value)),
            Self::Numeric(comparisons) => value.as_f64().is_some_and(|value| {
                comparisons.iter().all(|(comparison, bound)| {
                    let order = value.total_cmp(bound);
                    match comparison {
                        Comparison::Equal => order.is_eq(),
                        Comparison::Less => order.is_lt(),
                        Comparison::AtMost => order.is_le(),
                        Comparison::Greater => order.is_gt(),
                        Comparison::AtLeast => order.is_ge(),
                    }
                })
            }),
            Self::Exists(wanted) => *wanted,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn admits(policy: Value, object: Value) -> bool {
        let policy = Policy::read(&policy).unwrap();
        policy.admits(object.as_object().unwrap())
    }

    #[test]
    fn conditions_of_a_key_are_one_or_the_other_and_keys_are_all() {
        let policy = json!({ "store": ["a", "b"], "event": [{ "anything-but": "cancelled" }] });
        assert!(admits(policy.clone(), json!({ "store": "b", "event": "placed" })));
        assert!(!admits(policy.clone(), json!({ "store": "c", "event": "placed" })));
        assert!(!admits(policy.clone(), json!({ "store": "a", "event": "cancelled" })));
        assert!(!admits(policy, json!({ "store": "a" })), "anything but is something");
    }

    #[test]
    fn each_operator() {
        for (condition, holds, fails) in [
            (json!("red"), json!("red"), json!("Red")),
            (json!(1), json!(1.0), json!("1")),
            (json!(true), json!(true), json!(1)),
            (json!(null), json!(null), json!("")),
            (json!({ "prefix": "gr" }), json!("green"), json!(5)),
            (json!({ "suffix": ".mp4" }), json!("a.mp4"), json!("a.jpg")),
            (json!({ "equals-ignore-case": "RED" }), json!("rEd"), json!("blue")),
            (json!({ "anything-but": ["a", 3] }), json!("b"), json!(3)),
            (json!({ "anything-but": { "prefix": "order-" } }), json!("data"), json!("order-1")),
            (json!({ "numeric": ["=", 5] }), json!(5), json!(5.1)),
            (json!({ "numeric": [">", 0, "<=", 100] }), json!(100), json!(0)),
            (json!({ "numeric": [">=", -1.5, "<", 2] }), json!(-1.5), json!(2)),
            (json!({ "exists": true }), json!("any"), json!({})),
            (json!({ "wildcard": "in/*/*.mp4" }), json!("in/a/b/c.mp4"), json!("in/c.mp4")),
            (json!({ "wildcard": "*" }), json!(""), json!(1)),
            (json!({ "wildcard": "plain" }), json!("plain"), json!("plain ")),
            (json!({ "wildcard": "ab*b" }), json!("abb"), json!("ab")),
            (json!({ "wildcard": "5\\*3*" }), json!("5*3=15"), json!("543")),
            (json!({ "anything-but": { "wildcard": "*x*" } }), json!("abc"), json!("axc")),
            (json!({ "cidr": "10.1.2.0/23" }), json!("10.1.3.255"), json!("10.1.4.0")),
            (json!({ "cidr": "0.0.0.0/0" }), json!("255.1.1.1"), json!("::1")),
            (json!({ "cidr": "2001:db8::/32" }), json!("2001:db8:1::1"), json!("no address")),
            (json!("x"), json!(["y", "x"]), json!(["y"])),
            (json!({ "anything-but": ["x"] }), json!(["x", "y"]), json!(["x"])),
        ] {
            let policy = json!({ "k": [condition] });
            assert!(admits(policy.clone(), json!({ "k": holds })), "{policy} {holds}");
            let fails = if fails == json!({}) { json!({}) } else { json!({ "k": fails }) };
            assert!(!admits(policy.clone(), fails.clone()), "{policy} {fails}");
        }
        assert!(admits(json!({ "k": [{ "exists": false }] }), json!({})));
        assert!(!admits(json!({ "k": [{ "exists": false }] }), json!({ "k": null })));
    }

    #[test]
    fn a_policy_goes_into_objects_and_into_lists_of_them() {
        let policy = json!({ "order": { "customer": { "tier": ["gold"] } } });
        assert!(admits(policy.clone(), json!({ "order": { "customer": { "tier": "gold" } } })));
        assert!(!admits(policy.clone(), json!({ "order": { "customer": "gold" } })));
        assert!(admits(
            policy.clone(),
            json!({ "order": { "customer": [{ "tier": "tin" }, { "tier": "gold" }] } })
        ));
        assert!(!admits(policy, json!({})));
        assert!(admits(json!({ "a": { "b": [{ "exists": false }] } }), json!({})));
    }

    #[test]
    fn one_of_several_policies_is_enough_beside_the_other_keys() {
        let policy = json!({
            "kind": ["order"],
            "$or": [{ "price": [{ "numeric": [">", 100] }] }, { "customer": { "tier": ["gold"] } }],
        });
        assert!(admits(policy.clone(), json!({ "kind": "order", "price": 200 })));
        assert!(admits(
            policy.clone(),
            json!({ "kind": "order", "price": 1, "customer": { "tier": "gold" } })
        ));
        assert!(!admits(policy.clone(), json!({ "kind": "order", "price": 1 })));
        assert!(!admits(policy, json!({ "price": 200 })));
        // A key that is only called so.
        let odd = json!({ "$or": [{ "prefix": "a" }, { "prefix": "b" }] });
        assert!(admits(odd.clone(), json!({ "$or": "bc" })) && !admits(odd, json!({ "$or": "c" })));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let many: Vec<_> = (0..=MOST).collect();
        for (policy, expected) in [
            (json!("x"), "at ``: a policy is an object"),
            (json!({}), "it has no keys"),
            (json!({ "a": "x" }), "at `a`: a key has a list of conditions, or an object"),
            (json!({ "a": [] }), "at `a`: the list is empty"),
            (json!({ "a": { "b": [{ "prefix": 1 }] } }), "at `a.b`: `prefix` takes a text"),
            (json!({ "a": [{ "like": "*" }] }), "at `a`: there is no `like`; there are prefix, suffix"),
            (json!({ "a": [{ "wildcard": "a\\b" }] }), "at `a`: in `wildcard`, `\\` stands before"),
            (json!({ "a": [{ "cidr": "10.0.0.0/33" }] }), "at `a`: `cidr` takes for example"),
            (json!({ "$or": [{ "a": ["x"] }, { "b": [] }] }), "at `$or.b`: the list is empty"),
            (json!({ "$or": [{ "a": ["x"] }] }), "at `$or`: there is no `a`"),
            (json!({ "a": [{ "prefix": "x", "suffix": "y" }] }), "at `a`: a condition has one operator"),
            (json!({ "a": [{ "numeric": [">"] }] }), "at `a`: `numeric` takes for example"),
            (json!({ "a": [{ "numeric": ["~", 1] }] }), "at `a`: `numeric` takes for example"),
            (json!({ "a": [{ "anything-but": { "exists": true } }] }), "at `a`: `anything-but` takes"),
            (json!({ "a": [["x"]] }), "at `a`: a condition is a value or an object"),
            (json!({ "a": many }), "at `a`: there are too many conditions"),
            (json!({ "a": { "b": { "c": { "d": { "e": { "f": [1] } } } } } }), "it is too deep"),
        ] {
            let error = Policy::read(&policy).unwrap_err().to_string();
            assert!(error.contains(expected), "{policy}: {error}");
        }
    }
}
