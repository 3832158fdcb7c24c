//! Which pages of other origins may use a bucket from a browser: its CORS rules, and how S3 judges by them. Pure.
//!
//! Source: Amazon S3 user guide, "Using cross-origin resource sharing"; WHATWG Fetch, section 3.2.

use tandem_model::inputs::CorsRule;

use super::settings::Setting;

/// S3's limit.
const MOST_RULES: usize = 100;
const METHODS: [&str; 5] = ["GET", "PUT", "POST", "DELETE", "HEAD"];

/// The rules of a bucket; the first that fits decides.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Cors {
    pub(super) rules: Vec<CorsRule>,
}

impl Setting for Cors {
    const NAME: &'static str = "cors";
}

/// What a browser wants to do from a page of another origin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) origin: &'a str,
    pub(super) method: &'a str,
    /// The headers that the page wants to send; empty unless a browser asks before.
    pub(super) headers: &'a [&'a str],
}

/// The rule that allows it.
#[derive(Debug, PartialEq)]
pub(super) struct Allowed<'a> {
    pub(super) rule: &'a CorsRule,
    /// Whether the rule lets in every origin, and so no credentials.
    pub(super) any_origin: bool,
}

impl Cors {
    pub(super) fn allows(&self, asked: Asked<'_>) -> Option<Allowed<'_>> {
        self.rules.iter().find_map(|rule| {
            let origin = rule.allowed_origins.iter().find(|pattern| matches(pattern, asked.origin))?;
            let method = rule.allowed_methods.iter().any(|method| method == asked.method);
            let header = |header: &&str| {
                let header = header.to_ascii_lowercase();
                rule.allowed_headers.iter().any(|pattern| matches(&pattern.to_ascii_lowercase(), &header))
            };
            (method && asked.headers.iter().all(header))
                .then_some(Allowed { rule, any_origin: origin == "*" })
        })
    }
}

/// What is wrong with rules, in words for whoever wrote them; `None` if nothing is.
pub(super) fn fault(rules: &[CorsRule]) -> Option<String> {
    if rules.is_empty() || rules.len() > MOST_RULES {
        return Some(format!("a bucket has 1 to {MOST_RULES} CORS rules, not {}", rules.len()));
    }
    rules.iter().find_map(|rule| {
        if rule.allowed_origins.is_empty() || rule.allowed_methods.is_empty() {
            return Some("a CORS rule has at least one allowed origin and one allowed method".to_owned());
        }
        if let Some(method) = rule.allowed_methods.iter().find(|method| !METHODS.contains(&&***method)) {
            let known = METHODS.join(", ");
            return Some(format!("`{method}` is not a method that a CORS rule can allow; those are {known}"));
        }
        let patterns = rule.allowed_origins.iter().chain(&rule.allowed_headers);
        if let Some(pattern) = patterns.into_iter().find(|pattern| pattern.matches('*').count() > 1) {
            return Some(format!("`{pattern}` has more than one `*`"));
        }
        if let Some(header) = rule.expose_headers.iter().find(|header| header.contains('*')) {
            return Some(format!("the exposed header `{header}` is a pattern, and must be a name"));
        }
        // They are written into headers.
        let all = [&rule.allowed_origins, &rule.allowed_headers, &rule.expose_headers];
        let unprintable = |text: &&String| text.bytes().any(|byte| !(b' '..=b'~').contains(&byte));
        if let Some(text) = all.into_iter().flatten().find(unprintable) {
            return Some(format!("`{}` holds more than printable ASCII", text.escape_debug()));
        }
        (rule.max_age_seconds.is_some_and(|age| age < 0)).then(|| "`maxAgeSeconds` is 0 or more".to_owned())
    })
}

/// Whether the pattern, in which one `*` stands for anything, is of the text.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, end)) => {
            text.len() >= start.len() + end.len() && text.starts_with(start) && text.ends_with(end)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(origins: &[&str], methods: &[&str], headers: &[&str]) -> CorsRule {
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        CorsRule {
            allowed_origins: owned(origins),
            allowed_methods: owned(methods),
            allowed_headers: owned(headers),
            ..CorsRule::default()
        }
    }

    fn ask<'a>(origin: &'a str, method: &'a str, headers: &'a [&'a str]) -> Asked<'a> {
        Asked { origin, method, headers }
    }

    #[test]
    fn the_first_rule_that_fits_in_origin_method_and_all_headers_decides() {
        let cors = Cors {
            rules: vec![
                rule(&["https://*.example.com"], &["PUT"], &["content-*", "X-Amz-Date"]),
                rule(&["*"], &["GET"], &[]),
            ],
        };
        let first =
            cors.allows(ask("https://a.example.com", "PUT", &["Content-Type", "x-amz-date"])).unwrap();
        assert!(!first.any_origin);
        assert_eq!(first.rule, &cors.rules[0]);
        assert!(cors.allows(ask("https://a.example.com", "GET", &[])).unwrap().any_origin);
        assert_eq!(cors.allows(ask("https://a.example.com", "PUT", &["authorization"])), None);
        assert_eq!(cors.allows(ask("https://example.com", "PUT", &[])), None);
        assert_eq!(cors.allows(ask("https://a.example.com", "DELETE", &[])), None);
    }

    #[test]
    fn a_star_stands_for_anything_once() {
        assert!(matches("*", "") && matches("a*", "a") && matches("a*c", "abc") && matches("a*c", "ac"));
        assert!(!matches("a*a", "a") && !matches("a", "ab") && !matches("a*", "ba"));
    }

    #[test]
    fn rules_that_s3_refuses_are_refused_with_the_place() {
        let fault_of = |rule: CorsRule| fault(&[rule]).unwrap_or_default();
        assert_eq!(fault(&[rule(&["*"], &["GET"], &["*"])]), None);
        assert!(fault(&[]).is_some());
        assert!(fault_of(rule(&["*"], &["PATCH"], &[])).contains("PATCH"));
        assert!(fault_of(rule(&["http://*.*"], &["GET"], &[])).contains("http://*.*"));
        assert!(fault_of(rule(&[], &["GET"], &[])).contains("origin"));
        let exposing = CorsRule { expose_headers: vec!["x-*".into()], ..rule(&["*"], &["GET"], &[]) };
        assert!(fault_of(exposing).contains("x-*"));
        assert!(fault_of(rule(&["a\r\nb"], &["GET"], &[])).contains("\\r\\n"));
    }
}
