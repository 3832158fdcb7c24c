//! A container's own network: a network namespace, an address on a bridge, names.
//!
//! Podman's programs do the work: `netavark` makes the bridge, the pair of interfaces and the firewall's rules, and runs
//! `aardvark-dns`, which answers names for the containers of a network (0150).
//!
//! What exists is written down in the bundle before it is made, so whoever clears the bundle, also after a crash, takes
//! down what there may be:
//!
//! | file | what it proves |
//! |---|---|
//! | `bundles/<id>/network.json` | `netavark` may have been told to connect the container; this is what it was told |
//! | `bundles/<id>/netns` | the namespace, kept by a mount until it is taken down |
//!
//! `netavark` keeps its rules in tables that the whole machine shares, and two of it at once disturb each other: one
//! lock for all clouds of a machine.

mod names;
mod request;

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};
use rustix::fs::{FlockOperation, flock};

use crate::{ContainerError, Network, layout::at, tool};

const REQUEST: &str = "network.json";
const NAMESPACE: &str = "netns";
/// Held while `netavark` works.
const LOCK: &str = "/run/tandem-network.lock";

/// The programs, and where the names of all networks of this cloud are kept.
#[derive(Debug, Clone)]
pub(super) struct Networks {
    names: PathBuf,
}

impl Networks {
    pub(super) fn new(names: PathBuf) -> Self {
        Self { names }
    }

    /// Makes the namespace of a container and connects it.
    pub(super) fn connect(
        &self,
        bundle: &Path,
        container: &str,
        network: &Network,
    ) -> Result<(), ContainerError> {
        let request = request::of(container, network);
        let path = bundle.join(REQUEST);
        fs::write(&path, &request).map_err(at(path))?;
        make_namespace(&namespace(bundle))?;
        self.netavark("setup", bundle, &request, Some(network.gateway))?;
        files(bundle, container, network)
    }

    /// That a container has a network, which another one is to share.
    pub(super) fn expect(&self, bundle: &Path, container: &str) -> Result<(), ContainerError> {
        if is_namespace(&namespace(bundle)) {
            return Ok(());
        }
        let reason = format!("the container `{container}`, whose network it shares, has none any more");
        Err(ContainerError::Start { reason })
    }

    /// Takes down what [`connect`](Self::connect) may have made. Idempotent.
    pub(super) fn disconnect(&self, bundle: &Path) -> Result<(), ContainerError> {
        let path = bundle.join(REQUEST);
        let request = match fs::read(&path) {
            Ok(request) => request,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(at(path)(error)),
        };
        // Without a namespace there is no interface; after a restart of the machine there is nothing at all.
        if is_namespace(&namespace(bundle)) {
            if let Err(error) = self.netavark("teardown", bundle, &request, None) {
                // What it did not find is not there, and with the namespace the rest goes.
                tracing::debug!(%error, "a network was not taken down in order");
            }
            unmount(&namespace(bundle))?;
        }
        if let Some(container) = bundle.file_name().and_then(|name| name.to_str()) {
            let _lock = lock()?;
            names::forget(&self.names, container).map_err(at(&self.names))?;
        }
        fs::remove_file(&path).map_err(at(path))
    }

    /// `asks`: where names must be answered afterwards.
    fn netavark(
        &self,
        what: &str,
        bundle: &Path,
        request: &[u8],
        asks: Option<Ipv4Addr>,
    ) -> Result<(), ContainerError> {
        let netavark = tool::require("netavark", "netavark")?;
        let names = tool::require("aardvark-dns", "aardvark-dns")?;
        fs::create_dir_all(&self.names).map_err(at(&self.names))?;
        let failed = |reason: String| ContainerError::Start {
            reason: format!("the network cannot be made: {reason}"),
        };
        let _lock = lock()?;
        let mut child = Command::new(netavark)
            .env_clear()
            .env("PATH", super::program::PATH)
            .arg("--config")
            .arg(&self.names)
            .arg("--aardvark-binary")
            .arg(&names)
            .arg(what)
            .arg(namespace(bundle))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| failed(error.to_string()))?;
        if let Some(mut stdin) = child.stdin.take() {
            // It may have ended already, and then says why.
            let _ = stdin.write_all(request);
        }
        let done = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
        keep_apart()?;
        if !done.status.success() {
            return Err(failed(request::words(&done.stdout, &done.stderr)));
        }
        if let Some(gateway) = asks {
            names::ensure_answers(&self.names, &names, gateway).map_err(|error| failed(error.to_string()))?;
        }
        Ok(())
    }
}

