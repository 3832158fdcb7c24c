//! What `up` and `destroy` share: show, ask, carry out, tell.

use std::{ffi::OsString, sync::Arc};

use tandem_engine::{ApplyError, Events, Options, StackFiles, Stop, Summary, Target, Update};
use tandem_program::Run;
use tokio::sync::mpsc;

use crate::{
    exit::{DECLINED, Failure, INTERRUPTED},
    place::Place,
    ui,
    ui::{Live, Terminal},
};

/// How a change of the stack is confirmed and told.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Consent {
    /// Go on without asking
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Delete buckets with what is in them
    #[arg(long)]
    pub(crate) force: bool,
    /// Print what was done as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// One pass of the program.
pub(crate) fn pass(place: &Place, dry_run: bool) -> Run {
    // JavaScript's texts are Unicode: a variable that is not cannot be handed on.
    let text =
        |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    let environment = std::env::vars_os().filter_map(text).collect();
    Run { stack: place.stack.clone(), dry_run, environment }
}

/// Shows a plan and gets leave to carry it out. Nothing to change needs no leave.
pub(crate) fn agree(
    terminal: &Terminal,
    plan: &Summary,
    consent: &Consent,
    what: &'static str,
) -> Result<(), Failure> {
    terminal.write(&ui::plan(plan, consent.force, terminal.style()));
    if !plan.contents.is_empty() && !consent.force {
        return Err(ApplyError::NotEmpty { contents: plan.contents.clone() }.into());
    }
    if !plan.changes() || consent.yes || ui::confirm(terminal, what)? {
        return Ok(());
    }
    terminal.say("Nothing was changed.");
    Err(Failure::Code(DECLINED))
}

/// Carries out a plan: `work` does it, while its progress is drawn and Ctrl-C is heard.
///
/// `work` gets the update, and where to send lines for the person.
pub(crate) async fn carry_out<W>(
    terminal: &Terminal,
    stack: Arc<StackFiles>,
    target: Arc<dyn Target>,
    options: Options,
    work: impl FnOnce(Update, mpsc::UnboundedSender<String>) -> W,
) -> Result<Summary, Failure>
where
    W: Future<Output = Result<Summary, Failure>>,
{
    let (events, received) = Events::channel();
    let (notes, noted) = mpsc::unbounded_channel();
    let stop = Stop::default();
    let live = Live::new(terminal.clone(), options.expected.as_deref().unwrap_or_default());
    let doing = async {
        let update = Update::apply(stack, target, options, events, stop.clone()).await?;
        tokio::select! {
            biased;
            result = work(update.clone(), notes.clone()) => result,
            () = interrupted(&stop, &notes) => {
                // The second Ctrl-C: the program is not waited for either. What it began is in the journal.
                update.abandon().await?;
                Err(ApplyError::Stopped.into())
            }
        }
    };
    let (result, ()) = tokio::join!(doing, live.consume(received, noted));
    match result {
        Err(Failure::Reported(report)) if stop.requested() => {
            terminal.write(&ui::error(&report, terminal.style()));
            Err(Failure::Code(INTERRUPTED))
        }
        result => result,
    }
}

/// Returns at the second Ctrl-C.
async fn interrupted(stop: &Stop, notes: &mpsc::UnboundedSender<String>) {
    for note in ["Stopping when the running steps are done. Ctrl-C again does not wait for them.", "Stopped."]
    {
        if tokio::signal::ctrl_c().await.is_err() {
            // Without a handler Ctrl-C ends the process, which the journal is there for.
            std::future::pending::<()>().await;
        }
        stop.request();
        // A display that is gone has nobody to tell.
        let _ = notes.send(note.to_owned());
    }
}

/// Tells what was done.
pub(crate) fn tell(terminal: &Terminal, done: &Summary, consent: &Consent) {
    // A plan without changes has said so already.
    if done.changes() {
        terminal.say(&ui::done(done, terminal.style()));
    }
    if consent.json {
        terminal.data(&format!("{:#}\n", ui::json(done)));
    } else if !done.exports.is_empty() {
        terminal.say("");
        terminal.data(&ui::outputs(&done.exports, terminal.data_style()));
    }
}
