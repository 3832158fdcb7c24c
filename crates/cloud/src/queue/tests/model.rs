//! Queues against a model, with random interleavings, restarts, and a clock that only the test moves.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use serde_json::json;

use super::{Fixture, bodies};
use crate::queue::{Outgoing, QueueError};

/// The visibility timeout, in milliseconds.
const HIDDEN: u64 = 10_000;
const MOST_RECEIVES: u32 = 3;
const GROUPS: [&str; 3] = ["red", "green", "blue"];

#[derive(Debug, Clone)]
enum Step {
    Send {
        group: usize,
        delay: u32,
    },
    Receive {
        most: usize,
    },
    /// One of those that somebody has.
    Delete {
        which: usize,
    },
    Hide {
        which: usize,
        seconds: u32,
    },
    /// With a receipt of an earlier time.
    DeleteByOld {
        which: usize,
    },
    Pass {
        milliseconds: u64,
    },
    Restart,
    Redrive,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (0..3usize, prop_oneof![4 => Just(0u32), 1 => 1..30u32]).prop_map(|(group, delay)| Step::Send { group, delay }),
        5 => (1..=10usize).prop_map(|most| Step::Receive { most }),
        4 => any::<usize>().prop_map(|which| Step::Delete { which }),
        2 => (any::<usize>(), prop_oneof![Just(0u32), 1..60u32]).prop_map(|(which, seconds)| Step::Hide { which, seconds }),
        1 => any::<usize>().prop_map(|which| Step::DeleteByOld { which }),
        3 => prop_oneof![0..2000u64, Just(HIDDEN), Just(40_000)].prop_map(|milliseconds| Step::Pass { milliseconds }),
        1 => Just(Step::Restart),
        1 => Just(Step::Redrive),
    ];
    proptest::collection::vec(step, 1..60)
}

/// What is known of a message by the rules of queues alone.
#[derive(Debug, Clone)]
struct Expected {
    group: usize,
    visible: u64,
    receives: u32,
    dead: bool,
}

#[derive(Debug, Default)]
struct Model {
    messages: BTreeMap<u64, Expected>,
    receipts: HashMap<u64, Vec<String>>,
    sent: u64,
    /// Some came back from the dead, and are behind others now.
    moved: bool,
}

impl Model {
    /// Those that somebody has now.
    fn in_flight(&self, now: u64) -> Vec<u64> {
        self.messages
            .iter()
            .filter(|(_, m)| !m.dead && m.receives > 0 && m.visible > now)
            .map(|(id, _)| *id)
            .collect()
    }

    fn chosen(&self, which: usize, now: u64) -> Option<u64> {
        let all = self.in_flight(now);
        (!all.is_empty()).then(|| all[which % all.len()])
    }
}

async fn run(fifo: bool, steps: &[Step]) {
    let mut f = Fixture::new().await;
    let (queue, dead) = if fifo { ("q.fifo", "dead.fifo") } else { ("q", "dead") };
    let arn = crate::queue::arn(dead);
    f.create(dead, json!({ "fifo": fifo })).await.unwrap();
    let redrive = json!({ "deadLetterTargetArn": arn, "maxReceiveCount": MOST_RECEIVES });
    f.create(queue, json!({ "fifo": fifo, "visibilityTimeout": HIDDEN / 1000, "redrive": redrive }))
        .await
        .unwrap();
    let mut model = Model::default();
    for step in steps {
        let now = f.time.load(std::sync::atomic::Ordering::SeqCst);
        match step {
            Step::Send { group, delay } => {
                let id = model.sent;
                model.sent += 1;
                let delay = if fifo { 0 } else { *delay };
                let outgoing = Outgoing {
                    body: id.to_string(),
                    delay: (!fifo).then_some(delay),
                    group: Some(GROUPS[*group].into()),
                    deduplication: fifo.then(|| format!("d{id}")),
                    ..Outgoing::default()
                };
                // Twice: in a FIFO queue the second one is recognised.
                for _ in 0..=u32::from(fifo) {
                    f.queues.send(queue, vec![outgoing.clone()]).await.unwrap()[0].as_ref().unwrap();
                }
                let visible = now + u64::from(delay) * 1000;
                model.messages.insert(id, Expected { group: *group, visible, receives: 0, dead: false });
            }
            Step::Receive { most } => receive(&f, queue, fifo, *most, now, &mut model).await,
            Step::Delete { which } => {
                let Some(id) = model.chosen(*which, now) else { continue };
                let receipt = model.receipts[&id].last().unwrap().clone();
                f.queues.delete(queue, vec![receipt]).await.unwrap()[0].as_ref().unwrap();
                model.messages.remove(&id);
            }
            Step::Hide { which, seconds } => {
                let Some(id) = model.chosen(*which, now) else { continue };
                let receipt = model.receipts[&id].last().unwrap().clone();
                f.queues.change_visibility(queue, vec![(receipt, *seconds)]).await.unwrap()[0]
                    .as_ref()
                    .unwrap();
                model.messages.get_mut(&id).unwrap().visible = now + u64::from(*seconds) * 1000;
            }
            Step::DeleteByOld { which } => {
                let Some(id) = model.chosen(*which, now) else { continue };
                let receipts = &model.receipts[&id];
                if receipts.len() < 2 {
                    continue;
                }
                let answer = f.queues.delete(queue, vec![receipts[0].clone()]).await.unwrap().remove(0);
                assert!(if fifo {
                    matches!(answer, Err(QueueError::ReceiptExpired))
                } else {
                    answer.is_ok()
                });
            }
            Step::Pass { milliseconds } => f.pass(*milliseconds),
            Step::Restart => f = f.restarted().await,
            Step::Redrive => {
                let count = model.messages.values().filter(|m| m.dead).count();
                if count == 0 {
                    continue;
                }
                let id = f.queues.start_move(dead, None, None).await.unwrap();
                while f
                    .queues
                    .moves(dead)
                    .unwrap()
                    .iter()
                    .any(|(task, state)| *task == id && state.is_running())
                {
                    tokio::task::yield_now().await;
                }
                for (id, message) in model.messages.iter_mut().filter(|(_, m)| m.dead) {
                    *message = Expected { dead: false, receives: 0, visible: now, ..*message };
                    // They are receipts of another place.
                    model.receipts.remove(id);
                }
                model.moved = true;
            }
        }
    }
    drain(&f, queue, dead, &model).await;
}

