//! Listings of objects.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use s3s::{S3Response, S3Result, dto::*, s3_error};

use super::{
    Answer, Wire,
    error::wire,
    input::{checksum_type, etag, size, url_encode, wire_time},
};
use crate::{
    bucket::{Object as Record, Page, Query},
    endpoint::OWNER,
};

/// S3's limit of a page.
const PAGE: i32 = 1000;

pub(super) fn owner() -> Owner {
    Owner { display_name: Some("tandem".to_owned()), id: Some(OWNER.to_owned()) }
}

/// How keys are written into the answer.
#[derive(Clone, Copy)]
pub(super) struct Encoding(bool);

impl Encoding {
    pub(super) fn of(asked: Option<&EncodingType>) -> S3Result<Self> {
        match asked.map(|encoding| encoding.as_str()) {
            None => Ok(Self(false)),
            Some(EncodingType::URL) => Ok(Self(true)),
            Some(other) => Err(s3_error!(InvalidArgument, "`{other}` is not an encoding type")),
        }
    }

    pub(super) fn write(self, text: &str) -> String {
        if self.0 { url_encode(text) } else { text.to_owned() }
    }
}

pub(super) fn page_size(asked: Option<i32>) -> S3Result<usize> {
    let asked = asked.unwrap_or(PAGE).min(PAGE);
    usize::try_from(asked).map_err(|_| s3_error!(InvalidArgument, "the size of a page is 0 or more"))
}

fn contents(page: &Page, encoding: Encoding, with_owner: bool) -> (Vec<Object>, Vec<CommonPrefix>) {
    let object = |(key, object): &(String, Record)| Object {
        checksum_algorithm: Some(vec![ChecksumAlgorithm::from_static(object.checksum.algorithm.name())]),
        checksum_type: Some(checksum_type(&object.checksum)),
        e_tag: Some(etag(&object.etag)),
        key: Some(encoding.write(key)),
        last_modified: Some(wire_time(object.modified)),
        owner: with_owner.then(owner),
        size: Some(size(object.size)),
        storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
        ..Object::default()
    };
    let prefix = |prefix: &String| CommonPrefix { prefix: Some(encoding.write(prefix)) };
    (page.objects.iter().map(object).collect(), page.prefixes.iter().map(prefix).collect())
}

impl Wire {
    pub(super) fn list_objects_v2(&self, input: ListObjectsV2Input) -> Answer<ListObjectsV2Output> {
        let encoding = Encoding::of(input.encoding_type.as_ref())?;
        let limit = page_size(input.max_keys)?;
        // A token is where the page before ended; it comes back as it was given.
        let token = input.continuation_token.as_ref().map(|token| {
            let decoded = URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            decoded.ok_or_else(|| s3_error!(InvalidArgument, "the continuation token is not valid"))
        });
        let query = Query {
            prefix: input.prefix.clone().unwrap_or_default(),
            delimiter: input.delimiter.clone().unwrap_or_default(),
            after: token.transpose()?.or_else(|| input.start_after.clone()),
            limit,
        };
        let page = self.buckets.list(&input.bucket, &query).map_err(wire)?;
        let (contents, prefixes) = contents(&page, encoding, input.fetch_owner.unwrap_or(false));
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: Some(encoding.write(&query.prefix)),
            max_keys: i32::try_from(limit).ok(),
            key_count: i32::try_from(contents.len() + prefixes.len()).ok(),
            continuation_token: input.continuation_token,
            is_truncated: Some(page.next.is_some()),
            next_continuation_token: page.next.map(|next| URL_SAFE_NO_PAD.encode(next)),
            contents: Some(contents),
            common_prefixes: Some(prefixes),
            delimiter: input.delimiter.map(|delimiter| encoding.write(&delimiter)),
            encoding_type: input.encoding_type,
            start_after: input.start_after.map(|after| encoding.write(&after)),
            ..ListObjectsV2Output::default()
        }))
    }

    pub(super) fn list_objects(&self, input: ListObjectsInput) -> Answer<ListObjectsOutput> {
        let encoding = Encoding::of(input.encoding_type.as_ref())?;
        let limit = page_size(input.max_keys)?;
        let query = Query {
            prefix: input.prefix.clone().unwrap_or_default(),
            delimiter: input.delimiter.clone().unwrap_or_default(),
            after: input.marker.clone().filter(|marker| !marker.is_empty()),
            limit,
        };
        let page = self.buckets.list(&input.bucket, &query).map_err(wire)?;
        let (contents, prefixes) = contents(&page, encoding, true);
        Ok(S3Response::new(ListObjectsOutput {
            name: Some(input.bucket),
            prefix: Some(encoding.write(&query.prefix)),
            marker: Some(encoding.write(&input.marker.unwrap_or_default())),
            max_keys: i32::try_from(limit).ok(),
            is_truncated: Some(page.next.is_some()),
            contents: Some(contents),
            common_prefixes: Some(prefixes),
            delimiter: input.delimiter.map(|delimiter| encoding.write(&delimiter)),
            next_marker: page.next.map(|next| encoding.write(&next)),
            encoding_type: input.encoding_type,
            ..ListObjectsOutput::default()
        }))
    }
}
