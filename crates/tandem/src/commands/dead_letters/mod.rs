//! `tandem dead-letters`: the events that were given up.

mod queues;
mod show;

use clap_complete::engine::ArgValueCandidates;
use futures::StreamExt;
use jiff::Timestamp;
use serde::Serialize;
use tandem_cloud::dispatch::{Told, Which};
use tandem_program::Project;
use tandem_server::{
    Client,
    wire::{Letters, Moved, OfLetter, OfStack, Processes},
};

use super::ps;
use crate::{
    complete,
    exit::{DECLINED, Failure},
    place::Place,
    ui::{self, OutputError, Terminal},
};

/// Lists, shows, redrives and drops the events that were given up.
///
/// An event that a function or task did not handle in all its attempts is kept here, with the error and the last lines that
/// were printed. It is named by its id, or by the last digits of it that `ls` shows. Messages that were received too often are
/// in their queue's dead-letter queue; all of one are named together, as `queue/NAME`, and can be redriven.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List them, those of a subscription in the order in which they happened
    Ls {
        #[command(flatten)]
        of: Of,
        /// Of all stacks
        #[arg(short, long)]
        all: bool,
    },
    /// Show one: the event with its data, the error, and the last lines that were printed
    Show {
        /// Its id, or the end of it
        id: String,
        #[command(flatten)]
        of: Of,
    },
    /// Deliver them again, as new requests with all their attempts before them; messages go back to their queue
    Redrive(Chosen),
    /// Remove them for good
    Drop {
        #[command(flatten)]
        chosen: Chosen,
        /// Go on without asking
        #[arg(short, long)]
        yes: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Of {
    /// Only those of this subscription, or of this function if it was called directly
    #[arg(long, value_name = "NAME", add = ArgValueCandidates::new(complete::subscriptions))]
    subscription: Option<String>,
}

#[derive(Debug, clap::Args)]
struct Chosen {
    /// Their ids, or the ends of them; `queue/NAME` for the messages of a dead-letter queue
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<String>,
    /// All of the stack, or of the subscription
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    of: Of,
}

/// How many rows share the widths of their columns; no more are in memory.
const ROWS: usize = 200;
/// How many digits of an id are shown.
const DIGITS: usize = 12;

pub(crate) async fn run(terminal: &Terminal, place: Place, Args { command }: Args) -> Result<(), Failure> {
    let client = place.client();
    let stack = match &command {
        Command::Ls { all: true, .. } => None,
        _ => Some(place.stack_of(&Project::find(&place.folder)?)),
    };
    let which = |of: Of| Which { stack: stack.clone(), subscription: of.subscription };
    match command {
        Command::Ls { of, .. } => match ls(terminal, &client, which(of)).await {
            Err(Listing::Output(OutputError::Closed)) => Ok(()),
            Err(Listing::Output(error)) => Err(error.into()),
            Err(Listing::Client(failure)) => Err(failure),
            Ok(()) => Ok(()),
        },
        Command::Show { id, of } => {
            let told: Told = client.post("/v1/dead-letters/show", &OfLetter { which: which(of), id }).await?;
            if terminal.json() {
                return Ok(terminal.record(&told)?);
            }
            Ok(terminal.data(&show::text(&told))?)
        }
        Command::Redrive(mut chosen) => {
            let mut named = chosen.take_queues();
            if let (true, None) = (chosen.all, &chosen.of.subscription) {
                let full = queues::list(&client, stack.clone()).await?;
                named.extend(full.into_iter().map(|queue| queue.urn.name.to_string()));
            }
            if chosen.all || !chosen.ids.is_empty() {
                let done =
                    moved(terminal, &client, "/v1/dead-letters/redrive", letters(chosen, which)).await?;
                terminal.note(&format!("redrove {}", ui::count(done, "event")));
            }
            match stack {
                Some(stack) => queues::redrive(terminal, &client, &stack, &named).await,
                None => Ok(()),
            }
        }
        Command::Drop { mut chosen, yes } => {
            if let Some(queue) = chosen.take_queues().first() {
                return Err(queues::undroppable(queue));
            }
            if chosen.all && !yes {
                if chosen.of.subscription.is_none() {
                    let processes: Processes =
                        client.post("/v1/ps", &OfStack { stack: stack.clone() }).await?;
                    terminal.say(&format!("{} would go.", ui::count(processes.dead_letters, "event")));
                }
                if !ui::confirm(terminal, "drop them for good")? {
                    return Err(Failure::Code(DECLINED));
                }
            }
            let done = moved(terminal, &client, "/v1/dead-letters/drop", letters(chosen, which)).await?;
            terminal.note(&format!("dropped {}", ui::count(done, "event")));
            Ok(())
        }
    }
}

fn letters(chosen: Chosen, which: impl FnOnce(Of) -> Which) -> Letters {
    Letters { ids: (!chosen.all).then_some(chosen.ids), which: which(chosen.of) }
}

enum Listing {
    Output(OutputError),
    Client(Failure),
}

impl Chosen {
    /// The names of queues that are among the ids, which they are no more.
    fn take_queues(&mut self) -> Vec<String> {
        let named = |id: &String| id.strip_prefix("queue/").map(str::to_owned);
        let queues = self.ids.iter().filter_map(named).collect();
        self.ids.retain(|id| named(id).is_none());
        queues
    }
}

impl From<OutputError> for Listing {
    fn from(error: OutputError) -> Self {
        Self::Output(error)
    }
}

async fn ls(terminal: &Terminal, client: &Client, which: Which) -> Result<(), Listing> {
    let broken = |error: tandem_server::ClientError| Listing::Client(error.into());
    // Which subscription a message failed in, its queue does not know.
    let queues = match which.subscription {
        None => queues::list(client, which.stack.clone()).await.map_err(broken)?,
        Some(_) => Vec::new(),
    };
    let letters = client.stream::<Told>("/v1/dead-letters", &which).await.map_err(broken)?;
    let mut chunks = letters.chunks(ROWS);
    let mut first = true;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.into_iter().collect::<Result<Vec<_>, _>>().map_err(broken)?;
        if terminal.json() {
            for told in &chunk {
                terminal.feed(&line(told))?;
            }
        } else {
            terminal.feed(&table(&chunk, first, Timestamp::now(), terminal.data_width()))?;
        }
        first = false;
    }
    if first && queues.is_empty() {
        terminal.note("There are no dead letters.");
    }
    Ok(queues::tell(terminal, &queues, first)?)
}

