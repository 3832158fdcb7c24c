use proptest::prelude::*;

use tandem_model::inputs::Retries;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn after(events: impl IntoIterator<Item = Event>) -> (Run, Vec<Effect>) {
    events.into_iter().fold((Run::accepted(None), vec![]), |(run, _), event| run.on(event).unwrap())
}

fn admitted() -> Event {
    Event::Admitted { at: at(0) }
}

fn began() -> Event {
    Event::Started { at: at(1), started: Started { pid: 7, mounted: at(0), created: at(1) } }
}

fn started() -> [Event; 2] {
    [admitted(), began()]
}

fn exited(exit: Exit) -> Event {
    Event::Exited { at: at(9), exit, answer: Answer::Nothing }
}

fn found(container: Container) -> Event {
    Event::Found { at: at(5), container, answer: Answer::Nothing }
}

#[test]
fn a_run_that_is_left_alone_ends_with_its_exit_code() {
    let (run, effects) = after(started().into_iter().chain([exited(Exit::Code { code: 3 })]));
    assert_eq!(run.outcome(), Some(&Outcome::Exited { code: 3 }));
    assert_eq!(effects, [Effect::Commit, Effect::Release, Effect::Discard { attempt: 1 }]);
}

#[test]
fn a_result_that_cannot_be_used_is_a_failure_of_what_would_have_been_a_success() {
    let answer = || Answer::Unusable("no".to_owned());
    let end = |first: Option<Event>, code| {
        let exited = Event::Exited { at: at(9), exit: Exit::Code { code }, answer: answer() };
        after(started().into_iter().chain(first).chain([exited])).0.outcome().cloned().unwrap()
    };
    assert_eq!(end(None, 0), Outcome::BadResult { reason: "no".to_owned() });
    assert!(!end(None, 0).is_success() && end(None, 0).exit_code() != 0);
    assert_eq!(end(None, 3), Outcome::Exited { code: 3 });
    assert_eq!(end(Some(Event::Stop { at: at(2) }), 0), Outcome::Stopped);
    let container = Container::Exited(Exit::Code { code: 0 });
    let (run, _) = after([Event::Found { at: at(5), container, answer: answer() }]);
    assert_eq!(run.outcome(), Some(&end(None, 0)), "whoever sees it");
}

#[test]
fn stopped_timed_out_and_out_of_memory_are_told_apart_by_what_came_first() {
    let end = |first: Option<Event>, exit| {
        let (run, _) = after(started().into_iter().chain(first).chain([exited(exit)]));
        run.outcome().cloned().unwrap()
    };
    let killed = Exit::Code { code: 137 };
    assert_eq!(end(Some(Event::Stop { at: at(2) }), killed), Outcome::Stopped);
    assert_eq!(end(Some(Event::Deadline), killed), Outcome::TimedOut);
    assert_eq!(end(None, Exit::OutOfMemory { code: 137 }), Outcome::OutOfMemory { code: 137 });
    assert_eq!(end(None, killed), Outcome::Exited { code: 137 });
    let lost = |full| end(Some(Event::Deadline), Exit::Lost { full });
    assert_eq!([false, true].map(lost), [false, true].map(|full_disk| Outcome::Lost { full_disk }));
}

#[test]
fn a_stop_is_committed_before_the_container_is_told() {
    let (_, effects) = after(started().into_iter().chain([Event::Stop { at: at(2) }]));
    assert_eq!(effects, [Effect::Commit, Effect::Terminate]);
    let (run, effects) = after([admitted(), Event::Stop { at: at(0) }]);
    assert_eq!((effects, run.ending), (vec![Effect::Commit], Some(Ending::Stop)));
    let (_, effects) = run.on(began()).unwrap();
    assert_eq!(effects.last(), Some(&Effect::Terminate));
}

#[test]
fn a_run_that_was_stopped_in_the_queue_never_starts() {
    let (run, effects) = after([Event::Stop { at: at(1) }]);
    assert_eq!(run.outcome(), Some(&Outcome::Stopped));
    assert!(!effects.contains(&Effect::Start));
    assert_eq!(run.clone().on(admitted()).unwrap(), (run, vec![]));
}

#[test]
fn what_a_restart_finds_decides_whether_it_starts_again() {
    use Container::{Absent, Exited, Running, Unstarted};
    let code = Exit::Code { code: 7 };
    let queued = |container| after([found(container)]);
    assert_eq!(queued(Absent).1, [Effect::Enqueue]);
    assert_eq!(queued(Unstarted).1, [Effect::Discard { attempt: 1 }, Effect::Enqueue]);
    assert_eq!(queued(Exited(code)).0.outcome(), Some(&Outcome::Exited { code: 7 }));
    let watch = Effect::Watch { started: at(5) };
    assert_eq!(queued(Running).1, [Effect::Hold, Effect::Commit, Effect::Wait, watch]);

    let running = |container| after(started().into_iter().chain([found(container)]));
    assert_eq!(running(Absent).0.outcome(), Some(&Outcome::Lost { full_disk: false }));
    assert_eq!(running(Exited(code)).0.outcome(), Some(&Outcome::Exited { code: 7 }));
    let watch = Effect::Watch { started: at(1) };
    assert_eq!(running(Running).1, [Effect::Hold, Effect::Wait, watch]);
}

