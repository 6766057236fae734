//! Exit codes and effects do not depend on who reads the output.

use std::fs::{self, File};
use std::process::Stdio;

use campos_operator::simulator::faults::Endpoint;
use campos_operator::simulator::world::Config;

use crate::harness::{A, B, Manifests, Simulator, binary, manifest};

/// A stream that no process reads: a pipe with a closed end, or a full disk.
fn unread(full: bool) -> Stdio {
    if full {
        return File::options().write(true).open("/dev/full").unwrap().into();
    }
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

/// The exit code of a command with stdout and stderr that are not read.
fn code(arguments: &[&str], full: bool) -> i32 {
    let mut command = binary();
    command.args(arguments).stdout(unread(full)).stderr(unread(full));
    command.status().unwrap().code().unwrap()
}

#[test]
fn a_closed_pipe_changes_no_exit_code() {
    let simulator = Simulator::start(Config::default(), &[A, B]);
    let good = Manifests::new(&[("down", A, "Stopped"), ("up", B, "Running")]);
    let bad = Manifests::new(&[("down", A, "Stoped")]);
    let (good, bad) = (good.path().to_str().unwrap(), bad.path().to_str().unwrap());
    let url = simulator.url();
    for output in ["text", "json", "github"] {
        assert_eq!(code(&["validate", bad, "-o", output], false), 1, "{output}");
        assert_eq!(code(&["validate", good, "-o", output], false), 0, "{output}");
    }
    for output in ["text", "json", "markdown"] {
        let plan = ["plan", "--detailed-exitcode", "-o", output, "--api-url", &url, "--manifests"];
        assert_eq!(code(&[&plan[..], &[good]].concat(), false), 2, "{output}");
        assert_eq!(code(&[&plan[..], &[bad]].concat(), false), 1, "{output}");
    }
    for success in [&["--help"][..], &["schema"], &["man"], &["completions", "bash"], &["--version"]] {
        assert_eq!(code(success, false), 0, "{success:?}");
    }
    assert_eq!(code(&["get", "--nonsense"], false), 1);
}

#[test]
fn variables_are_read_as_flags() {
    let simulator = Simulator::start(Config::default(), &[A]);
    let manifests = Manifests::new(&[("down", A, "Stopped")]);
    let plan = |variables: &[(&str, &str)]| {
        let mut command = binary();
        command.arg("plan").env("CAMPOS_OPERATOR_API_URL", simulator.url());
        command.env("CAMPOS_OPERATOR_MANIFESTS", manifests.path()).envs(variables.iter().copied());
        let output = command.output().unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for (word, code) in [("yes", 2), ("1", 2), ("on", 2), ("no", 0), ("0", 0), ("", 0)] {
        let (found, stderr) = plan(&[("CAMPOS_OPERATOR_DETAILED_EXITCODE", word), ("CAMPOS_OPERATOR_OUTPUT", "wide")]);
        assert_eq!(found, code, "{word}: {stderr}");
    }
    let (code, stderr) = plan(&[("CAMPOS_OPERATOR_API_BUDGET", "many")]);
    assert!(code == 1 && stderr.starts_with("error: CAMPOS_OPERATOR_API_BUDGET: invalid value \"many\""), "{stderr}");
    let validate = binary().arg("validate").env("CAMPOS_OPERATOR_MANIFESTS", manifests.path()).output().unwrap();
    assert!(String::from_utf8_lossy(&validate.stdout).starts_with("1 app in 1 file"), "{validate:?}");
}

#[test]
fn a_token_may_come_from_a_pipe() {
    let simulator = Simulator::start(Config::default(), &[A]);
    let manifests = Manifests::new(&[("down", A, "Stopped")]);
    let (url, directory) = (simulator.url(), manifests.path().to_str().unwrap());
    let once = |token: &str| {
        let program = env!("CARGO_BIN_EXE_campos-operator");
        let run = format!("{program} run --once --listen off --api-url {url} --manifests {directory} --token-file");
        let script = format!("{run} <(printf '%s' '{token}')");
        std::process::Command::new("bash")
            .args(["-c", &script])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .output()
            .unwrap()
    };
    let good = once(crate::harness::TOKEN);
    assert_eq!(good.status.code(), Some(0), "{}", String::from_utf8_lossy(&good.stderr));
    assert_eq!(simulator.count(Endpoint::Stop), 1);
    let empty = once("");
    assert_eq!(empty.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&empty.stderr).contains("it is empty"), "{empty:?}");
}

#[test]
fn import_refuses_a_file_as_its_directory() {
    let simulator = Simulator::start(Config::default(), &[A]);
    let file = tempfile::NamedTempFile::new().unwrap();
    let output = binary().args(["import", "--api-url", &simulator.url(), "--out"]).arg(file.path()).output().unwrap();
    assert!(
        output.status.code() == Some(1)
            && String::from_utf8_lossy(&output.stderr).contains("is a file; expected a directory"),
        "{output:?}"
    );
}

#[test]
fn unknown_words_suggest_the_right_one() {
    for (word, command) in
        [("apply", "run"), ("diff", "plan"), ("gte", "get"), ("lint", "validate"), ("logs", "history")]
    {
        let output = binary().arg(word).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && stderr.contains(&format!("'{command}'")), "{word}: {stderr}");
    }
    let version = binary().arg("version").output().unwrap();
    assert!(version.status.success() && version.stdout.starts_with(b"campos-operator "), "{version:?}");
    let help = binary().args(["plan", "--help"]).output().unwrap();
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    let own = help.find("--detailed-exitcode").unwrap();
    assert!(own < help.find("Global options:").unwrap() && own < help.find("--log-level").unwrap(), "{help}");
}

#[test]
fn a_full_disk_is_an_error() {
    let good = Manifests::new(&[("down", A, "Stopped")]);
    for command in [&["validate", good.path().to_str().unwrap()][..], &["schema"], &["man"], &["--help"]] {
        assert_eq!(code(command, true), 1, "{command:?}");
    }
}

#[test]
fn calls_and_files_are_made_although_the_output_is_lost() {
    for full in [false, true] {
        let simulator = Simulator::start(Config::default(), &[A, B]);
        let manifests = Manifests::new(&[("down", A, "Stopped"), ("dim", B, "Stopped")]);
        let (url, directory) = (simulator.url(), manifests.path().to_str().unwrap());
        let once = ["run", "--once", "--listen", "off", "--api-url", &url, "--manifests", directory];
        assert_eq!(code(&once, full), 0);
        assert_eq!(simulator.count(Endpoint::Stop), 2);

        let out = tempfile::tempdir().unwrap();
        let imported = code(&["import", "--api-url", &url, "--out", out.path().to_str().unwrap()], full);
        assert_eq!(imported, i32::from(full), "a full disk is an error, a closed pipe is not");
        let files = fs::read_dir(out.path())
            .unwrap()
            .filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|ending| ending == "yaml"));
        assert_eq!(files.count(), 2);
    }
}

#[test]
fn a_watch_ends_with_its_reader() {
    let simulator = Simulator::start(Config::default(), &[A]);
    let manifests = Manifests::new(&[]);
    fs::write(manifests.file("up"), manifest("up", A, "Running")).unwrap();
    let daemon = crate::harness::Daemon::start(&simulator, &manifests, &[]);
    let server = format!("http://{}", daemon.address());
    assert_eq!(code(&["get", "-w", "--server", &server], false), 0);
}
