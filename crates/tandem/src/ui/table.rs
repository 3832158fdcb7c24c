//! Lists in columns, as data: aligned, without colours, one row a line.

use super::text;

/// The rows below their heads. The last column is not padded.
pub(crate) fn table<const N: usize>(heads: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut all = vec![heads.map(str::to_owned)];
    all.extend(rows.into_iter().map(|row| row.map(|cell| text::harmless(&cell))));
    let mut widths = [0; N];
    for row in &all {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = text::width(cell).max(*width);
        }
    }
    let lines = all.iter().map(|row| {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| text::padded(cell, width)).collect();
        format!("{}\n", cells.join("  ").trim_end())
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["shop/dev".to_owned(), "12".to_owned()], ["x/prod".to_owned(), "1".to_owned()]];
        insta::assert_snapshot!(table(["STACK", "RESOURCES"], rows), @"
        STACK     RESOURCES
        shop/dev  12
        x/prod    1
        ");
    }
}