#[test]
fn a_stop_outlives_a_restart() {
    let stop = || Event::Stop { at: at(2) };
    let (run, effects) = after(started().into_iter().chain([stop(), found(Container::Running)]));
    assert_eq!(effects.last(), Some(&Effect::Terminate));
    assert_eq!(run.on(exited(Exit::Code { code: 0 })).unwrap().0.outcome(), Some(&Outcome::Stopped));
    let (run, _) = after([admitted(), stop(), found(Container::Absent)]);
    assert_eq!(run.outcome(), Some(&Outcome::Stopped));
}

#[test]
fn the_timeout_counts_from_the_start_also_after_a_restart() {
    let timeout = SignedDuration::from_secs(10);
    assert_eq!(Run::remaining(SignedDuration::from_secs(4), timeout), SignedDuration::from_secs(6));
    assert_eq!(Run::remaining(SignedDuration::from_secs(400), timeout), SignedDuration::ZERO);
    assert_eq!(Run::remaining(SignedDuration::from_secs(-9), timeout), timeout, "the clock was set back");
}

fn any_container() -> impl Strategy<Value = Container> {
    prop_oneof![
        Just(Container::Absent),
        Just(Container::Unstarted),
        Just(Container::Running),
        any_exit().prop_map(Container::Exited),
    ]
}

fn any_exit() -> impl Strategy<Value = Exit> {
    prop_oneof![
        (0..256).prop_map(|code| Exit::Code { code }),
        Just(Exit::OutOfMemory { code: 137 }),
        Just(Exit::Lost { full: false }),
    ]
}

fn any_answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        Just(Answer::Nothing),
        Just(Answer::Result("1".into())),
        Just(Answer::Unusable("no".to_owned())),
    ]
}

fn any_event() -> impl Strategy<Value = Event> {
    let error = Report { code: "E0405".into(), message: "no".into(), help: String::new(), causes: vec![] };
    prop_oneof![
        Just(admitted()),
        Just(began()),
        Just(Event::StartFailed { at: at(2), error: Box::new(error) }),
        (any_exit(), any_answer()).prop_map(|(exit, answer)| Event::Exited { at: at(9), exit, answer }),
        Just(Event::Stop { at: at(3) }),
        Just(Event::Deadline),
        Just(Event::Rested),
        Just(Event::GraceOver),
        any_container().prop_map(found),
    ]
}

fn policy(attempts: u32) -> Policy {
    use tandem_model::inputs::RetryOn::{BadResult, Exited, Lost, OutOfMemory, TimedOut};
    let on = vec![Exited, BadResult, Lost, OutOfMemory, TimedOut];
    Policy { retries: Retries { attempts, backoff: 2.0, max_backoff: 60.0, on }, seed: 7 }
}

fn any_run() -> impl Strategy<Value = Run> {
    prop_oneof![Just(None), (1u32..5).prop_map(|n| Some(policy(n)))].prop_map(Run::accepted)
}

#[test]
fn a_pause_is_never_longer_than_the_longest_whatever_the_clock_says() {
    let policy = policy(3);
    let rest = |until, now| rest(Some(&policy), at(until), at(now)).as_secs();
    assert_eq!((rest(110, 100), rest(100, 500), rest(1_000_000, 5)), (10, 0, 60));
}

#[test]
fn an_attempt_that_fails_makes_way_for_the_next_in_one_commit() {
    let step = |run: Run, event| run.on(event).unwrap();
    let mut run = Run::accepted(Some(policy(3)));
    for attempt in 1..=2 {
        for event in started() {
            run = step(run, event).0;
        }
        let (next, effects) = step(run, exited(Exit::Code { code: 3 }));
        let Phase::Queued { until: Some(until) } = next.phase else { panic!("{next:?}") };
        let rest = Effect::Rest { until };
        assert_eq!(effects, [Effect::Commit, Effect::Release, Effect::Discard { attempt }, rest]);
        assert!(until > at(9) && until <= at(9 + 2 * i64::from(attempt)), "{until}");
        assert_eq!((next.attempt, next.failed.len()), (attempt + 1, attempt as usize));
        // Before its time a restart goes on resting, and after it the run takes its place again.
        let found =
            |second| Event::Found { at: second, container: Container::Absent, answer: Answer::Nothing };
        assert_eq!(step(next.clone(), found(at(9))).1, [rest]);
        assert_eq!(step(next.clone(), found(at(99))).1, [Effect::Enqueue]);
        let (rested, effects) = step(next, Event::Rested);
        assert_eq!(effects, [Effect::Enqueue]);
        run = rested;
    }
    for event in started() {
        run = step(run, event).0;
    }
    let (run, effects) = step(run, exited(Exit::Code { code: 4 }));
    assert_eq!(run.outcome(), Some(&Outcome::Exited { code: 4 }), "the last one's");
    assert_eq!(effects, [Effect::Commit, Effect::Release, Effect::Discard { attempt: 3 }]);
}

