use std::{fs, path::Path};

use bytes::Bytes;
use futures::TryStreamExt;
use tandem_model::ByteSize;

use super::{BlobError, BlobId, Blobs, FileBlobs, Swept};

fn open(folder: &Path) -> FileBlobs {
    FileBlobs::open(folder.join("blobs"), ByteSize(0)).unwrap()
}

async fn write(blobs: &FileBlobs, pieces: &[&[u8]]) -> BlobId {
    let mut writer = blobs.create().await.unwrap();
    for piece in pieces {
        writer.write(Bytes::copy_from_slice(piece)).await.unwrap();
    }
    writer.finish().await.unwrap()
}

async fn read(blobs: &FileBlobs, id: BlobId, range: std::ops::Range<u64>) -> Vec<u8> {
    let pieces: Vec<Bytes> = blobs.open(id, range).await.unwrap().try_collect().await.unwrap();
    pieces.concat()
}

#[tokio::test]
async fn a_blob_is_read_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = open(folder.path());
    let large: Vec<u8> = (0..5_000_000u32).map(|n| (n % 251) as u8).collect();
    let id = write(&blobs, &[&large[..10], b"", &large[10..3_000_000], &large[3_000_000..], b""]).await;
    let length = large.len() as u64;
    assert!(read(&blobs, id, 0..length).await == large);
    assert!(read(&blobs, id, 1_000_000..3_000_001).await == large[1_000_000..3_000_001]);
    assert!(read(&blobs, id, length..length).await.is_empty());
    let empty = write(&blobs, &[]).await;
    assert!(read(&blobs, empty, 0..0).await.is_empty());
}

#[tokio::test]
async fn a_blob_that_was_cut_short_is_named_before_a_byte_of_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = open(folder.path());
    let id = write(&blobs, &[b"four"]).await;
    let error = blobs.open(id, 0..5).await.err().unwrap();
    assert!(matches!(error, BlobError::Short { id: named, found: 4, needed: 5 } if named == id), "{error}");
}

#[tokio::test]
async fn a_blob_that_is_cut_while_it_is_read_fails_instead_of_ending_early() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = open(folder.path());
    let id = write(&blobs, &[b"four"]).await;
    let reading = blobs.open(id, 0..4).await.unwrap();
    let file =
        fs::File::options().write(true).open(folder.path().join("blobs").join(id.to_string())).unwrap();
    file.set_len(2).unwrap();
    let read: Result<Vec<Bytes>, _> = reading.try_collect().await;
    assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn an_unfinished_blob_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = open(folder.path());
    let mut writer = blobs.create().await.unwrap();
    writer.write(Bytes::from(vec![1; 3 << 20])).await.unwrap();
    assert_eq!(blobs.list().await.unwrap().len(), 1);
    drop(writer);
    assert_eq!(blobs.list().await.unwrap(), []);
}

#[tokio::test]
async fn a_deleted_blob_is_missing_and_is_read_to_its_end_by_who_has_it_open() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = open(folder.path());
    let id = write(&blobs, &[b"body"]).await;
    let reading = blobs.open(id, 0..4).await.unwrap();
    blobs.delete(id).await.unwrap();
    blobs.delete(id).await.unwrap();
    assert!(matches!(blobs.open(id, 0..4).await, Err(BlobError::Missing { id: missing }) if missing == id));
    let pieces: Vec<Bytes> = reading.try_collect().await.unwrap();
    assert_eq!(pieces.concat(), b"body");
}

#[tokio::test]
async fn a_sweep_takes_what_an_earlier_start_left_and_nothing_refers_to() {
    let folder = tempfile::tempdir().unwrap();
    let earlier = open(folder.path());
    let kept = write(&earlier, &[b"kept"]).await;
    let left = write(&earlier, &[b"left over"]).await;
    drop(earlier);
    let now = open(folder.path());
    let fresh = write(&now, &[b"fresh"]).await;
    fs::write(folder.path().join("blobs/README"), "not a blob").unwrap();

    assert_eq!(now.sweep(&|id| id == kept).await.unwrap(), Swept { blobs: 1, bytes: 9 });
    assert!(matches!(now.open(left, 0..1).await, Err(BlobError::Missing { .. })));
    assert_eq!(read(&now, kept, 0..4).await, b"kept");
    assert_eq!(read(&now, fresh, 0..5).await, b"fresh");
    assert!(folder.path().join("blobs/README").exists());
}

#[tokio::test]
async fn below_the_reserve_nothing_is_created() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = FileBlobs::open(folder.path(), ByteSize(u64::MAX)).unwrap();
    assert!(matches!(blobs.create().await, Err(BlobError::Full)));
    assert_eq!(blobs.list().await.unwrap(), []);
}

#[test]
fn an_id_has_one_spelling() {
    let id = BlobId { start: 0x0192_abcd, number: 31 };
    assert_eq!(id.to_string().parse(), Ok(id));
    for wrong in ["", "-", "1-1", "../../etc/passwd", "0000000000000000000000000192abcd-1F"] {
        assert!(wrong.parse::<BlobId>().is_err(), "{wrong}");
    }
}
