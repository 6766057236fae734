//! The commands of README.md and `deploy/README.md` print what these pages show. The tests execute them as written, and
//! compare the output. Only addresses and the token come from the environment.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use campos_operator::clock::Clock;
use campos_operator::simulator::port::lock;
use campos_operator::simulator::world::Config;

use crate::harness::{Daemon, Demo, Simulator, TOKEN, assert_no_secrets, http};

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/README.md");
/// Placeholder in a page for text that differs in each run.
const ANYTHING: &str = "...";

/// Commands of a page that are marked as executed, and the output that the page shows.
struct Block {
    daemon: bool,
    commands: String,
    prints: Vec<String>,
}

/// Returns the fenced block that begins at `lines`.
fn fenced<'a>(lines: &mut impl Iterator<Item = &'a str>, kind: &str) -> Vec<String> {
    assert_eq!(lines.next(), Some(kind), "a block of commands follows the marker, then a block of output");
    lines.take_while(|line| *line != "```").map(ToOwned::to_owned).collect()
}

fn blocks(page: &str) -> Vec<Block> {
    let mut lines = page.lines();
    let mut blocks = Vec::new();
    while let Some(line) = lines.next() {
        let daemon = match line {
            "<!-- executed -->" => false,
            "<!-- executed as a daemon -->" => true,
            _ => continue,
        };
        let commands = fenced(&mut lines, "```sh").join("\n");
        blocks.push(Block { daemon, commands, prints: fenced(&mut lines, "```text") });
    }
    blocks
}

/// True if `line` matches `shown`, where `...` matches any text.
fn fits(line: &str, shown: &str) -> bool {
    let mut parts = shown.split(ANYTHING);
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut open = false;
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
        open = part.is_empty();
    }
    rest.is_empty() || open
}

/// Asserts that every line of the page was printed, in the same order. The output can have more lines.
#[track_caller]
fn printed(text: &str, shown: &[String]) {
    let mut lines = text.lines();
    for line in shown {
        assert!(
            lines.any(|printed| fits(printed, line)),
            "the page shows\n  {line}\nbut this line is missing, or in another place, in\n{text}"
        );
    }
}

/// `bash` with the built binary on its path.
fn shell(commands: &str, simulator: &Simulator, directory: &Path) -> Command {
    let binary = Path::new(env!("CARGO_BIN_EXE_campos-operator")).parent().unwrap().display();
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", commands]).current_dir(directory).stdin(Stdio::null()).env_clear();
    command.env("PATH", format!("{binary}:/usr/local/bin:/usr/bin:/bin"));
    command.env("CAMPOSCLOUD_TOKEN", TOKEN).env("CAMPOS_OPERATOR_API_URL", simulator.url());
    command.env("CAMPOS_OPERATOR_LISTEN", "127.0.0.1:0");
    for role in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{role}_NAME"), "fleet").env(format!("GIT_{role}_EMAIL"), "fleet@example.com");
    }
    command
}

fn json(daemon: &Daemon, path: &str) -> serde_json::Value {
    serde_json::from_str(&http(daemon.address(), "GET", path).1).unwrap()
}

fn text(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_no_secrets(&text);
    text
}

/// Executes the marked commands of a page against an account of three running apps. Returns the commands, and the calls
/// that they caused.
fn executed(page: &str) -> (String, Vec<String>) {
    let page = fs::read_to_string(page).unwrap();
    let blocks = blocks(&page);
    let simulator = Simulator::start(Config::default(), &[]);
    lock(&simulator.world).add_fleet(3, Clock::system().wall());
    let top = tempfile::tempdir().unwrap();
    let mut directory = top.path().to_owned();
    let mut daemon: Option<Daemon> = None;
    for block in &blocks {
        if block.daemon {
            let running = Daemon::spawn(shell(&format!("exec {}", block.commands), &simulator, &directory));
            running.wait_for("apps are as declared");
            printed(&running.log(), &block.prints);
            daemon = Some(running);
            continue;
        }
        // One stream, and each block begins in the directory in which the one before ended: as in a terminal.
        let left = top.path().join("left");
        let mut command =
            shell(&format!("exec 2>&1\n{}\npwd >{}", block.commands, left.display()), &simulator, &directory);
        if let Some(running) = &daemon {
            command.env("CAMPOS_OPERATOR_SERVER", format!("http://{}", running.address()));
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}\n{}", block.commands, text(&output));
        printed(&text(&output), &block.prints);
        directory = fs::read_to_string(&left).unwrap().trim_end().into();
    }
    let commands = blocks.iter().map(|block| block.commands.as_str()).collect::<Vec<_>>().join("\n");
    (commands, simulator.calls())
}

