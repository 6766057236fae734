//! Measurements of the release binary as a process, against a server that costs almost nothing, and beside the minimum
//! cost of the same job on the same machine in the same run.
//!
//! `cargo bench --bench process` runs all parts, `cargo bench --bench process -- latency --apps 1000` one of them.
//! `benches/README.md` explains each part and its figures.

mod burst;
mod cold;
mod daemon;
mod fleet;
mod floor;
mod growth;
mod idle;
mod latency;
mod memory;
mod peers;
mod plot;
mod requests;
mod results;
mod server;
mod simulator;
mod startup;
mod stats;
#[path = "../peers/tutorial.rs"]
mod tutorial;
mod wire;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Parser, ValueEnum};

use results::Results;

/// Measures campos-operator
#[derive(Debug, Parser)]
struct Arguments {
    /// What to measure [default: everything]
    parts: Vec<Part>,
    /// Numbers of manifests, instead of the default ones
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=100_000))]
    apps: Vec<u32>,
    /// Up to 100,000 manifests, and as many edits among a bulk as without; takes half an hour
    #[arg(long)]
    full: bool,
    /// Everything as small as it can be: shows that the benches work, measures nothing
    #[arg(long)]
    smoke: bool,
    /// Mean pause before an edit, in milliseconds; each is from two fifths to eight fifths of it
    #[arg(long, value_name = "MS", default_value = "50")]
    pause: u64,
    /// Directory to write results.json, results.md and results.svg to
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// One question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// How soon an edit becomes a call
    Latency,
    /// How soon a burst of edits is worked off
    Burst,
    /// How soon a fleet is known after the start
    Cold,
    /// What a watched app costs in memory
    Memory,
    /// What it costs to keep watching
    Idle,
    /// How many requests the job takes
    Requests,
    /// How soon the program is there
    Startup,
    /// Whether the server of the bench flatters
    Simulator,
    /// How costs grow with the number of apps
    Growth,
}

impl Part {
    fn run(self, plan: &Plan, results: &mut Results) -> anyhow::Result<()> {
        match self {
            Self::Latency => latency::run(plan, results),
            Self::Burst => burst::run(plan, results),
            Self::Cold => cold::run(plan, results),
            Self::Memory => memory::run(plan, results),
            Self::Idle => idle::run(plan, results),
            Self::Requests => requests::run(plan, results),
            Self::Startup => startup::run(plan, results),
            Self::Simulator => simulator::run(plan, results),
            Self::Growth => growth::run(plan, results),
        }
    }
}

/// The amount of measurements.
#[derive(Debug)]
struct Plan {
    /// Numbers of manifests where edits are measured.
    sizes: Vec<u32>,
    /// Numbers of manifests for the growth of costs.
    growth: Vec<u32>,
    /// Runs of each measurement.
    runs: usize,
    /// Mean pause before an edit, as people make them, and the number of such edits of one run.
    pause: Duration,
    paused_edits: u32,
    /// Edits of one run that come one right after the other.
    edits: u32,
    /// Edits of one run of programs that need a second for each.
    slow_edits: u32,
    /// Edits of a bulk.
    bulk: u32,
    /// Runs among a bulk.
    bulks: usize,
    /// Parts of the idle span, and their length.
    idle_parts: usize,
    idle_part: Duration,
}

impl Plan {
    fn new(arguments: &Arguments) -> Self {
        let usual = Self {
            sizes: vec![1_000, 10_000],
            growth: vec![1, 10, 100, 1_000, 10_000],
            runs: 5,
            pause: Duration::from_millis(arguments.pause),
            paused_edits: 50,
            edits: 200,
            slow_edits: 10,
            bulk: 500,
            bulks: 5,
            idle_parts: 6,
            idle_part: Duration::from_secs(10),
        };
        let plan = if arguments.smoke {
            let (sizes, growth) = (vec![120], vec![1, 120]);
            let (runs, edits, slow_edits, bulk, bulks) = (1, 5, 2, 20, 1);
            let (idle_parts, idle_part) = (2, Duration::from_millis(500));
            Self {
                sizes,
                growth,
                runs,
                paused_edits: edits,
                edits,
                slow_edits,
                bulk,
                bulks,
                idle_parts,
                idle_part,
                ..usual
            }
        } else if arguments.full {
            let (mut sizes, mut growth) = (usual.sizes.clone(), usual.growth.clone());
            sizes.push(100_000);
            growth.push(100_000);
            Self { sizes, growth, bulks: 25, ..usual }
        } else {
            usual
        };
        if arguments.apps.is_empty() {
            plan
        } else {
            Self { sizes: arguments.apps.clone(), growth: arguments.apps.clone(), ..plan }
        }
    }
}

fn main() -> anyhow::Result<()> {
    let given: Vec<String> = std::env::args().collect();
    if let [_, verb, server, manifests] = given.as_slice() {
        match verb.as_str() {
            floor::VERB => return floor::run(server, Path::new(manifests)),
            tutorial::VERB => return tutorial::run(server, Path::new(manifests)),
            _ => {}
        }
    }
    if !given.iter().any(|argument| argument == "--bench") {
        // `cargo test --benches` runs this, too, but without optimisation there is nothing to measure.
        return Ok(());
    }
    let arguments = Arguments::parse();
    let plan = Plan::new(&arguments);
    let parts = if arguments.parts.is_empty() { Part::value_variants() } else { &arguments.parts };
    let mut results = Results::new();
    for part in parts {
        part.run(&plan, &mut results)?;
        // After each part, so that a later failure loses no figures.
        if let Some(directory) = &arguments.out {
            write(&results, directory)?;
        }
    }
    Ok(())
}

fn write(results: &Results, directory: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(directory)?;
    fs::write(directory.join("results.json"), serde_json::to_string_pretty(results)? + "\n")?;
    fs::write(directory.join("results.md"), results.markdown())?;
    fs::write(directory.join("results.svg"), plot::svg(results))?;
    Ok(())
}
