//! Versions beside a model: what is current, what was replaced, and what a deletion leaves.

use futures::TryStreamExt;
use proptest::prelude::*;

use super::{BUCKET, Fixture, once};
use crate::bucket::{
    BucketError, Condition, Deleted, Deletion, ListedVersion, Only, PutOptions, Query, Tags, Version,
    VersionId, VersionPage, VersionQuery, Versioning,
};

const LARGE: usize = 40_000;

impl Fixture {
    pub(super) async fn set_versioning(&self, versioning: Versioning) {
        self.buckets.put_setting(BUCKET, &versioning).await.unwrap();
    }

    /// Puts, and answers the version that it made.
    async fn put_version(&self, key: &str, body: Vec<u8>) -> VersionId {
        self.buckets.put(BUCKET, key, once(body), &PutOptions::default()).await.unwrap().version_id()
    }

    async fn get_version(&self, key: &str, version: VersionId) -> Result<Vec<u8>, BucketError> {
        let found = self.buckets.get_range(BUCKET, key, Some(version), |object| Ok(0..object.size)).await?;
        let body: Vec<_> = found.body.try_collect().await.unwrap();
        Ok(body.concat())
    }

    pub(super) fn versions(&self) -> Vec<ListedVersion> {
        self.version_pages("", "", 1000).into_iter().flat_map(|page| page.versions).collect()
    }

    fn version_pages(&self, prefix: &str, delimiter: &str, limit: usize) -> Vec<VersionPage> {
        let mut query =
            VersionQuery { prefix: prefix.to_owned(), delimiter: delimiter.to_owned(), after: None, limit };
        let mut pages = Vec::new();
        loop {
            let page = self.buckets.list_versions(BUCKET, &query).unwrap();
            assert!(page.versions.len() + page.prefixes.len() <= limit);
            query.after = page.next.clone();
            pages.push(page);
            if query.after.is_none() {
                return pages;
            }
        }
    }

    async fn delete_version(&self, key: &str, version: Option<VersionId>) -> Deleted {
        let deletion = Deletion { version, ..Deletion::of(key) };
        self.buckets.delete_each(BUCKET, &[deletion], None).await.unwrap().remove(0).unwrap()
    }

    /// Rows of everything that versions need.
    fn version_rows(&self) -> usize {
        let snapshot = self.store.snapshot().unwrap();
        let count = |table: &str| snapshot.prefix(table.as_bytes()).unwrap().count();
        ["marker/", "version/", "null/", "version-body/"].map(count).iter().sum()
    }
}

/// `key@0*`: the versions from the newest, with the index of each in `ids`, a `-` before delete markers, a `*` behind
/// the current one.
fn shown(versions: &[ListedVersion], ids: &[VersionId]) -> Vec<String> {
    let show = |listed: &ListedVersion| {
        let id = listed.version.version_id();
        let index = match id {
            VersionId::Null => "null".to_owned(),
            id => ids.iter().position(|known| *known == id).unwrap().to_string(),
        };
        let marker = if matches!(listed.version, Version::Marker(_)) { "-" } else { "" };
        format!("{marker}{}@{index}{}", listed.key, if listed.latest { "*" } else { "" })
    };
    versions.iter().map(show).collect()
}

#[tokio::test]
async fn a_bucket_that_was_never_versioned_keeps_nothing_and_names_no_version() {
    let f = Fixture::new().await;
    f.subscribe().await;
    assert_eq!(f.put_version("a", b"1".to_vec()).await, VersionId::Null);
    f.put("a", vec![2; LARGE]).await;
    f.put("a", "3").await;
    assert_eq!(f.version_rows(), 0);
    assert_eq!(f.buckets.head_version(BUCKET, "a", None).unwrap().version, None);
    assert_eq!(f.get_version("a", VersionId::Null).await.unwrap(), b"3");
    assert_eq!(shown(&f.versions(), &[]), ["a@null*"]);
    assert_eq!(f.delete_version("a", None).await, Deleted::default());
    assert!(f.versions().is_empty() && f.version_rows() == 0);
    assert_eq!(f.store.snapshot().unwrap().prefix(b"body/").unwrap().count(), 0);
    assert!(f.events().iter().all(|(_, data)| data.version_id.is_none() && !data.delete_marker));
}

