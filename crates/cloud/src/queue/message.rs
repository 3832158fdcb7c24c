//! A message: what is kept of it, and what it must be.
//!
//! Its row is a header of fixed length, then what describes it as JSON, then the body as it was sent. So what only wants
//! to know how old a message is need not read the rest.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use data_encoding::HEXLOWER;
use s3s::crypto::{Checksum as _, Md5};
use serde::{Deserialize, Serialize};

use super::error::{QueueError, damaged};

/// The most bytes of a message and of a batch, attributes included: 1 MiB.
///
/// Source: Amazon SQS Developer Guide, "Amazon SQS message quotas", since August 2025.
pub(super) const MOST_BYTES: usize = 1 << 20;
/// The most attributes of a message. Source: as above.
const MOST_ATTRIBUTES: usize = 10;
/// The header: when it can be received first, when it was sent, how long the description is.
const HEADER: usize = 8 + 8 + 4;

/// One message, as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Message {
    /// From when on it can be received, in milliseconds.
    pub(super) due: u64,
    /// When it was sent.
    pub(super) sent: u64,
    pub(super) about: About,
    pub(super) body: Bytes,
}

/// What describes a message.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct About {
    pub(super) id: String,
    /// Who sent it.
    pub(super) sender: String,
    /// Of the body, hexadecimal.
    pub(super) md5: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) attributes: BTreeMap<String, Attribute>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) group: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) deduplication: Option<String>,
    /// `AWSTraceHeader`, as it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) trace: Option<String>,
    /// W3C trace context of the cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) traceparent: Option<String>,
    /// The ARN of the queue in which it was received too often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) dead_from: Option<String>,
}

/// An attribute that the sender gave a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Attribute {
    /// `String`, `Number` or `Binary`, and after a dot what the sender calls it.
    pub data_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub string_value: Option<String>,
    /// In Base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binary_value: Option<String>,
}

impl Message {
    pub(super) fn encode(&self) -> Bytes {
        let about = serde_json::to_vec(&self.about).expect("a description has string keys only");
        let mut row = BytesMut::with_capacity(HEADER + about.len() + self.body.len());
        row.put_u64(self.due);
        row.put_u64(self.sent);
        row.put_u32(u32::try_from(about.len()).expect("a description is less than a message"));
        row.put_slice(&about);
        row.put_slice(&self.body);
        row.freeze()
    }

    pub(super) fn decode(row: &Bytes) -> Result<Self, QueueError> {
        let times = Times::of(row)?;
        let length: [u8; 4] = row[HEADER - 4..HEADER].try_into().expect("a slice of four bytes");
        let end = HEADER.saturating_add(u32::from_be_bytes(length) as usize);
        let about = row.get(HEADER..end).ok_or_else(|| damaged("a message's row is cut off"))?;
        let about = serde_json::from_slice(about).map_err(damaged)?;
        Ok(Self { due: times.due, sent: times.sent, about, body: row.slice(end..) })
    }

    /// The body as text, which it was when it was sent.
    pub(super) fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }
}

/// The times in the header of a message's row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) due: u64,
    pub(super) sent: u64,
}

impl Times {
    pub(super) fn of(row: &[u8]) -> Result<Self, QueueError> {
        match (row.first_chunk::<8>(), row.get(8..16).and_then(|r| r.first_chunk::<8>()), row.len() >= HEADER)
        {
            (Some(due), Some(sent), true) => {
                Ok(Self { due: u64::from_be_bytes(*due), sent: u64::from_be_bytes(*sent) })
            }
            _ => Err(damaged("a message's row is cut off")),
        }
    }
}

pub(super) fn md5(bytes: &[u8]) -> String {
    let mut md5 = Md5::new();
    md5.update(bytes);
    HEXLOWER.encode(md5.finalize().as_ref())
}

/// The MD5 of attributes, as clients check it.
///
/// Source: Amazon SQS Developer Guide, "Calculating the MD5 message digest for message attributes": by name, each of name,
/// type and value with its length in four bytes before it, and before the value one byte that says how it travels.
pub(super) fn md5_of_attributes(attributes: &BTreeMap<String, Attribute>) -> Option<String> {
    if attributes.is_empty() {
        return None;
    }
    let mut all = Vec::new();
    let put = |all: &mut Vec<u8>, bytes: &[u8]| {
        all.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
        all.extend_from_slice(bytes);
    };
    for (name, attribute) in attributes {
        put(&mut all, name.as_bytes());
        put(&mut all, attribute.data_type.as_bytes());
        match (&attribute.string_value, attribute.binary()) {
            (Some(text), _) => {
                all.push(1);
                put(&mut all, text.as_bytes());
            }
            (None, bytes) => {
                all.push(2);
                put(&mut all, &bytes.unwrap_or_default());
            }
        }
    }
    Some(md5(&all))
}

