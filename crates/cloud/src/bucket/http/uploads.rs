//! Uploads in parts.

use s3s::{S3Request, S3Response, S3Result, dto::*, s3_error};

use super::{
    Answer, Wire,
    copies::of_source,
    error::{unsupported, wire},
    input::{
        self, Declared, ReadConditions, body, checksum_type, condition, description, etag, size, traceparent,
        version_told, wire_time, with_checksum,
    },
    listing::{Encoding, owner, page_size},
    objects::check_supported,
    tagging::of_header,
};
use crate::bucket::{
    Algorithm, BucketError, Checksum, Claims, Object as Record, PartClaim, PutOptions, Upload, UploadQuery,
};

/// How an upload's parts are checked, and whether the object's checksum is over them.
fn checking(
    algorithm: Option<&ChecksumAlgorithm>,
    kind: Option<&ChecksumType>,
) -> S3Result<(Algorithm, bool)> {
    let chosen = input::algorithm(algorithm)?.unwrap_or(Algorithm::DEFAULT);
    let composite = match kind.map(|kind| kind.as_str()) {
        None => !chosen.whole_by_default(),
        Some(ChecksumType::COMPOSITE) if chosen.can_be_composite() => true,
        Some(ChecksumType::FULL_OBJECT) if chosen.can_be_whole() => false,
        Some(other) => {
            return Err(s3_error!(InvalidRequest, "{} cannot be of the type {other}", chosen.name()));
        }
    };
    Ok((chosen, composite))
}

/// The checksum that a completion or one of its parts gives.
macro_rules! given_checksum {
    ($from:expr) => {{
        let from = &$from;
        [
            (Algorithm::Crc32, &from.checksum_crc32),
            (Algorithm::Crc32c, &from.checksum_crc32c),
            (Algorithm::Crc64Nvme, &from.checksum_crc64nvme),
            (Algorithm::Sha1, &from.checksum_sha1),
            (Algorithm::Sha256, &from.checksum_sha256),
        ]
        .into_iter()
        .find_map(|(algorithm, value)| Some((algorithm, value.clone()?)))
    }};
}

