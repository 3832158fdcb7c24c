//! This cloud as a target of the engine.
//!
//! Who owns it: the rows `resource/<kind>/<id>` and `op/<operation>` are written here and nowhere else. One commit makes
//! a change true: it writes the resource's record, what its service adds, and the operation's result. What a restart or a
//! repetition finds at each gap:
//!
//! | killed | found | a repetition of the operation |
//! |---|---|---|
//! | before the commit | nothing, or what `prepare` left (an image) | prepares again, finding what is there |
//! | after the commit, before the answer | the operation's result | answers it, changes nothing |
//! | after the commit, before `settle` | the resource | the start settles every resource |
//!
//! An operation's result is kept until the engine acknowledges that it is in the state.

mod diff;
mod error;
mod underway;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use tandem_engine::{CloudId, Contents};
use tandem_failpoint::hit;
use tandem_model::{
    Explain, Kind, OpId, PhysicalId, Report, StackId, Urn,
    plan::{Applied, Change},
    resource::{Properties, Recorded},
};
use tandem_store::{Batch, CommitError, Snapshot, Store};
use tokio::sync::RwLock;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use diff::{diff, foresee};
pub use error::TargetFault;

use self::underway::Underway;
use crate::{
    archive,
    provider::{Lines, Provider},
    resource::Resources,
};

/// The services behind the kinds of resource.
pub type Providers = HashMap<Kind, Arc<dyn Provider>>;

/// Makes the engine's changes true.
pub struct CloudTarget {
    id: CloudId,
    store: Arc<dyn Store>,
    resources: Arc<Resources>,
    providers: Providers,
    /// Written by whoever wants both records at one moment: see [`CloudTarget::commits`].
    commits: Arc<RwLock<()>>,
    /// One change of a urn at a time.
    turns: Mutex<HashMap<Urn, Arc<tokio::sync::Mutex<()>>>>,
    /// Cancelled when a stack's changes are called off; the next change of that stack gets a new one.
    called_off: Mutex<HashMap<StackId, CancellationToken>>,
    underway: Underway,
}

impl fmt::Debug for CloudTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloudTarget").field("id", &self.id).finish_non_exhaustive()
    }
}

const CLOUD_ID: &[u8] = b"cloud/id";
const RESOURCES: &str = "resource/";
/// How often a commit is tried again because something else changed underneath.
const CONFLICTS: usize = 100;

fn resource_key(kind: Kind, id: &PhysicalId) -> Bytes {
    format!("{RESOURCES}{kind}/{id}").into()
}

fn op_key(op: &OpId) -> Bytes {
    format!("op/{op}").into()
}

