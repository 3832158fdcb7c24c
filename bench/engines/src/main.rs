//! Embedded stores on our load, one after the other in one run: what counts are the ratios.
//!
//! `tandem-bench-engines [--gib N] [--seconds N] [ENGINE…]`; `--commits ENGINE COUNT` commits so often from one client,
//! to be looked at with `strace -f -c -e trace=fsync,fdatasync,msync,sync_file_range`.

mod engine;
mod engines;
mod load;

use std::{path::Path, time::Duration};

use anyhow::{Context, Result};

use engine::{NAMES, open};

fn main() -> Result<()> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("--grow") => {
            let [_, name, bytes, folder] = &arguments[..] else {
                anyhow::bail!("--grow ENGINE BYTES FOLDER")
            };
            return load::grow_and_go_on(name, bytes.parse()?, Path::new(folder));
        }
        Some("--commits") => {
            let [_, name, count] = &arguments[..] else { anyhow::bail!("--commits ENGINE COUNT") };
            return commit(name, count.parse()?);
        }
        _ => {}
    }
    let gib: f64 = option(&mut arguments, "--gib")?.unwrap_or(1.0);
    let span = Duration::from_secs_f64(option(&mut arguments, "--seconds")?.unwrap_or(3.0));
    let names: Vec<&str> = match arguments.is_empty() {
        true => NAMES.to_vec(),
        false => arguments.iter().map(String::as_str).collect(),
    };
    let mut columns = Vec::new();
    for name in &names {
        eprintln!("measuring {name}");
        columns.push(
            measure(name, span, (gib * (1u64 << 30) as f64) as u64).with_context(|| (*name).to_owned())?,
        );
    }
    print(&names, &columns);
    Ok(())
}

fn option(arguments: &mut Vec<String>, name: &str) -> Result<Option<f64>> {
    let Some(at) = arguments.iter().position(|a| a == name) else { return Ok(None) };
    let value = arguments.get(at + 1).with_context(|| format!("{name} needs a number"))?.parse()?;
    arguments.drain(at..=at + 1);
    Ok(Some(value))
}

fn commit(name: &str, count: usize) -> Result<()> {
    let folder = tempfile::Builder::new().prefix("tandem-engines-").tempdir()?;
    let engine = open(name, folder.path())?;
    for n in 0..count {
        let key = format!("k{n:08}").into_bytes();
        let put = (key.clone(), vec![b'v'; 300]);
        engine.commit(&[engine::Batch { absent: key, puts: vec![put], deletes: vec![] }])?;
    }
    Ok(())
}

/// A figure, and whether more of it is better.
struct Figure {
    what: String,
    value: f64,
    shown: String,
    more: bool,
}

fn rate(what: impl Into<String>, value: f64, unit: &str) -> Figure {
    Figure { what: what.into(), value, shown: format!("{value:.0} {unit}"), more: true }
}

fn time(what: impl Into<String>, value: Duration) -> Figure {
    let value = value.as_secs_f64() * 1000.0;
    Figure { what: what.into(), value, shown: format!("{value:.3} ms"), more: false }
}

fn bytes(what: impl Into<String>, value: u64) -> Figure {
    let mib = value as f64 / (1u64 << 20) as f64;
    Figure { what: what.into(), value: mib, shown: format!("{mib:.0} MiB"), more: false }
}

fn measure(name: &str, span: Duration, grown: u64) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let folder = tempfile::Builder::new().prefix("tandem-engines-").tempdir()?;
    let engine = open(name, folder.path())?;
    for (round, clients) in [1, 4, 16, 64].into_iter().enumerate() {
        let commits = load::commits(&*engine, clients, round * 10_000_000, span)?;
        figures.push(rate(format!("commits, {clients} clients"), commits.per_second, "/s"));
        figures.push(time(format!("  p50, {clients} clients"), commits.p50));
        figures.push(time(format!("  p99, {clients} clients"), commits.p99));
    }
    drop(engine);
    folder.close()?;

    let folder = tempfile::Builder::new().prefix("tandem-engines-").tempdir()?;
    let engine = open(name, folder.path())?;
    figures.push(rate(
        "fill 1,000,000 rows",
        load::ROWS as f64 / load::fill(&*engine)?.as_secs_f64(),
        "rows/s",
    ));
    figures.push(bytes("  on disk (129 MiB of content)", load::size(folder.path())?));
    figures.push(rate("scan 1,000,000 rows", load::scan(&*engine)?, "rows/s"));
    figures.push(time("page of 1,000 rows, p50", load::pages(&*engine)?));
    let queue = load::queue(&*engine, span)?;
    figures.push(rate("queue behind 500,000 deleted", queue.per_second, "messages/s"));
    figures.push(time("  finding the head, p50", queue.head_p50));
    figures.push(time("  finding the head, worst", queue.head_max));
    drop(engine);
    folder.close()?;

    let folder = tempfile::Builder::new().prefix("tandem-engines-").tempdir()?;
    let recovery = load::recovery(name, folder.path(), grown)?;
    figures.push(time(
        format!("open after kill -9, {:.2} GiB", grown as f64 / (1u64 << 30) as f64),
        recovery.open,
    ));
    figures.push(bytes("  on disk", recovery.bytes));
    Ok(figures)
}

/// A table in Markdown; in brackets how many times better than the first engine.
fn print(names: &[&str], columns: &[Vec<Figure>]) {
    println!("| | {} |", names.join(" | "));
    println!("|---|{}", "---:|".repeat(names.len()));
    for (row, first) in columns[0].iter().enumerate() {
        let cells: Vec<String> = columns
            .iter()
            .enumerate()
            .map(|(at, column)| {
                let figure = &column[row];
                let ratio = if first.more { figure.value / first.value } else { first.value / figure.value };
                if at == 0 { figure.shown.clone() } else { format!("{} ({ratio:.2}×)", figure.shown) }
            })
            .collect();
        println!("| {} | {} |", first.what, cells.join(" | "));
    }
}
