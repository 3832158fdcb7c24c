//! Which failpoints a process met, and how often: what a loop over them goes through.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// The file in which processes that are started with [`variable`](Self::variable) note the failpoints they meet.
pub(crate) struct Met(PathBuf);

impl Met {
    pub(crate) fn new(folder: &Path, name: &str) -> Self {
        Self(folder.join(format!("met-{name}")))
    }

    pub(crate) fn variable(&self) -> (&str, &str) {
        ("TANDEM_FAILPOINTS_MET", self.0.to_str().unwrap())
    }

    /// By name, how often.
    pub(crate) fn all(&self) -> BTreeMap<String, usize> {
        let text = fs::read_to_string(&self.0).unwrap_or_default();
        let mut all = BTreeMap::new();
        for name in text.lines().filter_map(|line| Some(line.split_once(' ')?.1)) {
            *all.entry(name.to_owned()).or_default() += 1;
        }
        all
    }

    pub(crate) fn count(&self, point: &str) -> usize {
        self.all().get(point).copied().unwrap_or_default()
    }
}
