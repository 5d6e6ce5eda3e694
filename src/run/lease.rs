//! Holding a deployment's lease: standing by for it, keeping it, giving it up.
//!
//! Invariants: the tenure ends before the lease does, whether or not the database can be asked; a lease that is lost is
//! never kept, only taken anew.
//! Must not: do anything for the deployment.

use std::{
    sync::OnceLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    journal::{Journal, Lease, Tenure},
    ops::{DeploymentHealth, Role},
    types::DeploymentName,
};

/// Takes the lease, standing by for as long as another replica has it or should; `None` when stopped before.
pub(super) async fn acquire(
    journal: &Journal,
    name: &DeploymentName,
    lasts: Duration,
    health: &DeploymentHealth,
    stop: &CancellationToken,
) -> anyhow::Result<Option<(Lease, Tenure)>> {
    let mut told = false;
    loop {
        let asked = Instant::now();
        if let Some(lease) = journal.acquire_lease(name, holder(), lasts).await? {
            info!(deployment = %name, epoch = lease.epoch, holder = lease.holder, "lease taken");
            health.role(Role::Holder);
            return Ok(Some((lease, Tenure::begin(asked, lasts))));
        }
        if !told {
            info!(deployment = %name, "another replica holds the lease, or should; standing by");
            told = true;
        }
        health.role(Role::Standby);
        health.halted(None);
        tokio::select! {
            () = stop.cancelled() => return Ok(None),
            () = tokio::time::sleep(lasts / 5) => {}
        }
    }
}

/// Renews the lease until `over`, or until it is lost. Says through `give_up` that another replica should have it.
pub(super) async fn keep(
    journal: Journal,
    (lease, tenure): (Lease, Tenure),
    lasts: Duration,
    give_up: CancellationToken,
    over: CancellationToken,
) {
    loop {
        tokio::select! {
            () = over.cancelled() => return,
            () = tokio::time::sleep(lasts / 5) => {}
        }
        let asked = Instant::now();
        match tokio::time::timeout(lasts / 3, journal.renew_lease(&lease, lasts)).await {
            Ok(Ok(true)) => tenure.extend(asked, lasts),
            Ok(Ok(false)) => {
                tenure.end();
                warn!(deployment = %lease.name, epoch = lease.epoch, "lease lost");
                return;
            }
            Ok(Err(error)) => warn!(deployment = %lease.name, %error, "lease not renewed"),
            Err(_) => warn!(deployment = %lease.name, "lease not renewed: the journal does not answer"),
        }
        // Spreading can wait; whether the journal answers was said above.
        if !give_up.is_cancelled()
            && let Ok(Ok(true)) = tokio::time::timeout(lasts / 3, journal.should_give_up(&lease)).await
        {
            info!(deployment = %lease.name, "lease is given up: a replica that holds fewer stands by for it");
            give_up.cancel();
        }
    }
}

/// This process, told from every other: for people who read the table.
fn holder() -> &'static str {
    static HOLDER: OnceLock<String> = OnceLock::new();
    HOLDER.get_or_init(|| {
        let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "host".to_owned());
        let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        format!("{host}/{}/{started}", std::process::id())
    })
}
