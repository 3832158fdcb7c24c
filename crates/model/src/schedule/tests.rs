//! Cron expressions in both forms, over both changes of the clock.

use jiff::{Timestamp, ToSpan};
use proptest::prelude::*;

use super::{Schedule, ScheduleError};
use crate::Explain;

fn moment(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn cron(text: &str) -> Schedule {
    Schedule::cron(text, None).unwrap()
}

/// The next ticks after a moment, without the seconds.
fn ticks(schedule: &Schedule, after: &str, count: usize) -> Vec<String> {
    let mut after = moment(after);
    let mut ticks = Vec::new();
    while ticks.len() < count {
        let Some(tick) = schedule.next(after) else { break };
        assert!(tick > after);
        ticks.push(tick.to_string().trim_end_matches(":00Z").to_owned());
        after = tick;
    }
    ticks
}

#[test]
fn fields_of_a_crontab() {
    let begin = "2026-11-26T10:07:30Z"; // A Thursday.
    for (text, expected) in [
        ("*/15 * * * *", "2026-11-26T10:15 2026-11-26T10:30"),
        ("5 4 * * *", "2026-11-27T04:05 2026-11-28T04:05"),
        ("0 0 * * 0", "2026-11-29T00:00 2026-12-06T00:00"),
        ("0 0 * * 7", "2026-11-29T00:00 2026-12-06T00:00"),
        ("0 9 * * 0-7", "2026-11-27T09:00 2026-11-28T09:00"),
        ("0 9 * * mon-fri", "2026-11-27T09:00 2026-11-30T09:00"),
        ("0 9 * * FRI-SUN", "2026-11-27T09:00 2026-11-28T09:00"),
        ("0 9 1 jan,JUL *", "2027-01-01T09:00 2027-07-01T09:00"),
        ("0 0 13 * 5", "2026-11-27T00:00 2026-12-04T00:00"),
        ("10-20/5 0 1 * *", "2026-12-01T00:10 2026-12-01T00:15"),
        ("0 0 29 2 *", "2028-02-29T00:00 2032-02-29T00:00"),
        ("0 12 L * *", "2026-11-30T12:00 2026-12-31T12:00"),
        ("0 12 * * 5L", "2026-11-27T12:00 2026-12-25T12:00"),
        ("0 12 * * 2#2", "2026-12-08T12:00 2027-01-12T12:00"),
        ("@daily", "2026-11-27T00:00 2026-11-28T00:00"),
        ("@hourly", "2026-11-26T11:00 2026-11-26T12:00"),
    ] {
        assert_eq!(ticks(&cron(text), begin, 2).join(" "), expected, "{text}");
    }
}

/// The examples of AWS's page, and what it says of each wildcard.
#[test]
fn fields_of_aws() {
    let begin = "2026-11-26T10:07:30Z";
    for (text, expected) in [
        ("cron(0 10 * * ? *)", "2026-11-27T10:00 2026-11-28T10:00"),
        ("cron(15 12 * * ? *)", "2026-11-26T12:15 2026-11-27T12:15"),
        ("cron(0 18 ? * MON-FRI *)", "2026-11-26T18:00 2026-11-27T18:00"),
        ("cron(0 8 1 * ? *)", "2026-12-01T08:00 2027-01-01T08:00"),
        ("cron(0/15 * * * ? *)", "2026-11-26T10:15 2026-11-26T10:30"),
        ("cron(0/10 * ? * MON-FRI *)", "2026-11-26T10:10 2026-11-26T10:20"),
        ("cron(0/5 8-17 ? * MON-FRI *)", "2026-11-26T10:10 2026-11-26T10:15"),
        ("cron(1/10 * * * ? *)", "2026-11-26T10:11 2026-11-26T10:21"),
        // 1 is Sunday.
        ("cron(0 0 ? * 1 *)", "2026-11-29T00:00 2026-12-06T00:00"),
        ("cron(0 0 ? * 7 *)", "2026-11-28T00:00 2026-12-05T00:00"),
        ("cron(0 0 ? * 2-6 *)", "2026-11-27T00:00 2026-11-30T00:00"),
        ("cron(0 0 ? * 3#2 *)", "2026-12-08T00:00 2027-01-12T00:00"),
        ("cron(0 0 ? * 6L *)", "2026-11-27T00:00 2026-12-25T00:00"),
        ("cron(0 0 ? * L *)", "2026-11-28T00:00 2026-12-05T00:00"),
        ("cron(0 0 ? * FRI-SUN *)", "2026-11-27T00:00 2026-11-28T00:00"),
        ("cron(0 0 L * ? *)", "2026-11-30T00:00 2026-12-31T00:00"),
        ("cron(0 0 LW * ? *)", "2026-11-30T00:00 2026-12-31T00:00"),
        // The 3rd of January 2027 is a Sunday.
        ("cron(0 0 3W * ? *)", "2026-12-03T00:00 2027-01-04T00:00"),
        ("cron(30 9 1 1 ? 2027-2028)", "2027-01-01T09:30 2028-01-01T09:30"),
        ("cron(30 9 1 1 ? 2027)", "2027-01-01T09:30"),
        // As `@pulumi/cloud` passes it on.
        ("0 12 ? * MON *", "2026-11-30T12:00 2026-12-07T12:00"),
    ] {
        assert_eq!(ticks(&cron(text), begin, 2).join(" "), expected, "{text}");
    }
}

#[test]
fn a_rate_is_an_interval() {
    assert_eq!(ticks(&cron("rate(5 minutes)"), "2026-11-26T10:07:00Z", 1), ["2026-11-26T10:12"]);
    assert_eq!(ticks(&cron("rate(1 day)"), "2026-11-26T10:07:00Z", 1), ["2026-11-27T10:07"]);
    assert_eq!(cron("rate(1 hour)").to_string(), "every 1h");
    for text in [
        "rate(1 minutes)",
        "rate(5 minute)",
        "rate(5)",
        "rate(x days)",
        "rate(2 weeks)",
        "rate(0 days)",
        "rate(5 days",
    ] {
        let code = Schedule::cron(text, None).map(|s| s.to_string()).unwrap_err().code();
        assert!(["E0670", "E0672"].contains(&code), "{text}: {code}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    for (text, expected) in [
        ("", "it has 0 fields; a crontab's have five, and AWS's six"),
        ("* * * *", "it has 4 fields"),
        ("0 * * * * * *", "it has 7 fields"),
        ("cron(* * * * *)", "within `cron(…)` there are six fields, not 5"),
        ("cron(0 0 * * ? *", "a `)` is missing"),
        ("60 * * * *", "the minute is 0 to 59, not `60`"),
        ("* 24 * * *", "the hour is 0 to 23, not `24`"),
        ("* * 0 * *", "the day of the month is 1 to 31"),
        ("* * * 13 *", "the month is 1 to 12, or JAN to DEC, not `13`"),
        ("* * * * 8", "the day of the week is 0 to 7"),
        ("* * * * MONDAY", "the day of the week is 0 to 7"),
        ("1,,2 * * * *", "the minute is 0 to 59, not ``"),
        ("*/0 * * * *", "what follows the `/` in the minute is a whole number above zero, not `0`"),
        ("5/10 * * * *", "the minute `5/10` has no end; write `5-59/10`"),
        ("20-10 * * * *", "the minute `20-10` ends before it begins"),
        ("0 0 ? * *", "the day of the month is 1 to 31"),
        ("0 0 * * L", "the day of the week is 0 to 7"),
        ("+1 * * * *", "the minute is 0 to 59, not `+1`"),
        ("@reboot", "there are @yearly"),
        ("cron(0 0 * * * *)", "exactly one of the day of the month and the day of the week is `?`"),
        ("cron(0 0 ? * ? *)", "exactly one of"),
        ("cron(0 0 1 * MON *)", "exactly one of"),
        ("cron(0 0 ? * 0 *)", "the day of the week is 1 to 7 from Sunday on"),
        ("cron(0 0 ? * 8 *)", "the day of the week is 1 to 7 from Sunday on"),
        ("cron(0 0 ? * 3#1,6#3 *)", "a day of the week with `#` stands alone"),
        ("cron(0 0 ? * 3#6 *)", "the day of the week is 1 to 7"),
        ("cron(0 0 1 1 ? 1969)", "the year is 1970 to 2199, not `1969`"),
    ] {
        match Schedule::cron(text, None) {
            Err(ScheduleError::Cron { wrong, .. }) => assert!(wrong.contains(expected), "{text}: {wrong}"),
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn an_expression_that_never_comes_true_is_refused() {
    for text in ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "cron(0 0 29 2 ? 2027)", "cron(0 0 30 FEB ? *)"] {
        let begun = std::time::Instant::now();
        assert!(matches!(Schedule::cron(text, None), Err(ScheduleError::Never { .. })), "{text}");
        assert!(begun.elapsed().as_secs() < 5, "{text}");
    }
}

#[test]
fn intervals_and_moments_have_their_bounds() {
    for seconds in [0.0, -1.0, 0.999, f64::NAN, f64::INFINITY, 1e300] {
        assert_eq!(Schedule::every(seconds).map(|s| s.to_string()).unwrap_err().code(), "E0672", "{seconds}");
    }
    assert_eq!(ticks(&Schedule::every(90.0).unwrap(), "2026-11-26T10:00:30Z", 1), ["2026-11-26T10:02"]);
    let once = Schedule::at("2026-11-26T11:00:00+01:00").unwrap();
    assert_eq!(ticks(&once, "2026-11-26T09:00:00Z", 2), ["2026-11-26T10:00"]);
    assert_eq!(Schedule::at("tomorrow").map(|s| s.to_string()).unwrap_err().code(), "E0674");
    assert_eq!(
        Schedule::cron("@daily", Some("Mars/Olympus")).map(|s| s.to_string()).unwrap_err().code(),
        "E0673"
    );
}

/// In Berlin the clock goes from 2 to 3 on 29 March 2026, at 01:00 UTC.
#[test]
fn a_time_that_the_clock_leaves_out_ticks_once_when_it_goes_on() {
    let berlin = |text| Schedule::cron(text, Some("Europe/Berlin")).unwrap();
    let before = "2026-03-28T12:00:00Z";
    assert_eq!(
        ticks(&berlin("30 2 * * *"), before, 3),
        ["2026-03-29T01:00", "2026-03-30T00:30", "2026-03-31T00:30"]
    );
    // All that is left out is one tick, also with one that is due just then.
    assert_eq!(
        ticks(&berlin("*/20 2,3 * * *"), before, 5),
        ["2026-03-29T01:00", "2026-03-29T01:20", "2026-03-29T01:40", "2026-03-30T00:00", "2026-03-30T00:20"]
    );
    // Every hour: no hour passes that has none.
    assert_eq!(
        ticks(&berlin("30 * * * *"), "2026-03-28T23:45:00Z", 3),
        ["2026-03-29T00:30", "2026-03-29T01:30", "2026-03-29T02:30"]
    );
    assert_eq!(ticks(&Schedule::every(86400.0).unwrap(), before, 1), ["2026-03-29T12:00"]);
}

/// In Berlin the clock goes from 3 back to 2 on 25 October 2026, at 01:00 UTC.
#[test]
fn a_time_that_comes_twice_ticks_the_first_time() {
    let berlin = |text| Schedule::cron(text, Some("Europe/Berlin")).unwrap();
    let before = "2026-10-24T12:00:00Z";
    assert_eq!(
        ticks(&berlin("30 2 * * *"), before, 3),
        ["2026-10-25T00:30", "2026-10-26T01:30", "2026-10-27T01:30"]
    );
    assert_eq!(
        ticks(&berlin("0,30 2,3 * * *"), before, 5),
        ["2026-10-25T00:00", "2026-10-25T00:30", "2026-10-25T02:00", "2026-10-25T02:30", "2026-10-26T01:00"]
    );
    // Asked in the second of the two hours, it is over.
    assert_eq!(ticks(&berlin("30 2 * * *"), "2026-10-25T01:10:00Z", 1), ["2026-10-26T01:30"]);
    assert_eq!(
        ticks(&berlin("30 * * * *"), "2026-10-24T23:45:00Z", 3),
        ["2026-10-25T00:30", "2026-10-25T01:30", "2026-10-25T02:30"]
    );
}

#[test]
fn the_latest_of_a_year_that_was_missed_is_found() {
    let now = moment("2027-11-26T10:07:30Z");
    for (text, expected) in [
        ("* * * * *", Some("2027-11-26T10:07:00Z")),
        ("0 12 * * *", Some("2027-11-25T12:00:00Z")),
        ("0 0 1 1 *", Some("2027-01-01T00:00:00Z")),
        ("*/7 2 3 * *", Some("2027-11-03T02:56:00Z")),
        ("0 0 29 2 *", None),
    ] {
        let latest = cron(text).latest(moment("2026-11-26T10:07:30Z"), now);
        assert_eq!(latest, expected.map(moment), "{text}");
    }
    let every = Schedule::every(7.0).unwrap();
    assert_eq!(every.latest(now - 20.seconds(), now), Some(now - 6.seconds()));
    assert_eq!(every.latest(now - 6.seconds(), now), None);
}

proptest! {
    #[test]
    fn text_of_any_kind_is_read_or_refused(text in "[-0-9A-Z*?/,#@() ]{0,24}") {
        let _ = Schedule::cron(&text, None);
    }

    /// The latest tick is the last of those that come one after the other.
    #[test]
    fn the_latest_is_the_last_that_came(minutes in 1u32..30, hours in "[0-9]|1[0-9]|\\*|\\*/5", span in 1i64..20_000) {
        let schedule = Schedule::cron(&format!("*/{minutes} {hours} * * *"), Some("Europe/Berlin")).unwrap();
        let after = moment("2026-10-20T03:04:05Z");
        let now = after + span.minutes();
        let mut last = None;
        let mut tick = schedule.next(after);
        while let Some(this) = tick.filter(|tick| *tick <= now) {
            last = Some(this);
            tick = schedule.next(this);
        }
        prop_assert_eq!(schedule.latest(after, now), last);
    }
}
