//! Translates between what the engine loads and saves (Docker's image archive: `manifest.json`, a configuration, tars) and
//! OCI image layouts (OCI image spec 1.1, "Image Layout").
//!
//! Configurations pass as they are, byte for byte: their digest is the image's. Layers are loaded as plain tars, since
//! older engines know no zstd, and written compressed. Nothing in an archive is trusted: links are followed only within it,
//! and no other name than ours gets into the engine.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, BufReader, Read, Write},
    path::{Component, Path, PathBuf},
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    ContainerError, Platform,
    buildah::{
        archive::{self, Compression, Kind, hex},
        build::unique,
        import,
    },
    layout::at,
};

/// Larger than any configuration or manifest.
const DOCUMENT: u64 = 16 << 20;

/// A folder that goes with this value.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// Makes one in `parent`. What others left there whose process is gone goes too.
    pub(super) fn new(parent: &Path) -> Result<Self, ContainerError> {
        fs::create_dir_all(parent).map_err(at(parent))?;
        for entry in fs::read_dir(parent).map_err(at(parent))?.flatten() {
            let name = entry.file_name();
            let owner = name.to_str().and_then(|name| name.split('-').next()?.parse::<u32>().ok());
            if owner.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let folder = parent.join(unique());
        fs::create_dir(&folder).map_err(at(&folder))?;
        Ok(Self(folder))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// An image in files.
struct Image {
    config: Vec<u8>,
    /// Lowest first; compressed or not.
    layers: Vec<PathBuf>,
}

/// Makes of a file or a folder what the engine can load under a name. Returns the archive, and the digest of the image.
pub(super) fn to_load(file: &Path, name: &str, scratch: &Path) -> Result<(PathBuf, String), ContainerError> {
    let image = read(file, scratch)?;
    let digest = hex(Sha256::new_with_prefix(&image.config));
    let target = scratch.join("load.tar");
    let write = || {
        let mut tar = tar::Builder::new(File::create(&target)?);
        let mut put = |name: &str, bytes: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, bytes)
        };
        let config = format!("{digest}.json");
        let layers: Vec<String> = (0..image.layers.len()).map(|n| format!("{n}/layer.tar")).collect();
        put(&config, &image.config)?;
        let manifest = json!([{ "Config": config, "RepoTags": [name], "Layers": layers }]);
        put("manifest.json", &serde_json::to_vec(&manifest)?)?;
        for (path, layer) in layers.iter().zip(&image.layers) {
            let mut opened = File::open(layer)?;
            let compression = archive::compression(&mut opened)?;
            if compression == Compression::None {
                tar.append_file(path, &mut opened)?;
            } else {
                let plain = scratch.join("layer");
                archive::unpack(layer, compression, &plain).map_err(io::Error::other)?;
                tar.append_file(path, &mut File::open(&plain)?)?;
                fs::remove_file(plain)?;
            }
        }
        tar.into_inner()?.flush()
    };
    write().map_err(at(&target))?;
    Ok((target, format!("sha256:{digest}")))
}

fn read(file: &Path, scratch: &Path) -> Result<Image, ContainerError> {
    if file.is_dir() {
        return of_layout(&Files { root: file.to_owned(), links: HashMap::new() });
    }
    let unpacked = scratch.join("unpacked");
    match archive::recognise(file)? {
        Kind::RootFs(layer) => {
            import::lay_out(file, &layer, &unpacked).map_err(at(&unpacked))?;
            of_layout(&Files { root: unpacked, links: HashMap::new() })
        }
        Kind::Oci { compression } => of_layout(&Files::unpack(file, compression, unpacked)?),
        Kind::Docker { compression } => of_docker(&Files::unpack(file, compression, unpacked)?),
    }
}

/// Writes an archive that the engine saved as an OCI image layout, into a folder that is not there yet.
pub(super) fn lay_out(
    saved: &Path,
    scratch: &Path,
    digest: &str,
    folder: &Path,
) -> Result<(), ContainerError> {
    let image = of_docker(&Files::unpack(saved, Compression::None, scratch.join("unpacked"))?)?;
    if format!("sha256:{}", hex(Sha256::new_with_prefix(&image.config))) != digest {
        return Err(refused("the engine saved another image than it was asked for"));
    }
    let blobs = folder.join("blobs/sha256");
    let write = || {
        fs::create_dir_all(&blobs)?;
        let put = |bytes: &[u8], media_type: &str| -> io::Result<Value> {
            let digest = hex(Sha256::new_with_prefix(bytes));
            fs::write(blobs.join(&digest), bytes)?;
            Ok(json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len() }))
        };
        let config = put(&image.config, "application/vnd.oci.image.config.v1+json")?;
        let mut layers = Vec::new();
        for layer in &image.layers {
            layers.push(compress(layer, &blobs)?);
        }
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": import::MANIFEST,
            "config": config,
            "layers": layers,
        });
        let manifest = put(&serde_json::to_vec(&manifest)?, import::MANIFEST)?;
        let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
        fs::write(folder.join("index.json"), index.to_string())?;
        fs::write(folder.join("oci-layout"), json!({ "imageLayoutVersion": "1.0.0" }).to_string())
    };
    write().map_err(at(folder))
}

