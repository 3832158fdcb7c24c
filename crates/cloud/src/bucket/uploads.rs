//! Listing the uploads that were begun: by key, those of a key by the time of their beginning, folded at a delimiter, a
//! page at a time.

use tandem_store::{Direction, Snapshot, after_prefix};

use super::{
    Buckets,
    error::BucketError,
    list::folded,
    store::{Upload, apart, decode, ordered, table},
};

/// What to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UploadQuery {
    /// Only keys that start so.
    pub prefix: String,
    /// As for a listing of objects. Empty: none.
    pub delimiter: String,
    /// Only what comes after all uploads of this key, or after a common prefix; with an id, after that upload.
    pub after: Option<(String, Option<String>)>,
    /// At most so many uploads and common prefixes together.
    pub limit: usize,
}

/// An upload in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub key: String,
    pub id: String,
    pub upload: Upload,
}

/// One page of a listing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UploadPage {
    pub uploads: Vec<Listed>,
    pub prefixes: Vec<String>,
    /// There is more: ask again with this as [`UploadQuery::after`].
    pub next: Option<(String, Option<String>)>,
}

impl Buckets {
    /// One page of the uploads of a bucket.
    ///
    /// # Errors
    /// [`BucketError::NoSuchBucket`].
    pub fn list_uploads(&self, bucket: &str, query: &UploadQuery) -> Result<UploadPage, BucketError> {
        self.require(bucket)?;
        page(&*self.store.snapshot()?, bucket, query)
    }
}

fn page(snapshot: &dyn Snapshot, bucket: &str, query: &UploadQuery) -> Result<UploadPage, BucketError> {
    let UploadQuery { prefix, delimiter, after, limit } = query;
    let table = table("upload", bucket);
    let row = |name: &[u8]| [table.as_bytes(), name].concat();
    let first = row(ordered(prefix).as_bytes());
    let end = after_prefix(&first);
    let mut from = first;
    if let Some((key, id)) = after {
        let start = match (id, folded(key, prefix, delimiter)) {
            (Some(id), _) => format!("{}\0{id}\0", ordered(key)).into_bytes(),
            (None, Some(common)) if common == key => after_prefix(ordered(common).as_bytes()),
            (None, _) => format!("{}\0\x7f", ordered(key)).into_bytes(),
        };
        from = from.max(row(&start));
    }
    let mut page = UploadPage::default();
    let mut next = None;
    'seek: loop {
        for entry in snapshot.range(&from, &end, Direction::Ascending)? {
            let (found, value) = entry?;
            let name = std::str::from_utf8(&found[table.len()..]).unwrap_or_default();
            let Some((key, id)) = apart(name) else { continue };
            if page.uploads.len() + page.prefixes.len() == *limit {
                page.next = next;
                return Ok(page);
            }
            if let Some(common) = folded(&key, prefix, delimiter) {
                page.prefixes.push(common.to_owned());
                from = row(&after_prefix(ordered(common).as_bytes()));
                next = Some((common.to_owned(), None));
                continue 'seek;
            }
            next = Some((key.clone().into_owned(), Some(id.to_owned())));
            page.uploads.push(Listed { key: key.into_owned(), id: id.to_owned(), upload: decode(&value)? });
        }
        return Ok(page);
    }
}
