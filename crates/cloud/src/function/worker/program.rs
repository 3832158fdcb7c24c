//! The `js` host: loads the program once, then serves requests one after another.

use std::{
    io,
    os::{fd::OwnedFd, unix::net::UnixStream},
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use serde_json::Value;
use tandem_js::{Archive, InvokeContext, Phase, ProgramError, Setup, Vm};
use tandem_model::ByteSize;
use tokio::net::unix::OwnedReadHalf;

use super::{
    bridge::CloudBridge,
    runtime_client::{Client, Work},
};
use crate::{
    channel,
    function::{
        assignment::Assignment,
        error::{FunctionError, OUT_OF_MEMORY, TIMED_OUT},
        sandbox::Allowance,
    },
};

/// A loop without an end is interrupted this long before the cloud gives up, so that the error can say where it is.
const INTERRUPT_EARLY: Duration = Duration::from_millis(50);

/// Who is told within this time what to be was started for it, and is no spare.
const AT_ONCE: Duration = Duration::from_millis(5);

/// Serves until the cloud closes the connection. `confine` is called once, before any user code.
pub(super) fn serve(
    template: Option<Vm>,
    runtime: UnixStream,
    channel: UnixStream,
    confine: impl FnOnce(Allowance, OwnedFd) -> io::Result<()>,
) -> io::Result<()> {
    let watched = OwnedFd::from(runtime.try_clone()?);
    runtime.set_nonblocking(true)?;
    channel.set_nonblocking(true)?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let vm = match template {
            Some(vm) => vm,
            None => Vm::new().await.map_err(io::Error::other)?,
        };
        let stream = tokio::net::UnixStream::from_std(channel)?;
        let (mut reader, writer) = stream.into_split();
        let Some(assignment) = assigned(&vm, &mut reader).await? else { return Ok(()) };
        let Some(archive) = channel::read(&mut reader).await? else { return Ok(()) };
        let memory = assignment.allowance.memory;
        confine(assignment.allowance, watched)?;

        let mut client = Client::new(tokio::net::UnixStream::from_std(runtime)?).await?;
        let bridge = CloudBridge::open(reader, writer);
        let handler = assignment.handler.clone();
        if let Err(error) = load(&vm, assignment, &archive, bridge.clone()).await {
            return client.fail_init(&error).await;
        }
        drop(archive);
        loop {
            let work = client.next().await?;
            bridge.enter(&work.request);
            let request = work.request.clone();
            let answer = handle(&vm, &handler, memory, work).await;
            client.answer(&request, answer).await?;
            bridge.enter("");
        }
    })
}

/// Waits to be told what to be. A spare has the time to settle in meanwhile; who is wanted at once has not.
async fn assigned(vm: &Vm, reader: &mut OwnedReadHalf) -> io::Result<Option<Assignment>> {
    let mut assignment = pin!(channel::read_value(reader));
    match tokio::time::timeout(AT_ONCE, &mut assignment).await {
        Ok(assignment) => assignment,
        Err(_) => {
            vm.settle_in().await;
            assignment.await
        }
    }
}

async fn load(
    vm: &Vm,
    assignment: Assignment,
    archive: &Bytes,
    bridge: Arc<CloudBridge>,
) -> Result<(), FunctionError> {
    let archive = Archive::decode(archive)
        .map_err(|error| FunctionError::new("Runtime.InvalidArchive", error.to_string()))?;
    let Assignment { stack, handler, environment, config, resources, .. } = assignment;
    let setup = Setup {
        phase: Phase::Run,
        project: stack.project.to_string(),
        stack: stack.stack.to_string(),
        config,
        dry_run: false,
        environment,
        resources: resources.into_iter().map(|(name, outputs)| (name, Value::Object(outputs))).collect(),
    };
    vm.load(Arc::new(archive), setup, bridge).await.map_err(as_function_error)?;
    let found = vm.handlers().await;
    if found.contains(&handler) {
        return Ok(());
    }
    let found = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
    let message = format!("the program has no handler `{handler}`; it has {found}");
    Err(FunctionError::new("Runtime.HandlerNotFound", message))
}

async fn handle(vm: &Vm, handler: &str, memory: u64, work: Work) -> Result<Bytes, FunctionError> {
    let event: Value = match &work.payload[..] {
        [] => Value::Null,
        payload => serde_json::from_slice(payload).map_err(|error| {
            FunctionError::new("Runtime.InvalidEvent", format!("the payload is not JSON: {error}"))
        })?,
    };
    let deadline = UNIX_EPOCH + Duration::from_millis(work.deadline);
    let context = InvokeContext {
        request_id: work.request,
        function: work.function_arn.rsplit(':').next().unwrap_or_default().to_owned(),
        deadline: deadline.checked_sub(INTERRUPT_EARLY).unwrap_or_else(SystemTime::now),
        memory: ByteSize(memory),
        traceparent: work.traceparent,
    };
    let answer = vm.invoke(handler, event, context).await.map_err(as_function_error)?;
    serde_json::to_vec(&answer)
        .map(Bytes::from)
        .map_err(|error| FunctionError::new("Runtime.Unserializable", error.to_string()))
}

fn as_function_error(error: ProgramError) -> FunctionError {
    let error_type = match (error.code.as_str(), error.message.as_str()) {
        ("E0514", _) => TIMED_OUT,
        ("E0510", "out of memory") => OUT_OF_MEMORY,
        _ => &error.name,
    };
    let stack_trace = error
        .stack
        .iter()
        .filter(|frame| frame.is_user())
        .map(|frame| match frame.function.as_str() {
            "" => format!("at {frame}"),
            function => format!("at {function} ({frame})"),
        })
        .collect();
    FunctionError { error_type: error_type.to_owned(), error_message: error.message.clone(), stack_trace }
}
