//! What went wrong in a user's program, with the place in the user's own file.

use std::{fmt, ops::Deref};

use rquickjs::{Ctx, Object, Value};
use serde::{Deserialize, Serialize};
use tandem_model::{Explain, Report};

use crate::archive::Archive;

mod frame;

pub use frame::Frame;
pub(crate) use frame::INTERNAL;

/// The codes that this crate and the SDK give. `docs/errors/<code>.md` explains each.
pub(crate) mod code {
    pub(crate) const THROWN: &str = "E0501";
    pub(crate) const SYNTAX: &str = "E0502";
    pub(crate) const NO_MODULE: &str = "E0503";
    pub(crate) const REQUIRE_ESM: &str = "E0504";
    pub(crate) const DUPLICATE: &str = "E0505";
    pub(crate) const ARGUMENT: &str = "E0506";
    pub(crate) const PHASE: &str = "E0507";
    pub(crate) const CYCLE: &str = "E0508";
    pub(crate) const EXIT: &str = "E0509";
    pub(crate) const LIMIT: &str = "E0510";
    pub(crate) const NO_HANDLER: &str = "E0511";
    pub(crate) const NEVER_SETTLES: &str = "E0512";
    pub(crate) const NOT_DEPLOYED: &str = "E0513";
    pub(crate) const INTERRUPTED: &str = "E0514";
    pub(crate) const NO_OBJECT: &str = "E0515";
}

/// What Node calls [`code::NO_MODULE`].
pub(crate) const NODE_NO_MODULE: &str = "MODULE_NOT_FOUND";

const CODES: [&str; 15] = [
    code::THROWN,
    code::SYNTAX,
    code::NO_MODULE,
    code::REQUIRE_ESM,
    code::DUPLICATE,
    code::ARGUMENT,
    code::PHASE,
    code::CYCLE,
    code::EXIT,
    code::LIMIT,
    code::NO_HANDLER,
    code::NEVER_SETTLES,
    code::NOT_DEPLOYED,
    code::INTERRUPTED,
    code::NO_OBJECT,
];

/// What the engine says when it was told to stop.
const INTERRUPTED: &str = "interrupted";
const INTERRUPTED_HELP: &str =
    "look for a loop without an end, or give the function more time with `timeout`";

/// A failure of a user's program.
///
/// Displays as `TypeError: x is not a function (index.js:12:5)`, or without the class for errors of the SDK, whose
/// sentences need none. Its parts are read through it: `error.at`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProgramError(Box<Details>);

/// The parts of a [`ProgramError`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Details {
    /// The class of the thrown error: `TypeError`.
    pub name: String,
    pub message: String,
    pub code: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub help: String,
    /// The call stack, innermost first. The user's frames come before ours.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stack: Vec<Frame>,
    /// The innermost frame of the user's code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Frame>,
    /// The line of the source at `at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_line: Option<String>,
    /// The chain of `cause`, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
}

impl Deref for ProgramError {
    type Target = Details;
    fn deref(&self) -> &Details {
        &self.0
    }
}

impl ProgramError {
    /// A loop that held the thread until its time was over, where nothing could catch it.
    pub(crate) fn interrupted() -> Self {
        Self::new(code::INTERRUPTED, INTERRUPTED, INTERRUPTED_HELP)
    }

    pub(crate) fn new(code: &str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self(Box::new(Details {
            name: "Error".to_owned(),
            message: message.into(),
            code: code.to_owned(),
            help: help.into(),
            stack: Vec::new(),
            at: None,
            source_line: None,
            causes: Vec::new(),
        }))
    }

    /// Reads a thrown value. Getters that throw are ignored, so this cannot fail.
    pub(crate) fn from_value(value: &Value<'_>) -> Self {
        if value.is_null() {
            // What the engine throws when there is no memory even for an error. Few programs throw it.
            return Self::new(
                code::LIMIT,
                "null was thrown: no memory was left even for an error, or the program threw it",
                "keep less in memory at once, or give the function more with `memory`; throw an `Error` rather than null",
            );
        }
        let Some(object) = value.as_object().filter(|object| is_error_like(object)) else {
            let shown = shown(value);
            return Self::new(
                code::THROWN,
                format!("the program threw {shown}, which is not an Error"),
                "throw an `Error`, so that the place is known",
            );
        };
        let name = text(object, "name").filter(|n| !n.is_empty()).unwrap_or_else(|| "Error".to_owned());
        let message = text(object, "message").unwrap_or_default();
        let stack = text(object, "stack").unwrap_or_default();
        let given =
            text(object, "code").map(|c| if c == NODE_NO_MODULE { code::NO_MODULE.to_owned() } else { c });
        let (code, help) = match given.filter(|c| is_code(c)) {
            Some(code) => (code, text(object, "help").unwrap_or_default()),
            None => classify(&name, &message),
        };
        let mut error = Self::new(&code, message, help);
        error.0.name = name;
        error.set_stack(stack.lines().filter_map(Frame::parse).collect());
        error.0.causes = causes(object);
        error
    }

    /// Takes the pending exception of the context.
    pub(crate) fn caught(ctx: &Ctx<'_>, error: rquickjs::Error) -> Self {
        match error {
            rquickjs::Error::Exception => Self::from_value(&ctx.catch()),
            rquickjs::Error::Allocation => Self::from_value_text("InternalError", "out of memory"),
            other => Self::from_value_text("Error", &other.to_string()),
        }
    }

