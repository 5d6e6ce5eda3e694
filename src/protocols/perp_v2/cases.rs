//! What the protocol lets a keeper do now: one case for the one segment.
//!
//! Of a distressed account, in this order: leave a closed market (its price is final, so nothing is gained by waiting);
//! cancel orders in open markets, since nothing can be liquidated before (CH_CLWTISO); liquidate the largest position in
//! an open market, as much of it as the protocol's partial-close rule allows; settle bad debt of an account with nothing
//! left. One of them at a time: each changes what the next one is.
//!
//! **Who takes the position.** The liquidator does: it opens the liquidated position at the mark price less its part of
//! the penalty, and must have initial margin free for it in the clearing house (CH_NEFCI). That is no token in the
//! keeper's hands, so it is no [`crate::recovery::TokenNeed`]: with `liquidator` configured, its account stands in the
//! book like any other and liquidations are sized to what its free collateral carries; where that is nothing, a shortage
//! says how much to deposit. What the keeper must trade afterwards to be as before is the intent's `swapped`.
//!
//! **Who pays.** The penalty comes out of the account's margin. If its value ends below zero the insurance fund must be
//! able to pay that (CH_IIC) or nobody can liquidate: that is a shortage. The fund pays when the account has nothing left.
//! A fund whose account in the vault is below zero while it holds tokens is refilled from these (`repay`); one that owes
//! more than it holds is a deficit that only a person can mend.
//!
//! Invariants: figures are exact at the snapshot's block, in units of the settlement token; worst account first.
//! Must not: choose what to do.

use std::collections::BTreeMap;

use super::{
    Settings,
    account::Account,
    decode::{DUST, floor_to_token},
    encode::Payload,
    funding::PPM,
    margin::{Position, Worth, mul_ratio, value},
    state::{self, Config, Fund, Market, ONLY, SEGMENT, Status},
    ticks::WAD,
};
use crate::{
    positions::{LegKind, Snapshot, Unit},
    recovery::{
        Absorption, Deficit, DistressedUnit, FundState, Intent, IntentKind, Offered, Promise, PromiseKind, Scope,
        SegmentCase, Shortage, ShortageKind, Tier,
    },
    scanner::{Condition, ScanReport},
    types::{
        Address, I256, SegmentId, U256, UnitKey,
        math::{mul_div_floor, mul_div_toward_zero, negative_part, positive_part, signed},
    },
};

/// Gas of each call, measured on the contracts and rounded up.
const GAS_LIQUIDATE: u64 = 1_500_000;
const GAS_CANCEL: u64 = 1_000_000;
const GAS_QUIT: u64 = 900_000;
const GAS_SETTLE: u64 = 300_000;
const GAS_REPAY: u64 = 300_000;

/// A takeover below this notional is not worth a transaction, whole tokens: what the protocol itself liquidates whole.
const TAKEOVER_MIN_TOKENS: u64 = 100;

/// The case, if something is to be done or every case is asked for.
pub(super) fn cases(
    settings: &Settings,
    snapshot: &Snapshot,
    report: &ScanReport,
    every: bool,
) -> BTreeMap<SegmentId, SegmentCase> {
    let distressed = report.findings.iter().filter(|finding| {
        finding.segment == SEGMENT && matches!(finding.condition, Condition::Bankrupt | Condition::Liquidatable)
    });
    let mut offers = Offers::new(settings, snapshot);
    for finding in distressed {
        offers.add(&finding.unit);
    }
    offers.fund();
    let Offered { intents, deficits, .. } = &offers.offered;
    let idle = offers.distressed.is_empty() && intents.is_empty() && deficits.is_empty();
    if idle && !every {
        return BTreeMap::new();
    }
    BTreeMap::from([(SEGMENT, offers.finish())])
}

/// The insurance fund at a snapshot's block, units of the settlement token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FundNow {
    /// Its account in the vault.
    pub(super) value: I256,
    /// Tokens in its own hands.
    pub(super) wallet: U256,
    /// What it can pay (`InsuranceFund.getInsuranceFundCapacity`).
    pub(super) capacity: I256,
}

