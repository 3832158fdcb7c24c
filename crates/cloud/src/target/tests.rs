//! The target over an in-memory store and a service that counts.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use serde_json::json;
use tandem_model::{Kind, OpId, PhysicalId, Report, Urn, plan::Change, resource::Properties};
use tandem_store::{Batch, MemoryStore, Store};

use super::{CloudTarget, Providers, load};
use crate::{
    provider::{Holding, Lines, Provider},
    resource::Resources,
};

#[derive(Default)]
struct Counting {
    prepared: AtomicUsize,
    settled: AtomicUsize,
}

#[async_trait]
impl Provider for Counting {
    async fn prepare(&self, _: &Change, id: &PhysicalId, lines: &dyn Lines) -> Result<Properties, Report> {
        self.prepared.fetch_add(1, Ordering::SeqCst);
        lines.line("preparing");
        Ok(Properties::from_iter([("id".to_owned(), json!(id))]))
    }

    fn write(&self, batch: &mut Batch, _: &Change, id: &PhysicalId) -> Result<(), Report> {
        batch.put(format!("mine/{id}"), "1");
        Ok(())
    }

    async fn settle(&self, _: &Urn, _: &PhysicalId, _: Option<&tandem_model::Recorded>) {
        self.settled.fetch_add(1, Ordering::SeqCst);
    }

    async fn holding(&self, _: &PhysicalId) -> Result<Option<Holding>, Report> {
        Ok(Some(Holding { items: 2, bytes: 10, unit: "object", unfinished: 0 }))
    }
}

struct Quiet;
impl Lines for Quiet {
    fn line(&self, _: &str) {}
}

struct World {
    store: Arc<dyn Store>,
    resources: Arc<Resources>,
    service: Arc<Counting>,
    target: CloudTarget,
}

impl World {
    async fn new() -> Self {
        Self::over(Arc::new(MemoryStore::default())).await
    }

    async fn over(store: Arc<dyn Store>) -> Self {
        let resources = Arc::new(Resources::default());
        let id = load(&store, &resources).await.unwrap();
        let service = Arc::new(Counting::default());
        let providers = Providers::from([
            (Kind::Bucket, service.clone() as Arc<dyn Provider>),
            (Kind::Function, service.clone() as Arc<dyn Provider>),
        ]);
        let target = CloudTarget::new(id, store.clone(), resources.clone(), providers);
        Self { store, resources, service, target }
    }

    async fn apply(&self, op: &str, change: &Change) -> Result<Option<PhysicalId>, Report> {
        Ok(self.target.apply(&OpId(op.into()), change, &Quiet).await?.map(|applied| applied.id))
    }
}

fn create(urn: &str) -> Change {
    Change::Create { urn: urn.parse().unwrap(), inputs: Properties::new() }
}

const BUCKET: &str = "urn:tandem:p:dev:bucket:My_Photos";

#[tokio::test]
async fn repeating_an_operation_answers_its_first_result_and_does_nothing() {
    let world = World::new().await;
    let first = world.apply("op-1", &create(BUCKET)).await.unwrap();
    let world = World::over(world.store).await;
    assert_eq!(world.apply("op-1", &create(BUCKET)).await.unwrap(), first);
    assert_eq!(world.service.prepared.load(Ordering::SeqCst), 0);
    assert_eq!(world.resources.list(None).len(), 1);
}

#[tokio::test]
async fn a_bucket_gets_a_name_that_clients_accept_and_that_no_other_has() {
    let world = World::new().await;
    let first = world.apply("op-1", &create(BUCKET)).await.unwrap().unwrap();
    let second = world.apply("op-2", &create(BUCKET)).await.unwrap().unwrap();
    assert_ne!(first, second);
    assert!(first.0.starts_with("my-photos-") && first.0.len() == "my-photos-".len() + 7, "{first}");
}

#[tokio::test]
async fn a_restart_finds_the_same_cloud_and_its_resources_and_settles_them() {
    let world = World::new().await;
    world.apply("op-1", &create(BUCKET)).await.unwrap();
    let again = World::over(world.store.clone()).await;
    assert_eq!(again.target.identity(), world.target.identity());
    assert_eq!(again.resources.list(None), world.resources.list(None));
    again.target.settle_all().await;
    assert_eq!(again.service.settled.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_name_that_another_resource_has_is_refused_and_nothing_is_written() {
    let world = World::new().await;
    let function = "urn:tandem:p:dev:function:f";
    world.apply("op-1", &create(function)).await.unwrap();
    let refused = world.apply("op-2", &create(function)).await.unwrap_err();
    assert_eq!(refused.code, "E0303");
    assert_eq!(world.store.snapshot().unwrap().get(b"op/op-2").unwrap(), None);
}

#[tokio::test]
async fn a_change_and_what_its_service_adds_are_one_commit() {
    let world = World::new().await;
    let id = world.apply("op-1", &create(BUCKET)).await.unwrap().unwrap();
    let snapshot = world.store.snapshot().unwrap();
    assert!(snapshot.get(format!("mine/{id}").as_bytes()).unwrap().is_some());
    assert!(snapshot.get(format!("resource/bucket/{id}").as_bytes()).unwrap().is_some());
    assert!(snapshot.get(b"op/op-1").unwrap().is_some());
}

#[tokio::test]
async fn deleting_what_is_gone_succeeds_and_acknowledged_results_are_forgotten() {
    let world = World::new().await;
    let id = world.apply("op-1", &create(BUCKET)).await.unwrap().unwrap();
    let delete = Change::Delete { urn: BUCKET.parse().unwrap(), id, force: false };
    assert_eq!(world.apply("op-2", &delete).await.unwrap(), None);
    assert_eq!(world.apply("op-3", &delete).await.unwrap(), None);
    assert!(world.resources.list(None).is_empty());
    world.target.acknowledge(&[OpId("op-1".into()), OpId("op-2".into())]).await.unwrap();
    let snapshot = world.store.snapshot().unwrap();
    assert_eq!(snapshot.prefix(b"op/").unwrap().count(), 0);
}

#[tokio::test]
async fn resources_and_contents_are_told_in_bulk() {
    let world = World::new().await;
    let id = world.apply("op-1", &create(BUCKET)).await.unwrap().unwrap();
    let urn: Urn = BUCKET.parse().unwrap();
    let ids = |stack: &str| -> Vec<PhysicalId> {
        world.target.list(&stack.parse().unwrap()).into_iter().map(|recorded| recorded.id).collect()
    };
    assert_eq!((ids("p/dev"), ids("p/prod")), (vec![id.clone()], vec![]));
    let contents = world.target.contents(&[(urn.clone(), id)]).await.unwrap();
    assert_eq!((contents[0].items, contents[0].bytes), (2, 10));
}
