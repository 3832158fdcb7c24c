//! Reads what a handler emits in any case, and under which keys.
//!
//! A resource is known by what the program calls it: `photos` in `photos.onPut(…)` and in `photos.put(…)` of its handler, or
//! `shop.photos`. Keys are followed through constants, templates, parameters and what the event has in it.

mod names;
mod reader;
mod syntax;
mod value;

use swc_common::BytePos;
use swc_ecma_ast::{Expr, ExprOrSpread, Program};
use swc_ecma_visit::VisitWith;

use self::{
    names::Names,
    reader::Reader,
    syntax::{Code, Finder, path},
};
use super::text::Text;
use crate::pack::javascript;

/// What a handler puts, sends or publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Emitted {
    pub(super) key: Text,
    /// Where, in bytes.
    pub(super) offset: usize,
}

/// A module that was parsed.
pub(super) struct Module {
    program: Program,
    start: BytePos,
    /// Where each line begins.
    lines: Vec<usize>,
    source: String,
    names: Names,
}

impl Module {
    /// `None` if it cannot be parsed.
    pub(super) fn read(source: &str) -> Option<Self> {
        let (program, start) = javascript(source).ok()?;
        let lines = std::iter::once(0).chain(source.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let names = Names::of_module(&program);
        Some(Self { program, start, lines, source: source.to_owned(), names })
    }

    /// What the handler of a subscription emits into what it subscribes to.
    ///
    /// `place` is that of the subscription, `apart` that of its function if it was declared by itself. `subscribe` and `emit`
    /// are methods. `got` is the subject of the event that the handler gets.
    pub(super) fn emitted(
        &self,
        place: (usize, usize),
        apart: Option<(usize, usize)>,
        subscribe: &str,
        emit: &[&str],
        got: Text,
    ) -> Vec<Emitted> {
        let (found, resource) = match self.call_at(place, Some(subscribe)) {
            Some((Some(receiver), args)) => match path(&receiver) {
                Some(resource) => (args, resource),
                None => return Vec::new(),
            },
            _ => return Vec::new(),
        };
        let handler = self.handler(&found).or_else(|| self.handler(&self.call_at(apart?, None)?.1));
        handler.map(|handler| Reader::new(self, resource, emit, got).read(&handler)).unwrap_or_default()
    }

    /// The innermost call or construction at a place, with what the method is called on. With `method`, of that method.
    fn call_at(
        &self,
        (line, column): (usize, usize),
        method: Option<&str>,
    ) -> Option<(Option<Expr>, Vec<ExprOrSpread>)> {
        let begin = *self.lines.get(line.checked_sub(1)?)?;
        let at = self.source[begin..].char_indices().nth(column.checked_sub(1)?).map(|(at, _)| begin + at)?;
        let mut finder = Finder { start: self.start, at, method, found: None };
        self.program.visit_with(&mut finder);
        finder.found
    }

    /// The handler is the second argument: a function, or the name of one.
    fn handler(&self, args: &[ExprOrSpread]) -> Option<Code> {
        match &*args.get(1)?.expr {
            Expr::Ident(name) => self.names.function(&name.sym),
            written => Code::of(written),
        }
    }
}
