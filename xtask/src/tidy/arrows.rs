//! The arrows between crates, against the table in ARCHITECTURE.md.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use anyhow::{Context, Result};
use serde_json::Value;

use super::Finding;
use crate::{process, tree};

/// Folder of a crate under `crates/` → the crates it may use.
pub(super) type Arrows = BTreeMap<String, BTreeSet<String>>;

pub(super) fn check(root: &Path) -> Result<Vec<Finding>> {
    let allowed = table(&tree::read(&root.join("ARCHITECTURE.md"))?);
    let mut ask = Command::new(tree::cargo());
    ask.current_dir(root).args(["metadata", "--no-deps", "--format-version", "1"]);
    let metadata = serde_json::from_str(&process::output(&mut ask)?).context("cargo metadata is not JSON")?;
    Ok(compare(&allowed, &used(&metadata)))
}

/// Rows `| \`crates/x\` | what for | a, b |`; what they list brings along what those crates use.
pub(super) fn table(page: &str) -> Arrows {
    let mut direct = Arrows::new();
    for line in page.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, folder, _, uses, _] = cells[..] else { continue };
        let Some(name) = folder.strip_prefix("`crates/").and_then(|f| f.strip_suffix('`')) else { continue };
        let uses = uses.split(',').map(str::trim).filter(|u| !u.is_empty()).map(str::to_owned).collect();
        direct.insert(name.to_owned(), uses);
    }
    direct.keys().map(|name| (name.clone(), reachable(&direct, name))).collect()
}

fn reachable(direct: &Arrows, from: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![from.to_owned()];
    while let Some(name) = open.pop() {
        for next in direct.get(&name).into_iter().flatten() {
            if found.insert(next.clone()) {
                open.push(next.clone());
            }
        }
    }
    found
}

/// What the crates use in truth, tests included: a dependency by path is one of ours.
pub(super) fn used(metadata: &Value) -> Arrows {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let folder = |path: &str| {
        let (parent, name) = path.rsplit_once('/')?;
        parent.ends_with("/crates").then(|| name.to_owned())
    };
    let mut used = Arrows::new();
    for package in list(&metadata["packages"]) {
        let manifest = package["manifest_path"].as_str().unwrap_or_default();
        let Some(name) = manifest.strip_suffix("/Cargo.toml").and_then(folder) else { continue };
        let ours = list(&package["dependencies"]);
        let ours = ours.iter().filter_map(|d| d["path"].as_str());
        // One of ours outside of crates/ keeps its path: no row of the table can allow it.
        used.insert(name, ours.map(|path| folder(path).unwrap_or_else(|| path.to_owned())).collect());
    }
    used
}

pub(super) fn compare(allowed: &Arrows, used: &Arrows) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, uses) in used {
        let place = format!("crates/{name}/Cargo.toml");
        let Some(may) = allowed.get(name) else {
            findings.push(Finding::new(place, "the table in ARCHITECTURE.md has no row for this crate"));
            continue;
        };
        for wrong in uses.difference(may) {
            findings.push(Finding::new(
                &place,
                format!("depends on {wrong}, against the arrows of ARCHITECTURE.md"),
            ));
        }
    }
    let gone = allowed.keys().filter(|name| !used.contains_key(*name));
    findings.extend(
        gone.map(|n| {
            Finding::new("ARCHITECTURE.md", format!("has a row for crates/{n}, which is not there"))
        }),
    );
    findings
}