impl Attribute {
    fn binary(&self) -> Option<Vec<u8>> {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        STANDARD.decode(self.binary_value.as_deref()?).ok()
    }

    fn size(&self) -> usize {
        self.data_type.len()
            + self.string_value.as_ref().map_or(0, String::len)
            + self.binary().map_or(0, |bytes| bytes.len())
    }
}

/// Checks attributes, and answers how many bytes of a message they are.
///
/// # Errors
/// [`QueueError::Parameter`] names the attribute and what is wrong with it.
pub(super) fn check_attributes(attributes: &BTreeMap<String, Attribute>) -> Result<usize, QueueError> {
    let refuse = |wrong: String| Err(QueueError::Parameter { name: "MessageAttributes", wrong });
    if attributes.len() > MOST_ATTRIBUTES {
        return refuse(format!(
            "a message has at most {MOST_ATTRIBUTES} attributes, not {}",
            attributes.len()
        ));
    }
    for (name, attribute) in attributes {
        let legal = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        let lower = name.to_ascii_lowercase();
        if name.is_empty() || name.len() > 256 || !name.chars().all(legal) {
            return refuse(format!("`{name}` is not a name: 1 to 256 letters, digits, `_`, `-` and `.`"));
        }
        if lower.starts_with("aws.")
            || lower.starts_with("amazon.")
            || name.starts_with('.')
            || name.ends_with('.')
            || name.contains("..")
        {
            return refuse(format!(
                "`{name}` begins with `AWS.` or `Amazon.`, or has a period where none may be"
            ));
        }
        let kind = attribute.data_type.split('.').next().unwrap_or_default();
        let filled = match kind {
            "String" | "Number" => attribute.string_value.as_ref().is_some_and(|text| !text.is_empty()),
            "Binary" => attribute.binary().is_some_and(|bytes| !bytes.is_empty()),
            other => {
                return refuse(format!(
                    "the type of `{name}` is `String`, `Number` or `Binary`, not `{other}`"
                ));
            }
        };
        if !filled {
            return refuse(format!("`{name}` is of type {kind} and has no value of that type"));
        }
        if attribute.data_type.len() > 256 {
            return refuse(format!("the type of `{name}` has more than 256 characters"));
        }
        let text = attribute.string_value.as_deref().unwrap_or_default();
        if kind == "Number" && text.trim().parse::<f64>().is_err() {
            return refuse(format!("`{name}` is a number, not `{text}`"));
        }
        if !text.chars().all(allowed) {
            return Err(QueueError::Contents);
        }
    }
    Ok(attributes.iter().map(|(name, attribute)| name.len() + attribute.size()).sum())
}

/// Whether a message may have the character. Source: Amazon SQS, SendMessage; the characters of XML 1.0.
pub(super) fn allowed(c: char) -> bool {
    matches!(c, '\u{9}' | '\u{a}' | '\u{d}' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..='\u{10ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(data_type: &str, value: &str) -> Attribute {
        Attribute { data_type: data_type.into(), string_value: Some(value.into()), binary_value: None }
    }

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let about = About {
            id: "m1".into(),
            attributes: BTreeMap::from([("a".into(), text("String", "ä"))]),
            ..About::default()
        };
        let message = Message { due: 7, sent: 5, about, body: Bytes::from_static(b"{}\0x") };
        assert_eq!(Message::decode(&message.encode()).unwrap(), message);
        assert!(Message::decode(&message.encode().slice(..HEADER + 3)).is_err());
        assert!(Message::decode(&Bytes::new()).is_err());
    }

    #[test]
    fn attributes_that_no_client_may_send_are_named() {
        for (name, attribute, said) in [
            ("AWS.x", text("String", "v"), "begins with"),
            ("a b", text("String", "v"), "not a name"),
            ("a", text("Text", "v"), "`Text`"),
            ("a", text("Number.int", "seven"), "seven"),
            ("a", text("String", ""), "no value"),
            ("a", text("Binary", "v"), "no value"),
        ] {
            let error = check_attributes(&BTreeMap::from([(name.to_owned(), attribute)])).unwrap_err();
            assert!(error.to_string().contains(said), "{error}");
        }
        let eleven = (0..11).map(|n| (format!("a{n}"), text("String", "v"))).collect();
        assert!(check_attributes(&eleven).is_err());
        assert_eq!(check_attributes(&BTreeMap::from([("ab".into(), text("String", "xyz"))])).unwrap(), 11);
    }
}
