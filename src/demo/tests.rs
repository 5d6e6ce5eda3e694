//! The stage without its actor: the venue is deployed, populated and crashed on a real chain, and nobody repairs it.

use serde_json::json;

use super::{
    anvil::{Anvil, AnvilOptions, Mining},
    audit::signed,
    config::ADAPTER,
    makers::Makers,
    node::Node,
    population::populate,
    scenario::{CRASHING_SEGMENT, HEALTHY_SEGMENT, Scenario},
    venue::Venue,
    verify,
    watch::Watch,
};
use crate::{
    positions::Book,
    protocols::{self, Adapter},
    types::{Address, BlockRef, U256},
};

/// A node with a populated venue that mines only on demand.
async fn raised(scenario: &Scenario) -> (Anvil, Node, Venue) {
    let options = AnvilOptions { mining: Mining::OnDemand, ..AnvilOptions::default() };
    let anvil = Anvil::start(&options).await.unwrap();
    let node = Node::connect(&anvil.http_url()).unwrap();
    let admin = Address::repeat_byte(0xad);
    node.adopt(&[admin]).await.unwrap();
    let venue = Venue::deploy(&node, admin, Address::repeat_byte(0xee), scenario).await.unwrap();
    populate(&node, &venue, scenario).await.unwrap();
    (anvil, node, venue)
}

/// What a cache that follows the chain without an error holds.
async fn cached(node: &Node, adapter: &dyn Adapter, head: &BlockRef) -> Book {
    let mut book = Book::default();
    for number in 1..=head.number {
        let block = node.block(number).await.unwrap().unwrap();
        let all = node.logs(block.hash).await.unwrap();
        // A market names its feed in the very block that lists it: look again with all emitters then known.
        let mut filter = adapter.filter(&book);
        book = loop {
            let logs: Vec<_> = all.iter().filter(|log| filter.addresses.contains(&log.address)).cloned().collect();
            let mut next = book.clone();
            next.apply(&adapter.apply(&book, &block, &logs).unwrap().delta).unwrap();
            match adapter.filter(&next) {
                same if same == filter => break next,
                wider => filter = wider,
            }
        };
    }
    book
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_that_nobody_repairs_is_audited_to_the_last_unit() {
    let scenario = Scenario::new(1, 300);
    let (_anvil, node, venue) = raised(&scenario).await;
    let mut watch = Watch::start(&node, &venue).await.unwrap();
    assert!(watch.count.is_repaired());
    assert_eq!(watch.audit.books().accounts.len(), 300);
    let makers = Makers::new(&scenario, &venue);
    for prices in &scenario.path {
        let mut messages = venue.post_prices(prices, watch.block().timestamp);
        messages.extend(makers.quote(watch.audit.books(), prices));
        node.execute(&messages).await.unwrap();
        watch.advance().await.unwrap();
    }

    let tally = watch.audit.tally(CRASHING_SEGMENT);
    assert!(watch.count.bankrupt > 0);
    assert!(tally.shortfall_open > U256::from(scenario.segments[0].insurance_fund), "the fund will not do");
    assert_eq!(signed(tally.shortfall_open), tally.shortfall_arisen);
    assert!(tally.conserves());
    assert_eq!(watch.audit.violations(), (0, &[][..]));
    assert_eq!(watch.census.mismatches, 0);
    assert_eq!(watch.audit.tally(HEALTHY_SEGMENT).bankrupt.len(), 0);
    assert!(watch.census.breached.iter().all(|(segment, _)| *segment == CRASHING_SEGMENT));

    // The sums hold, and everybody who was not repaired is named.
    let block = *watch.block();
    let chain = verify::chain_books(&node, &venue, &block, watch.audit.books()).await.unwrap();
    assert_eq!(chain.faults.len(), watch.count.bankrupt + watch.count.liquidatable, "{:?}", chain.faults);

    let settings = json!({ "clearinghouse": venue.clearinghouse, "steward": venue.steward });
    let adapter = protocols::adapter(ADAPTER, settings).unwrap();
    let book = cached(&node, adapter.as_ref(), &block).await;
    let check = verify::cache(adapter.as_ref(), &block, book.clone(), &chain.accounts).unwrap();
    assert_eq!((check.compared, check.mismatches), (300, vec![]));
    let late = BlockRef { timestamp: block.timestamp + 3_600, ..block };
    let check = verify::cache(adapter.as_ref(), &late, book, &chain.accounts).unwrap();
    assert!(!check.mismatches.is_empty(), "a cache valued at another time does not go unnoticed");
}
