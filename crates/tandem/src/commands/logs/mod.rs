//! `tandem logs`: what functions and containers printed.

mod moment;
mod source;

use std::collections::BTreeSet;

use clap_complete::engine::ArgValueCandidates;
use futures::StreamExt;
use jiff::{Timestamp, Zoned};
use tandem_cloud::log::{self, Filter, Line, Stream};
use tandem_engine::Stacks;
use tandem_model::{Kind, Report, StackId, Urn};
use tandem_program::Project;
use tandem_server::{Client, ClientError, wire};

use self::{moment::Moment, source::Source};
use super::stack::StackError;
use crate::{
    complete,
    exit::Failure,
    place::Place,
    ui::{OutputError, Paint, Style, Terminal, harmless, padded, width},
};

/// Prints what the stack's functions and containers printed, in the order of time.
///
/// A line shows its time, its function, task or service, the last digits of its request, run or replica, and its text.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Only of this function, task or service: `resize`, or `function/resize`
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(complete::sources))]
    name: Option<String>,
    /// The same, as an option
    #[arg(long, value_name = "NAME", conflicts_with = "name", hide = true)]
    resource: Option<String>,
    /// Go on with the lines to come, until Ctrl-C
    #[arg(short, long, conflicts_with = "until")]
    follow: bool,
    /// Only what is younger: an age (`90s`, `10m`, `2h`, `1d`) or a time (`14:30`, `2026-05-01`, RFC 3339)
    #[arg(long, value_name = "WHEN")]
    since: Option<Moment>,
    /// Only what is older
    #[arg(long, value_name = "WHEN")]
    until: Option<Moment>,
    /// Only of this request of a function; its last digits are enough
    #[arg(long, value_name = "ID", group = "one")]
    request: Option<String>,
    /// Only of this run of a task; its last digits are enough. With --follow, until it ends
    #[arg(long, value_name = "ID", group = "one")]
    run: Option<String>,
    /// Only of this replica of a service; its last digits are enough, or the name of one of several containers
    #[arg(long, value_name = "ID", group = "one")]
    replica: Option<String>,
    /// Of any
    #[arg(long, value_name = "ID", group = "one", hide = true)]
    id: Option<String>,
    /// Only the last so many lines
    #[arg(short = 'n', long, value_name = "LINES")]
    tail: Option<usize>,
}

const EXAMPLES: &str = "\
Examples:
  tandem logs -f                         everything, as it comes
  tandem logs resize --since 10m         one function, the last ten minutes
  tandem logs --run 1f3a9c02 -f          one run, until it ends
  tandem logs -n 100 --json              the last hundred lines, as JSON";

pub(crate) async fn run(terminal: &Terminal, place: Place, args: Args) -> Result<(), Failure> {
    let stack = place.stack_of(&Project::find(&place.folder)?);
    let stacks = Stacks::new(place.home.stacks());
    if !stacks.exists(&stack) {
        return Err(StackError::NoStack { stack }.into());
    }
    // With what an update under way is about to make.
    let (state, _) = stacks.read(&stack)?.foreseen();
    let mut known: BTreeSet<Urn> = state.resources.into_keys().collect();
    known.extend(log::kept(&place.home, &stack)?);
    let source = args.name.or(args.resource).map(|name| Source::from(name.as_str()));
    if let Some(source) = &source {
        source.check(&stack, known.iter())?;
    }
    let filter = {
        let of_request = args.request.is_some().then_some(Kind::Function);
        let of_run = args.run.is_some().then_some(Kind::Task);
        let of_replica = args.replica.is_some().then_some(Kind::Service);
        let now = Timestamp::now();
        Filter {
            stack: Some(stack),
            kind: source.as_ref().and_then(|source| source.kind).or(of_request).or(of_run).or(of_replica),
            resource: source.map(|source| source.name),
            id: args.request.or(args.run).or(args.replica).or(args.id),
            since: args.since.map(|since| since.before(now)),
            until: args.until.map(|until| until.before(now)),
            tail: args.tail,
        }
    };
    let style = terminal.data_style();
    let column = known.iter().map(|urn| width(urn.name.as_str())).max().unwrap_or(0).clamp(4, 24);
    let today = Zoned::now();
    let mut lines = 0_usize;
    let print = |line: &Line| {
        lines += 1;
        terminal.feed(&if terminal.json() { record(line) } else { shown(line, column, &today, style) })
    };
    stream(&place.client(), filter, args.follow, print).await?;
    if lines == 0 && !args.follow {
        terminal.note("Nothing that was printed is kept, or nothing matches.");
    }
    Ok(())
}

