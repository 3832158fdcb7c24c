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

/// What would be lost with these resources. Reads from the target only if one of them can hold data.
pub(crate) async fn at_risk<'a>(
    target: &dyn Target,
    doomed: impl IntoIterator<Item = &'a Recorded>,
) -> Result<Vec<Contents>, TargetError> {
    let holders: Vec<(Urn, PhysicalId)> = doomed
        .into_iter()
        .filter(|r| r.urn.kind.holds_data() && !forced(&r.inputs))
        .map(|r| (r.urn.clone(), r.id.clone()))
        .collect();
    if holders.is_empty() {
        return Ok(Vec::new());
    }
    let mut contents = target.contents(&holders).await?;
    contents.retain(|c| c.items > 0);
    contents.sort_by(|a, b| a.urn.cmp(&b.urn));
    Ok(contents)
}

/// Refuses if anything would be lost.
pub(crate) async fn guard<'a>(
    target: &dyn Target,
    doomed: impl IntoIterator<Item = &'a Recorded>,
) -> Result<(), ApplyError> {
    match at_risk(target, doomed).await? {
        contents if contents.is_empty() => Ok(()),
        contents => Err(ApplyError::NotEmpty { contents }),
    }
}
