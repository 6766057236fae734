//! The built binary as a command: its output, its exit codes, and no calls with bad input.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use campos_operator::simulator::faults::Endpoint;
use campos_operator::simulator::world::Config;

use crate::harness::{A, B, Manifests, Simulator, binary, manifest, output};

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn once_settles_and_exits_with_0() {
    let simulator = Simulator::start(Config::default(), &[A, B]);
    let manifests = Manifests::new(&[("down", A, "Stopped"), ("up", B, "Running")]);
    let directory = manifests.path().to_str().unwrap();
    let url = simulator.url();
    let once = |more: &[&str]| {
        let base = ["run", "--once", "--listen", "off", "--api-url", &url, "--manifests", directory];
        output(&[&base, more].concat())
    };
    let first = once(&[]);
    assert_eq!(code(&first), 0, "{}", stderr(&first));
    assert_eq!(simulator.calls(), [format!("stop {A}")]);
    assert_eq!(code(&once(&[])), 0);
    assert_eq!(simulator.calls().len(), 1, "nothing was left to do");
    manifests.set("gone", "no-such-app", "Stopped");
    assert_eq!(code(&once(&[])), 1, "an app that is not there needs a person");
    manifests.put("gone", "kind: Nonsense\n");
    assert_eq!(code(&once(&[])), 1, "so does a manifest that is not sound");
}

#[test]
fn plan_prints_what_run_would_do_and_calls_nothing() {
    let simulator = Simulator::start(Config::default(), &[A, B]);
    let manifests = Manifests::new(&[("down", A, "Stopped"), ("up", B, "Running")]);
    let url = simulator.url();
    let directory = manifests.path().to_str().unwrap();
    let plan = |more: &[&str]| output(&[&["plan", "--api-url", &url, "--manifests", directory], more].concat());
    let text = plan(&[]);
    assert_eq!(code(&text), 0, "{}", stderr(&text));
    assert_eq!(
        stdout(&text),
        "- stop  down  Running -> Stopped  state (edit or drift)\n\
         Plan: 1 to stop, 0 to start, 0 stuck, 1 settled, 0 other; about 1 s at 120/min.\n\
         Plan id: 160ab0a01b01.\n\
         Requests: about 2 for these calls, then 1.0 a minute for the list.\n"
    );
    assert_eq!(code(&plan(&["--detailed-exitcode"])), 2);
    let json: serde_json::Value = serde_json::from_str(&stdout(&plan(&["-o", "json"]))).unwrap();
    assert_eq!((&json["actions"][0]["name"], &json["actions"][0]["action"]), (&"down".into(), &"stop".into()));
    assert_eq!(json["summary"]["stop"], 1);
    assert_eq!(simulator.calls(), [""; 0]);
    manifests.set("down", A, "Running");
    let none = plan(&["--detailed-exitcode"]);
    assert_eq!((code(&none), stdout(&none).starts_with("No changes. Plan: 0 to stop")), (0, true));
    manifests.put("up", "nonsense: [\n");
    let broken = plan(&["--detailed-exitcode"]);
    assert_eq!(code(&broken), 1, "a plan beside a broken manifest is not the whole plan");
    assert!(stderr(&broken).contains("up.yaml"), "{}", stderr(&broken));
}

#[test]
fn validate_needs_no_token_and_finds_everything_at_once() {
    let manifests = Manifests::new(&[("good", A, "Stopped")]);
    let directory = manifests.path().to_str().unwrap();
    let validate =
        |paths: &[&str]| binary().env_remove("CAMPOSCLOUD_TOKEN").arg("validate").args(paths).output().unwrap();
    let good = validate(&[directory]);
    assert_eq!((code(&good), stdout(&good)), (0, "1 app in 1 file: 0 errors, 0 warnings\n".into()));
    manifests.put("one", &manifest("one", B, "stopped"));
    manifests.put("two", &manifest("two", B, "Stopped").replace("appId: \"60c72b2f9b1e8d001c8e4f3b\"", "appId: 123"));
    let bad = validate(&[directory]);
    assert_eq!(code(&bad), 1);
    let text = stdout(&bad);
    for part in ["one.yaml:7:10", "two.yaml:6:10", "Stopped", "quote", "2 errors"] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
    let file = manifests.file("good");
    assert_eq!(code(&validate(&[file.to_str().unwrap()])), 0);
    assert_eq!(code(&validate(&["/no/such/place"])), 1);
}

