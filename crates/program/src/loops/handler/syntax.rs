//! Functions, calls and paths, as they are written.

use swc_common::{BytePos, Span};
use swc_ecma_ast::{
    ArrowExpr, ArrowFunctionBody, CallExpr, Callee, Expr, ExprOrSpread, Function, FunctionBody, NewExpr, Pat,
    ReturnStmt, ThrowStmt,
};
use swc_ecma_visit::{Visit, VisitWith};

use crate::pack::offset;

/// A function, in whichever way it is written.
#[derive(Clone)]
pub(super) struct Code {
    pub(super) params: Vec<Pat>,
    pub(super) body: Body,
}

#[derive(Clone)]
pub(super) enum Body {
    Block(FunctionBody),
    Value(Expr),
}

impl Body {
    pub(super) fn visit(&self, visitor: &mut impl Visit) {
        match self {
            Self::Block(block) => block.visit_with(visitor),
            Self::Value(value) => value.visit_with(visitor),
        }
    }
}

impl Code {
    pub(super) fn of(expr: &Expr) -> Option<Self> {
        match expr {
            Expr::Arrow(ArrowExpr { params, body, .. }) => Some(Self {
                params: params.clone(),
                body: match &**body {
                    ArrowFunctionBody::FunctionBody(block) => Body::Block(block.clone()),
                    ArrowFunctionBody::Expr(value) => Body::Value((**value).clone()),
                },
            }),
            Expr::Fn(function) => Self::of_function(&function.function),
            Expr::Paren(inner) => Self::of(&inner.expr),
            _ => None,
        }
    }

    pub(super) fn of_function(function: &Function) -> Option<Self> {
        let params = function.params.iter().map(|param| param.pat.clone()).collect();
        Some(Self { params, body: Body::Block(function.body.clone()?) })
    }
}

/// Finds the innermost call or construction at a place.
pub(super) struct Finder<'a> {
    pub(super) start: BytePos,
    pub(super) at: usize,
    pub(super) method: Option<&'a str>,
    pub(super) found: Option<(Option<Expr>, Vec<ExprOrSpread>)>,
}

impl Finder<'_> {
    fn covers(&self, span: Span) -> bool {
        (offset(span, self.start)..end(span, self.start)).contains(&self.at)
    }
}

impl Visit for Finder<'_> {
    fn visit_call_expr(&mut self, call: &CallExpr) {
        if !self.covers(call.span) {
            return;
        }
        let method = method_of(call);
        if self.method.is_none() || method.is_some_and(|(_, name)| Some(name) == self.method) {
            self.found = Some((method.map(|(receiver, _)| receiver.clone()), call.args.clone()));
        }
        // What is further in is more exact.
        call.visit_children_with(self);
    }

    fn visit_new_expr(&mut self, new: &NewExpr) {
        if !self.covers(new.span) {
            return;
        }
        if self.method.is_none() {
            self.found = Some((None, new.args.clone().unwrap_or_default()));
        }
        new.visit_children_with(self);
    }
}

fn end(span: Span, start: BytePos) -> usize {
    span.hi.0.saturating_sub(start.0) as usize
}

/// `bucket` and `put` of `bucket.put(…)`.
pub(super) fn method_of(call: &CallExpr) -> Option<(&Expr, &str)> {
    let Callee::Expr(callee) = &call.callee else { return None };
    let member = callee.as_member()?;
    Some((&*member.obj, &*member.prop.as_ident()?.sym))
}

/// `shop.photos` as a text, if it is names only.
pub(super) fn path(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Ident(name) => Some(name.sym.to_string()),
        Expr::This(_) => Some("this".to_owned()),
        Expr::Paren(inner) => path(&inner.expr),
        Expr::Member(member) => Some(format!("{}.{}", path(&member.obj)?, member.prop.as_ident()?.sym)),
        _ => None,
    }
}

/// Whether a statement may leave its function.
pub(super) struct Exits(pub(super) bool);

impl Visit for Exits {
    fn visit_return_stmt(&mut self, _: &ReturnStmt) {
        self.0 = true;
    }

    fn visit_throw_stmt(&mut self, _: &ThrowStmt) {
        self.0 = true;
    }

    fn visit_break_stmt(&mut self, _: &swc_ecma_ast::BreakStmt) {
        self.0 = true;
    }

    fn visit_continue_stmt(&mut self, _: &swc_ecma_ast::ContinueStmt) {
        self.0 = true;
    }

    fn visit_function(&mut self, _: &Function) {}

    fn visit_arrow_expr(&mut self, _: &ArrowExpr) {}
}
