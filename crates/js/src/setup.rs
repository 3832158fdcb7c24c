//! What a program is told about where it runs.

use std::{collections::BTreeMap, time::SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tandem_model::ByteSize;

/// Which of its two lives a program leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Constructors register resources; handlers are only noted.
    Deploy,
    /// Constructors look their outputs up; a handler is called.
    Run,
}

/// The surroundings of one program.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Setup {
    pub phase: Phase,
    pub project: String,
    pub stack: String,
    /// The stack's configuration, by `<namespace>:<key>`; a key without a namespace is the project's. Values may be
    /// secrets ([`tandem_model::value`]).
    #[serde(default)]
    pub config: BTreeMap<String, Value>,
    /// Deploy phase: nothing is made, and outputs may be unknown.
    #[serde(default)]
    pub dry_run: bool,
    /// What `process.env` holds. The real environment is not visible.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Run phase: the outputs of the stack's resources, by `<kind>/<name>`. `id` among them is the physical id.
    #[serde(default)]
    pub resources: BTreeMap<String, Value>,
}

/// What a handler is told about the invocation it serves.
#[derive(Debug, Clone)]
pub struct InvokeContext {
    pub request_id: String,
    /// The function's name.
    pub function: String,
    /// When the invocation is given up from outside; a synchronous loop is interrupted then.
    pub deadline: SystemTime,
    pub memory: ByteSize,
    /// W3C trace context.
    pub traceparent: Option<String>,
}
