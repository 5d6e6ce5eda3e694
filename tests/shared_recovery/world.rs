//! A chain with one token, one price feed and any number of venues with one segment and one market.

use alloy::{
    primitives::{keccak256, utils::format_units},
    sol,
    sol_types::{SolCall, SolConstructor},
};
use anyhow::{Context, Result};
use backstop::{
    demo::{
        anvil::{Anvil, AnvilOptions, Mining},
        node::{Message, Node},
    },
    types::{Address, Call, I256, U256},
};

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

pub(crate) const SEGMENT: u16 = 1;
pub(crate) const MARKET: u16 = 1;
pub(crate) const GENESIS: u64 = 1_700_000_000;
/// Who deploys, administers, reports prices and keeps.
pub(crate) const ADMIN: Address = Address::repeat_byte(0xad);
/// The other side of every trade, rich enough for all of them.
pub(crate) const HOUSE: Address = Address::repeat_byte(0x40);
const DEPLOY_GAS: u64 = 12_000_000;

pub(crate) struct World {
    pub(crate) anvil: Anvil,
    pub(crate) node: Node,
    pub(crate) token: Address,
    pub(crate) feed: Address,
}

#[derive(Clone, Copy)]
pub(crate) struct Venue {
    pub(crate) clearinghouse: Address,
    pub(crate) steward: Address,
}

pub(crate) fn in_a_world<T>(scene: impl AsyncFnOnce(World) -> Result<T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let played: Result<T> = runtime.block_on(async { scene(World::start().await?).await });
    played.unwrap_or_else(|error| panic!("{error:#}"))
}

pub(crate) fn trader(n: usize) -> Address {
    Address::left_padding_from(&(0x7aad_0000 + u32::try_from(n).expect("few traders")).to_be_bytes())
}

pub(crate) fn tokens(units: U256) -> String {
    format_units(units, 6).expect("six decimals")
}

impl World {
    async fn start() -> Result<Self> {
        let options =
            AnvilOptions { mining: Mining::OnDemand, genesis_timestamp: Some(GENESIS), ..AnvilOptions::default() };
        let anvil = Anvil::start(&options).await?;
        let node = Node::connect(&anvil.http_url())?;
        node.adopt(&[ADMIN, HOUSE]).await?;
        let mut world = Self { anvil, node, token: Address::ZERO, feed: Address::ZERO };
        world.token = world.create(SettlementToken::BYTECODE.to_vec(), vec![]).await?;
        let arguments = PriceFeed::constructorCall { admin: ADMIN }.abi_encode();
        world.feed = world.create(PriceFeed::BYTECODE.to_vec(), arguments).await?;
        world.grant(world.feed, "REPORTER_ROLE", ADMIN).await?;
        Ok(world)
    }

    pub(crate) async fn create(&self, mut code: Vec<u8>, arguments: Vec<u8>) -> Result<Address> {
        code.extend(arguments);
        let receipts = self.node.execute(&[Message::create(ADMIN, code, "a contract").with_gas(DEPLOY_GAS)]).await?;
        receipts[0].contract_address.context("no contract was created")
    }

    pub(crate) async fn grant(&self, contract: Address, role: &str, account: Address) -> Result<()> {
        self.send(ADMIN, contract, &Clearinghouse::grantRoleCall { role: keccak256(role), account }).await
    }

    pub(crate) async fn send<C: SolCall>(&self, from: Address, to: Address, call: &C) -> Result<()> {
        self.node.execute(&[message(from, to, call)]).await.map(drop)
    }

    pub(crate) async fn ask<C: SolCall>(&self, to: Address, call: &C) -> Result<C::Return> {
        let mut answers = self.ask_all(to, std::slice::from_ref(call)).await?;
        answers.pop().context("no answer")
    }

    pub(crate) async fn ask_all<C: SolCall>(&self, to: Address, calls: &[C]) -> Result<Vec<C::Return>> {
        let head = self.node.head().await?;
        let calls: Vec<Call> = calls.iter().map(|call| Call::new(to, call.abi_encode())).collect();
        let answers = self.node.calls(&calls, head.hash).await?;
        answers.iter().map(|answer| Ok(C::abi_decode_returns(answer)?)).collect()
    }

    pub(crate) async fn venue(&self, price: u64, initial_margin_bps: u16) -> Result<Venue> {
        let arguments = Clearinghouse::constructorCall { token: self.token, admin: ADMIN }.abi_encode();
        let clearinghouse = self.create(Clearinghouse::BYTECODE.to_vec(), arguments).await?;
        let arguments = RiskSteward::constructorCall { target: clearinghouse, admin: ADMIN }.abi_encode();
        let steward = self.create(RiskSteward::BYTECODE.to_vec(), arguments).await?;
        self.grant(clearinghouse, "KEEPER_ROLE", ADMIN).await?;
        self.grant(clearinghouse, "STEWARD_ROLE", steward).await?;
        self.grant(steward, "MOVER_ROLE", ADMIN).await?;
        self.send(ADMIN, clearinghouse, &Clearinghouse::openSegmentCall { segment: SEGMENT }).await?;
        let config = IClearinghouse::MarketConfig {
            segment: SEGMENT,
            feed: self.feed,
            maxPriceAgeSeconds: 3_600,
            maintenanceMarginBps: initial_margin_bps / 2,
            initialMarginBps: initial_margin_bps,
            liquidationFeeBps: 0,
            maxSlippageBps: 300,
        };
        self.send(ADMIN, clearinghouse, &Clearinghouse::listMarketCall { marketId: MARKET, config }).await?;
        self.post(price).await?;
        self.deposit(clearinghouse, HOUSE, 1_000_000_000_000_000).await?;
        Ok(Venue { clearinghouse, steward })
    }

