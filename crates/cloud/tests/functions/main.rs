//! Functions as they run: real workers, forked and confined, serving real programs.
//!
//! Workers are forks of a helper that must be started while there is one thread, so this binary has its own `main`:
//! it starts a helper for each test, and then hands over to the test harness.

#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

mod cloud;
mod dying;
#[cfg(target_arch = "x86_64")]
mod escape;
mod life;
mod limits;
mod load;
mod memory;
mod sandbox;

use std::process::ExitCode;

use cloud::Test;
use libtest_mimic::{Arguments, Failed, Trial};
use tandem_cloud::function::spawner;

type Run = fn(Test) -> Result<(), Failed>;
type Trials = Vec<(&'static str, Box<dyn FnOnce(Test) -> Result<(), Failed> + Send>)>;

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|first| first == spawner::SUBCOMMAND) {
        return spawner::helper_main();
    }
    let tests =
        [dying::TESTS, life::TESTS, limits::TESTS, load::TESTS, memory::TESTS, sandbox::TESTS].concat();
    let mut tests: Trials = tests.into_iter().map(|(name, run)| (name, Box::new(run) as _)).collect();
    // It knows how to make a worker execute native code on this architecture only.
    #[cfg(target_arch = "x86_64")]
    tests.extend(escape::trials());
    let arguments = Arguments::from_args();
    let own = std::process::id().cast_signed();
    let trials = tests
        .into_iter()
        .map(|(name, run)| {
            let wanted =
                !arguments.list && arguments.filter.as_ref().is_none_or(|f| name.contains(f.as_str()));
            let before = cloud::children_of(own);
            let spawner = wanted.then(|| spawner::start().expect("the helper starts"));
            let helper = cloud::children_of(own).difference(&before).next().copied();
            Trial::test(name, move || run(Test::new(name, spawner, helper)))
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
