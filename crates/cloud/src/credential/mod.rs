//! Credentials: who a request comes from, and what it may reach (I8).
//!
//! Nothing but one root key is stored. The access key id of a principal is derived from the root key and the principal,
//! and its secret from the root key, the access key id and an epoch; so a key pair is the same after every restart, is
//! in no state file, and ends with its principal. Deleting a function ends its key; raising `epoch` in the root key's
//! file and restarting ends all of them.
//!
//! The root key's file is written once, at the first start: written beside, synced, renamed, and its folder synced. A
//! crash before the rename leaves none, and the next start makes another; nothing was derived from the lost one.

mod root;

use std::{
    collections::HashMap,
    fmt,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use tandem_model::{Explain, Kind, StackId, Urn};

use crate::{home::Home, resource::Resources};
use root::RootKey;

/// Who makes a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Principal {
    /// A person who works on a stack: what `tandem env` gives.
    Operator { stack: StackId },
    /// A function or a task.
    Resource { urn: Urn },
}

impl Principal {
    pub fn stack(&self) -> &StackId {
        match self {
            Self::Operator { stack } => stack,
            Self::Resource { urn } => &urn.stack,
        }
    }

    /// Whether it may use the resource: those of its own stack, and no others.
    pub fn may_reach(&self, resource: &Urn) -> bool {
        *self.stack() == resource.stack
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator { stack } => write!(f, "operator {stack}"),
            Self::Resource { urn } => write!(f, "{urn}"),
        }
    }
}

/// Whose a pair of keys is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// The person who works with the images of the cloud, which are of no stack.
    Images,
    Principal(Principal),
}

/// What a client signs its requests with: `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// 20 upper-case letters and digits, as AWS's are.
    pub access_key_id: String,
    /// 40 characters of letters, digits, `-` and `_`.
    pub secret_access_key: String,
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPair").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

/// How much of a hash a secret is; 40 characters.
const SECRET_BYTES: usize = 30;

/// A root key that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum RootKeyError {
    #[error("cannot {action} the root key `{}`", path.display())]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error("the root key `{}` is not valid", path.display())]
    Damaged { path: PathBuf, source: serde_json::Error },
}

impl Explain for RootKeyError {
    fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "E0801",
            Self::Damaged { .. } => "E0802",
        }
    }

    fn help(&self) -> String {
        match self {
            Self::Io { path, .. } => format!("check space and permissions at `{}`", path.display()),
            Self::Damaged { path, .. } => {
                format!(
                    "restore `{}` from a backup, or remove it to get new keys for everything",
                    path.display()
                )
            }
        }
    }
}

/// Derives and recognises key pairs. The principals that exist are those of the deployed resources.
#[derive(Debug)]
pub struct Credentials {
    root: RootKey,
    resources: Arc<Resources>,
    /// By access key id, as far as they were asked for. Only a cache: what is not here is searched.
    known: RwLock<HashMap<String, Arc<Known>>>,
}

struct Known {
    principal: Principal,
    secret: String,
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Known").field("principal", &self.principal).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Reads the root key, or makes it at the first start.
    ///
    /// # Errors
    /// [`RootKeyError`] if the file cannot be read or written, or is not what was written.
    pub fn open(home: &Home, resources: Arc<Resources>) -> Result<Self, RootKeyError> {
        Ok(Self { root: root::open(&home.root_key())?, resources, known: RwLock::default() })
    }

    /// The key pair of a principal. The same each time, also after a restart.
    pub fn for_principal(&self, principal: &Principal) -> KeyPair {
        let access_key_id = self.access_key_id(principal);
        let secret_access_key = self.secret(&access_key_id);
        KeyPair { access_key_id, secret_access_key }
    }

    /// Whose access key id that is, and the secret that must have signed. `None` if it belongs to nobody who exists: a
    /// function or task that is deployed, or an operator of a stack that has resources.
    pub fn lookup(&self, access_key_id: &str) -> Option<(Principal, String)> {
        self.known(access_key_id).map(|known| (known.principal.clone(), known.secret.clone()))
    }

