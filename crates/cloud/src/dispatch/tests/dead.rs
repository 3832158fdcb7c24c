//! Dead letters: delivered again, dropped, listed; and what is left of a stack that is gone.

use futures::TryStreamExt;

use super::*;
use crate::dispatch::{DeadLetter, DeadLetterError, DeadLetters, Held, Told, Which};

impl World {
    fn letters(&self) -> DeadLetters {
        DeadLetters::new(self.store.clone(), self.outbox.clone(), self.resources.clone(), Arc::new(Silent))
    }

    fn deploy(&self, urn: &Urn) {
        self.resources.put(Recorded {
            id: PhysicalId(urn.to_string()),
            urn: urn.clone(),
            inputs: Properties::new(),
            outputs: Properties::new(),
            depends_on: vec![],
        });
    }

    /// Puts a dead letter of the subscription there.
    async fn die(&self, subscription: &Urn, id: &str) -> DeadLetter {
        let consumer =
            if subscription.kind == Kind::Function { subscription.clone() } else { urn("function", "f") };
        let delivery = Delivery {
            id: id.into(),
            subscription: subscription.clone(),
            consumer,
            attempt: 3,
            max_attempts: 3,
            event: event(id),
            redriven: None,
        };
        let Err(Undelivered::Failed { error, log_tail }) = failed() else { unreachable!() };
        let letter = DeadLetter { delivery, time: Timestamp::now(), error, log_tail };
        let mut batch = Batch::default();
        batch.put(dead_key(&letter.delivery), encode(&letter));
        self.store.commit(batch).await.unwrap();
        letter
    }
}

