//! The loads: what the cloud does to its store.

use std::{
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        mpsc::{self, Receiver, Sender, SyncSender},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use crate::engine::{Batch, Engine, open};

type Request = (Batch, Sender<()>);

/// One thread takes all batches that wait and commits them as one: the logic of our committer before each engine.
fn committer(engine: &dyn Engine, queue: &Receiver<Request>) -> Result<usize> {
    let mut groups = 0;
    while let Ok(first) = queue.recv() {
        let (mut batches, mut answers) = (vec![first.0], vec![first.1]);
        while let Ok((batch, answer)) = queue.try_recv() {
            batches.push(batch);
            answers.push(answer);
        }
        engine.commit(&batches)?;
        groups += 1;
        answers.into_iter().for_each(|answer| _ = answer.send(()));
    }
    Ok(groups)
}

/// What a put of a small object writes: its record and a delivery, if the key is free.
fn put_of_object(client: usize, n: usize) -> Batch {
    // Spread over the tree, as keys of many buckets are.
    let spread = (n as u64 * 64 + client as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let key = format!("object/photos/{spread:016x}").into_bytes();
    let delivery = format!("delivery/resize/{n:012}-{client:03}").into_bytes();
    Batch {
        absent: key.clone(),
        puts: vec![(key, vec![b'o'; 300]), (delivery, vec![b'd'; 400])],
        deletes: vec![],
    }
}

pub struct Commits {
    pub per_second: f64,
    pub p50: Duration,
    pub p99: Duration,
}

pub fn commits(engine: &dyn Engine, clients: usize, first: usize, span: Duration) -> Result<Commits> {
    let (sender, queue): (SyncSender<Request>, _) = mpsc::sync_channel(1024);
    let started = Instant::now();
    let mut times: Vec<Duration> = thread::scope(|scope| -> Result<_> {
        let committing = scope.spawn(move || committer(engine, &queue));
        let clients: Vec<_> = (0..clients)
            .map(|client| {
                let sender = sender.clone();
                scope.spawn(move || {
                    let mut times = Vec::new();
                    for n in first.. {
                        let begun = Instant::now();
                        if begun.duration_since(started) > span {
                            break;
                        }
                        let (answer, answered) = mpsc::channel();
                        let sent = sender.send((put_of_object(client, n), answer));
                        if sent.is_err() || answered.recv().is_err() {
                            break;
                        }
                        times.push(begun.elapsed());
                    }
                    times
                })
            })
            .collect();
        drop(sender);
        let times = clients.into_iter().flat_map(|c| c.join().unwrap_or_default()).collect();
        committing.join().map_err(|_| anyhow::anyhow!("the committer panicked"))??;
        Ok(times)
    })?;
    let elapsed = started.elapsed();
    ensure!(!times.is_empty(), "nothing was committed");
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    Ok(Commits { per_second: times.len() as f64 / elapsed.as_secs_f64(), p50: at(0.5), p99: at(0.99) })
}

fn message(n: usize) -> Vec<u8> {
    format!("message/orders/{n:012}").into_bytes()
}

pub const ROWS: usize = 1_000_000;

/// Fills the queue with [`ROWS`] messages of 100 bytes.
pub fn fill(engine: &dyn Engine) -> Result<Duration> {
    let started = Instant::now();
    for from in (0..ROWS).step_by(10_000) {
        let puts = (from..from + 10_000).map(|n| (message(n), vec![b'm'; 100])).collect();
        engine.commit(&[Batch { absent: b"none".to_vec(), puts, deletes: vec![] }])?;
    }
    Ok(started.elapsed())
}

/// All rows once; answers rows per second.
pub fn scan(engine: &dyn Engine) -> Result<f64> {
    let started = Instant::now();
    let (mut rows, mut bytes) = (0usize, 0usize);
    engine.range(b"message/", &mut |key, value| {
        rows += 1;
        bytes += key.len() + value.len();
        true
    })?;
    ensure!(rows >= ROWS && bytes > rows * 100, "{rows} rows");
    Ok(rows as f64 / started.elapsed().as_secs_f64())
}

/// Pages of 1,000 rows from places all over; answers the median time of a page.
pub fn pages(engine: &dyn Engine) -> Result<Duration> {
    let mut times = Vec::new();
    for n in 0..200usize {
        let from = message(n.wrapping_mul(7919 * 4099) % (ROWS - 1000));
        let started = Instant::now();
        let mut rows = 0;
        engine.range(&from, &mut |_, _| {
            rows += 1;
            rows < 1000
        })?;
        ensure!(rows == 1000, "{rows} rows from {}", String::from_utf8_lossy(&from));
        times.push(started.elapsed());
    }
    times.sort();
    Ok(times[times.len() / 2])
}

pub struct Queue {
    /// Messages received, deleted and sent again at the end, per second; ten at a time, each ten durable.
    pub per_second: f64,
    /// Of finding the first ten.
    pub head_p50: Duration,
    pub head_max: Duration,
}

/// A queue whose first half was consumed: ten at a time are found at the head, deleted, and ten put at the end.
pub fn queue(engine: &dyn Engine, span: Duration) -> Result<Queue> {
    let none = || b"none".to_vec();
    for from in (0..ROWS / 2).step_by(1000) {
        let deletes = (from..from + 1000).map(message).collect();
        engine.commit(&[Batch { absent: none(), puts: vec![], deletes }])?;
    }
    let (mut end, mut moved, mut heads) = (ROWS, 0usize, Vec::new());
    let started = Instant::now();
    while started.elapsed() < span {
        let looked = Instant::now();
        let mut head = Vec::with_capacity(10);
        engine.range(b"message/", &mut |key, _| {
            head.push(key.to_vec());
            head.len() < 10
        })?;
        heads.push(looked.elapsed());
        ensure!(head[0] == message(ROWS / 2 + moved), "the head is elsewhere");
        let puts = (end..end + 10).map(|n| (message(n), vec![b'm'; 100])).collect();
        engine.commit(&[Batch { absent: none(), puts, deletes: head }])?;
        end += 10;
        moved += 10;
    }
    let per_second = moved as f64 / started.elapsed().as_secs_f64();
    heads.sort();
    Ok(Queue { per_second, head_p50: heads[heads.len() / 2], head_max: heads[heads.len() - 1] })
}

/// Values of 4 KiB, so that the size grows fast.
pub fn grow(engine: &dyn Engine, bytes: u64) -> Result<()> {
    for group in 0..bytes / (4096 * 256) {
        let puts = (0..256)
            .map(|n| {
                let n = (group * 256 + n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let mut value = Vec::with_capacity(4096);
                while value.len() < 4096 {
                    // Nothing that compresses.
                    value.extend((n ^ value.len() as u64).wrapping_mul(0xbf58_476d_1ce4_e5b9).to_le_bytes());
                }
                (format!("row/{n:016x}").into_bytes(), value)
            })
            .collect();
        engine.commit(&[Batch { absent: b"none".to_vec(), puts, deletes: vec![] }])?;
    }
    Ok(())
}

pub struct Recovery {
    pub open: Duration,
    pub bytes: u64,
}

/// Kills a process while it commits, and measures how long the next open takes until it has read a row.
pub fn recovery(name: &str, folder: &Path, bytes: u64) -> Result<Recovery> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--grow", name, &bytes.to_string()])
        .arg(folder)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    let mut stdout = std::io::BufReader::new(child.stdout.take().context("a pipe")?);
    std::io::BufRead::read_line(&mut stdout, &mut line)?;
    // It is in the middle of commits now.
    thread::sleep(Duration::from_millis(300));
    child.kill()?;
    child.wait()?;
    ensure!(line.trim() == "grown", "it did not grow: {line}");
    let started = Instant::now();
    let engine = open(name, folder)?;
    let mut rows = 0;
    engine.range(b"row/", &mut |_, _| {
        rows += 1;
        rows < 10
    })?;
    ensure!(rows == 10, "{rows} rows");
    Ok(Recovery { open: started.elapsed(), bytes: size(folder)? })
}

/// Blocks that the files of a folder take.
pub fn size(folder: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        bytes += if meta.is_dir() { size(&entry.path())? } else { meta.blocks() * 512 };
    }
    Ok(bytes)
}

/// Grows, says so, and commits until it is killed.
pub fn grow_and_go_on(name: &str, bytes: u64, folder: &Path) -> Result<()> {
    let engine: Arc<dyn Engine> = open(name, folder)?.into();
    grow(&*engine, bytes)?;
    println!("grown");
    for first in (0..).step_by(1_000_000) {
        commits(&*engine, 4, first, Duration::from_secs(1))?;
    }
    Ok(())
}
