//! What the demo and the tests need of the operating system: children that do not outlive it, a signal to one of them, a directory
//! that goes with it.
//!
//! Must not: signal a process that this one did not start.

use std::{
    io,
    os::unix::{fs::DirBuilderExt, process::CommandExt},
    path::{Path, PathBuf},
};

use tokio::process::Child;

/// Makes the child die with the thread that spawns it, however that ends. Spawn from a thread that lives as long as the
/// child shall.
#[cfg(target_os = "linux")]
pub fn die_with_parent(command: &mut std::process::Command) {
    let parent = std::process::id();
    // SAFETY: the closure runs in the child between fork and exec and makes only async-signal-safe system calls.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            // The parent may have died before the signal was asked for.
            if u32::try_from(libc::getppid()) != Ok(parent) {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
}

/// Other systems have no such signal: there the guard alone ends the child.
#[cfg(not(target_os = "linux"))]
pub fn die_with_parent(_command: &mut std::process::Command) {}

/// Asks a child that was not yet reaped to end.
pub fn terminate(child: &Child) -> io::Result<()> {
    signal(child, libc::SIGTERM)
}

/// Tells a child that was not yet reaped that its configuration may have changed.
pub fn hang_up(child: &Child) -> io::Result<()> {
    signal(child, libc::SIGHUP)
}

/// Stops a child where it stands; it goes on at [`go_on`].
pub fn hold(child: &Child) -> io::Result<()> {
    signal(child, libc::SIGSTOP)
}

/// Lets a child that was held go on.
pub fn go_on(child: &Child) -> io::Result<()> {
    signal(child, libc::SIGCONT)
}

/// The same for a child of the standard library's, which was not yet waited for.
pub(super) fn signal_child(child: &std::process::Child, signal: libc::c_int) -> io::Result<()> {
    libc::pid_t::try_from(child.id()).map_or(Ok(()), |id| send(id, signal))
}

fn signal(child: &Child, signal: libc::c_int) -> io::Result<()> {
    let Some(id) = child.id().and_then(|id| libc::pid_t::try_from(id).ok()) else { return Ok(()) };
    send(id, signal)
}

fn send(id: libc::pid_t, signal: libc::c_int) -> io::Result<()> {
    // SAFETY: kill takes plain integers; the child is not yet reaped, so the id is still its own.
    #[allow(unsafe_code)]
    match unsafe { libc::kill(id, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A directory for this process alone, removed with the guard.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Creates it under the system's directory for temporary files.
    pub fn create(name: &str) -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A directory that somebody removed already is what is wanted.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_child_that_is_asked_to_end_ends() {
        let mut command = tokio::process::Command::new("sleep");
        die_with_parent(command.as_std_mut());
        let mut child = command.arg("60").kill_on_drop(true).spawn().unwrap();
        terminate(&child).unwrap();
        let status = child.wait().await.unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGTERM));
        terminate(&child).unwrap();
    }

    #[test]
    fn a_scratch_directory_goes_with_its_guard() {
        let scratch = Scratch::create("backstop-scratch-test").unwrap();
        let path = scratch.path().to_owned();
        std::fs::write(path.join("file"), "x").unwrap();
        drop(scratch);
        assert!(!path.exists());
    }
}