/// Counts and digests what is written through it.
struct Digesting<W> {
    inner: W,
    sha: Sha256,
    written: u64,
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.sha.update(&bytes[..n]);
        self.written += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn compress(layer: &Path, blobs: &Path) -> io::Result<Value> {
    let unnamed = blobs.join(".layer");
    let out = Digesting { inner: File::create(&unnamed)?, sha: Sha256::new(), written: 0 };
    let mut gzip = flate2::write::GzEncoder::new(out, flate2::Compression::fast());
    let mut from = File::open(layer)?;
    let out = match archive::compression(&mut from)? {
        Compression::None => {
            io::copy(&mut from, &mut gzip)?;
            gzip.finish()?
        }
        _ => return Err(io::Error::other("the engine saved a layer in a form that we do not know")),
    };
    let digest = hex(out.sha);
    fs::rename(&unnamed, blobs.join(&digest))?;
    let media_type = Compression::Gzip.media_type();
    Ok(json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": out.written }))
}

fn refused(reason: &str) -> ContainerError {
    ContainerError::Tool { tool: "the import", reason: reason.to_owned() }
}

/// What was in an archive: its files in a folder, its links apart.
struct Files {
    root: PathBuf,
    links: HashMap<PathBuf, PathBuf>,
}

impl Files {
    fn unpack(file: &Path, compression: Compression, root: PathBuf) -> Result<Self, ContainerError> {
        let mut links = HashMap::new();
        let mut unpack = || {
            let raw = BufReader::with_capacity(1 << 16, File::open(file)?);
            let plain: Box<dyn Read> = match compression {
                Compression::None => Box::new(raw),
                Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(raw)),
                Compression::Zstd => Box::new(zstd::Decoder::with_buffer(raw)?),
            };
            for entry in tar::Archive::new(plain).entries()? {
                let mut entry = entry?;
                let Some(path) = within(Path::new(""), &entry.path()?) else { continue };
                let kind = entry.header().entry_type();
                let target = entry.link_name()?.map(|target| target.into_owned());
                if kind.is_file() {
                    let to = root.join(&path);
                    fs::create_dir_all(to.parent().unwrap_or(&root))?;
                    io::copy(&mut entry, &mut File::create(to)?)?;
                } else if let Some(target) = target {
                    let from = if kind.is_symlink() { path.parent() } else { None };
                    links.extend(within(from.unwrap_or(Path::new("")), &target).map(|target| (path, target)));
                }
            }
            fs::create_dir_all(&root)
        };
        unpack().map_err(at(file))?;
        Ok(Self { root, links })
    }

    /// Where a file of the archive lies.
    fn find(&self, name: &str) -> Result<PathBuf, ContainerError> {
        const LINKS: usize = 8;
        let absent = || refused(&format!("the image names `{name}`, which is not there"));
        let mut path = within(Path::new(""), Path::new(name)).ok_or_else(absent)?;
        for _ in 0..LINKS {
            match self.links.get(&path) {
                Some(target) => path.clone_from(target),
                None => break,
            }
        }
        let found = self.root.join(path);
        found.is_file().then_some(found).ok_or_else(absent)
    }

    fn document(&self, name: &str) -> Result<Vec<u8>, ContainerError> {
        let path = self.find(name)?;
        let mut bytes = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(DOCUMENT).read_to_end(&mut bytes));
        read.map_err(at(path))?;
        Ok(bytes)
    }

    fn json(&self, name: &str) -> Result<Value, ContainerError> {
        let text = self.document(name)?;
        serde_json::from_slice(&text).map_err(|error| refused(&format!("`{name}` is no JSON: {error}")))
    }

    fn blob(&self, descriptor: &Value) -> Result<String, ContainerError> {
        let digest = descriptor["digest"].as_str().and_then(|digest| digest.strip_prefix("sha256:"));
        let plain = digest.filter(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()));
        plain.map(|hex| format!("blobs/sha256/{hex}")).ok_or_else(|| refused("a blob has no SHA-256 digest"))
    }
}

/// A path in an archive without detours; `None` if it leads out of it.
fn within(folder: &Path, path: &Path) -> Option<PathBuf> {
    let mut out = if path.is_absolute() { PathBuf::new() } else { folder.to_owned() };
    for part in path.components() {
        match part {
            Component::Normal(part) => out.push(part),
            Component::ParentDir => out.pop().then_some(())?,
            _ => {}
        }
    }
    (!out.as_os_str().is_empty()).then_some(out)
}

fn of_layout(files: &Files) -> Result<Image, ContainerError> {
    let mut document = files.json("index.json")?;
    // An index may name an index: one for several machines.
    for _ in 0..4 {
        let Some(all) = document["manifests"].as_array().cloned() else { break };
        let chosen = choose(&all).ok_or_else(|| refused("it has no image for this machine, or several"))?;
        document = files.json(&files.blob(&chosen)?)?;
    }
    let layers = document["layers"].as_array().ok_or_else(|| refused("its manifest names no layers"))?;
    let expected = files.blob(&document["config"])?;
    let config = files.document(&expected)?;
    if !expected.ends_with(&hex(Sha256::new_with_prefix(&config))) {
        return Err(refused("its configuration is not the one that its digest says"));
    }
    // What the layers hold, the engine compares with the configuration.
    let layers = layers.iter().map(|layer| files.find(&files.blob(layer)?)).collect::<Result<_, _>>()?;
    Ok(Image { config, layers })
}

