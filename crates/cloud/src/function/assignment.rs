//! What a worker is told to be: the first frame that it reads. The program's archive is the second one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tandem_model::{StackId, resource::Properties};

use super::sandbox::Allowance;

/// What a worker becomes. It stays that for its whole life.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Assignment {
    pub(super) stack: StackId,
    pub(super) handler: String,
    /// The stack's configuration, by `<namespace>:<key>`.
    pub(super) config: BTreeMap<String, Value>,
    /// The environment of the program, complete.
    pub(super) environment: BTreeMap<String, String>,
    /// `<kind>/<name>` → outputs, of every resource of the stack.
    pub(super) resources: BTreeMap<String, Properties>,
    pub(super) allowance: Allowance,
}
