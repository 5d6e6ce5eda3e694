//! The schema: embedded migrations, and the refusal to work on any other.

use sqlx::{
    Row,
    migrate::{MigrateError, Migrator},
};

use super::{Journal, JournalError, Result, error::Failure, session::in_tx};

const OTHER_BUILD: &str = "run the build that wrote it, or give this one a database of its own";

/// The migrations of this build.
pub(super) static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

impl Journal {
    /// Brings the database to the schema of this build. Several processes may call it at once; a schema that is newer,
    /// or that differs under the same number, is refused and left alone.
    pub async fn migrate(&self) -> Result<()> {
        MIGRATIONS.run(&self.pool).await.map_err(|error| match error {
            MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _) => {
                Failure::of("migrate", source.into()).given_up()
            }
            other => JournalError::SchemaUnknown {
                found: other.to_string(),
                expected: describe(&expected()),
                mend: OTHER_BUILD,
            },
        })
    }

    /// Checks that the database has exactly the schema of this build.
    pub async fn check_schema(&self) -> Result<()> {
        let applied = self.applied().await?;
        let expected = expected();
        if applied == expected {
            return Ok(());
        }
        let older = applied.len() < expected.len() && applied[..] == expected[..applied.len()];
        Err(JournalError::SchemaUnknown {
            found: describe(&applied),
            expected: describe(&expected),
            mend: if older { "run `backstop migrate`" } else { OTHER_BUILD },
        })
    }

    /// Version, success and checksum of what was applied, by version; empty for a database without our schema.
    async fn applied(&self) -> Result<Vec<(i64, bool, Vec<u8>)>> {
        in_tx!(self, "check_schema", |tx| {
            let exists: bool =
                sqlx::query_scalar("-- check_schema\nSELECT to_regclass('_sqlx_migrations') IS NOT NULL")
                    .fetch_one(&mut *tx)
                    .await?;
            if !exists {
                return Ok(Vec::new());
            }
            let rows =
                sqlx::query("-- check_schema\nSELECT version, success, checksum FROM _sqlx_migrations ORDER BY 1")
                    .fetch_all(&mut *tx)
                    .await?;
            rows.iter()
                .map(|row| Ok((row.try_get("version")?, row.try_get("success")?, row.try_get("checksum")?)))
                .collect()
        })
    }
}

/// What [`Journal::migrate`] leaves behind.
fn expected() -> Vec<(i64, bool, Vec<u8>)> {
    MIGRATIONS
        .iter()
        .filter(|migration| migration.migration_type.is_up_migration())
        .map(|migration| (migration.version, true, migration.checksum.to_vec()))
        .collect()
}

fn describe(migrations: &[(i64, bool, Vec<u8>)]) -> String {
    match migrations.last() {
        None => "none".to_owned(),
        Some((version, success, checksum)) => {
            let state = if *success { "" } else { ", half applied" };
            let digest = alloy::primitives::hex::encode(&checksum[..checksum.len().min(4)]);
            format!("{version} ({digest}{state})")
        }
    }
}
