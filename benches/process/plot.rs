//! The figures as one picture: plain SVG, readable on light and on dark ground.

use std::fmt::Write as _;

use crate::results::{Results, Unit, shown, thousands};
use crate::stats::Summary;
use crate::{cold, idle, memory};

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 300.0;
/// Room around the drawing within a panel: left, top, right, bottom.
const MARGIN: (f64, f64, f64, f64) = (70.0, 40.0, 120.0, 40.0);
/// Of middling brightness, to be seen on white and on black; each line has its name beside it as well.
const COLOURS: [&str; 5] = ["#2f81d6", "#d1752a", "#3c9a5f", "#a05cc5", "#8a8f98"];
/// Smallest distance between names beside lines.
const LINE: f64 = 14.0;

/// One curve.
struct Series {
    name: String,
    points: Vec<(f64, Summary)>,
}

/// A drawing of its own.
struct Panel {
    title: &'static str,
    unit: Unit,
    series: Vec<Series>,
}

/// An axis on which equal distances are equal factors.
#[derive(Clone, Copy)]
struct Axis {
    /// Powers of ten at its ends.
    powers: (i32, i32),
    /// Where these are drawn.
    ends: (f64, f64),
}

impl Axis {
    fn over(values: impl Iterator<Item = f64>, ends: (f64, f64)) -> Option<Self> {
        let (low, high) = values
            .filter(|value| *value > 0.0 && value.is_finite())
            .fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
        #[expect(clippy::cast_possible_truncation, reason = "a logarithm of a double is small")]
        let powers = (low.log10().floor() as i32, high.log10().ceil() as i32);
        (low <= high).then_some(Self { powers: (powers.0, powers.1.max(powers.0 + 1)), ends })
    }

    fn at(self, value: f64) -> f64 {
        let (low, high) = (f64::from(self.powers.0), f64::from(self.powers.1));
        let part = (value.max(1e-12).log10().clamp(low, high) - low) / (high - low);
        self.ends.0 + part * (self.ends.1 - self.ends.0)
    }

    fn marks(self) -> impl Iterator<Item = f64> {
        (self.powers.0..=self.powers.1).map(|power| 10_f64.powi(power))
    }
}

/// The picture of the measurements of a run.
pub(crate) fn svg(results: &Results) -> String {
    let curves = |of: &[(&str, &str, &str)]| {
        let curve = |(name, measure, subject): &(&str, &str, &str)| Series {
            name: (*name).to_owned(),
            points: results.by_size(measure, subject).into_iter().map(|(apps, cost)| (f64::from(apps), cost)).collect(),
        };
        of.iter().map(curve).filter(|series| !series.points.is_empty()).collect::<Vec<_>>()
    };
    let panels = [
        Panel {
            title: "Start to the complete plan",
            unit: Unit::Seconds,
            series: curves(&[
                ("complete plan", cold::WHOLE_PLAN, "operator"),
                ("first call", cold::FIRST_CALL, "operator"),
                ("read and parse", cold::PARSE, "bench"),
                ("fetch the list", cold::LIST, "bench"),
            ]),
        },
        Panel {
            title: "Resident memory, settled",
            unit: Unit::Bytes,
            series: curves(&[
                ("resident", memory::RESIDENT, "operator"),
                ("of it anonymous", memory::ANONYMOUS, "operator"),
            ]),
        },
        Panel {
            title: "Processor when idle, of one core",
            unit: Unit::Percent,
            series: curves(&[("list each 60 s", idle::CPU, "operator"), ("no list", idle::CPU, "no list")]),
        },
    ];
    let mut drawn = vec![latencies(results)];
    drawn.extend(panels.iter().map(lines));
    drawn.retain(|panel| !panel.is_empty());
    let rows = drawn.len().div_ceil(2).max(1);
    #[expect(clippy::cast_precision_loss, reason = "a few rows")]
    let (width, height) = (2.0 * WIDTH, rows as f64 * HEIGHT);
    let mut picture = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"system-ui, sans-serif\" font-size=\"12\">\n\
         <title>Results of cargo bench --bench process</title>\n\
         <style>text {{ fill: #57606a }} .grid {{ stroke: #8a8f98; stroke-opacity: .3 }}\
         @media (prefers-color-scheme: dark) {{ text {{ fill: #adb5bf }} }}</style>\n"
    );
    for (index, panel) in drawn.iter().enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "a few panels")]
        let (x, y) = ((index % 2) as f64 * WIDTH, (index / 2) as f64 * HEIGHT);
        let _ = writeln!(picture, "<g transform=\"translate({x} {y})\">\n{panel}</g>");
    }
    picture + "</svg>\n"
}

