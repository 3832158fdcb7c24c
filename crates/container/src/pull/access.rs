//! The way into one registry: which scheme it speaks, and by which token it lets us in.
//!
//! `oci-client` signs in by itself, too, but keeps to itself why it could not, and knows no refresh tokens. So we ask for
//! the token (Docker's "Token Authentication Specification"), and it uses it.

use std::{fs, sync::Once, time::Duration};

use http_auth::{ChallengeParser, ChallengeRef};
use oci_client::{
    Client, Reference,
    client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol},
    manifest,
    secrets::RegistryAuth,
};
use reqwest::{StatusCode, Url, header};
use serde::Deserialize;

use super::{Sources, credentials::Credentials, failure::Failure, registries::Endpoint};

/// How long a connection may take to come about.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// The largest answer with a token in it; some are of several KiB.
const LARGEST_TOKEN: usize = 1 << 20;
const AGENT: &str = concat!("tandem/", env!("CARGO_PKG_VERSION"));

/// What a registry is asked to send; an index is chosen from here.
pub(super) const MANIFESTS: &[&str] = &[
    manifest::OCI_IMAGE_MEDIA_TYPE,
    manifest::OCI_IMAGE_INDEX_MEDIA_TYPE,
    manifest::IMAGE_MANIFEST_MEDIA_TYPE,
    manifest::IMAGE_MANIFEST_LIST_MEDIA_TYPE,
];

/// A registry that lets us in.
pub(super) struct Access {
    pub(super) client: Client,
    pub(super) auth: RegistryAuth,
    host: String,
    repository: String,
}

impl Access {
    pub(super) async fn open(
        sources: &Sources,
        endpoint: &Endpoint,
        credentials: &Credentials,
        silence: Duration,
    ) -> Result<Self, Failure> {
        static PROVIDER: Once = Once::new();
        // One for the process; whoever was first may have it.
        PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
        let host = host(&endpoint.registry);
        let lax = endpoint.insecure || is_loopback(host);
        let ways: &[&str] = if lax { &["https", "http"] } else { &["https"] };
        let certificates = certificates(sources, &endpoint.registry);
        let web = web(&certificates, lax, is_loopback(host), silence)?;
        let mut last = None;
        for scheme in ways {
            let answer = match web.get(format!("{scheme}://{host}/v2/")).send().await {
                Ok(answer) => answer,
                Err(error) => {
                    last = Some(Failure::of_request(&error));
                    if error.is_connect() || *scheme == "https" && lax && !error.is_timeout() {
                        continue;
                    }
                    break;
                }
            };
            // A server without TLS may answer to it as to a bad request.
            if *scheme == "https" && lax && answer.status() == StatusCode::BAD_REQUEST {
                continue;
            }
            let auth = sign_in(&web, answer, &endpoint.repository, credentials, *scheme == "https").await?;
            let config = ClientConfig {
                protocol: if *scheme == "https" { ClientProtocol::Https } else { ClientProtocol::Http },
                accept_invalid_certificates: lax,
                extra_root_certificates: certificates,
                connect_timeout: Some(CONNECT_LIMIT),
                read_timeout: Some(silence),
                user_agent: AGENT,
                ..unproxied(is_loopback(host))
            };
            let client = Client::try_from(config).map_err(Failure::of_registry)?;
            let (host, repository) = (host.to_owned(), endpoint.repository.clone());
            let access = Self { client, auth, host, repository };
            access.client.store_auth_if_needed(&access.host, &access.auth).await;
            return Ok(access);
        }
        Err(last.unwrap_or_else(|| Failure::Unreachable("nobody answers".to_owned())))
    }

    /// What a tag or a digest means there.
    pub(super) fn reference(&self, tag_or_digest: &str) -> Reference {
        let (host, repository) = (self.host.clone(), self.repository.clone());
        match tag_or_digest.contains(':') {
            true => Reference::with_digest(host, repository, tag_or_digest.to_owned()),
            false => Reference::with_tag(host, repository, tag_or_digest.to_owned()),
        }
    }
}

/// Docker's registry answers under another name than its own.
fn host(registry: &str) -> &str {
    match registry {
        "docker.io" | "index.docker.io" => "registry-1.docker.io",
        other => other,
    }
}

/// As Docker has it: on this machine, nobody has to have a certificate.
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    name == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// Without a word about proxies, the variables of the environment count: `HTTPS_PROXY`, `NO_PROXY`. To this machine no
/// proxy leads, and the only way to say so is a proxy that is used for nothing.
fn unproxied(loopback: bool) -> ClientConfig {
    let none = loopback.then(|| "http://127.0.0.1:9".to_owned());
    ClientConfig {
        https_proxy: none.clone(),
        http_proxy: none,
        no_proxy: loopback.then(|| "*,0.0.0.0/0,::/0".to_owned()),
        ..ClientConfig::default()
    }
}

fn web(
    certificates: &[Certificate],
    lax: bool,
    loopback: bool,
    silence: Duration,
) -> Result<reqwest::Client, Failure> {
    let mut web = reqwest::Client::builder()
        .connect_timeout(CONNECT_LIMIT)
        .read_timeout(silence)
        .danger_accept_invalid_certs(lax)
        .user_agent(AGENT);
    if loopback {
        web = web.no_proxy();
    }
    let roots = certificates.iter().map(reqwest::Certificate::try_from).collect::<Result<Vec<_>, _>>();
    web = web.tls_certs_merge(roots.map_err(Failure::of_registry)?);
    web.build().map_err(|error| Failure::Final(format!("no connection can be made from here: {error:?}")))
}