impl FundNow {
    /// The fund; tokens in its hands count only if they were read at this very block.
    pub(super) fn load(settings: &Settings, snapshot: &Snapshot) -> Option<Self> {
        let mut fund = state::find::<Fund>(&snapshot.book, ONLY).ok()?.unwrap_or_default();
        if fund.wallet_block != snapshot.block.number {
            fund.wallet = U256::ZERO;
        }
        Self::of(settings, &fund)
    }

    /// The fund of this record.
    pub(super) fn of(settings: &Settings, fund: &Fund) -> Option<Self> {
        let scale = settings.scale();
        let account = fund.balance.checked_mul(I256::from_raw(scale))?.checked_add(fund.owed)?;
        let value = floor_to_token(account, scale);
        Some(Self { value, wallet: fund.wallet, capacity: value.checked_add(signed(fund.wallet)?)? })
    }
}

/// The case being gathered.
struct Offers<'a> {
    settings: &'a Settings,
    snapshot: &'a Snapshot,
    config: Config,
    fund: FundNow,
    /// What the fund can pay after what is offered already.
    capacity: U256,
    /// Notional that the liquidator's free collateral still carries, 10⁻¹⁸; `None`: not known.
    carries: Option<U256>,
    distressed: Vec<DistressedUnit>,
    offered: Offered,
    /// Accounts that the fund blocks, with what each lacks.
    blocked: Vec<(Address, U256)>,
    /// Notional that nobody can carry, 10⁻¹⁸.
    uncarried: U256,
}

/// What a liquidation does, units of the settlement token.
struct Outcome {
    /// The account's value afterwards.
    after: I256,
    /// The penalty's part that goes to the liquidator.
    to_liquidator: U256,
    /// Value of what the liquidator takes over.
    notional: U256,
}

impl<'a> Offers<'a> {
    fn new(settings: &'a Settings, snapshot: &'a Snapshot) -> Self {
        let config = state::find::<Config>(&snapshot.book, ONLY).ok().flatten().unwrap_or_default();
        let fund = FundNow::load(settings, snapshot).unwrap_or_default();
        let mut offers = Self {
            settings,
            snapshot,
            config,
            fund,
            capacity: positive_part(fund.capacity),
            carries: None,
            distressed: Vec::new(),
            offered: Offered { asset: Some(settings.settlement_token), ..Offered::default() },
            blocked: Vec::new(),
            uncarried: U256::ZERO,
        };
        offers.carries = settings.liquidator.map(|liquidator| offers.carried_by(liquidator).unwrap_or_default());
        offers
    }

    /// Notional that this account's free collateral carries at initial margin, 10⁻¹⁸; positions against its own would
    /// need less.
    fn carried_by(&self, liquidator: Address) -> Option<U256> {
        let unit = self.snapshot.book.unit(&state::unit_key(liquidator))?;
        let worth = Worth::of(self.settings, self.snapshot, unit).ok()?;
        let free = positive_part(worth.free_collateral(self.config.im_ratio).ok()?);
        mul_div_floor(free, PPM, U256::from(self.config.im_ratio))
    }

    fn add(&mut self, key: &UnitKey) {
        let Some(unit) = self.snapshot.book.unit(key) else { return };
        let Ok(worth) = Worth::of(self.settings, self.snapshot, unit) else { return };
        let Ok(standing) = worth.standing() else { return };
        self.distressed.push(DistressedUnit {
            unit: key.clone(),
            cash: standing.equity,
            equity: standing.equity,
            maintenance_margin: standing.maintenance_margin,
            positions: Vec::new(),
            liquidatable_lots: BTreeMap::new(),
        });
        if let Some(intent) = self.next_step(key, unit, &worth, standing.equity) {
            self.offered.intents.push(intent);
        }
    }

