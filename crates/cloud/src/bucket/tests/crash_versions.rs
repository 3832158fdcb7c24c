//! Kills a process that changes a versioned bucket at each failpoint, and looks at what the next start makes of it.

use std::collections::HashMap;

use jiff::Timestamp;

use super::{BUCKET, Fixture, crash::killed, once};
use crate::bucket::{
    Algorithm, Claims, Deletion, PartClaim, PutOptions, Tags, Upload, Version, VersionId, Versioning,
};

const LARGE: usize = 100_000;

/// The process that is killed: every kind of change, with bodies in the store and in files.
#[tokio::test]
#[ignore = "started by the other tests of this file"]
async fn changes() {
    let Some(folder) = crate::killed::folder() else { return };
    let f = Fixture::open(&folder).await;
    f.create_bucket("shop/dev", BUCKET, false).await.unwrap();
    f.subscribe().await;
    let put = async |body: Vec<u8>| {
        f.buckets.put(BUCKET, "a", once(body), &PutOptions::default()).await.unwrap().version_id()
    };
    let delete = async |version: Option<VersionId>| {
        let deletion = Deletion { version, ..Deletion::of("a") };
        f.buckets.delete_each(BUCKET, &[deletion], None).await.unwrap().remove(0).unwrap().version
    };
    put(vec![1; LARGE]).await;
    f.set_versioning(Versioning::Enabled).await;
    let small = put(vec![2; 10]).await;
    let large = put(vec![3; LARGE]).await;
    f.buckets.put_tags(BUCKET, "a", Some(small), &Tags::of_header("a=b").unwrap()).await.unwrap();
    let upload = Upload {
        begun: Timestamp::now(),
        algorithm: Algorithm::Crc64Nvme,
        composite: false,
        chosen: false,
        tags: Tags::of_header("c=d").unwrap(),
        description: Default::default(),
    };
    let id = f.buckets.begin_upload(BUCKET, "a", &upload).await.unwrap();
    let claims = || Ok(Claims::default());
    let part = once(vec![4; LARGE]);
    f.buckets.put_part((BUCKET, "a", &id), 1, part, &[Algorithm::Crc64Nvme], claims).await.unwrap();
    let part = PartClaim { number: 1, etag: None, checksum: None };
    f.buckets.complete_upload((BUCKET, "a", &id), &[part], None, &PutOptions::default()).await.unwrap();
    let marker = delete(None).await;
    delete(marker).await;
    delete(Some(large)).await;
    f.set_versioning(Versioning::Suspended).await;
    put(vec![5; 10]).await;
    put(vec![6; LARGE]).await;
    delete(None).await;
    delete(Some(VersionId::Null)).await;
    f.delete_bucket(BUCKET, true).await.unwrap();
}

/// Whatever was cut off: versions are whole and in order, each has had its event, and no body is too many or too few.
async fn is_consistent(f: &Fixture, failpoint: &str) {
    let versions = f.versions();
    let mut put: HashMap<String, usize> = HashMap::new();
    let mut marked: HashMap<String, usize> = HashMap::new();
    for (kind, data) in f.events() {
        let of = match (&*kind, data.delete_marker) {
            ("put", _) => &mut put,
            (_, true) => &mut marked,
            _ => continue,
        };
        *of.entry(data.version_id.unwrap_or_else(|| "null".to_owned())).or_default() += 1;
    }
    let (mut blobs, mut inline) = (0, 0);
    for (at, listed) in versions.iter().enumerate() {
        assert_eq!(listed.latest, at == 0, "{failpoint}");
        let id = listed.version.version_id();
        let events = match &listed.version {
            Version::Object(object) => {
                let found =
                    f.buckets.get_range(BUCKET, "a", Some(id), |object| Ok(0..object.size)).await.unwrap();
                let body = found.bytes().await.unwrap();
                assert_eq!(body.len() as u64, object.size, "{failpoint}: {id}");
                assert!(body.iter().all(|byte| *byte == body[0]), "{failpoint}: {id} is of one put");
                match object.body.blobs().count() {
                    0 => inline += 1,
                    some => blobs += some,
                }
                &put
            }
            Version::Marker(_) => &marked,
        };
        let times = events.get(&id.to_string()).copied().unwrap_or(0);
        match id {
            VersionId::Null => assert!(times > 0, "{failpoint}: {id} has had its event"),
            VersionId::Made(_) => assert_eq!(times, 1, "{failpoint}: {id} has had its event, once"),
        }
    }
    assert!(versions.is_sorted_by(|a, b| a.version.sequence() > b.version.sequence()), "{failpoint}");
    let uploads =
        f.buckets.list_uploads(BUCKET, &crate::bucket::UploadQuery { limit: 9, ..Default::default() });
    for upload in uploads.unwrap().uploads {
        blobs += f.buckets.list_parts((BUCKET, "a", &upload.id), 0, 9).unwrap().0.len();
    }
    assert_eq!(f.blobs.list().await.unwrap().len(), blobs, "{failpoint}: no blob is left over");
    let rows = {
        let snapshot = f.store.snapshot().unwrap();
        let count = |table: &[u8]| snapshot.prefix(table).unwrap().count();
        (count(b"body/") + count(b"version-body/"), count(b"null/"))
    };
    assert_eq!(rows.0, inline, "{failpoint}: no inline body is left over");
    let kept_null = versions.iter().any(|v| !v.latest && v.version.version_id() == VersionId::Null);
    assert_eq!(rows.1, usize::from(kept_null), "{failpoint}");
    // And it goes on working.
    f.put("a", "x").await;
    assert_eq!(f.get("a").await, "x");
}

#[tokio::test]
async fn killed_around_any_change_of_versions_each_is_whole_with_its_event_or_not_there() {
    let mut failpoints: Vec<String> =
        ["bucket.complete.judged", "bucket.complete.committed", "bucket.tags.committed"]
            .map(str::to_owned)
            .into();
    // A count: the first put is of before versioning.
    failpoints.extend(
        (1..=5).flat_map(|n| [format!("bucket.put.stored@{n}"), format!("bucket.put.committed@{n}")]),
    );
    failpoints.extend((1..=5).map(|n| format!("bucket.delete.committed@{n}")));
    failpoints.extend((1..=2).map(|n| format!("bucket.setting.committed@{n}")));
    for failpoint in failpoints {
        let (f, _folder) = killed("crash_versions::changes", &failpoint).await;
        is_consistent(&f, &failpoint).await;
    }
}

#[tokio::test]
async fn killed_while_a_bucket_of_versions_is_emptied_its_deletion_goes_on() {
    for failpoint in ["bucket.closing.committed", "bucket.emptying.committed"] {
        let (f, _folder) = killed("crash_versions::changes", failpoint).await;
        f.delete_bucket(BUCKET, true).await.unwrap();
        assert_eq!(f.blobs.list().await.unwrap(), []);
        let snapshot = f.store.snapshot().unwrap();
        for table in ["object/", "body/", "marker/", "version/", "version-body/", "null/", "setting/"] {
            assert_eq!(snapshot.prefix(table.as_bytes()).unwrap().count(), 0, "{failpoint}: {table}");
        }
    }
}
