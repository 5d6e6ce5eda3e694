//! Scenes beside the long run: few accounts, one blow. What they share with each other.

use std::{collections::BTreeSet, path::PathBuf};

use alloy::primitives::Address;
use anyhow::Result;
use backstop::{
    demo::anvil::AnvilOptions,
    types::{BlockRef, UnitKey},
};
use serde_json::{Value, json};

use super::{
    chain::{Chain, Mined},
    folder,
};

/// One protocol, set up so that one transaction makes known accounts liquidatable at once.
pub(crate) trait Scene: Sized {
    /// Config word and report name.
    const NAME: &'static str;
    /// The deploy script.
    const SCRIPT: &'static str;

    /// What kind of chain it needs.
    fn chain() -> AnvilOptions {
        AnvilOptions { states_kept_blocks: 512, ..AnvilOptions::default() }
    }

    /// Sets the scene: fifty borrowers, of whom [`Self::strike`] makes exactly `due` liquidatable. Every transaction is
    /// mined at once. May be called several times on one chain, with the output of as many runs of the script.
    async fn deploy(chain: &Chain, deployed: Value, keeper: Address, due: usize) -> Result<Self>;

    /// `[deployments.NAME.protocol]`, the adapter's word included.
    fn protocol(&self) -> Value;

    /// `[deployments.NAME.policy]`.
    fn policy(&self) -> Value {
        json!({ "mode": "mandate", "budget_per_day_max_wei": "1000000000000000000000" })
    }

    /// Puts the transaction into the pool after which they are liquidatable.
    async fn strike(&self, chain: &Chain) -> Result<alloy::primitives::B256>;

    /// Every account that can be liquidated after this block, by the contracts' own word.
    async fn liquidatable(&self, chain: &Chain, at: &BlockRef) -> Result<BTreeSet<UnitKey>>;

    /// The accounts that a transaction liquidates.
    fn targets(&self, transaction: &Mined) -> Vec<UnitKey>;

    /// The contract whose code the deployment's guards pin.
    fn guarded(&self) -> Address;
}

/// The folder of a scene's files.
pub(super) fn scene_folder(name: &str, scene: &str) -> PathBuf {
    folder(name).join(scene)
}
