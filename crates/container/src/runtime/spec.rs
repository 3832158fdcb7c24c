//! The OCI runtime configuration of a container (OCI runtime spec 1.0.2, `config.json`).
//!
//! Own file system, processes, IPC and host name; the host's network, or one of its own. Docker's default capabilities without
//! `NET_RAW` and `MKNOD`, no new privileges, the distribution's system call filter, `/proc` and `/sys` masked as everybody does.
//! Of the host nothing is mounted but `/etc/resolv.conf` and `/etc/hosts`, read-only; with a network of its own a container
//! has its own of these. And its own folder for its input and result, if it has one, and the volumes it asked for.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::{bundle::Bundle, cgroup, exchange, network, user::User};
use crate::{ContainerError, ContainerId, Networking, Spec, Volume};

/// Docker's defaults without `CAP_NET_RAW` and `CAP_MKNOD`. The one would allow to forge packets on the host's network. By the
/// other a container could open `/dev/net/tun`, which `runc` allows whatever one tells it, and take over an interface of
/// the host's that nobody holds at the moment.
pub(crate) const CAPABILITIES: [&str; 12] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// Against fork bombs; Podman's default.
pub(crate) const PROCESS_LIMIT: u32 = 2048;

/// Should the machine have no memory left, the kernel ends containers before the cloud: as if each used half of the
/// machine's memory more than it does.
pub(crate) const FIRST_TO_GO: i32 = 500;

pub(crate) const MASKED: [&str; 10] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/firmware",
];

