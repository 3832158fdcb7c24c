//! `Procfile`, by which many hosts are told what to start: `web: gunicorn app:app`.

use super::{ConventionError, Source, exec};

/// The command of its `web`, as an instruction's arguments. A shell reads it, as everywhere.
pub(super) fn web(source: &Source<'_>) -> Result<Option<String>, ConventionError> {
    if !source.has("Procfile") {
        return Ok(None);
    }
    let text = source.read("Procfile")?;
    let command = text.lines().find_map(|line| line.trim().strip_prefix("web:"));
    let Some(command) = command.map(str::trim).filter(|command| !command.is_empty()) else { return Ok(None) };
    // One command takes the shell's place, so that it gets the signals.
    let several = command.contains([';', '&', '|', '\n', '(', '{']);
    let command = if several { command.to_owned() } else { format!("exec {command}") };
    Ok(Some(exec(&["sh", "-c", &command])))
}
