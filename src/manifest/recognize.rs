//! Recognizes what a faulty text is: a merge conflict, a template, an encrypted file, JSON with comments, a missing space.
//!
//! The YAML parser reports only a consequence, often on another line. Everything here is asked only about a text that has a
//! mistake, so a valid manifest may contain any of these in its texts.

use super::diagnostic::Mark;
use super::hints::FIELDS;
use super::yaml::Finding;

/// Beginning of a file that git-crypt encrypted.
const GIT_CRYPT: &[u8] = b"\0GITCRYPT\0";

/// Returns the name of the encryption of a whole file.
pub(super) fn encrypted(bytes: &[u8]) -> Option<Finding> {
    let about = |message: &str, hint: &str| Some(Finding::new(Mark::START, message).hint(hint));
    if bytes.starts_with(GIT_CRYPT) {
        return about("the file is encrypted by git-crypt", "run `git-crypt unlock` in the repository");
    }
    if bytes.starts_with(b"age-encryption.org/") || bytes.starts_with(b"-----BEGIN AGE ENCRYPTED FILE-----") {
        return about("the file is encrypted by age", "decrypt it before the operator reads it");
    }
    if bytes.starts_with(b"$ANSIBLE_VAULT;") {
        return about(
            "the file is encrypted by Ansible Vault",
            "run `ansible-vault decrypt` before the operator reads it",
        );
    }
    if bytes.starts_with(b"-----BEGIN PGP MESSAGE-----") {
        return about("the file is encrypted by PGP", "decrypt it before the operator reads it");
    }
    None
}

/// Returns the first mark of a merge that is not resolved. No YAML begins a line like this.
pub(super) fn conflict(text: &str) -> Option<Finding> {
    let marker =
        |line: &&str, sign: &str| line.strip_prefix(sign).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '));
    let (at, line) = numbered(text).find(|(_, line)| marker(line, "<<<<<<<"))?;
    text.lines().any(|line| marker(&line, ">>>>>>>") || marker(&line, "=======")).then(|| {
        Finding::new(mark(at, 1, line), "an unresolved merge conflict")
            .found("conflict markers")
            .hint("choose one side, and remove the lines that begin with `<<<<<<<`, `=======` and `>>>>>>>`")
    })
}

/// Returns what explains the mistakes of a document better than they do; `lines` are the lines of the mistakes, and
/// `is_yaml` is whether the document can be parsed.
pub(super) fn cause(text: &str, first_line: u32, lines: &[u32], is_yaml: bool) -> Option<Finding> {
    let (number, finding) = sops(text)
        .or_else(|| template(text, first_line, lines, is_yaml))
        .or_else(|| json_comment(text))
        .or_else(|| odd_space(text))
        .or_else(|| missing_space(text))?;
    Some(Finding { at: Mark { line: first_line.saturating_add(number - 1), ..finding.at }, ..finding })
}

/// A finding, and its line within the document, from 1.
type Found = (u32, Finding);

fn sops(text: &str) -> Option<Found> {
    let encrypted =
        |line: &&str| line.contains("ENC[AES256_GCM,") || line.starts_with("sops:") || line.starts_with("\"sops\":");
    let both =
        text.contains("ENC[AES256_GCM,") || text.lines().any(|line| line == "sops:" || line.starts_with("sops: {"));
    let (number, line) = numbered(text).find(|(_, line)| both && encrypted(line))?;
    let finding = Finding::new(mark(1, 1, line), "the manifest is encrypted by SOPS")
        .hint("decrypt it before the operator reads it: `sops --decrypt`; a manifest holds no secrets");
    Some((number, finding))
}

