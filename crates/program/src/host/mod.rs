//! Runs the deploy phase of a program in a child process, and answers its calls.
//!
//! Invariants:
//! - User code runs in the child only (I9). The child is a process group of its own: a Ctrl-C reaches the parent alone,
//!   which decides; what the program started ends with it.
//! - The child lives no longer than the call: it is killed when [`DeployHost::run`] is dropped, and ends by itself when
//!   the socket closes because the parent died.
//! - Registrations are answered as they are done, in any order.
//!
//! Start at [`DeployHost::run`]; [`child`] is the other side, [`wire`] what they say.

pub mod child;
mod process;
mod wire;

use std::{collections::BTreeMap, ffi::OsString, io, path::PathBuf, process::ExitStatus};

use async_trait::async_trait;
use futures::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use serde_json::{Value, json};
use tandem_engine::{Registered, Update};
use tandem_js::{Phase, ProgramError, Setup};
use tandem_model::{Desired, Explain, Report, StackId, StackName, resource::Properties, value};

use self::{
    process::Child,
    wire::{Answer, Said, Start},
};
use crate::{deployment::Deployment, place::frame_of, project::ProjectError};

/// Who makes resources: the engine's update, or a test.
#[async_trait]
pub trait Registrar: Send + Sync {
    /// Makes the resource, or tells what it would be. Called for several at once.
    ///
    /// # Errors
    /// The report becomes the error that the program sees; the deployment fails with it.
    async fn register(&self, desired: Desired) -> Result<Registered, Report>;
}

#[async_trait]
impl Registrar for Update {
    async fn register(&self, desired: Desired) -> Result<Registered, Report> {
        Self::register(self, desired).await.map_err(|error| error.report())
    }
}

/// One run of a deploy phase.
#[derive(Debug, Clone)]
pub struct Run {
    pub stack: StackName,
    /// A preview: nothing is made, outputs may be unknown.
    pub dry_run: bool,
    /// What the program sees as `process.env`.
    pub environment: BTreeMap<String, String>,
}

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The program failed; its error names the place.
    #[error("{error}")]
    Program {
        error: ProgramError,
        /// The failed line, as the user wrote it.
        line: Option<String>,
    },
    #[error(transparent)]
    Project(#[from] ProjectError),
    #[error("the program's process cannot be started")]
    Spawn { source: io::Error },
    #[error("the program's process {}", ended(*status))]
    Ended { status: ExitStatus },
    #[error("the program's process said what it should not: {reason}")]
    Garbled { reason: String },
}

fn ended(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with status {code} before the program was done"),
        (None, Some(signal)) => format!("was ended by signal {signal} before the program was done"),
        (None, None) => "ended before the program was done".to_owned(),
    }
}

impl Explain for RunError {
    fn code(&self) -> &'static str {
        match self {
            Self::Program { error, .. } => error.code(),
            Self::Project(error) => error.code(),
            Self::Spawn { .. } | Self::Ended { .. } | Self::Garbled { .. } => "E0530",
        }
    }

    fn help(&self) -> String {
        match self {
            Self::Program { error, .. } => error.help(),
            Self::Project(error) => error.help(),
            Self::Spawn { .. } => "see whether the machine is out of processes or memory".into(),
            Self::Ended { .. } | Self::Garbled { .. } => {
                "see what the program printed, and whether it ends its own process; then run the command again".into()
            }
        }
    }

    fn report(&self) -> Report {
        match self {
            Self::Program { error, line } => {
                // The message has the lines that the causes would repeat.
                let message = told_at_length(error, line.as_deref());
                Report { message, causes: Vec::new(), ..error.report() }
            }
            Self::Project(error) => error.report(),
            error => {
                let causes = std::error::Error::source(error).map(|source| source.to_string());
                Report {
                    code: error.code().into(),
                    message: error.to_string(),
                    help: error.help(),
                    causes: causes.into_iter().collect(),
                }
            }
        }
    }
}

/// Callers of the failed line that are shown.
const CALLERS: usize = 8;

/// The error with the line of the user's code, and the lines that led there:
///
/// ```text
/// TypeError: boom (lib/a.js:2:9)
///   2 |     throw new TypeError("boom");
///     |         ^
///     at main (index.js:7:1)
/// ```
fn told_at_length(error: &ProgramError, line: Option<&str>) -> String {
    let mut text = error.to_string();
    if let (Some(at), Some(line)) = (&error.at, line) {
        text.push('\n');
        text.push_str(&frame_of(line, at.line as usize, at.column as usize));
    }
    for caller in error.stack.iter().filter(|frame| frame.is_user()).skip(1).take(CALLERS) {
        let place = match caller.function.as_str() {
            "" => format!("\n    at {caller}"),
            function => format!("\n    at {function} ({caller})"),
        };
        text.push_str(&place);
    }
    text
}

