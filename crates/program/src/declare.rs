//! What the SDK sends for a resource, read and checked.
//!
//! Inputs are checked against their kind before the engine sees them, in the preview too, so a wrong property is found
//! before anything is changed.

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
};

use serde::Deserialize;
use serde_json::Value;
use tandem_model::{
    Desired, Explain, Kind, ResourceName, StackId, Urn, inputs, policy::PolicyError, resource::Properties,
    schedule::ScheduleError, value::has_unknown,
};

/// The arguments of `resource.register`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Declaration {
    kind: Kind,
    name: ResourceName,
    #[serde(default)]
    inputs: Properties,
    #[serde(default)]
    depends_on: Vec<Urn>,
    #[serde(default)]
    declared_at: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum InputError {
    #[error("the declaration of a resource cannot be read: {reason}")]
    Declaration { reason: String },
    #[error("{urn}: {reason}")]
    Property { urn: String, reason: String },
    #[error("{urn}: {wrong}")]
    Schedule { urn: String, wrong: ScheduleError },
    #[error("{urn}: {wrong}")]
    Policy { urn: String, wrong: PolicyError },
}

impl Explain for InputError {
    fn code(&self) -> &'static str {
        match self {
            Self::Declaration { .. } | Self::Property { .. } => "E0531",
            Self::Schedule { wrong, .. } => wrong.code(),
            Self::Policy { wrong, .. } => wrong.code(),
        }
    }

    fn help(&self) -> String {
        match self {
            Self::Declaration { .. } => "declare resources with the constructors of `@tandem/cloud`".into(),
            Self::Property { .. } => "correct the property; nothing of this resource was changed".into(),
            Self::Schedule { wrong, .. } => wrong.help(),
            Self::Policy { wrong, .. } => wrong.help(),
        }
    }
}

pub(crate) fn read(stack: &StackId, args: Value) -> Result<Desired, InputError> {
    let declaration: Declaration = serde_json::from_value(args)
        .map_err(|error| InputError::Declaration { reason: error.to_string() })?;
    let Declaration { kind, name, inputs, depends_on, declared_at } = declaration;
    let declared_at = declared_at.filter(|place| !place.is_empty());
    Ok(Desired { urn: Urn::new(stack.clone(), kind, name), inputs, depends_on, declared_at })
}

/// The folder and the Dockerfile of a build.
pub(crate) fn build_folder(build: &Properties) -> Option<(String, String)> {
    let folder = build.get("folder")?.as_str()?;
    let dockerfile = build.get("dockerfile").and_then(Value::as_str).unwrap_or("Dockerfile");
    Some((folder.to_owned(), dockerfile.to_owned()))
}

/// Whether the inputs fit their kind. What is not known yet fits.
pub(crate) fn check(desired: &Desired) -> Result<(), InputError> {
    let Desired { urn, inputs, .. } = desired;
    let wrong = |reason: String| Err(InputError::Property { urn: urn.short(), reason });
    let unknown = inputs.values().any(has_unknown);
    let known = if unknown { known(inputs) } else { inputs.clone() };
    match fit(urn, &known, inputs) {
        Ok(Ok(())) if urn.kind == Kind::Timer && !unknown => check_timer(urn, &known),
        Ok(Ok(())) if urn.kind == Kind::Subscription && !unknown => check_subscription(urn, &known),
        Ok(Ok(())) => Ok(()),
        Ok(Err(reason)) => wrong(reason),
        // It was left out because it is not known; the target checks it when it is.
        Err(reason) if unknown && reason.starts_with("missing field") => Ok(()),
        Err(reason) => wrong(match culprit(urn, &known, inputs, &reason) {
            Some(property) if !reason.contains(&format!("`{property}`")) => format!("`{property}`: {reason}"),
            _ => reason,
        }),
    }
}

