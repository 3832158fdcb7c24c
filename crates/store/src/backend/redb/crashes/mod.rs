//! Power cuts, full disks, failed syncs and turned bits, at every place of random loads. Each has a seed: a failure names
//! it, and it fails again.

mod damaged;
mod failing;

use std::{collections::BTreeMap, env, mem};

use bytes::Bytes;
use tandem_model::ByteSize;

use super::{
    Options,
    simulated::{Disk, Event, Image, LOG, apply},
};
use crate::port::{Batch, CommitError, Direction, ReadError, Store, Write};

type Rows = BTreeMap<Bytes, Bytes>;

/// SplitMix64: enough to choose with, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn batch(&mut self) -> Batch {
        let mut batch = Batch::default();
        for _ in 0..=self.below(4) {
            let key = format!("k{:02}", self.below(40));
            match self.below(4) {
                0 => batch.delete(key),
                _ => {
                    let most = if self.below(10) == 0 { 20_000 } else { 500 };
                    let size = self.below(most);
                    batch.put(key, vec![self.next() as u8; size as usize])
                }
            };
        }
        batch
    }
}

fn advance(rows: &mut Rows, batch: &Batch) {
    for write in &batch.writes {
        match write {
            Write::Put { key, value } => rows.insert(key.clone(), value.clone()),
            Write::Delete { key } => rows.remove(key),
        };
    }
}

fn read_all(store: &dyn Store) -> Result<Rows, ReadError> {
    store.snapshot()?.range(b"", b"\xff", Direction::Ascending)?.collect()
}

/// Runs rounds of commits at once on the disk. Answers the rows after each commit, in the order of the commits. One round in
/// `killed`, if any, ends with the death of the process: what it wrote is there until the power is cut, and what it knew is gone.
fn load(disk: &Disk, seed: u64, rounds: u64, killed: Option<u64>) -> Vec<Rows> {
    let mut random = Random(seed);
    let mut store = disk.store().unwrap();
    let mut states = vec![Rows::new()];
    disk.acknowledged(0);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        for _ in 0..rounds {
            let batches: Vec<Batch> = (0..=random.below(4)).map(|_| random.batch()).collect();
            for batch in &batches {
                let mut next = states[states.len() - 1].clone();
                advance(&mut next, batch);
                states.push(next);
            }
            for outcome in futures::future::join_all(batches.into_iter().map(|b| store.commit(b))).await {
                outcome.unwrap();
            }
            disk.acknowledged(states.len() - 1);
            if killed.is_some_and(|one_in| random.below(one_in) == 0) {
                // Nobody asks anything of it again, so it does nothing again, nor what it owes.
                mem::forget(mem::replace(&mut store, disk.store().unwrap()));
            }
        }
        store.close().await;
    });
    states
}

/// What a power cut may leave of a write that was not synced: all of it, nothing, or some of its sectors.
fn partly(random: &mut Random, event: &Event, image: &mut Image) {
    match (event, random.below(3)) {
        (_, 0) => {}
        (Event::Write { file, offset, bytes }, 1) => {
            for (n, sector) in bytes.chunks(512).enumerate() {
                if random.below(2) == 0 {
                    let at = offset + n as u64 * 512;
                    apply(image, &Event::Write { file: *file, offset: at, bytes: sector.to_vec() });
                }
            }
        }
        (event, _) => apply(image, event),
    }
}

/// Cuts the power after each event of a load: afterwards exactly what was acknowledged is there, or that and commits
/// that were under way, in their order and each whole.
fn power_cuts(seed: u64, rounds: u64) -> usize {
    let disk = Disk::default();
    let states = load(&disk, seed, rounds, Some(8));
    let events = disk.events();
    let mut random = Random(!seed);
    let (mut durable, mut pending) = (Image::default(), Vec::<&Event>::new());
    let (mut acknowledged, mut cuts) = (None, 0);
    for (at, event) in events.iter().enumerate() {
        match event {
            Event::Sync { file } => {
                pending
                    .extract_if(.., |event| event.file() == Some(*file))
                    .for_each(|event| apply(&mut durable, event));
            }
            Event::Acknowledged(commits) => acknowledged = Some(*commits),
            written => pending.push(written),
        }
        let next = events[at..].iter().find_map(|event| match event {
            Event::Acknowledged(commits) if Some(*commits) != acknowledged => Some(*commits),
            _ => None,
        });
        let mut image = durable.clone();
        for event in &pending {
            partly(&mut random, event, &mut image);
        }
        cuts += 1;
        let told = format!("seed {seed}, power cut after event {at} of {}", events.len());
        let disk = Disk::of(image);
        let store = match disk.store() {
            Ok(store) => store,
            // Before anything at all was promised there may be half a file.
            Err(_) if acknowledged.is_none() => continue,
            Err(error) => panic!("{told}: {error:?}"),
        };
        let rows = read_all(&store).unwrap_or_else(|error| panic!("{told}: {error:?}"));
        let from = acknowledged.unwrap_or(0);
        let possible = &states[from..=next.unwrap_or(from)];
        assert!(possible.contains(&rows), "{told}: neither what was acknowledged nor what was under way");
        // And it goes on.
        let mut batch = Batch::default();
        batch.put("after", "the cut");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            store.commit(batch).await.unwrap_or_else(|error| panic!("{told}: {error:?}"));
            store.close().await;
        });
    }
    cuts
}

