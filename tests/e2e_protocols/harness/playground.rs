//! What a protocol's module says about its protocol.

use std::collections::BTreeSet;

use anyhow::Result;
use backstop::{
    demo::{anvil::AnvilOptions, node::Message},
    types::{Address, B256, BlockRef, Bytes, I256, Log, U256, UnitKey},
};
use serde_json::{Map, Value, json};

use super::{Rng, Stage};

/// Gas that a block of the playground's chain holds.
const BLOCK_GAS: u64 = 300_000_000;

/// One protocol, deployed and populated.
pub(crate) trait Playground: Sized {
    /// The adapter's config word; also the name of the deploy script, of the test's module and of the report.
    const NAME: &'static str;

    /// The chain it needs. Blocks are mined at each transaction until the deploy script is done, then on demand.
    fn chain() -> AnvilOptions {
        AnvilOptions { block_gas_limit: BLOCK_GAS, ..AnvilOptions::default() }
    }

    /// Takes what the deploy script printed and fills the protocol: at least [`super::Story::accounts`] accounts with random but
    /// seeded portfolios. [`backstop::demo::node::Node::execute`] sends messages, mines them and fails if one reverts.
    async fn populate(stage: &Stage, deployed: Value, rng: &mut Rng) -> Result<Self>;

    /// How many accounts play.
    fn accounts(&self) -> usize;

    /// The table `[deployments.<name>.protocol]` of the daemon's configuration, without `adapter`.
    fn protocol(&self) -> Value;

    /// Further tables of the deployment (`recovery`, `policy`, `executor`…): laid over what the harness writes. Everything
    /// that the chain allows is to be acted on with them.
    fn deployment(&self) -> Value {
        json!({})
    }

    /// Seconds from the head to the next block.
    fn block_seconds(&self) -> u64 {
        12
    }

    /// Random actions of accounts for the next block, while the market is calm. One that reverts on chain is no fault.
    async fn act(&mut self, stage: &Stage, rng: &mut Rng) -> Result<Vec<Message>>;

    /// How many steps the crash has.
    fn crash_steps(&self) -> usize;

    /// What happens in the first block of a step of the crash (from 0): prices fall, sellers sell.
    async fn crash(&mut self, stage: &Stage, step: usize, rng: &mut Rng) -> Result<Vec<Message>>;

    /// What happens in the other blocks of the crash and after it: nothing, unless the protocol needs it (a sequencer, a
    /// bidder, a price that comes in many trades).
    async fn meanwhile(&mut self, stage: &Stage, rng: &mut Rng) -> Result<Vec<Message>> {
        let _ = (stage, rng);
        Ok(Vec::new())
    }

    /// The units among *all* accounts that the keeper could liquidate at this block: by the protocol's own view, or by the
    /// action itself under `eth_call` from the keeper ([`backstop::demo::node::Node::outcomes`]).
    async fn liquidatable(&self, stage: &Stage, block: &BlockRef) -> Result<BTreeSet<UnitKey>>;

    /// What the protocol's own views say at this block about every account, also those that do not play but hold something
    /// (providers of liquidity, the treasury, the keeper).
    async fn expected(&self, stage: &Stage, block: &BlockRef) -> Result<Vec<Expected>>;

    /// The units that a transaction of the keeper liquidates; none if it does something else (an auction, a cover). An
    /// error says that the daemon must not send such a thing at all; it counts as wrongly sent.
    fn targets(&self, transaction: &KeeperTransaction) -> Result<Vec<UnitKey>>;

    /// What still waits to be done at this block although nothing is liquidatable: an auction that is open, say.
    async fn unfinished(&self, stage: &Stage, block: &BlockRef) -> Result<Option<String>> {
        let _ = (stage, block);
        Ok(None)
    }

    /// What the whole story did, from the chain's logs and views at the last block.
    async fn accounting(&self, stage: &Stage, last: &BlockRef) -> Result<Accounting>;
}

/// What the protocol itself says about one unit. What it has no view of is `None`; at least one figure must be there.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    /// Which.
    pub(crate) unit: UnitKey,
    /// Whether it holds nothing, so that the cache may leave it out.
    pub(crate) is_empty: bool,
    /// Compared with the standing's.
    pub(crate) health_factor_wad: Option<U256>,
    /// Compared with the standing's.
    pub(crate) equity: Option<I256>,
    /// Compared with the standing's.
    pub(crate) maintenance_margin: Option<U256>,
    /// Compared with the standing's.
    pub(crate) surplus: Option<I256>,
    /// Compared with whether the standing's surplus is below zero.
    pub(crate) liquidatable: Option<bool>,
}

impl Expected {
    /// Nothing said yet about this unit.
    pub(crate) fn of(unit: UnitKey) -> Self {
        Self {
            unit,
            is_empty: false,
            health_factor_wad: None,
            equity: None,
            maintenance_margin: None,
            surplus: None,
            liquidatable: None,
        }
    }
}

/// A transaction of the keeper that is in a block.
#[derive(Clone, Debug)]
pub(crate) struct KeeperTransaction {
    /// Its hash.
    pub(crate) hash: B256,
    /// The contract; `None` creates one, which the daemon never does.
    pub(crate) to: Option<Address>,
    /// Calldata.
    pub(crate) input: Bytes,
    /// Its block.
    pub(crate) block: u64,
    /// Whether it succeeded.
    pub(crate) success: bool,
    /// What it emitted.
    pub(crate) logs: Vec<Log>,
}

/// How the story ended, in the protocol's own terms.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accounting {
    /// Accounts or positions that were liquidated at least once.
    pub(crate) liquidated: usize,
    /// Bad debt that the chain recorded, in whole units of the unit of account or token, as decimal digits.
    pub(crate) bad_debt_created: U256,
    /// Bad debt that was covered or socialised.
    pub(crate) bad_debt_covered: U256,
    /// Further figures for the report.
    pub(crate) further: Map<String, Value>,
}
