//! The reference venue as the demo deploys it: compiled contracts, addresses, roles.
//!
//! Invariants: the code deployed is the committed artifact, compiled into this binary.
//! Must not: decide what is traded.

use std::collections::BTreeMap;

use alloy::{
    primitives::keccak256,
    sol,
    sol_types::{SolCall, SolConstructor},
};
use anyhow::{Context, Result};

use super::{
    node::{Message, Node},
    pool::Membership,
    scenario::{MarketPlan, Scenario},
};
use crate::types::{Address, B256, Call, I256, U256};

sol!(
    #[sol(all_derives)]
    Clearinghouse,
    "contracts/artifacts/Clearinghouse.json"
);
sol!(
    #[sol(all_derives)]
    RiskSteward,
    "contracts/artifacts/RiskSteward.json"
);
sol!(
    #[sol(all_derives)]
    PriceFeed,
    "contracts/artifacts/PriceFeed.json"
);
sol!(
    #[sol(all_derives)]
    SettlementToken,
    "contracts/artifacts/SettlementToken.json"
);

/// Oldest price the venue accepts.
const PRICE_AGE_MAX_SECONDS: u64 = 60;
/// Part of liquidated notional that is charged.
const LIQUIDATION_FEE_BPS: u16 = 50;
/// Least time between two moves of a market's margins.
const STEWARD_DELAY_SECONDS: u64 = 20;

/// The deployed venue.
#[derive(Clone, Debug)]
pub(super) struct Venue {
    /// Who deployed it, administers it and holds the tokens that accounts are funded from.
    pub(super) admin: Address,
    /// The settlement token.
    pub(super) token: Address,
    /// The clearinghouse.
    pub(super) clearinghouse: Address,
    /// The risk steward.
    pub(super) steward: Address,
    /// Price feeds, by market.
    pub(super) feeds: BTreeMap<u16, Address>,
    /// Its place in a shared backstop pool, if it has one.
    pub(super) membership: Option<Membership>,
}

impl Venue {
    /// Deploys the contracts and appoints: the admin reports prices, `keeper` may recover and move margins.
    pub(super) async fn deploy(node: &Node, admin: Address, keeper: Address, scenario: &Scenario) -> Result<Self> {
        let token = create(node, admin, SettlementToken::BYTECODE.to_vec(), vec![], "the settlement token").await?;
        Self::deploy_with(node, (admin, token), keeper, scenario).await
    }

    /// The same with a token that is there already and that the admin may mint.
    pub(super) async fn deploy_with(
        node: &Node,
        (admin, token): (Address, Address),
        keeper: Address,
        scenario: &Scenario,
    ) -> Result<Self> {
        let arguments = Clearinghouse::constructorCall { token, admin }.abi_encode();
        let clearinghouse =
            create(node, admin, Clearinghouse::BYTECODE.to_vec(), arguments, "the clearinghouse").await?;
        let arguments = RiskSteward::constructorCall { target: clearinghouse, admin }.abi_encode();
        let steward = create(node, admin, RiskSteward::BYTECODE.to_vec(), arguments, "the risk steward").await?;
        let mut feeds = BTreeMap::new();
        for market in &scenario.markets {
            let arguments = PriceFeed::constructorCall { admin }.abi_encode();
            let what = format!("the {} feed", market.symbol);
            feeds.insert(market.id, create(node, admin, PriceFeed::BYTECODE.to_vec(), arguments, &what).await?);
        }
        let venue = Self { admin, token, clearinghouse, steward, feeds, membership: None };
        venue.open(node, keeper, scenario).await?;
        Ok(venue)
    }