    /// The one thing to do with this account now.
    fn next_step(&mut self, key: &UnitKey, unit: &Unit, worth: &Worth, equity: I256) -> Option<Intent> {
        if Some(unit.owner) == self.settings.liquidator {
            let subject = format!("account of {} in the clearing house", unit.owner);
            self.shortage(ShortageKind::Capital, subject, "the liquidator itself is liquidatable; deposit".to_owned());
            return None;
        }
        let account = Account::of(unit).ok()?;
        let taken = |p: &Position| unit.leg(p.market, LegKind::Perp).map_or(U256::ZERO, |l| l.quantity.unsigned_abs());
        let closed = |p: &&Position| p.status == Status::Closed && (p.orders > 0 || taken(p) >= DUST);
        if let Some(position) = worth.positions.iter().find(closed) {
            return self.quit(key, unit, &account, position, equity);
        }
        let largest = |wanted: fn(&Position) -> bool| {
            let open = worth.positions.iter().filter(|p| p.status == Status::Open && wanted(p));
            open.max_by(|a, b| a.value.unsigned_abs().cmp(&b.value.unsigned_abs()).then(b.market.cmp(&a.market)))
        };
        if let Some(position) = largest(|p| p.orders > 0) {
            return self.cancel(key, unit, position, equity);
        }
        if let Some(position) = largest(|p| !p.value.is_zero()) {
            return self.liquidate(key, unit, worth, position, equity);
        }
        if !equity.is_negative() || !account.settled.is_empty() {
            return None;
        }
        let hole = negative_part(equity);
        if unit.legs.is_empty() {
            return Some(self.settle(key, unit, hole));
        }
        self.shortage(
            ShortageKind::DeficitStands,
            format!("account {}", unit.owner),
            format!("{hole} of bad debt wait behind its collateral; liquidate that by Vault.liquidateCollateral"),
        );
        None
    }

    fn base(&self, position: &Position) -> Option<Address> {
        let market: Market = state::load(&self.snapshot.book, state::numbered(position.market)).ok()?;
        Some(market.base)
    }

    fn quit(
        &mut self,
        key: &UnitKey,
        unit: &Unit,
        account: &Account,
        position: &Position,
        equity: I256,
    ) -> Option<Intent> {
        let base = self.base(position)?;
        let hole = if is_last(unit, account, position) { negative_part(equity) } else { U256::ZERO };
        let payload = Payload { trader: unit.owner, base, size: I256::ZERO };
        let why = format!("market {} is closed and the account is liquidatable: its loss is final", position.market);
        let mut intent = of_unit(IntentKind::QuitMarket, Tier::Liquidate, key, payload, GAS_QUIT, why);
        intent.bad_debt = equity.is_negative();
        intent.implicit = self.drawn(hole);
        let stages = position.orders + 1;
        intent.promises = self.promises(stages, hole, hole / U256::from(100));
        Some(intent)
    }

    fn cancel(&self, key: &UnitKey, unit: &Unit, position: &Position, equity: I256) -> Option<Intent> {
        let payload = Payload { trader: unit.owner, base: self.base(position)?, size: I256::ZERO };
        let why = format!(
            "{} orders in market {} are in the way of liquidating the account",
            position.orders, position.market
        );
        let mut intent = of_unit(IntentKind::CancelOrders, Tier::Liquidate, key, payload, GAS_CANCEL, why);
        intent.bad_debt = equity.is_negative();
        intent.promises = self.promises(position.orders, U256::ZERO, U256::ZERO);
        Some(intent)
    }

    fn settle(&mut self, key: &UnitKey, unit: &Unit, hole: U256) -> Intent {
        let payload = Payload { trader: unit.owner, ..Payload::default() };
        let why = "nothing is left of the account but bad debt".to_owned();
        let mut intent = of_unit(IntentKind::SettleBadDebt, Tier::InsuranceFund, key, payload, GAS_SETTLE, why);
        intent.absorbs = hole.min(self.capacity);
        self.capacity -= intent.absorbs;
        intent.bad_debt = true;
        intent.promises = vec![promise(PromiseKind::BadDebt, Some(self.settings.settlement_token), hole, hole)];
        intent
    }