async fn receive(f: &Fixture, queue: &str, fifo: bool, most: usize, now: u64, model: &mut Model) {
    let received = f.receive(queue, most).await;
    let mut left: Vec<u64> = Vec::new();
    let flying: Vec<usize> = model.in_flight(now).iter().map(|id| model.messages[id].group).collect();
    for (id, message) in &mut model.messages {
        let free = !fifo || !flying.contains(&message.group);
        if !message.dead && message.visible <= now && free {
            left.push(*id);
        }
    }
    for message in &received {
        let id: u64 = message.message.text().parse().unwrap();
        assert!(left.contains(&id), "{id} was received, of {left:?}");
        let expected = model.messages.get_mut(&id).unwrap();
        assert!(expected.receives < MOST_RECEIVES, "{id} was received too often");
        expected.receives += 1;
        expected.visible = now + HIDDEN;
        assert_eq!(message.lease.receives, expected.receives);
        model.receipts.entry(id).or_default().push(message.receipt.clone());
    }
    // Who has had their turns goes to the dead letters as soon as somebody looks.
    let got: Vec<u64> = received.iter().map(|m| m.message.text().parse().unwrap()).collect();
    let waits = |id: &&u64| !got.contains(*id);
    let dead = dead_ids(f, queue).await;
    let died = dead.iter().filter(|id| !model.messages[*id].dead).count();
    for id in &dead {
        let expected = model.messages.get_mut(id).unwrap();
        if !expected.dead {
            assert!(left.contains(id) && expected.receives == MOST_RECEIVES, "{id} is dead too soon");
            expected.dead = true;
        }
    }
    let missed: Vec<_> = left.iter().filter(waits).filter(|id| !dead.contains(id)).collect();
    if received.len() < most && !fifo {
        assert_eq!(missed, Vec::<&u64>::new(), "could have been received");
    }
    if fifo {
        check_order(&received);
        // Of each group that nobody has, the first come first.
        for (place, group) in GROUPS.iter().enumerate() {
            let of_group = |id: &&u64| model.messages[*id].group == place && !dead.contains(*id);
            let got: Vec<_> = got.iter().filter(of_group).collect();
            let could: Vec<_> = left.iter().filter(of_group).collect();
            if !model.moved {
                assert_eq!(got, could[..got.len()], "of {group}");
            }
            // Fewer than could be are got only if some moved to the dead meanwhile.
            let all = got.len() == could.len() || (!got.is_empty() && received.len() + died >= most);
            assert!(
                received.len() == most || all,
                "{could:?} could have been received of {group}, not {got:?}"
            );
        }
    }
}

/// The messages of a group come in the order of their numbers.
fn check_order(received: &[crate::queue::Received]) {
    let mut last = HashMap::<String, u64>::new();
    for message in received {
        let group = message.message.about.group.clone().unwrap();
        let before = last.insert(group, message.number);
        assert!(before.is_none_or(|before| before < message.number), "out of order: {:?}", bodies(received));
    }
}

async fn dead_ids(f: &Fixture, queue: &str) -> Vec<u64> {
    let dead = if queue.ends_with(".fifo") { "dead.fifo" } else { "dead" };
    let snapshot = f.store.snapshot().unwrap();
    let rows = snapshot.prefix(format!("message/{dead}/").as_bytes()).unwrap();
    rows.map(|row| {
        let message = crate::queue::message::Message::decode(&row.unwrap().1).unwrap();
        message.text().parse().unwrap()
    })
    .collect()
}

/// In the end every message that was not deleted is there once: in the queue, or among the dead.
async fn drain(f: &Fixture, queue: &str, dead: &str, model: &Model) {
    let mut found = Vec::new();
    for from in [queue, dead] {
        // Whatever is hidden or delayed comes back; whoever has had their turns moves on.
        for _ in 0..2 * (model.sent + 1) {
            f.pass(100_000);
            let received = f.receive(from, 10).await;
            found.extend(received.iter().map(|message| message.message.text().parse::<u64>().unwrap()));
            let receipts = received.into_iter().map(|message| message.receipt).collect();
            f.queues.delete(from, receipts).await.unwrap();
        }
    }
    found.sort_unstable();
    let expected: Vec<u64> = model.messages.keys().copied().collect();
    assert_eq!(found, expected, "what is there in the end");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn a_standard_queue_does_what_the_model_says(steps in steps()) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run(false, &steps));
    }

    #[test]
    fn a_fifo_queue_does_what_the_model_says(steps in steps()) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run(true, &steps));
    }
}
