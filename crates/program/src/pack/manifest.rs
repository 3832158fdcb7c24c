//! `package.json`, as far as resolving a module needs it.

use std::{fmt, fs, path::Path};

use serde::{Deserialize, de};

#[derive(Debug, Default, Deserialize)]
pub(super) struct Manifest {
    pub(super) name: Option<String>,
    pub(super) main: Option<Target>,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) exports: Option<Target>,
    pub(super) imports: Option<Target>,
}

impl Manifest {
    /// None if the folder has none that can be read.
    pub(super) fn of(folder: &Path) -> Option<Self> {
        let text = fs::read_to_string(folder.join("package.json")).ok()?;
        Some(serde_json::from_str(&text).unwrap_or_default())
    }

    pub(super) fn main(&self) -> Option<&str> {
        match &self.main {
            Some(Target::Path(path)) => Some(path),
            _ => None,
        }
    }
}

/// A value of `exports`. The order of conditions decides, so it is kept.
#[derive(Debug)]
pub(super) enum Target {
    Path(String),
    OneOf(Vec<Target>),
    Map(Vec<(String, Target)>),
    Nothing,
}

impl Target {
    /// The file that `subpath` (`.` or `./x`, or `#x`) stands for. None if the package does not offer it.
    pub(super) fn find(&self, subpath: &str, conditions: &[&str]) -> Option<String> {
        match self {
            Self::Map(entries) if entries.iter().any(|(key, _)| key.starts_with(['.', '#'])) => {
                if let Some((_, target)) = entries.iter().find(|(key, _)| key == subpath) {
                    return target.pick("", conditions);
                }
                // `./lib/*.js`: the longest prefix wins.
                let matched = |(key, target): &'_ (String, Target)| {
                    let (prefix, suffix) = key.split_once('*')?;
                    let star = subpath.strip_prefix(prefix)?.strip_suffix(suffix)?;
                    (!star.is_empty()).then(|| (prefix.len(), target.pick(star, conditions)))
                };
                entries.iter().filter_map(matched).max_by_key(|(length, _)| *length)?.1
            }
            target if subpath == "." => target.pick("", conditions),
            _ => None,
        }
    }

    fn pick(&self, star: &str, conditions: &[&str]) -> Option<String> {
        match self {
            Self::Path(path) => Some(path.replace('*', star)),
            Self::OneOf(targets) => targets.iter().find_map(|target| target.pick(star, conditions)),
            Self::Map(entries) => entries
                .iter()
                .filter(|(condition, _)| conditions.contains(&condition.as_str()))
                .find_map(|(_, target)| target.pick(star, conditions)),
            Self::Nothing => None,
        }
    }
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Target;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path, a list or a map")
            }
            fn visit_str<E: de::Error>(self, path: &str) -> Result<Target, E> {
                Ok(Target::Path(path.to_owned()))
            }
            fn visit_bool<E: de::Error>(self, _: bool) -> Result<Target, E> {
                Ok(Target::Nothing)
            }
            fn visit_unit<E: de::Error>(self) -> Result<Target, E> {
                Ok(Target::Nothing)
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Target, A::Error> {
                let mut targets = Vec::new();
                while let Some(target) = seq.next_element()? {
                    targets.push(target);
                }
                Ok(Target::OneOf(targets))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Target, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Target::Map(entries))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(exports: &str, subpath: &str, conditions: &[&str]) -> Option<String> {
        serde_json::from_str::<Target>(exports).unwrap().find(subpath, conditions)
    }

    #[test]
    fn conditions_are_tried_in_the_order_they_are_written() {
        let exports = r#"{ "node": "./n.js", "import": "./i.mjs", "default": "./d.js" }"#;
        assert_eq!(find(exports, ".", &["import", "node", "default"]).as_deref(), Some("./n.js"));
        assert_eq!(find(exports, ".", &["import", "default"]).as_deref(), Some("./i.mjs"));
        assert_eq!(find(exports, "./x", &["default"]), None);
    }

    #[test]
    fn subpaths_match_exactly_or_by_their_longest_pattern() {
        let exports =
            r#"{ ".": "./a.js", "./*": "./lib/*.js", "./deep/*": { "require": "./d/*.cjs" }, "./no": null }"#;
        assert_eq!(find(exports, "./x", &["require"]).as_deref(), Some("./lib/x.js"));
        assert_eq!(find(exports, "./deep/x/y", &["require"]).as_deref(), Some("./d/x/y.cjs"));
        assert_eq!(find(exports, "./no", &["require"]), None);
        assert_eq!(find(r#""./a.js""#, ".", &[]).as_deref(), Some("./a.js"));
        assert_eq!(find(r#"["./b.js"]"#, ".", &[]).as_deref(), Some("./b.js"));
    }
}
