//! The dead letters: listed, delivered again, dropped.
//!
//! A redrive is one commit: it takes the row from `dead/` and puts one under `delivery/`, under the precondition that the
//! dead letter is still there and that its subscription is what it was when it was looked up. So two redrives of one letter
//! make one delivery, and none is made for a subscription that is being deleted. The delivery has a new id, because it is
//! a new request: under the old one the runs that a handler or an attempt started would be found again, as they failed.
//!
//! Whatever else comes to have dead letters keeps them in the same rows, under its own urn in the subscription's place, and
//! gets an [`Origin`].

use std::sync::Arc;

use futures::{Stream, TryStreamExt, stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tandem_failpoint::hit;
use tandem_model::{
    Explain, Kind, StackId, Urn,
    event::{BUCKET_NOTIFICATION, FUNCTION_INVOKED},
    inputs,
};
use tandem_store::{Batch, CommitError, Direction, ReadError, Store, after_prefix};
use uuid::Uuid;

use super::{
    DeadLetter, Delivery, Outbox,
    outbox::{Enqueued, version_key},
    row::{DEAD, count, dead_key, delivery_key, encode, of_stack, parse_key, subscriptions_with_rows},
};
use crate::{
    log::{Line, Sink, Stream as Printed},
    resource::Resources,
};

/// How many letters are read at once, and how many are moved at once: their commits share a sync of the disk.
const PAGE: usize = 64;
/// The rows that are read at once, in bytes. One may always be.
const PAGE_BYTES: usize = 4 << 20;
/// How often a move is tried again because the subscriptions changed underneath.
const CONFLICTS: usize = 100;

/// Which dead letters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Which {
    /// None: of all stacks.
    pub stack: Option<StackId>,
    /// The subscription's name; of an event that went to a function directly, the function's. None: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription: Option<String>,
}

impl Which {
    fn wants(&self, subscription: &Urn) -> bool {
        let wanted = self.subscription.as_deref();
        wanted.is_none_or(|wanted| wanted == subscription.name.as_str() || wanted == subscription.short())
    }
}

/// By which way an event had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// By a subscription that a program declares.
    Subscription,
    /// A client had called a function without waiting for its answer.
    Invocation,
    /// A client's notification on a bucket names the function.
    Notification,
}

impl Origin {
    fn of(delivery: &Delivery) -> Self {
        match delivery.event.kind.as_str() {
            FUNCTION_INVOKED => Self::Invocation,
            BUCKET_NOTIFICATION => Self::Notification,
            _ => Self::Subscription,
        }
    }
}

/// A dead letter, as people and programs are told of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    pub origin: Origin,
    #[serde(flatten)]
    pub letter: DeadLetter,
    /// What is gone of the way that it would have to go again: the subscription, or the consumer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<Urn>,
}

/// Dead letters that were not read, delivered again, or dropped.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    #[error("no dead letter has an id that ends in `{id}`")]
    Unknown { id: String },
    #[error("`{part}` is the end of the ids of {} dead letters: {}", ids.len(), ids.join(", "))]
    Ambiguous { part: String, ids: Vec<String> },
    #[error("{} is gone, to which the event would go", .gone.short())]
    Gone { gone: Box<Urn> },
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl Explain for DeadLetterError {
    fn code(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "E0653",
            Self::Ambiguous { .. } => "E0654",
            Self::Gone { .. } => "E0655",
            Self::Read(e) => e.code(),
            Self::Commit(e) => e.code(),
        }
    }
    fn help(&self) -> String {
        match self {
            Self::Unknown { .. } => {
                "see `tandem dead-letters ls`; one that was redriven or dropped is not there any more".into()
            }
            Self::Ambiguous { .. } => "give more of the id, or name the subscription".into(),
            Self::Gone { .. } => "declare it again and run `tandem up`, or drop the event with \
                 `tandem dead-letters drop`"
                .into(),
            Self::Read(e) => e.help(),
            Self::Commit(e) => e.help(),
        }
    }
}

/// The events that were given up. Cheap to clone.
#[derive(Clone)]
pub struct DeadLetters {
    pub(super) store: Arc<dyn Store>,
    outbox: Arc<Outbox>,
    pub(super) resources: Arc<Resources>,
    log: Arc<dyn Sink>,
}

impl std::fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeadLetters").finish_non_exhaustive()
    }
}

impl DeadLetters {
    pub fn new(
        store: Arc<dyn Store>,
        outbox: Arc<Outbox>,
        resources: Arc<Resources>,
        log: Arc<dyn Sink>,
    ) -> Self {
        Self { store, outbox, resources, log }
    }

