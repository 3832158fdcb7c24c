//! Tags of objects: names and values that clients give, beside the metadata, and change without writing the object anew.
//!
//! Source: Amazon S3 user guide, "Categorizing your objects using tags".

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::error::BucketError;

const MOST: usize = 10;
const LONGEST_NAME: usize = 128;
const LONGEST_VALUE: usize = 256;

/// Valid tags, each name once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tags(BTreeMap<String, String>);

impl Tags {
    /// # Errors
    /// [`BucketError::Tag`] that names the tag and what is wrong with it; [`BucketError::TagCount`] above 10.
    pub(super) fn new(given: impl IntoIterator<Item = (String, String)>) -> Result<Self, BucketError> {
        let mut tags = BTreeMap::new();
        for (name, value) in given {
            let wrong = |wrong| BucketError::Tag { name: name.chars().take(LONGEST_NAME).collect(), wrong };
            if name.is_empty() || name.chars().count() > LONGEST_NAME {
                return Err(wrong("its name has 1 to 128 characters"));
            }
            if value.chars().count() > LONGEST_VALUE {
                return Err(wrong("its value has at most 256 characters"));
            }
            if !name.chars().chain(value.chars()).all(allowed) {
                return Err(wrong("it holds letters, digits, spaces and + - = . _ : / @"));
            }
            if name.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("aws:")) {
                return Err(wrong("names that begin with `aws:` are reserved"));
            }
            if tags.contains_key(&name) {
                return Err(wrong("a name is given once"));
            }
            tags.insert(name, value);
        }
        match tags.len() {
            0..=MOST => Ok(Self(tags)),
            count => Err(BucketError::TagCount { count, most: MOST }),
        }
    }

    /// Those of the header `x-amz-tagging`, which are written as a URL's query.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub(super) fn of_header(header: &str) -> Result<Self, BucketError> {
        Self::new(form_urlencoded::parse(header.as_bytes()).into_owned())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Names and values, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }
}

fn allowed(c: char) -> bool {
    c.is_alphanumeric() || c == ' ' || "+-=._:/@".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(header: &str) -> Result<Vec<(String, String)>, String> {
        let tags = Tags::of_header(header).map_err(|error| error.to_string())?;
        Ok(tags.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    #[test]
    fn a_header_is_read_as_a_query() {
        let tag = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            of("b=2&a%20b=%C3%BC+%40&empty=&none").unwrap(),
            [tag("a b", "ü @"), tag("b", "2"), tag("empty", ""), tag("none", "")]
        );
        assert_eq!(of("").unwrap(), []);
    }

    #[test]
    fn what_is_wrong_with_a_tag_is_said_by_its_name() {
        let long = "n".repeat(129);
        let value = format!("a={}", "ü".repeat(257));
        for (header, wrong) in [
            ("=x", "1 to 128"),
            (&*long, "1 to 128"),
            (&*value, "256"),
            ("a=b%00", "letters"),
            ("a=%3C", "letters"),
            ("AWS:a=b", "reserved"),
            ("a=1&a=2", "once"),
        ] {
            let error = of(header).unwrap_err();
            assert!(error.contains(wrong), "{header}: {error}");
        }
        let limits = format!("{}={}", "ü".repeat(128), "ü".repeat(256));
        assert_eq!(of(&limits).unwrap().len(), 1);
        let many: Vec<String> = (0..11).map(|n| format!("{n}=")).collect();
        assert_eq!(of(&many[1..].join("&")).unwrap().len(), 10);
        assert!(of(&many.join("&")).unwrap_err().contains("11"));
    }
}
