//! Schedules of random work in which the cloud and its processes are killed, and the promises checked afterwards.
//!
//! A [`schedule`] is a pure function of its seed: what each client does, who is killed, and when, counted in answers and
//! in passages of failpoints. The [`client`]s tell a [`model`] what they were answered. Then the cloud is started again,
//! the clients go on, everything comes to rest, and what the cloud holds and what the handlers told a [`witness`] is compared with the
//! model ([`check`]). Many schedules share a cloud ([`shard`]), so that one takes some hundred milliseconds.
//!
//! Two clients of one schedule run at the same time, and so does the cloud: a seed repeats what is done and where it is
//! cut, not how threads interleave.
//!
//! `cargo xtask test` runs a thousand; `cargo xtask chaos` runs more, or one.

mod check;
mod client;
mod control;
mod model;
mod program;
mod schedule;
mod shard;
mod victims;
mod witness;

use std::{
    collections::BTreeSet,
    env, fs,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

pub(crate) use self::{schedule::Victim, victims::kill};
use self::{
    schedule::{Failpoints, Schedule},
    shard::Shard,
    witness::Witness,
};
use crate::harness::{Cloud, examples};

/// How many schedules share a cloud before it is destroyed and another one made.
const SHARED: usize = 250;

/// What the environment asks for: `TANDEM_CHAOS=first,count,seconds`, as `cargo xtask chaos` sets it.
fn asked() -> (u64, u64, Option<Duration>) {
    let Ok(text) = env::var("TANDEM_CHAOS") else { return (1, 1000, None) };
    let numbers: Vec<u64> = text.split(',').map(|n| n.parse().expect("TANDEM_CHAOS has numbers")).collect();
    let [first, count, seconds] = numbers[..] else { panic!("TANDEM_CHAOS is first,count,seconds") };
    (first, count, (seconds > 0).then(|| Duration::from_secs(seconds)))
}

#[test]
fn whatever_is_killed_and_whenever_every_promise_holds() {
    let (first, count, time) = asked();
    let failpoints = failpoints();
    let started = Instant::now();
    let next = AtomicU64::new(first);
    let (failed, done) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let more = || {
        let over = failed.load(Ordering::SeqCst) || time.is_some_and(|time| started.elapsed() > time);
        if over {
            return None;
        }
        let seed = next.fetch_add(1, Ordering::SeqCst);
        (seed - first < count).then_some(seed)
    };
    let shards = thread::available_parallelism().map_or(1, usize::from).min(count.try_into().unwrap_or(1));
    let work = || {
        // A failure elsewhere ends this, too.
        struct Fail<'a>(&'a AtomicBool);
        impl Drop for Fail<'_> {
            fn drop(&mut self) {
                self.0.fetch_or(thread::panicking(), Ordering::SeqCst);
            }
        }
        let _fail = Fail(&failed);
        while let Some(mut seed) = more() {
            let cloud = Cloud::new();
            let witness = Witness::start();
            let project = Shard::project(&cloud, &witness);
            let mut shard = Shard::start(&cloud, &project, &witness);
            for number in 1.. {
                let begun = Instant::now();
                shard.run(&Schedule::of(seed, &failpoints));
                done.lock().unwrap().push((begun.elapsed(), seed));
                if number % 50 == 0 {
                    shard.nothing_to_do();
                }
                match (number < SHARED).then(&more).flatten() {
                    Some(another) => seed = another,
                    None => break,
                }
            }
            cloud.observe();
            shard.end();
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..shards).map(|_| scope.spawn(work)).collect();
        let ended: Vec<_> = threads.into_iter().map(thread::ScopedJoinHandle::join).collect();
        assert!(ended.iter().all(Result::is_ok), "a schedule failed: see above");
    });
    let mut done = done.into_inner().unwrap();
    done.sort_unstable();
    let median = done.get(done.len() / 2).copied().unwrap_or_default().0;
    eprintln!(
        "{} schedules from seed {first} in {:.1?}, half of them within {median:.1?}; the longest: {:.1?}",
        done.len(),
        started.elapsed(),
        &done[done.len().saturating_sub(5)..],
    );
    assert!(time.is_some() || done.len() as u64 == count);
}

/// Every failpoint that the sources name: `hit("name")`, and where a write can fail `try_hit("name")`.
fn failpoints() -> Failpoints {
    let mut sources = String::new();
    let mut folders = vec![examples().with_file_name("crates")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                sources += &fs::read_to_string(path).unwrap();
            }
        }
    }
    let named = |call: &str| {
        let names = sources.split(call).skip(1).filter_map(|rest| rest.split('"').next());
        let names: BTreeSet<&str> = names.filter(|name| name.split('.').count() == 3).collect();
        names.into_iter().map(str::to_owned).collect()
    };
    Failpoints { all: named("hit(\""), writes: named("try_hit(\"") }
}
