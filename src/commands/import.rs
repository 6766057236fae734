//! `import`: writes a manifest for every app of the account. It reads apps and writes files, and changes no app.
//!
//! The manifests change no app: they declare the observed state, and suspend an app whose state is unknown. Every text
//! is parsed before it is written. A file is replaced only with `--force`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};

use super::bar::Bar;
use super::text::{escape, print, print_note};
use super::{Exit, runtime, variable};
use crate::budget::RateLimiter;
use crate::camposcloud::client::Client;
use crate::cli::ImportArgs;
use crate::clock::Clock;
use crate::manifest::json_schema::json_schema;
use crate::manifest::load::{self, Content};
use crate::manifest::schema::{API_VERSION, KIND, as_name, text_needs_quotes};
use crate::manifest::source;
use crate::operator::observe;
use crate::platform::Seen;
use crate::platform::listing::{Listing, PAGE_SIZE};
use crate::reconcile::app::{AppId, AppName, MAX_APP_NAME};
use crate::reconcile::state::Observed;
use crate::settings;

/// File of the schema for editors. Hidden, so that it is no manifest; without `.json`, so that `kubectl apply -R` does
/// not read it.
const SCHEMA: &str = ".schema";
/// Characters of a display name in a comment.
const SHOWN_NAME: usize = 100;

pub(super) fn import(args: &ImportArgs) -> anyhow::Result<Exit> {
    let api = settings::api(&args.api, variable)?;
    if let Some(warning) = settings::budget_warning(args.api.api_budget) {
        warn(&warning);
    }
    if args.out.is_file() {
        bail!("--out {}: is a file; expected a directory", args.out.display());
    }
    let existing = Existing::below(&args.out, args.force)?;
    let client = Client::new(api.url, api.token).context("could not set up the HTTP client")?;
    let mut limiter = RateLimiter::new(args.api.api_budget, 0);
    let clock = Clock::system();
    let listing = match settings::teams(&args.team) {
        teams if teams.is_empty() => Listing::default(),
        teams => Listing::of_teams(Some(PAGE_SIZE), &teams),
    };
    let bar = Bar::new();
    let observation =
        runtime()?.block_on(observe::everything(&client, &mut limiter, clock, listing, [], |step| bar.step(step)))?;
    drop(bar);
    let drafts = drafts(&observation.seen, &existing, args.force)?;
    if !drafts.is_empty() {
        fs::create_dir_all(&args.out).with_context(|| format!("could not create {}", args.out.display()))?;
        let schema = args.out.join(SCHEMA);
        let done = if args.force { replace(&schema, &json_schema()) } else { create(&schema, &json_schema()) };
        // An existing schema is good enough for an editor.
        done.or_else(|error| if error.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(error) })
            .with_context(|| format!("could not write {}", schema.display()))?;
    }
    let (mut written, mut refused, mut unknown) = (0_usize, 0_usize, 0_usize);
    // An error of stdout (a full disk) is reported after all manifests are written.
    let mut printed = Ok(());
    for draft in &drafts {
        let path = args.out.join(&draft.file);
        let done = if args.force { replace(&path, &draft.text) } else { create(&path, &draft.text) };
        match done {
            Ok(()) => {
                printed = printed.and_then(|()| print(&format!("wrote {}\n", escape(&path.to_string_lossy()))));
                written += 1;
                unknown += usize::from(draft.suspended);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                warn(&format!("{} exists; --force replaces it", path.display()));
                refused += 1;
            }
            Err(error) => return Err(error).with_context(|| format!("could not write {}", path.display())),
        }
    }
    let left = observation.seen.len() - drafts.len();
    let total = format!("{} apps: {written} written, {left} already declared\n", observation.seen.len());
    printed = printed.and_then(|()| print(&total));
    if unknown > 0 {
        warn(&format!(
            "{unknown} of them were neither running nor stopped: their manifests have `suspend`; see their comments"
        ));
    }
    let complete = observation.flaw.is_none() && observation.unreadable == 0;
    for complaint in observation.warnings() {
        warn(&complaint);
    }
    if !complete {
        warn("not every app of the account was written; run import again for the others");
    }
    printed?;
    Ok(if refused == 0 && complete { Exit::Done } else { Exit::Failed })
}

