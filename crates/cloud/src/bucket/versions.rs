//! Listing versions, as S3 does: keys in the order of their bytes, the versions of each from the newest to the oldest,
//! folded at a delimiter, a page at a time.
//!
//! A page merges three tables: current objects, current delete markers, and what was current before. It reads them
//! lazily, so it takes no more memory than it has entries.

use jiff::Timestamp;
use tandem_store::{Direction, Entries, Snapshot, after_prefix};

use super::{
    Buckets,
    error::BucketError,
    history::find,
    list::folded,
    store::{Version, apart, decode, ordered, table},
    version::{Sequence, VersionId},
};

/// What to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VersionQuery {
    /// Only keys that start so.
    pub prefix: String,
    /// As for a listing of objects. Empty: none.
    pub delimiter: String,
    /// Only what comes after all versions of this key, or after a common prefix; with a version, after that one.
    pub after: Option<(String, Option<VersionId>)>,
    /// At most so many versions, delete markers and common prefixes together.
    pub limit: usize,
}

/// A version in a listing.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedVersion {
    pub key: String,
    pub version: Version,
    /// Whether it is the current one.
    pub latest: bool,
    /// When it was replaced by the next one, to the millisecond; nothing for the current one.
    pub replaced: Option<Timestamp>,
}

/// One page of a listing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct VersionPage {
    pub versions: Vec<ListedVersion>,
    pub prefixes: Vec<String>,
    /// There is more: ask again with this as [`VersionQuery::after`].
    pub next: Option<(String, Option<VersionId>)>,
}

impl Buckets {
    /// One page of the versions of a bucket's objects. Also of a bucket that is not versioned.
    ///
    /// # Errors
    /// [`BucketError::NoSuchBucket`].
    pub fn list_versions(&self, bucket: &str, query: &VersionQuery) -> Result<VersionPage, BucketError> {
        self.require(bucket)?;
        page(&*self.store.snapshot()?, bucket, query)
    }
}

/// Where to go on: in tables that are ordered by key alone, and in that of the others, behind its prefix.
struct Place {
    current: Vec<u8>,
    kept: Vec<u8>,
}

impl Place {
    /// The first that can be listed, and the newest version that is left out of the key at which that is.
    fn first(
        snapshot: &dyn Snapshot,
        bucket: &str,
        query: &VersionQuery,
    ) -> Result<(Self, Option<Sequence>), BucketError> {
        let VersionQuery { prefix, delimiter, after, .. } = query;
        let mut place =
            Self { current: prefix.clone().into_bytes(), kept: ordered(prefix).into_owned().into_bytes() };
        let Some((key, version)) = after else { return Ok((place, None)) };
        let sequence = version.map(|id| sequence(snapshot, bucket, key, id)).transpose()?.flatten();
        let start = match (sequence, folded(key, prefix, delimiter)) {
            (Some(sequence), _) => Self {
                // The version may be current by now: it is told apart by its sequence.
                current: key.clone().into_bytes(),
                kept: format!("{}\0{sequence}\0", ordered(key)).into_bytes(),
            },
            // It is not there any more: rather some again than some not at all.
            (None, _) if version.is_some() => {
                Self { current: key.clone().into_bytes(), kept: format!("{}\0", ordered(key)).into_bytes() }
            }
            (None, Some(common)) if common == key => Self::behind(common),
            (None, _) => Self {
                current: format!("{key}\0").into_bytes(),
                kept: format!("{}\0\x7f", ordered(key)).into_bytes(),
            },
        };
        place.current = place.current.max(start.current);
        place.kept = place.kept.max(start.kept);
        Ok((place, sequence))
    }

    /// Behind all keys that start so.
    fn behind(common: &str) -> Self {
        Self { current: after_prefix(common.as_bytes()), kept: after_prefix(ordered(common).as_bytes()) }
    }
}

/// Where a version stands. A page that ends with one gives its sequence; `null` is asked for by hand.
fn sequence(
    snapshot: &dyn Snapshot,
    bucket: &str,
    key: &str,
    id: VersionId,
) -> Result<Option<Sequence>, BucketError> {
    match id {
        VersionId::Made(sequence) => Ok(Some(sequence)),
        VersionId::Null => match find(snapshot, bucket, key, Some(id)) {
            Ok(version) => Ok(Some(version.sequence())),
            Err(BucketError::NoSuchVersion { .. } | BucketError::NoSuchKey { .. }) => Ok(None),
            Err(error) => Err(error),
        },
    }
}

