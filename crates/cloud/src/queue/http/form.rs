//! Requests of the Query protocol as JSON: `Tag.1.Key=a&Tag.1.Value=b` becomes `{"Tags": {"a": "b"}}`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// What a flat list or map is called in a form, and in JSON, and how its entries are named.
const LISTS: [(&str, &str, Entries); 11] = [
    ("Attribute", "Attributes", Entries::Map("Name", "Value")),
    ("MessageAttribute", "MessageAttributes", Entries::Map("Name", "Value")),
    ("MessageSystemAttribute", "MessageSystemAttributes", Entries::Map("Name", "Value")),
    ("Tag", "Tags", Entries::Map("Key", "Value")),
    ("TagKey", "TagKeys", Entries::List),
    ("AttributeName", "AttributeNames", Entries::List),
    ("MessageAttributeName", "MessageAttributeNames", Entries::List),
    ("MessageSystemAttributeName", "MessageSystemAttributeNames", Entries::List),
    ("SendMessageBatchRequestEntry", "Entries", Entries::List),
    ("DeleteMessageBatchRequestEntry", "Entries", Entries::List),
    ("ChangeMessageVisibilityBatchRequestEntry", "Entries", Entries::List),
];

#[derive(Clone, Copy)]
enum Entries {
    List,
    Map(&'static str, &'static str),
}

/// Names with dots, as a tree.
#[derive(Debug, Default)]
struct Node {
    text: Option<String>,
    children: BTreeMap<String, Node>,
}

/// How deep names go: an entry's attribute's value's list's element.
const DEEPEST: usize = 8;

pub(super) fn read(pairs: &[u8]) -> Result<Map<String, Value>, String> {
    let mut root = Node::default();
    for (name, value) in form_urlencoded::parse(pairs) {
        let parts: Vec<_> = name.split('.').collect();
        if parts.len() > DEEPEST || parts.iter().any(|part| part.is_empty()) {
            return Err(format!("`{name}` is not the name of a parameter"));
        }
        let node =
            parts.iter().fold(&mut root, |node, part| node.children.entry((*part).to_owned()).or_default());
        if node.text.replace(value.into_owned()).is_some() {
            return Err(format!("the parameter `{name}` is there twice"));
        }
    }
    structure(root)
}

fn structure(node: Node) -> Result<Map<String, Value>, String> {
    let mut map = Map::new();
    for (name, child) in node.children {
        // Clients write an empty list under its own name: `Entries=`.
        let empty = child.children.is_empty() && child.text.as_deref() == Some("");
        let named = |(form, json, _): &&(&str, &str, Entries)| *form == name || (empty && *json == name);
        match LISTS.iter().find(named) {
            Some((_, json, Entries::List)) => {
                map.insert((*json).to_owned(), Value::Array(entries(&name, child)?));
            }
            Some((_, json, Entries::Map(key, value))) => {
                let mut entries_of = Map::new();
                for entry in entries(&name, child)? {
                    let Value::Object(mut entry) = entry else {
                        return Err(format!("an entry of `{name}` has a `{key}` and a `{value}`"));
                    };
                    let (Some(Value::String(key)), Some(value)) = (entry.remove(*key), entry.remove(*value))
                    else {
                        return Err(format!("an entry of `{name}` has a `{key}` and a `{value}`"));
                    };
                    entries_of.insert(key, value);
                }
                map.insert((*json).to_owned(), Value::Object(entries_of));
            }
            None => {
                map.insert(name, value(child)?);
            }
        }
    }
    Ok(map)
}

fn value(node: Node) -> Result<Value, String> {
    match node.text {
        Some(text) if node.children.is_empty() => Ok(Value::String(text)),
        Some(text) => Err(format!("a parameter is a text, `{text}`, and has parts")),
        None => structure(node).map(Value::Object),
    }
}

/// The entries `1`, `2`, … in their order.
fn entries(name: &str, node: Node) -> Result<Vec<Value>, String> {
    let mut numbered = BTreeMap::new();
    for (number, child) in node.children {
        let number: u32 = number.parse().map_err(|_| format!("`{name}.{number}` has no number"))?;
        numbered.insert(number, value(child)?);
    }
    Ok(numbered.into_values().collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn flat_names_become_lists_and_maps_in_the_order_of_their_numbers() {
        let form = "Action=SendMessageBatch&SendMessageBatchRequestEntry.10.Id=j&SendMessageBatchRequestEntry.2.Id=b\
                    &SendMessageBatchRequestEntry.2.MessageAttribute.1.Name=city\
                    &SendMessageBatchRequestEntry.2.MessageAttribute.1.Value.StringValue=K%C3%B6ln\
                    &SendMessageBatchRequestEntry.2.MessageAttribute.1.Value.DataType=String&TagKey.1=a&Tag.1.Key=k&Tag.1.Value=v";
        let read = read(form.as_bytes()).unwrap();
        assert_eq!(
            Value::Object(read),
            json!({
                "Action": "SendMessageBatch",
                "Entries": [
                    { "Id": "b", "MessageAttributes": { "city": { "StringValue": "Köln", "DataType": "String" } } },
                    { "Id": "j" },
                ],
                "TagKeys": ["a"],
                "Tags": { "k": "v" },
            })
        );
        let empty = super::read(b"Entries=&Attributes=&QueueNamePrefix=").unwrap();
        assert_eq!(Value::Object(empty), json!({ "Entries": [], "Attributes": {}, "QueueNamePrefix": "" }));
    }

    #[test]
    fn what_is_no_form_is_refused() {
        for form in
            ["Tag.1.Key=a", "A=1&A=2", "A=1&A.b=2", "TagKey.x=1", "Tag.1=a", "a..b=1", "a.b.c.d.e.f.g.h.i=1"]
        {
            assert!(read(form.as_bytes()).is_err(), "{form}");
        }
    }
}
