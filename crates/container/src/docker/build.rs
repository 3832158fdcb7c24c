//! Runs one build by the engine's own builder, which every engine has (the one before BuildKit).
//!
//! It asks no client for anything, so it has no secrets to mount and no other certificates than the engine's; a request with
//! such is refused. What it prints is put in the words of our transcript.

use std::{
    collections::{HashMap, VecDeque},
    env, fs, io,
    path::Path,
    pin::pin,
};

use bollard::{
    body_try_stream,
    query_parameters::{BuildImageOptions, BuildImageOptionsBuilder},
};
use bytes::Bytes;
use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use tandem_failpoint::hit;
use tokio::{sync::mpsc, task::spawn_blocking};

use super::{Docker, engine::words, marks::Mark};
use crate::{BuildRequest, Built, ContainerError, Lines, buildah, buildah::host::PROXY_VARIABLES, reference};

/// How many lines an error shows.
const TAIL: usize = 20;

/// Why one attempt made no image.
enum Failure {
    /// A step that it would take over is older than allowed.
    Old,
    Error(ContainerError),
}

impl From<ContainerError> for Failure {
    fn from(error: ContainerError) -> Self {
        Self::Error(error)
    }
}

impl Docker {
    pub(super) async fn run_build(
        &self,
        request: &BuildRequest,
        lines: &dyn Lines,
    ) -> Result<Built, ContainerError> {
        if !request.secrets.0.is_empty() {
            return Err(ContainerError::Beyond { what: "mount secrets into the steps of a build" });
        }
        if !request.certificates.is_empty() {
            return Err(ContainerError::Beyond {
                what: "let the steps of a build trust further certificates",
            });
        }
        buildah::build::check(request)?;
        let name = reference::name(&request.name)?;
        let begun = Timestamp::now();
        let before = self.find(&name).await?;
        let mut sources = Vec::new();
        for repository in &request.cache_from {
            // One that does not answer is passed over.
            let repository = reference::name(repository)?;
            if self.fetch(&repository, request.platform.as_ref(), "it", lines).await.is_ok() {
                sources.push(repository);
            }
        }
        // With sources the engine takes steps from these alone.
        if !sources.is_empty() && before.is_some() {
            sources.push(name.clone());
        }
        let options = options(request, &name, &sources);
        let oldest =
            request.max_age.and_then(|age| begun.checked_sub(SignedDuration::try_from(age).ok()?).ok());
        let built = match self.attempt(request, options.clone(), oldest, lines).await {
            // Steps are made in order: if one is too old, so are those before it.
            Err(Failure::Old) => {
                let options = BuildImageOptions { nocache: true, ..options };
                self.attempt(request, options, None, lines).await
            }
            done => done,
        };
        let (digest, reused) = match built {
            Ok(built) => built,
            Err(Failure::Error(error)) => return Err(error),
            Err(Failure::Old) => return Err(super::engine::said("a build from the start took over a step")),
        };
        hit("docker.image.built");
        self.mark(Mark::Image, &digest)?;
        let image = self.made(&digest).await?;
        Ok(Built { image, since: reused.map_or(begun, |reused| reused.min(begun)) })
    }

