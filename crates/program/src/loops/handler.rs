//! Reads what a handler emits in any case, and under which keys.
//!
//! A resource is known by what the program calls it: `photos` in `photos.onPut(…)` and in `photos.put(…)` of its handler, or
//! `shop.photos`. Keys are followed through constants, templates, parameters and what the event has in it.

use std::collections::HashMap;

use swc_common::{BytePos, Span, Spanned};
use swc_ecma_ast::{
    ArrowExpr, ArrowFunctionBody, AssignExpr, AssignTarget, BinExpr, BinaryOp, CallExpr, Callee, CatchClause,
    CondExpr, Decl, ExportDecl, Expr, ExprOrSpread, FnDecl, Function, FunctionBody, IfStmt, Lit, MemberProp,
    NewExpr, ObjectPatProp, Pat, Program, PropName, ReturnStmt, SimpleAssignTarget, Stmt, SwitchCase,
    ThrowStmt, UpdateExpr, VarDeclarator, WhileStmt,
};
use swc_ecma_visit::{Visit, VisitWith};

use super::text::Text;
use crate::pack::{javascript, offset};

/// How deep functions are followed that a handler calls, and constants that are made of others.
const DEPTH: usize = 8;

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
        let Some(handler) = handler else { return Vec::new() };
        let mut reader =
            Reader { module: self, resource, emit, scopes: Vec::new(), guards: 0, emitted: Vec::new(), got };
        reader.enter(&handler, [Value::Event, Value::Unknown, Value::Event]);
        reader.emitted
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

/// A function, in whichever way it is written.
#[derive(Clone)]
struct Code {
    params: Vec<Pat>,
    body: Body,
}

#[derive(Clone)]
enum Body {
    Block(FunctionBody),
    Value(Expr),
}

impl Code {
    fn of(expr: &Expr) -> Option<Self> {
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

    fn of_function(function: &Function) -> Option<Self> {
        let params = function.params.iter().map(|param| param.pat.clone()).collect();
        Some(Self { params, body: Body::Block(function.body.clone()?) })
    }
}

struct Finder<'a> {
    start: BytePos,
    at: usize,
    method: Option<&'a str>,
    found: Option<(Option<Expr>, Vec<ExprOrSpread>)>,
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
fn method_of(call: &CallExpr) -> Option<(&Expr, &str)> {
    let Callee::Expr(callee) = &call.callee else { return None };
    let member = callee.as_member()?;
    Some((&*member.obj, &*member.prop.as_ident()?.sym))
}

/// `shop.photos` as a text, if it is names only.
fn path(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Ident(name) => Some(name.sym.to_string()),
        Expr::This(_) => Some("this".to_owned()),
        Expr::Paren(inner) => path(&inner.expr),
        Expr::Member(member) => Some(format!("{}.{}", path(&member.obj)?, member.prop.as_ident()?.sym)),
        _ => None,
    }
}

/// What names stand for in a module or a function. A name that is given twice, or given anew, stands for nothing known.
#[derive(Default)]
struct Names(HashMap<String, Option<Given>>);

#[derive(Clone)]
enum Given {
    /// The value, and the properties that are taken of it.
    Value(Expr, Vec<String>),
    Code(Code),
}

impl Names {
    /// The names at the top of a module.
    fn of_module(program: &Program) -> Self {
        let mut names = Self::default();
        let mut declared = |decl: &Decl| match decl {
            Decl::Fn(function) => names.function_named(function),
            Decl::Var(vars) => vars.decls.iter().for_each(|one| names.variable(one)),
            _ => {}
        };
        let mut statement = |stmt: &Stmt| {
            if let Stmt::Decl(decl) = stmt {
                declared(decl);
            }
        };
        match program {
            Program::Script(script) => script.body.iter().for_each(statement),
            Program::Module(module) => {
                for item in &module.body {
                    match item {
                        swc_ecma_ast::ModuleItem::Stmt(stmt) => statement(stmt),
                        swc_ecma_ast::ModuleItem::ModuleDecl(decl) => {
                            if let swc_ecma_ast::ModuleDecl::ExportDecl(ExportDecl { decl, .. }) = decl {
                                statement(&Stmt::Decl(decl.clone()));
                            }
                        }
                    }
                }
            }
        }
        let mut assigned = Assigned(&mut names);
        program.visit_with(&mut assigned);
        names
    }

