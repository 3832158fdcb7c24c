//! Power cuts, full disks, failed syncs and turned bits, at every place of random loads. Each has a seed: a failure names
//! it, and it fails again.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, BufRead, BufReader},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicI64, Ordering},
};

use bytes::Bytes;
use redb::{StorageBackend, backends::FileBackend};
use tandem_model::{ByteSize, Explain};

use super::{
    Options, RedbStore, database_on,
    file::Stopping,
    simulated::{Disk, Event, apply},
};
use crate::{
    port::{Batch, CommitError, Direction, ReadError, Store, Write},
    space::Reserve,
};

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

/// Runs rounds of commits at once on the disk. Answers the rows after each commit, in the order of the commits.
fn load(disk: &Disk, seed: u64, rounds: u64) -> Vec<Rows> {
    let mut random = Random(seed);
    let store = disk.store().unwrap();
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
        }
        store.close().await;
    });
    states
}

/// What a power cut may leave of a write that was not synced: all of it, nothing, or some of its sectors.
fn partly(random: &mut Random, event: &Event, image: &mut Vec<u8>) {
    match (event, random.below(3)) {
        (_, 0) => {}
        (Event::Write { offset, bytes }, 1) => {
            for (n, sector) in bytes.chunks(512).enumerate() {
                if random.below(2) == 0 {
                    let at = offset + n as u64 * 512;
                    apply(image, &Event::Write { offset: at, bytes: sector.to_vec() });
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
    let states = load(&disk, seed, rounds);
    let events = disk.events();
    let mut random = Random(!seed);
    let (mut durable, mut pending) = (Vec::new(), Vec::<&Event>::new());
    let (mut acknowledged, mut cuts) = (None, 0);
    for (at, event) in events.iter().enumerate() {
        match event {
            Event::Sync => pending.drain(..).for_each(|event| apply(&mut durable, event)),
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
        assert!(
            read_all(&disk.store().unwrap()).unwrap() == rows,
            "full after {after} writes, {count} of them"
        );
    }
    assert!(struck > 120, "{struck}");
}

/// A file whose sync fails from the n-th on.
#[derive(Debug)]
struct Failing(FileBackend, AtomicI64);

impl StorageBackend for Failing {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        match self.1.fetch_sub(1, Ordering::SeqCst) {
            0 => Err(io::Error::other("the disk does not answer")),
            _ => self.0.sync_data(),
        }
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}

const FOLDER: &str = "TANDEM_STORE_FAILING_FOLDER";
const SYNCS: i64 = 12;

#[tokio::test]
#[ignore = "started by another test of this file"]
async fn writer_on_a_failing_disk() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let path: std::sync::Arc<Path> = Path::new(&folder).join("store.redb").into();
    let name = path.clone();
    let open = move || {
        let file =
            fs::File::options().read(true).write(true).create(true).truncate(false).open(&name).unwrap();
        let failing = Failing(FileBackend::new(file).unwrap(), AtomicI64::new(SYNCS));
        database_on(&name, Stopping::new(failing), ByteSize::mebibytes(1), false)
    };
    let reserve = Reserve::new(Path::new(&folder), ByteSize(0));
    let store = RedbStore::start(path, reserve, Box::new(open)).unwrap();
    for n in 0.. {
        let mut batch = Batch::default();
        batch.put(format!("k{n:03}"), "v");
        store.commit(batch).await.unwrap();
        println!("\nacknowledged {n}");
    }
}

#[test]
fn a_sync_that_fails_stops_the_process_and_nothing_it_acknowledged_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Command::new(env::current_exe().unwrap())
        .args(["backend::redb::crashes::writer_on_a_failing_disk", "--exact", "--ignored", "--nocapture"])
        .env(FOLDER, folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(writer.stdout.take().unwrap()).lines();
    let acknowledged = lines.map_while(Result::ok).filter(|line| line.starts_with("acknowledged ")).count();
    let status = writer.wait().unwrap();
    assert_eq!(status.signal(), Some(nix::sys::signal::Signal::SIGABRT as i32), "{status}");
    assert!((3..SYNCS as usize).contains(&acknowledged), "{acknowledged}");
    let store = RedbStore::open(folder.path().join("store.redb"), small()).unwrap();
    let found = read_all(&store).unwrap().len();
    assert!((acknowledged..=acknowledged + 1).contains(&found), "{found} of {acknowledged}");
}

fn small() -> Options {
    Options { keep_free: ByteSize(0), ..Options::default() }
}

/// Turns one bit of a file that was closed properly. A small file is checked when it is opened; of a large one (as
/// `check` is false here) each row that is read is right, or an error says that it is not.
#[test]
fn a_turned_bit_is_found_and_named_and_never_served() {
    // Panics of redb over a damaged page are caught; their messages would bury the test's own.
    std::panic::set_hook(Box::new(|_| {}));
    let result = std::panic::catch_unwind(turned_bits);
    let _ = std::panic::take_hook();
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

fn turned_bits() {
    let disk = Disk::default();
    let rows = load(&disk, 7, 60).pop().unwrap();
    let mut whole = Vec::new();
    disk.events().iter().for_each(|event| apply(&mut whole, event));
    let (mut refused, mut named, mut hidden, mut harmless) = (0, 0, 0, 0);
    let mut random = Random(99);
    for turn in 0..1500 {
        let bit = random.below(whole.len() as u64 * 8);
        let mut bytes = whole.clone();
        bytes[bit as usize / 8] ^= 1 << (bit % 8);
        let told = format!("bit {bit}");

        // Checked when it is opened, as every small file is: what opens is whole.
        match Disk::of(bytes.clone()).checked().store() {
            Ok(store) => assert!(read_all(&store).unwrap() == rows, "{told}: opened, and is not whole"),
            Err(error) => {
                let text = error.to_string();
                assert!(error.code().starts_with("E09") && text.contains("disk"), "{told}: {error:?}");
                refused += 1;
            }
        }
        // And without that check, as a large one: what is served is right, though rows may be hidden.
        if turn % 2 == 0 {
            continue;
        }
        let store = match Disk::of(bytes).store() {
            Ok(store) => store,
            Err(error) => {
                assert!(error.code().starts_with("E09"), "{told}: {error:?}");
                continue;
            }
        };
        match read_all(&store) {
            Err(error) => {
                assert_eq!(error.code(), "E0910", "{told}: {error:?}");
                named += 1;
            }
            Ok(found) if found == rows => harmless += 1,
            Ok(found) => {
                let right = |(key, value)| rows.get(key) == Some(value);
                assert!(found.iter().all(right), "{told}: served wrong");
                hidden += 1;
            }
        }
        for (key, value) in &rows {
            match store.snapshot().and_then(|snapshot| snapshot.get(key)) {
                Ok(None) => {}
                Ok(Some(found)) => assert_eq!(found, value, "{told}: served wrong"),
                Err(error) => assert_eq!(error.code(), "E0910", "{told}: {error:?}"),
            }
        }
    }
    println!(
        "{refused} refused when opened; {named} named when read, {hidden} hid rows, {harmless} harmless"
    );
    assert!(refused > 100 && named > 20, "{refused} {named}");
}
