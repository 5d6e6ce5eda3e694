use super::*;
use crate::journal::schema::MIGRATIONS;

async fn tables(journal: &Journal) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'public' \
         AND table_name <> '_sqlx_migrations' ORDER BY 1",
    )
    .fetch_all(&journal.pool)
    .await
    .unwrap()
}

#[tokio::test]
async fn migrations_go_up_down_and_up_again() {
    let database = TestDatabase::empty().await;
    let journal = Journal::connect(database.url(), 2).await.unwrap();
    assert!(matches!(journal.check_schema().await, Err(JournalError::SchemaUnknown { .. })));
    journal.migrate().await.unwrap();
    journal.check_schema().await.unwrap();
    let up = tables(&journal).await;
    assert!(up.contains(&"attempts".to_owned()));

    MIGRATIONS.undo(&journal.pool, 0).await.unwrap();
    assert_eq!(tables(&journal).await, Vec::<String>::new());
    let refusal = journal.check_schema().await.unwrap_err();
    assert_eq!(refusal.class(), ErrorClass::Terminal);
    assert!(refusal.to_string().contains("run `backstop migrate`"), "{refusal}");

    journal.migrate().await.unwrap();
    journal.migrate().await.unwrap();
    journal.check_schema().await.unwrap();
    assert_eq!(tables(&journal).await, up);
}

#[tokio::test]
async fn every_table_and_column_is_described() {
    let fixture = Fixture::new().await;
    let readme = include_str!("../../../migrations/README.md");
    let columns: Vec<(String, String)> = sqlx::query_as(
        "SELECT table_name::text, column_name::text FROM information_schema.columns \
         JOIN pg_class ON oid = table_name::regclass AND NOT relispartition \
         WHERE table_schema = 'public' AND table_name <> '_sqlx_migrations' ORDER BY 1, ordinal_position",
    )
    .fetch_all(&fixture.journal.pool)
    .await
    .unwrap();
    assert!(columns.len() > 100);
    for (table, column) in columns {
        let heading = format!("## `{table}`\n");
        let section = readme.split_once(&heading).unwrap_or_else(|| panic!("no section {heading}")).1;
        let section = section.split("\n## ").next().unwrap();
        assert!(section.contains(&format!("| `{column}` |")), "{table}.{column} is not described");
    }
    let indexes: Vec<String> = sqlx::query_scalar(
        "SELECT indexname::text FROM pg_indexes JOIN pg_class ON oid = indexname::regclass AND NOT relispartition \
         WHERE schemaname = 'public' AND indexname NOT LIKE '%\\_pkey' AND tablename <> '_sqlx_migrations'",
    )
    .fetch_all(&fixture.journal.pool)
    .await
    .unwrap();
    for index in indexes {
        assert!(readme.contains(&format!("`{index}`")), "index {index} is not described");
    }
}

#[tokio::test]
async fn a_newer_or_an_altered_schema_is_refused() {
    let fixture = Fixture::new().await;
    fixture.raw("UPDATE _sqlx_migrations SET checksum = '\\x00'").await.unwrap();
    assert!(matches!(fixture.journal.check_schema().await, Err(JournalError::SchemaUnknown { .. })));
    assert!(matches!(fixture.journal.migrate().await, Err(JournalError::SchemaUnknown { .. })));

    let fixture = Fixture::new().await;
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (9999, 'later', true, '\\x00', 1)";
    fixture.raw(newer).await.unwrap();
    let refusal = fixture.journal.check_schema().await.unwrap_err();
    assert!(refusal.to_string().contains("schema 9999"), "{refusal}");
    assert!(matches!(fixture.journal.migrate().await, Err(JournalError::SchemaUnknown { .. })));
}

#[tokio::test]
async fn a_database_that_is_not_there_is_unavailable() {
    let error = Journal::connect("postgres://nobody:secret@127.0.0.1:1/none", 1).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Retry);
    assert!(!format!("{error} {error:?}").contains("secret"));
    let error = Journal::connect("postgres://user:secret@[broken", 1).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("secret"));
}

#[tokio::test]
async fn a_connection_that_is_cut_is_unavailable_and_then_mended() {
    let fixture = Fixture::new().await;
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() \
               AND pid <> pg_backend_pid()";
    let mut transaction = fixture.journal.begin().await.unwrap();
    fixture.raw(cut).await.unwrap();
    let error = sqlx::query("SELECT 1").execute(&mut *transaction).await.unwrap_err();
    match crate::journal::error::Failure::of("test", error.into()) {
        crate::journal::error::Failure::Final(error) => assert_eq!(error.class(), ErrorClass::Retry, "{error}"),
        crate::journal::error::Failure::LostRace(why) => panic!("{why}"),
    }
    drop(transaction);
    fixture.journal.ping().await.unwrap();
}

#[tokio::test]
async fn a_name_stands_for_one_chain_and_one_adapter() {
    let Fixture { journal, deployment, database: _database } = Fixture::new().await;
    let settings = serde_json::json!({ "note": "a\u{0}b" });
    let again = journal.register_deployment(&name("venue"), CHAIN, "perps", &settings).await.unwrap();
    assert_eq!(again, deployment);
    assert_conflict(journal.register_deployment(&name("venue"), 1, "perps", &settings).await);
    assert_conflict(journal.register_deployment(&name("venue"), CHAIN, "lending", &settings).await);
    let row = journal.deployment_by_name(&name("venue")).await.unwrap().unwrap();
    assert_eq!((row.id, row.chain_id, row.adapter.as_str()), (deployment, CHAIN, "perps"));
    assert_eq!(row.settings, serde_json::json!({ "note": "ab" }));
    assert_eq!(journal.deployment_by_name(&name("other")).await.unwrap(), None);
}