fn template(text: &str, first_line: u32, lines: &[u32], is_yaml: bool) -> Option<Found> {
    let braces =
        |line: &str| (line.contains("{{") && line.contains("}}")) || (line.contains("{%") && line.contains("%}"));
    let concerned = |number: u32| !is_yaml || lines.contains(&first_line.saturating_add(number - 1));
    let content = |line: &str| !line.trim_start().starts_with('#');
    let found = numbered(text).find(|(number, line)| content(line) && braces(line) && concerned(*number));
    if let Some((number, line)) = found {
        let start = line.find("{{").or_else(|| line.find("{%")).unwrap_or(0);
        let end = line.rfind("}}").or_else(|| line.rfind("%}")).map_or(line.len(), |end| end + 2);
        let finding = Finding::new(marked(line, start, end), "a template that is not rendered")
            .found(format!("`{}`", line.get(start..end).unwrap_or(line)))
            .hint("render it first, such as `helm template . | campos-operator validate -`");
        return Some((number, finding));
    }
    let (number, line) = numbered(text).find(|(number, line)| {
        content(line) && lines.contains(&first_line.saturating_add(number - 1)) && line.contains("${")
    })?;
    let start = line.find("${")?;
    let end = start + line[start..].find('}')? + 1;
    let finding = Finding::new(marked(line, start, end), "a variable that is not replaced")
        .found(format!("`{}`", &line[start..end]))
        .hint("replace it first, such as `envsubst < FILE | campos-operator validate -`");
    Some((number, finding))
}

/// A comment in a text that begins like JSON.
fn json_comment(text: &str) -> Option<Found> {
    let body = text.trim_start_matches(|c: char| c.is_whitespace() || c == '-');
    if !body.starts_with('{') && !body.starts_with("//") && !body.starts_with("/*") {
        return None;
    }
    for (number, line) in numbered(text) {
        let (mut quoted, mut escaped, mut before) = (false, false, ' ');
        for (at, c) in line.char_indices() {
            if !quoted && before == '/' && matches!(c, '/' | '*') {
                let finding = Finding::new(marked(line, at - 1, line.len()), "JSON has no comments")
                    .hint("remove the comment, or rename the file to .yaml and begin the comment with `#`");
                return Some((number, finding));
            }
            quoted ^= c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            before = c;
        }
    }
    None
}

/// A space that is not the plain one, where YAML expects one: in the indentation, after a colon, or at the end.
fn odd_space(text: &str) -> Option<Found> {
    let odd = |c: char| c != '\t' && c != ' ' && (c.is_whitespace() || c == '\u{200b}' || c == '\u{2060}');
    numbered(text).find_map(|(number, line)| {
        let content = line.trim_start_matches(|c: char| c == ' ' || c == '-' || odd(c));
        let indent = &line[..line.len() - content.len()];
        let after_colon = content.find(':').map(|colon| line.len() - content.len() + colon + 1);
        let after_colon = after_colon.filter(|at| line[*at..].starts_with(odd));
        let trailing = line.chars().next_back().filter(|c| odd(*c)).map(|c| line.len() - c.len_utf8());
        let at = indent.find(odd).or(after_colon).or(trailing)?;
        let c = line[at..].chars().next()?;
        let name = if c == '\u{a0}' { "a no-break space" } else { "a space that YAML does not know" };
        let finding = Finding::new(marked(line, at, at + c.len_utf8()), name)
            .found(format!("U+{:04X}", u32::from(c)))
            .hint("replace it by a plain space");
        Some((number, finding))
    })
}

/// A known field without the space after its colon: `state:Stopped`.
fn missing_space(text: &str) -> Option<Found> {
    numbered(text).find_map(|(number, line)| {
        let content = line.trim_start_matches([' ', '-', '{']);
        let (key, value) = content.split_once(':')?;
        let known = FIELDS.iter().any(|(_, fields)| fields.contains(&key));
        if !known || value.is_empty() || value.starts_with([' ', '\t']) {
            return None;
        }
        let start = line.len() - content.len();
        let value = value.split(" #").next().unwrap_or(value).trim_end();
        let finding = Finding::new(marked(line, start, start + key.len() + 1), format!("no space after `{key}:`"))
            .hint(format!("write `{key}: {value}`"));
        Some((number, finding))
    })
}

fn numbered(text: &str) -> impl Iterator<Item = (u32, &str)> {
    (1u32..).zip(text.lines())
}

fn mark(line: u32, column: u32, text: &str) -> Mark {
    Mark { line, column, length: u32::try_from(text.chars().count().max(1)).unwrap_or(1) }
}

/// The mark of the bytes `start..end` of a line.
fn marked(line: &str, start: usize, end: usize) -> Mark {
    let count = |text: Option<&str>| u32::try_from(text.map_or(0, |text| text.chars().count())).unwrap_or(0);
    Mark { line: 1, column: count(line.get(..start)) + 1, length: count(line.get(start..end)).max(1) }
}