    fn liquidate(
        &mut self,
        key: &UnitKey,
        unit: &Unit,
        worth: &Worth,
        position: &Position,
        equity: I256,
    ) -> Option<Intent> {
        let size = self.carried_size(worth.liquidatable_size(position).ok()?, position.price)?;
        let outcome = self.outcome(worth, position, size, equity)?;
        let hole = negative_part(outcome.after);
        let fund_part = if equity.is_negative() { U256::ZERO } else { outcome.to_liquidator };
        if hole > self.capacity.saturating_add(fund_part) {
            self.blocked.push((unit.owner, hole - self.capacity));
            return None;
        }
        if let Some(carries) = &mut self.carries {
            *carries = carries.saturating_sub(outcome.notional.saturating_mul(worth.scale));
        }
        let payload = Payload { trader: unit.owner, base: self.base(position)?, size };
        let whole = size == position.size;
        let part = if whole { "all" } else { "part" };
        let why = format!(
            "account value {equity} is below what it must keep; {part} of its position in market {} goes to the keeper at \
             the mark price",
            position.market
        );
        let mut intent = of_unit(IntentKind::Liquidate, Tier::Liquidate, key, payload, GAS_LIQUIDATE, why);
        intent.absorbs = positive_part(equity) - positive_part(outcome.after);
        intent.deepens = hole - negative_part(equity);
        let last = whole && is_last(unit, &Account::of(unit).ok()?, position);
        intent.implicit = if last { self.drawn(hole) } else { Vec::new() };
        intent.reward = outcome.to_liquidator;
        intent.swapped = outcome.notional;
        intent.bad_debt = !hole.is_zero();
        intent.promises = self.promises(1, hole, outcome.notional / U256::from(50));
        Some(intent)
    }

    /// As much of this size as the liquidator can carry; nothing where that is not worth a transaction.
    fn carried_size(&mut self, size: I256, price: U256) -> Option<I256> {
        let notional = value(size, price).ok()?.unsigned_abs();
        let carries = self.carries.unwrap_or(U256::MAX);
        if size.is_zero() || notional <= carries {
            return (!size.is_zero()).then_some(size);
        }
        self.uncarried = self.uncarried.saturating_add(notional - carries);
        if carries < U256::from(TAKEOVER_MIN_TOKENS) * WAD {
            return None;
        }
        mul_div_toward_zero(size, signed(carries)?, signed(notional)?)
    }

    /// `ClearingHouse._liquidate`: the position is valued at the mark price, the account pays the penalty; half of it,
    /// rounded down, is the liquidator's, all of it where the account's value was below zero before.
    fn outcome(&self, worth: &Worth, position: &Position, size: I256, equity: I256) -> Option<Outcome> {
        let notional = value(size, position.price).ok()?.unsigned_abs();
        let penalty = mul_ratio(notional, self.config.penalty_ratio).ok()?;
        let after = worth.value().ok()?.checked_sub(signed(penalty)?)?;
        let to_liquidator = if equity.is_negative() { penalty } else { penalty / U256::from(2) };
        Some(Outcome {
            after: floor_to_token(after, worth.scale),
            to_liquidator: to_liquidator / worth.scale,
            notional: notional.div_ceil(worth.scale),
        })
    }

    /// What the fund pays of a hole inside the same call: as much as it has.
    fn drawn(&mut self, hole: U256) -> Vec<Absorption> {
        let amount = hole.min(self.capacity);
        self.capacity -= amount;
        if amount.is_zero() { Vec::new() } else { vec![Absorption { tier: Tier::InsuranceFund, amount }] }
    }

    /// The step happens, and bad debt stays within what was foreseen.
    fn promises(&self, stages: usize, bad_debt: U256, slack: U256) -> Vec<Promise> {
        let asset = Some(self.settings.settlement_token);
        vec![
            promise(PromiseKind::Staged, None, U256::ONE, U256::from(stages)),
            promise(PromiseKind::BadDebt, asset, U256::ZERO, bad_debt.saturating_add(slack)),
        ]
    }