    /// How many there are.
    ///
    /// # Errors
    /// [`ReadError`] if they cannot be counted.
    pub fn count(&self, stack: Option<&StackId>) -> Result<usize, ReadError> {
        let snapshot = self.store.snapshot()?;
        let subscriptions = subscriptions_with_rows(&*snapshot, DEAD, stack)?;
        subscriptions.iter().try_fold(0, |sum, urn| Ok(sum + count(&*snapshot, DEAD, urn)?))
    }

    /// Tells of each, ordered by subscription and then by time of enqueueing, without the data of its event and what the
    /// handler printed. Few are in memory at once.
    pub fn list(&self, which: Which) -> impl Stream<Item = Result<Told, ReadError>> + Send + use<> {
        let all = self.clone();
        self.pages(which).map_ok(move |mut letter| {
            letter.delivery.event.data = Value::Null;
            letter.log_tail.clear();
            all.told(letter)
        })
    }

    /// Tells all of one, named by its id or by the end of it.
    ///
    /// # Errors
    /// [`DeadLetterError::Unknown`], [`DeadLetterError::Ambiguous`].
    pub fn show(&self, which: &Which, id: &str) -> Result<Told, DeadLetterError> {
        self.find(which, id).map(|letter| self.told(letter))
    }

    /// The one whose id ends so.
    ///
    /// # Errors
    /// [`DeadLetterError::Unknown`], [`DeadLetterError::Ambiguous`].
    pub fn find(&self, which: &Which, id: &str) -> Result<DeadLetter, DeadLetterError> {
        let snapshot = self.store.snapshot()?;
        let mut found = Vec::new();
        for entry in snapshot.prefix(of_stack(DEAD, which.stack.as_ref()).as_bytes())? {
            let (key, value) = entry?;
            if key.ends_with(id.as_bytes()) && which.wants(&parse_key(DEAD, &key)?.0) {
                found.push(value);
            }
        }
        match &found[..] {
            [] => Err(DeadLetterError::Unknown { id: id.to_owned() }),
            [one] => Ok(decode(one)?),
            several => {
                let ids = several.iter().take(8).map(|row| Ok(decode(row)?.delivery.id));
                let ids = ids.collect::<Result<_, ReadError>>()?;
                Err(DeadLetterError::Ambiguous { part: id.to_owned(), ids })
            }
        }
    }

    /// Has one delivered again, to whom its subscription names now, with all its attempts before it. Answers the id of
    /// the delivery. Seen through even if whoever asked goes away.
    ///
    /// # Errors
    /// [`DeadLetterError::Gone`]; [`DeadLetterError::Unknown`] if it was redriven or dropped meanwhile. It is still there
    /// after any other error.
    pub async fn redrive(&self, letter: DeadLetter) -> Result<String, DeadLetterError> {
        let key = dead_key(&letter.delivery);
        for _ in 0..CONFLICTS {
            let mut batch = Batch::default();
            let delivery = self.again(&mut batch, &letter)?;
            batch.expect(key.clone(), Some(encode(&letter))).delete(key.clone());
            batch.put(delivery_key(&delivery), encode(&delivery));
            let id = delivery.id.clone();
            let (store, outbox) = (self.store.clone(), self.outbox.clone());
            let seen_through = tokio::spawn(async move {
                store.commit(batch).await?;
                hit("dispatch.redrive.committed");
                outbox.committed(Enqueued { deliveries: vec![delivery], unheard: None });
                Ok(())
            });
            match seen_through.await.unwrap_or(Err(CommitError::Closed)) {
                Ok(()) => {
                    self.say(&letter.delivery, format!("redriven as {id}"));
                    return Ok(id);
                }
                Err(CommitError::Conflict { key: changed }) if changed == key => {
                    return Err(DeadLetterError::Unknown { id: letter.delivery.id });
                }
                // The subscriptions changed: they are looked at again.
                Err(CommitError::Conflict { .. }) => tokio::task::yield_now().await,
                Err(error) => return Err(error.into()),
            }
        }
        Err(CommitError::Conflict { key }.into())
    }

    /// Removes one for good.
    ///
    /// # Errors
    /// [`DeadLetterError::Unknown`] if it was redriven or dropped meanwhile. It is still there after any other error.
    pub async fn discard(&self, letter: DeadLetter) -> Result<(), DeadLetterError> {
        let key = dead_key(&letter.delivery);
        let mut batch = Batch::default();
        batch.expect(key.clone(), Some(encode(&letter))).delete(key).frees();
        match self.store.commit(batch).await {
            Err(CommitError::Conflict { .. }) => Err(DeadLetterError::Unknown { id: letter.delivery.id }),
            other => Ok(other?),
        }
    }

