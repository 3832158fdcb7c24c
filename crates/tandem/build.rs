//! Embeds the pages of the error codes, so that `tandem explain` needs no files.

use std::{env, fmt::Write, fs, path::Path};

fn main() {
    let root = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let folder = Path::new(&root).join("../../docs/errors");
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut pages: Vec<_> = fs::read_dir(&folder)
        .expect("docs/errors holds the pages")
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| path.extension().is_some_and(|e| e == "md"))
        .collect();
    pages.sort();
    let mut code = String::from("/// The pages, by code.\nconst PAGES: &[(&str, &str)] = &[\n");
    for path in pages {
        let name = path.file_stem().expect("a page has a name").to_string_lossy().into_owned();
        let path = path.canonicalize().expect("the page exists");
        writeln!(code, "    ({name:?}, include_str!({:?})),", path.display().to_string())
            .expect("writing to a string");
    }
    code.push_str("];\n");
    let out = env::var("OUT_DIR").expect("cargo sets it");
    fs::write(Path::new(&out).join("error_pages.rs"), code).expect("the build folder can be written");
}
