//! Logs and answers that nobody should send.

use alloy::primitives::Address;

use super::{
    super::abi::{IPool::IPoolEvents, IPoolConfigurator::IPoolConfiguratorEvents, IScaledToken::IScaledTokenEvents},
    fixture::{a_token, after, asset, borrowed, debt_token, market, opened, read, snapshot, supplied, tokens, user},
};
use crate::protocols::fuzz::Target;

#[test]
fn fuzz_anything_said_is_taken_or_refused() {
    let mut logs = supplied(0, user(1), tokens(0, 100));
    logs.push(borrowed(1, user(1), tokens(1, 10)));
    let book = read(after(opened(), &logs), [1, 1, 1], Address::ZERO);
    let events = [
        IPoolEvents::SELECTORS,
        IScaledTokenEvents::SELECTORS,
        IScaledTokenEvents::SELECTORS,
        IPoolConfiguratorEvents::SELECTORS,
    ]
    .concat();
    let words = (0..3).flat_map(|reserve| [asset(reserve), a_token(reserve), debt_token(reserve), user(reserve)]);
    let words = words.map(|address| address.into_word()).collect();
    Target { adapter: &market(None), snapshot: snapshot(book), events, words }.withstands_anything();
}