/// One of the tables, and its next entry.
struct Table<'a> {
    prefix: usize,
    kind: Kind,
    entries: Entries<'a>,
    next: Option<ListedVersion>,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Object,
    Marker,
    Kept,
}

impl<'a> Table<'a> {
    fn open(
        snapshot: &'a dyn Snapshot,
        kind: Kind,
        bucket: &str,
        prefix: &str,
        place: &Place,
    ) -> Result<Self, BucketError> {
        let (name, prefix, from) = match kind {
            Kind::Object => ("object", prefix.into(), &place.current),
            Kind::Marker => ("marker", prefix.into(), &place.current),
            Kind::Kept => ("version", ordered(prefix), &place.kept),
        };
        let table = table(name, bucket);
        let from = [table.as_bytes(), from].concat();
        let to = after_prefix(format!("{table}{prefix}").as_bytes());
        let entries = snapshot.range(&from, &to, Direction::Ascending)?;
        let mut opened = Self { prefix: table.len(), kind, entries, next: None };
        opened.advance()?;
        Ok(opened)
    }

    /// Answers the entry, and reads the next.
    fn advance(&mut self) -> Result<Option<ListedVersion>, BucketError> {
        let next = match self.entries.next() {
            None => None,
            Some(entry) => {
                let (row, value) = entry?;
                let name = std::str::from_utf8(&row[self.prefix..]).unwrap_or_default();
                let (key, version) = match self.kind {
                    Kind::Object => (name.to_owned(), Version::Object(decode(&value)?)),
                    Kind::Marker => (name.to_owned(), Version::Marker(decode(&value)?)),
                    Kind::Kept => {
                        let key = apart(name).map_or_else(String::new, |(key, _)| key.into_owned());
                        (key, decode(&value)?)
                    }
                };
                Some(ListedVersion { key, version, latest: self.kind != Kind::Kept, replaced: None })
            }
        };
        Ok(std::mem::replace(&mut self.next, next))
    }
}

fn page(snapshot: &dyn Snapshot, bucket: &str, query: &VersionQuery) -> Result<VersionPage, BucketError> {
    let VersionQuery { prefix, delimiter, after, limit } = query;
    let (mut place, before) = Place::first(snapshot, bucket, query)?;
    let mut page = VersionPage::default();
    // The one that comes before the next: what replaced it, if it is of the same key.
    let mut last = after.as_ref().and_then(|(key, _)| Some((key.clone(), before?)));
    let mut next = None;
    // Every turn reads up to a common prefix, and the next starts behind what that stands for.
    'seek: loop {
        let mut tables = [Kind::Object, Kind::Marker, Kind::Kept]
            .into_iter()
            .map(|kind| Table::open(snapshot, kind, bucket, prefix, &place))
            .collect::<Result<Vec<_>, _>>()?;
        loop {
            let with_next =
                tables.iter().enumerate().filter_map(|(at, table)| Some((&table.next.as_ref()?.key, at)));
            let Some((_, at)) = with_next.min() else { return Ok(page) };
            let Some(mut entry) = tables[at].advance()? else { return Ok(page) };
            let sequence = entry.version.sequence();
            let newer = last.as_ref().filter(|(key, _)| *key == entry.key).map(|(_, newer)| *newer);
            if newer.is_some_and(|newer| sequence >= newer) {
                // Of a page that begins within a key: what was made current meanwhile, and listed before.
                continue;
            }
            if page.versions.len() + page.prefixes.len() == *limit {
                page.next = next;
                return Ok(page);
            }
            if let Some(common) = folded(&entry.key, prefix, delimiter) {
                page.prefixes.push(common.to_owned());
                place = Place::behind(common);
                next = Some((common.to_owned(), None));
                continue 'seek;
            }
            entry.replaced = newer.filter(|_| !entry.latest).map(Sequence::time);
            next = Some((entry.key.clone(), Some(VersionId::Made(sequence))));
            last = Some((entry.key.clone(), sequence));
            page.versions.push(entry);
        }
    }
}
