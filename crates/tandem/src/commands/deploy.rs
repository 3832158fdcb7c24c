//! What `up` and `destroy` share: show, ask, carry out, tell.

use std::{ffi::OsString, sync::Arc};

use serde_json::json;
use tandem_cloud::{dispatch::Held, workflow::Ending};
use tandem_engine::{ApplyError, Events, Options, StackFiles, Stop, Summary, Target, Update};
use tandem_model::{
    Kind, Report, StackId, Urn,
    plan::{Op, Step},
};
use tandem_program::Run;
use tandem_server::{
    Client,
    wire::{self, Holders},
};
use tokio::sync::mpsc;

use crate::{
    exit::{DECLINED, Failure},
    interrupt::{Interruption, Interruptions},
    place::Place,
    ui,
    ui::{Live, Note, Terminal},
};

/// How a change of the stack is confirmed.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Consent {
    /// Go on without asking
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Delete buckets with what is in them
    #[arg(long)]
    pub(crate) force: bool,
}

/// One pass of the program.
pub(crate) fn pass(place: &Place, dry_run: bool) -> Run {
    // JavaScript's texts are Unicode: a variable that is not cannot be handed on.
    let text =
        |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    let environment = std::env::vars_os().filter_map(text).collect();
    Run { stack: place.stack.clone(), dry_run, environment }
}

/// With `--json`, makes the end of a command that failed the last of its events.
pub(crate) async fn told(
    terminal: &Terminal,
    command: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let result = command.await;
    if terminal.json() {
        let event = match &result {
            Err(Failure::Reported(report)) => ui::events::failed(report, 1),
            Err(Failure::Ended(report, code)) => ui::events::failed(report, *code),
            Err(Failure::Code(code)) => json!({ "event": "declined", "exitCode": code }),
            Ok(()) => return result,
        };
        terminal.data(&ui::events::line(event))?;
    }
    result
}

/// Shows a plan and gets leave to carry it out. Nothing to change needs no leave.
pub(crate) fn agree(
    terminal: &Terminal,
    plan: &Summary,
    builds: &ui::Rebuilds,
    warnings: &[Report],
    consent: &Consent,
    what: &'static str,
) -> Result<(), Failure> {
    if terminal.json() {
        terminal
            .data(&ui::events::line(ui::events::summarised("plan", ui::json_plan(plan, builds, warnings))))?;
    }
    // Who is asked must see what for.
    if !terminal.json() || (terminal.is_interactive() && !consent.yes) {
        terminal.write(&ui::plan(plan, builds, consent.force, terminal.style()));
        warn(terminal, warnings);
    }
    if !plan.contents.is_empty() && !consent.force {
        return Err(ApplyError::NotEmpty { contents: plan.contents.clone() }.into());
    }
    if !plan.changes() || consent.yes || ui::confirm(terminal, what)? {
        return Ok(());
    }
    terminal.say("Nothing was changed.");
    Err(Failure::Code(DECLINED))
}

/// Says what is likely to be wrong, to a person; with `--json` the plan has it.
pub(crate) fn warn(terminal: &Terminal, warnings: &[Report]) {
    for warning in warnings {
        terminal.write(&format!("\n{}", ui::warning(warning, terminal.style())));
    }
}

/// Says which events go with what is deleted.
pub(crate) async fn tell_held(terminal: &Terminal, cloud: &Client, of: Holders) -> Result<(), Failure> {
    if of.subscriptions.as_ref().is_some_and(Vec::is_empty) {
        return Ok(());
    }
    let Held { waiting, dead_letters } = cloud.post("/v1/dead-letters/held", &of).await?;
    if terminal.json() {
        if waiting + dead_letters > 0 {
            let event = json!({ "event": "willDrop", "waiting": waiting, "deadLetters": dead_letters });
            terminal.data(&ui::events::line(event))?;
        }
        return Ok(());
    }
    let on_the_way = format!("{} on the way", ui::count(waiting, "event"));
    let dead = format!("{} in the dead letters", ui::count(dead_letters, "event"));
    let what = match (waiting, dead_letters) {
        (0, 0) => return Ok(()),
        (_, 0) => on_the_way,
        (0, _) => dead,
        _ => format!("{on_the_way} and {dead}"),
    };
    terminal.say(&format!(
        "With what is deleted {} {what}.",
        if waiting + dead_letters == 1 { "goes" } else { "go" }
    ));
    Ok(())
}

/// Which instances of workflows go with what is deleted, or miss it.
pub(crate) async fn ending_instances(cloud: &Client, plan: &Summary) -> Result<Vec<Report>, Failure> {
    let gone = plan.steps.iter().filter(|step| step.op == Op::Delete).map(|step| step.urn.clone());
    let deleted: Vec<_> =
        gone.filter(|urn| matches!(urn.kind, Kind::Workflow | Kind::Function | Kind::Task)).collect();
    if deleted.is_empty() {
        return Ok(Vec::new());
    }
    let asked = wire::Deleted { stack: plan.stack.clone(), deleted };
    let ending: Vec<Ending> = cloud.post("/v1/workflows/ending", &asked).await?;
    Ok(ending.iter().map(ends).collect())
}