#[tokio::test]
async fn what_is_replaced_or_deleted_is_kept_and_can_be_read() {
    let f = Fixture::new().await;
    f.put("a", "from before").await;
    f.set_versioning(Versioning::Enabled).await;
    assert_eq!(f.buckets.head_version(BUCKET, "a", None).unwrap().version, Some(VersionId::Null));
    f.subscribe().await;
    let small = f.put_version("a", b"small".to_vec()).await;
    let large = f.put_version("a", vec![7; LARGE]).await;
    let other = f.put_version("b", b"other".to_vec()).await;
    let marker = f.delete_version("a", None).await;
    assert!(marker.marker);
    let ids = [small, large, other, marker.version.unwrap()];
    assert_eq!(shown(&f.versions(), &ids), ["-a@3*", "a@1", "a@0", "a@null", "b@2*"]);

    let gone = f.buckets.get(BUCKET, "a").await.err().unwrap();
    assert!(matches!(gone, BucketError::Deleted { version, .. } if version == ids[3]), "{gone}");
    let names_marker = f.get_version("a", ids[3]).await.unwrap_err();
    assert!(matches!(names_marker, BucketError::IsMarker { .. }), "{names_marker}");
    assert_eq!(f.get_version("a", small).await.unwrap(), b"small");
    assert_eq!(f.get_version("a", large).await.unwrap(), vec![7; LARGE]);
    assert_eq!(f.get_version("a", VersionId::Null).await.unwrap(), b"from before");
    assert!(matches!(f.get_version("b", small).await.unwrap_err(), BucketError::NoSuchVersion { .. }));
    let listed = f.buckets.list(BUCKET, &Query { limit: 10, ..Query::default() }).unwrap();
    assert_eq!(listed.objects.iter().map(|(key, _)| &**key).collect::<Vec<_>>(), ["b"]);

    // A replaced version knows since when it is.
    let versions = f.versions();
    assert_eq!(
        versions[1].replaced.unwrap(),
        ids[3].to_string().parse::<crate::bucket::Sequence>().unwrap().time()
    );
    assert!(versions[0].replaced.is_none());

    // The marker goes: the object is there again. Then the object goes for good.
    assert_eq!(f.delete_version("a", marker.version).await, Deleted { marker: true, ..marker });
    assert_eq!(f.get("a").await, vec![7; LARGE]);
    f.delete_version("a", Some(large)).await;
    assert_eq!(f.get("a").await, "small");
    assert_eq!(f.blobs.list().await.unwrap(), []);
    f.delete_version("a", Some(VersionId::Null)).await;
    assert_eq!(shown(&f.versions(), &ids), ["a@0*", "b@2*"]);
    assert_eq!(f.delete_version("a", Some(large)).await.version, Some(large), "it is deleted already");
    f.delete_version("a", Some(small)).await;
    f.delete_version("b", Some(other)).await;
    assert!(f.versions().is_empty() && f.version_rows() == 0);
    assert_eq!(f.store.snapshot().unwrap().prefix(b"body/").unwrap().count(), 0);

    let told: Vec<_> = f
        .events()
        .into_iter()
        .map(|(kind, data)| {
            let version = data.version_id.unwrap();
            let index =
                ids.iter().position(|id| id.to_string() == version).map_or(version, |i| i.to_string());
            format!("{kind} {}@{index}{}", data.key, if data.delete_marker { " by a marker" } else { "" })
        })
        .collect();
    // That a delete marker goes is no event.
    assert_eq!(
        told,
        [
            "put a@0",
            "put a@1",
            "put b@2",
            "deleted a@3 by a marker",
            "deleted a@1",
            "deleted a@null",
            "deleted a@0",
            "deleted b@2",
        ]
    );
}

