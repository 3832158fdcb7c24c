//! What can go wrong with a topic.

use tandem_model::{ByteSize, Explain, inputs::InputsError};
use tandem_store::CommitError;

#[derive(Debug, thiserror::Error)]
pub enum TopicError {
    #[error(transparent)]
    Inputs(#[from] InputsError),
    #[error("there is no topic `{name}` in this stack")]
    NoTopic { name: String },
    #[error("the message has {size} with its attributes, more than the {most} that a topic takes")]
    TooLarge { size: ByteSize, most: ByteSize },
    #[error("the attribute `{name}` is no text, number, boolean, or list of these")]
    Attribute { name: String },
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl Explain for TopicError {
    fn code(&self) -> &'static str {
        match self {
            Self::Inputs(_) => "E0302",
            Self::NoTopic { .. } => "E0681",
            Self::TooLarge { .. } => "E0682",
            Self::Attribute { .. } => "E0683",
            Self::Commit(error) => error.code(),
        }
    }

    fn help(&self) -> String {
        match self {
            Self::Inputs(_) => "a topic takes no arguments".into(),
            Self::NoTopic { .. } => {
                "declare it in the program with `new cloud.Topic(…)`, then run `tandem up`".into()
            }
            Self::TooLarge { .. } => "put it into a bucket, and publish its key".into(),
            Self::Attribute { .. } => "put what has a form of its own into the message".into(),
            Self::Commit(error) => error.help(),
        }
    }
}