/// Reads the known inputs as their kind; what can be read is then looked at for sense.
fn fit(urn: &Urn, known: &Properties, all: &Properties) -> Result<Result<(), String>, String> {
    let verdict = match urn.kind {
        Kind::Bucket => inputs::read::<inputs::Bucket>(urn, known).map(|_| Ok(())),
        Kind::Queue => inputs::read::<inputs::Queue>(urn, known).map(|queue| queue.check()),
        Kind::Stream => inputs::read::<inputs::Stream>(urn, known).map(|stream| stream.check()),
        Kind::Function | Kind::Workflow => {
            inputs::read::<inputs::Function>(urn, known).map(|function| check_function(&function))
        }
        Kind::Entity => inputs::Entity::read(urn, known).map(|entity| check_function(&entity.function)),
        Kind::Task => inputs::read::<inputs::Task>(urn, known).map(|task| check_task(&task, all)),
        Kind::Service => {
            inputs::read::<inputs::Service>(urn, known).map(|service| check_service(&service, all))
        }
        Kind::Volume => inputs::read::<inputs::Volume>(urn, known).map(|_| Ok(())),
        Kind::Topic => inputs::read::<inputs::Topic>(urn, known).map(|_| Ok(())),
        Kind::Timer => inputs::read::<inputs::Timer>(urn, known).map(|_| Ok(())),
        Kind::Subscription => {
            inputs::read::<inputs::Subscription>(urn, known).map(|subscription| subscription.check())
        }
    };
    verdict.map_err(|error| error.reason)
}

/// The property without which the reason is gone.
fn culprit<'a>(urn: &Urn, known: &'a Properties, all: &Properties, reason: &str) -> Option<&'a str> {
    let blamed = |key: &&String| {
        let mut rest = known.clone();
        rest.remove(*key);
        fit(urn, &rest, all).err().as_deref() != Some(reason)
    };
    known.keys().find(blamed).map(String::as_str)
}

/// Whether its schedule makes sense, whatever time it is.
fn check_timer(urn: &Urn, inputs: &Properties) -> Result<(), InputError> {
    let Ok(timer) = inputs::read::<inputs::Timer>(urn, inputs) else { return Ok(()) };
    timer.schedule().map(drop).map_err(|wrong| InputError::Schedule { urn: urn.short(), wrong })
}

fn check_subscription(urn: &Urn, inputs: &Properties) -> Result<(), InputError> {
    let Ok(subscription) = inputs::read::<inputs::Subscription>(urn, inputs) else { return Ok(()) };
    let wrong = |wrong| InputError::Policy { urn: urn.short(), wrong };
    subscription.filter.policies().map(drop).map_err(wrong)
}

fn check_function(function: &inputs::Function) -> Result<(), String> {
    positive("timeout", Some(function.timeout))?;
    match function.concurrency {
        0 => Err("`concurrency` is above zero, not 0".to_owned()),
        _ => Ok(()),
    }
}

fn check_task(task: &inputs::Task, inputs: &Properties) -> Result<(), String> {
    check_source(inputs)?;
    check_build(task.build.as_ref())?;
    check_mounts(&task.volumes)?;
    positive("timeout", task.timeout)?;
    positive("cpu", task.cpu)
}

fn check_service(service: &inputs::Service, inputs: &Properties) -> Result<(), String> {
    if service.containers.is_empty() {
        return Err("`containers` is empty; a service has at least one".to_owned());
    }
    if let Some(inputs::Autoscale { min, max, target, scale_down_after }) = &service.autoscale {
        positive("autoscale.target.requests", target.requests)?;
        match (target.requests, target.cpu) {
            (None, None) => return Err("`autoscale.target` has `requests`, `cpu`, or both".to_owned()),
            (_, Some(percent)) if !(percent > 0.0 && percent <= 100.0) => {
                return Err(format!(
                    "`autoscale.target.cpu` is {percent}; it is above 0 and up to 100, in percent"
                ));
            }
            _ => {}
        }
        positive("autoscale.scaleDownAfter", Some(*scale_down_after))?;
        if *max == 0 || min > max {
            return Err(format!("`autoscale.max` is at least 1 and `min`, not {max}"));
        }
        if !service.wait_for_steady_state {
            // Nobody could tell whether a version that has no replicas at the moment is to take over.
            return Err("`autoscale` goes with `waitForSteadyState` only".to_owned());
        }
        if service.ports().next().is_none() && (target.requests.is_some() || *min == 0) {
            // Without ports the processors tell the load, but nobody would wake it.
            return Err("`autoscale` counts what comes over `ports`, and there are none".to_owned());
        }
    }
    let (mut published, mut taken) = (BTreeMap::new(), BTreeMap::new());
    for (name, container) in &service.containers {
        let sent = inputs.get("containers").and_then(|all| all.get(name)).and_then(Value::as_object);
        let checked = sent.map_or(Ok(()), check_source).and_then(|()| check_container(container));
        checked.map_err(|reason| format!("`containers.{name}`: {reason}"))?;
        for port in &container.ports {
            if published.insert(port.place(), name).is_some() {
                return Err(format!("port {} is published twice", port.port));
            }
            // They share one network, so a port in it is one container's.
            if let Some(other) = taken.insert(port.target_place(), name).filter(|other| *other != name) {
                let target = port.target();
                return Err(format!(
                    "the containers `{other}` and `{name}` both have port {target}, and they share one network"
                ));
            }
        }
    }
    Ok(())
}

