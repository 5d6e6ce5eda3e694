//! The stage without its actor: the venue is deployed, populated and crashed, and nobody repairs it.

use super::{
    anvil::{Anvil, AnvilOptions, Mining},
    makers::Makers,
    node::Node,
    population::populate,
    scenario::{CRASHING_SEGMENT, HEALTHY_SEGMENT, Scenario},
    venue::Venue,
    watch::Watch,
};
use crate::types::{Address, U256};

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_that_nobody_repairs_leaves_zero_sum_books_and_open_shortfalls() {
    let anvil = Anvil::start(&AnvilOptions { mining: Mining::OnDemand, ..AnvilOptions::default() }).await.unwrap();
    let node = Node::connect(&anvil.http_url()).unwrap();
    let scenario = Scenario::new(1, 340);
    let admin = Address::repeat_byte(0xad);
    node.adopt(&[admin]).await.unwrap();
    let venue = Venue::deploy(&node, admin, Address::repeat_byte(0xee), &scenario).await.unwrap();
    populate(&node, &venue, &scenario).await.unwrap();
    let mut watch = Watch::start(&node, &venue).await.unwrap();
    assert!(watch.count.is_repaired());
    assert_eq!(watch.audit.books().accounts.len(), 340);
    let makers = Makers::new(&scenario, &venue);
    println!("block {} opened", watch.block().number);
    for prices in &scenario.path {
        let mut messages = venue.post_prices(prices, watch.block().timestamp);
        messages.extend(makers.quote(watch.audit.books(), prices));
        node.execute(&messages).await.unwrap();
        watch.advance().await.unwrap();
        println!(
            "block {} {prices:?} {:?} open {}",
            watch.block().number,
            watch.count,
            watch.audit.tally(1).shortfall_open
        );
    }
    let tally = watch.audit.tally(CRASHING_SEGMENT);
    assert!(watch.count.bankrupt > 0);
    assert!(tally.shortfall_open > U256::from(scenario.segments[0].insurance_fund));
    assert!(tally.conserves());
    assert_eq!(watch.audit.violations(), (0, &[][..]));
    assert_eq!(watch.census.mismatches, 0);
    assert_eq!(watch.audit.tally(HEALTHY_SEGMENT).bankrupt.len(), 0);
    assert!(watch.census.breached.iter().all(|(segment, _)| *segment == CRASHING_SEGMENT));
}
