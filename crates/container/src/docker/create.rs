//! What the engine is asked to create for a container: the same as our own runtime gives (0118), in the engine's words.
//!
//! The differences that remain are the engine's: it cannot mount a volume without devices and set-user-id programs (both
//! are of no use without `CAP_MKNOD` and with no new privileges), and it enters no Landlock domain.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, DeviceMapping, EndpointIpamConfig, EndpointSettings, HealthConfig, HostConfig,
    HostConfigCgroupnsModeEnum, HostConfigLogConfig, ImageConfig, Mount, MountBindOptions,
    MountBindOptionsPropagationEnum, MountType, NetworkingConfig,
};
use serde_json::{Value, json};

use super::{
    LABEL,
    bundle::{self, Bundle},
    network,
};
use crate::{
    ContainerError, Networking, Spec,
    exchange::{EVENT_FILE, INPUT, RESULT},
    runtime::{exchange, seccomp, spec as oci},
};

/// The engine begins its log anew at this size, and keeps one file before it. We have read it by then.
const LOG_LIMIT: &str = "100m";

/// # Errors
/// [`ContainerError::Start`] if there is nothing to execute, or a device is none.
pub(super) fn body(
    bundle: &Bundle,
    spec: &Spec,
    image: &ImageConfig,
    label: &str,
) -> Result<ContainerCreateBody, ContainerError> {
    oci::check(spec)?;
    let mut labels: HashMap<String, String> = spec.labels.clone().into_iter().collect();
    labels.insert(LABEL.to_owned(), label.to_owned());
    let shares = matches!(spec.network, Some(Networking::Of(_)));
    Ok(ContainerCreateBody {
        // One that shares a network shares the name.
        hostname: (!shares).then(|| bundle.id.0.clone()),
        // An empty one would be the image's.
        user: Some(if spec.user.is_empty() { "0".into() } else { spec.user.clone() }),
        env: Some(environment(bundle, spec, image)),
        entrypoint: Some(spec.args.clone()),
        cmd: Some(Vec::new()),
        image: Some(spec.image.clone()),
        working_dir: Some(if spec.working_dir.is_empty() { "/".into() } else { spec.working_dir.clone() }),
        // Whoever keeps replicas asks them himself.
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".into()]), ..HealthConfig::default() }),
        labels: Some(labels),
        // Ends with whoever writes it: us, before the command begins.
        attach_stdin: Some(has_event(spec)),
        open_stdin: Some(has_event(spec)),
        stdin_once: Some(has_event(spec)),
        host_config: Some(host(bundle, spec)?),
        networking_config: networking(spec),
        ..ContainerCreateBody::default()
    })
}

fn has_event(spec: &Spec) -> bool {
    spec.exchange.as_ref().is_some_and(|given| given.event.is_some())
}

/// The complete environment: what only the image has is taken away, since the engine would add it.
fn environment(bundle: &Bundle, spec: &Spec, image: &ImageConfig) -> Vec<String> {
    let name = |entry: &String| entry.split('=').next().unwrap_or_default().to_owned();
    let of_image = image.env.iter().flatten().map(name);
    let mut all: Vec<String> =
        of_image.filter(|name| !spec.environment.contains_key(name) && name != "PATH").collect();
    if !spec.environment.contains_key("PATH") {
        all.push(format!("PATH={}", oci::DEFAULT_PATH));
    }
    if !spec.environment.contains_key("HOSTNAME") {
        all.push(format!("HOSTNAME={}", bundle.id.0));
    }
    let given = |(name, value): (&String, &String)| format!("{name}={value}");
    let ours = |name: &str| [INPUT, RESULT, EVENT_FILE].contains(&name);
    all.extend(spec.environment.iter().filter(|(name, _)| !ours(name)).map(given));
    let exchanged = spec.exchange.as_ref().map(exchange::variables).unwrap_or_default();
    all.extend(exchanged.into_iter().map(|(name, value)| format!("{name}={value}")));
    all
}

