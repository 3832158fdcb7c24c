//! Why the engine did not do, or stopped doing, what it was asked.

use std::{io, path::PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tandem_model::{Explain, PhysicalId, Report, StackId, Urn, plan::Op};

use crate::port::{CloudId, Contents, TargetError};

/// A state that cannot be read or written. Nothing was changed in the target because of it.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("stack `{stack}` is in use by `{command}` (process {pid}), for {}", age(*since, *now))]
    Locked { stack: StackId, pid: u32, command: String, since: Timestamp, now: Timestamp },
    #[error("cannot {verb} `{}`", path.display())]
    Io { verb: &'static str, path: PathBuf, source: io::Error },
    #[error("`{}` is damaged at line {line}: {reason}", path.display())]
    Damaged { path: PathBuf, line: usize, reason: String },
    #[error("`{}` was written by a newer version of tandem (format {found}; this one reads {known})", path.display())]
    Newer { path: PathBuf, found: u64, known: u64 },
    #[error("the journal of stack `{stack}` could not be written earlier in this update")]
    Poisoned { stack: StackId },
}

impl Explain for StateError {
    fn code(&self) -> &'static str {
        match self {
            Self::Locked { .. } => "E0201",
            Self::Io { .. } | Self::Poisoned { .. } => "E0202",
            Self::Damaged { .. } => "E0203",
            Self::Newer { .. } => "E0211",
        }
    }

    fn help(&self) -> String {
        match self {
            Self::Locked { pid, .. } => {
                format!(
                    "wait for process {pid} to end, or stop it; the lock is free as soon as the process is gone"
                )
            }
            Self::Io { path, .. } => format!("check space and permissions at `{}`", path.display()),
            Self::Poisoned { .. } => "free space on the disk, then run the command again: it resumes".into(),
            Self::Damaged { path, .. } => {
                format!(
                    "mend that place of `{}`, or restore the file from a copy; without one, `tandem stack reset` and \
                     then `tandem refresh` make a new state from what is in the cloud",
                    path.display()
                )
            }
            Self::Newer { .. } => "use the newer tandem for this stack".into(),
        }
    }
}

/// Why an update stopped.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Two resources of one kind and name.
    #[error("{} is declared twice{}", urn.short(), places(first.as_deref(), second.as_deref()))]
    Twice { urn: Box<Urn>, first: Option<String>, second: Option<String> },
    #[error("{} depends on {}, which {}", urn.short(), dependency.short(), if urn == dependency { "is itself" } else { "is not declared before it" })]
    Dependency { urn: Box<Urn>, dependency: Box<Urn>, declared_at: Option<String> },
    #[error("{} belongs to stack `{}`, not to `{stack}`", urn.short(), urn.stack)]
    Foreign { urn: Box<Urn>, stack: StackId },
    /// A data resource would be deleted with what is in it.
    #[error("{}", full(contents))]
    NotEmpty { contents: Vec<Contents> },
    #[error("stack `{stack}` lives in the cloud {expected:.8}, but this is the cloud {found:.8}", expected = expected.0, found = found.0)]
    OtherCloud { stack: StackId, expected: CloudId, found: CloudId },
    /// The cloud has resources of the stack that neither the state nor its journal knows.
    #[error(
        "the cloud has resources of stack `{stack}` that its state does not know: {}",
        unknown(resources)
    )]
    Unknown { stack: StackId, resources: Vec<(Urn, PhysicalId)> },
    /// The program does, for real, what its preview did not announce.
    #[error("the preview did not foresee this: {reason}")]
    Unforeseen { urn: Box<Urn>, reason: String },
    #[error("{} was not tried, because {reason}", urn.short())]
    NotTried { urn: Box<Urn>, reason: String },
    /// A registration was refused before anything was done for it; what was done for the others is recorded.
    #[error(transparent)]
    Rejected(Report),
    /// Some steps failed; what succeeded is recorded.
    #[error("{}", failed(failures, *not_tried))]
    Failed { failures: Vec<Failure>, not_tried: usize },
    #[error("stopped before everything was done")]
    Stopped,
}

/// One step that failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    pub urn: Urn,
    pub op: Op,
    pub report: Report,
}

