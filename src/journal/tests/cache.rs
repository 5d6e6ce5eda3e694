use proptest::prelude::*;

use super::*;
use crate::{
    positions::{Book, Delta, Draft, Leg, LegKind, RecordKey, Unit},
    scanner::Condition,
};

fn leg_kinds() -> impl Strategy<Value = LegKind> {
    prop_oneof![Just(LegKind::Perp), Just(LegKind::Collateral), Just(LegKind::Supply), Just(LegKind::Debt)]
}

/// Any 256 bits, with the ends of the range more often than chance would have them.
fn signed() -> impl Strategy<Value = I256> {
    prop_oneof![
        Just(I256::MIN),
        Just(I256::MAX),
        Just(I256::ZERO),
        Just(I256::MINUS_ONE),
        any::<[u8; 32]>().prop_map(I256::from_be_bytes)
    ]
}

fn words() -> impl Strategy<Value = Vec<U256>> {
    let word = prop_oneof![Just(U256::MAX), Just(U256::ZERO), any::<[u8; 32]>().prop_map(U256::from_be_bytes)];
    prop::collection::vec(word, 0..4)
}

fn units() -> impl Strategy<Value = Unit> {
    let legs = prop::collection::vec((0u32..3, leg_kinds(), signed(), signed()), 0..5);
    (any::<u32>(), any::<[u8; 20]>(), signed(), legs, words()).prop_map(|(segment, owner, cash, legs, extra)| {
        let mut unit = Unit::new(SegmentId(segment), Address::from(owner));
        (unit.cash, unit.extra) = (cash, extra);
        for (market, kind, quantity, quote) in legs {
            unit.set_leg(Leg { market: MarketId(market), kind, quantity, quote });
        }
        unit
    })
}

#[derive(Clone, Debug)]
enum Edit {
    Unit(u8, Option<Unit>),
    Record(u16, u64, Option<Vec<U256>>),
}

/// Edits over a small key space, so that they meet.
fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let edit = prop_oneof![
        (0u8..12, prop::option::weighted(0.8, units())).prop_map(|(id, unit)| Edit::Unit(id, unit)),
        (prop_oneof![Just(0), Just(u16::MAX)], 0u64..5, prop::option::weighted(0.8, words()))
            .prop_map(|(kind, id, record)| Edit::Record(kind, id, record)),
    ];
    prop::collection::vec(edit, 0..20)
}

fn delta(book: &Book, edits: Vec<Edit>) -> Delta {
    let mut draft = Draft::new(book);
    for edit in edits {
        match edit {
            Edit::Unit(id, after) => draft.set_unit(unit(id), after),
            Edit::Record(kind, id, after) => draft.set_record(RecordKey::numbered(kind, id), after),
        }
    }
    draft.finish()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn the_stored_cache_follows_the_book(blocks in prop::collection::vec(edits(), 1..8)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let Fixture { journal, deployment, database: _database } = Fixture::new().await;
            let mut book = Book::default();
            for (height, edits) in (1..).zip(blocks) {
                let delta = delta(&book, edits);
                book.apply(&delta).unwrap();
                journal.commit_cache(deployment, &block(height), &delta).await.unwrap();
                let (at, stored) = journal.load_cache(deployment).await.unwrap().unwrap();
                assert_eq!(at, block(height));
                assert_eq!(stored, book);
            }
        });
    }
}

#[tokio::test]
async fn the_checkpoint_never_goes_backwards() {
    let Fixture { journal, deployment, database: _database } = Fixture::new().await;
    assert_eq!(journal.load_cache(deployment).await.unwrap(), None);
    let mut book = Book::default();
    let first = delta(&book, vec![Edit::Unit(1, Some(Unit::new(SEGMENT, Address::ZERO)))]);
    journal.commit_cache(deployment, &block(5), &first).await.unwrap();
    book.apply(&first).unwrap();

    let gone = delta(&book, vec![Edit::Unit(1, None)]);
    assert_conflict(journal.commit_cache(deployment, &block(4), &gone).await);
    assert_eq!(journal.load_cache(deployment).await.unwrap(), Some((block(5), book.clone())));

    // the same again, as after an answer that was lost
    journal.commit_cache(deployment, &block(5), &first).await.unwrap();
    assert_eq!(journal.load_cache(deployment).await.unwrap(), Some((block(5), book)));

    let sibling = BlockRef { hash: B256::repeat_byte(9), ..block(5) };
    journal.commit_cache(deployment, &sibling, &gone).await.unwrap();
    assert_eq!(journal.load_cache(deployment).await.unwrap(), Some((sibling, Book::default())));

    journal.reset_cache(deployment).await.unwrap();
    assert_eq!(journal.load_cache(deployment).await.unwrap(), None);
    journal.commit_cache(deployment, &block(1), &Delta::default()).await.unwrap();
}

