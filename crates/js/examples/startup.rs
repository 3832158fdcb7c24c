//! Measures what a cold start costs inside the process: a machine, a program, a first call.
//!
//! `cargo run --release -p tandem-js --example startup`
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    unsafe_code,
    reason = "a measurement prints, and ends when something is wrong"
)]

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use futures::{FutureExt, future::BoxFuture};
use rquickjs::{AsyncContext, AsyncRuntime, WriteOptions};
use serde_json::Value;
use tandem_js::{Archive, Bridge, CallError, InvokeContext, Module, ModuleKind, Phase, Setup, Vm};
use tandem_model::ByteSize;

const ROUNDS: usize = 200;

struct Silent;

impl Bridge for Silent {
    fn call(&self, _: String, _: Value) -> BoxFuture<'static, Result<Value, CallError>> {
        async { Ok(Value::Null) }.boxed()
    }
}

fn program(body: &str) -> Arc<Archive> {
    let source = format!(
        "const cloud = require('@pulumi/cloud');\nnew cloud.Function('f', async () => {{ {body} }});"
    );
    let module =
        Module { kind: ModuleKind::CommonJs, source, imports: BTreeMap::new(), named_exports: Vec::new() };
    Arc::new(Archive {
        entry: "index.js".to_owned(),
        modules: BTreeMap::from([("index.js".to_owned(), module)]),
    })
}

fn setup() -> Setup {
    Setup {
        phase: Phase::Run,
        project: "p".to_owned(),
        stack: "s".to_owned(),
        config: BTreeMap::new(),
        dry_run: false,
        environment: BTreeMap::new(),
        resources: BTreeMap::new(),
    }
}

fn context() -> InvokeContext {
    InvokeContext {
        request_id: "r".to_owned(),
        function: "f".to_owned(),
        deadline: SystemTime::now() + Duration::from_secs(60),
        memory: ByteSize::mebibytes(128),
        traceparent: None,
    }
}

/// Median microseconds of a new machine, of loading the program, of the first call and of the second.
async fn measure(body: &str) -> [u128; 4] {
    let archive = program(body);
    let mut rounds = vec![[0; 4]; ROUNDS];
    for round in &mut rounds {
        let started = Instant::now();
        let vm = Vm::new().await.unwrap();
        round[0] = started.elapsed().as_micros();
        let started = Instant::now();
        vm.load(archive.clone(), setup(), Arc::new(Silent)).await.unwrap();
        round[1] = started.elapsed().as_micros();
        for slot in &mut round[2..] {
            let started = Instant::now();
            vm.invoke("f", Value::Null, context()).await.unwrap();
            *slot = started.elapsed().as_micros();
        }
    }
    std::array::from_fn(|step| {
        let mut values: Vec<_> = rounds.iter().map(|round| round[step]).collect();
        values.sort_unstable();
        values[ROUNDS / 2]
    })
}

/// Median microseconds of parsing and compiling a module of about so many bytes, of reading it back from bytecode, and the
/// bytecode's size.
async fn bytecode(bytes: usize) -> (u128, u128, usize) {
    let mut source = String::new();
    for n in 0.. {
        if source.len() >= bytes {
            break;
        }
        source += &format!(
            "export async function handler{n}(event, context) {{\n  const {{ key, size = {n} }} = event.data ?? {{}};\n  \
             if (!key || size > 1024 * {n}) throw new TypeError(`no object ${{key}} in {n}`);\n  const parts = \
             key.split('/').map((part, index) => ({{ part, index }})).filter(({{ part }}) => part !== '');\n  \
             return {{ ...event, parts, last: parts.at(-1)?.part.toUpperCase() }};\n}}\n"
        );
    }
    let context = AsyncContext::full(&AsyncRuntime::new().unwrap()).await.unwrap();
    let mut times = [vec![], vec![]];
    let mut size = 0;
    for round in 0..50 {
        let (parsed, read) = context
            .with(|ctx| {
                let started = Instant::now();
                let module =
                    rquickjs::Module::declare(ctx.clone(), format!("a{round}"), source.as_str()).unwrap();
                let parsed = started.elapsed().as_micros();
                let bytecode = module.write(WriteOptions::default()).unwrap();
                size = bytecode.len();
                let started = Instant::now();
                // SAFETY: written by this process a moment ago.
                let _ = unsafe { rquickjs::Module::load(ctx.clone(), &bytecode) }.unwrap();
                (parsed, started.elapsed().as_micros())
            })
            .await;
        times[0].push(parsed);
        times[1].push(read);
    }
    times.iter_mut().for_each(|times| times.sort_unstable());
    (times[0][25], times[1][25], size)
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    println!(
        "{:<28}{:>10}{:>10}{:>10}{:>10}   µs, median of {ROUNDS}",
        "handler", "new", "load", "first", "second"
    );
    for (name, body) in [
        ("nothing", ""),
        ("console.log", "console.log('x')"),
        ("crypto", "crypto.randomUUID()"),
        ("URL, TextEncoder", "new URL('http://h/')"),
        ("streams", "ReadableStream"),
        ("fetch (not called)", "fetch"),
        ("performance", "performance.now()"),
        ("Intl", "Intl"),
        ("require fs, path", "require('fs'); require('path')"),
    ] {
        let [new, load, first, second] = runtime.block_on(measure(body));
        println!("{name:<28}{new:>10}{load:>10}{first:>10}{second:>10}");
    }
    println!("\n{:<28}{:>10}{:>10}{:>10}   µs, median of 50", "source", "parse", "read", "bytes");
    for bytes in [1 << 10, 10 << 10, 100 << 10, 1 << 20] {
        let (parse, read, size) = runtime.block_on(bytecode(bytes));
        println!("{:<28}{parse:>10}{read:>10}{size:>10}", format!("{} KiB", bytes >> 10));
    }
}
