//! Turns TypeScript into JavaScript by blanking types out, so that every character stays where it was written. What
//! stands for code, [`lower`] has written as code before.

use std::{
    collections::BTreeSet,
    mem,
    sync::{Arc, Mutex},
};

use swc_common::{
    BytePos, Span, Spanned,
    errors::{DiagnosticBuilder, Emitter, Handler},
    sync::Lrc,
};
use swc_ecma_ast::{Ident, ImportDecl, ImportSpecifier, ModuleDecl, ModuleItem, Program};
use swc_ecma_visit::{Visit, VisitWith};
use swc_ts_fast_strip::{ErrorCode, Mode, Options, operate};

use super::{
    lower,
    parse::{self, Mistake},
};

/// Why the types could not be blanked out.
#[derive(Debug)]
pub(super) enum StripError {
    Syntax(Mistake),
    Unsupported { offset: usize, what: &'static str, instead: &'static str },
}

/// The JavaScript in a TypeScript source, each line and nearly each character at its place.
///
/// An import that is only used as a type is blanked out with the types, as `tsc` does.
pub(super) fn strip(source: &str) -> Result<String, StripError> {
    let lowered = lower::lower(source).map_err(StripError::Syntax)?;
    let map = Lrc::<swc_common::SourceMap>::default();
    let found = Found::default();
    let handler = Handler::with_emitter(true, false, Box::new(found.clone()));
    let options = Options { mode: Mode::StripOnly, parser: lower::SYNTAX, ..Options::default() };
    match operate(&map, &handler, lowered.text.clone(), options) {
        Ok(output) => Ok(drop_unused_imports(output.code)),
        Err(error) => {
            let (message, span) = found.first().unwrap_or((error.message, Span::default()));
            // The source is the first file of its map.
            let offset = lowered.original(parse::offset(span, BytePos(1)));
            Err(match error.code {
                ErrorCode::UnsupportedSyntax => {
                    let (what, instead) = advice(&message);
                    StripError::Unsupported { offset, what, instead }
                }
                _ => StripError::Syntax(Mistake { offset, reason: parse::sentence(&message) }),
            })
        }
    }
}

fn advice(message: &str) -> (&'static str, &'static str) {
    const KNOWN: [(&str, &str, &str); 7] = [
        ("enum", "this TypeScript `enum`", "write `const Color = { Red: 0, Green: 1 } as const` instead"),
        ("namespace", "a TypeScript `namespace`", "move what is in it into a module of its own"),
        ("import equals", "this `import x = …`", "write `import * as x from \"…\"` or `const x = …`"),
        ("export assignment", "this `export = …`", "write `export default …` or `module.exports = …`"),
        (
            "parameter property",
            "this parameter property",
            "declare the field and assign it in the constructor",
        ),
        ("angle-bracket", "a type assertion `<T>x`", "write `x as T`"),
        ("unary", "a unary operand of `**`", "put the operand in parentheses"),
    ];
    KNOWN
        .into_iter()
        .find(|(word, ..)| message.contains(word))
        .map_or(("this TypeScript", "write it in JavaScript"), |(_, what, instead)| (what, instead))
}

/// Collects what the stripper reports.
#[derive(Clone, Default)]
struct Found(Arc<Mutex<Vec<(String, Span)>>>);

impl Found {
    fn first(&self) -> Option<(String, Span)> {
        let mut found = mem::take(&mut *self.0.lock().unwrap_or_else(|e| e.into_inner()));
        found.sort_by_key(|(_, span)| span.lo);
        found.into_iter().next()
    }
}

impl Emitter for Found {
    fn emit(&mut self, diagnostic: &mut DiagnosticBuilder<'_>) {
        let message: String = diagnostic.message.iter().map(|m| m.0.as_str()).collect();
        let span = diagnostic.span.primary_span().unwrap_or_default();
        self.0.lock().unwrap_or_else(|e| e.into_inner()).push((message, span));
    }
}

/// Blanks out import specifiers whose name is nowhere used once the types are gone; an import that loses all its
/// names goes whole.
fn drop_unused_imports(code: String) -> String {
    let Ok((Program::Module(module), start)) = parse::javascript(&code) else { return code };
    let imports: Vec<&ImportDecl> = module
        .body
        .iter()
        .filter_map(|item| match item {
            ModuleItem::ModuleDecl(ModuleDecl::Import(import)) => Some(import),
            _ => None,
        })
        .collect();
    let mut used = Used(BTreeSet::new());
    for item in &module.body {
        if !matches!(item, ModuleItem::ModuleDecl(ModuleDecl::Import(_))) {
            item.visit_with(&mut used);
        }
    }
    let mut bytes = code.into_bytes();
    for import in imports {
        for span in unused(import, &used.0) {
            blank(
                &mut bytes,
                parse::offset(span, start),
                (span.hi.0 - start.0) as usize,
                import.span.hi,
                start,
            );
        }
    }
    String::from_utf8(bytes).expect("blanks are ASCII and replace whole tokens")
}