/// Starts the child processes.
#[derive(Debug, Clone)]
pub struct DeployHost {
    program: PathBuf,
    args: Vec<OsString>,
}

impl DeployHost {
    /// A host whose children are this same binary, called with [`child::SUBCOMMAND`].
    ///
    /// # Errors
    /// [`RunError::Spawn`] if the binary cannot be found.
    pub fn of_this_binary() -> Result<Self, RunError> {
        let program = std::env::current_exe().map_err(|source| RunError::Spawn { source })?;
        Ok(Self::new(program, vec![child::SUBCOMMAND.into()]))
    }

    /// A host whose children are that command, which calls [`child::child_main`].
    pub fn new(program: PathBuf, args: Vec<OsString>) -> Self {
        Self { program, args }
    }

    /// Runs the program's deploy phase, and answers the stack's outputs, with the markers of [`tandem_model::value`].
    ///
    /// `console` gets each line that the program prints, in order; all of them before this returns.
    ///
    /// # Errors
    /// [`RunError`]. Registrations that are under way then are dropped, which does not undo them.
    pub async fn run(
        &self,
        deployment: &Deployment,
        run: Run,
        registrar: &dyn Registrar,
        console: &(dyn Fn(&str) + Sync),
    ) -> Result<Properties, RunError> {
        let stack = deployment.stack(&run.stack);
        let setup = Setup {
            phase: Phase::Deploy,
            project: stack.project.to_string(),
            stack: stack.stack.to_string(),
            config: deployment.config(&run.stack)?,
            dry_run: run.dry_run,
            environment: run.environment,
            resources: BTreeMap::new(),
        };
        let start = Start { setup, archive: deployment.packed().archive.clone() };
        let mut child =
            Child::start(&self.program, &self.args).map_err(|source| RunError::Spawn { source })?;
        let ended = converse(&mut child, &start, deployment, &stack, registrar, console).await;
        let done = matches!(ended, Ok(Some(_)));
        let status = child.end(done, console).await;
        match ended {
            Ok(Some(Said::Done { done: Value::Object(exports) })) => Ok(exports),
            Ok(Some(Said::Done { .. })) => Ok(Properties::new()),
            Ok(Some(Said::Failed { failed })) => {
                let line = failed.at.as_ref().and_then(|at| deployment.packed().line(&at.file, at.line));
                Err(RunError::Program { error: failed, line: line.map(str::to_owned) })
            }
            Ok(_) => match status {
                Ok(status) => Err(RunError::Ended { status }),
                Err(source) => Err(RunError::Spawn { source }),
            },
            Err(reason) => Err(RunError::Garbled { reason }),
        }
    }
}

/// Answers calls until the child says how it ended, or closes the socket without a word.
async fn converse(
    child: &mut Child,
    start: &Start,
    deployment: &Deployment,
    stack: &StackId,
    registrar: &dyn Registrar,
    console: &(dyn Fn(&str) + Sync),
) -> Result<Option<Said>, String> {
    let mut answers = FuturesUnordered::new();
    let (lines, writer, output) = child.ends();
    // A child that is gone does not read any more, but what it said before must still be read: so sending may fail.
    let _ = writer.send(start).await;
    loop {
        tokio::select! {
            Some(answer) = answers.next() => {
                let answer: Answer = answer;
                let _ = writer.send(&answer).await;
            }
            line = lines.next() => {
                let Some(line) = line else { return Ok(None) };
                match serde_json::from_slice(&line).map_err(|error| error.to_string())? {
                    Said::Call { id, method, args } => {
                        answers.push(answer(id, method, args, deployment, stack, registrar).boxed());
                    }
                    ended => return Ok(Some(ended)),
                }
            }
            line = output.next() => {
                if let Some(line) = line {
                    console(&line);
                }
            }
        }
    }
}

async fn answer(
    id: u64,
    method: String,
    args: Value,
    deployment: &Deployment,
    stack: &StackId,
    registrar: &dyn Registrar,
) -> Answer {
    let result = match method.as_str() {
        "resource.register" => match deployment.desired(stack, args).await {
            Ok(desired) => registrar.register(desired).await,
            Err(report) => Err(report),
        },
        other => Err(Report {
            code: "E0532".to_owned(),
            message: format!("`{other}` is not there while the program is deployed"),
            help: "call it in a handler".to_owned(),
            causes: Vec::new(),
        }),
    };
    match result {
        Ok(registered) => Answer::Ok { id, ok: told(registered) },
        Err(error) => Answer::Error { id, error },
    }
}

/// What the SDK gets to know of a resource.
fn told(registered: Registered) -> Value {
    let id = registered.id.map_or_else(value::unknown, |id| id.0.into());
    json!({ "urn": registered.urn, "id": id, "outputs": registered.outputs })
}

#[cfg(test)]
mod tests;
