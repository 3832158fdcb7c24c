//! `setup`: installs what building, running and testing need. Says what, asks nothing; fast when nothing is missing.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{process, tree};

pub(crate) const HELP: &str = "\
usage: cargo xtask setup

Installs what the other chores need and is not there: Debian packages, cargo-nextest, and a Python
environment in target/py with pinned stock clients (boto3, the AWS CLI, the Lambda runtime client), and
the AWS SDK for JavaScript and the published durable-functions in target/js. Changes nothing when nothing is missing.
";

/// A Debian package and a program by which its presence is known on systems without dpkg.
pub(crate) struct Package {
    pub(crate) name: &'static str,
    pub(crate) program: &'static str,
    pub(crate) reason: &'static str,
}

const PACKAGES: &[Package] = &[
    Package { name: "build-essential", program: "cc", reason: "compiles QuickJS" },
    Package { name: "cmake", program: "cmake", reason: "compiles parts of the JavaScript runtime" },
    Package { name: "buildah", program: "buildah", reason: "builds images" },
    Package { name: "runc", program: "runc", reason: "runs containers" },
    Package { name: "conmon", program: "conmon", reason: "watches over containers" },
    Package {
        name: "netavark",
        program: "/usr/lib/podman/netavark",
        reason: "connects services to networks",
    },
    Package {
        name: "aardvark-dns",
        program: "/usr/lib/podman/aardvark-dns",
        reason: "answers names in networks",
    },
    Package { name: "iptables", program: "iptables", reason: "keeps networks apart" },
    Package { name: "busybox-static", program: "busybox", reason: "is the small base image of tests" },
    Package { name: "mmdebstrap", program: "mmdebstrap", reason: "makes base images" },
    Package {
        name: "ffmpeg",
        program: "ffmpeg",

        reason: "makes the example's video and checks its thumbnail",
    },
    Package { name: "python3-venv", program: "python3", reason: "runs stock S3 clients" },
    Package { name: "rclone", program: "rclone", reason: "is a stock S3 client" },
    Package { name: "skopeo", program: "skopeo", reason: "is a stock client of registries" },
    Package { name: "s3cmd", program: "s3cmd", reason: "is a stock S3 client" },
];

/// Node.js will do wherever it comes from, so these are missing only if their programs are.
const NODE: &[Package] = &[
    Package { name: "nodejs", program: "node", reason: "runs the AWS SDK for JavaScript" },
    Package { name: "npm", program: "npm", reason: "installs the AWS SDK for JavaScript" },
];

/// The stock clients. Their checksum and signing behaviour changes between releases, so they are pinned.
const CLIENTS: &[&str] = &["boto3==1.43.11", "awscli==1.46.3", "awslambdaric==4.2.2"];

/// The last boto3 that speaks the Query protocol of SQS, for a folder of its own beside the others.
const OLD_CLIENTS: &[&str] = &["boto3==1.28.79", "botocore==1.31.79"];

/// The AWS SDK for JavaScript; of the releases that run on Debian's Node.js. And the `durable-functions` that ours is
/// compared with, both of them under names of their own. And the compiler that checks the typings.
const NODE_CLIENTS: &[&str] = &[
    "@aws-sdk/client-s3@3.850.0",
    "@aws-sdk/client-sqs@3.848.0",
    "@aws-sdk/lib-storage@3.850.0",
    "@aws-sdk/s3-presigned-post@3.850.0",
    "@aws-sdk/s3-request-presigner@3.850.0",
    "durable-functions-1@npm:durable-functions@1.5.4",
    "durable-functions-2@npm:durable-functions@2.1.3",
    "typescript@5.9.3",
];

const NEXTEST: &str = "0.9.143";

pub(crate) fn main(_arguments: &[String]) -> Result<()> {
    ensure()?;
    eprintln!("everything is installed");
    Ok(())
}

/// Installs what is missing.
pub(crate) fn ensure() -> Result<()> {
    let node = NODE.iter().filter(|p| !on_path(p.program));
    install(&missing(PACKAGES).into_iter().chain(node).collect::<Vec<_>>())?;
    nextest()?;
    clients()?;
    old_clients()?;
    node_clients()
}

/// Installs those that are missing.
pub(crate) fn packages(wanted: &[Package]) -> Result<()> {
    install(&missing(wanted))
}

fn missing(wanted: &[Package]) -> Vec<&Package> {
    if process::succeeds(Command::new("dpkg-query").arg("--version")) {
        let installed = installed_packages(wanted);
        wanted.iter().filter(|p| !installed.iter().any(|name| name == p.name)).collect()
    } else {
        wanted.iter().filter(|p| !on_path(p.program)).collect()
    }
}

