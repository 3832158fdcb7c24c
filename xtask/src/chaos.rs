//! `chaos`: the schedules of the chaos test, more of them or one.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{base_image, process, setup, tree};

pub(crate) const HELP: &str = "\
usage: cargo xtask chaos [--seed N] [--from N] [--schedules N] [--for TIME]

Runs schedules of random work in which the cloud and its processes are killed, and checks every promise afterwards.
A schedule is a function of its seed. A failing one is printed, with the command that repeats it alone. Needs root.

  --seed N       this schedule only
  --from N       begin with this seed; otherwise with one that the time gives, so that each start tries others
  --schedules N  so many; 1000 unless a time is given
  --for TIME     for so long: 90s, 30m, 8h
";

#[derive(Debug, PartialEq, Eq)]
struct Asked {
    first: Option<u64>,
    count: u64,
    /// 0: no bound.
    seconds: u64,
}

pub(crate) fn main(arguments: &[String]) -> Result<()> {
    let asked = parse(arguments)?;
    setup::ensure()?;
    if !setup::is_root()? {
        bail!("the chaos test starts containers and sandboxes: run it as root");
    }
    let first = match asked.first {
        Some(first) => first,
        None => std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs() * 1000,
    };
    let cargo = tree::cargo();
    let busybox = base_image::busybox()?;
    process::run(Command::new(&cargo).args(["build", "--workspace", "--bin", "tandem"]))?;
    let mut test = Command::new(&cargo);
    // The profile has no bound on a test's time.
    test.args(["nextest", "run", "--workspace", "--profile", "chaos", "--no-capture"]);
    test.args(["-E", "package(tandem-e2e) & test(chaos::whatever)"]);
    test.env("TANDEM_CHAOS", format!("{first},{},{}", asked.count, asked.seconds));
    test.env("TANDEM_BIN", tree::target()?.join("debug/tandem")).env("TANDEM_TEST_BUSYBOX_IMAGE", busybox);
    process::run(&mut test)
}

fn parse(arguments: &[String]) -> Result<Asked> {
    let mut asked = Asked { first: None, count: 0, seconds: 0 };
    let mut words = arguments.iter();
    while let Some(option) = words.next() {
        let value = words.next().with_context(|| format!("`{option}` needs a value\n\n{HELP}"))?;
        let number = || value.parse::<u64>().with_context(|| format!("`{value}` is not a number"));
        match option.as_str() {
            "--seed" => (asked.first, asked.count) = (Some(number()?), 1),
            "--from" => asked.first = Some(number()?),
            "--schedules" => asked.count = number()?,
            "--for" => asked.seconds = seconds(value)?,
            _ => bail!("there is no option `{option}`\n\n{HELP}"),
        }
    }
    if asked.count == 0 {
        asked.count = if asked.seconds == 0 { 1000 } else { 1 << 40 };
    }
    Ok(asked)
}

fn seconds(text: &str) -> Result<u64> {
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        _ => bail!("`{text}` is no time: write 90s, 30m or 8h"),
    };
    let number: u64 = text[..text.len() - 1].parse().with_context(|| format!("`{text}` is no time"))?;
    Ok(number * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Asked {
        parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn a_seed_is_one_schedule_and_a_time_bounds_their_number() {
        assert_eq!(parsed("--seed 7"), Asked { first: Some(7), count: 1, seconds: 0 });
        assert_eq!(parsed(""), Asked { first: None, count: 1000, seconds: 0 });
        assert_eq!(parsed("--for 30m --from 5"), Asked { first: Some(5), count: 1 << 40, seconds: 1800 });
        assert!(parse(&["--for".to_owned(), "30".to_owned()]).is_err());
        assert!(parse(&["--sed".to_owned(), "30".to_owned()]).is_err());
    }
}
