//! The demo's running display: one line that is rewritten on a terminal, a line a step elsewhere.
//!
//! Must not: print anything that a script should read; that is the report's.

use std::io::{IsTerminal as _, Write as _};

/// Where the running display goes.
#[derive(Debug)]
pub(super) struct Display {
    live: bool,
    /// What the last plain line was about; the same is not told twice.
    told: String,
}

impl Display {
    /// A display on standard error: standard output carries the table alone.
    pub(super) fn new() -> Self {
        Self { live: std::io::stderr().is_terminal(), told: String::new() }
    }

    /// A new part of the demo begins.
    pub(super) fn phase(&mut self, what: &str) {
        self.end_line();
        eprintln!("{what}");
        self.told.clear();
    }

    /// How things stand. On a terminal the last such line is replaced; elsewhere it is printed when `chapter` is new.
    pub(super) fn tick(&mut self, chapter: &str, line: &str) {
        if self.live {
            // A display that cannot be written is no reason to stop.
            let _ = write!(std::io::stderr(), "\r\x1b[2K  {chapter}  {line}");
            let _ = std::io::stderr().flush();
            self.told = chapter.to_owned();
        } else if self.told != chapter {
            eprintln!("  {chapter}  {line}");
            self.told = chapter.to_owned();
        }
    }

    /// Leaves the last line as it is.
    pub(super) fn end_line(&mut self) {
        if self.live && !self.told.is_empty() {
            eprintln!();
        }
    }
}

impl Default for Display {
    fn default() -> Self {
        Self::new()
    }
}
