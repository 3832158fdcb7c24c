//! `tandem image`: the images that tasks run from.

mod prune;

use std::path::PathBuf;

use jiff::Timestamp;
use tandem_cloud::Pruned;
use tandem_container::Image;
use tandem_model::{Explain, age};
use tandem_server::wire::{ImageName, Prune};

use crate::{
    background,
    exit::Failure,
    place::Place,
    ui::{self, Terminal},
};

const CLIENTS: &str = "\
Stock clients push and pull the same images, by the keys that `tandem env` prints:
  eval \"$(tandem env)\"
  skopeo login --tls-verify=false -u \"$TANDEM_REGISTRY_USER\" -p \"$TANDEM_REGISTRY_PASSWORD\" \"$TANDEM_REGISTRY\"
  skopeo copy --dest-tls-verify=false docker-archive:app.tar \"docker://$TANDEM_REGISTRY/app:v1\"";

/// Imports, lists and removes images.
#[derive(Debug, clap::Args)]
#[command(after_help = CLIENTS)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Import a root file system (a tar) or an image archive (OCI or Docker), so that `FROM NAME` finds it
    Import {
        /// The name that the image gets: `docker.io/library/debian:bookworm`
        name: String,
        /// The file
        file: PathBuf,
    },
    /// List the images
    Ls,
    /// Remove the images that no stack, run, container and name needs, and steps of builds that nothing is built upon
    ///
    /// What a stack uses is never removed. The cloud does the same by itself with what nobody asked for in seven days; while
    /// the disk is nearly full, in an hour. Waits for builds under way.
    Prune {
        /// Also images that have a name, if nothing that is deployed uses them: base images are pulled or imported anew then
        #[arg(short, long)]
        all: bool,
        /// Only say what would go
        #[arg(long)]
        dry_run: bool,
    },
    /// Remove an image, by name or digest
    Rm {
        /// The name or digest
        name: String,
    },
}

#[derive(Debug, thiserror::Error)]
#[error("cannot read `{}`", file.display())]
struct FileError {
    file: PathBuf,
    source: std::io::Error,
}

impl Explain for FileError {
    fn code(&self) -> &'static str {
        "E0141"
    }
    fn help(&self) -> String {
        "see that the file exists and may be read".into()
    }
}

pub(crate) async fn run(terminal: &Terminal, place: Place, Args { command }: Args) -> Result<(), Failure> {
    match command {
        Command::Import { name, file } => {
            let open = tokio::fs::File::open(&file).await;
            let open = open.map_err(|source| FileError { file: file.clone(), source })?;
            let client = background::ensure(&place).await?;
            terminal.note(&format!("importing {} as {name}", file.display()));
            let path = format!("/v1/images?name={}", query(&name));
            let image: Image = client.send_file(&path, open).await?;
            if terminal.json() {
                return Ok(terminal.record(&image)?);
            }
            terminal.say(&format!("imported {} ({})", image.names.join(", "), image.size));
            terminal.data(&format!("{}\n", image.digest))?;
        }
        Command::Ls => {
            let images: Vec<Image> = place.client().get("/v1/images").await?;
            if terminal.json() {
                return Ok(terminal.record(&images)?);
            }
            let rows = images.iter().flat_map(rows);
            let heads = ["NAME", "DIGEST", "SIZE", "AGE"];
            terminal.data(&ui::table(heads, rows, terminal.data_width()))?;
        }
        Command::Prune { all, dry_run } => {
            let pruned: Pruned = place.client().post("/v1/images/prune", &Prune { all, dry_run }).await?;
            prune::tell(terminal, &pruned, dry_run)?;
        }
        Command::Rm { name } => {
            place.client().post::<()>("/v1/images/remove", &ImageName { name: name.clone() }).await?;
            terminal.note(&format!("removed {name}"));
        }
    }
    Ok(())
}

/// A row for each name that the image goes by.
fn rows(image: &Image) -> Vec<[String; 4]> {
    let digest: String = image.digest.chars().take("sha256:".len() + 12).collect();
    let row = |name: &str| [name.to_owned(), digest.clone(), image.size.to_string(), age(image.created)];
    if image.names.is_empty() {
        return vec![row("(none)")];
    }
    image.names.iter().map(|name| row(name)).collect()
}

/// How long ago it was made: `3 days`. An image that does not say, or says the beginning of time, has none.
fn age(created: Timestamp) -> String {
    match created.as_second() {
        ..=0 => "unknown".to_owned(),
        _ => age::told(Timestamp::now().duration_since(created).try_into().unwrap_or_default()),
    }
}

/// A text inside a query: everything but letters, digits and a few signs is escaped.
fn query(text: &str) -> String {
    text.bytes().fold(String::new(), |mut escaped, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' | b':' => {
                escaped.push(char::from(byte));
            }
            other => escaped.push_str(&format!("%{other:02X}")),
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_survives_the_query() {
        assert_eq!(query("docker.io/a/b:c"), "docker.io/a/b:c");
        assert_eq!(query("a&b=c d"), "a%26b%3Dc%20d");
    }
}
