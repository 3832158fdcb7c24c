//! A state store whose disk is a field: what was written before a crash is there after it.

use std::sync::Mutex;

use async_trait::async_trait;

use super::mortal::Life;
use crate::{
    StateError,
    journal::Entry,
    port::{StateStore, Stored},
    state::State,
};

#[derive(Debug)]
pub(crate) struct Memory {
    disk: Mutex<Stored>,
    life: Mutex<Life>,
}

impl Memory {
    pub(crate) fn new(state: State) -> Self {
        let stored = Stored { state, journal: Vec::new() };
        Self { disk: Mutex::new(stored), life: Mutex::new(Life::endless()) }
    }

    pub(crate) fn live(&self, life: &Life) {
        *self.life.lock().unwrap() = life.clone();
    }

    /// What a restart would find.
    pub(crate) fn disk(&self) -> Stored {
        self.disk.lock().unwrap().clone()
    }

    pub(crate) fn overwrite(&self, stored: Stored) {
        *self.disk.lock().unwrap() = stored;
    }

    async fn write(&self, effect: impl FnOnce(&mut Stored)) {
        let life = self.life.lock().unwrap().clone();
        life.pass().await;
        effect(&mut self.disk.lock().unwrap());
        life.pass().await;
    }
}

#[async_trait]
impl StateStore for Memory {
    async fn load(&self) -> Result<Stored, StateError> {
        Ok(self.disk())
    }

    async fn append(&self, entry: Entry) -> Result<(), StateError> {
        self.write(|disk| disk.journal.push(entry)).await;
        Ok(())
    }

    async fn save(&self, state: &State) -> Result<(), StateError> {
        self.write(|disk| disk.state = state.clone()).await;
        Ok(())
    }

    async fn clear(&self) -> Result<(), StateError> {
        self.write(|disk| disk.journal.clear()).await;
        Ok(())
    }
}