fn warn(text: &str) {
    print_note(&format!("warning: {}", escape(text)));
}

/// Names and apps that the directory declares.
#[derive(Debug, Default)]
struct Existing {
    names: BTreeSet<AppName>,
    apps: BTreeMap<AppId, (AppName, Arc<str>)>,
}

impl Existing {
    fn below(directory: &Path, force: bool) -> anyhow::Result<Self> {
        if !directory.exists() {
            return Ok(Self::default());
        }
        let (declared, diagnostics, report) = source::load(vec![directory.to_owned()]);
        if let Some(cause) = report.cause {
            bail!("could not read the manifests: {cause}");
        }
        if let Some(first) = diagnostics.iter().find(|one| one.is_error()).filter(|_| !force) {
            // The app of an invalid manifest would be declared a second time.
            bail!(
                "{}: fix the manifests first, see `validate`; the first error is {}",
                directory.display(),
                first.one_line()
            );
        }
        let mut existing = Self::default();
        for declared in declared {
            if let Some(spec) = declared.spec() {
                existing.apps.insert(spec.app_id.clone(), (declared.name.clone(), declared.place.file.clone()));
            }
            existing.names.insert(declared.name.clone());
        }
        Ok(existing)
    }

    /// Returns whether a file declares exactly one app. Only then may it be replaced.
    fn alone(&self, file: &str) -> bool {
        self.apps.values().filter(|(_, declaring)| **declaring == *file).count() == 1
    }
}

/// A generated manifest.
#[derive(Debug)]
struct Draft {
    file: PathBuf,
    text: String,
    suspended: bool,
}

/// A manifest for each undeclared app; with `again`, also for each app that has its own file.
fn drafts(seen: &[Seen], existing: &Existing, again: bool) -> anyhow::Result<Vec<Draft>> {
    let mut taken = existing.names.clone();
    let mut drafts = Vec::new();
    for app in seen {
        let name = match existing.apps.get(&app.id) {
            None => free_name(app, &mut taken)?,
            Some((name, file)) if again && **file == *file_of(name) && existing.alone(file) => name.clone(),
            Some(_) => continue,
        };
        let (text, suspended) = manifest(app, &name);
        read_back(&text, app, &name)?;
        drafts.push(Draft { file: file_of(&name).into(), text, suspended });
    }
    Ok(drafts)
}

fn file_of(name: &AppName) -> String {
    format!("{name}.yaml")
}

/// An unused name like the display name, or from the id if the display name has no letter.
fn free_name(app: &Seen, taken: &mut BTreeSet<AppName>) -> anyhow::Result<AppName> {
    let wanted = app.name.as_deref().and_then(as_name);
    let base = wanted.or_else(|| as_name(&format!("app-{}", app.id))).unwrap_or_else(|| "app".to_owned());
    for number in 1_u32.. {
        let ending = if number == 1 { String::new() } else { format!("-{number}") };
        let room = base.len().min(MAX_APP_NAME - ending.len());
        let name: AppName = format!("{}{ending}", base[..room].trim_end_matches('-'))
            .parse()
            .map_err(|problem| anyhow!("could not name app {}: the name {problem}", app.id))?;
        if taken.insert(name.clone()) {
            return Ok(name);
        }
    }
    unreachable!("there are more numbers than apps")
}

