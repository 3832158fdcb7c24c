use bytes::Bytes;
use jiff::Timestamp;

use super::{BUCKET, Fixture, once};
use crate::bucket::{
    Algorithm, BucketError, Claims, PartClaim, PutOptions, Upload, UploadPage, UploadQuery,
    multipart::Completed,
};

const MIB: usize = 1 << 20;

async fn begin(f: &Fixture, key: &str) -> String {
    let upload = Upload {
        begun: Timestamp::now(),
        algorithm: Algorithm::Crc32,
        composite: true,
        chosen: true,
        tags: Default::default(),
        description: Default::default(),
    };
    f.buckets.begin_upload(BUCKET, key, &upload).await.unwrap()
}

async fn part(f: &Fixture, key: &str, id: &str, number: i32, body: Vec<u8>) -> PartClaim {
    let claims = || Ok(Claims::default());
    let at = (BUCKET, key, id);
    let part = f.buckets.put_part(at, number, once(body), &[Algorithm::Crc32], claims).await.unwrap();
    PartClaim { number, etag: Some(part.etag), checksum: None }
}

async fn complete(f: &Fixture, key: &str, id: &str, parts: &[PartClaim]) -> Result<Completed, BucketError> {
    f.buckets.complete_upload((BUCKET, key, id), parts, None, &PutOptions::default()).await
}

#[tokio::test]
async fn parts_become_one_object_with_one_event_and_one_answer() {
    let f = Fixture::new().await;
    f.subscribe().await;
    let id = begin(&f, "film").await;
    let second = part(&f, "film", &id, 2, vec![2; 10]).await;
    let first = part(&f, "film", &id, 1, vec![1; 5 * MIB]).await;
    let spare = part(&f, "film", &id, 7, vec![7; 10]).await;
    assert!(f.happened().is_empty());
    assert_eq!(f.blobs.list().await.unwrap().len(), 3);

    let parts = [first, second];
    let done = complete(&f, "film", &id, &parts).await.unwrap();
    assert!(done.etag.ends_with("-2") && done.checksum.value.ends_with("-2"), "{done:?}");
    let body = f.get("film").await;
    assert!(body[..5 * MIB] == vec![1; 5 * MIB] && body[5 * MIB..] == [2; 10]);
    let range = f
        .buckets
        .get_range(BUCKET, "film", None, |_| Ok(5 * MIB as u64 - 1..5 * MIB as u64 + 1))
        .await
        .unwrap();
    assert_eq!(range.bytes().await.unwrap(), Bytes::from_static(&[1, 2]));
    assert_eq!(f.blobs.list().await.unwrap().len(), 2, "the part that was not named is gone: {spare:?}");

    assert_eq!(complete(&f, "film", &id, &parts).await.unwrap(), done);
    assert_eq!(f.happened(), ["put film"]);
    let query = UploadQuery { limit: 10, ..UploadQuery::default() };
    assert_eq!(f.buckets.list_uploads(BUCKET, &query).unwrap(), UploadPage::default());
}

#[tokio::test]
async fn completions_at_once_give_the_same_answer_and_one_event() {
    let f = Fixture::new().await;
    f.subscribe().await;
    let id = begin(&f, "film").await;
    let parts = [part(&f, "film", &id, 1, vec![1; 10]).await];
    let answers = futures::future::join_all((0..5).map(|_| complete(&f, "film", &id, &parts))).await;
    let first = answers[0].as_ref().unwrap();
    assert!(answers.iter().all(|answer| answer.as_ref().unwrap() == first));
    assert_eq!(f.happened(), ["put film"]);
}

#[tokio::test]
async fn a_completion_that_names_the_wrong_parts_changes_nothing() {
    let f = Fixture::new().await;
    let id = begin(&f, "film").await;
    let small = part(&f, "film", &id, 1, vec![1; 10]).await;
    let last = part(&f, "film", &id, 2, vec![2; 10]).await;
    let missing = PartClaim { number: 3, ..small.clone() };
    let other = PartClaim { number: 2, ..small.clone() };
    for (parts, code) in [
        (vec![], "E0806"),
        (vec![small.clone(), last.clone()], "E0806"),
        (vec![last.clone(), small.clone()], "E0806"),
        (vec![missing], "E0806"),
        (vec![other], "E0806"),
    ] {
        let refused = complete(&f, "film", &id, &parts).await.unwrap_err();
        assert_eq!(tandem_model::Explain::code(&refused), code, "{refused}");
    }
    let refused = complete(&f, "film", &id, &[small.clone(), last]).await.unwrap_err();
    assert!(matches!(refused, BucketError::PartSize { number: 1, size: 10, .. }), "{refused}");
    complete(&f, "film", &id, &[small]).await.unwrap();
}

