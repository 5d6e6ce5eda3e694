//! Logs and answers that nobody should send.

use super::{
    super::abi::IMorpho::IMorphoEvents,
    fixture::{Chain, id, owner, params, settings},
};
use crate::protocols::fuzz::Target;

#[test]
fn fuzz_anything_said_is_taken_or_refused() {
    let Chain { adapter, snapshot, .. } = Chain::opened();
    let accounts = (1..4).map(|n| owner(n).into_word());
    let markets = (0..4).map(id);
    let tokens = [params(0).loanToken, params(0).collateralToken, settings().morpho].map(|token| token.into_word());
    let events = IMorphoEvents::SELECTORS.to_vec();
    Target { adapter: &adapter, snapshot, events, words: accounts.chain(markets).chain(tokens).collect() }
        .withstands_anything();
}
