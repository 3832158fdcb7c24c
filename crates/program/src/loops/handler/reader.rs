//! Reads a function, and those that it calls, as they run.

use std::collections::HashMap;

use swc_common::Spanned;
use swc_ecma_ast::{
    BinExpr, BinaryOp, CallExpr, Callee, CatchClause, CondExpr, Expr, FnDecl, IfStmt, Stmt, SwitchCase,
    VarDeclarator, WhileStmt,
};
use swc_ecma_visit::{Visit, VisitWith};

use super::{
    Emitted, Module,
    names::{Names, bound},
    syntax::{Body, Code, Exits, method_of, path},
    value::Value,
};
use crate::{loops::text::Text, pack::offset};

/// How deep functions are followed that a handler calls.
const DEPTH: usize = 8;
/// How many calls of functions are followed in all: each may call others twice.
const FUNCTIONS: usize = 1000;
/// How deep constants are followed that are made of others.
const VALUE_DEPTH: usize = 8;

/// The names of a function that is being read.
pub(super) struct Scope {
    pub(super) params: HashMap<String, Value>,
    pub(super) names: Names,
}

pub(super) struct Reader<'a> {
    pub(super) module: &'a Module,
    /// What the program calls it.
    resource: String,
    emit: &'a [&'a str],
    pub(super) scopes: Vec<Scope>,
    /// How many conditions what is read is under.
    guards: usize,
    emitted: Vec<Emitted>,
    /// The subject of the event that the handler gets.
    pub(super) got: Text,
    /// How many calls are still followed.
    left: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(module: &'a Module, resource: String, emit: &'a [&'a str], got: Text) -> Self {
        Self {
            module,
            resource,
            emit,
            scopes: Vec::new(),
            guards: 0,
            emitted: Vec::new(),
            got,
            left: FUNCTIONS,
        }
    }

    /// What a handler emits.
    pub(super) fn read(mut self, handler: &Code) -> Vec<Emitted> {
        self.enter(handler, [Value::Event, Value::Unknown, Value::Event]);
        self.emitted
    }

    /// Reads a function that is called with these.
    fn enter(&mut self, code: &Code, given: impl IntoIterator<Item = Value>) {
        if self.scopes.len() == DEPTH || self.left == 0 {
            return;
        }
        self.left -= 1;
        let mut scope = Scope { params: HashMap::new(), names: Names::within(&code.body) };
        let given = given.into_iter().chain(std::iter::repeat(Value::Unknown));
        for (pat, value) in code.params.iter().zip(given) {
            bound(pat, &mut Vec::new(), &mut |name, taken| {
                let value = match taken {
                    Some(taken) => taken.iter().fold(value.clone(), |value, name| self.property(value, name)),
                    None => Value::Unknown,
                };
                scope.params.insert(name.to_owned(), value);
            });
        }
        self.scopes.push(scope);
        // Only what a called function does after it returns early is under that condition.
        match &code.body {
            Body::Block(block) => self.visit_function_body(block),
            Body::Value(value) => self.visit_expr(value),
        }
        self.scopes.pop();
    }

    /// Whether a name is the module's, and not one of the function that is read.
    fn is_outer(&self, name: &str) -> bool {
        let scope = self.scopes.last();
        scope.is_none_or(|scope| !scope.params.contains_key(name) && !scope.names.has(name))
    }

    fn function(&self, name: &str) -> Option<Code> {
        if self.is_outer(name) { &self.module.names } else { &self.scopes.last()?.names }.function(name)
    }

    fn guarded(&mut self, read: impl FnOnce(&mut Self)) {
        self.guards += 1;
        read(self);
        self.guards -= 1;
    }
}

impl Visit for Reader<'_> {
    fn visit_call_expr(&mut self, call: &CallExpr) {
        if let Some((receiver, method)) = method_of(call)
            && self.guards == 0
            && self.emit.contains(&method)
            && path(receiver).as_ref() == Some(&self.resource)
            && self.is_outer(self.resource.split('.').next().unwrap_or_default())
        {
            let key =
                call.args.first().map(|arg| self.value(&arg.expr, VALUE_DEPTH).text()).unwrap_or_default();
            self.emitted.push(Emitted { key, offset: offset(call.span(), self.module.start) });
        }
        // What is done under a condition tells nothing, however deep it goes.
        if self.guards == 0
            && let Callee::Expr(callee) = &call.callee
            && let Expr::Ident(name) = &**callee
            && let Some(code) = self.function(&name.sym)
        {
            let given: Vec<_> = call.args.iter().map(|arg| self.value(&arg.expr, VALUE_DEPTH)).collect();
            self.enter(&code, given);
        }
        call.visit_children_with(self);
    }

    /// A function that is only declared, is read where it is called.
    fn visit_fn_decl(&mut self, _: &FnDecl) {}

    fn visit_var_declarator(&mut self, one: &VarDeclarator) {
        if one.init.as_deref().is_none_or(|value| Code::of(value).is_none()) {
            one.visit_children_with(self);
        }
    }

    fn visit_stmts(&mut self, stmts: &[Stmt]) {
        let before = self.guards;
        for stmt in stmts {
            stmt.visit_with(self);
            let mut exits = Exits(false);
            stmt.visit_with(&mut exits);
            // What follows happens only if that did not.
            self.guards += usize::from(exits.0);
        }
        self.guards = before;
    }

    fn visit_if_stmt(&mut self, stmt: &IfStmt) {
        stmt.test.visit_with(self);
        self.guarded(|reader| {
            stmt.cons.visit_with(reader);
            stmt.alt.visit_with(reader);
        });
    }

    fn visit_cond_expr(&mut self, expr: &CondExpr) {
        expr.test.visit_with(self);
        self.guarded(|reader| {
            expr.cons.visit_with(reader);
            expr.alt.visit_with(reader);
        });
    }

    fn visit_bin_expr(&mut self, expr: &BinExpr) {
        expr.left.visit_with(self);
        match expr.op {
            BinaryOp::LogicalAnd | BinaryOp::LogicalOr | BinaryOp::NullishCoalescing => {
                self.guarded(|reader| expr.right.visit_with(reader));
            }
            _ => expr.right.visit_with(self),
        }
    }

    fn visit_while_stmt(&mut self, stmt: &WhileStmt) {
        self.guarded(|reader| stmt.visit_children_with(reader));
    }

    fn visit_switch_case(&mut self, case: &SwitchCase) {
        self.guarded(|reader| case.visit_children_with(reader));
    }

    fn visit_catch_clause(&mut self, clause: &CatchClause) {
        self.guarded(|reader| clause.visit_children_with(reader));
    }
}
