use std::time::Duration;

use tandem_model::ByteSize;

use super::*;

fn claim(kind: &str, id: &str, mebibytes: u64) -> Claim {
    Claim {
        id: id.to_owned(),
        of: format!("urn:tandem:shop:dev:{kind}:it").parse().unwrap(),
        needs: Room { memory: ByteSize::mebibytes(mebibytes), millicores: 0 },
        devices: vec![],
        priority: 0,
        concurrency: None,
    }
}

fn capacity() -> Capacity {
    Capacity::new(Room { memory: ByteSize::mebibytes(1000), millicores: 2000 })
}

/// Told when it was admitted.
fn asks(capacity: &Capacity, claim: Claim) -> oneshot::Receiver<()> {
    let (send, told) = oneshot::channel();
    let accepted = capacity.place(claim.clone(), Timestamp::now());
    capacity.recorded(claim, accepted, Box::new(move || _ = send.send(())));
    told
}

#[tokio::test]
async fn replicas_and_runs_share_the_machine() {
    let capacity = capacity();
    let replica = capacity.take(claim("service", "web", 600)).await;
    let mut run = asks(&capacity, claim("task", "run", 400));
    run.try_recv().unwrap();
    let mut more = asks(&capacity, claim("task", "more", 100));
    assert!(more.try_recv().is_err());
    assert_eq!(capacity.why("more").unwrap(), "needs 100 MiB; 0 B and 2 cores free");
    drop(replica);
    more.try_recv().unwrap();
    // What a run holds is waited for by a replica.
    let second = capacity.take(claim("service", "web", 600));
    tokio::pin!(second);
    assert!(tokio::time::timeout(Duration::from_millis(20), &mut second).await.is_err());
    capacity.leave("run");
    let _second = second.await;
}

#[tokio::test]
async fn who_gives_up_waiting_leaves_no_place_behind() {
    let capacity = capacity();
    let _all = capacity.take(claim("service", "web", 900)).await;
    let waits = capacity.take(claim("service", "other", 200));
    assert!(tokio::time::timeout(Duration::from_millis(20), waits).await.is_err());
    assert_eq!(capacity.why("other"), None);
    asks(&capacity, claim("task", "run", 100)).try_recv().unwrap();
}

#[tokio::test]
async fn what_was_found_running_counts_and_is_taken_over_at_once() {
    let capacity = capacity();
    let survey = capacity.survey();
    let mut run = asks(&capacity, claim("task", "run", 500));
    assert!(run.try_recv().is_err());
    capacity.hold(claim("service", "s-1", 600));
    drop(survey);
    assert!(run.try_recv().is_err());
    assert_eq!(capacity.why("run").unwrap(), "needs 500 MiB; services leave 400 MiB and 2 cores");
    let replica = capacity.take(claim("service", "s-1", 600)).await;
    // A change of what it sets aside.
    capacity.resize(claim("service", "s-1", 500));
    run.try_recv().unwrap();
    drop(replica);
    capacity.resize(claim("service", "s-1", 500));
    assert_eq!(capacity.status(&[]).held, claim("task", "run", 500).needs, "who holds nothing gets nothing");
}

#[tokio::test]
async fn a_capacity_that_is_closed_admits_nobody() {
    let capacity = capacity();
    capacity.close();
    assert!(asks(&capacity, claim("task", "run", 1)).try_recv().is_err());
    let waits = capacity.take(claim("service", "web", 1));
    assert!(tokio::time::timeout(Duration::from_millis(20), waits).await.is_err());
}

#[tokio::test]
async fn it_is_told_who_holds_who_waits_and_what_would_fit() {
    let capacity = capacity();
    let device = |shared| tandem_model::inputs::Device { path: "/dev/kvm".into(), shared };
    let _replica = capacity.take(claim("service", "web", 300)).await;
    let first = Claim { devices: vec![device(false)], ..claim("task", "first", 200) };
    asks(&capacity, first.clone()).try_recv().unwrap();
    let second = Claim { id: "second".into(), priority: 3, ..first.clone() };
    assert!(asks(&capacity, second).try_recv().is_err());
    let status = capacity.status(&[claim("task", "", 200), first]);
    assert_eq!(status.free.memory, ByteSize::mebibytes(500));
    let holders: Vec<_> = status.holders.iter().map(|h| (h.of.short(), h.count, h.holds.memory)).collect();
    let expected = [
        ("task/it".to_owned(), 1, ByteSize::mebibytes(200)),
        ("service/it".to_owned(), 1, ByteSize::mebibytes(300)),
    ];
    assert_eq!(holders, expected);
    assert_eq!(status.devices.len(), 1);
    assert_eq!((status.devices[0].used_by.len(), status.devices[0].waited_for_by.len()), (1, 1));
    assert_eq!(status.waiting[0].why, "`/dev/kvm` is used by task/it");
    assert_eq!(status.waiting[0].priority, 3);
    let fits: Vec<_> = status.fits.iter().map(|fit| (fit.now, fit.at_most)).collect();
    assert_eq!(fits, [(2, 5), (0, 1)]);
}
