//! Kills a process that changes queues at each failpoint, and looks at what the next start makes of it.

use std::{collections::BTreeSet, time::Duration};

use serde_json::json;

use super::{Fixture, bodies};
use crate::{killed, queue::Outgoing};

/// The process that is killed. It does everything that a queue can do, once, and says what was acknowledged.
#[tokio::test]
#[ignore = "started by the other tests of this file"]
async fn changes() {
    let Some(folder) = killed::folder() else { return };
    let f = Fixture::on(&folder).await;
    let arn = crate::queue::arn("dead");
    f.create("dead", json!({})).await.unwrap();
    f.create("calls.fifo", json!({ "fifo": true })).await.unwrap();
    let redrive = json!({ "deadLetterTargetArn": arn, "maxReceiveCount": 1 });
    f.create("orders", json!({ "visibilityTimeout": 10, "retention": 60, "redrive": redrive }))
        .await
        .unwrap();
    f.create("gone", json!({})).await.unwrap();
    for body in ["deleted", "poison", "kept"] {
        f.send("orders", body).await;
        println!("\nsent {body}");
    }
    let call = Outgoing {
        body: "call".into(),
        group: Some("g".into()),
        deduplication: Some("d".into()),
        ..Outgoing::default()
    };
    f.queues.send("calls.fifo", vec![call]).await.unwrap()[0].as_ref().unwrap();
    println!("\nsent call");
    let first = f.receive("orders", 1).await.remove(0);
    f.queues.delete("orders", vec![first.receipt]).await.unwrap();
    println!("\ndeleted deleted");
    let poison = f.receive("orders", 1).await.remove(0);
    f.queues.change_visibility("orders", vec![(poison.receipt, 0)]).await.unwrap();
    // It has had its turn: it moves.
    assert_eq!(bodies(&f.receive("orders", 1).await), ["kept"]);
    f.queues.start_move("dead", None, None).await.unwrap();
    while f.queues.moves("dead").unwrap().iter().any(|(_, task)| task.is_running()) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let tags = [("a".to_owned(), "b".to_owned())].into();
    f.queues.tag("orders", tags, &[]).await.unwrap();
    f.send("gone", "one").await;
    f.queues.purge("gone").await.unwrap();
    f.send("gone", "two").await;
    f.delete_queue("gone", true).await.unwrap();
    f.pass(61_000);
    assert!(f.queues.expire("orders").await.unwrap() > 0);
}

const POINTS: [(&str, u32); 14] = [
    ("queue.send.committed", 2),
    ("queue.send.ordered", 1),
    ("queue.receive.committed", 1),
    ("queue.delete.committed", 1),
    ("queue.receive.committed", 2),
    ("queue.visibility.committed", 1),
    ("queue.receive.committed", 3),
    ("queue.move.started", 1),
    ("queue.move.committed", 1),
    ("queue.settings.committed", 1),
    ("queue.emptying.committed", 1),
    ("queue.closing.committed", 1),
    ("queue.emptying.committed", 2),
    ("queue.retention.committed", 1),
];

#[tokio::test]
async fn killed_at_any_commit_every_message_is_there_once_or_was_deleted() {
    for (point, turn) in POINTS {
        let folder = tempfile::tempdir().unwrap();
        let said = killed::at(&format!("{point}@{turn}"), "queue::tests::crash::changes", folder.path());
        let acknowledged = |word: &str| -> BTreeSet<String> {
            said.lines()
                .filter_map(|line| line.strip_prefix(word))
                .map(|body| body.trim().to_owned())
                .collect()
        };
        let f = Fixture::on(folder.path()).await;
        let mut found = Vec::new();
        // What was in flight comes back; what is to move, moves; a move that was cut off goes on.
        for _ in 0..4 {
            f.pass(11_000);
            while f.queues.moves("dead").unwrap().iter().any(|(_, task)| task.is_running()) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            for queue in ["orders", "dead", "calls.fifo"] {
                let received = f.receive(queue, 10).await;
                found.extend(bodies(&received));
                let receipts = received.into_iter().map(|received| received.receipt).collect();
                f.queues.delete(queue, receipts).await.unwrap();
            }
        }
        let mut once = found.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), found.len(), "{point}@{turn}: {found:?}");
        for body in acknowledged("sent ") {
            // Its deletion may be on disk, though nobody was told; and what was too old is gone.
            let deleted = body == "deleted" && (point, turn) != ("queue.receive.committed", 1);
            let expired = body != "call" && point == "queue.retention.committed";
            assert!(found.contains(&body) || deleted || expired, "{point}@{turn} lost {body}: {found:?}");
        }
        if acknowledged("deleted ").contains("deleted") {
            assert!(!found.contains(&"deleted".to_owned()), "{point}@{turn}: it was deleted");
        }
        // A queue whose deletion was cut off is there, or gone with all that was in it.
        if f.queues.find("gone").is_some() {
            f.send("gone", "three").await;
            assert!(bodies(&f.receive("gone", 10).await).contains(&"three".to_owned()), "{point}@{turn}");
        }
    }
}