/// The namespace of a container, by a path that the OCI runtime enters.
pub(super) fn namespace(bundle: &Path) -> PathBuf {
    bundle.join(NAMESPACE)
}

/// What a container with a network of its own finds as `/etc/resolv.conf` and `/etc/hosts`.
pub(super) fn file(bundle: &Path, name: &str) -> PathBuf {
    bundle.join(name)
}

fn files(bundle: &Path, container: &str, network: &Network) -> Result<(), ContainerError> {
    let resolv = format!("search dns.podman\nnameserver {}\noptions edns0\n", network.gateway);
    let hosts = format!(
        "127.0.0.1 localhost\n::1 localhost ip6-localhost\n{} {container}\n{} host.tandem.internal\n",
        network.address, network.gateway
    );
    for (name, text) in [("resolv.conf", resolv), ("hosts", hosts)] {
        let path = file(bundle, name);
        fs::write(&path, text).map_err(at(path))?;
    }
    Ok(())
}

/// Makes sure that the rules which keep networks apart are asked. `netavark` 1.4 takes the way to those of all networks
/// away when it takes down the last container of any. Called under the lock.
fn keep_apart() -> Result<(), ContainerError> {
    const RULES: &str = "NETAVARK_ISOLATION_1";
    let iptables = tool::require("iptables", "iptables")?;
    let succeeds = |arguments: &[&str]| {
        let mut command = Command::new(&iptables);
        command.env_clear().env("PATH", super::program::PATH).arg("-w").args(arguments);
        let done = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        done.is_ok_and(|status| status.success())
    };
    let is_asked = !succeeds(&["-n", "-L", RULES]) || succeeds(&["-C", "FORWARD", "-j", RULES]) || {
        // Before what lets them through.
        succeeds(&["-I", "FORWARD", "-j", RULES])
    };
    match is_asked {
        true => Ok(()),
        false => {
            Err(ContainerError::Start { reason: "networks cannot be kept apart: see `iptables -S`".into() })
        }
    }
}

fn lock() -> Result<File, ContainerError> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(LOCK).map_err(at(LOCK))?;
    flock(&file, FlockOperation::LockExclusive).map_err(|errno| at(LOCK)(errno.into()))?;
    Ok(file)
}

/// A new network namespace that lives by a mount at `path`. Made on a thread of its own, which then ends: a namespace
/// belongs to a thread.
fn make_namespace(path: &Path) -> Result<(), ContainerError> {
    File::create(path).map_err(at(path))?;
    let target = path.to_owned();
    let made = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET)?;
        mount(Some("/proc/thread-self/ns/net"), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
    });
    match made.join() {
        Ok(made) => made.map_err(|errno| at(path)(errno.into())),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Whether the namespace is mounted there: an ordinary file is what is left of it.
fn is_namespace(path: &Path) -> bool {
    const NSFS: nix::sys::statfs::FsType = nix::sys::statfs::FsType(0x6e73_6673);
    nix::sys::statfs::statfs(path).is_ok_and(|found| found.filesystem_type() == NSFS)
}

fn unmount(path: &Path) -> Result<(), ContainerError> {
    match umount2(path, MntFlags::MNT_DETACH) {
        Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => Ok(()),
        Err(errno) => Err(at(path)(errno.into())),
    }
}

#[cfg(test)]
mod tests;
