//! One convention for every figure that a campaign or a benchmark states: a table for people, and one JSON line a bar,
//! `{"name":…,"value":…,"bar":…,"ok":true|false}`, in `<kind>/<name>.jsonl` below the target folder.
//!
//! Must not: measure anything.

use std::{fs, io, path::Path};

use serde::Serialize;
use serde_json::Value;

/// One measured figure against its bar.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// What came out.
    pub value: Value,
    /// What it is held against.
    pub bar: Value,
    /// Whether the bar is met.
    pub ok: bool,
}

/// The figures of one run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures(Vec<Figure>);

impl Figures {
    /// A figure that must be exactly this.
    pub fn exactly(&mut self, name: &str, value: impl Into<Value>, bar: impl Into<Value>) {
        let (value, bar) = (value.into(), bar.into());
        let ok = value == bar;
        self.0.push(Figure { name: name.to_owned(), value, bar, ok });
    }

    /// A figure that must not be above this.
    pub fn at_most(&mut self, name: &str, value: f64, bar: f64) {
        self.0.push(Figure { name: name.to_owned(), value: value.into(), bar: bar.into(), ok: value <= bar });
    }

    /// A figure that must not be below this.
    pub fn at_least(&mut self, name: &str, value: f64, bar: f64) {
        self.0.push(Figure { name: name.to_owned(), value: value.into(), bar: bar.into(), ok: value >= bar });
    }

    /// A figure that is held against nothing.
    pub fn stated(&mut self, name: &str, value: f64) {
        self.0.push(Figure { name: name.to_owned(), value: value.into(), bar: Value::Null, ok: true });
    }

    /// Whether every bar is met.
    pub fn all_ok(&self) -> bool {
        self.0.iter().all(|figure| figure.ok)
    }

    /// Writes one JSON line a figure.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut text = String::new();
        for figure in &self.0 {
            text += &serde_json::to_string(figure)?;
            text.push('\n');
        }
        fs::write(path, text)
    }

    /// The same for people.
    pub fn table(&self) -> String {
        let width = self.0.iter().map(|figure| figure.name.chars().count()).max().unwrap_or_default();
        let line = |figure: &Figure| {
            let verdict = if figure.ok { "ok" } else { "MISSED" };
            format!("  {:<width$}  {} (bar {})  {verdict}\n", figure.name, figure.value, figure.bar)
        };
        self.0.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_a_bar_says_whether_it_is_met() {
        let mut figures = Figures::default();
        figures.exactly("mismatches", 0, 0);
        assert!(figures.all_ok());
        figures.at_most("ratio", 1.5, 1.0);
        figures.at_least("rate", 1.5, 1.5);
        figures.stated("p99", 0.5);
        assert!(!figures.all_ok());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bench/scanner.jsonl");
        figures.write(&path).unwrap();
        let lines = "{\"name\":\"mismatches\",\"value\":0,\"bar\":0,\"ok\":true}\n\
                     {\"name\":\"ratio\",\"value\":1.5,\"bar\":1.0,\"ok\":false}\n\
                     {\"name\":\"rate\",\"value\":1.5,\"bar\":1.5,\"ok\":true}\n\
                     {\"name\":\"p99\",\"value\":0.5,\"bar\":null,\"ok\":true}\n";
        assert_eq!(fs::read_to_string(path).unwrap(), lines);
        assert!(figures.table().contains("ratio       1.5 (bar 1.0)  MISSED"));
    }
}
