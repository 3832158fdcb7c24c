//! Writes the TypeScript that stands for code of its own as JavaScript: enums, parameter properties, `import x =
//! require(…)` and `export =`.
//!
//! Everything is written in place. Lines stay what they were; on a line that was written anew, columns may not.

use std::ops::Range;

use swc_common::{BytePos, FileName, SourceMap, Spanned, sync::Lrc};
use swc_ecma_ast::{
    Callee, Class, ClassMember, Constructor, EsVersion, Expr, ModuleDecl, ModuleItem, ParamOrTsParamProp,
    Program, Stmt, TsEnumDecl, TsEnumMember, TsEnumMemberId, TsImportEqualsDecl, TsModuleRef,
    TsParamPropParam,
};
use swc_ecma_parser::{Parser, StringInput, Syntax, TsSyntax, lexer::Lexer};
use swc_ecma_visit::{Visit, VisitWith};

use super::parse::{Mistake, offset, sentence};

/// How TypeScript is read, here and where its types are blanked out.
pub(super) const SYNTAX: TsSyntax = TsSyntax {
    tsx: false,
    decorators: true,
    dts: false,
    no_early_errors: false,
    disallow_ambiguous_jsx_like: false,
};

/// A text with replacements.
#[derive(Debug, Default)]
pub(super) struct Lowered {
    pub(super) text: String,
    /// In the order of the text, not overlapping.
    edits: Vec<Edit>,
}

#[derive(Debug)]
struct Edit {
    place: Range<usize>,
    text: String,
}

impl Lowered {
    /// Where in the original something is that is at `offset` now.
    pub(super) fn original(&self, offset: usize) -> usize {
        let mut shift = 0;
        for Edit { place, text } in &self.edits {
            let start = place.start + shift;
            if offset < start {
                break;
            }
            if offset < start + text.len() {
                return place.start;
            }
            shift = shift + text.len() - place.len();
        }
        offset - shift
    }
}

/// Writes the source anew as far as that is needed.
pub(super) fn lower(source: &str) -> Result<Lowered, Mistake> {
    let map = SourceMap::default();
    let file = map.new_source_file(Lrc::new(FileName::Anon), source.to_owned());
    let lexer = Lexer::new(Syntax::Typescript(SYNTAX), EsVersion::latest(), StringInput::from(&*file), None);
    let mut parser = Parser::new_from(lexer);
    let parsed = parser.parse_program();
    let mistake = |error: &swc_ecma_parser::error::Error| Mistake {
        offset: offset(error.span(), file.start_pos),
        reason: sentence(&error.kind().msg()),
    };
    let program = parsed.map_err(|error| mistake(&error))?;
    if let Some(error) = parser.take_errors().first() {
        return Err(mistake(error));
    }
    let esm = match &program {
        Program::Module(module) => module.body.iter().any(is_esm),
        Program::Script(_) => false,
    };
    let mut lowering = Lowering { source, start: file.start_pos, esm, edits: Vec::new() };
    program.visit_with(&mut lowering);
    let mut edits = lowering.edits;
    edits.sort_by_key(|edit| (edit.place.start, edit.place.end));
    let mut text = String::with_capacity(source.len());
    let mut done = 0;
    for edit in &edits {
        text.push_str(&source[done..edit.place.start]);
        text.push_str(&edit.text);
        done = edit.place.end;
    }
    text.push_str(&source[done..]);
    Ok(Lowered { text, edits })
}

/// Whether the item makes its module an ES module, of itself.
fn is_esm(item: &ModuleItem) -> bool {
    match item {
        ModuleItem::ModuleDecl(ModuleDecl::TsImportEquals(_) | ModuleDecl::TsExportAssignment(_)) => false,
        ModuleItem::ModuleDecl(ModuleDecl::Import(import)) => !import.type_only,
        ModuleItem::ModuleDecl(_) => true,
        ModuleItem::Stmt(_) => false,
    }
}

struct Lowering<'a> {
    source: &'a str,
    start: BytePos,
    esm: bool,
    edits: Vec<Edit>,
}

