//! Streams against a model, with random interleavings, restarts, and a clock that only the test moves.

use std::sync::atomic::Ordering;

use proptest::prelude::*;
use serde_json::json;
use tandem_model::inputs::StartingPosition;

use super::{Fixture, HOUR, texts};

const SHARDS: u32 = 3;
const KEYS: [&str; 5] = ["ant", "bee", "cat", "dog", "elk"];

#[derive(Debug, Clone)]
enum Step {
    /// Puts that are under way at once, each of some records: which keys.
    Put(Vec<Vec<usize>>),
    Read {
        shard: u32,
        back: u64,
    },
    Since {
        shard: u32,
        back: u64,
    },
    Pass(u64),
    Expire,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let put = proptest::collection::vec(proptest::collection::vec(0..KEYS.len(), 1..6), 1..5);
    let step = prop_oneof![
        5 => put.prop_map(Step::Put),
        4 => (0..SHARDS, 0..40u64).prop_map(|(shard, back)| Step::Read { shard, back }),
        2 => (0..SHARDS, 0..3 * HOUR).prop_map(|(shard, back)| Step::Since { shard, back }),
        3 => prop_oneof![1..1000u64, Just(HOUR / 2), Just(HOUR)].prop_map(Step::Pass),
        1 => Just(Step::Expire),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..50)
}

/// A record by the rules of streams alone.
#[derive(Debug, Clone, PartialEq)]
struct Expected {
    number: u64,
    arrived: u64,
    data: String,
}

async fn run(steps: &[Step]) {
    let mut f = Fixture::new().await;
    f.create("s", json!({ "shards": SHARDS, "retention": 2 })).await.unwrap();
    let mut model: Vec<Vec<Expected>> = vec![Vec::new(); SHARDS as usize];
    let mut count = 0;
    for step in steps {
        let now = f.time.load(Ordering::SeqCst);
        let kept = |expected: &&Expected| expected.arrived > now.saturating_sub(2 * HOUR);
        match step {
            Step::Put(puts) => {
                let mut all = Vec::new();
                for put in puts {
                    let named: Vec<_> = put
                        .iter()
                        .map(|key| {
                            (KEYS[*key], {
                                count += 1;
                                count.to_string()
                            })
                        })
                        .collect();
                    all.push(named);
                }
                let under_way = all.iter().map(|put| {
                    let records: Vec<_> = put.iter().map(|(key, data)| (*key, data.as_str())).collect();
                    let f = &f;
                    async move { f.put("s", &records).await }
                });
                let answers = futures::future::join_all(under_way).await;
                for (answers, put) in answers.iter().zip(&all) {
                    for (answer, (_, data)) in answers.iter().zip(put) {
                        let expected = Expected { number: answer.number, arrived: now, data: data.clone() };
                        model[answer.shard as usize].push(expected);
                    }
                }
                for shard in &mut model {
                    shard.sort_by_key(|expected| expected.number);
                    assert!(
                        shard.windows(2).all(|pair| pair[0].number < pair[1].number),
                        "a number was given twice"
                    );
                }
                // Of one put, those of a key are in its order.
                for (answers, put) in answers.iter().zip(&all) {
                    for key in KEYS {
                        let of_key: Vec<_> = answers
                            .iter()
                            .zip(put)
                            .filter(|(_, (k, _))| *k == key)
                            .map(|(put, _)| put)
                            .collect();
                        assert!(
                            of_key.windows(2).all(|p| p[0].shard == p[1].shard && p[0].number < p[1].number)
                        );
                    }
                }
            }
            Step::Read { shard, back } => {
                let of_shard = &model[*shard as usize];
                let from = of_shard.last().map_or(0, |last| (last.number + 1).saturating_sub(*back));
                let expected: Vec<_> = of_shard
                    .iter()
                    .filter(kept)
                    .filter(|e| e.number >= from)
                    .map(|e| e.data.clone())
                    .collect();
                assert_eq!(texts(&f.read("s", *shard, from).await), expected);
            }
            Step::Since { shard, back } => {
                let time = now.saturating_sub(*back);
                let position = StartingPosition::At(jiff::Timestamp::from_millisecond(time as i64).unwrap());
                let from = f.at("s", *shard, position).await;
                let expected: Vec<_> = model[*shard as usize]
                    .iter()
                    .filter(kept)
                    .filter(|e| e.arrived >= time)
                    .map(|e| e.data.clone())
                    .collect();
                assert_eq!(texts(&f.read("s", *shard, from).await), expected, "since {time}");
            }
            Step::Pass(milliseconds) => f.pass(*milliseconds),
            Step::Expire => {
                f.streams.expire("s").await.unwrap();
                let left = model.iter().flatten().filter(kept).count();
                assert_eq!(f.streams.count("s").await.unwrap(), left as u64);
            }
            Step::Restart => f = f.restarted().await,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn a_stream_does_what_the_model_says(steps in steps()) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run(&steps));
    }
}
