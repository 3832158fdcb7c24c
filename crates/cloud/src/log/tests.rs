//! Reading and following, through the front door.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::Path,
    sync::Mutex,
};

use futures::StreamExt;

use super::*;

fn urn(kind: &str, name: &str) -> Urn {
    format!("urn:tandem:shop:dev:{kind}:{name}").parse().unwrap()
}

fn line(resource: &Urn, second: i64, text: &str) -> Line {
    Line {
        time: Timestamp::from_second(second).unwrap(),
        resource: resource.clone(),
        stream: Stream::Stdout,
        id: format!("id-{second}"),
        text: text.to_owned(),
    }
}

fn texts(lines: &[Line]) -> Vec<&str> {
    lines.iter().map(|line| line.text.as_str()).collect()
}

/// The runs of a test: a folder with their files, and what is told of them.
struct Runs {
    known: Mutex<Vec<RunLog>>,
    changes: broadcast::Sender<RunLog>,
}

impl Runs {
    fn attached_to(log: &Log) -> Arc<Self> {
        let runs = Arc::new(Self { known: Mutex::default(), changes: broadcast::Sender::new(16) });
        let weak = Arc::downgrade(&runs);
        log.attach_runs(weak);
        runs
    }

    fn tell(&self, run: &RunLog) {
        let mut known = self.known.lock().unwrap();
        known.retain(|k| k.id != run.id);
        known.push(run.clone());
        let _ = self.changes.send(run.clone());
    }
}

impl RunLogs for Runs {
    fn run_logs(&self, filter: &Filter) -> Result<Vec<RunLog>, ReadError> {
        let known = self.known.lock().unwrap();
        Ok(known.iter().filter(|run| filter.wants(&run.task) && filter.wants_id(&run.id)).cloned().collect())
    }

    fn run_changes(&self) -> broadcast::Receiver<RunLog> {
        self.changes.subscribe()
    }
}

fn run(folder: &Path, task: &Urn, id: &str, since: i64) -> RunLog {
    RunLog {
        task: task.clone(),
        id: id.to_owned(),
        file: folder.join(format!("{id}.log")),
        since: Timestamp::from_second(since).unwrap(),
        ended: None,
    }
}

fn print(run: &RunLog, second: i64, text: &str) {
    let time = Timestamp::from_second(second).unwrap();
    let mut file = OpenOptions::new().create(true).append(true).open(&run.file).unwrap();
    file.write_all(format!("{time} stdout F {text}\n").as_bytes()).unwrap();
}

#[tokio::test]
async fn lines_are_read_in_the_order_of_their_times_across_resources() {
    let home = tempfile::tempdir().unwrap();
    let log = Log::open(&Home::new(home.path())).unwrap();
    let (a, b) = (urn("function", "a"), urn("function", "b-c.d"));
    for (resource, second) in [(&a, 1), (&a, 4), (&b, 2), (&b, 3), (&b, 5)] {
        log.write(line(resource, second, &second.to_string()));
    }
    let all = log.read(&Filter::default()).await.unwrap();
    assert_eq!(texts(&all), ["1", "2", "3", "4", "5"]);
    assert_eq!(all[1], line(&b, 2, "2"));

    let of_b = Filter { resource: Some("b-c.d".into()), ..Filter::default() };
    assert_eq!(texts(&log.read(&of_b).await.unwrap()), ["2", "3", "5"]);
    let since = Filter { since: Some(Timestamp::from_second(3).unwrap()), ..Filter::default() };
    assert_eq!(texts(&log.read(&since).await.unwrap()), ["3", "4", "5"]);
    let one = Filter { id: Some("id-4".into()), ..Filter::default() };
    assert_eq!(texts(&log.read(&one).await.unwrap()), ["4"]);
    let last = Filter { tail: Some(2), ..Filter::default() };
    assert_eq!(texts(&log.read(&last).await.unwrap()), ["4", "5"]);
    let elsewhere = Filter { stack: Some("shop/prod".parse().unwrap()), ..Filter::default() };
    assert_eq!(log.read(&elsewhere).await.unwrap(), []);
}

#[tokio::test]
async fn a_line_torn_by_a_crash_is_skipped_and_spoils_no_other() {
    let home = tempfile::tempdir().unwrap();
    let (home, a) = (Home::new(home.path()), urn("function", "a"));
    let log = Log::open(&home).unwrap();
    log.write(line(&a, 1, "whole"));
    log.flush().await;
    let segment = segment::folder(&home.logs(), &a).join("1.ndjson");
    OpenOptions::new().append(true).open(segment).unwrap().write_all(b"{\"time\":\"20").unwrap();

    let log = Log::open(&home).unwrap();
    assert_eq!(texts(&log.read(&Filter::default()).await.unwrap()), ["whole"]);
    log.write(line(&a, 2, "after"));
    assert_eq!(texts(&log.read(&Filter::default()).await.unwrap()), ["whole", "after"]);
}