/// The authorities that a registry is trusted by besides the machine's.
fn certificates(sources: &Sources, registry: &str) -> Vec<Certificate> {
    let folders = sources.certificates.iter().map(|folder| folder.join(registry));
    let files = folders.flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
    let files = files.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "crt"));
    let read = files.filter_map(|path| fs::read(path).ok());
    read.map(|data| Certificate { encoding: CertificateEncoding::Pem, data }).collect()
}

/// Does what the registry asks for in its answer to `GET /v2/`.
async fn sign_in(
    web: &reqwest::Client,
    answer: reqwest::Response,
    repository: &str,
    credentials: &Credentials,
    safe: bool,
) -> Result<RegistryAuth, Failure> {
    if answer.status() != StatusCode::UNAUTHORIZED {
        return match answer.status() {
            StatusCode::TOO_MANY_REQUESTS => Err(Failure::Throttled(retry_after(&answer))),
            status if status.is_server_error() => {
                Err(Failure::of_status(status, &answer.text().await.unwrap_or_default()))
            }
            // It lets everybody in, or does not know this question.
            _ => Ok(basic(credentials)),
        };
    }
    let headers = answer.headers().get_all(header::WWW_AUTHENTICATE).iter();
    let texts: Vec<&str> = headers.filter_map(|value| value.to_str().ok()).collect();
    let challenges = texts.iter().flat_map(|text| ChallengeParser::new(text)).filter_map(Result::ok);
    let bearer = challenges
        .filter(|one| one.scheme.eq_ignore_ascii_case("bearer"))
        .find_map(|one| Some((parameter(&one, "realm")?, parameter(&one, "service"))));
    match bearer {
        Some((realm, service)) => {
            let realm = Url::parse(&realm).map_err(|_| {
                Failure::Final(format!("it sends us to `{realm}` for a token, which is no address"))
            })?;
            token(web, realm, service, repository, credentials, safe).await
        }
        None => Ok(basic(credentials)),
    }
}

fn basic(credentials: &Credentials) -> RegistryAuth {
    match credentials {
        Credentials::Password { user, password } => RegistryAuth::Basic(user.clone(), password.clone()),
        Credentials::Nobody | Credentials::Identity(_) => RegistryAuth::Anonymous,
    }
}

fn parameter(challenge: &ChallengeRef<'_>, name: &str) -> Option<String> {
    let mut all = challenge.params.iter();
    all.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_unescaped())
}

async fn token(
    web: &reqwest::Client,
    realm: Url,
    service: Option<String>,
    repository: &str,
    credentials: &Credentials,
    safe: bool,
) -> Result<RegistryAuth, Failure> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        token: String,
        #[serde(default)]
        access_token: String,
    }
    if safe && realm.scheme() != "https" {
        return Err(Failure::Final("it asks for passwords without encryption".to_owned()));
    }
    let scope = format!("repository:{repository}:pull");
    let mut fields = vec![("scope", scope.as_str())];
    fields.extend(service.as_deref().map(|service| ("service", service)));
    let request = match credentials {
        Credentials::Nobody => web.get(realm).query(&fields),
        Credentials::Password { user, password } => {
            fields.push(("account", user));
            web.get(realm).query(&fields).basic_auth(user, Some(password))
        }
        Credentials::Identity(refresh) => {
            fields.extend([
                ("grant_type", "refresh_token"),
                ("refresh_token", refresh),
                ("client_id", "tandem"),
            ]);
            web.post(realm).form(&fields)
        }
    };
    let mut answer = request.send().await.map_err(|error| Failure::of_request(&error))?;
    let status = answer.status();
    if status == StatusCode::TOO_MANY_REQUESTS {
        return Err(Failure::Throttled(retry_after(&answer)));
    }
    let mut text = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| Failure::of_request(&error))? {
        text.extend_from_slice(&chunk);
        if text.len() > LARGEST_TOKEN {
            return Err(Failure::Final("it answers with something that is no token".to_owned()));
        }
    }
    let text = String::from_utf8_lossy(&text);
    if !status.is_success() {
        // OAuth 2 has 400 for a refresh token that does not count any more.
        return Err(match status {
            StatusCode::BAD_REQUEST => Failure::Denied("it does not take what you logged in with".to_owned()),
            status => Failure::of_status(status, &text),
        });
    }
    let answer: Answer = serde_json::from_str(&text)
        .map_err(|_| Failure::Broken("it answers with something that is no token".to_owned()))?;
    let token = if answer.token.is_empty() { answer.access_token } else { answer.token };
    match token.bytes().all(|b| b.is_ascii_graphic()) && !token.is_empty() {
        true => Ok(RegistryAuth::Bearer(token)),
        false => Err(Failure::Broken("it answers with something that is no token".to_owned())),
    }
}

/// In seconds, as registries write it.
fn retry_after(answer: &reqwest::Response) -> Option<Duration> {
    let text = answer.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_loopback() {
        for host in ["localhost", "localhost:5000", "127.0.0.1:80", "127.8.9.1", "[::1]:5000", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example", "127.example:5000", "10.0.0.1:5000", "[::2]", "docker.io"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
