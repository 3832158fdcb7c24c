//! From an image to what its container runs: pure.

use std::collections::BTreeMap;

use tandem_container::{Image, Spec, Volume};
use tandem_model::ByteSize;

use crate::program;

/// Search path of a container whose image names none, as Docker has it.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a task or a service has to say about its container.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted<'a> {
    /// Replaces the image's command; its entrypoint stays.
    pub(crate) command: Option<&'a [String]>,
    /// What it adds to the environment. Only judged here: who starts the container puts it above what the cloud says.
    pub(crate) variables: Option<&'a BTreeMap<String, String>>,
    pub(crate) volumes: Vec<Volume>,
    pub(crate) memory: Option<ByteSize>,
    pub(crate) cpu: Option<f64>,
    pub(crate) cpu_set: Option<&'a str>,
    pub(crate) storage: Option<ByteSize>,
    pub(crate) labels: Option<&'a BTreeMap<String, String>>,
    /// Whether it runs code of the program, and not what the image says.
    pub(crate) code: bool,
}

/// Why an image cannot be run like this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unrunnable {
    /// Neither an entrypoint nor a command.
    Nothing,
    /// Something that cannot be given to a process, in words.
    Invalid(String),
}

impl Wanted<'_> {
    /// The container, with the image's own environment.
    ///
    /// # Errors
    /// [`Unrunnable`].
    pub(crate) fn of(self, mut image: Image) -> Result<Spec, Unrunnable> {
        if self.code {
            (image.entrypoint, image.command) = (Vec::new(), program::command());
            (image.user, image.working_dir) = (program::USER.to_owned(), program::FOLDER.to_owned());
        }
        let bad = |(name, value): &(&String, &String)| !is_variable(name, value);
        if let Some((name, _)) = self.variables.into_iter().flatten().find(bad) {
            let reason = format!("the environment variable `{}` is not valid", name.escape_debug());
            return Err(Unrunnable::Invalid(reason));
        }
        let command = self.command.map_or(image.command, <[String]>::to_vec);
        let args = [image.entrypoint, command].concat();
        if args.iter().any(|arg| arg.contains('\0')) {
            return Err(Unrunnable::Invalid("the command contains a NUL character".to_owned()));
        }
        if args.is_empty() {
            return Err(Unrunnable::Nothing);
        }
        let mut environment: BTreeMap<String, String> = [("PATH".to_owned(), PATH.to_owned())].into();
        let split = |variable: &String| {
            variable.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))
        };
        environment.extend(image.environment.iter().filter_map(split));
        Ok(Spec {
            image: image.digest,
            args,
            environment,
            working_dir: image.working_dir,
            user: image.user,
            memory: self.memory,
            cpu: self.cpu,
            cpu_set: self.cpu_set.map(str::to_owned),
            devices: Vec::new(),
            network: None,
            volumes: self.volumes,
            exchange: None,
            storage: self.storage,
            labels: self.labels.cloned().unwrap_or_default(),
        })
    }
}

fn is_variable(name: &str, value: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0')
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn image(entrypoint: &[&str], command: &[&str]) -> Image {
        let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        Image {
            digest: "sha256:1".into(),
            names: vec![],
            size: ByteSize(0),
            created: Timestamp::UNIX_EPOCH,
            entrypoint: owned(entrypoint),
            command: owned(command),
            environment: vec!["LANG=C".into()],
            working_dir: "/tmp".into(),
            user: String::new(),
            platform: None,
        }
    }

    #[test]
    fn a_command_replaces_the_images_command_and_keeps_its_entrypoint() {
        let args = |entrypoint: &[&str], cmd: &[&str], wanted: Option<&str>| {
            let command = wanted.map(|word| vec![word.to_owned()]);
            let wanted = Wanted { command: command.as_deref(), ..Wanted::default() };
            wanted.of(image(entrypoint, cmd)).map(|spec| spec.args)
        };
        assert_eq!(args(&["sh", "-c", "date"], &["x"], None).unwrap(), ["sh", "-c", "date", "x"]);
        assert_eq!(args(&["e"], &["x"], Some("y")).unwrap(), ["e", "y"]);
        assert_eq!(args(&[], &["x"], Some("y")).unwrap(), ["y"]);
        assert_eq!(args(&[], &[], None), Err(Unrunnable::Nothing));
        assert!(matches!(args(&["e"], &[], Some("a\0b")), Err(Unrunnable::Invalid(_))));
    }

    #[test]
    fn variables_that_no_process_can_have_are_refused_by_name() {
        for (name, value) in [("", "x"), ("A=B", "x"), ("A", "x\0y")] {
            let variables = BTreeMap::from([(name.to_owned(), value.to_owned())]);
            let wanted = Wanted { variables: Some(&variables), ..Wanted::default() };
            assert!(matches!(wanted.of(image(&["e"], &[])), Err(Unrunnable::Invalid(_))), "{name}={value}");
        }
    }

    #[test]
    fn the_images_environment_is_there_with_a_search_path() {
        let spec = Wanted::default().of(image(&["e"], &[])).unwrap();
        let expected = [("LANG", "C"), ("PATH", PATH)].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(spec.environment, expected.into());
    }
}
