//! What is wrong with a configuration: one line each, with the key in full and the mend.

use std::fmt;

use config::ConfigError as LayerError;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The key in full, or the file.
    pub key: String,
    /// What is wrong with it and, after a semicolon, what to do.
    pub problem: String,
}

impl Fault {
    pub(super) fn new(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { key: key.into(), problem: problem.into() }
    }

    /// From what deserialising the merged layers came to. Values are not repeated: they may be secret.
    pub(super) fn of_layers(error: &LayerError) -> Self {
        match error {
            LayerError::At { error, key, .. } => Self::of_message(&dotted(key.as_deref()), &error.to_string()),
            LayerError::NotFound(key) => Self::missing(&dotted(Some(key))),
            LayerError::Type { unexpected, expected, key, .. } => {
                Self::mistyped(&dotted(key.as_deref()), &unexpected.to_string(), expected)
            }
            other => Self::of_message("", &other.to_string()),
        }
    }

    fn missing(key: &str) -> Self {
        let mend = if key == "database.url" { "set DATABASE_URL or add it" } else { "add it" };
        Self::new(key, format!("missing; {mend} (config/reference.toml explains every key)"))
    }

    /// `found` is the kind of the value, then the value.
    fn mistyped(key: &str, found: &str, expected: &str) -> Self {
        let kind = found.split(['`', '"']).next().unwrap_or_default().trim();
        let wanted = match expected {
            _ if expected.contains("integer") => "a whole number, 0 or more",
            _ if expected.contains("bool") => "true or false",
            _ if ["struct", "enum", "map"].iter().any(|word| expected.contains(word)) => "a table",
            _ if expected.contains("sequence") => "a list",
            other => other,
        };
        Self::new(key, format!("is of type {kind}; write {wanted}"))
    }

    fn of_message(parent: &str, message: &str) -> Self {
        let child = |name: &str| if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") };
        if let Some((found, expected)) =
            message.strip_prefix("invalid type: ").and_then(|m| m.rsplit_once(", expected "))
        {
            return Self::mistyped(parent, found, expected);
        }
        let words = quoted(message);
        match words.split_first() {
            Some((name, known)) if message.starts_with("unknown field") => {
                let near = nearest(name, known).map(|near| format!("did you mean {near}? ")).unwrap_or_default();
                Self::new(child(name), format!("unknown key; {near}known here: {}", known.join(", ")))
            }
            Some((word, known)) if message.starts_with("unknown variant") => {
                Self::new(parent, format!("unknown word {word:?}; write one of: {}", known.join(", ")))
            }
            Some((name, _)) if message.starts_with("missing field") => Self::missing(&child(name)),
            _ if message.contains("; ") => Self::new(parent, message),
            _ => Self::new(parent, format!("{message}; see the key in config/reference.toml")),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = if self.key.is_empty() { self.problem.clone() } else { format!("{}: {}", self.key, self.problem) };
        write!(f, "config: {}", line.replace(['\n', '\r'], " "))
    }
}

/// Everything that is wrong; never empty. Prints one line per fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(Fault::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigError(pub Vec<Fault>);

impl From<Fault> for ConfigError {
    fn from(fault: Fault) -> Self {
        Self(vec![fault])
    }
}

/// A key's path with a dot after an index, too: the layers leave it out.
fn dotted(key: Option<&str>) -> String {
    key.unwrap_or_default()
        .replace(']', "].")
        .replace("]..", "].")
        .replace("].[", "][")
        .trim_end_matches('.')
        .to_owned()
}

/// What stands between backquotes, in order.
fn quoted(message: &str) -> Vec<&str> {
    message.split('`').skip(1).step_by(2).collect()
}

/// The known name that a typing error would most likely have come from.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    if let Some(longer) = known.iter().find(|candidate| candidate.starts_with(name)) {
        return Some(longer);
    }
    let edits_max = 1 + name.len() / 4;
    let (edits, near) = known.iter().map(|&candidate| (edit_distance(name, candidate), candidate)).min()?;
    (edits <= edits_max).then_some(near)
}

/// Levenshtein distance in bytes, row by row.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(nearest("conections_max", &["url", "connections_max"]), Some("connections_max"));
        assert_eq!(nearest("colour", &["url", "connections_max"]), None);
        assert_eq!(nearest("x", &[]), None);
    }

    #[test]
    fn a_fault_is_one_line() {
        assert_eq!(Fault::new("a.b", "x\ny").to_string(), "config: a.b: x y");
    }
}