fn host(bundle: &Bundle, spec: &Spec) -> Result<HostConfig, ContainerError> {
    let memory = spec.memory.map(|memory| memory.bytes()).or_else(oci::all_but_a_reserve);
    let memory = memory.and_then(|bytes| i64::try_from(bytes).ok());
    let mut mounts: Vec<Mount> = spec
        .volumes
        .iter()
        .map(|volume| bind(&volume.source.to_string_lossy(), &volume.target, volume.read_only))
        .collect();
    if spec.exchange.is_some() {
        mounts.push(bind(&exchange::shared(&bundle.folder).to_string_lossy(), exchange::INSIDE, false));
    }
    let mut devices = Vec::new();
    for path in &spec.devices {
        oci::device(path)?;
        devices.push(DeviceMapping {
            path_on_host: Some(path.clone()),
            path_in_container: Some(path.clone()),
            cgroup_permissions: Some("rw".into()),
        });
    }
    let quota = spec.cpu.map(oci::quota);
    let strings = |all: &[&str]| Some(all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>());
    Ok(HostConfig {
        memory,
        // Memory and swap together: a container that is over its limit ends, it does not crawl.
        memory_swap: memory,
        cpu_period: quota.map(|_| oci::PERIOD as i64),
        cpu_quota: quota,
        cpuset_cpus: spec.cpu_set.clone(),
        devices: Some(devices),
        pids_limit: Some(i64::from(oci::PROCESS_LIMIT)),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".into()),
            config: Some(HashMap::from([
                ("max-size".to_owned(), LOG_LIMIT.to_owned()),
                ("max-file".to_owned(), "2".to_owned()),
            ])),
        }),
        network_mode: Some(match &spec.network {
            None => "host".into(),
            Some(Networking::Own(own)) => network::name(own),
            Some(Networking::Of(other)) => format!("container:{}", bundle::name(other)),
        }),
        mounts: Some(mounts),
        cap_drop: strings(&["ALL"]),
        cap_add: strings(&oci::CAPABILITIES),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        ipc_mode: Some("private".into()),
        oom_score_adj: Some(i64::from(oci::FIRST_TO_GO)),
        // Engines do this on few file systems, and say so on the others.
        storage_opt: spec.storage.map(|size| HashMap::from([("size".to_owned(), size.bytes().to_string())])),
        security_opt: Some(vec!["no-new-privileges".into(), format!("seccomp={}", filter()?)]),
        shm_size: Some(64 << 20),
        masked_paths: strings(&oci::MASKED),
        readonly_paths: strings(&oci::READ_ONLY),
        ..HostConfig::default()
    })
}

/// The system call filter in the engine's form. Older engines know no errno for what no rule names, so the calls that must
/// look as if the kernel had not got them are named.
fn filter() -> Result<String, ContainerError> {
    let mut profile = seccomp::profile()?.clone();
    if let (Some(rules), Some(errno)) =
        (profile["syscalls"].as_array().cloned(), profile.get("defaultErrnoRet").cloned())
    {
        let absent: Vec<&str> = seccomp::withheld().collect();
        let mut rules = rules;
        rules.push(json!({ "names": absent, "action": "SCMP_ACT_ERRNO", "errnoRet": errno }));
        profile["syscalls"] = Value::Array(rules);
    }
    Ok(profile.to_string())
}

fn bind(source: &str, target: &str, read_only: bool) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(source.to_owned()),
        target: Some(target.to_owned()),
        read_only: Some(read_only),
        bind_options: Some(MountBindOptions {
            propagation: Some(MountBindOptionsPropagationEnum::RPRIVATE),
            non_recursive: Some(true),
            ..MountBindOptions::default()
        }),
        ..Mount::default()
    }
}

fn networking(spec: &Spec) -> Option<NetworkingConfig> {
    let Some(Networking::Own(own)) = &spec.network else { return None };
    let endpoint = EndpointSettings {
        ipam_config: Some(EndpointIpamConfig {
            ipv4_address: Some(own.address.to_string()),
            ..EndpointIpamConfig::default()
        }),
        aliases: Some(own.aliases.clone()),
        ..EndpointSettings::default()
    };
    Some(NetworkingConfig { endpoints_config: Some(HashMap::from([(network::name(own), endpoint)])) })
}
