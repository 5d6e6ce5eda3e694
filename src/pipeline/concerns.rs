//! Causes for alert, said as they are now: holding, with a detail, or over.

use std::{fmt, sync::Arc};

use crate::{
    alerts::{Alert, AlertKey, AlertKind, AlertSink},
    types::DeploymentName,
};

/// One deployment's voice.
#[derive(Clone)]
pub(super) struct Concerns {
    name: DeploymentName,
    sink: Arc<dyn AlertSink>,
}

impl Concerns {
    pub(super) fn new(name: DeploymentName, sink: Arc<dyn AlertSink>) -> Self {
        Self { name, sink }
    }

    /// The cause holds with this detail, or does not hold. `subject` tells apart what a deployment has several of.
    pub(super) fn state(&self, kind: AlertKind, subject: impl fmt::Display, detail: Option<String>) {
        let key = AlertKey::new(kind, Some(&self.name), subject);
        match detail {
            Some(detail) => self.sink.raise(Alert::new(key, detail)),
            None => self.sink.resolve(&key),
        }
    }
}
