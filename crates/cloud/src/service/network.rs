//! The networks of stacks: which subnet, which addresses.
//!
//! A subnet is claimed on the machine by a file in `/run`, because several clouds may run there; the file is gone after a
//! restart of the machine, and so are the bridges. Addresses are taken while a container is there.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, OpenOptions},
    io::{self, Write},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use tandem_model::StackId;
use tandem_store::Store;

use super::{
    ServiceError,
    store::{self, Replica, StackNetwork},
};
use crate::home::Home;

/// One file a subnet that some cloud uses, with the path of its home.
const CLAIMS: &str = "/run/tandem/networks";
/// Subnets are `10.200.0.0/24` to `10.215.255.0/24`: a range that few networks use.
const SECONDS: std::ops::Range<u16> = 200..216;

pub(super) struct Networks {
    store: Arc<dyn Store>,
    home: Home,
    known: tokio::sync::Mutex<HashMap<StackId, StackNetwork>>,
    taken: Arc<Mutex<HashSet<Ipv4Addr>>>,
}

/// An address that nobody else gets until this is dropped.
#[derive(Debug)]
pub(super) struct Address {
    pub(super) address: Ipv4Addr,
    taken: Arc<Mutex<HashSet<Ipv4Addr>>>,
}

impl Drop for Address {
    fn drop(&mut self) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.address);
    }
}

impl Networks {
    pub(super) fn new(home: Home, store: Arc<dyn Store>) -> Self {
        Self { store, home, known: tokio::sync::Mutex::default(), taken: Arc::default() }
    }

    /// The stack's network, chosen at the first call.
    pub(super) async fn of(&self, stack: &StackId) -> Result<StackNetwork, ServiceError> {
        let mut known = self.known.lock().await;
        if let Some(network) = known.get(stack) {
            return Ok(network.clone());
        }
        let recorded = store::network(&*self.store.snapshot()?, stack)?;
        let kept = recorded.filter(|network| matches!(self.claim(network), Ok(true)));
        let network = match kept {
            Some(network) => network,
            None => {
                let network = self.choose()?;
                self.store.commit(store::put_network(stack, Some(&network))).await?;
                network
            }
        };
        known.insert(stack.clone(), network.clone());
        Ok(network)
    }

    /// Gives the stack's network back, once nothing is on it.
    pub(super) async fn release(&self, stack: &StackId) -> Result<(), ServiceError> {
        let mut known = self.known.lock().await;
        let recorded = store::network(&*self.store.snapshot()?, stack)?;
        if let Some(network) = recorded {
            self.store.commit(store::put_network(stack, None)).await?;
            let claim = claim_file(&network);
            if holder(&claim).is_some_and(|home| home == self.home.path())
                && let Err(error) = fs::remove_file(&claim)
            {
                tracing::warn!(%stack, %error, "cannot give a network back");
            }
        }
        known.remove(stack);
        Ok(())
    }

    /// The lowest address that is free.
    pub(super) fn take(&self, network: &StackNetwork) -> Result<Address, ServiceError> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let free = (2..=254).map(|last| network.host(last)).find(|address| !taken.contains(address));
        let address = free.ok_or(ServiceError::NoAddress)?;
        taken.insert(address);
        Ok(Address { address, taken: self.taken.clone() })
    }

    /// The address of a replica that is there already.
    pub(super) fn retake(&self, replica: &Replica) -> Address {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).insert(replica.address);
        Address { address: replica.address, taken: self.taken.clone() }
    }

    fn choose(&self) -> Result<StackNetwork, ServiceError> {
        let used = routes().unwrap_or_default();
        let all = SECONDS.len() * 256;
        // Clouds that begin at the same moment begin at different places.
        let first = (uuid::Uuid::new_v4().as_u128() % all as u128) as usize;
        for n in 0..all {
            let n = (first + n) % all;
            let (Ok(second), Ok(third)) =
                (u8::try_from(usize::from(SECONDS.start) + n / 256), u8::try_from(n % 256))
            else {
                continue;
            };
            let network = StackNetwork { second, third };
            let free = !used.iter().any(|(to, mask)| overlaps(*to, *mask, &network));
            if free && self.claim(&network)? {
                return Ok(network);
            }
        }
        Err(ServiceError::NoNetwork)
    }

    /// Whether the subnet is this cloud's now.
    fn claim(&self, network: &StackNetwork) -> Result<bool, ServiceError> {
        let path = claim_file(network);
        let at = |source| ServiceError::Io { path: path.display().to_string(), source };
        fs::create_dir_all(CLAIMS).map_err(at)?;
        for _ in 0..2 {
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(mut file) => {
                    file.write_all(self.home.path().as_os_str().as_encoded_bytes()).map_err(at)?;
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match holder(&path) {
                    Some(home) if home == self.home.path() => return Ok(true),
                    Some(home) if home.exists() => return Ok(false),
                    // Of a cloud whose folder is gone.
                    _ => fs::remove_file(&path).map_err(at)?,
                },
                Err(error) => return Err(at(error)),
            }
        }
        Ok(false)
    }
}

fn claim_file(network: &StackNetwork) -> PathBuf {
    Path::new(CLAIMS).join(format!("{}.{}", network.second, network.third))
}

fn holder(claim: &Path) -> Option<PathBuf> {
    fs::read_to_string(claim).ok().map(PathBuf::from)
}

/// Where the machine's routes lead: destination and mask.
fn routes() -> io::Result<Vec<(u32, u32)>> {
    let table = fs::read_to_string("/proc/net/route")?;
    let number = |hex: &str| u32::from_str_radix(hex, 16).ok().map(u32::swap_bytes);
    let route = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        Some((number(columns.get(1)?)?, number(columns.get(7)?)?))
    };
    // A default route leads everywhere and is in nobody's way.
    Ok(table.lines().skip(1).filter_map(route).filter(|(_, mask)| *mask != 0).collect())
}

fn overlaps(to: u32, mask: u32, network: &StackNetwork) -> bool {
    const OURS: u32 = 0xffff_ff00;
    let mask = mask & OURS;
    u32::from(network.host(0)) & mask == to & mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_that_a_route_leads_to_is_in_use() {
        let network = StackNetwork { second: 201, third: 7 };
        let address = |text: &str| u32::from(text.parse::<Ipv4Addr>().unwrap());
        for (to, mask, expected) in [
            ("10.201.7.0", "255.255.255.0", true),
            ("10.201.0.0", "255.255.0.0", true),
            ("10.201.7.128", "255.255.255.128", true),
            ("10.201.8.0", "255.255.255.0", false),
            ("192.168.0.0", "255.255.0.0", false),
        ] {
            assert_eq!(overlaps(address(to), address(mask), &network), expected, "{to}/{mask}");
        }
    }
}
