//! Tables: columns of text that line up, cut to the width of the terminal.

/// How a column lines up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Rows of cells; the last column takes the room that is left and is cut where it must be.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<Align>,
    rows: Vec<Vec<String>>,
}

const GAP: &str = "  ";
/// However narrow the terminal is, this much of the last column is shown.
const LEAST_LAST: usize = 12;

impl Table {
    /// A table of these columns.
    pub(crate) fn new(columns: &[Align]) -> Table {
        Table {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row, a cell for each column.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.columns.len());
        self.rows.push(cells.into());
    }

    /// The lines, each without trailing spaces and at most `width` characters wide.
    pub(crate) fn lines(&self, width: usize) -> Vec<String> {
        let last = self.columns.len() - 1;
        let widest = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..last).map(widest).collect();
        let before: usize = widths.iter().map(|width| width + GAP.len()).sum();
        let room = width.saturating_sub(before).max(LEAST_LAST);
        let line = |row: &Vec<String>| {
            let mut line = String::new();
            for ((cell, &width), align) in row.iter().zip(&widths).zip(&self.columns) {
                let padding = " ".repeat(width - cell.chars().count());
                match align {
                    Align::Left => line.extend([cell, &*padding, GAP]),
                    Align::Right => line.extend([&*padding, cell, GAP]),
                }
            }
            line.push_str(&shortened(&row[last], room));
            line.trim_end().to_owned()
        };
        self.rows.iter().map(line).collect()
    }
}

/// The text cut to `most` characters, with an ellipsis where something is missing.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

/// The text in lines of at most `width` characters, broken between words.
pub(crate) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// A report as JSON for programs and for eyes.
pub(crate) fn json_text<T: serde::Serialize>(report: &T) -> String {
    let text = serde_json::to_string_pretty(report);
    text.expect("reports have text keys and serialize without failing") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_the_last_is_cut() {
        let mut table = Table::new(&[Align::Left, Align::Right, Align::Left]);
        table.row(["a".into(), "12".into(), "short".into()]);
        table.row(["éé".into(), "1".into(), "a text that is too long".into()]);
        table.row(["".into(), "".into(), "".into()]);
        assert_eq!(
            table.lines(20),
            ["a   12  short", "éé   1  a text that…", ""]
        );
        assert_eq!(Table::new(&[Align::Left]).lines(20), [] as [&str; 0]);
    }

    #[test]
    fn text_is_broken_between_words() {
        assert_eq!(wrapped("aa bb cccccc d", 5), ["aa bb", "cccccc", "d"]);
        assert_eq!(wrapped("", 5), [""]);
    }
}
