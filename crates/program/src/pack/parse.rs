//! Reads one module: its syntax, what it imports, and what it exports.
//!
//! The parser is swc's. Positions are byte offsets into the source that is given.

use std::ops::Range;

use swc_common::{BytePos, FileName, SourceMap, Span, Spanned, sync::Lrc};
use swc_ecma_ast::{
    ArrowExpr, AwaitExpr, CallExpr, Callee, Constructor, EsVersion, Expr, ForOfStmt, Function, Import,
    ImportSpecifier, Lit, MetaPropExpr, MetaPropKind, ModuleDecl, ModuleExportName, Pat, Program, TryStmt,
};
use swc_ecma_ast::{ExportSpecifier, ImportDecl};
use swc_ecma_parser::{EsSyntax, Parser, StringInput, Syntax, lexer::Lexer};
use swc_ecma_visit::{Visit, VisitWith};

use super::exports;

/// A module as it was read.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub(super) imports: Vec<Imported>,
    /// It has syntax that only an ES module may have.
    pub(super) is_esm: bool,
    /// Import attributes (`with { type: "json" }`), as byte ranges. The archive knows the kinds of its modules.
    pub(super) attributes: Vec<Range<usize>>,
    /// The names that it gives to `exports` or `module.exports`, as far as they can be seen without running it.
    pub(super) commonjs_exports: Vec<String>,
    /// The specifiers that it re-exports whole: `module.exports = require("./x")`.
    pub(super) commonjs_reexports: Vec<String>,
}

/// One place that names another module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Imported {
    pub(super) specifier: String,
    /// Where the specifier is written.
    pub(super) offset: usize,
    pub(super) how: How,
    /// The program catches the failure: a `require` inside `try`.
    pub(super) optional: bool,
    pub(super) names: Names,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Import,
    Require,
}

/// Which exports the importing module uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Names {
    Listed(Vec<String>),
    /// The namespace itself, so all of them.
    All,
}

/// A mistake in the source, at a byte offset.
#[derive(Debug)]
pub(crate) struct Mistake {
    pub(super) offset: usize,
    pub(super) reason: String,
}

/// Reads JavaScript.
pub(super) fn parse(source: &str) -> Result<Parsed, Mistake> {
    let (program, start) = javascript(source)?;
    let mut reader = Reader { start, parsed: Parsed::default(), functions: 0, tries: 0, shadowed: 0 };
    program.visit_with(&mut reader);
    let mut parsed = reader.parsed;
    if let Program::Module(module) = &program {
        parsed.is_esm |= module.body.iter().any(|item| item.is_module_decl());
    }
    if !parsed.is_esm {
        let found = exports::of(&program);
        parsed.commonjs_exports = found.names;
        parsed.commonjs_reexports = found.reexports;
    }
    Ok(parsed)
}

/// The syntax tree, and the position of the source's first byte in it.
pub(crate) fn javascript(source: &str) -> Result<(Program, BytePos), Mistake> {
    let map = SourceMap::default();
    let file = map.new_source_file(Lrc::new(FileName::Anon), source.to_owned());
    let syntax = Syntax::Es(EsSyntax {
        import_attributes: true,
        allow_return_outside_function: true,
        ..EsSyntax::default()
    });
    let lexer = Lexer::new(syntax, EsVersion::latest(), StringInput::from(&*file), None);
    let mut parser = Parser::new_from(lexer);
    let program = parser.parse_program();
    let mistake = |error: &swc_ecma_parser::error::Error| Mistake {
        offset: offset(error.span(), file.start_pos),
        reason: sentence(&error.kind().msg()),
    };
    let program = program.map_err(|error| mistake(&error))?;
    match parser.take_errors().first() {
        Some(error) => Err(mistake(error)),
        None => Ok((program, file.start_pos)),
    }
}

/// The parser's words in our form: lower case, no full stop.
pub(super) fn sentence(message: &str) -> String {
    let message = message.trim().trim_end_matches('.');
    let mut chars = message.chars();
    match chars.next() {
        Some(first) if !chars.as_str().starts_with(|c: char| c.is_uppercase()) => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => message.to_owned(),
    }
}

