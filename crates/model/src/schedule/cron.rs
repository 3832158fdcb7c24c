//! Cron expressions, as in a crontab and as on AWS.
//!
//! Five fields are a crontab's: minute, hour, day of the month, month, day of the week (0 or 7 is Sunday); also `@daily`
//! and its like. Six are AWS's, with or without `cron(…)` around them: the week's days are 1 to 7 from Sunday on, a year
//! follows, and one of the two kinds of day is `?`. `L`, `W` and `#` are there in both.
//!
//! Each field is read here, so that an error names it; `croner` gets plain values and finds the days. Source of AWS's
//! form: <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-cron-expressions.html>.

use std::{fmt, ops::RangeInclusive};

use croner::parser::{CronParser, Seconds, Year};
use jiff::{
    Timestamp, civil,
    tz::{AmbiguousOffset, TimeZone},
};

use super::ScheduleError;

/// A cron expression in a time zone.
#[derive(Debug, Clone)]
pub struct Cron {
    text: String,
    zone: TimeZone,
    cron: croner::Cron,
    /// It names no hours.
    every_hour: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Crontab,
    Aws,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Minute,
    Hour,
    Day,
    Month,
    Weekday,
    Year,
}

use Field::{Day, Hour, Minute, Month, Weekday, Year as YearField};

const FIELDS: [Field; 6] = [Minute, Hour, Day, Month, Weekday, YearField];
const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// What `@daily` and its like stand for.
const NAMED: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

impl Field {
    fn name(self) -> &'static str {
        match self {
            Minute => "minute",
            Hour => "hour",
            Day => "day of the month",
            Month => "month",
            Weekday => "day of the week",
            YearField => "year",
        }
    }

    fn range(self, form: Form) -> RangeInclusive<u16> {
        match self {
            Minute => 0..=59,
            Hour => 0..=23,
            Day => 1..=31,
            Month => 1..=12,
            Weekday if form == Form::Aws => 1..=7,
            Weekday => 0..=7,
            YearField => 1970..=2199,
        }
    }

    /// What it takes, for an error.
    fn takes(self, form: Form) -> &'static str {
        match (self, form) {
            (Minute, _) => "0 to 59",
            (Hour, _) => "0 to 23",
            (Day, _) => "1 to 31, `L`, or a number and `W`",
            (Month, _) => "1 to 12, or JAN to DEC",
            (Weekday, Form::Aws) => "1 to 7 from Sunday on, or SUN to SAT, also with `L` or `#`",
            (Weekday, Form::Crontab) => "0 to 7 from Sunday to Sunday, or SUN to SAT, also with `L` or `#`",
            (YearField, _) => "1970 to 2199",
        }
    }

    /// A number or a name; of the week's days, 0 is Sunday.
    fn value(self, form: Form, text: &str) -> Option<u16> {
        let named = |names: &[&str]| names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let found = match self {
            Month => named(&MONTHS).map(|at| at + 1),
            Weekday => named(&WEEKDAYS),
            _ => None,
        };
        if let Some(found) = found {
            return u16::try_from(found).ok();
        }
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let number = text.parse().ok().filter(|number| self.range(form).contains(number))?;
        Some(match (self, form) {
            (Weekday, Form::Aws) => number - 1,
            (Weekday, Form::Crontab) => number % 7,
            _ => number,
        })
    }

    /// The field as `croner` takes it: `*`, or values.
    fn read(self, form: Form, text: &str) -> Result<String, String> {
        if text == "*" {
            return Ok(self.all());
        }
        if text == "?" && form == Form::Aws && matches!(self, Day | Weekday) {
            return Ok("*".to_owned());
        }
        let items: Vec<_> = text.split(',').map(|item| self.item(form, item)).collect::<Result<_, _>>()?;
        if form == Form::Aws && items.len() > 1 && text.contains('#') {
            return Err("a day of the week with `#` stands alone".to_owned());
        }
        Ok(items.join(","))
    }

    /// Every value. Years have an end, and so has a search for one that never comes.
    fn all(self) -> String {
        match self {
            YearField => "1970-2199".to_owned(),
            _ => "*".to_owned(),
        }
    }

    fn item(self, form: Form, item: &str) -> Result<String, String> {
        let wrong = || format!("the {} is {}, not `{item}`", self.name(), self.takes(form));
        if let Some(special) = self.special(form, item) {
            return Ok(special);
        }
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (item, None),
        };
        let step: Option<u16> = match step {
            Some(step) => Some(step.parse().ok().filter(|step| *step > 0).ok_or_else(|| {
                format!(
                    "what follows the `/` in the {} is a whole number above zero, not `{step}`",
                    self.name()
                )
            })?),
            None => None,
        };
        let last = *self.range(form).end();
        let (from, to) = match (range, range.split_once('-')) {
            ("*", _) if step.is_some() => (*self.range(form).start(), last),
            (_, Some((from, to))) => {
                let (Some(first), Some(last)) = (self.value(form, from), self.value(form, to)) else {
                    return Err(wrong());
                };
                // A crontab's week may end with a Sunday.
                let sunday = self == Weekday && form == Form::Crontab && to == "7";
                (first, if sunday { 7 } else { last })
            }
            (one, None) => {
                let one = self.value(form, one).ok_or_else(wrong)?;
                match (step, form) {
                    (None, _) => (one, one),
                    (Some(_), Form::Aws) => (one, if self == Weekday { 6 } else { last }),
                    (Some(step), Form::Crontab) => {
                        let name = self.name();
                        return Err(format!("the {name} `{item}` has no end; write `{one}-{last}/{step}`"));
                    }
                }
            }
        };
        let (from, to) = match self {
            // The week goes round.
            Weekday if range == "*" => (0, 6),
            Weekday if to < from => (from, to + 7),
            _ if to < from => return Err(format!("the {} `{item}` ends before it begins", self.name())),
            _ => (from, to),
        };
        let values = (from..=to).step_by(usize::from(step.unwrap_or(1)));
        let texts = values.map(|value| if self == Weekday { value % 7 } else { value }.to_string());
        Ok(texts.collect::<Vec<_>>().join(","))
    }

    /// `L`, `LW`, `15W`, `6L`, `3#2`.
    fn special(self, form: Form, item: &str) -> Option<String> {
        let upper = item.to_ascii_uppercase();
        match self {
            Day if upper == "L" || upper == "LW" => Some(upper),
            Day => {
                let day = self.value(form, upper.strip_suffix('W')?)?;
                Some(format!("{day}W"))
            }
            // The week's last day.
            Weekday if upper == "L" && form == Form::Aws => Some("6".to_owned()),
            Weekday => {
                if let Some((day, nth)) = upper.split_once('#') {
                    let nth: u8 = nth.parse().ok().filter(|nth| (1..=5).contains(nth))?;
                    return Some(format!("{}#{nth}", self.value(form, day)?));
                }
                Some(format!("{}#L", self.value(form, upper.strip_suffix('L')?)?))
            }
            _ => None,
        }
    }
}