    /// The fund's own step and what stands against it.
    fn fund(&mut self) {
        let FundNow { value, wallet, capacity } = self.fund;
        if value.is_negative() && !wallet.is_zero() {
            let why = format!("the fund's account is {value} and it holds {wallet}: what it holds pays what it owes");
            let scope = Scope::Segment(SEGMENT);
            let mut intent =
                intent_on(IntentKind::RefillFund, Tier::InsuranceFund, scope, Payload::default(), GAS_REPAY, why);
            intent.bad_debt = true;
            let asset = Some(self.settings.settlement_token);
            intent.promises = vec![promise(PromiseKind::Covered, asset, U256::ONE, U256::MAX)];
            self.offered.intents.push(intent);
        }
        if capacity.is_negative() {
            let amount = capacity.unsigned_abs();
            self.offered.deficits.push(Deficit { scope: Scope::Segment(SEGMENT), amount });
            self.shortage(
                ShortageKind::DeficitStands,
                format!("insurance fund {}", self.settings.insurance_fund),
                format!("it owes the vault {amount} more than it holds; send it settlement tokens"),
            );
        }
    }

    fn shortage(&mut self, kind: ShortageKind, subject: String, detail: String) {
        self.offered.shortages.push(Shortage { kind, subject, detail });
    }

    fn finish(mut self) -> SegmentCase {
        if let Some((trader, lacks)) = self.blocked.iter().max_by_key(|(trader, lacks)| (*lacks, *trader)).copied() {
            let (count, capacity) = (self.blocked.len(), self.fund.capacity);
            self.shortage(
                ShortageKind::FundBlocks,
                format!("insurance fund {}", self.settings.insurance_fund),
                format!(
                    "it can pay {capacity}; {count} accounts cannot be liquidated, {trader} for lack of {lacks}: send it \
                     settlement tokens, or pause and close the market"
                ),
            );
        }
        if !self.uncarried.is_zero() {
            let liquidator = self.settings.liquidator.unwrap_or_default();
            let needed = mul_ratio(self.uncarried, self.config.im_ratio).unwrap_or_default() / self.settings.scale();
            self.shortage(
                ShortageKind::Capital,
                format!("free collateral of {liquidator} in the clearing house"),
                format!(
                    "{needed} more are needed as initial margin of positions to take over; deposit it in the vault"
                ),
            );
        }
        let spendable = positive_part(self.fund.capacity);
        SegmentCase {
            measures: Default::default(),
            segment: SEGMENT,
            block: self.snapshot.block,
            fund: FundState { balance: spendable, spendable },
            markets: BTreeMap::new(),
            distressed: self.distressed,
            solvent: BTreeMap::new(),
            blocked: None,
            offered: Some(self.offered),
        }
    }
}

/// Whether the account has nothing but this position, so that what it lacks afterwards is bad debt at once.
fn is_last(unit: &Unit, account: &Account, position: &Position) -> bool {
    unit.legs.iter().all(|leg| leg.kind == LegKind::Perp && leg.market == position.market)
        && account.settled.iter().all(|settled| settled.market == position.market)
}

fn of_unit(kind: IntentKind, tier: Tier, key: &UnitKey, payload: Payload, gas: u64, why: String) -> Intent {
    intent_on(kind, tier, Scope::Unit(key.clone()), payload, gas, why)
}

fn intent_on(kind: IntentKind, tier: Tier, scope: Scope, payload: Payload, gas: u64, why: String) -> Intent {
    Intent {
        kind,
        scope,
        payload: payload.encode(),
        tier,
        absorbs: U256::ZERO,
        deepens: U256::ZERO,
        implicit: Vec::new(),
        promises: Vec::new(),
        reward: U256::ZERO,
        cost: U256::ZERO,
        swapped: U256::ZERO,
        gas,
        capital: Vec::new(),
        bad_debt: false,
        not_before: 0,
        batch: None,
        why,
    }
}

fn promise(kind: PromiseKind, asset: Option<Address>, min: U256, max: U256) -> Promise {
    Promise { kind, asset, min, max }
}
