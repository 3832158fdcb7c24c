//! A request's way: into its function's queue, to a worker that asks, and to its end.

use super::{
    Core, Definition, Effect, FunctionId, InvocationId, Loss, Now, Refused, WorkerId,
    backoff::YOUNG,
    invocation::{Happening, Invocation, Next},
    room::SPARE_RETRY,
    worker::Worker,
};

impl Core {
    pub(super) fn invoke(
        &mut self,
        now: Now,
        id: FunctionId,
        invocation: InvocationId,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refused> {
        if self.closing {
            return Err(Refused::Closing);
        }
        let function = self.functions.get_mut(&id).ok_or(Refused::NoSuchFunction)?;
        if function.queue.len() >= self.limits.queue {
            return Err(Refused::QueueFull);
        }
        function.queue.push_back(invocation);
        self.waiting.insert(id);
        self.invocations.insert(invocation, (id, Invocation::Queued));
        self.last_used = Some(now);
        // The most recently idle one: the others may then grow old and go.
        let ready = self
            .workers
            .iter()
            .filter_map(|(worker, state)| match state {
                Worker::Serving { duty, polls: 1.., idle_since, .. } if duty.function == id => {
                    Some((*idle_since, *worker))
                }
                _ => None,
            })
            .max();
        if let Some((_, worker)) = ready {
            self.feed(now, worker, effects);
        }
        Ok(())
    }

    pub(super) fn abandon(&mut self, invocation: InvocationId) {
        if let Some((id, Invocation::Queued)) = self.invocations.get(&invocation) {
            let id = *id;
            self.invocations.remove(&invocation);
            if let Some(function) = self.functions.get_mut(&id) {
                function.queue.retain(|queued| *queued != invocation);
                if function.queue.is_empty() {
                    self.waiting.remove(&id);
                }
            }
        }
    }

    pub(super) fn poll(
        &mut self,
        now: Now,
        worker: WorkerId,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refused> {
        let state = self.workers.get_mut(&worker).ok_or(Refused::NotExpected)?;
        match state {
            Worker::Spare | Worker::Ending { .. } => return Err(Refused::NotExpected),
            Worker::Loading { duty, since } => {
                let (duty, since) = (*duty, *since);
                let running = Vec::new();
                *state = Worker::Serving { duty, since, proven: false, polls: 1, running, idle_since: now };
            }
            Worker::Serving { polls, .. } => *polls += 1,
        }
        self.feed(now, worker, effects);
        Ok(())
    }

    /// Hands waiting requests to a worker that asks, or lets it go if its place is needed elsewhere.
    pub(super) fn feed(&mut self, now: Now, worker: WorkerId, effects: &mut Vec<Effect>) {
        while let Some(Worker::Serving { duty, polls, running, .. }) = self.workers.get(&worker) {
            let (duty, polls, in_flight) = (*duty, *polls, running.len());
            let current =
                self.functions.get(&duty.function).filter(|f| f.definition.generation == duty.generation);
            if in_flight == 0 && (self.closing || current.is_none() || self.yields(now, duty.function)) {
                return self.end(worker, None, effects);
            }
            let Some(Definition { per_worker, timeout, .. }) = current.map(|f| f.definition) else { return };
            if polls == 0 || in_flight >= per_worker {
                return;
            }
            let Some(invocation) = self.pop(duty.function) else { return };
            self.happen(invocation, Happening::Hand { worker, at: now, timeout }, effects);
            if let Some(Worker::Serving { polls, running, .. }) = self.workers.get_mut(&worker) {
                *polls -= 1;
                running.push(invocation);
            }
            effects.push(Effect::Hand { worker, invocation });
        }
    }

    pub(super) fn put_back(
        &mut self,
        now: Now,
        worker: WorkerId,
        invocation: InvocationId,
        effects: &mut Vec<Effect>,
    ) {
        if !self.forget_running(now, worker, invocation) {
            return;
        }
        self.happen(invocation, Happening::PutBack { worker }, effects);
        let Some((id, _)) = self.invocations.get(&invocation).copied() else { return };
        match self.functions.get_mut(&id) {
            Some(function) => {
                function.queue.push_front(invocation);
                self.waiting.insert(id);
            }
            None => self.happen(invocation, Happening::Drop, effects),
        }
    }

    pub(super) fn answer(
        &mut self,
        now: Now,
        worker: WorkerId,
        invocation: InvocationId,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refused> {
        let (_, state) = self.invocations.get(&invocation).ok_or(Refused::NotInFlight)?;
        state.on(Happening::Answer { worker }).map_err(|_| Refused::NotInFlight)?;
        self.happen(invocation, Happening::Answer { worker }, effects);
        self.forget_running(now, worker, invocation);
        self.prove(worker);
        self.stalled_since = None;
        self.last_used = Some(now);
        if let Some(duty) = self.workers.get(&worker).and_then(Worker::duty)
            && (self.closing || self.is_stale(duty))
            && self.workers.get(&worker).is_some_and(Worker::is_idle)
        {
            self.end(worker, None, effects);
        }
        Ok(())
    }

    pub(super) fn fail_init(&mut self, now: Now, worker: WorkerId, effects: &mut Vec<Effect>) {
        let state = self.workers.get(&worker);
        let Some(Worker::Loading { duty, .. } | Worker::Serving { duty, .. }) = state else { return };
        let duty = *duty;
        self.start_failed(now, duty);
        if let Some(first) = self.pop(duty.function) {
            self.happen(first, Happening::InitFail, effects);
        }
        self.end(worker, None, effects);
    }

    pub(super) fn exit(&mut self, now: Now, worker: WorkerId, loss: Loss, effects: &mut Vec<Effect>) {
        let (duty, running, failing) = match self.workers.remove(&worker) {
            None => return,
            Some(Worker::Spare) => {
                self.spares_from = now + SPARE_RETRY;
                return;
            }
            Some(Worker::Loading { duty, .. }) => {
                self.start_failed(now, duty);
                (Some(duty), Vec::new(), Some(Happening::Lose(loss)))
            }
            Some(Worker::Serving { duty, since, proven, running, .. }) => {
                if !proven && now < since + YOUNG {
                    self.start_failed(now, duty);
                }
                (None, running, None)
            }
            Some(Worker::Ending { duty, running, failing }) => (duty, running, failing),
        };
        for invocation in running {
            self.happen(invocation, Happening::Lose(loss), effects);
        }
        if let (Some(duty), Some(failing)) = (duty, failing)
            && let Some(first) = self.pop(duty.function)
        {
            self.happen(first, failing, effects);
        }
    }

    pub(super) fn pop(&mut self, id: FunctionId) -> Option<InvocationId> {
        let function = self.functions.get_mut(&id)?;
        let first = function.queue.pop_front();
        if function.queue.is_empty() {
            self.waiting.remove(&id);
        }
        first
    }

    /// Moves an invocation on; what cannot happen any more is ignored.
    pub(super) fn happen(&mut self, id: InvocationId, happening: Happening, effects: &mut Vec<Effect>) {
        let Some((_, state)) = self.invocations.get_mut(&id) else { return };
        match state.on(happening) {
            Ok(Next::Becomes(next)) => *state = next,
            Ok(Next::Settles(outcome)) => {
                self.invocations.remove(&id);
                effects.push(Effect::Settle { invocation: id, outcome });
            }
            Err(_) => {}
        }
    }

    pub(super) fn forget_running(&mut self, now: Now, worker: WorkerId, invocation: InvocationId) -> bool {
        let Some(Worker::Serving { running, idle_since, .. }) = self.workers.get_mut(&worker) else {
            return false;
        };
        let before = running.len();
        running.retain(|id| *id != invocation);
        *idle_since = now;
        running.len() < before
    }
}
