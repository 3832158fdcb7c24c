//! A disk whose sync fails, and one that has no room for the log.

use std::{
    env, fs,
    io::{self, BufRead, BufReader},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use redb::{StorageBackend, backends::FileBackend};
use tandem_model::ByteSize;

use super::{
    super::{
        RedbStore, database_on,
        file::Stopping,
        log::{Limits, Log, OnDisk, Place},
    },
    read_all, small,
};
use crate::{
    port::{Batch, Store},
    space::Reserve,
};

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
/// The file whose sync fails: the log, or else the store's.
const FAILING: &str = "TANDEM_STORE_FAILING_FILE";
const SYNCS: i64 = 12;

fn failing(file: fs::File, syncs: i64) -> Stopping<Failing> {
    Stopping::new(Failing(FileBackend::new(file).unwrap(), AtomicI64::new(syncs)))
}

/// A log whose sync fails.
#[derive(Debug)]
struct FailingLog(OnDisk);

impl Place for FailingLog {
    fn name(&self) -> String {
        self.0.name()
    }
    fn open(&self) -> io::Result<Option<Box<dyn StorageBackend>>> {
        self.0.open()
    }
    fn create(&self) -> io::Result<Box<dyn StorageBackend>> {
        drop(self.0.create()?);
        let file = fs::File::options().read(true).write(true).open(&self.0.0)?;
        Ok(Box::new(failing(file, SYNCS)))
    }
    fn remove(&self) -> io::Result<()> {
        self.0.remove()
    }
}

#[tokio::test]
#[ignore = "started by another test of this file"]
async fn writer_on_a_failing_disk() {
    let (Some(folder), Ok(which)) = (env::var_os(FOLDER), env::var(FAILING)) else { return };
    let path: Arc<Path> = Path::new(&folder).join("store.redb").into();
    let name = path.clone();
    let open = move || {
        let file =
            fs::File::options().read(true).write(true).create(true).truncate(false).open(&name).unwrap();
        let place = OnDisk(name.with_extension("wal"));
        let (syncs, place, largest): (_, Arc<dyn Place>, _) = match which.as_str() {
            "log" => (i64::MAX, Arc::new(FailingLog(place)), 1 << 20),
            // Everything is too large for the log.
            _ => (SYNCS, Arc::new(place), 0),
        };
        let limits = Limits { largest, ..Limits::default() };
        let log = |database: &_, later| Log::recover(&name, database, later, place, limits);
        database_on(&name, failing(file, syncs), ByteSize::mebibytes(1), false, log)
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
    for which in ["store", "log"] {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Command::new(env::current_exe().unwrap())
            .args([
                "backend::redb::crashes::failing::writer_on_a_failing_disk",
                "--exact",
                "--ignored",
                "--nocapture",
            ])
            .env(FOLDER, folder.path())
            .env(FAILING, which)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        let acknowledged =
            lines.map_while(Result::ok).filter(|line| line.starts_with("acknowledged ")).count();
        let status = writer.wait().unwrap();
        assert_eq!(status.signal(), Some(nix::sys::signal::Signal::SIGABRT as i32), "{which}: {status}");
        assert!((3..SYNCS as usize).contains(&acknowledged), "{which}: {acknowledged}");
        let store = RedbStore::open(folder.path().join("store.redb"), small()).unwrap();
        let found = read_all(&store).unwrap().len();
        assert!((acknowledged..=acknowledged + 1).contains(&found), "{which}: {found} of {acknowledged}");
    }
}

/// A log's file that can have so many bytes and no more.
#[derive(Debug)]
struct Short(FileBackend, u64);

impl StorageBackend for Short {
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
        self.0.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        match offset + data.len() as u64 > self.1 {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => self.0.write(offset, data),
        }
    }
}

#[derive(Debug)]
struct ShortLog(OnDisk, u64);

impl Place for ShortLog {
    fn name(&self) -> String {
        self.0.name()
    }
    fn open(&self) -> io::Result<Option<Box<dyn StorageBackend>>> {
        self.0.open()
    }
    fn create(&self) -> io::Result<Box<dyn StorageBackend>> {
        drop(self.0.create()?);
        let file = fs::File::options().read(true).write(true).open(&self.0.0)?;
        Ok(Box::new(Short(FileBackend::new(file).unwrap(), self.1)))
    }
    fn remove(&self) -> io::Result<()> {
        self.0.remove()
    }
}

/// Nothing of it, or its first four blocks.
#[tokio::test]
async fn without_room_for_a_log_commits_are_made_without_it() {
    for room in [0, 16 << 10] {
        let folder = tempfile::tempdir().unwrap();
        let path: Arc<Path> = folder.path().join("store.redb").into();
        let name = path.clone();
        let open = move || {
            let file =
                fs::File::options().read(true).write(true).create(true).truncate(false).open(&name).unwrap();
            let place = Arc::new(ShortLog(OnDisk(name.with_extension("wal")), room));
            let limits = Limits { size: 64 << 10, step: 16 << 10, largest: 16 << 10 };
            let log = |database: &_, later| Log::recover(&name, database, later, place, limits);
            let file = Stopping::new(FileBackend::new(file).unwrap());
            database_on(&name, file, ByteSize::mebibytes(1), false, log)
        };
        let store =
            RedbStore::start(path.clone(), Reserve::new(folder.path(), ByteSize(0)), Box::new(open)).unwrap();
        for n in 0..30 {
            let mut batch = Batch::default();
            batch.put(format!("k{n:03}"), "v").delete(format!("k{:03}", n - 20));
            store.commit(batch).await.unwrap();
        }
        store.close().await;
        assert_eq!(read_all(&RedbStore::open(&path, small()).unwrap()).unwrap().len(), 20, "{room}");
    }
}
