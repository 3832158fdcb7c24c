//! An image with nginx and redis as Debian ships them, for tests with servers that everybody runs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use super::{RELEASE, folder, host_sources};
use crate::{process, tree};

const INCLUDE: &str = "busybox-static,nginx-light,redis-server";
/// Packages are unpacked and not set up: nothing of theirs runs, which takes half the time. What their set-up would have
/// done and a server needs is done here.
const SET_UP: [&str; 3] = [
    "mkdir -p \"$1/run\" \"$1/tmp\" \"$1/var/lib/nginx\" \"$1/var/log/nginx\"",
    "for name in $(\"$1/bin/busybox\" --list); do [ -e \"$1/bin/$name\" ] || ln -s busybox \"$1/bin/$name\"; done",
    "printf 'root:x:0:0:root:/:/bin/sh\\nwww-data:x:33:33::/var/www:/bin/false\\nredis:x:101:101::/:/bin/false\\n' > \
     \"$1/etc/passwd\"; printf 'root:x:0:\\nwww-data:x:33:\\nredis:x:101:\\n' > \"$1/etc/group\"",
];

/// The tar of the image, made unless it is there.
pub(crate) fn make() -> Result<PathBuf> {
    let folder = folder()?;
    let file = folder.join("servers.tar");
    let recipe = format!("2 {RELEASE} {INCLUDE}\n{}", SET_UP.join("\n"));
    let marker = folder.join("servers.recipe");
    if file.is_file() && tree::marker(&marker) == recipe {
        return Ok(file);
    }
    let unfinished = folder.join("servers.part.tar");
    let mut make = Command::new("mmdebstrap");
    make.args(["--quiet", "--variant=extract", &format!("--include={INCLUDE}")]);
    for step in SET_UP {
        make.arg(format!("--extract-hook={step}"));
    }
    make.arg(RELEASE).arg(&unfinished).args(host_sources(Path::new("/"))?);
    process::timed("making an image with nginx and redis from Debian packages", || {
        process::output(&mut make)
    })?;
    fs::rename(&unfinished, &file)?;
    tree::write(&marker, &recipe)?;
    Ok(file)
}
