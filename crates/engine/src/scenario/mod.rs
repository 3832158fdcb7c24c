//! A small language for whole lives of a stack: programs, updates, crashes.
//!
//! A program is `kind/name [property=value …] [needs kind/name …]`, separated by `;`. A value is a number, `true`,
//! or `@kind/name`, which is the `token` output of a resource declared before. In the [`world`](World) a change of
//! `pin` forces a replacement, and a bucket holds what `fill` puts into it.
//!
//! An `up` is what the command does: a preview, then the update held to it. A crash stops everything at an
//! [effect](Life): before or after anything that outlives the process.

mod crashes;
mod killed;
mod lives;
mod memory;
mod mortal;
mod program;
mod world;

use std::{future::Future, sync::Arc};

use serde_json::Value;
use tandem_model::{
    Explain, StackId, Urn,
    plan::{Op, Step},
    resource::Properties,
};

use self::{
    memory::Memory,
    mortal::Life,
    program::{Program, declare},
    world::World,
};
use crate::{ApplyError, EngineEvent, Events, Options, State, Stop, Summary, Update, port::Stored, state};

/// The resource of that short name in the stack of all scenarios.
pub(crate) fn urn(short: &str) -> Urn {
    format!("urn:tandem:shop:dev:{}", short.replace('/', ":")).parse().unwrap()
}

pub(crate) fn stack() -> StackId {
    "shop/dev".parse().unwrap()
}

/// A stack and its world.
pub(crate) struct Scenario {
    pub(crate) world: Arc<World>,
    pub(crate) store: Arc<Memory>,
    program: Program,
    force: bool,
    crash: Option<Crash>,
    stop: Option<(Urn, usize)>,
}

#[derive(Debug, Clone)]
enum Crash {
    /// At the n-th effect, from 1.
    At(usize),
    /// As soon as the target has done this.
    After(Op, Urn),
}

/// How an update went.
pub(crate) struct Outcome {
    /// None: it crashed.
    pub(crate) result: Option<Result<Summary, ApplyError>>,
    pub(crate) events: Vec<EngineEvent>,
    left: Vec<String>,
}

impl Scenario {
    pub(crate) fn new() -> Self {
        let (world, store) = (Arc::new(World::default()), Arc::new(Memory::new(State::empty(stack()))));
        Self { world, store, program: Program::default(), force: false, crash: None, stop: None }
    }

    pub(crate) fn program(&mut self, text: &str) -> &mut Self {
        self.program = text.parse().unwrap();
        self
    }

    pub(crate) fn force(&mut self) -> &mut Self {
        self.force = true;
        self
    }

    /// Arms a crash for the next update, as soon as the target has done this.
    pub(crate) fn crash_after(&mut self, op: Op, resource: &str) -> &mut Self {
        self.crash = Some(Crash::After(op, urn(resource)));
        self
    }

    /// Arms a crash for the next update, at its n-th effect.
    pub(crate) fn crash_at(&mut self, effect: usize) -> &mut Self {
        self.crash = Some(Crash::At(effect));
        self
    }

    pub(crate) fn preview(&mut self) -> Outcome {
        let (world, program, folded) = (self.world.clone(), self.program.clone(), self.folded());
        self.run(|_, events| async move {
            declare(&Update::preview(folded, world, events).await?, &program).await
        })
    }

    pub(crate) fn up(&mut self) -> Outcome {
        let program = self.program.clone();
        self.update(program)
    }

    pub(crate) fn destroy(&mut self) -> Outcome {
        self.update(Program::default())
    }

    /// An update that is held to other steps than its own preview's.
    pub(crate) fn up_expecting(&mut self, steps: Vec<Step>) -> Outcome {
        let program = self.program.clone();
        self.held_to(program, Some(steps))
    }

    /// An update that is stopped so many times while it changes this resource.
    pub(crate) fn up_stopping(&mut self, resource: &str, times: usize) -> Outcome {
        self.stop = Some((urn(resource), times));
        self.up()
    }

    fn update(&mut self, program: Program) -> Outcome {
        self.held_to(program, None)
    }

    fn held_to(&mut self, program: Program, steps: Option<Vec<Step>>) -> Outcome {
        let (world, store, folded, force) =
            (self.world.clone(), self.store.clone(), self.folded(), self.force);
        let presses = self.stop.take();
        self.run(move |stop, events| async move {
            if let Some((urn, times)) = presses {
                world.stop_during(urn, times, stop.clone());
            }
            let preview = Update::preview(folded, world.clone(), Events::ignored()).await?;
            let previewed = declare(&preview, &program).await?.steps;
            let expected = Some(steps.unwrap_or(previewed));
            let update =
                Update::apply(store, world, Options { expected, force, ..Options::default() }, events, stop)
                    .await?;
            declare(&update, &program).await
        })
    }

