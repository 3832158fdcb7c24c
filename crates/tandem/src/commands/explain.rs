//! `tandem explain E0201`: the page of an error code.

use serde_json::{Value, json};
use tandem_model::Report;

use crate::{
    exit::Failure,
    ui::{self, Terminal},
};

/// Explains an error code: what happened, why, what to do. Without a code, lists all of them.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The code, as printed in brackets after `error`: `E0201`, `0201` or `201`
    code: Option<String>,
}

include!(concat!(env!("OUT_DIR"), "/error_pages.rs"));

pub(crate) fn run(terminal: &Terminal, args: &Args) -> Result<(), Failure> {
    let Some(code) = &args.code else { return list(terminal) };
    let wanted = canonical(code);
    let Some((code, page)) = PAGES.iter().find(|(code, _)| *code == wanted) else {
        return Err(unknown(code, &wanted));
    };
    if terminal.json() {
        return Ok(terminal.record(&record(code, page))?);
    }
    Ok(terminal.data(&ui::page(page, terminal.data_style()))?)
}

fn list(terminal: &Terminal) -> Result<(), Failure> {
    if terminal.json() {
        let all = PAGES.iter().map(|(code, page)| record(code, page));
        return Ok(terminal.record(&Value::from_iter(all))?);
    }
    let rows = PAGES.iter().map(|(code, page)| [(*code).to_owned(), title(code, page).to_owned()]);
    Ok(terminal.data(&ui::table(["CODE", "ERROR"], rows, terminal.data_width()))?)
}

fn record(code: &str, page: &str) -> Value {
    let text = page.split_once('\n').map_or("", |(_, text)| text.trim());
    json!({ "code": code, "title": title(code, page), "text": text })
}

fn title<'a>(code: &str, page: &'a str) -> &'a str {
    let title = page.lines().next().unwrap_or_default().trim_start_matches(['#', ' ']);
    title.strip_prefix(code).unwrap_or(title).trim_start_matches([':', ' '])
}

/// `e201` as `E0201`; what is no number as it is.
fn canonical(code: &str) -> String {
    let upper = code.trim_matches(['[', ']']).to_ascii_uppercase();
    let number = upper.strip_prefix('E').unwrap_or(&upper).parse::<u16>();
    number.map_or(upper.clone(), |number| format!("E{number:04}"))
}

fn unknown(code: &str, wanted: &str) -> Failure {
    let area: Vec<&str> =
        PAGES.iter().map(|(code, _)| *code).filter(|code| code.get(..3) == wanted.get(..3)).collect();
    let help = match (area.first(), area.last()) {
        (Some(first), Some(last)) => {
            format!("those that begin alike go from {first} to {last}; list all with `tandem explain`")
        }
        _ => "list all codes with `tandem explain`".into(),
    };
    Failure::report(Report {
        code: "E0123".into(),
        message: format!("there is no error code `{code}`"),
        help,
        causes: vec![],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_begins_with_its_own_code() {
        for (code, page) in PAGES {
            assert!(page.starts_with(&format!("# {code}: ")), "{code}");
        }
    }

    #[test]
    fn a_code_is_known_with_and_without_its_letter() {
        for code in ["E0201", "e0201", "0201", "201", "[E0201]"] {
            assert_eq!(canonical(code), "E0201");
        }
        assert_eq!(canonical("nonsense"), "NONSENSE");
    }

    #[test]
    fn no_page_has_a_line_wider_than_the_terminal_but_code() {
        for (code, page) in PAGES {
            let shown = ui::page(page, ui::Style { color: false, width: 80 });
            let wide = shown.lines().find(|line| ui::width(line) > 80 && !line.starts_with("    "));
            assert_eq!(wide, None, "{code}");
        }
    }
}
