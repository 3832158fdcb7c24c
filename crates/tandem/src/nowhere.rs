//! A target in which nothing is and nothing can be: what a preview plans against while there is no cloud.

use async_trait::async_trait;
use jiff::Timestamp;
use tandem_engine::{ArchiveReader, CloudId, Contents, Progress, Target, TargetError};
use tandem_model::{
    OpId, PhysicalId, Recorded, Report, StackId, Urn,
    plan::{Applied, Change, PropertyChange},
    resource::Properties,
};

#[derive(Debug)]
pub(crate) struct Nowhere;

fn unreachable() -> TargetError {
    TargetError::Unreachable { reason: "no cloud is running".into() }
}

#[async_trait]
impl Target for Nowhere {
    async fn identity(&self) -> Result<CloudId, TargetError> {
        Ok(CloudId("nowhere".into()))
    }

    fn diff(&self, urn: &Urn, old: &Properties, new: &Properties) -> Vec<PropertyChange> {
        tandem_cloud::target::diff(urn, old, new)
    }

    fn refusal(&self, urn: &Urn, old: Option<&Properties>, new: &Properties) -> Option<Report> {
        tandem_cloud::refusal(urn, old, new, Timestamp::now())
    }

    async fn list(&self, _: &StackId) -> Result<Vec<Recorded>, TargetError> {
        Ok(Vec::new())
    }

    async fn contents(&self, _: &[(Urn, PhysicalId)]) -> Result<Vec<Contents>, TargetError> {
        Ok(Vec::new())
    }

    async fn apply(&self, _: &OpId, _: &Change, _: &dyn Progress) -> Result<Option<Applied>, TargetError> {
        Err(unreachable())
    }

    async fn acknowledge(&self, _: &[OpId]) -> Result<(), TargetError> {
        Err(unreachable())
    }

    async fn upload(&self, _: &str, _: ArchiveReader) -> Result<(), TargetError> {
        Err(unreachable())
    }
}