pub(crate) const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The search path of containers whose image says none, as Docker has it.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// # Errors
/// [`ContainerError::Start`] if there is nothing to execute.
pub(super) fn configuration(
    bundle: &Bundle,
    spec: &Spec,
    user: &User,
    cgroup: &str,
    seccomp: &Value,
) -> Result<Vec<u8>, ContainerError> {
    let Bundle { id, folder, .. } = bundle;
    let refused = |reason: &str| ContainerError::Start { reason: reason.to_owned() };
    check(spec)?;
    let working_dir = if spec.working_dir.is_empty() { "/" } else { &spec.working_dir };
    let mut namespaces: Vec<Value> =
        ["mount", "pid", "ipc", "uts", "cgroup"].iter().map(|kind| json!({ "type": kind })).collect();
    let connected = spec.network.as_ref().map(|network| match network {
        Networking::Own(_) => folder.clone(),
        Networking::Of(other) => bundle.of_neighbour(other),
    });
    if let Some(bundle) = &connected {
        namespaces.push(json!({ "type": "network", "path": network::namespace(bundle) }));
    }
    let devices = spec.devices.iter().map(|path| device(path)).collect::<Result<Vec<_>, _>>()?;
    let mut mounts = mounts(connected.as_deref());
    mounts.extend(spec.volumes.iter().map(volume));
    mounts.extend(spec.exchange.as_ref().map(|_| exchange::mount(folder)));
    let config = json!({
        "ociVersion": "1.0.2",
        "hostname": id.0,
        "root": { "path": "rootfs", "readonly": false },
        "process": {
            "terminal": false,
            "user": { "uid": user.uid, "gid": user.gid, "additionalGids": user.groups },
            "args": spec.args,
            "env": environment(id, spec, user),
            "cwd": working_dir,
            "capabilities": { "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES },
            "noNewPrivileges": true,
            "oomScoreAdj": FIRST_TO_GO,
        },
        "mounts": mounts,
        "annotations": spec.labels,
        "linux": {
            "cgroupsPath": format!("/{cgroup}"),
            "namespaces": namespaces,
            "resources": resources(spec, &devices),
            "devices": devices,
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
            "seccomp": seccomp,
        },
    });
    serde_json::to_vec(&config).map_err(|error| refused(&error.to_string()))
}

/// What can be said before anything is made.
///
/// # Errors
/// [`ContainerError::Start`] if there is nothing to execute, or no such place to execute it in.
pub(crate) fn check(spec: &Spec) -> Result<(), ContainerError> {
    let refused = |reason: String| Err(ContainerError::Start { reason });
    if spec.args.is_empty() {
        return refused("the image has no entrypoint and no command; give a command".into());
    }
    if !spec.working_dir.is_empty() && !spec.working_dir.starts_with('/') {
        return refused(format!("the working directory `{}` is not absolute", spec.working_dir));
    }
    Ok(())
}

fn environment(id: &ContainerId, spec: &Spec, user: &User) -> Vec<String> {
    let exchanged = spec.exchange.as_ref().map(exchange::variables).unwrap_or_default();
    let mut all = BTreeMap::from([
        ("PATH", DEFAULT_PATH),
        ("HOSTNAME", id.0.as_str()),
        ("HOME", user.home.as_deref().unwrap_or("/")),
    ]);
    all.extend(spec.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    all.extend(exchanged.iter().map(|(name, value)| (*name, value.as_str())));
    all.iter().map(|(name, value)| format!("{name}={value}")).collect()
}

fn volume(volume: &Volume) -> Value {
    let access = if volume.read_only { "ro" } else { "rw" };
    // Nothing in it is a device or grants rights. Not what is mounted below it, to which these would not apply.
    let options = ["bind", access, "nosuid", "nodev", "rprivate"];
    json!({ "destination": volume.target, "type": "bind", "source": volume.source, "options": options })
}

/// `connected`: the bundle that has the network, unless it is the host's.
fn mounts(connected: Option<&Path>) -> Vec<Value> {
    let mount = |to: &str, kind: &str, options: &[&str]| json!({ "destination": to, "type": kind, "source": kind, "options": options });
    let mut all = vec![
        mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
    ];
    for name in ["resolv.conf", "hosts"] {
        let file = PathBuf::from("/etc").join(name);
        // Often a link to where a network daemon keeps it; that place does not exist in the container.
        if let Ok(source) =
            connected.map_or_else(|| fs::canonicalize(&file), |bundle| Ok(network::file(bundle, name)))
        {
            let options = ["bind", "ro", "nosuid", "noexec", "nodev", "rprivate"];
            all.push(json!({ "destination": file, "type": "bind", "source": source, "options": options }));
        }
    }
    all
}

/// What a container without a limit of its own may have, in bytes: seven eighths of the machine's memory.
pub(crate) fn all_but_a_reserve() -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let total = info.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"))?;
    Some(total.trim().parse::<u64>().ok()? * 1024 / 8 * 7)
}

/// A character device of the host, as the container gets it: of the same owner, with the same rights.
pub(crate) fn device(path: &str) -> Result<Value, ContainerError> {
    let refused = |reason: String| ContainerError::Start { reason };
    let found = fs::symlink_metadata(path)
        .map_err(|error| refused(format!("the device `{path}` cannot be given to it: {error}")))?;
    if !found.file_type().is_char_device() {
        return Err(refused(format!("`{path}` is no character device")));
    }
    let (major, minor) = (rustix::fs::major(found.rdev()), rustix::fs::minor(found.rdev()));
    let mode = found.mode() & 0o777;
    Ok(json!({
        "path": path, "type": "c", "major": major, "minor": minor,
        "fileMode": mode, "uid": found.uid(), "gid": found.gid(),
    }))
}

/// In microseconds.
pub(crate) const PERIOD: f64 = 100_000.0;

/// How much of a [`PERIOD`] so many cores are. The kernel takes no quota below 1 ms.
pub(crate) fn quota(cores: f64) -> i64 {
    ((cores * PERIOD) as i64).max(1_000)
}

fn resources(spec: &Spec, devices: &[Value]) -> Value {
    let mut rules = vec![json!({ "allow": false, "access": "rwm" })];
    let used = |device: &Value| {
        let (major, minor) = (&device["major"], &device["minor"]);
        json!({ "allow": true, "type": "c", "major": major, "minor": minor, "access": "rw" })
    };
    rules.extend(devices.iter().map(used));
    let mut all = json!({
        "devices": rules,
        "pids": { "limit": PROCESS_LIMIT },
    });
    if let Some(memory) = spec.memory.map(|memory| memory.bytes()).or_else(all_but_a_reserve) {
        all["memory"] = json!({ "limit": memory });
        if cgroup::limits_swap() {
            // Memory and swap together: a container that is over its limit ends, it does not crawl.
            all["memory"]["swap"] = json!(memory);
        }
    }
    if let Some(cores) = spec.cpu {
        all["cpu"] = json!({ "quota": quota(cores), "period": PERIOD as u64 });
    }
    if let Some(set) = &spec.cpu_set {
        all["cpu"]["cpus"] = json!(set);
    }
    all
}