#[tokio::test]
async fn what_is_kept_of_a_resource_is_bounded_and_is_the_newest() {
    let home = tempfile::tempdir().unwrap();
    let (home, a) = (Home::new(home.path()), urn("function", "a"));
    let log = Log::with_segments(&home, 4096).unwrap();
    let mut follow = log.follow(Filter::default()).await.unwrap();
    for second in 0..1000 {
        log.write(line(&a, second, &second.to_string()));
        // One at a time: a follower that keeps up misses nothing, however often segments change.
        assert_eq!(follow.next().await.unwrap().text, second.to_string());
    }
    let kept = log.read(&Filter::default()).await.unwrap();
    let first = kept[0].time.as_second();
    assert!(first > 900, "{first}");
    assert_eq!(
        kept.iter().map(|l| l.time.as_second()).collect::<Vec<_>>(),
        (first..1000).collect::<Vec<_>>()
    );
    let files: Vec<_> = fs::read_dir(segment::folder(&home.logs(), &a)).unwrap().collect();
    assert_eq!(files.len(), segment::KEPT);

    let since = Filter { since: Some(Timestamp::from_second(998).unwrap()), ..Filter::default() };
    assert_eq!(texts(&log.read(&since).await.unwrap()), ["998", "999"]);
}

#[tokio::test]
async fn lines_that_find_no_room_are_counted_and_the_count_is_said() {
    let home = tempfile::tempdir().unwrap();
    let log = Log::open(&Home::new(home.path())).unwrap();
    let a = urn("function", "a");
    log.shared.waiting.fetch_add(QUEUE_BYTES, Ordering::Relaxed);
    let of_request = |text| Line { id: "r1".into(), ..line(&a, 1, text) };
    log.write(of_request("lost"));
    log.write(of_request("lost too"));
    log.shared.waiting.fetch_sub(QUEUE_BYTES, Ordering::Relaxed);
    log.write(line(&a, 3, "kept"));
    let lines = log.read(&Filter::default()).await.unwrap();
    assert_eq!(
        texts(&lines),
        ["kept", "2 lines were dropped: they came faster than they could be written, or the disk was full"]
    );
    assert_eq!(lines[1].stream, Stream::System);
    assert_eq!(lines[1].id, "r1", "whoever looks for a request is told that lines of it are missing");
    assert_eq!(log.shared.waiting.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_long_line_is_cut_and_says_by_how_much() {
    let home = tempfile::tempdir().unwrap();
    let log = Log::open(&Home::new(home.path())).unwrap();
    log.write(line(&urn("function", "a"), 1, &"é".repeat(TEXT_LIMIT)));
    let text = log.read(&Filter::default()).await.unwrap().remove(0).text;
    assert!(text.ends_with(&format!("é… ({TEXT_LIMIT} more bytes were cut)")), "{}", &text[TEXT_LIMIT - 4..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_begins_amid_writing_loses_and_doubles_nothing() {
    let home = tempfile::tempdir().unwrap();
    let log = Log::open(&Home::new(home.path())).unwrap();
    let (writing, a) = (log.clone(), urn("function", "a"));
    const LINES: i64 = 5000;
    let (half, halfway) = oneshot::channel();
    let writer = std::thread::spawn(move || {
        let mut half = Some(half);
        for second in 0..LINES {
            writing.write(line(&a, second, &second.to_string()));
            if second == LINES / 2 {
                half.take().unwrap().send(()).unwrap();
            }
        }
    });
    halfway.await.unwrap();
    let follow = log.follow(Filter::default()).await.unwrap();
    let seen: Vec<String> = follow.take(LINES as usize).map(|l| l.text).collect().await;
    assert_eq!(seen, (0..LINES).map(|n| n.to_string()).collect::<Vec<_>>());
    writer.join().unwrap();
}

#[tokio::test]
async fn following_from_the_end_gives_only_what_is_new() {
    let home = tempfile::tempdir().unwrap();
    let log = Log::open(&Home::new(home.path())).unwrap();
    let (a, b) = (urn("function", "a"), urn("function", "b"));
    log.write(line(&a, 1, "old"));
    log.write(line(&a, 2, "last"));
    let mut from_end = log.follow(Filter { tail: Some(0), ..Filter::default() }).await.unwrap();
    let mut with_one = log.follow(Filter { tail: Some(1), ..Filter::default() }).await.unwrap();
    assert_eq!(with_one.next().await.unwrap().text, "last");
    // The first line of a resource that nobody knew.
    log.write(line(&b, 3, "new"));
    assert_eq!(from_end.next().await.unwrap().text, "new");
    assert_eq!(with_one.next().await.unwrap().text, "new");
}

#[tokio::test]
async fn lines_of_runs_are_merged_with_what_the_cloud_says() {
    let home = tempfile::tempdir().unwrap();
    let log = Log::open(&Home::new(home.path())).unwrap();
    let runs = Runs::attached_to(&log);
    let (task, function) = (urn("task", "ffmpeg"), urn("function", "f"));
    let (first, second) = (run(home.path(), &task, "r1", 10), run(home.path(), &task, "r2", 12));
    print(&first, 11, "r1 frame");
    print(&first, 14, "r1 done");
    print(&second, 13, "r2 frame");
    // Its file was removed, or never made.
    runs.tell(&run(home.path(), &task, "r3", 1));
    runs.tell(&first);
    runs.tell(&second);
    log.write(line(&function, 9, "start"));
    log.write(line(&task, 15, "r2 was stopped"));
    let lines = log.read(&Filter::default()).await.unwrap();
    assert_eq!(texts(&lines), ["start", "r1 frame", "r2 frame", "r1 done", "r2 was stopped"]);
    assert_eq!((lines[1].id.as_str(), &lines[1].resource), ("r1", &task));
}

#[tokio::test]
async fn following_a_run_gives_its_lines_live_and_ends_with_it() {
    let home = tempfile::tempdir().unwrap();
    let log = Log::open(&Home::new(home.path())).unwrap();
    let runs = Runs::attached_to(&log);
    let task = urn("task", "ffmpeg");
    let (mut first, other) = (run(home.path(), &task, "r1", 10), run(home.path(), &task, "r2", 10));
    let mut follow = log.follow(Filter { id: Some("r1".into()), ..Filter::default() }).await.unwrap();
    // It was not known when the following began, and its file comes later still.
    runs.tell(&first);
    runs.tell(&other);
    print(&other, 10, "not asked for");
    print(&first, 11, "one");
    assert_eq!(follow.next().await.unwrap().text, "one");
    print(&first, 12, "two");
    assert_eq!(follow.next().await.unwrap().text, "two");
    print(&first, 13, "three");
    log.write(Line { id: "r1".into(), ..line(&task, 14, "exited with code 3") });
    first.ended = Some(Timestamp::from_second(14).unwrap());
    runs.tell(&first);
    // Told twice: nothing is read twice.
    runs.tell(&first);
    let rest: Vec<_> = follow.collect().await;
    assert_eq!(texts(&rest), ["three", "exited with code 3"]);

    let again = log.follow(Filter { id: Some("r1".into()), ..Filter::default() }).await.unwrap();
    let all: Vec<_> = again.collect().await;
    assert_eq!(texts(&all), ["one", "two", "three", "exited with code 3"]);
}

#[tokio::test]
async fn a_forgotten_resource_has_no_lines_until_it_logs_again() {
    let home = tempfile::tempdir().unwrap();
    let log = Log::open(&Home::new(home.path())).unwrap();
    let a = urn("function", "a");
    log.write(line(&a, 1, "old"));
    assert!(log.forget(&a).await);
    assert_eq!(log.read(&Filter::default()).await.unwrap(), []);
    log.write(line(&a, 2, "new"));
    assert_eq!(texts(&log.read(&Filter::default()).await.unwrap()), ["new"]);
}

/// Sweeps while these exist, so many days from now.
async fn expire(log: &Log, existing: &[&Urn], days: i64) -> usize {
    let existing: Vec<Urn> = existing.iter().map(|urn| (*urn).clone()).collect();
    let now = Timestamp::now() + jiff::SignedDuration::from_hours(24 * days);
    log.expire(move |urn| existing.contains(urn), now).await.unwrap()
}

#[tokio::test]
async fn the_log_of_a_deleted_resource_goes_seven_days_after_it_and_others_stay() {
    let home = tempfile::tempdir().unwrap();
    let log = Log::open(&Home::new(home.path())).unwrap();
    let (a, b) = (urn("function", "a"), urn("task", "b"));
    for resource in [&a, &b] {
        log.write(line(resource, 1, "old"));
    }
    log.flush().await;
    // A resource that exists keeps its log however long it is silent; the days of another begin when it is missed.
    assert_eq!(expire(&log, &[&a, &b], 100).await, 0);
    assert_eq!(expire(&log, &[&b], 100).await, 0);
    assert_eq!(expire(&log, &[&b], 106).await, 0);
    // One that was made again in between begins anew.
    assert_eq!(expire(&log, &[&a, &b], 106).await, 0);
    assert_eq!(expire(&log, &[&b], 107).await, 0);
    assert_eq!(expire(&log, &[&b], 113).await, 0);
    assert_eq!(log.read(&Filter::default()).await.unwrap().len(), 2);
    assert_eq!(expire(&log, &[&b], 114).await, 1);
    let left = log.read(&Filter::default()).await.unwrap();
    assert_eq!(left.iter().map(|line| &line.resource).collect::<Vec<_>>(), [&b]);
    // What it still says comes into a log of its own, for days of its own.
    log.write(line(&a, 2, "late"));
    log.flush().await;
    assert_eq!(expire(&log, &[&b], 200).await, 0);
    assert_eq!(expire(&log, &[], 207).await, 1);
    assert_eq!(expire(&log, &[], 214).await, 1);
    assert_eq!(fs::read_dir(home.path().join("logs")).unwrap().count(), 0, "empty folders are left");
}

#[tokio::test]
async fn a_log_that_is_followed_stays_until_it_is_not() {
    let home = tempfile::tempdir().unwrap();
    let log = Log::open(&Home::new(home.path())).unwrap();
    let (a, b) = (urn("function", "a"), urn("function", "b"));
    log.write(line(&a, 1, "one"));
    log.write(line(&b, 1, "other"));
    log.flush().await;
    let filter = Filter { resource: Some("a".into()), ..Filter::default() };
    let mut follow = log.follow(filter).await.unwrap();
    assert_eq!(follow.next().await.unwrap().text, "one");
    assert_eq!(expire(&log, &[], 0).await, 0);
    assert_eq!(expire(&log, &[], 8).await, 1, "the one that nobody follows");
    log.write(line(&a, 2, "two"));
    assert_eq!(follow.next().await.unwrap().text, "two");
    drop(follow);
    // The follower's task hears of it.
    while expire(&log, &[], 9).await == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(log.read(&Filter::default()).await.unwrap(), []);
}

#[tokio::test]
async fn lines_of_a_span_of_time_and_of_one_kind_are_read_alone() {
    let home = tempfile::tempdir().unwrap();
    let log = Log::open(&Home::new(home.path())).unwrap();
    let runs = Runs::attached_to(&log);
    let (function, task) = (urn("function", "same"), urn("task", "same"));
    let mut ended = run(home.path(), &task, "r1", 0);
    ended.ended = Some(Timestamp::from_second(900).unwrap());
    for second in (0..1000).step_by(100) {
        log.write(line(&function, second, &format!("f{second}")));
        print(&ended, second + 50, &format!("t{}", second + 50));
    }
    runs.tell(&ended);
    let at = |second| Some(Timestamp::from_second(second).unwrap());
    let span = Filter { since: at(300), until: at(500), ..Filter::default() };
    assert_eq!(texts(&log.read(&span).await.unwrap()), ["f300", "t350", "f400", "t450", "f500"]);
    let of_task = Filter { kind: Some(Kind::Task), ..span.clone() };
    assert_eq!(texts(&log.read(&of_task).await.unwrap()), ["t350", "t450"]);
    let last = Filter { tail: Some(2), ..span };
    assert_eq!(texts(&log.read(&last).await.unwrap()), ["t450", "f500"]);
}

#[tokio::test]
async fn of_a_long_log_the_end_is_the_same_whether_it_is_searched_for_or_read_up_to() {
    let home = tempfile::tempdir().unwrap();
    let (home, a) = (Home::new(home.path()), urn("function", "a"));
    let log = Log::with_segments(&home, 1 << 20).unwrap();
    for second in 0..12_000 {
        log.write(line(&a, second, &format!("{second} {}", "x".repeat(100))));
        if second % 1000 == 0 {
            log.flush().await;
        }
    }
    let all = log.read(&Filter::default()).await.unwrap();
    assert!(all.len() > 5000, "{} lines are kept", all.len());
    for count in [0, 1, 100, 5000, 100_000] {
        let last = Filter { tail: Some(count), ..Filter::default() };
        assert_eq!(log.read(&last).await.unwrap(), all[all.len().saturating_sub(count)..]);
    }
    for second in [0, 11_000, 11_999, 20_000] {
        let since = Timestamp::from_second(second).unwrap();
        let young: Vec<Line> = all.iter().filter(|line| line.time >= since).cloned().collect();
        let filter = Filter { since: Some(since), ..Filter::default() };
        assert_eq!(log.read(&filter).await.unwrap(), young);
        let replayed: Vec<Line> = log.replay(filter).await.unwrap().map(Result::unwrap).collect().await;
        assert_eq!(replayed, young);
    }
}
