//! An error as a person reads it: the code, what happened, why, what to do.

use tandem_model::Report;

use super::{
    style::{Paint, Style},
    text,
};

/// The error in as many lines as it takes.
pub(crate) fn error(report: &Report, style: Style) -> String {
    told("error", Paint::Bad, report, style)
}

/// As [`error`], of what is likely to be wrong and stops nothing.
pub(crate) fn warning(report: &Report, style: Style) -> String {
    told("warning", Paint::Change, report, style)
}

fn told(word: &str, paint: Paint, report: &Report, style: Style) -> String {
    // The heads are measured unpainted.
    let head = format!("{word}[{}]: ", report.code);
    let code = style.paint(paint, &format!("{word}[{}]", report.code));
    let mut lines = hanging(&format!("{code}: "), text::width(&head), &report.message, style);
    for cause in &report.causes {
        let wrapped = text::wrapped(cause, style.width.saturating_sub("  │ ".chars().count()).max(20));
        lines.extend(wrapped.iter().map(|line| format!("  {} {line}", style.paint(Paint::Faint, "│"))));
    }
    if !report.help.is_empty() {
        let head = format!("{}: ", style.paint(Paint::Good, "help"));
        lines.extend(hanging(&head, "help: ".len(), &report.help, style));
    }
    lines.join("\n") + "\n"
}

/// The error as a program reads it, in one line: `{"error": {code, message, help, causes}, "exitCode": 1}`.
pub(crate) fn error_json(report: &Report, exit_code: u8) -> String {
    serde_json::json!({ "error": report, "exitCode": exit_code }).to_string()
}

/// Wrapped text whose later lines begin below the first one's text.
fn hanging(head: &str, indent: usize, body: &str, style: Style) -> Vec<String> {
    // On a narrow terminal a deep indent would leave no room.
    let indent = indent.min(style.width / 4);
    let wrapped = text::wrapped(body, style.width.saturating_sub(indent).max(20));
    let lines = wrapped.into_iter().enumerate();
    lines
        .map(|(n, line)| if n == 0 { format!("{head}{line}") } else { format!("{:indent$}{line}", "") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_why_and_what_to_do() {
        let report = Report {
            code: "E0402".into(),
            message:
                "cannot create task/ffmpeg: building the image failed at step 3/5: RUN pip install awscli"
                    .into(),
            help: "mend that instruction and run `tandem up` again".into(),
            causes: vec!["error: externally-managed-environment".into(), "exit status 1".into()],
        };
        insta::assert_snapshot!(error(&report, Style::PLAIN), @"
        error[E0402]: cannot create task/ffmpeg: building the image failed at step 3/5:
                      RUN pip install awscli
          │ error: externally-managed-environment
          │ exit status 1
        help: mend that instruction and run `tandem up` again
        ");
    }
}
