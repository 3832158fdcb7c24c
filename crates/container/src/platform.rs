//! What machines an image is for, and whether this one can run it.
//!
//! Names are those of the OCI image spec 1.1, "Image configuration": Go's `GOOS` and `GOARCH`.

use std::{env, fmt, fs, path::Path, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::ContainerError;

/// `linux/amd64`, `linux/arm/v7`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

/// Where the kernel tells which programs of other machines it hands to an emulator.
const BINFMT: &str = "/proc/sys/fs/binfmt_misc";

impl Platform {
    /// What an image's configuration says of itself. `None` if it does not say.
    #[must_use]
    pub fn of(os: &str, architecture: &str, variant: Option<&str>) -> Option<Self> {
        let variant = variant.filter(|variant| !variant.is_empty());
        let text =
            [Some(os), Some(architecture), variant].into_iter().flatten().collect::<Vec<_>>().join("/");
        text.parse().ok()
    }

    /// This machine.
    #[must_use]
    pub fn here() -> Self {
        let architecture = match env::consts::ARCH {
            "x86_64" => "amd64",
            "x86" => "386",
            "aarch64" => "arm64",
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            other => other,
        };
        Self { os: "linux".into(), architecture: architecture.into(), variant: None }
    }

    #[must_use]
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// Whether two mean the same machines. A variant that only one of them names is no difference.
    #[must_use]
    pub fn fits(&self, other: &Self) -> bool {
        let variants = self.variant.as_ref().zip(other.variant.as_ref());
        (&self.os, &self.architecture) == (&other.os, &other.architecture)
            && variants.is_none_or(|(a, b)| a == b)
    }

    /// That its programs run on this machine: they are its own, or an emulator is registered for them.
    ///
    /// # Errors
    /// [`ContainerError::Platform`] with `what` in front.
    pub fn check_runs_here(&self, what: &str) -> Result<(), ContainerError> {
        let here = Self::here();
        if self.runs_on(&here, Path::new(BINFMT)) {
            return Ok(());
        }
        Err(ContainerError::Platform {
            what: what.to_owned(),
            wanted: self.clone().into(),
            here: here.into(),
        })
    }

    fn runs_on(&self, here: &Self, binfmt: &Path) -> bool {
        // The kernel of the one runs the programs of the other.
        let native = self.architecture == here.architecture
            || (self.architecture == "386" && here.architecture == "amd64");
        self.os == here.os && (native || self.is_emulated(binfmt))
    }

    fn is_emulated(&self, binfmt: &Path) -> bool {
        // As QEMU's packages call them.
        let name = match self.architecture.as_str() {
            "amd64" => "x86_64",
            "386" => "i386",
            "arm64" => "aarch64",
            other => other,
        };
        let enabled = |path: &Path| fs::read_to_string(path).is_ok_and(|text| text.starts_with("enabled"));
        enabled(&binfmt.join(format!("qemu-{name}")))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a platform; write for example `linux/amd64` or `linux/arm64`")]
pub struct PlatformError(String);

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let word = |part: &&str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        let parts: Vec<&str> = text.trim().split('/').collect();
        let (os, architecture, variant) = match parts.as_slice() {
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some((*variant).to_owned())),
            _ => return Err(PlatformError(text.to_owned())),
        };
        if !parts.iter().all(word) {
            return Err(PlatformError(text.to_owned()));
        }
        Ok(Self { os: (*os).to_owned(), architecture: (*architecture).to_owned(), variant })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

impl Serialize for Platform {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Platform {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn a_platform_is_a_system_and_a_machine() {
        assert_eq!(platform("linux/arm/v7").to_string(), "linux/arm/v7");
        assert_eq!(Platform::of("linux", "arm64", Some("")), Some(platform("linux/arm64")));
        assert_eq!(Platform::of("", "", None), None);
        for bad in ["arm64", "linux/", "Linux/amd64", "linux/a/b/c", "--x/y"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_variant_that_only_one_names_is_no_difference() {
        assert!(platform("linux/arm64").fits(&platform("linux/arm64/v8")));
        assert!(!platform("linux/arm/v6").fits(&platform("linux/arm/v7")));
        assert!(!platform("linux/amd64").fits(&platform("linux/arm64")));
    }

    #[test]
    fn another_machines_programs_run_only_with_an_emulator_that_is_enabled() {
        let (binfmt, here) = (tempfile::TempDir::new().unwrap(), platform("linux/amd64"));
        let runs = |text: &str| platform(text).runs_on(&here, binfmt.path());
        assert_eq!([runs("linux/amd64"), runs("linux/386"), runs("linux/arm64")], [true, true, false]);
        let interpreter = binfmt.path().join("qemu-aarch64");
        fs::write(&interpreter, "disabled\n").unwrap();
        assert!(!runs("linux/arm64"));
        fs::write(&interpreter, "enabled\ninterpreter /usr/bin/qemu-aarch64-static\n").unwrap();
        assert!(runs("linux/arm64") && !runs("windows/arm64"));
    }
}