#[tokio::test]
async fn while_versioning_is_suspended_the_version_null_is_replaced_and_others_stay() {
    let f = Fixture::new().await;
    f.put("a", vec![0; LARGE]).await;
    f.set_versioning(Versioning::Enabled).await;
    let ids = [f.put_version("a", b"one".to_vec()).await];
    f.set_versioning(Versioning::Suspended).await;
    assert_eq!(f.put_version("a", b"null".to_vec()).await, VersionId::Null);
    // The former `null`, which was not current, is gone.
    f.blobs_become(0).await;
    assert_eq!(shown(&f.versions(), &ids), ["a@null*", "a@0"]);
    f.put_version("a", b"again".to_vec()).await;
    assert_eq!(f.get_version("a", VersionId::Null).await.unwrap(), b"again");
    assert_eq!(f.buckets.head_version(BUCKET, "a", None).unwrap().version, Some(VersionId::Null));

    let marker = f.delete_version("a", None).await;
    assert_eq!(marker, Deleted { version: Some(VersionId::Null), marker: true });
    assert_eq!(shown(&f.versions(), &ids), ["-a@null*", "a@0"]);
    // Enabled again, the marker is kept like any version.
    f.set_versioning(Versioning::Enabled).await;
    let ids = [ids[0], f.put_version("a", b"two".to_vec()).await];
    assert_eq!(shown(&f.versions(), &ids), ["a@1*", "-a@null", "a@0"]);
    assert!(f.delete_version("a", Some(VersionId::Null)).await.marker);
    f.delete_version("a", Some(ids[1])).await;
    assert_eq!(shown(&f.versions(), &ids), ["a@0*"]);
    f.delete_version("a", Some(ids[0])).await;
    assert_eq!(f.version_rows(), 0);
}

#[tokio::test]
async fn a_condition_is_judged_by_the_version_that_it_is_about() {
    let f = Fixture::new().await;
    f.set_versioning(Versioning::Enabled).await;
    let old = f.buckets.put(BUCKET, "a", once("old"), &PutOptions::default()).await.unwrap();
    f.put("a", "new").await;
    let by = |condition, version| Deletion { version, condition, ..Deletion::of("a") };
    let of_old = Condition::IfMatch(old.etag.clone());
    let done =
        f.buckets.delete_each(BUCKET, &[by(of_old.clone(), None), Deletion::of("b")], None).await.unwrap();
    assert!(matches!(done[0], Err(BucketError::Precondition)));
    assert!(done[1].as_ref().unwrap().marker, "one that fails does not hold up the others");
    assert_eq!(f.get("a").await, "new");
    let done = f.buckets.delete_each(BUCKET, &[by(of_old, Some(old.version_id()))], None).await.unwrap();
    assert!(done[0].is_ok());
    // To what writes, a delete marker is as good as nothing.
    f.delete_version("a", None).await;
    let absent = PutOptions { condition: Condition::IfAbsent, ..PutOptions::default() };
    f.buckets.put(BUCKET, "a", once("x"), &absent).await.unwrap();
    f.delete_version("a", None).await;
    let matching = PutOptions { condition: Condition::IfMatch("x".to_owned()), ..PutOptions::default() };
    let put = f.buckets.put(BUCKET, "a", once("x"), &matching).await;
    assert!(matches!(put, Err(BucketError::NoSuchKey { .. })), "{put:?}");
}

#[tokio::test]
async fn several_versions_of_a_key_are_deleted_in_one_request() {
    let f = Fixture::new().await;
    f.set_versioning(Versioning::Enabled).await;
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(f.put_version("a", vec![n; if n % 2 == 0 { LARGE } else { 10 }]).await);
    }
    let of = |n: usize| Deletion::of_version("a", ids[n]);
    f.buckets.delete_each(BUCKET, &[of(4), of(2), of(3)], None).await.unwrap();
    assert_eq!(shown(&f.versions(), &ids), ["a@1*", "a@0"]);
    assert_eq!(f.get("a").await, vec![1; 10]);
    // Together with the object itself: a marker, on what is left.
    f.buckets.delete_each(BUCKET, &[of(1), Deletion::of("a"), of(0)], None).await.unwrap();
    assert!(matches!(f.versions()[..], [ListedVersion { version: Version::Marker(_), latest: true, .. }]));
    assert_eq!(f.blobs.list().await.unwrap(), []);
}

