//! A second YAML parser, `serde_yaml`, for documents that use rare syntax.
//!
//! The two parsers share no code. They differ only for rare syntax: unusual names of anchors, block scalars in braces,
//! tabs, keys over several lines, values that begin with a colon. A document that may use it is in force only if both
//! read the same values. A property test and the fuzz target check that the parsers agree on all other documents.

use serde_yaml::Value;

use super::diagnostic::Mark;
use super::yaml::{self, Finding, Node, Tree, implied};

/// Returns whether a document may use rare syntax.
pub(super) fn is_needed(tree: &Tree, text: &str) -> bool {
    // An alias (`*`) needs an anchor (`&`).
    let bytes = text.as_bytes();
    tree.odd_keys
        || bytes.iter().any(|byte| b"&|>?\t%@`".contains(byte))
        || bytes.windows(2).any(|pair| pair[1] == b':' && b" \n{[,:".contains(&pair[0]))
}

/// Compares a tree with the result of `serde_yaml` for the same text, which begins on line `first_line`.
///
/// # Errors
/// The results differ, or `serde_yaml` cannot read the text.
pub(super) fn agrees(root: &Node, text: &str, first_line: u32) -> Result<(), Finding> {
    let value: Value = serde_yaml::from_str(text).map_err(|error| {
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let at = error.location().map_or(root.at, |location| Mark {
            line: number(location.line()).saturating_add(first_line - 1),
            column: number(location.column()),
            length: 1,
        });
        let message = error.to_string();
        let message = message.split(" at line ").next().unwrap_or(&message);
        Finding::new(at, format!("not valid: {message}")).hint("write it more plainly")
    })?;
    if same(root, &value) {
        return Ok(());
    }
    let hint = "write it more plainly: quote texts, and keep each value on one line";
    Err(Finding::new(root.at, "two YAML readers read this document differently").hint(hint))
}

fn same(node: &Node, value: &Value) -> bool {
    match (&node.value, value) {
        (yaml::Value::Scalar { text, .. }, Value::String(value)) => **text == *value,
        (yaml::Value::Scalar { plain: true, .. }, Value::Null) => node.is_null(),
        (yaml::Value::Scalar { text, plain: true }, Value::Bool(value)) => text.to_lowercase() == value.to_string(),
        (yaml::Value::Scalar { text, plain: true }, Value::Number(_)) => implied(text) == Some("a number"),
        (yaml::Value::List(nodes), Value::Sequence(values)) => {
            nodes.len() == values.len() && nodes.iter().zip(values).all(|(node, value)| same(node, value))
        }
        (yaml::Value::Map(entries), Value::Mapping(values)) => {
            let both = |((key, node), (name, value)): (&(Node, Node), _)| same(key, name) && same(node, value);
            entries.len() == values.len() && entries.iter().zip(values).all(both)
        }
        _ => false,
    }
}
