//! Secrets that a change needs and nobody records.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

/// Values by their ids. They travel beside a change, never in it, so no state, journal or plan has them; and they are
/// shown by their ids alone.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secrets(pub BTreeMap<String, Vec<u8>>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Secrets").field(&self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_shown_by_its_id() {
        let secrets = Secrets(BTreeMap::from([("npm".to_owned(), b"hunter2".to_vec())]));
        assert_eq!(format!("{secrets:?}"), r#"Secrets(["npm"])"#);
    }
}
