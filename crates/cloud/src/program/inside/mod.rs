//! The other side: what runs in a container.
//!
//! The container's first process is this binary with [`SUBCOMMAND`]. It asks the cloud what it is to be, for as long as it
//! takes, loads the program, calls one handler, and ends: with 0 and the result in the file that `$TANDEM_RESULT` names, or
//! with 1 and the error on its standard error. SIGTERM ends it at once, as a process that does not listen to it.

pub(super) mod link;

use std::{
    fs, io,
    path::Path,
    process::ExitCode,
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
};

use nix::sys::signal::{SigSet, Signal};
use serde_json::Value;
use tandem_container::exchange::{INPUT, RESULT};
use tandem_js::{Archive, InvokeContext, Phase, ProgramError, Setup, Vm};
use tandem_model::{ByteSize, Report};

use self::link::Link;
use super::{Assignment, SHARED, SOCKET};

/// The hidden subcommand.
pub const SUBCOMMAND: &str = "run-program-code";

/// No container lives longer.
const FOR_EVER: Duration = Duration::from_secs(1000 * 365 * 24 * 60 * 60);

/// Why it ends with 1.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("{}", lines(.0))]
    Program(ProgramError),
    #[error("{}: {}", .0.code, .0.message)]
    Refused(Report),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the input is not JSON: {0}")]
    Input(serde_json::Error),
}

impl From<ProgramError> for Failed {
    fn from(error: ProgramError) -> Self {
        Self::Program(error)
    }
}

/// Runs as the first process of a container. To be called before the process has threads.
#[expect(clippy::print_stderr, reason = "standard error is the container's log")]
pub fn main() -> ExitCode {
    let ran = end_at_sigterm().and_then(|()| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(runtime.block_on(run(&Path::new(SHARED).join(SOCKET))))
    });
    match ran.unwrap_or_else(|error| Err(error.into())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            eprintln!("{failed}");
            ExitCode::FAILURE
        }
    }
}

/// The first process of a container gets no signal that it does not ask for. A program may hold its thread for ever, so
/// another one asks.
fn end_at_sigterm() -> io::Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block()?;
    let wait = move || {
        if let Ok(signal) = signals.wait() {
            end(128 + signal as i32);
        }
    };
    thread::Builder::new().name("signals".to_owned()).stack_size(64 << 10).spawn(wait)?;
    Ok(())
}

#[expect(
    unsafe_code,
    reason = "the standard library ends a process only by way of what others may be at work on"
)]
fn end(code: i32) -> ! {
    // SAFETY: ends the process, whatever its other threads are doing. What was printed has been written.
    unsafe { libc::_exit(code) }
}

async fn run(socket: &Path) -> Result<(), Failed> {
    let input = match std::env::var_os(INPUT) {
        Some(path) => serde_json::from_slice(&fs::read(path)?).map_err(Failed::Input)?,
        None => Value::Null,
    };
    let (link, assigned, archive) = Link::open(socket).await?;
    let Assignment { stack, of, request, handler, config, resources } = assigned.map_err(Failed::Refused)?;
    let archive = Archive::decode(&archive).map_err(io::Error::other)?;
    let setup = Setup {
        phase: Phase::Run,
        project: stack.project.to_string(),
        stack: stack.stack.to_string(),
        config,
        dry_run: false,
        environment: std::env::vars().collect(),
        resources: resources.into_iter().map(|(name, outputs)| (name, Value::Object(outputs))).collect(),
    };
    let vm = Vm::new().await.map_err(ProgramError::from)?;
    vm.load(Arc::new(archive), setup, link).await?;
    let context = InvokeContext {
        request_id: request,
        function: of.name.to_string(),
        deadline: SystemTime::now() + FOR_EVER,
        // The container's limit is the kernel's to keep: beyond it, it ends as any container does.
        memory: ByteSize(u64::MAX),
        traceparent: std::env::var("TRACEPARENT").ok(),
    };
    let answer = vm.invoke(&handler, input, context).await?;
    if let (Some(result), Some(path)) = (answer.get("result"), std::env::var_os(RESULT)) {
        fs::write(path, result.to_string())?;
    }
    Ok(())
}

/// As a function's error is told: the message, then the frames of the user's code.
fn lines(error: &ProgramError) -> String {
    let mut text = match error.name.as_str() {
        "" => error.message.clone(),
        name => format!("{name}: {}", error.message),
    };
    for frame in error.stack.iter().filter(|frame| frame.is_user()) {
        match frame.function.as_str() {
            "" => text.push_str(&format!("\n    at {frame}")),
            function => text.push_str(&format!("\n    at {function} ({frame})")),
        }
    }
    text
}