#[test]
fn validate_has_outputs_for_people_scripts_and_workflows() {
    let manifests = Manifests::new(&[("good", A, "Stopped"), ("again", A, "Running"), ("low", B, "stopped")]);
    let directory = manifests.path().to_str().unwrap();
    let validate = |arguments: &[&str]| output(&[&["validate"], arguments].concat());
    let json = validate(&[directory, "-o", "json"]);
    assert_eq!(code(&json), 1);
    let report: serde_json::Value = serde_json::from_str(&stdout(&json)).unwrap();
    assert_eq!((&report["valid"], &report["files"], &report["errors"]), (&false.into(), &3.into(), &3.into()));
    let low = &report["diagnostics"][2];
    assert_eq!(low["path"], format!("{directory}/low.yaml"));
    assert_eq!((&low["line"], &low["column"], &low["severity"]), (&7.into(), &10.into(), &"error".into()));
    assert_eq!((&low["reason"], &low["hint"]), (&"InvalidManifest".into(), &"did you mean `Stopped`?".into()));
    let again = &report["diagnostics"][0];
    assert_eq!((&again["reason"], &again["related"][0]["line"]), (&"DuplicateAppId".into(), &6.into()));
    let github = validate(&[directory, "-o", "github"]);
    assert_eq!(code(&github), 1);
    let annotation = format!(
        "::error file={directory}/low.yaml,line=7,col=10,endColumn=17,title=InvalidManifest::unknown state \"stopped\"%0A\
         expected Running or Stopped%0Ahelp: did you mean `Stopped`?\n"
    );
    assert!(stdout(&github).contains(&annotation), "{}", stdout(&github));
    assert!(!stdout(&validate(&[directory])).contains('\x1b'), "no colour but on a terminal");
    assert!(stdout(&validate(&[directory, "--color", "always"])).contains('\x1b'));
    // A file that is named twice, or lies below a named directory, counts once.
    let good = manifests.file("good");
    let good = good.to_str().unwrap();
    for paths in [&[good, good][..], &[good, &format!("{directory}/./good.yaml")]] {
        assert_eq!(stdout(&validate(paths)), "1 app in 1 file: 0 errors, 0 warnings\n", "{paths:?}");
    }
    assert!(stdout(&validate(&[good, directory])).contains("3 apps in 3 files: 3 errors"));
    assert!(stdout(&validate(&[directory, good])).contains("3 apps in 3 files: 3 errors"));
    assert_eq!(stdout(&validate(&[directory])), stdout(&validate(&[&format!("{directory}/.")])));
}