#[tokio::test]
async fn what_expires_a_version_does_not_take_one_that_has_become_current_or_is_not_alone() {
    let f = Fixture::new().await;
    f.set_versioning(Versioning::Enabled).await;
    let (old, new) = (f.put_version("a", b"old".to_vec()).await, f.put_version("a", b"new".to_vec()).await);
    let only = async |version, only| {
        let deletion = Deletion { only, ..Deletion::of_version("a", version) };
        f.buckets.delete_each(BUCKET, &[deletion], None).await.unwrap().remove(0).is_ok()
    };
    assert!(!only(new, Only::Replaced).await);
    f.delete_version("a", Some(new)).await;
    assert!(!only(old, Only::Replaced).await, "it has become the current one");
    assert_eq!(f.get("a").await, "old");
    let marker = f.delete_version("a", None).await.version.unwrap();
    assert!(!only(marker, Only::Alone).await);
    assert!(only(old, Only::Replaced).await);
    assert!(only(marker, Only::Alone).await);
    assert!(f.versions().is_empty());
}

#[tokio::test]
async fn of_puts_and_deletions_of_one_key_at_once_each_leaves_its_version_in_order() {
    let f = Fixture::new().await;
    f.set_versioning(Versioning::Enabled).await;
    let changes = (0..40u8).map(|n| {
        let f = &f;
        async move {
            match n % 4 {
                0 => f.delete_version("a", None).await.version.unwrap(),
                _ => f.put_version("a", vec![n; if n % 2 == 0 { LARGE } else { 10 }]).await,
            }
        }
    });
    let made = futures::future::join_all(changes).await;
    let versions = f.versions();
    assert_eq!(versions.len(), 40);
    assert!(versions.is_sorted_by(|a, b| a.version.sequence() > b.version.sequence()));
    assert_eq!(versions.iter().filter(|listed| listed.latest).count(), 1);
    assert!(versions[0].latest);
    assert!(made.iter().all(|id| versions.iter().any(|listed| listed.version.version_id() == *id)));
    // All at once they go, and nothing is left.
    futures::future::join_all(made.iter().map(|id| f.delete_version("a", Some(*id)))).await;
    assert!(f.versions().is_empty() && f.version_rows() == 0);
    assert_eq!(f.blobs.list().await.unwrap(), []);
}

#[tokio::test]
async fn a_change_beside_the_switch_of_versioning_is_wholly_before_or_after_it() {
    let f = Fixture::new().await;
    let puts = futures::future::join_all((0..30u8).map(|n| f.put_version("a", vec![n; LARGE])));
    let (made, ()) = tokio::join!(puts, f.set_versioning(Versioning::Enabled));
    let named: Vec<_> = made.into_iter().filter(|id| *id != VersionId::Null).collect();
    // At most one is from before; all from after are there.
    let versions = f.versions();
    let from_before = versions.iter().filter(|v| v.version.version_id() == VersionId::Null).count();
    assert!(from_before <= 1);
    assert_eq!(versions.len(), named.len() + from_before);
    assert_eq!(f.blobs.list().await.unwrap().len(), versions.len());
}

#[tokio::test]
async fn a_version_is_read_to_its_end_though_it_is_replaced_or_deleted_meanwhile() {
    let f = Fixture::new().await;
    f.set_versioning(Versioning::Enabled).await;
    let body = vec![7u8; 3 << 20];
    let id = f.put_version("a", body.clone()).await;
    let found = f.buckets.get_range(BUCKET, "a", Some(id), |object| Ok(0..object.size)).await.unwrap();
    f.put("a", "new").await;
    f.delete_version("a", Some(id)).await;
    let read: Vec<_> = found.body.try_collect().await.unwrap();
    assert!(read.concat() == body);
}

