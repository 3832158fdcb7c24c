//! Names that a shell may complete: stacks, and what the stack of this folder has.
//!
//! Asked at every press of the tab key, so only files are read: no cloud is asked, and what cannot be read has no names.

use clap_complete::engine::CompletionCandidate;
use tandem_engine::Stacks;
use tandem_model::{Kind, StackName, Urn};
use tandem_program::Project;

use crate::{args::Global, place::Place, ui::Color};

/// The shell asks about a command line that is not finished, so the stack is the one of the environment.
fn place() -> Option<Place> {
    let stack = std::env::var("TANDEM_STACK").unwrap_or_else(|_| "dev".into()).parse::<StackName>().ok()?;
    Place::find(&Global { stack, cwd: None, json: false, color: Color::Never }).ok()
}

fn resources(wanted: impl Fn(Kind) -> bool) -> Vec<CompletionCandidate> {
    let names = || -> Option<Vec<Urn>> {
        let place = place()?;
        let stack = place.stack_of(&Project::find(&place.folder).ok()?);
        let folded = Stacks::new(place.home.stacks()).read(&stack).ok()?;
        Some(folded.state.resources.into_keys().filter(|urn| wanted(urn.kind)).collect())
    };
    let candidate =
        |urn: Urn| CompletionCandidate::new(urn.name.as_str()).help(Some(urn.kind.as_str().into()));
    names().unwrap_or_default().into_iter().map(candidate).collect()
}

/// What prints: functions and tasks.
pub(crate) fn sources() -> Vec<CompletionCandidate> {
    resources(|kind| {
        matches!(kind, Kind::Function | Kind::Workflow | Kind::Entity | Kind::Task | Kind::Service)
    })
}

pub(crate) fn functions() -> Vec<CompletionCandidate> {
    resources(|kind| kind == Kind::Function)
}

pub(crate) fn tasks() -> Vec<CompletionCandidate> {
    resources(|kind| kind == Kind::Task)
}

pub(crate) fn workflows() -> Vec<CompletionCandidate> {
    resources(|kind| kind == Kind::Workflow)
}

/// Whose events may be given up: subscriptions, and functions that are called directly.
pub(crate) fn subscriptions() -> Vec<CompletionCandidate> {
    resources(|kind| matches!(kind, Kind::Subscription | Kind::Function))
}

/// The stacks of this folder's project.
pub(crate) fn stacks() -> Vec<CompletionCandidate> {
    let names = || -> Option<Vec<String>> {
        let place = place()?;
        let project = Project::find(&place.folder).ok()?.name;
        let all = Stacks::new(place.home.stacks()).list().ok()?;
        let ours = all.into_iter().filter(|stack| stack.project == project);
        Some(ours.map(|stack| stack.stack.to_string()).collect())
    };
    names().unwrap_or_default().into_iter().map(CompletionCandidate::new).collect()
}

/// What the stack exports.
pub(crate) fn outputs() -> Vec<CompletionCandidate> {
    let names = || -> Option<Vec<String>> {
        let place = place()?;
        let stack = place.stack_of(&Project::find(&place.folder).ok()?);
        let folded = Stacks::new(place.home.stacks()).read(&stack).ok()?;
        Some(folded.state.exports.keys().cloned().collect())
    };
    names().unwrap_or_default().into_iter().map(CompletionCandidate::new).collect()
}
