//! A project to deploy.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{Cloud, Ran};

/// A project's folder, and `tandem` in it.
pub(crate) struct Project<'a> {
    cloud: &'a Cloud,
    folder: PathBuf,
}

impl<'a> Project<'a> {
    /// A project of these files; `Tandem.yaml` is made unless it is among them.
    pub(super) fn write(cloud: &'a Cloud, name: &str, files: &[(&str, &str)]) -> Self {
        let project = Self { cloud, folder: cloud.scratch().join(name) };
        fs::create_dir_all(&project.folder).unwrap();
        project.edit("Tandem.yaml", &format!("name: {name}\nruntime: js\n"));
        for (path, text) in files {
            project.edit(path, text);
        }
        project
    }

    /// A copy of one of the examples.
    pub(crate) fn example(cloud: &'a Cloud, name: &str) -> Self {
        let project = Self { cloud, folder: cloud.scratch().join(name) };
        copy_folder(&examples().join(name), &project.folder);
        project
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes a file of the project.
    pub(crate) fn edit(&self, path: &str, text: &str) {
        let file = self.folder.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = self.cloud.command();
        command.current_dir(&self.folder);
        command
    }

    pub(crate) fn tandem(&self, arguments: &[&str]) -> Ran {
        Ran::run(self.command().args(arguments))
    }

    /// A script in the project's folder, for pipes and redirections; `tandem` is `$TANDEM`.
    pub(crate) fn shell(&self, script: &str) -> Ran {
        let tandem = self.command();
        let mut shell = Command::new("bash");
        shell.args(["-c", script]).current_dir(&self.folder).stdin(Stdio::null());
        shell.env("TANDEM", tandem.get_program());
        for (name, value) in tandem.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        Ran::run(&mut shell)
    }

    #[track_caller]
    pub(crate) fn up(&self) -> Ran {
        self.tandem(&["up", "--yes"]).ok()
    }

    #[track_caller]
    pub(crate) fn output(&self, name: &str) -> String {
        self.tandem(&["stack", "output", name]).ok().value().to_owned()
    }

    /// Removes everything, with what is in it.
    #[track_caller]
    pub(crate) fn destroy(&self) -> Ran {
        self.tandem(&["destroy", "--yes", "--force"]).ok()
    }
}

pub(crate) fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("examples")
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
