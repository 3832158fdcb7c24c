//! `tandem logs`: what functions and containers printed.

use std::{ops::ControlFlow, time::Duration};

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use tandem_cloud::log::{Filter, Line, Stream};
use tandem_model::{Report, StackId};
use tandem_program::Project;
use tandem_server::{Client, ClientError, wire};

use crate::{
    exit::Failure,
    place::Place,
    ui::{Paint, Style, Terminal, harmless},
};

/// Prints what the stack's functions and containers printed, in the order of time.
///
/// A line shows its time, its function or task, the last digits of its request or run, and its text.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Go on with the lines to come, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// Only of this function or task
    name: Option<String>,
    /// The same, as an option
    #[arg(long, value_name = "NAME", conflicts_with = "name", hide = true)]
    resource: Option<String>,
    /// Only of this request or run; its last digits are enough
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Only so young: `90s`, `5m`, `2h`, `1d`
    #[arg(long, value_name = "AGE", value_parser = age)]
    since: Option<Duration>,
    /// Only the last so many
    #[arg(short = 'n', long, value_name = "LINES")]
    tail: Option<usize>,
    /// Print a JSON object a line: time, resource, stream, id, text
    #[arg(long)]
    json: bool,
}

/// An age as people write it.
fn age(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not an age; write for example `5m`");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let (digits, seconds) = match unit {
        's' => (&text[..text.len() - 1], 1),
        'm' => (&text[..text.len() - 1], 60),
        'h' => (&text[..text.len() - 1], 3600),
        'd' => (&text[..text.len() - 1], 24 * 3600),
        _ => (text, 1),
    };
    let amount: u64 = digits.parse().map_err(|_| wrong())?;
    amount.checked_mul(seconds).filter(|s| *s < 1 << 32).map(Duration::from_secs).ok_or_else(wrong)
}

pub(crate) async fn run(place: Place, args: Args) -> Result<(), Failure> {
    let project = Project::find(&place.folder)?;
    let Args { follow, name, resource, id, since, tail, json } = args;
    let since =
        since.map(|age| Timestamp::now() - SignedDuration::try_from(age).unwrap_or(SignedDuration::MAX));
    let filter =
        Filter { stack: Some(place.stack_of(&project)), resource: name.or(resource), id, since, tail };
    let terminal = Terminal::stderr();
    let style = terminal.data_style();
    let print = |line: &Line| terminal.feed(&if json { record(line) } else { shown(line, style) });
    stream(&place.client(), filter, follow, print).await
}

/// Gives each line to `print`, until there are no more or it breaks off.
pub(super) async fn stream(
    client: &Client,
    filter: Filter,
    follow: bool,
    print: impl Fn(&Line) -> ControlFlow<()>,
) -> Result<(), Failure> {
    let mut lines = client.stream::<Line>("/v1/logs", &wire::Logs { filter, follow }).await?;
    while let Some(line) = lines.next().await {
        match line {
            Ok(line) if print(&line).is_break() => return Ok(()),
            Ok(_) => {}
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

fn shown(line: &Line, style: Style) -> String {
    let time = line.time.to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M:%S%.3f").to_string();
    // Ids of requests begin with their time: it is the end that tells them apart.
    let id = &line.id[line.id.len().saturating_sub(8)..];
    let paint = match line.stream {
        Stream::Stdout | Stream::Stderr => None,
        Stream::System => Some(Paint::Change),
    };
    let text = visible(&line.text);
    let text = paint.map_or_else(|| text.clone(), |paint| style.paint(paint, &text));
    let head = style.paint(Paint::Faint, &format!("{time}  {:<16}  {id:<8}", line.resource.name.as_str()));
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
    fn ages_are_read_as_people_write_them() {
        assert_eq!(age("90"), Ok(Duration::from_secs(90)));
        assert_eq!(age("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(age("1d"), Ok(Duration::from_secs(86_400)));
        assert!(age("soon").is_err());
        assert!(age("").is_err());
        assert!(age("99999999999999d").is_err());
    }

    #[test]
    fn of_a_line_that_is_redrawn_the_last_state_is_shown() {
        assert_eq!(visible("10%\r50%\r100%\r"), "100%");
        assert_eq!(visible("plain"), "plain");
    }

    #[test]
    fn a_line_names_its_source_and_the_last_digits_of_its_id() {
        let line = Line {
            time: Timestamp::UNIX_EPOCH,
            resource: "urn:tandem:p:dev:function:resize".parse().unwrap(),
            stream: Stream::Stdout,
            id: "0123456789".into(),
            text: "hello".into(),
        };
        let shown = shown(&line, Style::PLAIN);
        assert!(shown.ends_with("  resize            23456789  hello\n"), "{shown}");
    }
}
