//! The report: one row a measurement, with its floor and its budget.

use std::time::Duration;

/// A measured value and its unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value {
    Time(Duration),
    PerSecond(f64),
    Mebibytes(f64),
    /// Of bodies moved, in units of 2^20 bytes.
    MebibytesPerSecond(f64),
}

/// What a value should be: at most, or for rates at least.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Budget(pub(crate) Value);

#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) value: Value,
    pub(crate) p99: Option<Duration>,
    /// What the machine itself needs, measured in the same run, and its name.
    pub(crate) floor: Option<(Value, &'static str)>,
    pub(crate) budget: Option<Budget>,
}

impl Row {
    pub(crate) fn new(what: impl Into<String>, value: Value) -> Self {
        Self { what: what.into(), value, p99: None, floor: None, budget: None }
    }

    pub(crate) fn p99(self, p99: Duration) -> Self {
        Self { p99: Some(p99), ..self }
    }

    pub(crate) fn floor(self, value: Value, name: &'static str) -> Self {
        Self { floor: Some((value, name)), ..self }
    }

    pub(crate) fn budget(self, value: Value) -> Self {
        Self { budget: Some(Budget(value)), ..self }
    }
}

impl Value {
    pub(crate) fn millis(millis: f64) -> Self {
        Self::Time(Duration::from_secs_f64(millis / 1000.0))
    }

    fn number(self) -> f64 {
        match self {
            Self::Time(time) => time.as_secs_f64(),
            Self::PerSecond(number) | Self::Mebibytes(number) | Self::MebibytesPerSecond(number) => number,
        }
    }

    fn shown(self) -> String {
        match self {
            Self::Time(time) if time < Duration::from_millis(10) => {
                format!("{:.2} ms", time.as_secs_f64() * 1000.0)
            }
            Self::Time(time) if time < Duration::from_secs(1) => {
                format!("{:.0} ms", time.as_secs_f64() * 1000.0)
            }
            Self::Time(time) => format!("{:.2} s", time.as_secs_f64()),
            Self::PerSecond(rate) => format!("{rate:.0}/s"),
            Self::Mebibytes(size) => format!("{size:.1} MiB"),
            Self::MebibytesPerSecond(rate) => format!("{rate:.0} MiB/s"),
        }
    }

    /// Whether less is better.
    fn is_cost(self) -> bool {
        !matches!(self, Self::PerSecond(_) | Self::MebibytesPerSecond(_))
    }
}

impl Budget {
    fn shown(self) -> String {
        format!("{} {}", if self.0.is_cost() { "≤" } else { "≥" }, self.0.shown())
    }

    fn is_met_by(self, value: Value) -> bool {
        if self.0.is_cost() { value.number() <= self.0.number() } else { value.number() >= self.0.number() }
    }
}

/// The rows as a Markdown table, its columns aligned.
pub(crate) fn render(rows: &[Row]) -> String {
    let mut cells: Vec<[String; 6]> =
        vec![["what", "p50 or rate", "p99", "of the floor", "budget", "met"].map(str::to_owned)];
    for row in rows {
        let floor =
            row.floor.map(|(floor, name)| format!("{:.2} × {name}", row.value.number() / floor.number()));
        let met = row.budget.map(|budget| if budget.is_met_by(row.value) { "yes" } else { "no" });
        cells.push([
            row.what.clone(),
            row.value.shown(),
            row.p99.map(|p99| Value::Time(p99).shown()).unwrap_or_default(),
            floor.unwrap_or_default(),
            row.budget.map(Budget::shown).unwrap_or_default(),
            met.unwrap_or_default().to_owned(),
        ]);
    }
    let widths: Vec<usize> = (0..6)
        .map(|column| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or_default())
        .collect();
    let mut text = String::new();
    for (number, row) in cells.iter().enumerate() {
        for (cell, width) in row.iter().zip(&widths) {
            text += &format!("| {cell:<width$} ");
        }
        text += "|\n";
        if number == 0 {
            for width in &widths {
                text += &format!("|{}", "-".repeat(width + 2));
            }
            text += "|\n";
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_meets_its_budget_below_it_and_a_rate_above() {
        assert!(Budget(Value::millis(5.0)).is_met_by(Value::millis(4.9)));
        assert!(!Budget(Value::millis(5.0)).is_met_by(Value::millis(5.1)));
        assert!(Budget(Value::PerSecond(5000.0)).is_met_by(Value::PerSecond(5001.0)));
        assert!(!Budget(Value::PerSecond(5000.0)).is_met_by(Value::PerSecond(4999.0)));
    }

    #[test]
    fn a_row_shows_its_ratio_to_the_floor() {
        let row = Row::new("start", Value::millis(54.0))
            .floor(Value::millis(36.0), "runc run")
            .budget(Value::millis(50.0))
            .p99(Duration::from_millis(80));
        let text = render(&[row]);
        assert_eq!(
            text.lines().last().unwrap(),
            "| start | 54 ms       | 80 ms | 1.50 × runc run | ≤ 50 ms | no  |"
        );
    }
}