/// Edit to call, a row for each competitor: a dot at the median, a line to the 99th percentile.
fn latencies(results: &Results) -> String {
    let (p50, p99) = ("edit to call, rename, p50", "edit to call, rename, p99");
    let Some(apps) = results.rows.iter().filter(|row| row.measure == p50).find_map(|row| row.apps) else {
        return String::new();
    };
    let of =
        |measure: &'static str| results.rows.iter().filter(move |row| row.measure == measure && row.apps == Some(apps));
    let rows: Vec<(&str, f64, f64)> = of(p50)
        .zip(of(p99))
        .map(|(median, high)| (&*median.subject, median.summary.value, high.summary.value))
        .collect();
    let ends = (MARGIN.0 + 50.0, WIDTH - 80.0);
    let Some(axis) = Axis::over(rows.iter().flat_map(|(_, median, high)| [*median, *high]), ends) else {
        return String::new();
    };
    let title = format!("Edit to call by rename, {} apps: p50 (dot) to p99", thousands(apps));
    let mut panel = heading(&title);
    for mark in axis.marks() {
        let x = axis.at(mark);
        let (top, bottom) = (MARGIN.1, HEIGHT - MARGIN.3);
        line(&mut panel, (x, top), (x, bottom));
        text(&mut panel, (x, bottom + 16.0), "middle", &shown(mark, Unit::Seconds));
    }
    let mut y = MARGIN.1 + 24.0;
    for ((name, median, high), colour) in rows.iter().zip(COLOURS.iter().cycle()) {
        let (from, to) = (axis.at(*median), axis.at(*high));
        text(&mut panel, (ends.0 - 8.0, y + 4.0), "end", name);
        let _ = writeln!(
            panel,
            "<line x1=\"{from:.1}\" y1=\"{y}\" x2=\"{to:.1}\" y2=\"{y}\" stroke=\"{colour}\" stroke-width=\"4\"/>\n\
             <circle cx=\"{from:.1}\" cy=\"{y}\" r=\"6\" fill=\"{colour}\"/>"
        );
        text(&mut panel, (to + 10.0, y + 4.0), "start", &shown(*median, Unit::Seconds));
        y += 38.0;
    }
    panel
}

/// Curves over the number of apps.
fn lines(panel: &Panel) -> String {
    let points = || panel.series.iter().flat_map(|series| &series.points);
    // Marks at round numbers of MiB.
    let base = if panel.unit == Unit::Bytes { 1_048_576.0 } else { 1.0 };
    let (left, right) = (MARGIN.0, WIDTH - MARGIN.2);
    let (top, bottom) = (MARGIN.1, HEIGHT - MARGIN.3);
    let (Some(across), Some(up)) = (
        Axis::over(points().map(|(apps, _)| *apps), (left, right)),
        Axis::over(points().map(|(_, cost)| cost.value / base), (bottom, top)),
    ) else {
        return String::new();
    };
    let mut drawn = heading(panel.title);
    for mark in across.marks() {
        line(&mut drawn, (across.at(mark), top), (across.at(mark), bottom));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of apps")]
        text(&mut drawn, (across.at(mark), bottom + 16.0), "middle", &thousands(mark as u32));
    }
    for mark in up.marks() {
        line(&mut drawn, (left, up.at(mark)), (right, up.at(mark)));
        text(&mut drawn, (left - 6.0, up.at(mark) + 4.0), "end", &shown(mark * base, panel.unit));
    }
    let mut names = Vec::new();
    for (series, colour) in panel.series.iter().zip(COLOURS) {
        let mut path = String::new();
        for (apps, cost) in &series.points {
            let (x, y) = (across.at(*apps), up.at(cost.value / base));
            let _ = write!(path, "{x:.1},{y:.1} ");
            let _ = writeln!(drawn, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
        }
        let path = path.trim_end();
        let _ = writeln!(drawn, "<polyline points=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>");
        if let Some((_, last)) = series.points.last() {
            names.push((up.at(last.value / base), &series.name, colour));
        }
    }
    names.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut lowest = f64::NEG_INFINITY;
    for (y, name, colour) in names {
        let y = y.max(lowest + LINE);
        lowest = y;
        let _ = writeln!(drawn, "<circle cx=\"{}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\"/>", right + 12.0);
        text(&mut drawn, (right + 20.0, y + 4.0), "start", name);
    }
    drawn
}

fn heading(title: &str) -> String {
    format!("<text x=\"12\" y=\"22\" font-size=\"14\" font-weight=\"600\">{title}</text>\n")
}

fn line(drawn: &mut String, from: (f64, f64), to: (f64, f64)) {
    let ((x1, y1), (x2, y2)) = (from, to);
    let _ = writeln!(drawn, "<line class=\"grid\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>");
}

fn text(drawn: &mut String, at: (f64, f64), anchor: &str, words: &str) {
    let (x, y) = at;
    let _ = writeln!(drawn, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>");
}
