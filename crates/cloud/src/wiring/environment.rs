//! The variables by which stock clients inside workers and containers find the cloud.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use tandem_model::{StackId, Urn};

use crate::{
    credential::{Credentials, Principal},
    endpoint::{Endpoint, REGION},
};

/// Makes environments, each with credentials of its own (I8).
#[derive(Debug, Clone)]
pub(crate) struct Environments {
    credentials: Arc<Credentials>,
    endpoint: Endpoint,
}

impl Environments {
    pub(crate) fn new(credentials: Arc<Credentials>, endpoint: Endpoint) -> Self {
        Self { credentials, endpoint }
    }

    /// For a function or a task.
    pub(crate) fn of_resource(&self, urn: &Urn) -> BTreeMap<String, String> {
        self.of(&Principal::Resource { urn: urn.clone() })
    }

    /// For the person who works with a stack, and with the images of the cloud.
    pub(crate) fn of_operator(&self, stack: &StackId) -> BTreeMap<String, String> {
        let mut variables = self.of(&Principal::Operator { stack: stack.clone() });
        let images = self.credentials.for_images();
        let registry = [
            ("TANDEM_REGISTRY", self.endpoint.address().to_string()),
            ("TANDEM_REGISTRY_USER", images.access_key_id),
            ("TANDEM_REGISTRY_PASSWORD", images.secret_access_key),
        ];
        variables.extend(registry.map(|(name, value)| (name.to_owned(), value)));
        variables
    }

    fn of(&self, principal: &Principal) -> BTreeMap<String, String> {
        let key = self.credentials.for_principal(principal);
        [
            ("AWS_ENDPOINT_URL", self.endpoint.url()),
            ("AWS_ACCESS_KEY_ID", key.access_key_id),
            ("AWS_SECRET_ACCESS_KEY", key.secret_access_key),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_DEFAULT_REGION", REGION.to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }
}

impl crate::service::Environment for Environments {
    fn for_service(&self, service: &Urn, gateway: Ipv4Addr) -> BTreeMap<String, String> {
        let mut all = self.of_resource(service);
        all.insert("AWS_ENDPOINT_URL".to_owned(), self.endpoint.url_at(gateway));
        all
    }
}

impl crate::task::Environment for Environments {
    fn for_task(&self, task: &Urn) -> BTreeMap<String, String> {
        self.of_resource(task)
    }
}
