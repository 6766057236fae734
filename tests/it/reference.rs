//! The documents agree with the code: `docs/commands.md` with the command line, links with files and headings, and the
//! examples with the readers of manifests, of faults and of JSON.
//!
//! None of these tests uses the network.

#![expect(clippy::wildcard_enum_match_arm, reason = "a Markdown parser has many events, and few of them matter here")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use campos_operator::cli::Cli;
use campos_operator::reconcile::reason::Reason;
use campos_operator::simulator::faults::Faults;
use clap::{Arg, Command, CommandFactory as _};
use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd};

use crate::harness::binary;

/// Set it to write the generated document instead of comparing it.
const UPDATE: &str = "UPDATE_DOCS";
const COMMANDS: &str = "docs/commands.md";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A cell of a table: no line ends, and no character that Markdown interprets.
fn cell(text: &str) -> String {
    let mut out = String::new();
    for (index, part) in text.split('`').enumerate() {
        // Only text outside code spans needs escapes, except for the separator of the table itself.
        let special: &[char] = if index % 2 == 0 { &['|', '<', '*', '[', ']'] } else { &['|'] };
        if index > 0 {
            out.push('`');
        }
        for character in part.chars() {
            if special.contains(&character) {
                out.push('\\');
            }
            out.push(if character == '\n' { ' ' } else { character });
        }
    }
    out
}

fn code(text: &str) -> String {
    format!("`{}`", text.replace('|', "\\|"))
}

/// The flag as a person types it, such as `-o, --output FORMAT`.
fn typed(arg: &Arg) -> String {
    let mut text = String::new();
    if let Some(short) = arg.get_short() {
        write!(text, "-{short}, ").unwrap();
    }
    if let Some(long) = arg.get_long() {
        write!(text, "--{long}").unwrap();
    }
    if arg.get_action().takes_values() {
        for name in arg.get_value_names().unwrap_or_default() {
            write!(text, "{}{name}", if text.is_empty() { "" } else { " " }).unwrap();
        }
    }
    text
}

fn flags<'a>(page: &mut String, args: impl Iterator<Item = &'a Arg>) {
    page.push_str("\n| flag or argument | default | environment variable | meaning |\n| --- | --- | --- | --- |\n");
    for arg in args {
        let defaults: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        let takes_values = arg.get_action().takes_values();
        let default = if defaults.is_empty() || !takes_values { String::new() } else { code(&defaults.join(",")) };
        let variable = arg.get_env().map(|name| code(&name.to_string_lossy())).unwrap_or_default();
        let mut meaning =
            cell(&arg.get_long_help().or_else(|| arg.get_help()).expect("every flag has help").to_string());
        let values: Vec<String> = arg
            .get_possible_values()
            .iter()
            .filter(|value| takes_values && !value.is_hide_set())
            .map(|value| {
                let help = value.get_help().map(|help| format!(" ({})", cell(&help.to_string()))).unwrap_or_default();
                format!("{}{help}", code(value.get_name()))
            })
            .collect();
        if !values.is_empty() {
            write!(meaning, ". Values: {}", values.join(", ")).unwrap();
        }
        writeln!(page, "| {} | {default} | {variable} | {meaning} |", code(&typed(arg))).unwrap();
    }
}

/// The document that `docs/commands.md` has to be.
fn commands() -> String {
    let mut top = Cli::command();
    top.build();
    let mut page = format!(
        "# Commands and flags\n\n<!-- Generated from src/cli.rs. To update: {UPDATE}=1 cargo test --test it reference -->\n"
    );
    let about = |command: &Command| command.get_about().expect("every command says what it does").to_string();
    let text = |text: String| text.trim_end().lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    let after = |command: &Command| text(command.get_after_help().map(ToString::to_string).unwrap_or_default());
    write!(page, "\n```text\n{}\n```\n", after(&top)).unwrap();
    page.push_str("\n| command | description |\n| --- | --- |\n");
    let verbs: Vec<&Command> = top.get_subcommands().filter(|command| command.get_name() != "help").collect();
    for command in &verbs {
        let name = command.get_name();
        writeln!(page, "| [`{name}`](#{name}) | {} |", cell(&about(command))).unwrap();
    }
    page.push_str("\n## Flags of every command\n");
    flags(&mut page, top.get_arguments().filter(|arg| arg.is_global_set()));
    for command in verbs {
        writeln!(page, "\n## {}\n\n{}.", command.get_name(), about(command).trim_end_matches('.')).unwrap();
        let usage = command.clone().render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ").trim();
        write!(page, "\n```text\n{usage}\n\n{}\n```\n", after(command)).unwrap();
        let own = || {
            command
                .get_arguments()
                .filter(|arg| !arg.is_global_set() && !arg.is_hide_set())
                .filter(|arg| !["help", "version"].contains(&arg.get_id().as_str()))
        };
        if own().next().is_some() {
            flags(&mut page, own());
        }
    }
    page
}