/// Gives each line to `print`, until there are no more or nobody reads them.
pub(super) async fn stream(
    client: &Client,
    filter: Filter,
    follow: bool,
    mut print: impl FnMut(&Line) -> Result<(), OutputError>,
) -> Result<(), Failure> {
    let mut lines = client.stream::<Line>("/v1/logs", &wire::Logs { filter, follow }).await?;
    while let Some(line) = lines.next().await {
        match line {
            Ok(line) => match print(&line) {
                Err(OutputError::Closed) => return Ok(()),
                printed => printed?,
            },
            // The cloud was stopped, and said so by ending its answer.
            Err(ClientError::Broken { .. }) if follow => return Err(stopped()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn stopped() -> Failure {
    Failure::report(Report {
        code: "E0301".into(),
        message: "the cloud ended while its log was followed".into(),
        help: "start it again with `tandem serve --detach`".into(),
        causes: vec![],
    })
}

/// The filter for the log of one run.
pub(super) fn of_run(stack: &StackId, id: &str) -> Filter {
    Filter { stack: Some(stack.clone()), id: Some(id.to_owned()), ..Filter::default() }
}

fn record(line: &Line) -> String {
    format!("{}\n", serde_json::to_string(line).expect("a line is texts"))
}

/// A line for people. Its date is shown unless it is of today.
fn shown(line: &Line, column: usize, today: &Zoned, style: Style) -> String {
    let time = line.time.to_zoned(today.time_zone().clone());
    let form = if time.date() == today.date() { "%H:%M:%S%.3f" } else { "%Y-%m-%d %H:%M:%S%.3f" };
    let time = time.strftime(form).to_string();
    // Ids of requests begin with their time: it is the end that tells them apart.
    let id = &line.id[line.id.len().saturating_sub(8)..];
    let text = visible(&line.text);
    let text = match line.stream {
        Stream::Stdout | Stream::Stderr => text,
        Stream::System => style.paint(Paint::Change, &text),
    };
    let name = padded(line.resource.name.as_str(), column);
    let head = style.paint(Paint::Faint, &format!("{time}  {name}  {id:<8}"));
    format!("{head}  {text}\n")
}

/// What a terminal would show in the end: a program that redraws its progress returns to the start of the line.
pub(super) fn visible(text: &str) -> String {
    harmless(text.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_line_that_is_redrawn_the_last_state_is_shown() {
        assert_eq!(visible("10%\r50%\r100%\r"), "100%");
        assert_eq!(visible("plain"), "plain");
    }

    #[test]
    fn a_line_names_its_source_and_the_last_digits_of_its_id() {
        let line = Line {
            time: "2026-05-01T10:00:00.5Z".parse().unwrap(),
            resource: "urn:tandem:p:dev:function:resize".parse().unwrap(),
            stream: Stream::Stdout,
            id: "0123456789".into(),
            text: "hello".into(),
        };
        let today = |time: &str| time.parse::<Timestamp>().unwrap().to_zoned(jiff::tz::TimeZone::UTC);
        let at = |time: &str| shown(&line, 10, &today(time), Style::PLAIN);
        assert_eq!(at("2026-05-01T23:00:00Z"), "10:00:00.500  resize      23456789  hello\n");
        assert_eq!(at("2026-05-02T01:00:00Z"), "2026-05-01 10:00:00.500  resize      23456789  hello\n");
    }
}
