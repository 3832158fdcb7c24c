//! That a listing takes no more memory than one of its pages, however many keys there are.

use std::fs;

use jiff::Timestamp;
use tandem_store::Batch;

use super::{BUCKET, Fixture};
use crate::bucket::{
    Algorithm, Body, Checksum, Description, Object, Query, Sequence, Stamp, Version, VersionQuery,
    Versioning,
    store::{encode, object_row, version_row},
};

const KEYS: usize = 100_000;
const PAGE: usize = 1000;
/// All entries of one of these listings together take more than 40 MB.
const MOST: u64 = 12 << 20;

fn object(version: Option<Stamp>) -> Object {
    Object {
        size: 1,
        etag: "4a4be40c96ac6314e91d93f38043a634".to_owned(),
        modified: Timestamp::now(),
        checksum: Checksum {
            algorithm: Algorithm::Crc64Nvme,
            value: "AAAAAAAAAAA=".to_owned(),
            composite: false,
        },
        body: Body::Inline,
        version,
        tags: Default::default(),
        description: Description { content_type: Some("text/plain".to_owned()), ..Description::default() },
    }
}

/// The most memory that the process had since it was last forgotten, in bytes.
pub(super) fn peak(forget: bool) -> u64 {
    if forget {
        fs::write("/proc/self/clear_refs", "5").unwrap();
    }
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

async fn fill(f: &Fixture, row: impl Fn(usize, &mut Batch)) {
    for some in (0..KEYS).collect::<Vec<_>>().chunks(10_000) {
        let mut batch = Batch::default();
        some.iter().for_each(|n| row(*n, &mut batch));
        f.store.commit(batch).await.unwrap();
    }
}

/// Walks twice, first so that the store has its pages in its cache, and answers how much the second added.
fn added(mut walk: impl FnMut() -> usize) -> u64 {
    assert_eq!(walk(), KEYS);
    let before = peak(true);
    assert_eq!(walk(), KEYS);
    peak(false).saturating_sub(before)
}

#[tokio::test]
async fn a_hundred_thousand_keys_are_listed_in_the_memory_of_a_page() {
    let f = Fixture::new().await;
    fill(&f, |n, batch| {
        batch.put(object_row(BUCKET, &format!("key/{n:06}")), encode(&object(None)));
    })
    .await;
    let added = added(|| {
        let mut query = Query { limit: PAGE, ..Query::default() };
        let mut seen = 0;
        loop {
            let page = f.buckets.list(BUCKET, &query).unwrap();
            assert!(page.objects.len() <= PAGE);
            seen += page.objects.len();
            match page.next {
                Some(next) => query.after = Some(next),
                None => return seen,
            }
        }
    });
    assert!(added < MOST, "{added} bytes more");
}

#[tokio::test]
async fn a_hundred_thousand_versions_are_listed_in_the_memory_of_a_page() {
    let f = Fixture::new().await;
    f.buckets.put_setting(BUCKET, &Versioning::Enabled).await.unwrap();
    // Ten keys, each with its current version and very many others.
    let mut newest = None;
    let sequences: Vec<Sequence> = (0..KEYS)
        .map(|_| {
            let next = Sequence::after(newest);
            newest = Some(next);
            next
        })
        .collect();
    fill(&f, |n, batch| {
        let (key, sequence) = (format!("key/{}", n % 10), sequences[n]);
        let object = object(Some(Stamp { sequence, null: false }));
        match n + 10 < KEYS {
            true => {
                let kept = encode(&Version::Object(Box::new(object)));
                batch.put(version_row(BUCKET, &key, sequence), kept)
            }
            false => batch.put(object_row(BUCKET, &key), encode(&object)),
        };
    })
    .await;
    let added = added(|| {
        let mut query = VersionQuery { limit: PAGE, ..VersionQuery::default() };
        let mut seen = 0;
        loop {
            let page = f.buckets.list_versions(BUCKET, &query).unwrap();
            assert!(page.versions.len() <= PAGE);
            seen += page.versions.len();
            match page.next {
                Some(next) => query.after = Some(next),
                None => return seen,
            }
        }
    });
    assert!(added < MOST, "{added} bytes more");
}