impl Cron {
    /// Reads an expression. Without a time zone it is in UTC.
    ///
    /// # Errors
    /// [`ScheduleError`] that names the field that is wrong, says that it never comes true, or that there is no such time
    /// zone.
    pub fn parse(text: &str, zone: Option<&str>) -> Result<Self, ScheduleError> {
        let wrong = |wrong: String| ScheduleError::Cron { text: text.to_owned(), wrong };
        let zone = match zone {
            None => TimeZone::UTC,
            Some(name) => {
                TimeZone::get(name).map_err(|_| ScheduleError::TimeZone { zone: name.to_owned() })?
            }
        };
        let (form, fields) = fields(text).map_err(wrong)?;
        let read = FIELDS.iter().zip(&fields).map(|(field, text)| field.read(form, text));
        let mut read: Vec<String> = read.collect::<Result<_, _>>().map_err(wrong)?;
        if form == Form::Aws && (fields[2] == "?") == (fields[4] == "?") {
            return Err(wrong(
                "exactly one of the day of the month and the day of the week is `?`".to_owned(),
            ));
        }
        if form == Form::Crontab {
            read.push(YearField.all());
        }
        let parser = CronParser::builder().seconds(Seconds::Required).year(Year::Required).build();
        let cron =
            parser.parse(&format!("0 {}", read.join(" "))).map_err(|error| wrong(error.to_string()))?;
        let every_hour = cron.pattern.hours.values().len() == 24;
        let cron = Self { text: text.trim().to_owned(), zone, cron, every_hour };
        let begin = civil::date(1970, 1, 1).at(0, 0, 0, 0);
        if cron.cron.find_next_occurrence(&begin, true).is_err() {
            return Err(ScheduleError::Never { text: cron.text });
        }
        Ok(cron)
    }

    /// The first tick after a moment.
    pub(super) fn next(&self, after: Timestamp) -> Option<Timestamp> {
        if self.every_hour {
            let next = self.cron.find_next_occurrence(&after.to_zoned(self.zone.clone()), false);
            return next.ok().map(|next| next.timestamp());
        }
        let mut cursor = self.zone.to_datetime(after);
        loop {
            let wanted = self.cron.find_next_occurrence(&cursor, false).ok()?;
            let tick = self.moment(wanted)?;
            if tick > after {
                return Some(tick);
            }
            cursor = wanted;
        }
    }

    /// When the clock on the wall shows it: the first time if it does so twice, and the moment when it goes on if it
    /// leaves it out.
    fn moment(&self, shown: civil::DateTime) -> Option<Timestamp> {
        match self.zone.to_ambiguous_timestamp(shown).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(shown).ok(),
            AmbiguousOffset::Fold { before, .. } => before.to_timestamp(shown).ok(),
            AmbiguousOffset::Gap { after, .. } => {
                // Not there yet by the later offset.
                let early = after.to_timestamp(shown).ok()?;
                self.zone.following(early).next().map(|transition| transition.timestamp())
            }
        }
    }
}

/// `0 12 * * * (Europe/Berlin)`
impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        match self.zone.iana_name() {
            Some(name) if name != "UTC" => write!(f, " ({name})"),
            _ => Ok(()),
        }
    }
}

/// The fields, and whose they are.
fn fields(text: &str) -> Result<(Form, Vec<&str>), String> {
    let trimmed = text.trim();
    if trimmed.starts_with('@') {
        let named = NAMED.iter().find(|(name, _)| name.eq_ignore_ascii_case(trimmed));
        let (_, fields) = named.ok_or("there are @yearly, @monthly, @weekly, @daily and @hourly")?;
        return Ok((Form::Crontab, fields.split_whitespace().collect()));
    }
    let (inner, wrapped) = match trimmed.strip_prefix("cron(") {
        Some(rest) => (rest.strip_suffix(')').ok_or("a `)` is missing at its end")?, true),
        None => (trimmed, false),
    };
    let fields: Vec<&str> = inner.split_whitespace().collect();
    match fields.len() {
        6 => Ok((Form::Aws, fields)),
        5 if !wrapped => Ok((Form::Crontab, fields)),
        count if wrapped => Err(format!("within `cron(…)` there are six fields, not {count}")),
        count => Err(format!("it has {count} fields; a crontab's have five, and AWS's six")),
    }
}
