//! What a schedule does, as a pure function of its seed and of the failpoints that the sources name.

use std::fmt;

use fastrand::Rng;

/// How many bytes are kept inline at most; a longer body is a file.
const INLINE: usize = 32 << 10;
/// The least size of a part that is not the last.
const PART: usize = 5 << 20;

/// What the handler of an object's event does, told by the end of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Behaviour {
    /// Prints its line.
    Plain,
    /// Takes some ten milliseconds.
    Slow,
    /// Fails the first time.
    Flaky,
    /// Fails every time.
    Doomed,
    /// Starts a container, which ends with code 7.
    Run,
    /// Starts a container that takes a second.
    Long,
    /// Is a container itself, which gets the event.
    Job,
}

impl Behaviour {
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Slow => "slow",
            Self::Flaky => "flaky",
            Self::Doomed => "doomed",
            Self::Run => "run",
            Self::Long => "long",
            Self::Job => "job",
        }
    }

    /// How often its handler fails by itself, of how many attempts there are.
    pub(super) fn failures(self) -> usize {
        match self {
            Self::Plain | Self::Slow | Self::Run | Self::Long | Self::Job => 0,
            Self::Flaky => 1,
            Self::Doomed => 3,
        }
    }
}

/// What one client does, one after the other. Keys are the client's own, so it knows what they must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Op {
    Put {
        key: String,
        size: usize,
    },
    /// Parts of these sizes; then it is completed, aborted, or left.
    Multipart {
        key: String,
        parts: Vec<usize>,
        end: End,
    },
    Delete {
        key: String,
    },
    Copy {
        from: String,
        to: String,
    },
    Get {
        key: String,
    },
    Invoke {
        waited_for: bool,
        behaviour: Behaviour,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Complete,
    Abort,
    Leave,
}

/// Who is killed with -9.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Victim {
    Cloud,
    /// One of the workers, by its place among them.
    Worker(usize),
    /// The process that starts workers.
    Spawner,
}

/// A change of the program that is deployed while the clients work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Update {
    /// Where `tandem up` itself dies, before it is run again.
    pub(super) death: Option<String>,
}

/// When, counted in what happens and not in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Death {
    /// Nobody is killed.
    None,
    /// The cloud kills itself the nth time it comes by a failpoint.
    Failpoint(String),
    /// Nobody is killed, but the disk is full, or broken, the nth time that something is written at a failpoint.
    Disk(String),
    /// Once the clients have so many answers.
    Answers { count: usize, victim: Victim },
    /// The monitor of a container, once there is one.
    Monitor,
    /// Nobody is killed, but the cloud is told to end once the clients have so many answers.
    Stop { count: usize },
}

/// One schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Schedule {
    pub(super) seed: u64,
    pub(super) clients: Vec<Vec<Op>>,
    pub(super) death: Death,
    /// Where the cloud dies once more when it is started again.
    pub(super) again: Option<String>,
    pub(super) update: Option<Update>,
}

/// The failpoints that the sources name.
#[derive(Debug, Default)]
pub(super) struct Failpoints {
    pub(super) all: Vec<String>,
    /// Those at which a write can be made to fail.
    pub(super) writes: Vec<String>,
}

impl Schedule {
    pub(super) fn of(seed: u64, failpoints: &Failpoints) -> Self {
        let mut rng = Rng::with_seed(seed);
        // Containers take a tenth of a second each, attempts that fail a second: few schedules have them.
        let character = match rng.u32(..100) {
            0..5 => Some(Behaviour::Run),
            5 => Some(Behaviour::Long),
            6..9 => Some(Behaviour::Job),
            9..13 => Some(Behaviour::Flaky),
            13..15 => Some(Behaviour::Doomed),
            _ => None,
        };
        let clients = (0..rng.usize(1..=3)).map(|client| ops(&mut rng, seed, client, character)).collect();
        let updated = rng.u32(..30) == 0;
        let contained = matches!(character, Some(Behaviour::Run | Behaviour::Job));
        let names = |of: &'_ [String], areas: &[&str]| -> Vec<String> {
            let area = |name: &String| areas.contains(&name.split('.').next().unwrap_or_default());
            of.iter().filter(|name| area(name) && !name.contains("image")).cloned().collect()
        };
        let mut areas = vec!["store", "blob", "bucket", "dispatch", "function"];
        if contained {
            areas.extend(["task", "container"]);
        }
        if updated {
            areas.extend(["target", "archive"]);
        }
        let (cloud, engine) = (names(&failpoints.all, &areas), names(&failpoints.all, &["engine"]));
        let writes = names(&failpoints.writes, &areas);
        let point = |rng: &mut Rng, of: &[String], most: u32| {
            let turn = rng.u32(1..=most);
            (!of.is_empty()).then(|| format!("{}@{turn}", of[rng.usize(..of.len())]))
        };
        let (first, second, of_update) =
            (point(&mut rng, &cloud, 6), point(&mut rng, &cloud, 3), point(&mut rng, &engine, 3));
        // A container that a broken disk keeps from starting has failed to start; a full one it waits for.
        let broken = rng.u32(..4) == 0;
        let failing = point(&mut rng, &writes, 8).map(|point| {
            let error = if broken && !point.starts_with("container") { "eio" } else { "enospc" };
            format!("{point}:{error}")
        });
        let victim = match rng.u32(..10) {
            0..6 => Victim::Cloud,
            6..9 => Victim::Worker(rng.usize(..4)),
            _ => Victim::Spawner,
        };
        let count = rng.usize(1..12);
        let death = match (rng.u32(..20), first, failing) {
            _ if character == Some(Behaviour::Long) => Death::Monitor,
            (0..3, ..) => Death::None,
            (3..10, Some(point), _) => Death::Failpoint(point),
            (10..12, _, Some(point)) => Death::Disk(point),
            (12..14, ..) => Death::Stop { count },
            _ => Death::Answers { count, victim },
        };
        let again = second.filter(|_| death != Death::None && rng.u32(..6) == 0);
        let update = updated.then(|| Update { death: of_update.filter(|_| rng.bool()) });
        Self { seed, clients, death, again, update }
    }
}