    /// Builds once. Returns the image's digest, and when the oldest of the steps was made that it took over.
    async fn attempt(
        &self,
        request: &BuildRequest,
        options: BuildImageOptions,
        oldest: Option<Timestamp>,
        lines: &dyn Lines,
    ) -> Result<(String, Option<Timestamp>), Failure> {
        let client = self.engine.client().await?;
        let context = body_try_stream(tar_of(&request.context));
        let mut messages = pin!(client.build_image(options, None, Some(context)));
        let mut transcript = Transcript::default();
        let mut digest = None;
        let mut reused: Option<Timestamp> = None;
        while let Some(message) = messages.next().await {
            let failed = match message {
                Ok(message) => {
                    let text = message.stream.unwrap_or_default();
                    for line in transcript.take(&text) {
                        lines.line(&line);
                    }
                    digest = message.aux.and_then(|aux| aux.id).or(digest);
                    message.error_detail.map(|detail| detail.message.unwrap_or_default())
                }
                Err(error) => match self.engine.failed(error) {
                    ContainerError::Tool { reason, .. } => Some(reason),
                    other => return Err(other.into()),
                },
            };
            if let Some(reason) = failed {
                if let Some(step) = &transcript.made
                    && let Ok(Some(step)) = self.find(step).await
                    && step.names.is_empty()
                {
                    self.mark(Mark::Step, &step.digest)?;
                }
                lines.line(&reason);
                return Err(transcript.failure(&request.dockerfile, &reason).into());
            }
            for step in std::mem::take(&mut transcript.reused) {
                let made = self.find(&step).await?.map(|step| step.created);
                if oldest.zip(made).is_some_and(|(oldest, made)| made < oldest) {
                    // Dropped, the build ends.
                    return Err(Failure::Old);
                }
                reused = made.into_iter().chain(reused).min();
            }
        }
        let digest = digest.ok_or_else(|| super::engine::said("the build ended without an image"))?;
        Ok((digest, reused))
    }
}

fn options(request: &BuildRequest, name: &str, sources: &Vec<String>) -> BuildImageOptions {
    // The engine keeps those out of the image and of its history.
    let proxies = PROXY_VARIABLES.iter().filter_map(|name| Some(((*name).to_owned(), env::var(name).ok()?)));
    let mut arguments: HashMap<String, String> = proxies.collect();
    arguments.extend(request.args.clone());
    let mut options = BuildImageOptionsBuilder::new()
        .dockerfile(&request.dockerfile)
        .t(name)
        .rm(true)
        .forcerm(true)
        .networkmode("host")
        .buildargs(&arguments);
    if !sources.is_empty() {
        options = options.cachefrom(sources);
    }
    if let Some(target) = &request.target {
        options = options.target(target);
    }
    if let Some(platform) = &request.platform {
        options = options.platform(&platform.to_string());
    }
    options.build()
}

/// A folder as a tar, in pieces.
fn tar_of(folder: &Path) -> impl futures::Stream<Item = io::Result<Bytes>> + Send + 'static {
    let (pieces, received) = mpsc::channel(4);
    let folder = folder.to_owned();
    spawn_blocking(move || {
        let mut tar = tar::Builder::new(io::BufWriter::with_capacity(1 << 16, Pieces(pieces.clone())));
        tar.follow_symlinks(false);
        let mut write = || {
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    tar.append_dir_all(entry.file_name(), entry.path())?;
                } else {
                    tar.append_path_with_name(entry.path(), entry.file_name())?;
                }
            }
            tar.finish()?;
            io::Write::flush(tar.get_mut())
        };
        if let Err(error) = write() {
            // Nobody reads any more if the build has ended.
            let _ = pieces.blocking_send(Err(error));
        }
    });
    stream::unfold(received, |mut received| async move { Some((received.recv().await?, received)) })
}

struct Pieces(mpsc::Sender<io::Result<Bytes>>);

impl io::Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Follows what the builder prints.
#[derive(Debug, Default)]
struct Transcript {
    /// A line that has not ended.
    part: String,
    /// `STEP 3/6` and the instruction.
    step: Option<(String, String)>,
    tail: VecDeque<String>,
    /// The last line said that a step is taken over; the next one says which.
    cached: bool,
    /// Steps that were taken over, until they are taken from here.
    reused: Vec<String>,
    /// The last step that was made.
    made: Option<String>,
}

impl Transcript {
    /// Takes a piece of output, and returns the lines that it ends, in our words.
    fn take(&mut self, text: &str) -> Vec<String> {
        self.part.push_str(text);
        let mut ended = Vec::new();
        while let Some(end) = self.part.find('\n') {
            let line: String = self.part.drain(..=end).collect();
            ended.push(self.line(&line));
        }
        ended
    }

