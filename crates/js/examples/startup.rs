//! Measures what a cold start costs inside the process: a machine, a program, a first call.
//!
//! `cargo run --release -p tandem-js --example startup`
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement prints, and ends when something is wrong"
)]

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use futures::{FutureExt, future::BoxFuture};
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
}
