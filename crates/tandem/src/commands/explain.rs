//! `tandem explain E0201`: the page of an error code.

use std::fmt::Write;

use tandem_model::Report;

use crate::exit::Failure;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The code, as printed in brackets after `error`; none: list all codes
    code: Option<String>,
}

include!(concat!(env!("OUT_DIR"), "/error_pages.rs"));

#[expect(clippy::print_stdout, reason = "the page is the command's data")]
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let Some(code) = &args.code else {
        print!("{}", titles());
        return Ok(());
    };
    let wanted = code.to_ascii_uppercase();
    match PAGES.iter().find(|(code, _)| *code == wanted) {
        Some((_, page)) => {
            print!("{page}");
            Ok(())
        }
        None => Err(Failure::report(Report {
            code: "E0123".into(),
            message: format!("there is no error code `{code}`"),
            help: "list all codes with `tandem explain`".into(),
            causes: vec![],
        })),
    }
}

fn titles() -> String {
    PAGES.iter().fold(String::new(), |mut list, (code, page)| {
        let title = page.lines().next().unwrap_or_default().trim_start_matches(['#', ' ']);
        let title = title.strip_prefix(code).unwrap_or(title).trim_start_matches([':', ' ']);
        let _ = writeln!(list, "{code}  {title}");
        list
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
}
