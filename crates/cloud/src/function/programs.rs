//! The programs' archives, kept in memory while they are used.

use std::{
    io,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;

use crate::archive::Archives;

/// Archives of that many bytes together stay in memory.
const KEPT: usize = 32 << 20;

/// Reads archives by their hash.
#[derive(Debug)]
pub(super) struct Programs {
    archives: Archives,
    /// The least recently used first.
    kept: Mutex<Vec<(String, Bytes)>>,
}

impl Programs {
    pub(super) fn new(archives: Archives) -> Self {
        Self { archives, kept: Mutex::default() }
    }

    pub(super) async fn exists(&self, hash: &str) -> bool {
        match self.archives.path(hash) {
            Ok(path) => tokio::fs::try_exists(path).await.unwrap_or(false),
            Err(_) => false,
        }
    }

    /// # Errors
    /// If there is no such archive, or it cannot be read.
    pub(super) async fn read(&self, hash: &str) -> io::Result<Bytes> {
        if let Some(bytes) = self.touch(hash) {
            return Ok(bytes);
        }
        let bytes = Bytes::from(tokio::fs::read(self.archives.path(hash).map_err(io::Error::other)?).await?);
        self.keep(hash, &bytes);
        Ok(bytes)
    }

    fn touch(&self, hash: &str) -> Option<Bytes> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|(name, _)| name == hash)?;
        let entry = kept.remove(at);
        let bytes = entry.1.clone();
        kept.push(entry);
        Some(bytes)
    }

    fn keep(&self, hash: &str, bytes: &Bytes) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(name, _)| name != hash);
        kept.push((hash.to_owned(), bytes.clone()));
        let mut total: usize = kept.iter().map(|(_, bytes)| bytes.len()).sum();
        while total > KEPT && kept.len() > 1 {
            total -= kept.remove(0).1.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_least_recently_used_archive_leaves_memory_first() {
        let folder = tempfile::tempdir().unwrap();
        let archives = Archives::new(folder.path().to_owned());
        let names: Vec<_> = (0..4)
            .map(|n| {
                let name = format!("sha256:{}", n.to_string().repeat(64));
                std::fs::write(archives.path(&name).unwrap(), vec![0; KEPT / 2]).unwrap();
                name
            })
            .collect();
        let programs = Programs::new(archives);
        for n in [0, 1, 0, 2] {
            assert_eq!(programs.read(&names[n]).await.unwrap().len(), KEPT / 2);
        }
        let kept: Vec<_> = programs.kept.lock().unwrap().iter().map(|(name, _)| name.clone()).collect();
        assert_eq!(kept, [names[0].clone(), names[2].clone()]);
        assert!(programs.exists(&names[3]).await);
        std::fs::remove_file(folder.path().join("3".repeat(64))).unwrap();
        assert!(!programs.exists(&names[3]).await && programs.read(&names[3]).await.is_err());
        assert!(!programs.exists("../outside").await);
    }
}
