//! What values are known to be.

use swc_ecma_ast::{BinExpr, BinaryOp, CallExpr, Expr, Lit, MemberProp};

use super::{names::Given, reader::Reader, syntax::method_of};
use crate::loops::text::Text;

/// What is known of a value.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// The event, or its data.
    Event,
    Text(Text),
    Unknown,
}

impl Value {
    pub(super) fn text(self) -> Text {
        match self {
            Self::Text(text) => text,
            Self::Event | Self::Unknown => Text::default(),
        }
    }
}

impl Reader<'_> {
    pub(super) fn property(&self, value: Value, name: &str) -> Value {
        match (value, name) {
            (Value::Event, "key" | "subject") => Value::Text(self.got.clone()),
            (Value::Event, "data") => Value::Event,
            _ => Value::Unknown,
        }
    }

    pub(super) fn value(&self, expr: &Expr, depth: usize) -> Value {
        let Some(depth) = depth.checked_sub(1) else { return Value::Unknown };
        match expr {
            Expr::Lit(Lit::Str(text)) => Value::Text(Text::of(&text.value.to_string_lossy())),
            Expr::Lit(Lit::Num(number)) => Value::Text(Text::of(&number.value.to_string())),
            Expr::Paren(inner) => self.value(&inner.expr, depth),
            Expr::Await(inner) => self.value(&inner.arg, depth),
            Expr::Ident(name) => self.named(&name.sym, depth),
            Expr::Member(member) => match &member.prop {
                MemberProp::Ident(name) => self.property(self.value(&member.obj, depth), &name.sym),
                _ => Value::Unknown,
            },
            // A sum, if a number is part of it.
            Expr::Bin(BinExpr { op: BinaryOp::Add, left, right, .. })
                if ![left, right].iter().any(|side| matches!(***side, Expr::Lit(Lit::Num(_)))) =>
            {
                let left = self.value(left, depth).text();
                Value::Text(left.then(self.value(right, depth).text()))
            }
            Expr::Tpl(template) => {
                let part = |at: usize| {
                    let cooked = template.quasis[at].cooked.as_ref();
                    cooked.map_or_else(Text::default, |text| Text::of(&text.to_string_lossy()))
                };
                let values = template.exprs.iter().map(|expr| self.value(expr, depth).text());
                Value::Text(
                    values.enumerate().fold(part(0), |text, (at, value)| text.then(value).then(part(at + 1))),
                )
            }
            Expr::Call(call) => self.called(call, depth),
            _ => Value::Unknown,
        }
    }

    fn named(&self, name: &str, depth: usize) -> Value {
        let scope = self.scopes.last();
        let names = match scope {
            Some(scope) if scope.names.has(name) => &scope.names,
            Some(scope) if scope.params.contains_key(name) => return scope.params[name].clone(),
            _ => &self.module.names,
        };
        match names.given(name) {
            Some(Given::Value(expr, taken)) => {
                taken.iter().fold(self.value(expr, depth), |value, name| self.property(value, name))
            }
            _ => Value::Unknown,
        }
    }

    /// What is known of methods of texts.
    fn called(&self, call: &CallExpr, depth: usize) -> Value {
        let Some((receiver, method)) = method_of(call) else { return Value::Unknown };
        let value = self.value(receiver, depth);
        let argument = |at: usize| Some(self.value(&call.args.get(at)?.expr, depth).text());
        let known = match (method, value) {
            ("toString", value) => return value,
            ("concat", Value::Text(text)) => argument(0).map(|more| text.then(more)),
            ("replace", Value::Text(text)) => {
                let to = argument(1).filter(|to| to.whole);
                let pattern = call.args.first().map(|arg| &*arg.expr);
                match (pattern, to) {
                    (Some(Expr::Lit(Lit::Regex(regex))), Some(to)) => match &*regex.exp {
                        exp if exp.ends_with('$') && !exp.ends_with("\\$") => {
                            Some(Text { suffix: to.suffix, whole: false, ..text })
                        }
                        exp if exp.starts_with('^') => Some(Text { prefix: to.prefix, whole: false, ..text }),
                        _ => None,
                    },
                    (Some(_), Some(to)) => argument(0)
                        .filter(|from| from.whole)
                        .and_then(|from| text.replaced(&from.prefix, &to.prefix)),
                    _ => None,
                }
            }
            _ => None,
        };
        known.map_or(Value::Unknown, Value::Text)
    }
}