    /// Brings the state in line with the world.
    pub(crate) fn refresh(&self) -> crate::Refresh {
        let (world, store, folded) = (self.world.clone(), self.store.clone(), self.folded());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let told = crate::Refresh::look(folded.clone(), &*world).await.unwrap();
            let kept = crate::Refresh::look(folded, &*world).await.unwrap();
            kept.keep(&*store, &*world).await.unwrap();
            told
        })
    }

    /// A refresh that is killed at its n-th effect, from 1.
    pub(crate) fn refresh_crashing_at(&self, effect: usize) {
        let (world, store, folded) = (self.world.clone(), self.store.clone(), self.folded());
        let life = Life::ending_at(effect);
        self.world.live(&life);
        self.store.live(&life);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let refresh = crate::Refresh::look(folded, &*world).await.unwrap();
            tokio::select! {
                biased;
                () = life.end() => {}
                kept = refresh.keep(&*store, &*world) => kept.unwrap(),
            }
        });
        self.world.live(&Life::endless());
        self.store.live(&Life::endless());
    }

    /// Deletes the state and its journal, as by hand.
    pub(crate) fn lose_state(&self) {
        self.store.overwrite(Stored { state: State::empty(stack()), journal: Vec::new() });
    }

    /// Changes the state, as by hand.
    pub(crate) fn edit(&self, edit: impl FnOnce(&mut State)) {
        let mut stored = self.store.disk();
        edit(&mut stored.state);
        self.store.overwrite(stored);
    }

    /// Lives until the future ends or the armed crash comes.
    fn run<F>(&mut self, update: impl FnOnce(Stop, Events) -> F) -> Outcome
    where
        F: Future<Output = Result<Summary, ApplyError>>,
    {
        let life = match self.crash.take() {
            None => Life::endless(),
            Some(Crash::At(effect)) => Life::ending_at(effect),
            Some(Crash::After(op, urn)) => Life::ending_after(op, urn),
        };
        self.world.live(&life);
        self.store.live(&life);
        let (events, mut received) = Events::channel();
        // A runtime of its own: dropping it drops every task, as a process that dies does.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let result = runtime.block_on(async {
            tokio::select! {
                biased;
                () = life.end() => None,
                result = update(Stop::default(), events) => Some(result),
            }
        });
        drop(runtime);
        self.world.live(&Life::endless());
        self.store.live(&Life::endless());
        let mut events = Vec::new();
        while let Ok(event) = received.try_recv() {
            events.push(event);
        }
        Outcome { result, events, left: self.world.list() }
    }

    pub(crate) fn folded(&self) -> state::Folded {
        let Stored { state, journal } = self.store.disk();
        state::fold(state, journal)
    }

    /// Checks that the state and the world tell the same, and that nothing is left to be done.
    pub(crate) fn assert_settled(&self) {
        let folded = self.folded();
        assert_eq!(folded.pending, [], "operations are open");
        assert_eq!(folded.state.replaced, [], "replaced resources are left");
        let recorded: Vec<String> =
            folded.state.resources.values().map(|r| format!("{}={}", r.urn.short(), r.id)).collect();
        assert_eq!(self.world.list(), recorded, "the world is not what the state knows");
        assert_eq!(self.world.unacknowledged(), 0, "results are kept for nobody");
    }

    /// Checks that every resource of the world is recorded, or is an open operation's. (I5)
    pub(crate) fn assert_nothing_leaked(&self) {
        let folded = self.folded();
        for (urn, id, op) in self.world.everything() {
            let recorded = folded.state.resources.values().chain(&folded.state.replaced);
            let known = recorded.into_iter().any(|r| r.urn == urn && r.id == id);
            let open = folded.pending.iter().any(|begin| begin.op == op);
            assert!(known || open, "{} ({id}) is leaked", urn.short());
        }
    }
}

impl Outcome {
    #[track_caller]
    pub(crate) fn crashed(self) -> Self {
        assert!(self.result.is_none(), "it did not crash: {:?}", self.result);
        self
    }

    #[track_caller]
    pub(crate) fn summary(&self) -> &Summary {
        self.result.as_ref().expect("it crashed").as_ref().expect("it failed")
    }

    /// Checks the steps, as `op kind/name; …` in the order in which they were planned.
    #[track_caller]
    pub(crate) fn steps(self, expected: &str) -> Self {
        assert_eq!(write(&self.summary().steps), expected);
        self
    }

    /// Checks what was repeated of an interrupted update.
    #[track_caller]
    pub(crate) fn resumed(self, expected: &str) -> Self {
        let resumed = self.events.iter().filter_map(|event| match event {
            EngineEvent::Resumed { op, urn, .. } => Some(format!("{op} {}", urn.short())),
            _ => None,
        });
        assert_eq!(resumed.collect::<Vec<_>>().join("; "), expected);
        self
    }

    /// Checks that it failed, with this code.
    #[track_caller]
    pub(crate) fn fails(self, code: &str) -> ApplyError {
        let error = self.result.expect("it crashed").expect_err("it succeeded");
        assert_eq!(error.report().code, code, "{error}");
        error
    }

    #[track_caller]
    pub(crate) fn leaves_nothing(self) {
        self.summary();
        assert_eq!(self.left, Vec::<String>::new());
    }

    /// Checks what the world holds, as `kind/name=id; …`.
    #[track_caller]
    pub(crate) fn leaves(self, expected: &str) -> Self {
        assert_eq!(self.left.join("; "), expected);
        self
    }
}

fn write(steps: &[Step]) -> String {
    let steps = steps.iter().map(|step| format!("{} {}", step.op, step.urn.short()));
    steps.collect::<Vec<_>>().join("; ")
}

fn object(value: Value) -> Properties {
    match value {
        Value::Object(map) => map,
        other => panic!("{other} is not an object"),
    }
}
