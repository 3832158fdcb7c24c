//! Compiles the body of a CommonJS module as a function, with the positions of the user's file.
//!
//! The wrapper's head stands on lines before the first, so neither lines nor columns of the user's code move. The
//! binding offers no safe way to start elsewhere than at line 1.
#![expect(unsafe_code, reason = "JS_Eval2 is the only entry that takes the number of the first line")]

use std::ffi::CString;

use rquickjs::{Ctx, Error, Function, Result, Value, qjs};

const HEAD: &str = "(function (exports, require, module, __filename, __dirname) {";
/// Two lines of head: zero means "default" to the engine, so counting starts at minus one.
const FIRST_LINE: i32 = -1;

/// A function of `exports, require, module, __filename, __dirname` that runs `source`, in sloppy mode as Node has it.
///
/// # Errors
/// A pending `SyntaxError` that names `path`.
pub(crate) fn commonjs<'js>(ctx: &Ctx<'js>, path: &str, source: &str) -> Result<Function<'js>> {
    // A hashbang is legal only at the very start of a file; as a comment it keeps its length.
    let source = match source.strip_prefix("#!") {
        Some(rest) => format!("//{rest}"),
        None => source.to_owned(),
    };
    let text = CString::new(format!("{HEAD}\n\n{source}\n}})"))?;
    let path = CString::new(path)?;
    let mut options = qjs::JSEvalOptions {
        version: qjs::JS_EVAL_OPTIONS_VERSION as i32,
        eval_flags: qjs::JS_EVAL_TYPE_GLOBAL as i32,
        filename: path.as_ptr(),
        line_num: FIRST_LINE,
    };
    let length = text.as_bytes().len();
    // SAFETY: the context is alive and locked, as `ctx` exists; `text` is NUL-terminated after `length` bytes; both
    // strings and the options outlive the call, which keeps none of them. The value returned is owned and is of this
    // context.
    let value = unsafe {
        let raw = qjs::JS_Eval2(ctx.as_raw().as_ptr(), text.as_ptr(), length as _, &mut options);
        if qjs::JS_VALUE_GET_TAG(raw) == qjs::JS_TAG_EXCEPTION {
            return Err(Error::Exception);
        }
        Value::from_raw(ctx.clone(), raw)
    };
    value.get()
}
