//! The end of an update: deletes what is no longer declared, and what was replaced.

use futures::{StreamExt, stream::FuturesUnordered};
use tandem_model::{
    Recorded,
    plan::{Change, Op, Step},
};

use super::{Inner, Live};
use crate::{
    data,
    error::ApplyError,
    plan::{blockers, deletion_order},
};

impl Inner {
    /// Deletes in reverse order of dependency, as much at once as that allows.
    ///
    /// # Errors
    /// [`ApplyError::Unforeseen`] or [`ApplyError::NotEmpty`] before anything is deleted. Deletes that fail are noted.
    pub(super) async fn delete_rest(&self, live: &Live) -> Result<(), ApplyError> {
        let undeclared = self.planning().planner.finish();
        self.check_foresight(&undeclared)?;
        let replaced = live.executor.state().replaced.clone();
        if !live.force {
            data::guard(live.executor.target(), undeclared.iter().chain(&replaced)).await?;
        }
        self.plan_deletes(&undeclared);
        self.delete_all(live, deletion_order(undeclared.into_iter().chain(replaced).collect())).await;
        Ok(())
    }

    fn check_foresight(&self, deletes: &[Recorded]) -> Result<(), ApplyError> {
        let mut planning = self.planning();
        for recorded in deletes {
            planning.foresee(&Step { op: Op::Delete, urn: recorded.urn.clone(), changes: Vec::new() })?;
        }
        match planning.foresight.as_ref().and_then(|foresight| foresight.undeclared()) {
            Some(step) => Err(ApplyError::Unforeseen {
                urn: Box::new(step.urn.clone()),
                reason: format!("{} was not declared this time", step.urn.short()),
            }),
            None => Ok(()),
        }
    }

    async fn delete_all(&self, live: &Live, doomed: Vec<Recorded>) {
        let blockers = blockers(&doomed);
        let mut waits: Vec<usize> = blockers.iter().map(Vec::len).collect();
        let mut unblocks: Vec<Vec<usize>> = vec![Vec::new(); doomed.len()];
        for (index, blockers) in blockers.iter().enumerate() {
            for blocker in blockers {
                unblocks[*blocker].push(index);
            }
        }
        let doomed = &doomed;
        let mut left = doomed.len();
        let mut running = FuturesUnordered::new();
        let delete = |index: usize| async move { (index, self.delete(live, &doomed[index]).await) };
        running.extend((0..left).filter(|index| waits[*index] == 0).map(&delete));
        while let Some((index, deleted)) = running.next().await {
            if !deleted {
                continue;
            }
            left -= 1;
            for unblocked in &unblocks[index] {
                waits[*unblocked] -= 1;
                if waits[*unblocked] == 0 {
                    running.push(delete(*unblocked));
                }
            }
        }
        let mut planning = self.planning();
        let tried = planning.failures.len();
        planning.not_tried = left.saturating_sub(tried);
    }

    /// Whether the resource is gone.
    async fn delete(&self, live: &Live, recorded: &Recorded) -> bool {
        let _turn = live.executor.turn().await;
        if self.may_start(live).is_err() {
            return false;
        }
        let Recorded { urn, id, inputs, .. } = recorded.clone();
        let force = live.force || data::forced(&inputs);
        let change = Change::Delete { urn, id, force };
        self.timed(Op::Delete, &recorded.urn, live.executor.run(change, Vec::new(), None)).await.is_ok()
    }
}