/// The manifest of the observed state, and whether it is suspended.
fn manifest(app: &Seen, name: &AppName) -> (String, bool) {
    let status = app.reading.status.as_deref().map_or_else(|| "no status".to_owned(), |word| format!("status {word}"));
    let title: String = app.name.as_deref().unwrap_or_default().chars().take(SHOWN_NAME).collect();
    let comment = format!("\"{title}\", observed {} ({status})", app.reading.observed);
    let comment = escape(&comment);
    let (state, hands_off) = match app.reading.observed {
        Observed::Running => ("Running", None),
        Observed::Stopped => ("Stopped", None),
        // Running, so that the removal of `suspend` stops no app.
        Observed::Creating => ("Running", Some("it was being created when it was imported")),
        Observed::Suspended => ("Running", Some("the platform had suspended it when it was imported")),
        Observed::Missing | Observed::Unknown => ("Running", Some("its state was unknown when it was imported")),
    };
    let state = hands_off.map_or_else(
        || format!("state: {state}\n"),
        |why| {
            format!(
                "# Nothing is called while `suspend` is there. Choose the state first, then remove it.\n  \
                 state: {state}\n  suspend: {{reason: {why}}}\n"
            )
        },
    );
    let text = format!(
        "# yaml-language-server: $schema={SCHEMA}\n# Imported from CamposCloud: {comment}.\napiVersion: {API_VERSION}\n\
         kind: {KIND}\nmetadata:\n  name: {}\nspec:\n  appId: {}\n  {state}",
        word(name.as_str()),
        word(app.id.as_str()),
    );
    (text, hands_off.is_some())
}

/// A scalar of YAML on one line.
fn word(text: &str) -> String {
    if text_needs_quotes(text) { format!("\"{text}\"") } else { text.to_owned() }
}

/// Checks that the text declares this app with this name, for any display name.
fn read_back(text: &str, app: &Seen, name: &AppName) -> anyhow::Result<()> {
    let parsed = load::parse(&"draft".into(), text.as_bytes());
    match parsed.documents.as_slice() {
        [document] => match &document.content {
            Content::Good(object) if object.spec.app_id == app.id && object.name == *name => Ok(()),
            Content::Good(_) | Content::Refers(..) => {
                Err(anyhow!("bug: the generated manifest of app {} declares another app", app.id))
            }
            Content::Bad(problem) => {
                Err(anyhow!("bug: the generated manifest of app {} is invalid: {problem}", app.id))
            }
        },
        documents => Err(anyhow!("bug: the generated manifest of app {} has {} documents", app.id, documents.len())),
    }
}

/// Writes a new file.
fn create(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).open(path)?.write_all(text.as_bytes())
}