#[test]
fn a_power_cut_at_any_write_keeps_what_was_acknowledged() {
    let rounds = env::var("TANDEM_POWER_CUT_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(25);
    let seeds = env::var("TANDEM_POWER_CUT_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(6);
    let cuts: usize = (0..seeds).map(|seed| power_cuts(seed, rounds)).sum();
    println!("{cuts} power cuts");
    assert!(cuts as u64 > seeds * rounds * 3, "the loads wrote: {cuts}");
}

/// Cuts the power after the events: of those, and of what was written before and not synced, what was synced is on the disk.
fn cut(on_disk: &mut Image, mut unsynced: Vec<Event>, events: Vec<Event>) {
    for event in events {
        match event {
            Event::Sync { file } => unsynced
                .extract_if(.., |event| event.file() == Some(file))
                .for_each(|event| apply(on_disk, &event)),
            written => unsynced.push(written),
        }
    }
}

#[test]
fn a_second_power_cut_finds_what_was_in_both_halves_of_the_log_at_the_first() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (mut rows, mut image) = (Rows::new(), Image::default());
    // Room in the file, so that it need not grow, which takes a sync of its own.
    let disk = Disk::default();
    let store = disk.store().unwrap();
    for size in [100_000, 1] {
        let mut batch = Batch::default();
        batch.put("room", vec![0; size]);
        runtime.block_on(store.commit(batch.clone())).unwrap();
        advance(&mut rows, &batch);
    }
    runtime.block_on(store.close());
    cut(&mut image, Vec::new(), disk.events());
    // Six records fill a half, in a new log five. The sync that follows happens as late as it may, so it has not when the other
    // half has some: the first time after seven of them, the second time after six more.
    for commits in [7, 6, 6] {
        let disk = Disk::of(image.clone());
        let store = disk.store().unwrap();
        assert!(read_all(&store).unwrap() == rows, "before {commits} more");
        for n in 0..commits {
            let mut batch = Batch::default();
            batch.put(format!("k{:02}", rows.len()), format!("of {commits}, {n}"));
            runtime.block_on(store.commit(batch.clone())).unwrap();
            advance(&mut rows, &batch);
        }
        mem::forget(store);
        cut(&mut image, Vec::new(), disk.events());
    }
    assert!(read_all(&Disk::of(image).store().unwrap()).unwrap() == rows);
}

#[test]
fn what_a_killed_process_wrote_is_on_disk_before_anybody_reads_it() {
    let disk = Disk::default();
    let states = load(&disk, 11, 20, Some(8));
    let events = disk.events();
    // It was killed between the write of a record and its sync.
    let record = |event: &Event| matches!(event, Event::Write { file: LOG, .. });
    let written = events.iter().rposition(record).unwrap();
    let mut on_disk = Image::default();
    events[..written].iter().for_each(|event| apply(&mut on_disk, event));
    let mut seen = on_disk.clone();
    apply(&mut seen, &events[written]);

    let disk = Disk::of(seen);
    let rows = read_all(&disk.store().unwrap()).unwrap();
    assert!(states.contains(&rows));
    cut(&mut on_disk, vec![events[written].clone()], disk.events());
    assert!(read_all(&Disk::of(on_disk).store().unwrap()).unwrap() == rows);
}

#[test]
fn a_disk_that_is_full_at_any_write_loses_nothing_and_is_used_again() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut struck = 0;
    for (after, count) in (0..120).flat_map(|after| [(after, 1), (after, 6)]) {
        let disk = Disk::default();
        let store = disk.store().unwrap();
        let mut random = Random(after as u64);
        let mut rows = Rows::new();
        disk.fill_up(after, count);
        runtime.block_on(async {
            for n in 0..30 {
                let batch = random.batch();
                match store.commit(batch.clone()).await {
                    Ok(()) => advance(&mut rows, &batch),
                    Err(CommitError::Full) => struck += 1,
                    Err(other) => panic!("full after {after} writes, {count} of them: {other:?}"),
                }
                // A file that could not be opened again since is opened by the next commit.
                if let Ok(found) = read_all(&store) {
                    assert!(found == rows, "full after {after} writes, {count} of them: commit {n}");
                }
            }
            store.close().await;
        });
        drop(store);
        disk.fill_up(0, 0);
        assert!(
            read_all(&disk.store().unwrap()).unwrap() == rows,
            "full after {after} writes, {count} of them"
        );
    }
    assert!(struck > 120, "{struck}");
}

/// A disk as a kill leaves it: with a log of five records that the file lacks. And the rows after each of them.
fn killed_with_a_log() -> (Image, Vec<Rows>) {
    let disk = Disk::default();
    let store = disk.store().unwrap();
    let mut states = vec![Rows::new()];
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for n in 0..5_u8 {
        let mut batch = Batch::default();
        batch.put(format!("k{n}"), vec![n; 2500]).put("last", vec![n; 500]);
        runtime.block_on(store.commit(batch.clone())).unwrap();
        let mut next = states[states.len() - 1].clone();
        advance(&mut next, &batch);
        states.push(next);
    }
    mem::forget(store);
    let mut image = Image::default();
    disk.events().iter().for_each(|event| apply(&mut image, event));
    (image, states)
}

fn small() -> Options {
    Options { keep_free: ByteSize(0), ..Options::default() }
}