#[tokio::test]
async fn tags_are_of_a_version_and_change_without_another() {
    let f = Fixture::new().await;
    f.set_versioning(Versioning::Enabled).await;
    let first = f.put_version("a", b"1".to_vec()).await;
    let second = f.put_version("a", b"2".to_vec()).await;
    f.subscribe().await;
    let before = f.buckets.head_version(BUCKET, "a", Some(first)).unwrap().object;
    let tags = |text: &str| Tags::of_header(text).unwrap();
    assert_eq!(f.buckets.put_tags(BUCKET, "a", Some(first), &tags("of=first")).await.unwrap(), Some(first));
    assert_eq!(f.buckets.put_tags(BUCKET, "a", None, &tags("of=second")).await.unwrap(), Some(second));
    let of = |id| f.buckets.head_version(BUCKET, "a", Some(id)).unwrap().object;
    assert_eq!((of(first).tags, of(second).tags), (tags("of=first"), tags("of=second")));
    assert_eq!((of(first).modified, of(first).etag), (before.modified, before.etag));
    assert!(f.happened().is_empty());
    assert_eq!(f.versions().len(), 2);
    let marker = f.delete_version("a", None).await.version;
    for (version, code) in
        [(None, "E0804"), (marker, "E0830"), (Some("0".repeat(32).parse().unwrap()), "E0830")]
    {
        let refused = f.buckets.put_tags(BUCKET, "a", version, &tags("")).await.unwrap_err();
        assert_eq!(tandem_model::Explain::code(&refused), code, "{refused}");
    }
}

#[tokio::test]
async fn a_bucket_with_versions_is_not_empty_and_goes_with_them_by_force() {
    let f = Fixture::new().await;
    f.set_versioning(Versioning::Enabled).await;
    f.put("a", vec![1; LARGE]).await;
    f.put("a", "2").await;
    f.delete_version("a", None).await;
    let refused = f.delete_bucket(BUCKET, false).await.unwrap_err();
    assert!(refused.code == "E0813" && refused.message.contains("3 objects"), "{refused:?}");
    f.delete_bucket(BUCKET, true).await.unwrap();
    assert_eq!(f.version_rows(), 0);
    assert_eq!(f.blobs.list().await.unwrap(), []);
    // A bucket of that name that comes later is not versioned.
    f.create_bucket("shop/dev", BUCKET, false).await.unwrap();
    assert_eq!(f.put_version("a", b"1".to_vec()).await, VersionId::Null);
    assert_eq!(f.version_rows(), 0);
}

#[derive(Debug, Clone)]
enum Step {
    Put(usize, bool),
    Delete(usize),
    DeleteVersion(usize),
    DeleteNull(usize),
    Set(bool),
    /// Changes a record where it is.
    Tag(usize),
}

const KEYS: [&str; 4] = ["a", "a\0b", "a/b", "b"];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = 0..KEYS.len();
    let step = prop_oneof![
        4 => (key.clone(), any::<bool>()).prop_map(|(key, large)| Step::Put(key, large)),
        2 => key.clone().prop_map(Step::Delete),
        3 => any::<prop::sample::Index>().prop_map(|index| Step::DeleteVersion(index.index(1000))),
        1 => key.clone().prop_map(Step::DeleteNull),
        1 => any::<bool>().prop_map(Step::Set),
        1 => key.prop_map(Step::Tag),
    ];
    prop::collection::vec(step, 1..40)
}

/// What the bucket should hold: by key, from the newest, the id and the body; nothing of a delete marker.
#[derive(Default)]
struct Model {
    versioning: Versioning,
    keys: [Vec<(VersionId, Option<Vec<u8>>)>; KEYS.len()],
}

