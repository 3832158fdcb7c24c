//! Listing keys, as S3 does: in the order of their bytes, folded at a delimiter, a page at a time.

use tandem_store::{Direction, Snapshot, after_prefix};

use super::{
    Buckets,
    error::BucketError,
    store::{Object, decode, table},
};

/// What to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Only keys that start so.
    pub prefix: String,
    /// Keys that have it after the prefix are folded into one common prefix, which ends in it. Empty: none.
    pub delimiter: String,
    /// Only what comes after: a key, or a common prefix that an earlier page ended with.
    pub after: Option<String>,
    /// At most so many keys and common prefixes together.
    pub limit: usize,
}

/// One page of a listing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page {
    pub objects: Vec<(String, Object)>,
    pub prefixes: Vec<String>,
    /// There is more: ask again with this as [`Query::after`].
    pub next: Option<String>,
}

impl Buckets {
    /// One page of the keys of a bucket.
    ///
    /// # Errors
    /// [`BucketError::NoSuchBucket`].
    pub fn list(&self, bucket: &str, query: &Query) -> Result<Page, BucketError> {
        self.require(bucket)?;
        let snapshot = self.store.snapshot()?;
        let mut page = Page::default();
        page.next = walk(&*snapshot, &table("object", bucket), query, |entry| {
            match entry {
                Entry::Row { name, value } => page.objects.push((name.to_owned(), decode(value)?)),
                Entry::Prefix(prefix) => page.prefixes.push(prefix.to_owned()),
            }
            Ok(())
        })?;
        Ok(page)
    }
}

pub(super) enum Entry<'a> {
    Row { name: &'a str, value: &'a [u8] },
    Prefix(&'a str),
}

/// Walks the rows under `table`, whose names follow it. Answers the name to continue after, if there is more.
pub(super) fn walk(
    snapshot: &dyn Snapshot,
    table: &str,
    query: &Query,
    mut take: impl FnMut(Entry<'_>) -> Result<(), BucketError>,
) -> Result<Option<String>, BucketError> {
    let Query { prefix, delimiter, after, limit } = query;
    let row = |name: &str| [table.as_bytes(), name.as_bytes()].concat();
    let end = after_prefix(&row(prefix));
    let mut from = row(prefix);
    if let Some(after) = after {
        let start = match folded(after, prefix, delimiter) {
            // A page that ended with a common prefix goes on after all keys that it stands for.
            Some(common) if common == after => after_prefix(&row(after)),
            _ => [&row(after)[..], b"\0"].concat(),
        };
        from = from.max(start);
    }
    let mut taken = 0;
    let mut last: Option<String> = None;
    // Every turn reads up to a common prefix, and the next starts behind what that stands for.
    'seek: loop {
        for entry in snapshot.range(&from, &end, Direction::Ascending)? {
            let (key, value) = entry?;
            if taken == *limit {
                return Ok(last);
            }
            let name = std::str::from_utf8(&key[table.len()..]).unwrap_or_default();
            taken += 1;
            if let Some(common) = folded(name, prefix, delimiter) {
                take(Entry::Prefix(common))?;
                last = Some(common.to_owned());
                from = after_prefix(&row(common));
                continue 'seek;
            }
            take(Entry::Row { name, value: &value })?;
            last = Some(name.to_owned());
        }
        return Ok(None);
    }
}

/// The common prefix that stands for a name: up to and with the first delimiter after the prefix.
pub(super) fn folded<'a>(name: &'a str, prefix: &str, delimiter: &str) -> Option<&'a str> {
    if delimiter.is_empty() {
        return None;
    }
    let rest = name.strip_prefix(prefix)?;
    let at = rest.find(delimiter)?;
    Some(&name[..prefix.len() + at + delimiter.len()])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use tandem_store::{Batch, MemoryStore, Store};

    use super::*;

    fn store(names: &[&str]) -> Arc<MemoryStore> {
        let store = Arc::new(MemoryStore::new());
        let mut batch = Batch::default();
        for name in names {
            batch.put(format!("object/b/{name}"), "");
        }
        batch.put("object/a/other", "").put("object/c/other", "");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(store.commit(batch)).unwrap();
        store
    }

    /// All pages: names, with a `*` behind common prefixes.
    fn pages(names: &[&str], query: &Query) -> Vec<Vec<String>> {
        let store = store(names);
        let mut query = query.clone();
        let mut pages = Vec::new();
        loop {
            let mut page = Vec::new();
            let next = walk(&*store.snapshot().unwrap(), "object/b/", &query, |entry| {
                page.push(match entry {
                    Entry::Row { name, .. } => name.to_owned(),
                    Entry::Prefix(prefix) => format!("{prefix}*"),
                });
                Ok(())
            });
            pages.push(page);
            match next.unwrap() {
                Some(next) => query.after = Some(next),
                None => return pages,
            }
        }
    }

    fn query(prefix: &str, delimiter: &str, limit: usize) -> Query {
        Query { prefix: prefix.to_owned(), delimiter: delimiter.to_owned(), after: None, limit }
    }

    const NAMES: [&str; 7] = ["a", "a/", "a/1", "a/2/x", "b/1", "b/2", "ä"];

    #[test]
    fn a_delimiter_folds_what_follows_it() {
        assert_eq!(pages(&NAMES, &query("", "/", 100)), [["a", "a/*", "b/*", "ä"]]);
        assert_eq!(pages(&NAMES, &query("a/", "/", 100)), [["a/", "a/1", "a/2/*"]]);
        assert_eq!(pages(&NAMES, &query("a", "", 100)), [["a", "a/", "a/1", "a/2/x"]]);
        assert_eq!(pages(&NAMES, &query("nothing", "/", 100)), [Vec::<String>::new()]);
    }

    #[test]
    fn a_page_goes_on_after_a_common_prefix() {
        assert_eq!(pages(&NAMES, &query("", "/", 2)), [["a", "a/*"], ["b/*", "ä"]]);
        assert_eq!(pages(&NAMES, &query("", "/", 1)), [["a"], ["a/*"], ["b/*"], ["ä"]]);
    }

    #[test]
    fn a_start_inside_a_common_prefix_still_shows_it() {
        let mut inside = query("", "/", 100);
        inside.after = Some("a/1".to_owned());
        assert_eq!(pages(&NAMES, &inside), [["a/*", "b/*", "ä"]]);
    }

    #[test]
    fn a_page_of_none_is_empty_and_the_last() {
        assert_eq!(pages(&NAMES, &query("", "", 0)), [Vec::<String>::new()]);
    }

    proptest! {
        #[test]
        fn pages_of_any_size_hold_the_same_as_one(
            names in prop::collection::btree_set("[ab/]{1,6}", 0..20),
            prefix in "[ab/]{0,2}",
            delimiter in "[/a]{0,1}",
            limit in 1usize..5,
        ) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let all = pages(&names, &query(&prefix, &delimiter, 1000)).concat();
            let paged = pages(&names, &query(&prefix, &delimiter, limit));
            prop_assert!(paged.iter().all(|page| page.len() <= limit));
            prop_assert_eq!(paged.concat(), all.clone());
            // Each name is there, itself or in its common prefix, and nothing else is.
            let expected: std::collections::BTreeSet<String> = names
                .iter()
                .filter(|name| name.starts_with(&prefix))
                .map(|name| folded(name, &prefix, &delimiter).map_or((*name).to_owned(), |common| format!("{common}*")))
                .collect();
            prop_assert_eq!(all.into_iter().collect::<std::collections::BTreeSet<_>>(), expected);
        }
    }
}
