//! Recognizes the cause of an error: a merge conflict, a template, an encrypted file, JSON with comments, a missing
//! space.
//!
//! The YAML parser reports only a consequence, often on another line. `cause` explains only existing errors, so a valid
//! manifest may contain any of these in its texts.

use super::diagnostic::Mark;
use super::hints::FIELDS;
use super::yaml::Finding;

/// Beginning of a file that git-crypt encrypted.
const GIT_CRYPT: &[u8] = b"\0GITCRYPT\0";

/// Returns the finding about an encrypted file.
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

/// Returns the first mark of an unresolved merge, even if the other marks are removed. No line of YAML begins like
/// this.
pub(super) fn conflict(text: &str) -> Option<Finding> {
    let is_marker = |line: &str| {
        line == "======="
            || ["<<<<<<<", "|||||||", ">>>>>>>"]
                .iter()
                .any(|sign| line.strip_prefix(sign).is_some_and(|rest| rest.is_empty() || rest.starts_with(' ')))
    };
    let (at, line) = numbered(text).find(|(_, line)| is_marker(line))?;
    let hint = "choose one side, and remove the lines that begin with `<<<<<<<`, `|||||||`, `=======` and `>>>>>>>`";
    let finding = Finding::new(mark(at, 1, line), "an unresolved merge conflict");
    Some(finding.found(format!("`{}`", line.chars().take(40).collect::<String>())).hint(hint))
}

/// The errors of a document.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mistakes<'a> {
    /// The line of the file on which the document begins.
    pub(super) first_line: u32,
    /// Their lines in the file.
    pub(super) lines: &'a [u32],
    /// Whether the document can be parsed. Otherwise the parser stops at the line of the error, or after it.
    pub(super) is_yaml: bool,
}

impl Mistakes<'_> {
    /// Returns whether a line of the document can be the cause.
    fn concern(&self, number: u32) -> bool {
        let line = self.first_line.saturating_add(number - 1);
        if self.is_yaml { self.lines.contains(&line) } else { self.lines.iter().any(|mistake| line <= *mistake) }
    }
}

/// Returns a better explanation of the errors of a document.
pub(super) fn cause(text: &str, mistakes: Mistakes<'_>) -> Option<Finding> {
    let lines = || content(text).filter(|(number, _)| mistakes.concern(*number));
    let (number, finding) = sops(text)
        .or_else(|| template(lines()))
        .or_else(|| json_comment(text))
        .or_else(|| odd_space(lines()))
        .or_else(|| missing_space(lines()))?;
    Some(Finding { at: Mark { line: mistakes.first_line.saturating_add(number - 1), ..finding.at }, ..finding })
}

/// Returns whether an error is about a whole file, which may have many documents.
pub(super) fn concerns_file(message: &str) -> bool {
    matches!(message, TEMPLATE | SOPS)
}

const TEMPLATE: &str = "a template that is not rendered";
const SOPS: &str = "the manifest is encrypted by SOPS";

/// A finding, and its line within the document, from 1.
type Found = (u32, Finding);

fn sops(text: &str) -> Option<Found> {
    let encrypted =
        |line: &&str| line.contains("ENC[AES256_GCM,") || line.starts_with("sops:") || line.starts_with("\"sops\":");
    let both =
        text.contains("ENC[AES256_GCM,") || text.lines().any(|line| line == "sops:" || line.starts_with("sops: {"));
    let (number, line) = numbered(text).find(|(_, line)| both && encrypted(line))?;
    let finding = Finding::new(mark(1, 1, line), SOPS)
        .hint("decrypt it before the operator reads it: `sops --decrypt`; a manifest holds no secrets");
    Some((number, finding))
}

fn template<'a>(mut lines: impl Iterator<Item = (u32, &'a str)> + Clone) -> Option<Found> {
    let braces = |line: &str| {
        [("{{", "}}"), ("{%", "%}"), ("<%", "%>")].into_iter().find_map(|(open, close)| {
            let start = line.find(open)?;
            Some((start, line.rfind(close).filter(|end| *end > start)? + close.len()))
        })
    };
    if let Some((number, line, (start, end))) =
        lines.clone().find_map(|(number, line)| Some((number, line, braces(line)?)))
    {
        let finding = Finding::new(marked(line, start, end), TEMPLATE)
            .found(format!("`{}`", line.get(start..end).unwrap_or(line)))
            .hint("render it first, such as `helm template . | campos-operator validate -`");
        return Some((number, finding));
    }
    let (number, line) = lines.find(|(_, line)| line.contains("${"))?;
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

/// A special space character in a place for a plain space: in the indentation, after a colon, at the end, or in a key.
fn odd_space<'a>(mut lines: impl Iterator<Item = (u32, &'a str)>) -> Option<Found> {
    let odd =
        |c: char| c != '\t' && c != ' ' && (c.is_whitespace() || matches!(c, '\u{200b}'..='\u{200d}' | '\u{2060}'));
    lines.find_map(|(number, line)| {
        let content = line.trim_start_matches(|c: char| c == ' ' || c == '-' || odd(c));
        let start = line.len() - content.len();
        let colon = content.find(':').map(|colon| start + colon);
        let after_colon = colon.map(|colon| colon + 1).filter(|at| line[*at..].starts_with(odd));
        let in_key = colon.and_then(|colon| line[start..colon].find(odd)).map(|at| start + at);
        let trailing = line.chars().next_back().filter(|c| odd(*c)).map(|c| line.len() - c.len_utf8());
        let at = line[..start].find(odd).or(after_colon).or(in_key).or(trailing)?;
        let c = line[at..].chars().next()?;
        let name = if c == '\u{a0}' { "a no-break space" } else { "a space that YAML does not know" };
        let finding = Finding::new(marked(line, at, at + c.len_utf8()), name).found(format!("U+{:04X}", u32::from(c)));
        let removed = at >= start && Some(at) != after_colon;
        Some((number, finding.hint(if removed { "remove it" } else { "replace it by a plain space" })))
    })
}