impl Model {
    fn add(&mut self, key: usize, id: VersionId, body: Option<Vec<u8>>) {
        match self.versioning {
            Versioning::Never => self.keys[key].clear(),
            Versioning::Suspended => self.keys[key].retain(|(id, _)| *id != VersionId::Null),
            Versioning::Enabled => {}
        }
        self.keys[key].insert(0, (id, body));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_done_to_a_bucket_its_versions_are_those_of_a_simple_model(steps in steps(), limit in 1usize..4) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let f = Fixture::new().await;
            let mut model = Model::default();
            for (n, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Put(key, large) => {
                        let body = vec![n as u8; if large { LARGE } else { 10 }];
                        let id = f.put_version(KEYS[key], body.clone()).await;
                        assert_eq!(id == VersionId::Null, model.versioning != Versioning::Enabled);
                        model.add(key, id, Some(body));
                    }
                    Step::Delete(key) => {
                        let deleted = f.delete_version(KEYS[key], None).await;
                        match model.versioning {
                            Versioning::Never => model.keys[key].clear(),
                            _ => model.add(key, deleted.version.unwrap(), None),
                        }
                    }
                    Step::DeleteVersion(index) => {
                        let all: Vec<_> = (0..KEYS.len())
                            .flat_map(|key| model.keys[key].iter().map(move |(id, _)| (key, *id)))
                            .collect();
                        if all.is_empty() { continue }
                        let (key, id) = all[index % all.len()];
                        let marker = f.delete_version(KEYS[key], Some(id)).await.marker;
                        let at = model.keys[key].iter().position(|(known, _)| *known == id).unwrap();
                        assert_eq!(marker, model.keys[key].remove(at).1.is_none());
                    }
                    Step::DeleteNull(key) => {
                        f.delete_version(KEYS[key], Some(VersionId::Null)).await;
                        model.keys[key].retain(|(id, _)| *id != VersionId::Null);
                    }
                    Step::Set(enabled) => {
                        model.versioning = if enabled { Versioning::Enabled } else { Versioning::Suspended };
                        f.set_versioning(model.versioning).await;
                    }
                    Step::Tag(key) => {
                        let _ = f.buckets.put_tags(BUCKET, KEYS[key], None, &Tags::of_header("a=b").unwrap()).await;
                    }
                }
            }
            check(&f, &model, limit).await;
        });
    }
}

async fn check(f: &Fixture, model: &Model, limit: usize) {
    let mut expected = Vec::new();
    let mut large = 0;
    for (key, versions) in KEYS.iter().zip(&model.keys) {
        for (at, (id, body)) in versions.iter().enumerate() {
            expected.push(((*key).to_owned(), *id, body.is_none(), at == 0));
            match body {
                Some(body) => {
                    assert!(f.get_version(key, *id).await.unwrap() == *body);
                    large += usize::from(body.len() == LARGE);
                }
                None => assert!(matches!(f.get_version(key, *id).await, Err(BucketError::IsMarker { .. }))),
            }
        }
        match (versions.first(), f.buckets.get(BUCKET, key).await) {
            (Some((_, Some(body))), Ok(found)) => assert!(found.bytes().await.unwrap() == *body),
            (Some((_, None)), Err(BucketError::Deleted { .. }))
            | (None, Err(BucketError::NoSuchKey { .. })) => {}
            (now, found) => panic!("{key}: {now:?} and {:?}", found.map(|found| found.object)),
        }
    }
    let listed = |pages: Vec<VersionPage>| -> Vec<_> {
        let versions = pages.into_iter().flat_map(|page| page.versions);
        versions
            .map(|v| (v.key, v.version.version_id(), matches!(v.version, Version::Marker(_)), v.latest))
            .collect()
    };
    assert_eq!(listed(f.version_pages("", "", 1000)), expected);
    assert_eq!(listed(f.version_pages("", "", limit)), expected, "{limit} a page");
    // Folded: `a/b` goes into a common prefix, the others do not.
    expected.retain(|(key, ..)| key != "a/b");
    for limit in [limit, 1000] {
        let pages = f.version_pages("", "/", limit);
        let prefixes: Vec<_> = pages.iter().flat_map(|page| page.prefixes.clone()).collect();
        assert_eq!(prefixes.len(), usize::from(!model.keys[2].is_empty()));
        assert_eq!(listed(pages), expected);
    }
    f.blobs_become(large).await;
    let inline = {
        let snapshot = f.store.snapshot().unwrap();
        let rows = |table: &[u8]| snapshot.prefix(table).unwrap().count();
        rows(b"body/") + rows(b"version-body/")
    };
    let small = model.keys.iter().flatten().filter(|(_, body)| body.as_ref().is_some_and(|b| b.len() == 10));
    assert_eq!(inline, small.count(), "no inline body too many");
}
