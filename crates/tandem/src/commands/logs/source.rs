//! Whose lines are asked for: a name of the stack, or an error that names near ones.

use tandem_model::{Explain, Kind, ResourceName, StackId, Urn};

/// A function or task, as it is written on the command line: `resize`, or `function/resize`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) kind: Option<Kind>,
    pub(super) name: String,
}

impl From<&str> for Source {
    fn from(text: &str) -> Self {
        match text.split_once('/') {
            Some((kind, name)) if let Ok(kind) = kind.parse() => {
                Self { kind: Some(kind), name: name.to_owned() }
            }
            _ => Self { kind: None, name: text.to_owned() },
        }
    }
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SourceError {
    #[error("stack `{stack}` has no function or task `{name}`")]
    Unknown { stack: StackId, name: String, near: Vec<String>, known: Vec<String> },
    #[error("{} prints nothing: only functions and tasks do", urn.short())]
    Silent { urn: Box<Urn>, known: Vec<String> },
}

impl Explain for SourceError {
    fn code(&self) -> &'static str {
        "E0144"
    }
    fn help(&self) -> String {
        match self {
            Self::Unknown { near, .. } if !near.is_empty() => format!("did you mean {}?", near.join(" or ")),
            Self::Unknown { known, .. } | Self::Silent { known, .. } if known.is_empty() => {
                "declare a function or a task, and run `tandem up`".into()
            }
            Self::Unknown { known, .. } | Self::Silent { known, .. } => {
                format!("it has {}", known.join(", "))
            }
        }
    }
}

fn prints(kind: Kind) -> bool {
    matches!(kind, Kind::Function | Kind::Workflow | Kind::Entity | Kind::Task | Kind::Service)
}

impl Source {
    /// Sees that the stack has it.
    pub(super) fn check<'a>(
        &self,
        stack: &StackId,
        resources: impl Iterator<Item = &'a Urn> + Clone,
    ) -> Result<(), SourceError> {
        let is_it =
            |urn: &&Urn| urn.name.as_str() == self.name && self.kind.is_none_or(|kind| kind == urn.kind);
        if resources.clone().filter(is_it).any(|urn| prints(urn.kind)) {
            return Ok(());
        }
        let printing = resources.clone().filter(|urn| prints(urn.kind));
        let known: Vec<String> = printing.clone().map(|urn| urn.name.to_string()).collect();
        if let Some(urn) = resources.clone().find(is_it) {
            return Err(SourceError::Silent { urn: urn.clone().into(), known });
        }
        let near = near(&self.name, printing.map(|urn| &urn.name));
        Err(SourceError::Unknown { stack: stack.clone(), name: self.name.clone(), near, known })
    }
}

/// The names that may have been meant, the nearest first.
fn near<'a>(wanted: &str, names: impl Iterator<Item = &'a ResourceName>) -> Vec<String> {
    let wanted = wanted.to_lowercase();
    let likeness = |name: &ResourceName| strsim::jaro_winkler(&wanted, &name.as_str().to_lowercase());
    let mut near: Vec<(f64, String)> = names
        .map(|name| (likeness(name), format!("`{name}`")))
        .filter(|(likeness, _)| *likeness > 0.8)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    near.into_iter().map(|(_, name)| name).take(3).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<(), SourceError> {
        let all = ["bucket:photos", "function:onNewVideo", "function:onNewThumbnail", "task:ffmpegTask"];
        let all: Vec<Urn> =
            all.iter().map(|name| format!("urn:tandem:shop:dev:{name}").parse().unwrap()).collect();
        Source::from(text).check(&"shop/dev".parse().unwrap(), all.iter())
    }

    #[test]
    fn a_name_may_say_its_kind() {
        assert_eq!(check("ffmpegTask"), Ok(()));
        assert_eq!(check("task/ffmpegTask"), Ok(()));
        assert!(matches!(check("function/ffmpegTask"), Err(SourceError::Unknown { .. })));
    }

    #[test]
    fn a_misspelt_name_is_answered_with_the_nearest() {
        let error = check("ffmpegtaks").unwrap_err();
        assert_eq!(error.to_string(), "stack `shop/dev` has no function or task `ffmpegtaks`");
        assert_eq!(error.help(), "did you mean `ffmpegTask`?");
        assert_eq!(check("onNewVidoe").unwrap_err().help(), "did you mean `onNewVideo`?");
    }

    #[test]
    fn a_name_like_no_other_is_answered_with_all() {
        assert_eq!(check("x").unwrap_err().help(), "it has onNewVideo, onNewThumbnail, ffmpegTask");
    }

    #[test]
    fn a_bucket_prints_nothing() {
        assert_eq!(
            check("photos").unwrap_err().to_string(),
            "bucket/photos prints nothing: only functions and tasks do"
        );
    }
}