fn install(missing: &[&Package]) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|p| p.name).collect();
    if !on_path("apt-get") {
        bail!("these are missing, and there is no apt-get to install them: {}", names.join(", "));
    }
    if !is_root()? {
        bail!("packages are missing; install them as root: apt-get install {}", names.join(" "));
    }
    eprintln!("installing Debian packages:");
    for package in missing {
        eprintln!("  {:<16} {}", package.name, package.reason);
    }
    process::timed("apt-get update", || {
        process::output(Command::new("apt-get").args(["-q", "update"])).map(drop)
    })?;
    let mut install = Command::new("apt-get");
    install.env("DEBIAN_FRONTEND", "noninteractive");
    install.args(["-q", "install", "-y", "--no-install-recommends"]).args(&names);
    process::timed(&format!("apt-get install {}", names.join(" ")), || {
        process::output(&mut install).map(drop)
    })
}

fn installed_packages(wanted: &[Package]) -> Vec<String> {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat", "${db:Status-Status} ${Package}\n"]);
    query.args(wanted.iter().map(|p| p.name));
    // It exits with 1 when any of the names is unknown, and still lists the others.
    let listed = query.output().map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    listed.lines().filter_map(|line| line.strip_prefix("installed ")).map(str::to_owned).collect()
}

pub(crate) fn on_path(program: &str) -> bool {
    let folders = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&folders).any(|folder| folder.join(program).is_file())
}

pub(crate) fn is_root() -> Result<bool> {
    Ok(process::output(Command::new("id").arg("-u"))?.trim() == "0")
}

fn nextest() -> Result<()> {
    if process::succeeds(Command::new(tree::cargo()).args(["nextest", "--version"])) {
        return Ok(());
    }
    let mut install = Command::new(tree::cargo());
    install.args(["install", "--locked", "--version", NEXTEST, "cargo-nextest"]);
    process::timed("installing cargo-nextest (it is compiled: some minutes)", || process::run(&mut install))
}

fn environment() -> Result<PathBuf> {
    Ok(tree::target()?.join("py"))
}

/// The Python that has the stock clients.
pub(crate) fn python() -> Result<PathBuf> {
    Ok(environment()?.join("bin/python"))
}

/// The stock AWS CLI.
pub(crate) fn aws() -> Result<PathBuf> {
    Ok(environment()?.join("bin/aws"))
}

fn clients() -> Result<()> {
    let folder = environment()?;
    let marker = folder.join("pinned");
    let wanted = CLIENTS.join("\n");
    if tree::marker(&marker) == wanted {
        return Ok(());
    }
    process::timed(&format!("installing {} into {}", CLIENTS.join(", "), folder.display()), || {
        make_environment(&folder)?;
        let mut install = Command::new(folder.join("bin/python"));
        install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(CLIENTS);
        process::output(&mut install)?;
        // Written last: an interrupted installation is begun again.
        tree::write(&marker, &wanted)
    })
}

fn old_clients() -> Result<()> {
    let folder = environment()?.join("query");
    let marker = folder.join("pinned");
    let wanted = OLD_CLIENTS.join("\n");
    if tree::marker(&marker) == wanted {
        return Ok(());
    }
    process::timed(&format!("installing {} into {}", OLD_CLIENTS.join(", "), folder.display()), || {
        let mut install = Command::new(python()?);
        install.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--upgrade",
            "--target",
        ]);
        process::output(install.arg(&folder).args(OLD_CLIENTS))?;
        tree::write(&marker, &wanted)
    })
}

/// Where the packages of the AWS SDK for JavaScript are.
pub(crate) fn node_packages() -> Result<PathBuf> {
    Ok(tree::target()?.join("js"))
}

fn node_clients() -> Result<()> {
    let folder = node_packages()?;
    let marker = folder.join("pinned");
    let wanted = NODE_CLIENTS.join("\n");
    if tree::marker(&marker) == wanted {
        return Ok(());
    }
    process::timed(&format!("installing {} into {}", NODE_CLIENTS.join(", "), folder.display()), || {
        // What belongs to no package of its own would go to the next folder above that does.
        tree::create_folder(&folder)?;
        tree::write(&folder.join("package.json"), "{ \"private\": true }\n")?;
        let mut install = Command::new("npm");
        install.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--save-exact", "--prefix"]);
        process::output(install.arg(&folder).args(NODE_CLIENTS))?;
        tree::write(&marker, &wanted)
    })
}

fn make_environment(folder: &Path) -> Result<()> {
    let pythons = ["/usr/bin/python3", "python3"];
    let make =
        |python: &str| process::output(Command::new(python).args(["-m", "venv", "--clear"]).arg(folder));
    let mut last = None;
    for python in pythons {
        match make(python) {
            Ok(_) => return Ok(()),
            Err(error) => last = Some(error),
        }
    }
    last.map_or(Ok(()), Err).context("no Python can make a virtual environment")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_on_the_path_only() {
        assert!(on_path("sh"));
        assert!(!on_path("no-such-program-anywhere"));
    }
}
