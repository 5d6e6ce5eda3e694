//! How the process ends: by a signal in order, by a panic at once.

use std::{backtrace::Backtrace, io, panic, process};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// Exit status after a panic (`EX_SOFTWARE`), apart from those of commands that failed.
const PANIC_STATUS: i32 = 70;
/// Exit status when a second signal asks to stop at once.
const IMPATIENT_STATUS: i32 = 130;

/// Makes a panic in any thread or task end the process: half a daemon is worse than none, and a restart recovers.
pub fn end_on_panic() {
    panic::set_hook(Box::new(|panicked| {
        let place = panicked.location().map(ToString::to_string).unwrap_or_default();
        let message = panicked.payload_as_str().unwrap_or("no message");
        let backtrace = Backtrace::capture();
        error!(place, message, %backtrace, "panic; the process ends");
        process::exit(PANIC_STATUS);
    }));
}

/// Cancels `stop` on the first SIGTERM or SIGINT; a second one ends the process at once.
pub fn stop_on_signals(stop: CancellationToken) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        info!(signal = name, "stopping");
        stop.cancel();
        tokio::select! {
            _ = terminate.recv() => {},
            _ = interrupt.recv() => {},
        }
        warn!("second signal; the process ends at once");
        process::exit(IMPATIENT_STATUS);
    });
    Ok(())
}

/// A message for every SIGHUP from now on; without this call the signal ends the process.
pub fn hangups() -> io::Result<mpsc::Receiver<()>> {
    let mut hangup = signal(SignalKind::hangup())?;
    let (tell, told) = mpsc::channel(1);
    tokio::spawn(async move {
        // Two signals before anybody looked are one wish.
        while hangup.recv().await.is_some() && !matches!(tell.try_send(()), Err(mpsc::error::TrySendError::Closed(())))
        {
        }
    });
    Ok(told)
}

#[cfg(test)]
mod tests {
    use std::{process::Command, thread};

    use super::*;
    use crate::ops::init_logging;

    /// Set in the copy of the test binary that is to die.
    const ROLE: &str = "BACKSTOP_TEST_ROLE";

    fn run_as(role: &str, test: &str) -> process::Output {
        let this = std::env::current_exe().unwrap();
        let name = format!("ops::process::tests::{test}");
        Command::new(this).args(["--exact", &name, "--nocapture"]).env(ROLE, role).output().unwrap()
    }

    #[test]
    fn a_panic_in_any_thread_is_logged_and_ends_the_process() {
        if std::env::var(ROLE).as_deref() == Ok("panic") {
            init_logging(true, "info").unwrap();
            end_on_panic();
            let _ = thread::spawn(|| panic!("books are wet")).join();
            return;
        }
        let output = run_as("panic", "a_panic_in_any_thread_is_logged_and_ends_the_process");
        assert_eq!(output.status.code(), Some(PANIC_STATUS));
        let logged = String::from_utf8(output.stderr).unwrap();
        let line: serde_json::Value = serde_json::from_str(logged.lines().last().unwrap()).unwrap();
        assert_eq!((&line["level"], &line["message"]), (&"ERROR".into(), &"books are wet".into()), "{line}");
        assert!(line["place"].as_str().unwrap().contains("process.rs"), "{line}");
    }

    #[tokio::test]
    async fn sigterm_cancels() {
        if std::env::var(ROLE).as_deref() == Ok("signal") {
            let stop = CancellationToken::new();
            stop_on_signals(stop.clone()).unwrap();
            let me = process::id().to_string();
            assert!(Command::new("kill").args(["-TERM", &me]).status().unwrap().success());
            stop.cancelled().await;
            process::exit(42);
        }
        let output = run_as("signal", "sigterm_cancels");
        assert_eq!(output.status.code(), Some(42), "{output:?}");
    }
}