fn ops(rng: &mut Rng, seed: u64, client: usize, character: Option<Behaviour>) -> Vec<Op> {
    let keys: Vec<String> = (0..3)
        .map(|n| {
            let behaviour = match (n, character) {
                // Of a container or a failure there is one a client.
                (0, Some(behaviour)) => behaviour,
                (1, _) => Behaviour::Slow,
                _ => Behaviour::Plain,
            };
            format!("s{seed}/c{client}/k{n}.{}", behaviour.suffix())
        })
        .collect();
    let plain = |rng: &mut Rng| keys[rng.usize(1..3)].clone();
    let mut ops: Vec<Op> = (0..rng.usize(2..9))
        .map(|_| match rng.u32(..20) {
            0..7 => Op::Put { key: plain(rng), size: size(rng) },
            7..9 => Op::Multipart { key: plain(rng), parts: parts(rng), end: end(rng) },
            9..12 => Op::Delete { key: plain(rng) },
            12..14 => Op::Copy { from: plain(rng), to: plain(rng) },
            14..16 => Op::Get { key: plain(rng) },
            16..18 => Op::Invoke { waited_for: true, behaviour: invoked(rng) },
            _ => {
                let behaviour = if rng.bool() { Behaviour::Plain } else { Behaviour::Slow };
                Op::Invoke {
                    waited_for: false,
                    behaviour: character.filter(|_| rng.bool()).unwrap_or(behaviour),
                }
            }
        })
        .collect();
    if character.is_some() {
        let at = rng.usize(..=ops.len());
        ops.insert(at, Op::Put { key: keys[0].clone(), size: 10 });
    }
    ops
}

fn size(rng: &mut Rng) -> usize {
    match rng.u32(..10) {
        0 => 0,
        1..6 => rng.usize(1..2000),
        6 => rng.usize(INLINE - 2..INLINE + 2),
        7..9 => rng.usize(INLINE..INLINE * 4),
        _ => rng.usize(1 << 18..1 << 20),
    }
}

fn parts(rng: &mut Rng) -> Vec<usize> {
    // Only the last part may be small, and large ones take time.
    let before = if rng.u32(..12) == 0 { vec![PART] } else { vec![] };
    before.into_iter().chain([rng.usize(1..INLINE * 2)]).collect()
}

fn end(rng: &mut Rng) -> End {
    match rng.u32(..10) {
        0..7 => End::Complete,
        7..9 => End::Abort,
        _ => End::Leave,
    }
}

fn invoked(rng: &mut Rng) -> Behaviour {
    match rng.u32(..6) {
        0..3 => Behaviour::Plain,
        3..5 => Behaviour::Slow,
        _ => Behaviour::Doomed,
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "schedule {}: {:?}, again {:?}, {:?}", self.seed, self.death, self.again, self.update)?;
        for (number, ops) in self.clients.iter().enumerate() {
            writeln!(f, "  client {number}:")?;
            for op in ops {
                writeln!(f, "    {op:?}")?;
            }
        }
        Ok(())
    }
}

#[test]
fn a_schedule_is_a_function_of_its_seed() {
    let all = ["store.commit.synced", "task.run.committed", "engine.state.saved"].map(str::to_owned).to_vec();
    let failpoints = Failpoints { writes: all[..1].to_vec(), all };
    let all: Vec<_> = (0..200).map(|seed| Schedule::of(seed, &failpoints)).collect();
    assert_eq!(all, (0..200).map(|seed| Schedule::of(seed, &failpoints)).collect::<Vec<_>>());
    assert!(all.windows(2).all(|pair| pair[0].clients != pair[1].clients));
}