async fn listed(letters: &DeadLetters, which: Which) -> Vec<Told> {
    letters.list(which).try_collect().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_redriven_event_is_a_new_request_with_all_its_attempts_and_is_redriven_once() {
    let mut world = World::new();
    world.deploy(&urn("function", "f"));
    world.subscribe("s", to("f", "", 2)).await;
    let (dispatcher, mut seen) = world.start(vec![failed(), failed(), failed()]);
    world.put("k").await;
    for _ in 0..2 {
        seen.recv().await.unwrap();
    }
    while world.dead().is_empty() {
        tokio::task::yield_now().await;
    }
    let (letters, dead) = (world.letters(), world.dead().remove(0));
    let id = letters.redrive(dead.clone()).await.unwrap();
    let tries = [seen.recv().await.unwrap(), seen.recv().await.unwrap()];
    dispatcher.close(Duration::from_secs(9)).await;
    assert_eq!([tries[0].attempt, tries[1].attempt], [1, 2]);
    assert!(id != dead.delivery.id && tries.iter().all(|d| d.id == id && d.event == dead.delivery.event));
    assert_eq!(tries[0].redriven.as_deref(), Some(dead.delivery.id.as_str()));
    assert!(world.dead().is_empty() && world.open().is_empty());
    assert!(matches!(letters.redrive(dead).await, Err(DeadLetterError::Unknown { .. })));
    assert!(world.open().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_redriven_event_goes_where_its_subscription_leads_now() {
    let world = World::new();
    world.deploy(&urn("function", "g"));
    let letter = world.die(&urn("subscription", "s"), "a").await;
    world.subscribe("s", to("g", "", 7)).await;
    world.letters().redrive(letter).await.unwrap();
    let open = world.open();
    assert_eq!((&open[0].consumer, open[0].max_attempts, open[0].attempt), (&urn("function", "g"), 7, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_is_told_and_refused_and_can_be_dropped() {
    let world = World::new();
    let letters = world.letters();
    let (s, f) = (urn("subscription", "s"), urn("function", "f"));
    let of_subscription = world.die(&s, "a").await;
    let direct = world.die(&f, "b").await;
    let gone: Vec<_> = listed(&letters, Which::default()).await.into_iter().map(|told| told.gone).collect();
    assert_eq!(gone, [Some(f.clone()), Some(s)]);
    for letter in [&of_subscription, &direct] {
        let refused = letters.redrive(letter.clone()).await.unwrap_err();
        assert!(matches!(refused, DeadLetterError::Gone { .. }), "{refused}");
    }
    world.deploy(&f);
    letters.redrive(direct).await.unwrap();
    letters.discard(of_subscription.clone()).await.unwrap();
    assert!(matches!(letters.discard(of_subscription).await, Err(DeadLetterError::Unknown { .. })));
    assert_eq!((world.dead().len(), world.open().len()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn none_is_redriven_for_a_subscription_that_is_deleted_meanwhile() {
    let world = World::new();
    world.deploy(&urn("function", "f"));
    world.subscribe("s", to("f", "", 3)).await;
    let letter = world.die(&urn("subscription", "s"), "a").await;
    let mut batch = Batch::default();
    let delivery = world.letters().again(&mut batch, &letter).unwrap();
    batch.put(delivery_key(&delivery), encode(&delivery));
    world.unsubscribe("s").await;
    assert!(matches!(world.store.commit(batch).await, Err(CommitError::Conflict { .. })));
    assert!(world.dead().is_empty() && world.open().is_empty());
}

#[tokio::test(start_paused = true)]
async fn all_are_redriven_once_though_they_die_again() {
    const MANY: usize = 200;
    let mut world = World::new();
    world.deploy(&urn("function", "f"));
    world.subscribe("s", to("f", "", 1)).await;
    for n in 0..MANY {
        // Also such as are not of the time.
        let id = if n % 2 == 0 { format!("{n:04}") } else { format!("ffff-{n:04}") };
        world.die(&urn("subscription", "s"), &id).await;
    }
    let (dispatcher, mut seen) = world.start(vec![failed(); 10 * MANY]);
    let letters = world.letters();
    let which = Which { stack: None, subscription: Some("s".into()) };
    let moved = letters.each(which, |letter| letters.redrive(letter));
    let moved: Vec<_> = moved.try_collect().await.unwrap();
    assert!(moved.iter().all(|(_, result)| result.is_ok()));
    assert_eq!(moved.len(), MANY);
    for _ in 0..MANY {
        seen.recv().await.unwrap();
    }
    dispatcher.close(Duration::from_secs(9)).await;
    assert!(seen.try_recv().is_err(), "none twice");
    assert_eq!((world.dead().len(), world.open().len()), (MANY, 0));
}

#[tokio::test(start_paused = true)]
async fn they_are_listed_by_stack_and_subscription_and_found_by_the_end_of_their_ids() {
    let world = World::new();
    let letters = world.letters();
    for n in 0..150 {
        world.die(&urn("subscription", "s"), &format!("{n:03}")).await;
    }
    let elsewhere: Urn = "urn:tandem:p:prod:subscription:s".parse().unwrap();
    world.die(&elsewhere, "999").await;
    let here = Which { stack: Some(urn("bucket", "b").stack), subscription: None };
    let all = listed(&letters, here.clone()).await;
    let ids: Vec<_> = all.iter().map(|told| told.letter.delivery.id.clone()).collect();
    assert_eq!(ids, (0..150).map(|n| format!("{n:03}")).collect::<Vec<_>>());
    assert!(all[0].letter.log_tail.is_empty());
    assert_eq!((letters.count(here.stack.as_ref()).unwrap(), letters.count(None).unwrap()), (150, 151));
    let of = |name: &str| Which { subscription: Some(name.into()), ..Which::default() };
    assert_eq!(listed(&letters, of("subscription/s")).await.len(), 151);
    assert_eq!(listed(&letters, of("t")).await.len(), 0);

    assert_eq!(letters.show(&here, "149").unwrap().letter.log_tail, ["last words"]);
    assert!(
        matches!(letters.find(&here, "9"), Err(DeadLetterError::Ambiguous { ids, .. }) if ids.len() == 8)
    );
    assert!(matches!(letters.find(&here, "999"), Err(DeadLetterError::Unknown { .. })));
}

#[tokio::test(start_paused = true)]
async fn of_a_stack_only_what_leads_nowhere_is_left_over() {
    let world = World::new();
    let letters = world.letters();
    let (f, g) = (urn("function", "f"), urn("function", "g"));
    world.deploy(&f);
    world.die(&f, "a").await;
    world.die(&g, "b").await;
    let elsewhere: Urn = "urn:tandem:p:prod:function:g".parse().unwrap();
    world.die(&elsewhere, "c").await;
    for function in [&f, &g] {
        let mut batch = Batch::default();
        let _hint = world.outbox.enqueue_to(&mut batch, function, event("d"), 3);
        world.store.commit(batch).await.unwrap();
    }
    let held = |waiting, dead_letters| Held { waiting, dead_letters };
    assert_eq!(letters.held(&f.stack, None).unwrap(), held(2, 2));
    assert_eq!(letters.held(&f.stack, Some(&[g])).unwrap(), held(1, 1));
    assert_eq!(letters.drop_leftovers(&f.stack).await.unwrap(), held(1, 1));
    assert_eq!(letters.held(&f.stack, None).unwrap(), held(1, 1));
    assert_eq!(letters.held(&elsewhere.stack, None).unwrap(), held(0, 1));
}
