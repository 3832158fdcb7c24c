//! What is known of an object, as far as it is asked for.

use s3s::{S3Response, S3Result, dto::*, s3_error};

use super::{
    Answer, Wire,
    error::{unsupported, wire},
    input::{checksum_type, etag, size, version, wire_time, with_checksum},
    listing::page_size,
};
use crate::bucket::{Checksum as Sum, Object};

impl Wire {
    pub(super) fn attributes(&self, input: &GetObjectAttributesInput) -> Answer<GetObjectAttributesOutput> {
        unsupported(&[("x-amz-server-side-encryption-customer-…", input.sse_customer_algorithm.is_some())])?;
        let asked = version(input.version_id.as_deref())?;
        let mut output = GetObjectAttributesOutput::default();
        let seen = self.buckets.head_version(&input.bucket, &input.key, asked).map_err(wire)?;
        let object = &seen.object;
        // They come in one header with commas, in several headers, or both.
        let names = input.object_attributes.iter().flat_map(|names| names.as_str().split(','));
        for name in names.map(str::trim) {
            match name {
                ObjectAttributes::ETAG => output.e_tag = Some(etag(&object.etag)),
                ObjectAttributes::CHECKSUM => output.checksum = Some(checksum(&object.checksum)),
                ObjectAttributes::OBJECT_PARTS => {
                    output.object_parts = parts(object, input.part_number_marker, input.max_parts)?;
                }
                ObjectAttributes::OBJECT_SIZE => output.object_size = Some(size(object.size)),
                ObjectAttributes::STORAGE_CLASS => {
                    output.storage_class = Some(StorageClass::from_static(StorageClass::STANDARD));
                }
                other => {
                    return Err(s3_error!(
                        InvalidArgument,
                        "`{other}` is not an attribute: ETag, Checksum, ObjectParts, StorageClass, ObjectSize"
                    ));
                }
            }
        }
        output.last_modified = Some(wire_time(object.modified));
        output.version_id = seen.version.map(|version| version.to_string());
        Ok(S3Response::new(output))
    }
}

fn checksum(sum: &Sum) -> Checksum {
    let mut checksum = Checksum { checksum_type: Some(checksum_type(sum)), ..Checksum::default() };
    with_checksum!(checksum, sum);
    checksum
}

/// Nothing of an object that was not uploaded in parts.
fn parts(
    object: &Object,
    marker: Option<i32>,
    most: Option<i32>,
) -> S3Result<Option<GetObjectAttributesParts>> {
    let Some(pieces) = object.parts() else { return Ok(None) };
    let limit = page_size(most)?;
    let marker = marker.unwrap_or(0);
    let from = usize::try_from(marker).map_err(|_| s3_error!(InvalidArgument, "the marker is not valid"))?;
    let part = |(index, piece): (usize, &crate::bucket::Piece)| {
        let mut part = ObjectPart {
            part_number: i32::try_from(index + 1).ok(),
            size: Some(size(piece.size)),
            ..ObjectPart::default()
        };
        if let Some(value) = &piece.checksum {
            let algorithm = object.checksum.algorithm;
            with_checksum!(part, &Sum { algorithm, value: value.clone(), composite: false });
        }
        part
    };
    let page: Vec<ObjectPart> = pieces.iter().enumerate().skip(from).take(limit).map(part).collect();
    let next = from.saturating_add(page.len());
    Ok(Some(GetObjectAttributesParts {
        is_truncated: Some(next < pieces.len()),
        max_parts: i32::try_from(limit).ok(),
        next_part_number_marker: i32::try_from(next).ok(),
        part_number_marker: Some(marker),
        parts: Some(page),
        total_parts_count: i32::try_from(pieces.len()).ok(),
    }))
}