#[tokio::test]
async fn deployments_share_no_cache() {
    let Fixture { journal, deployment, database: _database } = Fixture::new().await;
    let other = journal.register_deployment(&name("other"), CHAIN, "perps", &serde_json::Value::Null).await.unwrap();
    let change = delta(&Book::default(), vec![Edit::Unit(1, Some(Unit::new(SEGMENT, Address::ZERO)))]);
    journal.commit_cache(deployment, &block(5), &change).await.unwrap();
    journal.commit_cache(other, &block(3), &Delta::default()).await.unwrap();
    assert_eq!(journal.load_cache(other).await.unwrap(), Some((block(3), Book::default())));
    journal.reset_cache(other).await.unwrap();
    assert_eq!(journal.load_cache(deployment).await.unwrap().unwrap().1.unit_count(), 1);
}

#[tokio::test]
async fn ten_thousand_units_are_one_commit() {
    let Fixture { journal, deployment, database: _database } = Fixture::new().await;
    let mut book = Book::default();
    let all = |book: &Book, cash: i64| {
        let mut draft = Draft::new(book);
        for id in 0..10_000_u32 {
            let mut unit = Unit::new(SegmentId(id % 3), Address::with_last_byte(1));
            unit.cash = I256::try_from(cash).unwrap();
            let quantity = I256::try_from(id).unwrap();
            unit.set_leg(Leg { market: MarketId(id % 5), kind: LegKind::Perp, quantity, quote: unit.cash });
            draft.set_unit(UnitKey::new(id.to_be_bytes().to_vec()).unwrap(), Some(unit));
        }
        draft.finish()
    };
    for (height, cash) in [(1, -1), (2, i64::MAX)] {
        let delta = all(&book, cash);
        assert_eq!(delta.changes.len(), 10_000);
        journal.commit_cache(deployment, &block(height), &delta).await.unwrap();
        book.apply(&delta).unwrap();
    }
    assert_eq!(journal.load_cache(deployment).await.unwrap(), Some((block(2), book)));
}

#[tokio::test]
async fn a_value_that_was_tampered_with_is_not_guessed() {
    let fixture = Fixture::new().await;
    let change = delta(&Book::default(), vec![Edit::Record(1, 1, Some(vec![U256::from(5)]))]);
    fixture.journal.commit_cache(fixture.deployment, &block(1), &change).await.unwrap();
    for words in [r#"["5x"]"#, r#"[5]"#, r#"["-1"]"#, r#"["1e3"]"#] {
        fixture.raw(&format!("UPDATE records SET words = '{words}'")).await.unwrap();
        let loaded = fixture.journal.load_cache(fixture.deployment).await;
        assert!(matches!(loaded, Err(JournalError::Corrupt { what: "words", .. })), "{words}: {loaded:?}");
    }
}

fn change(of: u8, condition: Condition) -> FindingChange {
    FindingChange {
        unit: unit(of),
        segment: SEGMENT,
        condition,
        equity: I256::MIN,
        maintenance_margin: U256::MAX,
        surplus: I256::MAX,
        health_factor_bps: Some(I256::MINUS_ONE),
        rank: Some(u32::MAX),
        reason: Some("nul \0 inside".to_owned()),
    }
}

#[tokio::test]
async fn findings_keep_every_figure_and_one_per_unit_and_block() {
    let Fixture { journal, deployment, database: _database } = Fixture::new().await;
    let bankrupt = change(1, Condition::Bankrupt);
    journal.record_findings(deployment, &block(7), &[bankrupt.clone(), change(2, Condition::Unknown)]).await.unwrap();
    let repeated = FindingChange { rank: Some(0), ..bankrupt.clone() };
    journal.record_findings(deployment, &block(7), &[repeated]).await.unwrap();
    let healthy = FindingChange { health_factor_bps: None, rank: None, reason: None, ..change(1, Condition::Healthy) };
    let standing = journal.standing_conditions(deployment).await.unwrap();
    assert_eq!(standing, [(unit(1), Condition::Bankrupt), (unit(2), Condition::Unknown)].into());

    journal.record_findings(deployment, &block(8), &[healthy]).await.unwrap();
    journal.record_findings(deployment, &block(8), &[]).await.unwrap();
    let story = journal.unit_history(deployment, &unit(1), 10).await.unwrap();
    assert_eq!(
        story.findings.iter().map(|f| (f.block, f.condition)).collect::<Vec<_>>(),
        [(8, Condition::Healthy), (7, Condition::Bankrupt)]
    );
    let oldest = &story.findings[1];
    assert_eq!(oldest.equity, I256::MIN);
    assert_eq!(oldest.maintenance_margin, U256::MAX);
    assert_eq!(oldest.surplus, I256::MAX);
    assert_eq!(oldest.health_factor_bps, Some(I256::MINUS_ONE));
    assert_eq!(oldest.rank, Some(u32::MAX));
    assert_eq!(oldest.reason.as_deref(), Some("nul  inside"));
    assert_eq!((story.findings[0].rank, story.findings[0].health_factor_bps), (None, None));
    assert_eq!(journal.standing_conditions(deployment).await.unwrap(), [(unit(2), Condition::Unknown)].into());
    assert_eq!(journal.unit_history(deployment, &unit(1), 1).await.unwrap().findings.len(), 1);
}
