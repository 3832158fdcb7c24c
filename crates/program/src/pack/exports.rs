//! The names that a CommonJS module exports, as far as they can be seen without running it.
//!
//! The forms are those that Node's own lexer for this recognises: `exports.a = …`, `module.exports.a = …`,
//! `module.exports = { a, b: …, ...require("x") }`, `module.exports = require("x")`, `Object.defineProperty(exports, "a", …)`,
//! and TypeScript's `__exportStar(require("x"), exports)`.

use std::collections::BTreeSet;

use swc_ecma_ast::{
    AssignExpr, AssignTarget, CallExpr, Callee, Expr, Lit, MemberExpr, MemberProp, ObjectLit, Program, Prop,
    PropName, PropOrSpread, SimpleAssignTarget,
};
use swc_ecma_visit::{Visit, VisitWith};

#[derive(Debug, Default)]
pub(super) struct Exports {
    pub(super) names: Vec<String>,
    pub(super) reexports: Vec<String>,
}

pub(super) fn of(program: &Program) -> Exports {
    let mut finder = Finder::default();
    program.visit_with(&mut finder);
    finder.names.remove("default");
    Exports { names: finder.names.into_iter().collect(), reexports: finder.reexports.into_iter().collect() }
}

#[derive(Default)]
struct Finder {
    names: BTreeSet<String>,
    reexports: BTreeSet<String>,
}

impl Finder {
    fn object(&mut self, object: &ObjectLit) {
        for prop in &object.props {
            match prop {
                PropOrSpread::Spread(spread) => self.reexports.extend(required(&spread.expr)),
                PropOrSpread::Prop(prop) => {
                    let name = match &**prop {
                        Prop::Shorthand(ident) => Some(ident.sym.to_string()),
                        Prop::KeyValue(pair) => key(&pair.key),
                        Prop::Getter(getter) => key(&getter.key),
                        Prop::Method(method) => key(&method.key),
                        _ => None,
                    };
                    self.names.extend(name);
                }
            }
        }
    }

    fn whole(&mut self, value: &Expr) {
        match value {
            Expr::Object(object) => self.object(object),
            // `exports = module.exports = …`
            Expr::Assign(inner) => self.whole(&inner.right),
            value => self.reexports.extend(required(value)),
        }
    }
}

impl Visit for Finder {
    fn visit_assign_expr(&mut self, assign: &AssignExpr) {
        if let AssignTarget::Simple(SimpleAssignTarget::Member(target)) = &assign.left {
            if is_module_exports(target) {
                self.whole(&assign.right);
            } else if is_exports(&target.obj) {
                self.names.extend(property(&target.prop));
            }
        }
        assign.visit_children_with(self);
    }

    fn visit_call_expr(&mut self, call: &CallExpr) {
        if let Callee::Expr(callee) = &call.callee {
            let args: Vec<&Expr> = call.args.iter().map(|arg| &*arg.expr).collect();
            match (&**callee, &args[..]) {
                (Expr::Member(member), [object, Expr::Lit(Lit::Str(name)), ..])
                    if member.obj.as_ident().is_some_and(|o| o.sym == "Object")
                        && property(&member.prop).as_deref() == Some("defineProperty")
                        && is_exports(object) =>
                {
                    self.names.insert(name.value.to_string_lossy().into_owned());
                }
                (callee, [from, ..]) if named(callee, "__exportStar") || named(callee, "__export") => {
                    self.reexports.extend(required(from));
                }
                _ => {}
            }
        }
        call.visit_children_with(self);
    }
}

fn named(expr: &Expr, name: &str) -> bool {
    match expr {
        Expr::Ident(ident) => ident.sym == name,
        Expr::Member(member) => property(&member.prop).as_deref() == Some(name),
        _ => false,
    }
}

/// `exports` or `module.exports`.
fn is_exports(expr: &Expr) -> bool {
    match expr {
        Expr::Ident(ident) => ident.sym == "exports",
        Expr::Member(member) => is_module_exports(member),
        _ => false,
    }
}

fn is_module_exports(member: &MemberExpr) -> bool {
    member.obj.as_ident().is_some_and(|object| object.sym == "module")
        && property(&member.prop).as_deref() == Some("exports")
}

fn property(prop: &MemberProp) -> Option<String> {
    match prop {
        MemberProp::Ident(ident) => Some(ident.sym.to_string()),
        MemberProp::Computed(computed) => match &*computed.expr {
            Expr::Lit(Lit::Str(text)) => Some(text.value.to_string_lossy().into_owned()),
            _ => None,
        },
        MemberProp::PrivateName(_) => None,
    }
}

fn key(name: &PropName) -> Option<String> {
    match name {
        PropName::Ident(ident) => Some(ident.sym.to_string()),
        PropName::Str(text) => Some(text.value.to_string_lossy().into_owned()),
        _ => None,
    }
}

/// The specifier, if the expression is `require("…")`.
fn required(expr: &Expr) -> Option<String> {
    let Expr::Call(call) = expr else { return None };
    match (&call.callee, &call.args.first().map(|arg| &*arg.expr)) {
        (Callee::Expr(callee), Some(Expr::Lit(Lit::Str(text)))) if named(callee, "require") => {
            Some(text.value.to_string_lossy().into_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse::javascript;
    use super::*;

    fn names(source: &str) -> (String, String) {
        let found = of(&javascript(source).unwrap().0);
        (found.names.join(" "), found.reexports.join(" "))
    }

    #[test]
    fn the_usual_forms_are_seen() {
        assert_eq!(names("exports.a = exports.b = 1; module.exports.c = 2; exports['d'] = 3").0, "a b c d");
        assert_eq!(
            names("module.exports = { a, b: 1, c() {}, get d() {}, ...require('./e') }"),
            ("a b c d".into(), "./e".into())
        );
        assert_eq!(names("exports = module.exports = require('./x')").1, "./x");
        assert_eq!(names("Object.defineProperty(exports, 'a', { get() {} })").0, "a");
        assert_eq!(names("tslib_1.__exportStar(require('./x'), exports)").1, "./x");
        assert_eq!(names("exports.__esModule = true; exports.default = 1").0, "__esModule");
    }
}