#[test]
fn a_stop_ends_the_run_whatever_attempts_are_left() {
    let run = || Run::accepted(Some(policy(9)));
    let all = |events: Vec<Event>| events.into_iter().fold(run(), |run, event| run.on(event).unwrap().0);
    let stop = || Event::Stop { at: at(3) };
    let failed = || started().into_iter().chain([exited(Exit::Code { code: 3 })]).collect::<Vec<_>>();
    let in_the_pause = all([failed(), vec![stop()]].concat());
    assert_eq!(in_the_pause.outcome(), Some(&Outcome::Stopped));
    let end = |exit| all(started().into_iter().chain([stop(), exited(exit)]).collect());
    assert_eq!(end(Exit::Code { code: 3 }).outcome(), Some(&Outcome::Stopped));
    assert_eq!(end(Exit::Lost { full: false }).outcome(), Some(&Outcome::Lost { full_disk: false }));
    let timed_out = started().into_iter().chain([Event::Deadline, stop(), exited(Exit::Code { code: 137 })]);
    assert_eq!(all(timed_out.collect()).outcome(), Some(&Outcome::TimedOut), "and is not tried again");
}

proptest! {
    // I3
    #[test]
    fn a_run_has_at_most_one_outcome_and_keeps_it(
        mut run in any_run(),
        events in proptest::collection::vec(any_event(), 0..30),
    ) {
        let mut ends = 0;
        for event in events {
            let ended = run.is_ended();
            let before = run.clone();
            match run.on(event) {
                Ok((after, effects)) => {
                    if ended {
                        prop_assert_eq!(&after, &before);
                        prop_assert!(effects.is_empty());
                    }
                    ends += u32::from(!ended && after.is_ended());
                    run = after;
                }
                Err(_) => run = before,
            }
        }
        prop_assert!(ends <= 1);
    }

    #[test]
    fn a_container_that_ran_is_never_started_again(
        mut run in any_run(),
        events in proptest::collection::vec(any_event(), 0..60),
    ) {
        let most = run.policy.as_ref().map_or(1, |policy| policy.retries.attempts);
        let mut ran = std::collections::BTreeSet::new();
        let mut stopped = false;
        for event in events {
            stopped |= matches!(event, Event::Stop { .. });
            let before = run.clone();
            let Ok((after, effects)) = run.on(event) else { run = before; continue };
            let starts = effects.iter().any(|e| matches!(e, Effect::Start | Effect::Enqueue | Effect::Rest { .. }));
            prop_assert!(!starts || !ran.contains(&after.attempt), "{after:?}");
            prop_assert!(!starts || !stopped, "after a stop nothing is started: {after:?}");
            if after.started().is_some() {
                ran.insert(after.attempt);
            }
            prop_assert!(after.attempt <= most && after.failed.len() + 1 == after.attempt as usize);
            run = after;
        }
    }

    #[test]
    fn every_change_on_the_way_to_an_effect_outside_is_committed_first(
        mut run in any_run(),
        events in proptest::collection::vec(any_event(), 0..30),
    ) {
        let mut on_disk = run.clone();
        for event in events {
            let before = run.clone();
            let Ok((after, effects)) = run.on(event) else { run = before; continue };
            for effect in &effects {
                match effect {
                    Effect::Commit => on_disk = after.clone(),
                    Effect::Terminate | Effect::Kill => prop_assert_eq!(on_disk.ending, after.ending),
                    Effect::Release | Effect::Wait => prop_assert_eq!(&on_disk.phase, &after.phase),
                    _ => {}
                }
            }
            run = after;
        }
    }

    #[test]
    fn a_run_is_read_as_it_was_written(
        mut run in any_run(),
        events in proptest::collection::vec(any_event(), 0..10),
    ) {
        for event in events {
            let before = run.clone();
            run = run.on(event).map_or(before, |(after, _)| after);
        }
        let text = serde_json::to_string(&run).unwrap();
        prop_assert_eq!(serde_json::from_str::<Run>(&text).unwrap(), run);
    }
}