#[test]
fn validate_reads_stdin() {
    let validate = |text: &str, arguments: &[&str]| {
        let mut child = binary()
            .args(["validate", "-"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let good = validate(&[manifest("a", A, "Stopped"), manifest("b", B, "Running")].join("---\n"), &[]);
    assert_eq!((code(&good), stdout(&good)), (0, "2 apps in 1 file: 0 errors, 0 warnings\n".into()));
    let bad = validate(&[manifest("a", A, "Stopped"), manifest("b", A, "Running")].join("---\n"), &[]);
    assert_eq!(code(&bad), 1);
    assert!(stdout(&bad).contains(" --> <stdin>:14:10\n"), "{}", stdout(&bad));
    let github = validate(&manifest("a", A, "on"), &["-o", "github"]);
    assert!(stdout(&github).starts_with("::error file=<stdin>,line=7,"), "{}", stdout(&github));
    let both = validate(&manifest("another", "another", "Running"), &["manifests"]);
    assert!(code(&both) == 0 && !stdout(&both).starts_with("1 app "), "{}", stdout(&both));
    let empty = validate("", &[]);
    assert!(code(&empty) == 1 && !stdout(&empty).contains("remove the file"), "{}", stdout(&empty));
}

#[test]
fn bad_input_is_a_clear_error_and_calls_nothing() {
    let simulator = Simulator::start(Config::default(), &[A]);
    let manifests = Manifests::new(&[("bot", A, "Stopped")]);
    let (url, directory) = (simulator.url(), manifests.path().to_str().unwrap().to_owned());
    let good = ["--listen", "off", "--api-url", &url, "--manifests", &directory];
    let case = |environment: &[(&str, &str)], arguments: &[&str], says: &str| {
        let mut command = binary();
        command.arg("run").args(arguments);
        for (name, value) in environment {
            command.env(name, value);
        }
        let output = command.output().unwrap();
        let said = stderr(&output);
        assert_eq!(code(&output), 1, "{arguments:?}: {said}");
        assert!(said.contains(says), "{arguments:?}: {says:?} is not in:\n{said}");
    };
    case(&[], &["--listen", "off", "--api-url", &url, "--manifests", "/no/such/directory"], "/no/such/directory");
    case(&[("CAMPOSCLOUD_TOKEN", "")], &good, "CAMPOSCLOUD_TOKEN");
    case(
        &[],
        &["--listen", "off", "--api-url", "http://api.camposcloud.com", "--manifests", &directory],
        "unencrypted",
    );
    case(&[], &["--no-such-flag"], "--no-such-flag");
    case(&[("CAMPOS_OPERATOR_X", "1")], &good, "CAMPOS_OPERATOR_X");
    case(&[("CAMPOS_OPERATOR_INTERVAL", "60")], &good, "60s");
    case(&[], &["--listen", "8080"], "127.0.0.1:8080");
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    case(&[], &["--listen", &taken, "--api-url", &url, "--manifests", &directory], &taken);
    assert_eq!(simulator.count(Endpoint::Any), 0);

    // With --once, a wrong token or an absent server is an error after the timeout.
    case(&[("CAMPOSCLOUD_TOKEN", "wrong")], &[&good[..], &["--once", "--timeout", "1s"]].concat(), "token");
    assert_eq!(simulator.calls(), [""; 0]);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let absent = format!("http://{closed}");
    let plan = output(&["plan", "--api-url", &absent, "--manifests", &directory]);
    assert_eq!(code(&plan), 1);
    assert!(stderr(&plan).contains("refused"), "{}", stderr(&plan));
    let plan = binary()
        .env("CAMPOSCLOUD_TOKEN", "wrong")
        .args(["plan", "--api-url", &url, "--manifests", &directory])
        .output()
        .unwrap();
    assert!(code(&plan) == 1 && stderr(&plan).contains("401"), "{}", stderr(&plan));
}

#[test]
fn unusable_files_are_reported_and_the_others_work() {
    let simulator = Simulator::start(Config::default(), &[A, B]);
    let manifests = Manifests::new(&[("good", A, "Stopped")]);
    manifests.put("large", &format!("{}# {}\n", manifest("large", B, "Stopped"), "x".repeat(1 << 20)));
    manifests.put("numeric", &manifest("numeric", "1", "Stopped").replace('"', ""));
    manifests.put("lower", &manifest("lower", "c3", "stopped"));
    manifests.put("twice", &[manifest("twice", "d4", "Stopped"), manifest("again", "d4", "Running")].join("---\n"));
    manifests.put("secret", &manifest("secret", "e5", "Stopped"));
    fs::set_permissions(manifests.file("secret"), fs::Permissions::from_mode(0o000)).unwrap();
    let arguments =
        ["run", "--once", "--listen", "off", "--manifests", manifests.path().to_str().unwrap(), "--api-url"];
    let output = output(&[&arguments[..], &[&simulator.url()]].concat());
    let said = stderr(&output);
    assert_eq!(code(&output), 1, "{said}");
    for file in ["large.yaml", "numeric.yaml", "lower.yaml", "twice.yaml"] {
        assert!(said.contains(file), "{file} is not in:\n{said}");
    }
    assert_eq!(simulator.calls(), [format!("stop {A}")], "only the good one");
}

#[test]
fn every_command_reports_links_out_of_the_tree_unless_followed() {
    let simulator = Simulator::start(Config::default(), &[A]);
    let manifests = Manifests::new(&[]);
    let elsewhere = Manifests::new(&[("bot", A, "Stopped")]);
    std::os::unix::fs::symlink(elsewhere.file("bot"), manifests.file("bot")).unwrap();
    let (url, directory) = (simulator.url(), manifests.path().to_str().unwrap());
    let plan = ["plan", "--api-url", &url, "--manifests", directory];
    let run = ["run", "--once", "--listen", "off", "--watch", "scan", "--api-url", &url, "--manifests", directory];
    for (arguments, says) in
        [(&["validate", directory][..], "1 app in 1 file: 0 errors"), (&plan, "1 to stop"), (&run, "app stopped")]
    {
        let refused = output(arguments);
        let shown = stdout(&refused) + &stderr(&refused);
        assert!(code(&refused) == 1 && shown.contains("the link leads out"), "{arguments:?}: {shown}");
        let followed = output(&[arguments, &["--follow-links"]].concat());
        let shown = stdout(&followed) + &stderr(&followed);
        assert!(code(&followed) == 0 && shown.contains(says), "{arguments:?}: {shown}");
    }
    assert_eq!(simulator.calls(), [format!("stop {A}")]);
    assert_eq!(code(&output(&[&run[..], &["--watch", "inotify"]].concat())), 1);
}

#[test]
fn help_and_completions_go_to_stdout() {
    for arguments in [&["--help"][..], &["run", "--help"], &["--version"], &["completions", "bash"]] {
        let output = output(arguments);
        assert_eq!(code(&output), 0);
        assert!(stdout(&output).contains("campos-operator"), "{arguments:?}");
        assert_eq!(stderr(&output), "");
    }
    assert_eq!(code(&output(&[])), 1);
    assert_eq!(code(&output(&["no-such-verb"])), 1);
}

#[test]
fn bash_completes_verbs_flags_values_and_names() {
    let script = r#"
        eval "$SCRIPT"
        complete=$(complete -p campos-operator) && complete=${complete##*-F } && complete=${complete%% *}
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        "$complete" campos-operator "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        echo "${COMPREPLY[*]}"
    "#;
    let manifests = Manifests::new(&[("ticket-bot", A, "Running"), ("music-bot", B, "Stopped")]);
    manifests.put(
        "team",
        &manifest("team-bot", "60c72b2f9b1e8d001c8e4f3c", "Running")
            .replace("  name: team-bot\n", "  name: team-bot\n  labels: {team: support, odd: \"$(x)\"}\n"),
    );
    let completions = stdout(&output(&["completions", "bash"]));
    let directory = Path::new(env!("CARGO_BIN_EXE_campos-operator")).parent().unwrap().display().to_string();
    for (words, expected) in [
        (&["hea"][..], "health"),
        (&["run", "--pol"], "--policy"),
        (&["run", "--policy", ""], "full stop-only observe-only"),
        (&["get", "-o", "w"], "wide"),
        (&["get", "--reason", "Dup"], "DuplicateAppId DuplicateName"),
        (&["get", "t"], "team-bot ticket-bot"),
        (&["describe", "m"], "music-bot"),
        (&["get", "-l", ""], "team=support"),
        (&["suspend", "ti"], "ticket-bot"),
    ] {
        let mut bash = Command::new("bash");
        bash.args(["-c", script, "bash", "campos-operator"]).args(words).env("SCRIPT", &completions);
        bash.env("PATH", format!("{directory}:{}", std::env::var("PATH").unwrap_or_default()));
        // Nothing listens there, so the names are those of the manifests.
        bash.env("CAMPOS_OPERATOR_MANIFESTS", manifests.path()).env("CAMPOS_OPERATOR_SERVER", "http://127.0.0.1:1");
        let output = bash.output().unwrap();
        assert_eq!(
            (stdout(&output).trim_end().replace('\u{b}', " "), &*stderr(&output)),
            (expected.to_owned(), ""),
            "{words:?}"
        );
    }
}
