//! The events that were given up.

use std::{io, sync::Arc};

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
    routing::post,
};
use futures::{StreamExt, TryStreamExt};
use tandem_cloud::{
    Cloud,
    dispatch::{DeadLetter, DeadLetterError, Held, Told, Which},
    queue::{QueueError, QueueStatus},
};
use tandem_model::{Explain, Kind, Urn};
use tokio::sync::mpsc;

use super::Refusal;
use crate::wire::{Holders, Letters, Moved, OfLetter, OfQueue, OfStack, Resources, record};

/// How many answers may wait for whoever asked.
const WAITING: usize = 64;

pub(super) fn routes() -> Router<super::State> {
    Router::new()
        .route("/v1/dead-letters", post(list))
        .route("/v1/dead-letters/show", post(show))
        .route("/v1/dead-letters/redrive", post(redrive))
        .route("/v1/dead-letters/drop", post(discard))
        .route("/v1/dead-letters/queues", post(queues))
        .route("/v1/dead-letters/redrive-queue", post(redrive_queue))
        .route("/v1/dead-letters/held", post(held))
        .route("/v1/dead-letters/drop-leftovers", post(drop_leftovers))
}

async fn list(State(cloud): State<Arc<Cloud>>, Json(which): Json<Which>) -> Response {
    let letters = cloud.dead_letters.list(which);
    Body::from_stream(letters.map_ok(|told| record(&told))).into_response()
}

async fn show(State(cloud): State<Arc<Cloud>>, Json(of): Json<OfLetter>) -> Result<Json<Told>, Refusal> {
    cloud.dead_letters.show(&of.which, &of.id).map(Json).map_err(|e| Refusal::of(&e))
}

#[derive(Clone, Copy)]
enum Move {
    Redrive,
    Discard,
}

async fn redrive(cloud: State<Arc<Cloud>>, Json(letters): Json<Letters>) -> Result<Response, Refusal> {
    moved(&cloud, letters, Move::Redrive)
}

async fn discard(cloud: State<Arc<Cloud>>, Json(letters): Json<Letters>) -> Result<Response, Refusal> {
    moved(&cloud, letters, Move::Discard)
}

/// Moves them, and tells of each. Nothing is begun for whoever has gone; a move that was begun is made.
fn moved(cloud: &Arc<Cloud>, Letters { which, ids }: Letters, what: Move) -> Result<Response, Refusal> {
    let found = ids.map(|ids| find(cloud, &which, &ids, what)).transpose().map_err(|e| Refusal::of(&e))?;
    let (sender, receiver) = mpsc::channel(WAITING);
    let cloud = cloud.clone();
    tokio::spawn(async move {
        let act = |letter| one(&cloud, letter, what);
        if let Some(letters) = found {
            for letter in letters {
                let id = letter.delivery.id.clone();
                let result = act(letter).await;
                if sender.send(Ok(told(id, result))).await.is_err() {
                    return;
                }
            }
            return;
        }
        let mut all = std::pin::pin!(cloud.dead_letters.each(which, act));
        while let Some(result) = all.next().await {
            let moved = result.map(|(id, result)| told(id, result)).map_err(io::Error::other);
            if sender.send(moved).await.is_err() {
                return;
            }
        }
    });
    let records = futures::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|moved: io::Result<Moved>| (moved, receiver))
    });
    Ok(Body::from_stream(records.map_ok(|moved| record(&moved))).into_response())
}

/// All of those that are named, each once.
fn find(
    cloud: &Cloud,
    which: &Which,
    ids: &[String],
    what: Move,
) -> Result<Vec<DeadLetter>, DeadLetterError> {
    let mut letters: Vec<DeadLetter> = Vec::new();
    for id in ids {
        let Told { letter, gone, .. } = cloud.dead_letters.show(which, id)?;
        if let (Move::Redrive, Some(gone)) = (what, gone) {
            return Err(DeadLetterError::Gone { gone: Box::new(gone) });
        }
        if !letters.contains(&letter) {
            letters.push(letter);
        }
    }
    Ok(letters)
}

async fn one(cloud: &Cloud, letter: DeadLetter, what: Move) -> Result<Option<String>, DeadLetterError> {
    match what {
        Move::Redrive => cloud.dead_letters.redrive(letter).await.map(Some),
        Move::Discard => cloud.dead_letters.discard(letter).await.map(|()| None),
    }
}

fn told(id: String, result: Result<Option<String>, DeadLetterError>) -> Moved {
    match result {
        Ok(delivery) => Moved { id, delivery, error: None },
        Err(error) => Moved { id, delivery: None, error: Some(error.report()) },
    }
}

/// The dead-letter queues that hold messages.
async fn queues(
    State(cloud): State<Arc<Cloud>>,
    Json(OfStack { stack }): Json<OfStack>,
) -> Result<Json<Vec<QueueStatus>>, Refusal> {
    let mut all = cloud.queues.status(stack.as_ref()).await.map_err(|e| Refusal::of(&e))?;
    all.retain(|queue| !queue.dead_letters_of.is_empty() && queue.depth.messages() > 0);
    Ok(Json(all))
}

async fn redrive_queue(
    State(cloud): State<Arc<Cloud>>,
    Json(OfQueue { stack, queue }): Json<OfQueue>,
) -> Result<Json<u64>, Refusal> {
    let named = queue
        .parse()
        .ok()
        .and_then(|name| cloud.resources.by_urn(&Urn::new(stack.clone(), Kind::Queue, name)));
    let found = named.or_else(|| cloud.queues.find(&queue).filter(|found| found.urn.stack == stack));
    let found = found.ok_or(QueueError::NoSuchQueue { queue }).map_err(|e| Refusal::of(&e))?;
    cloud.queues.move_back(&found.id.0).await.map(Json).map_err(|e| Refusal::of(&e))
}

async fn held(State(cloud): State<Arc<Cloud>>, Json(of): Json<Holders>) -> Result<Json<Held>, Refusal> {
    cloud.dead_letters.held(&of.stack, of.subscriptions.as_deref()).map(Json).map_err(|e| Refusal::of(&e))
}

async fn drop_leftovers(
    State(cloud): State<Arc<Cloud>>,
    Json(Resources { stack }): Json<Resources>,
) -> Result<Json<Held>, Refusal> {
    cloud.dead_letters.drop_leftovers(&stack).await.map(Json).map_err(|e| Refusal::of(&e))
}
