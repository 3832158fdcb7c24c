//! A function as it was deployed: what exactly runs.

use std::{sync::Arc, time::Duration};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use tandem_model::{
    PhysicalId, Report, Urn,
    inputs::{self, InputsError},
    resource::Properties,
};

use super::{
    pool::core::{Definition, FunctionId},
    sandbox::{Allowance, LEAST_MEMORY},
};

/// The longest that one invocation may take, as on Lambda.
const LONGEST: f64 = 900.0;

/// One version of one function: archive, handler, environment and limits.
#[derive(Debug)]
pub(super) struct Version {
    pub(super) function: FunctionId,
    pub(super) generation: u64,
    pub(super) urn: Urn,
    pub(super) id: PhysicalId,
    pub(super) inputs: inputs::Function,
    /// Names it: the hash of its inputs, shortened.
    pub(super) hash: String,
}

/// Inputs with which no function can run.
#[derive(Debug, thiserror::Error)]
pub(super) enum InvalidFunction {
    #[error(transparent)]
    Inputs(#[from] InputsError),
    #[error("{function} asks for {property} {asked}, which must be {bounds}")]
    OutOfBounds { function: String, property: &'static str, asked: String, bounds: &'static str },
    #[error("the code of {function}, {code}, is not in the cloud")]
    NoCode { function: String, code: String },
}

impl tandem_model::Explain for InvalidFunction {
    fn code(&self) -> &'static str {
        "E0611"
    }
    fn help(&self) -> String {
        match self {
            Self::Inputs(_) | Self::OutOfBounds { .. } => {
                "mend the function's arguments in the program".to_owned()
            }
            Self::NoCode { .. } => "run `tandem up` again, which uploads it".to_owned(),
        }
    }
}

impl Version {
    /// # Errors
    /// [`InvalidFunction`] as a report, for inputs with which no function can run.
    pub(super) fn read(urn: &Urn, properties: &Properties) -> Result<inputs::Function, Report> {
        use tandem_model::Explain;
        read(urn, properties).map_err(|error| error.report())
    }

    pub(super) fn new(
        function: FunctionId,
        generation: u64,
        urn: Urn,
        id: PhysicalId,
        inputs: inputs::Function,
        properties: &Properties,
    ) -> Arc<Self> {
        Arc::new(Self { function, generation, urn, id, inputs, hash: hash(properties) })
    }

    pub(super) fn timeout(&self) -> Duration {
        Duration::from_secs_f64(self.inputs.timeout)
    }

    /// One user per function, for as long as this cloud runs: no number is used for two.
    pub(super) fn allowance(&self) -> Allowance {
        const FIRST_USER: u32 = 700_000;
        Allowance { user: FIRST_USER + self.function.0, memory: self.inputs.memory.bytes() }
    }

    pub(super) fn definition(&self) -> Definition {
        Definition {
            generation: self.generation,
            concurrency: self.inputs.concurrency as usize,
            // A machine of the `js` host runs one handler at a time.
            per_worker: 1,
            timeout: self.timeout(),
        }
    }

    pub(super) fn arn(&self) -> String {
        arn(&self.id)
    }
}

/// The hash of inputs, as a version's name.
pub(super) fn hash(properties: &Properties) -> String {
    let encoded = serde_json::to_vec(properties).unwrap_or_default();
    HEXLOWER.encode(&Sha256::digest(&encoded)[..6])
}

pub(super) fn arn(id: &PhysicalId) -> String {
    format!("arn:aws:lambda:local:000000000000:function:{id}")
}

fn read(urn: &Urn, properties: &Properties) -> Result<inputs::Function, InvalidFunction> {
    let read: inputs::Function = inputs::read(urn, properties)?;
    let out = |property, asked: String, bounds| {
        Err(InvalidFunction::OutOfBounds { function: urn.short(), property, asked, bounds })
    };
    if read.memory.bytes() < LEAST_MEMORY {
        return out("memory", read.memory.to_string(), "16 MiB or more");
    }
    if !(read.timeout > 0.0 && read.timeout <= LONGEST) {
        return out("timeout", format!("{} s", read.timeout), "more than 0 and at most 900 seconds");
    }
    if read.concurrency == 0 {
        return out("concurrency", "0".to_owned(), "1 or more");
    }
    let digest = read.code.strip_prefix("sha256:").unwrap_or_default();
    if digest.len() != 64 || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(InvalidFunction::NoCode { function: urn.short(), code: read.code });
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn properties(change: &Value) -> Properties {
        let mut all = json!({ "code": format!("sha256:{}", "a".repeat(64)), "handler": "h" });
        if let (Value::Object(all), Value::Object(change)) = (&mut all, change) {
            all.extend(change.clone());
        }
        serde_json::from_value(all).unwrap()
    }

    #[test]
    fn inputs_that_no_worker_can_meet_are_refused_by_name() {
        let urn: Urn = "urn:tandem:shop:dev:function:resize".parse().unwrap();
        let refusal = |change| Version::read(&urn, &properties(&change)).unwrap_err().message;
        assert_eq!(
            refusal(json!({ "memory": 1 })),
            "function/resize asks for memory 1 MiB, which must be 16 MiB or more"
        );
        assert!(refusal(json!({ "timeout": 0 })).contains("timeout 0 s"));
        assert!(refusal(json!({ "concurrency": 0 })).contains("concurrency"));
        assert!(refusal(json!({ "code": "sha256:../../etc/passwd" })).contains("not in the cloud"));
        assert!(Version::read(&urn, &properties(&json!({}))).is_ok());
    }

    #[test]
    fn a_version_changes_with_any_input() {
        let one = hash(&properties(&json!({})));
        assert_ne!(one, hash(&properties(&json!({ "environment": { "A": "1" } }))));
        assert_eq!(one, hash(&properties(&json!({}))));
    }
}
