//! The results of a run: printed at once, and kept for the table, the plot and results.json.

#![expect(clippy::print_stdout, reason = "the results are what the bench is run for")]

use std::fmt::{self, Write as _};

use serde::Serialize;

use crate::stats::Summary;

/// The unit of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Unit {
    Seconds,
    Bytes,
    /// Of one core.
    Percent,
    PerSecond,
    Count,
    /// The power of the number of apps.
    Exponent,
}

/// One figure.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    /// The part of the bench.
    pub(crate) part: &'static str,
    /// The measured quantity.
    pub(crate) measure: String,
    /// The measured program.
    pub(crate) subject: String,
    /// The number of manifests and apps.
    pub(crate) apps: Option<u32>,
    pub(crate) unit: Unit,
    #[serde(flatten)]
    pub(crate) summary: Summary,
    /// The ratio to another figure, and the name of that one.
    pub(crate) ratio: Option<(f64, String)>,
}

impl Row {
    pub(crate) fn new(
        part: &'static str,
        measure: impl Into<String>,
        subject: impl Into<String>,
        unit: Unit,
        summary: Summary,
    ) -> Self {
        Self { part, measure: measure.into(), subject: subject.into(), apps: None, unit, summary, ratio: None }
    }

    pub(crate) fn with_apps(self, apps: u32) -> Self {
        Self { apps: Some(apps), ..self }
    }

    /// Compares it with another figure of the same run.
    pub(crate) fn against(self, other: Summary, name: impl Into<String>) -> Self {
        let ratio = self.summary.value / other.value;
        Self { ratio: ratio.is_finite().then(|| (ratio, name.into())), ..self }
    }
}

/// The machine and the versions of the run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    /// Of the directory of temporary files, where the manifests are.
    pub(crate) filesystem: String,
}

impl Machine {
    pub(crate) fn here() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let processors = read("/proc/cpuinfo");
        let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Self {
            processor: model.map_or("unknown", |(_, model)| model).to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            // The release, without the details of the build.
            kernel: read("/proc/sys/kernel/osrelease").split(['-', '\n']).next().unwrap_or_default().to_owned(),
            filesystem: crate::fleet::filesystem(&std::env::temp_dir()),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, cores, kernel, filesystem } = self;
        write!(f, "{cores} cores, {processor}, Linux {kernel}; manifests on {filesystem}")
    }
}

/// Everything of one run.
#[derive(Debug, Serialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    pub(crate) rows: Vec<Row>,
    /// The parts that were not measured, with the reason.
    pub(crate) left_out: Vec<String>,
}

impl Results {
    pub(crate) fn new() -> Self {
        let machine = Machine::here();
        println!("{machine}");
        Self { machine, rows: Vec::new(), left_out: Vec::new() }
    }

    pub(crate) fn push(&mut self, row: Row) {
        let apps = row.apps.map_or_else(String::new, |apps| format!("{} apps", thousands(apps)));
        let Summary { value, min, max, runs } = row.summary;
        let [value, min, max] = [value, min, max].map(|number| shown(number, row.unit));
        let ratio = row.ratio.as_ref().map_or_else(String::new, |(ratio, name)| format!("  {} {name}", times(*ratio)));
        println!(
            "{:<9} {:<42} {:<14} {apps:>12} {value:>10}  [{min} .. {max}; {runs}]{ratio}",
            row.part, row.measure, row.subject
        );
        self.rows.push(row);
    }

    pub(crate) fn leave_out(&mut self, what: String) {
        println!("LEFT OUT: {what}");
        self.left_out.push(what);
    }

    /// The figures of one measure and subject by number of apps.
    pub(crate) fn by_size(&self, measure: &str, subject: &str) -> Vec<(u32, Summary)> {
        let rows = self.rows.iter().filter(|row| row.measure == measure && row.subject == subject);
        rows.filter_map(|row| Some((row.apps?, row.summary))).collect()
    }

    /// A table for people, by part.
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!(
            "# Results\n\nOf one run of `cargo bench --bench process`; see [README.md](README.md) for what they mean.\n\n{}\n",
            self.machine
        );
        let mut part = "";
        for row in &self.rows {
            if row.part != part {
                part = row.part;
                let _ = write!(
                    text,
                    "\n## {part}\n\n| measure | of | apps | value | least | most | runs | ratio |\n\
                     | --- | --- | ---: | ---: | ---: | ---: | ---: | --- |\n"
                );
            }
            let Summary { value, min, max, runs } = row.summary;
            let [value, min, max] = [value, min, max].map(|number| shown(number, row.unit));
            let apps = row.apps.map_or_else(String::new, thousands);
            let ratio =
                row.ratio.as_ref().map_or_else(String::new, |(ratio, name)| format!("{} {name}", times(*ratio)));
            let (measure, subject) = (&row.measure, &row.subject);
            let _ = writeln!(text, "| {measure} | {subject} | {apps} | {value} | {min} | {max} | {runs} | {ratio} |");
        }
        for what in &self.left_out {
            let _ = writeln!(text, "\nLeft out: {what}");
        }
        text
    }
}

/// A ratio.
pub(crate) fn times(ratio: f64) -> String {
    if ratio < 10.0 { format!("{ratio:.2}x") } else { format!("{ratio:.0}x") }
}

/// A number with its unit, to three digits.
pub(crate) fn shown(number: f64, unit: Unit) -> String {
    let scaled = |steps: &[(f64, &str)]| {
        let fits = |(size, _): &&(f64, &str)| number.abs() >= *size;
        let (size, name) = steps.iter().rev().find(fits).or(steps.first()).copied().unwrap_or((1.0, ""));
        let scaled = number / size;
        let digits = if scaled.abs() >= 100.0 {
            0
        } else if scaled.abs() >= 10.0 {
            1
        } else {
            2
        };
        format!("{scaled:.digits$} {name}")
    };
    match unit {
        Unit::Seconds => scaled(&[(1e-9, "ns"), (1e-6, "µs"), (1e-3, "ms"), (1.0, "s"), (60.0, "min"), (3_600.0, "h")]),
        Unit::Bytes => scaled(&[(1.0, "B"), (1024.0, "KiB"), (1_048_576.0, "MiB")]),
        Unit::Percent => format!("{number:.3} %"),
        Unit::PerSecond => format!("{number:.2} /s"),
        Unit::Count => format!("{number:.0}"),
        Unit::Exponent => format!("n^{number:.2}"),
    }
}

/// A number of apps.
pub(crate) fn thousands(number: u32) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().filter_map(|group| str::from_utf8(group).ok()).collect();
    groups.join(",")
}
