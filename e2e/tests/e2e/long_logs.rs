//! A container that prints more than is kept: its end is there, and it is told that older lines are gone.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::MetadataExt,
    path::PathBuf,
};

use crate::harness::Cloud;

/// Four times 44 MiB, in lines with numbers, with time to look in between; and a failure.
const SCRIPT: &str = r#"
    for round in 0 1 2 3; do
        busybox awk -v from=${round}0000 'BEGIN { pad = sprintf("%8000s", ""); gsub(" ", "x", pad);
            for (n = 0; n < 5600; n++) print "line " from + n " " pad }'
        sleep 1
    done
    echo the reason >&2; exit 3"#;

#[test]
fn of_a_log_that_grows_the_end_is_kept_without_a_gap_and_the_rest_is_told_to_be_gone() {
    let cloud = Cloud::new();
    let _serving = cloud.serve();
    cloud.import_busybox();
    let program = format!(
        "const cloud = require('@tandem/cloud');\n\
         new cloud.Task('talk', {{ image: 'docker.io/library/busybox', command: ['sh', '-c', {SCRIPT:?}] }});\n"
    );
    let project = cloud.project("long", &[("index.js", &program)]);
    project.up();
    let id = project.tandem(&["run", "talk", "--detach"]).ok().value().to_owned();
    let ended = project.tandem(&["runs", "wait", &id]);
    assert!(ended.all().contains("the reason"), "the last lines are those of the end");

    let log = |end: &str| cloud.home().join(format!("containers/logs/{id}.log{end}"));
    let (mut numbers, mut begun): (Vec<u32>, String) = Default::default();
    let inode = |file: &PathBuf| fs::metadata(file).unwrap().ino();
    let newest =
        [log(".now"), log("")].into_iter().filter(|file| *file == log("") || inode(file) != inode(&log("")));
    for file in std::iter::once(log(".before")).chain(newest) {
        for record in BufReader::new(fs::File::open(file).unwrap()).split(b'\n') {
            let record = String::from_utf8(record.unwrap()).unwrap();
            let [_, stream, tag, text] = record.splitn(4, ' ').collect::<Vec<_>>()[..] else {
                panic!("{record}")
            };
            begun += text;
            if tag == "F" && stream == "stdout" {
                // The first one has lost its beginning with the file before.
                let number: Option<u32> =
                    begun.strip_prefix("line ").and_then(|rest| rest.split(' ').next()?.parse().ok());
                numbers.extend(number);
            }
            if tag == "F" {
                begun.clear();
            }
        }
    }
    let next = |n: u32| if n % 10_000 == 5_599 { n - 5_599 + 10_000 } else { n + 1 };
    let gap = numbers.windows(2).find(|pair| pair[1] != next(pair[0]));
    assert_eq!(gap, None, "a line is missing");
    assert_eq!(numbers.last(), Some(&35_599));
    assert!(
        numbers.len() > 14_000 && numbers[0] > 0,
        "{} lines are kept, from {}",
        numbers.len(),
        numbers[0]
    );

    let shown = project.tandem(&["logs", "talk", "--tail", "3"]).ok();
    assert!(
        shown.stdout.contains("the reason"),
        "{}",
        &shown.stdout[shown.stdout.len().saturating_sub(400)..]
    );
    let told = project.tandem(&["logs", "talk", "--since", "1h"]).ok();
    assert_eq!(told.stdout.matches("the log has grown: ").count(), 1);
    project.destroy();
    assert_eq!(fs::read_dir(cloud.home().join("containers/logs")).unwrap().count(), 0);
}
