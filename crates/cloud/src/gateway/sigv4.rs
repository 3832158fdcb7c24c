//! AWS Signature Version 4, as every service but S3 uses it: in the `Authorization` header, over the whole body.
//!
//! Source: AWS, "Signing AWS requests with Signature Version 4" (IAM user guide, "Create a signed AWS API request").

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use hmac::{Hmac, Mac};
use http::{HeaderMap, Uri, request::Parts};
use jiff::{SignedDuration, Timestamp, civil::DateTime, tz::TimeZone};
use sha2::{Digest, Sha256};

use crate::credential::{Credentials, Principal};

/// How far a client's clock may be off.
const SKEW: SignedDuration = SignedDuration::from_mins(15);
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Why a request's signature is refused.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    #[error("the request is not signed")]
    Missing,
    #[error("the request's {0} is not valid")]
    Malformed(&'static str),
    #[error("the security token included in the request is invalid: nobody has the access key id `{0}`")]
    UnknownKey(String),
    #[error("the request's time {signed} is too far from the server's time {now}")]
    Skewed { signed: Timestamp, now: Timestamp },
    #[error("the request signature does not match the one calculated from the secret access key")]
    Mismatch,
}

impl SignatureError {
    /// The error's name on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Missing => "MissingAuthenticationTokenException",
            Self::Malformed(_) => "IncompleteSignatureException",
            Self::UnknownKey(_) => "UnrecognizedClientException",
            Self::Skewed { .. } | Self::Mismatch => "InvalidSignatureException",
        }
    }
}

/// The `Authorization` header's parts.
struct Authorization<'a> {
    access_key_id: &'a str,
    /// `<date>/<region>/<service>/aws4_request`.
    scope: &'a str,
    date: &'a str,
    region: &'a str,
    service: &'a str,
    signed_headers: Vec<&'a str>,
    signature: &'a str,
}

impl<'a> Authorization<'a> {
    /// What the signing key is for.
    fn key_scope(&self) -> (&'a str, &'a str, &'a str) {
        (self.date, self.region, self.service)
    }

    fn parse(header: &'a str) -> Option<Self> {
        let fields = header.strip_prefix(ALGORITHM)?.trim();
        let field =
            |name: &str| fields.split(',').find_map(|f| f.trim().strip_prefix(name)?.strip_prefix('='));
        let (access_key_id, scope) = field("Credential")?.split_once('/')?;
        let [date, region, service, "aws4_request"] = scope.split('/').collect::<Vec<_>>()[..] else {
            return None;
        };
        Some(Self {
            access_key_id,
            scope,
            date,
            region,
            service,
            signed_headers: field("SignedHeaders")?.split(';').collect(),
            signature: field("Signature")?,
        })
    }
}

/// The service in a request's credential scope, if it is signed: in the header, or in the query of a presigned URL.
pub fn service<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> Option<&'a str> {
    let header = headers.get(http::header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if let Some(authorization) = header.and_then(Authorization::parse) {
        return Some(authorization.service);
    }
    let credential = uri.query()?.split('&').find_map(|pair| pair.strip_prefix("X-Amz-Credential="))?;
    let mut parts = credential.split("%2F").flat_map(|part| part.split('/'));
    parts.nth(3)
}

/// Verifies the signature over head and body, and tells who signed.
///
/// # Errors
/// [`SignatureError`] if it was not signed, by nobody who is known, at another time, or not exactly so.
pub fn verify(
    parts: &Parts,
    body: &[u8],
    service: &str,
    credentials: &Credentials,
    now: Timestamp,
) -> Result<Principal, SignatureError> {
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let authorization = Authorization::parse(header("authorization").ok_or(SignatureError::Missing)?)
        .filter(|authorization| authorization.service == service)
        .ok_or(SignatureError::Malformed("authorization header"))?;
    let date = header("x-amz-date").ok_or(SignatureError::Malformed("x-amz-date header"))?;
    let signed = parse_date(date).ok_or(SignatureError::Malformed("x-amz-date header"))?;
    if authorization.date != &date[..8] {
        return Err(SignatureError::Malformed("credential scope"));
    }
    if now.duration_since(signed).abs() > SKEW {
        return Err(SignatureError::Skewed { signed, now });
    }
    let (principal, secret) = credentials
        .lookup(authorization.access_key_id)
        .ok_or_else(|| SignatureError::UnknownKey(authorization.access_key_id.to_owned()))?;
    check(parts, body, &authorization, date, &secret)?;
    Ok(principal)
}

