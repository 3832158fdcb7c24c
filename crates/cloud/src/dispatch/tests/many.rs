//! More deliveries than a lane holds, and deliveries that wait for their consumer.

use std::collections::BTreeSet;

use super::*;
use crate::dispatch::Begin;

const MANY: usize = 3000;

fn settled(world: &World) -> bool {
    world.open().is_empty()
}

#[tokio::test(start_paused = true)]
async fn more_events_than_memory_holds_are_delivered_once_each_and_all_counted() {
    let world = World::new();
    world.subscribe("s", to("f", "", 3)).await;
    for n in 0..MANY {
        world.put(&format!("before-{n:05}")).await;
    }
    let mut world = world.restarted().await;
    let (dispatcher, mut seen) = world.start(vec![]);
    assert_eq!(dispatcher.backlog().unwrap()[&urn("subscription", "s")], MANY);
    // Hints of some come after the store was read for them.
    for n in 0..MANY {
        world.put(&format!("later-{n:05}")).await;
    }
    let mut keys = Vec::new();
    while keys.len() < 2 * MANY {
        let delivery = seen.recv().await.unwrap();
        assert_eq!(delivery.attempt, 1);
        keys.push(delivery.event.id);
    }
    while !settled(&world) {
        tokio::task::yield_now().await;
    }
    dispatcher.close(Duration::from_secs(9)).await;
    assert!(seen.try_recv().is_err(), "none twice");
    assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), 2 * MANY);
    assert!(keys[..MANY].is_sorted(), "the oldest first");
    assert!(dispatcher.backlog().unwrap().is_empty());
}

/// Has no room for anybody, and says so when it is told to.
struct Full(tokio::sync::Notify);

#[async_trait]
impl Consumer for Full {
    async fn deliver(&self, _: &Delivery) -> Result<(), Undelivered> {
        unreachable!("it is asked by `attempt`")
    }

    async fn attempt(&self, _: &Delivery, begin: Begin) -> Result<(), Undelivered> {
        self.0.notified().await;
        drop(begin);
        Err(Undelivered::Throttled)
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_that_waited_for_its_consumer_through_restarts_has_used_up_no_attempt() {
    let mut world = World::new();
    world.subscribe("s", to("f", "", 1)).await;
    world.put("k").await;
    for _ in 0..3 {
        let full = Arc::new(Full(tokio::sync::Notify::new()));
        let consumers = Consumers::from([(Kind::Function, full.clone() as Arc<dyn Consumer>)]);
        let hints = world.hints.take().unwrap();
        let dispatcher = Dispatcher::start(world.store.clone(), hints, consumers, Arc::new(Silent)).unwrap();
        assert_eq!(dispatcher.backlog().unwrap()[&urn("subscription", "s")], 1);
        full.0.notify_one();
        dispatcher.close(Duration::from_secs(9)).await;
        assert_eq!(world.open()[0].attempt, 0);
        world = world.restarted().await;
    }
    let (dispatcher, mut seen) = world.start(vec![]);
    assert_eq!(seen.recv().await.unwrap().attempt, 1);
    dispatcher.close(Duration::from_secs(9)).await;
    assert!(settled(&world) && world.dead().is_empty());
}
