//! Timers as programs declare them.

use super::*;

/// What the first resource of that name was registered with: the timer.
async fn inputs(statement: &str) -> Value {
    let cloud = Arc::new(Recording::default());
    let source = format!("const cloud = require('@pulumi/cloud');\n{statement};");
    deploy_with(files(&[("index.js", &source)]), &cloud).await.unwrap();
    assert_eq!(cloud.registered(), ["timer/t", "function/t", "subscription/t"], "{statement}");
    cloud.args("t")["inputs"].clone()
}

#[tokio::test]
async fn each_kind_of_timer_is_an_interval_a_cron_expression_or_a_moment() {
    for (statement, expected) in [
        ("cloud.timer.interval('t', { minutes: 1, seconds: 30.5 }, () => {})", json!({ "every": 90.5 })),
        ("cloud.timer.interval('t', { weeks: 1, days: 1, hours: 1 }, () => {})", json!({ "every": 694_800 })),
        ("cloud.timer.cron('t', '@daily', () => {})", json!({ "cron": "@daily" })),
        (
            "cloud.timer.cron('t', '0 12 * * *', () => {}, { timeZone: 'Europe/Berlin' })",
            json!({ "cron": "0 12 * * *", "timeZone": "Europe/Berlin" }),
        ),
        ("cloud.timer.daily('t', () => {})", json!({ "cron": "0 0 * * *" })),
        ("cloud.timer.daily('t', { hourUTC: 7, minuteUTC: 30 }, () => {})", json!({ "cron": "30 7 * * *" })),
        (
            "cloud.timer.daily('t', { hour: 7 }, () => {}, { timeZone: 'Asia/Tokyo', dependsOn: [] })",
            json!({ "cron": "0 7 * * *", "timeZone": "Asia/Tokyo" }),
        ),
        (
            "cloud.timer.daily('t', () => {}, { timeZone: 'Asia/Tokyo' })",
            json!({ "cron": "0 0 * * *", "timeZone": "Asia/Tokyo" }),
        ),
        ("cloud.timer.hourly('t', () => {})", json!({ "cron": "0 * * * *" })),
        ("cloud.timer.hourly('t', { minuteUTC: 5 }, () => {})", json!({ "cron": "5 * * * *" })),
        ("cloud.timer.at('t', new Date(0), () => {})", json!({ "at": "1970-01-01T00:00:00.000Z" })),
        ("cloud.timer.at('t', '2027-01-01T00:00:00Z', () => {})", json!({ "at": "2027-01-01T00:00:00Z" })),
    ] {
        let mut found = inputs(statement).await;
        found.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        // Numbers of JavaScript are whole or not by how they are written.
        let same = match (found["every"].as_f64(), expected["every"].as_f64()) {
            (Some(found), Some(expected)) => found.to_bits() == expected.to_bits(),
            _ => found == expected,
        };
        assert!(same, "{statement}: {found}");
    }
}

#[tokio::test]
async fn a_handler_gets_the_tick_a_function_the_event_and_a_task_is_named() {
    let source = "const cloud = require('@tandem/cloud');
        cloud.timer.daily('f', async ({ timer, scheduledTime }, context) => [timer, scheduledTime, context.requestId]);";
    let data = json!({ "timer": "f", "scheduledTime": "2027-01-01T00:00:00Z" });
    let found = invoke(source, json!({ "type": "dev.tandem.timer.tick", "data": data })).await.unwrap();
    assert_eq!(found, json!(["f", "2027-01-01T00:00:00Z", "r-1"]));
    let cloud = Arc::new(Recording::default());
    let source = "const cloud = require('@tandem/cloud');
        const task = new cloud.Task('work', { image: 'x' });
        cloud.timer.hourly('t', task);";
    deploy_with(files(&[("index.js", source)]), &cloud).await.unwrap();
    assert_eq!(cloud.registered(), ["task/work", "timer/t", "subscription/t"]);
}

#[tokio::test]
async fn what_makes_no_timer_is_told_where_it_is() {
    for (statement, message) in [
        ("interval('t', { minutes: '5' }, () => {})", "`minutes` of timer/t is a number, not \"5\""),
        ("interval('t', { minutes: NaN }, () => {})", "`minutes` of timer/t is a number, not NaN"),
        ("interval('t', { years: 1 }, () => {})", "the interval of timer/t has no option \"years\""),
        ("interval('t', { days: 1 }, () => {}, { timeZone: 'UTC' })", "timer/t has no option \"timeZone\""),
        ("interval('', { days: 1 }, () => {})", "the name of a timer is a text that is not empty, not \"\""),
        ("cron('t', undefined, () => {})", "the schedule of timer/t is a cron expression, not nothing"),
        ("cron('t', 5, () => {})", "`cronTab` of timer/t is string, not 5"),
        ("cron('t', '@daily', () => {}, { timeZone: 1 })", "`timeZone` of timer/t is string, not 1"),
        (
            "daily('t', { hourUTC: 24 }, () => {})",
            "`hourUTC` of timer/t is a whole number from 0 to 23, not 24",
        ),
        (
            "daily('t', { minute: 0.5 }, () => {})",
            "`minute` of timer/t is a whole number from 0 to 59, not 0.5",
        ),
        (
            "daily('t', { hourUTC: 1 }, () => {}, { timeZone: 'Asia/Tokyo' })",
            "`hourUTC` of timer/t is in UTC, and its time zone is another one",
        ),
        ("daily('t', { hour: 1, hourUTC: 1 }, () => {})", "timer/t has both `hour` and `hourUTC`"),
        ("hourly('t', { hourUTC: 1 }, () => {})", "the schedule of timer/t has no option \"hourUTC\""),
        ("at('t', new Date('x'), () => {})", "the date of timer/t is a Date or a text, not an invalid Date"),
        (
            "daily('t', undefined, 'x')",
            "the handler of timer/t.daily is a function, a cloud.Function, a cloud.Task, a cloud.Workflow or a cloud.Queue, not \"x\"",
        ),
    ] {
        let error =
            refused(&format!("const cloud = require('@tandem/cloud');\ncloud.timer.{statement};")).await;
        assert_eq!((&*error.code, &*error.message), ("E0506", message), "{statement}");
        assert_eq!(error.at.as_ref().map(|at| at.line), Some(2), "{statement}");
    }
}
