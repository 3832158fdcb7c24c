//! What names stand for.

use std::collections::HashMap;

use swc_ecma_ast::{
    ArrowExpr, AssignExpr, AssignTarget, CatchClause, Decl, ExportDecl, Expr, FnDecl, Function,
    ObjectPatProp, Pat, Program, PropName, SimpleAssignTarget, Stmt, UpdateExpr, VarDeclarator,
};
use swc_ecma_visit::{Visit, VisitWith};

use super::syntax::{Body, Code};

/// What names stand for in a module or a function. A name that is given twice, or given anew, stands for nothing known.
#[derive(Default)]
pub(super) struct Names(HashMap<String, Option<Given>>);

#[derive(Clone)]
pub(super) enum Given {
    /// The value, and the properties that are taken of it.
    Value(Expr, Vec<String>),
    Code(Code),
}

impl Names {
    /// The names at the top of a module.
    pub(super) fn of_module(program: &Program) -> Self {
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

    /// The names that a function gives, those of its parameters apart.
    pub(super) fn within(body: &Body) -> Self {
        let mut names = Self::default();
        body.visit(&mut Inner(&mut names));
        body.visit(&mut Assigned(&mut names));
        names
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// What a name stands for; none if that is not known.
    pub(super) fn given(&self, name: &str) -> Option<&Given> {
        self.0.get(name)?.as_ref()
    }

    pub(super) fn function(&self, name: &str) -> Option<Code> {
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
pub(super) fn bound(pat: &Pat, taken: &mut Vec<String>, tell: &mut dyn FnMut(&str, Option<&[String]>)) {
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
