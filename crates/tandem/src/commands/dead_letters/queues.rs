//! The messages in dead-letter queues: they are the queue's, which moves them back.

use serde_json::json;
use tandem_cloud::queue::QueueStatus;
use tandem_model::{Report, StackId};
use tandem_server::{
    Client, ClientError,
    wire::{OfQueue, OfStack},
};

use crate::{
    exit::Failure,
    ui::{self, OutputError, Terminal},
};

/// The dead-letter queues that hold messages.
pub(super) async fn list(client: &Client, stack: Option<StackId>) -> Result<Vec<QueueStatus>, ClientError> {
    client.post("/v1/dead-letters/queues", &OfStack { stack }).await
}

/// A line each, or a table below the one of the events.
pub(super) fn tell(terminal: &Terminal, queues: &[QueueStatus], first: bool) -> Result<(), OutputError> {
    if terminal.json() {
        for queue in queues {
            let mut told = json!(queue);
            told["origin"] = "queue".into();
            terminal.feed(&format!("{told}\n"))?;
        }
        return Ok(());
    }
    if queues.is_empty() {
        return Ok(());
    }
    let gap = if first { "" } else { "\n" };
    terminal.feed(&format!("{gap}{}", table(queues, terminal.data_width())))?;
    let name = queues[0].urn.short();
    terminal.note(&format!("Back to where they came from: `tandem dead-letters redrive {name}`"));
    Ok(())
}

fn table(queues: &[QueueStatus], width: Option<usize>) -> String {
    let rows = queues.iter().map(|queue| {
        let of: Vec<_> = queue.dead_letters_of.iter().map(|urn| urn.short()).collect();
        [
            queue.urn.short(),
            queue.depth.messages().to_string(),
            queue.depth.in_flight.to_string(),
            of.join(", "),
        ]
    });
    ui::table(["DEAD-LETTER QUEUE", "MESSAGES", "IN FLIGHT", "RECEIVED TOO OFTEN IN"], rows, width)
}

/// Has the messages of each moved back, one queue after the other.
pub(super) async fn redrive(
    terminal: &Terminal,
    client: &Client,
    stack: &StackId,
    queues: &[String],
) -> Result<(), Failure> {
    for queue in queues {
        let of = OfQueue { stack: stack.clone(), queue: queue.clone() };
        let moved: usize = client.post("/v1/dead-letters/redrive-queue", &of).await?;
        if terminal.json() {
            terminal.data(&format!("{}\n", json!({ "id": format!("queue/{queue}"), "messages": moved })))?;
        }
        terminal.note(&format!("moved {} of queue/{queue} back", ui::count(moved, "message")));
    }
    Ok(())
}

pub(super) fn undroppable(queue: &str) -> Failure {
    Failure::report(Report {
        code: "E0776".to_owned(),
        message: format!("dropping the messages of queue/{queue} by this command is not supported"),
        help: "purge it: `aws sqs purge-queue --queue-url URL`".to_owned(),
        causes: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use tandem_cloud::queue::Depth;
    use tandem_model::PhysicalId;

    use super::*;

    #[test]
    fn a_dead_letter_queue_is_a_row_with_the_queues_it_is_of() {
        let queue = QueueStatus {
            urn: "urn:tandem:p:dev:queue:dead".parse().unwrap(),
            id: PhysicalId("p-dev-dead".into()),
            depth: Depth { visible: 2, in_flight: 1, delayed: 0 },
            dead_letters_of: vec!["urn:tandem:p:dev:queue:orders".parse().unwrap()],
        };
        insta::assert_snapshot!(table(&[queue], None), @"
        DEAD-LETTER QUEUE  MESSAGES  IN FLIGHT  RECEIVED TOO OFTEN IN
        queue/dead         3         1          queue/orders
        ");
    }
}