    fn function(&self, name: &str) -> Option<Code> {
        match self.0.get(name)?.as_ref()? {
            Given::Code(code) => Some(code.clone()),
            Given::Value(expr, taken) if taken.is_empty() => Code::of(expr),
            Given::Value(..) => None,
        }
    }

    fn give(&mut self, name: &str, given: Option<Given>) {
        self.0.entry(name.to_owned()).and_modify(|known| *known = None).or_insert(given);
    }

    fn function_named(&mut self, decl: &FnDecl) {
        self.give(&decl.ident.sym, Code::of_function(&decl.function).map(Given::Code));
    }

    fn variable(&mut self, one: &VarDeclarator) {
        let value = one.init.as_deref();
        bound(&one.name, &mut Vec::new(), &mut |name, taken| {
            self.give(
                name,
                value.zip(taken).map(|(value, taken)| Given::Value(value.clone(), taken.to_vec())),
            );
        });
    }
}

/// The names in a pattern, each with the properties that are taken to get to it, if that is all.
fn bound(pat: &Pat, taken: &mut Vec<String>, tell: &mut dyn FnMut(&str, Option<&[String]>)) {
    match pat {
        Pat::Ident(name) => tell(&name.sym, Some(taken)),
        Pat::Object(object) => {
            for prop in &object.props {
                match prop {
                    ObjectPatProp::KeyValue(pair) => match &pair.key {
                        PropName::Ident(key) => {
                            taken.push(key.sym.to_string());
                            bound(&pair.value, taken, tell);
                            taken.pop();
                        }
                        _ => bound(&pair.value, &mut Vec::new(), &mut |name, _| tell(name, None)),
                    },
                    ObjectPatProp::Assign(one) => {
                        taken.push(one.key.sym.to_string());
                        tell(&one.key.sym, one.value.is_none().then_some(taken));
                        taken.pop();
                    }
                    ObjectPatProp::Rest(rest) => {
                        bound(&rest.arg, &mut Vec::new(), &mut |name, _| tell(name, None));
                    }
                }
            }
        }
        Pat::Array(array) => {
            for pat in array.elems.iter().flatten() {
                bound(pat, &mut Vec::new(), &mut |name, _| tell(name, None));
            }
        }
        Pat::Assign(default) => bound(&default.left, &mut Vec::new(), &mut |name, _| tell(name, None)),
        Pat::Rest(rest) => bound(&rest.arg, &mut Vec::new(), &mut |name, _| tell(name, None)),
        Pat::Expr(_) | Pat::Invalid(_) => {}
    }
}

/// Notes the names that a function gives, and those of functions in it: they are not what they are outside.
struct Inner<'a>(&'a mut Names);

impl Visit for Inner<'_> {
    fn visit_var_declarator(&mut self, one: &VarDeclarator) {
        self.0.variable(one);
        one.visit_children_with(self);
    }

    fn visit_fn_decl(&mut self, decl: &FnDecl) {
        self.0.function_named(decl);
        decl.visit_children_with(self);
    }

    fn visit_function(&mut self, function: &Function) {
        for param in &function.params {
            bound(&param.pat, &mut Vec::new(), &mut |name, _| self.0.give(name, None));
        }
        function.visit_children_with(self);
    }

    fn visit_arrow_expr(&mut self, arrow: &ArrowExpr) {
        for param in &arrow.params {
            bound(param, &mut Vec::new(), &mut |name, _| self.0.give(name, None));
        }
        arrow.visit_children_with(self);
    }

    fn visit_catch_clause(&mut self, clause: &CatchClause) {
        if let Some(param) = &clause.param {
            bound(param, &mut Vec::new(), &mut |name, _| self.0.give(name, None));
        }
        clause.visit_children_with(self);
    }
}

