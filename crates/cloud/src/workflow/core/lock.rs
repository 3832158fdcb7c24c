//! Locks on entities, as an instance has them: asked for, held, given back.
//!
//! A lock is an open task from the turn that asks for it to the turn that gives it back. It is given by a message, which
//! notes in the task since when it is held. So whatever ends an instance ends its locks: their tasks are open no more.

use serde_json::Value;

use super::turn::Turn;
use crate::workflow::{
    history::{EventType, HistoryEvent},
    record::{Failure, Open, Work},
};

/// The lock that an instance holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Held {
    task: u32,
    entities: Vec<String>,
}

impl Held {
    /// `None` if that task is no lock that is held.
    pub(super) fn of(task: u32, work: &Work) -> Option<Self> {
        let Work::Lock { entities, since: Some(_), .. } = work else { return None };
        Some(Self { task, entities: entities.clone() })
    }

    pub(super) fn holds(&self, entity: &str) -> bool {
        self.entities.iter().any(|one| one == entity)
    }
}

/// How a lock is called in the history.
fn name_of(entities: &[String]) -> Option<String> {
    Some(entities.join(", "))
}

impl Turn {
    pub(super) fn ask_for_lock(&mut self, attempt: &str, mut entities: Vec<String>) {
        let task = self.next();
        let requested = HistoryEvent::begins(task, EventType::LockRequested, self.at);
        self.events.push(HistoryEvent { name: name_of(&entities), ..requested });
        entities.sort();
        entities.dedup();
        let work = Work::Lock { id: format!("{attempt}-{task}"), entities, since: None };
        self.opened.insert(task, Open { work, scheduled: self.at, retry: None });
    }

    /// The last of its entities gave the lock, or one of them refused it. `None` if that is known, or meant another request.
    pub(super) fn locked(
        &mut self,
        task: u32,
        open: &Open,
        result: Result<Value, Failure>,
    ) -> Option<HistoryEvent> {
        let Work::Lock { id, entities, since: None } = &open.work else { return None };
        if self.opened.contains_key(&task) {
            return None;
        }
        let event = HistoryEvent {
            task_scheduled_id: Some(task),
            ..HistoryEvent::new(EventType::LockAcquired, self.at)
        };
        match result {
            Ok(given) if given != id.as_str() => None,
            Ok(_) => {
                self.lock = Some(Held { task, entities: entities.clone() });
                let work = Work::Lock { id: id.clone(), entities: entities.clone(), since: Some(self.at) };
                self.opened.insert(task, Open { work, ..open.clone() });
                Some(event)
            }
            Err(failure) => {
                self.closed.insert(task);
                Some(HistoryEvent { reason: Some(failure.reason), details: Some(failure.details), ..event })
            }
        }
    }

    /// Gives a lock back. One that is not held is given back already.
    pub(super) fn release(&mut self, lock: u32, entities: &[String]) {
        let task = self.next();
        let released = HistoryEvent::begins(task, EventType::LockReleased, self.at);
        self.events.push(HistoryEvent { name: name_of(entities), ..released });
        if self.lock.take_if(|held| held.task == lock).is_some() {
            self.opened.remove(&lock);
            self.closed.insert(lock);
        }
    }
}
