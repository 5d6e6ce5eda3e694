//! Logs and answers that nobody should send.

use super::{
    super::abi::{
        IBackstopPool::IBackstopPoolEvents, IClearinghouse::IClearinghouseEvents, IPriceFeed::IPriceFeedEvents,
        IRiskSteward::IRiskStewardEvents,
    },
    fixture::{Chain, owner, uint},
};
use crate::{protocols::fuzz::Target, types::B256};

#[test]
fn fuzz_anything_said_is_taken_or_refused() {
    let Chain { venue, snapshot } = Chain::opened();
    let events = [
        IClearinghouseEvents::SELECTORS,
        IPriceFeedEvents::SELECTORS,
        IRiskStewardEvents::SELECTORS,
        IBackstopPoolEvents::SELECTORS,
    ]
    .concat();
    let words = (1..4).map(|n| owner(n).into_word()).chain((0..4).map(|n| B256::from(uint(n)))).collect();
    Target { adapter: &venue, snapshot, events, words }.withstands_anything();
}
