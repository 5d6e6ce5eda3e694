//! Logs and answers that nobody should send.

use super::{
    super::abi::{
        IComptroller::IComptrollerEvents, IRateModel::IRateModelEvents, IShortfall::IShortfallEvents,
        IVToken::IVTokenEvents,
    },
    fixture::{Chain, VTOKENS, owner},
};
use crate::protocols::fuzz::Target;

#[test]
fn fuzz_anything_said_is_taken_or_refused() {
    let Chain { venus, snapshot, .. } = Chain::opened();
    let events = [
        IComptrollerEvents::SELECTORS,
        IVTokenEvents::SELECTORS,
        IVTokenEvents::SELECTORS,
        IRateModelEvents::SELECTORS,
        IShortfallEvents::SELECTORS,
    ]
    .concat();
    let words = VTOKENS.into_iter().chain((1..4).map(owner)).map(|address| address.into_word()).collect();
    Target { adapter: &venus, snapshot, events, words }.withstands_anything();
}