/// The only one, or the one for this machine.
fn choose(manifests: &[Value]) -> Option<Value> {
    if let [only] = manifests {
        return Some(only.clone());
    }
    let here = Platform::here();
    let fits = |one: &&Value| {
        let of = &one["platform"];
        let word = |key: &str| of[key].as_str().unwrap_or_default();
        Platform::of(word("os"), word("architecture"), of["variant"].as_str())
            .is_some_and(|of| here.fits(&of))
    };
    let mut fitting = manifests.iter().filter(fits);
    let first = fitting.next().cloned();
    if fitting.next().is_some() { None } else { first }
}

fn of_docker(files: &Files) -> Result<Image, ContainerError> {
    let manifest = files.json("manifest.json")?;
    let [one] = manifest.as_array().map(Vec::as_slice).unwrap_or_default() else {
        return Err(refused("there is not one image in it, but none or several"));
    };
    let config = files.document(one["Config"].as_str().unwrap_or_default())?;
    let names = one["Layers"].as_array().cloned().unwrap_or_default();
    let layers =
        names.iter().map(|name| files.find(name.as_str().unwrap_or_default())).collect::<Result<_, _>>()?;
    Ok(Image { config, layers })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An archive as older engines save it: layers that are the same are links.
    fn saved(to: &Path, entries: &[(&str, Result<&str, &str>)]) {
        let mut tar = tar::Builder::new(File::create(to).unwrap());
        for (name, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            match content {
                Ok(text) => {
                    header.set_size(text.len() as u64);
                    tar.append_data(&mut header, name, text.as_bytes()).unwrap();
                }
                Err(target) => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    header.set_size(0);
                    tar.append_link(&mut header, name, target).unwrap();
                }
            }
        }
        tar.finish().unwrap();
    }

    fn digest(text: &str) -> String {
        format!("sha256:{}", hex(Sha256::new_with_prefix(text)))
    }

    #[test]
    fn what_was_saved_is_loaded_again_with_the_same_configuration_and_layers() {
        let scratch = tempfile::tempdir().unwrap();
        let (archive, layout) = (scratch.path().join("saved.tar"), scratch.path().join("layout"));
        let config = r#"{ "os":  "linux" }"#;
        let manifest =
            r#"[{"Config":"c.json","RepoTags":["theirs:1"],"Layers":["a/layer.tar","b/layer.tar"]}]"#;
        saved(
            &archive,
            &[
                ("a/layer.tar", Ok("one layer")),
                ("b/layer.tar", Err("../a/layer.tar")),
                ("c.json", Ok(config)),
                ("manifest.json", Ok(manifest)),
            ],
        );
        lay_out(&archive, &scratch.path().join("1"), &digest(config), &layout).unwrap();
        fs::create_dir(scratch.path().join("2")).unwrap();
        let (loaded, id) = to_load(&layout, "ours:1", &scratch.path().join("2")).unwrap();
        assert_eq!(id, digest(config));
        let files = Files::unpack(&loaded, Compression::None, scratch.path().join("3")).unwrap();
        assert_eq!(files.json("manifest.json").unwrap()[0]["RepoTags"], json!(["ours:1"]));
        let again = of_docker(&files).unwrap();
        assert_eq!(again.config, config.as_bytes());
        let texts: Vec<_> = again.layers.iter().map(|layer| fs::read_to_string(layer).unwrap()).collect();
        assert_eq!(texts, ["one layer", "one layer"]);
    }

    #[test]
    fn no_link_leads_out_of_an_archive() {
        let scratch = tempfile::tempdir().unwrap();
        let archive = scratch.path().join("hostile.tar");
        for target in ["/etc/passwd", "../../../etc/passwd", "b"] {
            let manifest = r#"[{"Config":"c.json","Layers":["a"]}]"#;
            saved(&archive, &[("a", Err(target)), ("c.json", Ok("{}")), ("manifest.json", Ok(manifest))]);
            let files = Files::unpack(&archive, Compression::None, scratch.path().join("out")).unwrap();
            let error = of_docker(&files).map(drop).unwrap_err();
            assert!(error.to_string().contains("which is not there"), "{target}: {error}");
        }
    }

    #[test]
    fn of_several_images_that_of_this_machine_is_taken() {
        let one = |arch: &str| json!({ "digest": arch, "platform": { "os": "linux", "architecture": arch } });
        let here = one(Platform::here().architecture());
        let note = json!({ "digest": "x", "platform": { "os": "unknown", "architecture": "unknown" } });
        assert_eq!(choose(&[one("mips64le"), here.clone(), note.clone()]), Some(here));
        assert_eq!(choose(&[one("mips64le"), note.clone()]), None);
        assert_eq!(choose(std::slice::from_ref(&note)), Some(note));
    }
}
