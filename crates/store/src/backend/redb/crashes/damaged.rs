//! Turned bits, and files that are missing.

use std::fs;

use tandem_model::Explain;

use super::{
    super::{
        OpenError, RedbStore,
        simulated::{Disk, Image, LOG, STORE, apply},
    },
    Random, Rows, killed_with_a_log, load, read_all, small,
};
use crate::port::{Batch, Store};

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
    let rows = load(&disk, 7, 60, None).pop().unwrap();
    let mut whole = Image::default();
    disk.events().iter().for_each(|event| apply(&mut whole, event));
    assert!(whole[LOG].is_empty(), "closed properly, there is no log");
    let (mut refused, mut named, mut hidden, mut harmless) = (0, 0, 0, 0);
    let mut random = Random(99);
    for turn in 0..1500 {
        let bit = random.below(whole[STORE].len() as u64 * 8);
        let mut bytes = whole.clone();
        bytes[STORE][bit as usize / 8] ^= 1 << (bit % 8);
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

#[test]
fn a_turned_bit_in_the_log_is_found_unless_it_is_in_the_very_last_record() {
    let (image, states) = killed_with_a_log();
    let whole = read_all(&Disk::of(image.clone()).store().unwrap()).unwrap();
    let at = states.iter().position(|rows| *rows == whole).expect("what was committed");
    let (mut harmless, mut named, mut last) = (0, 0, 0);
    let mut random = Random(5);
    for _ in 0..1500 {
        let bit = random.below(image[LOG].len() as u64 * 8);
        let mut files = image.clone();
        files[LOG][bit as usize / 8] ^= 1 << (bit % 8);
        match Disk::of(files).store() {
            Err(OpenError::Damaged { reason, .. }) => {
                assert!(reason.contains("of its log `log` is not what was written"), "{reason}");
                named += 1;
            }
            Err(error) => panic!("bit {bit}: {error:?}"),
            Ok(store) => {
                let rows = read_all(&store).unwrap();
                match rows == whole {
                    true => harmless += 1,
                    false => {
                        assert!(
                            states[..at].contains(&rows),
                            "bit {bit}: neither the last commits nor those before"
                        );
                        last += 1;
                    }
                }
            }
        }
    }
    println!("{harmless} harmless, {named} named, {last} in the last record");
    assert!(named > 200 && harmless > 20, "{named} {harmless}");
}

#[test]
fn a_store_without_its_log_is_refused_unless_it_was_closed() {
    let (mut image, _) = killed_with_a_log();
    image[LOG].clear();
    let error = Disk::of(image).store().unwrap_err();
    assert!(error.to_string().contains("its log `log` is missing"), "{error}");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for n in 0..2 {
        let store = RedbStore::open(&path, small()).unwrap();
        let mut batch = Batch::default();
        batch.put(format!("k{n}"), "v");
        runtime.block_on(store.commit(batch)).unwrap();
        assert!(path.with_extension("wal").exists());
        runtime.block_on(store.close());
        assert!(!path.with_extension("wal").exists(), "closed, one file has everything");
    }
    assert_eq!(read_all(&RedbStore::open(&path, small()).unwrap()).unwrap().len(), 2);
}

#[test]
fn a_store_with_the_log_of_another_is_refused() {
    let (mut image, _) = killed_with_a_log();
    let (another, _) = killed_with_a_log();
    for log in [another[LOG].clone(), vec![0; 16 << 10]] {
        image[LOG] = log;
        let error = Disk::of(image.clone()).store().unwrap_err();
        assert!(error.to_string().contains("`log` is not its log"), "{error}");
    }
}

#[test]
fn a_log_that_a_new_store_finds_is_not_its_own_and_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    fs::write(path.with_extension("wal"), [7; 10_000]).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let store = RedbStore::open(&path, small()).unwrap();
    assert_eq!(read_all(&store).unwrap(), Rows::new());
    let mut batch = Batch::default();
    batch.put("k", "v");
    runtime.block_on(store.commit(batch)).unwrap();
    runtime.block_on(store.close());
    assert_eq!(read_all(&RedbStore::open(&path, small()).unwrap()).unwrap().len(), 1);
}
