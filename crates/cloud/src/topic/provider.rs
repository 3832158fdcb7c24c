//! Topics as resources: what the target asks. There is nothing to make: a topic is its record.

use async_trait::async_trait;
use serde_json::json;
use tandem_model::{Explain, PhysicalId, Report, inputs, plan::Change, resource::Properties};

use super::{Topics, error::TopicError};
use crate::provider::{Lines, Provider};

#[async_trait]
impl Provider for Topics {
    async fn prepare(&self, change: &Change, id: &PhysicalId, _: &dyn Lines) -> Result<Properties, Report> {
        let (Change::Create { urn, inputs } | Change::Update { urn, new: inputs, .. }) = change else {
            return Ok(Properties::new());
        };
        inputs::read::<inputs::Topic>(urn, inputs).map_err(|error| TopicError::from(error).report())?;
        Ok(Properties::from_iter([("id".to_owned(), json!(id.0))]))
    }
}
