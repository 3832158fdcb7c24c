//! The example with fifty videos put at once.

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::future::join_all;
use jiff::Timestamp;
use serde_json::Value;
use tandem_aws_client::Endpoint;

use crate::harness::{Cloud, Project, prepared};

const VIDEOS: usize = 50;
/// So many runs have room at once, whatever the machine has.
const AT_ONCE: u64 = 8;
/// Of the machine's memory, in hundredths, what runs may set aside (docs/decisions/0070).
const SHARE: u64 = 80;
/// What the cloud's own process may have had in memory at most, in a debug build, whose pages of code count too: 57 MiB
/// were measured.
const MEMORY_BOUND: u64 = 128 << 20;
/// Workers that may live at one time; docs/decisions/0051 lets a few start at once, and one more whenever nothing moves.
const WORKERS_BOUND: usize = 16;
const PATIENCE: Duration = Duration::from_secs(480);

#[test]
fn fifty_videos_at_once_get_their_thumbnails_in_turn_and_in_bounds() {
    let cloud = Cloud::new();
    let serving = cloud.serve();
    let project = Project::example(&cloud, "video-thumbnailer");
    cloud.import_ffmpeg();
    let room = memory() / 100 * SHARE;
    let reservation = room / AT_ONCE;
    let slide = fs::read_to_string(project.folder().join("index.js")).unwrap();
    let text = slide.replace("memoryReservation: 512", &format!("memoryReservation: {}", reservation >> 20));
    assert_ne!(text, slide);
    project.edit("index.js", &text);
    project.up();
    let bucket = project.output("bucket");
    let variables = project.tandem(&["env", "--json"]).ok().stdout;
    let endpoint = Endpoint::of_environment(&serde_json::from_str(&variables).unwrap()).unwrap();
    let video = Bytes::from(fs::read(prepared("TANDEM_TEST_VIDEO")).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();

    let started = Instant::now();
    runtime.block_on(join_all((0..VIDEOS).map(|number| {
        let (endpoint, bucket, video) = (&endpoint, &bucket, video.clone());
        async move {
            let mut connection = endpoint.connect().await.unwrap();
            connection.put(bucket, &format!("{number}_00-01.mp4"), video).await.unwrap().ok().unwrap();
        }
    })));
    eprintln!("{VIDEOS} videos of {} bytes put in {:.2?}", video.len(), started.elapsed());

    let mut seen = Seen::default();
    loop {
        let processes = project.tandem(&["ps", "--json"]).ok().stdout;
        let processes: Value = serde_json::from_str(&processes).unwrap();
        seen.look(&processes, reservation, room);
        if seen.ended() == VIDEOS && processes["backlog"].as_object().unwrap().is_empty() {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "after {PATIENCE:?}: {processes:#}");
        cloud.observe();
    }
    let taken = started.elapsed();
    let peak = peak_memory(serving.pid().as_raw());
    eprintln!(
        "{VIDEOS} thumbnails in {taken:.1?}; at most {} runs and {} workers at once; cores busy {:.0} % while runs \
         waited; the cloud's memory at most {} MiB",
        seen.running,
        seen.workers,
        100.0 * seen.busy(),
        peak >> 20,
    );
    assert!(peak < MEMORY_BOUND, "the cloud's own memory was {} MiB", peak >> 20);
    assert!(seen.workers <= WORKERS_BOUND, "{} workers at once", seen.workers);
    assert!(seen.queued > 0 && seen.running > 1, "they neither waited nor overlapped: {seen:?}");

    let log = project.tandem(&["logs", "--json"]).ok().stdout;
    runtime.block_on(async {
        let mut connection = endpoint.connect().await.unwrap();
        for number in 0..VIDEOS {
            let name = format!("{number}_00-01.mp4.jpg");
            let thumbnail = connection.get(&bucket, &name).await.unwrap().ok().unwrap();
            assert!(thumbnail.starts_with(&[0xff, 0xd8]) && thumbnail.len() > 1000, "{name} is no picture");
            let told = log.matches(&format!("*** New thumbnail: file {name}.")).count();
            assert_eq!(told, 1, "{name}: nothing failed, so its event is handled once");
        }
    });
    project.destroy();
}

/// What was seen while it went on.
#[derive(Debug, Default)]
struct Seen {
    /// By the time of acceptance and the id: the state when last seen.
    runs: BTreeMap<(Timestamp, String), String>,
    queued: usize,
    running: usize,
    workers: usize,
    /// The processors' time, busy and all, while runs waited: first and last.
    first: Option<(u64, u64)>,
    last: (u64, u64),
}

impl Seen {
    fn look(&mut self, processes: &Value, reservation: u64, room: u64) {
        // Of those that have ended only the last few are shown.
        self.runs.values_mut().for_each(|state| "ended".clone_into(state));
        for run in processes["runs"].as_array().unwrap() {
            let field = |name: &str| run[name].as_str().unwrap_or_default().to_owned();
            let accepted = field("accepted").parse().unwrap();
            self.runs.insert((accepted, field("id")), field("state"));
            if field("state") == "ended" {
                assert_eq!(run["exitCode"], 0, "{run:#}");
            }
        }
        // First come, first served: whoever waits was accepted after all that have begun.
        let states: Vec<&str> = self.runs.values().map(String::as_str).collect();
        let begun = states.iter().rposition(|state| *state != "queued");
        let waits = states.iter().position(|state| *state == "queued");
        assert!(waits.is_none() || waits > begun, "a run was overtaken: {states:?}");

        let holding = states.iter().filter(|state| matches!(**state, "starting" | "running")).count();
        assert!(holding as u64 * reservation <= room, "{holding} runs set aside more than there is");
        let queued = states.iter().filter(|state| **state == "queued").count();
        (self.queued, self.running) = (self.queued.max(queued), self.running.max(holding));
        let workers = |function: &Value| function["workers"].as_array().unwrap().len();
        let workers = processes["functions"].as_array().unwrap().iter().map(workers).sum();
        self.workers = self.workers.max(workers);
        if queued > 0 {
            self.last = processor_time();
            self.first.get_or_insert(self.last);
        }
    }

    fn ended(&self) -> usize {
        self.runs.values().filter(|state| *state == "ended").count()
    }

    /// The share of the processors' time in which they worked, while runs waited.
    fn busy(&self) -> f64 {
        let first = self.first.unwrap_or_default();
        let part = |n: u64| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
        part(self.last.0 - first.0) / part((self.last.1 - first.1).max(1))
    }
}

/// Of all processors since the machine's start, in ticks: busy, and all.
fn processor_time() -> (u64, u64) {
    let text = fs::read_to_string("/proc/stat").unwrap();
    let line = text.lines().next().unwrap();
    let ticks: Vec<u64> = line.split_whitespace().skip(1).take(8).map(|n| n.parse().unwrap()).collect();
    let all: u64 = ticks.iter().sum();
    // Idle, and waiting for the disk.
    (all - ticks[3] - ticks[4], all)
}

/// The largest memory that the process ever had, in bytes.
fn peak_memory(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() << 10
}

/// The machine's memory, or what the control group that we are in may have of it, in bytes.
fn memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap();
    let total = line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() << 10;
    let limits = ["/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory.max"];
    let limit = limits.iter().find_map(|file| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok());
    total.min(limit.unwrap_or(u64::MAX))
}
