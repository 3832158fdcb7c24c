//! From a request to a run's record: pure.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tandem_container::{Image, Spec, Volume, exchange::Exchange};
use tandem_model::{ByteSize, Urn, inputs};

use super::{
    RunError, RunId,
    core::{Policy, Run},
    store::Record,
};
use crate::{
    cause,
    image::{Unrunnable, Wanted},
};

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunRequest {
    pub task: Urn,
    /// Added to the task's environment, and wins over it.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Replaces the task's command; the image's entrypoint stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// What the container finds in the file that `TANDEM_INPUT` names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    /// A line of JSON, which the container finds on its standard input, in the file that `TANDEM_EVENT_FILE` names and, if it
    /// fits there, in `TANDEM_EVENT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// The idempotency key: a second request with the key of a run gets that run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The cause, as W3C trace context; the container gets it as `TRACEPARENT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// The variable in which a container finds its event, as CloudEvents JSON.
pub const EVENT: &str = "TANDEM_EVENT";
/// The variable with the number of bytes of an event that is too long for [`EVENT`], which is not set then.
pub const EVENT_SIZE: &str = "TANDEM_EVENT_SIZE";
/// In bytes, with its name and the NUL at its end. Source: Linux, `MAX_ARG_STRLEN`.
const LONGEST_VARIABLE: usize = 128 << 10;

/// How many hexadecimal digits an id has: 80 bits.
const ID_DIGITS: usize = 20;

impl RunId {
    /// The id that a key stands for.
    pub(crate) fn of_key(task: &Urn, key: &str) -> Self {
        let digest = Sha256::digest(format!("{task}\n{key}"));
        Self(HEXLOWER.encode(&digest[..ID_DIGITS / 2]))
    }

    /// Whether a container is an attempt of a run, and not a replica of a service.
    pub(super) fn names(container: &str) -> bool {
        let (run, attempt) = container.split_once('-').unwrap_or((container, "1"));
        run.len() == ID_DIGITS && run.bytes().all(|b| b.is_ascii_hexdigit()) && attempt.parse::<u32>().is_ok()
    }

    pub(super) fn random() -> Self {
        let mut hex = uuid::Uuid::new_v4().simple().to_string();
        // The digits with the version would be the same in every id.
        hex.replace_range(12..13, "");
        hex.truncate(ID_DIGITS);
        Self(hex)
    }
}

/// The record of the run that is asked for.
///
/// # Errors
/// [`RunError::NothingToRun`] without entrypoint and command; [`RunError::Invalid`] if a variable or the command cannot
/// be given to a process.
pub(super) fn record(
    request: RunRequest,
    task: &inputs::Task,
    image: Image,
    volumes: Vec<Volume>,
    accepted: Timestamp,
) -> Result<Record, RunError> {
    let RunRequest { task: urn, environment, command, key, traceparent, input: _, event: _ } = request;
    let mut variables = task.environment.clone();
    variables.extend(environment);
    let wanted = Wanted {
        command: command.as_deref().or(task.command.as_deref()),
        variables: Some(&variables),
        volumes,
        memory: task.memory,
        cpu: task.cpu,
        cpu_set: task.cpu_set.as_deref(),
        storage: task.ephemeral_storage,
        labels: Some(&task.docker_labels),
        code: task.function.is_some(),
    };
    let spec = match wanted.of(image) {
        Ok(spec) => spec,
        Err(Unrunnable::Nothing) => return Err(RunError::NothingToRun(urn)),
        Err(Unrunnable::Invalid(reason)) => return Err(RunError::Invalid { task: urn, reason }),
    };
    let id = match &key {
        Some(key) => RunId::of_key(&urn, key),
        None => RunId::random(),
    };
    // Eighty bits of chance or of a hash: any part of it is as good.
    let seed = u64::from_str_radix(&id.0[..16], 16).unwrap_or_default();
    Ok(Record {
        id,
        task: urn,
        key,
        accepted,
        traceparent,
        spec,
        code: task.function.clone(),
        environment: variables,
        reservation: reservation(task),
        priority: task.priority,
        concurrency: task.concurrency,
        devices: task.devices.clone(),
        timeout: task.timeout,
        run: Run::accepted(task.retries.clone().map(|retries| Policy { retries, seed })),
    })
}

/// More than it may use need not be set aside.
pub(super) fn reservation(task: &inputs::Task) -> ByteSize {
    task.memory.map_or(task.memory_reservation, |limit| limit.min(task.memory_reservation))
}

/// The container of the run, with what it is given. The cloud's variables win over the image's, and the program's over both.
pub(super) fn spec(record: &Record, of_cloud: BTreeMap<String, String>, given: Exchange) -> Spec {
    let mut spec = record.spec.clone();
    spec.devices = record.devices.iter().map(|device| device.path.clone()).collect();
    spec.environment.extend(of_cloud);
    spec.environment.extend(record.environment.clone());
    spec.environment.insert("TANDEM_RUN_ID".to_owned(), record.id.0.clone());
    spec.environment.insert("TANDEM_ATTEMPT".to_owned(), record.run.attempt.to_string());
    if let Some(event) = &given.event {
        let (name, value) = match EVENT.len() + "=".len() + event.len() < LONGEST_VARIABLE {
            true => (EVENT, event.clone()),
            false => (EVENT_SIZE, event.len().to_string()),
        };
        spec.environment.insert(name.to_owned(), value);
    }
    spec.exchange = Some(given);
    let cause = cause::of_run(record.traceparent.as_deref(), record.id.as_str());
    // A program with keys of its own speaks to somebody who would refuse it.
    let own_keys =
        ["AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN"].iter().any(|name| record.environment.contains_key(*name));
    if cause::is_valid(&cause) && !own_keys {
        // Stock clients send it with every request, so that what they do is known to be caused by this run.
        spec.environment.insert("AWS_SESSION_TOKEN".to_owned(), cause.clone());
    }
    spec.environment.insert("TRACEPARENT".to_owned(), cause);
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urn() -> Urn {
        "urn:tandem:shop:dev:task:ffmpeg".parse().unwrap()
    }

    fn image(entrypoint: &[&str], command: &[&str]) -> Image {
        let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        Image {
            digest: "sha256:1".into(),
            names: vec![],
            size: ByteSize(0),
            created: Timestamp::UNIX_EPOCH,
            entrypoint: owned(entrypoint),
            command: owned(command),
            environment: vec!["LANG=C".into(), "AWS_REGION=image".into(), "LEVEL=image".into()],
            working_dir: "/tmp".into(),
            user: String::new(),
            platform: None,
        }
    }

    fn task(json: Value) -> inputs::Task {
        serde_json::from_value(json).unwrap()
    }

    fn request() -> RunRequest {
        RunRequest {
            task: urn(),
            environment: BTreeMap::new(),
            command: None,
            input: None,
            event: None,
            key: None,
            traceparent: None,
        }
    }

    fn args(entrypoint: &[&str], cmd: &[&str], of_task: Option<&str>, of_run: Option<&str>) -> Vec<String> {
        let task = match of_task {
            Some(word) => task(serde_json::json!({ "image": "x", "command": [word] })),
            None => task(serde_json::json!({ "image": "x" })),
        };
        let request = RunRequest { command: of_run.map(|word| vec![word.to_owned()]), ..request() };
        record(request, &task, image(entrypoint, cmd), Vec::new(), Timestamp::UNIX_EPOCH).unwrap().spec.args
    }

    #[test]
    fn a_command_replaces_the_images_command_and_keeps_its_entrypoint() {
        assert_eq!(args(&["/bin/sh", "-c", "date"], &["x"], None, None), ["/bin/sh", "-c", "date", "x"]);
        assert_eq!(args(&["e"], &["x"], Some("task"), None), ["e", "task"]);
        assert_eq!(args(&["e"], &["x"], Some("task"), Some("run")), ["e", "run"]);
        assert_eq!(args(&[], &["x"], None, Some("run")), ["run"]);
    }

    #[test]
    fn what_has_nothing_to_run_or_cannot_be_run_is_refused() {
        let task = task(serde_json::json!({ "image": "x" }));
        let refused =
            |request| record(request, &task, image(&[], &[]), Vec::new(), Timestamp::UNIX_EPOCH).unwrap_err();
        assert!(matches!(refused(request()), RunError::NothingToRun(_)));
        let named = |name: &str, value: &str| RunRequest {
            environment: [(name.to_owned(), value.to_owned())].into(),
            ..request()
        };
        for (name, value) in [("", "x"), ("A=B", "x"), ("A", "x\0y")] {
            assert!(matches!(refused(named(name, value)), RunError::Invalid { .. }), "{name}={value}");
        }
    }

    #[test]
    fn the_program_wins_over_the_cloud_and_the_cloud_over_the_image() {
        let task =
            task(serde_json::json!({ "image": "x", "environment": { "LEVEL": "task", "BOTH": "task" } }));
        let request = RunRequest {
            environment: [("BOTH".to_owned(), "run".to_owned())].into(),
            traceparent: Some("00-1-2-01".into()),
            ..request()
        };
        let record = record(request, &task, image(&["e"], &[]), Vec::new(), Timestamp::UNIX_EPOCH).unwrap();
        let of_cloud =
            [("AWS_REGION", "cloud"), ("LEVEL", "cloud")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        let environment = spec(&record, of_cloud.into(), Exchange::default()).environment;
        let path = crate::image::PATH;
        let expected = [
            ("AWS_REGION", "cloud"),
            ("BOTH", "run"),
            ("LANG", "C"),
            ("LEVEL", "task"),
            ("PATH", path),
            ("TANDEM_ATTEMPT", "1"),
            ("TANDEM_RUN_ID", record.id.as_str()),
            ("TRACEPARENT", "00-1-2-01"),
        ];
        assert_eq!(environment, expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
        assert!(!record.spec.environment.contains_key("TANDEM_RUN_ID"));
    }

    #[test]
    fn an_event_that_is_too_long_for_a_variable_is_named_by_its_size() {
        let task = task(serde_json::json!({ "image": "x" }));
        let record = record(request(), &task, image(&["e"], &[]), Vec::new(), Timestamp::UNIX_EPOCH).unwrap();
        let longest = LONGEST_VARIABLE - "TANDEM_EVENT=\0".len();
        for (length, variable) in [(2, EVENT), (longest, EVENT), (longest + 1, EVENT_SIZE)] {
            let event = "x".repeat(length);
            let spec = spec(&record, BTreeMap::new(), Exchange { input: None, event: Some(event.clone()) });
            let set = [EVENT, EVENT_SIZE].map(|name| spec.environment.get(name));
            let expected = if variable == EVENT { event.clone() } else { length.to_string() };
            assert_eq!(set.iter().flatten().collect::<Vec<_>>(), [&&expected], "{length}");
            assert_eq!(spec.environment.get(variable), Some(&expected));
            assert_eq!(spec.exchange.unwrap().event, Some(event));
        }
    }

    #[test]
    fn no_more_is_set_aside_than_may_be_used() {
        let reservation = |json| {
            record(request(), &task(json), image(&["e"], &[]), Vec::new(), Timestamp::UNIX_EPOCH)
                .unwrap()
                .reservation
        };
        assert_eq!(reservation(serde_json::json!({ "image": "x" })), ByteSize::mebibytes(128));
        assert_eq!(reservation(serde_json::json!({ "image": "x", "memory": 64 })), ByteSize::mebibytes(64));
        let both = serde_json::json!({ "image": "x", "memory": 512, "memoryReservation": 256 });
        assert_eq!(reservation(both), ByteSize::mebibytes(256));
    }

    // I4
    #[test]
    fn a_key_stands_for_one_id_per_task() {
        let id = RunId::of_key(&urn(), "delivery-1");
        assert_eq!(id, RunId::of_key(&urn(), "delivery-1"));
        assert_ne!(id, RunId::of_key(&urn(), "delivery-2"));
        assert_ne!(id, RunId::of_key(&"urn:tandem:shop:dev:task:other".parse().unwrap(), "delivery-1"));
        for container in
            ["service", "s-00112233445566778899", "0011223344556677889", "00112233445566778899-x"]
        {
            assert!(!RunId::names(container), "{container}");
        }
        for id in [id, RunId::random()] {
            assert!(RunId::names(id.as_str()) && RunId::names(&format!("{id}-2")));
            assert_eq!(id.as_str().len(), ID_DIGITS);
            assert!(id.as_str().bytes().all(|b| b.is_ascii_hexdigit()));
        }
    }
}