/// A known field without the space after its colon: `state:Stopped`, also in braces.
fn missing_space<'a>(mut lines: impl Iterator<Item = (u32, &'a str)>) -> Option<Found> {
    lines.find_map(|(number, line)| {
        let content = line.len() - line.trim_start_matches([' ', '-']).len();
        let braces = line.find('{').unwrap_or(line.len());
        let inside = line[braces..].match_indices(['{', ',']).map(|(at, _)| braces + at + 1);
        [content].into_iter().chain(inside).find_map(|start| {
            let start = start + (line[start..].len() - line[start..].trim_start().len());
            let (key, value) = line[start..].split_once(':')?;
            let known = FIELDS.iter().any(|(_, fields)| fields.contains(&key));
            if !known || value.is_empty() || value.starts_with([' ', '\t']) {
                return None;
            }
            let value = if start > braces { value.split([',', '}']).next() } else { value.split(" #").next() };
            let value = value.unwrap_or_default().trim_end();
            let finding = Finding::new(marked(line, start, start + key.len() + 1), format!("no space after `{key}:`"));
            Some((number, finding.hint(format!("write `{key}: {value}`"))))
        })
    })
}

/// The lines of a text without comments and the content of block scalars (`|`), which may have any content.
fn content(text: &str) -> impl Iterator<Item = (u32, &str)> + Clone {
    let mut block: Option<usize> = None;
    numbered(text).filter(move |(_, line)| {
        let indent = |also: &[char]| line.len() - line.trim_start_matches(also).len();
        if line.trim().is_empty() || block.is_some_and(|above| indent(&[' ']) > above) {
            return false;
        }
        let last = line.split(" #").next().and_then(|line| line.split_whitespace().next_back()).unwrap_or_default();
        let is_block = last.trim_end_matches(|c: char| c.is_ascii_digit() || c == '+' || c == '-');
        block = matches!(is_block, "|" | ">").then(|| indent(&[' ', '-']));
        !line.trim_start().starts_with('#')
    })
}

fn numbered(text: &str) -> impl Iterator<Item = (u32, &str)> + Clone {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// `expected`: line and message, for a text with an error on each of `lines`.
    #[track_caller]
    fn case(text: &str, lines: &[u32], is_yaml: bool, expected: Option<(u32, &str)>) {
        let found = cause(text, Mistakes { first_line: 1, lines, is_yaml });
        assert_eq!(found.as_ref().map(|found| (found.at.line, &*found.message)), expected, "{text}");
    }

    #[test]
    fn one_marker_is_a_conflict() {
        for marker in ["<<<<<<< HEAD", "||||||| 1a2b", "=======", ">>>>>>> x"] {
            assert_eq!(conflict(&format!("a: b\n{marker}\nc: d\n")).map(|found| found.at.line), Some(2), "{marker}");
        }
        for text in ["a: |\n  <<<<<<< HEAD\n", "========\n", "<<<<<<<<\n", "======= x\n", "# =======\n"] {
            assert_eq!(conflict(text), None, "{text}");
        }
    }

    #[test]
    fn a_cause_is_at_the_mistake() {
        case("a: b\nstate:Stopped\n", &[2], false, Some((2, "no space after `state:`")));
        case("spec: {appId: x, state:Stopped}\n", &[1], true, Some((1, "no space after `state:`")));
        case("spec: {appId:x}\n", &[1], true, Some((1, "no space after `appId:`")));
        case("state: x\nkind:App\n", &[1], true, None);
        case("a: [\nb: c\nstate:Stopped\n", &[2], false, None);
        case("name: {{ x }}\n", &[1], false, Some((1, TEMPLATE)));
        case("a: \"{{ x }}\"\nb: c\n", &[2], true, None);
        case("a: <%= x %>\n", &[1], true, Some((1, TEMPLATE)));
        case("a: b\nst\u{200b}ate: c\n", &[2], true, Some((2, "a space that YAML does not know")));
        case("a: b\u{a0}\nc: d\n", &[2], true, None);
    }

    /// A block scalar and a comment may have any content.
    #[test]
    fn texts_are_no_cause() {
        case("a: |\n  state:Stopped\n  {{ x }}\n\n  \u{a0}y\nb: [\n", &[6], false, None);
        case("- a: >-  # why\n    kind:App\n  state:x\n", &[4], false, Some((3, "no space after `state:`")));
        case("# {{ x }} state:Stopped\nb: [\n", &[2], false, None);
    }
}