    /// Reports a price as of the head.
    pub(crate) async fn post(&self, price: u64) -> Result<()> {
        let updated_at = self.node.head().await?.timestamp;
        self.send(ADMIN, self.feed, &PriceFeed::postCall { price: U256::from(price), updatedAt: updated_at }).await
    }

    /// Mints for `owner` and lets `spender` take it.
    pub(crate) async fn endow(&self, owner: Address, spender: Address, amount: u64) -> Result<()> {
        let mint = SettlementToken::mintCall { to: owner, amount: U256::from(amount) };
        let approve = SettlementToken::approveCall { spender, value: U256::MAX };
        self.node.execute(&[message(owner, self.token, &mint), message(owner, self.token, &approve)]).await.map(drop)
    }

    pub(crate) async fn deposit(&self, clearinghouse: Address, owner: Address, amount: u64) -> Result<()> {
        self.endow(owner, clearinghouse, amount).await?;
        let deposit = Clearinghouse::depositCall { segment: SEGMENT, amount: U256::from(amount) };
        self.send(owner, clearinghouse, &deposit).await
    }

    /// `owner` enters with `cash` and buys `lots` from the house at `price`.
    pub(crate) async fn enter(&self, venue: Venue, owner: Address, cash: u64, lots: u64, price: u64) -> Result<()> {
        self.node.adopt(&[owner]).await?;
        self.deposit(venue.clearinghouse, owner, cash).await?;
        let order = self.house_order(venue, false, lots, price).await?;
        self.send(owner, venue.clearinghouse, &Clearinghouse::fillOrderCall { orderId: order, lots }).await
    }

    async fn house_order(&self, venue: Venue, is_buy: bool, lots: u64, price: u64) -> Result<u64> {
        let place = Clearinghouse::placeOrderCall { marketId: MARKET, isBuy: is_buy, price: U256::from(price), lots };
        let head = self.node.head().await?;
        let next = self.node.outcomes(HOUSE, &[Call::new(venue.clearinghouse, place.abi_encode())], head.hash).await?;
        let backstop::types::CallOutcome::Returned(output) = &next[0] else { anyhow::bail!("no order: {next:?}") };
        let order = Clearinghouse::placeOrderCall::abi_decode_returns(output)?;
        self.send(HOUSE, venue.clearinghouse, &place).await?;
        Ok(order)
    }

    pub(crate) async fn states(&self, venue: Venue, owners: &[Address]) -> Result<Vec<IClearinghouse::AccountState>> {
        let ask = |owner: &Address| Clearinghouse::accountStateCall { segment: SEGMENT, account: *owner };
        self.ask_all(venue.clearinghouse, &owners.iter().map(ask).collect::<Vec<_>>()).await
    }

    pub(crate) async fn equity(&self, venue: Venue, owner: Address) -> Result<I256> {
        Ok(self.states(venue, &[owner]).await?[0].equity)
    }

    /// Closes whatever may be liquidated, against the house at the mark.
    pub(crate) async fn liquidate_all(&self, venue: Venue, owners: &[Address], price: u64) -> Result<usize> {
        let ask = |owner: &Address| Clearinghouse::maxLiquidatableLotsCall { marketId: MARKET, account: *owner };
        let mut closed = 0;
        let lots = self.ask_all(venue.clearinghouse, &owners.iter().map(ask).collect::<Vec<_>>()).await?;
        for (owner, lots) in owners.iter().zip(lots).filter(|(_, lots)| *lots > 0) {
            let order = self.house_order(venue, true, lots, price).await?;
            let fills = vec![IClearinghouse::Fill { order, lots }];
            let call = Clearinghouse::liquidateCall { marketId: MARKET, account: *owner, fills, feeRecipient: ADMIN };
            self.send(ADMIN, venue.clearinghouse, &call).await?;
            closed += 1;
        }
        Ok(closed)
    }

    /// Checks that claims and funds of a venue are backed to the last unit; returns its token balance.
    pub(crate) async fn check_books(&self, venue: Venue, owners: &[Address]) -> Result<U256> {
        let funds = self.ask(venue.clearinghouse, &Clearinghouse::segmentFundsCall { segment: SEGMENT }).await?;
        let states = self.states(venue, owners).await?;
        let equity = states.iter().fold(I256::ZERO, |sum, state| sum + state.equity);
        assert_eq!(equity, I256::from_raw(funds.pool), "the sum of equities is the pool");
        let balance = self.balance(venue.clearinghouse).await?;
        assert_eq!(balance, funds.pool + funds.fund, "tokens back claims and fund");
        Ok(balance)
    }

    pub(crate) async fn balance(&self, owner: Address) -> Result<U256> {
        self.ask(self.token, &SettlementToken::balanceOfCall { account: owner }).await
    }
}

pub(crate) fn message<C: SolCall>(from: Address, to: Address, call: &C) -> Message {
    Message::call(from, to, call.abi_encode(), C::SIGNATURE)
}