fn check(
    parts: &Parts,
    body: &[u8],
    authorization: &Authorization<'_>,
    date: &str,
    secret: &str,
) -> Result<(), SignatureError> {
    let request = canonical_request(parts, body, &authorization.signed_headers)?;
    let to_sign = to_sign(date, authorization.scope, &request);
    let key = signing_key(secret, authorization.key_scope());
    let signature = HEXLOWER_PERMISSIVE
        .decode(authorization.signature.as_bytes())
        .map_err(|_| SignatureError::Malformed("signature"))?;
    // Compares in constant time.
    mac(&key, to_sign.as_bytes()).verify_slice(&signature).map_err(|_| SignatureError::Mismatch)
}

fn to_sign(date: &str, scope: &str, canonical_request: &str) -> String {
    format!(
        "{ALGORITHM}\n{date}\n{scope}\n{}",
        HEXLOWER.encode(&Sha256::digest(canonical_request.as_bytes()))
    )
}

/// `20260131T235959Z`.
fn parse_date(text: &str) -> Option<Timestamp> {
    if text.len() != 16 || !text.is_ascii() {
        return None;
    }
    let civil = DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
    Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

fn canonical_request(parts: &Parts, body: &[u8], signed_headers: &[&str]) -> Result<String, SignatureError> {
    // Without these in the signature a request could be sent again elsewhere, or at another time.
    if !signed_headers.contains(&"host") || !signed_headers.contains(&"x-amz-date") {
        return Err(SignatureError::Malformed("list of signed headers"));
    }
    let mut headers = String::new();
    for name in signed_headers {
        let values: Option<Vec<&str>> =
            parts.headers.get_all(*name).iter().map(|v| v.to_str().ok()).collect();
        let values =
            values.filter(|v| !v.is_empty()).ok_or(SignatureError::Malformed("list of signed headers"))?;
        let folded: Vec<String> =
            values.iter().map(|v| v.split_ascii_whitespace().collect::<Vec<_>>().join(" ")).collect();
        headers.push_str(&format!("{name}:{}\n", folded.join(",")));
    }
    Ok(format!(
        "{}\n{}\n{}\n{headers}\n{}\n{}",
        parts.method,
        // The path on the wire is encoded once; services other than S3 sign it encoded once more.
        encode(parts.uri.path(), true),
        canonical_query(parts.uri.query().unwrap_or_default()),
        signed_headers.join(";"),
        HEXLOWER.encode(&Sha256::digest(body)),
    ))
}

fn canonical_query(query: &str) -> String {
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (encode(&decode(name), false), encode(&decode(value), false)))
        .collect();
    pairs.sort();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// Percent-encodes all but the unreserved characters of RFC 3986; `/` too, unless it is to be kept.
fn encode(text: &str, keep_slash: bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte))
            }
            b'/' if keep_slash => encoded.push('/'),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%').then(|| bytes.get(at + 1..at + 3)).flatten();
        match escaped.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// Whether the signature, in hexadecimal digits, is that of the text under a key of this date, region and service.
pub fn matches(secret: &str, scope: (&str, &str, &str), text: &[u8], signature: &str) -> bool {
    let signature = HEXLOWER_PERMISSIVE.decode(signature.as_bytes());
    signature.is_ok_and(|signature| mac(&signing_key(secret, scope), text).verify_slice(&signature).is_ok())
}