#[test]
fn the_commands_document_is_generated_from_the_command_line() {
    let generated = commands();
    if std::env::var_os(UPDATE).is_some() {
        fs::write(root().join(COMMANDS), &generated).unwrap();
    }
    let written = fs::read_to_string(root().join(COMMANDS)).unwrap_or_default();
    let differing = generated.lines().zip(written.lines()).find(|(generated, written)| generated != written);
    assert!(
        generated == written,
        "{COMMANDS} is not up to date: run `{UPDATE}=1 cargo test --test it reference`. First difference:\n{differing:#?}"
    );
}

#[test]
fn the_commands_document_has_every_command_and_flag() {
    let page = commands();
    for wanted in
        ["| [`run`](#run) |", "\n## health\n", "| `--token-file FILE` |", "| `-o, --output FORMAT` | `text` |"]
    {
        assert!(page.contains(wanted), "{wanted} is not in\n{page}");
    }
    assert_eq!(page.matches("`CAMPOS_OPERATOR_LOG_LEVEL`").count(), 1, "flags of every command are listed once");
    assert!(!page.contains("--help`"));
}

/// Every Markdown file of the repository.
fn documents() -> Vec<PathBuf> {
    fn below(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !path.is_symlink() && (!name.starts_with('.') || name == ".github") && name != "target"
            {
                below(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "md") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    below(root(), &mut found);
    found.sort();
    assert!(found.len() >= 10, "{found:?}");
    found
}

fn parser(text: &str) -> Parser<'_> {
    Parser::new_ext(text, Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH)
}

/// The anchor that GitHub gives to a heading: lower case, without punctuation, with hyphens for spaces.
fn anchor(heading: &str) -> String {
    heading
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || ['-', '_', ' '].contains(c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

/// Targets of links and pictures, and anchors of headings.
#[derive(Debug, Default)]
struct Outline {
    links: Vec<String>,
    anchors: BTreeSet<String>,
}

fn outline(text: &str) -> Outline {
    let mut outline = Outline::default();
    let mut times: HashMap<String, usize> = HashMap::new();
    let mut heading: Option<String> = None;
    for event in parser(text) {
        match event {
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                outline.links.push(dest_url.into_string());
            }
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::End(TagEnd::Heading(_)) => {
                let anchor = anchor(&heading.take().unwrap_or_default());
                let time = times.entry(anchor.clone()).or_default();
                outline.anchors.insert(if *time == 0 { anchor } else { format!("{anchor}-{time}") });
                *time += 1;
            }
            Event::Text(text) | Event::Code(text) => {
                if let Some(heading) = &mut heading {
                    heading.push_str(&text);
                }
            }
            _ => {}
        }
    }
    outline
}

/// Links of `page`, a file of `directory`, that lead to no file or to no heading.
fn broken(directory: &Path, page: &str) -> Vec<String> {
    let this = outline(page);
    let leads = |link: &&String| {
        if link.contains("://") || link.starts_with("mailto:") {
            return true;
        }
        let (file, anchor) = link.split_once('#').map_or((link.as_str(), None), |(file, anchor)| (file, Some(anchor)));
        let path = directory.join(file);
        if !path.exists() {
            return false;
        }
        let anchors = if file.is_empty() {
            Some(this.anchors.clone())
        } else if path.extension().is_some_and(|ending| ending == "md") {
            Some(outline(&fs::read_to_string(&path).unwrap()).anchors)
        } else {
            None
        };
        anchor.is_none_or(|anchor| anchors.is_none_or(|anchors| anchors.contains(anchor)))
    };
    this.links.iter().filter(|link| !leads(link)).cloned().collect()
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let mut links = 0;
    for path in documents() {
        let text = fs::read_to_string(&path).unwrap();
        links += outline(&text).links.len();
        let broken = broken(path.parent().unwrap(), &text);
        assert!(broken.is_empty(), "{} has broken links: {broken:?}", path.display());
        // A link that Markdown does not recognise, such as one with a missing definition, stays in the text.
        for event in parser(&text) {
            if let Event::Text(text) = event {
                assert!(!text.contains("]("), "{}: not a link: {text}", path.display());
            }
        }
    }
    assert!(links > 30, "{links}");
}

#[test]
fn broken_links_are_found() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("other.md"), "# One `two`, three!\n\n## Same\n\n## Same\n").unwrap();
    fs::write(directory.path().join("plain.txt"), "").unwrap();
    let links = |page: &str| broken(directory.path(), page);
    for sound in
        ["other.md", "other.md#one-two-three", "other.md#same-1", "plain.txt", "#here", "https://example.com/x", "."]
    {
        assert_eq!(links(&format!("# Here\n\n[a]({sound})\n")), Vec::<String>::new());
    }
    for dead in ["no.md", "other.md#four", "other.md#same-2", "#there"] {
        assert_eq!(links(&format!("# Here\n\n[a]({dead})\n")), [dead]);
        assert_eq!(links(&format!("# Here\n\n![a]({dead})\n")), [dead]);
    }
    assert_eq!(links("```\n[a](no.md)\n```\n"), Vec::<String>::new(), "code is not a link");
}

