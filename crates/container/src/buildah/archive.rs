//! Tells what a file to be imported is: a root file system, an OCI archive, or a Docker archive.
//!
//! Recognised by content, compressed (gzip, zstd) or not. One pass reads the whole of a root file system and returns
//! the digests that an OCI image needs of its layer.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek},
    path::Path,
};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use crate::{ContainerError, layout::at};

/// What was found in a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `docker save`.
    Docker {
        compression: Compression,
    },
    /// An OCI image layout in a tar.
    Oci {
        compression: Compression,
    },
    RootFs(Layer),
}

/// A layer as it lies in the file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Layer {
    pub(crate) compression: Compression,
    /// Hexadecimal SHA-256 of the file as it is.
    pub(crate) digest: String,
    /// Hexadecimal SHA-256 of the tar in it.
    pub(crate) diff_id: String,
    pub(crate) size: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// OCI image spec 1.1, "Layer media types".
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::None => "application/vnd.oci.image.layer.v1.tar",
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }
}

/// Counts and digests what is read through it.
struct Digesting<R> {
    inner: R,
    sha: Sha256,
    read: u64,
}

impl<R> Digesting<R> {
    fn new(inner: R) -> Self {
        Self { inner, sha: Sha256::new(), read: 0 }
    }
}

impl<R: Read> Read for Digesting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.sha.update(&buffer[..n]);
        self.read += n as u64;
        Ok(n)
    }
}

/// Looks into a file. Blocks for as long as reading and digesting it takes.
///
/// # Errors
/// [`ContainerError::Tool`] if it is no tar; [`ContainerError::Io`] if it cannot be read.
pub(crate) fn recognise(path: &Path) -> Result<Kind, ContainerError> {
    let mut file = File::open(path).map_err(at(path))?;
    let compression = compression(&mut file).map_err(at(path))?;
    let mut raw = Digesting::new(BufReader::with_capacity(1 << 16, file));
    let unreadable = |error: io::Error| refused(path, &error.to_string());
    let (found, diff_id) = match compression {
        Compression::None => look(&mut raw),
        Compression::Gzip => look(flate2::bufread::MultiGzDecoder::new(BufReader::new(&mut raw))),
        Compression::Zstd => zstd::Decoder::new(&mut raw).and_then(look),
    }
    .map_err(unreadable)?;
    match found {
        Content::Docker => return Ok(Kind::Docker { compression }),
        Content::Oci => return Ok(Kind::Oci { compression }),
        Content::Empty => return Err(refused(path, "there are no files in it")),
        Content::Files => {}
    }
    io::copy(&mut raw, &mut io::sink()).map_err(at(path))?;
    let layer = Layer { compression, digest: hex(raw.sha), diff_id, size: raw.read };
    Ok(Kind::RootFs(layer))
}

fn refused(path: &Path, reason: &str) -> ContainerError {
    ContainerError::Tool {
        tool: "the import",
        reason: format!(
            "`{}` is neither a tar of a root file system nor an OCI or Docker image archive: {reason}",
            path.display()
        ),
    }
}

pub(crate) fn compression(file: &mut File) -> io::Result<Compression> {
    let mut start = Vec::new();
    file.take(4).read_to_end(&mut start)?;
    file.rewind()?;
    Ok(match start.as_slice() {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd] => Compression::Zstd,
        _ => Compression::None,
    })
}

enum Content {
    Docker,
    Oci,
    Files,
    Empty,
}

/// Reads a tar to its end, unless it turns out to be an image archive. Returns the digest of the tar besides.
fn look(tar: impl Read) -> io::Result<(Content, String)> {
    let mut archive = tar::Archive::new(Digesting::new(tar));
    let mut content = Content::Empty;
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path_bytes().into_owned();
        let name = path.strip_prefix(b"./").unwrap_or(&path);
        match name {
            b"oci-layout" if json(&mut entry).is_some_and(|file| file["imageLayoutVersion"].is_string()) => {
                return Ok((Content::Oci, String::new()));
            }
            b"manifest.json" if json(&mut entry).is_some_and(|file| file[0]["Config"].is_string()) => {
                return Ok((Content::Docker, String::new()));
            }
            b"" => {}
            _ => content = Content::Files,
        }
    }
    // What follows the last entry belongs to the digest too.
    let mut rest = archive.into_inner();
    io::copy(&mut rest, &mut io::sink())?;
    Ok((content, hex(rest.sha)))
}

fn json(entry: &mut impl Read) -> Option<serde_json::Value> {
    serde_json::from_reader(entry.take(1 << 20)).ok()
}

pub(crate) fn hex(sha: Sha256) -> String {
    HEXLOWER.encode(&sha.finalize())
}

/// Writes the tar in a compressed file. Blocks.
pub(crate) fn unpack(path: &Path, compression: Compression, to: &Path) -> Result<(), ContainerError> {
    let file = BufReader::new(File::open(path).map_err(at(path))?);
    let mut out = File::create(to).map_err(at(to))?;
    match compression {
        Compression::None => io::copy(&mut { file }, &mut out),
        Compression::Gzip => io::copy(&mut flate2::bufread::MultiGzDecoder::new(file), &mut out),
        Compression::Zstd => {
            zstd::Decoder::with_buffer(file).and_then(|mut tar| io::copy(&mut tar, &mut out))
        }
    }
    .map(drop)
    .map_err(at(to))
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use super::*;

    fn tar(entries: &[(&str, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, text) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn recognised(bytes: &[u8]) -> Result<Kind, ContainerError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        recognise(file.path())
    }

    fn digest(bytes: &[u8]) -> String {
        hex(Sha256::new_with_prefix(bytes))
    }

    #[test]
    fn a_root_file_system_is_recognised_compressed_or_not() {
        let plain = tar(&[("./bin/sh", "#!"), ("./manifest.json", "{}")]);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        let gzip = gzip.finish().unwrap();
        let zstd = zstd::encode_all(plain.as_slice(), 1).unwrap();
        for (bytes, compression) in
            [(&plain, Compression::None), (&gzip, Compression::Gzip), (&zstd, Compression::Zstd)]
        {
            let layer = Layer {
                compression,
                digest: digest(bytes),
                diff_id: digest(&plain),
                size: bytes.len() as u64,
            };
            assert_eq!(recognised(bytes).unwrap(), Kind::RootFs(layer));
        }
    }

    #[test]
    fn image_archives_are_told_by_their_content() {
        let docker = tar(&[("x.json", "{}"), ("manifest.json", r#"[{"Config":"x.json","Layers":[]}]"#)]);
        assert_eq!(recognised(&docker).unwrap(), Kind::Docker { compression: Compression::None });
        let oci = tar(&[("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#), ("index.json", "{}")]);
        assert_eq!(recognised(&oci).unwrap(), Kind::Oci { compression: Compression::None });
    }

    #[test]
    fn what_is_no_archive_is_refused_with_a_reason() {
        for bytes in [&b"hello, this is no tar at all"[..], &b""[..], &[0x1f, 0x8b, 1, 2, 3][..]] {
            let error = recognised(bytes).unwrap_err().to_string();
            assert!(error.contains("is neither a tar of a root file system"), "{error}");
        }
        let cut = &tar(&[("file", &"x".repeat(4000))])[..2000];
        assert!(recognised(cut).is_err());
    }
}
