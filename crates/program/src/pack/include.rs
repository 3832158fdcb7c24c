//! The files that `include` in the project file names.

use std::{fs, io, path::Path};

use globset::GlobBuilder;

use super::PackError;

/// Folders that a pattern enters only if it names them.
const SKIPPED: [&str; 2] = ["node_modules", ".git"];

/// The paths of all files that match, sorted, relative to the root with `/`. Each pattern must match something.
pub(super) fn files(root: &Path, patterns: &[String]) -> Result<Vec<String>, PackError> {
    let mut found = Vec::new();
    for pattern in patterns {
        let trimmed = pattern.strip_prefix("./").unwrap_or(pattern);
        let bad = |reason: String| PackError::Pattern { pattern: pattern.clone(), reason };
        if trimmed.starts_with('/') || trimmed.split('/').any(|part| part == "..") {
            return Err(bad("it leaves the project's folder".to_owned()));
        }
        let glob = GlobBuilder::new(trimmed)
            .literal_separator(true)
            .build()
            .map_err(|error| bad(error.kind().to_string()))?
            .compile_matcher();
        let before = found.len();
        let enters = |name: &str| !SKIPPED.contains(&name) || trimmed.split('/').any(|part| part == name);
        walk(root, "", &enters, &mut |path| {
            if glob.is_match(path) {
                found.push(path.to_owned());
            }
        })
        .map_err(|(path, source)| PackError::Unreadable { path, source })?;
        if found.len() == before {
            return Err(PackError::NothingIncluded { pattern: pattern.clone() });
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

fn walk(
    root: &Path,
    folder: &str,
    enters: &dyn Fn(&str) -> bool,
    found: &mut dyn FnMut(&str),
) -> Result<(), (String, io::Error)> {
    let at = |source| (folder.to_owned(), source);
    for entry in fs::read_dir(root.join(folder)).map_err(at)? {
        let entry = entry.map_err(at)?;
        let name = entry.file_name();
        // A name that is not UTF-8 cannot be written in a program either.
        let Some(name) = name.to_str() else { continue };
        let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
        let kind = entry.file_type().map_err(at)?;
        if kind.is_dir() {
            if enters(name) {
                walk(root, &path, enters, found)?;
            }
        } else if kind.is_file() || entry.path().is_file() {
            found(&path);
        }
    }
    Ok(())
}
