//! The modules that the host brings along.

/// What a specifier names, if it names a module of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Builtin {
    /// The embedded host has it.
    Here,
    /// Node has it; the embedded host has not.
    NodeOnly,
}

/// What else Node has.
const NODE_ONLY: [&str; 33] = [
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
    "tls",
    "trace_events",
    "util/types",
    "v8",
    "vm",
    "wasi",
    "worker_threads",
];

pub(super) fn find(specifier: &str) -> Option<Builtin> {
    if tandem_js::is_builtin(specifier) {
        return Some(Builtin::Here);
    }
    (NODE_ONLY.contains(&specifier) || specifier.starts_with("node:")).then_some(Builtin::NodeOnly)
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
