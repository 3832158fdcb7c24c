//! What a container asks of this machine, and what is wrong with that.

use std::{collections::HashSet, fs, os::unix::fs::FileTypeExt};

use tandem_model::{ByteSize, inputs::Device};

/// Less cannot start.
const LEAST_MEMORY: ByteSize = ByteSize::mebibytes(4);
/// Less has no room for a file system.
const LEAST_STORAGE: ByteSize = ByteSize::mebibytes(16);

/// What one container may use, as a program says it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Asked<'a> {
    pub(crate) memory: Option<ByteSize>,
    pub(crate) storage: Option<ByteSize>,
    pub(crate) cpu: Option<f64>,
    pub(crate) cpu_set: Option<&'a str>,
    pub(crate) devices: &'a [Device],
}

impl Asked<'_> {
    /// What of it this machine cannot give to any container, in words; `None` if it can give all.
    pub(crate) fn wrong(self) -> Option<String> {
        let small = |property: &str, size: Option<ByteSize>, least: ByteSize| {
            let size = size.filter(|size| *size < least)?;
            Some(format!(
                "`{property}` is {size}; a container cannot start with less than {least} (a plain number is MiB)"
            ))
        };
        let bad = |cpu: &f64| !cpu.is_finite() || *cpu <= 0.0;
        small("memory", self.memory, LEAST_MEMORY)
            .or_else(|| small("ephemeralStorage", self.storage, LEAST_STORAGE))
            .or_else(|| {
                self.cpu.filter(bad).map(|cpu| format!("`cpu` is {cpu}; it must be a positive number"))
            })
            .or_else(|| self.cpu_set.and_then(wrong_cpu_set))
            .or_else(|| unusable(self.devices))
    }
}

/// What is wrong with devices, now.
pub(crate) fn unusable(devices: &[Device]) -> Option<String> {
    let mut seen = HashSet::new();
    devices.iter().find_map(|device| {
        let twice =
            (!seen.insert(&device.path)).then(|| format!("the device `{}` is there twice", device.path));
        twice.or_else(|| wrong_device(&device.path))
    })
}

/// What is wrong with a device.
fn wrong_device(path: &str) -> Option<String> {
    if !path.starts_with("/dev/") || path.contains("/../") {
        return Some(format!("the device `{path}` is not below `/dev`"));
    }
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Some(format!("this machine has no device `{path}`"))
        }
        Err(error) => Some(format!("the device `{path}` cannot be looked at: {error}")),
        Ok(found) if found.file_type().is_symlink() => {
            let target = fs::read_link(path).unwrap_or_default();
            Some(format!("`{path}` is a link to `{}`; name the device itself", target.display()))
        }
        Ok(found) if found.file_type().is_block_device() => Some(format!(
            "`{path}` is a block device; a container that writes to it could write to any file on it"
        )),
        Ok(found) if !found.file_type().is_char_device() => Some(format!("`{path}` is not a device")),
        Ok(_) => None,
    }
}

/// What is wrong with a list of processors such as `0-1,3`.
fn wrong_cpu_set(set: &str) -> Option<String> {
    let Some(wanted) = processors(set) else {
        return Some(format!("`cpuSet` is `{set}`; write a list such as `0`, `0-1` or `0,2-3`"));
    };
    let online = fs::read_to_string("/sys/devices/system/cpu/online").ok();
    let online = online.as_deref().map(str::trim)?;
    let has = processors(online)?;
    let missing = wanted.iter().find(|n| !has.contains(n))?;
    Some(format!("`cpuSet` is `{set}`; this machine has no processor {missing}, it has {online}"))
}

/// The processors of a list; `None` if it is none.
fn processors(list: &str) -> Option<Vec<u16>> {
    let mut all = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number =
            |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u16>().ok())?;
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_small_is_told_with_what_is_enough() {
        let memory = Asked { memory: Some(ByteSize(500)), ..Asked::default() };
        assert!(
            memory
                .wrong()
                .unwrap()
                .contains("`memory` is 500 B; a container cannot start with less than 4 MiB"),
            "{memory:?}"
        );
        let storage = Asked { storage: Some(ByteSize::mebibytes(15)), ..Asked::default() };
        assert!(storage.wrong().unwrap().starts_with("`ephemeralStorage` is 15 MiB"));
        let enough = Asked {
            memory: Some(LEAST_MEMORY),
            storage: Some(LEAST_STORAGE),
            cpu: Some(0.1),
            ..Asked::default()
        };
        assert_eq!(enough.wrong(), None);
        assert!(Asked { cpu: Some(f64::NAN), ..enough }.wrong().is_some());
    }

    #[test]
    fn lists_of_processors_are_read_and_held_against_the_machine() {
        assert_eq!(processors("0-2,5"), Some(vec![0, 1, 2, 5]));
        for wrong in ["", "-", "a", "1-0", "0,", "+1", " 0", "0-1-2", "70000"] {
            assert_eq!(processors(wrong), None, "{wrong}");
            assert!(wrong_cpu_set(wrong).unwrap().contains("write a list"), "{wrong}");
        }
        assert_eq!(wrong_cpu_set("0"), None);
        assert!(wrong_cpu_set("0,9999").unwrap().contains("no processor 9999"));
    }

    #[test]
    fn only_devices_of_characters_are_given_away() {
        assert_eq!(wrong_device("/dev/null"), None);
        let told =
            |path, what| assert!(wrong_device(path).unwrap().contains(what), "{:?}", wrong_device(path));
        told("/dev/no-such-device", "this machine has no device `/dev/no-such-device`");
        told("/etc/passwd", "is not below `/dev`");
        told("/dev/../etc/passwd", "is not below `/dev`");
        told("/dev/stdin", "is a link to");
        told("/dev/pts", "is not a device");
    }
}