pub(crate) fn offset(span: Span, start: BytePos) -> usize {
    span.lo.0.saturating_sub(start.0) as usize
}

pub(super) fn export_name(name: &ModuleExportName) -> String {
    match name {
        ModuleExportName::Ident(ident) => ident.sym.to_string(),
        ModuleExportName::Str(text) => text.value.to_string_lossy().into_owned(),
    }
}

struct Reader {
    start: BytePos,
    parsed: Parsed,
    /// How many functions are open: an `await` outside of all of them makes the module an ES module.
    functions: usize,
    tries: usize,
    /// How many open functions have a parameter `require` of their own, as bundled code has.
    shadowed: usize,
}

impl Reader {
    fn found(&mut self, specifier: &swc_ecma_ast::Str, how: How, names: Names) {
        self.parsed.imports.push(Imported {
            specifier: specifier.value.to_string_lossy().into_owned(),
            offset: offset(specifier.span, self.start),
            how,
            optional: how == How::Require && self.tries > 0,
            names,
        });
    }

    /// What follows a specifier, up to the end of its attributes.
    fn attributes(&mut self, specifier: Span, attributes: Option<Span>) {
        if let Some(attributes) = attributes {
            let end = |span: Span| span.hi.0.saturating_sub(self.start.0) as usize;
            self.parsed.attributes.push(end(specifier)..end(attributes));
        }
    }

    fn function<'p>(&mut self, params: impl IntoIterator<Item = &'p Pat>, visit: impl FnOnce(&mut Self)) {
        let shadows = params.into_iter().any(|p| p.as_ident().is_some_and(|ident| ident.sym == "require"));
        self.functions += 1;
        self.shadowed += usize::from(shadows);
        visit(self);
        self.functions -= 1;
        self.shadowed -= usize::from(shadows);
    }

    fn imports(&mut self, import: &ImportDecl) {
        let mut names = Vec::new();
        for specifier in &import.specifiers {
            match specifier {
                ImportSpecifier::Named(named) => {
                    names.push(
                        named.imported.as_ref().map_or_else(|| named.local.sym.to_string(), export_name),
                    );
                }
                ImportSpecifier::Default(_) => names.push("default".to_owned()),
                ImportSpecifier::Namespace(_) => return self.found(&import.src, How::Import, Names::All),
            }
        }
        self.found(&import.src, How::Import, Names::Listed(names));
    }
}

impl Visit for Reader {
    fn visit_module_decl(&mut self, decl: &ModuleDecl) {
        match decl {
            ModuleDecl::Import(import) => {
                self.attributes(import.src.span, import.with.as_deref().map(Spanned::span));
                self.imports(import);
            }
            ModuleDecl::ExportNamed(export) => {
                if let Some(source) = &export.src {
                    let mut names = Names::Listed(Vec::new());
                    for specifier in &export.specifiers {
                        match (specifier, &mut names) {
                            (ExportSpecifier::Named(named), Names::Listed(list)) => {
                                list.push(export_name(&named.orig));
                            }
                            (ExportSpecifier::Namespace(_), _) => names = Names::All,
                            _ => {}
                        }
                    }
                    self.attributes(source.span, export.with.as_deref().map(Spanned::span));
                    self.found(source, How::Import, names);
                }
            }
            ModuleDecl::ExportAll(export) => {
                self.attributes(export.src.span, export.with.as_deref().map(Spanned::span));
                self.found(&export.src, How::Import, Names::All);
            }
            _ => {}
        }
        decl.visit_children_with(self);
    }

    fn visit_call_expr(&mut self, call: &CallExpr) {
        let literal = call.args.first().filter(|arg| arg.spread.is_none()).and_then(|arg| match &*arg.expr {
            Expr::Lit(Lit::Str(text)) => Some(text.clone()),
            Expr::Tpl(template) if template.exprs.is_empty() => {
                let quasi = template.quasis.first()?;
                Some(swc_ecma_ast::Str { span: template.span, value: quasi.cooked.clone()?, raw: None })
            }
            _ => None,
        });
        if let (Callee::Import(_), [specifier, .., last]) = (&call.callee, &call.args[..]) {
            self.attributes(specifier.span(), Some(last.span()));
        }
        if let Some(text) = literal {
            match &call.callee {
                Callee::Import(Import { .. }) => self.found(&text, How::Import, Names::All),
                Callee::Expr(callee)
                    if self.shadowed == 0 && callee.as_ident().is_some_and(|name| name.sym == "require") =>
                {
                    self.found(&text, How::Require, Names::All);
                }
                _ => {}
            }
        }
        call.visit_children_with(self);
    }

