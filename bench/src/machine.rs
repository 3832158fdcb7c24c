//! What was measured on, and which versions.

use std::{fs, process::Command};

use anyhow::Result;

use crate::cloud;

pub(crate) fn describe() -> Result<String> {
    let file = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let after = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let processors = file("/proc/cpuinfo");
    let count = processors.lines().filter(|line| line.starts_with("processor")).count();
    let model = after(&processors, "model name").unwrap_or_else(|| "unknown processor".to_owned());
    let memory = after(&file("/proc/meminfo"), "MemTotal").unwrap_or_default();
    let memory: f64 = memory.trim_end_matches(" kB").parse().unwrap_or_default();
    let kernel = file("/proc/sys/kernel/osrelease");
    let version = |program: &str| {
        let output = Command::new(program).arg("--version").output();
        let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
        text.lines().next().unwrap_or("not installed").to_owned()
    };
    let tandem = version(&cloud::binary()?.display().to_string());
    Ok(format!(
        "{count} × {model}, {:.0} GiB, Linux {}\n{tandem}, {}, {}\n",
        memory / 1024.0 / 1024.0,
        kernel.trim(),
        version("runc"),
        version("conmon"),
    ))
}