    /// As [`lookup`](Self::lookup), for a request whose signature has been verified.
    pub fn principal(&self, access_key_id: &str) -> Option<Principal> {
        self.known(access_key_id).map(|known| known.principal.clone())
    }

    /// The key pair for the images of the cloud. There from the first start on, before there is a stack.
    pub fn for_images(&self) -> KeyPair {
        let access_key_id = self.id_of("images");
        let secret_access_key = self.secret(&access_key_id);
        KeyPair { access_key_id, secret_access_key }
    }

    /// Whose the pair is, for protocols that send the secret itself. `None` if it is nobody's. Takes as long for a wrong
    /// secret as for the right one.
    pub fn holder(&self, access_key_id: &str, secret: &str) -> Option<Holder> {
        let secret = URL_SAFE_NO_PAD.decode(secret).ok().filter(|secret| secret.len() == SECRET_BYTES)?;
        let parts = ["secret access key", access_key_id, &self.root.epoch.to_string()];
        self.mac(&parts).verify_truncated_left(&secret).ok()?;
        if access_key_id == self.id_of("images") {
            return Some(Holder::Images);
        }
        self.principal(access_key_id).map(Holder::Principal)
    }

    fn known(&self, access_key_id: &str) -> Option<Arc<Known>> {
        let cached = self.known.read().unwrap_or_else(PoisonError::into_inner).get(access_key_id).cloned();
        let known = match cached {
            Some(known) => known,
            None => self.search(access_key_id)?,
        };
        self.exists(&known.principal).then_some(known)
    }

    fn exists(&self, principal: &Principal) -> bool {
        match principal {
            Principal::Operator { stack } => self.resources.has_stack(stack),
            Principal::Resource { urn } => self.resources.by_urn(urn).is_some(),
        }
    }

    /// Derives the ids of all principals that exist, which is cheap next to what a client does with one.
    fn search(&self, access_key_id: &str) -> Option<Arc<Known>> {
        let mut known = HashMap::new();
        let mut learn = |principal| {
            let KeyPair { access_key_id, secret_access_key: secret } = self.for_principal(&principal);
            known.insert(access_key_id, Arc::new(Known { principal, secret }));
        };
        for resource in self.resources.list(None) {
            learn(Principal::Operator { stack: resource.urn.stack.clone() });
            let kind = resource.urn.kind;
            if matches!(kind, Kind::Function | Kind::Workflow | Kind::Entity | Kind::Task | Kind::Service) {
                learn(Principal::Resource { urn: resource.urn.clone() });
            }
        }
        let found = known.get(access_key_id).cloned();
        if found.is_some() {
            *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
        }
        found
    }

    fn access_key_id(&self, principal: &Principal) -> String {
        // Each principal's words have a space or a colon, so none is like what else has an id.
        self.id_of(&principal.to_string())
    }

    fn id_of(&self, holder: &str) -> String {
        let hash = self.derive(&["access key id", holder]);
        let mut id = String::from("AKIA");
        // Base 32, 5 bits a letter, as AWS's own ids are written.
        id.extend(
            hash.iter()
                .take(16)
                .map(|byte| char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[usize::from(byte & 31)])),
        );
        id
    }

    fn secret(&self, access_key_id: &str) -> String {
        let hash = self.derive(&["secret access key", access_key_id, &self.root.epoch.to_string()]);
        URL_SAFE_NO_PAD.encode(&hash[..SECRET_BYTES])
    }

    fn derive(&self, parts: &[&str]) -> [u8; 32] {
        self.mac(parts).finalize().into_bytes().into()
    }

    fn mac(&self, parts: &[&str]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.root.key).expect("HMAC takes a key of any length");
        for part in parts {
            // With its length before each part, no two lists of parts read the same.
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        mac
    }
}

#[cfg(test)]
mod tests;
