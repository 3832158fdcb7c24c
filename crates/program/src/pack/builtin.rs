//! The modules that the host brings along.

/// What a specifier names, if it names a module of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Builtin {
    /// The embedded host has it.
    Here,
    /// Node has it; the embedded host has not.
    NodeOnly,
}

/// The SDK, under each of its names.
const SDK: [&str; 3] = ["@tandem/cloud", "@pulumi/cloud", "@pulumi/pulumi"];

const HERE: [&str; 23] = [
    "assert",
    "buffer",
    "child_process",
    "console",
    "crypto",
    "dgram",
    "dns",
    "events",
    "fs",
    "fs/promises",
    "https",
    "net",
    "os",
    "path",
    "perf_hooks",
    "process",
    "stream/web",
    "string_decoder",
    "timers",
    "tty",
    "url",
    "util",
    "zlib",
];

const NODE_ONLY: [&str; 35] = [
    "assert/strict",
    "async_hooks",
    "cluster",
    "constants",
    "diagnostics_channel",
    "dns/promises",
    "domain",
    "http",
    "http2",
    "inspector",
    "inspector/promises",
    "module",
    "path/posix",
    "path/win32",
    "punycode",
    "querystring",
    "readline",
    "readline/promises",
    "repl",
    "sea",
    "sqlite",
    "stream",
    "stream/consumers",
    "stream/promises",
    "sys",
    "test",
    "test/reporters",
    "timers/promises",
    "tls",
    "trace_events",
    "util/types",
    "v8",
    "vm",
    "wasi",
    "worker_threads",
];

pub(super) fn find(specifier: &str) -> Option<Builtin> {
    let name = specifier.strip_prefix("node:").unwrap_or(specifier);
    if SDK.contains(&specifier) || HERE.contains(&name) {
        return Some(Builtin::Here);
    }
    (NODE_ONLY.contains(&name) || specifier.starts_with("node:")).then_some(Builtin::NodeOnly)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sdk_and_nodes_modules_are_told_from_packages() {
        assert_eq!(find("@pulumi/cloud"), Some(Builtin::Here));
        assert_eq!(find("node:fs"), Some(Builtin::Here));
        assert_eq!(find("fs/promises"), Some(Builtin::Here));
        assert_eq!(find("node:nothing"), Some(Builtin::NodeOnly));
        assert_eq!(find("http"), Some(Builtin::NodeOnly));
        assert_eq!(find("left-pad"), None);
    }
}
