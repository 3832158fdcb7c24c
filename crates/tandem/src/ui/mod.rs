//! What a person sees: plans, progress, outputs, errors, questions.
//!
//! Everything here renders to text and prints nothing, except [`Terminal`], which is the one place that writes. Data goes
//! to standard output; all else to standard error, with colours and redrawing only where that is a terminal.

mod color;
mod error;
pub(crate) mod events;
mod live;
mod outputs;
mod page;
mod plan;
mod progress;
mod prompt;
mod steady;
mod style;
mod table;
mod terminal;
mod text;

pub(crate) use color::{Color, Wishes};
pub(crate) use error::{error, error_json, warning};
pub(crate) use live::{Live, Note};
pub(crate) use outputs::{bare, json, json_plan, outputs};
pub(crate) use page::page;
pub(crate) use plan::{Rebuild, Rebuilds, plan};
pub(crate) use progress::done;
pub(crate) use prompt::confirm;
pub(crate) use steady::Steady;
pub(crate) use style::{Paint, Style};
pub(crate) use table::table;
pub(crate) use terminal::{OutputError, Terminal};
pub(crate) use text::{count, harmless, padded, width};