fn line(value: &impl Serialize) -> String {
    format!("{}\n", serde_json::to_string(value).expect("records are structs with string keys"))
}

/// A row each; below their heads, if they are the first.
fn table(letters: &[Told], heads: bool, now: Timestamp, width: Option<usize>) -> String {
    let rows = letters.iter().map(|Told { letter, gone, .. }| {
        let delivery = &letter.delivery;
        let way = match gone {
            Some(gone) => format!("{} ({} is gone)", delivery.subscription.short(), gone.kind),
            None => delivery.subscription.short(),
        };
        [
            delivery.id[delivery.id.len().saturating_sub(DIGITS)..].to_owned(),
            ps::age(letter.time, now),
            show::event(&delivery.event),
            way,
            delivery.attempt.to_string(),
            format!("{} {}", letter.error.code, letter.error.message),
        ]
    });
    let names = ["ID", "AGE", "EVENT", "SUBSCRIPTION", "ATTEMPTS", "ERROR"];
    let table = ui::table(names, rows, width);
    match table.split_once('\n') {
        Some((_, rows)) if !heads => rows.to_owned(),
        _ => table,
    }
}

/// Has them moved and tells of each; answers how many were. One that stays is an error in the end, and stops no other.
async fn moved(terminal: &Terminal, client: &Client, path: &str, letters: Letters) -> Result<usize, Failure> {
    let mut answers = client.stream::<Moved>(path, &letters).await?;
    let (mut done, mut stayed) = (0, Vec::new());
    while let Some(moved) = answers.next().await {
        let moved = moved?;
        if terminal.json() {
            terminal.data(&line(&moved))?;
        }
        match moved.error {
            None => done += 1,
            Some(error) if stayed.is_empty() => stayed.push((1, error)),
            Some(_) => stayed[0].0 += 1,
        }
    }
    match stayed.pop() {
        None => Ok(done),
        Some((1, error)) if done == 0 => Err(Failure::report(error)),
        Some((n, mut error)) => {
            let [n, done] = [n, done].map(|n| ui::count(n, "event"));
            error.message = format!(
                "{n} stayed in the dead letters, {done} did not; the first because {}",
                error.message
            );
            Err(Failure::report(error))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    pub(super) fn told() -> Told {
        serde_json::from_value(json!({
            "origin": "subscription",
            "delivery": {
                "id": "0190c0de-7e57-7f00-8abc-1122a1b2c3d4",
                "subscription": "urn:tandem:p:dev:subscription:thumbs",
                "consumer": "urn:tandem:p:dev:function:resize",
                "attempt": 3,
                "maxAttempts": 3,
                "event": {
                    "specversion": "1.0",
                    "id": "0190c0de-7e57-7f00-8abc-000000000001",
                    "source": "urn:tandem:p:dev:bucket:photos",
                    "type": "dev.tandem.bucket.object.put",
                    "subject": "red\tflower.jpg",
                    "time": "2026-11-26T12:00:00Z",
                    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                    "datacontenttype": "application/json",
                    "data": { "key": "red\tflower.jpg" },
                },
            },
            "time": "2026-11-26T12:00:07Z",
            "error": { "code": "E0601", "message": "it threw", "help": "mend it", "causes": ["a cause"] },
            "logTail": ["last words"],
        }))
        .unwrap()
    }

    #[test]
    fn a_letter_is_a_row_that_says_what_is_gone() {
        let gone = Told { gone: Some("urn:tandem:p:dev:subscription:thumbs".parse().unwrap()), ..told() };
        let now = "2026-11-26T12:01:00Z".parse().unwrap();
        insta::assert_snapshot!(table(&[told(), gone], true, now, None), @"
        ID            AGE  EVENT               SUBSCRIPTION                                ATTEMPTS  ERROR
        1122a1b2c3d4  53s  put red flower.jpg  subscription/thumbs                         3         E0601 it threw
        1122a1b2c3d4  53s  put red flower.jpg  subscription/thumbs (subscription is gone)  3         E0601 it threw
        ");
        assert_eq!(table(&[told()], false, now, None).lines().count(), 1);
    }

    #[test]
    fn a_letter_is_shown_with_all_that_is_known() {
        insta::assert_snapshot!(show::text(&told()), @r#"
        id           0190c0de-7e57-7f00-8abc-1122a1b2c3d4
        origin       subscription
        subscription subscription/thumbs
        consumer     function/resize
        given up     2026-11-26T12:00:07Z
        attempts     3 of 3
        error        E0601 it threw
        because      a cause
        help         mend it
        event        0190c0de-7e57-7f00-8abc-000000000001
        type         dev.tandem.bucket.object.put
        source       urn:tandem:p:dev:bucket:photos
        subject      red flower.jpg
        time         2026-11-26T12:00:00Z
        trace        00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
        data         {"key":"red\tflower.jpg"}
        | last words
        "#);
    }
}
