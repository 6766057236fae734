//! `import`, then `plan`: no changes, for every name and state of an app.

use std::fs;
use std::path::Path;
use std::process::Output;

use campos_operator::manifest::source::load;
use campos_operator::simulator::faults::Endpoint;
use campos_operator::simulator::port::lock;
use campos_operator::simulator::world::Config;

use crate::harness::{Simulator, output};

const TEAM: &str = "60c72b2f9b1e8d001c8e4f00";

fn import(simulator: &Simulator, out: &Path, more: &[&str]) -> Output {
    output(&[&["import", "--api-url", &simulator.url(), "--out", out.to_str().unwrap()], more].concat())
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// `plan` finds nothing to do and nothing wrong.
#[track_caller]
fn no_changes(simulator: &Simulator, out: &Path) {
    let plan = output(&[
        "plan",
        "--detailed-exitcode",
        "--api-url",
        &simulator.url(),
        "--api-budget",
        "unlimited",
        "--manifests",
        out.to_str().unwrap(),
    ]);
    assert_eq!(plan.status.code(), Some(0), "{}", said(&plan));
    assert!(said(&plan).contains("No changes."), "{}", said(&plan));
}

fn files(out: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut files: Vec<String> = fs::read_dir(out).unwrap().map(name).collect();
    files.sort();
    files
}

/// Every kind of name and of state.
fn odd_account() -> Simulator {
    let simulator = Simulator::start(Config { page_size: 3, largest_page: 3, ..Config::default() }, &[]);
    let now = simulator.clock.wall();
    let mut world = lock(&simulator.world);
    let long = "A name of eighty characters that somebody thought was a good idea, and it is not";
    assert_eq!(long.len(), 80);
    for (number, name) in [
        "🎵",
        "Ticket Bot",
        "ticket bot",
        "Ticket_Bot",
        long,
        long,
        "",
        "yes",
        "007",
        "a: b # c",
        "x\n---\nkind: y\t\u{202e}",
    ]
    .iter()
    .enumerate()
    {
        let id = format!("60c72b2f9b1e8d001c8e4f{number:02}").parse().unwrap();
        world.add(id, name, now);
        world.set_online(&format!("60c72b2f9b1e8d001c8e4f{number:02}").parse().unwrap(), number % 2 == 0, now);
    }
    for (id, status) in [("123", "creating"), ("60e12", "suspended"), ("-_-", "hibernating")] {
        world.add(id.parse().unwrap(), status, now);
        world.set_online(&id.parse().unwrap(), false, now);
        world.set_status(&id.parse().unwrap(), status);
    }
    drop(world);
    simulator
}

#[test]
fn import_then_plan_says_no_changes() {
    let simulator = odd_account();
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("not/yet/there");
    let first = import(&simulator, &out, &[]);
    assert_eq!(first.status.code(), Some(0), "{}", said(&first));
    assert!(said(&first).contains("14 apps: 14 written, 0 already declared"), "{}", said(&first));
    assert_eq!(files(&out).len(), 15, "{:?}", files(&out));
    let (declared, problems, _) = load(vec![out.clone()]);
    assert_eq!((declared.len(), problems.len()), (14, 0), "{problems:?}");
    assert!(
        fs::read_to_string(out.join("ticket-bot.yaml"))
            .unwrap()
            .contains("# Imported from CamposCloud: \"Ticket Bot\"")
    );
    no_changes(&simulator, &out);
    assert_eq!(simulator.calls(), [""; 0]);

    // No change is planned for an app that was neither running nor stopped, in any later state.
    let now = simulator.clock.wall();
    lock(&simulator.world).set_status(&"123".parse().unwrap(), "active");
    lock(&simulator.world).set_online(&"60e12".parse().unwrap(), true, now);
    no_changes(&simulator, &out);

    // Again: nothing is written twice. With a new app: only that.
    let again = import(&simulator, &out, &[]);
    assert!(said(&again).contains("14 apps: 0 written, 14 already declared"), "{}", said(&again));
    lock(&simulator.world).add("fresh".parse().unwrap(), "Ticket Bot", now);
    let more = import(&simulator, &out, &[]);
    assert!(said(&more).contains("ticket-bot-4.yaml\n15 apps: 1 written"), "{}", said(&more));
    no_changes(&simulator, &out);
}

#[test]
fn import_never_overwrites_unless_forced() {
    let simulator = Simulator::start(Config::default(), &["a1", "b2"]);
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path();
    fs::write(out.join("a1.yaml"), "# a note to self\n").unwrap();
    let refused = import(&simulator, out, &[]);
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(said(&refused).contains("a1.yaml exists; --force"), "{}", said(&refused));
    assert_eq!(fs::read_to_string(out.join("a1.yaml")).unwrap(), "# a note to self\n");
    assert_eq!(files(out), [".schema", "a1.yaml", "b2.yaml"]);
    // With --force, the file is overwritten with the present state.
    let now = simulator.clock.wall();
    lock(&simulator.world).set_online(&"b2".parse().unwrap(), false, now);
    let forced = import(&simulator, out, &["--force"]);
    assert_eq!(forced.status.code(), Some(0), "{}", said(&forced));
    assert!(fs::read_to_string(out.join("b2.yaml")).unwrap().contains("state: Stopped"));
    assert_eq!(files(out), [".schema", "a1.yaml", "b2.yaml"]);
    no_changes(&simulator, out);
    // An unreadable manifest might declare the app already.
    fs::write(out.join("b2.yaml"), "nonsense: [\n").unwrap();
    let broken = import(&simulator, out, &[]);
    assert_eq!(broken.status.code(), Some(1));
    assert!(said(&broken).contains("b2.yaml"), "{}", said(&broken));
    assert_eq!(simulator.count(Endpoint::Stop) + simulator.count(Endpoint::Start), 0);
}

#[test]
fn import_of_a_team() {
    let simulator = Simulator::start(Config::default(), &["a1", "b2"]);
    lock(&simulator.world).give_to_team(&"b2".parse().unwrap(), TEAM);
    let directory = tempfile::tempdir().unwrap();
    let own = directory.path().join("own");
    let team = directory.path().join("team");
    assert!(import(&simulator, &own, &[]).status.success());
    assert!(import(&simulator, &team, &["--team", TEAM]).status.success());
    assert_eq!(
        (files(&own), files(&team)),
        (vec![".schema".into(), "a1.yaml".into()], vec![".schema".to_owned(), "b2.yaml".to_owned()])
    );
    // The plain list does not show a team's app: `plan` reads it singly.
    no_changes(&simulator, &team);
    no_changes(&simulator, directory.path());
    assert_eq!(import(&simulator, &team, &["--team", ""]).status.code(), Some(1));
}
