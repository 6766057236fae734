//! How do columns line up, and how long is a while? Text for terminals that stays readable in a pipe.

use std::fmt::Write as _;

use jiff::Timestamp;

/// One cell: what it says, and the SGR code of its colour on a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) colour: Option<&'static str>,
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, colour: None }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

/// How a table is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// Whether cells are coloured.
    pub(super) colour: bool,
    /// The width to fit in; in a pipe nothing is ever cut off.
    pub(super) width: Option<usize>,
}

/// Lines rows up, two blanks between columns. What does not fit the width is cut off the first column, which is the name,
/// and then off the end of the line.
pub(super) fn render(rows: &[Vec<Cell>], layout: Layout) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let length = |text: &str| text.chars().count();
    let mut widths: Vec<usize> = (0..columns)
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(|cell| length(&cell.text)).max().unwrap_or(0))
        .collect();
    if let (Some(width), Some(first)) = (layout.width, widths.first().copied()) {
        let total = widths.iter().sum::<usize>() + 2 * columns.saturating_sub(1);
        widths[0] = first.saturating_sub(total.saturating_sub(width)).max(first.min(12));
    }
    let line = |row: &Vec<Cell>| {
        let (mut line, mut used) = (String::new(), 0);
        for (column, cell) in row.iter().enumerate() {
            let left = layout.width.map_or(usize::MAX, |width| width.saturating_sub(used));
            let most = if column == 0 { widths[0].min(left) } else { left };
            let text = clip(&cell.text, most);
            // The last column is not padded: nobody needs blanks at the end of a line.
            let pad = if column + 1 == row.len() { 0 } else { widths[column] + 2 - length(&text).min(widths[column]) };
            used += length(&text) + pad;
            // Writing to a String cannot fail.
            let _ = match cell.colour.filter(|_| layout.colour) {
                Some(colour) => write!(line, "\x1b[{colour}m{text}\x1b[0m{:pad$}", ""),
                None => write!(line, "{text}{:pad$}", ""),
            };
        }
        line.trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// Each line with its end.
pub(super) fn lines<T: AsRef<str>>(lines: impl IntoIterator<Item = T>) -> String {
    lines.into_iter().fold(String::new(), |text, line| text + line.as_ref() + "\n")
}

/// At most `most` characters of a text, the last one telling that there were more.
pub(super) fn clip(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain((most > 0).then_some('…')).collect()
}

/// Text of others (a manifest, a server) made harmless for a terminal: one line, no control characters.
pub(super) fn tame(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A span of time as Kubernetes' tools write it: short, and exact enough. Never negative.
pub(super) fn span(from: Timestamp, to: Timestamp) -> String {
    let seconds = to.duration_since(from).as_secs().max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{minutes}m"),
        7_200..172_800 => format!("{hours}h"),
        _ => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<Cell>> {
        let red = Cell { text: "False".into(), colour: Some("31") };
        vec![
            vec!["NAME".into(), "READY".into(), "REASON".into()],
            vec!["a-name-that-is-rather-long".into(), red, "Stopping".into()],
        ]
    }

    #[test]
    fn a_pipe_gets_everything() {
        let lines = render(&rows(), Layout { colour: false, width: None });
        assert_eq!(lines, ["NAME                        READY  REASON", "a-name-that-is-rather-long  False  Stopping"]);
    }

    #[test]
    fn a_terminal_gets_what_fits() {
        let lines = render(&rows(), Layout { colour: true, width: Some(34) });
        assert_eq!(lines[0], "NAME               READY  REASON");
        assert_eq!(lines[1], "a-name-that-is-r…  \x1b[31mFalse\x1b[0m  Stopping");
        let narrow = render(&rows(), Layout { colour: false, width: Some(20) });
        assert!(narrow.iter().all(|line| line.chars().count() <= 20), "{narrow:?}");
    }

    #[test]
    fn spans() {
        let at = |seconds: i64| Timestamp::UNIX_EPOCH + std::time::Duration::from_secs(seconds.unsigned_abs());
        for (seconds, text) in
            [(0, "0s"), (119, "119s"), (120, "2m"), (7199, "119m"), (7200, "2h"), (172_800, "2d"), (8_640_000, "100d")]
        {
            assert_eq!(span(at(0), at(seconds)), text);
        }
        assert_eq!(span(at(5), at(0)), "0s", "clocks differ");
    }
}