    /// Roles, segments, markets, bounds, and the token's allowance.
    async fn open(&self, node: &Node, keeper: Address, scenario: &Scenario) -> Result<()> {
        let mut messages = vec![
            self.grant(self.clearinghouse, "KEEPER_ROLE", keeper),
            self.grant(self.clearinghouse, "STEWARD_ROLE", self.steward),
            self.grant(self.steward, "MOVER_ROLE", keeper),
            // The admin sets the funding rates of the story; margins are moved by the keeper alone.
            self.grant(self.steward, "MOVER_ROLE", self.admin),
        ];
        messages.extend(self.feeds.values().map(|feed| self.grant(*feed, "REPORTER_ROLE", self.admin)));
        for segment in &scenario.segments {
            let call = Clearinghouse::openSegmentCall { segment: segment.id };
            messages.push(self.administer(self.clearinghouse, &call, format!("opening segment {}", segment.id)));
        }
        for market in &scenario.markets {
            messages.extend(self.listing(market));
        }
        let unbounded = SettlementToken::approveCall { spender: self.clearinghouse, value: U256::MAX };
        messages.push(self.administer(self.token, &unbounded, "the admin's allowance"));
        node.execute(&messages).await.context("open the venue")?;
        Ok(())
    }

    fn listing(&self, market: &MarketPlan) -> Vec<Message> {
        let config = IClearinghouse::MarketConfig {
            segment: market.segment,
            feed: self.feeds[&market.id],
            maxPriceAgeSeconds: PRICE_AGE_MAX_SECONDS,
            maintenanceMarginBps: market.maintenance_margin_bps,
            initialMarginBps: market.initial_margin_bps,
            liquidationFeeBps: LIQUIDATION_FEE_BPS,
            maxSlippageBps: market.slippage_max_bps,
        };
        let rate_max = U256::from(10).pow(U256::from(18));
        let limits = IRiskSteward::Bounds {
            maxStepBps: 2_000,
            minDelaySeconds: STEWARD_DELAY_SECONDS,
            marginFloorBps: 100,
            marginCeilingBps: 5_000,
            maxFundingStepX18: rate_max,
            maxFundingRateX18: rate_max,
        };
        let list = Clearinghouse::listMarketCall { marketId: market.id, config };
        let bound = RiskSteward::setBoundsCall { market: market.id, limits };
        let mut messages = vec![
            self.administer(self.clearinghouse, &list, format!("listing {}", market.symbol)),
            self.administer(self.steward, &bound, format!("bounding {}", market.symbol)),
        ];
        if market.funding_rate_x18 != 0 {
            let rate = I256::try_from(market.funding_rate_x18).expect("invariant: 64 bits fit 256");
            let fund = RiskSteward::moveFundingRateCall { market: market.id, rateX18: rate };
            messages.push(self.administer(self.steward, &fund, format!("the funding rate of {}", market.symbol)));
        }
        messages
    }

    /// A message of the admin.
    pub(super) fn administer<C: SolCall>(&self, to: Address, call: &C, what: impl Into<String>) -> Message {
        Message::call(self.admin, to, call.abi_encode(), what)
    }

    fn grant(&self, contract: Address, role: &str, account: Address) -> Message {
        let call = Clearinghouse::grantRoleCall { role: role_id(role), account };
        self.administer(contract, &call, format!("granting {role}"))
    }

    /// Reports prices as observed at `observed_at` (Unix seconds).
    pub(super) fn post_prices(&self, prices: &BTreeMap<u16, u64>, observed_at: u64) -> Vec<Message> {
        let post = |(market, price): (&u16, &u64)| {
            let call = PriceFeed::postCall { price: U256::from(*price), updatedAt: observed_at };
            self.administer(self.feeds[market], &call, format!("the price of market {market}"))
        };
        prices.iter().map(post).collect()
    }

    /// A view of the clearinghouse.
    pub(super) fn view<C: SolCall>(&self, call: &C) -> Call {
        Call::new(self.clearinghouse, call.abi_encode())
    }
}

/// A view's answer.
pub(super) fn answer<C: SolCall>(output: &[u8]) -> Result<C::Return> {
    C::abi_decode_returns(output).with_context(|| format!("decode the answer of {}", C::SIGNATURE))
}

fn role_id(role: &str) -> B256 {
    keccak256(role)
}

pub(super) async fn create(
    node: &Node,
    admin: Address,
    mut code: Vec<u8>,
    arguments: Vec<u8>,
    what: &str,
) -> Result<Address> {
    code.extend(arguments);
    let receipts = node.execute(&[Message::create(admin, code, what)]).await?;
    let created = receipts.first().and_then(|receipt| receipt.contract_address);
    created.with_context(|| format!("{what} was not created"))
}
