//! `tandem build`: one folder, by hand.

use std::path::PathBuf;

use futures::StreamExt;
use tandem_container::Image;
use tandem_engine::Target;
use tandem_model::{Report, inputs};
use tandem_program::{
    context::{self, ContextError},
    convention,
};
use tandem_server::wire::{BuildFolder, Building};
use tokio::task::spawn_blocking;

use crate::{
    background,
    exit::Failure,
    place::Place,
    ui::{self, Terminal},
};

const CONVENTIONS: &str = "\
Without a Dockerfile the folder is built by convention, by the first of these files that is there:
  Cargo.toml                          a Rust project
  go.mod                              a Go project
  requirements.txt, pyproject.toml    a Python project
  package.json                        a Node project
  index.html                          a static site

A task or service with `build: \"./folder\"` is built in the same way. The image has PORT=8080, and runs as nobody.

Examples:
  tandem build ./site -t site              # then `image: \"site\"` in a program, or `FROM site` in a Dockerfile
  tandem build --print-dockerfile > Dockerfile";

/// Builds a folder into an image, and prints the image's digest.
///
/// What the build prints goes to standard error. With --json, an object: the image's digest, names, size and what it runs.
#[derive(Debug, clap::Args)]
#[command(after_help = CONVENTIONS)]
pub(crate) struct Args {
    /// The folder
    #[arg(default_value = ".", value_name = "DIR")]
    folder: PathBuf,
    /// The name that the image gets; else it is called after its folder and content
    #[arg(short, long, value_name = "NAME", conflicts_with = "print_dockerfile")]
    tag: Option<String>,
    /// The Dockerfile's path inside the folder
    #[arg(short, long, value_name = "FILE", default_value = "Dockerfile")]
    file: String,
    /// Print the Dockerfile that the folder is built by, and build nothing
    #[arg(long)]
    print_dockerfile: bool,
}

pub(crate) async fn run(terminal: &Terminal, place: Place, args: Args) -> Result<(), Failure> {
    let Args { folder, tag, file, print_dockerfile } = args;
    // Without the dots, which would be its last name.
    let folder: PathBuf = place.folder.join(folder).components().collect();
    let folder = folder.canonicalize().unwrap_or(folder);
    if print_dockerfile {
        return print(terminal, folder, file);
    }
    let packing = (folder.clone(), file.clone());
    let packed = spawn_blocking(move || context::pack(&packing.0, &packing.1, context::LIMIT)).await;
    let mut packed = packed.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
    let client = background::ensure(&place).await?;
    let unreadable = |source| ContextError::Unreadable { path: folder.clone(), source };
    let archive = packed.read().and_then(|file| file.try_clone()).map_err(unreadable)?;
    let context = packed.hash.clone();
    client.upload(&context, Box::new(tokio::fs::File::from_std(archive))).await?;
    let build: inputs::Build = serde_json::from_value(serde_json::json!({
        "folder": folder.display().to_string(),
        "context": context,
        "dockerfile": file,
    }))
    .expect("a build with these three is one");
    let mut records =
        client.stream::<Building>("/v1/images/build", &BuildFolder { build, name: tag }).await?;
    while let Some(record) = records.next().await {
        match record? {
            Building::Line(line) => terminal.note(&ui::harmless(&line)),
            Building::Done(image) => return done(terminal, &image),
            Building::Failed(report) => return Err(Failure::Reported(Box::new(report))),
        }
    }
    Err(Failure::Reported(Box::new(Report {
        code: "E0402".into(),
        message: "the cloud ended while it built".into(),
        help: "run it again; what was built is kept".into(),
        causes: Vec::new(),
    })))
}

fn done(terminal: &Terminal, image: &Image) -> Result<(), Failure> {
    if terminal.json() {
        return Ok(terminal.record(image)?);
    }
    terminal.note(&format!("built {} ({})", image.names.join(", "), image.size));
    Ok(terminal.data(&format!("{}\n", image.digest))?)
}

/// The Dockerfile that is there, or the one by convention.
fn print(terminal: &Terminal, folder: PathBuf, file: String) -> Result<(), Failure> {
    let own = folder.join(&file);
    let dockerfile = match std::fs::read_to_string(&own) {
        Ok(text) => text,
        Err(_) if !folder.is_dir() => return Err(ContextError::NoFolder { folder }.into()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && file == "Dockerfile" => {
            convention::of(&folder).map_err(ContextError::from)?.dockerfile
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(ContextError::NoDockerfile { folder, dockerfile: file }.into());
        }
        Err(source) => return Err(ContextError::Unreadable { path: own, source }.into()),
    };
    Ok(terminal.data(&dockerfile)?)
}
