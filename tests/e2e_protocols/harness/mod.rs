//! One end-to-end run on a real protocol's contracts: deploy, let random accounts act, crash prices, ask the chain about
//! every account whether the daemon saw it and did what was due.
//!
//! A protocol's module implements [`Playground`] and has one test that calls [`play`]. The harness
//!
//! 1. starts anvil, which mines every transaction at once, and runs `node tools/protocols/NAME.mjs RPC KEEPER`, whose one
//!    line of JSON goes to [`Playground::deploy`]; the keeper has native currency, everything else it needs (tokens,
//!    approvals, roles) the script or `deploy` gives it;
//! 2. stops automatic mining and starts the daemon as a process with [`Playground::protocol`] and [`Playground::policy`];
//! 3. makes [`run::BLOCKS`] blocks of random actions ([`Playground::act`], seeded); at every tenth it holds the daemon's
//!    cache against the protocol's own views, every account ([`Playground::mismatches`]);
//! 4. moves prices step by step ([`Playground::crash`]);
//! 5. goes on until nobody is liquidatable and [`Playground::settled`] says that nothing is open;
//! 6. stops the daemon, writes `target/e2e/NAME.json`, and fails where the report is not what it should be.
//!
//! After every block, the calm ones too, the chain is asked about every account ([`Playground::liquidatable`]). The next
//! block is made once the daemon has acted on the last, or when it would be due by the clock. Where the npm packages are
//! not at hand a test says that it did not run, and fails under `CI=true`.
//!
//! A protocol may also implement [`burst::Burst`]: many accounts due at once, by the clock.
//!
//! Invariants: the daemon learns nothing of the harness; what is counted is asked of the chain; one run at a time.

pub(crate) mod chain;
pub(crate) mod daemon;
pub(crate) mod report;
mod run;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use alloy::primitives::Address;
use anyhow::Result;
use backstop::{
    demo::anvil::AnvilOptions,
    positions::Snapshot,
    protocols::Adapter,
    types::{BlockRef, CallOutcome, UnitKey},
};
use serde_json::{Map, Value, json};

use self::chain::{Chain, Mined};

#[allow(unused_imports, reason = "for the protocols' modules")]
pub(crate) use self::run::{play, write};

/// A seeded source of randomness: SplitMix64.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 random bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`.
    pub(crate) fn roll(&mut self, n: u64) -> u64 {
        self.bits() % n.max(1)
    }

    /// `low..=high`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.roll(high - low + 1)
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.roll(100) < percent
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[usize::try_from(self.roll(from.len() as u64)).expect("an index")]
    }
}

/// What came of the run, read from the chain's logs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accounting {
    /// Liquidations that the keeper carried out.
    pub(crate) liquidated: usize,
    /// Bad debt that was booked, in the protocol's words and units.
    pub(crate) bad_debt_created: String,
    /// Bad debt that was paid.
    pub(crate) bad_debt_covered: String,
    /// Whatever else belongs into the report.
    pub(crate) more: Map<String, Value>,
}

/// One protocol on a local chain.
pub(crate) trait Playground: Sized {
    /// Config word, deploy script, report name.
    const NAME: &'static str;

    /// What kind of chain it needs.
    fn chain() -> AnvilOptions {
        AnvilOptions { block_gas_limit: 300_000_000, states_kept_blocks: 512, ..AnvilOptions::default() }
    }

    /// Seconds from one block to the next, as the chain counts them.
    fn block_seconds() -> u64 {
        chain::BLOCK_SECONDS
    }

    /// Sets the scene: at least 50 accounts with money. Every transaction is mined at once.
    async fn deploy(chain: &Chain, deployed: Value, keeper: Address, dice: &mut Dice) -> Result<Self>;

    /// `[deployments.NAME.protocol]`, the adapter's word included.
    fn protocol(&self) -> Value;

    /// `[deployments.NAME.policy]`: such that everything that is due is done.
    fn policy(&self) -> Value {
        json!({ "mode": "mandate", "budget_per_day_max_wei": "1000000000000000000000" })
    }

    /// Changes to the rest of the deployment's configuration.
    fn overrides(&self) -> Value {
        Value::Null
    }

    /// How many accounts may be borrowers or traders.
    fn accounts(&self) -> usize;

    /// Puts random actions of random accounts into the pool. What a contract refuses is no fault.
    async fn act(&mut self, chain: &Chain, dice: &mut Dice) -> Result<()>;

    /// Differences between the cache and the protocol's own views at the cache's block, one line each, over every account
    /// that exists on chain. [`probe_all`] does the part that the adapter's probes cover.
    async fn mismatches(&self, chain: &Chain, adapter: &dyn Adapter, snapshot: &Snapshot) -> Result<Vec<String>>;

    /// Every account that can be liquidated (or otherwise must be acted on) after this block, by the contracts' own word.
    async fn liquidatable(&self, chain: &Chain, at: &BlockRef) -> Result<BTreeSet<UnitKey>>;

    /// Puts the next step of the crash into the pool; `false` after the last one. The harness mines.
    async fn crash(&mut self, chain: &Chain, step: usize) -> Result<bool>;

    /// The accounts that a transaction of the keeper acts on and that must have been liquidatable for it.
    fn targets(&self, transaction: &Mined) -> Vec<UnitKey>;

    /// Whether nothing is open any more: deficits, auctions. Seconds to the next block otherwise.
    async fn settled(&mut self, chain: &Chain, at: &BlockRef) -> Result<Option<u64>> {
        let _ = (chain, at);
        Ok(None)
    }

    /// What came of it.
    async fn accounting(&self, chain: &Chain, keeper: Address, mined: &[Mined]) -> Result<Accounting>;
}

/// Holds every unit of the cache against the views that the adapter's probes name, and values it.
pub(crate) async fn probe_all(chain: &Chain, adapter: &dyn Adapter, snapshot: &Snapshot) -> Result<Vec<String>> {
    let units: Vec<UnitKey> = snapshot.book.units().map(|(key, _)| key.clone()).collect();
    let probes = adapter.probes(snapshot, &units);
    let calls: Vec<_> = probes.iter().map(|probe| probe.call.clone()).collect();
    let answers = chain.calls(None, &calls, snapshot.block.hash).await?;
    let mut faults = Vec::new();
    for (probe, answer) in probes.into_iter().zip(answers) {
        if answer != CallOutcome::Returned(probe.expected.clone()) {
            faults.push(format!("{}: the cache says {}, the chain {answer:?}", probe.subject, probe.expected));
        }
    }
    for (key, unit) in snapshot.book.units() {
        if let Err(why) = adapter.standing(snapshot, key, unit) {
            faults.push(format!("{key} cannot be valued: {why}"));
        }
    }
    Ok(faults)
}

/// The folder of a run's files.
pub(crate) fn folder(name: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let target = if target.is_absolute() { target } else { Path::new(env!("CARGO_MANIFEST_DIR")).join(target) };
    target.join("e2e").join(name)
}