impl Lowering<'_> {
    fn at(&self, pos: BytePos) -> usize {
        (pos.0 - self.start.0) as usize
    }

    /// Replaces a range, and keeps its line breaks.
    fn replace(&mut self, from: usize, to: usize, text: &str) {
        let breaks = self.source[from..to].matches('\n').count();
        self.edits.push(Edit { place: from..to, text: format!("{text}{}", "\n".repeat(breaks)) });
    }

    fn insert(&mut self, at: usize, text: String) {
        self.edits.push(Edit { place: at..at, text });
    }

    /// The place of a character after `from`, over white space and comments. None if something else comes first.
    fn next(&self, from: usize, wanted: char) -> Option<usize> {
        let mut at = from;
        loop {
            let rest = &self.source[at..];
            let skipped = if rest.starts_with("//") {
                rest.find('\n').unwrap_or(rest.len())
            } else if rest.starts_with("/*") {
                rest.find("*/")? + 2
            } else {
                match rest.chars().next()? {
                    c if c == wanted => return Some(at),
                    c if c.is_whitespace() => c.len_utf8(),
                    _ => return None,
                }
            };
            at += skipped;
        }
    }

    fn enumeration(&mut self, decl: &TsEnumDecl) -> Option<()> {
        let name = decl.id.sym.as_str();
        let open = self.next(self.at(decl.id.span.hi), '{')?;
        let head = format!(
            "var {name}; (function ({name}) {{ let $next = -1; const $set = (name, value) => {{ {name}[name] = value; \
             if (typeof value === \"number\") {name}[$next = value] = name; return value; }};"
        );
        self.replace(self.at(decl.span.lo), open + 1, &head);
        for member in &decl.members {
            self.member(member);
        }
        let end = self.at(decl.span.hi);
        self.replace(end - 1, end, &format!("}})({name} || ({name} = {{}}));"));
        Some(())
    }

    fn member(&mut self, member: &TsEnumMember) {
        let (lo, hi) = (self.at(member.span.lo), self.at(member.span.hi));
        let (name, variable) = match &member.id {
            TsEnumMemberId::Ident(ident) => (ident.sym.to_string(), !RESERVED.contains(&ident.sym.as_str())),
            TsEnumMemberId::Str(text) => (text.value.to_string_lossy().into_owned(), false),
        };
        // Other members may name this one without the enum's name.
        let variable = if variable { format!("var {name} = ") } else { String::new() };
        let name = serde_json::Value::from(name);
        match &member.init {
            Some(init) => {
                self.replace(lo, self.at(init.span().lo), &format!("{variable}$set({name}, "));
                self.insert(hi, ");".to_owned());
            }
            None => self.replace(lo, hi, &format!("{variable}$set({name}, $next + 1);")),
        }
        if let Some(comma) = self.next(hi, ',') {
            self.replace(comma, comma + 1, " ");
        }
    }

    /// `constructor(private x)`: the modifiers go, and the body assigns first thing, or right after `super(…)`.
    fn parameters(&mut self, constructor: &Constructor, derived: bool) -> Option<()> {
        let properties: Vec<_> = constructor
            .params
            .iter()
            .filter_map(|param| match param {
                ParamOrTsParamProp::TsParamProp(property) => Some(property),
                ParamOrTsParamProp::Param(_) => None,
            })
            .collect();
        let body = constructor.body.as_ref().filter(|_| !properties.is_empty())?;
        let place = if derived {
            body.stmts.iter().find(|statement| calls_super(statement))?.span().hi
        } else {
            body.span.lo + BytePos(1)
        };
        let mut assignments = String::from(";");
        for property in properties {
            let ident = match &property.param {
                TsParamPropParam::Ident(ident) => ident,
                TsParamPropParam::Assign(assign) => assign.left.as_ident()?,
            };
            let from = property.decorators.last().map_or(property.span.lo, |decorator| decorator.span.hi);
            let (from, to) = (self.at(from), self.at(property.param.span().lo));
            let blank: String =
                self.source[from..to].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
            self.edits.push(Edit { place: from..to, text: blank });
            assignments.push_str(&format!(" this.{0} = {0};", ident.sym));
        }
        self.insert(self.at(place), assignments);
        Some(())
    }

    fn import(&mut self, decl: &TsImportEqualsDecl) {
        let TsModuleRef::TsExternalModuleRef(module) = &decl.module_ref else { return };
        if decl.is_type_only || decl.is_export {
            return;
        }
        let lo = self.at(decl.span.lo);
        if self.esm {
            let text = self.at(module.expr.span.lo);
            self.replace(lo, text, &format!("import {} from ", decl.id.sym));
            let end = self.at(module.expr.span.hi);
            if let Some(bracket) = self.next(end, ')') {
                self.replace(bracket, bracket + 1, " ");
            }
        } else {
            self.replace(lo, lo + "import".len(), "const ");
        }
    }
}

