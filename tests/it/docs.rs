//! Does `deploy/README.md` tell the truth? Its commands are executed as written, in one directory after another, and what
//! is printed is compared with what the page shows. Only addresses and the token come from the environment.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use campos_operator::operator::clock::Clock;
use campos_operator::simulator::port::lock;
use campos_operator::simulator::world::Config;

use crate::harness::{Daemon, Simulator, TOKEN, assert_no_secrets};

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/README.md");
/// Stands in the page for what differs each time.
const ANYTHING: &str = "...";

/// Commands of the page that are marked to be executed, and what it says they print.
struct Block {
    daemon: bool,
    commands: String,
    prints: Vec<String>,
}

/// The fenced block that begins at `lines`.
fn fenced<'a>(lines: &mut impl Iterator<Item = &'a str>, kind: &str) -> Vec<String> {
    assert_eq!(
        lines.next(),
        Some(kind),
        "the marker is followed by a block of commands, then by one of what is printed"
    );
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

/// Whether `line` is as `shown`, where `...` is anything.
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

/// Every line that the page shows was printed, in its order; more may have been.
#[track_caller]
fn printed(text: &str, shown: &[String]) {
    let mut lines = text.lines();
    for line in shown {
        assert!(
            lines.any(|printed| fits(printed, line)),
            "the page shows\n  {line}\nwhich is not, or not there, in\n{text}"
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

fn text(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_no_secrets(&text);
    text
}

#[test]
fn the_ten_minutes_of_the_page_go_as_it_says() {
    let page = fs::read_to_string(DOCS).unwrap();
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
        // One stream, and where these commands went is where the next ones begin: as in a terminal.
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
    let words = blocks.iter().map(|block| block.commands.as_str()).collect::<Vec<_>>().join("\n");
    for verb in
        ["import", "validate", "plan", "run --manifests bots --dry-run", "run --manifests bots\n", "get", "wait"]
    {
        assert!(words.contains(&format!("campos-operator {verb}")), "the page does not show {verb}");
    }
    assert_eq!(simulator.calls(), ["stop 5e0000000000000000000000"]);
}

#[test]
fn the_page_and_the_directory_name_the_same_things() {
    let page = fs::read_to_string(DOCS).unwrap();
    let here = Path::new(DOCS).parent().unwrap();
    let index = page.lines().skip_while(|line| !line.starts_with("| ---")).skip(1);
    let named: Vec<&str> = index
        .take_while(|line| line.starts_with('|'))
        .flat_map(|line| line.split('|').nth(1).unwrap().split('`').skip(1).step_by(2))
        .collect();
    for name in &named {
        assert!(here.join(name.trim_end_matches("/*")).exists(), "{name} is named and not there");
    }
    for entry in fs::read_dir(here).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        // The page itself, the main page's picture, and the parts of check.sh.
        let spoken_for = ["README.md", "status-page.png", "check"].contains(&name.as_str());
        assert!(spoken_for || page.contains(&format!("`{name}")), "{name} is there and not named");
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