impl Explain for ApplyError {
    fn code(&self) -> &'static str {
        match self {
            Self::State(e) => e.code(),
            Self::Target(e) => e.code(),
            Self::Failed { .. } | Self::NotTried { .. } | Self::Rejected(_) => "E0204",
            Self::Twice { .. } => "E0205",
            Self::NotEmpty { .. } => "E0206",
            Self::OtherCloud { .. } => "E0207",
            Self::Unforeseen { .. } => "E0208",
            Self::Unknown { .. } => "E0212",
            Self::Dependency { .. } | Self::Foreign { .. } => "E0209",
            Self::Stopped => "E0210",
        }
    }

    fn help(&self) -> String {
        match self {
            Self::State(e) => e.help(),
            Self::Target(e) => e.help(),
            Self::Twice { .. } => "give one of them another name".into(),
            Self::Dependency { urn, dependency, .. } if urn == dependency => {
                "remove the dependency of the resource on itself".into()
            }
            Self::Dependency { dependency, .. } => {
                format!("declare {} first, and see that the two do not need each other", dependency.short())
            }
            Self::Foreign { .. } => "run the program as the stack that it names its resources for".into(),
            Self::NotEmpty { .. } => {
                "pass --force to delete them with what they hold, or set `forceDestroy: true` and run `tandem up` first"
                    .into()
            }
            Self::OtherCloud { .. } => {
                "set TANDEM_HOME to the folder it was deployed with; if that cloud or its data is gone for good, \
                 `tandem refresh` brings the state in line with this one, and `tandem up` then makes anew what is gone"
                    .into()
            }
            Self::Unknown { .. } => {
                "run `tandem refresh`: it takes them into the state, and changes nothing in the cloud".into()
            }
            Self::Unforeseen { .. } => {
                "run `tandem preview` to see the new plan; a program should declare the same resources each time".into()
            }
            Self::NotTried { .. } => "mend what failed and run `tandem up` again".into(),
            Self::Failed { failures, .. } => match common_help(failures) {
                Some(help) => format!("{help}; then run the command again: it goes on where this one stopped"),
                None => "mend what failed and run the command again: it goes on where this one stopped".into(),
            },
            Self::Rejected(report) => report.help.clone(),
            Self::Stopped => "run the command again: it goes on where this one stopped".into(),
        }
    }

    fn report(&self) -> Report {
        let causes = match self {
            Self::State(e) => return e.report(),
            Self::Target(e) => return e.report(),
            Self::Rejected(report) => return report.clone(),
            // One failure speaks for itself.
            Self::Failed { failures, .. } if failures.len() == 1 => {
                let Failure { urn, op, report } = &failures[0];
                let message = format!("cannot {op} {}: {}", urn.short(), report.message);
                return Report { message, ..report.clone() };
            }
            Self::Failed { failures, .. } => failures
                .iter()
                .map(|Failure { op, urn, report }| {
                    let because = report.causes.first().map(|cause| format!(": {cause}")).unwrap_or_default();
                    format!("{op} {}: {}{because} [{}]", urn.short(), report.message, report.code)
                })
                .collect(),
            Self::Dependency { declared_at: Some(at), .. } => vec![format!("declared at {at}")],
            _ => Vec::new(),
        };
        Report { code: self.code().into(), message: self.to_string(), help: self.help(), causes }
    }
}

/// How long ago, in the largest unit that fits: `3 minutes`.
fn age(since: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(since).as_secs().max(0);
    let (n, unit) = match seconds {
        s if s >= 86_400 => (s / 86_400, "day"),
        s if s >= 3_600 => (s / 3_600, "hour"),
        s if s >= 60 => (s / 60, "minute"),
        s => (s, "second"),
    };
    format!("{n} {unit}{}", if n == 1 { "" } else { "s" })
}

fn places(first: Option<&str>, second: Option<&str>) -> String {
    match (first, second) {
        (Some(first), Some(second)) => format!(": at {first} and at {second}"),
        (Some(one), None) | (None, Some(one)) => format!(": at {one}"),
        (None, None) => String::new(),
    }
}

fn full(contents: &[Contents]) -> String {
    let each: Vec<String> = contents.iter().map(Contents::to_string).collect();
    format!("would delete data: {}", each.join(", "))
}

/// What to do, if it is the same for all: one full disk fails many steps.
fn common_help(failures: &[Failure]) -> Option<&str> {
    let (first, rest) = failures.split_first()?;
    rest.iter().all(|f| f.report.help == first.report.help).then_some(&first.report.help)
}

fn unknown(resources: &[(Urn, PhysicalId)]) -> String {
    const SHOWN: usize = 5;
    let mut each: Vec<String> =
        resources.iter().take(SHOWN).map(|(urn, id)| format!("{} (`{id}`)", urn.short())).collect();
    if resources.len() > SHOWN {
        each.push(format!("and {} more", resources.len() - SHOWN));
    }
    each.join(", ")
}

fn failed(failures: &[Failure], not_tried: usize) -> String {
    let each: Vec<String> = failures.iter().map(|f| format!("{} {}", f.op, f.urn.short())).collect();
    let rest = match not_tried {
        0 => String::new(),
        1 => "; 1 step was not tried".into(),
        n => format!("; {n} steps were not tried"),
    };
    format!("failed to {}{rest}", each.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locked_stack_says_by_whom_and_how_long() {
        let error = StateError::Locked {
            stack: "shop/dev".parse().unwrap(),
            pid: 41,
            command: "tandem up".into(),
            since: "2024-05-01T10:00:00Z".parse().unwrap(),
            now: "2024-05-01T10:03:10Z".parse().unwrap(),
        };
        assert_eq!(
            error.to_string(),
            "stack `shop/dev` is in use by `tandem up` (process 41), for 3 minutes"
        );
        assert_eq!(error.code(), "E0201");
    }

    #[test]
    fn what_would_be_lost_is_counted() {
        let contents = vec![Contents {
            urn: "urn:tandem:shop:dev:bucket:photos".parse().unwrap(),
            items: 1,
            bytes: 3 << 20,
            unit: "object".into(),
            unfinished: 0,
        }];
        let error = ApplyError::NotEmpty { contents };
        assert_eq!(error.to_string(), "would delete data: bucket/photos holds 1 object (3 MiB)");
        let holding = |items, unfinished| {
            let urn = "urn:tandem:shop:dev:bucket:photos".parse().unwrap();
            Contents { urn, items, bytes: 1024, unit: "object".into(), unfinished }.to_string()
        };
        assert_eq!(holding(2, 1), "bucket/photos holds 2 objects and 1 unfinished upload (1 KiB)");
        assert_eq!(holding(0, 2), "bucket/photos holds 2 unfinished uploads (1 KiB)");
    }
}
