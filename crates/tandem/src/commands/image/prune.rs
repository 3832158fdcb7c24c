//! What `tandem image prune` tells.

use tandem_cloud::Pruned;

use crate::ui::{self, OutputError, Terminal};

pub(super) fn tell(terminal: &Terminal, pruned: &Pruned, dry_run: bool) -> Result<(), OutputError> {
    if terminal.json() {
        return terminal.record(pruned);
    }
    let (steps, images): (Vec<_>, Vec<_>) = pruned.images.iter().partition(|one| one.step);
    let short = |digest: &str| digest.chars().take("sha256:".len() + 12).collect::<String>();
    let rows = images.iter().map(|one| {
        let name = if one.names.is_empty() { "(none)".to_owned() } else { one.names.join(", ") };
        [name, short(&one.digest), one.size.to_string()]
    });
    if !images.is_empty() {
        terminal.data(&ui::table(["NAME", "DIGEST", "FREES"], rows, terminal.data_width()))?;
    }
    let would = if dry_run { "would remove" } else { "removed" };
    let steps = ui::count(steps.len(), "build step");
    let images = ui::count(images.len(), "image");
    terminal.note(&format!("{would} {images} and {steps}: {}", pruned.freed));
    Ok(())
}
