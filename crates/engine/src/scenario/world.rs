//! A target in memory that keeps the port's contract: an operation that comes again is answered as it was first.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    path::PathBuf,
    sync::Mutex,
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tandem_model::{
    OpId, PhysicalId, Recorded, Report, StackId, Urn,
    plan::{Applied, Change, Op, PropertyChange},
    resource::Properties,
    value,
};

use super::{mortal::Life, object};
use crate::{
    Stop,
    port::{CloudId, Contents, Progress, Target, TargetError},
};

#[derive(Debug)]
pub(crate) struct World {
    inner: Mutex<Inner>,
    life: Mutex<Life>,
    /// Asks for a stop so often while it is busy with this resource.
    stop: Mutex<Option<(Urn, usize, Stop)>>,
    /// Where the world is kept after each change, if it is to outlive the process for real.
    file: Option<PathBuf>,
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct Inner {
    cloud: String,
    /// By physical id.
    resources: BTreeMap<String, Thing>,
    results: HashMap<String, Option<Applied>>,
    /// How many of each there were; numbers their physical ids.
    made: HashMap<Urn, u64>,
    /// Refuses changes of these.
    broken: HashSet<Urn>,
    /// Does, and does not answer.
    silent: HashSet<Urn>,
    #[serde(skip)]
    calls: Vec<&'static str>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Thing {
    urn: Urn,
    inputs: Properties,
    objects: u64,
    op: OpId,
}

impl Default for World {
    fn default() -> Self {
        let inner = Inner { cloud: "first".into(), ..Inner::default() };
        Self {
            inner: Mutex::new(inner),
            life: Mutex::new(Life::endless()),
            stop: Mutex::default(),
            file: None,
        }
    }
}

impl World {
    /// A world that is kept in a file.
    pub(crate) fn kept(file: PathBuf) -> Self {
        let inner = match fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap(),
            Err(_) => Inner { cloud: "first".into(), ..Inner::default() },
        };
        Self {
            inner: Mutex::new(inner),
            life: Mutex::new(Life::endless()),
            stop: Mutex::default(),
            file: Some(file),
        }
    }

    pub(crate) fn live(&self, life: &Life) {
        *self.life.lock().unwrap() = life.clone();
    }

    fn change<T>(&self, effect: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.inner.lock().unwrap();
        let result = effect(&mut inner);
        if let Some(file) = &self.file {
            let fresh = file.with_extension("new");
            fs::write(&fresh, serde_json::to_vec(&*inner).unwrap()).unwrap();
            fs::rename(fresh, file).unwrap();
        }
        result
    }

    pub(crate) fn list(&self) -> Vec<String> {
        let mut all: Vec<_> = self.everything().into_iter().map(|(urn, id, _)| (urn, id)).collect();
        all.sort();
        all.into_iter().map(|(urn, id)| format!("{}={id}", urn.short())).collect()
    }

    pub(crate) fn everything(&self) -> Vec<(Urn, PhysicalId, OpId)> {
        let inner = self.inner.lock().unwrap();
        let all = inner.resources.iter();
        all.map(|(id, thing)| (thing.urn.clone(), PhysicalId(id.clone()), thing.op.clone())).collect()
    }

    /// How many results are kept.
    pub(crate) fn unacknowledged(&self) -> usize {
        self.inner.lock().unwrap().results.len()
    }

    /// What was called since this was asked last.
    pub(crate) fn calls(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.inner.lock().unwrap().calls)
    }

    /// Puts objects into a bucket.
    pub(crate) fn fill(&self, urn: &Urn, objects: u64) {
        self.change(|inner| {
            inner.resources.values_mut().filter(|t| t.urn == *urn).for_each(|t| t.objects = objects)
        });
    }

    /// Makes a resource disappear behind the engine's back.
    pub(crate) fn lose(&self, urn: &Urn) {
        self.change(|inner| inner.resources.retain(|_, thing| thing.urn != *urn));
    }

    pub(crate) fn refuse(&self, urn: &Urn, refuses: bool) {
        self.change(
            |inner| if refuses { inner.broken.insert(urn.clone()) } else { inner.broken.remove(urn) },
        );
    }

    /// Does what is asked for this resource and loses the answer.
    pub(crate) fn silence(&self, urn: &Urn, silent: bool) {
        self.change(|inner| if silent { inner.silent.insert(urn.clone()) } else { inner.silent.remove(urn) });
    }

    /// Becomes another cloud, in which nothing is.
    pub(crate) fn replace(&self) {
        self.change(|inner| *inner = Inner { cloud: "second".into(), ..Inner::default() });
    }

    /// Has the user press Ctrl-C so often while this resource is being changed.
    pub(crate) fn stop_during(&self, urn: Urn, times: usize, stop: Stop) {
        *self.stop.lock().unwrap() = Some((urn, times, stop));
    }

    fn note(&self, call: &'static str) {
        self.inner.lock().unwrap().calls.push(call);
    }
}