fn encode(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("records are structs with string keys").into()
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, TargetFault> {
    serde_json::from_slice(bytes).map_err(|source| TargetFault::Damaged { source })
}

/// Reads what is deployed, and this cloud's identity, which the first start makes.
///
/// # Errors
/// [`TargetFault`] if the store cannot be read or written, or holds something else than records.
pub async fn load(store: &Arc<dyn Store>, resources: &Resources) -> Result<CloudId, TargetFault> {
    let known = {
        let snapshot = store.snapshot()?;
        for entry in snapshot.prefix(RESOURCES.as_bytes())? {
            resources.put(decode::<Recorded>(&entry?.1)?);
        }
        snapshot.get(CLOUD_ID)?
    };
    if let Some(id) = known {
        return decode(&id);
    }
    let id = CloudId(Uuid::new_v4().simple().to_string());
    let mut batch = Batch::default();
    batch.expect(CLOUD_ID, None).put(CLOUD_ID, encode(&id));
    store.commit(batch).await?;
    Ok(id)
}

/// The identity of the cloud whose store that is; empty before its first start was finished.
pub(crate) fn identity(snapshot: &dyn Snapshot) -> Result<String, TargetFault> {
    let id: Option<CloudId> = snapshot.get(CLOUD_ID)?.map(|bytes| decode(&bytes)).transpose()?;
    Ok(id.map(|id| id.0).unwrap_or_default())
}

impl CloudTarget {
    pub fn new(id: CloudId, store: Arc<dyn Store>, resources: Arc<Resources>, providers: Providers) -> Self {
        Self {
            id,
            store,
            resources,
            providers,
            commits: Arc::default(),
            turns: Mutex::default(),
            called_off: Mutex::default(),
            underway: Underway::default(),
        }
    }

    /// Since when the oldest change that is not committed yet has been under way. Read it before the resources.
    pub fn oldest_change(&self) -> Option<SystemTime> {
        self.underway.oldest()
    }

    /// Counts something as a change under way that needs images as one does, until it is dropped.
    pub fn begin(&self) -> underway::Change<'_> {
        self.underway.begin()
    }

    pub fn identity(&self) -> &CloudId {
        &self.id
    }

    /// While this is locked for writing no change becomes true and no result is forgotten. Copies of the engine's states
    /// and of the store that are made meanwhile fit together: they are what a kill of both at that moment would have
    /// left, which the next update takes up (I5). Changes under way wait; keep it short.
    pub fn commits(&self) -> Arc<RwLock<()>> {
        self.commits.clone()
    }

    /// Lets every service adapt to what is deployed. Called once, at start.
    pub async fn settle_all(&self) {
        for recorded in self.resources.list(None) {
            if let Some(provider) = self.providers.get(&recorded.urn.kind) {
                provider.settle(&recorded.urn, &recorded.id, Some(&recorded)).await;
            }
        }
    }

    /// Everything that exists of a stack, ordered by urn and id.
    pub fn list(&self, stack: &StackId) -> Vec<Recorded> {
        self.resources.list(Some(stack)).into_iter().map(Arc::unwrap_or_clone).collect()
    }

    /// What the data resources among these hold; those that hold nothing are left out.
    ///
    /// # Errors
    /// A [`Report`] if a service cannot tell.
    pub async fn contents(&self, resources: &[(Urn, PhysicalId)]) -> Result<Vec<Contents>, Report> {
        let mut contents = Vec::new();
        for (urn, id) in resources.iter().filter(|(urn, _)| urn.kind.holds_data()) {
            let holding = self.provider(urn.kind)?.holding(id).await?;
            if let Some(holding) = holding.filter(|h| h.items > 0 || h.unfinished > 0) {
                contents.push(Contents {
                    urn: urn.clone(),
                    items: holding.items,
                    bytes: holding.bytes,
                    unit: holding.unit.to_owned(),
                    unfinished: holding.unfinished,
                });
            }
        }
        Ok(contents)
    }

    /// Makes a change true. See [`tandem_engine::Target::apply`].
    ///
    /// # Errors
    /// A [`Report`] for the user; nothing was changed. [`TargetFault::CalledOff`] after [`CloudTarget::call_off`].
    pub async fn apply(
        &self,
        op: &OpId,
        change: &Change,
        lines: &dyn Lines,
    ) -> Result<Option<Applied>, Report> {
        self.apply_as(Some(op), change, lines).await
    }

    /// Makes a change that no engine asks for, and so no journal knows: a client makes or deletes a bucket. It happens
    /// or not, by the same commit; a client that gets no answer looks.
    ///
    /// # Errors
    /// A [`Report`] for the user; nothing was changed.
    pub async fn change(&self, change: &Change) -> Result<(), Report> {
        struct Unheard;
        impl Lines for Unheard {
            fn line(&self, _: &str) {}
        }
        self.apply_as(None, change, &Unheard).await.map(|_| ())
    }

    async fn apply_as(
        &self,
        op: Option<&OpId>,
        change: &Change,
        lines: &dyn Lines,
    ) -> Result<Option<Applied>, Report> {
        let called_off = self.calling_off(&change.urn().stack);
        let _underway = self.underway.begin();
        let turn = self.turn(change.urn());
        let _turn = turn.lock().await;
        let first = op.map(|op| self.first_result(op)).transpose().map_err(|e| e.report())?;
        if let Some(first) = first.flatten() {
            return Ok(first);
        }
        let (id, before) = match change {
            Change::Create { urn, inputs } => {
                let id = physical_id(urn, inputs, op);
                if let Some(other) = self.resources.by_id(urn.kind, &id) {
                    return Err(TargetFault::Exists {
                        urn: urn.clone().into(),
                        id,
                        owner: other.urn.clone().into(),
                    }
                    .report());
                }
                (id, None)
            }
            Change::Update { urn, id, .. } => match self.resources.by_id(urn.kind, id) {
                Some(before) => (id.clone(), Some(before)),
                None => return Err(TargetFault::Gone { urn: urn.clone().into() }.report()),
            },
            Change::Delete { urn, id, .. } => match self.resources.by_id(urn.kind, id) {
                Some(before) => (id.clone(), Some(before)),
                None => return Ok(None),
            },
        };
        let provider = self.provider(change.urn().kind)?;
        // Only what comes before the commit can be called off. Dropping it leaves what a kill there would leave.
        let outputs = tokio::select! {
            biased;
            () = called_off.cancelled() => {
                return Err(TargetFault::CalledOff { urn: change.urn().clone().into() }.report());
            }
            outputs = provider.prepare(change, &id, lines) => outputs?,
        };
        hit("target.change.prepared");
        let after = recorded(change, &id, outputs, before.as_deref());
        let result = after.as_ref().map(|r| Applied { id: r.id.clone(), outputs: r.outputs.clone() });
        self.commit(op, change, &id, before.as_deref(), after.as_ref(), &result, provider).await?;
        hit("target.change.committed");
        let now = match after {
            Some(after) => Some(self.resources.put(after)),
            None => {
                self.resources.remove(change.urn().kind, &id);
                None
            }
        };
        provider.settle(change.urn(), &id, now.as_deref()).await;
        Ok(result)
    }

    /// Gives up the changes of a stack that are still being prepared: a build under way is ended. What is being
    /// committed is not affected. Called when whoever asked for the changes has stopped waiting for them.
    pub fn call_off(&self, stack: &StackId) {
        let token = self.called_off.lock().unwrap_or_else(PoisonError::into_inner).remove(stack);
        if let Some(token) = token {
            token.cancel();
        }
    }

    fn calling_off(&self, stack: &StackId) -> CancellationToken {
        let mut all = self.called_off.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(stack.clone()).or_default().clone()
    }

    /// Forgets the results of operations that the engine has recorded.
    ///
    /// # Errors
    /// A [`Report`] if they cannot be forgotten; asking again is harmless.
    pub async fn acknowledge(&self, ops: &[OpId]) -> Result<(), Report> {
        let mut batch = Batch::default();
        for op in ops {
            batch.delete(op_key(op));
        }
        let _unpaused = self.commits.read().await;
        self.store.commit(batch).await.map_err(|e| TargetFault::from(e).report())
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one commit")]
    async fn commit(
        &self,
        op: Option<&OpId>,
        change: &Change,
        id: &PhysicalId,
        before: Option<&Recorded>,
        after: Option<&Recorded>,
        result: &Option<Applied>,
        provider: &Arc<dyn Provider>,
    ) -> Result<(), Report> {
        let key = resource_key(change.urn().kind, id);
        let _unpaused = self.commits.read().await;
        for _ in 0..CONFLICTS {
            let mut batch = Batch::default();
            batch.expect(key.clone(), before.map(encode));
            match after {
                Some(after) => batch.put(key.clone(), encode(after)),
                None => batch.delete(key.clone()),
            };
            if let Some(op) = op {
                batch.put(op_key(op), encode(result));
            }
            if after.is_none() {
                // A full disk can be emptied by a destroy.
                batch.frees();
            }
            provider.write(&mut batch, change, id)?;
            match self.store.commit(batch).await {
                // Our own record changes only in our own turn: what changed is what the service looked at.
                Err(CommitError::Conflict { key: changed }) if changed != key => {
                    tokio::task::yield_now().await
                }
                other => return other.map_err(|e| TargetFault::from(e).report()),
            }
        }
        Err(TargetFault::Contended { urn: change.urn().clone().into() }.report())
    }

    fn first_result(&self, op: &OpId) -> Result<Option<Option<Applied>>, TargetFault> {
        self.store.snapshot()?.get(&op_key(op))?.map(|bytes| decode(&bytes)).transpose()
    }

    fn provider(&self, kind: Kind) -> Result<&Arc<dyn Provider>, Report> {
        self.providers.get(&kind).ok_or_else(|| TargetFault::Unsupported { kind }.report())
    }

    fn turn(&self, urn: &Urn) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        turns.entry(urn.clone()).or_default().clone()
    }
}

