//! Damage found while redb works on the file: what it reports, and where it panics because a page is not what it wrote.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use crate::port::{Damage, ReadError};

/// Runs something of redb. A panic there is damage of the file: the cloud goes on, and says so.
pub(super) fn caught<T>(path: &Path, work: impl FnOnce() -> T) -> Result<T, Damage> {
    // Whatever is left half done belongs to the transaction or database, which the caller gives up.
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| found(path, told(&*panic)))
}

fn told(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "a page of it makes no sense".to_owned())
}

pub(super) fn found(path: &Path, what: impl Into<String>) -> Damage {
    Damage { path: path.to_owned(), what: what.into() }
}

/// Reads, and tells damage from what else can go wrong, which is an error of redb's.
pub(super) fn read<T, E: Into<redb::Error>>(
    path: &Path,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, ReadError> {
    match caught(path, || work().map_err(Into::into)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(redb::Error::Corrupted(what))) => Err(ReadError(Box::new(found(path, what)))),
        Ok(Err(other)) => Err(ReadError(Box::new(other))),
        Err(damage) => Err(ReadError(Box::new(damage))),
    }
}

/// A row whose checksum does not agree.
pub(super) fn row(path: &Path, key: &[u8]) -> ReadError {
    let what = format!("the row `{}` is not what was written", key.escape_ascii());
    ReadError(Box::new(found(path, what)))
}
