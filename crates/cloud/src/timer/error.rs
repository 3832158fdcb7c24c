//! What can go wrong with a timer.

use tandem_model::{Explain, inputs::InputsError, schedule::ScheduleError};
use tandem_store::ReadError;

#[derive(Debug, thiserror::Error)]
pub enum TimerError {
    #[error(transparent)]
    Inputs(#[from] InputsError),
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    #[error("a record in the store cannot be read")]
    Damaged { source: serde_json::Error },
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Explain for TimerError {
    fn code(&self) -> &'static str {
        match self {
            Self::Inputs(_) => "E0302",
            Self::Schedule(error) => error.code(),
            Self::Damaged { .. } => "E0902",
            Self::Read(error) => error.code(),
        }
    }

    fn help(&self) -> String {
        match self {
            Self::Inputs(_) => "a timer takes `every`, `cron` with `timeZone`, or `at`".into(),
            Self::Schedule(error) => error.help(),
            Self::Damaged { .. } => "restore the folder `data` of TANDEM_HOME from a backup".into(),
            Self::Read(error) => error.help(),
        }
    }
}