impl Inner {
    fn apply(&mut self, op: &OpId, change: &Change) -> Result<Option<Applied>, TargetError> {
        if let Some(first) = self.results.get(&op.0) {
            return Ok(first.clone());
        }
        if self.broken.contains(change.urn()) {
            return Err(refused("it is broken"));
        }
        let answer = match change {
            Change::Create { urn, inputs } => {
                let made = self.made.entry(urn.clone()).or_default();
                *made += 1;
                let id = format!("{}-{made}", urn.name);
                let thing = Thing { urn: urn.clone(), inputs: inputs.clone(), objects: 0, op: op.clone() };
                self.resources.insert(id.clone(), thing);
                Some(Applied { outputs: object(json!({ "token": id })), id: PhysicalId(id) })
            }
            Change::Update { id, new, .. } => {
                let Some(thing) = self.resources.get_mut(&id.0) else {
                    return Err(refused("it does not exist"));
                };
                thing.inputs = new.clone();
                Some(Applied { outputs: object(json!({ "token": id })), id: id.clone() })
            }
            Change::Delete { id, force, .. } => {
                if !force && self.resources.get(&id.0).is_some_and(|thing| thing.objects > 0) {
                    return Err(refused("it is not empty"));
                }
                self.resources.remove(&id.0);
                None
            }
        };
        assert!(!value::has_unknown(&json!(change)), "an unknown reached the target: {change:?}");
        self.results.insert(op.0.clone(), answer.clone());
        Ok(answer)
    }
}

fn refused(why: &str) -> TargetError {
    let (message, help) = (why.to_owned(), "mend it".to_owned());
    TargetError::Refused(Report { code: "E0301".into(), message, help, causes: vec![] })
}

#[async_trait]
impl Target for World {
    async fn identity(&self) -> Result<CloudId, TargetError> {
        Ok(CloudId(self.inner.lock().unwrap().cloud.clone()))
    }

    fn diff(&self, _: &Urn, old: &Properties, new: &Properties) -> Vec<PropertyChange> {
        let mut changes = crate::diff::properties(old, new);
        changes.iter_mut().for_each(|change| change.replaces = change.property == "pin");
        changes
    }

    async fn list(&self, stack: &StackId) -> Result<Vec<Recorded>, TargetError> {
        self.note("list");
        let inner = self.inner.lock().unwrap();
        let of_stack = inner.resources.iter().filter(|(_, thing)| thing.urn.stack == *stack);
        let recorded = of_stack.map(|(id, thing)| Recorded {
            urn: thing.urn.clone(),
            id: PhysicalId(id.clone()),
            inputs: thing.inputs.clone(),
            outputs: object(json!({ "token": id })),
            depends_on: Vec::new(),
        });
        let mut all: Vec<_> = recorded.collect();
        all.sort_by(|a, b| (&a.urn, &a.id).cmp(&(&b.urn, &b.id)));
        Ok(all)
    }

    async fn contents(&self, resources: &[(Urn, PhysicalId)]) -> Result<Vec<Contents>, TargetError> {
        self.note("contents");
        let inner = self.inner.lock().unwrap();
        let held = resources.iter().filter_map(|(urn, id)| {
            let items = inner.resources.get(&id.0)?.objects;
            Some(Contents {
                urn: urn.clone(),
                items,
                bytes: items * 100,
                unit: "object".into(),
                unfinished: 0,
            })
        });
        Ok(held.collect())
    }

    async fn apply(
        &self,
        op: &OpId,
        change: &Change,
        progress: &dyn Progress,
    ) -> Result<Option<Applied>, TargetError> {
        let life = self.life.lock().unwrap().clone();
        life.pass().await;
        // Others get their turn while this one is under way, as with a target that takes its time.
        tokio::task::yield_now().await;
        progress.line(change.urn(), "working");
        let stop = self.stop.lock().unwrap().take_if(|(urn, ..)| urn == change.urn());
        if let Some((_, times, stop)) = stop {
            (0..times).for_each(|_| stop.request());
            tokio::task::yield_now().await;
        }
        let answer = self.change(|inner| inner.apply(op, change));
        let done = match change {
            Change::Create { .. } => Op::Create,
            Change::Update { .. } => Op::Update,
            Change::Delete { .. } => Op::Delete,
        };
        life.did(done, change.urn()).await;
        if self.inner.lock().unwrap().silent.contains(change.urn()) {
            return Err(TargetError::Unreachable { reason: "the line is cut".into() });
        }
        answer
    }

    async fn acknowledge(&self, ops: &[OpId]) -> Result<(), TargetError> {
        let life = self.life.lock().unwrap().clone();
        life.pass().await;
        self.change(|inner| ops.iter().for_each(|op| drop(inner.results.remove(&op.0))));
        life.pass().await;
        Ok(())
    }

    async fn upload(&self, _: &str, _: crate::ArchiveReader) -> Result<(), TargetError> {
        Ok(())
    }
}

mod conformance {
    crate::target_conformance_tests!(async { std::sync::Arc::new(super::World::default()) });
}
