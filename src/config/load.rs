//! Laying the layers over each other.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use config::{Environment, File, FileFormat, Map, Value, ValueKind};

use super::{Config, ConfigError, Fault, Secret};

const DEFAULTS: &str = include_str!("../../config/default.toml");
/// Shortest token that is taken for one.
const TOKEN_BYTES_MIN: usize = 16;
const DEPLOYMENT_DEFAULTS: &str = "deployment_defaults";

impl Config {
    /// Reads, merges and validates. `environment` is the process's, or a test's own.
    pub fn load(files: &[PathBuf], environment: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let texts = files.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
        Self::from_texts(&texts, environment)
    }

    /// The same from the files' texts.
    pub(super) fn from_texts(texts: &[String], environment: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let mut layers = config::Config::builder().add_source(File::from_str(DEFAULTS, FileFormat::Toml));
        for text in texts {
            layers = layers.add_source(File::from_str(text, FileFormat::Toml));
        }
        let merged = layers
            .add_source(environment_layer(environment)?)
            .build()
            .and_then(config::Config::try_deserialize::<Map<String, Value>>)
            .map_err(|error| Fault::of_layers(&error))?;
        let root = Value::new(None, ValueKind::Table(with_deployment_defaults(merged)));
        let mut config: Self = root.try_deserialize().map_err(|error| Fault::of_layers(&error))?;
        config.read_secrets(environment)?;
        config.validate()?;
        Ok(config)
    }

    fn read_secrets(&mut self, environment: &BTreeMap<String, String>) -> Result<(), ConfigError> {
        for (index, webhook) in self.alerts.webhooks.iter_mut().enumerate() {
            let Some(name) = &webhook.secret_env else { continue };
            let secret = environment.get(name).filter(|secret| !secret.is_empty()).ok_or_else(|| {
                let problem = format!("environment variable {name} is not set; set it to the webhook's signing key");
                Fault::new(format!("alerts.webhooks[{index}].secret_env"), problem)
            })?;
            webhook.secret = Some(Secret::new(secret.clone()));
        }
        if let Some(name) = &self.ops.token_env {
            let token = environment.get(name).filter(|token| token.len() >= TOKEN_BYTES_MIN).ok_or_else(|| {
                let problem = format!(
                    "environment variable {name} does not hold a token; set it to at least {TOKEN_BYTES_MIN} characters"
                );
                Fault::new("ops.token_env", problem)
            })?;
            self.ops.token = Some(Secret::new(token.clone()));
        }
        Ok(())
    }
}

/// A file's text, known to be TOML. Parsed here first, since the layers' own error repeats the line, secrets included.
fn read(path: &Path) -> Result<String, Fault> {
    let file = format!("file {}", path.display());
    let text = std::fs::read_to_string(path)
        .map_err(|error| Fault::new(&*file, format!("cannot be read ({error}); check the path given to --config")))?;
    text.parse::<toml::Table>().map_err(|error| {
        let before = error.span().map_or(0, |span| span.start).min(text.len());
        let line = 1 + text.as_bytes()[..before].iter().filter(|&&byte| byte == b'\n').count();
        Fault::new(format!("{file} line {line}"), format!("not TOML ({}); mend that line", error.message()))
    })?;
    Ok(text)
}

/// The variables that are ours: BACKSTOP_ and a path with at least one `__`, since every key is in a section. Other
/// variables with the prefix belong to tools and to `*_env` keys.
fn environment_layer(environment: &BTreeMap<String, String>) -> Result<Environment, Fault> {
    if let Some(name) =
        environment.keys().find(|name| name.starts_with("BACKSTOP_DEPLOYMENTS_") && !name.contains("__"))
    {
        let mend = "write \"__\" between its parts, e.g. BACKSTOP_DEPLOYMENTS__VENUE__RPC__URL";
        return Err(Fault::new(format!("environment variable {name}"), format!("names no key; {mend}")));
    }
    let mut ours: Map<String, String> = environment
        .iter()
        .filter(|(name, _)| name.starts_with("BACKSTOP_") && name.contains("__"))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if let Some(url) = environment.get("DATABASE_URL") {
        ours.entry("BACKSTOP_DATABASE__URL".to_owned()).or_insert_with(|| url.clone());
    }
    Ok(Environment::with_prefix("BACKSTOP").prefix_separator("_").separator("__").source(Some(ours)))
}

fn with_deployment_defaults(mut root: Map<String, Value>) -> Map<String, Value> {
    let Some(defaults) = root.remove(DEPLOYMENT_DEFAULTS) else { return root };
    if let Some(ValueKind::Table(deployments)) = root.get_mut("deployments").map(|value| &mut value.kind) {
        for deployment in deployments.values_mut() {
            lay_under(deployment, &defaults);
        }
    }
    root
}

/// Fills what `value` does not say from `defaults`, table by table. A list is a value: it is taken whole.
fn lay_under(value: &mut Value, defaults: &Value) {
    let (ValueKind::Table(table), ValueKind::Table(defaults)) = (&mut value.kind, &defaults.kind) else { return };
    for (key, default) in defaults {
        match table.get_mut(key) {
            Some(present) => lay_under(present, default),
            None => {
                table.insert(key.clone(), default.clone());
            }
        }
    }
}