fn check_container(container: &inputs::Container) -> Result<(), String> {
    check_build(container.build.as_ref())?;
    positive("cpu", container.cpu)?;
    check_mounts(&container.volumes)?;
    let inputs::HealthCheck { interval, timeout, start_period, retries, path, port } =
        &container.health_check;
    positive("healthCheck.interval", Some(*interval))?;
    positive("healthCheck.timeout", Some(*timeout))?;
    positive("healthCheck.startPeriod", Some(*start_period))?;
    if *retries == 0 {
        return Err("`healthCheck.retries` is above zero, not 0".to_owned());
    }
    if path.as_ref().is_some_and(|path| !path.starts_with('/')) {
        return Err("`healthCheck.path` begins with `/`".to_owned());
    }
    let asked = |port: &inputs::Port| port.protocol != inputs::Protocol::Udp;
    if path.is_some() && port.is_none() && !container.ports.iter().any(asked) {
        return Err("`healthCheck.path` needs a port to ask: give `healthCheck.port`, or `ports`".to_owned());
    }
    if container.ports.iter().any(|port| port.port == 0 || port.target() == 0) {
        return Err("a port is a number from 1 to 65535".to_owned());
    }
    Ok(())
}

/// Each at a place of its own, where nothing of the container's system is.
fn check_mounts(mounts: &[inputs::Mount]) -> Result<(), String> {
    const SYSTEM: [&str; 3] = ["/proc", "/sys", "/dev"];
    let mut taken: Vec<PathBuf> = Vec::new();
    for inputs::Mount { container_path, source, .. } in mounts {
        let path = Path::new(container_path);
        let plain = path.is_absolute() && path.components().all(|part| part != Component::ParentDir);
        let path: PathBuf = path.components().collect();
        if !plain || path == Path::new("/") || SYSTEM.iter().any(|system| path.starts_with(system)) {
            return Err(format!(
                "`containerPath` is an absolute path outside of /proc, /sys and /dev, not `{container_path}`"
            ));
        }
        if taken.contains(&path) {
            return Err(format!("two volumes are at `{container_path}`"));
        }
        taken.push(path);
        if let inputs::Source::HostPath(host) = source
            && !Path::new(host).is_absolute()
        {
            return Err(format!("the path of a `HostPathVolume` is absolute, not `{host}`"));
        }
    }
    Ok(())
}

/// Exactly one of the sources of what a container runs.
fn check_source(inputs: &Properties) -> Result<(), String> {
    let given = |key: &&str| inputs.get(*key).is_some_and(|value| !value.is_null());
    match ["build", "image", "function"].into_iter().filter(given).collect::<Vec<_>>()[..] {
        [] => Err("it has neither `build` nor `image` nor `function`; give one".to_owned()),
        ["function"] if given(&"command") => {
            Err("it has both `function` and `command`; the function is what its container runs".to_owned())
        }
        [_] => Ok(()),
        [one, other, ..] => Err(format!("it has both `{one}` and `{other}`; give one")),
    }
}

/// The forms that the target reads.
fn check_build(build: Option<&inputs::Build>) -> Result<(), String> {
    let Some(platform) = build.and_then(|build| build.platform.as_deref()) else { return Ok(()) };
    let word =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if matches!(platform.split('/').count(), 2 | 3) && platform.split('/').all(word) {
        return Ok(());
    }
    Err(format!("`build.platform` is `{platform}`; write for example `linux/amd64` or `linux/arm64`"))
}

