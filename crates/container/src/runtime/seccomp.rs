//! Which system calls a container may make: the distribution's own profile, as Podman and Buildah use it.
//!
//! It comes with Debian's `golang-github-containers-common` (elsewhere `containers-common`), on which Buildah depends.
//! Its rules are written for many capabilities, architectures and kernels; an OCI configuration wants only those that
//! apply. Without the file nothing starts: a container without a filter would be a silent surprise.
//!
//! That profile also lets containers make namespaces and mounts of their own, for containers in containers. Ours are
//! tasks; [`WITHHELD`] takes that away, and with it the parts of the kernel where most escapes were found.
//!
//! Only the machine's own architecture is let in: translating the profile for 32-bit programs as well takes as long as
//! all the rest of a start (`docs/decisions/0061-system-call-filter.md`).

use std::{fs, path::Path, sync::OnceLock};

use serde::Deserialize;
use serde_json::{Value, json};

use super::spec::CAPABILITIES;
use crate::{ContainerError, layout::at};

const PROFILES: [&str; 2] = ["/etc/containers/seccomp.json", "/usr/share/containers/seccomp.json"];

/// Not allowed whatever the profile says. They answer "not implemented", which lets a libc try the older call.
const WITHHELD: [&str; 22] = [
    "add_key",
    "clone",
    "clone3",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "keyctl",
    "mount",
    "mount_setattr",
    "move_mount",
    "open_tree",
    "pivot_root",
    "request_key",
    "setns",
    "socket",
    "umount",
    "umount2",
    "unshare",
];

/// `clone` is how processes and threads begin; it stays, without the flags that make namespaces.
const NAMESPACE_FLAGS: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

/// The sockets that there are for containers. Others lead to the hypervisor, to drivers, or to seldom used code.
const FAMILIES: [i32; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// The file's shape, shared by Docker and Podman.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: String,
    default_errno_ret: Option<u32>,
    syscalls: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    #[serde(default)]
    names: Vec<String>,
    action: String,
    #[serde(default)]
    args: Option<Vec<Value>>,
    errno_ret: Option<u32>,
    #[serde(default)]
    includes: Condition,
    #[serde(default)]
    excludes: Condition,
}

/// When a rule applies. All that is given must hold; an exclusion excludes if any of it holds.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    #[serde(default)]
    caps: Option<Vec<String>>,
    #[serde(default)]
    arches: Option<Vec<String>>,
    #[serde(default)]
    min_kernel: Option<String>,
}

/// `linux.seccomp` of an OCI configuration. Read once.
///
/// # Errors
/// [`ContainerError::NotInstalled`] if the distribution's profile is not there.
pub(crate) fn profile() -> Result<&'static Value, ContainerError> {
    static PROFILE: OnceLock<Value> = OnceLock::new();
    if let Some(profile) = PROFILE.get() {
        return Ok(profile);
    }
    let path =
        PROFILES.iter().map(Path::new).find(|path| path.is_file()).ok_or(ContainerError::NotInstalled {
            program: "seccomp.json".into(),
            package: "golang-github-containers-common",
        })?;
    let text = fs::read_to_string(path).map_err(at(path))?;
    let profile: Profile = serde_json::from_str(&text).map_err(|error| at(path)(error.into()))?;
    Ok(PROFILE.get_or_init(|| convert(&profile, architecture())))
}

/// This machine's name in the profile: as Go calls it, and as libseccomp does.
fn architecture() -> (&'static str, &'static str) {
    match std::env::consts::ARCH {
        "aarch64" => ("arm64", "SCMP_ARCH_AARCH64"),
        "riscv64" => ("riscv64", "SCMP_ARCH_RISCV64"),
        "s390x" => ("s390x", "SCMP_ARCH_S390X"),
        _ => ("amd64", "SCMP_ARCH_X86_64"),
    }
}