    /// Moves all that there are, by [`redrive`](Self::redrive) or [`discard`](Self::discard), and tells of each what came
    /// of it. Those that die anew meanwhile are not among them, so it ends.
    pub fn each<'a, T, F>(
        &'a self,
        which: Which,
        act: impl Fn(DeadLetter) -> F + Send + 'a,
    ) -> impl Stream<Item = Result<(String, Result<T, DeadLetterError>), ReadError>> + Send + 'a
    where
        T: Send + 'a,
        F: Future<Output = Result<T, DeadLetterError>> + Send + 'a,
    {
        let (began, first) = (Timestamp::now(), Uuid::now_v7().to_string());
        // Those of redrives are of the time, by a clock that counts on if the machine's is set back.
        let anew = move |delivery: &Delivery| delivery.redriven.is_some() && delivery.id > first;
        self.pages(which)
            .try_filter(move |letter| std::future::ready(letter.time <= began && !anew(&letter.delivery)))
            .map_ok(move |letter| {
                let id = letter.delivery.id.clone();
                let moving = act(letter);
                async move { Ok((id, moving.await)) }
            })
            .try_buffer_unordered(PAGE)
    }

    /// All of them. Each page is of a moment of its own, so a reader that stops for long keeps nothing from going.
    fn pages(&self, which: Which) -> impl Stream<Item = Result<DeadLetter, ReadError>> + Send + use<> {
        let store = self.store.clone();
        let first = of_stack(DEAD, which.stack.as_ref()).into_bytes();
        let end = after_prefix(&first);
        let pages = stream::try_unfold(Some(first), move |from| {
            let page = from.map(|from| page(&*store, &which, &from, &end)).transpose();
            std::future::ready(page)
        });
        pages.map_ok(|letters| stream::iter(letters.into_iter().map(Ok))).try_flatten()
    }

    fn told(&self, letter: DeadLetter) -> Told {
        let gone = match self.way(&letter.delivery) {
            Err(DeadLetterError::Gone { gone }) => Some(*gone),
            _ => None,
        };
        Told { origin: Origin::of(&letter.delivery), letter, gone }
    }

    /// The delivery that a letter becomes. The batch gets the precondition that the subscriptions are what they are now.
    pub(super) fn again(&self, batch: &mut Batch, letter: &DeadLetter) -> Result<Delivery, DeadLetterError> {
        let source = letter.delivery.event.source.parse::<Urn>().ok();
        // Before the subscriptions are looked at: one that changes in between then is a conflict.
        let version = source.as_ref().map(|urn| (version_key(urn), self.outbox.source(urn).version));
        let way = self.way(&letter.delivery)?;
        if let (true, Some((key, version))) =
            (letter.delivery.subscription.kind == Kind::Subscription, version)
        {
            batch.expect(key, version);
        }
        Ok(Delivery {
            id: Uuid::now_v7().to_string(),
            attempt: 0,
            consumer: way.consumer,
            max_attempts: way.max_attempts,
            redriven: Some(letter.delivery.id.clone()),
            ..letter.delivery.clone()
        })
    }

    /// Where an event would go now.
    fn way(&self, delivery: &Delivery) -> Result<Way, DeadLetterError> {
        let exists = |urn: &Urn| {
            let found = self.resources.by_urn(urn);
            found.ok_or_else(|| DeadLetterError::Gone { gone: Box::new(urn.clone()) })
        };
        let by = exists(&delivery.subscription)?;
        let way = match inputs::read::<inputs::Subscription>(&by.urn, &by.inputs) {
            Ok(now) if by.urn.kind == Kind::Subscription => {
                Way { consumer: now.consumer, max_attempts: now.max_attempts }
            }
            _ => Way { consumer: delivery.consumer.clone(), max_attempts: delivery.max_attempts },
        };
        exists(&way.consumer)?;
        Ok(way)
    }

    fn say(&self, delivery: &Delivery, text: String) {
        self.log.write(Line {
            time: Timestamp::now(),
            resource: delivery.consumer.clone(),
            stream: Printed::System,
            id: delivery.id.clone(),
            text,
        });
    }
}

struct Way {
    consumer: Urn,
    max_attempts: u32,
}

type Page = (Vec<DeadLetter>, Option<Vec<u8>>);

/// The letters from a key on, and where the next page begins.
fn page(store: &dyn Store, which: &Which, from: &[u8], end: &[u8]) -> Result<Page, ReadError> {
    let (mut letters, mut bytes) = (Vec::new(), 0);
    for entry in store.snapshot()?.range(from, end, Direction::Ascending)? {
        let (key, value) = entry?;
        if !which.wants(&parse_key(DEAD, &key)?.0) {
            continue;
        }
        letters.push(decode(&value)?);
        bytes += value.len();
        if letters.len() == PAGE || bytes >= PAGE_BYTES {
            let next = [&key[..], &[0]].concat();
            return Ok((letters, Some(next)));
        }
    }
    Ok((letters, None))
}

fn decode(row: &[u8]) -> Result<DeadLetter, ReadError> {
    serde_json::from_slice(row).map_err(|e| ReadError(Box::new(e)))
}
