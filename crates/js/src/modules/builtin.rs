//! The Node-like modules and globals of LLRT.
//!
//! Modules are declared when a program first asks for them. Globals that take long to set up are set up when they are
//! first touched: a worker pays only for what its program uses.

use llrt_modules as llrt;
use rquickjs::{Ctx, Module, Result, module::ModuleDef};

type Declare = for<'js> fn(&Ctx<'js>, &str) -> Result<Module<'js>>;
type SetUp = for<'js> fn(&Ctx<'js>) -> Result<()>;

fn declared<'js, D: ModuleDef>(ctx: &Ctx<'js>, name: &str) -> Result<Module<'js>> {
    Module::declare_def::<D, _>(ctx.clone(), name)
}

const MODULES: [(&str, Declare); 22] = [
    ("assert", declared::<llrt::assert::AssertModule>),
    ("buffer", declared::<llrt::buffer::BufferModule>),
    ("child_process", declared::<llrt::child_process::ChildProcessModule>),
    ("console", declared::<llrt::console::ConsoleModule>),
    ("crypto", declared::<llrt::crypto::CryptoModule>),
    ("dgram", declared::<llrt::dgram::DgramModule>),
    ("dns", declared::<llrt::dns::DnsModule>),
    ("events", declared::<llrt::events::EventsModule>),
    ("fs", declared::<llrt::fs::FsModule>),
    ("fs/promises", declared::<llrt::fs::FsPromisesModule>),
    ("https", declared::<llrt::https::HttpsModule>),
    ("net", declared::<llrt::net::NetModule>),
    ("os", declared::<llrt::os::OsModule>),
    ("path", declared::<llrt::path::PathModule>),
    ("perf_hooks", declared::<llrt::perf_hooks::PerfHooksModule>),
    ("stream/web", declared::<llrt::stream_web::StreamWebModule>),
    ("string_decoder", declared::<llrt::string_decoder::StringDecoderModule>),
    ("timers", declared::<llrt::timers::TimersModule>),
    ("tty", declared::<llrt::tty::TtyModule>),
    ("url", declared::<llrt::url::UrlModule>),
    ("util", declared::<llrt::util::UtilModule>),
    ("zlib", declared::<llrt::zlib::ZlibModule>),
];

/// The names of the built-in modules, sorted.
pub(crate) const NAMES: [&str; MODULES.len()] = {
    let mut names = [""; MODULES.len()];
    let mut i = 0;
    while i < names.len() {
        names[i] = MODULES[i].0;
        i += 1;
    }
    names
};

/// Declares a built-in module; `None` if there is none of that name.
pub(crate) fn declare<'js>(ctx: &Ctx<'js>, name: &str) -> Option<Result<Module<'js>>> {
    let (_, declare) = MODULES.iter().find(|(known, _)| *known == name)?;
    Some(declare(ctx, name))
}

/// Globals that every program gets at once: the cheap ones, and those that others build on.
const EAGER: [SetUp; 6] = [
    llrt::process::init,
    llrt::exceptions::init,
    llrt::events::init,
    llrt::abort::init,
    llrt::buffer::init,
    llrt::console::init,
];

/// Globals that are set up together at the first use of one of them.
pub(crate) const LAZY: [(&[&str], SetUp); 7] = [
    (&["crypto", "Crypto", "SubtleCrypto", "CryptoKey"], llrt::crypto::init),
    (&["fetch", "FormData", "Request", "Response", "Headers"], llrt::fetch::init),
    (&["Intl"], llrt::intl::init),
    (&["navigator"], llrt::navigator::init),
    (&["performance"], llrt::perf_hooks::init),
    (
        &[
            "ByteLengthQueuingStrategy",
            "CountQueuingStrategy",
            "ReadableByteStreamController",
            "ReadableStream",
            "ReadableStreamBYOBReader",
            "ReadableStreamBYOBRequest",
            "ReadableStreamDefaultController",
            "ReadableStreamDefaultReader",
            "WritableStream",
            "WritableStreamDefaultController",
            "WritableStreamDefaultWriter",
        ],
        llrt::stream_web::init,
    ),
    (&["URL", "URLSearchParams", "TextEncoder", "TextDecoder"], text_and_urls),
];

fn text_and_urls(ctx: &Ctx<'_>) -> Result<()> {
    llrt::url::init(ctx)?;
    llrt::util::init(ctx)
}

/// Sets up the globals that are not lazy.
pub(crate) fn set_up(ctx: &Ctx<'_>) -> Result<()> {
    llrt_utils::time::init();
    EAGER.iter().try_for_each(|init| init(ctx))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_of_one_place() {
        let mut sorted = NAMES.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted, NAMES);
    }
}