/// Forgets names that are given anew.
struct Assigned<'a>(&'a mut Names);

impl Assigned<'_> {
    fn forget(&mut self, name: &str) {
        self.0.0.entry(name.to_owned()).and_modify(|known| *known = None);
    }
}

impl Visit for Assigned<'_> {
    fn visit_assign_expr(&mut self, assign: &AssignExpr) {
        match &assign.left {
            AssignTarget::Simple(SimpleAssignTarget::Ident(name)) => self.forget(&name.sym),
            AssignTarget::Pat(pat) => {
                let pat: Box<Pat> = pat.clone().into();
                bound(&pat, &mut Vec::new(), &mut |name, _| self.forget(name));
            }
            AssignTarget::Simple(_) => {}
        }
        assign.visit_children_with(self);
    }

    fn visit_update_expr(&mut self, update: &UpdateExpr) {
        if let Expr::Ident(name) = &*update.arg {
            self.forget(&name.sym);
        }
    }
}

/// What is known of a value.
#[derive(Debug, Clone)]
enum Value {
    /// The event, or its data.
    Event,
    Text(Text),
    Unknown,
}

impl Value {
    fn text(self) -> Text {
        match self {
            Self::Text(text) => text,
            Self::Event | Self::Unknown => Text::default(),
        }
    }
}

/// The names of a function that is being read.
struct Scope {
    params: HashMap<String, Value>,
    names: Names,
}

struct Reader<'a> {
    module: &'a Module,
    /// What the program calls it.
    resource: String,
    emit: &'a [&'a str],
    scopes: Vec<Scope>,
    /// How many conditions what is read is under.
    guards: usize,
    emitted: Vec<Emitted>,
    got: Text,
}

impl Reader<'_> {
    /// Reads a function that is called with these.
    fn enter(&mut self, code: &Code, given: impl IntoIterator<Item = Value>) {
        if self.scopes.len() == DEPTH {
            return;
        }
        let mut scope = Scope { params: HashMap::new(), names: Names::default() };
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
        let mut inner = Inner(&mut scope.names);
        match &code.body {
            Body::Block(block) => block.visit_with(&mut inner),
            Body::Value(value) => value.visit_with(&mut inner),
        }
        let mut assigned = Assigned(&mut scope.names);
        match &code.body {
            Body::Block(block) => block.visit_with(&mut assigned),
            Body::Value(value) => value.visit_with(&mut assigned),
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
        scope.is_none_or(|scope| !scope.params.contains_key(name) && !scope.names.0.contains_key(name))
    }

    fn function(&self, name: &str) -> Option<Code> {
        if self.is_outer(name) { &self.module.names } else { &self.scopes.last()?.names }.function(name)
    }

    fn property(&self, value: Value, name: &str) -> Value {
        match (value, name) {
            (Value::Event, "key" | "subject") => Value::Text(self.got.clone()),
            (Value::Event, "data") => Value::Event,
            _ => Value::Unknown,
        }
    }

    fn value(&self, expr: &Expr, depth: usize) -> Value {
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
            Some(scope) if scope.names.0.contains_key(name) => &scope.names,
            Some(scope) if scope.params.contains_key(name) => return scope.params[name].clone(),
            _ => &self.module.names,
        };
        match names.0.get(name) {
            Some(Some(Given::Value(expr, taken))) => {
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
            let key = call.args.first().map(|arg| self.value(&arg.expr, DEPTH).text()).unwrap_or_default();
            self.emitted.push(Emitted { key, offset: offset(call.span(), self.module.start) });
        }
        if let Callee::Expr(callee) = &call.callee
            && let Expr::Ident(name) = &**callee
            && let Some(code) = self.function(&name.sym)
        {
            let given: Vec<_> = call.args.iter().map(|arg| self.value(&arg.expr, DEPTH)).collect();
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

/// Whether a statement may leave its function.
struct Exits(bool);

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