fn ends(Ending { deleted, workflow, instances }: &Ending) -> Report {
    let (of, name) = (workflow.short(), &workflow.name);
    let verb = if *instances == 1 { "has" } else { "have" };
    let open = format!("{} of {of} {verb} not ended", ui::count(*instances, "instance"));
    let message = match deleted == workflow {
        true => format!("{open}: with the workflow they go, too"),
        false => format!("{open}, and {}, which {of} calls, would be gone", deleted.short()),
    };
    let help =
        format!("see `tandem workflow ls --workflow {name}`; wait until they have ended, or terminate them");
    Report { code: "E0877".into(), message, help, causes: vec![] }
}

/// The subscriptions that a plan deletes, with their events.
pub(crate) fn deleted_subscriptions(plan: &Summary) -> Vec<Urn> {
    let steps = plan.steps.iter().filter(|step| matches!(step.op, Op::Delete | Op::Replace));
    steps.map(|step| step.urn.clone()).filter(|urn| urn.kind == Kind::Subscription).collect()
}

/// Carries out a plan: `work` does it, while its progress is told and requests to stop are heard.
///
/// `work` gets the update, and where to send what the program prints. `cloud` is where the target's work is called off
/// when it is not waited for.
pub(crate) async fn carry_out<W>(
    terminal: &Terminal,
    cloud: &Client,
    stack: Arc<StackFiles>,
    target: Arc<dyn Target>,
    options: Options,
    work: impl FnOnce(Update, mpsc::UnboundedSender<Note>) -> W,
) -> Result<Summary, Failure>
where
    W: Future<Output = Result<Summary, Failure>>,
{
    let (events, received) = Events::channel();
    let (notes, noted) = mpsc::unbounded_channel();
    let stop = Stop::default();
    let mut interruptions = Interruptions::listen()?;
    let mut interrupted = None;
    let telling = tell_progress(terminal, options.expected.clone().unwrap_or_default(), received, noted);
    let name = stack.stack().clone();
    let doing = async {
        let update = Update::apply(stack, target, options, events, stop.clone());
        tokio::pin!(update);
        // Finishing what an earlier update left open may take as long as any step.
        let update = tokio::select! {
            biased;
            update = &mut update => update?,
            () = twice(&mut interruptions, &mut interrupted, &stop, &notes) => {
                call_off(cloud, &name, &mut interruptions).await;
                return Err(ApplyError::Stopped.into());
            }
        };
        tokio::select! {
            biased;
            result = work(update.clone(), notes.clone()) => result,
            () = twice(&mut interruptions, &mut interrupted, &stop, &notes) => {
                // The program is not waited for either. What it began is in the journal.
                let abandoned = update.abandon().await;
                call_off(cloud, &name, &mut interruptions).await;
                abandoned?;
                Err(ApplyError::Stopped.into())
            }
        }
    };
    let (result, told) = tokio::join!(doing, telling);
    match (result, interrupted) {
        (Err(failure), Some(interruption)) => Err(failure.with_code(interruption.exit_code())),
        (result, _) => {
            let done = result?;
            told?;
            Ok(done)
        }
    }
}

/// Draws the progress, or writes it as JSON.
async fn tell_progress(
    terminal: &Terminal,
    plan: Vec<Step>,
    events: mpsc::UnboundedReceiver<tandem_engine::EngineEvent>,
    notes: mpsc::UnboundedReceiver<Note>,
) -> Result<(), ui::OutputError> {
    if terminal.json() {
        return ui::events::tell_events(terminal, events, notes).await;
    }
    let live = Live::new(terminal.clone(), &plan);
    live.consume(events, notes).await;
    Ok(())
}

/// Returns at the second request to stop, counting those that came before.
async fn twice(
    interruptions: &mut Interruptions,
    interrupted: &mut Option<Interruption>,
    stop: &Stop,
    notes: &mpsc::UnboundedSender<Note>,
) {
    loop {
        let interruption = interruptions.next().await;
        stop.request();
        let second = interrupted.replace(interruption).is_some();
        // A display that is gone has nobody to tell.
        let _ = notes.send(if second { Note::Stopped } else { Note::Stopping });
        if second {
            return;
        }
    }
}

/// Tells the cloud that nobody waits for the stack's changes: builds end, what is committed stays. The next update asks
/// for the same again. A cloud that does not answer is left alone at the next request to stop.
async fn call_off(cloud: &Client, stack: &StackId, interruptions: &mut Interruptions) {
    let asked = wire::OfStack { stack: Some(stack.clone()) };
    tokio::select! {
        // If it does not answer, its next start finds nothing under way.
        _ = cloud.post::<()>("/v1/call-off", &asked) => {}
        _ = interruptions.next() => {}
    }
}

/// Tells what was done.
pub(crate) fn tell(terminal: &Terminal, done: &Summary) -> Result<(), Failure> {
    if terminal.json() {
        return Ok(terminal.data(&ui::events::line(ui::events::summarised("finished", ui::json(done))))?);
    }
    // A plan without changes has said so already.
    if done.changes() {
        terminal.say(&ui::done(done, terminal.style()));
    }
    if !done.exports.is_empty() {
        terminal.say("");
        terminal.data(&ui::outputs(&done.exports, terminal.data_style()))?;
    }
    Ok(())
}
