//! Where in the source something happened, as QuickJS tells it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One level of a call stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// Empty for the top level of a module.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub function: String,
    /// A path in the archive, `tandem:…` inside the SDK, or `native`.
    pub file: String,
    /// From 1.
    pub line: u32,
    /// From 1.
    pub column: u32,
}

impl Frame {
    /// Whether it is in the user's code.
    pub fn is_user(&self) -> bool {
        self.file != NATIVE && !self.file.starts_with(INTERNAL)
    }

    /// Reads one line of QuickJS' `stack`: `    at f (index.js:3:14)`, `    at index.js:3:14`, `    at map (native)`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim().strip_prefix("at ")?;
        let (function, place) = match text.strip_suffix(')').and_then(|t| t.rsplit_once(" (")) {
            Some((function, place)) => (function, place),
            None => ("", text),
        };
        let function = match function {
            "<anonymous>" | "<eval>" | "<module>" => String::new(),
            name => name.to_owned(),
        };
        let mut parts = place.rsplitn(3, ':');
        let numbers = (parts.next().map(str::parse), parts.next().map(str::parse), parts.next());
        match numbers {
            (Some(Ok(column)), Some(Ok(line)), Some(file)) => {
                Some(Self { function, file: file.to_owned(), line, column })
            }
            _ if place == NATIVE => Some(Self { function, file: NATIVE.to_owned(), line: 0, column: 0 }),
            _ => None,
        }
    }
}

const NATIVE: &str = "native";
/// Starts the module names of what is ours: the SDK, the runtime, the bridges between module systems.
pub(crate) const INTERNAL: &str = "tandem:";

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// Moves a frame forward to what the message names; true if it moved.
///
/// QuickJS notes positions of calls, operators and expression statements, but none of property reads: the frame of
/// `return a.b.c` is that of the last call before it, or of the function. The read itself comes after that, so the
/// first place that reads the named property is taken.
pub(crate) fn sharpen(frame: &mut Frame, message: &str, source: &str) -> bool {
    let Some((name, read)) = named(message) else { return false };
    let lines = source.lines().enumerate().skip(frame.line.saturating_sub(1) as usize);
    for (index, line) in lines {
        let here = index + 1 == frame.line as usize;
        let from = if here { column_to_byte(line, frame.column) } else { 0 };
        if let Some(at) = find(&line[from..], name, read).map(|at| at + from) {
            let found = (index as u32 + 1, line[..at].chars().count() as u32 + 1);
            let moved = found != (frame.line, frame.column);
            (frame.line, frame.column) = found;
            return moved;
        }
    }
    false
}

fn column_to_byte(line: &str, column: u32) -> usize {
    line.char_indices().nth(column.saturating_sub(1) as usize).map_or(line.len(), |(byte, _)| byte)
}

/// The name that a message is about, and whether it is that of a property.
fn named(message: &str) -> Option<(&str, bool)> {
    let quoted = |prefix: &str| message.strip_prefix(prefix)?.split_once('\'').map(|(name, _)| (name, true));
    if let Some(found) = quoted("cannot read property '").or_else(|| quoted("cannot set property '")) {
        return Some(found);
    }
    let name =
        message.strip_suffix(" is not defined").or_else(|| message.strip_suffix(" is not initialized"))?;
    Some((name, false))
}

/// The first place in a line where a name stands alone; that of a property follows a dot or stands in brackets.
fn find(line: &str, name: &str, property: bool) -> Option<usize> {
    let part = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    line.match_indices(name).map(|(at, _)| at).find(|at| {
        let before = line[..*at].trim_end().chars().next_back();
        let after = line[at + name.len()..].chars().next();
        let alone = !after.is_some_and(part) && !line[..*at].ends_with(part);
        let wanted = match property {
            true => matches!(before, Some('.' | '[' | '\'' | '"' | '{' | ',')),
            false => before != Some('.'),
        };
        alone && wanted && !name.is_empty()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_read_in_every_form_that_the_engine_writes() {
        let frame = |text| Frame::parse(text).unwrap();
        assert_eq!(frame("    at f (lib/a.js:3:14)").to_string(), "lib/a.js:3:14");
        assert_eq!(frame("    at index.js:1:2").function, "");
        assert_eq!(frame("    at <anonymous> (index.js:1:2)").function, "");
        assert!(!frame("    at map (native)").is_user());
        assert!(!frame("    at x (tandem:sdk/output.js:1:1)").is_user());
        assert!(Frame::parse("Error: no frame").is_none());
    }

    #[test]
    fn a_frame_moves_to_the_read_that_the_message_names() {
        let source = "function f(x) {\n  const zero = x;\n  return zero.é.z;\n}";
        let mut at = Frame::parse("at f (index.js:1:1)").unwrap();
        assert!(sharpen(&mut at, "cannot read property 'z' of undefined", source));
        assert_eq!(at.to_string(), "index.js:3:17");
        let mut at = Frame::parse("at f (index.js:2:3)").unwrap();
        assert!(sharpen(&mut at, "zero is not defined", source));
        assert_eq!(at.to_string(), "index.js:2:9");
        assert!(!sharpen(&mut at, "x is not a function", source));
        assert!(!sharpen(&mut at, "cannot read property 'y' of undefined", source));
    }
}