/// Replaces a file by a rename, so that a running operator never reads half of it.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.new"));
    fs::write(&temporary, text)?;
    fs::rename(temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::text::tests::assert_page;
    use crate::printable::tests::hostile;
    use crate::reconcile::reading::Reading;
    use crate::reconcile::redacted::Secrets;

    fn seen(id: &str, name: Option<&str>, observed: Observed) -> Seen {
        let reading = Reading { status: Some("active".into()), ..Reading::new(observed) };
        Seen {
            id: id.parse().unwrap(),
            name: name.map(|name| Secrets::default().redact(name)),
            reading,
            memory_mb: None,
        }
    }

    #[track_caller]
    fn names(apps: &[(&str, Option<&str>)]) -> Vec<String> {
        let seen: Vec<Seen> = apps.iter().map(|(id, name)| seen(id, *name, Observed::Running)).collect();
        let drafts = drafts(&seen, &Existing::default(), false).unwrap();
        drafts.iter().map(|draft| draft.file.display().to_string()).collect()
    }

    #[test]
    fn file_names_are_labels_and_unique() {
        let long = "Ein sehr langer Name, ".repeat(4);
        let given = names(&[
            ("a1", Some("Ticket Bot")),
            ("a2", Some("ticket-bot")),
            ("a3", Some("🎵 Müsic_Bot! 🎵")),
            ("a4", Some("🎵")),
            ("A5", None),
            ("a6", Some("")),
            ("a7", Some(&long)),
            ("a8", Some(&long)),
            ("a9", Some("yes")),
            ("b1", Some("123")),
            ("b2", Some("../../etc/passwd")),
            ("__", Some("--")),
            ("--", None),
            ("b3", Some("a\u{202e}b\n---\nkind: App")),
            ("b4", Some("x\u{ffff}\u{7f}\u{85}y\u{2028}z")),
        ]);
        insta::assert_snapshot!(given.join("\n"), @r"
        ticket-bot.yaml
        ticket-bot-2.yaml
        music-bot.yaml
        app-a4.yaml
        app-a5.yaml
        app-a6.yaml
        ein-sehr-langer-name-ein-sehr-langer-name-ein-sehr-langer-name.yaml
        ein-sehr-langer-name-ein-sehr-langer-name-ein-sehr-langer-nam-2.yaml
        yes.yaml
        123.yaml
        etc-passwd.yaml
        app.yaml
        app-2.yaml
        a-b-kind-app.yaml
        x-y-z.yaml
        ");
        assert!(given.iter().all(|file| file.len() <= MAX_APP_NAME + ".yaml".len()));
    }

    proptest::proptest! {
        #[test]
        fn a_manifest_is_harmless(text in hostile()) {
            let mut app = seen("a1", Some(&text), Observed::Running);
            app.reading.status = Some(Secrets::default().redact(&text));
            let draft = drafts(&[app], &Existing::default(), false).unwrap().remove(0);
            assert_page(&draft.text, &drafts(&[seen("a1", Some("x"), Observed::Running)], &Existing::default(), false).unwrap()[0].text);
            assert!(draft.file.to_string_lossy().is_ascii());
        }
    }

    #[test]
    fn manifests() {
        let drafted = |app: Seen| drafts(&[app], &Existing::default(), false).unwrap().remove(0).text;
        let plain = drafted(seen("60c72b2f9b1e8d001c8e4f3a", Some("Ticket \"Bot\""), Observed::Stopped));
        insta::assert_snapshot!(plain, @r#"
        # yaml-language-server: $schema=.schema
        # Imported from CamposCloud: "Ticket "Bot"", observed Stopped (status active).
        apiVersion: campos-operator.dev/v1
        kind: App
        metadata:
          name: ticket-bot
        spec:
          appId: 60c72b2f9b1e8d001c8e4f3a
          state: Stopped
        "#);
        let unknown = drafted(seen("123", Some("null"), Observed::Creating));
        insta::assert_snapshot!(unknown, @r#"
        # yaml-language-server: $schema=.schema
        # Imported from CamposCloud: "null", observed Creating (status active).
        apiVersion: campos-operator.dev/v1
        kind: App
        metadata:
          name: "null"
        spec:
          appId: "123"
          # Nothing is called while `suspend` is there. Choose the state first, then remove it.
          state: Running
          suspend: {reason: it was being created when it was imported}
        "#);
    }

    #[test]
    fn declared_apps_are_left_alone() {
        let mut existing = Existing::default();
        let mut add = |id: &str, name: &str, file: &str| {
            let name: AppName = name.parse().unwrap();
            existing.names.insert(name.clone());
            existing.apps.insert(id.parse().unwrap(), (name, file.into()));
        };
        add("a1", "mine", "mine.yaml");
        add("a2", "other", "team/other.yaml");
        add("a3", "both", "both.yaml");
        add("a4", "both-b", "both.yaml");
        let apps = ["a1", "a2", "a3", "a4", "a5"].map(|id| seen(id, Some("Mine"), Observed::Running));
        let files = |again| {
            let drafts = drafts(&apps, &existing, again).unwrap();
            drafts.iter().map(|draft| draft.file.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(files(false), ["mine-2.yaml"]);
        assert_eq!(files(true), ["mine.yaml", "mine-2.yaml"]);
    }
}
