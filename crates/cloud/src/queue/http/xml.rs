//! Answers of the Query protocol.

use std::fmt::Write;

use serde_json::{Map, Value};

const NAMESPACE: &str = "http://queue.amazonaws.com/doc/2012-11-05/";

/// Actions that answer nothing. Clients insist on the result of the others, though it be empty.
const WITHOUT_RESULT: [&str; 7] = [
    "ChangeMessageVisibility",
    "DeleteMessage",
    "DeleteQueue",
    "PurgeQueue",
    "SetQueueAttributes",
    "TagQueue",
    "UntagQueue",
];

/// An answer, given as the JSON protocol has it.
pub(super) fn answer(action: &str, id: &str, answer: &Value) -> String {
    let mut xml = format!(r#"<?xml version="1.0"?><{action}Response xmlns="{NAMESPACE}">"#);
    if !WITHOUT_RESULT.contains(&action) {
        let _ = write!(xml, "<{action}Result>");
        answer.as_object().iter().for_each(|members| write_members(&mut xml, action, members));
        let _ = write!(xml, "</{action}Result>");
    }
    let _ =
        write!(xml, "<ResponseMetadata><RequestId>{id}</RequestId></ResponseMetadata></{action}Response>");
    xml
}

pub(crate) fn error(id: &str, fault: &str, code: &str, message: &str) -> String {
    let mut xml = format!(
        r#"<?xml version="1.0"?><ErrorResponse xmlns="{NAMESPACE}"><Error><Type>{fault}</Type><Code>{code}</Code><Message>"#
    );
    escape(&mut xml, message);
    let _ = write!(xml, "</Message><Detail/></Error><RequestId>{id}</RequestId></ErrorResponse>");
    xml
}

fn write_members(xml: &mut String, action: &str, members: &Map<String, Value>) {
    for (name, value) in members {
        match (name.as_str(), value) {
            ("Attributes", Value::Object(map)) => write_map(xml, "Attribute", "Name", map),
            ("MessageAttributes", Value::Object(map)) => write_map(xml, "MessageAttribute", "Name", map),
            ("Tags", Value::Object(map)) => write_map(xml, "Tag", "Key", map),
            ("Successful", Value::Array(list)) => {
                write_list(xml, action, &format!("{action}ResultEntry"), list)
            }
            ("Failed", Value::Array(list)) => write_list(xml, action, "BatchResultErrorEntry", list),
            ("Messages", Value::Array(list)) => write_list(xml, action, "Message", list),
            ("QueueUrls" | "queueUrls", Value::Array(list)) => write_list(xml, action, "QueueUrl", list),
            ("Results", Value::Array(list)) => {
                write_list(xml, action, "ListMessageMoveTasksResultEntry", list)
            }
            (name, value) => write_element(xml, action, name, value),
        }
    }
}

fn write_list(xml: &mut String, action: &str, name: &str, list: &[Value]) {
    list.iter().for_each(|value| write_element(xml, action, name, value));
}

fn write_map(xml: &mut String, name: &str, key_name: &str, map: &Map<String, Value>) {
    for (key, value) in map {
        let _ = write!(xml, "<{name}><{key_name}>");
        escape(xml, key);
        let _ = write!(xml, "</{key_name}>");
        write_element(xml, "", "Value", value);
        let _ = write!(xml, "</{name}>");
    }
}

fn write_element(xml: &mut String, action: &str, name: &str, value: &Value) {
    let _ = write!(xml, "<{name}>");
    match value {
        Value::Object(members) => write_members(xml, action, members),
        Value::String(text) => escape(xml, text),
        Value::Null | Value::Array(_) => {}
        other => _ = write!(xml, "{other}"),
    }
    let _ = write!(xml, "</{name}>");
}

/// A carriage return would come out as a line feed, were it not written as a reference.
fn escape(xml: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => xml.push_str("&amp;"),
            '<' => xml.push_str("&lt;"),
            '>' => xml.push_str("&gt;"),
            '"' => xml.push_str("&quot;"),
            '\r' => xml.push_str("&#13;"),
            other => xml.push(other),
        }
    }
}