/// The specifiers, or the whole import, that nothing uses.
fn unused(import: &ImportDecl, used: &BTreeSet<String>) -> Vec<Span> {
    let dead = |specifier: &&ImportSpecifier| !used.contains(specifier.local().sym.as_str());
    let dead: Vec<&ImportSpecifier> = import.specifiers.iter().filter(dead).collect();
    if !dead.is_empty() && dead.len() == import.specifiers.len() {
        return vec![import.span];
    }
    let span = |specifier: &ImportSpecifier| match (specifier, &import.specifiers[0]) {
        // `import d, * as n`: the comma before goes too.
        (ImportSpecifier::Namespace(namespace), ImportSpecifier::Default(default)) => {
            namespace.span.with_lo(default.span.hi)
        }
        (specifier, _) => specifier.span(),
    };
    dead.into_iter().map(span).collect()
}

/// Replaces the bytes by spaces, and with them the comma that separates them from the next specifier.
fn blank(bytes: &mut [u8], from: usize, to: usize, import_end: BytePos, start: BytePos) {
    let end = (import_end.0 - start.0) as usize;
    let gap = bytes[to..end].iter().take_while(|b| b.is_ascii_whitespace()).count();
    let to = match bytes[to..end].get(gap) {
        Some(b',') => to + gap + 1,
        Some(b'/') => return, // A comment hides the comma; the import stays.
        _ => to,
    };
    for byte in &mut bytes[from..to] {
        if !matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
}

/// Every name that occurs, be it bound or referred to.
struct Used(BTreeSet<String>);

impl Visit for Used {
    fn visit_ident(&mut self, ident: &Ident) {
        self.0.insert(ident.sym.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_stays_at_its_place() {
        let source = "interface A { x: number }\nconst a: A = { x: 1 as number };\nfunction f<T>(x?: T): T { return x!; }";
        let code = strip(source).unwrap();
        assert_eq!(code.len(), source.len());
        assert_eq!(code.lines().count(), 3);
        assert!(!code.contains("interface") && !code.contains("number"), "{code}");
        assert_eq!(code.find("{ x: 1"), source.find("{ x: 1"));
    }

    #[test]
    fn an_import_used_as_a_type_only_goes_with_the_types() {
        let cases = [
            ("import { A, b } from 'x';\nlet y: A = b;", "import {    b } from 'x';\nlet y    = b;"),
            ("import { b, A } from 'x';\nlet y: A = b;", "import { b,   } from 'x';\nlet y    = b;"),
            ("import { A } from 'x';\nlet y: A;", "                      \nlet y   ;"),
            ("import d, * as A from 'x';\nlet y: A.B = d;", "import d         from 'x';\nlet y      = d;"),
            ("import D, { a } from 'x';\nlet y: D = a;", "import    { a } from 'x';\nlet y    = a;"),
            (
                "import 'x';\nimport type { A } from 'y'; export {}",
                "import 'x';\n                            export {}",
            ),
        ];
        for (source, code) in cases {
            assert_eq!(strip(source).unwrap(), code);
        }
    }

    #[test]
    fn what_cannot_be_erased_is_named_with_its_place() {
        let source = "enum Color { Red }\nnamespace A { export const b = 1 }\n";
        let Err(StripError::Unsupported { offset, what, .. }) = strip(source) else {
            panic!("they are not erased")
        };
        assert_eq!((offset, what), (source.find("namespace").unwrap(), "a TypeScript `namespace`"));
        let source = "class A extends B { constructor(private x: number) { if (x) super() } }";
        let Err(StripError::Unsupported { what, .. }) = strip(source) else { panic!("nor is this one") };
        assert_eq!(what, "this parameter property");
    }

    #[test]
    fn a_syntax_error_is_where_it_is() {
        let source = "let a: number = 1;\nlet b: = 2;";
        let Err(StripError::Syntax(mistake)) = strip(source) else { panic!("that is not TypeScript") };
        assert_eq!(&source[mistake.offset..], "= 2;");
    }

    /// Pieces that make and break TypeScript when put together.
    const PIECES: [&str; 34] = [
        "import { A, b } from 'x'",
        "import type { T } from 'y'",
        "import d, * as n from 'z'",
        "import q = require('q')",
        "export = q",
        "export { b }",
        "enum E { A, B = 'é', C }",
        "class K<T> { constructor(private a?: T) {} }",
        "interface I { a: b }",
        "let v: A = b as I",
        "type T = A | b",
        "declare const g: n.X",
        "f<A>(b!)",
        "namespace N {}",
        "async",
        "=>",
        "(a: A): b is I",
        "{",
        "}",
        "(",
        ")",
        "<",
        ">",
        ",",
        ";",
        "\n",
        "\r\n",
        "// é\n",
        "/* \n */",
        "`${",
        "}`",
        "'",
        "@dec ",
        "ü",
    ];

    proptest::proptest! {
        #[test]
        fn lines_stay_whatever_the_source(picks in proptest::collection::vec(0..PIECES.len(), 0..24)) {
            let source: String = picks.into_iter().flat_map(|pick| [PIECES[pick], " "]).collect();
            match strip(&source) {
                Ok(code) => proptest::prop_assert_eq!(code.matches('\n').count(), source.matches('\n').count()),
                Err(StripError::Syntax(Mistake { offset, .. }) | StripError::Unsupported { offset, .. }) => {
                    proptest::prop_assert!(source.is_char_boundary(offset), "{} in {:?}", offset, source);
                }
            }
        }
    }
}