#[test]
fn every_document_is_linked_from_the_readme() {
    let links: BTreeSet<String> = outline(&read("README.md")).links.into_iter().collect();
    for path in documents() {
        let name = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        // The results of a run are a page of the benches.
        if !["README.md", "benches/results.md"].contains(&name.as_str()) {
            assert!(links.contains(&name), "README.md does not link {name}");
        }
    }
    let length = read("README.md").lines().count();
    assert!(length <= 220, "README.md is for newcomers: {length} lines; move reference to docs/");
    for path in documents() {
        let mut titles = 0;
        for event in parser(&fs::read_to_string(&path).unwrap()) {
            titles += usize::from(matches!(event, Event::Start(Tag::Heading { level: HeadingLevel::H1, .. })));
        }
        assert_eq!(titles, 1, "{} has one title", path.display());
    }
}

/// Fenced blocks of every document by language, each with the name of its file.
fn examples(language: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for path in documents() {
        let text = fs::read_to_string(&path).unwrap();
        let mut block: Option<String> = None;
        for event in parser(&text) {
            match event {
                Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) if &*info == language => {
                    block = Some(String::new());
                }
                Event::Text(text) => {
                    if let Some(block) = &mut block {
                        block.push_str(&text);
                    }
                }
                Event::End(TagEnd::CodeBlock) => {
                    let name = path.strip_prefix(root()).unwrap().display().to_string();
                    found.extend(block.take().map(|block| (name, block)));
                }
                _ => {}
            }
        }
    }
    found
}

fn assert_valid(file: &str, manifest: &str) {
    let mut command = binary();
    command.args(["validate", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut validate = command.spawn().unwrap();
    validate.stdin.take().unwrap().write_all(manifest.as_bytes()).unwrap();
    let output = validate.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{file}:\n{manifest}\n{}", String::from_utf8_lossy(&said));
}

#[test]
fn examples_in_yaml_and_json_are_valid() {
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for (file, text) in examples("yaml") {
        let kind = if text.starts_with("apiVersion: campos-operator.dev/") {
            assert_valid(&file, &text);
            "manifest"
        } else if text.starts_with("  schedule:") {
            let head = "apiVersion: campos-operator.dev/v1\nkind: App\nmetadata: {name: a}\nspec:\n  appId: a\n";
            assert_valid(&file, &format!("{head}  state: Running\n{text}"));
            "schedule"
        } else if text.starts_with("rules:") {
            let faults = Faults::parse(&text).unwrap_or_else(|error| panic!("{file}: {error}\n{text}"));
            assert!(format!("{faults:?}").contains("429"), "{faults:?}");
            "faults"
        } else {
            serde_yaml::from_str::<serde_yaml::Value>(&text).unwrap_or_else(|error| panic!("{file}: {error}\n{text}"));
            "other"
        };
        *kinds.entry(kind).or_default() += 1;
    }
    for kind in ["manifest", "schedule", "faults"] {
        assert!(kinds.contains_key(kind), "no document shows a {kind}: {kinds:?}");
    }
    let json = examples("json");
    assert!(json.len() >= 2);
    for (file, text) in json {
        serde_json::from_str::<serde_json::Value>(&text).unwrap_or_else(|error| panic!("{file}: {error}\n{text}"));
    }
}

#[test]
fn every_reason_is_explained() {
    let page = read("docs/operations.md");
    let table = page.split("\n## ").find(|section| section.starts_with("Reasons\n")).unwrap();
    for reason in Reason::ALL {
        let row = |line: &str| line.starts_with('|') && line.contains(&format!("`{}`", reason.as_str()));
        assert!(table.lines().any(row), "docs/operations.md does not explain {}", reason.as_str());
    }
}

#[test]
fn every_route_is_described() {
    let page = read("docs/operations.md");
    let described: serde_json::Value = serde_json::from_str(&read("src/http/openapi.json")).unwrap();
    for path in described["paths"].as_object().unwrap().keys() {
        assert!(page.contains(&format!("`{path}")), "docs/operations.md does not describe {path}");
    }
}