    fn visit_function(&mut self, function: &Function) {
        self.function(function.params.iter().map(|p| &p.pat), |r| function.visit_children_with(r));
    }

    fn visit_arrow_expr(&mut self, arrow: &ArrowExpr) {
        self.function(&arrow.params, |r| arrow.visit_children_with(r));
    }

    fn visit_constructor(&mut self, constructor: &Constructor) {
        self.function(&[], |r| constructor.visit_children_with(r));
    }

    fn visit_try_stmt(&mut self, statement: &TryStmt) {
        self.tries += 1;
        statement.block.visit_with(self);
        self.tries -= 1;
        statement.handler.visit_with(self);
        statement.finalizer.visit_with(self);
    }

    fn visit_await_expr(&mut self, expr: &AwaitExpr) {
        self.parsed.is_esm |= self.functions == 0;
        expr.visit_children_with(self);
    }

    fn visit_for_of_stmt(&mut self, statement: &ForOfStmt) {
        self.parsed.is_esm |= statement.is_await && self.functions == 0;
        statement.visit_children_with(self);
    }

    fn visit_meta_prop_expr(&mut self, expr: &MetaPropExpr) {
        self.parsed.is_esm |= expr.kind == MetaPropKind::ImportMeta;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specifiers(source: &str) -> Vec<String> {
        parse(source).unwrap().imports.into_iter().map(|i| i.specifier).collect()
    }

    #[test]
    fn every_way_to_name_a_module_is_seen() {
        let source = "import a from 'a'; import 'b'; export * from 'c'; export { d } from 'd';\n\
                      const e = require('e'); async function f() { await import(`f`); require('g' + a); }";
        assert_eq!(specifiers(source), ["a", "b", "c", "d", "e", "f"]);
    }

    #[test]
    fn a_require_of_somebody_elses_is_not_an_import() {
        assert_eq!(
            specifiers("(function (require, m) { require('./inner') })(null, {}); x.require('y')"),
            [""; 0]
        );
    }

    #[test]
    fn a_require_inside_try_may_fail() {
        let parsed = parse("try { require('a') } catch { require('b') }").unwrap();
        assert_eq!(parsed.imports.iter().map(|i| i.optional).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn syntax_tells_the_kinds_of_module_apart() {
        for (source, esm) in [
            ("export const a = 1", true),
            ("import './a.js'", true),
            ("const x = await f()", true),
            ("for await (const x of y) {}", true),
            ("console.log(import.meta.url)", true),
            ("const f = async () => await g()", false),
            ("import('./a.js')", false),
            ("exports.a = 1; return", false),
        ] {
            assert_eq!(parse(source).unwrap().is_esm, esm, "{source}");
        }
    }

    #[test]
    fn names_are_those_of_the_exporting_module() {
        let parsed = parse("import d, { a, b as c } from 'x'; import * as n from 'y'").unwrap();
        assert_eq!(parsed.imports[0].names, Names::Listed(vec!["default".into(), "a".into(), "b".into()]));
        assert_eq!(parsed.imports[1].names, Names::All);
    }

    #[test]
    fn attributes_are_what_follows_the_specifier() {
        let source = "import a from './a' with { type: 'json' }; import('./b', { with: { type: 'json' } })";
        let found: Vec<&str> =
            parse(source).unwrap().attributes.into_iter().map(|range| &source[range]).collect();
        assert_eq!(found, [" with { type: 'json' }", ", { with: { type: 'json' } }"]);
    }

    #[test]
    fn a_mistake_is_where_it_is() {
        let mistake = parse("const a = 1;\nlet x = = 4;").unwrap_err();
        assert_eq!(&"const a = 1;\nlet x = = 4;"[mistake.offset..], "= 4;");
        assert_eq!(mistake.reason, "expression expected");
    }
}