impl Wire {
    pub(super) async fn begin_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> Answer<CreateMultipartUploadOutput> {
        let input = req.input;
        check_supported!(input)?;
        let (algorithm, composite) =
            checking(input.checksum_algorithm.as_ref(), input.checksum_type.as_ref())?;
        let upload = Upload {
            begun: jiff::Timestamp::now(),
            algorithm,
            composite,
            chosen: input.checksum_algorithm.is_some(),
            tags: of_header(input.tagging.as_deref())?,
            description: description!(input)?,
        };
        let id = self.buckets.begin_upload(&input.bucket, &input.key, &upload).await.map_err(wire)?;
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(id),
            checksum_algorithm: input.checksum_algorithm,
            checksum_type: upload.chosen.then(|| kind(composite)),
            ..CreateMultipartUploadOutput::default()
        }))
    }

    pub(super) async fn upload_part(&self, mut req: S3Request<UploadPartInput>) -> Answer<UploadPartOutput> {
        let declared = Declared::of(&req)?;
        let stream = body(req.input.body.take());
        let UploadPartInput { bucket, key, upload_id, part_number, sse_customer_algorithm, .. } = req.input;
        unsupported(&[("x-amz-server-side-encryption-customer-…", sse_customer_algorithm.is_some())])?;
        let upload = self.buckets.upload(&bucket, &key, &upload_id).map_err(wire)?;
        // Of parts that were announced without an algorithm any checksum is checked, and ours computed beside it.
        let mut algorithms = vec![upload.algorithm];
        if let Some(given) = declared.algorithm.filter(|given| *given != upload.algorithm) {
            if upload.chosen {
                return Err(wire(BucketError::PartAlgorithm { begun: upload.algorithm, given }));
            }
            algorithms.push(given);
        }
        let at = (&*bucket, &*key, &*upload_id);
        let part = self.buckets.put_part(at, part_number, stream, &algorithms, || declared.claims()).await;
        let part = part.map_err(wire)?;
        let mut output = UploadPartOutput { e_tag: Some(etag(&part.etag)), ..UploadPartOutput::default() };
        with_checksum!(output, &part.checksum);
        Ok(S3Response::new(output))
    }

    pub(super) async fn upload_part_copy(
        &self,
        req: S3Request<UploadPartCopyInput>,
    ) -> Answer<UploadPartCopyOutput> {
        let input = &req.input;
        let source = self.source(&req, &input.copy_source)?;
        let upload = self.buckets.upload(&input.bucket, &input.key, &input.upload_id).map_err(wire)?;
        let range = input.copy_source_range.as_deref().map(|range| {
            Range::parse(range).map_err(|_| s3_error!(InvalidArgument, "`{range}` is not a range"))
        });
        let range = range.transpose()?;
        let conditions = ReadConditions {
            if_match: input.copy_source_if_match.as_ref(),
            if_none_match: input.copy_source_if_none_match.as_ref(),
            if_modified_since: input.copy_source_if_modified_since.as_ref(),
            if_unmodified_since: input.copy_source_if_unmodified_since.as_ref(),
            of_a_copy: true,
        };
        let choose = |object: &Record| {
            conditions.judge(&object.etag, object.modified)?;
            match &range {
                None => Ok(0..object.size),
                Some(range) => range.check(object.size).map_err(|_| BucketError::Range { size: object.size }),
            }
        };
        let found = self.buckets.get_range(source.bucket, source.key, source.version, choose).await;
        let found = found.map_err(|error| of_source(source.version, error))?;
        let copy_source_version_id = found.version.map(|version| version.to_string());
        let claims = Claims { length: Some(found.range.end - found.range.start), ..Claims::default() };
        let at = (&*input.bucket, &*input.key, &*input.upload_id);
        let part = self
            .buckets
            .put_part(at, input.part_number, found.body, &[upload.algorithm], || Ok(claims))
            .await;
        let part = part.map_err(wire)?;
        let mut result = CopyPartResult {
            e_tag: Some(etag(&part.etag)),
            last_modified: Some(wire_time(part.modified)),
            ..CopyPartResult::default()
        };
        with_checksum!(result, &part.checksum);
        Ok(S3Response::new(UploadPartCopyOutput {
            copy_part_result: Some(result),
            copy_source_version_id,
            ..UploadPartCopyOutput::default()
        }))
    }

    pub(super) async fn complete_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> Answer<CompleteMultipartUploadOutput> {
        let input = &req.input;
        let parts =
            input.multipart_upload.as_ref().and_then(|upload| upload.parts.as_deref()).unwrap_or_default();
        let claim = |part: &CompletedPart| PartClaim {
            number: part.part_number.unwrap_or(0),
            etag: part.e_tag.as_ref().map(|etag| etag.value().to_owned()),
            checksum: given_checksum!(*part),
        };
        let claims: Vec<PartClaim> = parts.iter().map(claim).collect();
        let claimed =
            given_checksum!(*input).map(|(algorithm, value)| Checksum { algorithm, value, composite: false });
        let options = PutOptions {
            condition: condition(input.if_match.as_ref(), input.if_none_match.as_ref())?,
            traceparent: traceparent(&req.headers),
            ..PutOptions::default()
        };
        let at = (&*input.bucket, &*input.key, &*input.upload_id);
        let done =
            self.buckets.complete_upload(at, &claims, claimed.as_ref(), &options).await.map_err(wire)?;
        let mut output = CompleteMultipartUploadOutput {
            location: Some(format!(
                "{}/{}/{}",
                self.buckets.endpoint.url(),
                input.bucket,
                input::url_encode(&input.key)
            )),
            bucket: Some(input.bucket.clone()),
            key: Some(input.key.clone()),
            e_tag: Some(etag(&done.etag)),
            checksum_type: Some(checksum_type(&done.checksum)),
            version_id: version_told(done.version),
            ..CompleteMultipartUploadOutput::default()
        };
        with_checksum!(output, &done.checksum);
        Ok(S3Response::new(output))
    }

    pub(super) fn list_parts(&self, input: ListPartsInput) -> Answer<ListPartsOutput> {
        let limit = page_size(input.max_parts)?;
        let after = input.part_number_marker.unwrap_or(0);
        let from = u16::try_from(after).map_err(|_| s3_error!(InvalidArgument, "the marker is not valid"))?;
        let at = (&*input.bucket, &*input.key, &*input.upload_id);
        let upload = self.buckets.upload(at.0, at.1, at.2).map_err(wire)?;
        let (parts, more) = self.buckets.list_parts(at, from, limit).map_err(wire)?;
        let last = parts.last().map(|(number, _)| i32::from(*number));
        let part = |(number, part): &(u16, crate::bucket::Part)| {
            let mut output = Part {
                e_tag: Some(etag(&part.etag)),
                last_modified: Some(wire_time(part.modified)),
                part_number: Some(i32::from(*number)),
                size: Some(size(part.size)),
                ..Part::default()
            };
            if upload.chosen {
                with_checksum!(output, &part.checksum);
            }
            output
        };
        Ok(S3Response::new(ListPartsOutput {
            checksum_algorithm: upload
                .chosen
                .then(|| ChecksumAlgorithm::from_static(upload.algorithm.name())),
            checksum_type: upload.chosen.then(|| kind(upload.composite)),
            parts: Some(parts.iter().map(part).collect()),
            is_truncated: Some(more),
            max_parts: i32::try_from(limit).ok(),
            next_part_number_marker: last.filter(|_| more),
            part_number_marker: Some(after),
            owner: Some(owner()),
            storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            ..ListPartsOutput::default()
        }))
    }

    pub(super) fn list_uploads(
        &self,
        input: ListMultipartUploadsInput,
    ) -> Answer<ListMultipartUploadsOutput> {
        let encoding = Encoding::of(input.encoding_type.as_ref())?;
        let after = input.key_marker.clone().filter(|marker| !marker.is_empty());
        let after_id = input.upload_id_marker.clone().filter(|marker| !marker.is_empty());
        let query = UploadQuery {
            prefix: input.prefix.clone().unwrap_or_default(),
            delimiter: input.delimiter.clone().unwrap_or_default(),
            after: after.map(|key| (key, after_id)),
            limit: page_size(input.max_uploads)?,
        };
        let page = self.buckets.list_uploads(&input.bucket, &query).map_err(wire)?;
        let prefix = |prefix: &String| CommonPrefix { prefix: Some(encoding.write(prefix)) };
        let common_prefixes = page.prefixes.iter().map(prefix).collect();
        let (next_key, next_id) = page.next.unzip();
        let uploads = page.uploads.into_iter().map(|listed| MultipartUpload {
            checksum_algorithm: listed
                .upload
                .chosen
                .then(|| ChecksumAlgorithm::from_static(listed.upload.algorithm.name())),
            checksum_type: listed.upload.chosen.then(|| kind(listed.upload.composite)),
            initiated: Some(wire_time(listed.upload.begun)),
            key: Some(encoding.write(&listed.key)),
            owner: Some(owner()),
            storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
            upload_id: Some(listed.id),
            ..MultipartUpload::default()
        });
        Ok(S3Response::new(ListMultipartUploadsOutput {
            uploads: Some(uploads.collect()),
            common_prefixes: Some(common_prefixes),
            is_truncated: Some(next_key.is_some()),
            next_key_marker: next_key.map(|key| encoding.write(&key)),
            next_upload_id_marker: next_id.flatten(),
            max_uploads: i32::try_from(query.limit).ok(),
            prefix: Some(encoding.write(&query.prefix)),
            delimiter: input.delimiter.map(|delimiter| encoding.write(&delimiter)),
            key_marker: input.key_marker.map(|marker| encoding.write(&marker)),
            upload_id_marker: input.upload_id_marker,
            encoding_type: input.encoding_type,
            bucket: Some(input.bucket),
            ..ListMultipartUploadsOutput::default()
        }))
    }
}

fn kind(composite: bool) -> ChecksumType {
    ChecksumType::from_static(if composite { ChecksumType::COMPOSITE } else { ChecksumType::FULL_OBJECT })
}
