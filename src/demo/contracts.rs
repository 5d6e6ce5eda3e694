//! Contracts of real protocols for tests: whether their npm packages are at hand, and deploying them.
//!
//! Invariants: nothing is fetched here; a test that cannot run says so, and fails where it must not be left out.
//! Must not: be used by the daemon.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::types::Address;

/// The folder of the deploy scripts.
fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/protocols")
}

/// Whether the packages that this protocol's deploy script names were fetched. Where they were not, it says on standard
/// error that the test does not run.
///
/// # Panics
/// Under `CI=true`, where no test may be left out.
pub fn at_hand(protocol: &str) -> bool {
    let Err(missing) = check(protocol) else { return true };
    let said = format!("{protocol}: THIS TEST DID NOT RUN: {missing:#}\n");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{said}");
    // Past the capture of what tests print. Where even that fails nobody is listening.
    let _ = std::io::stderr().write_all(said.as_bytes());
    false
}

fn check(protocol: &str) -> Result<()> {
    let output = node(&["fetch.mjs", "--check", protocol])?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// Runs the protocol's deploy script on a node that mines every transaction at once: the JSON that it prints.
pub fn deploy(protocol: &str, rpc_url: &str, keeper: Address) -> Result<Value> {
    let output = node(&[&format!("{protocol}.mjs"), rpc_url, &keeper.to_string()])?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "tools/protocols/{protocol}.mjs failed; if a module or package is missing, run tools/setup.sh protocols:\n{said}"
        );
    }
    serde_json::from_slice(&output.stdout).with_context(|| format!("tools/protocols/{protocol}.mjs prints no JSON"))
}

fn node(arguments: &[&str]) -> Result<Output> {
    let [script, rest @ ..] = arguments else { bail!("no script to run") };
    let output = Command::new("node").arg(scripts().join(script)).args(rest).stdin(Stdio::null()).output();
    output.context("node cannot be started; mend: tools/setup.sh protocols")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_without_a_script_is_told() {
        let error = deploy("unheard_of", "http://127.0.0.1:1", Address::ZERO).unwrap_err();
        assert!(error.to_string().contains("tools/protocols/unheard_of.mjs failed"), "{error:#}");
        assert!(check("unheard_of").unwrap_err().to_string().contains("mend:"));
    }
}