fn convert(profile: &Profile, (go, native): (&str, &str)) -> Value {
    let holds = |caps: &String| CAPABILITIES.contains(&caps.as_str());
    let applies = |rule: &&Rule| {
        let (with, without) = (&rule.includes, &rule.excludes);
        with.caps.iter().flatten().all(holds)
            && with
                .arches
                .as_ref()
                .filter(|all| !all.is_empty())
                .is_none_or(|all| all.iter().any(|one| one == go))
            && with.min_kernel.as_deref().is_none_or(kernel_is_at_least)
            && !without.caps.iter().flatten().any(holds)
            && !without.arches.iter().flatten().any(|one| one == go)
            && !without.min_kernel.as_deref().is_some_and(kernel_is_at_least)
    };
    let mut rules: Vec<Value> = profile
        .syscalls
        .iter()
        .filter(applies)
        .map(|rule| {
            let allows = rule.action == "SCMP_ACT_ALLOW";
            let kept = |name: &&String| !(allows && WITHHELD.contains(&name.as_str()));
            let names: Vec<_> = rule.names.iter().filter(kept).collect();
            let mut out = json!({ "names": names, "action": rule.action });
            if let Some(args) = rule.args.as_ref().filter(|args| !args.is_empty()) {
                out["args"] = json!(args);
            }
            if let Some(errno) = rule.errno_ret {
                out["errnoRet"] = json!(errno);
            }
            out
        })
        .filter(|rule| rule["names"].as_array().is_some_and(|names| !names.is_empty()))
        .collect();
    let no_namespaces =
        json!({ "index": 0, "value": NAMESPACE_FLAGS, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ" });
    rules.push(json!({ "names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [no_namespaces] }));
    rules.extend(FAMILIES.map(|family| {
        let family = json!({ "index": 0, "value": family, "op": "SCMP_CMP_EQ" });
        json!({ "names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [family] })
    }));
    let mut out =
        json!({ "defaultAction": profile.default_action, "architectures": [native], "syscalls": rules });
    if let Some(errno) = profile.default_errno_ret {
        out["defaultErrnoRet"] = json!(errno);
    }
    out
}

/// The calls that no rule of [`profile`] allows in any form, whatever the distribution says.
pub(crate) fn withheld() -> impl Iterator<Item = &'static str> {
    const IN_PART: [&str; 2] = ["clone", "socket"];
    WITHHELD.into_iter().filter(|name| !IN_PART.contains(name))
}

fn kernel_is_at_least(wanted: &str) -> bool {
    let parts = |text: &str| {
        let mut numbers =
            text.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    };
    let running = rustix::system::uname();
    parts(&running.release().to_string_lossy()) >= parts(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(rules: &Value) -> Vec<String> {
        let profile = json!({ "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "syscalls": rules });
        let out = convert(&serde_json::from_value(profile).unwrap(), ("amd64", "SCMP_ARCH_X86_64"));
        assert_eq!(out["defaultErrnoRet"], 38);
        out["syscalls"]
            .as_array()
            .unwrap()
            .iter()
            .map(|rule| rule["names"][0].as_str().unwrap().into())
            .collect()
    }

    #[test]
    fn rules_apply_by_capability_architecture_and_kernel() {
        let rules = json!([
            { "names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [] },
            { "names": ["quotactl"], "action": "SCMP_ACT_ALLOW", "includes": { "caps": ["CAP_SYS_ADMIN"] } },
            { "names": ["mount"], "action": "SCMP_ACT_ALLOW" },
            { "names": ["chroot"], "action": "SCMP_ACT_ALLOW", "includes": { "caps": ["CAP_SYS_CHROOT"] } },
            { "names": ["bpf"], "action": "SCMP_ACT_ERRNO", "excludes": { "caps": ["CAP_SYS_ADMIN"] } },
            { "names": ["sync_file_range2"], "action": "SCMP_ACT_ALLOW", "includes": { "arches": ["ppc64le"] } },
            { "names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": { "minKernel": "4.8" } },
            { "names": ["future"], "action": "SCMP_ACT_ALLOW", "includes": { "minKernel": "999.0" } },
        ]);
        assert_eq!(
            converted(&rules),
            ["read", "chroot", "bpf", "ptrace", "clone", "socket", "socket", "socket", "socket"]
        );
    }

    #[test]
    fn the_distributions_profile_converts_and_denies_by_default() {
        let profile = profile().unwrap();
        assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
        let allowed = |name: &str| {
            profile["syscalls"].as_array().unwrap().iter().any(|rule| {
                rule["action"] == "SCMP_ACT_ALLOW" && rule["names"].as_array().unwrap().contains(&json!(name))
            })
        };
        assert!(allowed("read") && allowed("execve") && allowed("clone"));
        for denied in ["mount", "unshare", "clone3", "kexec_load", "init_module", "bpf", "io_uring_setup"] {
            assert!(!allowed(denied), "{denied}");
        }
    }
}
