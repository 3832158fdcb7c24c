//! The settings of buckets as they were last read, because every request asks for some and they hardly ever change.
//!
//! Only a cache: the rows are the truth. Whoever changes them forgets what is known of the bucket once the commit is made,
//! and before anybody is told of it. What is read is kept only if nothing was forgotten meanwhile.

use std::{
    any::Any,
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tandem_store::Store;

use super::{
    error::BucketError,
    settings::{Setting, setting},
};

/// Of so many buckets something is known at most.
const MOST: usize = 10_000;

type Row = Option<Arc<dyn Any + Send + Sync>>;

#[derive(Debug, Default)]
pub(super) struct Known(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// How often something was forgotten.
    forgotten: u64,
    /// By bucket, and by the name of the setting.
    rows: HashMap<String, HashMap<&'static str, Row>>,
}

impl Known {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The setting as it is now; the bucket is there.
    pub(super) fn get<T: Setting>(
        &self,
        store: &dyn Store,
        bucket: &str,
    ) -> Result<Option<Arc<T>>, BucketError> {
        let forgotten = {
            let state = self.state();
            if let Some(row) = state.rows.get(bucket).and_then(|rows| rows.get(T::NAME)) {
                return Ok(row.clone().and_then(|row| row.downcast().ok()));
            }
            state.forgotten
        };
        let found = setting::<T>(&*store.snapshot()?, bucket)?.map(Arc::new);
        let mut state = self.state();
        if state.forgotten == forgotten {
            if state.rows.len() >= MOST {
                state.rows.clear();
            }
            let row = found.clone().map(|found| found as Arc<dyn Any + Send + Sync>);
            state.rows.entry(bucket.to_owned()).or_default().insert(T::NAME, row);
        }
        Ok(found)
    }

    pub(super) fn forget(&self, bucket: &str) {
        let mut state = self.state();
        state.forgotten += 1;
        state.rows.remove(bucket);
    }
}