#[track_caller]
fn shows(commands: &str, verbs: &[&str]) {
    for verb in verbs {
        assert!(commands.contains(&format!("campos-operator {verb}")), "the page does not show {verb}");
    }
}

#[test]
fn the_first_ten_minutes_match_the_page() {
    let (commands, calls) = executed(DEPLOY);
    let verbs =
        ["import", "validate", "plan", "run --manifests bots --dry-run", "run --manifests bots\n", "get", "wait"];
    shows(&commands, &verbs);
    assert_eq!(calls, ["stop 5e0000000000000000000000"]);
}

#[test]
fn the_first_real_run_matches_the_readme() {
    let (commands, calls) = executed(README);
    assert!(commands.starts_with("campos-operator import "), "a first real run begins with import:\n{commands}");
    shows(&commands, &["plan", "run --manifests bots\n", "wait --all", "get"]);
    assert_eq!(calls, ["stop 5e0000000000000000000000"]);
}

#[test]
fn the_demo_matches_the_readme() {
    let page = fs::read_to_string(README).unwrap();
    let mut lines = page.lines().skip_while(|line| *line != "<!-- printed by the demo -->").skip(1);
    let shown = fenced(&mut lines, "```text");
    let demo = Demo::start();
    demo.wait_for("nothing is left to do, but some apps are held");
    printed(&demo.log(), &shown);
    // The text of the picture is the headline of the status page.
    let apps = json(&demo, "/api/v1/apps");
    let items = apps["items"].as_array().unwrap();
    let settled = items.iter().filter(|item| item["status"]["conditions"][0]["reason"] == "Settled").count();
    let (all, held) = (items.len(), items.len() - settled);
    let headline = format!("{settled} of {all} apps are settled; {held} are held.");
    assert!(page.contains(&headline), "the picture of the README does not match the demo: {headline}");
}

#[test]
fn the_page_and_the_directory_name_the_same_things() {
    let page = fs::read_to_string(DEPLOY).unwrap();
    let here = Path::new(DEPLOY).parent().unwrap();
    let index = page.lines().skip_while(|line| !line.starts_with("| ---")).skip(1);
    let named: Vec<&str> = index
        .take_while(|line| line.starts_with('|'))
        .flat_map(|line| line.split('|').nth(1).unwrap().split('`').skip(1).step_by(2))
        .collect();
    for name in &named {
        assert!(here.join(name.trim_end_matches("/*")).exists(), "the page names {name}, which does not exist");
    }
    for entry in fs::read_dir(here).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        // The page itself, the picture of the main README, and the parts of check.sh.
        let spoken_for = ["README.md", "status-page.png", "check"].contains(&name.as_str());
        assert!(spoken_for || page.contains(&format!("`{name}")), "the page does not name {name}");
    }
}

#[test]
fn dots_stand_for_anything() {
    for (line, shown, holds) in [
        ("a b c", "a b c", true),
        ("a b c", "a b", false),
        ("a b c", "a ...", true),
        ("a b c", "... c", true),
        ("a b c", "...b", false),
        ("a b c", "a...c", true),
        ("a b c", "a ... d", false),
        ("", "...", true),
    ] {
        assert_eq!(fits(line, shown), holds, "{line:?} and {shown:?}");
    }
}
