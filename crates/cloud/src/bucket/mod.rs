//! Buckets: objects under keys, over Amazon S3's protocol and for programs directly.
//!
//! Who owns it: the rows named in [`store`] are written here and nowhere else; bodies above 32 KiB are blobs. What an
//! object is changes by one commit, which also writes the deliveries of its event (I1, I2), under the preconditions that
//! the bucket is open and that the object is what was read. A body is durable before the commit that refers to it, and
//! deleted after the commit that no longer does. What a restart finds at each gap:
//!
//! | killed | found | the start |
//! |---|---|---|
//! | while a body arrives, or before the commit | a blob that nothing refers to | sweeps it |
//! | after the commit, before the answer | the object and its event's deliveries | delivers; the client puts again |
//! | after the commit, before the former body is deleted | a blob that nothing refers to | sweeps it |
//! | after the commit of a setting, before the answer | the setting | the client sets it again |
//! | while a bucket is emptied to be deleted | a bucket with fewer objects, [closing](store::CLOSING) | opens it again; a repeated deletion goes on |
//!
//! In a versioned bucket the same commit keeps what it replaces, which then is no longer the current version; see
//! [`history`].
//!
//! A completed multipart upload leaves its answer behind, so a client that asks again gets the same one, and the event
//! happens once.
//!
//! Start at [`Buckets`]; the protocol is in [`http`], the resource in [`service`](self).

mod announce;
mod change;
mod checksum;
mod copy;
mod cors;
mod delete;
mod error;
mod hashing;
mod history;
pub mod http;
mod known;
mod lease;
mod lifecycle;
mod list;
mod made;
mod multipart;
mod notification;
mod object_tags;
mod provider;
mod put;
mod read;
mod receive;
mod settings;
mod store;
mod sweep;
mod tagging;
mod tags;
mod uploads;
mod version;
mod versions;

use std::sync::Arc;

use tandem_model::{Kind, PhysicalId, Urn, resource::Recorded};
use tandem_store::{Blobs, Store};

use crate::{dispatch::Outbox, endpoint::Endpoint, resource::Resources};
use known::Known;
use lease::Leases;

pub use checksum::{Algorithm, Checksum};
pub use copy::{Replaced, Source};
pub use delete::{Deleted, Deletion, Only};
pub use error::BucketError;
pub use lease::Hold;
pub use lifecycle::{Expired, run as run_lifecycle};
pub use list::{Page, Query};
pub use made::is_made;
pub use multipart::PartClaim;
pub use put::{Condition, Means, PutOptions};
pub use read::{BodyStream, Found, Seen};
pub use receive::Claims;
pub use store::{Body, Description, Marker, Object, Part, Piece, Upload, Version};
pub(crate) use sweep::references;
pub use tags::Tags;
pub use uploads::{Listed, UploadPage, UploadQuery};
pub use version::{Sequence, Stamp, VersionId, Versioning};
pub use versions::{ListedVersion, VersionPage, VersionQuery};

/// All buckets of the cloud. Who may reach which is for the caller to check.
#[derive(Debug)]
pub struct Buckets {
    store: Arc<dyn Store>,
    blobs: Arc<dyn Blobs>,
    outbox: Arc<Outbox>,
    resources: Arc<Resources>,
    endpoint: Endpoint,
    leases: Leases,
    known: Known,
}

impl Buckets {
    pub fn new(
        store: Arc<dyn Store>,
        blobs: Arc<dyn Blobs>,
        outbox: Arc<Outbox>,
        resources: Arc<Resources>,
        endpoint: Endpoint,
    ) -> Self {
        let leases = Leases::new(blobs.clone());
        Self { store, blobs, outbox, resources, endpoint, leases, known: Known::default() }
    }

    /// The deployed bucket of that name.
    pub fn find(&self, bucket: &str) -> Option<Arc<Recorded>> {
        self.resources.by_id(Kind::Bucket, &PhysicalId(bucket.to_owned()))
    }

    /// Keeps every body that anything refers to from now on, until dropped, whatever is deleted meanwhile.
    pub fn hold(&self) -> Hold {
        self.leases.hold()
    }

    fn require(&self, bucket: &str) -> Result<Arc<Recorded>, BucketError> {
        self.find(bucket).ok_or_else(|| BucketError::NoSuchBucket { bucket: bucket.to_owned() })
    }

    /// The source of the bucket's events.
    fn urn(&self, bucket: &str) -> Result<Urn, BucketError> {
        Ok(self.require(bucket)?.urn.clone())
    }
}

#[cfg(test)]
mod tests;
