//! Lists in columns, as data: aligned, without colours, one row a line.

use super::text;

const GAP: &str = "  ";
/// The fewest columns that a cell is cut to.
const NARROWEST: usize = 6;

/// The rows below their heads. The last column is not padded. Where a width is given, a line takes at most that: what is
/// too long is cut, the widest column first.
pub(crate) fn table<const N: usize>(
    heads: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
    width: Option<usize>,
) -> String {
    let mut all = vec![heads.map(str::to_owned)];
    all.extend(rows.into_iter().map(|row| row.map(|cell| text::harmless(&cell))));
    let mut widths = [0; N];
    for row in &all {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = text::width(cell).max(*width);
        }
    }
    if let Some(width) = width {
        fit(&mut widths, width.saturating_sub(GAP.len() * N.saturating_sub(1)));
    }
    let lines = all.iter().map(|row| {
        let cells: Vec<String> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| text::padded(&text::cut(cell, width), width))
            .collect();
        format!("{}\n", cells.join(GAP).trim_end())
    });
    lines.collect()
}

/// Takes columns from the widest until all fit, or none can give any more.
fn fit(widths: &mut [usize], room: usize) {
    while widths.iter().sum::<usize>() > room {
        match widths.iter_mut().rev().max_by_key(|width| **width) {
            Some(widest) if *widest > NARROWEST => *widest -= 1,
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["shop/dev".to_owned(), "12".to_owned()], ["x/prod".to_owned(), "1".to_owned()]];
        insta::assert_snapshot!(table(["STACK", "RESOURCES"], rows, None), @"
        STACK     RESOURCES
        shop/dev  12
        x/prod    1
        ");
    }

    #[test]
    fn a_table_on_a_terminal_is_no_wider_than_it() {
        let rows = || [["x".repeat(60), "short".to_owned(), "y".repeat(90)]];
        for width in [40, 80, 120] {
            let narrow = table(["NAME", "STATE", "DETAIL"], rows(), Some(width));
            assert!(narrow.lines().all(|line| text::width(line) <= width), "{narrow}");
            assert!(narrow.contains("short"), "{narrow}");
        }
        assert!(table(["NAME", "STATE", "DETAIL"], rows(), None).contains(&"y".repeat(90)));
    }
}