/// The record after the change.
fn recorded(
    change: &Change,
    id: &PhysicalId,
    outputs: Properties,
    before: Option<&Recorded>,
) -> Option<Recorded> {
    let (Change::Create { urn, inputs } | Change::Update { urn, new: inputs, .. }) = change else {
        return None;
    };
    Some(Recorded {
        urn: urn.clone(),
        id: id.clone(),
        inputs: inputs.clone(),
        outputs,
        // The order of things is the engine's business; the cloud keeps what it was told.
        depends_on: before.map(|b| b.depends_on.clone()).unwrap_or_default(),
    })
}

/// What tells apart resources of one name: the same whenever the same operation is repeated.
fn unique(op: Option<&OpId>) -> String {
    let seed = op.map_or_else(|| Uuid::new_v4().to_string(), |op| op.0.clone());
    archive::hash(seed.as_bytes())["sha256:".len()..][..7].to_owned()
}

/// The name that a new resource gets.
///
/// Buckets, queues and streams share one namespace each and are seen by clients, so theirs end in something unique, and can be
/// pinned; those of buckets are lower case. The others are named after project, stack and name: one program's function is always found under one name.
fn physical_id(urn: &Urn, inputs: &Properties, op: Option<&OpId>) -> PhysicalId {
    let Urn { stack, kind, name } = urn;
    PhysicalId(match kind {
        // A volume's is one that no other volume had, whose files may still be there.
        Kind::Bucket | Kind::Volume => match inputs.get("bucketName").and_then(|v| v.as_str()) {
            Some(pinned) => pinned.to_owned(),
            None => {
                let legal = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
                let stem: String = name.as_str().chars().map(legal).take(48).collect();
                format!("{stem}-{}", unique(op))
            }
        },
        Kind::Queue => match inputs.get("queueName").and_then(|v| v.as_str()) {
            Some(pinned) => pinned.to_owned(),
            None => {
                let legal = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
                let stem: String = name.as_str().chars().map(legal).take(64).collect();
                let end = if inputs.get("fifo") == Some(&true.into()) { ".fifo" } else { "" };
                format!("{stem}-{}{end}", unique(op))
            }
        },
        Kind::Stream => match inputs.get("streamName").and_then(|v| v.as_str()) {
            Some(pinned) => pinned.to_owned(),
            None => {
                let stem: String = name.as_str().chars().take(64).collect();
                format!("{stem}-{}", unique(op))
            }
        },
        Kind::Function
        | Kind::Task
        | Kind::Service
        | Kind::Topic
        | Kind::Timer
        | Kind::Workflow
        | Kind::Subscription => {
            format!("{}-{}-{name}", stack.project, stack.stack)
        }
        // Its operations run as a function does, and no function has such a name.
        Kind::Entity => format!("{}-{}-{name}@entity", stack.project, stack.stack),
    })
}

#[cfg(test)]
mod tests;
