//! The projects that `tandem new` writes.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use tandem_model::{Explain, ProjectName};

/// A project to start from.
#[derive(Debug, Clone, Copy)]
pub struct Template {
    pub name: &'static str,
    /// One line for a list.
    pub description: &'static str,
    /// Path and text; `{{project}}` stands for the project's name.
    files: &'static [(&'static str, &'static str)],
}

const PROJECT: &str = "name: {{project}}\nruntime: js\n";
/// Secret settings of a stack are on this machine only.
const IGNORE: &str = "Tandem.*.secrets\nnode_modules/\n";

/// All templates; the first is the default.
pub const TEMPLATES: [Template; 3] = [
    Template {
        name: "javascript",
        description: "a bucket and a handler",
        files: &[
            ("Tandem.yaml", PROJECT),
            (".gitignore", IGNORE),
            ("index.js", include_str!("template/index.js")),
        ],
    },
    Template {
        name: "typescript",
        description: "a bucket and a handler, with types",
        files: &[
            ("Tandem.yaml", PROJECT),
            (".gitignore", IGNORE),
            ("index.ts", include_str!("template/index.ts")),
            // For editors and `tsc`; Tandem itself strips types without looking at them.
            ("tsconfig.json", include_str!("template/tsconfig.json")),
            ("types/tandem-cloud.d.ts", include_str!("../../../sdk/js/index.d.ts")),
            ("types/queue.d.ts", include_str!("../../../sdk/js/queue.d.ts")),
            ("types/timer.d.ts", include_str!("../../../sdk/js/timer.d.ts")),
            ("types/stream.d.ts", include_str!("../../../sdk/js/stream.d.ts")),
            ("types/topic.d.ts", include_str!("../../../sdk/js/topic.d.ts")),
            ("types/entity.d.ts", include_str!("../../../sdk/js/entity.d.ts")),
            ("types/workflow.d.ts", include_str!("../../../sdk/js/workflow.d.ts")),
            ("types/pulumi.d.ts", include_str!("../../../sdk/js/pulumi.d.ts")),
            ("types/durable-functions.d.ts", include_str!("../../../sdk/js/durable-functions.d.ts")),
        ],
    },
    Template {
        name: "container",
        description: "a bucket, a handler, and a container task that the handler starts",
        files: &[
            ("Tandem.yaml", PROJECT),
            (".gitignore", IGNORE),
            ("index.js", include_str!("template/container.js")),
            ("worker/Dockerfile", include_str!("template/Dockerfile")),
        ],
    },
];

#[derive(Debug, thiserror::Error)]
pub enum NewError {
    #[error("`{}` is there already", path.display())]
    Exists { path: PathBuf },
    #[error("cannot write `{}`", path.display())]
    Unwritable { path: PathBuf, source: io::Error },
}

impl Explain for NewError {
    fn code(&self) -> &'static str {
        match self {
            Self::Exists { .. } => "E0106",
            Self::Unwritable { .. } => "E0102",
        }
    }

    fn help(&self) -> String {
        match self {
            Self::Exists { .. } => "run `tandem new` in an empty folder; it never writes over a file".into(),
            Self::Unwritable { .. } => "check space and permissions there".into(),
        }
    }
}

/// Writes the template's files, and answers their paths relative to the folder. The folder is made if need be.
///
/// # Errors
/// [`NewError::Exists`] if the folder has a file besides hidden ones; nothing was written then.
pub fn write(
    template: &Template,
    folder: &Path,
    project: &ProjectName,
) -> Result<Vec<&'static str>, NewError> {
    let unwritable = |path: &Path, source| NewError::Unwritable { path: path.to_owned(), source };
    fs::create_dir_all(folder).map_err(|source| unwritable(folder, source))?;
    for entry in fs::read_dir(folder).map_err(|source| unwritable(folder, source))? {
        let path = entry.map_err(|source| unwritable(folder, source))?.path();
        // A repository's `.git` or `.gitignore` is no reason to refuse.
        if !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) {
            return Err(NewError::Exists { path });
        }
    }
    let mut written = Vec::new();
    for (name, text) in template.files {
        let path = folder.join(name);
        if *name == ".gitignore" && path.exists() {
            continue;
        }
        let parent = path.parent().unwrap_or(folder);
        fs::create_dir_all(parent).map_err(|source| unwritable(parent, source))?;
        let text = text.replace("{{project}}", project.as_str());
        // `create_new`: whatever appears meanwhile is not written over either.
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|source| unwritable(&path, source))?;
        written.push(*name);
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Deployment, Project};

    #[test]
    fn every_template_is_a_program_that_packs() {
        for template in &TEMPLATES {
            let folder = tempfile::tempdir().unwrap();
            let project = folder.path().join("new");
            let files = write(template, &project, &"shop".parse().unwrap()).unwrap();
            assert!(files.contains(&"Tandem.yaml"));
            let found = Project::find(&project).unwrap();
            assert_eq!(found.name.as_str(), "shop");
            Deployment::new(found).unwrap_or_else(|error| panic!("{}: {error}", template.name));
        }
    }

    #[test]
    fn a_folder_with_files_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(".gitignore"), "x").unwrap();
        fs::write(folder.path().join("notes.txt"), "mine").unwrap();
        let error = write(&TEMPLATES[0], folder.path(), &"shop".parse().unwrap()).unwrap_err();
        assert_eq!(error.code(), "E0106");
        assert!(error.to_string().contains("notes.txt"), "{error}");
        assert!(!folder.path().join("Tandem.yaml").exists());
        fs::remove_file(folder.path().join("notes.txt")).unwrap();
        write(&TEMPLATES[0], folder.path(), &"shop".parse().unwrap()).unwrap();
    }
}