fn signing_key(secret: &str, (date, region, service): (&str, &str, &str)) -> Vec<u8> {
    let mut key = format!("AWS4{secret}").into_bytes();
    for part in [date, region, service, "aws4_request"] {
        key = mac(&key, part.as_bytes()).finalize().into_bytes().to_vec();
    }
    key
}

fn mac(key: &[u8], message: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(message);
    mac
}

/// Signs, for tests that need no whole client.
#[cfg(test)]
pub(super) fn authorization(
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
    (access_key_id, secret): (&str, &str),
    service: &str,
) -> String {
    let mut request = http::Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let parts = request.body(()).unwrap().into_parts().0;
    let date = parts.headers["x-amz-date"].to_str().unwrap().to_owned();
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let unsigned = format!(
        "{ALGORITHM} Credential={access_key_id}/{}/us-east-1/{service}/aws4_request, SignedHeaders={}, Signature=",
        &date[..8],
        names.join(";")
    );
    let authorization = Authorization::parse(&unsigned).unwrap();
    let canonical = canonical_request(&parts, body, &names).unwrap();
    let to_sign = to_sign(&date, authorization.scope, &canonical);
    let signature =
        mac(&signing_key(secret, authorization.key_scope()), to_sign.as_bytes()).finalize().into_bytes();
    format!("{unsigned}{}", HEXLOWER.encode(&signature))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    /// The worked example of AWS's documentation ("Examples of the complete Signature Version 4 signing process").
    fn example(path: &str) -> Parts {
        let authorization = "AWS4-HMAC-SHA256 \
             Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, SignedHeaders=content-type;host;x-amz-date, \
             Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7";
        let request = Request::get(path)
            .header("content-type", "application/x-www-form-urlencoded; charset=utf-8")
            .header("host", "iam.amazonaws.com")
            .header("x-amz-date", "20150830T123600Z")
            .header("authorization", authorization);
        request.body(()).unwrap().into_parts().0
    }

    fn check_example(path: &str, body: &[u8], secret: &str) -> Result<(), SignatureError> {
        let parts = example(path);
        let header = parts.headers["authorization"].to_str().unwrap();
        let authorization = Authorization::parse(header).unwrap();
        check(&parts, body, &authorization, "20150830T123600Z", secret)
    }

    const PATH: &str = "/?Action=ListUsers&Version=2010-05-08";
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

    #[test]
    fn the_documented_example_verifies_and_any_change_of_it_does_not() {
        check_example(PATH, b"", SECRET).unwrap();
        check_example("/?Version=2010-05-08&Action=ListUsers", b"", SECRET).unwrap();
        for (path, body, secret) in [
            ("/?Action=ListUsers&Version=2010-05-09", &b""[..], SECRET),
            ("/x?Action=ListUsers&Version=2010-05-08", b"", SECRET),
            (PATH, b"{}", SECRET),
            (PATH, b"", "another secret"),
        ] {
            assert!(matches!(check_example(path, body, secret), Err(SignatureError::Mismatch)), "{path}");
        }
    }

    #[test]
    fn the_service_is_found_in_header_and_query() {
        let parts = example(PATH);
        assert_eq!(service(&parts.headers, &parts.uri), Some("iam"));
        let presigned: Uri =
            "/b/k?X-Amz-Credential=AKID%2F20150830%2Fus-east-1%2Fs3%2Faws4_request".parse().unwrap();
        assert_eq!(service(&HeaderMap::new(), &presigned), Some("s3"));
        assert_eq!(service(&HeaderMap::new(), &Uri::from_static("/")), None);
    }

    #[test]
    fn dates_are_read_and_nonsense_is_not() {
        assert_eq!(parse_date("20150830T123600Z"), Some("2015-08-30T12:36:00Z".parse().unwrap()));
        for wrong in ["", "20150830", "20151330T123600Z", "2015-08-30T12:36Z", "ääääääää"] {
            assert_eq!(parse_date(wrong), None, "{wrong}");
        }
    }
}