fn calls_super(statement: &Stmt) -> bool {
    let Stmt::Expr(statement) = statement else { return false };
    matches!(&*statement.expr, Expr::Call(call) if matches!(call.callee, Callee::Super(_)))
}

/// Names that a variable cannot have.
const RESERVED: [&str; 48] = [
    "arguments",
    "await",
    "break",
    "case",
    "catch",
    "class",
    "const",
    "continue",
    "debugger",
    "default",
    "delete",
    "do",
    "else",
    "enum",
    "eval",
    "export",
    "extends",
    "false",
    "finally",
    "for",
    "function",
    "if",
    "implements",
    "import",
    "in",
    "instanceof",
    "interface",
    "let",
    "new",
    "null",
    "package",
    "private",
    "protected",
    "public",
    "return",
    "static",
    "super",
    "switch",
    "this",
    "throw",
    "true",
    "try",
    "typeof",
    "var",
    "void",
    "while",
    "with",
    "yield",
];

impl Visit for Lowering<'_> {
    fn visit_ts_enum_decl(&mut self, decl: &TsEnumDecl) {
        if !decl.declare {
            // What cannot be written anew stays, and is refused with its place where types are blanked out.
            let _ = self.enumeration(decl);
        }
        decl.visit_children_with(self);
    }

    fn visit_class(&mut self, class: &Class) {
        for member in &class.body {
            if let ClassMember::Constructor(constructor) = member {
                let _ = self.parameters(constructor, class.super_class.is_some());
            }
        }
        class.visit_children_with(self);
    }

    fn visit_module_decl(&mut self, decl: &ModuleDecl) {
        match decl {
            ModuleDecl::TsImportEquals(import) => self.import(import),
            ModuleDecl::TsExportAssignment(export) => {
                let text = if self.esm { "export default " } else { "module.exports = " };
                self.replace(self.at(export.span.lo), self.at(export.expr.span().lo), text);
            }
            _ => {}
        }
        decl.visit_children_with(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lowered(source: &str) -> String {
        lower(source).unwrap().text
    }

    #[test]
    fn what_needs_no_code_stays_as_it_is() {
        let source = "declare enum A { B }\nclass C { constructor(x: number) {} }\nimport type D from 'd';";
        assert_eq!(lowered(source), source);
    }

    #[test]
    fn lines_stay_what_they_were() {
        let source = "export enum Color {\n  // a comment, with a comma\n  Red,\n  Green = 5, // five\n  Blue\n}\nafter();";
        let code = lowered(source);
        let lines: Vec<&str> = code.lines().collect();
        assert_eq!(lines.len(), 7, "{code}");
        assert!(lines[0].starts_with("export var Color; (function (Color) {"), "{code}");
        assert_eq!(lines[2], "  var Red = $set(\"Red\", $next + 1); ");
        assert_eq!(lines[3], "  var Green = $set(\"Green\", 5);  // five");
        assert_eq!(lines[5..], ["})(Color || (Color = {}));", "after();"]);
    }

    #[test]
    fn parameter_properties_are_assigned_before_the_body_or_after_super() {
        assert_eq!(
            lowered("class A { constructor(private readonly x: number, y = 1) { f() } }"),
            "class A { constructor(                 x: number, y = 1) {; this.x = x; f() } }"
        );
        assert_eq!(
            lowered("class A extends B { constructor(public x = 1) { super(x) } }"),
            "class A extends B { constructor(       x = 1) { super(x); this.x = x; } }"
        );
    }

    #[test]
    fn typescripts_own_imports_follow_the_kind_of_the_module() {
        assert_eq!(
            lowered("import a = require('a');\nexport = a;"),
            "const  a = require('a');\nmodule.exports = a;"
        );
        assert_eq!(
            lowered("import a = require('a');\nimport b from 'b';\nexport = a;"),
            "import a from 'a' ;\nimport b from 'b';\nexport default a;"
        );
    }

    #[test]
    fn a_place_is_found_again_in_the_original() {
        let source = "enum A { B }\nlet x;";
        let lowered = lower(source).unwrap();
        let now = lowered.text.find("let x").unwrap();
        assert_eq!(lowered.original(now), source.find("let x").unwrap());
        assert_eq!(lowered.original(0), 0);
        assert_eq!(lowered.original(20), 0);
    }
}
