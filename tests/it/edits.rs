//! `override`, `suspend` and `resume`: edits of manifests.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Output;

use campos_operator::manifest::example;
use tempfile::TempDir;

use crate::harness::{A, B, binary};

fn run(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = binary();
    command.current_dir(directory).args(arguments);
    command.env("USER", "ana").env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    command.output().unwrap()
}

/// Runs a command that must succeed, and returns its output.
#[track_caller]
fn done(directory: &Path, arguments: &[&str]) -> String {
    let output = run(directory, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command that must fail and change nothing, and returns the error.
#[track_caller]
fn refused(directory: &Path, file: &str, arguments: &[&str]) -> String {
    let before = fs::read(directory.join(file)).unwrap();
    let output = run(directory, arguments);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(fs::read(directory.join(file)).unwrap(), before);
    String::from_utf8(output.stderr).unwrap()
}

fn tree() -> TempDir {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("manifests")).unwrap();
    fs::write(dir.path().join("manifests/bot.yaml"), example("bot", A, "Stopped")).unwrap();
    dir
}

#[test]
fn an_override_is_written_and_removed() {
    let dir = tree();
    let (file, dir) = (dir.path().join("manifests/bot.yaml"), dir.path());
    let original = fs::read_to_string(&file).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
    let page = done(dir, &["override", "bot", "running", "--until", "2099-01-01T00:00:00Z", "--reason", "hot fix"]);
    let line = r#"  override: {state: Running, until: "2099-01-01T00:00:00Z", reason: "hot fix", by: ana}"#;
    assert!(
        page.contains(&format!("\n+{line}\n")) && page.ends_with("in a Git checkout, commit and push the change\n"),
        "{page}"
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("{original}{line}\n"));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(fs::read_dir(dir.join("manifests")).unwrap().count(), 1, "no temporary file is left");
    let again = done(dir, &["override", "bot", "Running", "--until", "2099-01-01T00:00:00Z", "--reason", "hot fix"]);
    assert_eq!(again, "unchanged: bot.yaml needs no edit\n");
    let page = done(dir, &["override", "bot", "--clear", "--dry-run"]);
    assert!(page.contains(&format!("-{line}\n")) && page.ends_with("nothing was written (--dry-run)\n"), "{page}");
    done(dir, &["override", A, "--clear"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), original);
    assert!(done(dir, &["override", "bot", "--clear"]).starts_with("unchanged"));
}

#[test]
fn an_app_is_suspended_and_resumed() {
    let dir = tree();
    let (file, dir) = (dir.path().join("manifests/bot.yaml"), dir.path());
    let original = fs::read_to_string(&file).unwrap();
    done(dir, &["suspend", "bot"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("{original}  suspend: true\n"));
    let override_ = ["override", "bot", "Running", "--for", "4h"];
    let error = refused(dir, "manifests/bot.yaml", &override_);
    assert!(error.contains("bot is suspended") && error.contains("campos-operator resume bot"), "{error}");
    done(dir, &["suspend", "bot", "--for", "2d", "--reason", "moved: \"away\""]);
    assert!(fs::read_to_string(&file).unwrap().contains(r#"  suspend: {reason: "moved: \"away\"", until: "20"#));
    done(dir, &["resume", "bot"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), original);
}

#[test]
fn an_override_that_would_have_no_effect_is_refused() {
    let dir = tree();
    let dir = dir.path();
    for (policy, state, allowed) in
        [("StopOnly", "Running", false), ("StopOnly", "Stopped", true), ("ObserveOnly", "Stopped", false)]
    {
        fs::write(dir.join("manifests/bot.yaml"), example("bot", A, "Stopped") + &format!("  policy: {policy}\n"))
            .unwrap();
        let arguments = ["override", "bot", state, "--for", "1h"];
        if allowed {
            done(dir, &arguments);
        } else {
            assert!(refused(dir, "manifests/bot.yaml", &arguments).contains(&format!("has the policy {policy}")));
        }
    }
    fs::write(dir.join("manifests/bot.yaml"), example("bot", A, "Stopped")).unwrap();
    for (arguments, expected) in [
        (&["override", "bot", "Running"][..], "expected an end"),
        (&["override", "bot", "Running", "--until", "2020-01-01T00:00:00Z"], "expected a time in the future"),
        (&["override", "bit", "Running", "--for", "1h"], "did you mean bot?"),
    ] {
        assert!(refused(dir, "manifests/bot.yaml", arguments).contains(expected), "{arguments:?}");
    }
}

#[test]
fn files_that_are_not_ours_to_edit_are_refused() {
    let suspend = ["suspend", "bot"];
    // A ConfigMap.
    let dir = TempDir::new().unwrap();
    let root = dir.path().join("manifests");
    fs::create_dir_all(root.join("..2026_11")).unwrap();
    fs::write(root.join("..2026_11/bot.yaml"), example("bot", A, "Stopped")).unwrap();
    symlink("..2026_11", root.join("..data")).unwrap();
    symlink("..data/bot.yaml", root.join("bot.yaml")).unwrap();
    assert!(refused(dir.path(), "manifests/bot.yaml", &suspend).contains("edit its repository"));

    // git-sync.
    let dir = TempDir::new().unwrap();
    let commit = dir.path().join(".worktrees/0123456789abcdef0123456789abcdef01234567");
    fs::create_dir_all(&commit).unwrap();
    fs::write(commit.join("bot.yaml"), example("bot", A, "Stopped")).unwrap();
    symlink(&commit, dir.path().join("manifests")).unwrap();
    assert!(refused(dir.path(), "manifests/bot.yaml", &suspend).contains("edit its repository"));

    // A link out of the tree, and one within it.
    let dir = tree();
    fs::rename(dir.path().join("manifests/bot.yaml"), dir.path().join("bot.yaml")).unwrap();
    symlink("../bot.yaml", dir.path().join("manifests/bot.yaml")).unwrap();
    let error = refused(dir.path(), "bot.yaml", &["suspend", "bot", "--follow-links"]);
    assert!(error.contains("is a link out of the directory"), "{error}");
    fs::remove_file(dir.path().join("manifests/bot.yaml")).unwrap();
    fs::create_dir(dir.path().join("manifests/team")).unwrap();
    fs::rename(dir.path().join("bot.yaml"), dir.path().join("manifests/team/real.txt")).unwrap();
    symlink("team/real.txt", dir.path().join("manifests/bot.yaml")).unwrap();
    done(dir.path(), &suspend);
    assert!(fs::symlink_metadata(dir.path().join("manifests/bot.yaml")).unwrap().is_symlink());
    assert!(fs::read_to_string(dir.path().join("manifests/team/real.txt")).unwrap().ends_with("suspend: true\n"));
}

#[test]
fn a_file_with_mistakes_or_a_second_declaration_is_refused() {
    let dir = tree();
    let dir = dir.path();
    fs::write(dir.join("manifests/other.yaml"), example("bot", B, "Stopped")).unwrap();
    assert!(refused(dir, "manifests/bot.yaml", &["suspend", "bot"]).contains("other.yaml"));
    fs::remove_file(dir.join("manifests/other.yaml")).unwrap();
    fs::write(dir.join("manifests/bot.yaml"), example("bot", A, "stopped")).unwrap();
    assert!(refused(dir, "manifests/bot.yaml", &["suspend", "bot"]).contains("not valid"));
    let two = example("bot", A, "Stopped") + "---\n" + &example("web", B, "stopped");
    fs::write(dir.join("manifests/bot.yaml"), two).unwrap();
    assert!(refused(dir, "manifests/bot.yaml", &["suspend", "bot"]).contains("unknown state"));
}

#[test]
fn several_roots_are_searched() {
    let dir = tree();
    fs::create_dir(dir.path().join("more")).unwrap();
    fs::write(dir.path().join("more/web.yaml"), example("web", B, "Running")).unwrap();
    let page = done(dir.path(), &["suspend", "web", "--manifests", "manifests", "--manifests", "more"]);
    assert!(page.contains("+++ b/more/web.yaml"), "{page}");
}
