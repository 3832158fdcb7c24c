//! Reads what Buildah prints during a build: which step it is at, and why it failed.

use std::collections::VecDeque;

use crate::{ContainerError, tool};

/// How many lines an error shows.
const TAIL: usize = 20;

/// Follows a build line by line.
#[derive(Debug, Default)]
pub(super) struct Transcript {
    /// `STEP 3/6`, with the stage before it if there are several, and the instruction.
    step: Option<(String, String)>,
    /// The ids of the images that steps took over from earlier builds, as Buildah shows them.
    pub(super) reused: Vec<String>,
    tail: VecDeque<String>,
}

/// Why a build ended badly.
#[derive(Debug)]
pub(super) enum Failure {
    /// An image that a `FROM` or `COPY --from` names is not in the store.
    Missing(String),
    Other(ContainerError),
}

impl Transcript {
    pub(super) fn line(&mut self, line: &str) {
        if let Some((step, instruction)) = step(line) {
            self.step = Some((step.to_owned(), instruction.to_owned()));
        }
        if let Some(id) = line.strip_prefix("--> Using cache ") {
            self.reused.push(id.trim().to_owned());
        }
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line.to_owned());
    }

    /// Call when Buildah has ended with an error.
    pub(super) fn failure(self, dockerfile: &str) -> Failure {
        let error = self.tail.iter().rev().find_map(|line| line.strip_prefix("Error: ")).unwrap_or_default();
        if let Some(image) = missing_image(error) {
            return Failure::Missing(image.to_owned());
        }
        let (step, instruction) = match self.step {
            Some((step, instruction)) => (step, instruction),
            // It fails before the first step only over the file itself.
            None => (format!("`{dockerfile}`"), tool::words(error)),
        };
        Failure::Other(ContainerError::Build { step: Some(step), instruction, tail: self.tail.into() })
    }
}

/// `STEP 3/6: RUN x`, or `[2/2] STEP 3/6: RUN x` in a build of several stages.
fn step(line: &str) -> Option<(&str, &str)> {
    let (step, instruction) = line.split_once(": ")?;
    let bare = match step.strip_prefix('[') {
        Some(rest) => rest.split_once("] ")?.1,
        None => step,
    };
    let count = bare.strip_prefix("STEP ")?;
    count.bytes().all(|b| b.is_ascii_digit() || b == b'/').then_some((step, instruction))
}

fn missing_image(error: &str) -> Option<&str> {
    let from = error
        .strip_prefix("creating build container: ")
        .and_then(|rest| rest.strip_suffix(": image not known"));
    let copy = || {
        error
            .strip_prefix("COPY --from=")
            .or_else(|| error.strip_prefix("ADD --from="))
            .and_then(|rest| rest.strip_suffix(": no stage or image found with that name"))
    };
    from.or_else(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(lines: &[&str]) -> Failure {
        let mut transcript = Transcript::default();
        lines.iter().for_each(|line| transcript.line(line));
        transcript.failure("Dockerfile")
    }

    #[test]
    fn a_failure_names_its_step_its_instruction_and_the_last_lines() {
        let noise: Vec<String> = (0..40).map(|n| format!("noise {n}")).collect();
        let mut lines = vec!["STEP 1/3: FROM base", "STEP 2/3: RUN pip install awscli"];
        lines.extend(noise.iter().map(String::as_str));
        lines
            .push("Error: building at STEP \"RUN pip install awscli\": while running runtime: exit status 1");
        let Failure::Other(ContainerError::Build { step, instruction, tail }) = failure(&lines) else {
            panic!("not a build error")
        };
        assert_eq!((step.as_deref(), instruction.as_str()), (Some("STEP 2/3"), "RUN pip install awscli"));
        assert_eq!((tail.len(), tail[0].as_str()), (20, "noise 21"));
    }

    #[test]
    fn stages_are_told_apart_and_output_that_looks_like_a_step_is_not_one() {
        assert_eq!(step("[2/2] STEP 3/3: RUN x: y"), Some(("[2/2] STEP 3/3", "RUN x: y")));
        assert_eq!(step("STEP one: do it"), None);
        assert_eq!(step("error: x"), None);
    }

    #[test]
    fn a_missing_base_image_is_told_from_a_failed_instruction() {
        for (line, image) in [
            ("Error: creating build container: jrottenberg/ffmpeg: image not known", "jrottenberg/ffmpeg"),
            ("Error: COPY --from=tools: no stage or image found with that name", "tools"),
        ] {
            assert!(
                matches!(failure(&["STEP 1/2: FROM x", line]), Failure::Missing(found) if found == image)
            );
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let Failure::Other(ContainerError::Build { step, instruction, .. }) =
            failure(&["Error: no FROM statement found"])
        else {
            panic!("not a build error")
        };
        assert_eq!(
            (step.as_deref(), instruction.as_str()),
            (Some("`Dockerfile`"), "no FROM statement found")
        );
    }
}
