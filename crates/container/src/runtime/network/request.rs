//! What `netavark` is told (its "network options", as Podman writes them), and what it says.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::Network;

/// The container's interface on its network, as everybody calls it.
const INTERFACE: &str = "eth0";

pub(super) fn of(container: &str, network: &Network) -> Vec<u8> {
    let id = data_encoding::HEXLOWER.encode(&Sha256::digest(network.bridge.as_bytes()));
    let request = json!({
        "container_id": container,
        "container_name": container,
        "networks": {
            network.bridge.as_str(): {
                "interface_name": INTERFACE,
                "static_ips": [network.address],
                "aliases": network.aliases,
            },
        },
        "network_info": {
            network.bridge.as_str(): {
                "name": network.bridge,
                "id": id,
                "driver": "bridge",
                "network_interface": network.bridge,
                "subnets": [{ "subnet": network.subnet, "gateway": network.gateway }],
                "internal": false,
                "ipv6_enabled": false,
                "dns_enabled": true,
                // No packet from one bridge to another.
                "options": { "isolate": "true" },
                "ipam_options": { "driver": "host-local" },
            },
        },
    });
    request.to_string().into_bytes()
}

/// Its complaint: JSON on stdout, or text on stderr.
pub(super) fn words(stdout: &[u8], stderr: &[u8]) -> String {
    let told: Option<Value> = serde_json::from_slice(stdout).ok();
    match told.as_ref().and_then(|told| told["error"].as_str()) {
        Some(error) => error.to_owned(),
        None => crate::tool::words(&String::from_utf8_lossy(stderr)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_is_found_wherever_it_is_written() {
        assert_eq!(words(br#"{"error":"no such device"}"#, b""), "no such device");
        assert_eq!(words(b"", b"Error: bad thing\n"), "bad thing");
    }
}
