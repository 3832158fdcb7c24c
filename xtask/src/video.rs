//! `video`: the example's video, two seconds of which every frame differs from every other.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use crate::{process, tree};

pub(crate) const HELP: &str = "\
usage: cargo xtask video [FILE]

Makes the example's video with ffmpeg: three seconds, 640 x 360, a counter of seconds on a pattern whose colours
turn, so that every frame differs. Without FILE: examples/video-thumbnailer/cat_00-01.mp4. Prints the path.
";

pub(crate) fn main(arguments: &[String]) -> Result<()> {
    let file = match arguments.first() {
        Some(file) => PathBuf::from(file),
        None => example()?,
    };
    ensure(&file)?;
    println!("{}", file.display());
    Ok(())
}

pub(crate) fn example() -> Result<PathBuf> {
    Ok(tree::root()?.join("examples/video-thumbnailer/cat_00-01.mp4"))
}

/// Makes the video unless it is there.
pub(crate) fn ensure(file: &Path) -> Result<()> {
    if file.is_file() {
        return Ok(());
    }
    let unfinished = file.with_extension("part.mp4");
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-nostdin", "-loglevel", "error", "-y", "-f", "lavfi", "-i"]);
    // The hue turns by 100 degrees a second: frames one second apart cannot be mistaken for each other.
    ffmpeg.arg("testsrc=duration=3:size=640x360:rate=25:decimals=2,hue=h=100*t");
    ffmpeg.args(["-pix_fmt", "yuv420p", "-c:v", "libx264", "-preset", "veryfast", "-movflags", "+faststart"]);
    process::output(ffmpeg.arg(&unfinished))?;
    std::fs::rename(&unfinished, file)?;
    Ok(())
}