fn positive(property: &str, value: Option<f64>) -> Result<(), String> {
    match value {
        Some(value) if !(value > 0.0 && value.is_finite()) => {
            Err(format!("`{property}` is above zero, not {value}"))
        }
        _ => Ok(()),
    }
}

/// The inputs without what is unknown.
fn known(inputs: &Properties) -> Properties {
    let part = |value: &Value| match value {
        Value::Object(map) if !is_unknown(value) => Value::Object(known(map)),
        Value::Array(items) => {
            Value::Array(items.iter().filter(|item| !has_unknown(item)).cloned().collect())
        }
        value => value.clone(),
    };
    inputs
        .iter()
        .filter(|(_, value)| !is_unknown(value))
        .map(|(key, value)| (key.clone(), part(value)))
        .collect()
}

/// Whether the value itself is unknown: its marker is all there is.
fn is_unknown(value: &Value) -> bool {
    has_unknown(value) && *value == tandem_model::value::unknown()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tandem_model::value::{secret, unknown};

    use super::*;

    fn verdict(kind: &str, inputs: Value) -> String {
        let args = json!({ "kind": kind, "name": "x", "inputs": inputs, "dependsOn": [], "declaredAt": "index.js:1:1" });
        match read(&"shop/dev".parse().unwrap(), args).and_then(|desired| check(&desired)) {
            Ok(()) => "fits".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_wrong_property_is_named() {
        assert_eq!(verdict("bucket", json!({ "forceDestroy": true })), "fits");
        assert!(verdict("bucket", json!({ "colour": 1 })).contains("unknown field `colour`"));
        assert_eq!(
            verdict("task", json!({})),
            "task/x: it has neither `build` nor `image` nor `function`; give one"
        );
        let function = json!({ "code": "sha256:00", "handler": "task/x" });
        assert_eq!(verdict("task", json!({ "function": function })), "fits");
        for (other, value) in [("image", json!("x")), ("command", json!(["x"]))] {
            let refused = verdict("task", json!({ "function": function, other: value }));
            assert!(refused.contains("it has both") && refused.contains(other), "{refused}");
        }
        let function = |extra: (&str, Value)| {
            let mut inputs = json!({ "code": "sha256:00", "handler": "x" });
            inputs[extra.0] = extra.1;
            verdict("function", inputs)
        };
        assert_eq!(function(("memory", json!("64MiB"))), "fits");
        assert!(function(("memory", json!("lots"))).starts_with("function/x: `memory`: "));
        assert_eq!(function(("timeout", json!(0))), "function/x: `timeout` is above zero, not 0");
        assert!(verdict("teapot", json!({})).contains("unknown variant `teapot`"));
    }

    #[test]
    fn a_schedule_that_makes_no_sense_has_a_code_of_its_own() {
        let code = |inputs: Value| {
            let args = json!({ "kind": "timer", "name": "x", "inputs": inputs });
            let checked = read(&"shop/dev".parse().unwrap(), args).and_then(|desired| check(&desired));
            checked.map_err(|error| error.report()).err().map(|report| (report.code, report.message))
        };
        assert_eq!(code(json!({ "cron": "0 12 * * *", "timeZone": "Europe/Berlin" })), None);
        assert_eq!(code(json!({ "cron": unknown(), "timeZone": "Nowhere" })), None);
        // Whatever is past was once to come: a program must stay deployable.
        assert_eq!(code(json!({ "at": "2020-01-01T00:00:00Z" })), None);
        for (inputs, expected, message) in [
            (json!({ "cron": "0 25 * * *" }), "E0670", "timer/x: `0 25 * * *` is not a cron expression"),
            (json!({ "cron": "@daily", "every": 5 }), "E0670", "timer/x: it has several"),
            (json!({ "cron": "0 0 30 2 *" }), "E0671", "timer/x: the cron expression `0 0 30 2 *` never"),
            (json!({ "every": 0.5 }), "E0672", "timer/x: the interval is 0.5 seconds"),
            (json!({ "cron": "@daily", "timeZone": "Nowhere" }), "E0673", "timer/x: `Nowhere`"),
            (json!({ "at": "tomorrow" }), "E0674", "timer/x: `tomorrow` is not a moment"),
            (json!({ "every": "x" }), "E0531", "timer/x: `every`: invalid type"),
        ] {
            let (code, said) = code(inputs).unwrap();
            assert_eq!(code, expected);
            assert!(said.starts_with(message), "{said}");
        }
    }

    #[test]
    fn a_filter_that_makes_no_sense_has_a_code_of_its_own() {
        let wrong = |filter: Value| {
            let source = "urn:tandem:shop:dev:topic:t";
            let inputs = json!({ "source": source, "consumer": source, "events": [], "filter": filter });
            let args = json!({ "kind": "subscription", "name": "x", "inputs": inputs });
            let checked = read(&"shop/dev".parse().unwrap(), args).and_then(|desired| check(&desired));
            checked.err().map(|error| (error.code(), error.to_string()))
        };
        assert_eq!(wrong(json!({ "attributes": { "a": ["x"] }, "message": { "b": { "c": [1] } } })), None);
        let (code, message) = wrong(json!({ "message": { "b": { "c": 1 } } })).unwrap();
        assert_eq!(code, "E0680");
        assert!(message.starts_with("subscription/x: the filter policy is not valid at `b.c`"), "{message}");
    }

    #[test]
    fn the_options_of_a_build_have_their_forms() {
        let build = |extra: (&str, Value)| {
            let mut build = json!({ "folder": "./d", "context": "sha256:00" });
            build[extra.0] = extra.1;
            verdict("task", json!({ "build": build }))
        };
        assert_eq!(build(("platform", json!("linux/arm/v7"))), "fits");
        assert_eq!(build(("maxAge", json!("7d"))), "fits");
        assert_eq!(build(("secrets", json!(["npm"]))), "fits");
        assert!(
            build(("platform", json!("arm64"))).contains("`build.platform` is `arm64`; write for example")
        );
        assert!(build(("maxAge", json!("soon"))).contains("`soon` is not an age; write for example `7d`"));
    }

    #[test]
    fn what_is_unknown_fits_and_what_is_secret_is_looked_into() {
        assert_eq!(verdict("task", json!({ "image": unknown(), "environment": { "A": unknown() } })), "fits");
        assert_eq!(
            verdict("task", json!({ "image": "x", "environment": { "A": secret(json!("pw")) } })),
            "fits"
        );
        assert!(verdict("task", json!({ "image": unknown(), "cpu": -1 })).contains("`cpu` is above zero"));
        assert!(verdict("task", json!({ "image": unknown(), "cup": 1 })).contains("unknown field `cup`"));
    }

    #[test]
    fn a_build_folder_has_a_usual_dockerfile() {
        let build = |build: Value| build.as_object().unwrap().clone();
        let found = build_folder(&build(json!({ "folder": "./d" })));
        assert_eq!(found, Some(("./d".to_owned(), "Dockerfile".to_owned())));
        assert_eq!(build_folder(&build(json!({}))), None);
    }

    #[test]
    fn containers_of_a_service_are_looked_into_and_share_one_network() {
        let service = |containers: Value| verdict("service", json!({ "containers": containers }));
        let web = json!({ "image": "x", "ports": [{ "port": 8080, "targetPort": 80 }] });
        assert_eq!(service(json!({ "web": web })), "fits");
        assert_eq!(service(json!({ "web": { "image": unknown() } })), "fits");
        assert_eq!(service(json!({})), "service/x: `containers` is empty; a service has at least one");
        let refused = service(json!({ "web": {} }));
        assert!(refused.contains("`containers.web`: it has neither `build` nor `image`"), "{refused}");
        let refused = service(json!({ "web": { "image": "x", "cpu": 0 } }));
        assert!(refused.contains("`containers.web`: `cpu` is above zero"), "{refused}");
        let other = |port: Value| service(json!({ "web": web, "app": { "image": "x", "ports": [port] } }));
        assert!(other(json!({ "port": 8080, "targetPort": 81 })).contains("port 8080 is published twice"));
        assert!(other(json!({ "port": 81, "targetPort": 80 })).contains("both have port 80"));
        assert_eq!(other(json!({ "port": 81 })), "fits");
    }
}
