//! Validated names. What a user may write is decided here, once.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A name that a user wrote and that Tandem cannot accept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("a {what} name is empty")]
    Empty { what: &'static str },
    #[error("the {what} name `{name}` is longer than {max} characters")]
    TooLong { what: &'static str, name: String, max: usize },
    #[error(
        "the {what} name `{name}` contains `{bad}`; use letters, digits, `-`, `_` and `.`, starting with a letter or digit"
    )]
    Illegal { what: &'static str, name: String, bad: char },
}

fn check(what: &'static str, name: &str, max: usize) -> Result<(), NameError> {
    let Some(first) = name.chars().next() else { return Err(NameError::Empty { what }) };
    if name.len() > max {
        return Err(NameError::TooLong { what, name: name.to_owned(), max });
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let bad =
        Some(first).filter(|c| !c.is_ascii_alphanumeric()).or_else(|| name.chars().find(|c| !legal(*c)));
    match bad {
        Some(bad) => Err(NameError::Illegal { what, name: name.to_owned(), bad }),
        None => Ok(()),
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $max:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;
            fn from_str(name: &str) -> Result<Self, NameError> {
                check($what, name, $max)?;
                Ok(Self(name.to_owned()))
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(name: String) -> Result<Self, NameError> {
                name.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// The name of a project, from `Tandem.yaml`. At most 64 characters.
    ProjectName, "project", 64
);
name!(
    /// The name of a stack: `dev`, `prod`. At most 64 characters.
    StackName, "stack", 64
);
name!(
    /// The name a program gives a resource. At most 128 characters.
    ResourceName, "resource", 128
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_which_character_is_wrong() {
        assert_eq!("dev".parse::<StackName>().map(String::from), Ok("dev".to_owned()));
        let error = "a b".parse::<ResourceName>().unwrap_err();
        assert!(error.to_string().contains("contains ` `"), "{error}");
        assert!("-a".parse::<StackName>().is_err());
        assert!("".parse::<ProjectName>().is_err());
        assert!("x".repeat(129).parse::<ResourceName>().is_err());
    }
}