#[tokio::test]
async fn an_upload_that_ended_takes_no_part() {
    let f = Fixture::new().await;
    let id = begin(&f, "film").await;
    part(&f, "film", &id, 1, vec![1; 10]).await;
    f.buckets.abort_upload(BUCKET, "film", &id).await.unwrap();
    assert_eq!(f.blobs.list().await.unwrap(), []);
    let claims = || Ok(Claims::default());
    let late = f.buckets.put_part((BUCKET, "film", &id), 2, once("x"), &[Algorithm::Crc32], claims).await;
    assert!(matches!(late, Err(BucketError::NoSuchUpload { .. })));
    assert!(matches!(
        f.buckets.abort_upload(BUCKET, "film", &id).await,
        Err(BucketError::NoSuchUpload { .. })
    ));
    assert!(matches!(complete(&f, "film", &id, &[]).await, Err(BucketError::NoSuchUpload { .. })));
    assert_eq!(f.blobs.list().await.unwrap(), []);
}

#[tokio::test]
async fn a_part_uploaded_again_replaces_the_first() {
    let f = Fixture::new().await;
    let id = begin(&f, "film").await;
    let first = part(&f, "film", &id, 1, b"first".to_vec()).await;
    let again = part(&f, "film", &id, 1, b"again".to_vec()).await;
    assert_eq!(f.blobs.list().await.unwrap().len(), 1);
    assert!(matches!(complete(&f, "film", &id, &[first]).await, Err(BucketError::Part { number: 1 })));
    complete(&f, "film", &id, &[again]).await.unwrap();
    assert_eq!(f.get("film").await, "again");
}

/// All pages: keys, with a `*` behind common prefixes.
fn pages(f: &Fixture, prefix: &str, delimiter: &str, limit: usize) -> Vec<Vec<String>> {
    let mut query =
        UploadQuery { prefix: prefix.to_owned(), delimiter: delimiter.to_owned(), after: None, limit };
    let mut pages = Vec::new();
    loop {
        let page = f.buckets.list_uploads(BUCKET, &query).unwrap();
        let keys = page.uploads.into_iter().map(|listed| listed.key);
        let mut names: Vec<String> = keys.chain(page.prefixes.iter().map(|p| format!("{p}*"))).collect();
        names.sort_unstable();
        pages.push(names);
        match page.next {
            Some(next) => query.after = Some(next),
            None => return pages,
        }
    }
}

#[tokio::test]
async fn uploads_are_listed_by_key_a_page_at_a_time() {
    let f = Fixture::new().await;
    // The id of an upload holds digits and letters: no delimiter may be found in it.
    for key in ["b", "a", "a/x", "a\0b", "a", "c/1", "c/2"] {
        begin(&f, key).await;
    }
    assert_eq!(pages(&f, "", "", 100), [["a", "a", "a\0b", "a/x", "b", "c/1", "c/2"]]);
    for limit in 1..5 {
        assert_eq!(pages(&f, "", "", limit).concat(), pages(&f, "", "", 100).concat(), "{limit}");
        assert_eq!(pages(&f, "", "/", limit).concat(), ["a", "a", "a\0b", "a/*", "b", "c/*"], "{limit}");
    }
    assert_eq!(pages(&f, "a", "", 100), [["a", "a", "a\0b", "a/x"]]);
    assert_eq!(pages(&f, "", "0", 100), pages(&f, "", "", 100));
    let behind = UploadQuery { after: Some(("a".to_owned(), None)), limit: 1, ..UploadQuery::default() };
    assert_eq!(f.buckets.list_uploads(BUCKET, &behind).unwrap().uploads[0].key, "a\0b");
}
