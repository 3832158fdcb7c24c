//! Keeps data from being deleted by a plan that nobody meant so.

use serde_json::Value;
use tandem_model::{PhysicalId, Recorded, Urn, resource::Properties, value};

use crate::{
    error::ApplyError,
    port::{Contents, Target, TargetError},
};

/// Whether the inputs allow deleting what the resource holds.
pub(crate) fn forced(inputs: &Properties) -> bool {
    inputs.get("forceDestroy").is_some_and(|v| value::revealed(v) == Value::Bool(true))
}

/// An older resource that a newer one replaces: the newer inputs say whether its data may go.
pub(crate) fn replaced_by(old: &Recorded, inputs: &Properties) -> Recorded {
    let mut old = old.clone();
    match inputs.get("forceDestroy") {
        Some(force) => drop(old.inputs.insert("forceDestroy".into(), force.clone())),
        None => drop(old.inputs.remove("forceDestroy")),
    }
    old
}

/// What is lost with resources that go.
#[derive(Debug, Default)]
pub(crate) struct Loss {
    /// In those that do not say that it may.
    pub(crate) guarded: Vec<Contents>,
    /// In those that do, by `forceDestroy`.
    pub(crate) allowed: Vec<Contents>,
}

/// What would be lost with these resources. Reads from the target only if one of them can hold data.
pub(crate) async fn loss<'a>(
    target: &dyn Target,
    doomed: impl IntoIterator<Item = &'a Recorded>,
) -> Result<Loss, TargetError> {
    let holders: Vec<&Recorded> = doomed.into_iter().filter(|r| r.urn.kind.holds_data()).collect();
    if holders.is_empty() {
        return Ok(Loss::default());
    }
    let asked: Vec<(Urn, PhysicalId)> = holders.iter().map(|r| (r.urn.clone(), r.id.clone())).collect();
    let mut contents = target.contents(&asked).await?;
    contents.retain(|contents| !contents.is_empty());
    contents.sort_by(|a, b| a.urn.cmp(&b.urn));
    let allows = |c: &Contents| holders.iter().filter(|r| r.urn == c.urn).all(|r| forced(&r.inputs));
    let (allowed, guarded) = contents.into_iter().partition(allows);
    Ok(Loss { guarded, allowed })
}

/// Refuses if anything would be lost.
pub(crate) async fn guard<'a>(
    target: &dyn Target,
    doomed: impl IntoIterator<Item = &'a Recorded>,
) -> Result<(), ApplyError> {
    // What may be lost need not be counted.
    match loss(target, doomed.into_iter().filter(|r| !forced(&r.inputs))).await?.guarded {
        contents if contents.is_empty() => Ok(()),
        contents => Err(ApplyError::NotEmpty { contents }),
    }
}
