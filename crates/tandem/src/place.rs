//! Where a command works: the cloud's folder, the stack, the project's folder.

use std::{env, io, path::PathBuf};

use tandem_cloud::home::Home;
use tandem_model::{Explain, StackId, StackName};
use tandem_program::Project;
use tandem_server::Client;

use crate::args::Global;

/// The place of one command.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) home: Home,
    pub(crate) stack: StackName,
    /// The folder to look for a project in.
    pub(crate) folder: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum PlaceError {
    #[error("neither TANDEM_HOME nor HOME is set")]
    NoHome,
    #[error("cannot work in `{}`", folder.display())]
    Folder { folder: PathBuf, source: io::Error },
}

impl Explain for PlaceError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoHome => "E0120",
            Self::Folder { .. } => "E0121",
        }
    }
    fn help(&self) -> String {
        match self {
            Self::NoHome => "set TANDEM_HOME to the folder in which everything should live".into(),
            Self::Folder { .. } => "see that the folder exists and may be read".into(),
        }
    }
}

impl Place {
    pub(crate) fn find(global: &Global) -> Result<Self, PlaceError> {
        let home = match (env::var_os("TANDEM_HOME"), env::var_os("HOME")) {
            (Some(home), _) if !home.is_empty() => PathBuf::from(home),
            (_, Some(home)) if !home.is_empty() => PathBuf::from(home).join(".tandem"),
            _ => return Err(PlaceError::NoHome),
        };
        let absolute = |folder: PathBuf| {
            std::path::absolute(&folder).map_err(|source| PlaceError::Folder { folder, source })
        };
        let folder = match &global.cwd {
            Some(folder) => folder
                .canonicalize()
                .map_err(|source| PlaceError::Folder { folder: folder.clone(), source })?,
            None => absolute(PathBuf::from("."))?,
        };
        Ok(Self { home: Home::new(absolute(home)?), stack: global.stack.clone(), folder })
    }

    /// The stack of that project that the command is about.
    pub(crate) fn stack_of(&self, project: &Project) -> StackId {
        StackId { project: project.name.clone(), stack: self.stack.clone() }
    }

    /// The way to the cloud, which may or may not run.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.home.control_socket())
    }
}
