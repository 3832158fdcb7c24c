//! Versions: whether a bucket keeps them, and which there are.

use s3s::{S3Request, S3Response, dto::*, s3_error};

use super::{
    Answer, Wire,
    error::{unsupported, wire},
    input::{checksum_type, etag, size, version, wire_time},
    listing::{Encoding, owner, page_size},
};
use crate::bucket::{ListedVersion, Version, VersionQuery, Versioning};

impl Wire {
    pub(super) async fn put_versioning(
        &self,
        req: S3Request<PutBucketVersioningInput>,
    ) -> Answer<PutBucketVersioningOutput> {
        let PutBucketVersioningInput { bucket, mfa, versioning_configuration: asked, .. } = req.input;
        let mfa_delete = asked.mfa_delete.is_some_and(|mfa| mfa.as_str() == MFADelete::ENABLED);
        unsupported(&[("x-amz-mfa", mfa.is_some()), ("MfaDelete", mfa_delete)])?;
        let versioning = match asked.status.as_ref().map(|status| status.as_str()) {
            Some(BucketVersioningStatus::ENABLED) => Versioning::Enabled,
            Some(BucketVersioningStatus::SUSPENDED) => Versioning::Suspended,
            other => {
                let other = other.unwrap_or_default();
                return Err(s3_error!(MalformedXML, "a Status is `Enabled` or `Suspended`, not `{other}`"));
            }
        };
        self.buckets.put_setting(&bucket, &versioning).await.map_err(wire)?;
        Ok(S3Response::new(PutBucketVersioningOutput::default()))
    }

    pub(super) fn get_versioning(&self, bucket: &str) -> Answer<GetBucketVersioningOutput> {
        let status = match self.buckets.setting::<Versioning>(bucket).map_err(wire)? {
            // Nothing stands for never enabled.
            None | Some(Versioning::Never) => None,
            Some(Versioning::Enabled) => Some(BucketVersioningStatus::ENABLED),
            Some(Versioning::Suspended) => Some(BucketVersioningStatus::SUSPENDED),
        };
        Ok(S3Response::new(GetBucketVersioningOutput {
            status: status.map(BucketVersioningStatus::from_static),
            ..GetBucketVersioningOutput::default()
        }))
    }

    pub(super) fn list_versions(&self, input: ListObjectVersionsInput) -> Answer<ListObjectVersionsOutput> {
        let encoding = Encoding::of(input.encoding_type.as_ref())?;
        let key_marker = input.key_marker.clone().filter(|marker| !marker.is_empty());
        let version_marker = version(input.version_id_marker.as_deref().filter(|marker| !marker.is_empty()))?;
        if version_marker.is_some() && key_marker.is_none() {
            return Err(s3_error!(InvalidArgument, "a version-id-marker comes with a key-marker"));
        }
        let query = VersionQuery {
            prefix: input.prefix.clone().unwrap_or_default(),
            delimiter: input.delimiter.clone().unwrap_or_default(),
            after: key_marker.map(|key| (key, version_marker)),
            limit: page_size(input.max_keys)?,
        };
        let page = self.buckets.list_versions(&input.bucket, &query).map_err(wire)?;
        let (mut versions, mut markers) = (Vec::new(), Vec::new());
        for listed in &page.versions {
            let ListedVersion { key, version, latest, .. } = listed;
            let (key, version_id) = (Some(encoding.write(key)), Some(version.version_id().to_string()));
            match version {
                Version::Object(object) => versions.push(ObjectVersion {
                    checksum_algorithm: Some(vec![ChecksumAlgorithm::from_static(
                        object.checksum.algorithm.name(),
                    )]),
                    checksum_type: Some(checksum_type(&object.checksum)),
                    e_tag: Some(etag(&object.etag)),
                    is_latest: Some(*latest),
                    key,
                    last_modified: Some(wire_time(object.modified)),
                    owner: Some(owner()),
                    size: Some(size(object.size)),
                    storage_class: Some(ObjectVersionStorageClass::from_static(
                        ObjectVersionStorageClass::STANDARD,
                    )),
                    version_id,
                    ..ObjectVersion::default()
                }),
                Version::Marker(marker) => markers.push(DeleteMarkerEntry {
                    is_latest: Some(*latest),
                    key,
                    last_modified: Some(wire_time(marker.modified)),
                    owner: Some(owner()),
                    version_id,
                }),
            }
        }
        let prefix = |prefix: &String| CommonPrefix { prefix: Some(encoding.write(prefix)) };
        let (next_key, next_version) = page.next.unzip();
        Ok(S3Response::new(ListObjectVersionsOutput {
            common_prefixes: Some(page.prefixes.iter().map(prefix).collect()),
            delete_markers: Some(markers),
            delimiter: input.delimiter.map(|delimiter| encoding.write(&delimiter)),
            encoding_type: input.encoding_type,
            is_truncated: Some(next_key.is_some()),
            key_marker: Some(encoding.write(&input.key_marker.unwrap_or_default())),
            max_keys: i32::try_from(query.limit).ok(),
            name: Some(input.bucket),
            next_key_marker: next_key.map(|key| encoding.write(&key)),
            next_version_id_marker: next_version.flatten().map(|version| version.to_string()),
            prefix: Some(encoding.write(&query.prefix)),
            version_id_marker: Some(input.version_id_marker.unwrap_or_default()),
            versions: Some(versions),
            ..ListObjectVersionsOutput::default()
        }))
    }
}