    fn line(&mut self, line: &str) -> String {
        let line = plain(line.trim_end_matches(['\n', '\r']));
        let line = match step(&line) {
            Some((step, instruction)) => {
                self.step = Some((step.clone(), instruction.clone()));
                format!("{step}: {instruction}")
            }
            None => line,
        };
        let note = line.strip_prefix(" ---> ");
        if let Some(id) = note.filter(|id| id.len() == 12 && id.bytes().all(|b| b.is_ascii_hexdigit())) {
            match self.cached {
                true => self.reused.push(id.to_owned()),
                false => self.made = Some(id.to_owned()),
            }
        }
        self.cached = note == Some("Using cache");
        self.remember(&line);
        line
    }

    fn remember(&mut self, line: &str) {
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line.to_owned());
    }

    fn failure(mut self, dockerfile: &str, reason: &str) -> ContainerError {
        let reason = words(reason);
        self.remember(&reason);
        let Some((step, instruction)) = self.step else {
            // It fails before the first step only over the file itself.
            let step = Some(format!("`{dockerfile}`"));
            return ContainerError::Build { step, instruction: reason, tail: self.tail.into() };
        };
        match missing(&instruction) {
            Some(image) => ContainerError::NoImage {
                image,
                reason: format!("it is not in the store and could not be pulled: {reason}"),
            },
            None => ContainerError::Build { step: Some(step), instruction, tail: self.tail.into() },
        }
    }
}

/// `Step 3/6 : RUN x` as `STEP 3/6` and `RUN x`.
fn step(line: &str) -> Option<(String, String)> {
    let (count, instruction) = line.strip_prefix("Step ")?.split_once(" : ")?;
    let counts = count.bytes().all(|b| b.is_ascii_digit() || b == b'/');
    counts.then(|| (format!("STEP {count}"), instruction.to_owned()))
}

/// The image that an instruction begins with, or copies from. Such an instruction fails only for want of it.
fn missing(instruction: &str) -> Option<String> {
    let mut words = instruction.split_whitespace();
    if words.next()?.eq_ignore_ascii_case("FROM") {
        return words.find(|word| !word.starts_with("--")).map(str::to_owned);
    }
    None
}

/// A line without what colours it.
fn plain(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("\x1b[") {
        out.push_str(&rest[..at]);
        rest = &rest[at + 2..];
        let end = rest.find(|c: char| c.is_ascii_alphabetic()).map_or(rest.len(), |end| end + 1);
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_its_step_its_instruction_and_the_last_lines() {
        let mut transcript = Transcript::default();
        let lines = transcript.take("Step 1/2 : FROM base\n ---> 0123456789ab\nStep 2/2 : RUN make\n");
        assert_eq!(lines, ["STEP 1/2: FROM base", " ---> 0123456789ab", "STEP 2/2: RUN make"]);
        transcript.take("\x1b[91mto std");
        assert_eq!(transcript.take("err\x1b[0m\n"), ["to stderr"]);
        assert_eq!(transcript.made.as_deref(), Some("0123456789ab"));
        let error = transcript.failure("Dockerfile", "The command returned a non-zero code: 7");
        let ContainerError::Build { step, instruction, tail } = error else { panic!("{error:?}") };
        assert_eq!((step.as_deref(), instruction.as_str()), (Some("STEP 2/2"), "RUN make"));
        assert_eq!(tail[tail.len() - 2..], ["to stderr", "The command returned a non-zero code: 7"]);
    }

    #[test]
    fn a_step_that_was_taken_over_is_told_from_one_that_was_made() {
        let mut transcript = Transcript::default();
        transcript.take("Step 2/2 : RUN true\n ---> Using cache\n ---> aaaaaaaaaaaa\n");
        assert_eq!(
            (transcript.reused.as_slice(), transcript.made.as_deref()),
            (&["aaaaaaaaaaaa".into()][..], None)
        );
        transcript.take(" ---> bbbbbbbbbbbb\n");
        assert_eq!(transcript.made.as_deref(), Some("bbbbbbbbbbbb"));
    }

    #[test]
    fn a_missing_base_image_is_told_from_a_failed_instruction() {
        assert_eq!(missing("FROM --platform=linux/amd64 a/b:1 AS c").as_deref(), Some("a/b:1"));
        assert_eq!(missing("RUN FROM x"), None);
    }
}
