//! What a container is given as its input or as an event, and what it leaves as its result.
//!
//! They are files, whose paths it finds in two variables: any program in any language can read and write them, and they
//! are not bounded as environment variables and log lines are.

use serde::{Deserialize, Serialize};
use tandem_model::ByteSize;

/// The variable that names the file with the input; not set without an input.
pub const INPUT: &str = "TANDEM_INPUT";
/// The variable that names the file for the result. The file does not exist before the container writes it.
pub const RESULT: &str = "TANDEM_RESULT";

/// The variable that names the file with the event; not set without an event. Its standard input is the same.
pub const EVENT_FILE: &str = "TANDEM_EVENT_FILE";

/// Asks for the variables.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// A line of JSON, which it gets on its standard input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
}

/// What an ended container left in place of its result. Nothing about it is to be trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    Nothing,
    Bytes(Vec<u8>),
    TooLarge {
        size: ByteSize,
    },
    /// A link, a folder, a pipe.
    NoFile,
}