    fn from_value_text(name: &str, message: &str) -> Self {
        let (code, help) = classify(name, message);
        let mut error = Self::new(&code, message, help);
        error.0.name = name.to_owned();
        error
    }

    fn set_stack(&mut self, frames: Vec<Frame>) {
        let (user, ours): (Vec<_>, Vec<_>) = frames.into_iter().partition(Frame::is_user);
        self.0.at = user.first().cloned();
        self.0.stack = user.into_iter().chain(ours).collect();
    }

    /// Names the place a resource was declared at, for a failure that has no stack of its own.
    pub(crate) fn at_place(mut self, place: &str) -> Self {
        if self.at.is_none() {
            self.set_stack(Frame::parse(&format!("at {place}")).into_iter().collect());
        }
        self
    }

    /// Adds the line of the source that `at` points to, and makes `at` more exact where the message allows it.
    pub(crate) fn with_source(mut self, archive: &Archive) -> Self {
        let Details { at, stack, source_line, message, .. } = &mut *self.0;
        let Some(at) = at else { return self };
        let Some(module) = archive.modules.get(&at.file) else { return self };
        // Once only: what it moves to is behind where it looks from.
        if source_line.is_none() && frame::sharpen(at, message, &module.source) {
            stack[0] = at.clone();
        }
        let line = module.source.lines().nth(at.line.saturating_sub(1) as usize);
        *source_line = line.map(str::to_owned);
        self
    }
}

fn is_error_like(object: &Object<'_>) -> bool {
    object.is_error() || (text(object, "message").is_some() && text(object, "stack").is_some())
}

fn text(object: &Object<'_>, key: &str) -> Option<String> {
    let value: rquickjs::Result<Value<'_>> = object.get(key);
    match value {
        Ok(value) => value.as_string().and_then(|s| s.to_string().ok()),
        Err(_) => {
            // The getter threw; the exception must not stay pending.
            let _ = object.ctx().catch();
            None
        }
    }
}

fn causes(object: &Object<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let mut next: Option<Object<'_>> = object.get("cause").ok();
    while let Some(cause) = next.filter(is_error_like)
        && found.len() < 8
    {
        found.push(text(&cause, "message").unwrap_or_default());
        next = cause.get("cause").ok();
    }
    found
}

fn shown(value: &Value<'_>) -> String {
    let json = value.ctx().json_stringify(value.clone()).ok().flatten().and_then(|s| s.to_string().ok());
    if json.is_none() {
        let _ = value.ctx().catch();
    }
    json.unwrap_or_else(|| value.type_name().to_owned())
}

/// `E` and four digits: ours, or one that the cloud answered.
fn is_code(text: &str) -> bool {
    text.len() == 5 && text.starts_with('E') && text[1..].bytes().all(|b| b.is_ascii_digit())
}

fn classify(name: &str, message: &str) -> (String, String) {
    let (code, help) = match (name, message) {
        ("SyntaxError", _) => (code::SYNTAX, "mend the syntax there"),
        ("RangeError", "Maximum call stack size exceeded") => {
            (code::LIMIT, "look for a function that calls itself without an end")
        }
        ("InternalError", "out of memory") => {
            (code::LIMIT, "keep less in memory at once, or give the function more with `memory`")
        }
        ("InternalError", INTERRUPTED) => (code::INTERRUPTED, INTERRUPTED_HELP),
        _ => (code::THROWN, ""),
    };
    (code.to_owned(), help.to_owned())
}

impl fmt::Display for ProgramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code.as_str() {
            code::THROWN | code::SYNTAX if self.at.is_some() => write!(f, "{}: {}", self.name, self.message)?,
            code::LIMIT => write!(f, "{}: {}", self.name, self.message)?,
            _ => f.write_str(&self.message)?,
        }
        match &self.at {
            Some(at) => write!(f, " ({at})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ProgramError {}

impl Explain for ProgramError {
    fn code(&self) -> &'static str {
        CODES.into_iter().find(|code| *code == self.code).unwrap_or(code::THROWN)
    }

    fn help(&self) -> String {
        self.help.clone()
    }

    /// The code may be one that the cloud answered, so it is not always [`Explain::code`]. Below the message stand the
    /// line at fault and who called it, in the user's own files; then the chain of causes.
    fn report(&self) -> Report {
        let line = self.source_line.as_ref().map(|line| line.trim().to_owned());
        let callers =
            self.stack.iter().skip(1).filter(|frame| frame.is_user()).map(|frame| match &*frame.function {
                "" => format!("at {frame}"),
                function => format!("at {function} ({frame})"),
            });
        Report {
            code: self.code.clone(),
            message: self.to_string(),
            help: self.help.clone(),
            causes: line.into_iter().chain(callers).chain(self.causes.iter().cloned()).collect(),
        }
    }
}

/// The runtime itself could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("the JavaScript runtime cannot start: {reason}")]
pub struct VmError {
    pub(crate) reason: String,
}

impl From<VmError> for ProgramError {
    fn from(error: VmError) -> Self {
        Self::new(error.code(), error.to_string(), error.help())
    }
}

impl Explain for VmError {
    fn code(&self) -> &'static str {
        code::LIMIT
    }
    fn help(&self) -> String {
        "see that memory is free on this machine".to_owned()
    }
}
