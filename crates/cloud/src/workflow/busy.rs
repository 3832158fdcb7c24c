//! Who has no worker just now, and why. What waits for one is tried again until it is begun; this is what `show` tells meanwhile.

use std::{
    collections::HashMap,
    fmt::Display,
    sync::{Arc, Mutex},
};

use tandem_model::Report;

use super::lock;

/// Versions of orchestrators, and functions. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Busy(Arc<Mutex<HashMap<String, Report>>>);

impl Busy {
    /// It was tried: it had no worker for this reason, or it had one.
    pub(super) fn note(&self, who: &impl Display, why: Option<Report>) {
        let mut busy = lock(&self.0);
        match why {
            Some(why) => drop(busy.insert(who.to_string(), why)),
            None if busy.is_empty() => {}
            None => drop(busy.remove(&who.to_string())),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        lock(&self.0).is_empty()
    }

    pub(super) fn why(&self, who: &impl Display) -> Option<Report> {
        lock(&self.0).get(&who.to_string()).cloned()
    }
}
