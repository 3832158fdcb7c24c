//! AWS Signature Version 4
//! (<https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html>).

use data_encoding::HEXLOWER;
use hmac::{Hmac, Mac};
use http::{HeaderValue, Request, header::AUTHORIZATION};
use sha2::{Digest, Sha256};

/// What signs: a key of a stack.
#[derive(Debug, Clone)]
pub struct Signer {
    pub key_id: String,
    pub secret: String,
    pub region: String,
}

impl Signer {
    /// Adds `x-amz-date`, `x-amz-content-sha256` and `authorization`, which covers `host` and every `x-amz-` header.
    /// The query must be escaped as it is signed, each of its parts `name=value`, and `payload` be the hash of the body in
    /// hexadecimal, or `UNSIGNED-PAYLOAD`.
    pub fn sign<B>(&self, request: &mut Request<B>, service: &str, payload: &str, time: jiff::Timestamp) {
        let moment = time.strftime("%Y%m%dT%H%M%SZ").to_string();
        let day = &moment[..8];
        let value =
            |text: &str| HeaderValue::from_str(text).expect("hexadecimal and dates are legal header values");
        request.headers_mut().insert("x-amz-date", value(&moment));
        request.headers_mut().insert("x-amz-content-sha256", value(payload));
        let mut signed: Vec<(&str, &str)> = request
            .headers()
            .iter()
            .filter(|(name, _)| *name == "host" || name.as_str().starts_with("x-amz-"))
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap_or_default()))
            .collect();
        signed.sort_unstable();
        let names = signed.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
        let headers: String = signed.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let mut query: Vec<&str> =
            request.uri().query().unwrap_or_default().split('&').filter(|part| !part.is_empty()).collect();
        query.sort_unstable();
        let canonical = format!(
            "{}\n{}\n{}\n{headers}\n{names}\n{payload}",
            request.method(),
            request.uri().path(),
            query.join("&"),
        );
        let scope = format!("{day}/{}/{service}/aws4_request", self.region);
        let text = format!("AWS4-HMAC-SHA256\n{moment}\n{scope}\n{}", hash(canonical.as_bytes()));
        let key = [day, &self.region, service, "aws4_request"]
            .iter()
            .fold(format!("AWS4{}", self.secret).into_bytes(), |key, part| mac(&key, part));
        let signature = HEXLOWER.encode(&mac(&key, &text));
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
            self.key_id
        );
        request.headers_mut().insert(AUTHORIZATION, value(&authorization));
    }
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// SHA-256 in hexadecimal.
pub fn hash(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What botocore's `SigV4Auth` makes of the same request.
    #[test]
    fn a_request_is_signed_as_botocore_signs_it() {
        let signer = Signer {
            key_id: "AKIDEXAMPLE".to_owned(),
            secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(),
            region: "us-east-1".to_owned(),
        };
        let mut request =
            Request::put("/bucket/key").header("host", "127.0.0.1:4566").body(()).expect("a legal request");
        let time = "2015-08-30T12:36:00Z".parse().expect("a legal time");
        signer.sign(&mut request, "s3", &hash(b"hello"), time);
        let authorization = request.headers()[AUTHORIZATION].to_str().expect("ASCII");
        assert_eq!(authorization, EXPECTED);
    }

    const EXPECTED: &str = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/s3/aws4_request, SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature=4bee35adba759bbd010421e616a3939435c18a65dd2e1e10551a446492364c55";
}
